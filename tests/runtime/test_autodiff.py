"""Gradients of programs beside `jax.value_and_grad` of the same function, and loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.runtime.dependence import dependence
from byways.runtime.graph import Shape
from jax.sharding import PartitionSpec as P

from byways import runtime as rt

from .islands import pair, wait_at

W = np.arange(9, dtype=np.float32).reshape(3, 3) / 9
X = np.arange(6, dtype=np.float32).reshape(2, 3) / 6


@pytest.fixture
def system():
    with rt.Runtime() as made:
        yield made
    assert made.store.live() == 0


@pytest.fixture
def place(system):
    """Puts a function on a slice of its own, of one device unless it says more."""
    devices = system.virtual_devices()
    return lambda fn, devices_=1, **options: rt.computation(
        fn, devices.add_slice(devices_), **options
    )


def same(found, want):
    assert jax.tree.structure(found) == jax.tree.structure(want)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), rt.fetch(found), want
    )


def check(program, fn, *args, **options):
    """The program's value and gradients are those of the plain function."""
    found = rt.value_and_grad(program, **options)(*args)
    want = jax.value_and_grad(fn, **options)(*args)
    same(found, want)
    return found


def square(x):
    return x * x


def dot(x, w):
    return jnp.tanh(x @ w)


def total(*xs):
    return sum(x.sum() for x in xs)


@pytest.mark.parametrize("argnums", [0, 1, (0, 1), (1, 0), -1])
def test_a_chain(place, argnums):
    dot_, total_ = place(dot), place(total)
    check(
        rt.program(lambda x, w: total_(dot_(dot_(x, w), w))),
        lambda x, w: total(dot(dot(x, w), w)),
        X,
        W,
        argnums=argnums,
    )


def test_a_diamond(place):
    """A value that three nodes take, one of them twice."""
    square_, dot_, total_ = place(square), place(dot), place(total)
    check(
        rt.program(lambda w: (lambda y: total_(dot_(y, y), square_(y), y))(square_(w))),
        lambda w: total(dot(square(w), square(w)), square(square(w)), square(w)),
        W,
    )


def test_trees_aux_and_what_is_not_used(place):
    def layer(params, x):
        return x @ params["w"] + params["b"], (x > 0).sum()

    def loss(params, unused, n, x):
        y, count = layer(params[0], x)
        z, other = layer(params[1], y)
        return (z**2).sum() * n, {"y": y, "counts": [count, other]}

    layer_ = place(layer)
    end = place(lambda z, n: (z**2).sum() * n)

    @rt.program
    def program(params, unused, n, x):
        y, count = layer_(params[0], x)
        z, other = layer_(params[1], y)
        return end(z, n), {"y": y, "counts": [count, other]}

    params = [{"w": W, "b": np.full(3, n, np.float32)} for n in (1, 2)]
    found = check(program, loss, params, {"k": X}, 3, X, argnums=(0, 1), has_aux=True)
    _, (_, unused) = found
    np.testing.assert_array_equal(unused["k"].result(), np.zeros((2, 3)))


def test_the_loss_may_be_used_further(place):
    """What comes of it besides takes no part."""
    total_, log, square_ = place(total), place(jnp.log), place(square)
    check(
        rt.program(lambda x: (lambda s: (square_(s), log(s)))(total_(square_(x)))),
        lambda x: (total(square(x)) ** 2, jnp.log(total(square(x)))),
        X,
        has_aux=True,
    )


def test_a_loss_among_other_outputs_of_its_node(place):
    node = place(lambda x: (x * 2, (x**3).sum(), x.sum()))
    end = place(lambda a, b, c: b + (a * c).sum())
    plain = lambda x: (x**3).sum() + (x * 2 * x.sum()).sum()  # noqa: E731
    check(rt.program(lambda x: end(*node(x))), plain, X)
    check(
        rt.program(lambda x: (lambda a, b, c: (b, (a, c)))(*node(x))),
        lambda x: ((x**3).sum(), (x * 2, x.sum())),
        X,
        has_aux=True,
    )


def test_a_loss_that_is_an_argument(place):
    square_ = place(square)
    check(rt.program(lambda x: (x, square_(x))), lambda x: (x, x * x), jnp.float32(3), has_aux=True)


def test_integers_on_the_way(place):
    order = place(lambda x: jnp.argsort(x[:, 0]))
    take = place(lambda x, order: x[order] * jnp.arange(2.0)[:, None])
    total_ = place(total)
    plain = lambda x: total((x[jnp.argsort(x[:, 0])]) * jnp.arange(2.0)[:, None])  # noqa: E731
    check(rt.program(lambda x: total_(take(x, order(x)))), plain, X[::-1].copy())


def test_gradients_that_are_stopped(place):
    """Where one of a node's inputs cannot have any, its maker has no backward node."""
    stop = place(lambda x, y: jax.lax.stop_gradient(x) * y, name="stop")
    first, second = place(square, name="first"), place(square, name="second")
    total_ = place(total, name="total")
    program = rt.program(lambda x: total_(stop(first(x), second(x))))
    plain = lambda x: total(jax.lax.stop_gradient(x * x) * x * x)  # noqa: E731
    check(program, plain, X)
    names = [node.name for node in rt.value_and_grad(program).trace(X).nodes]
    assert "second backward" in names
    assert "first backward" not in names


