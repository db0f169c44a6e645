"""Random programs over a fixed set of computations, and what plain JAX makes of each.

All numbers are small integers in float32, so that every way to compute them gives the same bits.
"""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from byways.runtime import Branches, Computation, Program, Runtime, Switch, while_loop
from jax.sharding import PartitionSpec

SIZES, WIDTH = (4, 8), 4
BRANCHES = 3
TIMES = 4  # most turns of a loop


def _mix(a, b):
    return (a + 3 * b) % 97


def _halves(a):
    return (a * 2) % 97, (a + 5) % 97


def _product(a, b):
    return (a @ b.T @ b) % 97


def _bump(a):
    return (a + 1) % 97


def _slow(a):
    """Some milliseconds, by products that XLA does not take for so cheap that it runs them at once.

    Sums of 512 products below 97² are exact in float32.
    """
    wide = jnp.tile(a, (512 // a.shape[0], 512 // WIDTH))
    for _ in range(3):
        wide = (wide @ wide.T) % 97
    return wide[: a.shape[0], :WIDTH]


def _counted(a, counts):
    """The counts, when `a` is there."""
    return counts + (a[0, 0] < 0).astype(counts.dtype)


def _below(a):
    return a[0, 0] < 50


def _branch(scale, rows):
    return (rows * scale + 1) % 97


def _summed(a):
    return (a + a.sum(axis=0)) % 97


class OnPurpose(Exception):
    """What a failing node raises."""


def _refuse(a):
    def refuse(_):
        raise OnPurpose("this node fails on purpose")

    return jax.pure_callback(refuse, jax.ShapeDtypeStruct(a.shape, a.dtype), a)


class Broken:
    """Parameters of branches that cannot be fetched."""

    def fetch(self, branches):
        raise OnPurpose(f"branches {branches} are not to be had")


def _all_reduce(part):
    """`_summed` with a collective of its own."""
    rows = PartitionSpec("device")

    def local(a):
        return (a + jax.lax.psum(a.sum(axis=0), "device")) % 97

    return jax.shard_map(local, mesh=part.mesh, in_specs=rows, out_specs=rows)


class Kit:
    """Computations on slices of one, two and four devices, which overlap; all threads share it."""

    def __init__(self, system: Runtime):
        devices = system.virtual_devices()
        self.system = system
        self.small = [devices.add_slice() for _ in range(2)]
        self.wide = [devices.add_slice(n) for n in (2, 4, 2, 4, 8)]
        self.nodes: dict[str, list[tuple[Computation, Any]]] = {
            "mix": self._on(_mix, self.small),
            "halves": self._on(_halves, self.small),
            "bump in place": self._on(_bump, self.small, donate=(0,)),
            "slow": self._on(_slow, self.small),
            "refuse": self._on(_refuse, self.small[:1]),
            "product": self._on(
                _product, self.wide[:3], in_specs=PartitionSpec("device"), out_specs=None
            ),
            "sum": [
                (
                    Computation(
                        _all_reduce(part),
                        part,
                        name="sum",
                        in_specs=PartitionSpec("device"),
                        out_specs=PartitionSpec("device"),
                    ),
                    jax.jit(_summed),
                )
                for part in self.wide[:4]
            ],
        }
        self.counted = Computation(_counted, self.small[1])
        self.below = Computation(_below, self.small[0])
        self.bump = Computation(_bump, self.small[0])
        scales = np.arange(1, BRANCHES + 1, dtype=np.float32)
        self.banks = Branches([self.small[n % 2].put(s) for n, s in enumerate(scales)])
        self.switch = Switch(_branch, self.small, scales[0], BRANCHES, together=2)

    def _on(self, fn, parts, **options) -> list[tuple[Computation, Any]]:
        plain = jax.jit(fn)
        return [(Computation(fn, part, **options), plain) for part in parts]


@dataclasses.dataclass
class Line:
    """One call of a random program.

    Attributes:
        kind: key of `Kit.nodes`, `switch` or `while`.
        which: computation of that kind.
        inputs: numbers of values; arguments come first.
        broken: of a switch: its parameters cannot be fetched.
    """

    kind: str
    which: int
    inputs: tuple[int, ...]
    broken: bool = False


@dataclasses.dataclass
class Made:
    """A random program.

    Attributes:
        size: rows of all its arrays, but of counts.
        arguments: how many arrays it takes, before the counts of its switches.
        switches: how many of those.
        lines: its calls.
        outputs: numbers of the values that it returns.
    """

    kit: Kit
    size: int
    arguments: int
    switches: int
    lines: list[Line]
    outputs: tuple[int, ...]

    def program(self) -> Program:
        """The program: (arrays, counts) -> values."""

        def run(arrays, counts, banks):
            values, counts = list(arrays), list(counts)
            for line in self.lines:
                given = [values[n] for n in line.inputs]
                if line.kind == "switch":
                    count = self.kit.counted(given[0], counts.pop(0))
                    out = self.kit.switch(count, given[0], banks[line.broken])
                elif line.kind == "while":
                    out = while_loop(self.kit.below, self.kit.bump, given[0], bound=TIMES)
                else:
                    out = self.kit.nodes[line.kind][line.which][0](*given)
                values += out if isinstance(out, (tuple, list)) else [out]
            return [values[n] for n in self.outputs]

        return Program(run, name="random")

    def expected(self, arrays: list[np.ndarray], counts: list[np.ndarray]) -> list[Any]:
        """What plain JAX makes of them; None of what depends on a node that fails."""
        values: list[Any] = list(arrays)
        counts = list(counts)
        for line in self.lines:
            given = [values[n] for n in line.inputs]
            made = 2 if line.kind == "halves" else 1
            count = counts.pop(0) if line.kind == "switch" else None
            # A switch whose rows are all nobody's fetches nothing: there are none such here.
            if line.broken or line.kind == "refuse" or any(x is None for x in given):
                values += [None] * made
            elif line.kind == "switch":
                scale = np.repeat(np.arange(1, BRANCHES + 1, dtype=np.float32), count)
                values.append(np.asarray(_branch(scale[:, None], given[0])))
            elif line.kind == "while":
                (out,) = given
                for _ in range(TIMES):
                    out = _bump(out) if _below(out) else out
                values.append(out)
            else:
                out = self.kit.nodes[line.kind][line.which][1](*given)
                values += [np.asarray(x) for x in (out if isinstance(out, tuple) else (out,))]
        return [values[n] for n in self.outputs]


def random_program(kit: Kit, rng: random.Random, failures: float, late: bool = False) -> Made:
    """A random directed acyclic graph of up to eight calls.

    Args:
        failures: chance of each call to be one that fails.
        late: with a switch at its beginning, which waits some milliseconds for its counts.
    """
    size = rng.choice(SIZES)
    arguments = rng.randint(1, 3)
    alive, count = list(range(arguments)), arguments
    lines: list[Line] = []
    switches = int(late)
    if late:
        lines = [Line("slow", 0, (0,)), Line("switch", 0, (count,))]
        alive += [count, count + 1]
        count += 2
    kinds = ["mix", "mix", "halves", "bump in place", "product", "sum", "sum", "switch", "while"]
    for _ in range(rng.randint(1, 8)):
        kind = "refuse" if rng.random() < failures else rng.choice(kinds)
        inputs = tuple(rng.choice(alive) for _ in range(2 if kind in ("mix", "product") else 1))
        which = rng.randrange(len(kit.nodes.get(kind, [0])))
        if kind == "sum" and size % kit.wide[which].size:
            kind, which = "mix", 0
            inputs *= 2
        if kind == "bump in place":
            # What was donated nobody may use, and arguments stay their callers'.
            if inputs[0] < arguments:
                continue
            alive.remove(inputs[0])
        broken = kind == "switch" and rng.random() < failures
        switches += kind == "switch"
        lines.append(Line(kind, which, inputs, broken))
        made = 2 if kind == "halves" else 1
        alive += range(count, count + made)
        count += made
    if not lines:
        lines.append(Line("mix", 0, (0, 0)))
        alive.append(count)
    inner = [n for n in alive if n >= arguments]
    outputs = tuple(rng.sample(inner, rng.randint(1, len(inner))))
    return Made(kit, size, arguments, switches, lines, outputs)


def random_inputs(made: Made, rng: random.Random) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Arrays (size, W) and counts (E,) for it."""
    source = np.random.default_rng(rng.randrange(1 << 30))
    arrays = [
        source.integers(0, 97, (made.size, WIDTH)).astype(np.float32) for _ in range(made.arguments)
    ]
    counts = [
        source.multinomial(made.size, source.dirichlet([0.3] * BRANCHES)).astype(np.int32)
        for _ in range(made.switches)
    ]
    return arrays, counts
