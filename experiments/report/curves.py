"""Which of the logged numbers are drawn, and how they are named for people."""

from __future__ import annotations

import dataclasses
import math

from .charts import Chart, Series
from .records import Records

_MODALITIES = ("image", "text")

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


def layer_title(name: str, depth: int) -> str:
    """People count layers from one: `encoderblock_1` of 4 is `Layer 2 of 4`."""
    number = name.rpartition("_")[2]
    return f"Layer {int(number) + 1} of {depth}" if number.isdigit() else name


def training_curves(records: Records) -> tuple[Chart, ...]:
    """Loss, score, learning rate and the like; a chart without logged numbers is left out."""
    pairs = records.config.batch_size
    contrastive = f"how hard it is to pick each picture's words out of {pairs}"
    charts = (
        _chart(
            "Contrastive loss",
            contrastive,
            [("loss", "one", "loss/contrastive", "train")],
            records,
            low=0.0,
            reference=("guessing", math.log(pairs))
            if records.config.loss.contrastive == "softmax"
            else None,
        ),
        _chart(
            "Validation score",
            "drawings named rightly, by an artist kept for choosing settings",
            [
                ("first five", "two", "top5", "validation"),
                ("first", "one", "top1", "validation"),
            ],
            records,
            percent=True,
            low=0.0,
        ),
        _chart(
            "Learning rate", "size of a training step", [("rate", "one", "lr", "train")], records,
            low=0.0,
        ),
        _chart(
            "Temperature",
            "learned; lower makes the model more decided",
            [("temperature", "one", "temperature", "train")],
            records,
            low=0.0,
        ),
    )  # fmt: skip
    return tuple(chart for chart in charts if chart)


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
    names = {key.removeprefix("loss/") for key in keys} - {"contrastive", "auxiliary"}
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
    model = records.config.model
    even = ("all experts alike", math.log(model.moe.routed_experts))
    layers = []
    for index in model.moe_layers:
        name = f"encoderblock_{index}"

        def both(key: str, layer: str = name) -> list[tuple[str, str, str, str]]:
            return [(m, m, f"routing/{layer}/{key}/{m}", "train") for m in _MODALITIES]

        charts = (
            _chart(
                "Success rate", "tokens that an expert had room for", both("success"), records,
                percent=True, high=1.0,
            ),
            _chart(
                "Local entropy", "doubt about single tokens (nats); low is decided",
                both("local_entropy"), records, low=0.0, reference=even,
            ),
            _chart(
                "Global entropy", "spread over the experts (nats); high is wide",
                both("global_entropy"), records, low=0.0, reference=even,
            ),
            _chart(
                "Busiest expert", "its load over an even share",
                [("load", "one", f"routing/{name}/max_load", "train")], records, low=0.0,
                reference=("even share", 1.0),
            ),
        )  # fmt: skip
        found = tuple(chart for chart in charts if chart)
        if found:
            layers.append(LayerCurves(layer_title(name, model.depth), found))
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
