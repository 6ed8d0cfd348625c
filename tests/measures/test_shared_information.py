"""Information among many variables: tables of distances, closed forms, identities, mixed kinds and errors."""

from math import log, sqrt

import numpy as np
import pytest
from scipy.special import digamma
from scipy.stats import multivariate_normal

from isentrope.measures.discrete_information import discrete_o_information
from isentrope.measures.mutual_information import mutual_information
from isentrope.measures.shared_information import (
    dual_total_correlation,
    o_information,
    s_information,
    total_correlation,
)

ALL = (total_correlation, dual_total_correlation, o_information, s_information)


def equicorrelated(n, d, rho=0.5, seed=0):
    z = np.random.default_rng(seed).normal(size=(n, d + 1))
    return sqrt(1 - rho) * z[:, :d] + sqrt(rho) * z[:, d:]


def gaussian_truth(covariance):
    """Total and dual total correlation of a Gaussian."""
    d = len(covariance)

    def entropy(kept):
        return 0.5 * np.linalg.slogdet(covariance[np.ix_(kept, kept)])[1]

    whole = entropy(range(d))
    without = [entropy([j for j in range(d) if j != i]) for i in range(d)]
    return sum(entropy([i]) for i in range(d)) - whole, sum(without) - (d - 1) * whole


def test_one_radius_serves_every_space():
    x = equicorrelated(90, 3)
    tables = [np.abs(c[:, None] - c[None]) for c in (x / x.std(0)).T]
    joint = np.max(tables, axis=0)
    radius = np.sort(joint, axis=1)[:, 3:4]

    def psi(*kept):
        inside = np.all([tables[i] < radius for i in kept], axis=0)
        return digamma(inside.sum(1))  # the sample itself stands for the +1

    single = sum(psi(i) for i in range(3))
    pairs = psi(0, 1) + psi(0, 2) + psi(1, 2)
    expected = {
        total_correlation: digamma(3) + 2 * digamma(90) - single,
        dual_total_correlation: 2 * digamma(3) + digamma(90) - pairs,
        o_information: -digamma(3) + digamma(90) - single + pairs,
        s_information: 3 * digamma(3) + 3 * digamma(90) - single - pairs,
    }
    for measure, values in expected.items():
        estimate = measure(x, k=3, local=True)
        np.testing.assert_allclose(estimate.local, values, rtol=1e-11, atol=1e-12, err_msg=measure.__name__)


def test_the_second_estimator_of_kraskov_has_a_radius_for_each_variable():
    x = equicorrelated(80, 3)
    tables = [np.abs(c[:, None] - c[None]) for c in (x / x.std(0)).T]
    nearest = np.argsort(np.max(tables, axis=0), axis=1)[:, 1:5]
    counts = [(t <= np.take_along_axis(t, nearest, 1).max(1, keepdims=True)).sum(1) - 1 for t in tables]
    expected = digamma(4) - 2 / 4 + 2 * digamma(80) - sum(digamma(c) for c in counts)
    np.testing.assert_allclose(total_correlation(x, method="ksg2", local=True).local, expected, rtol=1e-11)


@pytest.mark.parametrize(
    ("d", "total", "dual", "omega"), [(3, 0.346574, 0.261624, 0.084950), (4, None, None, 0.223144)]
)
def test_closed_forms_of_equal_correlations(d, total, dual, omega):
    exact = gaussian_truth(0.5 * np.eye(d) + 0.5)
    assert exact[0] - exact[1] == pytest.approx(omega, abs=1e-6)
    if total is not None:
        assert exact == pytest.approx((total, dual), abs=1e-6)
    x = equicorrelated(4000, d)
    truths = (exact[0], exact[1], exact[0] - exact[1], exact[0] + exact[1])
    for measure, truth in zip(ALL, truths, strict=True):
        for method, bias in (("gaussian", 0.0), ("gaussian_copula", 0.002), ("ksg", 0.03)):
            estimate = measure(x, method=method)
            assert abs(estimate - truth) < 4 * estimate.stderr + bias, (measure.__name__, method)


def test_gaussian_estimates_are_unbiased_with_few_samples():
    exact = gaussian_truth(0.5 * np.eye(3) + 0.5)
    samples = [equicorrelated(12, 3, seed=seed) for seed in range(400)]
    for measure, truth in ((total_correlation, exact[0]), (o_information, exact[0] - exact[1])):
        found = [measure(x, method="gaussian") for x in samples]
        assert abs(np.mean(found) - truth) < 4 * np.std(found) / sqrt(400)


def test_local_values_of_gaussian_laws_are_logarithms_of_ratios_of_densities():
    x = equicorrelated(60, 3) @ np.array([[1, 0, 0], [0.4, 2, 0], [0, -1, 1]])
    covariance = np.cov(x.T)

    def density(*kept):
        return multivariate_normal(x.mean(0)[list(kept)], covariance[np.ix_(kept, kept)]).logpdf(x[:, list(kept)])

    whole = density(0, 1, 2)
    total = whole - density(0) - density(1) - density(2)
    dual = 2 * whole - density(0, 1) - density(0, 2) - density(1, 2)
    expected = dict(zip(ALL, (total, dual, total - dual, total + dual), strict=True))
    for measure, values in expected.items():
        estimate = measure(x, method="gaussian", local=True)
        # All are shifted by the correction of the bias.
        shift = estimate.local - values
        np.testing.assert_allclose(shift, shift.mean(), atol=1e-9, err_msg=measure.__name__)
        assert estimate == pytest.approx(estimate.local.mean(), abs=1e-12)


