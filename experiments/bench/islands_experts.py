"""A sparse layer whose experts live on two islands, beside the same as one program on one."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ... import runtime as rt
from ...models import Moe, MoeConfig, lower
from ..errors import RunError
from .islands_settings import BenchIslands
from .rounds import time_rounds

WHATS = ("forward", "train")
# What a token must lose so that nobody chooses an expert.
_FAR = 1e4


def bench_experts(system: rt.Runtime, settings: BenchIslands) -> dict[str, Any]:
    """Times the layer with 1 … E experts awake, those of the router's own island first.

    Expert e is on island e mod 2, the router on the first. The peer is the whole layer, dropless,
    as one computation on the first island, which is a core; its gradients are (E, …) with zeros
    for who sleeps, the other's an array for each that is awake.

    Args:
        system: of two islands of a core each.
        settings: sizes.

    Returns:
        {"rows": [{"awake", "there" (of them on the other island), and for `forward` and `train`
        {"ms", "jit" (ms of the peer), "ratio" (median over rounds), "here", "there" (messages to
        the two islands in one run)}}]}.

    Raises:
        RunError: the loss is not the peer's.
    """
    names = list(system.islands)[:2]
    parts = [system.virtual_devices(name).add_slice(1) for name in names]
    layer = _Layer(settings, parts)
    order = [*range(0, settings.experts, 2), *range(1, settings.experts, 2)]
    return {"rows": [_row(layer, order[: n + 1]) for n in range(settings.experts)]}


def _row(layer: _Layer, awake: Sequence[int]) -> dict[str, Any]:
    there = sum(e % 2 for e in awake)
    row: dict[str, Any] = {"awake": len(awake), "there": there}
    for what in WHATS:
        ours, jitted = layer.dataflow(what, awake), layer.fused(what, awake)
        mine, wanted = ours()[0], jitted()[0]
        if abs(float(mine.result()) - float(wanted.result())) > 1e-4 * float(wanted.result()):
            raise RunError(f"{what}: {len(awake)} awake give {mine}, and one program {wanted}")
        messages = layer.count_messages(ours)
        rounds = time_rounds({"islands": ours, "jit": jitted}, layer.settings.repeats)
        row[what] = {
            "ms": 1e3 * rounds.median("islands"),
            "jit": 1e3 * rounds.median("jit"),
            "ratio": rounds.ratio("islands", "jit"),
            "here": messages[0],
            "there": messages[1],
        }
    return row


class _Layer:
    """The layer both ways; its loss is the mean square of what it makes."""

    def __init__(self, settings: BenchIslands, parts: Sequence[rt.Slice]):
        self.settings, self._parts = settings, list(parts)
        keys = jax.random.split(jax.random.key(0))
        # The last feature is constant: with it the router turns tokens away from experts.
        size = 1, settings.tokens, settings.expert_width
        x = jax.random.normal(keys[0], size).at[..., -1].set(1.0)
        self._tokens = x
        made = self._moe("blocked").init(keys[1], x, *_all(x), train=False)
        self._params: Any = made["params"]
        self._lowered = lower(self._loss("pathways"), self._params, x, slices=self._parts)
        blocked, home = self._loss("blocked"), parts[0]
        self._fused = {
            "forward": rt.computation(lambda p, x: (blocked(p, x),), home, name="forward"),
            "train": rt.computation(jax.value_and_grad(blocked), home, name="train"),
        }

    def dataflow(self, what: str, awake: Sequence[int]) -> Callable[[], Any]:
        """The lowered layer, everything where it is used."""
        split, _ = self._lowered.split(self._turned(awake), self._tokens)
        call: Any = self._lowered if what == "forward" else self._lowered.value_and_grad(0)
        mlp = split.pop("Mlp")  # there already
        given = {**self._parts[0].put(split), "Mlp": mlp}, self._parts[0].put(self._tokens)
        # The router's island then wakes experts by itself.
        call.compile(*given)

        def run() -> Any:
            made = call(*given)
            return jax.block_until_ready((made,) if what == "forward" else made)

        return run

    def fused(self, what: str, awake: Sequence[int]) -> Callable[[], Any]:
        """One computation on the first island."""
        given = self._parts[0].put((self._turned(awake), self._tokens))
        return lambda: jax.block_until_ready(self._fused[what](*given))

    def count_messages(self, run: Callable[[], Any]) -> list[int]:
        """To each island in one run, when nothing else is to be told."""
        boxes: list[Any] = [part.devices[0].outbox for part in self._parts]
        gc.collect()
        for box in boxes:
            box.ask("held")
        before = [box.messages for box in boxes]
        run()
        return [box.messages - was for box, was in zip(boxes, before, strict=True)]

    def _moe(self, dispatcher: Any) -> Moe:
        config = MoeConfig(
            num_experts=self.settings.experts,
            selected=1,
            capacity_factor=None,
            noise_std=0.0,
            dispatcher=dispatcher,
        )
        return Moe(config, 4 * self.settings.expert_width, num_modalities=1, shared_init=False)

    def _loss(self, dispatcher: str) -> Callable[[Any, Any], jax.Array]:
        moe = self._moe(dispatcher)

        def loss(params: Any, x: jax.Array) -> jax.Array:
            found: Any = moe.apply({"params": params}, x, *_all(x), train=False)
            return jnp.mean(found[0] ** 2)

        return loss

    def _turned(self, awake: Sequence[int]) -> Any:
        """Parameters whose router sends tokens to those experts alone."""
        away = jnp.full(self.settings.experts, -_FAR).at[jnp.array(awake)].set(0.0)
        kernel = self._params["Router"]["dense"]["kernel"].at[-1].set(away)
        return {**self._params, "Router": {"dense": {"kernel": kernel}}}


def _all(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mask and modality of tokens that are all real and of one kind."""
    return jnp.ones(x.shape[:2], bool), jnp.zeros(x.shape[:2], jnp.int32)
