"""The type of a device. JAX gives it as a variable, which type checkers do not take for a type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import jax

if TYPE_CHECKING:
    Device: TypeAlias = Any
else:
    Device = jax.Device
