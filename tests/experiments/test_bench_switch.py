"""The benchmark of a switch that its island expands, on hosts in this process."""

import pytest
from byways.experiments.bench.switch_latency import bench_behind, bench_switch

from ..runtime.ray_in_process import NearIslands


@pytest.mark.parametrize(("islands", "train"), [(1, False), (1, True), (2, False), (2, True)])
def test_both_ways_are_timed_and_their_messages_counted(islands, train):
    hosts = NearIslands(islands)
    try:
        with hosts.runtime() as system:
            found = bench_switch(system, list(hosts.hosts), rounds=2, train=train)
    finally:
        hosts.close()
    assert found["ms"].keys() == found["messages"].keys() == {"there", "here"}
    assert found["messages"]["here"] >= 2  # what the counts wake goes when they have come
    assert found["rounds"] == 2


def test_what_is_sent_behind_a_slow_router_is_timed():
    hosts = NearIslands(1, devices=2)
    try:
        with hosts.runtime() as system:
            found = bench_behind(system, "island0", rounds=1, turns=2)
    finally:
        hosts.close()
    assert found["ms"].keys() == {"there", "here", "alone"}
    assert found["rounds"] == 1
