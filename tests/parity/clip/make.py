"""Makes the fixtures of this folder with the living libraries: python make.py FOLDER [SEED].

Tiny CLIP and SigLIP models with random weights, in Hugging Face's and open_clip's layouts, with
what they make of random images and texts; and a tiny byte-pair vocabulary with what CLIP's
tokenizers make of some texts. Needs the extra `peers`.
"""

from __future__ import annotations

import functools
import gzip
import itertools
import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import open_clip
import safetensors.torch
import timm
import torch
import transformers
from open_clip.tokenizer import SimpleTokenizer

PATCH, LENGTH, VOCABULARY, COMMON = 4, 7, 40, 12
# SigLIP's has a rest that fills no patch, as 384 pixels by 14.
SIDES = {"clip": 8, "siglip": 10}
BATCH = 3
CLIP_MEAN, CLIP_STD = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
HALF = (0.5, 0.5, 0.5)
# One size in both layouts: the tests compile one program for both.
VISION = {"hidden_size": 24, "intermediate_size": 36, "num_hidden_layers": 2}
VISION |= {"num_attention_heads": 12, "patch_size": PATCH}
TEXT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "vocab_size": 40}
TEXT |= {"num_attention_heads": 2, "max_position_embeddings": LENGTH}
CORPUS = "the quick brown fox jumps over the lazy dog a photo of a cat the theme of the other"
TEXTS = [
    "a photo of the cat",
    "The QUICK  brown\tfox!",
    "it's the dog's, they'll say 1234 times",
    "naïve café — Ünïcödé",
    "ŞIŞLI İstanbul ΣΊΣΥΦΟΣ",
    "日本語 and 🦊🌲",
    "e\u0301 combining",
    "",
    "   ",
    "the other theme " * 20,
    "a\u00a0b\u200bc",
    'under_score semi;colon (brackets) "quotes" 50% #tag @you',
    "<|startoftext|> marks <|endoftext|> within",
]


def randomise(model, seed):
    """Weights at which every part of the model shows in its outputs."""
    draw = np.random.default_rng(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.from_numpy(draw.standard_normal(tuple(value.shape))).float()
            if "logit_scale" in name:
                new = torch.full_like(value, 3.0)
            elif "logit_bias" in name:
                new = torch.full_like(value, -2.0)
            elif value.ndim > 1:
                new = noise * (0.5 if "embed" in name else 1.2 / value.shape[-1] ** 0.5)
            elif name.endswith("weight"):
                new = 1 + 0.2 * noise
            else:
                new = 0.3 * noise
            value.copy_(new)
    return model.eval()


def inputs(kind, seed):
    """uint8 pixels (B, S, S, 3), ids (B, N) that end at different places, and the real ones."""
    draw = np.random.default_rng(seed + 1000)
    pixels = draw.integers(0, 256, (BATCH, SIDES[kind], SIDES[kind], 3)).astype(np.uint8)
    ids = draw.integers(3, VOCABULARY - 2, (BATCH, LENGTH))
    mask = np.ones((BATCH, LENGTH), bool)
    if kind == "clip":  # ends with the highest id; zeros after it
        ends = np.array([2, LENGTH - 1, 4])
        places = np.arange(LENGTH)
        mask = places <= ends[:, None]
        ids = np.where(places < ends[:, None], ids, 0)
        ids[np.arange(BATCH), ends] = VOCABULARY - 1
    return pixels, ids.astype(np.int32), mask


def save(folder, kind, encode, mean, std, seed):
    """What the model makes of inputs: unit features and logits."""
    pixels, ids, mask = inputs(kind, seed)
    scaled = (pixels.astype(np.float32) / 255 - np.float32(mean)) / np.float32(std)
    images = torch.from_numpy(scaled.transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        image, text, logits = encode(images, torch.from_numpy(ids).long())
    found = {"image": image, "text": text, "logits_per_image": logits}
    arrays = {name: value.numpy().astype(np.float32) for name, value in found.items()}
    np.savez_compressed(folder / "expected.npz", pixels=pixels, ids=ids, mask=mask, **arrays)


def hugging_face(folder, kind, seed, **options):
    folder.mkdir(parents=True)
    names = {"clip": "CLIP", "siglip": "Siglip"}
    config_class = getattr(transformers, f"{names[kind]}Config")
    model_class = getattr(transformers, f"{names[kind]}Model")
    shared = {"hidden_act": options["hidden_act"]} if "hidden_act" in options else {}
    text = TEXT | shared | {"eos_token_id": options.get("eos", VOCABULARY - 1)}
    text |= {"bos_token_id": 1, "pad_token_id": 0}
    vision = VISION | shared | {"image_size": SIDES[kind]}
    further = {}
    if kind == "clip":
        further["projection_dim"] = COMMON
    else:
        text["projection_size"] = VISION["hidden_size"]
    model = model_class(config_class(text_config=text, vision_config=vision, **further))
    randomise(model, seed).save_pretrained(folder)
    mean, std = (CLIP_MEAN, CLIP_STD) if kind == "clip" else (HALF, HALF)
    processor = {"image_mean": list(mean), "image_std": list(std)}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor) + "\n")

    def encode(images, ids):
        out = model(pixel_values=images, input_ids=ids)
        return out.image_embeds, out.text_embeds, out.logits_per_image

    save(folder, kind, encode, mean, std, seed)


