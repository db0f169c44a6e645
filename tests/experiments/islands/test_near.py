"""The same over the messages that islands in other processes get, in this process."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from byways import runtime as rt

from ...runtime.ray_in_process import NearIslands
from .small import DENSE, batch, trained

CONFIG = dataclasses.replace(DENSE, islands=2)


def test_islands_of_messages_learn_the_same_and_go_on(tmp_path):
    devices = jax.local_devices()
    with rt.Runtime({"a": devices[:1], "b": devices[1:2]}) as system:
        training, _ = trained(CONFIG, system, tmp_path)
        training.enter(training.start())
        losses = [training.step({}, training.put(batch(CONFIG, n)))[1] for n in range(4)]
        losses, end = [np.asarray(loss) for loss in losses], training.canonical({})
    with NearIslands(2) as hosts, rt.RayRuntime(hosts=hosts) as system:
        training, team = trained(CONFIG, system, tmp_path)
        training.enter(training.start())
        boxes = [island.devices[0].outbox for island in system.islands.values()]
        found = []
        for number in range(4):
            if number == 2:
                hosts.kill("island1")
            sent = sum(box.messages for box in boxes)
            loss = training.step({}, training.put(batch(CONFIG, number)))[1]
            if number == 1:
                # One for each phase and island, and what is forgotten.
                assert sum(box.messages for box in boxes) - sent <= 8
            found.append(np.asarray(loss))
        np.testing.assert_array_equal(found, losses)
        jax.tree.map(np.testing.assert_array_equal, training.canonical({}), end)
        team.close()
