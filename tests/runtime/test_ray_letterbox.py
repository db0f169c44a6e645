"""What other islands say to one, and why arrays of theirs do not come."""

import threading

from byways.runtime import ray_letterbox
from byways.runtime.ray_letterbox import Letterbox

LOST, CLOSED = (None, "lost", ""), (None, "closed", "")
TORN, OTHER = (None, "recv() failed", ""), (None, "another", "")


def test_words_are_waited_for():
    box = Letterbox()
    threading.Timer(0.05, box.deliver, ("key", ("ticket", [None]))).start()
    assert box.word("key", "a", 1) == ("ticket", [None])


def test_nothing_is_waited_for_from_who_is_gone_nor_after_the_end():
    box = Letterbox()
    box.deliver("before", ("ticket", [None]))
    box.lose("a", LOST)
    assert box.has_lost("a")
    assert not box.has_lost("b")
    assert box.word("before", "a", 1) == ("ticket", [None])
    assert box.word("never", "a", 2) == ("", [LOST, LOST])
    threading.Timer(0.05, box.close, (CLOSED,)).start()
    assert box.word("never", "b", 1) == ("", [CLOSED])
    assert not box.close(CLOSED)


def test_what_does_not_come_from_an_island_that_is_lost_is_its_loss():
    box = Letterbox()
    for op in (3, 4):
        box.pulls(op, "a")
    assert box.reason(3, None) is None
    threading.Timer(0.05, box.lose, ("a", LOST)).start()
    assert box.reason(4, TORN) == LOST
    needs_it = (None, "JaxRuntimeError: recv() failed; in jit_node", "")
    assert box.reason(5, needs_it) == LOST
    assert box.reason(6, OTHER) == OTHER


def test_what_does_not_come_for_another_reason_says_its_own(monkeypatch):
    monkeypatch.setattr(ray_letterbox, "KNOWN", 0.01)
    box = Letterbox()
    box.pulls(1, "a")
    assert box.reason(1, TORN) == TORN
    assert box.reason(2, TORN) == TORN


def test_only_where_a_connection_ended_is_a_loss_waited_for_and_once(monkeypatch):
    box, waits = Letterbox(), []
    monkeypatch.setattr(box._changed, "wait_for", lambda _, seconds: waits.append(seconds))
    for op, (failed, whose, waited) in enumerate(
        [(OTHER, "a", 0), (TORN, "a", 1), (TORN, "a", 1), (TORN, "b", 2), (OTHER, "c", 2)]
    ):
        box.pulls(op, whose)
        assert box.reason(op, failed) == failed
        assert len(waits) == waited
    monkeypatch.setattr(ray_letterbox, "KNOWN", -1.0)  # as if that was long ago
    box.pulls(9, "c")
    box.reason(9, TORN)
    box.pulls(10, "c")
    box.reason(10, TORN)
    assert len(waits) == 4
    box.lose("c", LOST)
    for op, failed in ((11, TORN), (12, (None, "recv() failed again", ""))):
        box.pulls(op, "c")
        assert box.reason(op, failed) == LOST
