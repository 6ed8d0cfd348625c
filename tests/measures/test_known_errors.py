"""The page of known errors elsewhere names tests that exist; and what no other file tests of it."""

import re
import tracemalloc
from math import log, log2
from pathlib import Path

import numpy as np
import pytest

from isentrope.measures import (
    differential_entropy,
    discrete_conditional_entropy,
    discrete_entropy,
    discrete_mutual_information,
    mutual_information,
    partial_information,
)

ROOT = Path(__file__).parents[2]


def test_the_tests_that_the_page_names_exist():
    page = (ROOT / "docs" / "known-errors.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", page))
    written = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 20
    assert not [name for name in sorted(named) if f"def {name}(" not in written]


def test_broja_of_w_is_not_that_of_dits_default():
    # One of three bits is 1. The target's pair laws with the sources are the same, so nothing is unique, and the redundancy
    # is all that one source tells. The general optimiser of dit ends at a redundancy of -0.415 bit.
    p = np.zeros((2, 2, 2))
    p[1, 0, 0] = p[0, 0, 1] = p[0, 1, 0] = 1 / 3
    alone = -2 / 3 * log2(2 / 3) - 1 / 3 * log2(1 / 3) - 2 / 3
    found = partial_information(p, base=2)
    atoms = (found.redundancy, found.unique_first, found.unique_second, found.synergy)
    assert atoms == pytest.approx((alone, 0, 0, 2 / 3), abs=1e-6)


def test_identical_bits_share_ln_2_and_mimiq_gives_its_negative():
    bits = [0, 1] * 500
    assert discrete_mutual_information(bits, bits, method="plugin") == pytest.approx(log(2), abs=1e-12)


def test_the_unit_is_of_each_call_and_of_all_functions_alike_unlike_infomeasures_setting():
    bits = [0, 1] * 500
    for function in (discrete_entropy, lambda x, **o: discrete_mutual_information(x, x, **o)):
        assert function(bits, method="plugin", base=2) == pytest.approx(1)
        assert function(bits, method="plugin") == pytest.approx(log(2))


def test_a_conditional_entropy_takes_its_unit_and_nothing_else_from_the_base_unlike_npeets():
    x, y = np.random.default_rng(0).integers(0, 3, (2, 300))
    bits, nats = (discrete_conditional_entropy(x, y, base=base) for base in (2, None))
    assert bits * log(2) == pytest.approx(nats, abs=1e-12)


def test_neighbours_take_no_table_of_all_distances_as_in_hoi():
    # It holds every difference of every pair: 435 MB for 10,000 samples, which would be 1.6 GB for these.
    x = np.random.default_rng(0).normal(size=(20_000, 2))
    for measure in (lambda v: differential_entropy(v, method="knn"), lambda v: mutual_information(v[:, 0], v[:, 1])):
        measure(x[:500])  # compiles
        tracemalloc.start()
        try:
            measure(x)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 40e6
