"""Islands that train together go on when some are lost, with the same numbers."""

from __future__ import annotations

import dataclasses
import json
import time

import jax
import numpy as np
import pytest
from byways.experiments import RunError
from byways.experiments.errors import AllIslandsLost
from byways.experiments.islands import comebacks, members
from byways.runtime import IslandLost, Runtime

from .small import DENSE, batch, trained

STEPS = 6


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """Two islands, their training and team, the first state, and what comes of it undisturbed."""
    devices = jax.local_devices()
    with Runtime({"a": devices[:1], "b": devices[1:2]}) as system:
        training, islands = trained(config(), system, tmp_path_factory.mktemp("events"))
        begin = training.start()
        training.enter(begin)
        losses = [np.asarray(training.step({}, rows)[1]) for rows in batches(training)]
        yield training, islands, system, begin, losses, training.canonical({})
        islands.close()


def config():
    return dataclasses.replace(DENSE, islands=2)


def batches(training):
    return [training.put(batch(DENSE, seed)) for seed in range(STEPS)]


@pytest.fixture
def undisturbed(setting):
    """The same islands, all there, at the first state again; checks what comes of a test."""
    training, islands, system, begin, losses, end = setting
    whole(islands, system)
    training.enter(begin)

    def check(found):
        for a, b in zip(found, losses, strict=True):
            np.testing.assert_array_equal(np.asarray(a), b)
        jax.tree.map(np.testing.assert_array_equal, training.canonical({}), end)

    yield training, islands, system, check
    islands.members._losses = 0


def whole(islands, system):
    """Waits until all are there."""
    comes(islands)
    while islands.members.comebacks.back:
        islands.members.enlist(islands.members.comebacks.back.popleft())
    for name, island in system.islands.items():
        if island.lost:
            system.restart_island(name)
        islands.members.enlist(name)


def comes(islands):
    """Waits until one is back, or none is being started."""
    comebacks = islands.members.comebacks
    while comebacks.coming and not comebacks.back:
        time.sleep(0.002)


def events(islands):
    return [json.loads(line) for line in islands._events._path.read_text().splitlines()]


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize("when", [0, 1, 3])
def test_a_lost_island_changes_nothing(undisturbed, name, when):
    training, islands, system, check = undisturbed
    losses = []
    for number, rows in enumerate(batches(training)):
        if number == when:
            system.lose_island(name)
        losses.append(training.step({}, rows)[1])
    check(losses)
    found = [line for line in events(islands) if line["event"] == "lost"][-1]
    assert found["island"] == name
    assert found["left"] == [n for n in ("a", "b") if n != name]


def test_one_island_computes_all_parts_while_the_other_is_away(undisturbed, monkeypatch):
    training, islands, system, check = undisturbed
    monkeypatch.setattr(islands.members.comebacks, "start", lambda name: None)
    losses = []
    for number, rows in enumerate(batches(training)):
        if number == 2:
            system.lose_island("b")
        losses.append(training.step({}, rows)[1])
    check(losses)
    assert islands.members.alive == ["a"]


