"""`lower`: a function of a sparse model as a program of segments and the experts that are awake."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend import core

from ... import runtime
from .cut import Call, Cut, GateCall, Segment, cut
from .expert_branch import ExpertBranch
from .flatten import flat_trace
from .gradients import Gradients
from .per_expert import ExpertWeights, PerExpert, split_experts
from .resident_experts import shelved_branches

Var = core.Var


def lower(
    fn: Callable[..., Any],
    *args: Any,
    devices: Sequence[runtime.Device] | None = None,
    slices: Sequence[runtime.Slice] | None = None,
    together: int = 4,
    save: bool = True,
    only: Collection[int] | None = None,
) -> Lowered:
    """Lower a function that holds experts, a forward pass or a whole objective.

    It is traced once, for arguments of these shapes, and cut at each call of experts that the
    dispatcher `pathways` leaves in it. What stands between two calls is one node of a program;
    the experts are a switch, whose nodes, an expert each or some together, are sent once their
    numbers of rows are known, for those alone that have any.

    Args:
        fn: its experts' weights must be arguments (leaves of them) as they are, which nothing
            else reads.
        args: arrays, or `jax.ShapeDtypeStruct`s.
        devices: where the experts live, expert e of each layer on device e mod P; everything else
            is on the first. None is the first of `jax.devices()` alone.
        slices: the same as slices of a runtime, of one device each.
        together: so many experts with equal buckets share a node.
        only: numbers of the sparse layers whose experts are apart, from 0; those of the others stay
            stacked, and run in the segments with whoever sleeps. None is all.
        save: keep what the backward pass needs of the forward; else it is computed again.

    Raises:
        ValueError: no experts, or some that cannot be cut out (see the message); both devices
            and slices, or slices of a cluster that this process is a client of.
    """
    if devices is not None and slices is not None:
        raise ValueError("lower was given devices and slices: pass one of them")
    if slices and isinstance(slices[0].system, runtime.Attached):
        raise ValueError(
            f"{slices[0]!r} is of a cluster whose controller is another process, to which what is "
            "cut here cannot travel: lower onto slices of a Runtime or a RayRuntime of this process"
        )
    flat, tree = jax.tree.flatten_with_path(args)
    names = [jax.tree_util.keystr(path) for path, _ in flat]
    closed, shapes = flat_trace(fn, *args)
    if slices is None:
        slices = _slices_of(tuple(devices) if devices else (jax.devices()[0],))
    name = getattr(fn, "__name__", "function").strip("<>")
    results = jax.tree.structure(shapes)
    return Lowered(
        cut(closed, names, only), tree, results, slices, name, together=together, save=save
    )


class Lowered:
    """A lowered function; call it as the function, with experts split (`split`).

    Results are futures (`runtime.Value`), and come at once, but for the reads of who is awake.

    Attributes:
        cut: the segments.
        slices: of the experts; everything else is on the first.
        system: the runtime that they belong to.
        experts: positions of the flat arguments that hold experts.
        switches: of each call of experts, in order.
        gates: of each call of work that a batch may not have.
        tree: structure of the arguments.
        results: structure of the results.
        name: of the function.
        plain: positions of the flat arguments that hold no experts.
        banks: positions of the arguments of each layer's experts, each layer once.
    """

    def __init__(
        self,
        parts: Cut,
        tree: Any,
        results: Any,
        slices: Sequence[runtime.Slice],
        name: str,
        *,
        together: int,
        save: bool,
    ):
        self.cut, self.slices, self.system = parts, tuple(slices), slices[0].system
        calls = parts.experts
        self.experts = frozenset(i for call in calls for i in call.weights)
        self.tree, self.results, self.name, self.save = tree, results, name, save
        self.banks = list(dict.fromkeys(call.weights for call in calls))
        self.plain = [i for i in range(tree.num_leaves) if i not in self.experts]
        home = self.slices[0]
        self._segments = [
            runtime.computation(_segment(segment), home, name=f"segment {n}")
            for n, segment in enumerate(parts.segments)
        ]
        # Layers of equal shapes wake the same compiled nodes.
        nodes = runtime.Executables("experts", self.slices)
        self.switches = [
            runtime.Switch(
                ExpertBranch(call.activation),
                self.slices,
                tuple(_one(parts.arguments[i].aval) for i in call.weights),
                call.num_experts,
                name=f"experts {n}",
                together=together,
                save=save,
                nodes=nodes,
            )
            for n, call in enumerate(calls)
        ]
        self._nodes = dict(zip(calls, self.switches, strict=True))
        self.gates = {
            call: runtime.Gate(call.function, home, name=call.name)
            for call in parts.calls
            if isinstance(call, GateCall)
        }
        self._forward = runtime.program(self.flat_results, name=name)
        self._gradients: dict[tuple[int, ...], Gradients] = {}

    @property
    def devices(self) -> tuple[runtime.Device, ...]:
        """Where the experts live now."""
        return tuple(part.devices[0] for part in self.slices)

    def split(self, *args: Any) -> tuple[Any, ...]:
        """The arguments with experts apart, each on its device (`PerExpert`); bit for bit."""
        flat = self.tree.flatten_up_to(args)
        homes = self.slices
        flat = [split_experts(x, homes) if i in self.experts else x for i, x in enumerate(flat)]
        return jax.tree.unflatten(self.tree, flat)

    def join(self, *args: Any) -> tuple[Any, ...]:
        """The inverse of `split`."""
        flat = self.tree.flatten_up_to(runtime.arrays(args))
        flat = [x.stacked() if isinstance(x, PerExpert) else x for x in flat]
        return jax.tree.unflatten(self.tree, flat)

    def __call__(self, *args: Any) -> Any:
        """The function's results, as futures."""
        plain, banks = self.apart(args)
        return jax.tree.unflatten(self.results, self._forward(plain, banks))

    def value_and_grad(self, wrt: int | tuple[int, ...] = 0) -> Gradients:
        """As `jax.value_and_grad` of the function's first result, which is a scalar.

        The function made takes the same arguments as this one and returns `(results, gradients)`:
        all results, and a tree like the argument, or a tuple of them, with a `PerExpert` of
        awake experts alone for each leaf of experts. It waits for the reads of who is awake; its
        `begin` does not, so that several batches can be on their way.
        """
        key = (wrt,) if isinstance(wrt, int) else tuple(wrt)
        if (wrt, key) not in self._gradients:
            self._gradients[wrt, key] = Gradients(self, wrt)  # pyright: ignore
        return self._gradients[wrt, key]  # pyright: ignore

    def compile(self, *args: Any) -> None:
        """Compiles ahead all that a call with such arguments may wake."""
        self._forward.compile(*self.apart(args))

    def program(self) -> runtime.Program:
        """The program, of (plain leaves, branches of each call)."""
        return self._forward

    def count(self, bank: tuple[int, ...]) -> int:
        """E, of a layer's experts by the positions of their arguments."""
        return next(call.num_experts for call in self.cut.experts if call.weights == bank)

    def awake(self) -> list[np.ndarray]:
        """Rows of each expert, (E,) for each call of experts, when it was last run."""
        return [one.last for one in self.switches]

    # What the program is made of.

    def apart(self, args: tuple[Any, ...]) -> tuple[list[Any], list[Any]]:
        flat = self.tree.flatten_up_to(args)
        weights = [[flat[i] for i in bank] for bank in self.banks]
        banks = [shelved_branches(parts) or ExpertWeights(parts) for parts in weights]
        return [flat[i] for i in self.plain], banks

    def flat_results(self, plain: Sequence[Any], banks: Sequence[Any]) -> list[Any]:
        """In a program: the flat results."""
        parts = self.cut
        env: dict[Var, Any] = dict(parts.constants)
        env |= {parts.arguments[i]: x for i, x in zip(self.plain, plain, strict=True)}
        for n, segment in enumerate(parts.segments):
            if segment.outputs:
                outs = self._segments[n]([env[v] for v in segment.inputs])
                env.update(zip(segment.outputs, outs, strict=True))
            if n < len(parts.calls):
                self._between(parts.calls[n], banks, env)
        return [self._merged(r, env) if isinstance(r, core.Var) else r for r in self.cut.results]

    def _between(self, call: Call, banks: Sequence[Any], env: dict[Var, Any]) -> None:
        if isinstance(call, GateCall):
            rows, *operands = [self._merged(v, env) for v in (call.rows, *call.operands)]
            env[call.out] = self.gates[call](env[call.count], rows, operands)
            return
        bank = banks[self.banks.index(call.weights)]
        found = self._nodes[call].parts(env[call.sizes], env[call.rows], bank)
        # Parts on several slices are put together in the segment that reads them.
        env[call.out] = found[0] if len(found) == 1 else {"parts": found, "counts": env[call.sizes]}

    def _merged(self, var: Var, env: dict[Var, Any]) -> Any:
        found = env[var]
        if not isinstance(found, dict):
            return found
        return runtime.computation(_whole, self.slices[0], name="merge")(found)


@functools.cache
def _slices_of(devices: tuple[runtime.Device, ...]) -> tuple[runtime.Slice, ...]:
    """A slice for each device, of one runtime for these devices."""
    system = runtime.Runtime({"local": devices})
    # The manager takes the least crowded, so a device each, in order.
    return tuple(system.virtual_devices().add_slice(1) for _ in devices)


def _segment(segment: Segment) -> Callable[[list[Any]], list[Any]]:
    def run(inputs: list[Any]) -> list[Any]:
        return list(segment.function(*[_whole(x) for x in inputs]))

    return run


def _whole(x: Any) -> Any:
    return runtime.merge_branches(x["parts"], x["counts"]) if isinstance(x, dict) else x


def _one(aval: Any) -> jax.ShapeDtypeStruct:
    """An expert's share of (E, …)."""
    return jax.ShapeDtypeStruct(aval.shape[1:], aval.dtype)
