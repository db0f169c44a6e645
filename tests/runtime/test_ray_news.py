"""When an island says what has become of its operations."""

import threading
import time

import pytest
from byways.runtime.ray_news import News

ILL = (None, "it broke", "")


def silent(news, seen=0, eager=False):
    """Whether there is nothing that matters; nothing of it is lost."""
    began = time.monotonic()
    reached, failed, told = news.wait(seen, 0.02, eager)
    assert not failed
    assert not told
    return time.monotonic() - began >= 0.02, reached


def prompt(news, seen=0, eager=False):
    began = time.monotonic()
    found = news.wait(seen, 20.0, eager)
    assert time.monotonic() - began < 10
    return found


def test_an_operation_between_others_is_not_told_of_by_itself():
    news = News()
    news.expect(3)
    news.done(1, None, [])
    assert silent(news) == (True, 1)  # but whoever asks hears it
    news.done(2, None, [])
    news.done(3, None, [])  # and when there is nothing left to do
    assert prompt(news, 1) == (3, [], [])
    assert silent(news, 3) == (True, 3)


def test_results_and_errors_are_told_at_once():
    news = News()
    news.expect(9)
    news.done(1, None, [(7, "x")])
    news.done(2, None, [(8, "y")])
    assert prompt(news) == (2, [], [(7, "x"), (8, "y")])
    news.done(3, ILL, [])
    news.done(4, None, [])
    assert prompt(news, 2) == (4, [(3, ILL)], [])
    assert silent(news, 4) == (True, 4)


@pytest.mark.parametrize("first", [True, False])
def test_what_somebody_waits_for_is_told_at_once(first):
    news = News()
    news.expect(9)
    news.done(1, None, [])
    for op in (5, 3, 3):
        if first:
            news.want(op)
    news.done(2, None, [])
    assert silent(news, 1) == (True, 2)
    timer = threading.Timer(0.05, news.done, (3, None, []))
    timer.start()
    if not first:
        timer.join()
        news.want(3)
    assert prompt(news, 2)[0] == 3
    news.done(4, None, [])
    assert silent(news, 3) == (True, 4)
    if first:
        news.done(5, None, [])
        assert prompt(news, 4)[0] == 5


def test_who_records_hears_all_and_may_begin_amid_a_wait():
    news = News()
    news.expect(9)
    news.done(1, None, [])
    assert prompt(news, 0, eager=True)[0] == 1
    threading.Timer(0.05, news.done, (2, None, [])).start()
    assert prompt(news, 1, eager=True)[0] == 2
    threading.Timer(0.05, news.want, (0,)).start()
    assert prompt(news, 2)[0] == 2
