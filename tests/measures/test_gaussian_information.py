"""Entropy and information of Gaussian laws: integrals, published values, identities, samples, units, gradients and errors."""

from math import e, inf, log, pi, sqrt

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_t

from isentrope.measures import (
    conditional_mutual_information,
    gaussian_entropy,
    gaussian_kl_divergence,
    gaussian_mutual_information,
    gaussian_shared_information,
    higher_order_information,
    student_mutual_information,
)


def covariance_of(d, seed=0):
    root = np.random.default_rng(seed).normal(size=(d, d + 2))
    return root @ root.T


@pytest.mark.parametrize("alpha", [0.3, 0.999, 1, 1 + 1e-9, 2, 5.5])
def test_entropies_are_integrals_of_powers_of_the_density(alpha):
    x, step = np.linspace(-60, 60, 40_001, retstep=True)
    density = np.exp(-(x**2) / (2 * 1.7**2)) / (1.7 * sqrt(2 * pi))
    if abs(alpha - 1) < 1e-6:
        expected = -np.sum(density * np.log(np.maximum(density, 1e-300))) * step
    else:
        expected = log(np.sum(density**alpha) * step) / (1 - alpha)
    assert float(gaussian_entropy([[1.7**2]], alpha=alpha)) == pytest.approx(expected, rel=1e-8)


def test_entropies_of_several_variables():
    covariance = covariance_of(3)
    volume = np.linalg.slogdet(2 * pi * covariance)[1] / 2
    assert float(gaussian_entropy(covariance)) == pytest.approx(volume + 1.5)
    assert float(gaussian_entropy(covariance, base=2)) == pytest.approx((volume + 1.5) / log(2))
    assert float(gaussian_entropy(covariance, alpha=2)) == pytest.approx(volume + 1.5 * log(2))
    # The largest density is that of the mean.
    assert float(gaussian_entropy(covariance, alpha=inf)) == pytest.approx(volume)
    mixing = np.array([[2.0, 1, 0], [0, -1, 3], [0, 0, 0.1]])
    moved = mixing @ covariance @ mixing.T
    assert float(gaussian_entropy(moved) - gaussian_entropy(covariance)) == pytest.approx(log(0.2))


def test_no_unit_is_too_small_or_too_large():
    correlation = np.array([[1.0, 0.6, 0.2], [0.6, 1.0, 0.1], [0.2, 0.1, 1.0]])
    unit = np.array([1e-150, 1.0, 1e150])
    covariance = correlation * np.outer(unit, unit)
    plain = gaussian_shared_information(correlation)
    assert tuple(map(float, gaussian_shared_information(covariance))) == pytest.approx(tuple(map(float, plain)))
    assert float(gaussian_entropy(covariance)) == pytest.approx(float(gaussian_entropy(correlation)))
    assert float(gaussian_mutual_information(covariance, x=0, y=1)) == pytest.approx(-log(1 - 0.36) / 2)


@pytest.mark.parametrize(("d", "truth"), [(2, 0.293893), (3, 0.413339), (5, 0.592812), (25, 1.292184), (50, 1.624265)])
def test_dense_correlations(d, truth):
    found = gaussian_mutual_information(0.5 * np.eye(2 * d) + 0.5, x=range(d), y=range(d, 2 * d))
    assert float(found) == pytest.approx(truth, abs=1e-6)


def test_equal_correlations():
    three, four = (gaussian_shared_information(0.5 * np.eye(d) + 0.5) for d in (3, 4))
    assert (*map(float, three), float(three.o_information)) == pytest.approx((0.346574, 0.261624, 0.084950), abs=1e-6)
    assert float(four.o_information) == pytest.approx(0.223144, abs=1e-6)
    assert float(three.s_information) == pytest.approx(0.346574 + 0.261624, abs=1e-6)


@pytest.mark.parametrize(
    ("m", "n", "degrees", "truth"),
    [
        (1, 1, 1, 0.224171),
        (2, 2, 1, 0.431946),
        (2, 2, 2, 0.193147),
        (3, 3, 2, 0.290922),
        (3, 3, 3, 0.178712),
        (5, 5, 2, 0.448151),
        (5, 5, 3, 0.298544),
    ],
)
def test_uncorrelated_student_laws(m, n, degrees, truth):
    options = {"degrees_of_freedom": degrees, "x": range(m), "y": range(m, m + n)}
    assert float(student_mutual_information(np.eye(m + n), **options)) == pytest.approx(truth, abs=1e-6)


def test_student_laws_are_integrals_of_their_densities_and_go_to_gaussian_ones():
    dispersion = np.array([[1.0, 0.5, 0.3], [0.5, 2.0, 0.1], [0.3, 0.1, 1.0]])
    options = {"x": 0, "y": (1, 2)}
    whole, first, second = (
        multivariate_t(np.zeros(len(kept)), dispersion[np.ix_(kept, kept)], df=3) for kept in ([0, 1, 2], [0], [1, 2])
    )
    samples = whole.rvs(100_000, random_state=0)
    ratios = whole.logpdf(samples) - first.logpdf(samples[:, :1]) - second.logpdf(samples[:, 1:])
    found = float(student_mutual_information(dispersion, degrees_of_freedom=3, **options))
    assert abs(ratios.mean() - found) < 4 * ratios.std() / sqrt(len(ratios))
    many = student_mutual_information(dispersion, degrees_of_freedom=1e6, **options)
    assert float(many) == pytest.approx(float(gaussian_mutual_information(dispersion, **options)), abs=1e-5)
    with pytest.raises(ValueError, match="degrees_of_freedom must be positive and finite, got 0"):
        student_mutual_information(dispersion, degrees_of_freedom=0, **options)
    with pytest.raises(ValueError, match="dispersion must be positive definite"):
        student_mutual_information(np.ones((2, 2)), degrees_of_freedom=2, x=0, y=1)


