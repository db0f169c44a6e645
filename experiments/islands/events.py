"""What happened to the islands of a run: a JSON line and a line for people, each."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Events:
    """`islands.jsonl` of a run folder, appended to.

    Attributes:
        tell: takes each line for people; the progress display's `print` while it is there.
    """

    def __init__(self, path: Path, tell: Callable[[str], None] = print):
        self.tell, self._path = tell, path

    def add(self, event: str, text: str, **facts: Any) -> None:
        """Keeps one event.

        Args:
            event: one word or two, for programs.
            text: for people.
            facts: JSON-able.
        """
        line = {"time": round(time.time(), 3), "event": event, **facts}
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self.tell(f"islands: {text}")
