"""Attaching to a cluster that lives on without its clients."""

from __future__ import annotations

import getpass
import itertools
import os
from typing import TYPE_CHECKING, Any

from .attach_exchange import Exchange
from .attach_find import found, reached
from .attach_state import DEFAULT, this_host
from .attach_wire import Line, greet, versions

if TYPE_CHECKING:
    from .attach_system import Attached

_numbers = itertools.count(1)


def attach(
    address: str | None = None,
    *,
    cluster: str = DEFAULT,
    token: str | None = None,
    name: str | None = None,
    weight: float = 1.0,
    priority: int = 0,
    patience: float = 20.0,
) -> Attached:
    """A system like a `Runtime` whose controller and islands are other processes and stay.

        system = rt.attach()  # of `byways cluster up`

    Args:
        address: of a controller, `host:port`; by default that of a cluster of this user on this
            machine, which its file tells.
        cluster: that cluster's name.
        token: the cluster's; by default `$BYWAYS_TOKEN`, or what its file says.
        name: of this client, not yet taken; by default user, machine and process.
        weight: of its share of each island that other clients want too.
        priority: higher goes first, whatever the shares.
        patience: seconds for the controller to be reached, and as many for its answer.

    Raises:
        AttachError: no cluster is up, the token is not its own, the name is taken.
        ControllerGone: its controller is dead or nobody listens there.
        VersionMismatch: it is of another Python, JAX or Byways.
    """
    where, token = found(address, cluster, token)
    line = reached(where, token, cluster if address is None else None, patience)
    asked = {"name": name, "weight": weight, "priority": priority}
    return entered(line, token, where, patience, **asked)


def entered(line: Line, token: str, where: str, patience: float = 20.0, **asked: Any) -> Attached:
    """A client at the end of a line that leads to a controller."""
    from .attach_system import Attached

    name = asked.pop("name", None)
    hello = {"versions": versions(), "name": name, "default name": _usual_name(), **asked}
    try:
        told = greet(line, token, where, hello, patience)
    except BaseException:
        line.close()
        raise
    return Attached(Exchange(line, told["name"], where))


def _usual_name() -> str:
    return f"{getpass.getuser()}@{this_host()}:{os.getpid()}.{next(_numbers)}"
