"""What can go wrong between a client and the controller of a cluster. Imports no JAX."""

from __future__ import annotations

from .errors import RuntimeFault


class AttachError(RuntimeFault):
    """There is no controller there, or it does not take this client."""


class VersionMismatch(AttachError):
    """Client and controller are of different versions; both are named."""


class ControllerGone(AttachError, ConnectionError):
    """The controller has ended, or says nothing any more."""


class NameTaken(AttachError, ValueError):
    """Something has this name already."""


class NameUnknown(AttachError, KeyError):
    """Nothing has this name."""

    # A KeyError shows the representation of its message, quotes and all.
    __str__ = Exception.__str__
