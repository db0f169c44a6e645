"""Attaching to a cluster that lives on without its clients."""

from __future__ import annotations

import getpass
import itertools
import os
from typing import TYPE_CHECKING, Any

from .attach_errors import AttachError, ControllerGone
from .attach_exchange import Exchange
from .attach_state import DEFAULT, ClusterFile, is_alive, read_cluster, this_host
from .attach_wire import Line, connect, greet, versions

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
    patience: float = 10.0,
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
        patience: seconds for the controller to be reached.

    Raises:
        AttachError: no cluster is up, the token is not its own, the name is taken.
        ControllerGone: its controller is dead or nobody listens there.
        VersionMismatch: it is of another Python, JAX or Byways.
    """
    where, token = _found(address, cluster, token)
    line = reached(where, token, cluster if address is None else None, patience)
    return entered(line, token, where, name=name, weight=weight, priority=priority)


def entered(line: Line, token: str, where: str, **asked: Any) -> Attached:
    """A client at the end of a line that leads to a controller."""
    from .attach_system import Attached

    name = asked.pop("name", None)
    hello = {"versions": versions(), "name": name, "default name": _usual_name(), **asked}
    try:
        told = greet(line, token, where, hello)
    except BaseException:
        line.close()
        raise
    return Attached(Exchange(line, told["name"], where))


def reached(where: str, token: str, cluster: str | None, patience: float = 10.0) -> Line:
    """A line to a controller.

    Args:
        where: its address.
        token: the cluster's.
        cluster: whose file told the address; None is nobody's.
        patience: seconds.

    Raises:
        ControllerGone: it is not there.
    """
    try:
        return connect(where, patience)
    except ControllerGone as error:
        if cluster is None:
            raise
        if _is_here(read_cluster(cluster)) and not is_alive(cluster):
            option = "" if cluster == DEFAULT else f" --name {cluster}"
            raise ControllerGone(
                f"the cluster {cluster!r} is dead: its controller ended without word, and left its "
                f"file. `byways cluster up{option}` starts another"
            ) from None
        raise ControllerGone(f"{error}; the file of cluster {cluster!r} says so") from None


def _found(address: str | None, cluster: str, token: str | None) -> tuple[str, str]:
    token = token or os.environ.get("BYWAYS_TOKEN")
    if address is None:
        found = read_cluster(cluster)
        return found.address, token or found.token
    if token is None:
        try:
            found = read_cluster(cluster)
        except AttachError:
            found = None
        if found is None or found.address != address:
            raise AttachError(
                f"a controller at {address!r} wants its cluster's token: give token=…, or set "
                "BYWAYS_TOKEN; it is in the cluster's file on its machine"
            )
        token = found.token
    return address, token


def _is_here(found: ClusterFile) -> bool:
    return found.host == this_host()


def _usual_name() -> str:
    return f"{getpass.getuser()}@{this_host()}:{os.getpid()}.{next(_numbers)}"
