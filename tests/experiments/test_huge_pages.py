"""Starting again with huge pages: only where it helps, only once, arguments kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from byways.experiments.huge_pages import wanted_environment

MADVISE = "always [madvise] never"


@pytest.mark.parametrize(
    ("environment", "switch"),
    [
        ({}, "[always] madvise never"),
        ({}, "always madvise [never]"),
        ({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}, MADVISE),
        ({"BYWAYS_HUGE_PAGES": "0"}, MADVISE),
    ],
)
def test_nothing_to_do(environment, switch):
    assert wanted_environment(environment, switch) is None


def test_other_tunables_are_kept():
    wanted = wanted_environment({"GLIBC_TUNABLES": "glibc.malloc.check=3", "A": "b"}, MADVISE)
    assert wanted == {"GLIBC_TUNABLES": "glibc.malloc.check=3:glibc.malloc.hugetlb=1", "A": "b"}
    assert wanted_environment(wanted, MADVISE) is None


def test_a_real_process_starts_again_once_with_its_arguments(tmp_path):
    code = (
        "import json, os, sys, pathlib; import byways.experiments.huge_pages as h\n"
        "h._SWITCH = pathlib.Path(sys.argv[1]); h.restart_with_huge_pages('byways')\n"
        "print(json.dumps([sys.argv[2:], os.environ.get('GLIBC_TUNABLES', '')]))\n"
    )
    switch = tmp_path / "enabled"
    switch.write_text(MADVISE)
    environment = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(switch), "--run", "a b"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    arguments, tunables = json.loads(done.stdout)
    assert arguments == ["--run", "a b"]
    assert tunables in ("glibc.malloc.hugetlb=1", "")  # "" where the C library is another
