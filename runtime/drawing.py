"""A graph as a picture: Mermaid for pages, DOT for Graphviz."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from .graph import Graph, Node, Ref
from .graph_text import mesh_text, slices_by_island, value_text

# A chain of so many equal nodes is drawn as its first, the rest in one, and its last.
_LONGEST_RUN = 5

BoxKind = Literal["argument", "constant", "computation", "conditional", "folded", "returned"]


@dataclasses.dataclass(frozen=True)
class Box:
    """What is drawn of a node, or of a folded run of them.

    Attributes:
        id: `n3`, for the drawing's language.
        kind: decides the shape.
        label: for people, not escaped.
        slice: `id` of the slice that it is on; None of arguments, constants and the result.
    """

    id: str
    kind: BoxKind
    label: str
    slice: int | None = None


@dataclasses.dataclass(frozen=True)
class Edge:
    """One or more values from one box to another.

    Attributes:
        source, target: ids of boxes.
        label: shapes, not escaped.
        donated: the target takes a buffer over.
    """

    source: str
    target: str
    label: str
    donated: bool


def mermaid(graph: Graph) -> str:
    """A Mermaid flow chart: a box for each slice, within one for each island.

    Arguments are stadiums, constants slanted, conditional nodes hexagons, a folded run of equal
    nodes has double sides, and what is returned is round. Thick arrows are donations.
    """
    boxes, edges = _picture(graph)
    shapes: dict[BoxKind, tuple[str, str]] = {
        "argument": ("([", "])"),
        "constant": ("[/", "/]"),
        "computation": ("[", "]"),
        "conditional": ("{{", "}}"),
        "folded": ("[[", "]]"),
        "returned": ("((", "))"),
    }

    def box(one: Box) -> str:
        left, right = shapes[one.kind]
        return f'{one.id}{left}"{_mermaid_text(one.label)}"{right}'

    lines = ["---", f"title: {_yaml_text(graph.name)}", "---", "flowchart TD"]
    lines += _grouped(
        graph,
        boxes,
        box,
        lambda name, label: f'subgraph {name}["{_mermaid_text(label)}"]',
        "end",
    )
    for edge in edges:
        arrow = "==>" if edge.donated else "-->"
        lines.append(f'  {edge.source} {arrow}|"{_mermaid_text(edge.label)}"| {edge.target}')
    return "\n".join(lines) + "\n"


def graphviz(graph: Graph) -> str:
    """A drawing in DOT, with the same groups as `mermaid`'s."""
    boxes, edges = _picture(graph)
    shapes: dict[BoxKind, str] = {
        "argument": "shape=oval",
        "constant": "shape=parallelogram",
        "computation": "shape=box",
        "conditional": "shape=hexagon",
        "folded": "shape=box3d",
        "returned": "shape=doublecircle",
    }

    def box(one: Box) -> str:
        return f"{one.id} [label={_dot_text(one.label)}, {shapes[one.kind]}];"

    lines = [
        f"digraph {_dot_text(graph.name)} {{",
        "  node [fontname=sans];",
        "  edge [fontname=sans, fontsize=10];",
    ]
    lines += _grouped(
        graph,
        boxes,
        box,
        lambda name, label: f"subgraph cluster_{name} {{ label={_dot_text(label)};",
        "}",
    )
    for edge in edges:
        style = ", style=bold" if edge.donated else ""
        label = _dot_text(edge.label)
        lines.append(f"  {edge.source} -> {edge.target} [label={label}{style}];")
    return "\n".join([*lines, "}"]) + "\n"


def _picture(graph: Graph) -> tuple[list[Box], list[Edge]]:
    """Boxes and edges, with long runs folded."""
    box_of: dict[int, Box] = {}
    boxes: list[Box] = []
    for run in _runs(graph):
        if len(run) >= _LONGEST_RUN:
            middle = run[1:-1]
            folded = dataclasses.replace(
                _box(middle[0]), kind="folded", label=f"{middle[0].name}\n× {len(middle)}"
            )
            drawn = [([run[0]], _box(run[0])), (middle, folded), ([run[-1]], _box(run[-1]))]
        else:
            drawn = [([node], _box(node)) for node in run]
        for nodes, box in drawn:
            boxes.append(box)
            box_of.update((node.index, box) for node in nodes)
    values: dict[tuple[str, str, bool], list[Ref]] = {}
    for node in graph.nodes:
        for n, ref in enumerate(node.inputs):
            source, target = box_of[ref.node], box_of[node.index]
            if source is not target:
                key = source.id, target.id, n in node.donated
                values.setdefault(key, []).append(ref)
    if graph.outputs:
        boxes.append(Box("result", "returned", "returned"))
        for ref in graph.outputs:
            values.setdefault((box_of[ref.node].id, "result", False), []).append(ref)
    edges = [
        Edge(source, target, _values_text(graph, refs), donated)
        for (source, target, donated), refs in values.items()
    ]
    return boxes, edges


