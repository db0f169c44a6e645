"""Bad input and bad luck: each a clear error as early as can be, nothing hung, nothing leaked."""

import asyncio
import dataclasses
import gc
import logging
import pickle
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.runtime.graph import Graph, Node, Ref, Shape
from jax.sharding import PartitionSpec as P

from byways import runtime as rt

from .islands import OnPurpose, held_back, pair, refuse, slow, wait_at

F32 = Shape((2,), jnp.float32)
X = np.ones(2, np.float32)


@pytest.fixture
def system(monkeypatch):
    """A runtime in which nothing is left when all results are gone."""
    # It logs errors of callbacks, and pytest keeps what is logged: also the frames.
    monkeypatch.setattr(logging.getLogger("jax._src.callback"), "disabled", True)
    with rt.Runtime() as made:
        yield made
        gc.collect()
        made.drain()
        assert made.store.live() == 0
        assert not made.default.runs


@pytest.fixture
def part(system):
    return system.virtual_devices().add_slice(1)


@pytest.fixture
def add(part):
    return rt.computation(lambda x: x + 1, part, name="add")


# What is known when a program is traced.


def by_hand(part, *nodes):
    """A graph of calls of x -> x + 1, each given as the refs that it takes."""
    flat, _ = rt.computation(lambda x: x + 1, part).lower(F32)
    made = [Node(0, "argument", "x", (), (F32,))]
    for n, (refs, shape) in enumerate(nodes, 1):
        made.append(Node(n, "computation", f"n{n}", refs, (shape,), part, flat))
    return Graph("hand", tuple(made), (), None, None)


def test_a_cycle(part):
    with pytest.raises(rt.ProgramError, match=r"'n1' of program 'hand'.*'n2'.*has a cycle"):
        by_hand(part, ((Ref(2, 0),), F32), ((Ref(1, 0),), F32))
    with pytest.raises(rt.ProgramError, match="has a cycle"):
        by_hand(part, ((Ref(1, 0),), F32))
    with pytest.raises(rt.ProgramError, match="node 7, which is not there"):
        by_hand(part, ((Ref(7, 0),), F32))
    with pytest.raises(rt.ProgramError, match="does not have"):
        by_hand(part, ((Ref(0, 1),), F32))


def test_shapes_that_disagree_in_a_graph_by_hand(part):
    wrong = Shape((3,), jnp.float32)
    with pytest.raises(rt.ProgramError, match=r"makes \(float32\[2\]\).*says \(float32\[3\]\)"):
        by_hand(part, ((Ref(0, 0),), wrong))


def test_shapes_that_disagree_between_nodes(part):
    ran = []
    halve = rt.computation(lambda x: x[::2], part, name="halve")
    dot = rt.computation(lambda x, y: x @ y, part, name="dot")
    program = rt.program(lambda x: dot(x, halve(x)), name="p")
    words = r"node 'dot' of program 'p' does not take inputs \(float32\[4\], float32\[2\]\)"
    with pytest.raises(rt.ProgramError, match=words) as caught:
        program(np.ones(4, np.float32))
    assert isinstance(caught.value.__cause__, TypeError)
    assert dot.compiled == halve.compiled == len(ran) == 0


@pytest.mark.parametrize(
    "op",
    [
        np.sin,
        np.asarray,
        float,
        bool,
        len,
        list,
        jnp.sin,
        jax.jit(jnp.sin),
        lambda x: jnp.stack([x, x]),
        lambda x: x + 1,
        lambda x: 2 // x,
        lambda x: x == 0,
        lambda x: x[0],
    ],
)
def test_a_traced_value_has_no_numbers(add, op):
    with pytest.raises(rt.ProgramError, match=r"program 'p' .*put this work into one"):
        rt.program(lambda x: add(op(x)), name="p")(X)


def test_a_traced_value_has_no_methods(add):
    with pytest.raises(AttributeError, match=r"has no 'sum'.*only calls computations"):
        rt.program(lambda x: add(x.sum()))(X)


def test_traced_values_that_got_out(add):
    kept = []
    rt.program(lambda x: add(kept.append(x) or x))(X)
    with pytest.raises(rt.ProgramError, match="another: pass it as an argument"):
        rt.program(lambda x: add(kept[0]))(X)


