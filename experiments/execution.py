"""`fused` and `pathways`: the two ways to run a sparse model, and which models have both.

Fused is one compiled program for all; by pathways the model is cut at its experts, of which those
alone run, and are differentiated, that some token chose.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, TypeVar

from .errors import ConfigError
from .validate_model import towers

_Model = TypeVar("_Model")


def by_pathways(model: _Model) -> _Model:
    """A model's config with experts that can be cut out: the same function of the same tree."""
    changes: dict[str, Any] = {"scan": False, "remat": "none"}
    for key, part in towers(model).items():
        moe = dataclasses.replace(part.moe, dispatcher="pathways")
        name = key.removeprefix("model").removeprefix(".")
        if name:
            changes[name] = dataclasses.replace(part, moe=moe)
        else:
            changes["moe"] = moe
    return dataclasses.replace(model, **changes)  # pyright: ignore[reportArgumentType]


def forward_problems(model: Any) -> Iterator[str]:
    """Why a model cannot answer by pathways."""
    parts = {key: part for key, part in towers(model).items() if part.moe.placement != "none"}
    if not parts:
        yield (
            "the model is dense (moe.placement 'none'), so there are no experts to leave out; take "
            "execution 'fused'"
        )
    for key, part in parts.items():
        moe = part.moe
        if moe.router == "soft":
            yield (
                f"{key}.moe.router is 'soft', under which every expert works on every input, so "
                "there is nothing to leave out; take execution 'fused', or a router of token "
                "choice such as 'top_k'"
            )
        elif moe.router == "expert_choice":
            yield (
                f"{key}.moe.router is 'expert_choice', under which every expert takes its fixed "
                "number of tokens, so that none ever sleeps; take execution 'fused', or a router "
                "of token choice such as 'top_k'"
            )


def check_forward(model: Any) -> None:
    """Raises ConfigError where a model cannot answer by pathways."""
    problems = list(forward_problems(model))
    if problems:
        raise ConfigError(problems)


def training_problems(model: Any) -> Iterator[str]:
    """Why a model cannot be trained by pathways."""
    found = list(forward_problems(model))
    yield from found
    if found:
        return
    for key, part in towers(model).items():
        moe = part.moe
        if moe.placement != "none" and moe.capacity_factor is not None:
            yield (
                f"{key}.moe.capacity_factor is {moe.capacity_factor:g}, but by pathways an expert "
                f"takes all the tokens that chose it: set --{key}.moe.capacity-factor None, or "
                "execution 'fused'"
            )
