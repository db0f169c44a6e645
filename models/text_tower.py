"""An encoder of texts alone, which ends in the common space."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from ..routing import Assignment, RoutingSums
from .causal_routing import check_causal
from .config import StackConfig
from .embeddings import look_up
from .encoder import Encoder
from .tower_projection import CommonSpace
from .two_tower_config import TextTowerConfig

MODALITY = 1  # its place in MODALITIES, by which statistics tell tokens apart


class TextTower(nn.Module):
    """Pieces, learned positions, a stack of blocks, a pooling, a projection.

    Attributes:
        config: the tower.
        stack: its blocks.
        features: F.
    """

    config: TextTowerConfig
    stack: StackConfig
    features: int

    @nn.compact
    def __call__(
        self,
        text: Int[Array, "B N"],
        text_mask: Bool[Array, "B N"],
        mask: Bool[Array, " B"],
        *,
        groups: int,
        train: bool,
        noise_keys: Key[Array, " G"] | None,
    ) -> tuple[Float[Array, "B F"], dict[str, RoutingSums], dict[str, Assignment]]:
        """Embeddings (B, F) float32, not normalised, and what the routers did, by block.

        Raises:
            ValueError: texts of another length than the config's; a causal tower whose router
                looks ahead.
        """
        c, dtype = self.config, jnp.dtype(self.stack.dtype)
        batch, length = text.shape
        if length != c.text_length:
            raise ValueError(
                f"texts have {length} places; expected {c.text_length}, by the config's "
                "text_length: pad or cut them"
            )
        if c.causal and self.stack.moe_layers:
            check_causal(c.moe, train=False)
        init = nn.initializers.normal(0.1)
        table = self.param("embedding", init, (c.vocab_size, c.width))
        if c.pool == "last":
            text_mask = jnp.ones_like(text_mask)
        there = text_mask & mask[:, None]
        # Padding may be any number, also none of a piece.
        tokens = look_up(table, jnp.where(there, text, 0)).astype(dtype)
        seen = text_mask
        if c.causal:
            seen = text_mask[:, None, :] & jnp.tril(jnp.ones((length, length), bool))
        shape = (groups, batch // groups * length)
        grouped, routing, assignments = Encoder(self.stack, num_modalities=2, name="Encoder")(
            tokens.reshape(*shape, c.width),
            there.reshape(shape),
            jnp.full(shape, MODALITY, jnp.int32),
            ((batch // groups, length, None if c.pool == "last" and not c.causal else seen),),
            train=train,
            noise_keys=noise_keys,
            ids=text.reshape(shape),
        )
        tokens = grouped.reshape(batch, length, c.width)
        project = CommonSpace(self.features, c.projection, name="projection")
        return project(self._pool(tokens.astype(jnp.float32), text_mask)), routing, assignments

    def _pool(
        self, tokens: Float[Array, "B N D"], text_mask: Bool[Array, "B N"]
    ) -> Float[Array, "B D"]:
        length = tokens.shape[1]
        if self.config.pool == "mean":
            weight = text_mask.astype(jnp.float32)[..., None]
            # A sequence of padding only (a pad row of the last batch) must stay finite.
            return jnp.sum(tokens * weight, axis=1) / jnp.maximum(jnp.sum(weight, axis=1), 1.0)
        # The mask is all true with pool `last`, whose token is the last of all.
        last = jnp.max(jnp.where(text_mask, jnp.arange(length), 0), axis=1)
        return jnp.take_along_axis(tokens, last[:, None, None], axis=1)[:, 0]
