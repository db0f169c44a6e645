"""Writes `report.html` into a run folder."""

from __future__ import annotations

import functools
import importlib.metadata
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ...datasets import DataConfig, RecordError, attribution, load_data
from ..errors import CheckpointError, RunError
from ..evaluation.evaluate import emoji_art
from ..files import write_bytes
from ..run_folder import RunFolder
from . import summary
from .answers import sample_answers
from .curves import other_curves, routing_curves, training_curves
from .experts import expert_tastes
from .loads import layer_loads
from .records import Records, read_records
from .scores import comparison, retrieval, zero_shot

_PAGE = Path(__file__).with_name("page")


def write_report(run_dir: Path | str) -> Path:
    """Makes one self-contained page of a run; what the run lacks, the page says.

    Needs no network, then or later: pictures and drawings are inside, and there is no script.

    Args:
        run_dir: the run folder; it may still be training, and need not be evaluated.

    Returns:
        The file: `report.html` in the run folder, written whole or not at all.

    Raises:
        RunError: not a run folder, or it cannot be written.
    """
    records = read_records(run_dir)
    target = RunFolder(run_dir).report_file
    try:
        write_bytes(target, render(records).encode())
    except OSError as error:
        raise RunError(
            f"{target} cannot be written ({error.strerror or error}); make room, or make the "
            "folder writable, and run the command again"
        ) from error
    return target


def render(records: Records) -> str:
    """The page's HTML. Everything that comes from a run or from data is escaped."""
    results, config = records.results, records.config
    page: dict[str, Any] = {
        "name": records.name,
        "routed": records.routed,
        "sentences": summary.sentences(records),
        "headline": summary.headline(records),
        "state": summary.state(records),
        "settings": summary.settings(records),
        "versions": summary.versions(records),
        "config": summary.config_text(records),
        "training": training_curves(records),
        "other": other_curves(records),
        "routing": routing_curves(records) if records.routed else (),
        "scores": zero_shot(results) if results else None,
        "retrieval": retrieval(results) if results else None,
        "bars": _bars(results) if results else [],
        "loads": layer_loads(results, config.model.depth) if results else (),
        "room": ((results or {}).get("routing") or {}).get("capacity_over_real_tokens"),
        "capacity": config.model.moe.capacity_factor,
        "made_by": importlib.metadata.version("byways"),
        "attribution": attribution(),
        **_pictures(records),
    }
    return _environment().get_template("page.html").render(page)


def _bars(results: dict[str, Any]) -> list[tuple[str, tuple]]:
    titles = {"all": "All Noto drawings", "held_out": "Held-out things only"}
    found = [(title, comparison(results, share)) for share, title in titles.items()]
    return [(title, bars) for title, bars in found if bars]


def _pictures(records: Records) -> dict[str, Any]:
    """The parts that need drawings and parameters, or why they are missing."""
    from ..library import load

    parts: dict[str, Any] = {"tastes": (), "answers": (), "no_tastes": "", "no_answers": ""}
    config: DataConfig = emoji_art(records.config.data)
    try:
        examples = load_data(config, records.config.model.image_size)
    except (RecordError, OSError) as error:
        reason = f"The drawings cannot be read: {error}"
        return parts | {"no_tastes": reason, "no_answers": reason}
    if records.predictions is None:
        parts["no_answers"] = f"No answers yet. Run: byways evaluate {records.path}"
    else:
        parts["answers"] = sample_answers(records.predictions, examples)
        if not parts["answers"]:
            parts["no_answers"] = (
                "The predictions are not of these drawings. Run again: byways evaluate "
                f"{records.path}"
            )
    if records.routed:
        try:
            parts["tastes"] = expert_tastes(load(records.path), examples)
        except (CheckpointError, RunError) as error:
            parts["no_tastes"] = f"There are no parameters to look into: {error}"
    return parts


@functools.cache
def _environment() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["percent"] = summary.percent
    # For tables whose caption says per cent.
    found.filters["hundredths"] = lambda value: summary.percent(value).removesuffix(" %")
    # The style sheet is the project's own and is put in as it is.
    found.globals["style"] = Markup((_PAGE / "style.css").read_text("utf-8"))
    return found
