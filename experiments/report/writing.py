"""Writes `report.html` into a run folder."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ..config import ClassificationConfig, LanguageConfig, kind_of
from ..errors import RunError
from ..files import write_bytes
from ..run_folder import RunFolder
from . import summary
from .curves import other_curves, routing_curves, training_curves
from .loads import layer_loads
from .records import Records, read_records

_PAGE = Path(__file__).with_name("page")
# Sections that only a model with choices has.
_ROUTED = ("pathways", "loads", "tastes")
# What results of another shape lead to.
_MISFITS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


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
    page = _rendered(records)
    try:
        write_bytes(target, page.encode())
    except OSError as error:
        raise RunError(
            f"{target} cannot be written ({error.strerror or error}); make room, or make the "
            "folder writable, and run the command again"
        ) from error
    return target


def _rendered(records: Records) -> str:
    """The page; without scores that are another program's, or of an older or younger shape."""
    if records.results is None:
        return render(records)
    try:
        return render(records)
    except (*_MISFITS, jinja2.UndefinedError) as error:
        note = (
            f"results.json does not hold what this page shows ({error!r}), and was left out; "
            f"`byways evaluate {records.path}` writes it again."
        )
        return render(dataclasses.replace(records, results=None, notes=(*records.notes, note)))


def render(records: Records) -> str:
    """The page's HTML. Everything that comes from a run or from data is escaped."""
    results, config = records.results, records.config
    routing = (results or {}).get("routing") or {}
    own = _parts(records)
    sections = [s for s in own["sections"] if records.routed or s[0] not in _ROUTED]
    page: dict[str, Any] = {
        **own,
        "sections": sections,
        "name": records.name,
        "kind": kind_of(config),
        "routed": records.routed,
        "state": summary.state(records),
        "settings": summary.settings(records),
        "versions": summary.versions(records),
        "config": summary.config_text(records),
        "training": training_curves(records),
        "other": other_curves(records),
        "routing": routing_curves(records),
        "loads": layer_loads(results, config) if results else (),
        "room": routing.get("capacity_over_real_tokens"),
        "capacity": routing.get("capacity_factor"),
        "made_by": importlib.metadata.version("byways"),
    }
    return _environment().get_template("page.html").render(page)


def _parts(records: Records) -> dict[str, Any]:
    """What the page of the run's kind shows; the other kinds' code is not loaded."""
    config = records.config
    if isinstance(config, ClassificationConfig):
        from . import kind_classes as kind
    elif isinstance(config, LanguageConfig):
        from . import kind_language as kind
    else:
        from . import kind_pairs as kind
    return kind.parts(records)


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
