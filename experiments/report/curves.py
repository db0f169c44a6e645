"""Which of the logged numbers are drawn, and how they are named for people."""

from __future__ import annotations

import dataclasses
import math

from ..config import ClassificationConfig, LanguageConfig
from .blocks import layer_title, modalities, routers
from .charts import Chart, Series
from .records import Records

# Losses that have a chart of their own among the first.
_SHOWN = {"contrastive", "cross_entropy", "normaliser", "auxiliary"}

# Title of each auxiliary loss and what it wants, by its key; in the order they are drawn.
_WANTS = {
    "importance": ("Importance", "every expert should matter equally"),
    "load": ("Load", "every expert should be chosen equally often"),
    "z": ("Size of scores (z)", "router scores should stay small"),
    "local/text": ("Local entropy, text", "the router should be sure of each word piece"),
    "local/image": ("Local entropy, image", "the router should be sure of each patch"),
    "global/image": ("Global entropy, image", "patches together should use several experts"),
    "global/text": ("Global entropy, text", "word pieces together should use several experts"),
}


@dataclasses.dataclass(frozen=True)
class LayerCurves:
    """The charts of one sparse layer.

    Attributes:
        title: such as `Layer 2 of 4`.
        charts: success, entropies, load.
    """

    title: str
    charts: tuple[Chart, ...]


def training_curves(records: Records) -> tuple[Chart, ...]:
    """Loss, score, learning rate and the like; a chart without logged numbers is left out."""
    config = records.config
    if isinstance(config, ClassificationConfig):
        charts = _class_curves(records)
    elif isinstance(config, LanguageConfig):
        charts = _language_curves(records)
    else:
        charts = _pair_curves(records)
    rate = [("rate", "one", "lr", "train")]
    charts.insert(2, _chart("Learning rate", "size of a training step", rate, records, low=0.0))
    return tuple(chart for chart in charts if chart)


def _pair_curves(records: Records) -> list[Chart | None]:
    pairs = records.config.batch_size
    guessing = ("guessing", math.log(pairs))
    return [
        _chart(
            "Contrastive loss",
            f"how hard it is to pick each picture's words out of {pairs}",
            [("loss", "one", "loss/contrastive", "train")],
            records,
            low=0.0,
            reference=guessing if records.config.loss.contrastive == "softmax" else None,
        ),
        _validation("drawings named rightly, by an artist kept for choosing settings", records),
        _chart(
            "Temperature",
            "learned; lower makes the model more decided",
            [("temperature", "one", "temperature", "train")],
            records,
            low=0.0,
        ),
    ]


def _class_curves(records: Records) -> list[Chart | None]:
    classes = records.config.model.num_classes
    return [
        _chart(
            "Cross-entropy",
            "surprise at the right class (nats); lower is better",
            [("loss", "one", "loss/cross_entropy", "train")],
            records,
            low=0.0,
            reference=("guessing", math.log(classes)),
        ),
        _validation("pictures kept from training, for choosing settings", records),
        _chart(
            "Training accuracy",
            "of the batch, before the step",
            [("accuracy", "one", "accuracy", "train")],
            records,
            percent=True,
            low=0.0,
        ),
    ]


def _language_curves(records: Records) -> list[Chart | None]:
    guessing = ("guessing", math.log(records.config.model.vocab_size))
    return [
        _chart(
            "Cross-entropy",
            "surprise at the next token (nats); lower is better",
            [("loss", "one", "loss/cross_entropy", "train")],
            records,
            low=0.0,
            reference=guessing,
        ),
        _chart(
            "Validation entropy",
            "the same, on captions kept for choosing settings",
            [("entropy", "one", "entropy", "validation")],
            records,
            low=0.0,
            reference=guessing,
        ),
        _chart(
            "Size of scores (log² Z)",
            "kept near zero by a small penalty",
            [("normaliser", "one", "loss/normaliser", "train")],
            records,
            low=0.0,
        ),
    ]


def _validation(note: str, records: Records) -> Chart | None:
    lines = [("first five", "two", "top5", "validation"), ("first", "one", "top1", "validation")]
    return _chart("Validation score", note, lines, records, percent=True, low=0.0)


def other_curves(records: Records) -> tuple[Chart, ...]:
    """The gradient's norm, and one chart for each loss that the routers add."""
    charts = [
        _chart(
            "Gradient norm",
            "before clipping; spikes are trouble",
            [("norm", "one", "grad_norm", "train")],
            records,
            low=0.0,
        )
    ]
    keys = {key for line in records.lines for key in line["metrics"] if key.startswith("loss/")}
    names = {key.removeprefix("loss/") for key in keys} - _SHOWN
    if names and records.routed:
        charts.append(
            _chart(
                "Auxiliary losses, averaged",
                f"enter the training with weight {records.config.loss.auxiliary:g}",
                [("auxiliary", "one", "loss/auxiliary", "train")],
                records,
                low=0.0,
            )
        )
        for name in [*(n for n in _WANTS if n in names), *sorted(names - set(_WANTS))]:
            title, note = _WANTS.get(name, (name, "as logged"))
            lines = [(name, "one", f"loss/{name}", "train")]
            charts.append(_chart(title, note, lines, records, low=0.0))
    return tuple(chart for chart in charts if chart)


def routing_curves(records: Records) -> tuple[LayerCurves, ...]:
    """Success, entropies and load of each sparse layer over training."""
    layers = []
    for name, moe in routers(records.config).items():
        even = ("all experts alike", math.log(moe.routed_experts))

        def each(key: str, layer: str = name) -> list[tuple[str, str, str, str]]:
            # A tower sees one modality; of the other there is nothing but zeros in the log.
            tower = layer.rpartition("/")[0]
            names = [m for m in modalities(records.config) if tower in ("", m)]
            return [(m, m, f"routing/{layer}/{key}/{m}", "train") for m in names]

        charts = (
            _chart(
                "Success rate", "tokens that an expert had room for", each("success"), records,
                percent=True, high=1.0,
            ),
            _chart(
                "Local entropy", "doubt about single tokens (nats); low is decided",
                each("local_entropy"), records, low=0.0, reference=even,
            ),
            _chart(
                "Global entropy", "spread over the experts (nats); high is wide",
                each("global_entropy"), records, low=0.0, reference=even,
            ),
            _chart(
                "Busiest expert", "its load over an even share",
                [("load", "one", f"routing/{name}/max_load", "train")], records, low=0.0,
                reference=("even share", 1.0),
            ),
        )  # fmt: skip
        found = tuple(chart for chart in charts if chart)
        if found:
            layers.append(LayerCurves(layer_title(name, records.config), found))
    return tuple(layers)


def _chart(
    title: str,
    note: str,
    lines: list[tuple[str, str, str, str]],
    records: Records,
    **options,
) -> Chart | None:
    """A chart of (name, style, key, kind of line), or None where nothing was logged."""
    series = []
    for name, style, key, kind in lines:
        points = tuple(
            (float(line["step"]), float(line["metrics"][key]))
            for line in records.lines
            # A number that was not finite is logged as null.
            if line["kind"] == kind and line["metrics"].get(key) is not None
        )
        if points:
            series.append(Series(name, style, points))
    return Chart(title, note, tuple(series), **options) if series else None
