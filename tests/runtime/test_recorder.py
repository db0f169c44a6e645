"""Spans: where they lie by hand, and what the observer sees of real arrays."""

import math
import time
import weakref

import jax
import jax.numpy as jnp
import pytest
from byways.runtime.recorder import Recorder
from byways.runtime.spans import SHORTEST, lay_out, makers
from byways.runtime.trace_summary import summarise

from .trace_format import overlaps, sent, waited


def times(spans):
    return {span.name: (pytest.approx(span.began), pytest.approx(span.ended)) for span in spans}


def test_a_device_works_off_its_lane_in_order():
    """The second was enqueued at 2 while the first ran until 5; the third when all was idle."""
    spans = lay_out(
        [sent("a", 0, 0, 1, 5), sent("b", 1, 1, 2, 7), sent("c", 2, 8, 9, 10, parents=(1,))]
    )
    assert times(spans) == {"a": (1, 5), "b": (5, 7), "c": (9, 10)}


def test_a_node_waits_for_its_makers_on_other_devices():
    spans = lay_out([sent("a", 0, 0, 1, 5), sent("b", 1, 1, 2, 9, devices=(1,), parents=(0,))])
    assert times(spans) == {"a": (1, 5), "b": (5, 9)}


def test_what_is_ready_at_once_ran_inside_its_call():
    assert times(lay_out([sent("a", 0, 3, 4, 4)])) == {"a": (3, 4)}


def test_a_maker_had_ended_when_its_user_was_seen_to_have():
    """The observer came by at 8 for `a` and at 6 for what needs it."""
    spans = lay_out([sent("a", 0, 0, 1, 8), sent("b", 1, 1, 2, 6, devices=(1,), parents=(0,))])
    assert times(spans)["a"] == (1, 6)
    assert spans[1].seconds == pytest.approx(SHORTEST)


def test_what_was_donated_shares_the_time_until_the_next_that_was_seen():
    """Three on a lane from 1 to 10, of which only the last was seen: 3 each."""
    spans = lay_out([sent("a", 0, 0, 1), sent("b", 1, 0, 1), sent("c", 2, 0, 1, 10)])
    assert times(spans) == {"a": (1, 4), "b": (4, 7), "c": (7, 10)}
    assert [span.seen for span in spans] == [False, False, True]


def test_what_was_never_seen_ends_at_once():
    (span,) = lay_out([sent("a", 0, 0, 1)])
    assert (span.began, span.ended) == (1, 1 + SHORTEST)


def test_copies_go_beside_computations():
    spans = lay_out([sent("a", 0, 0, 1, 9), sent("copy", 1, 1, 2, 4, kind="transfer")])
    assert times(spans) == {"a": (1, 9), "copy": (2, 4)}


def routed():
    """A router, the wait for its counts, two experts on devices of their own, and a combine."""
    woken = {"woken_by": 1, "parents": (1,)}
    return lay_out(
        [
            sent("router", 0, 0, 1, 3, node=0),
            waited("counts", 1, 1, 4, parents=(0,), node=1),
            sent("expert 2", 7, 4, 5, 7, devices=(1,), node=1, **woken),
            sent("expert 5", 8, 5, 6, 9, devices=(2,), node=1, **woken),
            sent("combine", 2, 6, 6.5, 11, parents=(1,), node=2),
        ]
    )


def test_who_uses_a_conditional_node_waits_for_all_that_it_woke():
    spans = routed()
    assert makers(spans) == [(), (0,), (1,), (1,), (1, 2, 3)]
    assert times(spans)["combine"] == (9, 11)


def test_the_summary_of_a_routed_step():
    """11 s: device 0 works in 1–3 and 9–11, device 1 in 5–7, device 2 in 6–9, device 3 never.

    The path is router (2, from 1 to 3), counts (1 more, to 4), expert 5 (3, from 6 to 9),
    combine (2).
    """
    found = summarise(routed(), devices=[("pod", 3)])
    assert found.wall == 11
    idle = {("pod", 0): 7 / 11, ("pod", 1): 9 / 11, ("pod", 2): 8 / 11, ("pod", 3): 1}
    assert found.idle == pytest.approx(idle)
    assert (found.nodes, found.transfers, found.expanded, found.woken) == (4, 0, 1, 2)
    assert (found.reads, found.dispatch) == (3, 3.5)
    assert [span.name for span in found.critical] == ["router", "counts", "expert 5", "combine"]
    assert found.critical_seconds == pytest.approx(2 + 1 + 3 + 2)
    text = str(found)
    assert "idle: device 1 of pod 82%" in text
    assert "1 expanded, 2 nodes woken" in text


