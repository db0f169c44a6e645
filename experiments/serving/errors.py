"""What can go wrong while requests are served."""

from __future__ import annotations

from ..errors import ExperimentError


class ServingError(ExperimentError):
    """A request that cannot be served to its end: no island is left, or too many were lost."""


class RequestCancelled(ServingError):
    """The request was cancelled, or its engine closed, before it was done."""

    exit_code = 130
