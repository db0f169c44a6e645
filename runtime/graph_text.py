"""A graph as text: a line a node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .graph import Graph, Node, Ref, Shape, opaque
from .resources import Slice


def graph_text(graph: Graph) -> str:
    """What `print(graph)` shows.

    Arguments and constants first, then calls in the order of dispatch, each with its slice and
    what it makes; `donated` stands before an input whose buffer the node takes over, `if any`
    before a conditional node.
    """
    names, slices = node_names(graph), slice_names(graph)
    rows = []
    for node in graph.nodes:
        if node.kind in ("argument", "constant"):
            # A constant's name says its shape, which stands behind anyway.
            said = node.kind
        else:
            inputs = ", ".join(
                f"donated {_ref(graph, names, ref)}"
                if n in node.donated
                else _ref(graph, names, ref)
                for n, ref in enumerate(node.inputs)
            )
            maybe = "if any " if node.kind == "conditional" else ""
            said = f"{maybe}{node.name}({inputs})"
        where = "" if node.slice is None else f"on {slices[id(node.slice)]}"
        outs = [value_text(graph, Ref(node.index, n)) for n in range(len(node.outputs))]
        made = ", ".join(outs) or "nothing"
        rows.append((names[node.index], said, where, made))
    widths = [min(max((len(row[n]) for row in rows), default=0), w) for n, w in enumerate(_WIDEST)]
    calls = sum(node.kind in ("computation", "conditional") for node in graph.nodes)
    head = f"program {graph.name}: {_count(calls, 'node')} on {_count(len(slices), 'slice')}"
    lines = [head]
    for name, said, where, made in rows:
        left = f"  {name:<{widths[0]}} = {said:<{widths[1]}}  {where:<{widths[2]}}"
        lines.append(f"{left}  -> {made}".replace("\n", " "))
    returned = ", ".join(_ref(graph, names, ref) for ref in graph.outputs)
    lines.append(f"  returns {returned or 'nothing'}")
    return "\n".join(lines)


# Columns grow no wider than this; a longer cell only pushes its own line.
_WIDEST = (24, 48, 24)


def node_names(graph: Graph) -> list[str]:
    """A name for each node that no other has: its own, with its index where that is not enough."""
    plain = ["constant" if node.kind == "constant" else node.name for node in graph.nodes]
    often = Counter(plain)
    taken = {name for name in plain if often[name] == 1}
    found = []
    for node, name in zip(graph.nodes, plain, strict=True):
        unique = name
        if often[name] > 1:
            unique = f"{name}:{node.index}"
            while unique in taken:
                unique += "'"
            taken.add(unique)
        found.append(unique)
    return found


def slices_by_island(graph: Graph) -> dict[str, list[Slice]]:
    """The slices of a graph's nodes by their island's name, in order of first use."""
    found: dict[str, list[Slice]] = {}
    for node in graph.nodes:
        if node.slice is not None:
            mine = found.setdefault(node.slice.island.name, [])
            if not any(node.slice is other for other in mine):
                mine.append(node.slice)
    return found


def slice_names(graph: Graph) -> dict[int, str]:
    """Names by `id` of the slice: island and mesh, numbered where an island has several."""
    found = {}
    for island, slices in slices_by_island(graph).items():
        for n, part in enumerate(slices):
            number = f"#{n}" if len(slices) > 1 else ""
            found[id(part)] = f"{island}{number} {mesh_text(part)}".rstrip()
    return found


def mesh_text(part: Slice) -> str:
    """The shape of a slice: `2x4`; one device needs no words.

    Examples:
        >>> import jax
        >>> from byways.runtime.resources import ResourceManager, Slice
        >>> manager = ResourceManager({"pod": jax.devices()[:1]})
        >>> mesh_text(Slice(manager, manager.island("pod"), {"data": 2, "model": 4}))
        '2x4'
    """
    return "" if part.size == 1 else "x".join(map(str, part.shape.values()))


def shape_text(shape: Shape) -> str:
    """`float32[8,16]`.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> shape_text(jax.ShapeDtypeStruct((8, 16), jnp.float32))
        'float32[8,16]'
    """
    return f"{shape.dtype}[{','.join(map(str, shape.shape))}]"


def value_text(graph: Graph, ref: Ref) -> str:
    """Its shape; of what is no array what it is: `branches`, what is `kept`, `sparse` gradients."""
    shape, node = graph.shape(ref), graph.nodes[ref.node]
    if not opaque(shape):
        return shape_text(shape)
    if node.kind in ("argument", "constant"):
        return "branches"
    # What a backward will need is the last of several outputs; gradients are the first.
    return "kept" if ref.output else "sparse"


def _ref(graph: Graph, names: Sequence[str], ref: Ref) -> str:
    node: Node = graph.nodes[ref.node]
    return names[ref.node] + (f"[{ref.output}]" if len(node.outputs) > 1 else "")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
