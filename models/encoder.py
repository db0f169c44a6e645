"""The Transformer stack that all modalities share."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from ..routing import Assignment, RoutingSums
from .attention import SelfAttention
from .config import StackConfig
from .mlp import Mlp
from .moe import Moe, draw_keys
from .positions import PositionEmbedding
from .scanned import apply_blocks


class Block(nn.Module):
    """Pre-LN Transformer block: attention within sequences, then an MLP or a mixture.

    The mixture sees the tokens of all modalities of a group together, so that they share
    the experts' buffers and compete for them by priority (LIMoE, section 2).
    """

    config: StackConfig
    sparse: bool
    num_modalities: int
    kept: tuple[int, ...] | None = None

    @nn.compact
    def __call__(
        self,
        tokens: Float[Array, "G T D"],
        mask: Bool[Array, "G T"],
        modality: Int[Array, "G T"],
        sequences: tuple,
        *,
        train: bool,
        noise_keys: Key[Array, " G"] | None,
        noise: Float[Array, "G T E"] | None,
        ids: Int[Array, "G T"] | None,
    ) -> tuple[Float[Array, "G T D"], RoutingSums | None, Assignment | None]:
        """Returns tokens, routing sums and assignment, the last two None in a dense block."""
        c = self.config
        dtype = jnp.dtype(c.dtype)
        norm = nn.LayerNorm(epsilon=c.epsilon, dtype=dtype, name="LayerNorm_0")
        attention = SelfAttention(c.heads, c.qk_norm, name="SelfAttention")
        tokens = tokens + attention(norm(tokens), sequences)
        inner = nn.LayerNorm(epsilon=c.epsilon, dtype=dtype, name="LayerNorm_1")(tokens)
        if not self.sparse:
            return tokens + Mlp(c.hidden, dtype, c.activation, name="Mlp")(inner), None, None
        moe = Moe(
            c.moe,
            c.hidden,
            self.num_modalities,
            dtype,
            kept=self.kept,
            activation=c.activation,
            name="Moe",
        )
        change, sums, assignment = moe(
            inner, mask, modality, train=train, noise_keys=noise_keys, noise=noise, ids=ids
        )
        return tokens + change, sums, assignment


class Encoder(nn.Module):
    """L blocks and a last LayerNorm; what routers did is returned by the block's name."""

    config: StackConfig
    num_modalities: int

    @nn.compact
    def __call__(
        self,
        tokens: Float[Array, "G T D"],
        mask: Bool[Array, "G T"],
        modality: Int[Array, "G T"],
        sequences: tuple,
        *,
        train: bool,
        noise_keys: Key[Array, " G"] | None = None,
        noise: dict[str, Float[Array, "G T E"]] | None = None,
        ids: Int[Array, "G T"] | None = None,
    ) -> tuple[Float[Array, "G T D"], dict[str, RoutingSums], dict[str, Assignment]]:
        c = self.config
        dtype = jnp.dtype(c.dtype)
        routings, assignments = {}, {}
        sparse = c.moe_layers
        if c.positions != "none":
            positions = PositionEmbedding(c.positions, c.grid, name="posembed_input")
            tokens = positions(tokens.reshape(-1, c.num_tokens, c.width)).reshape(tokens.shape)
        if c.pre_norm:
            tokens = nn.LayerNorm(epsilon=c.epsilon, dtype=dtype, name="pre_norm")(tokens)
        names = [f"encoderblock_{index}" for index in range(c.depth)]
        kinds = [
            (True, c.moe.kept_in(sparse.index(index))) if index in sparse else (False, None)
            for index in range(c.depth)
        ]
        given = [None if noise is None else noise.get(name) for name in names]

        streams = draw_keys(c.moe, noise_keys, tokens.shape[0], train)

        def arguments(tokens, index, given):
            keys = None
            if streams is not None:
                # A stream per block: the same noise in all would tie their routers together.
                keys = jax.vmap(jax.random.fold_in, (0, None))(streams, index)
            named = {"train": train, "noise_keys": keys, "noise": given, "ids": ids}
            return (tokens, mask, modality, sequences), named

        def make(index, detached):
            sparse, kept = kinds[index]
            place: dict = {"parent": None} if detached else {"name": names[index]}
            return Block(c, sparse, self.num_modalities, kept, **place)

        tokens, outs = apply_blocks(
            self,
            "encoderblock",
            kinds,
            make,
            arguments,
            tokens,
            given,
            scan=c.scan,
            remat=c.remat == "blocks",
        )
        for name, (sums, assignment) in zip(names, outs, strict=True):
            if sums is not None and assignment is not None:
                routings[name], assignments[name] = sums, assignment
        norm = nn.LayerNorm(epsilon=c.epsilon, dtype=dtype, name="encoder_norm")
        return norm(tokens), routings, assignments
