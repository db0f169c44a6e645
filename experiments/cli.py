"""The command line: finds the command, says what is wrong in one line, imports no JAX itself."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Sequence

from .errors import ExperimentError, UsageError
from .suggest import unknown


@dataclasses.dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        name: the function of `cli_commands`, or of the module before the dot, that takes the
            arguments after the command's words and gives the exit code; looked up when it is run,
            so that `--help` loads nothing.
        usage: its arguments.
        summary: one line.
    """

    name: str
    usage: str
    summary: str

    def run(self, arguments: Sequence[str]) -> int:
        module, _, name = self.name.rpartition(".")
        found = importlib.import_module(f".{module or 'cli_commands'}", __package__)
        return getattr(found, name)(arguments)


COMMANDS: dict[str, Command | dict[str, Command]] = {
    "train": Command(
        "train",
        "PRESET [--run DIR] [--model-from DIR] [--nested.key value …]",
        "train a model, or go on with a run",
    ),
    "evaluate": Command(
        "evaluate",
        "RUN [--execution fused|pathways|auto]",
        "score a run of any kind, and its routing",
    ),
    "report": Command("report", "RUN", "write a run's report: one HTML page"),
    "sweep": Command(
        "sweep",
        "FILE|NAME [--dry-run] [--commands] [--workers N]",
        "train and score many runs, a process each",
    ),
    "compare": Command(
        "compare",
        "RUN… [--metric KEY …] [--html FILE]",
        "set runs beside each other, with intervals over seeds",
    ),
    "claims": Command(
        "claims",
        "[NAME …] [--quick] [--dry-run]",
        "test the papers' claims, and write what was found",
    ),
    "trace": Command(
        "trace",
        "RUN [--devices N] [--batch N]",
        "record a step and an inference for Perfetto",
    ),
    "score": Command(
        "score",
        "SOURCE --task TASK --data.name NAME",
        "score any model on any data: zero-shot, retrieval, probes",
    ),
    "few-shot": Command(
        "few_shot",
        "RUN_OR_FOLDER [--shots 1 5 …]",
        "score image features by few-shot regression",
    ),
    "generate": Command(
        "generate",
        "RUN_OR_FOLDER PROMPT|--prompts FILE [--islands N]",
        "let a decoder go on with a text, or with many",
    ),
    "embed": Command(
        "cli_embed.embed",
        "SOURCE FOLDER --out FILE [--islands N]",
        "embed a folder of images; stopped, it goes on",
    ),
    "presets": Command("presets", "", "list the presets"),
    "config": {
        "show": Command(
            "config_show", "PRESET [--nested.key value …]", "print a preset's whole config"
        ),
    },
    "data": {
        "build": Command("data_build", "NAME", "build a data set again from its sources"),
        "peek": Command("data_peek", "NAME", "show elements, write a contact sheet"),
    },
    "import": {
        "vmoe": Command("import_vmoe", "PREFIX OUT", "read a published V-MoE checkpoint"),
        "clip": Command("import_clip", "PATH OUT", "read a CLIP or a SigLIP"),
    },
    "export": Command(
        "export",
        "RUN OUT [--modality image | --classes NAME …]",
        "write a run's weights, or a part's, as a folder",
    ),
    "upcycle": Command(
        "upcycle",
        "FOLDER OUT [--moe.key value …]",
        "grow a sparse model out of a dense one's folder",
    ),
    "bench": {
        "moe": Command(
            "bench_moe",
            "[--json] [--scaling] [--against MODULE:FUNCTION] [--experts 8 …]",
            "time sparse layers beside a dense one",
        ),
        "vit": Command(
            "bench_vit",
            "[--json] [--batch 8 …]",
            "time a dense ViT beside one of plain flax.linen",
        ),
        "runtime": Command(
            "bench_runtime",
            "[--json] [--only NAME …]",
            "time the runtime beside plain JAX and Ray",
        ),
        "pathways": Command(
            "bench_pathways",
            "[--json] [--only CASE …]",
            "time a sparse layer as dataflow beside one jit",
        ),
        "auto": Command(
            "bench_auto",
            "[--json] [--tokens 8 …]",
            "see whether the cost model takes the faster way",
        ),
        "model": Command(
            "bench_model",
            "RUN [--json] [--score-steps N …]",
            "time a trained sparse model, fused and by pathways",
        ),
        "residents": Command(
            "bench_residents",
            "[--json] [--budgets 25 …]",
            "time experts that are fetched when they wake",
        ),
        "transfer": Command(
            "bench_transfer",
            "[--json] [--kilobytes 1024 …]",
            "time arrays between processes, beside bare JAX and Ray",
        ),
        "islands": Command(
            "bench_islands",
            "[--json] [--only NAME …]",
            "time programs over islands of other processes, beside plain Ray and one device",
        ),
        "island-training": Command(
            "cli_bench_island_training.bench_island_training",
            "[--json] [--preset NAME …]",
            "time training over two islands beside one with half of the batch",
        ),
        "serving": Command(
            "cli_bench_serving.bench_serving",
            "[--json] [--only NAME …]",
            "time many texts at once, beside single ones and fixed batches",
        ),
    },
    "simulate": Command(
        "simulate",
        "[NAME …] [--json] [--figures DIR]",
        "run programs on up to 2,048 devices that are not there",
    ),
    "cluster": {
        "up": Command(
            "cluster_up",
            "[--islands N] [--devices N] [--local]",
            "start islands that stay, for notebooks to attach to",
        ),
        "status": Command("cluster_status", "[--once] [--json]", "look at a cluster, live"),
        "down": Command("cluster_down", "", "end a cluster and all that was started for it"),
    },
    "doctor": Command("doctor", "", "print versions, devices, caches, data found"),
}


