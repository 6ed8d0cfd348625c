import math

import numpy as np
import pytest

from isentrope.measures.fractal import (
    detrended_fluctuation,
    higuchi_dimension,
    hjorth_parameters,
    katz_dimension,
    petrosian_dimension,
)

MEASURES = (petrosian_dimension, katz_dimension, higuchi_dimension, detrended_fluctuation)


def test_dimensions_of_lines_noise_and_walks():
    rng = np.random.default_rng(0)
    line, noise = np.arange(20_000.0), rng.normal(size=20_000)
    walk = np.cumsum(noise)
    assert petrosian_dimension(line) == 1
    assert katz_dimension(line) == pytest.approx(1)
    assert higuchi_dimension(line) == pytest.approx(1)
    assert higuchi_dimension(noise) == pytest.approx(2, abs=0.01)
    assert higuchi_dimension(walk) == pytest.approx(1.5, abs=0.02)
    assert detrended_fluctuation(noise, sizes=[50, 100, 200, 400]) == pytest.approx(0.5, abs=0.06)
    assert detrended_fluctuation(walk, sizes=[50, 100, 200, 400]) == pytest.approx(1.5, abs=0.06)


def test_petrosian_counts_turns():
    # Up, down, up, level, up, down: three turns, for a level step is passed over.
    series = [0, 1, 0, 2, 2, 3, 1]
    assert petrosian_dimension(series) == pytest.approx(math.log(7) / (math.log(7) + math.log(7 / (7 + 0.4 * 3))))
    # Two in three values of white noise are turning points.
    noise = np.random.default_rng(1).normal(size=100_000)
    n, turns = 100_000, 2 / 3 * 100_000
    expected = math.log(n) / (math.log(n) + math.log(n / (n + 0.4 * turns)))
    assert petrosian_dimension(noise) == pytest.approx(expected, abs=1e-4)


def test_katz_of_a_triangle():
    # Four steps of 1, farthest 2 from the start: ln 4 / (ln 4 + ln(2/4)) = 2.
    assert katz_dimension([0, 1, 2, 1, 0]) == pytest.approx(2)


@pytest.mark.parametrize("swinging", [[0, 1, 0, 1, 0], [0, 1, -1, 1, -1], np.tile([3.0, -3.0], 50)])
def test_katz_of_a_series_that_gets_nowhere_is_refused_rather_than_infinite_or_negative(swinging):
    with pytest.raises(ValueError, match="katz_dimension: a series that never gets further"):
        katz_dimension(swinging)


def test_higuchi_is_its_double_sum():
    series = np.random.default_rng(2).normal(size=57)
    n, longest = 57, 6
    lengths = []
    for k in range(1, longest + 1):
        parts = []
        for m in range(k):
            steps = (n - 1 - m) // k
            total = sum(abs(series[m + i * k] - series[m + (i - 1) * k]) for i in range(1, steps + 1))
            parts.append(total * (n - 1) / (steps * k) / k)
        lengths.append(sum(parts) / k)
    slope = np.polyfit(np.log(1 / np.arange(1, longest + 1)), np.log(lengths), 1)[0]
    assert higuchi_dimension(series, longest=longest) == pytest.approx(slope)


def test_fluctuations_are_residuals_of_fitted_lines():
    series = np.random.default_rng(3).normal(size=103)
    profile, sizes = np.cumsum(series - series.mean()), [5, 9, 20]
    fluctuations = []
    for size in sizes:
        squares = []
        for start in range(0, 103 // size * size, size):
            time, window = np.arange(size), profile[start : start + size]
            squares.extend((window - np.polyval(np.polyfit(time, window, 1), time)) ** 2)
        fluctuations.append(math.sqrt(np.mean(squares)))
    expected = np.polyfit(np.log(sizes), np.log(fluctuations), 1)[0]
    assert detrended_fluctuation(series, sizes=sizes) == pytest.approx(expected)


def test_hjorth_of_a_sine_and_of_noise():
    frequency = 0.3
    activity, mobility, complexity = hjorth_parameters(3 * np.sin(frequency * np.arange(100_000)))
    assert activity == pytest.approx(4.5, rel=1e-3)
    assert mobility == pytest.approx(2 * math.sin(frequency / 2), rel=1e-3)
    assert complexity == pytest.approx(1, rel=1e-3)
    # Differences of white noise have variances 2 and 6.
    activity, mobility, complexity = hjorth_parameters(np.random.default_rng(4).normal(size=200_000))
    assert (activity, mobility**2, complexity**2) == pytest.approx((1, 2, 1.5), rel=0.02)


@pytest.mark.parametrize("measure", MEASURES)
def test_scale_level_and_batch(measure):
    batch = np.random.default_rng(5).normal(size=(2, 100, 3))
    values = measure(batch, axis=1)
    assert values.shape == (2, 3)
    assert values[1, 2] == pytest.approx(measure((5 - 1e-3 * batch[1, :, 2]).tolist()))
    assert measure(batch.astype(np.float32), axis=1).dtype == np.float32


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="constant series has no length"):
        katz_dimension(np.ones(9))
    with pytest.raises(ValueError, match="periodic within 4 steps"):
        higuchi_dimension(np.tile([0, 1, 2], 30), longest=4)
    with pytest.raises(ValueError, match="at least 20 samples"):
        higuchi_dimension(np.arange(19))
    with pytest.raises(ValueError, match="sizes must be at least two different integers from 4 to 50"):
        detrended_fluctuation(np.arange(50), sizes=[3, 10])
    with pytest.raises(ValueError, match="constant series does not fluctuate"):
        detrended_fluctuation(np.ones(50))
    with pytest.raises(ValueError, match="straight line"):
        hjorth_parameters(np.arange(50))


def test_window_lengths_of_detrended_fluctuation_reach_to_a_quarter_of_the_series():
    walk = np.cumsum(np.random.default_rng(6).normal(size=400))
    sizes = sorted({int(4 * 25 ** (i / 19) + 1e-9) for i in range(20)})
    assert (sizes[0], sizes[-1]) == (4, 100)
    assert detrended_fluctuation(walk) == pytest.approx(detrended_fluctuation(walk, sizes=sizes), rel=1e-12)
