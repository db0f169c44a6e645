"""`byways` and `python -m byways`: the command line."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line with the process's arguments."""
    from byways.experiments.cli import main as run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
