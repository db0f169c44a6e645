"""Two towers: an encoder per modality, trained by contrast (CLIP, SigLIP, and sparse kin)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

from .config import MoeConfig
from .contrastive import capped_scale
from .embeddings import normalise
from .image_tower import ImageTower
from .limoe import Embeddings
from .moe import draw_keys
from .text_tower import TextTower
from .two_tower_config import TwoTowerConfig


class TwoTower(nn.Module):
    """The same calls and results as `Limoe`, by separate encoders.

    Parameters: all of the images' under `image`, all of the texts' under `text`, projections
    among them, so that a tower can be frozen or replaced by its prefix; and `log_scale`.
    The sigmoid loss's `sigmoid_bias` beside them belongs to the loss.

    In the results blocks are named by tower, as `image/encoderblock_1`; an assignment's
    tokens are those of that tower, example after example.
    """

    config: TwoTowerConfig

    def setup(self) -> None:
        c = self.config
        self.image = ImageTower(c.image, c.image_stack, c.embed_dim)
        self.text = TextTower(c.text, c.text_stack, c.embed_dim)
        start = math.log(1 / c.initial_temperature)
        self.log_scale = self.param("log_scale", nn.initializers.constant(start), ())

    def __call__(
        self,
        images: UInt8[Array, "B S S 3"] | Float[Array, "B S S 3"] | None,
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
            images: uint8 pixels; or floats, normalised already; or None.
            text: int32 pieces, 0..V-1, or None; another where it is real makes that text NaN.
            text_mask: true for real pieces; needed with text.
            mask: false for the padding rows of a ragged batch; None is all true. A masked row
                is never routed, and its embedding means nothing.
            groups: G, cuts the batch into G runs of B/G examples that share buffers.
            train: training capacity and router noise; else the evaluation's.
            noise_keys: one key per group, where training with noise.

        Raises:
            ValueError: no input at all; groups that do not divide the batch; sizes other than the
                config's; a config that contradicts itself.
        """
        given = images if images is not None else text
        if given is None:
            raise ValueError("neither images nor text were given: there is nothing to embed")
        batch = given.shape[0]
        if batch % groups:
            raise ValueError(f"groups={groups} does not divide the batch of {batch} examples")
        if mask is None:
            mask = jnp.ones((batch,), bool)
        image = text_out = None
        routing, assignments = {}, {}

        def options(tower: int, moe: MoeConfig) -> dict[str, Any]:
            keys = draw_keys(moe, noise_keys, groups, train)
            if keys is not None:
                # A stream per tower: blocks of one number would draw the same noise in both.
                keys = jax.vmap(jax.random.fold_in, (0, None))(keys, tower)
            return {"groups": groups, "train": train, "noise_keys": keys}

        if images is not None:
            found, *routers = self.image(images, mask, **options(0, self.config.image.moe))
            image = normalise(found)
            _collect("image", routers, routing, assignments)
        if text is not None:
            if text_mask is None:
                raise ValueError("text came without its text_mask: true for real pieces")
            found, *routers = self.text(text, text_mask, mask, **options(1, self.config.text.moe))
            text_out = normalise(found)
            _collect("text", routers, routing, assignments)
        scale = capped_scale(self.log_scale, self.config.max_scale)
        return Embeddings(image, text_out, scale, routing, assignments)


def _collect(tower: str, found: Sequence[Mapping[str, Any]], *into: dict[str, Any]) -> None:
    for blocks, target in zip(found, into, strict=True):
        target.update({f"{tower}/{name}": value for name, value in blocks.items()})