def in_open_clip(folder, kind, seed, **options):
    folder.mkdir(parents=True)
    text = {"context_length": LENGTH, "vocab_size": VOCABULARY, "width": 16, "heads": 2}
    text |= {"layers": 2, "mlp_ratio": 2.0}
    if kind == "clip":
        vision = {"image_size": SIDES[kind], "patch_size": PATCH, "layers": 2, "width": 24}
        vision |= {"head_width": 2, "mlp_ratio": 1.5}
        config = {"embed_dim": COMMON, "vision_cfg": vision, "text_cfg": text, **options}
        model_class, mean, std = open_clip.CLIP, CLIP_MEAN, CLIP_STD
    else:
        vision = {"image_size": SIDES[kind], "timm_model_name": options.pop("timm_model_name")}
        vision |= {"timm_model_pretrained": False, "timm_pool": "map", "timm_proj": "none"}
        text |= {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"}
        text |= {"norm_kwargs": {"eps": 1e-6}} | options
        config = {"embed_dim": 24, "init_logit_bias": -10, "custom_text": True}
        config |= {"vision_cfg": vision, "text_cfg": text}
        model_class, mean, std = open_clip.CustomTextCLIP, HALF, HALF
    arguments = {key: value for key, value in config.items() if key != "custom_text"}
    create = timm.create_model
    small = {"patch_size": PATCH, "embed_dim": 24, "depth": 2, "num_heads": 12, "mlp_ratio": 1.5}
    # The name's, but small.
    timm.create_model = functools.partial(create, img_size=SIDES[kind], **small)
    try:
        model = randomise(model_class(**arguments), seed)
    finally:
        timm.create_model = create
    safetensors.torch.save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    described = {"model_cfg": config, "preprocess_cfg": {"mean": list(mean), "std": list(std)}}
    (folder / "open_clip_config.json").write_text(json.dumps(described, indent=1) + "\n")

    def encode(images, ids):
        image, words = model.encode_image(images, True), model.encode_text(ids, True)
        return image, words, model.get_logits(images, ids)[0]

    save(folder, kind, encode, mean, std, seed)


def learn_merges(count):
    """Byte pairs of the corpus, most frequent first."""
    words = [[*word[:-1], word[-1] + "</w>"] for word in CORPUS.split()]
    merges = []
    while len(merges) < count:
        pairs = {}
        for word in words:
            for pair in itertools.pairwise(word):
                pairs[pair] = pairs.get(pair, 0) + 1
        best = max(sorted(pairs), key=pairs.get)
        merges.append(best)
        for word in words:
            at = 0
            while at < len(word) - 1:
                if (word[at], word[at + 1]) == best:
                    word[at : at + 2] = ["".join(best)]
                at += 1
    return merges


def tokenizers(folder):
    folder.mkdir(parents=True)
    merges = learn_merges(30)
    alphabet = list(open_clip.tokenizer.bytes_to_unicode().values())
    pieces = [*alphabet, *(char + "</w>" for char in alphabet), *map("".join, merges)]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), "utf-8")
    lines = "".join(f"{one} {two}\n" for one, two in merges)
    (folder / "merges.txt").write_text("#version: 0.2\n" + lines, "utf-8")
    header = '"bpe_simple_vocab_16e6.txt#version: 0.2\n'
    with gzip.GzipFile(folder / "bpe_simple_vocab.txt.gz", "wb", mtime=0) as file:
        # As at the end of the entries that open_clip reads of its own: no empty one follows.
        file.write((header + lines.rstrip("\n")).encode())
    peer = transformers.CLIPTokenizer(
        vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt")
    )
    peer._tokenizer.save(str(folder / "tokenizer.json"))
    padded = peer(TEXTS, padding="max_length", truncation=True, max_length=77)
    simple = SimpleTokenizer(bpe_path=str(folder / "bpe_simple_vocab.txt.gz"))
    expected = {
        "texts": TEXTS,
        "hugging_face": padded["input_ids"],
        "hugging_face_mask": padded["attention_mask"],
        "open_clip": simple(TEXTS, context_length=77).tolist(),
    }
    (folder / "expected.json").write_text(json.dumps(expected) + "\n")


def make(folder, seed=0):
    """Writes everything under the folder."""
    hugging_face(folder / "hf_clip_quick", "clip", seed, eos=2)  # as OpenAI's configs have it
    hugging_face(folder / "hf_clip_gelu", "clip", seed + 1, hidden_act="gelu")
    hugging_face(folder / "hf_siglip", "siglip", seed + 2)
    in_open_clip(folder / "open_clip_quick", "clip", seed + 3, quick_gelu=True)
    in_open_clip(folder / "open_clip_gelu", "clip", seed + 4)
    name = "vit_base_patch16_siglip_224"
    in_open_clip(folder / "open_clip_siglip", "siglip", seed + 5, timm_model_name=name)
    name, tanh = "vit_base_patch32_siglip_256", {"approximate": "tanh"}
    in_open_clip(
        folder / "open_clip_siglip2", "siglip", seed + 6, timm_model_name=name, act_kwargs=tanh
    )
    tokenizers(folder / "tokenizer")
    libraries = ("torch", "transformers", "open_clip_torch", "timm", "tokenizers", "numpy")
    (folder / "versions.json").write_text(
        json.dumps({name: version(name) for name in libraries}, indent=1) + "\n"
    )


if __name__ == "__main__":
    make(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
