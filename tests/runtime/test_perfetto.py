"""Traces obey Chrome's format, and say who made what and who woke whom."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.runtime.perfetto import perfetto, write_trace
from byways.runtime.spans import lay_out

from byways import runtime as rt

from .test_recorder import routed
from .trace_format import check_format, overlaps, sent


def names(trace, what):
    found = [e for e in trace["traceEvents"] if e["ph"] == "M" and e["name"] == what]
    return {e["args"]["name"] for e in found}


def test_a_routed_step():
    trace = perfetto(routed())
    slices, arrows = check_format(trace)
    # Every node twice, sent and done; the wait once.
    assert len(slices) == 4 * 2 + 1
    assert names(trace, "process_name") == {"controller", "island pod"}
    assert names(trace, "thread_name") == {"dispatch: me", "device 0", "device 1", "device 2"}
    assert {(a["name"], b["name"]) for a, b in arrows} == {
        ("router", "read counts"),
        ("read counts", "expert 2"),
        ("read counts", "expert 5"),
        ("read counts", "combine"),
        ("expert 2", "combine"),
        ("expert 5", "combine"),
    }
    woken = [e for e in trace["traceEvents"] if e["ph"] == "s" and e["name"] == "wakes"]
    assert len(woken) == 2
    (router,) = [e for e in slices if e["name"] == "router" and e["cat"] == "node"]
    # Sent from 0 to 1 s, ran from 1 to 3.
    assert (router["ts"], router["dur"]) == (1e6, 2e6)
    assert router["args"]["program"] == "step"
    assert router["args"]["client"] == "me"


def test_a_gang_is_on_each_of_its_devices_and_its_arrows_on_one():
    spans = lay_out(
        [
            sent("gang", 0, 0, 1, 3, devices=(0, 1, 2), bytes=96),
            sent("next", 1, 1, 2, 4, devices=(1, 2), parents=(0,)),
        ]
    )
    slices, arrows = check_format(perfetto(spans))
    gang = [e for e in slices if e["name"] == "gang" and e["cat"] == "node"]
    assert len({e["tid"] for e in gang}) == 3
    assert gang[0]["args"]["devices"] == [0, 1, 2]
    assert gang[0]["args"]["bytes made"] == 96
    assert len(arrows) == 1


def test_islands_clients_and_copies_have_lanes_of_their_own():
    spans = lay_out(
        [
            sent("a", 0, 0, 1, 3, client="ann", thread=0),
            sent("b", 0, 0.5, 1, 4, client="bob", thread=1, run=1, island="far", devices=(9,)),
            sent("b inputs", 1, 1, 2, 5, client="ann", island="far", kind="transfer", devices=(9,)),
        ]
    )
    trace = perfetto(spans)
    check_format(trace)
    assert names(trace, "process_name") == {"controller", "island far", "island pod"}
    lanes = {"dispatch: ann", "dispatch: bob", "device 0", "device 9", "copies to device 9"}
    assert names(trace, "thread_name") == lanes


def test_threads_of_one_client_do_not_share_a_lane():
    spans = lay_out([sent("a", 0, 0, 2, 3), sent("b", 1, 1, 3, 4, thread=1, devices=(1,))])
    trace = perfetto(spans)
    check_format(trace)
    assert {"dispatch: me, thread 0", "dispatch: me, thread 1"} <= names(trace, "thread_name")


def test_names_of_any_kind_and_times_of_a_day_stay_whole(tmp_path):
    day = 86_400.0
    spans = lay_out(
        [
            sent('"ü\n</script>\\', n, day + n * 1e-6, day + n * 1e-6, day + 9e-4, failed=True)
            for n in range(50)
        ]
    )
    path = write_trace(spans, tmp_path / "new" / "trace.json")
    slices, _ = check_format(json.loads(path.read_text()))
    assert slices[0]["name"] == '"ü\n</script>\\'
    assert min(event["ts"] for event in slices) == 0
    assert slices[-1]["args"]["failed"] is True


def test_nothing_is_a_trace_too():
    assert check_format(perfetto([])) == ([], [])


def test_a_trace_is_written_whole_or_not_at_all(tmp_path):
    path = write_trace(routed(), tmp_path / "trace.json")
    old = path.read_text()
    with pytest.raises(AttributeError):
        write_trace([object()], path)  # type: ignore
    assert path.read_text() == old
    assert [item.name for item in tmp_path.iterdir()] == ["trace.json"]


@pytest.fixture
def system():
    with rt.Runtime({"local": jax.devices()[:2]}) as made:
        yield made


def routed_program(system):
    """Rows of a router's choosing through four experts on two devices, and a sum of what comes."""
    slices = [system.virtual_devices().add_slice(1) for _ in range(2)]
    home, _ = slices
    double = rt.computation(
        lambda x: (x * 2, jnp.array([3, 0, 2, 1], jnp.int32)), home, name="router"
    )
    experts = rt.switch(
        lambda w, x: x @ w, slices, jax.ShapeDtypeStruct((4, 4), jnp.float32), 4, name="experts"
    )
    total = rt.computation(jnp.sum, home, name="sum")

    def step(x, weights):
        rows, counts = double(x)
        return total(experts(counts, rows, weights))

    weights = rt.Branches([slices[n % 2].put(jnp.eye(4) * (n + 1)) for n in range(4)])
    return rt.Program(step, name="step"), weights


