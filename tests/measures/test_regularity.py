import math
import tracemalloc

import numpy as np
import pytest
import torch
from chaotic_maps import henon, logistic
from hypothesis import given
from hypothesis import strategies as st

from isentrope.measures._series import read_series
from isentrope.measures.regularity import (
    _pairs_by_blocks,
    approximate_entropy,
    fuzzy_entropy,
    matching_pairs,
    sample_entropy,
)

short_series = st.lists(st.integers(-4, 4), min_size=8, max_size=40)


def distances(series, length, delay, windows):
    """Of all pairs of windows, in no clever way."""
    series = np.asarray(series, float)
    embedded = np.stack([series[k * delay : k * delay + windows] for k in range(length)], axis=1)
    return np.abs(embedded[:, None] - embedded[None]).max(axis=2)


def pairs_within(series, length, delay, windows, radius):
    matrix = distances(series, length, delay, windows) <= radius
    return (int(matrix.sum()) - windows) // 2


def slow_sample_entropy(series, order, delay, radius):
    windows = len(series) - order * delay
    short, long = (pairs_within(series, m, delay, windows, radius) for m in (order, order + 1))
    return math.nan if short == 0 else math.inf if long == 0 else -math.log(long / short)


# On these antropy and EntropyHub agree, and neurokit2 where it has the same radius.
@pytest.mark.parametrize(
    ("series", "sample", "approximate"),
    [
        (logistic(5000), 0.632611, 0.656398),
        (np.sin(0.1 * np.arange(2000)), 0.234496, 0.277800),
        (henon(4000), 0.464909, 0.477803),
    ],
)
def test_values_on_which_other_packages_agree(series, sample, approximate):
    assert sample_entropy(series) == pytest.approx(sample, abs=2e-6)
    assert approximate_entropy(series) == pytest.approx(approximate, abs=2e-6)


@given(short_series, st.integers(1, 3), st.integers(1, 2), st.sampled_from([0.0, 1.0, 1.5, 3.0]))
def test_sample_entropy_counts_pairs_of_the_same_windows(series, order, delay, radius):
    expected = slow_sample_entropy(series, order, delay, radius)
    assert sample_entropy(series, order=order, delay=delay, radius=radius) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("heavy_tails", [False, True])
def test_sample_entropy_of_real_values_is_exact(order, heavy_tails):
    rng = np.random.default_rng(order)
    series = rng.standard_cauchy(size=1500) if heavy_tails else rng.normal(size=1500)
    radius = 0.2 * series.std()
    assert sample_entropy(series, order=order) == pytest.approx(
        slow_sample_entropy(series, order, 1, radius), rel=1e-12
    )


def test_pairs_at_exactly_the_radius_match():
    # 0.3 - 0.2 and 0.2 - 0.1 differ in the last digit from 0.1: the comparison is that of the differences, nothing else.
    rng = np.random.default_rng(0)
    # Counted from 0.2, 0.9 is a little less than seven steps of 0.1 away, and 1.0 eight: matches that seem two steps apart.
    for grid in (rng.integers(0, 7, size=600) / 10, rng.integers(2, 12, size=600) / 10):
        for radius in (0.1, 0.3 - 0.2, 0.2, 0.30000000000000004):
            expected = slow_sample_entropy(grid, 2, 1, radius)
            assert sample_entropy(grid, radius=radius) == pytest.approx(expected, rel=1e-12)


@given(short_series, st.integers(1, 3), st.sampled_from([0.0, 1.0, 2.5]))
def test_approximate_entropy_is_the_definition(series, order, radius):
    phi = []
    for m in (order, order + 1):
        windows = len(series) - m + 1
        phi.append(np.log((distances(series, m, 1, windows) <= radius).mean(axis=1)).mean())
    assert approximate_entropy(series, order=order, radius=radius) == pytest.approx(phi[0] - phi[1], abs=1e-12)


