"""Counting of configurations by enumeration, the grouping identity, and the claims of arXiv 2605.00008 about consolidation."""

from collections import Counter
from itertools import permutations
from math import factorial, lgamma, log, pi, prod, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isentrope.measures import consolidated_entropy, entropy, structural_entropy

COUNTS = st.lists(st.integers(0, 60), min_size=1, max_size=8).filter(any)


@pytest.mark.parametrize("counts", [(3,), (1, 1), (2, 1, 1), (2, 2, 2), (3, 0, 2), (1, 1, 1, 1)])
def test_it_is_the_logarithm_of_the_number_of_configurations(counts):
    stops = [stop for stop, n in enumerate(counts) for _ in range(n)]
    assert structural_entropy(counts) == pytest.approx(log(len(set(permutations(stops)))), abs=1e-12)


def test_computed_values():
    values = [structural_entropy(counts) for counts in ([1] * 10, [5, 5], [3, 3, 4], [10])]
    np.testing.assert_allclose(values, [15.1044, 5.5294, 8.3428, 0], atol=5e-5)
    assert structural_entropy([10]) == 0
    assert structural_entropy([3, 3, 4], normalize=True) == pytest.approx(0.5523, abs=5e-5)
    assert structural_entropy([3, 3, 4], base=2) == pytest.approx(8.3428 / log(2), abs=1e-4)
    assert structural_entropy([[1, 0], [0, 0]], normalize=True).tolist() == [0, 0]


@settings(max_examples=40)
@given(COUNTS)
def test_grouping_conserves_the_whole(counts):
    whole = structural_entropy([1] * sum(counts))
    found = consolidated_entropy(sum(counts), counts)
    assert found.carrier == pytest.approx(structural_entropy(counts), abs=1e-10)
    assert found.carrier + found.handed_over == pytest.approx(whole, rel=1e-12, abs=1e-12)
    assert found.handed_over == pytest.approx(sum(log(factorial(n)) for n in counts), rel=1e-12, abs=1e-12)


@settings(max_examples=40)
@given(COUNTS)
def test_it_is_bounded_and_falls_when_stops_merge(counts):
    value = structural_entropy(counts)
    assert 0 <= value <= structural_entropy([1] * sum(counts)) + 1e-9
    assert 0 <= structural_entropy(counts, normalize=True) <= 1 + 1e-12
    if len(counts) > 1:
        merged = [counts[0] + counts[1], *counts[2:]]
        assert structural_entropy(merged) <= value + 1e-9


def test_equal_counts_have_the_most():
    best = max((structural_entropy([a, b, 12 - a - b]), (a, b)) for a in range(13) for b in range(13 - a))
    assert best[1] == (4, 4)


@settings(max_examples=40)
@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=6))
def test_duality_with_shannon_entropy(counts):
    n = sum(counts)
    shannon = float(entropy(np.array(counts) / n))
    stirling = 0.5 * log(2 * pi * n) - 0.5 * sum(log(2 * pi * m) for m in counts)
    remainder = structural_entropy(counts) - (n * shannon + stirling)
    # Stirling's series alternates: each logarithm of a factorial errs by less than 1/12m.
    assert -sum(1 / (12 * m) for m in counts) - 1e-6 <= remainder <= 1 / (12 * n) + 1e-6


def test_axis_and_batch():
    counts = np.random.default_rng(0).integers(0, 5, size=(3, 4, 2))
    by_hand = [
        [log(factorial(int(c[:, j].sum())) / prod(factorial(int(m)) for m in c[:, j])) for j in range(2)]
        for c in counts
    ]
    np.testing.assert_allclose(structural_entropy(counts, axis=1), by_hand, atol=1e-12)


# N = 100 parcels, the adopted share spread over five pick-up points: adoption, chaining, carrier, system.
SYSTEM = [(0.5, 0, 288.2, 529.5), (0.5, 0.5, 288.2, 406.3), (0.5, 1, 288.2, 288.2), (0.9, 0, 181.8, 628.5), (0.9, 1, 181.8, 181.8)]  # fmt: skip


@pytest.mark.parametrize(("adoption", "chained", "carrier", "system"), SYSTEM)
def test_computed_values_of_the_system(adoption, chained, carrier, system):
    found = consolidated_entropy(100, [round(100 * adoption / 5)] * 5, chained=chained)
    assert found.carrier == pytest.approx(carrier, abs=0.06)
    assert found.system == pytest.approx(system, abs=0.06)


