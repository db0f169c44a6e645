"""A Ray that was started by its command, as by whoever runs a cluster, and that is joined."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path


@contextlib.contextmanager
def a_ray_that_runs(token="the token of this Ray", **environment):
    """The address of a Ray of its own, on the loopback, and what whoever joins it has to have in
    their environment.

    Args:
        token: that it asks for; empty asks for none.
    """
    folder = Path(tempfile.mkdtemp(prefix="ray"))  # sockets' paths are short
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    mine = {"HOME": str(folder), "RAY_AUTH_MODE": "token" if token else "disabled"}
    if token:
        (folder / ".ray").mkdir()
        (folder / ".ray" / "auth_token").write_text(token)
    command = [Path(sys.executable).with_name("ray"), "start", "--head", "--block", "--num-cpus=4"]
    command += [f"--port={port}", "--node-ip-address=127.0.0.1", f"--temp-dir={folder}/ray"]
    command += ["--include-dashboard=false", "--disable-usage-stats"]
    log = folder / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd="/",
            env={
                **without_token(os.environ),
                # Ray's own word for keeping to the loopback.
                "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
                "PYTHONSAFEPATH": "1",
                **mine,
                **environment,
            },
            start_new_session=True,
        )
    try:
        end = time.monotonic() + 120
        while "Ray runtime started" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        yield f"127.0.0.1:{port}", {"RAY_AUTH_TOKEN": token} if token else {}
    finally:
        process.terminate()  # it ends what it started
        process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def without_token(environment):
    """An environment that says nothing of Ray's tokens."""
    return {name: value for name, value in environment.items() if not name.startswith("RAY_AUTH")}
