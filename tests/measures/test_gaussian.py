"""Log-determinants, scores and log-densities under Gaussian laws."""

from math import log, pi, sqrt

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from isentrope.measures.gaussian import gaussian_log_density, gaussian_scores, log_determinant_correction


@pytest.mark.parametrize(("n", "d"), [(5, 1), (8, 3), (40, 2)])
def test_log_determinants_are_unbiased(n, d):
    rng = np.random.default_rng(20)
    logs = np.linalg.slogdet([np.atleast_2d(np.cov(rng.normal(size=(d, n)))) for _ in range(4000)])[1]
    error = np.std(logs) / sqrt(4000)
    assert abs(np.mean(logs) + log_determinant_correction(n, d)) < 4 * error
    assert log_determinant_correction(n, d) > 3 * error


def test_the_log_density_is_scipys():
    samples = np.random.default_rng(21).normal(size=(50, 3)) @ np.array([[1, 2, 0], [0, 0.1, 0], [0, 1, 50]])
    expected = multivariate_normal(samples.mean(0), np.cov(samples.T)).logpdf(samples)
    np.testing.assert_allclose(gaussian_log_density(samples)[0], expected, rtol=1e-9)


def test_its_corrected_mean_is_an_unbiased_entropy():
    rng = np.random.default_rng(22)
    mixing = np.array([[1.0, 0.5], [0.0, 2.0]])
    found = [gaussian_log_density(rng.normal(size=(6, 2)) @ mixing) for _ in range(4000)]
    entropies = [excess - density.mean() for density, excess in found]
    truth = log(2 * pi) + 1 + log(2.0)
    assert abs(np.mean(entropies) - truth) < 4 * np.std(entropies) / sqrt(4000)


def test_scores_are_those_of_ranks_whatever_the_margins():
    x = np.random.default_rng(23).normal(size=(100, 2))
    np.testing.assert_array_equal(gaussian_scores(x), gaussian_scores(np.exp(3 * x)))
    np.testing.assert_allclose(gaussian_scores(x), -gaussian_scores(-x), atol=1e-12)
    tied = gaussian_scores(np.array([[1.0], [1.0], [2.0], [2.0]])).ravel()
    assert tied[0] == tied[1] == pytest.approx(-tied[2])


def test_no_variables_have_the_density_one():
    density, excess = gaussian_log_density(np.empty((5, 0)))
    assert not density.any()
    assert excess == 0


def test_wrong_samples_are_explained():
    x = np.random.default_rng(0).normal(size=(20, 1))
    with pytest.raises(ValueError, match="a variable is constant"):
        gaussian_log_density(np.ones((20, 1)))
    with pytest.raises(ValueError, match="linearly dependent"):
        gaussian_log_density(np.concatenate([x, 2 * x], axis=1))
    # Off by some tens of roundings, which 500 samples add up to.
    long = np.random.default_rng(1).normal(size=(500, 2))
    with pytest.raises(ValueError, match="linearly dependent"):
        gaussian_log_density(long @ np.array([[1.0, 1.0], [0.0, 1e-14]]))
    with pytest.raises(ValueError, match="of 3 variables takes at least 5 samples"):
        gaussian_log_density(np.zeros((4, 3)))
