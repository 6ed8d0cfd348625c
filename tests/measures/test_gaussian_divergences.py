"""Divergences of normal distributions: one-dimensional closed forms, numerical integrals, limits, identities, gradients."""

from functools import partial
from itertools import pairwise
from math import inf, log, sqrt

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.stats import multivariate_normal

from isentrope.measures import (
    gaussian_bhattacharyya_distance,
    gaussian_hellinger_distance,
    gaussian_jeffreys_divergence,
    gaussian_kl_divergence,
    gaussian_renyi_divergence,
    gaussian_wasserstein_distance,
)

ALL = {
    "kl": gaussian_kl_divergence,
    "jeffreys": gaussian_jeffreys_divergence,
    "renyi 0.3": partial(gaussian_renyi_divergence, alpha=0.3),
    "renyi 1.2": partial(gaussian_renyi_divergence, alpha=1.2),
    "bhattacharyya": gaussian_bhattacharyya_distance,
    "hellinger": gaussian_hellinger_distance,
    "wasserstein": gaussian_wasserstein_distance,
}
every = pytest.mark.parametrize("function", ALL.values(), ids=ALL.keys())


def pair(d=3, seed=0):
    """Two normal distributions, neither much wider than the other."""
    r = np.random.default_rng(seed)
    means = r.normal(size=(2, d))
    roots = np.eye(d) + 0.2 * r.normal(size=(2, d, d))
    covariances = roots @ np.swapaxes(roots, 1, 2)
    return means[0], covariances[0], means[1], covariances[1]


def one(mean_p, sd_p, mean_q, sd_q):
    return np.array([mean_p]), np.array([[sd_p**2]]), np.array([mean_q]), np.array([[sd_q**2]])


def density(x, mean, sd):
    return np.exp(-(((x - mean) / sd) ** 2) / 2) / (sd * sqrt(2 * np.pi))


def test_one_dimension_against_integrals():
    given = one(0.3, 1.2, -0.5, 1.5)
    x, step = np.linspace(-30, 30, 20_001, retstep=True)  # sums over a grid are exact to rounding for such integrands
    p, q = density(x, 0.3, 1.2), density(x, -0.5, 1.5)
    for alpha in (0.2, 0.9, 1.1, 1.5):
        expected = log((p**alpha * q ** (1 - alpha)).sum() * step) / (alpha - 1)
        assert float(gaussian_renyi_divergence(*given, alpha=alpha)) == pytest.approx(expected, rel=1e-9)
    assert float(gaussian_kl_divergence(*given)) == pytest.approx((p * np.log(p / q)).sum() * step, rel=1e-9)
    squared_hellinger = ((np.sqrt(p) - np.sqrt(q)) ** 2).sum() * step / 2
    assert float(gaussian_hellinger_distance(*given)) ** 2 == pytest.approx(squared_hellinger, rel=1e-9)
    # The best transport moves each quantile to the same one: x = 0.3 + 1.2 u to -0.5 + 1.5 u.
    transported = ((0.8 - 0.3 * x) ** 2 * density(x, 0, 1)).sum() * step
    assert float(gaussian_wasserstein_distance(*given)) ** 2 == pytest.approx(transported, rel=1e-9)


def test_divergence_is_the_mean_logarithmic_ratio():
    mean_p, covariance_p, mean_q, covariance_q = pair()
    p, q = multivariate_normal(mean_p, covariance_p), multivariate_normal(mean_q, covariance_q)
    ratios = p.logpdf(x := p.rvs(100_000, random_state=0)) - q.logpdf(x)
    expected, error = ratios.mean(), ratios.std() / sqrt(len(ratios))
    assert float(gaussian_kl_divergence(mean_p, covariance_p, mean_q, covariance_q)) == pytest.approx(
        expected, abs=4 * error
    )


def test_the_formulas_with_inverses_and_determinants():
    mean_p, covariance_p, mean_q, covariance_q = given = pair(4, seed=3)
    apart, inverse = mean_p - mean_q, np.linalg.inv
    determinant = np.linalg.det
    kl = np.trace(inverse(covariance_q) @ covariance_p) + apart @ inverse(covariance_q) @ apart - 4
    kl = (kl + log(determinant(covariance_q) / determinant(covariance_p))) / 2
    assert float(gaussian_kl_divergence(*given)) == pytest.approx(kl)
    for alpha in (0.4, 1.05):
        mixed = (1 - alpha) * covariance_p + alpha * covariance_q
        logarithm = log(
            determinant(mixed) / (determinant(covariance_p) ** (1 - alpha) * determinant(covariance_q) ** alpha)
        )
        expected = alpha / 2 * apart @ inverse(mixed) @ apart - logarithm / (2 * (alpha - 1))
        assert float(gaussian_renyi_divergence(*given, alpha=alpha)) == pytest.approx(expected)
    mean = (covariance_p + covariance_q) / 2
    distance = apart @ inverse(mean) @ apart / 8
    distance += log(determinant(mean) / sqrt(determinant(covariance_p) * determinant(covariance_q))) / 2
    assert float(gaussian_bhattacharyya_distance(*given)) == pytest.approx(distance)
    root = sqrtm(covariance_q)
    common = np.trace(sqrtm(root @ covariance_p @ root)).real
    squared = apart @ apart + np.trace(covariance_p) + np.trace(covariance_q) - 2 * common
    assert float(gaussian_wasserstein_distance(*given)) == pytest.approx(sqrt(squared))