@pytest.mark.parametrize("exponent", [1.0, 2.0, 3.5])
def test_fuzzy_entropy_is_the_definition(exponent):
    series = np.random.default_rng(1).normal(size=200) * 3 + 5
    order, windows, radius = 2, 198, 0.2 * series.std()
    sums = []
    for m in (order, order + 1):
        embedded = np.stack([series[k : k + windows] for k in range(m)], axis=1)
        embedded -= embedded.mean(axis=1, keepdims=True)
        far = np.abs(embedded[:, None] - embedded[None]).max(axis=2)[np.triu_indices(windows, 1)]
        sums.append(np.exp(-((far / radius) ** exponent)).sum())
    assert fuzzy_entropy(series, exponent=exponent) == pytest.approx(-math.log(sums[1] / sums[0]), rel=1e-12)


@given(short_series, st.floats(0.01, 100), st.floats(-100, 100))
def test_scale_and_level_do_not_matter(series, scale, level):
    noise = np.random.default_rng(len(series)).normal(size=len(series))
    moved = scale * noise + level
    for measure in (sample_entropy, approximate_entropy, fuzzy_entropy):
        value = measure(noise, tolerance=0.7)
        assert measure(moved, tolerance=0.7) == pytest.approx(value, rel=1e-6, nan_ok=True)


def test_white_noise_has_the_closed_form():
    noise = np.random.default_rng(2).normal(size=50_000)
    for order in (1, 2):
        assert sample_entropy(noise, order=order) == pytest.approx(-math.log(math.erf(0.1)), abs=0.01)
    # Uniform on [0, 1]: a pair is within r with probability 2r - r^2, and the standard deviation is 1/sqrt(12).
    r = 0.2 / math.sqrt(12)
    uniform = np.random.default_rng(3).uniform(size=50_000)
    assert -math.log(2 * r - r * r) == pytest.approx(2.188036, abs=1e-6)
    assert sample_entropy(uniform, base=2) * math.log(2) == pytest.approx(2.188036, abs=0.01)


def test_sample_entropy_does_not_jump_at_5000_samples_as_antropys():
    # antropy counts distances below r in shorter series and up to r from 5000 samples on: 1.611, then 0.653, for integers
    # 0 to 4 and r = 1. Independent values of which 13 of 25 pairs are within 1 have -ln(13/25) = 0.654.
    integers = np.random.default_rng(0).integers(0, 5, size=5000)
    before, after = sample_entropy(integers[:4999], radius=1.0), sample_entropy(integers, radius=1.0)
    assert after == pytest.approx(before, abs=1e-3)
    assert after == pytest.approx(-math.log(13 / 25), abs=0.03)


def test_memory_is_bounded_and_not_a_matrix_of_all_pairs_as_entropyhubs():
    # EntropyHub takes 1.7 GB for 10,000 samples and asks for 74.5 GiB for 100,000.
    noise = np.random.default_rng(6).normal(size=100_000)
    sample_entropy(noise[:100])  # compiles
    tracemalloc.start()
    try:
        value = sample_entropy(noise)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20e6
    assert value == pytest.approx(-math.log(math.erf(0.1)), abs=0.01)


def test_fuzzy_entropy_takes_no_matrix_of_all_pairs_either():
    noise = np.random.default_rng(6).normal(size=3000)
    fuzzy_entropy(noise[:100])  # compiles
    tracemalloc.start()
    try:
        fuzzy_entropy(noise)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2e6  # all pairs would take 72 MB


def test_fuzzy_entropy_does_not_change_with_the_unit_as_entropyhubs():
    # EntropyHub's radius of 0.2 is in the unit of the series, not in its standard deviations.
    noise = np.random.default_rng(7).normal(size=300)
    for factor in (0.1, 10.0, 1e-6):
        assert fuzzy_entropy(factor * noise) == pytest.approx(fuzzy_entropy(noise), rel=1e-9)


def test_series_without_matches_are_infinite_or_nan():
    # Two windows match in 2 values and not in 3; with a radius of 0 none match at all.
    assert sample_entropy([0, 1, 5, 9, 20, 0, 1, 50, 70], radius=0.5) == math.inf
    assert math.isnan(sample_entropy(np.arange(10) ** 2, radius=0.0))
    # Peers give 0, -0.0 or NaN for a constant series, depending on the package; every pair matches.
    constant = np.full(100, 0.1)
    for measure in (sample_entropy, approximate_entropy, fuzzy_entropy):
        assert measure(constant) == 0
        assert not np.signbit(measure(constant))


