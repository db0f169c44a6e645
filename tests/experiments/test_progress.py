"""Progress: a live bar on a terminal, one plain line a time elsewhere."""

import io

from byways.experiments.progress import TrainingProgress
from rich.console import Console

METRICS = {
    "loss": 2.5,
    "routing/encoderblock_1/success/image": 0.99,
    "routing/encoderblock_1/success/text": 0.5,
    "routing/encoderblock_3/success/text": 0.9,
    "routing/encoderblock_3/max_load": 2.0,
}


def show(terminal):
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=120, highlight=False)
    with TrainingProgress(100, start=10, console=console) as progress:
        progress.print("resumed at step 10 [of 100]")
        progress.advance(15)
        progress.update(20, METRICS, {"examples_per_second": 100.0})
    return out.getvalue()


def test_plain_lines():
    lines = show(terminal=False).splitlines()
    assert lines[0] == "resumed at step 10 [of 100]"
    assert len(lines) == 2
    assert lines[1].startswith("step 20/100  loss 2.500  100 examples/s  left ")
    assert lines[1].endswith("routed image 99 %, text 50 %  load 2.00")


def test_a_live_bar():
    shown = show(terminal=True)
    assert " 20/100" in shown
    assert "routed image 99 %, text 50 %" in shown
