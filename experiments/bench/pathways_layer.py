"""The sparse layer of `bench pathways`, its tokens, and the roads through it that are timed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...models import Mlp, Moe, MoeConfig, lower
from ...routing import DISPATCHERS, ExpertMlp, keep_experts
from .compiler_options import fast_options
from .pathways_settings import BenchPathways
from .programs import What

# What a token must lose so that nobody chooses an expert.
_FAR = 1e4
Road = Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Case:
    """A layer and its tokens.

    Attributes:
        settings: sizes.
        params: of the layer.
        tokens: (1, T, D).
        counts: (E,) tokens of each expert.
    """

    settings: BenchPathways
    params: Any
    tokens: Float[Array, "1 T D"]
    counts: np.ndarray

    @property
    def awake(self) -> list[int]:
        """Experts with tokens."""
        return np.flatnonzero(self.counts).tolist()

    def layer(self, dispatcher: Any, kept: tuple[int, ...] | None = None) -> Moe:
        """The Linen layer, dropless, without noise."""
        config = MoeConfig(
            num_experts=self.settings.experts,
            selected=1,
            capacity_factor=None,
            noise_std=0.0,
            dispatcher=dispatcher,
        )
        hidden = self.settings.hidden
        return Moe(config, hidden, num_modalities=1, shared_init=False, kept=kept)


def make_case(settings: BenchPathways, name: str) -> Case:
    """Normally distributed tokens, and a router that lets them choose as the case wants."""
    count = settings.few if name == "small" else settings.tokens
    keys = jax.random.split(jax.random.key(settings.seed))
    # The last feature is constant: with it the router turns tokens away from experts.
    x = jax.random.normal(keys[0], (1, count, settings.width)).at[..., -1].set(1.0)
    empty = Case(settings, None, x, np.zeros(settings.experts, np.int32))
    params: Any = jax.jit(lambda key: empty.layer("blocked").init(key, x, *_all(x), train=False))(
        keys[1]
    )
    kernel = params["params"]["Router"]["dense"]["kernel"]
    asleep = jnp.arange(settings.experts) >= settings.awake
    away = jnp.where(asleep, -_FAR, 0.0) if name == "skewed" else 0.0
    params["params"]["Router"]["dense"]["kernel"] = kernel.at[-1].set(away)
    case = dataclasses.replace(empty, params=params)
    found: Any = case.layer("blocked").apply(params, x, *_all(x), train=False)
    chosen = np.asarray(found[2].expert).ravel()
    counts = np.bincount(chosen, minlength=settings.experts)
    return dataclasses.replace(case, counts=counts)


def jitted(case: Case, what: What, dispatcher: str, options: dict[str, str]) -> Road:
    """The layer as one program, by a dispatcher of the routing suite."""
    layer = case.layer(dispatcher)
    return _program(case, what, lambda p, x: layer.apply(p, x, *_all(x), train=False)[0], options)


def awake_alone(case: Case, what: What, options: dict[str, str]) -> Road:
    """`blocked` over the experts that are awake alone, in the blocks of the whole layer.

    The router is the whole layer's. This is what the layer would cost if one knew beforehand
    who sleeps.
    """
    awake = tuple(case.awake)
    layer = case.layer("blocked", kept=awake)
    mine = np.asarray(awake)
    params = {**case.params["params"]}
    params["Mlp"] = jax.tree.map(lambda stacked: stacked[mine], params["Mlp"])

    def forward(p: Any, x: Any) -> Any:
        found: Any = layer.apply(p, x, *_all(x), train=False)
        parts = p["params"]["Mlp"]
        first, second = parts["Dense_0"], parts["Dense_1"]
        weights = (first["kernel"], first["bias"], second["kernel"], second["bias"])
        blocked: Any = DISPATCHERS["blocked"]
        among = keep_experts(found[2], awake)
        return blocked(among, x, ExpertMlp(*weights), sized_for=case.settings.experts)

    return _program(dataclasses.replace(case, params={"params": params}), what, forward, options)


def dense(case: Case, what: What, options: dict[str, str]) -> Road:
    """One MLP of width H over the same tokens: the FLOPs of K = 1 experts a token."""
    mlp = Mlp(case.settings.hidden)
    params = jax.jit(mlp.init)(jax.random.key(case.settings.seed), case.tokens)
    case = dataclasses.replace(case, params=params)
    return _program(case, what, lambda p, x: mlp.apply(p, x), options)


def dataflow(case: Case, what: What, devices: Sequence[Any]) -> Road:
    """The layer lowered, its experts apart and on their devices."""
    layer = case.layer("pathways")
    function, arguments = _function(
        case, what, lambda p, x: layer.apply(p, x, *_all(x), train=False)[0]
    )
    lowered = lower(function, *arguments, devices=devices)
    given = lowered.split(*arguments)
    call = lowered if what == "forward" else lowered.value_and_grad((0, 1))
    return lambda: jax.block_until_ready(call(*given))


def usual_and_ours() -> dict[str, dict[str, str]]:
    """Compiler options that every program is tried with, by name."""
    ours = fast_options()
    return {"usual": {}, "ours": ours} if ours else {"usual": {}}


def _program(case: Case, what: What, forward: Callable, options: dict[str, str]) -> Road:
    function, arguments = _function(case, what, forward)
    if what == "train":
        function = jax.value_and_grad(function, (0, 1), has_aux=True)
    call = jax.jit(function, compiler_options=options)
    return lambda: jax.block_until_ready(call(*arguments))


def _function(case: Case, what: What, forward: Callable) -> tuple[Callable, tuple[Any, ...]]:
    """What is compiled or lowered. `train` gives the outputs, too, as in `programs.build`."""
    if what == "forward":
        return forward, (case.params, case.tokens)
    cotangent = jax.random.normal(jax.random.key(case.settings.seed + 1), case.tokens.shape)

    def loss(params: Any, x: Any, cotangent: Any) -> tuple[Any, Any]:
        out = forward(params, x)
        return jnp.vdot(out, cotangent), out

    return loss, (case.params, case.tokens, cotangent)


def _all(x: Float[Array, "G T D"]) -> tuple[Any, Any]:
    """Mask and modality of tokens that are all real and of one kind."""
    return jnp.ones(x.shape[:2], bool), jnp.zeros(x.shape[:2], jnp.int32)
