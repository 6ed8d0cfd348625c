"""Differential entropy: tables of distances, closed forms, laws, ties and errors."""

from math import lgamma, log, pi, sqrt

import numpy as np
import pytest
from scipy import stats
from scipy.special import digamma

from isentrope.measures import kl_divergence_from_samples, mutual_information, mutual_information_matrix
from isentrope.measures.continuous import differential_entropy

PAIRED = np.random.default_rng(0).normal(size=(300, 2))


@pytest.mark.parametrize("euclidean", [False, True])
@pytest.mark.parametrize(("d", "k"), [(1, 1), (2, 4), (4, 3)])
def test_kozachenko_and_leonenko_is_the_table_of_distances(d, k, euclidean):
    x = np.random.default_rng(0).normal(size=(90, d)) * 3.0 ** np.arange(d)

    def expected(points):
        offset = np.abs(points[:, None] - points[None])
        table = np.sqrt((offset**2).sum(-1)) if euclidean else offset.max(-1)
        radius = np.sort(table, axis=1)[:, k]
        volume = pi ** (d / 2) / np.exp(lgamma(1 + d / 2)) if euclidean else 2.0**d
        return digamma(90) - digamma(k) + log(volume) + d * np.log(radius)

    metric = "euclidean" if euclidean else "max"
    plain = differential_entropy(x, method="knn", k=k, metric=metric, standardize=False, local=True)
    np.testing.assert_allclose(plain.local, expected(x), rtol=1e-12)
    assert plain == pytest.approx(expected(x).mean(), rel=1e-12)
    scaled = differential_entropy(x, method="knn", k=k, metric=metric, local=True)
    np.testing.assert_allclose(scaled.local, expected(x / x.std(0)) + np.log(x.std(0)).sum(), rtol=1e-11)


def test_the_kernel_estimate_leaves_each_sample_out():
    x = np.random.default_rng(1).normal(size=(60, 2)) @ np.array([[1.0, 0.5], [0.0, 2.0]])
    covariance = np.cov(x.T) * 60 ** (-2 / 6)
    density = [
        np.mean([stats.multivariate_normal(x[j], covariance).pdf(x[i]) for j in range(60) if j != i]) for i in range(60)
    ]
    estimate = differential_entropy(x, method="kde", local=True)
    np.testing.assert_allclose(estimate.local, -np.log(density), rtol=1e-10)
    assert estimate == pytest.approx(-np.log(density).mean(), rel=1e-10)


LAWS = {
    "uniform": (lambda g, n: g.uniform(2, 5, n), log(3)),
    "normal": (lambda g, n: g.normal(1, 2, n), 0.5 * log(2 * pi * np.e * 4)),
    "exponential": (lambda g, n: g.exponential(0.5, n), 1 - log(2)),
    "laplace": (lambda g, n: g.laplace(0, 3, n), 1 + log(6)),
    "logistic": (lambda g, n: g.logistic(0, 2, n), 2 + log(2)),
    "cauchy": (lambda g, n: g.standard_cauchy(n), log(4 * pi)),
    "gumbel": (lambda g, n: g.gumbel(0, 2, n), 1 + np.euler_gamma + log(2)),
    "gamma": (lambda g, n: g.gamma(3, 2, n), 3 + log(2) + lgamma(3) - 2 * digamma(3)),
    "beta": (
        lambda g, n: g.beta(2, 3, n),
        lgamma(2) + lgamma(3) - lgamma(5) - digamma(2) - 2 * digamma(3) + 3 * digamma(5),
    ),
    "student": (
        lambda g, n: g.standard_t(5, n),
        3 * (digamma(3) - digamma(2.5)) + log(sqrt(5)) + lgamma(2.5) + lgamma(0.5) - lgamma(3),
    ),
}


@pytest.mark.parametrize("law", LAWS)
def test_closed_forms_in_one_dimension(law):
    draw, truth = LAWS[law]
    samples = draw(np.random.default_rng(2), 4000)
    found = differential_entropy(samples, method="knn")
    assert abs(found - truth) < 4 * found.stderr
    if law != "cauchy":  # whose ends no spacing and no common width resolves
        assert abs(differential_entropy(samples) - truth) < 4 * found.stderr
        assert abs(differential_entropy(samples[:1000], method="kde") - truth) < 0.15


