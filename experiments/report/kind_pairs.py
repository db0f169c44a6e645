"""The page of a contrastive run: what LIMoE and two towers make of drawings and words."""

from __future__ import annotations

from typing import Any

from ...datasets import DataConfig, RecordError, attribution, load_data
from ...models import TwoTowerConfig
from ..errors import CheckpointError, RunError
from ..evaluation.evaluate import emoji_art
from ..evaluation.protocol import TEST_ARTISTS, VALIDATION_ARTIST
from .answers import sample_answers
from .blocks import routers
from .confusions import confused_families, confused_names
from .experts import expert_tastes
from .pathway_examples import pair_pathways
from .records import Records
from .reliability import zero_shot_reliability
from .scores import comparison, retrieval, zero_shot
from .summary import density, percent, routing_tiles, sparse_words

SECTIONS = (
    ("scores", "Scores", "scores.html"),
    ("answers", "Answers", "answers.html"),
    ("doubts", "Sure and confused", "doubts.html"),
    ("pathways", "The way of one example", "pathways.html"),
    ("loads", "Who goes where", "loads.html"),
    ("tastes", "What experts take", "tastes.html"),
)
_SHARES = {"seen": "Known things", "held_out": "Held-out things"}
_NOTHING: dict[str, Any] = {
    "tastes": (),
    "answers": (),
    "pathways": (),
    "no_tastes": "",
    "no_answers": "",
    "no_pathways": "",
    "confused": (),
    "families": None,
}
_DATA = {
    "emoji_art": "emoji drawn by six artists, each with a few words",
    "emoji_scenes": "small scenes composed of emoji, each with a sentence",
}


def parts(records: Records) -> dict[str, Any]:
    """What the page shows of this kind alone."""
    results = records.results
    return {
        "sections": SECTIONS,
        "sentences": _sentences(records),
        "headline": _headline(results or {}),
        "scores": zero_shot(results) if results else None,
        "retrieval": retrieval(results) if results else None,
        "reliability": zero_shot_reliability(results, _SHARES) if results else (),
        "no_doubts": f"Nothing was measured yet. Run: byways evaluate {records.path}",
        "bars": _bars(results) if results else [],
        "towers": isinstance(records.config.model, TwoTowerConfig),
        "attribution": f"{attribution()} OpenMoji and EmojiOne 1.5.2 drawings are under a "
        "share-alike licence: pass pictures of them on under the same one, with this line.",
        **_pictures(records),
    }


def _sentences(records: Records) -> list[str]:
    """What the model is, what it learnt from, and how well it names what it never saw."""
    model, blocks = records.config.model, routers(records.config)
    if isinstance(model, TwoTowerConfig):
        what = (
            f"This is {density(records)} of two towers: a Transformer of {model.image.depth} "
            f"layers for pictures and one of {model.text.depth} for words, which meet in one space."
        )
        for tower, name in (("image", "picture"), ("text", "word")):
            own = {key: moe for key, moe in blocks.items() if key.startswith(f"{tower}/")}
            what += sparse_words(own, f"the {name} tower's layers")
    else:
        what = (
            f"This is {density(records)}: one Transformer of {model.depth} layers that reads "
            "pictures and words alike."
        ) + sparse_words(blocks)
    data = _DATA.get(records.config.data.name, f"the data set “{records.config.data.name}”")
    text = [what, f"It learnt from {data}."]
    entry = (records.results or {}).get("noto", {}).get("all")
    if entry:
        # Only one way for names to be known: the pictures' artist was left out of training.
        text.append(
            "Asked to name drawings by Noto, an artist it had never seen, out of "
            f"{entry['candidates']} names, it put the right one first {percent(entry['top1'])} of "
            f"the time and among its first five {percent(entry['top5'])} of the time."
        )
    return text


def _headline(results: dict[str, Any]) -> list[dict[str, str]]:
    """The numbers in the page's head: each with what it is and what it has to beat."""
    noto = results.get("noto", {})
    chance = results.get("baselines", {}).get("chance", {}).get("noto", {})
    tiles = []
    for share, words in (("all", "Noto, all drawings"), ("held_out", "Noto, held-out things")):
        entry = noto.get(share)
        if entry:
            guess = percent(chance[share]["top1"]) if share in chance else "–"
            tiles.append(
                {
                    "value": percent(entry["top1"]),
                    "name": f"{words}: right at once",
                    "note": f"{percent(entry['top5'])} in the first five; chance {guess}",
                }
            )
    return tiles + routing_tiles(results)


def _bars(results: dict[str, Any]) -> list[tuple[str, tuple]]:
    titles = {"all": "All Noto drawings", "held_out": "Held-out things only"}
    found = [(title, comparison(results, share)) for share, title in titles.items()]
    return [(title, bars) for title, bars in found if bars]


def _pictures(records: Records) -> dict[str, Any]:
    """The parts that need drawings and parameters, or why they are missing."""
    from ..library import load

    config: DataConfig = emoji_art(records.config.data)
    try:
        examples = load_data(config, records.config.model.image_size)
    except (RecordError, OSError) as error:
        reason = f"The drawings cannot be read: {error}"
        return {**_NOTHING, "no_tastes": reason, "no_answers": reason, "no_pathways": reason}
    parts = dict(_NOTHING)
    predicted = records.predictions
    if predicted is None:
        parts["no_answers"] = f"No answers yet. Run: byways evaluate {records.path}"
    else:
        parts["answers"] = sample_answers(predicted, examples)
        if not parts["answers"]:
            parts["no_answers"] = (
                "The predictions are not of these drawings. Run again: byways evaluate "
                f"{records.path}"
            )
    parts["no_pathways"] = parts["no_answers"]
    if predicted and parts["answers"]:
        parts["confused"] = confused_names(predicted, examples, (*TEST_ARTISTS, VALIDATION_ARTIST))
        parts["families"] = confused_families(predicted, examples, TEST_ARTISTS[0])
    if records.routed:
        try:
            run = load(records.path)
        except (CheckpointError, RunError) as error:
            reason = f"There are no parameters to look into: {error}"
            return {**parts, "no_tastes": reason, "no_pathways": reason}
        parts["tastes"] = expert_tastes(run, examples)
        if parts["answers"]:
            parts["pathways"] = pair_pathways(run, predicted or {}, examples)
    return parts
