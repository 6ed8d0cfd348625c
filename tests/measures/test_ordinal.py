import math
from collections import Counter

import numpy as np
import pytest
import torch
from chaotic_maps import henon, logistic
from hypothesis import given
from hypothesis import strategies as st

from isentrope.measures.ordinal import (
    amplitude_aware_permutation_entropy,
    bubble_entropy,
    permutation_entropy,
    weighted_permutation_entropy,
)

ORDINAL = (permutation_entropy, weighted_permutation_entropy, amplitude_aware_permutation_entropy)
BANDT_POMPE = [4, 7, 9, 10, 6, 11, 3]
short_series = st.lists(st.integers(-3, 3), min_size=8, max_size=40)


def slow_entropy(series, order, delay, weight=lambda window: 1.0):
    """By sorting each window, stably."""
    weights = Counter()
    for start in range(len(series) - (order - 1) * delay):
        window = np.array(series[start : start + (order - 1) * delay + 1 : delay], float)
        weights[tuple(np.argsort(window, kind="stable"))] += weight(window)
    total = sum(weights.values())
    return -sum(w / total * math.log(w / total) for w in weights.values() if w > 0) if total else 0.0


# The example of Bandt and Pompe (2002).
@pytest.mark.parametrize(("order", "expected"), [(2, 0.918296), (3, 1.521928)])
def test_permutation_entropy_of_bandt_and_pompe(order, expected):
    assert permutation_entropy(BANDT_POMPE, order=order, base=2) == pytest.approx(expected, abs=1e-6)


def test_weighted_permutation_entropy_of_the_same_series():
    assert weighted_permutation_entropy(BANDT_POMPE, order=3, base=2) == pytest.approx(1.413962, abs=1e-6)


# On these antropy, EntropyHub and neurokit2 agree, in bits.
@pytest.mark.parametrize(
    ("series", "third", "fifth"),
    [
        (logistic(5000), 2.138056, 4.691135),
        (np.sin(0.1 * np.arange(2000)), 1.236457, 1.705306),
        (henon(4000), 2.277157, 4.246597),
    ],
)
def test_permutation_entropy_on_which_other_packages_agree(series, third, fifth):
    assert permutation_entropy(series, order=3, base=2) == pytest.approx(third, abs=2e-6)
    assert permutation_entropy(series, order=5, base=2) == pytest.approx(fifth, abs=2e-6)


@given(short_series, st.integers(2, 4), st.integers(1, 2))
def test_entropies_are_those_of_stably_sorted_windows(series, order, delay):
    def variance(window):
        return np.var(window)

    def amplitude(window):
        return 0.3 * np.mean(np.abs(window)) + 0.7 * np.mean(np.abs(np.diff(window)))

    assert permutation_entropy(series, order=order, delay=delay) == pytest.approx(
        slow_entropy(series, order, delay), abs=1e-12
    )
    assert weighted_permutation_entropy(series, order=order, delay=delay) == pytest.approx(
        slow_entropy(series, order, delay, variance), abs=1e-12
    )
    assert amplitude_aware_permutation_entropy(series, order=order, delay=delay, level=0.3) == pytest.approx(
        slow_entropy(series, order, delay, amplitude), abs=1e-12
    )


def test_ties_follow_a_rule_and_not_the_sort():
    # NumPy's default sort is not stable by contract, though it happens to be for windows this short.
    assert permutation_entropy(np.zeros(1000), order=7) == 0
    # 0 0 1 has the pattern of 0 1 2, and 0 1 1 as well; 1 1 0 and 1 0 0 are another two.
    assert permutation_entropy([0, 0, 1, 1], order=3) == 0
    assert permutation_entropy([1, 1, 0, 0], order=3, base=2) == pytest.approx(1)


@given(short_series)
def test_order_alone_matters(series):
    grown = [math.exp(x) - 5 for x in series]
    assert permutation_entropy(series) == pytest.approx(permutation_entropy(grown), abs=1e-12)
    assert bubble_entropy(series, order=3) == pytest.approx(bubble_entropy(grown, order=3), abs=1e-12)


def test_turning_a_series_over_renames_its_patterns():
    series = np.random.default_rng(5).permutation(60)
    for measure in (permutation_entropy, weighted_permutation_entropy):
        assert measure(7 - 3 * series[::-1]) == pytest.approx(measure(series), abs=1e-12)
        assert measure(series[::-1]) == pytest.approx(measure(series), abs=1e-12)


def test_normalised_entropy_of_white_noise_is_one():
    noise = np.random.default_rng(0).normal(size=200_000)
    for measure in ORDINAL[:2]:
        assert 0.999 < measure(noise, order=4, normalize=True) <= 1


