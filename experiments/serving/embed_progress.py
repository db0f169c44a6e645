"""What a person sees of a folder that is embedded."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .embed_folder import Watcher

# Seconds between lines, where there is no terminal.
_EVERY = 10.0


class EmbedProgress(Watcher):
    """A live bar on a terminal; elsewhere a line now and then."""

    def __init__(self, console: Console | None = None):
        self._console = console or Console(stderr=True, highlight=False)
        self._live: Progress | None = None
        self._images = self._done = self._mine = 0
        self._began = self._said = 0.0

    def begins(self, images: int, done: int) -> None:
        self._images, self._done = images, done
        self._began = self._said = time.monotonic()
        if done:
            self.says(f"{done:,} of {images:,} images are done already: going on")
        if self._console.is_terminal:
            self._live = Progress(
                TextColumn("images"),
                MofNCompleteColumn(),
                BarColumn(bar_width=20),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._live.start()
            self._task = self._live.add_task("", total=images, completed=done, rate="")

    def went(self, images: int) -> None:
        self._done += images
        self._mine += images
        now = time.monotonic()
        rate = f"{self._mine / max(now - self._began, 1e-9):,.0f} a second"
        if self._live is not None:
            self._live.update(self._task, completed=self._done, rate=rate)
        elif now - self._said >= _EVERY:
            self._said = now
            self.says(f"{self._done:,} of {self._images:,} images, {rate}")

    def says(self, sentence: str) -> None:
        self._console.print(f"byways: {sentence}", markup=False, soft_wrap=True)

    def __enter__(self) -> EmbedProgress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
