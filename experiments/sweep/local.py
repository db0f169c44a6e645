"""The local executor: a process for each run, on its own cores or its own device."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ..huge_pages import child_environment
from .executor import Ended
from .places import Place
from .plan import Plan, PlannedRun
from .plan_file import NAME
from .status import output_file
from .worker import CORES, PARENT

# Of a failed run's output, what its failure's file keeps.
_TAIL = 1 << 15
_WORKER = (sys.executable, "-m", "byways.experiments.sweep.worker")


@dataclasses.dataclass(frozen=True)
class _Child:
    run: PlannedRun
    process: subprocess.Popen
    output: Path
    begins: int  # of its own output in the file


class LocalPool:
    """Starts processes in places of this machine, one in each at a time.

    A process sees the same working folder, since a config may name its data by a relative path,
    but never imports from it (PYTHONSAFEPATH). It is in a session of its own, so that a
    terminal's Ctrl-C reaches it through `stop` alone, and once.
    """

    def __init__(self, places: Sequence[Place], command: Sequence[str] = _WORKER):
        """Args:
        places: where processes may run.
        command: starts a worker, before the plan's file and the run's name.
        """
        self._places = list(places)
        self._command = tuple(command)
        self._children: dict[int, _Child] = {}
        self._asked: set[int] = set()

    def free(self) -> int:
        return len(self._places) - len(self._children)

    def submit(self, plan: Plan, run: PlannedRun, evaluate: bool) -> None:
        number = next(n for n in range(len(self._places)) if n not in self._children)
        output = output_file(plan, run)
        output.parent.mkdir(parents=True, exist_ok=True)
        words = [*self._command, str(plan.folder / NAME), run.name]
        with output.open("ab") as file:
            process = subprocess.Popen(
                words if evaluate else [*words, "--no-evaluate"],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=self._environment(self._places[number]),
                start_new_session=True,
            )
            self._children[number] = _Child(run, process, output, file.tell())

    def poll(self) -> list[Ended]:
        ended = []
        for number, child in list(self._children.items()):
            code = child.process.poll()
            if code is None:
                continue
            del self._children[number]
            self._asked.discard(child.process.pid)
            ended.append(Ended(child.run.name, code, _tail(child.output, child.begins)))
        return ended

    def stop(self, now: bool = False) -> None:
        for child in self._children.values():
            pid = child.process.pid
            if now:
                _send(child.process, signal.SIGKILL)
            elif pid not in self._asked:
                self._asked.add(pid)
                _send(child.process, signal.SIGINT)

    @staticmethod
    def _environment(place: Place) -> Mapping[str, str]:
        return {
            **child_environment(),
            "PYTHONSAFEPATH": "1",
            "PYTHONUNBUFFERED": "1",
            PARENT: str(os.getpid()),
            CORES: ",".join(map(str, place.cores)),
            **place.environment,
        }


def _send(process: subprocess.Popen, number: int) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(number)


def _tail(path: Path, begins: int) -> str:
    try:
        with path.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(begins, end - _TAIL))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