def test_what_a_gradient_may_flow_through():
    shapes = (Shape((2,), jnp.float32), Shape((2,), jnp.int32), Shape((2,), jnp.float32))

    def f(x, n, y):
        return x * n, jax.lax.stop_gradient(x) + y, n + 1, jnp.float32(3), x > y

    found = dependence(lambda *given: list(f(*given)), shapes)
    assert found == [{0}, {2}, set(), set(), set()]


def test_custom_gradients_are_kept(place):
    @jax.custom_vjp
    def clipped(x):
        return x

    clipped.defvjp(lambda x: (x, None), lambda _, g: (jnp.clip(g, -1, 1),))
    clip, total_ = place(clipped), place(lambda x: (5 * x).sum())
    _, grad = rt.value_and_grad(rt.program(lambda x: total_(clip(x))))(X)
    np.testing.assert_array_equal(grad.result(), np.ones((2, 3)))


def test_programs_in_programs_and_functions(place):
    dot_, total_ = place(dot), place(total)
    inner = rt.program(lambda x, w: dot_(x, w))
    plain = lambda x, w: total(dot(dot(x, w), w))  # noqa: E731
    outer = rt.program(lambda x, w: total_(inner(inner(x, w), w)))
    check(outer, plain, X, W)
    check(lambda x, w: outer(x, w), plain, X, W)

    # Gradients within a program, and what follows of them.
    step = place(lambda w, g: w - 0.1 * g, donate=(0,))

    @rt.program
    def train(w, x):
        value, grad = rt.value_and_grad(outer, 1)(x, w)
        return step(w, grad), value

    w, value = train(W, X)
    want, grad = jax.value_and_grad(plain, 1)(X, W)
    np.testing.assert_allclose(value.result(), want, rtol=1e-5)
    np.testing.assert_allclose(w.result(), W - 0.1 * grad, rtol=1e-5, atol=1e-6)


def test_donations_are_left_out_of_the_forward(place):
    take = place(square, donate=(0,))
    total_ = place(total)
    check(rt.program(lambda x: total_(take(take(x)))), lambda x: total(x**4), X)


@pytest.mark.parametrize("devices", [2, 4])
def test_nodes_over_several_devices(system, devices):
    part = system.virtual_devices().add_slice({"data": devices})
    options = {"in_specs": (P("data"), P()), "out_specs": P("data")}
    dot_ = rt.computation(dot, part, **options)
    total_ = rt.computation(total, part, in_specs=(P("data"), P("data")), out_specs=P())
    x = np.arange(24, dtype=np.float32).reshape(8, 3) / 24
    program = rt.program(lambda x, w: total_(dot_(dot_(x, w), w), dot_(x, w)))
    _, (d_x, d_w) = check(
        program,
        lambda x, w: total(dot(dot(x, w), w), dot(x, w)),
        x,
        W,
        argnums=(0, 1),
    )
    # Gradients lie as their arguments do.
    assert d_x.array().sharding.is_equivalent_to(part.sharding(P("data")), 2)
    assert d_w.array().sharding.is_fully_replicated


def test_two_islands():
    with pair(2) as system:
        here, there = (system.virtual_devices(name).add_slice(2) for name in ("here", "there"))
        spread = {"in_specs": (P("device"), None), "out_specs": P("device")}
        first, second = (rt.computation(dot, part, **spread) for part in (here, there))
        total_ = rt.computation(total, here)
        x = np.arange(12, dtype=np.float32).reshape(4, 3) / 12
        check(
            rt.program(lambda x, w: total_(second(first(x, w), w), first(x, w))),
            lambda x, w: total(dot(dot(x, w), w), dot(x, w)),
            x,
            W,
            argnums=(0, 1),
        )
    assert system.store.live() == 0


def test_called_twice_nothing_is_compiled_again(place, no_compiling):
    dot_, total_ = place(dot), place(total)
    both = rt.value_and_grad(rt.program(lambda x, w: total_(dot_(dot_(x, w), w))), (0, 1))
    both.compile(X, W)
    no_compiling()
    for n in range(3):
        rt.fetch(both(X + n, W))


def test_a_loss_and_its_gradient_are_one_node_where_it_comes_last(place):
    dot_, total_ = place(dot, name="dot"), place(total, name="total")
    both = rt.value_and_grad(rt.program(lambda x, w: total_(dot_(x, w))), 1)
    calls = [n.name for n in both.trace(X, W).nodes if n.kind == "computation"]
    assert calls == ["dot", "total and backward", "dot backward"]


# What cannot be differentiated.


