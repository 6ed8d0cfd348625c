"""Missing samples in series, and tensors that stay where they are."""

import math

import numpy as np
import pandas
import pytest
import torch

from isentrope.measures import (
    amplitude_aware_permutation_entropy,
    approximate_entropy,
    bubble_entropy,
    coarse_grain,
    detrended_fluctuation,
    dispersion_entropy,
    fluctuation_dispersion_entropy,
    fuzzy_entropy,
    higuchi_dimension,
    hjorth_parameters,
    katz_dimension,
    multiscale_entropy,
    permutation_entropy,
    petrosian_dimension,
    sample_entropy,
    slope_entropy,
    spectral_entropy,
    svd_entropy,
    weighted_permutation_entropy,
)
from isentrope.measures._series import read_series
from isentrope.measures.regularity import _pairs_by_blocks

ARRAYS = (
    permutation_entropy,
    weighted_permutation_entropy,
    amplitude_aware_permutation_entropy,
    bubble_entropy,
    dispersion_entropy,
    fluctuation_dispersion_entropy,
    slope_entropy,
    svd_entropy,
)
PAIRS = (sample_entropy, approximate_entropy, fuzzy_entropy)
UNBROKEN = (spectral_entropy, petrosian_dimension, katz_dimension, higuchi_dimension, detrended_fluctuation)


def with_gaps(rng, n=400):
    series = rng.normal(size=n)
    series[[7, 50, 51, 52, 300]] = math.nan
    return series


@pytest.mark.parametrize("measure", [*ARRAYS, *PAIRS, *UNBROKEN])
def test_missing_samples_are_refused_or_spoil_their_series_alone(measure):
    # antropy gives -0.0 for the sample and the spectral entropy of a series with a NaN.
    rng = np.random.default_rng(0)
    batch = np.stack([rng.normal(size=400), with_gaps(rng), np.full(400, math.nan)])
    with pytest.raises(ValueError, match="405 samples of series are NaN or infinite"):
        measure(batch)
    values = measure(batch, nan_policy="propagate")
    np.testing.assert_array_equal(values, [measure(batch[0]), math.nan, math.nan])
    assert math.isnan(measure(batch[1], nan_policy="propagate"))
    assert measure(batch[0], nan_policy="propagate") == measure(batch[0])
    tensor = measure(torch.tensor(batch), nan_policy="propagate")
    np.testing.assert_allclose(tensor.numpy(), values, rtol=1e-12)
    # What is infinite is not missing.
    batch[0, 3] = math.inf
    for policy in ("propagate", "omit") if measure in (*ARRAYS, *PAIRS) else ("propagate",):
        with pytest.raises(ValueError, match="1 samples of series are infinite"):
            measure(batch, nan_policy=policy)
    with pytest.raises(ValueError, match="nan_policy must be one of raise, propagate, omit, got 'drop'"):
        measure(batch, nan_policy="drop")


@pytest.mark.parametrize("measure", [*ARRAYS, *PAIRS])
def test_a_gap_at_the_ends_is_as_if_the_series_were_shorter(measure):
    # No window spans the gap, so these are the windows of the 390 samples between.
    series = np.random.default_rng(1).normal(size=400).cumsum()
    gaps = series.copy()
    gaps[:4] = gaps[394:] = math.nan
    expected = measure(series[4:394])
    batch = np.stack([gaps, series, np.full(400, math.nan)])
    values = measure(batch, nan_policy="omit")
    np.testing.assert_allclose(values, [expected, measure(series), math.nan], rtol=1e-12)
    tensor = measure(torch.tensor(batch), nan_policy="omit")
    np.testing.assert_allclose(tensor.numpy(), values, rtol=1e-12)


