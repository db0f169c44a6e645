"""CLIP and SigLIP in the layout of Hugging Face's transformers: `config.json` and names."""

from __future__ import annotations

from pathlib import Path

from ..two_tower_config import ImageTowerConfig, TextTowerConfig, TwoTowerConfig
from ..two_tower_presets import CLIP_MEAN, CLIP_STD, HALF
from .foreign_json import Settings, read_settings
from .torch_arrays import HUGGING_FACE, Source, Table, block, dense, mlp, norm, parts
from .torch_arrays import patch_embedding as convolution
from .two_tower_shapes import Shapes, image_side, of_rank, stack_sizes

MARK = "vision_model.embeddings.patch_embedding.weight"
IGNORED = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")
_IMAGE, _TEXT, _HEAD = "vision_model.", "text_model.", "vision_model.head."
_ACTIVATIONS = {"quick_gelu": "quick_gelu", "gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh"}


def hugging_face_config(shapes: Shapes, folder: Path) -> TwoTowerConfig:
    """The model's config: sizes by the weights, all else by `config.json`.

    What that leaves out has the library's defaults, as there.

    Raises:
        WeightsError: the files are missing, contradict each other, or are of another model.
    """
    siglip = f"{_HEAD}probe" in shapes
    path = folder / "config.json"
    settings = Settings(read_settings(path), str(path))
    settings.choice("model_type", "", {"siglip": 1} if siglip else {"clip": 1})
    image, text = _image(shapes, settings, siglip, folder), _text(shapes, settings, siglip)
    width = of_rank(shapes, _projection(siglip, "text"), 2, settings.where)[0]
    return TwoTowerConfig(image, text, width, initial_temperature=0.1 if siglip else 0.07)


def hugging_face_table(config: TwoTowerConfig) -> Table:
    """Of each of our parameters, its source."""
    image, text = config.image, config.text
    siglip = image.pool == "map"
    width, rows = image.width, image.num_tokens
    table = convolution(f"{_IMAGE}embeddings.patch_embedding", width, image.patch_size, bias=siglip)
    table |= _positions("image", f"{_IMAGE}embeddings", rows, width)
    table |= norm("image/Encoder/encoder_norm", f"{_IMAGE}post_layernorm", width)
    if siglip:
        table |= _pooling(image)
    else:
        name = f"{_IMAGE}embeddings.class_embedding"
        table["image/cls"] = Source(name, (width,), lambda a: a[None, None])
        table |= norm("image/Encoder/pre_norm", f"{_IMAGE}pre_layrnorm", width)
        table |= _project("image", config, siglip)
    name = f"{_TEXT}embeddings.token_embedding.weight"
    table["text/embedding"] = Source(name, (text.vocab_size, text.width))
    table |= _positions("text", f"{_TEXT}embeddings", text.text_length, text.width)
    table |= norm("text/Encoder/encoder_norm", f"{_TEXT}final_layer_norm", text.width)
    table |= _project("text", config, siglip)
    for ours, theirs, tower in (("image", _IMAGE, image), ("text", _TEXT, text)):
        for index in range(tower.depth):
            table |= block(
                f"{ours}/Encoder/encoderblock_{index}/",
                f"{theirs}encoder.layers.{index}.",
                HUGGING_FACE,
                tower.width,
                tower.hidden,
                tower.heads,
            )
    return table


