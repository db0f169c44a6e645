"""Processes of the local pool; what they run here is a script that trains nothing."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from byways.experiments import UsageError
from byways.experiments.sweep.local import LocalPool
from byways.experiments.sweep.places import Place, divide
from byways.experiments.sweep.plan_file import write_plan
from byways.experiments.sweep.pool import run_plan
from byways.experiments.sweep.status import failure_file, output_file

from .plans import plan_in

# Does as it finds written in the plan's folder.
WORKER = """
import os, signal, sys, time
from pathlib import Path
from byways.experiments.sweep.worker import PARENT, end_with, pin_from, CORES
plan, name = Path(sys.argv[1]), sys.argv[2]
do = (plan.parent / f"do-{name}").read_text()
if do == "fail":
    raise ValueError("no luck")
if do == "show":
    pin_from(CORES)
    print("safe", sys.flags.safe_path, "cores", sorted(os.sched_getaffinity(0)))
    print("gpu", os.environ["CUDA_VISIBLE_DEVICES"])
    raise SystemExit(1)
asked = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: asked.append(number))
end_with(int(os.environ[PARENT]))
print("ready", os.getpid(), flush=True)
while not asked or do == "stay":
    time.sleep(0.02)
time.sleep(0.2)
print("stopped by", *asked, flush=True)
raise SystemExit(130)
"""


def pool_of(tmp_path, plan, **do):
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    plan.folder.mkdir(parents=True, exist_ok=True)
    for name, what in do.items():
        (plan.folder / f"do-{name}").write_text(what)
    core = min(os.sched_getaffinity(0))
    place = Place((core,), {"CUDA_VISIBLE_DEVICES": "7"})
    return LocalPool([place] * len(do), [sys.executable, str(script)])


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def says(path: Path, text: str) -> bool:
    return path.is_file() and text in path.read_text()


def test_a_process_has_its_place_and_its_failure_is_kept(tmp_path):
    plan = plan_in(tmp_path)
    pool = pool_of(tmp_path, plan, s0="show", s1="fail", s2="fail")
    outcomes = run_plan(plan, executor=pool)
    assert [one.state for one in outcomes] == ["failed"] * 3
    assert outcomes[1].reason == "ValueError: no luck"
    kept = failure_file(plan, plan.runs[1]).read_text()
    assert kept.startswith("run s1, config ")
    assert "Traceback" in kept
    shown = output_file(plan, plan.runs[0]).read_text().splitlines()
    assert shown == [f"safe True cores [{min(os.sched_getaffinity(0))}]", "gpu 7"]


def test_a_stop_asks_once(tmp_path):
    plan = plan_in(tmp_path)
    pool = pool_of(tmp_path, plan, s0="wait")
    write_plan(plan)
    pool.submit(plan, plan.runs[0], True)
    assert pool.free() == 0
    output = output_file(plan, plan.runs[0])
    wait_for(lambda: says(output, "ready"))
    pool.stop()
    pool.stop()
    ended = []
    wait_for(lambda: ended.extend(pool.poll()) or ended)
    assert (ended[0].name, ended[0].code) == ("s0", 130)
    assert ended[0].output.endswith("\nstopped by 2\n")
    assert pool.free() == 1


SWEEP = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from sweep.plans import plan_in
from byways.experiments.sweep.local import LocalPool
from byways.experiments.sweep.places import Place
from byways.experiments.sweep.pool import run_plan
from byways.experiments.cli import main
plan = plan_in(Path({folder!r}))
pool = LocalPool([Place((), {{}})], [sys.executable, {script!r}])
import byways.experiments.cli_commands as commands
commands.sweep = lambda words: bool(run_plan(plan, executor=pool))
sys.exit(main(["sweep"]))
"""


def start_sweep(tmp_path, plan, what) -> subprocess.Popen:
    """A process that sweeps a plan whose runs all do `what`, once the first of them is ready."""
    pool_of(tmp_path, plan, s0=what, s1=what, s2=what)
    words = SWEEP.format(
        tests=str(Path(__file__).parents[1]),
        folder=str(tmp_path),
        script=str(tmp_path / "worker.py"),
    )
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(words)], stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: says(output_file(plan, plan.runs[0]), "ready"))
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "killed"])
def test_processes_save_and_end_with_their_sweep(tmp_path, number):
    plan = plan_in(tmp_path)
    process = start_sweep(tmp_path, plan, "wait")
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    wait_for(lambda: says(output_file(plan, plan.runs[0]), "stopped by"))
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "3 of 3 runs are left and go on with the same command" in told
    assert not output_file(plan, plan.runs[1]).exists()
    assert not failure_file(plan, plan.runs[0]).exists()


def test_a_second_ctrl_c_kills(tmp_path):
    plan = plan_in(tmp_path)
    process = start_sweep(tmp_path, plan, "stay")
    output = output_file(plan, plan.runs[0])
    pid = int(output.read_text().split()[1])
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    wait_for(lambda: not cmdline(pid))


def cmdline(pid: int) -> bytes:
    """Words of a process, none of one that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_places_share_the_machine_out():
    cores = list(range(8))
    assert [place.cores for place in divide(cores, [], 2, 4)] == [(0, 1, 2, 3), (4, 5, 6, 7)]
    assert len(divide(cores, [], 0, 0)) == 8
    one, two = divide(cores, ["3"], 2, 0)
    assert (
        one.environment
        == two.environment
        == {
            "CUDA_VISIBLE_DEVICES": "3",
            "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.45",
        }
    )
    assert (one.cores, two.cores) == ((0, 1, 2, 3), (4, 5, 6, 7))
    for workers, each in ((9, 0), (4, 3), (-1, 0)):
        with pytest.raises(UsageError, match="--workers"):
            divide(cores, [], workers, each)
