"""CLIP and SigLIP in open_clip's layout: `open_clip_config.json` and names."""

from __future__ import annotations

import re
from pathlib import Path

from ..two_tower_config import ImageTowerConfig, TextTowerConfig, TwoTowerConfig
from ..two_tower_presets import CLIP_MEAN, CLIP_STD, HALF
from .foreign_json import Settings, read_settings
from .open_clip_settings import check_image, check_text, siglip_trunk, text_reading
from .torch_arrays import OPEN_CLIP, TIMM, Source, Table, block, dense, mlp, norm, parts
from .torch_arrays import patch_embedding as convolution
from .two_tower_shapes import Shapes, image_side, of_rank, stack_sizes

CLIP_MARK, SIGLIP_MARK = "visual.conv1.weight", "visual.trunk.patch_embed.proj.weight"
CONFIG_FILE = "open_clip_config.json"
_TRUNK, _POOL = "visual.trunk.", "visual.trunk.attn_pool."


def open_clip_config(shapes: Shapes, folder: Path) -> TwoTowerConfig:
    """The model's config: sizes by the weights, all else by `open_clip_config.json`.

    Raises:
        WeightsError: the files are missing, contradict each other, or the model has a part that
            none of ours has.
    """
    path = folder / CONFIG_FILE
    whole = Settings(read_settings(path), str(path))
    settings = whole.part("model_cfg")
    siglip = SIGLIP_MARK in shapes
    # timm's images do not heed it.
    quick = bool(settings.values.get("quick_gelu"))
    text = _text(shapes, settings.part("text_cfg"), quick)
    make = _siglip_image if siglip else _clip_image
    image = make(shapes, settings.part("vision_cfg"), whole.part("preprocess_cfg"), quick)
    features = _features(shapes, text, settings.where)
    settings.agree({"embed_dim": features})
    return TwoTowerConfig(image, text, features, initial_temperature=0.1 if siglip else 0.07)


def open_clip_table(config: TwoTowerConfig, shapes: Shapes) -> Table:
    """Of each of our parameters, its source."""
    image, text = config.image, config.text
    width, prefix = image.width, _prefix(shapes)
    if image.pool == "map":
        blocks, names = f"{_TRUNK}blocks.", TIMM
        table = _siglip_table(image)
    else:
        blocks, names = "visual.transformer.resblocks.", OPEN_CLIP
        table = convolution("visual.conv1", width, image.patch_size, bias=False)
        table["image/cls"] = Source("visual.class_embedding", (width,), lambda a: a[None, None])
        table |= _positions("image", "visual.positional_embedding", image.num_tokens, width)
        table |= norm("image/Encoder/pre_norm", "visual.ln_pre", width)
        table |= norm("image/Encoder/encoder_norm", "visual.ln_post", width)
        table["image/projection/kernel"] = Source("visual.proj", (width, config.embed_dim))
    name = f"{prefix}token_embedding.weight"
    table["text/embedding"] = Source(name, (text.vocab_size, text.width))
    name = f"{prefix}positional_embedding"
    table |= _positions("text", name, text.text_length, text.width)
    table |= norm("text/Encoder/encoder_norm", f"{prefix}ln_final", text.width)
    both = ((text.width,), (config.embed_dim,))
    if text.projection == "affine":
        table |= dense("text/projection", f"{prefix}text_projection", *both)
    else:
        name = f"{prefix}text_projection"
        table["text/projection/kernel"] = Source(name, both[0] + both[1])
    towers = (
        ("image", blocks, names, image),
        ("text", f"{prefix}transformer.resblocks.", OPEN_CLIP, text),
    )
    for ours, theirs, kind, tower in towers:
        for index in range(tower.depth):
            place = f"{ours}/Encoder/encoderblock_{index}/"
            sizes = (tower.width, tower.hidden, tower.heads)
            table |= block(place, f"{theirs}{index}.", kind, *sizes)
    return table


