"""The code in docs/routing.md runs, in order, as one program."""

import re
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "routing.md"


@pytest.fixture(scope="module")
def page():
    """What its names are in the end."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names = {}
    exec("\n".join(blocks), names)
    return types.SimpleNamespace(**names)


def test_the_page_runs(page):
    assert page.outputs.shape == (2, 16, 8)
    assert page.routing.assignment.kept.any()


@pytest.mark.parametrize("held", [0.0, np.nan])
def test_its_router_trains_beside_padding(page, held):
    """Zeros there, as `Moe` hands them over, or anything: gradients are those of other padding."""
    mask = page.mask.at[:, -3:].set(False)

    @jax.jit
    @jax.grad
    def gradient(arrays, padding):
        tokens = jnp.where(mask[..., None], arrays[0], padding)
        made = page.route_cosine(tokens, arrays[1], mask, selected=2, capacity=10)
        return jnp.sum(page.dispatch("index", made.assignment, tokens, page.experts))

    arrays = page.tokens, jnp.eye(page.E, page.D)
    found, other = gradient(arrays, held), gradient(arrays, 1.0)
    for got, want in zip(found, other, strict=True):
        assert jnp.abs(want).max() > 0
        np.testing.assert_array_equal(got, want)
