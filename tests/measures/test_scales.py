"""The unit of data is arbitrary, also where their squares are beyond the range of floating-point numbers."""

import numpy as np
import pytest
import torch

from isentrope.measures import (
    CovarianceAccumulator,
    coding_rate,
    detrended_fluctuation,
    differential_entropy,
    diffusion_spectral_entropy,
    gaussian_kernel,
    higuchi_dimension,
    hjorth_parameters,
    katz_dimension,
    kl_divergence_from_samples,
    mutual_information,
    neighbour_bandwidth,
    petrosian_dimension,
)

EXPONENTS = [-660, -530, 530, 660]  # 1e-199, 1e-160, 1e160 and 1e199
POINTS = np.random.default_rng(0).normal(size=(60, 4))
WALK = np.cumsum(np.random.default_rng(1).normal(size=300))


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_fractal_companions(exponent):
    series = np.ldexp(WALK, exponent)
    for measure in (petrosian_dimension, katz_dimension, higuchi_dimension, detrended_fluctuation):
        assert float(measure(series)) == pytest.approx(float(measure(WALK)), rel=1e-12), measure.__name__
    found, expected = hjorth_parameters(series), hjorth_parameters(WALK)
    assert float(found.mobility) == pytest.approx(float(expected.mobility), rel=1e-12)
    assert float(found.complexity) == pytest.approx(float(expected.complexity), rel=1e-12)
    # Beyond the range of numbers it is 0 or infinite, as it must.
    with np.errstate(over="ignore"):
        activity = np.ldexp(float(expected.activity), 2 * exponent)
    assert float(found.activity) == pytest.approx(activity, rel=1e-12, abs=1e-300)


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_widths_of_kernels(exponent):
    points = np.ldexp(POINTS, exponent)
    assert neighbour_bandwidth(points) == np.ldexp(neighbour_bandwidth(POINTS), exponent)
    np.testing.assert_allclose(gaussian_kernel(points), gaussian_kernel(POINTS), rtol=1e-12)
    assert float(diffusion_spectral_entropy(points)) == pytest.approx(float(diffusion_spectral_entropy(POINTS)))


@pytest.mark.parametrize("exponent", EXPONENTS)
@pytest.mark.parametrize("metric", ["max", "euclidean"])
def test_distances_in_the_units_given(exponent, metric):
    # Squares of Euclidean distances vanished: of independent columns the information was 6.5 nat.
    options = {"metric": metric, "standardize": False}
    x, y = POINTS[:, :2], POINTS[:, 2:]
    scaled = np.ldexp(x, exponent), np.ldexp(y, exponent)
    assert mutual_information(*scaled, **options) == mutual_information(x, y, **options)
    assert kl_divergence_from_samples(*scaled, **options) == kl_divergence_from_samples(x, y, **options)
    entropy, moved = (differential_entropy(v, method="knn", **options) for v in (x, scaled[0]))
    assert moved == pytest.approx(entropy + 2 * exponent * np.log(2), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_coding_rate_of_large_features(dtype):
    # Far above the distortion it grows by the logarithm of the size for each direction that features span.
    flat = torch.tensor(POINTS @ np.diag([1, 1, 1, 0.0]), dtype=dtype)
    exponents = (40, 100) if dtype == torch.float32 else (40, 660)
    rates = [float(coding_rate(torch.ldexp(flat, torch.tensor(exponent)))) for exponent in exponents]
    assert rates[1] - rates[0] == pytest.approx(3 * np.log(2) * (exponents[1] - exponents[0]), rel=1e-6)
    singular = np.linalg.svd(POINTS[:, :3], compute_uv=False)
    expected = np.sum(np.log(singular * np.sqrt(4 / 60 / 0.5))) + 3 * np.log(2) * exponents[0]
    assert rates[0] == pytest.approx(expected, rel=1e-6)


def test_coding_rate_is_one_function_of_the_distortion():
    # On both sides of the size from which on eigenvalues are taken.
    singular = np.linalg.svd(POINTS, compute_uv=False) ** 2 * 4 / 60
    for distortion in np.geomspace(1e-12, 1, 13):
        features = torch.tensor(POINTS, requires_grad=True)
        rate = coding_rate(features, squared_distortion=distortion)
        assert float(rate.detach()) == pytest.approx(0.5 * np.sum(np.log1p(singular / distortion)), rel=1e-9)
        rate.backward()
        # d/dt R(tZ) at t = 1.
        expected = np.sum(singular / (distortion + singular))
        assert float((features.grad * features).sum().detach()) == pytest.approx(expected, rel=1e-9)


def test_an_accumulator_refuses_what_its_numbers_cannot_hold():
    for size in (1e-200, 1e160):
        with pytest.raises(ValueError, match=r"squares of the values of batch, of a size of .*, are beyond float64"):
            CovarianceAccumulator().add(POINTS * size)
    with pytest.raises(ValueError, match="beyond float32"):
        CovarianceAccumulator("float32").add(POINTS * 1e20)
    accumulator = CovarianceAccumulator()
    accumulator.add(np.ones((5, 3)))
    assert not accumulator.covariance().any()


def test_an_accumulator_keeps_to_one_library():
    accumulator, other = CovarianceAccumulator(), CovarianceAccumulator()
    accumulator.add(POINTS)
    with pytest.raises(TypeError, match="add: batch must be of numpy, as the batches before, got torch"):
        accumulator.add(torch.tensor(POINTS))
    other.add(torch.tensor(POINTS))
    with pytest.raises(TypeError, match="merge: other must be of numpy, as the batches before, got torch"):
        accumulator.merge(other)
    assert accumulator.n == 60