def test_equal_neighbours_of_the_path_share_a_line():
    chain = [sent("f", n, n, n, n + 1.0, parents=(n - 1,)) for n in range(4)]
    assert summarise(lay_out(chain)).critical_names() == [("f", 4, pytest.approx(4.0))]


# Real arrays.


def tell(recorder, key, array, began, device=0, **fields):
    recorder.sent(
        run=0,
        program="p",
        client="me",
        node=key,
        name=f"n{key}",
        kind="node",
        island="pod",
        devices=(device,),
        parents=(),
        key=key,
        woken_by=None,
        began=began,
        ended=time.perf_counter(),
        watched=array,
        **fields,
    )


@jax.jit
def work(x):
    return jax.lax.fori_loop(0, 40, lambda _, y: y @ y * 1e-2, x)


def test_a_chain_is_seen_to_its_end():
    x = jnp.ones((128, 128))
    work(x).block_until_ready()
    with Recorder() as recorder:
        for key in range(6):
            began = time.perf_counter()
            x = work(x)
            tell(recorder, key, x, began, made=64)
    spans = recorder.spans
    assert [span.key for span in spans] == list(range(6))
    assert all(span.seen and span.began < span.ended and span.bytes == 64 for span in spans)
    assert not overlaps(spans)
    assert recorder.close() is spans


def test_a_short_node_beside_a_long_one_ends_before_it():
    far = jax.devices()[1]
    x, y = jnp.ones((256, 256)), jax.device_put(jnp.ones((2, 2)), far)
    for z in (x, y):
        work(z).block_until_ready()
    with Recorder() as recorder:
        began = time.perf_counter()
        for key in range(5):
            x = work(x)
            tell(recorder, key, x, began)
        tell(recorder, 5, work(y), time.perf_counter(), device=1)
    assert recorder.spans[5].ended < recorder.spans[4].ended


def test_donated_outputs_are_not_seen_and_break_nothing():
    step = jax.jit(lambda x: x + 1, donate_argnums=0)
    x = work(jnp.ones((128, 128)))
    with Recorder() as recorder:
        for key in range(8):
            began = time.perf_counter()
            x = step(work(x))
            tell(recorder, key, x, began)
            if key < 7:
                x = step(x)
    assert recorder.spans[-1].seen
    assert all(span.ended < math.inf for span in recorder.spans)
    assert not overlaps(recorder.spans)


class Failed:
    """An array whose node failed on the device, as the CPU only makes them in gangs."""

    def is_ready(self):
        return True

    def is_deleted(self):
        return False

    def block_until_ready(self):
        raise jax.errors.JaxRuntimeError("INTERNAL: no")


def test_a_failed_node_is_marked_and_the_next_is_seen():
    with Recorder() as recorder:
        tell(recorder, 0, Failed(), time.perf_counter())
        tell(recorder, 1, jnp.ones(2) + 1, time.perf_counter())
    assert [(span.failed, span.seen) for span in recorder.spans] == [(True, True), (False, True)]


def test_nothing_is_held_once_it_was_seen():
    recorder = Recorder()
    x = jnp.ones(3) + 1
    ref = weakref.ref(x)
    tell(recorder, 0, x, time.perf_counter())
    del x
    for _ in range(200):
        if ref() is None:
            break
        time.sleep(0.01)
    assert ref() is None
    recorder.close()


def test_closing_does_not_wait_for_ever_and_ends_the_recording():
    x = jnp.ones((512, 512))
    for _ in range(20):
        x = work(x)
    recorder = Recorder()
    tell(recorder, 0, x, time.perf_counter())
    (span,) = recorder.close(patience=0.001)
    assert not span.seen
    tell(recorder, 1, x, time.perf_counter())
    assert len(recorder.close()) == 1
    x.block_until_ready()


def test_a_node_without_outputs_is_told_of():
    with Recorder() as recorder:
        tell(recorder, 0, None, time.perf_counter())
    assert [span.seen for span in recorder.spans] == [False]


def test_threads_are_numbered():
    import threading

    with Recorder() as recorder:
        tell(recorder, 0, None, time.perf_counter())
        other = threading.Thread(target=tell, args=(recorder, 1, None, time.perf_counter()))
        other.start()
        other.join()
    assert [span.thread for span in recorder.spans] == [0, 1]
