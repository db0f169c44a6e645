"""LIMoE: one sparse tower for images and text (Mustafa et al., arXiv 2206.02770, section 2)."""

from __future__ import annotations

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

from ..routing import Assignment, RoutingSums
from .config import ModelConfig
from .contrastive import capped_scale
from .embeddings import ImageEmbedding, Projection, TextEmbedding
from .encoder import Encoder
from .gating import gated

MODALITIES = ("image", "text")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Embeddings:
    """What the tower makes of a batch.

    Attributes:
        image: (B, F) float32 of unit norm; None where no images were given.
        text: (B, F) float32 of unit norm; None where no text was given.
        scale: float32 scalar, the inverse temperature, at most 100 (`capped_scale`).
        routing: per sparse block by name, what losses and statistics are made of.
        assignments: per sparse block by name, who went where (tokens as the encoder lays
            them out: within each group all image tokens, then all text tokens).
    """

    image: Float[Array, "B F"] | None
    text: Float[Array, "B F"] | None
    scale: Float[Array, ""]
    routing: dict[str, RoutingSums]
    assignments: dict[str, Assignment]


class Limoe(nn.Module):
    """One stack with shared weights; embeddings and projections per modality.

    Tokens travel as (G, T, D): each group holds the image tokens of its examples, then their
    text tokens, so that both modalities meet the same router, compete for the same
    buffers and are ranked together by batch priority. With no sparse blocks it is the
    dense twin.
    """

    config: ModelConfig

    def setup(self) -> None:
        c = self.config
        self.image = ImageEmbedding(c)
        self.text = TextEmbedding(c)
        self.Encoder = Encoder(c.stack, num_modalities=len(MODALITIES))
        self.image_projection = Projection(c.embed_dim)
        self.text_projection = Projection(c.embed_dim)
        start = math.log(1 / c.initial_temperature)
        self.log_scale = self.param("log_scale", nn.initializers.constant(start), ())

    def __call__(
        self,
        images: UInt8[Array, "B S S 3"] | None,
        text: Int[Array, "B N"] | None,
        text_mask: Bool[Array, "B N"] | None,
        mask: Bool[Array, " B"] | None = None,
        *,
        groups: int = 1,
        train: bool = False,
        noise_keys: Key[Array, " G"] | None = None,
    ) -> Embeddings:
        """Embeds images, text, or pairs of both.

        Args:
            images: uint8 pixels, or None.
            text: int32 pieces, 0..V-1, or None; another where it is real makes that text NaN.
            text_mask: true for real pieces; needed with text.
            mask: false for the padding rows of a ragged batch; None is all true. A masked row
                is never routed, and its embedding means nothing.
            groups: G, cuts the batch into G runs of B/G examples that share buffers.
            train: training capacity and router noise; else the evaluation's.
            noise_keys: one key per group, where training with noise.

        Raises:
            ValueError: no input at all, text without its mask, or groups that do not divide the
                batch.
        """
        given = images if images is not None else text
        if given is None:
            raise ValueError("neither images nor text were given: there is nothing to embed")
        batch = given.shape[0]
        if batch % groups:
            raise ValueError(f"groups={groups} does not divide the batch of {batch} examples")
        if mask is None:
            mask = jnp.ones((batch,), bool)
        parts: list[Array] = []  # tokens (G, T_m, D) of each modality that is given
        masks: list[Array] = []
        kinds: list[int] = []
        ids: list[Array] = []  # what a token is: the place of a patch, the number of a piece
        sequences = []
        each = batch // groups
        # With both senses in a batch, one of them may be absent; alone it is there.
        gates = images is not None and text is not None and self.config.pathways
        if images is not None:
            tokens = _part(gates, "image embedding", mask, self.image, images)
            parts.append(tokens)
            masks.append(jnp.broadcast_to(mask[:, None], tokens.shape[:2]))
            kinds.append(MODALITIES.index("image"))
            ids.append(jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape[:2]))
            sequences.append((each, tokens.shape[1], None))
        if text is not None:
            if text_mask is None:
                raise ValueError("text came without its text_mask: true for real pieces")
            some = text_mask & mask[:, None]
            known = jnp.where(some, text, 0)  # padding may be any number, also none of a piece
            tokens = _part(gates, "text embedding", some, self.text, known)
            parts.append(tokens)
            masks.append(some)
            kinds.append(MODALITIES.index("text"))
            ids.append((self.config.image_size // self.config.patch_size) ** 2 + text)
            sequences.append((each, tokens.shape[1], text_mask))
        lengths = [part.shape[1] for part in parts]
        kind = jnp.repeat(
            jnp.array(kinds, jnp.int32),
            jnp.array([each * n for n in lengths]),
            total_repeat_length=each * sum(lengths),
        )
        tokens = join(parts, groups)
        tokens, routing, assignments = self.Encoder(
            tokens,
            join(masks, groups),
            jnp.broadcast_to(kind, tokens.shape[:2]),
            tuple(sequences),
            train=train,
            noise_keys=noise_keys,
            ids=join(ids, groups),
        )
        outputs = dict(zip(kinds, split(tokens, batch, lengths), strict=True))
        image = text_out = None
        if images is not None:
            image = _part(
                gates, "image head", masks[0], self.image_projection, outputs[0], masks[0]
            )
        if text is not None:
            text_out = _part(
                gates, "text head", masks[-1], self.text_projection, outputs[1], masks[-1]
            )
        return Embeddings(
            image, text_out, capped_scale(self.log_scale, 100.0), routing, assignments
        )


def _part(
    gates: bool, name: str, there: Array, module: nn.Module, rows: Array, *more: Array
) -> Array:
    """A modality's own work; by pathways it is only done where anything is there."""
    if not gates:
        return module(rows, *more)  # pyright: ignore[reportCallIssue]
    return gated(name, there.any(), module, rows, *more)


def join(parts: list[Array], groups: int) -> Array:
    """Lays (B, N_m, …) of each modality out as (G, T, …), modality after modality."""
    flat = [p.reshape(groups, -1, *p.shape[2:]) for p in parts]
    return jnp.concatenate(flat, axis=1) if len(flat) > 1 else flat[0]


def split(tokens: Float[Array, "G T D"], batch: int, lengths: list[int]) -> list[Array]:
    """The inverse of `join`: (B, N_m, D) of each modality."""
    each = batch // tokens.shape[0]
    outputs, start = [], 0
    for length in lengths:
        piece = tokens[:, start : start + each * length]
        outputs.append(piece.reshape(batch, length, tokens.shape[-1]))
        start += each * length
    return outputs
