"""What can go wrong with items that live elsewhere until they are needed."""

from __future__ import annotations

from .errors import RuntimeFault


class ColdFileError(RuntimeFault, ValueError):
    """A file of cold items that is missing, damaged, or holds other things than was said."""


class UnknownItem(RuntimeFault, LookupError):
    """A key that the cold store does not have."""


class BudgetTooSmall(RuntimeFault, MemoryError):
    """Items that were asked for together are larger than the budget."""


class ItemsInUse(RuntimeFault, TimeoutError):
    """No room could be made: what is resident was not given back in time."""


class ResidentsClosed(RuntimeFault):
    """Used after `close`."""
