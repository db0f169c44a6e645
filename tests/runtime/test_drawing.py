"""Graphs as text and as pictures, of programs by hand."""

import re

import jax
import jax.numpy as jnp
import pytest
from byways.runtime.conditional import Conditional
from byways.runtime.graph import Graph, Node, Ref, Shape

from byways import runtime as rt

F32 = jnp.float32


@pytest.fixture
def system():
    devices = jax.devices()
    with rt.Runtime({"pod": devices[:1], 'far "one"': devices[1:]}) as made:
        yield made


@pytest.fixture
def graph(system):
    """x, w and a constant into `dense`, eight blocks on four devices, and an end that takes w."""
    near = system.virtual_devices("pod").add_slice(1)
    far = system.virtual_devices('far "one"')
    square, pair = far.add_slice({"data": 2, "model": 2}), far.add_slice(2)
    dense = rt.computation(lambda x, w, k: x @ w + k, near, name='dense <#1> "q"')
    block = rt.computation(lambda h: h + 1, square, name="block")
    end = rt.computation(lambda h, w: (h.sum(), w), pair, name="end", donate=(1,))
    k = jnp.ones(16)

    def step(batch, w):
        h = dense(batch["x"], w, k)
        for _ in range(8):
            h = block(h)
        return end(h, w)

    program = rt.Program(step, name="step")
    return program.trace({"x": Shape((8, 16), F32)}, Shape((16, 16), F32))


@pytest.fixture
def routed(system):
    """A router whose counts decide what a conditional node becomes."""
    part = system.virtual_devices("pod").add_slice(1)
    waking = Conditional("experts", 1, lambda wake, read, inputs: inputs)
    x, counts = Shape((8, 4), F32), Shape((2,), jnp.int32)
    nodes = (
        Node(0, "argument", "x", (), (x,)),
        Node(1, "argument", "counts", (), (counts,)),
        Node(2, "conditional", "experts", (Ref(1, 0), Ref(0, 0)), (x,), part, conditional=waking),
    )
    return Graph("routed", nodes, (Ref(2, 0),), None, None)


def test_text_says_a_line_a_node_and_what_is_returned(graph):
    lines = str(graph).splitlines()
    assert lines[0] == "program step: 10 nodes on 3 slices"
    # Two arguments, a constant, dense, eight blocks, end; the head and what is returned.
    assert len(lines) == 13 + 2
    body = [re.sub(" +", " ", line).strip() for line in lines[1:]]
    assert body[0] == "arg[0]['x'] = argument -> float32[8,16]"
    assert "constant = constant -> float32[16]" in body
    assert (
        'dense <#1> "q" = dense <#1> "q"(arg[0][\'x\'], arg[1], constant) on pod -> float32[8,16]'
    ) in body
    # Nodes 0, 1 are the arguments, 2 the constant (or 3, by when it is met), so blocks 4 to 11.
    assert 'block:5 = block(block:4) on far "one"#0 2x2 -> float32[8,16]' in body
    last = 'end = end(block:11, donated arg[1]) on far "one"#1 2 -> float32[], float32[16,16]'
    assert body[-2] == last
    assert body[-1] == "returns end[0], end[1]"


def test_text_of_a_conditional_node(routed):
    assert "if any experts(counts, x)" in str(routed)
    assert str(routed).startswith("program routed: 1 node on 1 slice\n")


def test_what_is_no_array(system):
    """The parameters of a switch's branches, what its forward keeps of them, their gradients."""
    part = system.virtual_devices("pod").add_slice(1)
    switch = rt.switch(lambda w, rows: rows * w, part, Shape((), F32), 3, name="experts")
    total = rt.computation(lambda y: y.sum(), part, name="total")
    loss = rt.program(lambda counts, rows, bank: total(switch(counts, rows, bank)))
    bank = rt.Branches([jnp.float32(n) for n in range(3)])
    graph = rt.value_and_grad(loss, 2).trace(Shape((3,), jnp.int32), Shape((8, 2), F32), bank)
    lines = {line.split("=")[0].strip(): line.split("->")[-1] for line in str(graph).splitlines()}
    assert lines["arg[2]"] == " branches"
    assert lines["experts"] == " float32[8,2], kept"
    assert lines["experts backward"] == " sparse, float32[8,2]"
    for text in ("branches", "kept", "sparse"):
        assert f'-->|"{text}"|' in graph.mermaid()


def test_names_that_look_like_indices_stay_apart():
    shape = (Shape((), F32),)
    names = ["f", "f", "f:0"]
    nodes = tuple(Node(n, "argument", name, (), shape) for n, name in enumerate(names))
    lines = str(Graph("p", nodes, (), None, None)).splitlines()[1:-1]
    assert len({line.split("=")[0] for line in lines}) == 3


