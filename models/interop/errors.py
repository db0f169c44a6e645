"""What is wrong with a file of weights."""

from __future__ import annotations


class WeightsError(ValueError):
    """A checkpoint that cannot be read: damaged, incomplete, or of another kind.

    The message names the file and what was expected.
    """
