"""The unit of a series is arbitrary, also where squares of its values are beyond the range of its floating numbers."""

import numpy as np
import pytest
import torch

from isentrope.measures import (
    amplitude_aware_permutation_entropy,
    dispersion_entropy,
    fuzzy_entropy,
    sample_entropy,
    spectral_entropy,
    svd_entropy,
    weighted_permutation_entropy,
)
from isentrope.measures._series import read_series

NOISE = np.random.default_rng(0).normal(size=200)
GAPS = np.where(np.arange(200) == 5, np.nan, NOISE)
MEASURES = [
    amplitude_aware_permutation_entropy,
    dispersion_entropy,
    fuzzy_entropy,
    sample_entropy,
    spectral_entropy,
    svd_entropy,
    weighted_permutation_entropy,
]


def welch_entropy(series, **options):
    return spectral_entropy(series, segment=32, **options)


@pytest.mark.parametrize("measure", [*MEASURES, welch_entropy])
@pytest.mark.parametrize("exponent", [-600, 600])
def test_very_small_and_very_large_units(measure, exponent):
    assert float(measure(np.ldexp(NOISE, exponent))) == pytest.approx(float(measure(NOISE)), rel=1e-12)


@pytest.mark.parametrize("measure", [*MEASURES, welch_entropy])
@pytest.mark.parametrize("exponent", [-140, -83, 73, 125])
def test_very_small_and_very_large_units_in_single_precision(measure, exponent):
    series = torch.tensor(NOISE, dtype=torch.float32)
    scaled = torch.ldexp(series, torch.tensor(exponent))
    # At the lower end few digits are left of the series itself.
    assert float(measure(scaled)) == pytest.approx(float(measure(series)), rel=1e-6 if exponent > -126 else 0.02)


@pytest.mark.parametrize("measure", [sample_entropy, dispersion_entropy, weighted_permutation_entropy, welch_entropy])
@pytest.mark.parametrize("exponent", [-600, 600])
def test_very_small_and_very_large_units_with_missing_samples(measure, exponent):
    expected = float(measure(GAPS, nan_policy="omit"))
    assert float(measure(np.ldexp(GAPS, exponent), nan_policy="omit")) == pytest.approx(expected, rel=1e-12)


def test_gradient_of_the_spectral_entropy_is_that_of_any_unit():
    gradients = []
    for scale in (1.0, 2.0**-83):
        series = torch.tensor(NOISE * scale, dtype=torch.float32, requires_grad=True)
        spectral_entropy(series).backward()
        gradients.append(series.grad * scale)
    assert bool(gradients[0].any())
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("measure", [spectral_entropy, svd_entropy, weighted_permutation_entropy, welch_entropy])
def test_numbers_below_the_normal_range(measure):
    # Whole numbers of 2^-1060 are exact; the power of two that would bring them to 1 is beyond the range.
    whole = np.round(1000 * NOISE)
    assert float(measure(np.ldexp(whole, -1060))) == pytest.approx(float(measure(whole)), rel=1e-12)


def test_the_deviation_of_a_constant_is_exactly_zero():
    # The mean of a thousand 0.1 is not 0.1.
    constants = np.array([[0.1], [1e-300], [-7e200]]).repeat(1000, axis=1)
    assert (np.std(constants[0]) > 0).all()
    np.testing.assert_array_equal(read_series("test", constants, -1, least=1).moments()[1], 0)
