"""The type of a device: JAX's, or a simulated one.

JAX gives its own as a variable, which type checkers do not take for a type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, Union

import jax

from .sim_machine import SimDevice

if TYPE_CHECKING:
    Device: TypeAlias = Any
else:
    Device = Union[jax.Device, SimDevice]  # noqa: UP007
