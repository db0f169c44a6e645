"""Finding a controller, and watching it without being a client. Imports no JAX."""

from __future__ import annotations

import os
from typing import Any

from .attach_errors import AttachError, ControllerGone
from .attach_state import DEFAULT, cluster_alive, read_cluster, this_host
from .attach_wire import Line, connect, greet


def found(address: str | None, cluster: str, token: str | None) -> tuple[str, str]:
    """Address and token of a controller.

    Raises:
        AttachError: no cluster is up, or the token is not known.
    """
    token = token or os.environ.get("BYWAYS_TOKEN")
    if address is None:
        there = read_cluster(cluster)
        return there.address, token or there.token
    if token is None:
        try:
            there = read_cluster(cluster)
        except AttachError:
            there = None
        if there is None or there.address != address:
            raise AttachError(
                f"a controller at {address!r} wants its cluster's token: give token=…, or set "
                "BYWAYS_TOKEN; it is in the cluster's file on its machine"
            )
        token = there.token
    return address, token


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
        if read_cluster(cluster).host == this_host() and not cluster_alive(cluster):
            option = "" if cluster == DEFAULT else f" --name {cluster}"
            raise ControllerGone(
                f"the cluster {cluster!r} is dead: its controller ended without word, and left its "
                f"file. `byways cluster up{option}` starts another"
            ) from None
        raise ControllerGone(f"{error}; the file of cluster {cluster!r} says so") from None


class Watched:
    """A controller that is asked how things are, or to end. No client of its runtime: whoever
    watches needs no JAX, and may be of other versions.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        cluster: str = DEFAULT,
        token: str | None = None,
        patience: float = 10.0,
    ):
        """As `attach`.

        Raises:
            AttachError, ControllerGone: as `attach`.
        """
        self.where, token = found(address, cluster, token)
        self._line = reached(self.where, token, cluster if address is None else None, patience)
        try:
            greet(self._line, token, self.where, {}, patience)
        except BaseException:
            self._line.close()
            raise

    def status(self) -> dict[str, Any]:
        """Islands, clients, programs and names.

        Raises:
            ControllerGone: it has ended, or says nothing for a minute.
        """
        return self._ask("status")

    def stop(self) -> dict[str, Any]:
        """Has it end itself and its islands, after the answer: how things were.

        Raises:
            ControllerGone: as above.
        """
        return self._ask("stop")

    def close(self) -> None:
        """It is watched no more."""
        self._line.close()

    def _ask(self, what: str) -> dict[str, Any]:
        try:
            self._line.send((what,))
            if not self._line.connection.poll(60.0):
                raise EOFError("it has said nothing for a minute")
            return self._line.receive()[1]
        except (EOFError, OSError) as error:
            why = str(error) or "it has ended"
            raise ControllerGone(f"the controller at {self.where} is gone: {why}") from None

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