def test_islands_that_are_lost_in_turns_are_taken_in_again(undisturbed):
    training, islands, system, check = undisturbed
    before, losses = len(events(islands)), []
    for number, rows in enumerate(batches(training)):
        if number % 2 == 0:
            system.lose_island("ab"[number // 2 % 2])
        losses.append(training.step({}, rows)[1])
        comes(islands)
    check(losses)
    told = [line["event"] for line in events(islands)[before:]]
    assert told.count("lost") == told.count("back") == STEPS // 2


def test_a_loss_while_the_metrics_are_read(undisturbed):
    training, _, system, check = undisturbed
    rows, losses, reads = batches(training), [], []
    for number, part in enumerate(rows):
        losses.append(training.step({}, part)[1])
        if number == 2:
            system.lose_island("a")
            reads.append(training.read({})[0])
    assert reads[0]["loss"] == pytest.approx(np.mean([np.asarray(x) for x in losses[:3]]))
    with pytest.raises(AssertionError):
        check(losses)  # the interval began anew
    jax.tree.map(
        np.testing.assert_array_equal, training.params({}), training.canonical({})["params"]
    )


def test_without_any_island_it_says_so_and_begins_again(undisturbed, setting):
    training, islands, system, check = undisturbed
    rows = batches(training)
    training.step({}, rows[0])
    system.lose_island("a")
    system.lose_island("b")
    with pytest.raises(AllIslandsLost, match="newest checkpoint"):
        training.step({}, rows[1])
    islands.members.wait_for_one()
    training.enter(setting[3])
    check([training.step({}, part)[1] for part in rows])


def test_one_that_is_back_just_as_the_last_other_is_lost_goes_on(undisturbed, setting, monkeypatch):
    training, islands, system, check = undisturbed
    rows = batches(training)
    training.step({}, rows[0])
    system.lose_island("b")
    training.step({}, rows[1])
    comes(islands)
    assert list(islands.members.comebacks.back) == ["b"]
    with monkeypatch.context() as patched:
        patched.setattr(islands.members.comebacks, "start", lambda name: None)
        # After the look at what is done, so that a step is still under way.
        patched.setattr(islands, "_advance", lambda: system.lose_island("a"))
        with pytest.raises(AllIslandsLost):
            training.step({}, rows[2])
        islands.members.wait_for_one()
    assert islands.members.alive == ["b"]
    training.enter(setting[3])
    check([training.step({}, part)[1] for part in rows])


def test_an_island_that_does_not_start_is_told_and_left_out(undisturbed, monkeypatch):
    training, islands, system, check = undisturbed

    def refuse(name):
        raise IslandLost(f"{name} does not answer")

    monkeypatch.setattr(system, "restart_island", refuse)
    rows, before = batches(training), len(events(islands))
    losses = [training.step({}, part)[1] for part in rows[:2]]
    system.lose_island("b")
    losses += [training.step({}, part)[1] for part in rows[2:]]
    check(losses)
    while islands.members.comebacks.coming:
        time.sleep(0.002)
    told = [line for line in events(islands)[before:] if line["event"] == "no restart"]
    assert [line["attempt"] for line in told] == list(range(1, comebacks.ATTEMPTS + 1))
    system.lose_island("a")
    with pytest.raises(AllIslandsLost):
        training.step({}, rows[0])
    with pytest.raises(RunError, match="none starts again"):
        islands.members.wait_for_one()


def test_losses_without_a_step_between_them_come_to_an_end(undisturbed, monkeypatch):
    training, islands, system, _ = undisturbed
    monkeypatch.setattr(members, "LOSSES", 1)
    monkeypatch.setattr(islands.members.comebacks, "start", islands.members.comebacks.back.append)
    islands.members._losses = 2
    system.lose_island("a")
    with pytest.raises(RunError, match="no step was done between"):
        training.step({}, batches(training)[0])


def test_an_error_of_the_step_itself_is_no_loss(undisturbed, monkeypatch):
    training, islands, _, _ = undisturbed
    monkeypatch.setattr(members, "NOTICED", 0.05)
    rows = batches(training)[0]
    wrong = [{name: value[:1] for name, value in part.items()} for part in rows[0]], rows[1]
    with pytest.raises(Exception, match="does not take inputs"):
        training.step({}, wrong)
    islands._pending.clear()


def test_islands_that_differ_are_found(undisturbed):
    training, islands, _, _ = undisturbed
    state = islands._base.states["b"]
    other = jax.tree.map(lambda leaf: np.asarray(leaf.result()), state)
    other["float32"] = other["float32"] + np.float32(1e-6)
    islands._base.states["b"] = islands._programs.on["b"].copy(other)
    with pytest.raises(RunError, match="not the same parameters"):
        training.canonical({})
