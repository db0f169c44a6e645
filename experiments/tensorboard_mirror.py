"""What TensorBoard shows of a run: a copy of its metrics, which training can do without."""

from __future__ import annotations

import contextlib
import socket
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# As `tensorboardX` names them, whose newer files would be read beside ours.
_PREFIX = "events.out.tfevents."
_FLUSH_SECONDS = 30.0


class TensorBoardMirror:
    """Appends scalars to an event file; one that cannot be written is given up with a warning.

    Written here and now: `SummaryWriter` has a thread for it, which a full disk ends, and then
    waits for that thread for ever.
    """

    def __init__(self, folder: Path, resume_step: int = 0):
        """Opens a new event file.

        Args:
            folder: of event files.
            resume_step: what is there of later steps is hidden; with 0 the files are removed.
        """
        # Imported here, since it takes a while.
        from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore
        from tensorboardX.record_writer import RecordWriter
        from tensorboardX.summary import scalar

        self._folder, self._event, self._scalar = folder, Event, scalar
        self._file: Any = None
        self._flushed = time.monotonic()

        def open_file() -> None:
            folder.mkdir(parents=True, exist_ok=True)
            if not resume_step:
                for old in folder.glob(f"{_PREFIX}*"):
                    old.unlink()
            name = f"{_PREFIX}{time.time():.6f}.{socket.gethostname()}"
            self._file = RecordWriter(str(folder / name))
            self._add(Event(wall_time=time.time(), file_version="brain.Event:2"))
            if resume_step:
                start = SessionLog(status=SessionLog.START)
                self._add(Event(wall_time=time.time(), step=resume_step + 1, session_log=start))
            self._file.flush()

        self._or_give_up(open_file)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds the values of a step, by tag."""

        def add() -> None:
            event = self._event(wall_time=time.time(), step=step)
            for tag, value in values.items():
                event.summary.MergeFrom(self._scalar(tag, value))
            self._add(event)
            if time.monotonic() - self._flushed > _FLUSH_SECONDS:
                self._file.flush()
                self._flushed = time.monotonic()

        if self._file is not None:
            self._or_give_up(add)

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._or_give_up(lambda: self._file.close())
            self._file = None

    def _add(self, event: Any) -> None:
        self._file.write(event.SerializeToString())

    def _or_give_up(self, action: Callable[[], None]) -> None:
        try:
            action()
        except OSError as error:
            file, self._file = self._file, None
            if file is not None:
                with contextlib.suppress(OSError):
                    file.close()
            warnings.warn(
                f"{self._folder} cannot be written ({error.strerror or error}): TensorBoard shows "
                "no more of this start; training goes on, and metrics.jsonl has all",
                stacklevel=4,
            )
