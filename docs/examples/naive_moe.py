"""A sparse layer as one writes it first, for `byways bench moe --against`.

    cd docs/examples && byways bench moe --dispatchers index --against naive_moe:build

Switch Transformer's steps in plain JAX: top-k, places by a cumulative sum of one-hot choices,
scatter-add into the experts' buffers, two einsums, gather back.
"""

import jax
import jax.numpy as jnp


def build(settings):
    """(params, apply) for the bench's settings."""
    s, key = settings, jax.random.key(settings.seed)
    shapes = {
        "router": (s.width, s.experts),
        "up": (s.experts, s.width, s.hidden),
        "down": (s.experts, s.hidden, s.width),
    }
    params = {
        name: jax.random.normal(k, shape) * shape[-2] ** -0.5
        for k, (name, shape) in zip(jax.random.split(key, 3), shapes.items(), strict=True)
    }
    params |= {
        "up_bias": jnp.zeros((s.experts, 1, s.hidden)),
        "down_bias": jnp.zeros((s.experts, 1, s.width)),
    }

    def group(params, x, train):  # x: (T, D)
        slots = -(-round(s.capacity * s.selected * len(x) * 1000) // (s.experts * 1000))
        logits = x.astype(jnp.float32) @ params["router"]
        if train:
            logits += jax.random.normal(key, logits.shape) / s.experts
        gates = jax.nn.softmax(logits)
        weight, expert = jax.lax.top_k(gates, s.selected)  # (T, K)
        chosen = jax.nn.one_hot(expert.T.reshape(-1), s.experts)  # (K*T, E), choices first
        place = jnp.sum((jnp.cumsum(chosen, axis=0) - 1) * chosen, axis=1).astype(int)
        place = place.reshape(s.selected, -1).T  # (T, K)
        weight = jnp.where(place < slots, weight, 0)
        buffers = jnp.zeros((s.experts, slots, s.width), x.dtype)
        pairs = jnp.broadcast_to(x[:, None], (*expert.shape, s.width))
        buffers = buffers.at[expert, place].add(pairs, mode="drop")
        importance = jnp.sum(gates, axis=0)
        return buffers, (expert, place, weight), jnp.var(importance) / jnp.mean(importance) ** 2

    def apply(params, x, train):
        buffers, routes, loss = jax.vmap(lambda x: group(params, x, train))(x)
        params = jax.tree.map(lambda leaf: leaf.astype(x.dtype), params)
        hidden = jnp.einsum("gecd,edh->gech", buffers, params["up"]) + params["up_bias"]
        out = jnp.einsum("gech,ehd->gecd", jax.nn.gelu(hidden), params["down"])
        out += params["down_bias"]

        def back(out, expert, place, weight):
            rows = out.at[expert, place].get(mode="fill", fill_value=0)
            return jnp.sum(weight[..., None].astype(rows.dtype) * rows, axis=1)

        return jax.vmap(back)(out, *routes), 0.005 * jnp.mean(loss)

    return params, apply
