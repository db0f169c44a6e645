"""The type of a device: JAX's, a simulated one, or one of an island in another process.

JAX gives its own as a variable, which type checkers do not take for a type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, Union

import jax

from .ray_devices import RayDevice
from .sim_machine import SimDevice

if TYPE_CHECKING:
    Device: TypeAlias = Any
else:
    Device = Union[jax.Device, SimDevice, RayDevice]  # noqa: UP007
