"""The page of a decoder: how well it foretells text, what it writes, its experts' tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...datasets import RecordError, TextCodes, attribution, text_batches
from ..config import LanguageConfig
from ..continuation import printable
from ..errors import CheckpointError, RunError
from ..run_folder import RunFolder
from ..train_data import with_tokenizer
from .blocks import layer_title, routers
from .experts import ExpertTastes, LayerTastes, spread, top_pieces
from .pathway import collect, readable
from .pathway_examples import Example, text_pathways
from .records import Records
from .summary import density, routing_tiles, sparse_words
from .tokens import Pairs, route_packed

SECTIONS = (
    ("scores", "Scores", "language_scores.html"),
    ("samples", "Samples", "samples.html"),
    ("pathways", "The way of one example", "pathways.html"),
    ("loads", "Who goes where", "loads.html"),
    ("tastes", "What experts take", "tastes.html"),
)
_ROWS = 256
_PIECES = 24
# Captions whose ways are drawn, and their tokens at most.
_WAYS = 6
_LONGEST = 24
_SPLITS = {
    "validation": "Captions of things kept for choosing settings",
    "held_out": "Captions of held-out things",
}
_BASELINES = {
    "uniform": "blind guess",
    "unigram": "token counts",
    "bigram": "pair counts",
}


def parts(records: Records) -> dict[str, Any]:
    """What the page shows of this kind alone."""
    results = records.results
    return {
        "sections": SECTIONS,
        "sentences": _sentences(records),
        "headline": _headline(results) if results else [],
        "scores": _scores(results) if results else None,
        "samples": _samples(results) if results else None,
        "towers": False,
        "attribution": attribution(),
        **_tastes(records),
    }


def _sentences(records: Records) -> list[str]:
    config = records.config
    pieces = config.data.vocabulary == "pieces"
    text = [
        f"This is {density(records)} that writes: a Transformer of {config.model.depth} layers "
        f"that reads text {'word piece by word piece' if pieces else 'byte by byte'} and "
        "foretells what comes next." + sparse_words(routers(config)),
        "It learnt from captions, a few words for each thing that there is an emoji of."
        if config.data.name == "emoji_art"
        else f"It learnt from the captions of the data set “{config.data.name}”.",
    ]
    found = (records.results or {}).get("held_out")
    if found:
        text.append(
            "Of the captions of things that it never read of, a byte costs it "
            f"{found['bits_per_byte']:.2f} bits; written down plainly it would be 8."
        )
    return text


def _headline(results: dict[str, Any]) -> list[dict[str, str]]:
    tiles = []
    for split, words in (("validation", "kept for validation"), ("held_out", "held out")):
        if split in results:
            guess = results["baselines"]["bigram"][split]["bits_per_byte"]
            tiles.append(
                {
                    "value": f"{results[split]['bits_per_byte']:.2f}",
                    "name": f"bits a byte, things {words}",
                    "note": f"{results[split]['entropy']:.2f} nats a token; counting pairs of "
                    f"tokens costs {guess:.2f} bits",
                }
            )
    return tiles + routing_tiles(results)


def _scores(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Of each split its title, size and rows: name, nats a token, bits a byte, own."""
    found = []
    for split, title in _SPLITS.items():
        if split not in results:
            continue
        rows = [("this run", results[split], True)]
        rows += [
            (_BASELINES.get(key, key), part[split], False)
            for key, part in results["baselines"].items()
            if split in part
        ]
        longest = max(entry["bits_per_byte"] for _, entry, _ in rows)
        found.append(
            {
                "title": title,
                "size": results[split],
                "rows": [
                    {"name": name, **entry, "own": own, "of": entry["bits_per_byte"] / longest}
                    for name, entry, own in rows
                ],
            }
        )
    return found


def _samples(results: dict[str, Any]) -> dict[str, Any]:
    """The samples, each cut into what was given and what was made."""
    texts = []
    for sample in results["samples"]["texts"]:
        prompt, text = sample["prompt"], sample["text"]
        if not text.startswith(prompt):  # a tokenizer spells some letters in its own way
            prompt = ""
        texts.append((printable(prompt), printable(text[len(prompt) :])))
    return {**results["samples"], "texts": texts}


