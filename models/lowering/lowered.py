"""`lower`: a function of a sparse model as segments and the experts that are awake."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from .buckets import Ladder, ladder
from .cut import Cut, ExpertCall, Segment, cut
from .flatten import flat_trace
from .nodes import backward_node, forward_node, merge
from .per_expert import PerExpert, split_experts

Var = core.Var
Emit = Callable[..., Any]


def _call(program: Callable[..., Any], *args: Any) -> Any:
    return program(*args)


def lower(
    fn: Callable[..., Any],
    *args: Any,
    devices: Sequence[jax.Device] | None = None,
    together: int = 4,
    save: bool = True,
    emit: Emit = _call,
) -> Lowered:
    """Lower a function that holds experts, a forward pass or a whole objective.

    It is traced once, for arguments of these shapes, and cut at each call of experts that the
    dispatcher `pathways` leaves in it. What stands between two calls is one jitted program; the
    experts are a program each, or some together, dispatched once their numbers of rows are
    known, for those alone that have any.

    Args:
        fn: its experts' weights must be arguments (leaves of them) as they are, which nothing
            else reads.
        args: arrays, or `jax.ShapeDtypeStruct`s.
        devices: where the experts live, expert e of each layer on device e mod P; everything else is
            on the first. None is the first of `jax.devices()` alone.
        together: so many experts with equal buckets share a program.
        save: keep the sums before the GELU for the backward pass, (R, H) in all.
        emit: `emit(program, *args)` dispatches.

    Raises:
        ValueError: no experts, or some that cannot be cut out (see the message).
    """
    flat, tree = jax.tree.flatten_with_path(args)
    names = [jax.tree_util.keystr(path) for path, _ in flat]
    closed, shapes = flat_trace(fn, *args)
    results = jax.tree.structure(shapes)
    homes = tuple(devices) if devices else (jax.devices()[0],)
    return Lowered(
        cut(closed, names), tree, results, homes, together=together, save=save, emit=emit
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Spread:
    """(R, D) over devices, a buffer of each, brought to the first."""

    buffers: tuple[Any, ...]
    sizes: Any


@dataclasses.dataclass(frozen=True)
class _Awake:
    """Some experts of a call on one device, which share a program."""

    home: int
    experts: tuple[int, ...]
    bucket: int
    spans: np.ndarray


@dataclasses.dataclass
class _Kept:
    """What the backward pass of experts needs of the forward."""

    awake: list[_Awake]
    rows: list[Any]
    sums: list[Any]


class Lowered:
    """A lowered function; call it as the function, with experts split (`split`).

    Attributes:
        cut: the segments.
        devices: of the experts.
        experts: positions of the flat arguments that hold experts.
    """

    def __init__(self, cut, tree, results, devices, *, together, save, emit):
        self.cut: Cut = cut
        self.devices: tuple[jax.Device, ...] = devices
        self.experts = frozenset(i for call in cut.calls for i in call.weights)
        self._tree, self._results = tree, results
        self._together, self._save, self._emit = together, save, emit
        self._constants = {v: jnp.asarray(x) for v, x in cut.constants.items()}
        self._ladders = [ladder(call.rows.aval.shape[0]) for call in cut.calls]
        self._forward = [self._forward_program(s) for s in cut.segments]
        self._gradients: dict[tuple[int, ...], _Gradients] = {}

    def split(self, *args: Any) -> tuple[Any, ...]:
        """The arguments with experts apart, each on its device (`PerExpert`); bit for bit."""
        flat = self._tree.flatten_up_to(args)
        flat = [
            split_experts(x, self.devices) if i in self.experts else x for i, x in enumerate(flat)
        ]
        return jax.tree.unflatten(self._tree, flat)

    def join(self, *args: Any) -> tuple[Any, ...]:
        """The inverse of `split`."""
        flat = self._tree.flatten_up_to(args)
        flat = [x.stacked() if isinstance(x, PerExpert) else x for x in flat]
        return jax.tree.unflatten(self._tree, flat)

    def __call__(self, *args: Any) -> Any:
        """The function's results."""
        env = self._environment(args)
        for i, segment in enumerate(self.cut.segments):
            self._run(self._forward[i], segment, env)
            if i < len(self.cut.calls):
                self._experts(i, env, train=False)
        return self._out(env)

    def value_and_grad(self, wrt: int | tuple[int, ...] = 0) -> Callable[..., Any]:
        """As `jax.value_and_grad` of the function's first result, which is a scalar.

        The function made takes the same arguments as this one and returns `(results, gradients)`:
        all results, and a tree like the argument, or a tuple of them, with a `PerExpert` of
        awake experts alone for each leaf of experts.
        """
        numbers = (wrt,) if isinstance(wrt, int) else tuple(wrt)
        counts = [t.num_leaves for t in self._tree.children()]
        leaves = np.split(np.arange(sum(counts)), np.cumsum(counts)[:-1])
        wanted = tuple(int(i) for n in numbers for i in leaves[n])
        if wanted not in self._gradients:
            self._gradients[wanted] = _Gradients(self, wanted)
        gradients = self._gradients[wanted]

        def run(*args: Any):
            results, found = gradients(args)
            trees = tuple(
                jax.tree.unflatten(self._tree.children()[n], [found[int(i)] for i in leaves[n]])
                for n in numbers
            )
            return results, trees[0] if isinstance(wrt, int) else trees

        return run

    # What both directions are made of.

    def _forward_program(self, segment: Segment):
        def run(inputs):
            return segment.function(*[_resolved(x) for x in inputs])

        return jax.jit(run)

    def _environment(self, args: tuple[Any, ...]) -> dict[Var, Any]:
        flat = self._tree.flatten_up_to(args)
        return dict(self._constants) | dict(zip(self.cut.arguments, flat, strict=True))

    def _run(self, program, segment: Segment, env: dict[Var, Any]) -> None:
        outs = self._emit(program, [env[v] for v in segment.inputs])
        env.update(zip(segment.outputs, outs, strict=True))

    def _out(self, env: dict[Var, Any]) -> Any:
        flat = [env[r] if isinstance(r, core.Var) else r for r in self.cut.results]
        return jax.tree.unflatten(self._results, flat)

    def _weights(self, call: ExpertCall, env, experts: Sequence[int]):
        parts = [env[self.cut.arguments[i]].arrays for i in call.weights]
        return [tuple(part[e] for part in parts) for e in experts]

    def _experts(self, number: int, env: dict[Var, Any], *, train: bool) -> _Kept:
        """Read who is awake, and run them."""
        call, homes = self.cut.calls[number], self.devices
        rows, sizes = env[call.rows], env[call.sizes]
        awake = self._grouped(np.asarray(sizes), self._ladders[number])
        used = {group.home for group in awake}
        copies = _copies(rows, homes, used)
        kept = _Kept(awake, list(copies), [])
        # Only the rows of an argument, or of others' use, must stay as they are.
        in_place = not train and (len(homes) > 1 or self._ours(number))
        if in_place and not self._ours(number):
            copies[0] = self._emit(_copied, rows)
        buffers = (
            copies
            if in_place
            else [self._emit(_zeros, c) if h in used else None for h, c in enumerate(copies)]
        )
        for group in awake:
            h = group.home
            weights = self._weights(call, env, group.experts)
            node = forward_node(
                call.activation, group.bucket, len(group.experts), in_place=in_place
            )
            if in_place:
                buffers[h] = self._emit(node, buffers[h], group.spans, weights)
            else:
                buffers[h], sums = self._emit(node, buffers[h], copies[h], group.spans, weights)
                kept.sums.append(sums if self._save and train else None)
        env[call.out] = self._together_again(buffers, rows, sizes)
        if in_place and self._ours(number):
            del env[call.rows]
        return kept

    def _ours(self, number: int) -> bool:
        """Whether the rows of this call are made by a segment and read by no other."""
        rows = self.cut.calls[number].rows
        return (
            any(rows in s.outputs for s in self.cut.segments)
            and not any(rows in s.inputs for s in self.cut.segments)
            and sum(rows == c.rows for c in self.cut.calls) == 1
            and rows not in self.cut.results
        )

    def _grouped(self, sizes: np.ndarray, ladder: Ladder) -> list[_Awake]:
        """Awake experts by device and bucket."""
        ends = np.cumsum(sizes)
        spans = np.stack([ends - sizes, ends], axis=1).astype(np.int32)
        lists: dict[tuple[int, int], list[int]] = {}
        homes = len(self.devices)
        for e in np.flatnonzero(sizes).tolist():
            lists.setdefault((ladder(int(sizes[e])), e % homes), []).append(e)
        found = []
        for (bucket, home), experts in sorted(lists.items(), reverse=True):
            n = self._together
            whole = len(experts) // n * n
            parts = [experts[i : i + n] for i in range(0, whole, n)]
            parts += [[e] for e in experts[whole:]]
            found += [_Awake(home, tuple(p), bucket, spans[p]) for p in parts]
        return found

    def _together_again(self, buffers: Sequence[Any], rows: Any, sizes: Any) -> Any:
        home = self.devices[0]
        if len(buffers) == 1:
            return rows if buffers[0] is None else buffers[0]
        here = [rows if b is None else b for b in buffers]
        return _Spread(tuple(jax.device_put(here, home)), sizes)


