"""Programs, slices and limits that cannot be: an error as early as can be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.runtime.graph import Graph, Node, Ref, Shape
from jax.sharding import PartitionSpec as P

from byways import runtime as rt

from .islands import all_devices

F32 = Shape((2,), jnp.float32)
X = np.ones(2, np.float32)


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
    first, second = all_devices()[:2]
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