@pytest.mark.parametrize("measure", [permutation_entropy, weighted_permutation_entropy, slope_entropy])
def test_windows_across_a_gap_do_not_count(measure):
    first, second = np.random.default_rng(2).normal(size=(2, 150))
    gap = np.concatenate([first, [math.nan], second])
    # 0 0 0 between the parts would add windows; so would the parts in a row. Counting both parts apart does not.
    law = {}
    for part in (first, second):
        for start in range(148):
            window = part[start : start + 3]
            if measure is slope_entropy:
                angles = np.degrees(np.arctan(np.diff(window)))
                key = tuple(np.sign(angles) * ((abs(angles) > 5).astype(int) + (abs(angles) > 45)))
            else:
                key = tuple(np.argsort(window))
            weight = np.var(window) if measure is weighted_permutation_entropy else 1
            law[key] = law.get(key, 0) + weight
    shares = np.array(list(law.values())) / sum(law.values())
    assert measure(gap, order=3, nan_policy="omit") == pytest.approx(-(shares * np.log(shares)).sum())


def test_pairs_of_windows_across_a_gap_match():
    # All pairs of whole windows, on both sides of the gaps, with the deviation of the samples that are there.
    series = with_gaps(np.random.default_rng(3))
    radius = 0.2 * np.nanstd(series)
    embedded = np.stack([series[k : k + 398] for k in range(3)], axis=1)
    embedded = embedded[~np.isnan(embedded).any(axis=1)]
    upper = np.triu_indices(len(embedded), 1)
    short, long = (
        (np.abs(embedded[:, None, :m] - embedded[None, :, :m]).max(axis=2)[upper] <= radius).sum() for m in (2, 3)
    )
    assert sample_entropy(series, nan_policy="omit") == pytest.approx(-math.log(long / short))
    reading = read_series("test", torch.tensor(series), -1, least=1, nan_policy="omit")
    assert _pairs_by_blocks(reading, 2, 1, [radius]) == [(short, long)]
    assert multiscale_entropy(sample_entropy, series, scales=1, nan_policy="omit")[0] == pytest.approx(
        -math.log(long / short)
    )


@pytest.mark.parametrize("measure", [*ARRAYS, *PAIRS])
def test_a_series_without_a_whole_window_has_no_result(measure):
    series = np.where(np.arange(100) % 2 == 0, math.nan, np.arange(100.0))
    assert math.isnan(measure(series, nan_policy="omit"))


def test_segments_with_a_missing_sample_are_left_out():
    rng = np.random.default_rng(4)
    series = rng.normal(size=320)
    whole = series.copy()
    series[70] = math.nan  # in the segments that start at 32 and 64 of those at 0, 32, ..., 256
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(64) / 64)
    power = 0.0
    for start in (0, 96, 128, 160, 192, 224, 256):
        piece = whole[start : start + 64]
        power = power + np.abs(np.fft.rfft(window * (piece - piece.mean()))[1:]) ** 2
    power[:-1] *= 2
    law = power / power.sum()
    assert spectral_entropy(series, segment=64, nan_policy="omit") == pytest.approx(-(law * np.log(law)).sum())
    with pytest.raises(ValueError, match="nan_policy must be raise or propagate, got 'omit'"):
        spectral_entropy(series, nan_policy="omit")


@pytest.mark.parametrize("measure", UNBROKEN[1:])
def test_measures_of_the_whole_curve_cannot_omit(measure):
    with pytest.raises(ValueError, match="interpolate what is missing"):
        measure(np.arange(100.0), nan_policy="omit")


def test_labelled_series_are_read_and_tables_are_refused():
    values = with_gaps(np.random.default_rng(7))
    labelled = pandas.Series(values, index=pandas.date_range("2020", periods=400))
    expected = permutation_entropy(values, nan_policy="omit")
    assert permutation_entropy(labelled, nan_policy="omit") == expected
    # Nullable integers have a missing value of their own.
    integers = pandas.Series([1, 5, 2, None, 4, 3, 9, 2], dtype="Int64")
    assert permutation_entropy(integers, nan_policy="omit") == permutation_entropy(
        [1, 5, 2, math.nan, 4, 3, 9, 2], nan_policy="omit"
    )
    with pytest.raises(TypeError, match="give one of its columns, or its values and axis=0"):
        permutation_entropy(pandas.DataFrame({"a": values, "b": values}))
    with pytest.raises(TypeError, match="series must be real numbers, got dtype <U1"):
        permutation_entropy(["a", "b", "c", "d"])


