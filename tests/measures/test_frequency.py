import math

import numpy as np
import pytest
import scipy.signal
import torch

from isentrope.measures.frequency import spectral_entropy, svd_entropy


def shannon(weights):
    shares = np.asarray(weights) / np.sum(weights)
    return -sum(p * math.log(p) for p in shares if p > 0)


@pytest.mark.parametrize("n", [400, 401])
@pytest.mark.parametrize("segment", [None, 64, 65])
def test_spectra_are_those_of_scipy_without_frequency_zero(n, segment):
    series = np.cumsum(np.random.default_rng(0).normal(size=n)) + 3
    if segment is None:
        _, power = scipy.signal.periodogram(series)
    else:
        _, power = scipy.signal.welch(series, nperseg=segment)
    assert spectral_entropy(series, segment=segment) == pytest.approx(shannon(power[1:]), rel=1e-9)
    assert spectral_entropy(series, segment=segment, normalize=True) == pytest.approx(
        shannon(power[1:]) / math.log(len(power) - 1), rel=1e-9
    )


def test_tones_share_their_power():
    t = np.arange(1000)
    for number in (1, 2, 8):
        tones = sum(np.sin(2 * np.pi * 0.05 * k * t + k) for k in range(1, number + 1))
        assert spectral_entropy(tones, base=2) == pytest.approx(math.log2(number), abs=1e-9)


def test_white_noise_has_the_entropy_of_exponential_powers():
    # Powers of the periodogram are exponential: the mean of -(s/mean) ln(s/mean) is gamma - 1 = -0.423 nat.
    noise = np.random.default_rng(1).normal(size=200_000)
    assert spectral_entropy(noise) - math.log(100_000) == pytest.approx(np.euler_gamma - 1, abs=0.01)
    assert spectral_entropy(noise, segment=65, normalize=True) == pytest.approx(1, abs=1e-3)
    # In segments of even length the highest frequency stands for one, the 31 others for two each.
    law = np.append(np.full(31, 2), 1) / 63
    assert spectral_entropy(noise, segment=64) == pytest.approx(shannon(law), abs=1e-3)


def test_singular_values_of_the_windows():
    series = np.random.default_rng(2).normal(size=60)
    for order, delay in ((3, 1), (4, 2)):
        windows = np.array([series[t : t + (order - 1) * delay + 1 : delay] for t in range(60 - (order - 1) * delay)])
        # The squares of singular values are the eigenvalues of the Gram matrix.
        singular = np.sqrt(np.linalg.eigvalsh(windows.T @ windows))
        assert svd_entropy(series, order=order, delay=delay) == pytest.approx(shannon(singular))
        assert svd_entropy(series, order=order, delay=delay, normalize=True) == pytest.approx(
            shannon(singular) / math.log(order)
        )


def test_directions_of_simple_series():
    assert svd_entropy(np.full(50, 3.0), order=5) == pytest.approx(0, abs=1e-12)
    assert svd_entropy(0.9 ** np.arange(50), order=5) == pytest.approx(0, abs=1e-12)  # windows are multiples of one
    t = np.arange(4000)
    assert svd_entropy(np.sin(np.pi / 2 * t), order=2, base=2) == pytest.approx(1, abs=1e-6)  # sine and cosine alike
    noise = np.random.default_rng(3).normal(size=100_000)
    assert svd_entropy(noise, order=5, normalize=True) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("measure", [spectral_entropy, svd_entropy])
def test_batches_axes_and_tensors_agree_with_single_series(measure):
    batch = np.random.default_rng(4).normal(size=(2, 100, 3))
    values = measure(batch, axis=1)
    assert values.shape == (2, 3)
    assert values[1, 2] == pytest.approx(measure(batch[1, :, 2].tolist()))
    assert measure(1e-6 * batch[1, :, 2], base=2) * math.log(2) == pytest.approx(values[1, 2])
    tensor = measure(torch.tensor(batch, dtype=torch.float32), axis=1)
    assert tensor.dtype == torch.float32
    np.testing.assert_allclose(tensor.numpy(), values, rtol=1e-4)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="a constant series has no power"):
        spectral_entropy([[1.0, 2.0, 1.0, 2.0], [3.0, 3.0, 3.0, 3.0]])
    with pytest.raises(ValueError, match="at least 64 samples for these settings, got 50"):
        spectral_entropy(np.arange(50), segment=64)
    with pytest.raises(ValueError, match="0 throughout"):
        svd_entropy(np.zeros(50))
    with pytest.raises(ValueError, match="at least 7 samples for these settings, got 6"):
        svd_entropy(np.arange(6), order=3, delay=2)
