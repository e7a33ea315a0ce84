"""Freed memory is kept: fewer page faults, the same numbers."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from inna.experiments import Run, train
from inna.experiments.training.allocation import OWN_SETTINGS, keep_freed_memory
from timeless import without_times

COUNT = """
import resource, sys
from inna.experiments.training.allocation import keep_freed_memory
kept = sys.argv[1] == "kept" and keep_freed_memory()
for repeat in range(33):
    if repeat == 1:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    large = [bytearray(40 << 20)]
    large.clear()
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def count_faults(which: str, **environment: str) -> tuple[bool, int]:
    settings = {name: value for name, value in os.environ.items() if name not in OWN_SETTINGS} | environment
    done = subprocess.run(
        [sys.executable, "-c", COUNT, which], capture_output=True, text=True, check=True, env=settings
    )
    kept, faults = done.stdout.split()
    return kept == "1", int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_causes_no_page_faults_unless_the_environment_decides():
    _, before = count_faults("not kept")
    kept, after = count_faults("kept")
    assert kept
    assert after < before / 20
    assert count_faults("kept", MALLOC_TRIM_THRESHOLD_="100000")[0] is False


def test_results_are_the_same_bit_for_bit():
    run = Run("digits", "small-cnn", "inna", 0.01, 0.5, 0.1, epochs=1)
    before = without_times(train(run))
    keep_freed_memory()
    assert without_times(train(run)) == before
