"""What the hosts of an island say as one answer, without the hosts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.runtime.ray_gang_arrays import ELSEWHERE, own_copy, placed, said_by, whole_of
from byways.runtime.ray_gang_news import Gang
from byways.runtime.ray_wire import from_wire, pack_error
from jax.sharding import Mesh, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

from byways import runtime as rt

ILL = pack_error(ValueError("on purpose"))


def test_news_of_all_hosts():
    gang = Gang("a", 2, 5.0)
    told = [(7, [], [(3, "x")], {}), (4, [(2, ILL)], [], {})]
    assert gang.one_of("news", told, 0.0) == (4, [(2, ILL)], [(3, "x")])


def test_a_node_over_hosts_fails_on_all_of_them_or_the_island_is_lost():
    gang = Gang("a", 2, 5.0)
    well, ill = (9, [], [], {}), (9, [(8, ILL)], [], {8: 2})
    assert gang.one_of("news", [ill, ill], 0.0) == (9, [(8, ILL)], [])
    gang.one_of("news", [well, well], 100.0)  # both did
    gang.one_of("news", [(9, [(6, ILL)], [], {6: 2}), well], 100.0)
    gang.one_of("news", [well, well], 104.0)
    gang.one_of("news", [well, (9, [(6, ILL)], [], {6: 2})], 104.5)  # a little later
    gang.one_of("news", [well, well], 200.0)
    gang.one_of("news", [(9, [(5, ILL)], [], {}), well], 200.0)  # of a node on one host
    gang.one_of("news", [well, well], 300.0)
    gang.one_of("news", [ill, well], 300.0)
    words = "'a' is lost: a node over 2 hosts failed on 1 of them alone.*on purpose"
    with pytest.raises(rt.IslandLost, match=words):
        gang.one_of("news", [well, well], 306.0)


def test_answers_to_questions():
    gang = Gang("a", 2, 5.0)
    assert gang.one_of("compile", [({}, None), ({"flops": 3.0}, None)], 0.0) == (
        {"flops": 3.0},
        None,
    )
    assert gang.one_of("compile", [({}, None), ({}, ILL)], 0.0) == ({}, ILL)
    assert gang.one_of("held", [3, 2], 0.0) == 3
    assert gang.one_of("fetch", [((None, [], None), None), (None, ILL)], 0.0) == (None, ILL)


def test_arrays_in_pieces_are_put_together():
    mesh = Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("a", "b"))
    spread = NamedSharding(mesh, P("b", None))
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    assert said_by(ELSEWHERE, 0) == (None, [], None)
    found = placed(x, spread)
    assert found.sharding == spread
    whole, pieces, about = said_by(found, 0)
    np.testing.assert_array_equal(whole_of([(None, [], None), (whole, pieces, about)]), x)
    # As two hosts would say it, of which each has some rows.
    rows = [([(n, n + 2), (None, None)], x[n : n + 2]) for n in (0, 2)]
    told = [(None, [rows[0]], (x.shape, None)), (None, [rows[1]], (x.shape, None))]
    np.testing.assert_array_equal(whole_of(told), x)
    keys = jax.random.split(jax.random.key(1), 2)
    data, kind = np.asarray(jax.random.key_data(keys)), str(jax.random.key_impl(keys))
    parts = [([(n, n + 1), (None, None)], data[n : n + 1]) for n in (0, 1)]
    again = from_wire(whole_of([(None, [part], (data.shape, kind)) for part in parts]))
    assert (again == keys).all()
    one = jax.device_put(jnp.ones(2), SingleDeviceSharding(jax.devices()[1]))
    assert own_copy(one) is one
