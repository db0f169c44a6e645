"""What cannot be is said before anything is computed, and what is merely empty has a result."""

import functools
import warnings

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from byways.routing import (
    ROUTERS,
    ExpertMlp,
    SoftRouting,
    dispatch,
    dispatch_soft,
    expert_capacity,
    group_size,
    route,
    route_random,
    route_sigmoid,
    route_soft,
    route_top_k,
    split_groups,
    update_bias,
)
from jax.experimental import checkify

from .contract import agree

LOGITS = jnp.zeros((2, 4, 3))
MASK = jnp.ones((2, 4), bool)
IDS = jnp.zeros((2, 4), jnp.int32)
TOKEN_CHOICE = [name for name in ROUTERS if name != "expert_choice"]


@pytest.fixture
def unchecked():
    """As for users, whose arrays' shapes nobody checks but the functions themselves."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


# What is refused is refused while a function is traced: `jax.eval_shape` compiles nothing.
def routed(name, logits=LOGITS, mask=MASK, **options):
    extra = {"hash": {"ids": IDS}, "random": {"key": jax.random.key(0)}}.get(name, {})
    defaults = {"selected": 1, "capacity": 2} | extra
    return route(name, logits, mask, **(defaults | options))


@pytest.mark.parametrize("name", TOKEN_CHOICE)
def test_more_choices_than_experts_or_none(name):
    for selected in (0, 4):
        says = "Switch routing is K=1" if name == "switch" else f"selected={selected} of.*1 <= K <="
        with pytest.raises(ValueError, match=says):
            jax.eval_shape(functools.partial(routed, name, selected=selected))


@pytest.mark.parametrize("name", ROUTERS)
def test_capacity_below_one(name):
    for capacity in (0, -3):
        with pytest.raises(ValueError, match=f"capacity={capacity}: at least one slot"):
            jax.eval_shape(functools.partial(routed, name, capacity=capacity))
    if name == "expert_choice":
        with pytest.raises(ValueError, match="no dropless form"):
            jax.eval_shape(lambda: routed(name, capacity=None))


@pytest.mark.parametrize("name", ROUTERS)
def test_a_mask_of_another_shape(name, unchecked):
    for shape in ((2, 3), (4,), (2, 4, 1)):
        with pytest.raises(ValueError, match=r"mask has shape.*expected \(G, T\) = \(2, 4\)"):
            jax.eval_shape(functools.partial(routed, name, mask=jnp.ones(shape, bool)))


def test_soft_shapes(unchecked):
    x, mu, scale = jnp.ones((2, 4, 5)), jnp.ones((5, 3, 1)), jnp.ones(())
    shares = jnp.zeros((2, 4, 3, 1))
    with pytest.raises(ValueError, match=r"mask has shape \(2, 3\)"):
        jax.eval_shape(lambda: route_soft(x, mu, scale, MASK[:, :3]))
    for empty in (x[:0], x[:, :0]):
        with pytest.raises(ValueError, match="at least one group, one token"):
            jax.eval_shape(functools.partial(route_soft, empty, mu, scale))
    with pytest.raises(ValueError, match="capacity=0: at least one slot"):
        jax.eval_shape(lambda: route_soft(x, mu[..., :0], scale))
    with pytest.raises(ValueError, match=r"\(2, 3\), the routing \(2, 4\)"):
        jax.eval_shape(
            lambda: dispatch_soft(SoftRouting(shares, shares, MASK), x[:, :3], experts(3, 5))
        )


@pytest.mark.parametrize("name", ROUTERS)
@pytest.mark.parametrize("shape", [(0, 4, 3), (2, 0, 3), (2, 4, 0)])
def test_an_empty_axis(name, shape):
    options = {"ids": jnp.zeros(shape[:2], jnp.int32)} if name == "hash" else {}
    with pytest.raises(ValueError, match=r"at least one|1 <= K <= E"):
        jax.eval_shape(lambda: routed(name, jnp.zeros(shape), jnp.ones(shape[:2], bool), **options))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: route("best", LOGITS, selected=1, capacity=1), "router 'best' is unknown.*hash"),
        (lambda: routed("hash", ids=IDS[:, :3]), r"ids have shape \(2, 3\)"),
        (lambda: routed("hash", ids=None), "'hash' needs ids"),
        (lambda: routed("random", key=None), "'random' needs a key"),
        (lambda: routed("switch", selected=2), "`gshard` takes more"),
        *(
            (lambda name=name: routed(name, bias=jnp.zeros(3)), f"'{name}' heeds no bias")
            for name in ROUTERS
            if name not in ("top_k", "sigmoid")
        ),
        (lambda: routed("top_k", priority="mean"), "priority='mean'.*'max' or 'sum'"),
        (lambda: routed("top_k", noise=LOGITS, noise_std=-1.0), r"noise_std=-1\.0"),
        (lambda: routed("top_k", noise=LOGITS, noise_std=float("nan")), "noise_std=nan"),
        (
            lambda: route_random(jax.random.split(jax.random.key(0), 3), MASK, 3, selected=1,
                                 capacity=1),
            r"\(3,\).*\(G,\) = \(2,\)",
        ),
        (
            lambda: route_top_k(LOGITS, selected=1, capacity=1, renormalize=True),
            "K=1 makes every gate 1",
        ),
        (
            lambda: route_sigmoid(LOGITS, selected=1, capacity=1, renormalize=True),
            "K=1 makes every gate 1",
        ),
        (lambda: update_bias(jnp.zeros(3), jnp.zeros(3), rate=-1.0), r"rate=-1\.0"),
        (lambda: update_bias(jnp.zeros(3), jnp.zeros(3), rule="best"), "rule='best'"),
        (lambda: split_groups(jnp.zeros((12, 2)), 5), r"5 do not divide 12.*take 4.*pad"),
        (lambda: split_groups(jnp.zeros((12, 2)), 0), "groups of 0 do not divide"),
        (lambda: group_size(8, 0), "at least 1"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(call, says, unchecked):
    with pytest.raises(ValueError, match=says):
        jax.eval_shape(call)


def test_shapes_of_noise_and_bias(unchecked):
    with pytest.raises(ValueError, match=r"noise has shape \(2, 4, 2\)"):
        jax.eval_shape(lambda: routed("top_k", noise=LOGITS[..., :2]))
    with pytest.raises(ValueError, match=r"bias has shape \(2,\), expected \(E,\) = \(3,\)"):
        jax.eval_shape(lambda: routed("sigmoid", bias=jnp.zeros(2)))
    with pytest.raises(ValueError, match=r"must be \(E,\)"):
        jax.eval_shape(lambda: update_bias(jnp.zeros(3), jnp.zeros(2)))


def test_rounding_that_pads_is_warned_of():
    # 8 * 1 * 1.0 / 4 = 2, and 4 as a multiple of 4: twice as many.
    with pytest.warns(UserWarning, match="2 slots.*4, 100% more.*larger groups"):
        assert expert_capacity(8, 4, 1, 1.0, multiple_of=4) == 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Exactly a quarter is let through: 16 to 20.
        assert expert_capacity(64, 4, 1, 1.0, multiple_of=20) == 20
    with pytest.warns(UserWarning, match="multiple_of=21"):
        expert_capacity(64, 4, 1, 1.0, multiple_of=21)


def test_groups_that_divide_keep_their_order():
    np.testing.assert_array_equal(split_groups(jnp.arange(12), 4), np.arange(12).reshape(3, 4))
    assert split_groups(jnp.zeros((6, 5)), 3).shape == (2, 3, 5)


@pytest.mark.parametrize("name", ["top_k", "sigmoid", "expert_choice"])
def test_nan_logits_are_named_where_checks_are_on(name):
    checked = jax.jit(
        checkify.checkify(
            lambda logits, mask: routed(name, logits, mask), errors=checkify.user_checks
        )
    )
    logits = np.zeros((2, 4, 3), np.float32)
    logits[1, 2, 0] = logits[1, 3, 1] = np.nan
    error, _ = checked(logits, np.ones((2, 4), bool))
    with pytest.raises(checkify.JaxRuntimeError, match=r"\(1, 2, 0\), in 2 places"):
        error.throw()
    # Not those of masked tokens, which are nobody's business.
    error, _ = checked(logits, np.arange(4) < np.full((2, 1), 2))
    error.throw()


@pytest.mark.parametrize("priority", ["off", "max", "sum"])
@pytest.mark.parametrize("name", ["top_k", "sigmoid"])
def test_without_checks_nan_stays_with_its_token(name, priority):
    """Served last by batch priority; in token order it takes the place that is its turn's."""
    options = {"batch_priority": False} if priority == "off" else {"priority": priority}
    run = jax.jit(lambda logits: routed(name, logits, None, selected=2, **options))
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((1, 8, 4)).astype(np.float32)
    logits[0, :6, 0] += 9.0  # contested: six want expert 0
    logits[0, 0] = np.nan
    with_nan = jax.device_get(run(logits).assignment)
    assert np.isnan(with_nan.weight[0, :2]).all()
    assert np.isfinite(with_nan.weight[0, 2:]).all()
    # It, too, has two experts that there are.
    assert {*with_nan.expert.ravel().tolist()} <= {0, 1, 2, 3}
    assert (with_nan.expert[0, ::2] != with_nan.expert[0, 1::2]).all()
    finite = np.where(np.isnan(logits), -50.0, logits)
    if priority == "off":
        # Nobody else's choice or weight differs.
        without = jax.device_get(run(finite).assignment)
        for field in ("expert", "weight"):
            np.testing.assert_array_equal(
                getattr(with_nan, field)[0, 2:], getattr(without, field)[0, 2:]
            )
        return
    # The first choices of the others have the places that they have without that token.
    masked = jax.jit(lambda logits, mask: routed(name, logits, mask, selected=2, **options))
    absent = jax.device_get(masked(logits, np.arange(8)[None] > 0).assignment)
    for field in ("slot", "kept"):
        np.testing.assert_array_equal(
            getattr(with_nan, field)[0, 2::2], getattr(absent, field)[0, 2::2]
        )


