"""`byways simulate`: options, and what is printed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from .bench.simulate_settings import SimulateSettings, check_simulate
from .cli_bench_output import JsonOption
from .cli_options import parse


@dataclasses.dataclass(frozen=True)
class SimulateOptions(JsonOption):
    """Run programs on machines that are not there, up to 4 islands × 512 devices.

    Attributes:
        names: parity, order, islands, pipeline or control; all, if none is named.
        config: sizes.
        figures: a folder for drawings, an SVG file for each simulation.
    """

    config: Annotated[SimulateSettings, tyro.conf.arg(name="")] = SimulateSettings()  # noqa: RUF009
    names: tyro.conf.Positional[tuple[str, ...]] = ()
    figures: Path | None = None


def simulate(arguments: Sequence[str]) -> int:
    """`byways simulate [NAME …] [--json] [--figures DIR] [options]`"""
    options = parse(SimulateOptions, arguments, "byways simulate", SimulateOptions())
    check_simulate(options.config, options.names)

    from .bench.simulate import simulate
    from .bench.simulate_table import print_simulations

    result = simulate(options.config, options.names)
    options.tell(result, print_simulations)
    if options.figures is not None:
        from .bench.simulate_figures import write_figures

        for path in write_figures(result, options.figures):
            if not options.json:
                print(path)
    return 0
