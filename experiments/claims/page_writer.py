"""Writes the page of claims out of records: Markdown, with a picture beside each claim."""

from __future__ import annotations

import dataclasses
import functools
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from ..compare.statistics import Interval, mean_interval
from ..files import write_bytes
from .arms import ARMS
from .claim import Claim, Side
from .judging import Answer, Judgement, Records, judge_claim, of_claim, values_of
from .pictures import draw
from .scales import Scale

_PAGE = Path(__file__).with_name("page")
# Pictures that need a run itself, and are kept once drawn: by claim, words and file.
EXPERTS = {
    "experts-specialise": {
        "what each expert of seed 0's LIMoE takes: its surest patches, and its words": "experts.svg"
    }
}


@dataclasses.dataclass(frozen=True)
class Page:
    """Where a page goes and what it is made of.

    Attributes:
        file: the Markdown; pictures go into the folder of its name beside it.
        records: the folder of records.
        timing: of `time_steps`, with `device` and `versions`; empty where nothing was timed.
        scale: of the runs.
    """

    file: Path
    records: Path
    timing: Mapping[str, Any]
    scale: Scale


def write_page(page: Page, claims: Sequence[Claim], records: Records) -> list[Judgement]:
    """Judges all claims and writes the page and its pictures, each file whole or not at all."""
    pace = page.timing.get("seconds", {})
    own = [of_claim(claim, records) for claim in claims]
    judged = [judge_claim(claim, o, pace) for claim, o in zip(claims, own, strict=True)]
    entries = [_entry(page, one, o, pace) for one, o in zip(judged, own, strict=True)]
    text = (
        _environment()
        .get_template("claims.md")
        .render(
            judged=entries,
            scale=page.scale,
            records=page.records.name if page.records.parent == page.file.parent else page.records,
            pace=_pace(page.timing),
            made=_made(records),
        )
    )
    page.file.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(page.file, text.encode())
    return judged


def _entry(
    page: Page, one: Judgement, records: Records, pace: Mapping[str, float]
) -> dict[str, Any]:
    claim = one.claim
    arms = [arm for arm in claim.arms if records.get(arm)]
    rows = []
    for key, title in claim.tables:
        cells = [_cell(values_of(Side(arm, key), records, pace), key) for arm in arms]
        if any(cell != "–" for cell in cells):
            rows.append({"title": title, "cells": cells})
    return {
        "claim": claim,
        "verdict": one.verdict + (", so far" if _so_far(one) else ""),
        "seeds": _seeds(claim, [seed for answer in one.answers for seed in answer.seeds]),
        "answers": [_answer(claim, answer) for answer in one.answers],
        "arms": [ARMS[arm].says for arm in arms],
        "table": rows,
        "pictures": _pictures(page, claim, records, pace),
    }


def _so_far(one: Judgement) -> bool:
    """Whether planned seeds are still to come: what they show may turn the verdict."""
    return any(set(one.claim.seeds) - set(answer.seeds) for answer in one.answers)


def _answer(claim: Claim, answer: Answer) -> dict[str, str]:
    question = answer.question
    return {
        "asks": question.asks,
        "left": _side(answer.left, question.unit),
        "right": _side(answer.right, question.unit),
        "difference": difference_text(answer.difference, question.unit),
        "margin": _number(question.margin, question.unit),
        "seeds": _seeds(claim, answer.seeds),
        "verdict": answer.verdict,
        "but": _but(answer),
    }


def _but(answer: Answer) -> str:
    """What a reader must know beside *holds*: the sign is sure, the size may not matter."""
    question, found = answer.question, answer.difference
    if answer.verdict != "holds" or question.kind == "not worse" or found is None:
        return ""
    return ", by less than the margin on average" if abs(found.mean) < question.margin else ""


def difference_text(found: Interval | None, unit: str) -> str:
    """A difference with its interval.

    Examples:
        >>> difference_text(Interval(0.012, 0.004, 0.02, 3), "points")
        '+1.2 [+0.4, +2.0]'
        >>> difference_text(Interval(0.012, None, None, 1), "nats")
        '+0.012 (one seed)'
    """
    if found is None:
        return "–"
    mean = _number(found.mean, unit, sign=True)
    if found.low is None or found.high is None:
        return f"{mean} (one seed)"
    return f"{mean} [{_number(found.low, unit, sign=True)}, {_number(found.high, unit, sign=True)}]"


def _number(value: float, unit: str, sign: bool = False) -> str:
    plus = "+" if sign else ""
    return f"{100 * value:{plus}.1f}" if unit == "points" else f"{value:{plus}.3f}"


def _side(found: Interval | None, unit: str) -> str:
    return "–" if found is None else _number(found.mean, unit)


def _cell(values: Mapping[int, float], key: str) -> str:
    """A mean with half of its interval, in the unit that the key's number has."""
    if not values:
        return "–"
    found = mean_interval(list(values.values()))
    if key.endswith("flops"):
        return f"{found.mean / 1e12:.2f} T"
    if key == "parameters":
        return f"{found.mean / 1e6:.2f} M"
    if key.endswith("seconds"):
        return f"{found.mean:.0f}"
    unit = "plain" if key.startswith(_PLAIN) or key.endswith(("entropy", "ratio")) else "points"
    half = "" if found.half is None else f" ± {_number(found.half, unit)}"
    return _number(found.mean, unit) + half


# Numbers that are no shares.
_PLAIN = ("routing.importance", "routing.max_vio", "layers.class", "layers.position", "information")


def _seeds(claim: Claim, seeds: Sequence[int]) -> str:
    """How many, of how many that were planned; those added afterwards are told."""
    found = set(seeds)
    planned, added = found & set(claim.seeds), found - set(claim.seeds)
    text = f"{len(planned)} of {len(claim.seeds)}"
    return f"{text}, {len(added)} added after" if added else text


def _pictures(
    page: Page, claim: Claim, records: Records, pace: Mapping[str, float]
) -> list[dict[str, str]]:
    folder = page.file.with_suffix("")
    found = []
    for name in claim.pictures:
        drawn = draw(name, claim, records, pace)
        if drawn is None:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{claim.name}.svg"
        write_bytes(file, drawn)
        found.append({"words": f"{claim.title}: {name}", "file": f"{folder.name}/{file.name}"})
    for words, name in EXPERTS.get(claim.name, {}).items():
        if (folder / name).is_file():
            found.append({"words": words, "file": f"{folder.name}/{name}"})
    return found


def _pace(timing: Mapping[str, Any]) -> str:
    if not timing:
        return " (not measured yet)"
    return f" ({timing['cpus']} cores, load {timing['load']:.1f}, {timing['rounds']} rounds)"


def _made(records: Records) -> str:
    runs = [record for arm in records.values() for record in arm]
    if not runs:
        return "No run is recorded yet."
    commits = sorted({record.commit[:7] for record in runs if record.commit})
    seconds = [record.seconds for record in runs]
    text = (
        f"{len(runs)} runs of {sum(bool(arm) for arm in records.values())} arms, a core each: "
        f"the median one took {statistics.median(seconds) / 60:.1f} minutes with its scores, "
        f"beside other work, all together {sum(seconds) / 3600:.1f} hours of a core"
    )
    return text + (f"; trained by commits {', '.join(commits)}." if commits else ".")


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PAGE),
        autoescape=False,  # Markdown out of the project's own words and numbers
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