def test_programs_that_cannot_be(add):
    with pytest.raises(rt.ProgramError, match="'p' calls no computation"):
        rt.program(lambda x: x, name="p")(X)
    with pytest.raises(rt.ProgramError, match="'p' was given 'text' of type str"):
        rt.program(lambda x: add(X), name="p")("text")
    with pytest.raises(rt.ProgramError, match=r"was given <object .* close over"):
        rt.program(lambda x: (add(x), object()))(X)
    with rt.Runtime() as other:
        far = rt.computation(lambda x: x, other.virtual_devices().add_slice(1))
        with pytest.raises(rt.ProgramError, match="slices of two runtimes"):
            rt.program(lambda x: far(add(x)))(X)


def test_donations_that_cannot_be(part, add):
    take = rt.computation(lambda x: x * 2, part, name="take", donate=(0,))
    both = rt.computation(lambda x, y: x + y, part, name="both", donate=(0,))
    with pytest.raises(rt.ProgramError, match="uses a value that was donated to 'take' before"):
        rt.program(lambda x: (take(x), add(x)))(X)
    with pytest.raises(rt.ProgramError, match="returns a value that was donated to 'take'"):
        rt.program(lambda x: (take(x), x))(X)
    with pytest.raises(rt.ProgramError, match=r"'both' .*takes a value twice and donates it"):
        rt.program(lambda x: both(x, x))(X)
    with pytest.raises(rt.ProgramError, match="donates a constant"):
        rt.program(lambda x: (take(jnp.ones(2)), add(x)))(X)
    outside = rt.computation(lambda x: x, part, donate=(1,))
    with pytest.raises(rt.ProgramError, match="donates argument 1, and was given 1"):
        outside(X)


def test_specs_that_fit_no_argument(part):
    wrong = rt.computation(lambda x: x, part, name="w", in_specs=(P(), P()))
    with pytest.raises(rt.ProgramError, match="in_specs of 'w' are no prefix"):
        wrong(X)


# Resources.


def test_slices_that_cannot_be(system):
    devices = system.virtual_devices()
    with pytest.raises(rt.SliceError, match=r"slice of 9 devices does not fit .*has 8: ask for"):
        devices.add_slice(9)
    with pytest.raises(rt.SliceError, match="slice of 16"):
        devices.add_slice({"data": 4, "model": 4})
    with pytest.raises(rt.SliceError, match=r"at least one .*\{'data': 0\}"):
        devices.add_slice({"data": 0})
    with pytest.raises(rt.SliceError, match=r"no island 'moon': there are \['local'\]"):
        system.virtual_devices("moon")
    first, second = jax.devices()[:2]
    with pytest.raises(rt.SliceError, match="was given none"):
        rt.Runtime({})
    with pytest.raises(rt.SliceError, match="'empty' has no devices"):
        rt.Runtime({"empty": []})
    with pytest.raises(rt.SliceError, match="in islands 'a', 'b'"):
        rt.Runtime({"a": [first, second], "b": [second]})


def test_limits_that_cannot_be():
    with pytest.raises(ValueError, match="window=1: it takes 2 or more"):
        rt.Runtime(window=1)
    with pytest.raises(ValueError, match=r"patience=0\.0: it must be above 0"):
        rt.Runtime(patience=0.0)
    with rt.Runtime() as system:
        with pytest.raises(ValueError, match="'a' has weight 0"):
            system.client("a", weight=0.0)
        system.client("a")
        with pytest.raises(ValueError, match="a client 'a' already"):
            system.client("a")


# Nodes that fail.