def _image(shapes: Shapes, settings: Settings, siglip: bool, folder: Path) -> ImageTowerConfig:
    where = settings.where
    given = settings.part("vision_config")
    given = Settings({**given.values, **settings.part("vision_config_dict").values}, given.where)
    sizes = stack_sizes(shapes, f"{_IMAGE}encoder.layers.", "mlp.fc1", where)
    patch = of_rank(shapes, MARK, 4, where)[-1]
    rows = of_rank(shapes, f"{_IMAGE}embeddings.position_embedding.weight", 2, where)[0]
    side = image_side(rows - (not siglip), patch, given)
    _agree(given, sizes, patch_size=patch)
    path = folder / "preprocessor_config.json"
    seen = Settings(read_settings(path) if path.exists() else {}, str(path))
    return ImageTowerConfig(
        image_size=side,
        patch_size=patch,
        width=sizes.width,
        hidden=sizes.hidden,
        depth=sizes.depth,
        heads=given.size("num_attention_heads", 12),
        mean=seen.channels("image_mean", HALF if siglip else CLIP_MEAN),
        std=seen.channels("image_std", HALF if siglip else CLIP_STD),
        patch_bias=siglip,
        pre_norm=not siglip,
        pool="map" if siglip else "token",
        projection="none" if siglip else "linear",
        activation=_activation(given, siglip),
        epsilon=given.number("layer_norm_eps", 1e-6 if siglip else 1e-5),
    )


def _text(shapes: Shapes, settings: Settings, siglip: bool) -> TextTowerConfig:
    where = settings.where
    given = settings.part("text_config")
    given = Settings({**given.values, **settings.part("text_config_dict").values}, given.where)
    sizes = stack_sizes(shapes, f"{_TEXT}encoder.layers.", "mlp.fc1", where)
    length = of_rank(shapes, f"{_TEXT}embeddings.position_embedding.weight", 2, where)[0]
    pieces = of_rank(shapes, f"{_TEXT}embeddings.token_embedding.weight", 2, where)[0]
    _agree(given, sizes, max_position_embeddings=length, vocab_size=pieces)
    return TextTowerConfig(
        text_length=length,
        vocab_size=pieces,
        width=sizes.width,
        hidden=sizes.hidden,
        depth=sizes.depth,
        heads=given.size("num_attention_heads", 12 if siglip else 8),
        causal=not siglip,
        pool="last" if siglip else "end",
        projection="affine" if siglip else "linear",
        activation=_activation(given, siglip),
        epsilon=given.number("layer_norm_eps", 1e-6 if siglip else 1e-5),
    )


def _activation(given: Settings, siglip: bool):
    default = "gelu_pytorch_tanh" if siglip else "quick_gelu"
    return given.choice("hidden_act", default, _ACTIVATIONS)


def _agree(given: Settings, sizes, **further: int) -> None:
    names = {"hidden_size": sizes.width, "intermediate_size": sizes.hidden}
    given.agree(names | {"num_hidden_layers": sizes.depth} | further)


def _positions(tower: str, theirs: str, rows: int, width: int) -> Table:
    name = f"{theirs}.position_embedding.weight"
    ours = f"{tower}/Encoder/posembed_input/pos_embedding"
    return {ours: Source(name, (rows, width), lambda a: a[None])}


def _projection(siglip: bool, tower: str) -> str:
    if siglip:
        return f"{_TEXT}head.weight"
    return "visual_projection.weight" if tower == "image" else "text_projection.weight"


def _project(tower: str, config: TwoTowerConfig, siglip: bool) -> Table:
    width = config.image.width if tower == "image" else config.text.width
    theirs = _projection(siglip, tower).removesuffix(".weight")
    return dense(f"{tower}/projection", theirs, (width,), (config.embed_dim,), bias=siglip)


def _pooling(image: ImageTowerConfig) -> Table:
    ours, attention = "image/MAPHead_0/", "image/MAPHead_0/MultiHeadDotProductAttention_0/"
    width, heads = image.width, image.heads
    mixed = (f"{_HEAD}attention.in_proj_weight", f"{_HEAD}attention.in_proj_bias")
    split = (heads, width // heads)
    table = {f"{ours}probe": Source(f"{_HEAD}probe", (1, 1, width))}
    table |= parts(attention, ("query", "key", "value"), mixed, width, heads)
    table |= dense(f"{attention}out", f"{_HEAD}attention.out_proj", split, (width,))
    table |= norm(f"{ours}LayerNorm_0", f"{_HEAD}layernorm", width)
    return table | mlp(f"{ours}MlpBlock_0/", _HEAD, ("mlp.fc1", "mlp.fc2"), width, image.hidden)