def main(arguments: Sequence[str]) -> int:
    """Runs one command and gives the process's exit code.

    0 is success, 1 something that went wrong on the way, 2 a command line or config that
    cannot be, 130 an interrupt.
    """
    try:
        return _dispatch(list(arguments), COMMANDS, "byways")
    except ExperimentError as error:
        print(f"byways: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("byways: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (`| head`) has gone; Python would complain once more when flushing.
        sys.stdout = None
        return 0
    except OSError as error:
        if error.filename is None:
            raise
        print(f"byways: {error.filename}: {error.strerror or error}", file=sys.stderr)
        return 1
    except Exception as error:
        # The other rooms' own errors are written to be read too; any other is a fault of ours,
        # and its traceback is what a report of it needs.
        if not type(error).__module__.startswith("byways."):
            raise
        print(f"byways: {error}", file=sys.stderr)
        return 1


def help_text() -> str:
    """What `byways --help` prints."""
    rows = []
    for name, entry in COMMANDS.items():
        group = {"": entry} if isinstance(entry, Command) else entry
        for word, command in group.items():
            usage = " ".join(part for part in (name, word, command.usage) if part)
            rows.append(f"  {usage:<50} {command.summary}")
    return "\n".join(
        [
            "usage: byways COMMAND …",
            "",
            "Sparse mixture-of-experts models over images and text, in JAX.",
            "",
            *rows,
            "",
            "byways COMMAND --help tells more; byways --version prints the version.",
        ]
    )


def _dispatch(
    arguments: list[str], table: dict[str, Command | dict[str, Command]], program: str
) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(help_text())
        return 0
    if arguments == ["--version"]:
        from .. import __version__

        print(f"byways {__version__}")
        return 0
    word, *rest = arguments
    if word not in table:
        raise UsageError(unknown("command", word, table))
    entry = table[word]
    if isinstance(entry, Command):
        return entry.run(rest)
    if not rest or rest[0] in ("-h", "--help"):
        for name, command in entry.items():
            print(f"  {program} {word} {name} {command.usage}  {command.summary}")
        return 0 if rest else 2
    if rest[0] not in entry:
        raise UsageError(unknown(f"command of `{program} {word}`", rest[0], entry))
    return entry[rest[0]].run(rest[1:])