def test_a_node_that_fails_poisons_its_dependents_alone(system, part, add):
    bad = rt.computation(refuse, part, name="bad")
    other = rt.computation(lambda x: x * 2, part, name="other")
    after = rt.computation(lambda x, y: x + y, part, name="after")

    @rt.program(name="p")
    def program(x):
        y = bad(add(x))
        z = other(add(x))
        return y, add(after(y, z)), z

    y, dependent, z = program(X)
    np.testing.assert_array_equal(z.result(), [4, 4])
    for value in (y, dependent):
        with pytest.raises(rt.NodeError, match="'bad' of program 'p' on island 'local'") as caught:
            value.result()
        error = caught.value
        assert (error.node, error.program, error.island) == ("bad", "p", "local")
        assert isinstance(error.__cause__, jax.errors.JaxRuntimeError)
        assert "fails on purpose" in str(error)
        assert value.done()
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.node) == (str(error), "bad")
    with pytest.raises(rt.NodeError, match="'bad' of program 'p'"):
        add(y)
    # The same program goes on with better numbers, and so do others.
    np.testing.assert_array_equal(program(-2 * X)[1].result(), [-2, -2])


def test_an_error_that_is_kept_holds_no_arrays(system, part, add):
    bad = rt.computation(refuse, part, name="bad")
    program = rt.program(lambda x: (add(x), bad(add(x))))
    good, value = program(X)
    kept = []
    for _ in range(2):
        try:
            value.result()
        except rt.NodeError as error:
            kept.append(error)
    assert "The cause was raised here:\nTraceback" in kept[0].__notes__[0]
    assert len(kept[1].__notes__) == 1
    gc.disable()
    try:
        del good, value
        system.drain()
        assert system.store.live() == 0
    finally:
        gc.enable()


def test_an_error_that_shows_later_names_its_node_too(part, add, monkeypatch):
    """As on a GPU: the arrays are given, and fail when they are waited for."""

    class Late:
        nbytes = 8

        def is_deleted(self):
            return False

        def is_ready(self):
            return True

        def block_until_ready(self):
            raise OnPurpose("late")

    def lately(*_):
        return [Late()]

    bad, after = (rt.computation(lambda x: x, part, name=name) for name in ("bad", "after"))
    for one in (bad, after):
        flat, found = one.lower(X)
        for key in flat._executables:
            flat._executables[key] = dataclasses.replace(found, call=lately)
    first, second, good = rt.program(lambda x: (bad(x), after(bad(x)), add(x)), name="p")(X)
    for value in (second, first):
        with pytest.raises(rt.NodeError, match=r"'bad' of program 'p'.*OnPurpose: late") as caught:
            value.result()
        assert isinstance(caught.value.__cause__, OnPurpose)
    assert good.result()[0] == 2


def test_a_node_that_does_not_compile(system, add):
    part = system.virtual_devices().add_slice(2)
    uneven = rt.computation(lambda x: x, part, name="uneven", in_specs=(P("device"),))
    with pytest.raises(rt.NodeError, match="'uneven' of program 'p' on island 'local'") as caught:
        rt.program(lambda x: uneven(add(x)), name="p")(np.ones(3, np.float32))
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_conditional_node_that_fails(part, add):
    def expand(wake, read, inputs):
        raise OnPurpose("in the expansion")

    def program(x):
        from byways.runtime.conditional import Conditional
        from byways.runtime.tracing import builder

        (y,) = builder().conditional(Conditional("choose", 1, expand), part, [x, x], [F32])
        return add(y), add(x)

    bad, good = rt.program(program, name="p")(X)
    assert good.result()[0] == 2
    with pytest.raises(rt.NodeError, match=r"'choose' of program 'p' .*in the expansion") as caught:
        bad.result()
    assert isinstance(caught.value.__cause__, OnPurpose)


def test_a_read_that_fails_stops_no_other(part, add):
    """Two conditional nodes; the first reads what failed, and who asks is the second's."""
    bad = rt.computation(refuse, part, name="bad")

    @rt.program(name="p")
    def program(x):
        return wait_at(bad(x), x, part, "one"), add(wait_at(add(x), x, part, "two"))

    first, second = program(X)
    np.testing.assert_array_equal(second.result(), [2, 2])
    with pytest.raises(rt.NodeError, match="'bad'"):
        first.result()


