"""The process that offers, for `transfer`: a line of JSON in, a line out."""

from __future__ import annotations

import importlib
import json
import logging
import os
import secrets
import sys
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import transfer

from ...runtime import Transfers


def main() -> None:
    """Answers until its input ends."""
    device = jax.devices()[0]
    server = transfer.start_transfer_server(device.client, "127.0.0.1:0", ["127.0.0.1:0"])
    array: Any = None
    ray: Any = None
    with Transfers("peer") as mine:
        for line in sys.stdin:
            told = json.loads(line)
            answer: dict[str, Any] = {}
            if told["do"] == "start":
                answer = {"address": server.address()}
            elif told["do"] == "ray":
                os.environ |= told["environment"]
                ray = importlib.import_module("ray")
                ray.init(told["address"], logging_level=logging.ERROR, log_to_driver=False)
            elif told["do"] == "leave":
                ray.shutdown()
            elif told["do"] == "make":
                array = jnp.arange(told["count"], dtype="float32").block_until_ready()
            elif told["do"] == "bare":
                answer = {"identifier": secrets.randbits(63)}
                server.await_pull(answer["identifier"], array)
            else:
                answer = {"ticket": mine.offer(array, way=told["way"])[0].to_json()}
            print(json.dumps(answer), flush=True)