def test_hjorth_parameters_propagate():
    batch = np.random.default_rng(5).normal(size=(2, 50))
    batch[1, 3] = math.nan
    for value, expected in zip(
        hjorth_parameters(batch, nan_policy="propagate"), hjorth_parameters(batch[0]), strict=True
    ):
        np.testing.assert_array_equal(value, [expected, math.nan])


def test_averages_that_hold_a_missing_sample_are_missing():
    series = [1.0, 3.0, math.nan, 7.0, 9.0, 11.0]
    np.testing.assert_array_equal(coarse_grain(series, 2, nan_policy="omit"), [2, math.nan, 10])
    np.testing.assert_array_equal(coarse_grain(series, 2, nan_policy="propagate"), [math.nan] * 3)
    walk = with_gaps(np.random.default_rng(6))
    for composition in ("plain", "composite"):
        values = multiscale_entropy(permutation_entropy, walk, scales=3, composition=composition, nan_policy="omit")
        offsets = range(1 if composition == "plain" else 3)
        coarse = [coarse_grain(walk, 3, offset=o, nan_policy="omit") for o in offsets]
        assert values[2] == pytest.approx(np.mean([permutation_entropy(c, nan_policy="omit") for c in coarse]))
    assert np.isnan(multiscale_entropy(permutation_entropy, walk, scales=3, nan_policy="propagate")).all()


@pytest.mark.parametrize("measure", [*ARRAYS, spectral_entropy])
def test_tensors_are_measured_without_a_visit_to_numpy(measure, monkeypatch):
    def leave(*_, **__):
        raise AssertionError("the tensor left its device")

    batch = torch.randn(3, 200, generator=torch.Generator().manual_seed(0))
    expected = measure(batch.double().numpy())
    for way in ("numpy", "cpu", "__array__", "tolist"):
        monkeypatch.setattr(torch.Tensor, way, leave)
    values = measure(batch)
    monkeypatch.undo()
    assert values.dtype == torch.float32
    np.testing.assert_allclose(values.numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize("measure", [*ARRAYS, *PAIRS, *UNBROKEN])
def test_tensors_that_carry_a_gradient_are_measured_where_every_peer_fails(measure):
    series = torch.randn(100, generator=torch.Generator().manual_seed(3), requires_grad=True)
    value = measure(series).detach()
    assert float(value) == pytest.approx(float(measure(series.detach().double().numpy())), rel=1e-4)


@pytest.mark.parametrize("options", [{}, {"segment": 16}])
def test_spectral_entropy_has_a_gradient(options):
    series = torch.randn(2, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: spectral_entropy(x, **options), series)


def test_svd_entropy_has_a_gradient():
    series = torch.randn(2, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: svd_entropy(x, order=4), series)
    # A tone has no power at most frequencies; there the gradient is finite all the same.
    tone = torch.sin(torch.pi / 4 * torch.arange(64, dtype=torch.float64)).requires_grad_()
    spectral_entropy(tone).backward()
    assert bool(torch.isfinite(tone.grad).all())


def test_a_constant_with_gaps_is_a_constant():
    constant = np.where(np.arange(100) % 10 == 3, math.nan, 0.1)
    for measure in (permutation_entropy, dispersion_entropy, sample_entropy, approximate_entropy, fuzzy_entropy):
        assert measure(constant, nan_policy="omit") == 0
    with pytest.raises(ValueError, match="a constant series has no power"):
        spectral_entropy(constant, segment=8, nan_policy="omit")
    # Without a whole window nothing is known of it either.
    sparse = np.where(np.arange(100) % 2 == 0, math.nan, 0.1)
    assert math.isnan(fuzzy_entropy(sparse, nan_policy="omit"))