def test_numbers_that_are_not_finite():
    with rt.Runtime(checks=True) as system:
        part = system.virtual_devices().add_slice(1)
        root = rt.computation(lambda x: (jnp.sqrt(x), x), part, name="root")
        add = rt.computation(lambda x: x + 1, part)
        program = rt.program(lambda x: add(root(x)[0]), name="p")
        assert program(X).result()[0] == 2
        with pytest.raises(rt.NotFiniteError, match=r"'root' of program 'p'.*output 0 is not fin"):
            program(-X).result()
        switch = rt.switch(lambda w, rows: rows / w, part, jnp.ones(()), 2, name="experts")
        weights = rt.Branches([jnp.ones(()), jnp.zeros(())])
        counts = np.array([2, 0], np.int32)
        rows = np.ones((2, 3), np.float32)
        assert switch(counts, rows, weights).result().shape == (2, 3)
        with pytest.raises(rt.NotFiniteError, match="experts 1 of 2"):
            switch(counts[::-1].copy(), rows, weights).result()
    assert system.store.live() == 0


def test_an_interrupt_between_nodes(system, part, add):
    def interrupt(x):
        raise KeyboardInterrupt

    node = rt.computation(lambda x: x, part, name="node")
    flat, found = node.lower(X)
    for key in flat._executables:
        flat._executables[key] = dataclasses.replace(found, call=interrupt)
    with pytest.raises(KeyboardInterrupt):
        rt.program(lambda x: (add(x), node(x)))(X)
    assert add(X).result()[0] == 2


# Values that are gone.


def test_use_after_release(add):
    value = add(X)
    value.release()
    value.release()
    assert value.done()
    for use in (value.result, value.array, lambda: add(value), lambda: np.asarray(value)):
        with pytest.raises(rt.ValueReleased, match=r"Value\(float32\[2\] of node 'add'.*released"):
            use()


def test_a_client_that_leaves_without_releasing(system, part):
    count = rt.computation(lambda x: x, part, name="count")
    big = rt.computation(lambda x: jnp.broadcast_to(x, (1000, 2)), part)
    count.lower(X)
    client = system.client("guest")
    with held_back(count), client:
        held = [big(X) for _ in range(3)]
        waits = rt.program(lambda x: big(wait_at(count(x), x, part)))(X)
        assert system.store.holders("local")["guest"] >= 3 * 8000
        assert client.runs
        client.close()
        assert system.store.holders("local") == {}
        assert not client.runs
        for value in (*held, waits):
            with pytest.raises(rt.ValueReleased, match="its client 'guest' left"):
                value.result()
        with pytest.raises(rt.ValueReleased, match="'guest' has left: make another"):
            big(X)
    assert big(X).result().shape == (1000, 2)  # others go on
    with pytest.raises(rt.ValueReleased, match="has left"), client:
        pass
    assert system.client("guest") is not client


def test_a_runtime_that_was_closed():
    with rt.Runtime() as system:
        part = system.virtual_devices().add_slice(1)
        add = rt.computation(lambda x: x + 1, part)
        value = add(X)
    system.close()
    with pytest.raises(rt.ValueReleased, match="'default' left"):
        value.result()
    with pytest.raises(rt.ValueReleased, match="'default' has left"):
        add(X)


def test_a_loop_that_drops_its_results_holds_nothing(system, part, add):
    for _ in range(30):
        add(X)
    system.drain()
    assert system.store.live() == 0
    # Also where a run waits, and nobody will ask for its results.
    count = rt.computation(lambda x: x, part, name="count")
    count.lower(X)
    with held_back(count):
        rt.program(lambda x: add(wait_at(count(x), x, part)))(X)
        assert system.default.runs
        system.poll()
        assert not system.default.runs
        assert system.store.live() == 0


# Islands that are lost.


