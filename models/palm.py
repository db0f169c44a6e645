"""PaLM: a dense or sparse decoder of text (Chowdhery et al., arXiv 2204.02311)."""

from __future__ import annotations

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from ..routing import Assignment, RoutingSums
from .causal_attention import KeyValues, causal_mask
from .causal_routing import check_causal
from .embeddings import look_up
from .moe import draw_keys
from .palm_block import PalmBlock, palm_norm, sequence_groups
from .palm_config import PalmConfig
from .rope import restarting_positions
from .scanned import apply_blocks


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Prediction:
    """What the model makes of a batch of tokens.

    Attributes:
        logits: (B, N, V) float32; those at token n are for token n+1.
        routing: per sparse block by name, what losses and statistics are made of.
        assignments: per sparse block by name, who went where.
    """

    logits: Float[Array, "B N V"]
    routing: dict[str, RoutingSums]
    assignments: dict[str, Assignment]


class Palm(nn.Module):
    """Embeddings, L parallel blocks, a last norm, and logits by the same embeddings.

    Embeddings begin as N(0, 1) and enter as they are; logits are scaled by 1/sqrt(D) for it
    (section 5). There are no biases, and no dropout.
    """

    config: PalmConfig

    def setup(self) -> None:
        c = self.config
        start = nn.initializers.normal(1.0)
        self.embedding = self.param("embedding", start, (c.vocab_size, c.width))
        self.block = [PalmBlock(c, *kind) for kind in self._kinds]
        self.final_norm = palm_norm(c)

    def __call__(
        self,
        tokens: Int[Array, "B N"],
        segments: Int[Array, "B N"] | None = None,
        positions: Int[Array, "B N"] | None = None,
        *,
        train: bool = False,
        noise_keys: Key[Array, " G"] | None = None,
    ) -> Prediction:
        """Scores the next token after each.

        Args:
            tokens: 0..V-1; any other makes all logits of its row NaN. Padding may be any number.
            segments: numbers of the sequences packed into a row, each a run; tokens see their own
                alone. 0 is padding: it is never routed and its logits mean nothing. None is
                one sequence a row.
            positions: from 0; None restarts them at each segment.
            train: training capacity and router noise; else the evaluation's.
            noise_keys: one key per group (`sequence_groups` says how many), where training a
                sparse model with noise.

        Raises:
            ValueError: the rows are longer than `max_length`; or the mixture is not causal, see
                `check_causal`.
        """
        c = self.config
        if c.moe_layers:
            check_causal(c.moe, train=train)
        if tokens.shape[1] > c.max_length:
            raise ValueError(
                f"rows of {tokens.shape[1]} tokens are longer than max_length={c.max_length}: cut "
                "them, or raise it"
            )
        if segments is None:
            segments = jnp.ones_like(tokens)
        if positions is None:
            positions = restarting_positions(segments)
        mask, real = causal_mask(segments), segments > 0
        x = self._embed(tokens, real)
        keys = noise_keys
        if c.moe_layers:
            keys = draw_keys(c.moe, keys, sequence_groups(c, *tokens.shape), train)
        x, outs = self._blocks(x, tokens, positions, mask, real, train=train, keys=keys)
        routings, assignments = {}, {}
        for index, (_, sums, assignment) in enumerate(outs):
            if sums is not None and assignment is not None:
                routings[f"block_{index}"], assignments[f"block_{index}"] = sums, assignment
        return Prediction(self._logits(x), routings, assignments)

    def extend(
        self,
        tokens: Int[Array, "B N"],
        positions: Int[Array, "B N"],
        mask: Bool[Array, "B N R"],
        real: Bool[Array, "B N"],
        caches: tuple[KeyValues, ...],
        slot: Int[Array, ""] | Int[Array, " B"] | int,
        last: Int[Array, " B"],
    ) -> tuple[Float[Array, "B V"], tuple[KeyValues, ...]]:
        """Reads new tokens after those in the caches; evaluation only.

        Args:
            tokens, positions: the new ones.
            mask: the slots of the caches that each may look at.
            real: false for padding.
            caches: of each block, with R slots.
            slot: where the new tokens' slots begin, of all rows or of each.
            last: which of the new tokens' logits are wanted; a whole vocabulary for each token of
                a prompt would be the largest array of all.

        Returns:
            Float32 logits after that token, and the caches with the new tokens in them.
        """
        x = self._embed(tokens, real)
        x, outs = self._blocks(x, tokens, positions, mask, real, caches, slot)
        after = tuple(cache for cache, _, _ in outs)
        x = jnp.take_along_axis(x, last[:, None, None], axis=1)
        return self._logits(x)[:, 0], after

    @property
    def _kinds(self) -> list[tuple[bool, tuple[int, ...] | None]]:
        """Of each block, whether it is sparse, and which experts are there."""
        moe, sparse = self.config.moe, self.config.moe_layers
        return [
            (True, moe.kept_in(sparse.index(index))) if index in sparse else (False, None)
            for index in range(self.config.depth)
        ]

    def _blocks(
        self,
        x: Float[Array, "B N D"],
        tokens: Int[Array, "B N"],
        positions: Int[Array, "B N"],
        mask: Bool[Array, "B N R"],
        real: Bool[Array, "B N"],
        caches: tuple[KeyValues, ...] | None = None,
        slot: Int[Array, ""] | Int[Array, " B"] | int = 0,
        *,
        train: bool = False,
        keys: Key[Array, " G"] | None = None,
    ) -> tuple[Float[Array, "B N D"], list[tuple]]:
        """The last block's activations, and of each block cache, sums and assignment."""
        c = self.config

        def arguments(x, index, cache):
            # A stream per block, as in `Encoder`.
            fold = jax.vmap(jax.random.fold_in, (0, None))
            own = None if keys is None else fold(keys, index)
            named = {"train": train, "noise_keys": own}
            return (x, tokens, positions, mask, real, cache, slot), named

        def make(index, detached):
            return PalmBlock(c, *self._kinds[index], parent=None) if detached else self.block[index]

        return apply_blocks(
            self,
            "block",
            self._kinds,
            make,
            arguments,
            x,
            caches or (None,) * c.depth,
            scan=c.scan,
            remat=c.remat == "blocks",
        )

    def _embed(self, tokens: Int[Array, "B N"], real: Bool[Array, "B N"]) -> Float[Array, "B N D"]:
        # Padding may be any number, also none of a token.
        tokens = jnp.where(real, tokens, 0)
        return look_up(self.embedding, tokens).astype(self.config.dtype)

    def _logits(self, x: Float[Array, "B N D"]) -> Float[Array, "B N V"]:
        x = self.final_norm(x)
        table = self.embedding.astype(x.dtype)
        logits = jnp.einsum("bnd,vd->bnv", x, table, preferred_element_type=jnp.float32)
        return logits / math.sqrt(self.config.width)


def empty_caches(config: PalmConfig, batch: int, slots: int) -> tuple[KeyValues, ...]:
    """Zeros for L blocks: keys and values (B, R, F) each, in the activations' type."""
    blank = jnp.zeros((batch, slots, config.head_size), jnp.dtype(config.dtype))
    return (KeyValues(blank, blank),) * config.depth
