"""`byways simulate`: what was fitted fits, what follows from it by hand, and what is refused."""

import json
import re
from pathlib import Path

import pytest
from byways.experiments.bench.simulate_control import simulate_control
from byways.experiments.bench.simulate_figures import write_figures
from byways.experiments.bench.simulate_islands import step_seconds
from byways.experiments.bench.simulate_order import simulate_order
from byways.experiments.bench.simulate_paper import (
    CALL_SECONDS,
    HOST_SECONDS,
    PARITY,
    PIPELINES,
    paper_machine,
)
from byways.experiments.bench.simulate_parity import parity
from byways.experiments.bench.simulate_pipeline import tokens_per_second
from byways.experiments.bench.simulate_settings import NAMES, SimulateSettings
from byways.experiments.bench.simulate_table import print_simulations
from byways.experiments.cli import main
from rich.console import Console

TINY = SimulateSettings(nodes=16, stages=(1, 2), lengths=(10.0,), batches=3, chunks=2)


@pytest.mark.parametrize(("hosts", "devices"), [(16, 8), (512, 4)])
def test_parity_of_one_node_calls_is_what_it_was_fitted_to(hosts, devices):
    machine = paper_machine(hosts=hosts, devices=devices)
    assert parity(machine, 1) == pytest.approx(PARITY[hosts], rel=0.005)


def test_parity_grows_with_hosts_and_not_with_devices():
    few, many = (parity(paper_machine(hosts=64, devices=n), 1) for n in (1, 8))
    assert few == pytest.approx(many, rel=1e-6)
    assert few == pytest.approx(CALL_SECONDS + 64 * HOST_SECONDS, rel=0.005)


def test_hosts_that_pass_messages_on_shorten_it():
    # The controller serves 16 of the 512 hosts itself: as if there were no more.
    relayed = parity(paper_machine(hosts=512, devices=4, relay=16), 1)
    assert relayed == pytest.approx(PARITY[16], rel=0.005)


def test_parallel_dispatch_hides_what_sequential_pays_at_each_stage():
    one, two = simulate_order(TINY)["rows"]
    assert one["ideal"] < one["parallel"] < one["sequential"]
    assert two["parallel"] < 1.1 * two["ideal"]
    assert two["ratio"] > 1.1


@pytest.mark.parametrize("billions", [64, 136])
def test_two_islands_reach_97_percent_of_one(billions):
    # 64B was fitted (97.2 %); 136B on twice the devices follows.
    parameters, devices = billions * 1e9, 512 if billions == 64 else 1024
    one, none = step_seconds(parameters, 1, 2 * devices)
    two, moved = step_seconds(parameters, 2, devices)
    assert one / two == pytest.approx(0.972, abs=0.001)
    assert none == 0
    # Each island's gradient, in f32, to the other.
    assert moved == pytest.approx(2 * 4 * parameters, rel=1e-4)


def test_gradients_that_go_in_pieces_hide_behind_work():
    whole, pieces = (
        step_seconds(64e9, 1, 1024, n)[0] / step_seconds(64e9, 2, 512, n)[0] for n in (1, 4)
    )
    assert whole < pieces < 1


def test_the_pipeline_that_was_fitted():
    found = tokens_per_second(1, 128, 4, 16, window=64)
    assert found == pytest.approx(PIPELINES[1, 128, 4, 16], rel=0.005)


@pytest.mark.slow
def test_the_other_pipelines_are_within_a_tenth():
    for (islands, devices, stages, micro), published in PIPELINES.items():
        found = tokens_per_second(islands, devices, stages, micro, window=64)
        assert found == pytest.approx(published, rel=0.1)


def test_the_controllers_own_time_is_flat():
    # On real time, of a busy machine: far from the growth of 64 in devices is flat enough here.
    found = simulate_control(SimulateSettings(nodes=64, control=(8, 512), repeats=3))
    assert [row["devices"] for row in found["rows"]] == [8, 512]
    assert 0 < found["growth"] < 4


def test_tables_drawings_and_json(tmp_path, capsys):
    assert main(["simulate", "order", "--json", "--stages", "2", "--figures", str(tmp_path)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [row["stages"] for row in result["order"]["rows"]] == [2, 2]
    assert (tmp_path / "order.svg").read_text().startswith("<svg")


def test_a_table_says_what_was_fitted(tmp_path):
    rows = [
        {"islands": 1, "devices": 128, "stages": 4, "micro_batches": 16, "tokens": 1e5,
         "published": 1e5, "error": 0.0, "fitted": True, "narrow": 9e4, "bubble": 0.1},
        {"islands": 4, "devices": 128, "stages": 16, "micro_batches": 64, "tokens": 9e4,
         "published": 1e5, "error": -0.1, "fitted": False, "narrow": 9e4, "bubble": 0.2},
    ]  # fmt: skip
    result = {"pipeline": {"rows": rows}, "device": {"cpus": 2}, "load": 1.0}
    console = Console(record=True, width=120)
    print_simulations(result, console)
    said = console.export_text()
    assert re.search(r"S=4 M=16 .* fitted", said)
    assert "-10.0 %" in said
    (path,) = write_figures(result, tmp_path)
    assert b"(fitted)" in path.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["paritty"], "did you mean 'parity'"),
        (["--stages", "0"], "--stages 0"),
        (["--window", "1"], "--window 1"),
        (["--control", "700"], "--control 700"),
        (["--node", "3"], "--node"),
    ],
)
def test_what_cannot_be_simulated(arguments, said, capsys):
    assert main(["simulate", *arguments]) == 2
    assert said in capsys.readouterr().err


PAGE = Path(__file__).parents[2] / "docs" / "simulation.md"


def test_the_page_names_every_simulation():
    page = PAGE.read_text()
    assert all(f"simulate {name}" in page and f"simulation/{name}.svg" in page for name in NAMES)


def test_the_pages_example_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    exec(compile(code, "simulation.md", "exec"), {})
    # Three borders, crossed by activations and by their cotangents, of 2^17 x 8,192 in bf16; and
    # the targets are the last stage's from the beginning.
    assert f"{6 * 2**17 * 8192 * 2 / 1e9:.0f} GB" in capsys.readouterr().out
