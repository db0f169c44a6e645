"""A process that offers what a test asks for, line by line; run by `peer` outside the checkout."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from byways import runtime as rt

CHILD = """
import sys
import jax
import jax.numpy as jnp
from byways import runtime as rt

with rt.Transfers("other") as mine:
    print(mine.peer.data, flush=True)
    for line in sys.stdin:
        what, *rest = line.split()
        if what == "offer":
            (ticket,) = mine.offer({"x": jnp.arange(int(rest[0]), dtype="float32"), "y": [1.5]})
            print(ticket.to_json(), flush=True)
        elif what == "fail":
            error = rt.NodeError("ValueError: no", "step", "loss", "island 1")
            print(mine.offer([error])[0].to_json(), flush=True)
        elif what == "pull":
            try:
                tree = mine.pull(rt.Ticket.from_json(line[5:])).result()
                print(float(sum(leaf.sum() for leaf in jax.tree.leaves(tree))), flush=True)
            except rt.RuntimeFault as error:
                print(type(error).__name__, error, flush=True)
        elif what == "stats":
            print(mine.stats().taken, flush=True)
print("closed", flush=True)
"""


class PeerProcess:
    """The child, and a way to ask it."""

    def __init__(self, folder: str):
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-c", CHILD],
            cwd=folder,
            env=os.environ | {"PYTHONSAFEPATH": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._child.stdin
        assert self._child.stdout
        self._in, self._out = self._child.stdin, self._child.stdout
        self.address = self._out.readline().strip()

    def ask(self, line: str) -> str:
        print(line, file=self._in, flush=True)
        return self._out.readline().strip()

    def ticket(self, line: str) -> rt.Ticket:
        return rt.Ticket.from_json(self.ask(line))

    def stop(self) -> None:
        self._child.send_signal(signal.SIGSTOP)
        stat = Path(f"/proc/{self._child.pid}/stat")
        while stat.read_text().rpartition(")")[2].split()[0] != "T":  # all of its threads stop
            time.sleep(0.005)

    def go_on(self) -> None:
        self._child.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._child.kill()
        self._child.wait()

    def end(self) -> str:
        """Closes it in good order; its last line."""
        self._in.close()
        return self._out.readline().strip()

    def close(self) -> None:
        self.go_on()
        self.kill()
        with contextlib.suppress(BrokenPipeError):
            self._in.close()
        self._out.close()


@contextlib.contextmanager
def peer():
    """One such process."""
    with tempfile.TemporaryDirectory() as folder:
        child = PeerProcess(folder)
        try:
            yield child
        finally:
            child.close()


def until(true, seconds=5.0):
    """Waits until `true()` is."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.01)
