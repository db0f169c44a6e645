"""How PyTorch's arrays become ours: of each of ours, its source and what is done to it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Source:
    """Where one of our arrays comes from.

    Attributes:
        name: of the other's array; several of ours may be parts of one.
        shape: that it must have.
        convert: makes ours of it.
    """

    name: str
    shape: tuple[int, ...]
    convert: Callable[[np.ndarray], np.ndarray] = lambda array: array


Table = dict[str, Source]  # by our name, the tree's path joined by `/`
Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class BlockNames:
    """What one library calls the parts of a Transformer block.

    Attributes:
        norms: before the attention, and before the MLP.
        mixed: weight and bias of query, key and value in one; None where they are apart.
        apart: or each one's name.
        out: the attention's last layer.
        mlp: both its layers.
    """

    norms: tuple[str, str]
    mixed: tuple[str, str] | None
    out: str
    mlp: tuple[str, str]
    apart: tuple[str, str, str] = ("", "", "")


HUGGING_FACE = BlockNames(
    norms=("layer_norm1", "layer_norm2"),
    mixed=None,
    apart=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    out="self_attn.out_proj",
    mlp=("mlp.fc1", "mlp.fc2"),
)
OPEN_CLIP = BlockNames(
    norms=("ln_1", "ln_2"),
    mixed=("attn.in_proj_weight", "attn.in_proj_bias"),
    out="attn.out_proj",
    mlp=("mlp.c_fc", "mlp.c_proj"),
)
TIMM = BlockNames(
    norms=("norm1", "norm2"),
    mixed=("attn.qkv.weight", "attn.qkv.bias"),
    out="attn.proj",
    mlp=("mlp.fc1", "mlp.fc2"),
)


def block(ours: str, theirs: str, names: BlockNames, width: int, hidden: int, heads: int) -> Table:
    """A pre-LN block; both names end where those of its parts begin."""
    table = norm(f"{ours}LayerNorm_0", f"{theirs}{names.norms[0]}", width)
    table |= norm(f"{ours}LayerNorm_1", f"{theirs}{names.norms[1]}", width)
    attention, split = f"{ours}SelfAttention/", (heads, width // heads)
    if names.mixed is None:
        for part, name in zip(("query", "key", "value"), names.apart, strict=True):
            table |= dense(f"{attention}{part}", f"{theirs}{name}", (width,), split)
    else:
        both = (f"{theirs}{names.mixed[0]}", f"{theirs}{names.mixed[1]}")
        table |= parts(attention, ("query", "key", "value"), both, width, heads)
    table |= dense(f"{attention}out", f"{theirs}{names.out}", split, (width,))
    return table | mlp(f"{ours}Mlp/", theirs, names.mlp, width, hidden)


def mlp(ours: str, theirs: str, names: tuple[str, str], width: int, hidden: int) -> Table:
    """Both layers of an MLP."""
    up = dense(f"{ours}Dense_0", f"{theirs}{names[0]}", (width,), (hidden,))
    return up | dense(f"{ours}Dense_1", f"{theirs}{names[1]}", (hidden,), (width,))


def norm(ours: str, theirs: str, width: int) -> Table:
    """A LayerNorm."""
    scale, bias = Source(f"{theirs}.weight", (width,)), Source(f"{theirs}.bias", (width,))
    return {f"{ours}/scale": scale, f"{ours}/bias": bias}


def dense(ours: str, theirs: str, inputs: Shape, outputs: Shape, *, bias: bool = True) -> Table:
    """A layer y = Wx + b, whose W (out, in) becomes a kernel (*inputs, *outputs)."""
    sizes = (math.prod(outputs), math.prod(inputs))
    shape = (*inputs, *outputs)
    table = {
        f"{ours}/kernel": Source(f"{theirs}.weight", sizes, lambda w: w.T.reshape(shape)),
    }
    if bias:
        table[f"{ours}/bias"] = Source(f"{theirs}.bias", sizes[:1], lambda b: b.reshape(outputs))
    return table


def parts(
    ours: str, names: tuple[str, ...], theirs: tuple[str, str], width: int, heads: int
) -> Table:
    """Several projections to heads, which stand one above the other in one weight and one bias."""
    table: Table = {}
    total, split = len(names) * width, (heads, width // heads)

    def kernel(start: int) -> Callable[[np.ndarray], np.ndarray]:
        return lambda w: w[start : start + width].T.reshape(width, *split)

    def bias(start: int) -> Callable[[np.ndarray], np.ndarray]:
        return lambda b: b[start : start + width].reshape(split)

    for number, name in enumerate(names):
        start = number * width
        table[f"{ours}{name}/kernel"] = Source(theirs[0], (total, width), kernel(start))
        table[f"{ours}{name}/bias"] = Source(theirs[1], (total,), bias(start))
    return table


def patch_embedding(theirs: str, width: int, size: int, *, bias: bool) -> Table:
    """A convolution (D, 3, P, P), whose stride is its size, as our kernel (P, P, 3, D)."""
    table = {
        "image/embedding/kernel": Source(
            f"{theirs}.weight", (width, 3, size, size), lambda w: w.transpose(2, 3, 1, 0)
        )
    }
    if bias:
        table["image/embedding/bias"] = Source(f"{theirs}.bias", (width,))
    return table
