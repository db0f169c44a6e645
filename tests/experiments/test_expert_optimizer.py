"""Experts updated apart: in the exact mode as optax does it to the stacked arrays, and sparsely."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from byways.experiments.across_experts import ALL_GIVEN, NORM_GIVEN, Across, Blocks
from byways.experiments.config import OptimizerConfig
from byways.experiments.expert_layout import Layout
from byways.experiments.expert_optimizer import ExpertOptimizer, Experts
from byways.experiments.optimizer import learning_rate, make_optimizer
from flax.traverse_util import flatten_dict, unflatten_dict

from byways import runtime as rt

E, STEPS = 5, 6
# Two layers of one kind, whose experts share programs, and one of another.
LAYERS = {"encoderblock_1": (3, 4), "encoderblock_3": (3, 4), "encoderblock_4": (4, 2)}
MEANS = {"palm": "params", "adafactor": "params and updates"}


def parameters(rng, dtype=np.float64):
    flat = {"head/kernel": (3, 2), "Encoder/encoderblock_0/Mlp/Dense_0/kernel": (3, 3)}
    for block, (d, h) in LAYERS.items():
        for name, shape in (("0/kernel", (d, h)), ("0/bias", (h,)), ("1/kernel", (h, d))):
            flat[f"Encoder/{block}/Moe/Mlp/Dense_{name}"] = (E, *shape)
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in flat.items()}


def is_expert(name):
    return "/Moe/" in name


def awake_sets(rng):
    """Who wakes in each step, by layer: one expert, some, all, and in one layer nobody."""
    chosen = [{block: rng.random(E) < 0.5 for block in LAYERS} for _ in range(STEPS)]
    chosen[0] = {block: np.arange(E) == 2 for block in LAYERS}
    chosen[2] = {block: np.full(E, block != "encoderblock_3") for block in LAYERS}
    return chosen


def gradients(rng, awake):
    """Dense ones, zero where an expert sleeps; large in some steps, so that they are clipped."""
    found = {}
    for name, value in parameters(rng).items():
        found[name] = value * (5.0 if awake["encoderblock_1"].sum() > 2 else 0.01)
        for block, there in awake.items():
            if f"/{block}/" in name and is_expert(name):
                found[name] = found[name] * there.reshape(-1, *[1] * (value.ndim - 1))
    return found


class Apart:
    """The optimiser of a tree whose experts stand apart, as a training step drives it."""

    def __init__(self, config, params, devices, exact, together=2):
        self.whole = make_optimizer(config, STEPS)
        shapes = jax.eval_shape(lambda: params)
        canonical = jax.eval_shape(self.whole.init, unflatten_dict(params, sep="/"))
        plain = make_optimizer(config, STEPS, Blocks())
        self.layout = Layout(shapes, filter(is_expert, params), lambda _: plain, canonical)
        blocks = ALL_GIVEN if exact else NORM_GIVEN
        own = make_optimizer(config, STEPS, blocks)
        self.shared = make_optimizer(config, STEPS, NORM_GIVEN)
        system = rt.Runtime({"local": jax.devices()[:devices]})
        self.homes = [system.virtual_devices().add_slice(1) for _ in range(devices)]
        self.optimizer = ExpertOptimizer(
            self.layout,
            lambda _: own,
            self.homes,
            exact=exact,
            means=MEANS.get(config.name, "none"),
            together=together,
            batched=config.name == "muon",
        )
        state = self.whole.init(unflatten_dict(params, sep="/"))
        self.state, moments = self.layout.take_apart(state)
        placed = {u: self.home(u).put(m) for u, m in moments.items()}
        # Buffers of its own: what a step is given is donated.
        counts = {} if exact else {u: self.put(u, np.int32(0)) for u in moments}
        self.experts = Experts(self.units(params), placed, counts)
        self.rest = {name: x for name, x in params.items() if not is_expert(name)}

    def home(self, unit):
        return self.homes[unit[1] % len(self.homes)]

    def put(self, unit, x):
        return self.home(unit).put(np.array(x))

    def units(self, flat, awake=None):
        return {
            (name, e): [self.put((name, e), flat[leaf][e]) for leaf in layer.leaves]
            for name, layer in self.layout.layers.items()
            for e in range(E)
            if awake is None or awake[name.split("/")[1]][e]
        }

    def step(self, grads, awake):
        apart = self.units(grads, awake)
        squares = self.optimizer.sum_of_squares(apart)
        rest = {name: g for name, g in grads.items() if name in self.rest}
        norm = jnp.sqrt(sum(squares) + sum(jnp.sum(jnp.square(g)) for g in rest.values()))
        common = self.layout.common(self.state)
        tree = unflatten_dict(self.rest, sep="/")
        updates, self.state = self.shared.update(
            unflatten_dict(rest, sep="/"), self.state, tree, across=Across(norm)
        )
        self.rest = flatten_dict(optax.apply_updates(tree, updates), sep="/")
        self.experts = self.optimizer.step(self.experts, apart, common, norm)

    def canonical(self):
        params = dict(self.rest)
        for name, layer in self.layout.layers.items():
            for number, leaf in enumerate(layer.leaves):
                parts = [self.experts.params[name, e][number] for e in range(E)]
                params[leaf] = np.stack([np.asarray(p) for p in parts])
        return params, self.layout.put_together(self.state, self.experts.moments)


def config_of(name, **changes):
    # Larger than the steps' norms in some steps, smaller in others.
    return OptimizerConfig(name=name, lr=0.05, adam_lr=0.02, warmup=2, clip=1.0, **changes)


@pytest.mark.parametrize(
    ("name", "devices"), [("muon", 2), ("adamw", 1), ("adafactor", 1), ("palm", 3)]
)
def test_the_exact_mode_equals_dense_optax(name, devices):
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        params, config = parameters(rng), config_of(name)
        apart = Apart(config, params, devices, exact=True)
        whole = unflatten_dict(params, sep="/")
        dense = jax.jit(apart.whole.update)
        state = apart.whole.init(whole)
        for awake in awake_sets(rng):
            grads = gradients(rng, awake)
            updates, state = dense(unflatten_dict(grads, sep="/"), state, whole)
            whole = optax.apply_updates(whole, updates)
            apart.step(grads, awake)
        found, found_state = apart.canonical()
        close(found, flatten_dict(whole, sep="/"))
        close(found_state, state)


def close(found, wanted):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_without_clipping_and_with_everybody_awake_sparse_is_exact():
    with jax.enable_x64(True):
        found = []
        for exact in (True, False):
            rng = np.random.default_rng(1)
            config = config_of("adamw", schedule="linear")
            apart = Apart(config, parameters(rng), 1, exact=exact)
            everyone = {block: np.ones(E, bool) for block in LAYERS}
            for _ in range(3):
                apart.step(gradients(rng, everyone), everyone)
            found.append(apart.canonical())
        close(*found)


def test_a_sleeping_expert_stands_still_in_the_sparse_mode():
    """Adam by hand: bias is corrected by the expert's own updates, the rate is the run's."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(2)
        config = config_of("adamw", weight_decay=0.0)
        params = parameters(rng)
        apart = Apart(config, params, 1, exact=False)
        layer, leaf = "encoderblock_1", "Encoder/encoderblock_1/Moe/Mlp/Dense_0/bias"
        # Expert 0 wakes in the steps 0 and 3, expert 1 never.
        times, wanted = (0, 3), params[leaf][0].copy()
        m, v, rate = 0.0, 0.0, learning_rate(config, STEPS)
        for step in range(4):
            awake = {block: np.zeros(E, bool) for block in LAYERS}
            awake[layer][0] = step in times
            awake[layer][4] = True
            grads = gradients(rng, awake)
            norm = np.sqrt(sum(np.sum(g**2) for g in grads.values()))
            apart.step(grads, awake)
            if step in times:
                g = grads[leaf][0] / max(1.0, norm)
                m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g**2
                t = times.index(step) + 1
                unbiased = np.sqrt(v / (1 - 0.99**t)) + 1e-8
                wanted -= float(rate(step)) * m / (1 - 0.9**t) / unbiased
        found, _ = apart.canonical()
        np.testing.assert_allclose(found[leaf][0], wanted, rtol=1e-6)
        np.testing.assert_array_equal(found[leaf][1], params[leaf][1])
        counts = [int(apart.experts.counts[f"Encoder/{layer}/Moe/Mlp", e]) for e in range(E)]
        assert counts == [2, 0, 0, 0, 4]