def test_closed_forms_in_several_dimensions():
    rng = np.random.default_rng(3)
    alpha = np.array([2.0, 3.0, 4.0])
    truth = np.sum([lgamma(a) for a in alpha]) - lgamma(9) + 6 * digamma(9) - np.sum((alpha - 1) * digamma(alpha))
    found = differential_entropy(rng.dirichlet(alpha, 4000)[:, :2])
    assert found.method == "knn"
    assert abs(found - truth) < 4 * found.stderr + 0.01
    covariance = np.array([[1.0, 0.6, -0.2], [0.6, 2.0, 0.1], [-0.2, 0.1, 0.5]])
    samples = rng.multivariate_normal(np.zeros(3), covariance, 3000)
    truth = 1.5 * log(2 * pi * np.e) + 0.5 * np.linalg.slogdet(covariance)[1]
    for method, bias in (("knn", 0.02), ("gaussian", 0.0), ("gaussian_copula", 0.02), ("kde", 0.15)):
        found = differential_entropy(samples[:1000], method=method)
        assert abs(found - truth) < 4 * found.stderr + bias, method


def test_gamma_and_exponential_variables():
    # x of the law Gamma(s) of rate t, y exponential of rate x: h = 1 + s - s psi(s) + ln Gamma(s), and of their logarithms,
    # less the means psi(s) - ln t of ln x and -gamma - E ln x of ln y, 1 + s - s psi(s) + ln Gamma(s) + gamma.
    shape, rng = 3.4, np.random.default_rng(19)
    x = rng.gamma(shape, 1 / 1.2, 5000)
    y = rng.exponential(1 / x)
    truth = 1 + shape - shape * digamma(shape) + lgamma(shape)
    for samples, expected in ((np.c_[x, y], truth), (np.log(np.c_[x, y]), truth + np.euler_gamma)):
        found = differential_entropy(samples)
        assert abs(found - expected) < 4 * found.stderr + 0.01


@pytest.mark.parametrize("method", ["van_es", "correa"])
def test_other_spacings_are_scipys(method):
    samples = np.random.default_rng(20).gamma(2, size=40)
    expected = stats.differential_entropy(samples, window_length=6, method=method.replace("_", " "))
    assert differential_entropy(samples, method=method) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("n", "method"), [(10, "van_es"), (11, "ebrahimi"), (5000, "ebrahimi")])
def test_few_values_take_van_es(n, method):
    samples = np.random.default_rng(21).normal(size=n)
    assert differential_entropy(samples) == differential_entropy(samples, method=method)
    assert differential_entropy(samples).method == method


def test_the_copula_keeps_the_margins():
    # Two exponential margins under a Gaussian copula: 2 + ln(1 - rho^2) / 2.
    z = np.random.default_rng(4).multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], 3000)
    samples = -np.log(stats.norm.sf(z))
    found = differential_entropy(samples, method="gaussian_copula", local=True)
    assert abs(found - (2 + 0.5 * log(1 - 0.64))) < 4 * found.stderr
    assert found == pytest.approx(found.local.mean(), abs=1e-12)


def test_the_gaussian_estimate_is_unbiased_and_its_error_the_spread():
    rng = np.random.default_rng(5)
    found = [differential_entropy(rng.normal(size=(8, 2)), method="gaussian") for _ in range(2000)]
    spread = np.std(found)
    assert abs(np.mean(found) - log(2 * pi * np.e)) < 4 * spread / sqrt(2000)
    assert np.sqrt(np.mean([one.stderr**2 for one in found])) == pytest.approx(spread, rel=0.06)
    # Of another law too: that of Gaussian samples is half the spread for exponential ones, and 1.6 times it for uniform ones.
    for draw in (rng.exponential, rng.uniform):
        found = [differential_entropy(draw(size=400), method="gaussian") for _ in range(600)]
        told = np.sqrt(np.mean([one.stderr**2 for one in found]))
        assert told == pytest.approx(np.std(found), rel=0.12)


@pytest.mark.parametrize(
    ("n", "bias"), [(50, (-0.167, -0.176, -0.065, -0.071)), (200, (-0.048, -0.126, -0.002, -0.001))]
)
def test_the_bias_of_spacings_is_that_of_the_literature(n, bias):
    rng = np.random.default_rng(6)
    samples = rng.normal(size=(300, n))
    truth = 0.5 * log(2 * pi * np.e)
    for method, expected in zip(("vasicek", "van_es", "ebrahimi", "correa"), bias, strict=True):
        found = [differential_entropy(row, method=method) for row in samples]
        assert abs(np.mean(found) - truth - expected) < 4 * np.std(found) / sqrt(300) + 0.002, method


@pytest.mark.parametrize("method", ["ebrahimi", "vasicek"])
@pytest.mark.parametrize("n", [12, 60, 500])
def test_local_values_of_spacings_have_scipys_mean(method, n):
    samples = np.random.default_rng(7).exponential(size=n)
    expected = stats.differential_entropy(samples, method=method)  # of the same windows
    found = differential_entropy(samples, method=method, local=True)
    assert found == pytest.approx(expected, abs=1e-12)
    # Where the density is low, -ln f is high.
    assert stats.spearmanr(samples, found.local).statistic > 0.6


