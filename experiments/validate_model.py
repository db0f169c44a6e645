"""Checks of a model's sizes and of its routing; messages name keys of `model.`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..models import ImageTowerConfig, PalmConfig, TextTowerConfig, VmoeConfig
from ..models.config import ModelConfig, MoeConfig
from .config import LossConfig, RouterLossConfig

Model = ModelConfig | VmoeConfig | PalmConfig | ImageTowerConfig | TextTowerConfig


def towers(model: Any) -> dict[str, Any]:
    """The stacks of a model by their dotted keys: one, or an image and a text tower."""
    if hasattr(model, "moe"):
        return {"model": model}
    return {"model.image": model.image, "model.text": model.text}


def tokens_of(model: Model) -> int:
    """Tokens that an example brings to a group."""
    if isinstance(model, PalmConfig):
        return model.max_length
    if isinstance(model, TextTowerConfig):
        return model.text_length
    if isinstance(model, ModelConfig):
        return (model.image_size // model.patch_size) ** 2 + model.text_length
    return model.num_tokens


def shape_problems(model: Model) -> Iterator[str]:
    """Sizes that do not divide."""
    if not isinstance(model, TextTowerConfig | PalmConfig) and model.image_size % model.patch_size:
        fitting = [p for p in range(1, model.image_size + 1) if model.image_size % p == 0]
        yield (
            f"model.image_size is {model.image_size}, which does not divide into patches of "
            f"model.patch_size {model.patch_size}; patch sizes that fit: {_few(fitting)}"
        )
    if isinstance(model, PalmConfig):
        if model.head_size % 2:
            yield (
                f"model.head_size is {model.head_size}; rotary positions turn pairs of features: "
                f"choose {model.head_size + 1}"
            )
        return
    if model.width % model.heads:
        fitting = [h for h in range(1, model.width + 1) if model.width % h == 0]
        yield (
            f"model.width is {model.width}, which does not divide into model.heads "
            f"{model.heads}; numbers of heads that fit: {_few(fitting)}"
        )


def moe_problems(model: Model, loss: RouterLossConfig) -> Iterator[str]:
    """Values of the sparse blocks that are out of place."""
    moe = model.moe
    if moe.placement == "none":
        return
    if moe.selected > moe.num_experts:
        yield (
            f"model.moe.selected (K) is {moe.selected}, more than the model.moe.num_experts (E) "
            f"{moe.num_experts} there are; choose at most {moe.num_experts}"
        )
    if moe.placement == "every" and moe.n > model.depth:
        yield (
            f"model.moe.n is {moe.n} with placement 'every', but the stack has only model.depth "
            f"{model.depth} blocks, so none would be sparse; choose n from 1 to {model.depth}, "
            "or placement 'none' for the dense twin"
        )
    if moe.placement == "last" and moe.n > model.depth // 2:
        yield (
            f"model.moe.n is {moe.n} with placement 'last', but model.depth {model.depth} has "
            f"only {model.depth // 2} odd blocks; choose n from 1 to {model.depth // 2}"
        )
    if moe.placement == "final" and moe.n > model.depth:
        yield (
            f"model.moe.n is {moe.n} with placement 'final', but there are only model.depth "
            f"{model.depth} blocks; choose n from 1 to {model.depth}"
        )
    if moe.kept_experts:
        yield (
            f"model.moe.kept_experts lists {len(moe.kept_experts)} experts: a pathway that was cut "
            "out of a model answers, and is not trained; train the whole model"
        )
    yield from _routing(model, loss)
    if isinstance(loss, LossConfig):
        yield from _thresholds(loss, moe.routed_experts)
    if loss.load and moe.noise_std == 0 and moe.router != "soft":
        yield (
            "loss.load is on but model.moe.noise_std is 0: the load loss is a probability under "
            "the router's noise; switch it off (--loss.no-load) or give noise"
        )
    if isinstance(model, PalmConfig) or (isinstance(model, TextTowerConfig) and model.causal):
        yield from _causal(model.moe)


def _thresholds(loss: LossConfig, experts: int) -> Iterator[str]:
    for modality in ("image", "text"):
        threshold = getattr(loss, f"threshold_{modality}")
        if threshold > experts:
            yield (
                f"loss.threshold_{modality} asks for {threshold:g} experts, more than the "
                f"model.moe.num_experts {experts} there are, so the loss could never "
                f"vanish; choose at most {experts}, or 0 to switch it off"
            )
        elif 0 < threshold < 1:
            yield (
                f"loss.threshold_{modality} is {threshold:g}; it counts experts (the exp of the "
                "paper's tau): choose 1 or more, or 0 to switch it off"
            )


def _routing(model: Model, loss: RouterLossConfig) -> Iterator[str]:
    """Routers and options that do not go together."""
    moe = model.moe
    if moe.eval_selected is not None and not 1 <= moe.eval_selected <= moe.num_experts:
        yield (
            f"model.moe.eval_selected is {moe.eval_selected}; choose 1 to model.moe.num_experts "
            f"{moe.num_experts}, or null for the training's"
        )
    if model.hidden % moe.granularity:
        yield (
            f"model.hidden {model.hidden} does not divide into model.moe.granularity "
            f"{moe.granularity} parts"
        )
    if moe.router == "switch" and (moe.chosen, moe.eval_chosen) != (1, 1):
        yield (
            f"model.moe.router 'switch' chooses one expert, not {moe.chosen} in training and "
            f"{moe.eval_chosen} at evaluation (selected times granularity); choose 'gshard' or "
            "'top_k' for more"
        )
    if moe.capacity_factor is None and moe.router == "expert_choice":
        yield (
            "model.moe.capacity_factor is null (dropless), but with router 'expert_choice' an "
            "expert takes as many tokens as it has slots; give a number above 0"
        )
    if moe.dispatcher == "expert_parallel":
        yield (
            "model.moe.dispatcher is 'expert_parallel', which needs a mesh with an axis `expert`, "
            "and `byways train` shares out the batch alone; choose 'index', 'blocked' or "
            "'grouped' (docs/dispatchers.md shows the layer under a mesh)"
        )
    if moe.renormalize is not None and moe.router not in ("top_k", "sigmoid"):
        yield (
            f"model.moe.renormalize is {moe.renormalize}, but router {moe.router!r} has gates of "
            "its own; choose 'top_k' or 'sigmoid', or renormalize None"
        )
    if moe.renormalize and moe.chosen == 1:
        yield (
            "model.moe.renormalize is on with one expert per token, whose gate would always be 1 "
            "and teach the router nothing; choose more experts, or renormalize None"
        )
    if moe.bias != "none" and moe.router not in ("top_k", "sigmoid"):
        yield (
            f"model.moe.bias is {moe.bias!r}, which router {moe.router!r} does not heed; choose "
            "'top_k' or 'sigmoid', or bias 'none'"
        )
    if moe.task != "none" and moe.router in ("hash", "random", "soft"):
        yield (
            f"model.moe.task is {moe.task!r}, which router {moe.router!r} does not heed; choose "
            "another router, or task 'none'"
        )
    if loss.load and moe.router in ("hash", "random", "expert_choice"):
        yield (
            f"loss.load is on, but router {moe.router!r} has no load to predict; switch it off "
            "(--loss.no-load)"
        )


def _causal(moe: MoeConfig) -> Iterator[str]:
    """A decoder's tokens may learn nothing of later ones (docs/palm.md)."""
    if moe.router in ("expert_choice", "soft"):
        yield (
            f"model.moe.router is {moe.router!r}, which chooses by looking at all tokens of a "
            "group, later ones too; a decoder needs token choice: 'top_k', 'switch', 'gshard', "
            "'sigmoid' or 'hash'"
        )
        return
    first_come = moe.router not in ("top_k", "sigmoid") or not moe.batch_priority
    if not first_come and (moe.capacity_factor, moe.eval_capacity_factor) != (None, None):
        yield (
            "model.moe.batch_priority is on with a capacity: a later token with a larger gate "
            "takes an earlier one's place; set --model.moe.no-batch-priority, or "
            "capacity_factor None"
        )
    elif moe.eval_capacity_factor is not None and moe.eval_chosen > 1:
        yield (
            f"model.moe.eval_capacity_factor is {moe.eval_capacity_factor:g} with "
            f"{moe.eval_chosen} experts a token: a later token's first choice takes an earlier "
            "one's second; set it to None (dropless)"
        )


def _few(values: Sequence[int]) -> str:
    shown = ", ".join(str(value) for value in values[:12])
    return shown + (", …" if len(values) > 12 else "")
