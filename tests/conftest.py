"""What every test shares: eight virtual CPU devices, checked array types, one compilation cache.

The devices are set through JAX's configuration rather than the environment, so that a process
which a test starts sees the devices that a user's would. What *is* left in the environment is
meant for such children: the compilation cache, XLA's quick options, and a safe path (run from
the checkout, their `import datasets` would otherwise find ours).
"""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from .checked_types import annotating
from .quick_compile import quick_flags

ROOT = Path(__file__).parents[1]
DEVICES = 8

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("BYWAYS_CACHE", str(ROOT / ".cache"))
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
os.environ.setdefault("PYTHONSAFEPATH", "1")
THOROUGH = os.environ.get("BYWAYS_TEST_OPTIMISED") == "1"
if not THOROUGH:
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {quick_flags()}".strip()

import jax  # noqa: E402 (reads the environment above)
from jaxtyping import install_import_hook  # noqa: E402

jax.config.update("jax_num_cpu_devices", DEVICES)

# Before any test module imports byways: arguments, results and dataclass fields are checked
# against their annotations, and shapes named alike must agree within a call.
install_import_hook("byways" if THOROUGH else annotating(ROOT), "beartype.beartype")


# Begun first, so that no worker is left alone with one of them at the end.
LONGEST = (
    "test_readme.py",
    "test_train.py",
    "test_pathways_runs.py",
    "test_pathways_step.py",
    "test_contract.py",
    "test_kinds.py",
    "test_lowering.py",
)
# Files whose tests share compiled programs, and so a worker.
TOGETHER = {
    "test_contract_masks.py": "test_contract.py",
    "test_lowering_islands.py": "test_lowering.py",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the files that take longest to the front."""
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(LONGEST)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """Of `--dist loadfile`, with some files together."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Together(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            folder, _, name = file.rpartition("/")
            return f"{folder}/{TOGETHER.get(name, name)}"

    return Together(config, log)


@pytest.fixture(autouse=True, scope="module")
def young_heap() -> None:
    """What other files' tests have left (executables: gigabytes) is not gone through again by each
    of this one's collections, of which tests of what is freed make many.
    """
    gc.freeze()


def make_mesh(size: int, axis: str = "data") -> jax.sharding.Mesh:
    """A one-axis mesh of the first `size` devices."""
    import numpy as np

    devices = jax.devices()
    if len(devices) < size:
        raise ValueError(f"a mesh of {size} devices, but there are only {len(devices)}")
    return jax.sharding.Mesh(np.asarray(devices[:size]), (axis,))


@pytest.fixture(params=[1, 2, 4, 8], ids="{}dev".format)
def mesh(request: pytest.FixtureRequest) -> jax.sharding.Mesh:
    """The test runs once each on 1, 2, 4 and 8 devices, along an axis called `data`.

    To choose sizes: `@pytest.mark.parametrize("mesh", [1, 4], indirect=True)`.
    """
    return make_mesh(request.param)


@pytest.fixture
def root() -> Path:
    """The checkout: the folder that holds `pyproject.toml`."""
    return ROOT