def test_transfer_entropy_of_a_driven_series():
    # y_t = a y_{t-1} + b x_{t-1} + s e with white x: the covariance of (y_t, y_{t-1}, x_{t-1}), and ln(1 + b^2/s^2) / 2.
    a, b, s = 0.5, 0.7, 1.2
    variance = (b**2 + s**2) / (1 - a**2)
    covariance = np.array([[variance, a * variance, b], [a * variance, variance, 0], [b, 0, 1]])
    found = gaussian_mutual_information(covariance, x=2, y=0, given=1)
    assert float(found) == pytest.approx(log(1 + b**2 / s**2) / 2)


def test_identities():
    covariance = covariance_of(5)
    # A chain x -> z -> y, in which nothing is left where z is known.
    chain = np.array([[1, 0.48, 0.8], [0.48, 1, 0.6], [0.8, 0.6, 1]])
    assert float(gaussian_mutual_information(chain, x=0, y=1, given=2)) == pytest.approx(0, abs=1e-12)
    whole = gaussian_mutual_information(covariance, x=0, y=(1, 2, 4))
    first = gaussian_mutual_information(covariance, x=0, y=2)
    assert float(whole) == pytest.approx(float(first + gaussian_mutual_information(covariance, x=0, y=(1, 4), given=2)))
    # The total correlation is the divergence from the law of independent variables.
    zero = np.zeros(5)
    total = gaussian_kl_divergence(zero, covariance, zero, np.diag(np.diag(covariance)))
    assert float(gaussian_shared_information(covariance).total_correlation) == pytest.approx(float(total))
    # Where others are known, the law of the rest has the covariance that Schur's complement gives.
    known = covariance[np.ix_([3, 4], [3, 4])]
    across = covariance[:3, 3:]
    rest = covariance[:3, :3] - across @ np.linalg.solve(known, across.T)
    expected = gaussian_shared_information(rest)
    assert tuple(map(float, gaussian_shared_information(covariance, given=(3, -1)))) == pytest.approx(
        tuple(map(float, expected))
    )
    found = gaussian_shared_information(covariance, variables=[(0, 1), (2, 3, 4)])
    information = float(gaussian_mutual_information(covariance, x=(0, 1), y=(2, 3, 4)))
    assert tuple(map(float, found)) == pytest.approx((information, information))


def test_estimates_from_samples_approach_it():
    covariance = covariance_of(4, seed=1)
    samples = np.random.default_rng(2).multivariate_normal(np.zeros(4), covariance, 40_000)
    found = conditional_mutual_information(samples[:, 0], samples[:, 1], samples[:, 2:], method="gaussian")
    assert abs(found - float(gaussian_mutual_information(covariance, x=0, y=1, given=(2, 3)))) < 4 * found.stderr
    # Of the sample covariance both are the same, but for the correction of the bias.
    many = higher_order_information(samples, orders=4, method="gaussian")
    plain = gaussian_shared_information(np.cov(samples.T))
    assert float(plain.total_correlation) == pytest.approx(float(many.total_correlation[0]), abs=1e-3)
    assert float(plain.o_information) == pytest.approx(float(many.o_information[0]), abs=1e-3)


def test_batches_libraries_precision_and_gradients():
    covariances = np.stack([covariance_of(3, seed) for seed in range(4)])
    for function in (
        gaussian_entropy,
        lambda c: gaussian_entropy(c, alpha=3),
        lambda c: gaussian_mutual_information(c, x=0, y=1, given=2),
        lambda c: gaussian_shared_information(c).o_information,
    ):
        rows = function(covariances)
        np.testing.assert_allclose(rows, [float(function(one)) for one in covariances], rtol=1e-12)
        np.testing.assert_allclose(function(torch.tensor(covariances)).numpy(), rows, rtol=1e-12)
        assert function(torch.tensor(covariances).float()).dtype == torch.float32
        root = torch.tensor(np.random.default_rng(3).normal(size=(3, 5)), requires_grad=True)
        assert torch.autograd.gradcheck(lambda r, f=function: f(r @ r.T), root)
    found = gaussian_shared_information(np.array(covariances[0]).tolist())
    assert float(found.total_correlation) == pytest.approx(
        float(gaussian_shared_information(covariances).total_correlation[0])
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: gaussian_entropy(c[:1]), "must be square matrices"),
        (lambda c: gaussian_entropy(-c + 3), "covariance must be positive definite"),
        (lambda c: gaussian_entropy(np.ones((2, 2))), "covariance must be positive definite"),
        (lambda c: gaussian_entropy(c, alpha=0), "alpha must be positive"),
        (lambda c: gaussian_entropy(c, base=1), "base must be positive"),
        (lambda c: gaussian_mutual_information(c, x=0, y=2), "y names 2, but there are 2 variables of covariance"),
        (lambda c: gaussian_mutual_information(c, x=0, y=(0, 1)), "0 is named twice, by x and y"),
        (lambda c: gaussian_shared_information(c, given=0), "at least 2 variables are needed, got 1"),
    ],
)
def test_misuse_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.array([[e, 0.5], [0.5, 1.0]]))