def _box(node: Node) -> Box:
    # A constant is named by its shape, which its arrow says.
    label = "constant" if node.kind == "constant" else node.name
    return Box(f"n{node.index}", node.kind, label, None if node.slice is None else id(node.slice))


def _values_text(graph: Graph, refs: Sequence[Ref]) -> str:
    """Shapes of what goes along an edge, each once with how often."""
    counts: dict[str, int] = {}
    for ref in dict.fromkeys(refs):
        text = value_text(graph, ref)
        counts[text] = counts.get(text, 0) + 1
    lines = [text if n == 1 else f"{n} × {text}" for text, n in counts.items()]
    if len(lines) > 3:
        lines = [*lines[:2], f"and {len(lines) - 2} more shapes"]
    return "\n".join(lines)


def _runs(graph: Graph) -> Iterator[list[Node]]:
    """The nodes in order; those in a chain of equal ones together."""
    users: dict[int, set[int]] = {}
    for node in graph.nodes:
        for ref in node.inputs:
            users.setdefault(ref.node, set()).add(node.index)
    returned = {ref.node for ref in graph.outputs}
    run: list[Node] = []
    for node in graph.nodes:
        if run and not _goes_on(graph, run[-1], node, users, returned):
            yield run
            run = []
        run.append(node)
    if run:
        yield run


def _goes_on(
    graph: Graph, before: Node, node: Node, users: dict[int, set[int]], returned: set[int]
) -> bool:
    """Whether `node` is the same call as `before`, on its output, which nobody else needs."""
    makers = {graph.nodes[ref.node].index for ref in node.inputs}
    worked = {m for m in makers if graph.nodes[m].kind in ("computation", "conditional")}
    return (
        node.kind == before.kind == "computation"
        and (node.name, node.slice, node.outputs) == (before.name, before.slice, before.outputs)
        and worked == {before.index}
        and users.get(before.index) == {node.index}
        and before.index not in returned
    )


def _grouped(
    graph: Graph,
    boxes: Sequence[Box],
    draw: Callable[[Box], str],
    begin: Callable[[str, str], str],
    end: str,
) -> list[str]:
    """Lines of the boxes: first those on no slice, then by island and slice."""
    lines = [f"  {draw(box)}" for box in boxes if box.slice is None]
    for i, (island, slices) in enumerate(slices_by_island(graph).items()):
        lines.append(f"  {begin(f'island{i}', f'island {island}')}")
        for n, part in enumerate(slices):
            mine = [box for box in boxes if box.slice == id(part)]
            label = f"slice {n}: {mesh_text(part) or 'one'} device" + ("s" * (part.size > 1))
            lines.append(f"    {begin(f'slice{i}_{n}', label)}")
            lines += [f"      {draw(box)}" for box in mine]
            lines.append(f"    {end}")
        lines.append(f"  {end}")
    return lines


def _mermaid_text(text: str) -> str:
    """Text inside quotes: whatever could be taken for markup as a character code.

    Examples:
        >>> _mermaid_text('say "#1" <b>')
        'say #34;#35;1#34; #60;b#62;'
    """
    plain = " .,:;×=+-_/()[]"
    found = [
        c if c.isalnum() or c in plain else "<br>" if c == "\n" else f"#{ord(c)};" for c in text
    ]
    return "".join(found)


def _yaml_text(text: str) -> str:
    """A YAML scalar in single quotes, on one line."""
    return "'" + " ".join(text.split()).replace("'", "''") + "'"


def _dot_text(text: str) -> str:
    r"""A DOT string, in which `\N`, `&amp;` and the like stay what they are.

    Examples:
        >>> print(_dot_text('a\\N "b" & c'))
        "a\\N \"b\" &amp; c"
    """
    text = text.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')
    return '"' + text.replace("\n", "\\n") + '"'
