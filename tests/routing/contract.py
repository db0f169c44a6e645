"""What the contract suite runs: every router and dispatcher, each compiled as seldom as can be.

Routers know no dispatchers and dispatchers no routers, so that they are compiled apart: a
dispatcher once for each static form of an assignment (layout, K, capacity), a router once for each
K with all its variants, tight and dropless, side by side (XLA shares what they share). One
capacity serves for tight and loose: what differs is how many tokens there are, and how skewed.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from byways.routing import DISPATCHERS, ROUTERS, ExpertMlp, dispatch, route, task_logits

from . import reference

# T*K/E is 2, 4 and 8 for K of 1, 2 and E: mostly loose, at the even share, and tight.
G, T, E, C, D, H, M = 2, 8, 4, 4, 3, 6, 2
SELECTED = (1, 2, E)
CAPACITIES = {"capacity": C, "dropless": None}


VARIANTS: dict[str, dict[str, dict]] = {
    "top_k": {
        "max": {},
        "sum": {"priority": "sum"},
        "off": {"batch_priority": False},
        "biased": {"bias": True},
        "task": {"task": True},
    },
    "switch": {"plain": {}, "max": {"batch_priority": True}},
    "gshard": {"plain": {}, "sum": {"batch_priority": True, "priority": "sum"}},
    "sigmoid": {"max": {}, "biased": {"bias": True, "batch_priority": False}},
    "hash": {"plain": {}},
    "random": {"plain": {}},
    "expert_choice": {"plain": {}},
}
assert set(VARIANTS) == set(ROUTERS)

# Each router with each K that it takes; what says `expert` has no K.
CASES = [
    (name, selected)
    for name in ROUTERS
    for selected in SELECTED
    if selected == 1 or name not in ("switch", "expert_choice")
]


def kinds(name, selected):
    """(variant, capacity) of a router.

    All of them with K of 2. The sum of a token's K gates has no meaning for others: that of one
    is the largest, and that of all E softmax gates is 1 for every token.
    """
    variants = list(VARIANTS[name])
    if selected != 2:
        variants = [v for v in variants if v not in ("sum", "task")]
    return [
        (variant, kind)
        for variant in variants
        for kind in CAPACITIES
        if kind == "capacity" or name != "expert_choice"
    ]


def drawn(seed, *, skew=0.0, share=1.0, tokens=T, experts=E):
    """Arguments of a router: logits that favour expert 0 by `skew`, a `share` of tokens valid."""
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal
    return {
        "logits": (normal((G, tokens, experts)) + skew * np.eye(experts)[0]).astype(np.float32),
        "noise": normal((G, tokens, experts)).astype(np.float32),
        "mask": rng.uniform(size=(G, tokens)) < share,
        "ids": rng.integers(0, 50, (G, tokens)).astype(np.int32),
        "task": rng.integers(0, M, (G, tokens)).astype(np.int32),
        "table": normal((M, experts)).astype(np.float32),
        "bias": (0.3 * normal(experts)).astype(np.float32),
        "keys": jax.random.split(jax.random.key(seed), G),
    }


def drawn_layer(seed, *, tokens=T, experts=E):
    """Tokens and experts."""
    rng = np.random.default_rng(seed + 1)

    def normal(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    weights = ExpertMlp(
        normal(experts, D, H), normal(experts, H), normal(experts, H, D), normal(experts, D)
    )
    return normal(G, tokens, D), jax.tree.map(jnp.asarray, weights)


def zeros(name, selected, tokens=T, experts=E):
    """Cotangents of a router: of its weights, and of everything with an axis of experts."""
    pairs = experts * C if name == "expert_choice" else tokens * selected
    return {
        "weight": {key: np.zeros((G, pairs), np.float32) for key in kinds(name, selected)},
        "dense": np.zeros((4, G, tokens, experts), np.float32),
    }


@functools.cache
def router(name, selected, gradients=True):
    """Jitted: arguments and cotangents -> {(variant, capacity): (Routing, d logits, d noise)}."""

    def step(data, cotangents):
        made = {}
        for variant, kind in kinds(name, selected):
            options = dict(VARIANTS[name][variant])
            if options.pop("bias", False):
                options["bias"] = data["bias"]
            conditioned = options.pop("task", False)

            def loss(logits, noise, key=(variant, kind), options=options, task=conditioned):
                if task:
                    logits = task_logits(data["table"], data["task"], logits)
                routing = route(
                    name,
                    logits,
                    data["mask"],
                    selected=selected,
                    capacity=CAPACITIES[key[1]],
                    noise=noise,
                    ids=data["ids"],
                    key=data["keys"],
                    **options,
                )
                dense = (routing.logits, routing.noisy_logits, routing.probs, routing.gates)
                valid = data["mask"][..., None]
                total = jnp.sum(routing.assignment.weight * cotangents["weight"][key])
                for value, cotangent in zip(dense, cotangents["dense"], strict=True):
                    total += jnp.sum(jnp.where(valid, value * cotangent, 0.0))
                return total, routing

            if not gradients:
                made[variant, kind] = (loss(data["logits"], data["noise"])[1],)
                continue
            grad = jax.grad(loss, argnums=(0, 1), has_aux=True)
            (d_logits, d_noise), routing = grad(data["logits"], data["noise"])
            made[variant, kind] = (routing, d_logits, d_noise)
        return made

    return jax.jit(step)


def routings(name, selected, data):
    """{(variant, capacity): Routing}."""
    shape = data["logits"].shape[1:]
    made = router(name, selected, shape == (T, E))(data, zeros(name, selected, *shape))
    return {key: value[0] for key, value in made.items()}


@functools.cache
def mesh():
    """Two devices along an axis of experts."""
    return jax.make_mesh(
        (2,), ("expert",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2]
    )


def plain_step(name, remat=False):
    """(assignment, tokens, experts) -> output, and gradients of a loss that is not linear in it.

    Gradients by experts, tokens and gates.
    """
    where = mesh() if name == "expert_parallel" else None

    def loss(weights, x, gates, assignment):
        out = dispatch(name, dataclasses.replace(assignment, weight=gates), x, weights, where)
        return jnp.sum(jnp.sin(out)), out

    grad = jax.grad(jax.checkpoint(loss) if remat else loss, argnums=(0, 1, 2), has_aux=True)

    # All are called alike, so that JAX's cache of compiled programs, where there is one, finds
    # `grouped`, which on a CPU is the program of `blocked`.
    def step(assignment, x, weights):
        return grad(weights, x, assignment.weight, assignment)[::-1]

    return step


@functools.cache
def dispatcher(name):
    """The same, jitted."""
    return jax.jit(plain_step(name))


@functools.cache
def forward(name):
    """Jitted: (assignment, tokens, experts) -> output, and no gradients."""
    where = mesh() if name == "expert_parallel" else None

    def output(assignment, x, weights):
        return dispatch(name, assignment, x, weights, where), ()

    return jax.jit(output)


def programs(assignment):
    """{name: jitted (assignment, tokens, experts) -> output, gradients} of all dispatchers.

    Where K is 1 or E, `blocked` with a capacity and `expert_parallel` run forwards alone, and
    `grouped` and `pathways` not at all.
    """
    dropless = assignment.capacity is None
    names = [n for n in DISPATCHERS if not (dropless and n in ("index", "einsum"))]
    if assignment.layout == "expert" or assignment.pairs_per_token == 2:
        return {name: dispatcher(name) for name in names}
    full = ("blocked",) if dropless else ("index", "einsum")
    names = [n for n in names if n not in ("grouped", "pathways")]
    return {name: dispatcher(name) if name in full else forward(name) for name in names}


def reference_pairs(name, variant, selected, capacity, data, g):
    """What the float64 loops route in group g: see `reference.route`."""
    options = VARIANTS[name][variant]
    mask = data["mask"][g]
    if name == "hash":
        scores = reference.hash_scores(data["ids"][g], data["logits"].shape[-1])
        even = np.full(scores.shape, 1 / selected)
        return reference.token_choice(scores, even, mask, selected, capacity)
    if name == "random":
        tokens, experts = data["logits"].shape[1:]
        draw = np.asarray(jax.random.uniform(data["keys"][g], (tokens, experts + 1)), np.float64)
        even = np.full((tokens, experts), 1 / selected)
        return reference.token_choice(
            draw[:, :experts], even, mask, selected, capacity, order=draw[:, experts]
        )
    logits, experts = np.asarray(data["logits"][g], np.float64), data["logits"].shape[-1]
    if options.get("task"):
        logits = logits + np.asarray(data["table"], np.float64)[data["task"][g]]
    noisy = logits + np.asarray(data["noise"][g], np.float64) / experts
    gates = reference.sigmoid(noisy) if name == "sigmoid" else reference.softmax(noisy)
    if name == "expert_choice":
        return reference.expert_choice(gates, mask, capacity)
    prioritised = options.get("batch_priority", name in ("top_k", "sigmoid"))
    return reference.token_choice(
        gates,
        gates,
        mask,
        selected,
        capacity,
        order=options.get("priority", "max") if prioritised else None,
        bias=data["bias"] if options.get("bias") else None,
        renormalize=selected > 1 and name in ("sigmoid", "gshard"),
    )


def agree(got, want, tolerance=2e-4):
    got, want = jax.device_get((got, want))
    for left, right in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance)


def same_bits(got, want):
    got, want = jax.device_get((got, want))
    for left, right in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert np.array_equal(left, right), "not the same to the bit"
