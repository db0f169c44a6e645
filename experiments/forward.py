"""A trained model's answers, by either execution."""

from __future__ import annotations

import functools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from ..models import Lowered, PerExpert, lower, split_experts, worth_apart
from ..runtime import arrays
from .chooser import Chooser
from .config import Execution
from .execution import by_pathways, check_forward, forward_problems

_T = TypeVar("_T")

# (params, arrays) -> an array, of a model's config; a function of a module, so that what it
# compiles serves all parameters.
Make = Callable[[Any], Callable[..., Any]]

# Batches sent before the results of the first are waited for.
IN_FLIGHT = 4


class Placed:
    """Parameters on their devices, put there when they are first asked for.

    Attributes:
        params: nested dictionaries of arrays, on the host as a rule.
    """

    def __init__(self, params: Any):
        self.params = params
        self._leaves, self._tree = jax.tree.flatten(params)
        self._plain: dict[int, Any] = {}
        self._experts: dict[int, PerExpert] = {}

    def whole(self) -> Any:
        """As they are, on the first device."""
        return self._with({})

    def apart(self, lowered: Lowered) -> Any:
        """With a `PerExpert` for each that holds experts of a function whose first argument they
        are."""
        for i in lowered.experts:
            if i not in self._experts:
                self._experts[i] = split_experts(jnp.asarray(self._leaves[i]), lowered.devices)
        return self._with({i: self._experts[i] for i in lowered.experts})

    def _with(self, experts: dict[int, PerExpert]) -> Any:
        new = [i for i in range(len(self._leaves)) if i not in experts and i not in self._plain]
        put = jax.device_put([self._leaves[i] for i in new])
        self._plain.update(zip(new, put, strict=True))
        leaves = [experts.get(i, self._plain.get(i)) for i in range(len(self._leaves))]
        return jax.tree.unflatten(self._tree, leaves)


class Forward:
    """A function of parameters and arrays, whose results may be on their way when it returns.

    Dropless as evaluation is, it gives the same under every execution, to rounding. Under `auto`
    the first calls of a shape try both ways, and where the cost model finds that some layers are
    faster apart and some are not, that one too; the fastest stays. A model that has no experts to
    leave out is fused.
    """

    def __init__(self, make: Make, config: Any, params: Any, execution: Execution = "fused"):
        """Args:
        make: from a model's config to `fn(params, *arrays)`.
        config: of the model.
        params: its parameters, or where they are `Placed`.
        execution: how.

        Raises:
            ConfigError: the model has no experts that could be left out, and `pathways` is asked
                for.
        """
        if execution == "pathways":
            check_forward(config)
        elif execution == "auto" and any(forward_problems(config)):
            execution = "fused"
        self._make, self._config = make, config
        self._placed = params if isinstance(params, Placed) else Placed(params)
        self._execution = execution
        # Shapes are compiled apart, and may do better one way or the other.
        self._choosers: dict[Any, Chooser] = {}
        self._apart: dict[Any, tuple[int, ...]] = {}  # layers, where some are

    def __call__(self, *given: Any) -> Any:
        """fn's result for these arrays."""
        if self._execution != "auto":
            return self._by(self._execution, given)
        shapes = _shapes(given)
        chooser = self._choosers.setdefault(shapes, Chooser({"fused": 1, "pathways": 2}, timed=2))
        if chooser.decided:
            return self._by(chooser.now, given)
        began = time.perf_counter()
        found = jax.block_until_ready(self._by(chooser.now, given))
        chooser.saw(time.perf_counter() - began)
        if chooser.decided and "some layers" not in chooser.trials:
            layers = self._some_layers(given)
            if layers:
                self._apart[shapes] = layers
                chooser.add("some layers", warm=2)
        return found

    def _by(self, execution: str, given: tuple[Any, ...]) -> Any:
        if execution == "fused":
            return _fused(self._make, self._config)(self._placed.whole(), *given)
        layers = self._apart[_shapes(given)] if execution == "some layers" else None
        lowered = self._lowered(given, layers)
        return arrays(lowered(self._placed.apart(lowered), *given))

    def _some_layers(self, given: tuple[Any, ...]) -> tuple[int, ...]:
        """Those that are faster apart by what the last batch was; none if all are, or no one."""
        lowered = self._lowered(given)
        layers = worth_apart(lowered, train=False)
        return layers if len(layers) < len(lowered.switches) else ()

    def _lowered(self, given: tuple[Any, ...], layers: tuple[int, ...] | None = None) -> Lowered:
        tree = jax.tree.map(_shape, self._placed.params)
        key = _Key(tree, tuple(map(_shape, given)))
        return _lowered(self._make, self._config, key, layers)


class _Key:
    """Shapes of a tree and of arrays, as a key."""

    def __init__(self, tree: Any, given: tuple[Any, ...]):
        self.tree, self.given = tree, given
        leaves, structure = jax.tree.flatten((tree, given))
        self._key = (structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves))

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._key == other._key


def in_flight(
    run: Callable[[_T], Any], batches: Iterable[_T], window: int = IN_FLIGHT
) -> Iterator[tuple[_T, np.ndarray]]:
    """Each batch with its result; up to `window` are sent before the first is waited for."""
    sent: deque[tuple[_T, Any]] = deque()
    for batch in batches:
        sent.append((batch, run(batch)))
        if len(sent) == window:
            first, found = sent.popleft()
            yield first, np.asarray(found)
    for batch, found in sent:
        yield batch, np.asarray(found)


@functools.lru_cache(maxsize=16)
def _fused(make: Make, config: Any) -> Callable[..., Any]:
    return jax.jit(make(config))


@functools.lru_cache(maxsize=16)
def _lowered(make: Make, config: Any, key: _Key, layers: tuple[int, ...] | None) -> Lowered:
    return lower(make(by_pathways(config)), key.tree, *key.given, only=layers)


def _shapes(given: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple((np.shape(x), np.asarray(x).dtype) for x in given)


def _shape(x: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(np.shape(x), x.dtype)