@pytest.mark.parametrize("block", [5000, 200_000, 1 << 24])
def test_the_path_for_accelerators_counts_the_same_pairs(monkeypatch, block):
    # Blocks of part of a series, of some of the series, and of all.
    monkeypatch.setattr("isentrope.measures.regularity._BLOCK", block)
    series = np.random.default_rng(4).normal(size=(3, 300)).round(1)
    radii = [0.3, 0.2, 0.0]
    for order, delay in ((1, 1), (2, 1), (3, 2)):
        windows = series.shape[1] - order * delay
        expected = [
            tuple(pairs_within(row, m, delay, windows, r) for m in (order, order + 1))
            for row, r in zip(series, radii, strict=True)
        ]
        reading = read_series("test", torch.tensor(series), -1, least=1)
        assert _pairs_by_blocks(reading, order, delay, radii) == expected
        assert matching_pairs(reading, order, delay, radii) == expected


@pytest.mark.parametrize("measure", [sample_entropy, approximate_entropy, fuzzy_entropy])
def test_batches_axes_and_tensors_agree_with_single_series(measure):
    batch = np.random.default_rng(5).normal(size=(2, 200, 3))
    values = measure(batch, axis=1)
    assert values.shape == (2, 3)
    assert values[1, 2] == pytest.approx(measure(batch[1, :, 2].tolist()), rel=1e-12)
    tensor = measure(torch.tensor(batch), axis=1)
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_allclose(tensor.numpy(), values, rtol=1e-12)


@pytest.mark.parametrize("measure", [sample_entropy, approximate_entropy, fuzzy_entropy])
def test_bad_arguments_are_named(measure):
    with pytest.raises(ValueError, match="at least 4 samples for these settings, got 3"):
        measure([1, 2, 3])
    with pytest.raises(ValueError, match="2 samples of series are NaN or infinite"):
        measure([1, math.nan, 2, 3, math.inf, 5])
    with pytest.raises(ValueError, match="tolerance must be a finite number of at least 0, got -1"):
        measure(np.arange(9), tolerance=-1)
    with pytest.raises(ValueError, match="order must be at least"):
        measure(np.arange(9), order=0)
    with pytest.raises(ValueError, match="base must be positive"):
        measure(np.arange(9), base=1)
    if measure is fuzzy_entropy:
        with pytest.raises(ValueError, match="tolerance and radius must be positive"):
            measure(np.arange(9), radius=0)
        with pytest.raises(ValueError, match="exponent must be a positive finite number, got 0"):
            measure(np.arange(9), exponent=0)


def test_fuzzy_memberships_far_below_the_radius_still_count():
    # One pair of windows, 9 apart in two values and 22 in three once means are gone: exp(-81) and exp(-484).
    series = [0.0, 9.0, 0.0, 33.0]
    two = np.array([[0, 9], [9, 0]]) - [[4.5], [4.5]]
    three = np.array([[0, 9, 0], [9, 0, 33]]) - [[3], [14]]
    distances = [float(np.abs(np.diff(w, axis=0)).max()) for w in (two, three)]
    assert distances == [9, 22]
    assert fuzzy_entropy(series, radius=1.0) == pytest.approx(484 - 81)
    assert fuzzy_entropy(series, radius=1.0, exponent=1.0) == pytest.approx(22 - 9)


def test_radii_and_orders_out_of_range_are_refused():
    series = np.arange(20.0)
    for measure in (sample_entropy, approximate_entropy, fuzzy_entropy):
        for options in ({"tolerance": math.inf}, {"radius": math.inf}, {"tolerance": math.nan}, {"radius": -1.0}):
            with pytest.raises(ValueError, match="must be a finite number of at least 0"):
                measure(series, **options)
    for options in ({"radius": 0.0}, {"tolerance": 0.0}):
        with pytest.raises(ValueError, match="must be positive, as memberships divide by the radius"):
            fuzzy_entropy(series, **options)
    with pytest.raises(ValueError, match="order must be at least 2, got 1"):
        fuzzy_entropy(series, order=1)