class _Gradients:
    """The backward half of a lowered function, for some of its arguments."""

    def __init__(self, lowered: Lowered, wanted: tuple[int, ...]):
        self.lowered, self.wanted = lowered, wanted
        cut = lowered.cut
        self.flows = cut.active(wanted) & cut.useful
        self.loss = cut.results[0]
        self.last = self._last_program(cut.segments[-1])
        self.programs = [self._program(s) for s in cut.segments[:-1]]

    def __call__(self, args: tuple[Any, ...]) -> tuple[Any, dict[int, Any]]:
        low, cut = self.lowered, self.lowered.cut
        env = low._environment(args)
        kept = []
        for i, segment in enumerate(cut.segments[:-1]):
            low._run(low._forward[i], segment, env)
            kept.append(low._experts(i, env, train=True))
        grads: dict[Var, list[Any]] = {}
        last = cut.segments[-1]
        outs, cts = low._emit(self.last, [env[v] for v in last.inputs])
        env.update(zip(last.outputs, outs, strict=True))
        self._add(grads, last, cts)
        if self.loss not in last.outputs:
            grads[self.loss] = [jnp.ones_like(env[self.loss])]
        sparse: dict[int, dict[int, Any]] = {}
        for i in reversed(range(len(cut.calls))):
            self._experts(i, env, kept.pop(), grads, sparse)
            segment, (program, outputs) = cut.segments[i], self.programs[i]
            outs = [grads.pop(v) for v in outputs if v in grads]
            self._add(grads, segment, low._emit(program, [env[v] for v in segment.inputs], outs))
        return low._out(env), {i: self._result(i, env, grads, sparse) for i in self.wanted}

    def _experts(self, i, env, kept: _Kept, grads, sparse) -> None:
        low, call = self.lowered, self.lowered.cut.calls[i]
        if call.out not in grads:
            return
        grad = low._emit(_summed, grads.pop(call.out))
        used = {group.home for group in kept.awake}
        buffers = _copies(grad, low.devices, used)
        for group, sums in zip(kept.awake, kept.sums, strict=True):
            h = group.home
            weights = low._weights(call, env, group.experts)
            node = backward_node(call.activation, group.bucket, len(group.experts))
            buffers[h], found = low._emit(
                node, buffers[h], kept.rows[h], sums, group.spans, weights
            )
            for e, parts in zip(group.experts, found, strict=True):
                for place, part in zip(call.weights, parts, strict=True):
                    mine = sparse.setdefault(place, {})
                    mine[e] = low._emit(_summed, [mine[e], part]) if e in mine else part
        if call.rows in self.flows:
            spread = low._together_again(buffers, buffers[0], env[call.sizes])
            grads.setdefault(call.rows, []).append(spread)

    def _add(self, grads, segment: Segment, found) -> None:
        for v, g in zip(self._inputs(segment), found, strict=True):
            grads.setdefault(v, []).append(g)

    def _result(self, i: int, env, grads, sparse) -> Any:
        low, var = self.lowered, self.lowered.cut.arguments[i]
        if i in low.experts:
            found = sparse.get(i, {})
            return PerExpert({e: found[e] for e in sorted(found)}, env[var].count)
        parts = grads.get(var)
        if not parts:
            return jnp.zeros_like(env[var])
        if len(parts) == 1 and not isinstance(parts[0], _Spread):
            return parts[0]
        return low._emit(_summed, parts)

    def _inputs(self, segment: Segment) -> list[Var]:
        return [v for v in segment.inputs if v in self.flows]

    def _pull(self, segment: Segment, outputs: list[Var], inputs):
        """Outputs that gradients flow from, all outputs, and the way back."""
        wanted = [v in self.flows for v in segment.inputs]
        values = [_resolved(x) for x in inputs]

        def run(*moving):
            rest = iter(moving)
            args = [next(rest) if w else x for w, x in zip(wanted, values, strict=True)]
            outs = segment.function(*args)
            by_var = dict(zip(segment.outputs, outs, strict=True))
            return [by_var[v] for v in outputs], outs

        return jax.vjp(run, *[x for w, x in zip(wanted, values, strict=True) if w], has_aux=True)

    def _last_program(self, segment: Segment):
        outputs = [v for v in segment.outputs if v == self.loss]

        def run(inputs):
            ends, pull, outs = self._pull(segment, outputs, inputs)
            return outs, pull([jnp.ones_like(x) for x in ends])

        return jax.jit(run)

    def _program(self, segment: Segment):
        outputs = [v for v in segment.outputs if v in self.flows]

        def run(inputs, cotangents):
            _, pull, _ = self._pull(segment, outputs, inputs)
            return pull([_total(parts) for parts in cotangents])

        return jax.jit(run), outputs


def _resolved(x: Any) -> Any:
    return merge(x.buffers, x.sizes) if isinstance(x, _Spread) else x


def _total(parts: Sequence[Any]) -> Any:
    return functools.reduce(jnp.add, map(_resolved, parts))


_summed = jax.jit(_total)
_zeros = jax.jit(jnp.zeros_like)
_copied = jax.jit(jnp.copy)


def _copies(rows: Any, homes: Sequence[jax.Device], used: set[int]) -> list[Any]:
    """The rows on each device that is used."""
    others = [h for h in range(1, len(homes)) if h in used]
    copies: list[Any] = [rows] + [None] * (len(homes) - 1)
    if others:
        moved = jax.device_put([rows] * len(others), [homes[h] for h in others])
        for h, copy in zip(others, moved, strict=True):
            copies[h] = copy
    return copies
