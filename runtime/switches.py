"""`switch`: rows sorted by branch, of which only the branches that have any are run.

The counts are computed on the island and read when they are there. Then each branch that has rows
is sent as a node over a bucket of them, or some branches of like buckets together; a branch
without rows is not dispatched, moved or differentiated, and has no gradient (Barham et al. 2022,
section 6.3, leave this to the future).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .branches import OnDemand, Sparse
from .buckets import Ladder, ladder
from .computations import Computation
from .conditional import Backward, Conditional, Given, Wake
from .errors import ProgramError
from .graph import OPAQUE, Shape
from .resources import Slice
from .switch_kinds import ALONE, Kinds
from .switch_nodes import Branch, Rowwise, merge_branches
from .tracing import Traced, builder
from .waking import Awake, Executables, awake_groups, node_sizes


@dataclasses.dataclass
class Kept:
    """What the backward pass of a switch needs of the forward: arrays of awake branches."""

    groups: list[Awake]
    rows: list[Any]  # by home
    saved: list[Any]  # by group: flat leaves, or None

    @property
    def nbytes(self) -> int:
        return sum(leaf.nbytes for leaf in jax.tree.leaves(self.saved))


class Switch:
    """E branches over P slices, branch e on slice e mod P. Called in a program it is one node.

    Attributes:
        branch: what each does; a function (params, rows (N, …)) -> (N, …), row by row, will do.
        slices: P; all else of the switch is on the first.
        params: shapes of one branch's parameters.
        count: E.
        name: in programs, errors and traces.
        together: branches of equal buckets that share a node.
        save: keep what `Branch.forward` offers for the backward pass; else it is computed again.
        compiled: how many executables there are.
        last: the counts that it last ran with.
    """

    def __init__(
        self,
        branch: Branch | Callable[[Any, Any], Any],
        slices: Slice | Sequence[Slice],
        params: Any,
        count: int,
        *,
        name: str = "switch",
        together: int = 4,
        save: bool = True,
        nodes: Executables | None = None,
    ):
        """As above. Switches on the same slices that are given the same `nodes` share them."""
        if isinstance(slices, Slice):
            slices = [slices]
        if not slices or count < 1 or together < 1:
            raise ProgramError(
                f"switch {name!r} has {count} branches, {together} together, on {len(slices)} "
                "slices: it takes one or more of each"
            )
        wide = [part for part in slices if part.size > 1]
        if wide:
            raise ProgramError(
                f"switch {name!r} was given {wide[0]!r}: a branch runs on one device, so give "
                "slices of one, as many as there are devices"
            )
        rowwise = not hasattr(branch, "forward")
        self.branch: Branch = Rowwise(branch) if rowwise else branch  # pyright: ignore
        self.slices, self.count, self.name = tuple(slices), count, name
        self.together, self.save = together, save
        self.params = jax.tree.map(lambda x: Shape(x.shape, x.dtype), params)
        self.last = np.zeros(count, np.int32)
        self._nodes = Executables(name, self.slices) if nodes is None else nodes
        if self._nodes.slices != self.slices:
            raise ProgramError(f"switch {name!r} shares nodes with a switch on other slices")
        self._overs: dict[Any, _Over] = {}
        self._merge = Computation(
            lambda parts, counts: merge_branches(parts, counts), slices[0], name=f"{name} merge"
        )

    @property
    def compiled(self) -> int:
        return len(self._nodes)

    def __call__(self, counts: Any, rows: Any, branches: Any) -> Any:
        """Rows through their branches.

        Args:
            counts: (E,) integers, rows of each branch; they sum to R at most.
            rows: (R, …), sorted by branch. What is past the sum is nobody's.
            branches: a `Branches`, or anything that fetches.

        Returns:
            (R, …); nobody's rows hold anything finite.

        Raises:
            ProgramError: shapes that do not fit.
        """
        if builder() is None:
            from .programs import Program

            if not hasattr(self, "_alone"):
                self._alone = Program(lambda *given: self(*given), name=self.name)
            return self._alone(counts, rows, branches)
        parts = self.parts(counts, rows, branches)
        return parts[0] if len(parts) == 1 else self._merge(parts, counts)

    def parts(self, counts: Any, rows: Any, branches: Any) -> list[Traced]:
        """In a program: P arrays (R, …), which `merge_branches` makes one of."""
        made = builder()
        if made is None:
            raise ProgramError(f"parts of switch {self.name!r} exist only in a program")
        counts, rows = made.place(counts, self.name), made.place(rows, self.name)
        over = self.over(Shape(counts.shape, counts.dtype), Shape(rows.shape, rows.dtype))
        return made.conditional(
            over.conditional, self.slices[0], [counts, rows, branches], over.outputs
        )

    def over(self, counts: Shape, rows: Shape) -> _Over:
        """The switch for rows of one shape."""
        key = (counts.shape, counts.dtype, rows.shape, rows.dtype)
        if key not in self._overs:
            if counts.shape != (self.count,) or counts.dtype.kind not in "iu":
                raise ProgramError(
                    f"switch {self.name!r} has {self.count} branches and was given counts "
                    f"{counts.dtype}{list(counts.shape)}: pass integers ({self.count},)"
                )
            if not rows.shape:
                raise ProgramError(
                    f"switch {self.name!r} was given a scalar, and takes rows (R, …)"
                )
            self._overs[key] = _Over(self, self._nodes, rows)
        return self._overs[key]


def switch(
    branch: Branch | Callable[[Any, Any], Any],
    slices: Slice | Sequence[Slice],
    params: Any,
    count: int,
    **options: Any,
) -> Switch:
    """As `Switch`."""
    return Switch(branch, slices, params, count, **options)


class _Over:
    """A switch over rows of one shape: how it expands, forwards and backwards."""

    def __init__(self, owner: Switch, nodes: Executables, rows: Shape):
        self.owner, self.nodes, self.rows = owner, nodes, rows
        self.ladder: Ladder = ladder(rows.shape[0])
        self.homes = len(owner.slices)
        try:
            some = Shape((1, *rows.shape[1:]), rows.dtype)
            out = jax.eval_shape(owner.branch.forward, owner.params, some)[0]
        except Exception as error:
            raise ProgramError(
                f"a branch of switch {owner.name!r} does not take rows "
                f"{rows.dtype}{list(rows.shape)}: {str(error).strip().splitlines()[0]}"
            ) from error
        self.out = Shape((rows.shape[0], *out.shape[1:]), out.dtype)
        # One buffer can serve both ways.
        self.alike = self.out.shape == rows.shape and self.out.dtype == rows.dtype
        self.floats = jnp.issubdtype(rows.dtype, jnp.inexact)
        self.outputs = [self.out] * self.homes
        self.kinds = Kinds(owner.branch, owner.params, owner.save, self.rows, self.out)
        leaves, tree = jax.tree.flatten(owner.params)
        shapes = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        # All that its nodes depend on, but for their kind, bucket and count.
        self.key = (owner.branch, tree, shapes, owner.save, rows.shape, rows.dtype)
        there, keeping, back = (
            functools.partial(self.compile, *way)
            for way in (
                (("copy", "zeros"), "over" if self.alike else "beside"),
                (("zeros",), "keeping"),
                (("copy grad", "zero rows"), "back over" if self.alike else "back beside"),
            )
        )
        self.conditional = Conditional(owner.name, 1, self.infer, self, there)
        self.keeping = Conditional(owner.name, 1, self.train, None, keeping)
        self.backwards = Conditional(f"{owner.name} backward", 0, self.back, None, back)

    # What `value_and_grad` asks of a conditional node.

    def forward_keeping(self) -> tuple[Conditional, list[Shape]]:
        """The node that keeps what its backward needs: one more output."""
        return self.keeping, [*self.outputs, OPAQUE]

    def differentiated(self) -> Backward:
        """The backward node: (kept, branches, P cotangents) -> (Sparse, P cotangents of rows)."""
        outputs, gives = [OPAQUE], [Given(2)]
        if self.floats:
            outputs += [self.rows] * self.homes
            gives.append(Given(1, self.homes, 0))
        return Backward(self.backwards, (2,), outputs, tuple(gives))

    # Expansions.

    def infer(self, wake: Wake, read: list[np.ndarray], inputs: list[Any]) -> list[Any]:
        rows, bank = inputs
        groups = self._groups(read[0])
        copies = self._spread(wake, rows, {group.home for group in groups})
        buffers = list(copies)
        if self.alike:
            for h in {group.home for group in groups}:
                if self._beside_first(h) if h else not wake.owns(1):
                    (buffers[h],) = self._wake(wake, "copy", h, [buffers[h]])
        on_demand = bank if isinstance(bank, OnDemand) else None
        if on_demand:
            on_demand.expect([branch for group in groups for branch in group.branches])
        for group in groups:
            params = jax.tree.leaves(wake.fetch(bank, group.branches))
            h = group.home
            if self.alike:
                leaves = [buffers[h], group.spans, *params]
                (buffers[h],) = self._wake(wake, "over", h, leaves, group)
            else:
                if buffers[h] is copies[h]:
                    (buffers[h],) = self._wake(wake, "zeros", h, [])
                leaves = [buffers[h], copies[h], group.spans, *params]
                buffers[h] = self._wake(wake, "beside", h, leaves, group)[0]
            if on_demand:
                on_demand.used(group.branches, buffers[h])
        return self._home(wake, buffers, "zeros")

    def train(self, wake: Wake, read: list[np.ndarray], inputs: list[Any]) -> list[Any]:
        rows, bank = inputs
        if isinstance(bank, OnDemand):
            raise ProgramError(
                f"the branches of switch {self.owner.name!r} are fetched on demand, and would be "
                "gone when their gradients come: differentiate with Branches on devices"
            )
        groups = self._groups(read[0])
        used = {group.home for group in groups}
        copies = self._spread(wake, rows, used)
        buffers = [
            self._wake(wake, "zeros", h, [])[0] if h in used else None for h in range(self.homes)
        ]
        kept = Kept(groups, copies, [])
        for group in groups:
            params = jax.tree.leaves(wake.fetch(bank, group.branches))
            h = group.home
            leaves = [buffers[h], copies[h], group.spans, *params]
            buffers[h], *saved = self._wake(wake, "keeping", h, leaves, group)
            kept.saved.append(saved or None)
        return [*self._home(wake, buffers, "zeros"), kept]

    def back(self, wake: Wake, read: list[np.ndarray], inputs: list[Any]) -> list[Any]:
        kept, bank, *grads = inputs
        used = {group.home for group in kept.groups}
        first = grads[0]
        if not wake.owns(2) and 0 in used and self.alike:
            (first,) = self._wake(wake, "copy grad", 0, [first])
        grads = [first, *grads[1:]]
        away = [h for h in range(1, self.homes) if h in used]
        if away:
            moved = wake.move([grads[h] for h in away], [self.owner.slices[h] for h in away])
            for h, grad in zip(away, moved, strict=True):
                grads[h] = grad
                if self.alike and self._beside_first(h) and not wake.owns(2 + h):
                    (grads[h],) = self._wake(wake, "copy grad", h, [grad])
        buffers: list[Any] = [grad if h in used else None for h, grad in enumerate(grads)]
        if not self.alike:
            buffers = [
                self._wake(wake, "zero rows", h, [])[0] if h in used else None
                for h in range(self.homes)
            ]
        tree, found = jax.tree.structure(self.owner.params), Sparse()
        for group, saved in zip(kept.groups, kept.saved, strict=True):
            h = group.home
            params = jax.tree.leaves(wake.fetch(bank, group.branches))
            rest = [kept.rows[h], *(saved or ()), group.spans, *params]
            if self.alike:
                buffers[h], *made = self._wake(wake, "back over", h, [buffers[h], *rest], group)
            else:
                leaves = [buffers[h], grads[h], *rest]
                buffers[h], *made = self._wake(wake, "back beside", h, leaves, group)
            each = tree.num_leaves
            for n, branch in enumerate(group.branches):
                found[branch] = jax.tree.unflatten(tree, made[n * each : (n + 1) * each])
                found.slices[branch] = self.owner.slices[h]
        if not self.floats:
            return [found]
        return [found, *self._home(wake, buffers, "zero rows")]

    def _groups(self, counts: np.ndarray) -> list[Awake]:
        total, self.owner.last = int(counts.sum()), counts
        if total > self.rows.shape[0] or (counts < 0).any():
            raise ValueError(
                f"counts {counts.tolist()} sum to {total}, and there are {self.rows.shape[0]} rows"
            )
        return awake_groups(counts, self.ladder, self.homes, self.owner.together)

    def _spread(self, wake: Wake, rows: Any, used: set[int]) -> list[Any]:
        """The rows on each slice that is used, by home."""
        away = [h for h in range(1, self.homes) if h in used]
        copies: list[Any] = [rows if 0 in used else None] + [None] * (self.homes - 1)
        if away:
            moved = wake.move([rows] * len(away), [self.owner.slices[h] for h in away])
            for h, copy in zip(away, moved, strict=True):
                copies[h] = copy
        return copies

    def _home(self, wake: Wake, buffers: list[Any], blank: str) -> list[Any]:
        """Every slice's part on the first slice; of one that had nothing to do, anything finite."""
        away = [h for h in range(1, self.homes) if buffers[h] is not None]
        parts: list[Any] = list(buffers)
        if away:
            moved = wake.move([buffers[h] for h in away], [self.owner.slices[0]] * len(away))
            for h, part in zip(away, moved, strict=True):
                parts[h] = part
        there = next((part for part in parts if part is not None), None)
        if there is None:
            (there,) = self._wake(wake, blank, 0, [])
        return [there if part is None else part for part in parts]

    def _beside_first(self, home: int) -> bool:
        """It stands on the first slice's device, so that what is moved to it is no copy."""
        return self.owner.slices[home].devices == self.owner.slices[0].devices

    # Nodes.

    def _wake(
        self, wake: Wake, kind: str, home: int, leaves: list[Any], group: Awake | None = None
    ) -> list[Any]:
        executable = self._executable(kind, home, group)
        name = f"{self.owner.name} {kind}"
        if group is not None:
            said = ",".join(map(str, group.branches))
            name = f"{self.owner.name} {said} of {group.bucket}{_WAYS.get(kind, '')}"
        return wake.call(executable, leaves, self.owner.slices[home], name)

    def _executable(self, kind: str, home: int, group: Awake | None) -> Any:
        bucket, count = (0, 0) if group is None else (group.bucket, len(group.branches))
        key = (kind, bucket, count, self.key)
        return self.nodes.get(
            key,
            home,
            lambda: self.kinds.function(kind, bucket, count),
            lambda: self.kinds.arguments(kind, bucket, count),
            () if kind in ALONE else (0,),
        )

    def compile(self, alone: tuple[str, ...], grouped: str) -> None:
        """Compiles all that one way can wake: every bucket, for one branch and for `together`."""
        together = self.owner.together
        for home in range(self.homes):
            for kind in alone:
                self._executable(kind, home, None)
            for bucket in self.ladder.rungs:
                for count in node_sizes(bucket, together):
                    if count > self.owner.count:
                        continue
                    group = Awake(home, tuple(range(count)), bucket, np.zeros((count, 2)))
                    self._executable(grouped, home, group)


_WAYS = {"back over": " backward", "back beside": " backward"}
