"""A comparison as one self-contained HTML page, in the style of the report."""

from __future__ import annotations

import functools
import importlib.metadata
import re
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from . import words
from .comparing import Comparison
from .drawings import curve_charts, dot_plots, style_of
from .metrics import value_of

# Groups that the first sentences name.
_MOST = 3
_PAGE = Path(__file__).with_name("page")
_REPORT = Path(__file__).parents[1] / "report" / "page"


def render(found: Comparison) -> str:
    """The page's HTML: it loads nothing and runs no script; all that comes from runs is escaped.
    Imports JAX, for the FLOPs."""
    groups = found.groups
    page: dict[str, Any] = {
        "found": found,
        "styles": [style_of(place) for place in range(len(groups))],
        "base": groups[found.baseline],
        "others": [
            (group, cells)
            for place, (group, cells) in enumerate(zip(groups, found.cells, strict=True))
            if place != found.baseline
        ],
        "sentences": _sentences(found),
        "dots": dot_plots(found),
        "curves": curve_charts(groups),
        "unfinished": any(not run.finished for group in groups for run in group.runs),
        "several": any(len(group.runs) > 1 for group in groups),
        "runs": _runs(found),
        "keys": list(groups[0].differs),
        "words": words,
        "chance": words.chance_note(found),
        "made_by": importlib.metadata.version("byways"),
    }
    return _environment().get_template("compare.html").render(page)


def _sentences(found: Comparison) -> list[str]:
    """What is compared, and what the first metric says."""
    runs = sum(len(group.runs) for group in found.groups)
    many = len(found.groups)
    of = f"{many} groups" if many > 1 else "one group"
    sentences = [f"{runs} run{'s' if runs > 1 else ''} in {of}; runs of a group differ in seed."]
    if many == 1:
        return sentences
    key, base = found.metrics[0], found.groups[found.baseline].label
    pairs = zip(found.groups, found.cells, strict=True)
    tested = [(g.label, d) for g, row in pairs if (d := row[key].difference) is not None]
    if not any(d.p is not None for _, d in tested):
        return [*sentences, f"By {key}, there are too few finished seeds to tell groups apart."]
    clear = [(label, d) for label, d in tested if d.clear]
    if clear:
        verb = "differ" if len(clear) > 1 else "differs"
        named = [f"{label} ({words.mean_of(key, d)})" for label, d in clear[:_MOST]]
        if len(clear) > _MOST:
            named.append(f"{len(clear) - _MOST} more")
        listed = " and ".join(filter(None, [", ".join(named[:-1]), named[-1]]))
        what = f"{listed} {verb} from {base} by more than seeds do"
    else:
        what = f"no group differs from {base} by more than seeds may"
    return [*sentences, f"By {words.heading(key)}, {what}."]


def _runs(found: Comparison) -> list[dict[str, Any]]:
    rows = []
    for place, group in enumerate(found.groups):
        for run in group.runs:
            values = [(key, value_of(run, key)) for key in found.metrics]
            rows.append(
                {
                    "path": str(run.path),
                    "style": style_of(place),
                    "group": group.label,
                    "seed": run.seed,
                    "state": "finished" if run.finished else f"step {run.step}",
                    "values": [
                        "–" if isinstance(value, str) else words.value_text(key, value)
                        for key, value in values
                    ],
                }
            )
    return rows


@functools.cache
def _environment() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # A long key may break after its dots and underscores.
    found.filters["breakable"] = lambda key: re.sub(r"([._])", "\\1\u200b", key)
    sheets = (_REPORT / "style.css", _PAGE / "compare.css")
    # The style sheets are the project's own and are put in as they are.
    found.globals["style"] = Markup("\n".join(sheet.read_text("utf-8") for sheet in sheets))
    return found