def test_a_real_program_from_router_to_sum(system, tmp_path):
    program, weights = routed_program(system)
    x = np.ones((6, 4), np.float32)
    program(x, weights).result()
    with rt.recording(system) as recorder:
        found = program(x, weights).result()
    # Three rows of 2 by expert 0 (times 1), two by 2 (times 3), one by 3 (times 4); 4 columns.
    assert found == 4 * (3 * 2 + 2 * 6 + 1 * 8)
    assert system.recorder is None
    spans = recorder.spans
    assert not overlaps(spans)
    assert not any(span.failed for span in spans)
    by_name = {span.name: span for span in spans}
    woken = [s for s in spans if s.woken_by is not None and s.name.startswith("experts ")]
    local = system.islands["local"].devices[:2]
    assert {d for span in woken for d in span.devices} == {d.id for d in local}
    assert by_name["router"].ended <= by_name["experts"].ended <= min(s.began for s in woken)
    assert by_name["sum"].began >= max(s.ended for s in woken)
    assert by_name["router"].bytes == 6 * 4 * 4 + 4 * 4
    path = rt.write_trace(spans, tmp_path / "trace.json")
    _, arrows = check_format(json.loads(path.read_text()))
    names_of = {(a["name"], b["name"]) for a, b in arrows}
    assert ("router", "read experts") in names_of
    assert all(("read experts", span.name) in names_of for span in woken)
    summary = rt.summarise(spans)
    assert (summary.expanded, summary.failed) == (1, 0)
    assert summary.critical[0].name == "router"
    assert summary.critical[-1].name == "sum"
    assert 0 < summary.critical_seconds <= summary.wall


def test_programs_that_take_each_others_results_are_joined(system):
    part = system.virtual_devices().add_slice(1)
    double = rt.computation(lambda x: 2 * x, part, name="double")
    with rt.recording(system) as recorder:
        assert double(double(double(3.0))).result() == 24
    spans = recorder.spans
    assert [span.run for span in spans] == sorted({span.run for span in spans})
    assert [span.after for span in spans] == [(), *(((span.run, 1),) for span in spans[:2])]
    _, arrows = check_format(perfetto(spans))
    assert len(arrows) == 2
    assert rt.summarise(spans).critical == tuple(spans)


def test_random_keys_between_devices_break_nothing(system):
    """They cannot be asked whether they are ready; what comes after them can."""
    slices = [system.virtual_devices().add_slice(1) for _ in range(2)]
    make = rt.computation(jax.random.key, slices[0], name="make")
    draw = rt.computation(jax.random.uniform, slices[1], name="draw")
    with rt.recording(system) as recorder:
        found = rt.Program(lambda seed: draw(make(seed)))(7).result()
    assert found == jax.random.uniform(jax.random.key(7))
    assert [(span.kind, span.seen) for span in recorder.spans] == [
        ("node", False),
        ("transfer", False),
        ("node", True),
    ]
    check_format(perfetto(recorder.spans))


def test_the_example_of_the_page_runs(root, tmp_path, monkeypatch, capsys):
    page = (root / "docs" / "tracing.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "docs/tracing.md", "exec"), {})
    assert "double ×2" in capsys.readouterr().out
    check_format(json.loads((tmp_path / "trace.json").read_text()))