def test_what_is_no_scalar(place):
    square_, total_ = place(square), place(total)
    for fn in (
        lambda x: (total_(x), total_(x), total_(x)),
        lambda x: [total_(x), x],
        lambda x: (total_(x), x),
        lambda x: ({"loss": total_(x)}, x),
    ):
        with pytest.raises(rt.ProgramError, match="takes a scalar, or with has_aux=True a pair"):
            rt.value_and_grad(rt.program(fn))(X)
    for fn in (lambda x: total_(x), lambda x: ({"loss": total_(x)}, x), lambda x: [total_(x), x]):
        with pytest.raises(rt.ProgramError, match="takes a scalar, or with has_aux=True a pair"):
            rt.value_and_grad(rt.program(fn), has_aux=True)(X)
    with pytest.raises(rt.ProgramError, match=r"returns first float32\[2, 3\]"):
        rt.value_and_grad(rt.program(lambda x: square_(x)))(X)
    count = place(lambda x: (x > 0).sum())
    with pytest.raises(rt.ProgramError, match=r"returns first int32\[\]"):
        rt.value_and_grad(rt.program(lambda x: count(x)))(X)


def test_arguments_that_have_no_gradient(place):
    total_ = place(total)
    program = rt.program(lambda x, n: total_(x, n), name="p")
    with pytest.raises(rt.ProgramError, match=r"'p' cannot be differentiated by arg\[1\].*int32"):
        rt.value_and_grad(program, 1)(X, 3)
    for bad in (2, -3):
        with pytest.raises(rt.ProgramError, match=f"by argument {bad}: it was given 2"):
            rt.value_and_grad(program, (0, bad))(X, 3)


def test_conditional_nodes_without_a_backward(place):
    count, total_ = place(lambda x: x[0]), place(total)
    part = count.slice

    def program(x, y):
        return total_(wait_at(count(x), x, part, name="gate"), y)

    with pytest.raises(rt.ProgramError, match="'gate' of program 'p' has no backward"):
        rt.value_and_grad(rt.program(program, name="p"))(X, X)
    value, grad = rt.value_and_grad(rt.program(program), 1)(X, X)
    np.testing.assert_allclose(value.result(), 2 * X.sum())
    np.testing.assert_array_equal(grad.result(), np.ones((2, 3)))


# Loops.


def test_repeating(place):
    dot_, total_ = place(dot), place(total)

    def plain(x, w):
        for _ in range(3):
            x = dot(x, w)
        return total(x)

    @rt.program
    def program(x, w):
        x, _ = rt.repeat(3, lambda carry: (dot_(*carry), carry[1]), (x, w))
        return total_(x)

    check(program, plain, X, W, argnums=(0, 1))
    none = rt.program(lambda x: total_(rt.repeat(0, dot_, x)))
    assert float(none(X).result()) == X.sum()
    with pytest.raises(rt.ProgramError, match="a loop of -1 turns"):
        rt.program(lambda x: total_(rt.repeat(-1, dot_, x)))(X)
    with pytest.raises(rt.ProgramError, match="the body of a loop returns"):
        rt.program(lambda x: rt.repeat(2, lambda x: (total_(x), x), x))(X)


def test_while_loops(system):
    part = system.virtual_devices().add_slice(1)
    below = rt.computation(lambda c: c["x"].sum() < 100, part, name="below")
    double = rt.computation(lambda c: {"x": 2 * c["x"], "n": c["n"] + 1}, part, name="double")
    total_ = rt.computation(lambda c: c["x"].sum(), part)

    @rt.program(name="p")
    def program(x):
        carry = rt.while_loop(below, double, {"x": x, "n": 0}, bound=8, name="grow")
        return carry, total_(carry)

    program.compile(X)
    for x, turns in ((np.full(4, 1.0), 5), (np.full(4, 30.0), 0), (np.full(4, 0.01), 8)):
        with rt.recording(system) as recorder:
            carry, sum_ = program(x.astype(np.float32))
            assert int(carry["n"].result()) == turns
            np.testing.assert_allclose(sum_.result(), x.sum() * 2**turns, rtol=1e-5)
        names = [s.name for s in recorder.spans if s.kind == "node"]
        assert names.count("double") == turns
        assert names.count("below") == min(turns + 1, 8)


def test_while_loops_that_cannot_be(system):
    devices = system.virtual_devices()
    part = devices.add_slice(1)
    below = rt.computation(lambda x: x.sum() < 9, part)
    body = rt.computation(lambda x: x + 1, part)

    def loop(x, below=below, body=body, bound=3):
        return rt.while_loop(below, body, x, bound=bound, name="l")

    with pytest.raises(rt.ProgramError, match="'l' exists only in a program"):
        loop(X)
    bad = {
        "bound of 0": {"bound": 0},
        "different slices": {"body": rt.computation(lambda x: x, devices.add_slice(1))},
        "donate": {"body": rt.computation(lambda x: x, part, donate=(0,))},
        "spread what is carried": {"body": rt.computation(lambda x: x, part, out_specs=P())},
        "changes the shapes": {"body": rt.computation(lambda x: x[:1], part)},
        "not a scalar bool": {"below": rt.computation(lambda x: x.sum(), part)},
    }
    for words, change in bad.items():
        with pytest.raises(rt.ProgramError, match=words):
            rt.program(lambda x, change=change: loop(x, **change))(X)