def experts(number, width):
    rng = np.random.default_rng(0)
    shapes = (number, width, 6), (number, 6), (number, 6, width), (number, width)
    return ExpertMlp(*(jnp.asarray(rng.standard_normal(s).astype(np.float32)) for s in shapes))


@functools.cache
def layer(name):
    weights = experts(3, 5)

    def loss(logits, x, mask):
        routing = routed(name, logits, mask, selected=1)
        out = dispatch("index", routing.assignment, x, weights)
        return jnp.sum(jnp.sin(out)), out

    return jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))


@pytest.mark.parametrize("name", ROUTERS)
def test_an_empty_group_is_zero_and_leaves_the_others_alone(name):
    rng = np.random.default_rng(1)
    logits = rng.standard_normal((2, 4, 3)).astype(np.float32)
    x = rng.standard_normal((2, 4, 5)).astype(np.float32)
    mask = np.ones((2, 4), bool)
    full = layer(name)(logits, x, mask)
    mask[1] = False
    half = layer(name)(logits, x, mask)
    for got, want in zip(jax.tree.leaves(half), jax.tree.leaves(full), strict=True):
        got, want = np.asarray(got), np.asarray(want)
        assert not got[1].any()
        agree(got[0], want[0], 1e-6)
    mask[0] = False
    for leaf in jax.tree.leaves(layer(name)(logits, x, mask)):
        assert not np.asarray(leaf).any()