@pytest.mark.parametrize("name", ["muon", "adafactor"])
def test_the_state_comes_apart_and_together_bit_for_bit(name):
    rng = np.random.default_rng(3)
    params = parameters(rng, np.float32)
    apart = Apart(config_of(name), params, 2, exact=True)
    state = apart.whole.init(unflatten_dict(params, sep="/"))
    state = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), state)
    together = apart.layout.put_together(*apart.layout.take_apart(state))
    assert jax.tree.structure(together) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, together, state)


@pytest.mark.parametrize(("experts", "mixes"), [(2, False), (200, True)])
def test_adafactor_that_factors_over_experts_is_found(experts, mixes):
    # Factored are the two largest axes, from 128 on: (200, 2, 130) has E among them.
    shapes = {
        "Encoder/encoderblock_1/Moe/Mlp/Dense_0/kernel": (experts, 128 if not mixes else 2, 130),
        "head/kernel": (3, 2),
    }
    shapes = {name: jax.ShapeDtypeStruct(s, np.float32) for name, s in shapes.items()}
    optimizer = make_optimizer(config_of("adafactor"), STEPS)
    canonical = jax.eval_shape(optimizer.init, unflatten_dict(shapes, sep="/"))
    layout = Layout(shapes, filter(is_expert, shapes), lambda _: optimizer, canonical)
    problems = layout.check()
    assert bool(problems) == mixes
    assert all("E = 200 is among the two largest axes" in problem for problem in problems)


def test_muon_decays_the_kernels_that_it_updates_alone():
    expert, head = "Encoder/b/Moe/Mlp/Dense_0/kernel", "head/kernel"
    router = "Encoder/b/Moe/Router/dense/kernel"
    params = unflatten_dict({name: jnp.ones((2, 2, 2)) for name in (expert, head, router)}, sep="/")
    still = jax.tree.map(jnp.zeros_like, params)
    moved = {}
    for name in ("muon", "adamw"):
        optimizer = make_optimizer(OptimizerConfig(name=name, weight_decay=0.5), STEPS)
        updates, _ = optimizer.update(still, optimizer.init(params), params)
        flat = flatten_dict(updates, sep="/")
        moved[name] = {name for name, update in flat.items() if np.asarray(update).any()}
    assert moved == {"muon": {expert}, "adamw": {expert, head, router}}
