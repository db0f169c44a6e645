"""What is kept of each run, small enough to be committed: claims are judged by these alone."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..compare.curves import curve_of, effort_of
from ..errors import RunError
from ..files import write_bytes
from ..metrics_log import read_lines
from ..run_folder import RunFolder
from ..sweep.plan import Plan, PlannedRun
from .numbers import numbers_of, worst_of
from .probes import VERSION as PROBED
from .probes import is_probed

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Record:
    """One run.

    Attributes:
        arm: that it is of.
        seed: of it.
        hash: of its config, and of the run that it began with: another config, another record.
        commit: of the code that trained it, as its provenance has it.
        seconds: that training and scoring took, with whatever ran beside them.
        numbers: by key, those that claims read.
        curve: (step, model FLOPs, validation top-1).
        routing: (step, MaxVio of the worst block), of sparse models.
        keys: that were asked for; what of them is not among `numbers` was not there, or not finite.
    """

    arm: str
    seed: int
    hash: str
    commit: str | None
    seconds: float
    numbers: Mapping[str, float]
    curve: tuple[tuple[int, float, float], ...]
    routing: tuple[tuple[int, float], ...]
    keys: tuple[str, ...] = ()

    def holds(self, keys: Iterable[str]) -> bool:
        """Whether all of these were asked for when it was made."""
        return all(key in self.numbers or key in self.keys for key in keys)


def arm_of(run: PlannedRun) -> str:
    """The arm that a planned run is of, by its name."""
    return run.name.rsplit("-s", 1)[0]


def make_record(plan: Plan, run: PlannedRun, keys: Iterable[str]) -> Record:
    """The record of a run that is done; measures what its folder does not hold yet.

    Args:
        plan, run: where it is.
        keys: of the numbers that claims read of its arm.

    Raises:
        RunError, CheckpointError, RecordError: the run or its data cannot be read.
    """
    folder, wanted = plan.folder_of(run), tuple(dict.fromkeys(keys))
    numbers = numbers_of(folder, wanted)
    config, _ = RunFolder(folder).read()
    lines = read_lines(folder / "metrics.jsonl")
    curve = curve_of(lines, effort_of(lines, config), "top1")
    points = zip(curve.points("flops"), curve.steps, strict=True)
    vio = [
        (line["step"], round(worst, 4))
        for line in lines
        if line["kind"] == "train" and (worst := worst_of(line["metrics"], "max_vio")) is not None
    ]
    kept = [key for key in wanted if key in numbers]
    kept += [key for key in numbers if key.split(".")[0] in ("curve", "information", "layers")]
    # What is not finite is not there, as in the log.
    kept = [key for key in kept if math.isfinite(numbers[key])]
    return Record(
        arm=arm_of(run),
        seed=run.config.seed,
        hash=plan.hash_of(run.name),
        commit=_commit(folder),
        seconds=_seconds(folder),
        numbers={key: round(numbers[key], 6) for key in sorted(set(kept))},
        curve=tuple((step, flops, round(value, 5)) for (flops, value), step in points),
        routing=tuple(vio),
        keys=wanted,
    )


def write_record(folder: Path, record: Record) -> None:
    """Writes it whole or not at all; a line for each part, since many are committed."""
    folder.mkdir(parents=True, exist_ok=True)
    data = {"format": FORMAT, "probes": PROBED, **dataclasses.asdict(record)}
    lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in data.items())
    write_bytes(_path(folder, record.arm, record.seed), f"{{\n{lines}\n}}\n".encode())


def read_record(folder: Path, arm: str, seed: int, digest: str) -> Record | None:
    """The record of a run with that hash; None where there is none, or one of another config, or
    of probes that measured something else.

    Raises:
        RunError: it is damaged.
    """
    path = _path(folder, arm, seed)
    if not path.exists():
        return None
    try:
        data: dict[str, Any] = json.loads(path.read_text())
        if data.pop("format") != FORMAT or data["hash"] != digest:
            return None
        if data.pop("probes", 1) != PROBED and any(is_probed(key) for key in data["numbers"]):
            return None
        if (data["arm"], data["seed"]) != (arm, seed):
            raise ValueError(f"it is of {data['arm']}, seed {data['seed']}")
        data["numbers"] = {key: _finite(value) for key, value in data["numbers"].items()}
        data["curve"] = tuple((int(s), _finite(x), _finite(y)) for s, x, y in data["curve"])
        data["routing"] = tuple((int(s), _finite(x)) for s, x in data["routing"])
        data["seconds"] = _finite(data["seconds"])
        data["keys"] = tuple(map(str, data.get("keys", ())))
        if not isinstance(data["commit"], str | None):
            raise TypeError(f"its commit is {data['commit']!r}")
        return Record(**data)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"{path} is no whole record ({error}); restore it, or delete it to have the run made "
            "again"
        ) from error


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no finite number")
    return value


def _path(folder: Path, arm: str, seed: int) -> Path:
    return folder / f"{arm}-s{seed}.json"


def _seconds(folder: Path) -> float:
    try:
        return round(sum(json.loads((folder / "done.json").read_text())["seconds"].values()), 1)
    except (OSError, ValueError, KeyError):
        return 0.0


def _commit(folder: Path) -> str | None:
    try:
        starts = json.loads((folder / "provenance.json").read_text())["starts"]
        return starts[0]["git"]["commit"]
    except (OSError, ValueError, KeyError, IndexError):
        return None
