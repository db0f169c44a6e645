"""`byways generate`: a decoder goes on with a text, or with many at once over islands."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from .cli_options import parse
from .errors import Interrupted, RunError, UsageError
from .serving.sides import check_islands, split_sides

if TYPE_CHECKING:
    from .serving.texts import Asking
    from .sources import Source


@dataclasses.dataclass(frozen=True)
class GenerateOptions:
    """Let a decoder go on with a text, up to where it ends the text itself; or with many.

    With --prompts many texts go on together: those of a file, a line each, or what comes in
    (`-`). A line is a text, a JSON string, or an object with `prompt` and, if wanted, `id`,
    `steps`, `temperature`, `top_k` and `seed`. Each result is a line of JSON, given as soon as it
    is whole. See docs/serving.md.

    Attributes:
        source: a run of language, or a PaLM's folder.
        prompt: the beginning; "" lets the model begin.
        prompts: a file of beginnings, or `-` for standard input.
        out: a new file for the results of --prompts; by default standard output.
        steps: tokens to make at most; by default as many as fit, 64 at most.
        temperature: 0 takes the likeliest token each time, 1 draws by the model's probabilities.
        top_k: draw among so many of the likeliest only.
        seed: of the draws; with --prompts the first line's, and the next ones have the next.
        rows: texts at once on each island that makes tokens.
        islands: processes to start; 0 is this one alone. Of several, the first reads prompts.
        prefill: islands that read prompts; with --decode, instead of --islands.
        decode: islands that make tokens.
        ray_address: start the islands on a Ray that runs already, `host:port` or `auto`.
    """

    source: tyro.conf.Positional[Path]
    prompt: tyro.conf.Positional[str | None] = None
    prompts: Path | None = None
    out: Path | None = None
    steps: int | None = None
    temperature: float = 0.0
    top_k: int | None = None
    seed: int = 0
    rows: int = 8
    islands: int = 0
    prefill: int | None = None
    decode: int | None = None
    ray_address: str | None = None


def generate(arguments: Sequence[str]) -> int:
    """`byways generate RUN_OR_FOLDER PROMPT|--prompts FILE [--islands N] [--temperature T]`"""
    options = parse(GenerateOptions, arguments, "byways generate")
    _check(options)

    from .sources import find_source, unfit

    source = find_source(options.source)
    if source.kind != "palm":
        score = "`byways evaluate` scores it" if source.experiment else "`byways few-shot` reads it"
        raise unfit(source, "makes no text", f"generate takes a language run or a palm; {score}")

    from .compilation_cache import enable_compilation_cache

    codes = _codes(source)
    enable_compilation_cache()
    serve = _one if options.prompts is None else _many
    return serve(source, codes, options)


def _check(options: GenerateOptions) -> None:
    """What can be said before anything is read."""
    if (options.prompt is None) == (options.prompts is None):
        raise UsageError(
            'name one beginning (`byways generate RUN "a red"`), or a file of them (--prompts '
            "FILE, or - for standard input)"
        )
    if options.steps is not None and options.steps < 1:
        raise UsageError(f"--steps {options.steps}: at least one token is made")
    if options.rows < 1:
        raise UsageError(f"--rows {options.rows}: one text at once, or more")
    given = {
        "--islands": options.islands != 0,
        "--prefill": options.prefill is not None,
        "--decode": options.decode is not None,
        "--ray-address": options.ray_address is not None,
        "--out": options.out is not None,
    }
    idle = [name for name, there in given.items() if there]
    if options.prompts is None and idle:
        raise UsageError(f"{', '.join(idle)}: of no use to a single text; give --prompts")
    islands, _, _ = split_sides(options.islands, options.prefill, options.decode)
    check_islands(islands, options.ray_address)
    if options.out is not None and os.path.lexists(options.out):
        raise UsageError(f"--out {options.out} exists: name another file, or remove it")


def _one(source: Source, codes: Any, options: GenerateOptions) -> int:
    from .continuation import continue_texts, printable

    params = source.load().params
    try:
        (text,) = continue_texts(
            source.config,
            params,
            codes,
            [str(options.prompt)],
            steps=options.steps,
            temperature=options.temperature,
            top_k=options.top_k,
            seed=options.seed,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    print(printable(text))
    return 0


def _many(source: Source, codes: Any, options: GenerateOptions) -> int:
    from ..models import check_stepwise
    from .interrupts import Interrupts
    from .serving.islands import open_slices
    from .serving.prompts import parse_lines, read_prompts
    from .serving.texts import Asking

    islands, read, write = split_sides(options.islands, options.prefill, options.decode)
    how = {key: getattr(options, key) for key in ("steps", "temperature", "top_k", "seed")}
    asking = Asking(source.config, codes, **how)
    assert options.prompts is not None
    if str(options.prompts) == "-":
        lines: Iterable[Any] = parse_lines(sys.stdin)
    else:
        lines = read_prompts(options.prompts, asking.wanted)
    try:
        if source.config.moe_layers:
            check_stepwise(source.config.moe)
    except ValueError as error:
        raise UsageError(str(error)) from error
    params = {"params": source.load().params}
    with (
        _opened(options.out) as out,
        Interrupts("giving what is done, and stopping") as interrupts,
        open_slices(islands, options.ray_address) as slices,
    ):
        given = slices[read], slices[write]
        failed = _serve(asking, params, given, lines, out, options.rows, interrupts)
    if interrupts.requested:
        raise Interrupted("stopped; what was done is given, each line whole")
    if failed:
        raise RunError(f"{failed} of the prompts have no text: their lines say why")
    return 0


def _serve(
    asking: Asking,
    params: Any,
    slices: tuple[Sequence[Any], Sequence[Any]],
    lines: Iterable[Any],
    out: Any,
    rows: int,
    interrupts: Any,
) -> int:
    """Serves all lines; how many could not be."""
    from .serving.engine import Engine
    from .serving.texts import serve_lines

    read, write = slices
    say: Callable[[str], None] = lambda text: print(f"byways: {text}", file=sys.stderr)  # noqa: E731
    failed = 0

    def give(record: dict[str, Any]) -> None:
        nonlocal failed
        failed += "error" in record
        out.write(json.dumps(record, ensure_ascii=not out.isatty()) + "\n")
        out.flush()

    with Engine(asking.config, params, read=read, write=write, rows=rows, on_event=say) as engine:
        many = 4 * rows * len(write)
        stopping: Callable[[], bool] = lambda: interrupts.requested is not None  # noqa: E731
        serve_lines(engine, asking, lines, give, many=many, stopping=stopping)
        found = engine.statistics()
    if found.tokens:
        share = "" if found.occupancy is None else f", rows in use {found.occupancy:.0%}"
        say(
            f"{found.requests} texts, {found.tokens} tokens, {found.tokens_per_second:.0f} a "
            f"second; first token {1e3 * (found.first_token or 0):.0f} ms{share}"
        )
    return failed


def _opened(path: Path | None) -> Any:
    if path is None:
        return contextlib.nullcontext(sys.stdout)
    try:
        return path.open("x", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--out {path} cannot be written ({error})") from error


def _codes(source: Source) -> Any:
    """The vocabulary of a decoder: the run's own, or of a folder what lies beside it."""
    from ..datasets import TextCodes, TextDataConfig

    vocab, tokenizer = source.config.vocab_size, source.tokenizer
    pieces = getattr(getattr(source.experiment, "data", None), "vocabulary", None) == "pieces"
    if source.experiment is None:
        pieces = tokenizer is not None
    if pieces and tokenizer is None:
        raise RunError(f"{source.folder}/tokenizer.model is missing; copy the run's back there")
    if not pieces and vocab != 256:
        raise RunError(
            f"{source.folder} has no tokenizer.model, and its vocabulary of {vocab} is not that of "
            "bytes (256): put its SentencePiece model there under that name"
        )
    codes = TextCodes(
        TextDataConfig(vocabulary="pieces", tokenizer=str(tokenizer))
        if pieces
        else TextDataConfig()
    )
    if codes.vocab_size > vocab:
        raise RunError(
            f"{tokenizer} has {codes.vocab_size} pieces, but the model knows only {vocab}: this is "
            "not its tokenizer"
        )
    return codes
