"""A run folder: everything of one run, and all that resuming it needs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from . import provenance
from .config import KINDS, Experiment, kind_of
from .config_files import (
    FORMAT,
    describe_differences,
    differences,
    fingerprint,
    from_dict,
    to_dict,
)
from .errors import RunError
from .files import canonical_json, copy_file, remove_tree, write_json
from .lock import FolderLock

# What may be written before `record_start`, beside the config.
_BEFORE_STEPS = ("tokenizer.model", "metrics.jsonl", "islands.jsonl", "checkpoints", "tensorboard")


def default_run_folder(preset: str, config: Experiment, base: Experiment) -> Path:
    """`runs/PRESET`, with eight digits of the overrides' hash where the config differs from it."""
    changes = differences(to_dict(base), to_dict(config))
    if not changes:
        return Path("runs") / preset
    digest = hashlib.sha256(canonical_json({key: new for key, (_, new) in changes.items()}))
    return Path("runs") / f"{preset}-{digest.hexdigest()[:8]}"


class RunFolder:
    """The files of a run. Reading needs no lock; `start` takes it for training.

    Attributes:
        path: the folder.
        resumed: the folder already held this run, unfinished, when it was started.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.resumed = False
        self._lock: FolderLock | None = None

    @property
    def config_file(self) -> Path:
        return self.path / "config.json"

    @property
    def provenance_file(self) -> Path:
        return self.path / "provenance.json"

    @property
    def tokenizer_file(self) -> Path:
        return self.path / "tokenizer.model"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def islands_file(self) -> Path:
        return self.path / "islands.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def results_file(self) -> Path:
        return self.path / "results.json"

    @property
    def report_file(self) -> Path:
        return self.path / "report.html"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def status_file(self) -> Path:
        return self.path / "status.json"

    @property
    def finished(self) -> bool:
        """Whether training reached its last step."""
        return self.status_file.is_file() and bool(_read_json(self.status_file).get("finished"))

    def read(self) -> tuple[Experiment, str]:
        """The run's config and the name of its preset.

        Raises:
            RunError: no such run, a damaged config file, or one of a later format.
            ConfigError: the file names keys or values that this version does not know.
        """
        if not self.config_file.is_file():
            here = "is a file" if self.path.is_file() else "does not exist"
            here = "holds no config.json" if self.path.is_dir() else here
            raise RunError(
                f"{self.path} is not a run folder: it {here}; `byways train PRESET --run "
                f"{self.path}` makes one"
            )
        data = _read_json(self.config_file)
        if "model" in data:
            raise RunError(
                f"{self.path} holds a model ({str(data['model'])[:80]}), and is no run's folder: "
                "`byways few-shot`, `generate` and `upcycle` read models, and `byways train PRESET "
                f"--model-from {self.path} --init {self.path}` goes on from one"
            )
        if data.get("format") != FORMAT:
            raise RunError(
                f"{self.config_file} has format {data.get('format')!r}; this version reads "
                f"format {FORMAT}: use the version of byways named in {self.provenance_file.name}"
            )
        # Runs of before there were kinds are contrastive.
        kind = data.get("kind", "contrastive")
        if not isinstance(kind, str) or kind not in KINDS:
            raise RunError(
                f"{self.config_file} has kind {kind!r}; this version knows {', '.join(KINDS)}"
            )
        return from_dict(data.get("config", {}), KINDS[kind]), str(data.get("preset", ""))

    def check_start(self, config: Experiment) -> bool:
        """Whether training would resume here (or start anew); takes no lock, writes nothing.

        Raises:
            RunError: the run is finished, is another one, or the folder is no run folder.
        """
        if not self.path.exists():
            return False
        if not self.path.is_dir():
            raise RunError(f"{self.path} is a file; --run names a folder")
        if not self.config_file.exists():
            strangers = strangers_in(self.path)
            if strangers:
                raise RunError(
                    f"{self.path} is not a run folder (it holds {', '.join(strangers[:3])} but no "
                    "config.json); name a new or empty folder with --run"
                )
            return False
        old, _ = self.read()
        changes = differences(fingerprint(old), fingerprint(config))
        if self.finished:
            raise RunError(
                f"the run {self.path} is finished; look at it with `byways evaluate {self.path}` "
                f"and `byways report {self.path}`, or name another folder with --run"
            )
        if changes:
            raise RunError(
                f"the run {self.path} was started with another config ({len(changes)} differ: "
                f"{describe_differences(changes)}); give the old values to resume it, or name "
                "another folder with --run"
            )
        return True

    def start(self, config: Experiment, preset: str) -> RunFolder:
        """Takes the folder for training: locks it, and writes or checks its config.

        Raises:
            RunError: as `check_start`, another process holds the folder, or none can be made there.
        """
        self.check_start(config)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(self.path)
        except OSError as error:
            raise RunError(
                f"the run folder {self.path} cannot be made or locked "
                f"({error.strerror or error}); name another folder with --run"
            ) from error
        try:
            # Again, since another process may have finished between the check and the lock.
            self.resumed = self.check_start(config)
            if not self.resumed:
                data = {
                    "format": FORMAT,
                    "kind": kind_of(config),
                    "preset": preset,
                    "config": to_dict(config),
                }
                write_json(self.config_file, data)
        except BaseException:
            self.close()
            raise
        return self

    def adopt_tokenizer(self, source: Path) -> Path:
        """Copies the tokenizer in at the first start; later starts use the run's own copy."""
        if not self.tokenizer_file.exists():
            copy_file(source, self.tokenizer_file)
        return self.tokenizer_file

    def record_start(self, seed: int, resumed_at: int | None) -> None:
        """Appends this start to `provenance.json`. Imports JAX for the list of devices."""
        data: dict[str, Any] = {"format": FORMAT, "starts": []}
        if self.provenance_file.is_file():
            data = _read_json(self.provenance_file)
        data["starts"].append(provenance.started(seed, resumed_at))
        write_json(self.provenance_file, data)

    def mark_finished(self, step: int) -> None:
        """Says that training reached its last step."""
        write_json(self.status_file, {"format": FORMAT, "finished": True, "step": step})

    def close(self) -> None:
        """Gives the folder back."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # A start that came to nothing (data that is absent, weights that do not fit) leaves
        # nothing: the next one, with that mended, would else be refused as another config.
        began = self._lock is not None and not self.resumed
        if kind is not None and began and not self.provenance_file.exists():
            self._forget()
        self.close()

    def _forget(self) -> None:
        """Removes what `start` and all before `record_start` wrote, and nothing else.

        `start` found none of these names here. The lock file stays.
        """
        for item in (self.path / name for name in _BEFORE_STEPS):
            remove_tree(item) if item.is_dir() else item.unlink(missing_ok=True)
        # Last: a folder that holds anything of a run but no config would be refused.
        self.config_file.unlink(missing_ok=True)


def strangers_in(path: Path) -> list[str]:
    """Names in a folder without a config that no run has left there, hidden ones among them."""
    # A start that was killed leaves its lock, and what `write_bytes` had not finished.
    names = sorted(item.name for item in path.iterdir())
    return [name for name in names if name != ".lock" and not name.startswith(".config.json.")]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path} cannot be read ({error}); restore it, or name another folder with --run"
        ) from error
    if not isinstance(data, dict):
        raise RunError(f"{path} holds no JSON object; restore it, or name another folder")
    return data
