"""`python -m byways.experiments.sweep.worker PLAN.json NAME`: trains one run and scores it.

A process of its own, so that one run's failure is its own. Whatever was done before is not done
again: training goes on from its checkpoint, and a run that lacks its scores only gets them.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

# Set by the pool; the process runs well without them.
CORES = "BYWAYS_SWEEP_CORES"
PARENT = "BYWAYS_SWEEP_PARENT"

INTERRUPTED = 130


def main(arguments: Sequence[str]) -> int:
    """Trains and scores one run of a plan; the exit code is 0, 1 or 130 (interrupted).

    Args:
        arguments: the plan's file, the run's name, and `--no-evaluate` where scores are not
            wanted.
    """
    from ..errors import Interrupted

    signal.signal(signal.SIGINT, signal.default_int_handler)
    end_with(int(os.environ.get(PARENT, "0")))
    pin_from(CORES)
    names = [word for word in arguments if word != "--no-evaluate"]
    if len(names) != 2:
        print("usage: worker PLAN.json NAME [--no-evaluate]", file=sys.stderr)
        return 2
    try:
        work(Path(names[0]), names[1], evaluate="--no-evaluate" not in arguments)
    except (Interrupted, KeyboardInterrupt) as error:
        print(f"byways: {error or 'stopped'}", file=sys.stderr)
        return INTERRUPTED
    except BaseException:
        # All of it: what is printed is all that is left of a failure.
        traceback.print_exc()
        return 1
    return 0


def work(file: Path, name: str, evaluate: bool = True) -> None:
    """Does what is left of a run.

    Args:
        file: the plan's.
        name: of the run.
        evaluate: score it too.

    Raises:
        Interrupted: it was asked to stop; what was trained is saved.
        Exception: whatever training or scoring raises.
    """
    from .begin import config_to_train
    from .claim import claimed
    from .plan_file import read_plan
    from .status import is_done, is_trained, mark_done

    plan = read_plan(file)
    run = plan.run(name)
    folder = plan.folder_of(run)
    with claimed(plan, run):
        if is_done(plan, run):
            return
        if not is_trained(plan, run):
            config = config_to_train(plan, run)

            from ..train import train

            train(config, folder, run.preset)
        if not evaluate:
            return

        from ..compilation_cache import enable_compilation_cache
        from ..evaluation import evaluate_run
        from .seconds import train_seconds

        enable_compilation_cache()
        began = time.monotonic()
        evaluate_run(folder)
        mark_done(plan, run, train_seconds(folder), time.monotonic() - began)


def end_with(parent: int) -> None:
    """Asks the kernel for a SIGTERM when the parent dies: training then saves and stops."""
    if not parent or not sys.platform.startswith("linux"):
        return
    import ctypes

    set_death_signal = 1  # PR_SET_PDEATHSIG
    ctypes.CDLL(None, use_errno=True).prctl(set_death_signal, int(signal.SIGTERM))
    if os.getppid() != parent:  # it died before we asked
        raise SystemExit(INTERRUPTED)


def pin_from(variable: str) -> None:
    """Keeps this process, and the threads that JAX will start, on the cores that it names."""
    cores = os.environ.get(variable, "")
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
