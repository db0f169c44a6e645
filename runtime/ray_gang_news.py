"""What the hosts of an island say, as one answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .errors import IslandLost


class Gang:
    """The hosts of one island, for their controller.

    A node over several hosts that fails on some of them alone leaves the others waiting in it for
    ever: so the island is lost then.
    """

    def __init__(self, name: str, hosts: int, patience: float):
        """Args:
        name: the island's.
        hosts: how many.
        patience: seconds in which what fails on one host is to fail on the others.
        """
        self._name, self._hosts, self._patience = name, hosts, patience
        # By operation: since when, on how many hosts it failed and of how many, and why.
        self._partly: dict[int, tuple[float, int, int, str]] = {}

    def one_of(self, what: str, told: Sequence[Any], now: float) -> Any:
        """One answer of all hosts' answers to a question.

        Raises:
            IslandLost: they disagree.
        """
        if what == "news":
            return self._news(told, now)
        if what == "fetch":
            from .ray_gang_arrays import whole_of

            error = next((error for _, error in told if error is not None), None)
            return (None, error) if error is not None else (whole_of([f for f, _ in told]), None)
        if what == "compile":
            error = next((error for _, error in told if error is not None), None)
            return max((cost for cost, _ in told), key=len), error
        return told[0]

    def _news(self, told: Sequence[Any], now: float) -> tuple[int, list, list]:
        failed: dict[int, tuple] = {}
        for _, failures, _, wide in told:
            for op, packed in failures:
                failed.setdefault(op, packed)
            for op, hosts in wide.items():
                since, count, _, why = self._partly.get(op, (now, 0, hosts, failed[op][1]))
                self._partly[op] = since, count + 1, hosts, why
        for op, (since, count, hosts, why) in list(self._partly.items()):
            if count == hosts:
                del self._partly[op]
            elif now - since > self._patience:
                raise IslandLost(
                    f"island {self._name!r} is lost: a node over {hosts} hosts failed on {count} "
                    f"of them alone, so the others wait in it: {why}"
                )
        arrays = [found for _, _, arrays, _ in told for found in arrays]
        return min(reached for reached, *_ in told), list(failed.items()), arrays