def test_two_variables_share_their_mutual_information():
    x = equicorrelated(300, 2)
    information = mutual_information(*x.T)
    assert total_correlation(x) == pytest.approx(information, abs=1e-12)
    assert dual_total_correlation(x) == pytest.approx(information, abs=1e-12)
    assert s_information(x) == pytest.approx(2 * information, abs=1e-12)
    for method in ("ksg", "gaussian"):
        assert o_information(x, method=method) == 0


def test_vectors_are_variables_too():
    x = equicorrelated(300, 4)
    together = [x[:, :2], x[:, 2:]]
    assert total_correlation(together) == pytest.approx(mutual_information(*together), abs=1e-12)
    # Chain rule: the total of four is the total of the two pairs and of each pair, exactly so for Gaussian laws.
    split = sum(total_correlation(part, method="gaussian") for part in together)
    whole = total_correlation(x, method="gaussian")
    assert whole == pytest.approx(total_correlation(together, method="gaussian") + split, abs=1e-10)


def test_independent_variables_of_small_scale_share_nothing_unlike_hois():
    # hoi's entropies end at 0 from below, and subtracted ones carry a bias of each dimension.
    x = np.random.default_rng(1).normal(size=(1000, 3)) * [1e-3, 1e-6, 10.0]
    for measure in ALL:
        estimate = measure(x)
        assert abs(estimate) < 3 * estimate.stderr + 0.02, measure.__name__


def test_symbols_are_counted():
    bits = np.random.default_rng(2).integers(0, 2, (2, 400))
    parity = [bits[0], bits[1], bits[0] ^ bits[1]]
    estimate = o_information(parity, base=2)
    assert estimate == discrete_o_information(parity, base=2)
    assert abs(estimate - -1) < 0.02
    assert estimate.note.startswith("0, 1, 2 discrete (2 integers)")
    assert abs(total_correlation([bits[0]] * 3, method="plugin", base=2) - 2) < 0.02


def test_mixed_kinds():
    # The sign of x, and x: redundancy of the sign, and of nothing more.
    rng = np.random.default_rng(3)
    x = rng.normal(size=2000)
    copies = [x > 0, np.where(x > 0, "up", "down"), x]
    assert o_information(copies) == pytest.approx(log(2), abs=0.02)
    assert total_correlation(copies) == pytest.approx(2 * log(2), abs=0.02)
    # Parity hidden in the sign of a number: synergy of one bit.
    bits = rng.integers(0, 2, (2, 2000))
    signed = np.abs(x) * (1 - 2.0 * (bits[0] ^ bits[1]))
    assert o_information([bits[0], bits[1], signed]) == pytest.approx(-log(2), abs=0.03)


def test_a_constant_takes_no_part():
    x = equicorrelated(200, 3)
    with_constant = np.c_[x, np.full(200, 4.0)]
    for measure in ALL:
        assert measure(with_constant) == pytest.approx(measure(x), abs=1e-12)
    alone = total_correlation(with_constant[:, 2:])
    assert alone == 0
    assert alone.note == "1 is constant"


def test_shuffling_tells_dependence():
    assert total_correlation(equicorrelated(120, 3)).test(39, rng=0).pvalue == 1 / 40
    assert dual_total_correlation(equicorrelated(120, 3, 0.0)).test(39, rng=0).pvalue > 0.05
    with pytest.raises(ValueError, match="no shuffled null"):
        o_information(equicorrelated(120, 3)).test(9)


def test_frames_name_their_columns():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(equicorrelated(100, 2), columns=["a", "b"])
    frame["c"] = ["u", "v"] * 50
    assert total_correlation(frame).note.startswith("a, b continuous and c discrete (labels)")


def test_wrong_input_is_explained():
    x = equicorrelated(50, 3)
    with pytest.raises(ValueError, match="at least 2 variables are needed"):
        total_correlation(x[:, :1])
    with pytest.raises(ValueError, match="must be an array"):
        o_information(x[:, 0])
    with pytest.raises(ValueError, match="method must be auto or one of ksg, gaussian, gaussian_copula"):
        o_information(x, method="ksg2")
    with pytest.raises(ValueError, match="1 has 49"):
        total_correlation([x[:, 0], x[1:, 1]])
    with pytest.raises(ValueError, match="1 of 50 samples of variable 1 are NaN"):
        total_correlation([x[:, 0], np.where(np.arange(50) == 3, np.nan, x[:, 1])])


@pytest.mark.slow
@pytest.mark.parametrize("measure", ALL)
@pytest.mark.parametrize("rho", [0.0, 0.5])
def test_the_standard_error_is_the_spread(measure, rho):
    # Gaussian errors are wide where variables are independent; those of neighbours are up to a fifth too small there.
    for method, low, high in (("gaussian", 0.85, 1.15 if rho else 1.7), ("ksg", 0.7, 1.2)):
        found = [measure(equicorrelated(800, 3, rho, seed), method=method, n_jobs=1) for seed in range(150)]
        told = sqrt(np.mean([one.stderr**2 for one in found]))
        assert low < told / np.std(found, ddof=1) < high, method