def balanced(lines, begins, ends):
    """Groups are opened and closed properly; gives how deep they go."""
    depth = deepest = 0
    for line in lines:
        depth += line.strip().startswith(begins)
        depth -= line.strip() == ends
        assert depth >= 0
        deepest = max(deepest, depth)
    assert depth == 0
    return deepest


def test_mermaid(graph):
    text = graph.mermaid()
    lines = text.splitlines()
    assert lines[:4] == ["---", "title: 'step'", "---", "flowchart TD"]
    assert balanced(lines, "subgraph", "end") == 2  # a slice within an island
    assert "arg[0][#39;x#39;]" in text
    assert '["dense #60;#35;1#62; #34;q#34;"]' in text
    assert "island far #34;one#34;" in text
    assert '[["block<br>× 6"]]' in text  # the first and the last of eight stand apart
    assert text.count('"block"') == 2
    assert '==>|"float32[16,16]"|' in text  # the donation
    assert '-->|"float32[]<br>float32[16,16]"| result' in text


def test_graphviz(graph):
    text = graph.graphviz()
    lines = text.splitlines()
    assert lines[0] == 'digraph "step" {'
    inside = lines[1:-1]
    assert balanced(inside, "subgraph", "}") == 2
    assert 'label="dense <#1> \\"q\\"", shape=box' in text
    assert 'label="block\\n× 6", shape=box3d' in text
    assert text.count("style=bold") == 1
    # Quotes are in pairs once those that are escaped are taken out.
    assert all(line.replace('\\"', "").count('"') % 2 == 0 for line in lines)


def test_every_edge_joins_boxes_that_are_drawn(graph, routed):
    for one in (graph, routed):
        drawn = re.findall(r"^ +(\w+) \[label", one.graphviz(), re.M)
        assert len(drawn) == len(set(drawn))
        ends = re.findall(r"^  (\w+) -> (\w+)", one.graphviz(), re.M)
        assert ends
        assert {name for pair in ends for name in pair} <= set(drawn)
        same = re.findall(r'^  (\w+) [-=]+>\|"[^"]*"\| (\w+)$', one.mermaid(), re.M)
        assert sorted(same) == sorted(ends)


def test_arguments_constants_and_conditional_nodes_have_shapes_of_their_own(graph, routed):
    assert 'n0(["arg' in graph.mermaid()
    assert '[/"constant"/]' in graph.mermaid()
    assert 'n2{{"experts"}}' in routed.mermaid()
    assert 'result(("returned"))' in routed.mermaid()
    shapes = set(re.findall(r"shape=(\w+)", graph.graphviz() + routed.graphviz()))
    assert shapes == {"oval", "parallelogram", "box", "box3d", "hexagon", "doublecircle"}


def test_a_chain_that_someone_else_looks_into_is_not_folded(system):
    part = system.virtual_devices("pod").add_slice(1)
    f = rt.computation(lambda h: h + 1, part, name="f")

    def chain(h):
        made = [h := f(h) for _ in range(8)]
        return made[3], made[-1]

    graph = rt.Program(chain).trace(Shape((), F32))
    # Four until the one that is returned, and four after: both too short to fold.
    assert graph.mermaid().count('"f"') == 8


def test_many_values_between_two_nodes_are_one_arrow(system):
    part = system.virtual_devices("pod").add_slice(1)
    many = rt.computation(lambda x: [x[: n // 2 + 1] for n in range(10)], part, name="many")
    join = rt.computation(lambda xs: sum(x.sum() for x in xs), part, name="join")
    text = rt.Program(lambda x: join(many(x))).trace(Shape((9,), F32)).mermaid()
    assert '|"2 × float32[1]<br>2 × float32[2]<br>and 3 more shapes"|' in text


def test_names_in_yaml_and_dot_that_would_be_markup():
    node = Node(0, "argument", "a\\N & b\n|c`", (), (Shape((), F32),))
    graph = Graph("it's\n#1", (node,), (Ref(0, 0),), None, None)
    assert "title: 'it''s #1'" in graph.mermaid()
    assert "a#92;N #38; b<br>#124;c#96;" in graph.mermaid()
    assert 'label="a\\\\N &amp; b\\n|c`"' in graph.graphviz()


def test_an_empty_graph_is_drawn():
    graph = Graph("nothing", (), (), None, None)
    assert graph.mermaid().endswith("flowchart TD\n")
    assert graph.graphviz().endswith("}\n")
    assert str(graph).endswith("returns nothing")