def test_without_pick_up_points_nothing_changes():
    found = consolidated_entropy(20, [])
    assert found.carrier == found.system == pytest.approx(lgamma(21), abs=1e-12)
    assert found.handed_over == 0


def test_spatial_consolidation_raises_the_whole_unless_trips_are_chained():
    whole = float(structural_entropy([1] * 100))
    for adopted in range(5, 96, 5):
        alone = consolidated_entropy(100, [adopted // 5] * 5)
        chained = consolidated_entropy(100, [adopted // 5] * 5, chained=1)
        assert alone.carrier <= whole < alone.system
        assert chained.system <= whole


def test_consolidation_in_time_lowers_it():
    generator = np.random.default_rng(0)
    days = [Counter(generator.integers(60, size=40).tolist()) for _ in range(5)]
    separate = sum(sum(day.values()) for day in days)
    merged = len(set().union(*days))
    assert structural_entropy([1] * merged) < structural_entropy([1] * separate)


@pytest.mark.slow
def test_route_length_scales_with_structural_entropy():
    """Length of short tours through uniform stops against their entropy: a line in logarithms, with the predicted slope.

    The length is about 0.7124 √(A n) and the entropy ln n!, so the slope is near (1 - 1/ln n)/2 at n stops.
    """
    generator, points = np.random.default_rng(0), []
    for n in np.geomspace(30, 200, 12).round().astype(int):
        for _ in range(4):
            stops = generator.random((n, 2))
            points.append((float(structural_entropy(np.ones(n, int))), short_tour(stops), n))
    s, length, n = np.log(np.array(points)).T
    slope, offset = np.polyfit(s, length, 1)
    residual = length - slope * s - offset
    expected = 0.5 * (1 - 1 / n.mean())
    assert slope == pytest.approx(expected, abs=0.04)
    assert 1 - residual.var() / length.var() > 0.97


def short_tour(stops):
    """Length of the nearest-neighbour tour improved by exchanging pairs of edges until none helps."""
    distance = np.sqrt(((stops[:, None] - stops) ** 2).sum(-1))
    tour, left = [0], set(range(1, len(stops)))
    while left:
        tour.append(min(left, key=lambda stop: distance[tour[-1], stop]))
        left.remove(tour[-1])
    order, n, improved = np.array(tour), len(stops), True
    while improved:
        improved = False
        for i in range(n - 1):
            a, b = order[i], order[i + 1]
            c, d = order[i + 1 :], np.roll(order, -1)[i + 1 :]
            gain = distance[a, b] + distance[c, d] - distance[a, c] - distance[b, d]
            best = int(np.argmax(gain))
            if gain[best] > 1e-12:
                j = i + 1 + best
                order[i + 1 : j + 1] = order[i + 1 : j + 1][::-1].copy()
                improved = True
    return float(distance[order, np.roll(order, -1)].sum())


def test_stirling_limit_of_a_fair_split():
    # ln C(2m, m) = 2m ln 2 - ½ ln(πm) + O(1/m)
    m = 10_000
    assert structural_entropy([m, m]) == pytest.approx(2 * m * log(2) - log(sqrt(pi * m)), abs=2e-5)


def test_large_counts_keep_their_digits():
    # N!/(N - 1)! = N; the factorials themselves are known to some units only.
    for large in (10**9, 10**12, 10**15):
        assert structural_entropy([large, 1]) == pytest.approx(log(large + 1), rel=1e-14)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="counts must be whole numbers of at least 0"):
        structural_entropy([1, -1])
    with pytest.raises(ValueError, match="counts must be whole numbers"):
        structural_entropy([1.5])
    with pytest.raises(TypeError, match="counts must hold real numbers"):
        structural_entropy(["a"])
    with pytest.raises(ValueError, match="at least one stop"):
        structural_entropy([])
    with pytest.raises(ValueError, match="at least one stop along axis 2"):
        structural_entropy([[1, 2]], axis=2)
    with pytest.raises(ValueError, match="pick_up holds 12 parcels of 10"):
        consolidated_entropy(10, [6, 6])
    with pytest.raises(ValueError, match="chained must lie between 0 and 1"):
        consolidated_entropy(10, [6], chained=1.2)
    with pytest.raises(ValueError, match="base must be positive"):
        structural_entropy([1, 2], base=1)
