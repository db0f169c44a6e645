"""What runs in the Ray process: chains of an actor's scalar additions, timed; prints JSON.

`runtime_ray` gives this text to a Python of its own (`-P -c`), so nothing of ours is imported here,
nor by the workers. The additions are Python's: a `jit` call in each would only cost Ray more.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

import json
import logging
import statistics
import sys
import time


def actor_class(ray):
    """Fresh actors for each road: compiled graphs hang on those that served ordinary calls."""

    @ray.remote(num_cpus=0)
    class Adder:
        def add(self, x):
            return x + 1.0

    return Adder


def actor_chain(ray, nodes, repeats):
    """Calls between two actors in turn, each given the last one's reference."""
    adder = actor_class(ray)
    actors = [adder.remote(), adder.remote()]
    ray.get([actor.add.remote(0.0) for actor in actors])

    def chain():
        x = 0.0
        for n in range(nodes):
            x = actors[n % 2].add.remote(x)
        return ray.get(x)

    return timed(chain, nodes, repeats)


def compiled_graph(ray, nodes, repeats):
    """The same chain compiled ahead: channels instead of calls."""
    from ray.dag import InputNode

    adder = actor_class(ray)
    actors = [adder.remote(), adder.remote()]
    with InputNode() as x:
        for n in range(nodes):
            x = actors[n % 2].add.bind(x)
    compiled = x.experimental_compile()
    try:
        return timed(lambda: ray.get(compiled.execute(0.0)), nodes, repeats)
    finally:
        compiled.teardown()


def timed(chain, nodes, repeats):
    """Median microseconds a node."""
    assert chain() == nodes
    chain()
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        chain()
        seconds.append(time.perf_counter() - begin)
    return 1e6 * statistics.median(seconds) / nodes


def main(road, nodes, repeats):
    """Runs one road."""
    import ray

    ray.init(
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=100_000_000,
        _node_ip_address="127.0.0.1",
        logging_level=logging.ERROR,
        log_to_driver=False,
        configure_logging=True,
    )
    try:
        roads = {"actors": actor_chain, "compiled": compiled_graph}
        micros = roads[road](ray, nodes, repeats)
        print(json.dumps({"microseconds": micros, "ray": ray.__version__}), flush=True)
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
