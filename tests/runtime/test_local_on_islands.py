"""A few of the local runtime's tests on hosts in this process; `make test-ray` runs all on others.

What is imported here is collected here, and so runs once more.
"""

from pathlib import Path

import pytest

from .on_islands import ANYWHERE, OF_THEIR_OWN, used_by_tests
from .ray_in_process import NearIslands
from .test_errors import (  # noqa: F401
    test_a_conditional_node_that_fails,
    test_a_node_that_does_not_compile,
    test_a_node_that_fails_poisons_its_dependents_alone,
    test_a_read_that_fails_stops_no_other,
    test_an_error_that_is_kept_holds_no_arrays,
    test_an_interrupt_between_nodes,
    test_numbers_that_are_not_finite,
)
from .test_placement import (  # noqa: F401
    test_a_slices_mesh_inside_a_computation,
    test_arguments_from_anywhere,
    test_two_islands,
)
from .test_programs import (  # noqa: F401
    test_a_donated_array_is_gone_and_a_kept_one_is_not,
    test_a_donated_future_is_gone,
    test_after_compiling_ahead_nothing_is_compiled,
    test_arguments_pass_through_and_constants_are_kept,
    test_fetch_and_arrays_of_trees,
)
from .test_resources import (  # noqa: F401
    test_a_device_goes_when_what_was_called_has_ended,
    test_programs_are_lowered_again_when_their_mapping_changed_and_only_then,
)
from .test_switch import test_branches_that_two_switches_share  # noqa: F401
from .test_waiting import test_the_patience_of_a_runtime  # noqa: F401


@pytest.fixture(scope="module", autouse=True)
def near():
    with used_by_tests(NearIslands(2, devices=8)) as hosts:
        yield hosts


def test_every_file_of_tests_is_run_everywhere_or_says_that_it_is_not():
    files = {path.name for path in Path(__file__).parent.glob("test_*.py")}
    assert files == ANYWHERE | OF_THEIR_OWN
    assert not ANYWHERE & OF_THEIR_OWN