def test_an_affine_map_adds_the_logarithm_of_its_determinant():
    x = np.random.default_rng(8).normal(size=(400, 2))
    mixing = np.array([[2.0, 1.0], [0.0, 0.3]])
    for method in ("gaussian", "kde"):
        plain, mapped = (differential_entropy(points, method=method) for points in (x, x @ mixing + 7))
        assert mapped == pytest.approx(plain + log(0.6), abs=1e-9), method
    for method in ("knn", "gaussian_copula"):
        plain, mapped = (differential_entropy(points, method=method) for points in (x, x * [-1e-6, 5.0] + 3))
        assert mapped == pytest.approx(plain + log(5e-6), abs=1e-6), method
    assert differential_entropy(x, base=2) == pytest.approx(differential_entropy(x) / log(2))


def test_small_scales_are_not_clamped_at_zero_as_in_hoi():
    samples = 0.01 * np.random.default_rng(9).normal(size=2000)
    truth = 0.5 * np.log2(2 * pi * np.e) + np.log2(0.01)
    assert truth == pytest.approx(-4.60, abs=0.01)
    assert abs(differential_entropy(samples, method="knn", base=2) - truth) < 0.1


def test_small_scales_are_not_lost_in_jitter_as_in_infomeasure_and_npeet():
    # At the scale 1e-12 a jitter of 1e-10 gives -21.60 and -23.01.
    samples = 1e-12 * np.random.default_rng(10).normal(size=1500)
    for method in ("knn", "ebrahimi", "kde"):
        assert abs(differential_entropy(samples, method=method) - -26.21) < 0.1


@pytest.mark.parametrize("factor", [1e-300, 1e-170, 1e-18, 1e200])
@pytest.mark.parametrize(
    ("method", "options"),
    [("knn", {}), ("knn", {"standardize": False}), ("kde", {}), ("gaussian", {}), ("gaussian_copula", {})],
)
def test_no_unit_is_too_small_or_too_large(method, options, factor):
    x = np.random.default_rng(17).normal(size=(400, 2))
    plain = differential_entropy(x, method=method, **options)
    scaled = differential_entropy(x * factor, method=method, **options)
    assert scaled - 2 * log(factor) == pytest.approx(plain, abs=1e-10)
    assert scaled.stderr == pytest.approx(plain.stderr, rel=1e-6)


def test_samples_in_one_place_are_not_left_out_as_in_infomeasure():
    samples = np.random.default_rng(11).normal(size=(200, 2))
    samples[:6] = samples[0]
    with pytest.raises(ValueError, match="6 of 200 samples share their place with k=4 others"):
        differential_entropy(samples)
    assert np.isfinite(differential_entropy(samples, k=6))


def test_rounded_samples_are_remarked():
    samples = np.round(np.random.default_rng(12).normal(size=(2000, 2)), 2)
    assert "discrete reading" in differential_entropy(samples, k=8).note


def test_frames_and_rows_are_read():
    pandas = pytest.importorskip("pandas")
    x = np.random.default_rng(13).normal(size=(50, 2))
    assert differential_entropy(pandas.DataFrame(x, columns=["a", "b"])) == differential_entropy(x.tolist())
    assert differential_entropy(x[:, :1]) == differential_entropy(x[:, 0])


@pytest.mark.parametrize(
    ("samples", "options", "error", "message"),
    [
        (np.zeros((2, 2, 2)), {}, ValueError, r"one or two dimensions, \[n\] or \[n, d\] \(got shape \(2, 2, 2\)\)"),
        (np.eye(3), {}, ValueError, "at least 5 samples are needed"),
        ([], {}, ValueError, r"at least 5 samples are needed \(got 0\)"),
        (np.arange(4.0), {}, ValueError, r"at least 5 samples are needed \(got 4\)"),
        (np.arange(4.0), {"method": "correa"}, ValueError, r"at least 5 samples are needed \(got 4\)"),
        (np.arange(24.0).reshape(8, 3), {"method": "gaussian"}, ValueError, "linearly dependent"),
        (np.arange(24.0).reshape(8, 3), {"method": "kde"}, ValueError, "linearly dependent"),
        (np.arange(24.0).reshape(8, 3), {"method": "vasicek"}, ValueError, "is for one variable"),
        (np.c_[np.arange(8.0), np.ones(8)], {}, ValueError, "all 8 samples are 1 in a column"),
        (np.arange(8.0), {"method": "parzen"}, ValueError, "method must be auto or one of ebrahimi"),
        (np.arange(8.0), {"method": "correa", "local": True}, ValueError, "'correa' has no local values"),
        (np.arange(8.0), {"method": "knn", "k": 0}, ValueError, "k must be an integer of at least 1"),
        (np.arange(8.0), {"method": "knn", "metric": "cosine"}, ValueError, "metric must be"),
    ],
)
def test_wrong_input_is_explained(samples, options, error, message):
    with pytest.raises(error, match=message):
        differential_entropy(samples, **options)


