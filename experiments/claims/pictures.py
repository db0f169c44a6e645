"""The picture of each claim, drawn from records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..compare.statistics import mean_interval
from ..report.charts import Chart, Series
from .arms import ARMS
from .claim import Claim, Side
from .figure import KINDS, Bar, bar_figure, figure
from .judging import Records, values_of

Draw = Callable[[Claim, Records, Mapping[str, float]], bytes | None]


def draw(
    name: str, claim: Claim, records: Records, step_seconds: Mapping[str, float]
) -> bytes | None:
    """The SVG of a picture; None where no record has what it shows."""
    return _PICTURES[name](claim, records, step_seconds)


def _curves(claim: Claim, records: Records, step_seconds: Mapping[str, float]) -> bytes | None:
    """Validation over steps, FLOPs and seconds."""
    panels = []
    for unit, title, at in (
        ("step", "by steps", lambda arm, step, flops: float(step)),
        ("GFLOP", "by model FLOPs of training", lambda arm, step, flops: flops / 1e9),
        ("seconds", "by seconds of training", lambda arm, step, flops: step * step_seconds[arm]),
    ):
        arms = [a for a in _arms(claim, records) if unit != "seconds" or a in step_seconds]
        series = []
        for place, arm in enumerate(arms):
            curves = [record.curve for record in records[arm] if record.curve]
            points, band = [], []
            for point in zip(*curves, strict=False):
                x = sum(at(arm, step, flops) for step, flops, _ in point) / len(point)
                found = mean_interval([value for *_, value in point])
                points.append((x, found.mean))
                if found.low is not None and found.high is not None:
                    band.append((x, max(0.0, found.low), min(1.0, found.high)))
            if points:
                kind = KINDS[place % len(KINDS)]
                series.append(Series(ARMS[arm].says, kind, tuple(points), tuple(band)))
        if series:
            panels.append(Chart(title, "", tuple(series), percent=True, unit=unit))
    return figure(f"{claim.title}: validation top-1", panels) if panels else None


def _losses(claim: Claim, records: Records, step_seconds: Mapping[str, float]) -> bytes | None:
    keys = (
        ("routing.text_success", "text tokens that find a slot (worst block)"),
        ("routing.image_success", "image tokens that find a slot (worst block)"),
        ("emojione-v1.all.top1", "drawings named, validation artist (top-1)"),
    )
    return _bars(claim, records, keys, percent=True)


def _information(claim: Claim, records: Records, step_seconds: Mapping[str, float]) -> bytes | None:
    groups = []
    for label in ("modality", "group", "concept"):
        bars = []
        for arm in _arms(claim, records):
            prefix = f"information.{label}."
            layers = sorted(
                key.removeprefix(prefix)
                for key in records[arm][0].numbers
                if key.startswith(prefix) and key.removeprefix(prefix).isdigit()
            )
            for layer in layers:
                for end, words, kind in (("", "", "s0"), (".shuffled", ", labels shuffled", "s1")):
                    side = Side(arm, f"{prefix}{layer}{end}")
                    bars += _bar(f"block {layer}{words}", side, records, kind, percent=False)
        if bars:
            groups.append((f"expert and {label}, nats", bars))
    return bar_figure(claim.title, groups) if groups else None


def _capacity(claim: Claim, records: Records, step_seconds: Mapping[str, float]) -> bytes | None:
    arm = claim.arms[0]
    lines = []
    for place, (end, words) in enumerate((("priority", "surest first"), ("order", "in order"))):
        points = []
        for factor in ("0.1", "0.25", "0.5", "1.05"):
            values = values_of(Side(arm, f"capacity.{factor}.{end}"), records, step_seconds)
            if values:
                points.append((float(factor), mean_interval(list(values.values()))))
        if points:
            lines.append(
                Series(
                    words,
                    KINDS[place],
                    tuple((x, found.mean) for x, found in points),
                    tuple((x, f.low, f.high) for x, f in points if f.low is not None),  # pyright: ignore
                )
            )
    if not lines:
        return None
    whole = list(values_of(Side(arm, "capacity.dropless"), records, step_seconds).values())
    level = ("dropless", mean_interval(whole).mean) if whole else None
    chart = Chart(
        "test top-1 by capacity", "", tuple(lines), percent=True, reference=level, unit="C"
    )
    return figure(claim.title, [chart])


def _layers(claim: Claim, records: Records, step_seconds: Mapping[str, float]) -> bytes | None:
    arm, panels = claim.arms[0], []
    for place, (what, title, percent) in enumerate(
        (
            ("class", "what experts tell of the class, nats", False),
            ("position", "of the position, nats", False),
            ("random_drop", "lost under a random router", True),
        )
    ):
        points, band = [], []
        for block in range(64):
            values = values_of(Side(arm, f"layers.{what}.{block}"), records, step_seconds)
            if values:
                found = mean_interval(list(values.values()))
                points.append((float(block), found.mean))
                if found.low is not None and found.high is not None:
                    band.append((float(block), found.low, found.high))
        if points:
            line = Series(title, KINDS[place], tuple(points), tuple(band))
            panels.append(Chart(title, "", (line,), percent=percent, low=0.0, unit="block"))
    return figure(claim.title, panels) if panels else None


def _max_vio(claim: Claim, records: Records, step_seconds: Mapping[str, float]) -> bytes | None:
    lines = []
    for place, arm in enumerate(_arms(claim, records)):
        points, band = [], []
        for point in zip(*(r.routing for r in records[arm] if r.routing), strict=False):
            found = mean_interval([value for _, value in point])
            points.append((float(point[0][0]), found.mean))
            if found.low is not None and found.high is not None:
                band.append((float(point[0][0]), max(0.0, found.low), found.high))
        if points:
            lines.append(Series(ARMS[arm].says, KINDS[place], tuple(points), tuple(band)))
    if not lines:
        return None
    chart = Chart("MaxVio of the worst block over training", "", tuple(lines), low=0.0)
    return figure(claim.title, [chart])


def _bars(
    claim: Claim, records: Records, keys: Sequence[tuple[str, str]], percent: bool
) -> bytes | None:
    groups = []
    for place, (key, title) in enumerate(keys):
        bars = []
        for arm in _arms(claim, records):
            bars += _bar(ARMS[arm].says, Side(arm, key), records, KINDS[place], percent)
        if bars:
            groups.append((title, bars))
    return bar_figure(claim.title, groups) if groups else None


def _bar(words: str, side: Side, records: Records, kind: str, percent: bool) -> list[Bar]:
    values = values_of(side, records, {})
    if not values:
        return []
    found = mean_interval(list(values.values()))
    shown = f"{100 * found.mean:.1f} %" if percent else f"{found.mean:.3f}"
    return [Bar(words, max(0.0, found.mean), shown, found.low, found.high, kind)]


def _arms(claim: Claim, records: Records) -> list[str]:
    return [arm for arm in claim.arms if records.get(arm)]


def _limits(claim: Claim, records: Records, step_seconds: Mapping[str, float]) -> bytes | None:
    bars = []
    for place, (key, title) in enumerate(claim.tables):
        for arm in _arms(claim, records):
            bars += _bar(title, Side(arm, key), records, KINDS[min(place, 1)], percent=True)
    return bar_figure(claim.title, [("Noto's drawings named (top-1)", bars)]) if bars else None


_PICTURES: Mapping[str, Draw] = {
    "curves": _curves,
    "losses": _losses,
    "information": _information,
    "capacity": _capacity,
    "layers": _layers,
    "max_vio": _max_vio,
    "limits": _limits,
}
