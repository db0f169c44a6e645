"""The runtime's own errors in arrays: poison that says, in any process, which node failed.

XLA carries an error from array to array and, by `jax.experimental.transfer`, from process to
process, as one text of at most 2,048 characters to which every station adds a few words in
front. So an error is written as a marker and a line of JSON, and found again in whatever text it
arrives with.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from . import errors, transfer_errors
from .errors import NodeError, RuntimeFault
from .faults import said

MARK = "byways error "
# Characters that travel: XLA cuts at 2,048, and every station adds some thirty.
LONGEST = 1600

Origin = tuple[str, str, str]  # program, node, island


def error_text(error: BaseException) -> str:
    """An error as the text of an array's.

    Args:
        error: of the runtime, which will be of the same type where it arrives; any other arrives
            as a `RuntimeFault`.
    """
    known = isinstance(error, RuntimeFault)
    found: dict[str, Any] = {"kind": type(error).__name__ if known else "RuntimeFault"}
    text = str(error) if known else said(error)
    if isinstance(error, NodeError):
        # Long names would push the end of the JSON over the limit.
        found["of"] = [_cut(name, 80) for name in (error.program, error.node, error.island)]
    whole = json.dumps(found | {"said": text})
    room = len(text)
    while len(whole) > LONGEST and room:  # escapes count six to a character
        # A traceback has its point at the end, and a node's error its names at the beginning.
        room = room * 3 // 4
        short = text[: room // 3] + " … " + text[len(text) - room * 2 // 3 :]
        whole = json.dumps(found | {"said": short})
    return MARK + whole


def carried_error(found: BaseException) -> RuntimeFault | None:
    """The runtime's error that an array carried; None if it carried none.

    Args:
        found: what asking for the array raised.
    """
    text = str(found)
    start = text.find(MARK)
    if start < 0:
        return None
    try:
        told, _ = json.JSONDecoder().raw_decode(text, start + len(MARK))
        kind, message = _kind(told["kind"]), str(told["said"])
        if "of" in told:
            program, node, island = map(str, told["of"])
            error = kind.__new__(kind)  # the message is whole already
            Exception.__init__(error, message)
            error.program, error.node, error.island = program, node, island  # pyright: ignore
            return error
        return RuntimeFault(message) if issubclass(kind, NodeError) else kind(message)
    except (ValueError, KeyError, TypeError):
        return None


def error_arrays(error: BaseException, shapes: Sequence[Any]) -> list[Any]:
    """Arrays that never come: whoever computes with one, or pulls it, gets the error.

    Args:
        error: whose node, program and island travel with it if it is a `NodeError`.
        shapes: `jax.ShapeDtypeStruct`s; without a sharding on the first device.
    """
    import jax
    from jax.experimental import transfer
    from jax.sharding import SingleDeviceSharding

    text = error_text(error)

    def one(shape: Any) -> Any:
        where = getattr(shape, "sharding", None) or SingleDeviceSharding(jax.devices()[0])
        return transfer.make_error_array(
            jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=where), text
        )

    return [one(shape) for shape in shapes]


def _kind(name: str) -> type[RuntimeFault]:
    for module in (errors, transfer_errors):
        found = getattr(module, name, None)
        if isinstance(found, type) and issubclass(found, RuntimeFault):
            return found
    return RuntimeFault


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