def _tastes(records: Records) -> dict[str, Any]:
    """What every expert takes of captions kept for validation, or why that is missing."""
    from ..library import read_run

    found: dict[str, Any] = {"tastes": (), "pathways": (), "no_tastes": "", "no_pathways": ""}
    config = records.config
    assert isinstance(config, LanguageConfig)
    if not records.routed:
        return found
    data = config.data
    if data.vocabulary == "pieces":
        data = with_tokenizer(data, RunFolder(records.path).tokenizer_file)
    try:
        batch = next(text_batches(data, "validation", _ROWS, config.model.max_length))
        codes = TextCodes(data)
    except (RecordError, OSError, StopIteration) as error:
        reason = f"The captions cannot be read: {error}"
        return found | {"no_tastes": reason, "no_pathways": reason}
    try:
        run = read_run(records.path)
    except (CheckpointError, RunError) as error:
        reason = f"There are no parameters to look into: {error}"
        return found | {"no_tastes": reason, "no_pathways": reason}
    seen = route_packed(config.model, run.params, batch["tokens"], batch["segments"])
    names = codes.tokenizer.pieces if codes.tokenizer else _bytes
    layers = []
    for name in spread(list(seen)):
        pairs = seen[name]
        experts = [
            ExpertTastes(
                number,
                None,
                float((pairs.expert == number).mean()) if len(pairs.expert) else 0.0,
                0.0,
                (),
                top_pieces(pairs, number, batch["tokens"], names, _PIECES),
            )
            for number in range(config.model.moe.routed_experts)
        ]
        layers.append(LayerTastes(layer_title(name, config), tuple(experts)))
    return found | {"tastes": tuple(layers), "pathways": _ways(config, codes, batch, seen, names)}


def _ways(
    config: LanguageConfig,
    codes: TextCodes,
    batch: dict[str, np.ndarray],
    seen: dict[str, Pairs],
    names: Callable[[np.ndarray], list[str]],
) -> tuple[Example, ...]:
    """The ways of the first captions that are short enough to draw, a row's first each."""
    lengths = (batch["segments"] == 1).sum(axis=1)
    rows = np.flatnonzero((lengths > 0) & (lengths <= _LONGEST))[:_WAYS]
    if not len(rows):
        return ()
    number = np.full(len(lengths), -1)
    number[rows] = np.arange(len(rows))
    mine = {}
    for name, pairs in seen.items():
        # Later texts of the row are other examples.
        keep = (number[pairs.row] >= 0) & (pairs.place < lengths[pairs.row])
        mine[name] = Pairs(
            number[pairs.row[keep]], pairs.place[keep], pairs.expert[keep], pairs.gate[keep]
        )
    tokens = [batch["tokens"][row, : lengths[row]] for row in rows]
    pieces = [_named(one, codes.mark, names) for one in tokens]
    experts = {name: moe.routed_experts for name, moe in routers(config).items()}
    ways = collect(None, 0, pieces, {}, mine, experts)
    return text_pathways(config, [printable(codes.decode(one)) for one in tokens], ways)


def _named(
    tokens: np.ndarray, mark: int, names: Callable[[np.ndarray], list[str]]
) -> tuple[str, ...]:
    """A text's tokens as people read them; the mark is the start of a text, and its end."""
    found = [readable(piece) for piece in names(tokens)]
    ends = {0: "start", len(found) - 1: "end"}
    return tuple(
        ends.get(i, piece) if token == mark else piece
        for i, (token, piece) in enumerate(zip(tokens, found, strict=True))
    )


def _bytes(numbers: np.ndarray) -> list[str]:
    """Bytes as letters, each as a piece that begins a word: what is no letter is named."""
    named = {10: "end", 32: ""}
    return [
        "▁" + named.get(int(n), chr(n) if 32 < n < 127 else f"byte {int(n):02X}") for n in numbers
    ]
