"""What each command does. JAX is imported by what they call, when it is needed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import tyro

from .cli_options import parse, pick_name, take_option
from .config import Execution, Experiment, ExperimentConfig
from .config_files import to_dict
from .errors import UsageError
from .execution import check_forward
from .model_from import with_model_of
from .own_devices import have_devices
from .presets import PRESETS, preset
from .ray_there import check_ray
from .run_folder import RunFolder, default_run_folder
from .suggest import unknown
from .validate import SHIPPED_DATA, check

C = TypeVar("C", bound=Experiment)


@dataclasses.dataclass(frozen=True)
class TrainOptions(Generic[C]):
    """Train a model, or go on with a run that was stopped: `byways train PRESET [options]`.

    `--model-from FOLDER` takes the model's values from a run's or a model's folder, instead
    of the preset's; options change them.

    Attributes:
        config: every value of the experiment, by its dotted name.
        run: the run's folder; by default runs/PRESET, with a hash of what you override.
        cluster: with `--islands N`, where they are started: the address of a running Ray, or
            `auto`; by default processes on this machine. `local` takes devices of this process.
    """

    config: Annotated[C, tyro.conf.arg(name="")]
    run: Path | None = None
    cluster: str | None = None


@dataclasses.dataclass(frozen=True)
class ShowOptions(Generic[C]):
    """Print the whole config that `train` would use: `byways config show PRESET [options]`.

    Attributes:
        config: every value of the experiment, by its dotted name.
    """

    config: Annotated[C, tyro.conf.arg(name="")]


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """A run that exists.

    Attributes:
        run: the run's folder.
    """

    run: tyro.conf.Positional[Path]


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """Score a run that exists.

    Attributes:
        run: the run's folder.
        execution: how the model runs: `fused`, `pathways` (those experts alone that are chosen), or
            `auto`, the faster. Scores are the same, to rounding.
    """

    run: tyro.conf.Positional[Path]
    execution: Execution = "fused"


@dataclasses.dataclass(frozen=True)
class NoOptions:
    """No options."""


def train(arguments: Sequence[str]) -> int:
    """`byways train PRESET [--run DIR] [--nested.key value …]`"""
    if _asks_help(arguments):
        _parse(TrainOptions, arguments, "byways train PRESET", ExperimentConfig())
    name, rest = pick_name(arguments, "preset", "byways train")
    base = preset(name)
    rest, source = take_option(rest, "model-from")
    start = with_model_of(base, source)
    options = _parse(TrainOptions, rest, f"byways train {name}", start)
    config = check(options.config)
    if options.cluster is not None and config.islands is None:
        raise UsageError(
            f"--cluster {options.cluster} says where islands are, but there are none: "
            "add --islands N"
        )
    if config.islands is not None and options.cluster != "local":
        check_ray("--cluster local trains on devices of this process")
    folder = options.run or default_run_folder(name, config, base)
    # Before JAX is imported, so that a mistake costs no seconds; `train` looks again.
    RunFolder(folder).check_start(config)

    from .huge_pages import restart_with_huge_pages

    restart_with_huge_pages()
    if config.islands is not None and options.cluster == "local":
        have_devices(config.islands)

    from .train import train as train_run

    train_run(config, folder, preset=name, cluster=options.cluster)
    print(f"trained: {folder}; next: byways evaluate {folder}, then byways report {folder}")
    return 0


def evaluate(arguments: Sequence[str]) -> int:
    """`byways evaluate RUN [--execution fused|pathways|auto]`"""
    options = parse(EvaluateOptions, arguments, "byways evaluate")
    config, _ = RunFolder(options.run).read()
    if options.execution == "pathways":
        check_forward(config.model)

    from .compilation_cache import enable_compilation_cache
    from .evaluation import evaluate_run

    enable_compilation_cache()
    evaluate_run(options.run, execution=options.execution)
    return 0


def report(arguments: Sequence[str]) -> int:
    """`byways report RUN`"""
    folder = _existing_run(arguments, "byways report")

    from .compilation_cache import enable_compilation_cache
    from .report import write_report

    enable_compilation_cache()
    print(write_report(folder))
    return 0


def sweep(arguments: Sequence[str]) -> int:
    """`byways sweep FILE|NAME [options]`"""
    from .cli_sweep import sweep as run

    return run(arguments)


def compare(arguments: Sequence[str]) -> int:
    """`byways compare RUN… [options]`"""
    from .cli_compare import compare as run

    return run(arguments)


def claims(arguments: Sequence[str]) -> int:
    """`byways claims [NAME …] [options]`"""
    from .cli_claims import claims as run

    return run(arguments)


def score(arguments: Sequence[str]) -> int:
    """`byways score SOURCE --task TASK [options]`"""
    from .cli_score import score as run

    return run(arguments)


def trace(arguments: Sequence[str]) -> int:
    """`byways trace RUN [--out DIR] [--batch N] [--devices N]`"""
    from .cli_trace import trace as run

    return run(arguments)


def few_shot(arguments: Sequence[str]) -> int:
    """`byways few-shot RUN_OR_FOLDER [options]`"""
    from .cli_use import few_shot as run

    return run(arguments)


def generate(arguments: Sequence[str]) -> int:
    """`byways generate RUN_OR_FOLDER PROMPT [options]`"""
    from .cli_generate import generate as run

    return run(arguments)


def config_show(arguments: Sequence[str]) -> int:
    """`byways config show PRESET [--nested.key value …]`: JSON, as in a run's config.json."""
    program = "byways config show"
    if _asks_help(arguments):
        _parse(ShowOptions, arguments, f"{program} PRESET", ExperimentConfig())
    name, rest = pick_name(arguments, "preset", program)
    rest, source = take_option(rest, "model-from")
    start = with_model_of(preset(name), source)
    options = _parse(ShowOptions, rest, f"{program} {name}", start)
    print(json.dumps(to_dict(check(options.config)), indent=1, ensure_ascii=False))
    return 0