def test_an_island_that_is_lost_while_programs_run():
    with pair(1) as system:
        here, there = (system.virtual_devices(name).add_slice(1) for name in ("here", "there"))
        count = rt.computation(lambda x: x, here, name="count")
        near = rt.computation(lambda x: x + 1, here, name="near")
        far = rt.computation(lambda x: x * 2, there, name="far")
        count.lower(X)

        @rt.program(name="p")
        def program(x):
            y = wait_at(count(x), x, here)
            left = far(x)
            return near(y), far(near(y)), near(wait_at(count(x), left, here)), left

        with held_back(count) as door:
            safe, needs, took, left = program(X)
            alone = near(X)
            system.lose_island("there")
            door.set()
            np.testing.assert_array_equal(safe.result(), [2, 2])
            np.testing.assert_array_equal(alone.result(), [2, 2])
            for value in (needs, left):
                with pytest.raises(rt.IslandLost, match="'there' is lost"):
                    value.result()
            assert took.result()[0] == 3  # the copy was here already
            with pytest.raises(rt.IslandLost):
                far(X)
            with pytest.raises(rt.IslandLost, match="take another"):
                system.virtual_devices("there").add_slice(1)
            with pytest.raises(rt.IslandLost):
                near(left)
            assert system.virtual_devices().island.name == "here"
            assert near(X).result()[0] == 2
        with pytest.raises(rt.SliceError, match="no island 'moon'"):
            system.lose_island("moon")
    assert system.store.live() == 0


# Waiting.


def test_a_result_that_does_not_come_in_time(part, add):
    big = jnp.eye(400) * 0.5
    node = rt.computation(slow, part, name="slow")
    node(big).result()
    value = node(big)
    began = time.monotonic()
    with pytest.raises(rt.RunTimeout, match="node 'slow' of program 'slow' was not there after"):
        value.result(timeout=0.005)
    assert time.monotonic() - began < 5
    with pytest.raises(rt.RunTimeout):
        rt.fetch([value], timeout=0.001)
    assert not value.done()
    assert value.result(timeout=60.0).shape == (400, 400)
    assert add(X).result(timeout=10.0)[0] == 2


def test_the_patience_of_a_runtime(part):
    with rt.Runtime(patience=0.02) as system:
        part = system.virtual_devices().add_slice(1)
        count, add = (rt.computation(lambda x: x + 1, part, name=n) for n in ("count", "add"))
        count.lower(X)
        with held_back(count) as door:
            value = rt.program(lambda x: add(wait_at(count(x), x, part)), name="p")(X)
            with pytest.raises(rt.RunTimeout, match="node 'gate' of program 'p'"):
                value.result()
            door.set()
            assert value.result()[0] == 2


def test_the_watchdog_says_what_is_in_flight():
    with rt.Runtime(watchdog=0.2) as system:
        part = system.virtual_devices().add_slice(1)
        count = rt.computation(lambda x: x, part, name="count")
        count.lower(X)
        with held_back(count) as door:
            value = rt.program(lambda x: count(x), name="p")(X)
            words = r"'local' has ended nothing for 0\.2 s.*'count'"
            with pytest.warns(RuntimeWarning, match=words):
                time.sleep(0.5)
            door.set()
            value.result()


def test_cancelling_what_was_not_sent(system, part, add):
    count = rt.computation(lambda x: x, part, name="count")
    count.lower(X)
    with held_back(count) as door:
        sent, waits = rt.program(lambda x: (add(x), add(wait_at(count(x), x, part))), name="p")(X)
        waits.cancel()
        with pytest.raises(rt.Cancelled, match=r"run .* of program 'p' was cancelled"):
            waits.result()
        assert waits.done()
        assert sent.result()[0] == 2
        door.set()
    done = add(X)
    done.cancel()  # all of it was sent
    assert done.result()[0] == 2


def test_awaiting(part, add):
    count = rt.computation(lambda x: x, part, name="count")
    bad = rt.computation(refuse, part, name="bad")
    count.lower(X)

    async def both(door):
        value = rt.program(lambda x: add(wait_at(count(x), x, part)))(X)
        other = add(X)
        assert (await other)[0] == 2
        threading.Timer(0.05, door.set).start()
        assert [int(x[0]) for x in await asyncio.gather(waited(value), waited(other))] == [2, 2]
        with pytest.raises(rt.NodeError, match="'bad'"):
            await bad(X)

    async def waited(value):
        return await value

    with held_back(count) as door:
        asyncio.run(both(door))


def test_blocking_on_trees_of_futures(part, add):
    tree = {"a": add(X), "b": (add(2 * X), 3)}
    assert jax.block_until_ready(tree) is not None
    assert tree["a"].done()
    bad = rt.computation(refuse, part, name="bad")
    with pytest.raises(rt.NodeError, match="'bad'"):
        jax.block_until_ready([bad(X)])
