"""What answers at an address of a Ray: `python -P -m byways.runtime.ray_probe HOST:PORT`.

A process of its own asks, and says it in JSON. Ray itself asks for minutes where another program
listens, writes what it is refused to stderr, and asks with a token or without one, not both ways.
Imports no JAX.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from typing import Any

# Milliseconds that Ray's client is given for its first answer, to which it adds ten seconds itself.
FIRST = 1000
# Where a Ray writes its versions, in its own store.
METADATA, NAMESPACE = b"CLUSTER_METADATA", b"cluster"


@dataclasses.dataclass(frozen=True)
class Probed:
    """A Ray.

    Attributes:
        token: what it wants of who asks: `none`; or the one that we have is `right`, `wrong` or
            `missing`.
        ray, python: its versions; empty if they are not told to us.
    """

    token: str
    ray: str = ""
    python: str = ""


class NoRay(Exception):
    """Nothing that answers as a Ray does."""


def probe(address: str, seconds: float = 60.0) -> Probed | None:
    """What is there; None if this version of Ray cannot be asked so.

    Args:
        address: `host:port`, where something listens.
        seconds: for all of it; 12 is usual where it is no Ray.

    Raises:
        NoRay: something else is there.
    """
    command = [sys.executable, "-P", "-m", __name__, address]
    safe = os.environ | {"PYTHONSAFEPATH": "1"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=safe, cwd="/", timeout=seconds
        )
    except subprocess.TimeoutExpired:
        raise NoRay(f"nothing was said in {seconds:g} s") from None
    if done.returncode:
        return None
    told: dict[str, Any] = json.loads(done.stdout)
    if "error" in told:
        raise NoRay(told["error"])
    return Probed(**told)


def main(arguments: list[str]) -> int:
    """Asks, and prints what was found."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    from ray import _raylet  # pyright: ignore[reportMissingImports]
    from ray.exceptions import RpcError  # pyright: ignore[reportMissingImports]

    try:
        print(json.dumps(dataclasses.asdict(_asked(_raylet, arguments[0]))))
    except RpcError as error:
        print(json.dumps({"error": str(error)}))
    return 0


def _asked(raylet: Any, address: str) -> Probed:
    from ray import exceptions  # pyright: ignore[reportMissingImports]

    # A Ray without tokens, before 2.52, has no such error.
    refusal = getattr(exceptions, "AuthenticationError", exceptions.RpcError)
    try:
        return _versions(raylet, address, "none")
    except refusal:
        if not hasattr(raylet, "AuthenticationTokenLoader"):
            raise
    if not raylet.AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True):
        return Probed("missing")
    os.environ["RAY_AUTH_MODE"] = "token"
    raylet.Config.initialize("")
    try:
        return _versions(raylet, address, "right")
    except refusal:
        return Probed("wrong")


def _versions(raylet: Any, address: str, token: str) -> Probed:
    client = raylet.InnerGcsClient.standalone(address, None, FIRST)
    told = json.loads(client.internal_kv_get(METADATA, namespace=NAMESPACE, timeout=5.0) or b"{}")
    return Probed(token, told.get("ray_version", ""), told.get("python_version", ""))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