def presets(arguments: Sequence[str]) -> int:
    """`byways presets`"""
    parse(NoOptions, arguments, "byways presets")

    from rich.console import Console
    from rich.table import Table

    from .parameter_counts import count_parameters, short

    table = Table(box=None, pad_edge=False)
    table.add_column("preset", no_wrap=True)
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("awake", justify="right", no_wrap=True)
    table.add_column("")
    for name, entry in PRESETS.items():
        total, awake = count_parameters(entry.config.model)
        table.add_row(name, short(total), short(awake), entry.description)
    Console().print(table)
    return 0


def data_build(arguments: Sequence[str]) -> int:
    """`byways data build NAME`"""
    name, rest = _data_name(arguments, "byways data build")

    from .cli_data import build

    return build(name, rest)


def data_peek(arguments: Sequence[str]) -> int:
    """`byways data peek NAME`"""
    name, rest = _data_name(arguments, "byways data peek")

    from .cli_data import peek

    return peek(name, rest)


def bench_moe(arguments: Sequence[str]) -> int:
    """`byways bench moe [--json] [options]`"""
    from .cli_bench import bench_moe as run

    return run(arguments)


def bench_vit(arguments: Sequence[str]) -> int:
    """`byways bench vit [--json] [options]`"""
    from .cli_bench import bench_vit as run

    return run(arguments)


def bench_runtime(arguments: Sequence[str]) -> int:
    """`byways bench runtime [--json] [--only NAME …] [options]`"""
    from .cli_bench_runtime import bench_runtime as run

    return run(arguments)


def bench_pathways(arguments: Sequence[str]) -> int:
    """`byways bench pathways [--json] [--only CASE …] [options]`"""
    from .cli_bench_pathways import bench_pathways as run

    return run(arguments)


def bench_model(arguments: Sequence[str]) -> int:
    """`byways bench model RUN [--json] [options]`"""
    from .cli_bench_model import bench_model as run

    return run(arguments)


def bench_residents(arguments: Sequence[str]) -> int:
    """`byways bench residents [--json] [options]`"""
    from .cli_bench_residents import bench_residents as run

    return run(arguments)


def bench_transfer(arguments: Sequence[str]) -> int:
    """`byways bench transfer [--json] [options]`"""
    from .cli_bench_transfer import bench_transfer as run

    return run(arguments)


def bench_islands(arguments: Sequence[str]) -> int:
    """`byways bench islands [--json] [options]`"""
    from .cli_bench_islands import bench_islands as run

    return run(arguments)


def bench_auto(arguments: Sequence[str]) -> int:
    """`byways bench auto [--json] [options]`"""
    from .cli_bench_pathways import bench_auto as run

    return run(arguments)


def simulate(arguments: Sequence[str]) -> int:
    """`byways simulate [NAME …] [--json] [options]`"""
    from .cli_simulate import simulate as run

    return run(arguments)


def import_vmoe(arguments: Sequence[str]) -> int:
    """`byways import vmoe PREFIX OUT`"""
    from .cli_import import import_vmoe as run

    return run(arguments)


def import_clip(arguments: Sequence[str]) -> int:
    """`byways import clip PATH OUT`"""
    from .cli_import import import_clip as run

    return run(arguments)


def export(arguments: Sequence[str]) -> int:
    """`byways export RUN OUT [--step N] [--modality image]`"""
    from .cli_export import export as run

    return run(arguments)


def upcycle(arguments: Sequence[str]) -> int:
    """`byways upcycle FOLDER OUT [--moe.key value …]`"""
    from .cli_import import upcycle as run

    return run(arguments)


def cluster_up(arguments: Sequence[str]) -> int:
    """`byways cluster up [--islands N] [--devices N] [--local]`"""
    from .cli_cluster import cluster_up as run

    return run(arguments)


def cluster_status(arguments: Sequence[str]) -> int:
    """`byways cluster status [--once] [--json]`"""
    from .cli_cluster import cluster_status as run

    return run(arguments)


def cluster_down(arguments: Sequence[str]) -> int:
    """`byways cluster down`"""
    from .cli_cluster import cluster_down as run

    return run(arguments)


def doctor(arguments: Sequence[str]) -> int:
    """`byways doctor`"""
    parse(NoOptions, arguments, "byways doctor")

    from .doctor import examine

    return examine()


def _parse(options: Any, arguments: Sequence[str], program: str, base: Experiment) -> Any:
    """Options around the config of a preset, whose kind decides which keys there are."""
    return parse(options[type(base)], arguments, program, options(base))


def _asks_help(arguments: Sequence[str]) -> bool:
    return bool(arguments) and arguments[0] in ("-h", "--help")


def _existing_run(arguments: Sequence[str], program: str) -> Path:
    folder = parse(RunOptions, arguments, program).run
    RunFolder(folder).read()
    return folder


def _data_name(arguments: Sequence[str], program: str) -> tuple[str, list[str]]:
    if _asks_help(arguments):
        return SHIPPED_DATA[0], list(arguments)
    name, rest = pick_name(arguments, "data set", program)
    if name not in SHIPPED_DATA and "--data-dir" not in rest:
        raise UsageError(unknown("data set", name, SHIPPED_DATA))
    return name, rest