def test_orders_of_the_renyi_divergence():
    given = pair()
    values = [
        float(gaussian_renyi_divergence(*given, alpha=alpha)) for alpha in (0, 0.2, 0.7, 1 - 1e-8, 1, 1 + 1e-8, 1.2)
    ]
    assert values[0] == pytest.approx(0, abs=1e-12)
    assert all(later >= earlier - 1e-7 for earlier, later in pairwise(values))
    assert values[4] == float(gaussian_kl_divergence(*given)) == pytest.approx(values[3], rel=1e-6)
    swapped = (given[2], given[3], given[0], given[1])
    # (1 - α) D_α(p‖q) = α D_(1-α)(q‖p)
    left, right = gaussian_renyi_divergence(*given, alpha=0.3), gaussian_renyi_divergence(*swapped, alpha=0.7)
    assert 0.7 * float(left) == pytest.approx(0.3 * float(right))
    both = gaussian_kl_divergence(*given) + gaussian_kl_divergence(*swapped)
    assert float(gaussian_jeffreys_divergence(*given)) == pytest.approx(float(both))


@pytest.mark.filterwarnings("error")
def test_a_distribution_that_is_too_wide_is_infinitely_far():
    wide = one(0.0, 2.0, 0.0, 1.0)
    for alpha in (4 / 3, 2.0):  # from α = 4/3 on, (1 - α) 4 + α <= 0
        assert float(gaussian_renyi_divergence(*wide, alpha=alpha + 1e-9)) == inf
    assert float(gaussian_renyi_divergence(*wide, alpha=1.33)) < inf
    means, covariances = np.zeros((2, 1)), np.array([[[4.0]], [[1.0]]])
    rows = gaussian_renyi_divergence(means, covariances, np.zeros(1), np.eye(1), alpha=2)
    np.testing.assert_array_equal(rows, [inf, 0])


@every
def test_equal_distributions_are_at_zero(function):
    mean, covariance, *_ = pair()
    value = float(function(mean, covariance, mean, covariance))
    # The distances are roots, of squares that are rounded.
    assert value == pytest.approx(0, abs=1e-7 if function in (ALL["hellinger"], ALL["wasserstein"]) else 1e-12)


def test_small_shifts_keep_their_digits():
    _, covariance, *_ = pair()
    shift = np.array([3e-11, 0, 4e-11])
    expected = shift @ np.linalg.solve(covariance, shift)
    zero = np.zeros(3)
    assert float(gaussian_kl_divergence(zero, covariance, shift, covariance)) == pytest.approx(expected / 2, rel=1e-9)


@every
def test_change_of_coordinates(function):
    mean_p, covariance_p, mean_q, covariance_q = given = pair()
    frame, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))
    map_ = frame if function is gaussian_wasserstein_distance else frame * [1.0, 100.0, 0.01]
    moved = (map_ @ mean_p + 7, map_ @ covariance_p @ map_.T, map_ @ mean_q + 7, map_ @ covariance_q @ map_.T)
    moved = tuple((x + x.T) / 2 if x.ndim == 2 else x for x in moved)
    assert float(function(*moved)) == pytest.approx(float(function(*given)), rel=1e-6)


@every
def test_batches_broadcast_and_libraries_agree(function):
    pairs_ = [pair(seed=seed) for seed in range(3)]
    stacked = tuple(np.stack(parts) for parts in zip(*pairs_, strict=True))
    rows = function(*stacked)
    np.testing.assert_allclose(rows, [float(function(*given)) for given in pairs_])
    np.testing.assert_allclose(function(*(torch.tensor(x) for x in stacked)).numpy(), rows)
    single = function(*(torch.tensor(x, dtype=torch.float32) for x in stacked))
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), rows, rtol=1e-4)
    first = [function(*pairs_[0][:2], *given[2:]) for given in pairs_]
    np.testing.assert_allclose(function(*pairs_[0][:2], *stacked[2:]), first)


@every
def test_gradients_pass_gradcheck(function):
    given = [torch.tensor(x).requires_grad_() for x in pair(2)]

    def of_symmetric(mean_p, covariance_p, mean_q, covariance_q):
        return function(mean_p, covariance_p + covariance_p.T, mean_q, covariance_q + covariance_q.T)

    assert torch.autograd.gradcheck(of_symmetric, given)


@every
def test_gradients_at_equal_distributions_are_finite(function):
    given = [x.clone().requires_grad_() for x in (torch.zeros(2), torch.eye(2), torch.zeros(2), torch.eye(2))]
    function(*given).backward()
    assert all(torch.isfinite(x.grad).all() for x in given)


@every
def test_misuse_is_named(function):
    mean, covariance = np.zeros(2), np.eye(2)
    with pytest.raises(
        ValueError, match=r"mean_p must be \[..., d\] for covariance_p \[..., d, d\], got shapes \(3,\)"
    ):
        function(np.zeros(3), covariance, mean, covariance)
    with pytest.raises(ValueError, match="must have the same dimension, got 2 and 1"):
        function(mean, covariance, np.zeros(1), np.eye(1))
    with pytest.raises(ValueError, match="covariance_q must be positive definite"):
        function(mean, covariance, mean, np.array([[1.0, 2.0], [2.0, 1.0]]))
    with pytest.raises(ValueError, match="covariance_p must be symmetric"):
        function(mean, np.array([[1.0, 0.5], [0.0, 1.0]]), mean, covariance)
    with pytest.raises(ValueError, match="mean_q must be finite"):
        function(mean, covariance, np.array([0.0, np.nan]), covariance)