@pytest.mark.parametrize("law", ["uniform", "normal", "exponential"])
def test_the_standard_error_of_spacings_is_the_spread(law):
    draw = getattr(np.random.default_rng(18), law)
    found = [differential_entropy(draw(size=300)) for _ in range(200)]
    told = sqrt(np.mean([one.stderr**2 for one in found]))
    # The spread of 200 values is known to 5 per cent. Shorter spacings at the ends are no spread: with them, 1.6.
    assert 0.85 < told / np.std(found, ddof=1) < 1.4


@pytest.mark.slow
@pytest.mark.parametrize(("d", "k"), [(1, 4), (2, 1), (2, 4), (5, 4)])
def test_the_standard_error_of_neighbours_is_the_spread(d, k):
    rng = np.random.default_rng(14)
    found = [differential_entropy(rng.normal(size=(800, d)), method="knn", k=k, n_jobs=1) for _ in range(200)]
    told = sqrt(np.mean([one.stderr**2 for one in found]))
    assert 0.85 < told / np.std(found, ddof=1) < 1.2


@pytest.mark.slow
def test_ten_dimensions_are_too_high_by_as_much_as_in_other_packages():
    # 13.046461 and 12.975746 for 12.894816, where six packages agree: neighbouring columns have a correlation of 0.5.
    samples = np.random.default_rng(15).normal(size=(10_000, 10))
    for column in range(1, 10):
        samples[:, column] = 0.5 * samples[:, column - 1] + 0.75**0.5 * samples[:, column]
    truth = 5 * log(2 * pi * np.e) + 4.5 * log(0.75)
    assert truth == pytest.approx(12.894816, abs=1e-6)
    for metric, excess in (("max", 0.152), ("euclidean", 0.081)):
        found = differential_entropy(samples, metric=metric, standardize=False)
        assert abs(found - truth - excess) < 2 * found.stderr
        assert found - truth > 2 * found.stderr


@pytest.mark.parametrize("method", ["knn", "kde", "gaussian", "gaussian_copula"])
def test_columns_that_repeat_one_another_have_no_density(method):
    x = np.random.default_rng(14).normal(size=300)
    with pytest.raises(ValueError, match="linearly dependent"):
        differential_entropy(np.c_[x, 2 * x], method=method)


def test_the_number_of_samples_and_columns_decides_the_method():
    x = np.random.default_rng(20).normal(size=(11, 2))
    assert differential_entropy(x[:, 0]).method == "ebrahimi"
    assert differential_entropy(x[:10, 0]).method == "van_es"
    assert differential_entropy(x).method == "knn"


def test_the_kernel_estimate_does_not_depend_on_how_many_pairs_are_held(monkeypatch):
    x = np.random.default_rng(21).normal(size=(50, 2))
    whole = differential_entropy(x, method="kde", local=True)
    monkeypatch.setattr("isentrope.measures.continuous._PAIRS", 350)  # seven rows at a time
    np.testing.assert_allclose(differential_entropy(x, method="kde", local=True).local, whole.local, rtol=1e-12)


def test_neighbours_need_one_sample_more_than_there_are_neighbours():
    x = np.random.default_rng(22).normal(size=7)
    found = differential_entropy(x, method="knn", k=6)
    assert np.isfinite(found)
    assert "lower bound" in found.note
    with pytest.raises(ValueError, match=r"at least 8 samples are needed \(got 7\)"):
        differential_entropy(x, method="knn", k=7)


@pytest.mark.parametrize(
    "measure",
    [
        lambda n_jobs: differential_entropy(PAIRED, n_jobs=n_jobs),
        lambda n_jobs: mutual_information(*PAIRED.T, n_jobs=n_jobs),
        lambda n_jobs: kl_divergence_from_samples(*PAIRED.T, n_jobs=n_jobs),
        lambda n_jobs: mutual_information_matrix(PAIRED, n_jobs=n_jobs).values[0, 1],
    ],
)
def test_threads_are_asked_for_in_one_way(measure):
    assert measure(-1) == measure(1)
    with pytest.raises(ValueError, match=r"^(diff|mut|kl)\w+: n_jobs must be positive, or -1 for all cores \(got 0\)"):
        measure(0)