def test_bias_for_white_noise_is_just_under_that_of_independent_windows():
    series = np.random.default_rng(1).normal(size=(300, 2000))
    for order in (4, 5):
        bias = permutation_entropy(series, order=order).mean() - math.log(math.factorial(order))
        independent = -(math.factorial(order) - 1) / (2 * (2000 - order + 1))
        assert independent < bias < 0.8 * independent


def test_bubble_entropy_of_white_noise_follows_from_the_numbers_of_inversions():
    # The generating function of inversions is the product of 1 + q + ... + q^(j-1).
    def collision(order):
        numbers = np.array([1.0])
        for j in range(2, order + 1):
            numbers = np.convolve(numbers, np.ones(j))
        return -math.log(np.sum((numbers / math.factorial(order)) ** 2))

    noise = np.random.default_rng(2).normal(size=400_000)
    for order in (2, 5, 10):
        expected = (collision(order + 1) - collision(order)) / math.log((order + 1) / (order - 1))
        assert bubble_entropy(noise, order=order) == pytest.approx(expected, abs=0.02)
    assert bubble_entropy(noise, order=5, base=2) == pytest.approx(bubble_entropy(noise, order=5) / math.log(2))


@pytest.mark.parametrize("measure", [*ORDINAL, bubble_entropy])
def test_batches_axes_and_tensors_agree_with_single_series(measure):
    batch = np.random.default_rng(3).normal(size=(2, 300, 3))
    values = measure(batch, axis=1)
    assert values.shape == (2, 3)
    assert values[1, 2] == pytest.approx(measure(batch[1, :, 2].tolist()), abs=1e-12)
    tensor = measure(torch.tensor(batch, dtype=torch.float32), axis=1)
    assert tensor.dtype == torch.float32
    np.testing.assert_allclose(tensor.numpy(), values, rtol=1e-5)
    assert measure(batch.astype(np.float32), axis=1).dtype == np.float32


def test_many_series_with_many_patterns_are_split():
    # 9! bins for each of 30 series would be 87 MB at once and more in between.
    batch = np.random.default_rng(4).normal(size=(30, 50))
    assert permutation_entropy(batch, order=9)[29] == pytest.approx(permutation_entropy(batch[29], order=9))


@pytest.mark.parametrize("measure", ORDINAL)
def test_bad_arguments_are_named(measure):
    with pytest.raises(ValueError, match="at least 5 samples for these settings, got 4"):
        measure([1, 2, 3, 4], order=3, delay=2)
    with pytest.raises(ValueError, match="order must be between 2 and 10, got 11"):
        measure(np.zeros(50), order=11)
    with pytest.raises(ValueError, match="1 samples of series are NaN or infinite"):
        measure([1.0, math.nan, 2.0, 3.0])
    with pytest.raises(ValueError, match="axis 1 is out of range"):
        measure(np.zeros(50), axis=1)
    with pytest.raises(ValueError, match="normalised entropy has no unit"):
        measure(np.zeros(50), normalize=True, base=2)


@pytest.mark.parametrize(("order", "share"), [(2, 1 / 3), (3, 0.69), (4, 0.89), (5, 0.98)])
def test_bias_of_white_noise_is_what_the_documentation_says(order, share):
    windows = 40 * math.factorial(order)
    noise = np.random.default_rng(0).normal(size=(1000, windows + order - 1))
    deficits = math.log(math.factorial(order)) - permutation_entropy(noise, order=order)
    expected = share * (math.factorial(order) - 1) / (2 * windows)
    assert deficits.mean() == pytest.approx(expected, rel=0.02, abs=4 * deficits.std() / 1000**0.5)


def test_bubble_sort_swaps_no_equal_values():
    # Windows of two take 0, 1 and 0 swaps, both windows of three take 2.
    assert bubble_entropy([1, 1, 0, 0], order=2) == pytest.approx(math.log(5 / 9) / math.log(3))


def test_amplitudes_may_be_those_of_the_values_or_of_the_steps_alone():
    series = np.random.default_rng(6).normal(size=200).round(1)
    for level, weight in ((1, lambda w: np.mean(np.abs(w))), (0, lambda w: np.mean(np.abs(np.diff(w))))):
        expected = slow_entropy(series, 3, 1, weight)
        assert amplitude_aware_permutation_entropy(series, level=level) == pytest.approx(expected, abs=1e-12)
    for level in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="level must lie between 0 and 1"):
            amplitude_aware_permutation_entropy(series, level=level)


def test_bubble_entropy_compares_two_orders_and_needs_windows_of_both():
    with pytest.raises(ValueError, match="at least 5 samples for these settings, got 4"):
        bubble_entropy(np.arange(4), order=2, delay=2)
    # Windows of two are whole, none of three is.
    gaps = np.tile([1.0, 3.0, math.nan], 20)
    assert math.isnan(bubble_entropy(gaps, order=2, nan_policy="omit"))
