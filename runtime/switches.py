"""`switch`: rows sorted by branch, of which only the branches that have any are run.

The counts are computed on the island and read when they are there. Then each branch that has rows
is sent as a node over a bucket of them, or some branches of like buckets together; a branch
without rows is not dispatched, moved or differentiated, and has no gradient (Barham et al. 2022,
section 6.3, leave this to the future).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .branches import OnDemand, Sparse
from .buckets import Ladder, ladder
from .computations import Computation
from .conditional import Backward, Conditional, Given, Wake
from .errors import ProgramError, RuntimeFault
from .graph import OPAQUE, Shape
from .resources import Slice
from .switch_forward import Forward
from .switch_kinds import ALONE, BACKWARD, FORWARD, KEEPING, Kinds, Pass
from .switch_nodes import Branch, Rowwise, merge_branches
from .switch_training import Kept, Training
from .tracing import Traced, builder
from .waking import Awake, Executables, node_sizes


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
        self._last: Any = np.zeros(count, np.int32)
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

    @property
    def last(self) -> np.ndarray:
        if not isinstance(self._last, np.ndarray):  # what an island has read for itself
            self._last = np.asarray(self._last)
        return self._last

    @last.setter
    def last(self, counts: Any) -> None:
        self._last = counts

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
        # What a back end knows of it, without and with gradients, for versions of its slices.
        self.there: dict[bool, Any] = {}
        # All that its nodes depend on, but for their kind, bucket and count.
        self.key = (owner.branch, tree, shapes, owner.save, rows.shape, rows.dtype)
        part, name = functools.partial, owner.name
        self.conditional = Conditional(
            name, 1, self.infer, self, part(self.compile, FORWARD), part(self.ahead, False)
        )
        self.keeping = Conditional(
            name, 1, self.train, None, part(self.compile, KEEPING), part(self.ahead, True)
        )
        self.backwards = Conditional(
            f"{name} backward", 0, self.back, None, part(self.compile, BACKWARD)
        )

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
        return self.forward.run(_Waking(self, wake, bank, 1), self._groups(read[0]), rows)

    def ahead(self, keeping: bool, inputs: list[Any]) -> Callable[[Wake], list[Any]] | None:
        """As `infer` or `train`, by the island alone, if all that it may wake is there and
        compiled."""
        first = self.owner.slices[0]
        expand = getattr(first.backend, "woken_there", None)
        if expand is None or not getattr(inputs[2], "at_hand", False):
            return None
        if keeping and first.system.store.budget is not None:
            return None  # what will be kept can be counted here alone
        try:
            return expand(self, keeping, *inputs)
        except RuntimeFault:  # a slice has no devices: whoever wakes something there is told
            return None

    def train(self, wake: Wake, read: list[np.ndarray], inputs: list[Any]) -> list[Any]:
        rows, bank = inputs
        if isinstance(bank, OnDemand):
            raise ProgramError(
                f"the branches of switch {self.owner.name!r} are fetched on demand, and would be "
                "gone when their gradients come: differentiate with Branches on devices"
            )
        driver = _Waking(self, wake, bank, 1)
        outs, kept = self.training.run(driver, self._groups(read[0]), rows)
        return [*outs, kept]

    def back(self, wake: Wake, read: list[np.ndarray], inputs: list[Any]) -> list[Any]:
        kept, bank, *grads = inputs
        if not isinstance(kept, Kept):  # its island has it, and goes on there
            return kept.back(wake, grads)
        trees, parts = self.training.back(_Waking(self, wake, bank, 2), kept, grads)
        return [self.sparse(trees), *parts]

    def sparse(self, found: Mapping[int, Sequence[Any]]) -> Sparse:
        """Leaves of gradients by branch, as trees that know where they are."""
        tree = jax.tree.structure(self.owner.params)
        whole = Sparse({b: jax.tree.unflatten(tree, leaves) for b, leaves in found.items()})
        whole.slices = {b: self.owner.slices[b % self.homes] for b in found}
        return whole

    def _groups(self, counts: np.ndarray) -> list[Awake]:
        self.owner.last = counts
        return self.forward.groups(counts)

    @property
    def training(self) -> Training:
        """How it runs with gradients, where its slices stand now."""
        return Training(self.forward, len(jax.tree.leaves(self.owner.params)), self.floats)

    @property
    def forward(self) -> Forward:
        """How it runs without gradients, where its slices stand now."""
        owner = self.owner
        beside = tuple(map(self._beside_first, range(self.homes)))
        return Forward(
            self.rows.shape[0], self.ladder, self.homes, owner.together, self.alike, beside
        )

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
        key = self._kind(kind, group)
        _, bucket, count, _ = key
        return self.nodes.get(
            key,
            home,
            lambda: self.kinds.function(kind, bucket, count),
            lambda: self.kinds.arguments(kind, bucket, count),
            () if kind in ALONE else (0,),
        )

    def _kind(self, kind: str, group: Awake | None) -> tuple[str, int, int, Any]:
        bucket, count = (0, 0) if group is None else (group.bucket, len(group.branches))
        return kind, bucket, count, self.key

    def compile(self, way: Pass) -> None:
        """Compiles all that one way can wake."""
        for home, kind, group in self.may_wake(way):
            self._executable(kind, home, group)

    def may_wake(self, way: Pass) -> Iterator[tuple[int, str, Awake | None]]:
        """Homes, kinds and groups of all that one way can wake: every bucket, for each number of
        branches that can share a node."""
        most, grouped = self.owner.count, way.grouped(self.alike)
        for home in range(self.homes):
            for kind in way.alone:
                yield home, kind, None
            for bucket in self.ladder.rungs:
                for count in node_sizes(bucket, self.owner.together):
                    if count <= most:
                        spans = np.zeros((count, 2))
                        yield home, grouped, Awake(home, tuple(range(count)), bucket, spans)

    def known(self, kind: str, home: int, group: Awake | None) -> Any:
        """An executable, if it is compiled already for where its slice stands now."""
        return self.nodes.known(self._kind(kind, group), home)


class _Waking:
    """Wakes a switch's nodes from here, for one expansion."""

    def __init__(self, over: _Over, wake: Wake, bank: Any, first: int):
        """`first` is the place of what may be owned among the inputs."""
        self.over, self.wake, self.bank, self._first = over, wake, bank, first
        self._on_demand = bank if isinstance(bank, OnDemand) else None

    def node(self, kind: str, home: int, leaves: list[Any], group: Awake | None = None) -> list:
        return self.over._wake(self.wake, kind, home, leaves, group)

    def move(self, arrays: Sequence[Any], homes: Sequence[int]) -> list[Any]:
        return self.wake.move(arrays, [self.over.owner.slices[h] for h in homes])

    def owns(self, number: int) -> bool:
        return self.wake.owns(self._first + number)

    def expect(self, branches: list[int]) -> None:
        if self._on_demand:
            self._on_demand.expect(branches)

    def params(self, branches: Sequence[int]) -> list[Any]:
        return jax.tree.leaves(self.wake.fetch(self.bank, branches))

    def used(self, branches: Sequence[int], out: Any) -> None:
        if self._on_demand:
            self._on_demand.used(branches, out)


_WAYS = {"back over": " backward", "back beside": " backward"}
