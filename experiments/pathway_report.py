"""What a pathway kept of its model, and what that cost."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict
from jaxtyping import Float

from ..models import LoadedModel


@dataclasses.dataclass(frozen=True)
class PathwayReport:
    """A pathway beside the whole model, both on the same data.

    Attributes:
        kept: experts left of each sparse block, by the block's name in the model's results.
        num_experts: of each of them in the whole model.
        parameters: of the pathway.
        whole_parameters: of the whole model.
        scored: what was scored, in words.
        top1: a fraction, with the pathway.
        whole_top1: the same of the whole model.
        cosine: mean cosine between the pathway's outputs and the whole model's.
    """

    kept: dict[str, int]
    num_experts: int
    parameters: int
    whole_parameters: int
    scored: str
    top1: float
    whole_top1: float
    cosine: float

    def lines(self) -> Iterable[str]:
        """For people."""
        share = self.parameters / self.whole_parameters
        yield (
            f"{self.parameters / 1e6:.2f} M of {self.whole_parameters / 1e6:.2f} M parameters "
            f"({share:.1%})"
        )
        kept = ", ".join(f"{count} in {name}" for name, count in self.kept.items())
        yield f"experts of {self.num_experts}: {kept}" if kept else "no experts: the model is dense"
        yield f"top-1 on {self.scored}: {self.top1:.2%}, of the whole model {self.whole_top1:.2%}"
        yield f"mean cosine of its outputs with the whole model's: {self.cosine:.4f}"


def compare(
    cut: LoadedModel,
    whole: LoadedModel,
    pairs: Mapping[str, Any],
    scored: str,
    scores: tuple[float, float],
    outputs: tuple[Float[np.ndarray, "n F"], Float[np.ndarray, "n F"]],
) -> PathwayReport:
    """The report.

    Args:
        cut: the pathway.
        whole: what it was cut from.
        pairs: as `cut_pathway` was given them.
        scored: what the scores are of.
        scores: top-1 of the pathway and of the whole model.
        outputs: of both, row by row of the same data, none of them zero.
    """
    few, all_of_them = _flat(cut.params), _flat(whole.params)
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in outputs]
    return PathwayReport(
        kept={name: len(few[_bias(name)]) for name in pairs},
        num_experts=max((len(counts) for counts in pairs.values()), default=0),
        parameters=_count(few),
        whole_parameters=_count(all_of_them),
        scored=scored,
        top1=scores[0],
        whole_top1=scores[1],
        cosine=float(np.mean(np.sum(unit[0] * unit[1], axis=1))),
    )


def _flat(params: Any) -> dict[str, Any]:
    return flatten_dict(params, sep="/")  # pyright: ignore


def _bias(block: str) -> str:
    """Of a block by its name in results, one row for each expert."""
    tower, slash, name = block.rpartition("/")
    return f"{tower}{slash}Encoder/{name}/Moe/Mlp/Dense_0/bias"


def _count(flat: Mapping[str, Any]) -> int:
    return sum(math.prod(np.shape(leaf)) for leaf in flat.values())