def _clip_image(shapes: Shapes, given: Settings, seen: Settings, quick: bool) -> ImageTowerConfig:
    where = given.where
    check_image(given)
    sizes = stack_sizes(shapes, "visual.transformer.resblocks.", "mlp.c_fc", where)
    patch = of_rank(shapes, CLIP_MARK, 4, where)[-1]
    rows = of_rank(shapes, "visual.positional_embedding", 2, where)[0]
    side = image_side(rows - 1, patch, given)
    found = {"patch_size": patch, "width": sizes.width, "layers": sizes.depth}
    given.agree(found)
    activation, epsilon = text_reading(given, quick)
    return ImageTowerConfig(
        image_size=side,
        patch_size=patch,
        width=sizes.width,
        hidden=sizes.hidden,
        depth=sizes.depth,
        heads=max(1, sizes.width // given.size("head_width", 64)),
        mean=seen.channels("mean", CLIP_MEAN),
        std=seen.channels("std", CLIP_STD),
        patch_bias=False,
        pre_norm=True,
        pool="token",
        activation=activation,
        epsilon=epsilon,
    )


def _siglip_image(shapes: Shapes, given: Settings, seen: Settings, quick: bool) -> ImageTowerConfig:
    del quick
    where = given.where
    heads, activation = siglip_trunk(given)
    sizes = stack_sizes(shapes, f"{_TRUNK}blocks.", "mlp.fc1", where)
    patch = of_rank(shapes, SIGLIP_MARK, 4, where)[-1]
    rows = of_rank(shapes, f"{_TRUNK}pos_embed", 3, where)[1]
    side = image_side(rows, patch, given)
    return ImageTowerConfig(
        image_size=side,
        patch_size=patch,
        width=sizes.width,
        hidden=sizes.hidden,
        depth=sizes.depth,
        heads=heads,
        mean=seen.channels("mean", HALF),
        std=seen.channels("std", HALF),
        pool="map",
        projection="none",
        activation=activation,
    )


def _text(shapes: Shapes, given: Settings, quick: bool) -> TextTowerConfig:
    where, prefix = given.where, _prefix(shapes)
    sizes = stack_sizes(shapes, f"{prefix}transformer.resblocks.", "mlp.c_fc", where)
    length = of_rank(shapes, f"{prefix}positional_embedding", 2, where)[0]
    pieces = of_rank(shapes, f"{prefix}token_embedding.weight", 2, where)[0]
    found = {"context_length": length, "vocab_size": pieces}
    given.agree(found | {"width": sizes.width, "layers": sizes.depth})
    causal, pool = check_text(given)
    activation, epsilon = text_reading(given, quick)
    return TextTowerConfig(
        text_length=length,
        vocab_size=pieces,
        width=sizes.width,
        hidden=sizes.hidden,
        depth=sizes.depth,
        heads=given.size("heads", 8),
        causal=causal,
        pool=pool,
        projection="affine" if f"{prefix}text_projection.bias" in shapes else "linear",
        activation=activation,
        epsilon=epsilon,
    )


def _prefix(shapes: Shapes) -> str:
    return "text." if any(re.match(r"text\.", name) for name in shapes) else ""


def _features(shapes: Shapes, text: TextTowerConfig, where: str) -> int:
    name = f"{_prefix(shapes)}text_projection"
    if text.projection == "affine":
        return of_rank(shapes, f"{name}.weight", 2, where)[0]
    return of_rank(shapes, name, 2, where)[1]


def _positions(tower: str, theirs: str, rows: int, width: int) -> Table:
    ours = f"{tower}/Encoder/posembed_input/pos_embedding"
    return {ours: Source(theirs, (rows, width), lambda a: a[None])}


def _siglip_table(image: ImageTowerConfig) -> Table:
    width, heads = image.width, image.heads
    ours, attention = "image/MAPHead_0/", "image/MAPHead_0/MultiHeadDotProductAttention_0/"
    split = (heads, width // heads)
    table = convolution(f"{_TRUNK}patch_embed.proj", width, image.patch_size, bias=True)
    positions = Source(f"{_TRUNK}pos_embed", (1, image.num_tokens, width))
    table["image/Encoder/posembed_input/pos_embedding"] = positions
    table |= norm("image/Encoder/encoder_norm", f"{_TRUNK}norm", width)
    table[f"{ours}probe"] = Source(f"{_POOL}latent", (1, 1, width))
    table |= dense(f"{attention}query", f"{_POOL}q", (width,), split)
    both = (f"{_POOL}kv.weight", f"{_POOL}kv.bias")
    table |= parts(attention, ("key", "value"), both, width, heads)
    table |= dense(f"{attention}out", f"{_POOL}proj", split, (width,))
    table |= norm(f"{ours}LayerNorm_0", f"{_POOL}norm", width)
    return table | mlp(f"{ours}MlpBlock_0/", _POOL, ("mlp.fc1", "mlp.fc2"), width, image.hidden)
