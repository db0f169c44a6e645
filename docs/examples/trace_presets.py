"""Seconds that `jax.eval_shape` of each published size takes, and its parameters.

python docs/examples/trace_presets.py [NAME …]
"""

import math
import sys
import time
import warnings

import jax
import jax.numpy as jnp
from byways.experiments.presets import preset
from byways.models import PALM, SOFT, VMOE, Limoe, Palm, Vmoe

LIMOE = ("s32", "s16", "b32", "b16", "l16", "h14")


def inputs(config):
    """(model, shapes of one example)."""
    size = getattr(config, "image_size", None)
    if size is None:
        return Palm(config), (jax.ShapeDtypeStruct((1, 2), jnp.int32),)
    if not hasattr(config, "text_length"):
        return Vmoe(config), (jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32),)
    text = (1, config.text_length)
    kinds = (((1, size, size, 3), jnp.uint8), (text, jnp.int32), (text, jnp.bool_))
    return Limoe(config), tuple(jax.ShapeDtypeStruct(*kind) for kind in kinds)


def main(wanted):
    warnings.simplefilter("ignore")  # one example is a small group, and capacities are rounded
    configs = {**VMOE, **SOFT, **PALM}
    configs |= {f"limoe_{size}": preset(f"limoe_{size}").model for size in LIMOE}
    for name in wanted or configs:
        model, shapes = inputs(configs[name])
        begin = time.perf_counter()
        tree = jax.eval_shape(model.init, jax.random.key(0), *shapes)
        seconds = time.perf_counter() - begin
        millions = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree)) / 1e6
        print(f"{name:24}{seconds:6.2f} s{millions:14,.1f} M", flush=True)


main(sys.argv[1:])
