"""One process at a time in a run folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from .errors import RunError


class FolderLock:
    """Holds a folder for this process until closed, or until the process dies.

    The lock is the kernel's (`flock`), so that a killed process leaves none behind; the
    file itself stays and holds the owner's process id for the message.
    """

    def __init__(self, folder: Path):
        """Takes the lock.

        Raises:
            RunError: another process holds it; its process id is named.
        """
        self._path = folder / ".lock"
        self._file = self._path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.seek(0)
            owner = self._file.read().strip() or "unknown"
            self._file.close()
            raise RunError(
                f"the run folder {folder} is in use by process {owner}; wait for it or stop it, "
                "or name another folder with --run"
            ) from None
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def close(self) -> None:
        """Gives the folder back."""
        self._file.close()

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
