"""The complexity-entropy plane and the distance from white noise: definitions, published values, laws and errors."""

from itertools import permutations
from math import factorial, log

import numpy as np
import pytest
import torch
from chaotic_maps import logistic
from hypothesis import given
from hypothesis import strategies as st

from isentrope.measures import (
    jensen_shannon_divergence,
    permutation_complexity,
    permutation_entropy,
    reverse_permutation_entropy,
)

BOTH = (permutation_complexity, reverse_permutation_entropy)


def law_of_patterns(series, order, delay):
    windows = [series[t : t + (order - 1) * delay + 1 : delay] for t in range(len(series) - (order - 1) * delay)]
    found = [tuple(np.argsort(window, kind="stable").tolist()) for window in windows]
    return np.array([found.count(pattern) for pattern in permutations(range(order))]) / len(found)


@given(st.lists(st.integers(-3, 3), min_size=8, max_size=40), st.integers(2, 4), st.integers(1, 2))
def test_they_are_functions_of_the_law_of_patterns(series, order, delay):
    p = law_of_patterns(series, order, delay)
    uniform = np.full(len(p), 1 / len(p))
    certain = np.eye(len(p))[0]
    distance = float(jensen_shannon_divergence(p, uniform)) / float(jensen_shannon_divergence(certain, uniform))
    options = {"order": order, "delay": delay}
    expected = distance * permutation_entropy(series, normalize=True, **options)
    assert permutation_complexity(series, **options) == pytest.approx(expected, abs=1e-12)
    expected = ((p - uniform) ** 2).sum()
    assert reverse_permutation_entropy(series, **options) == pytest.approx(expected, abs=1e-12)


def test_chaos_has_its_published_place_in_the_plane():
    # Rosso and others (2007): the logistic map at r = 4 with windows of 6 is at 0.629 and 0.484.
    series = logistic(100_000)
    assert permutation_entropy(series, order=6, normalize=True) == pytest.approx(0.629, abs=1e-3)
    assert permutation_complexity(series, order=6) == pytest.approx(0.484, abs=1e-3)


def test_order_and_chance_are_both_simple():
    for order in (3, 5):
        assert permutation_complexity(np.arange(100), order=order) == 0
        assert reverse_permutation_entropy(np.arange(100), order=order) == pytest.approx(1 - 1 / factorial(order))
    noise = np.random.default_rng(0).normal(size=100_000)
    assert permutation_complexity(noise, order=4) < 0.002
    distance = reverse_permutation_entropy(noise, order=4)
    assert 0 < distance < 1e-4
    # Close to the maximum, the entropy falls by m!/2 times the distance.
    missing = log(24) - permutation_entropy(noise, order=4)
    assert missing == pytest.approx(12 * distance, rel=0.05)


@pytest.mark.parametrize("measure", BOTH)
def test_batches_axes_tensors_and_missing_samples(measure):
    batch = np.random.default_rng(1).normal(size=(2, 300, 3))
    values = measure(batch, axis=1)
    assert values.shape == (2, 3)
    assert values[1, 2] == pytest.approx(measure(batch[1, :, 2].tolist()), abs=1e-12)
    tensor = measure(torch.tensor(batch, dtype=torch.float32), axis=1)
    assert tensor.dtype == torch.float32
    np.testing.assert_allclose(tensor.numpy(), values, rtol=1e-4)
    # Any growing function of the series has the same patterns.
    np.testing.assert_allclose(measure(np.exp(batch), axis=1), values, rtol=1e-12)
    series = batch[0, :, 0].copy()
    series[:20] = np.nan
    assert measure(series, nan_policy="omit") == pytest.approx(measure(series[20:]), abs=1e-12)
    assert np.isnan(measure(series, nan_policy="propagate"))


@pytest.mark.parametrize("measure", BOTH)
def test_bad_arguments_are_named(measure):
    with pytest.raises(ValueError, match="at least 5 samples for these settings, got 4"):
        measure([1, 2, 3, 4], order=3, delay=2)
    for order in (-1, 1, 11, 200):
        with pytest.raises(ValueError, match="order must be between 2 and 10"):
            measure(np.zeros(50), order=order)
