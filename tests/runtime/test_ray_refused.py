"""What islands and their controllers refuse before anything is sent, without other processes."""

import time

import pytest
from byways.runtime.ray_claims import Claims, IslandTaken, new_claim, said_of
from byways.runtime.ray_start import why_not
from byways.runtime.ray_versions import IslandMismatch, check_versions, meant, versions

from byways import runtime as rt


def test_other_versions_are_refused_and_both_sides_named():
    ours = versions()
    check_versions("a", ours)
    check_versions("a", ours | {"something newer": 3})
    theirs = ours | {"jax": "0.4.1", "wire": "feedbeef"}
    words = f"island 'a'.*jax 0.4.1 \\(here {ours['jax']}\\), wire feedbeef.*Install the same"
    with pytest.raises(IslandMismatch, match=words):
        check_versions("a", theirs)
    with pytest.raises(IslandMismatch, match="python None"):
        check_versions("a", {})


def test_what_is_spoken_is_code_and_not_comments():
    told = 'def f(x):\n    """Says x."""\n    return x + 1\n'
    assert meant(told) == meant("def f(x):\n    # one more\n    return (x + 1)\n")
    assert meant(told) != meant(told.replace("+ 1", "+ 2"))


def test_an_island_has_one_controller_until_that_is_silent():
    island, first, second = Claims(), new_claim(1.0), new_claim(1.0)
    assert not island.has(first["id"])
    assert island.take(first) is None
    assert island.take(first) is None
    taken = island.take(second)
    assert taken is not None
    assert taken["id"] == first["id"]
    assert 0 <= taken["heard"] < 1
    assert said_of(taken).startswith(f"process {first['pid']} on {first['host']}, since 20")
    island.hear(first["id"])
    with pytest.raises(IslandTaken, match="has been taken by process"):
        island.hear(second["id"])
    island._heard = time.monotonic() - 2  # and no news since
    assert island.take(second) is None
    assert island.has(second["id"])
    with pytest.raises(IslandTaken):
        island.hear(first["id"])
    island.leave(first["id"])  # it has no say any more
    assert island.has(second["id"])
    island.leave(second["id"])
    assert island.holder == ""
    with pytest.raises(IslandTaken, match="taken by nobody"):
        island.hear(second["id"])
    assert island.take(first) is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"silence": 0.5}, "silence=0.5: a second or more"),
        ({"platform": "abacus"}, "platform='abacus': 'cpu', 'gpu' or 'tpu'"),
        ({"lasting": True}, "needs the address of a Ray that lasts"),
        ({"devices": 0}, "devices=0"),
        ({"islands": ["a", "a"]}, "by other names"),
    ],
)
def test_what_makes_no_islands(given, words):
    with pytest.raises(ValueError, match=words):
        rt.RayIslands(**given)


def test_workers_that_lack_a_module_are_told_in_a_sentence():
    lacks = RuntimeError("actor died\nTraceback …\nModuleNotFoundError: No module named 'byways'")
    assert "Ray's workers has no 'byways': install byways" in why_not(lacks)
    assert why_not(RuntimeError("no room")) == "RuntimeError: no room"
