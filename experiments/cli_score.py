"""`byways score`: any model on any data."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .cli_options import parse, pick_name
from .config import Execution
from .errors import RunError, UsageError

if TYPE_CHECKING:
    from .sources import Source

_FIELDS = ("canonical", "names", "resize")


@dataclasses.dataclass(frozen=True)
class ScoreData:
    """What is scored on.

    Attributes:
        name: a data set: `openclipart`, `emoji_art`, `fashion_mnist`, or any TFDS data set prepared
            as ArrayRecord.
        data_dir: where prepared data sets are; of Fashion-MNIST the folder of its files.
        split: of zero-shot and retrieval; by default `test`, else `validation`, else the first.
    """

    name: str | None = None
    data_dir: str | None = None
    split: str | None = None


@dataclasses.dataclass(frozen=True)
class ScoreOptions:
    """Score a model on a data set: `byways score SOURCE --task TASK --data.name NAME [options]`.

    SOURCE is a run, or a model's folder: `byways export` makes one, and `byways import clip` of
    a CLIP or a SigLIP. Zero-shot and retrieval take models of images and texts, the others all
    that read images. See docs/evaluation.md.

    Attributes:
        task: what to do.
        data: on what.
        protocol: whose rules (zero-shot, retrieval; few-shot knows `byways` and `big_vision`).
        classes: a file of the classes, one a line in the order of the data's labels (zero-shot);
            by default the data's own names.
        templates: a file of prompts, each with `{}` for the name, or a set (zero-shot); by default
            the protocol's.
        names: of a class with commas, the `first` name, `all`, or the `whole` line; by default the
            protocol's.
        canonical: how text is written, `none`, `lower` or `bare`; by default the protocol's.
        resize: how pictures become the model's size; by default the protocol's.
        tokenizer: of the model's texts; by default the one beside its weights.
        limit: score so many rows only, drawn by seed 0 (zero-shot, retrieval).
        rows: fit on so many training images only, drawn by seed 0 (linear-probe).
        shots: images of each class (few-shot).
        out: a file for the result, JSON.
        json: print the result as one JSON object instead of a table.
        execution: how the model runs: `fused`, `pathways` or `auto` (docs/execution.md).
    """

    task: Literal["zero-shot", "retrieval", "few-shot", "linear-probe"]
    data: ScoreData = ScoreData()
    protocol: Literal["byways", "big_vision", "clip_benchmark"] = "byways"
    classes: Path | None = None
    templates: str | None = None
    names: Literal["first", "all", "whole"] | None = None
    canonical: Literal["none", "lower", "bare"] | None = None
    resize: Literal["crop", "short_side", "squash", "central"] | None = None
    tokenizer: Path | None = None
    limit: int | None = None
    rows: int | None = None
    shots: tuple[int, ...] = (1, 5, 10, 25)
    out: Path | None = None
    json: bool = False
    execution: Execution = "fused"


def score(arguments: Sequence[str]) -> int:
    """`byways score SOURCE --task TASK --data.name NAME [options]`"""
    program = "byways score"
    if arguments and arguments[0] in ("-h", "--help"):
        parse(ScoreOptions, arguments, program)
    name, rest = pick_name(arguments, "source", program)
    options = parse(ScoreOptions, rest, program)
    _check(options)

    from ..datasets import RecordError

    try:
        result = _score(Path(name), options)
    except RecordError as error:
        raise RunError(str(error)) from error
    if options.out is not None:
        from .files import write_json

        try:
            write_json(options.out, result)
        except OSError as error:
            # The scores are not lost by it.
            print(json.dumps(result, ensure_ascii=False))
            raise RunError(
                f"--out {options.out} cannot be written ({error.strerror or error}); the result "
                "was printed instead"
            ) from error
    if options.json:
        print(json.dumps(result, ensure_ascii=False))
    else:
        from rich.console import Console

        from .evaluation.score_table import result_tables

        for table in result_tables(result):
            Console().print(table)
    return 0


def _check(options: ScoreOptions) -> None:
    """What can be said before anything is read."""
    if options.data.name is None:
        raise UsageError("name the data: --data.name openclipart, or another (docs/evaluation.md)")
    pairs = options.task in ("zero-shot", "retrieval")
    of = {
        "--classes": (options.classes, options.task == "zero-shot"),
        "--templates": (options.templates, options.task == "zero-shot"),
        "--names": (options.names, options.task == "zero-shot"),
        "--canonical": (options.canonical, pairs),
        "--resize": (options.resize, pairs),
        "--tokenizer": (options.tokenizer, pairs),
        "--limit": (options.limit, pairs),
        "--data.split": (options.data.split, pairs),
        "--rows": (options.rows, options.task == "linear-probe"),
    }
    idle = [option for option, (value, used) in of.items() if value is not None and not used]
    if idle:
        raise UsageError(f"{', '.join(idle)}: of no use to --task {options.task}; leave it out")
    for option, value in (("--limit", options.limit), ("--rows", options.rows)):
        if value is not None and value < 1:
            raise UsageError(f"{option} {value}: expected 1 or more")
    known = {"few-shot": ("byways", "big_vision"), "linear-probe": ("byways",)}
    if options.protocol not in known.get(options.task, (options.protocol,)):
        raise UsageError(
            f"--protocol {options.protocol}: {options.task} knows "
            f"{' and '.join(known[options.task])} only"
        )
    if options.out is not None:
        _check_out(options.out)


def _check_out(out: Path) -> None:
    """What would else fail once all is scored."""
    if out.is_dir():
        raise UsageError(f"--out {out} is a folder; name a file in it")
    above = next(one for one in out.absolute().parents if one.exists())
    if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
        what = "may not be written in" if above.is_dir() else "is a file"
        raise UsageError(f"--out {out}: {above} {what}; name another file")


def _score(folder: Path, options: ScoreOptions) -> dict[str, Any]:
    if options.task in ("zero-shot", "retrieval"):
        return _pairs(folder, options)
    from ..datasets import ImageDataConfig
    from .evaluation.embedder import check_images
    from .evaluation.score import few_shot_result, probe_result
    from .sources import find_source

    protocol = None
    if options.task == "few-shot":
        from .evaluation import BIG_VISION, FewShotProtocol

        base = BIG_VISION if options.protocol == "big_vision" else FewShotProtocol()
        try:
            protocol = dataclasses.replace(base, shots=options.shots)
        except ValueError as error:
            raise UsageError(f"--shots: {error}") from error
    source = find_source(folder)
    check_images(source)
    _start(source, options)
    data = ImageDataConfig(name=str(options.data.name), data_dir=options.data.data_dir)
    if protocol is not None:
        return few_shot_result(source, data, protocol, options.execution)
    return probe_result(source, data, rows=options.rows, execution=options.execution)


def _pairs(folder: Path, options: ScoreOptions) -> dict[str, Any]:
    from ..datasets import open_split
    from .evaluation.score_protocol import PROTOCOLS

    changes = {key: value for key in _FIELDS if (value := getattr(options, key)) is not None}
    protocol = dataclasses.replace(PROTOCOLS[options.protocol], **changes)
    data = options.data
    split = open_split(str(data.name), data.data_dir, data.split)
    # All that is text first: a wrong line is told before JAX is imported.
    classes = None
    if options.task == "zero-shot":
        from .evaluation.questions import classes_of

        classes = classes_of(split, options.classes, protocol, options.templates)
    else:
        from .evaluation.questions import check_captions

        check_captions(split)

    from .evaluation.embedder import check_pairs, open_tokenizer
    from .evaluation.score import retrieval_result, zero_shot_result
    from .sources import find_source

    source = find_source(folder)
    check_pairs(source)
    tokenizer = open_tokenizer(source, options.tokenizer)
    _start(source, options)
    how: dict[str, Any] = {"limit": options.limit, "execution": options.execution}
    try:
        if classes is not None:
            return zero_shot_result(source, split, classes, protocol, tokenizer, **how)
        return retrieval_result(source, split, protocol, tokenizer, **how)
    except ValueError as error:
        if not type(error).__module__.startswith("byways."):
            raise RunError(f"{folder} on {data.name}: {error}") from error
        raise


def _start(source: Source, options: ScoreOptions) -> None:
    from .compilation_cache import enable_compilation_cache
    from .execution import check_forward

    if options.execution == "pathways":
        check_forward(source.config)
    enable_compilation_cache()
