"""Mutual, conditional and transferred information: slow tables of distances, closed forms, laws, ties and errors."""

from math import log, nan, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter
from scipy.special import digamma, ndtr

from isentrope.measures._entropy_sums import exchange_first
from isentrope.measures._parts import parts
from isentrope.measures._spaces import columns_of, space_of
from isentrope.measures.discrete_information import discrete_mutual_information
from isentrope.measures.mutual_information import conditional_mutual_information, mutual_information
from isentrope.measures.transfer import transfer_entropy


def correlated(n, rho, seed=0, d=1):
    x, noise = np.random.default_rng(seed).normal(size=(2, n, d))
    return x, rho * x + sqrt(1 - rho**2) * noise


def table(variable, euclidean=False):
    """All distances in one variable, which is first scaled as the estimators say."""
    variable = np.asarray(variable, float).reshape(len(variable), -1)
    variable = variable / variable.std(axis=0)
    offset = np.abs(variable[:, None] - variable[None])
    return np.sqrt((offset**2).sum(-1)) if euclidean else offset.max(-1)


def others(values):
    return values[~np.eye(len(values), dtype=bool)].reshape(len(values), -1)


@pytest.mark.parametrize("euclidean", [False, True])
@pytest.mark.parametrize(("k", "d"), [(1, 1), (4, 1), (3, 2)])
def test_ksg_is_the_table_of_distances(k, d, euclidean):
    x, y = correlated(120, 0.7, d=d)
    tables = [others(table(variable, euclidean)) for variable in (x, y)]
    joint = np.maximum(*tables)
    nearest = np.argsort(joint, axis=1)[:, :k]
    radius = np.take_along_axis(joint, nearest, 1)[:, -1:]
    counts = [(t < radius).sum(1) for t in tables]
    first = digamma(k) + digamma(120) - sum(digamma(c + 1) for c in counts)
    metric = "euclidean" if euclidean else "max"
    estimate = mutual_information(x, y, method="ksg", k=k, metric=metric, local=True)
    np.testing.assert_allclose(estimate.local, first, rtol=1e-12, atol=1e-12)
    assert estimate == pytest.approx(first.mean(), abs=1e-12)
    counts = [(t <= np.take_along_axis(t, nearest, 1).max(1, keepdims=True)).sum(1) for t in tables]
    second = digamma(k) - 1 / k + digamma(120) - sum(digamma(c) for c in counts)
    estimate = mutual_information(x, y, method="ksg2", k=k, metric=metric, local=True)
    np.testing.assert_allclose(estimate.local, second, rtol=1e-12, atol=1e-12)


def test_conditional_information_is_the_table_of_distances():
    x, y, z = np.random.default_rng(3).normal(size=(3, 100))
    x, y = x + z, y + z
    t = [others(table(variable)) for variable in (x, y, z)]
    radius = np.sort(np.max(t, axis=0), axis=1)[:, 2:3]
    n_xz, n_yz, n_z = (
        m.sum(1) for m in ((t[0] < radius) & (t[2] < radius), (t[1] < radius) & (t[2] < radius), t[2] < radius)
    )
    expected = digamma(3) - digamma(n_xz + 1) - digamma(n_yz + 1) + digamma(n_z + 1)
    estimate = conditional_mutual_information(x, y, z, k=3, local=True)
    assert estimate.method == "frenzel_pompe"
    np.testing.assert_allclose(estimate.local, expected, rtol=1e-12, atol=1e-12)
    n_xz, n_yz, n_z = (
        m.sum(1) for m in ((t[0] <= radius) & (t[2] <= radius), (t[1] <= radius) & (t[2] <= radius), t[2] <= radius)
    )
    expected = digamma(3) - digamma(n_xz) - digamma(n_yz) + digamma(n_z)
    closed = conditional_mutual_information(x, y, z, k=3, method="mesner_shalizi", local=True)
    np.testing.assert_allclose(closed.local, expected, rtol=1e-12, atol=1e-12)


def test_ross_is_the_table_of_distances():
    rng = np.random.default_rng(4)
    y = np.repeat(["a", "b", "c", "d"], [40, 30, 2, 1])
    x = rng.normal(size=73) + (y == "a")
    estimate = mutual_information(x, y, k=3, local=True)
    assert estimate.method == "ross"
    assert "1 samples whose symbol occurs once are left out" in estimate.note
    assert np.isnan(estimate.local[72])
    kept, symbols = x[:72], y[:72]
    expected = []
    for i in range(72):
        same = np.sort(np.abs(kept[symbols == symbols[i]] - kept[i]))[1:]
        k = min(3, len(same))
        closer = np.sum(np.abs(kept - kept[i]) < same[k - 1])
        expected.append(digamma(72) + digamma(k) - digamma(len(same) + 1) - digamma(closer))
    np.testing.assert_allclose(estimate.local[:72], expected, rtol=1e-12, atol=1e-12)
    assert mutual_information(y, x, k=3) == pytest.approx(estimate, abs=1e-12)


def test_the_mixture_estimator_is_the_table_of_distances():
    # More than k samples in one place, fewer, and samples that are alone.
    rng = np.random.default_rng(34)
    x, y = np.round(rng.normal(size=(2, 90)) * 1.5)
    x[60:], y[75:] = rng.normal(size=30), rng.normal(size=15)
    t = [others(table(variable)) for variable in (x, y)]
    joint = np.maximum(*t)
    radius = np.sort(joint, axis=1)[:, 2:3]
    here = radius[:, 0] == 0
    assert 10 < here.sum() < 60
    neighbours = np.where(here, (joint == 0).sum(1) + 1, 3)
    counts = [np.where(here, (m == 0).sum(1), (m < radius - 1e-12).sum(1)) for m in t]
    expected = digamma(neighbours) + log(90) - sum(digamma(c + 1) for c in counts)
    estimate = mutual_information(x, y, method="mixture", k=3, local=True)
    np.testing.assert_allclose(estimate.local, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("method", ["ksg", "ksg2", "gaussian", "gaussian_copula"])
def test_gaussian_closed_form(method):
    x, y = correlated(3000, 0.75, seed=5)
    estimate = mutual_information(x, y, method=method)
    truth = -0.5 * log(1 - 0.75**2)
    assert truth == pytest.approx(0.413339, abs=1e-6)
    assert abs(estimate - truth) < 3 * estimate.stderr
    assert mutual_information(x, y, method=method, base=2) == pytest.approx(estimate / log(2))


def test_ksg2_is_not_infomeasures():
    # With the joint radius in both spaces and the term 1/k the mean falls 0.27 nat below the truth.
    values = [mutual_information(*correlated(500, 0, seed), method="ksg2") for seed in range(12)]
    assert abs(np.mean(values)) < 4 * np.std(values) / sqrt(12) + 0.005


def test_points_at_the_radius_are_not_counted_as_dit_does():
    # Counting them takes about 0.008 nat off the mean: 0.415 for 0.423.
    x, y = correlated(400, 0.75, seed=6)
    t = [others(table(variable)) for variable in (x, y)]
    radius = np.sort(np.maximum(*t), axis=1)[:, 3:4]
    counted = digamma(4) + digamma(400) - sum(digamma((m <= radius).sum(1) + 1) for m in t).mean()
    assert mutual_information(x, y, method="ksg") - counted > 0.01


@pytest.mark.parametrize(("a", "b", "truth"), [(1.0, 2.0, 1.0), (0.2, 0.3, 0.806853), (3.0, 3.1, 0.593790)])
def test_sum_of_exponentials(a, b, truth):
    # Y = X + Z with exponential laws of the rates b (of X, slower first) and a.
    assert np.euler_gamma + log((b - a) / a) + digamma(b / (b - a)) == pytest.approx(truth, abs=1e-6)
    rng = np.random.default_rng(7)
    x = rng.exponential(1 / a, 3000)
    y = x + rng.exponential(1 / b, 3000)
    assert abs(mutual_information(x, y) - truth) < 0.06


@pytest.mark.parametrize(("epsilon", "truth"), [(0.1, 1.709438), (0.75, 0.333333)])
def test_additive_uniform_noise(epsilon, truth):
    rng = np.random.default_rng(8)
    x = rng.random(3000)
    assert abs(mutual_information(x, x + rng.uniform(-epsilon, epsilon, 3000)) - truth) < 0.06


def test_gamma_exponential():
    # x of the law Gamma(s), y exponential with the mean x: psi(s) - ln s + 1/s, hard but for its logarithms.
    shape = 3.4
    truth = digamma(shape) - log(shape) + 1 / shape
    assert truth == pytest.approx(0.139910, abs=1e-6)
    rng = np.random.default_rng(23)
    x = rng.gamma(shape, 1 / 1.2, 3000)
    y = rng.exponential(0.56 * x)
    assert abs(mutual_information(np.log(x), np.log(y)) - truth) < 0.04
    assert abs(mutual_information(x, y) - truth) < 0.07


TRANSFORMS = {
    "normal_cdf": ndtr,
    "half_cube": lambda v: v * np.sqrt(np.abs(v)),
    "wiggly": lambda v: v + 0.4 * np.sin(v) + 0.2 * np.sin(1.7 * v + 1) + 0.03 * np.sin(3.3 * v - 2.5),
    "asinh": np.arcsinh,
    "turned": lambda v: -2.5 * v,
}


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_information_does_not_change_with_either_variable(transform):
    x, y = correlated(3000, 0.75, seed=24)
    change = TRANSFORMS[transform]
    estimate = mutual_information(change(x), change(y))
    assert abs(estimate - 0.413339) < 3 * estimate.stderr + 0.01
    assert abs(estimate - mutual_information(x, y)) < 0.02
    # Ranks do not see a rising map at all.
    if transform != "turned":
        copula = mutual_information(change(x), change(y), method="gaussian_copula")
        assert copula == mutual_information(x, y, method="gaussian_copula")


@pytest.mark.parametrize(("d", "truth"), [(2, 0.293893), (3, 0.413339), (5, 0.592812)])
def test_dense_correlations_of_vectors(d, truth):
    assert 0.5 * (2 * log(1 + d) - log(1 + 2 * d)) == pytest.approx(truth, abs=1e-6)
    rng = np.random.default_rng(25)
    samples = sqrt(0.5) * (rng.normal(size=(4000, 2 * d)) + rng.normal(size=(4000, 1)))
    for method, bias in (("gaussian", 0.0), ("gaussian_copula", 0.002), ("ksg", 0.05)):
        estimate = mutual_information(samples[:, :d], samples[:, d:], method=method)
        assert abs(estimate - truth) < 3 * estimate.stderr + bias, method


@pytest.mark.parametrize(("d", "truth"), [(25, 1.292184), (50, 1.624265)])
def test_many_columns_take_a_gaussian_law(d, truth):
    assert 0.5 * (2 * log(1 + d) - log(1 + 2 * d)) == pytest.approx(truth, abs=1e-6)
    rng = np.random.default_rng(35)
    samples = sqrt(0.5) * (rng.normal(size=(1500, 2 * d)) + rng.normal(size=(1500, 1)))
    for method in ("gaussian", "gaussian_copula"):
        estimate = mutual_information(samples[:, :d], samples[:, d:], method=method)
        assert abs(estimate - truth) < 3 * estimate.stderr, method


@pytest.mark.parametrize("transform", [lambda v: v, *(TRANSFORMS[name] for name in ("normal_cdf", "half_cube"))])
@pytest.mark.parametrize("d", [2, 25])
def test_sparse_correlations_of_vectors(d, transform):
    # Two pairs of correlation 0.8 among independent columns.
    assert -log(1 - 0.8**2) == pytest.approx(1.021651, abs=1e-6)
    rng = np.random.default_rng(36)
    x, y = rng.normal(size=(2, 3000, d))
    y[:, :2] = 0.8 * x[:, :2] + 0.6 * y[:, :2]
    estimate = mutual_information(transform(x), transform(y), method="gaussian_copula")
    assert abs(estimate - 1.021651) < 3 * estimate.stderr + 0.002
    if d == 2:
        estimate = mutual_information(transform(x), transform(y))
        assert abs(estimate - 1.021651) < 3 * estimate.stderr + 0.05


def test_uncorrelated_student_laws_depend_on_each_other():
    # The bivariate t law of one degree of freedom with unit dispersion: 0.224171, which no correlation shows.
    rng = np.random.default_rng(26)
    x, y = rng.normal(size=(2, 6000)) / np.sqrt(rng.chisquare(1, 6000))
    estimate = mutual_information(np.arcsinh(x), np.arcsinh(y))
    assert abs(estimate - 0.224171) < 3 * estimate.stderr + 0.01
    assert abs(mutual_information(x, y, method="gaussian_copula")) < 0.02


@pytest.mark.parametrize(
    ("draw", "bits"),
    [
        (lambda g, y: g.uniform(np.array([0.0, 0.1, 0.2])[y], np.array([1.0, 1.2, 1.3])[y]), 0.14587),
        (lambda g, y: g.normal(np.array([0.4, 0.5, 0.8])[y], np.array([0.2, 0.3, 0.25])[y]), 0.20524),
    ],
    ids=["square waves", "three Gaussians"],
)
def test_ross_own_examples(draw, bits):
    rng = np.random.default_rng(27)
    y = rng.choice(3, p=np.array([0.2, 1.0, 0.5]) / 1.7, size=8000)
    estimate = mutual_information(draw(rng, y), y, base=2)
    assert estimate.method == "ross"
    assert abs(estimate - bits) < 3 * estimate.stderr + 0.005


def test_three_and_four_gaussians_of_frenzel_and_pompe():
    rng = np.random.default_rng(28)
    x = rng.multivariate_normal([0, 0, 0], [[1, 1, 1], [1, 4, 1], [1, 1, 9]], 3000)
    truth = 0.5 * (log(8) + log(35) - log(9) - log(24))
    for method, bias in (("auto", 0.03), ("mesner_shalizi", 0.05), ("gaussian", 0.0)):
        estimate = conditional_mutual_information(x[:, 0], x[:, 1], x[:, 2], method=method)
        assert abs(estimate - truth) < 3 * estimate.stderr + bias, method
    # x and y are independent, and depend on each other where the other two are known.
    covariance = [[1, 0, 2, 1], [0, 6, 1, 2], [2, 1, 5, 2], [1, 2, 2, 2]]
    x = rng.multivariate_normal(np.zeros(4), covariance, 6000)
    assert abs(mutual_information(x[:, 0], x[:, 1])) < 0.03
    exact = conditional_mutual_information(x[:, 0], x[:, 1], x[:, 2:], method="gaussian")
    assert abs(exact - 0.64964) < 4 * exact.stderr
    assert abs(conditional_mutual_information(x[:, 0], x[:, 1], x[:, 2:]) - 0.64964) < 0.06


def test_mixed_closed_form():
    # Five classes y, x uniform on [y, y+2]: ln 5 - 4/5 ln 2. dit gives 0.886.
    rng = np.random.default_rng(9)
    y = rng.integers(0, 5, 4000)
    x = y + rng.uniform(0, 2, 4000)
    truth = log(5) - 0.8 * log(2)
    assert truth == pytest.approx(1.054920, abs=1e-6)
    for method in ("auto", "ross", "mixture"):
        estimate = mutual_information(x, y, method=method)
        assert abs(estimate - truth) < 0.04, method
    # As numbers, more than k of them in no place: the same neighbours by the maximum norm, since classes are apart.
    assert abs(mutual_information(x, y.astype(float), method="ksg") - truth) < 0.04


def test_recurring_values_alone_are_symbols():
    rng = np.random.default_rng(10)
    x = rng.integers(0, 3, 600).astype(float)
    y = np.where(rng.random(600) < 0.7, x, rng.integers(0, 3, 600))
    p = np.full((3, 3), 0.1 / 3) + np.eye(3) * 0.7 / 3
    truth = np.sum(p * np.log(p * 9))
    for method in ("ksg", "mixture"):
        estimate = mutual_information(x, y, method=method)
        # All neighbours lie in one place, whose counts are those of the table of symbols.
        assert abs(estimate - discrete_mutual_information(x, y, method="zhang")) < 0.02
        assert abs(estimate - truth) < 0.1
    assert mutual_information(x, y).note.startswith("x, y continuous; the neighbours of most samples are equal to them")


@pytest.mark.parametrize("step", [0.02, 0.1, 0.3, 1.0])
def test_rounded_values_are_not_taken_for_dependent(step):
    # Where k neighbours lie at the same distance, those beside the k-th are counted nowhere by the strict rule: on
    # independent Gaussians rounded to 0.1 it finds 0.9 nat.
    values = []
    for seed in range(4):
        x, y = (np.round(v / step) * step for v in correlated(500, 0, seed))
        values.append(mutual_information(x, y))
    assert abs(np.mean(values)) < 0.06


def test_coarsely_rounded_values_are_taken_for_symbols_in_a_note():
    # The table of joint probabilities of two Gaussians with correlation 0.75 that are rounded to half a deviation.
    step, rho, n = 0.5, 0.75, 1000
    edges = np.concatenate([[-np.inf], np.arange(-5.75, 6, step), [np.inf]])
    fine = np.linspace(-6, 6, 4801)
    within = np.diff(ndtr((edges - rho * fine[:, None]) / sqrt(1 - rho**2)), axis=1) * np.exp(-(fine**2) / 2)[:, None]
    joint = np.array([within[np.digitize(fine, edges) == i].sum(axis=0) for i in range(1, len(edges))])
    joint /= joint.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        truth = np.nansum(joint * np.log(joint / np.outer(joint.sum(1), joint.sum(0))))
    assert truth == pytest.approx(0.388, abs=5e-4)
    found = [mutual_information(*(np.round(v / step) * step for v in correlated(n, rho, seed))) for seed in range(8)]
    assert abs(np.mean(found) - truth) < 0.01 + 3 * np.std(found) / sqrt(8)
    assert all("a discrete reading" in estimate.note for estimate in found)
    assert "discrete" not in mutual_information(*(np.round(v, 1) for v in correlated(n, rho))).note


def test_scale_does_not_change_the_answer():
    x, y = correlated(500, 0.75, seed=11)
    plain = mutual_information(x, y)
    for factor in (1e-6, 1e-12, 1e150, 3.0):
        assert mutual_information(factor * x, y) == pytest.approx(plain, abs=1e-12)
    assert mutual_information(x + 1e6, y) == pytest.approx(plain, abs=1e-4)
    # Without it the small variable disappears, as in infomeasure and npeet.
    assert abs(mutual_information(x * 1e-6, y, standardize=False)) < 0.05
    unscaled = mutual_information(x, y, standardize=False)
    for factor in (1e-200, 1e-20, 1e200):
        found = mutual_information(factor * x, factor * y, standardize=False)
        assert (found.value, found.stderr) == pytest.approx((unscaled.value, unscaled.stderr), abs=1e-12)
        gaussian = mutual_information(factor * x, y, method="gaussian")
        assert gaussian == pytest.approx(mutual_information(x, y, method="gaussian"), abs=1e-9)
    # On a grid the scaling moves equal distances apart by rounding; the rule for ties does not follow it.
    x, y = np.round(x, 1), np.round(y, 1)
    gridded = mutual_information(x, y)
    for factor in (1e-6, 3.0, 0.1):
        assert mutual_information(factor * x, y) == pytest.approx(gridded, abs=1e-12)


def test_a_constant_has_no_information_as_in_no_noise_by_the_mean():
    y = np.random.default_rng(12).normal(size=200)
    for x in (np.full(200, 3.7), np.full(200, "a"), np.ones(200, int)):
        for z in (None, y**2):
            estimate = mutual_information(x, y) if z is None else conditional_mutual_information(x, y, z)
            assert estimate == 0.0
            assert estimate.stderr == 0.0
            assert estimate.note == "x is constant"
            assert estimate.test(19).pvalue == 1.0


def test_a_constant_condition_leaves_mutual_information():
    x, y = correlated(200, 0.6)
    expected = mutual_information(x, y)
    assert conditional_mutual_information(x, y, np.zeros(200)) == pytest.approx(expected, abs=1e-12)


def test_symbols_of_the_condition_part_the_samples():
    # Given the symbol x and y are independent; without it they agree in sign.
    rng = np.random.default_rng(13)
    z = rng.integers(0, 2, 1500)
    x, y = rng.normal(size=(2, 1500)) + 6 * z
    assert mutual_information(x, y) == pytest.approx(log(2), abs=0.08)
    assert abs(conditional_mutual_information(x, y, z)) < 0.06
    assert abs(conditional_mutual_information(x, z, y)) < 0.02


def test_symbols_alone_go_to_the_discrete_estimators():
    rng = np.random.default_rng(22)
    x = rng.integers(0, 3, 400)
    y = np.array(["a", "b", "c"])[(x + (rng.random(400) < 0.2)) % 3]
    assert mutual_information(x, y) == discrete_mutual_information(x, y)
    assert mutual_information(x, y, method="plugin").method == "plugin"
    assert conditional_mutual_information(x, y, x > 0, base=2).unit == "bit"
    assert transfer_entropy(x, np.roll(x, 1)) > 0.9


def test_data_frames_and_lists_are_read():
    pandas = pytest.importorskip("pandas")
    x, y = correlated(80, 0.6, d=2)
    expected = mutual_information(x, y)
    frame = pandas.DataFrame(x, columns=["a", "b"])
    assert mutual_information(frame, y.tolist()) == expected
    frame["c"] = np.repeat(["u", "v"], 40)
    assert np.isfinite(mutual_information(frame, y))


def test_transfer_entropy_of_a_coupled_series():
    # y_t = 0.5 y_{t-1} + 0.8 x_{t-1} + e: ln(1 + 0.64) / 2 one way, 0 the other (copent has them exchanged).
    rng = np.random.default_rng(14)
    x, e = rng.normal(size=(2, 3000))
    y = np.zeros(3000)
    for t in range(1, 3000):
        y[t] = 0.5 * y[t - 1] + 0.8 * x[t - 1] + e[t]
    truth = 0.5 * log(1.64)
    gaussian = transfer_entropy(x, y, method="gaussian")
    assert abs(gaussian - truth) < 3 * gaussian.stderr
    neighbours = transfer_entropy(x, y)
    assert abs(neighbours - truth) < 3 * neighbours.stderr + 0.02
    assert abs(transfer_entropy(y, x)) < 0.03
    assert abs(transfer_entropy(x, y, lag=2, method="gaussian")) < 0.005
    # Knowing the source's past already, nothing is left.
    assert abs(transfer_entropy(x + 1e-3 * e, y, condition=x, method="gaussian")) < 0.01
    small = transfer_entropy(x[:400], y[:400]).test(19, rng=0)
    assert small.pvalue == 0.05
    assert abs(small.excess - truth) < 0.15


def test_transfer_entropy_embeds_as_its_formula_says():
    rng = np.random.default_rng(15)
    x, y = rng.normal(size=(2, 120))
    past = np.stack([x[1:-2], x[:-3]], axis=1)  # x at t-2 and t-3
    expected = conditional_mutual_information(past, y[3:], y[2:-1], local=True)
    estimate = transfer_entropy(x, y, lag=2, source_history=2, local=True)
    np.testing.assert_allclose(estimate.local, expected.local, rtol=1e-12)


def test_neighbours_in_time_are_not_neighbours():
    rng = np.random.default_rng(16)
    x, y = np.cumsum(rng.normal(size=(2, 300)), axis=1)
    t = [table(variable) for variable in (x, y)]
    far = np.abs(np.subtract.outer(np.arange(300), np.arange(300))) > 20
    joint = np.where(far, np.maximum(*t), np.inf)
    radius = np.sort(joint, axis=1)[:, 3:4]
    expected = digamma(4) + digamma(far.sum(1) + 1) - sum(digamma((far & (m < radius)).sum(1) + 1) for m in t)
    np.testing.assert_allclose(mutual_information(x, y, window=20, local=True).local, expected, rtol=1e-11)


def test_the_shuffle_test_sees_dependence_and_its_absence():
    x, y = correlated(150, 0.6, seed=17)
    assert mutual_information(x, y).test(39, rng=0).pvalue == 1 / 40
    x, y = correlated(150, 0.0, seed=18)
    result = mutual_information(x, y).test(39, rng=0)
    assert result.pvalue > 0.1
    assert abs(result.null_mean) < 4 * result.null_std / sqrt(39) + 0.01


def test_the_conditional_test_keeps_the_condition():
    # x and y depend through z alone: free shuffling would call that a dependence.
    rng = np.random.default_rng(19)
    z, a, b = rng.normal(size=(3, 250))
    x, y = z + 0.3 * a, z + 0.3 * b
    assert conditional_mutual_information(x, y, z).test(39, rng=0).pvalue > 0.05
    assert conditional_mutual_information(x, y + a, z).test(39, rng=0).pvalue == 1 / 40


def test_the_conditional_test_shuffles_among_samples_of_the_same_symbol():
    # Where all of them were given the value of one sample, every shuffle had exactly 0 and p was the least there is.
    rng = np.random.default_rng(37)
    z = rng.integers(0, 3, 300)
    x, y = z + rng.normal(size=(2, 300))
    labels = np.array(["a", "b", "c"])[z]
    result = conditional_mutual_information(x, y, labels).test(39, rng=0)
    assert result.pvalue > 0.05
    assert result.null_std > 0.01
    assert conditional_mutual_information(x, y + x, labels).test(39, rng=0).pvalue == 1 / 40
    moved = exchange_first(
        rng,
        [
            np.stack([z, x], axis=1),
            y,
            space_of("", "z", columns_of("", "z", labels), standardize=True, euclidean=False),
        ],
    )
    assert (moved[0][:, 0] == z).all()
    assert sorted(moved[0][:, 1]) == sorted(x)
    assert (moved[0][:, 1] != x).sum() > 200


@pytest.mark.parametrize("euclidean", [False, True])
def test_many_small_sheets_are_searched_as_one(euclidean, monkeypatch):
    rng = np.random.default_rng(38)
    y = rng.integers(0, 40, 300).astype(str)
    x, w = rng.normal(size=(2, 300, 2))
    metric = "euclidean" if euclidean else "max"
    for grid in (3, 0):
        x, w = np.round(x, grid), np.round(w, grid)
        at_once = mutual_information(x, y, metric=metric), conditional_mutual_information(x, w, y, metric=metric)
        with monkeypatch.context() as context:
            context.setattr("isentrope.measures._spaces._FEW_ON_A_SHEET", 0)
            one_by_one = mutual_information(x, y, metric=metric), conditional_mutual_information(x, w, y, metric=metric)
        for first, second in zip(at_once, one_by_one, strict=True):
            assert (first.value, first.stderr) == pytest.approx((second.value, second.stderr), abs=1e-12)


def test_the_interval_holds_its_estimate_unlike_npeets_and_infomeasures():
    # A bootstrap with copies gives [0.998, 1.303] for 0.428, one of the source alone [-0.045, 0.039] for 0.432.
    estimate = mutual_information(*correlated(1000, 0.75, seed=29))
    low, high = estimate.interval()
    assert low < estimate < high
    assert low < 0.413339 < high
    assert high - low < 0.2


@pytest.mark.parametrize("symbols", [False, True])
def test_the_standard_error_is_that_of_estimates_of_parts(symbols):
    x, y = (v[:, 0] for v in correlated(800, 0.7, seed=33))
    y = np.digitize(y, [-0.5, 0.5]) if symbols else y
    chosen = parts(800, 400, 600)
    found = [mutual_information(x[rows], y[rows], standardize=False) for rows in chosen.rows.reshape(16, 400)]
    # Halves, dealt out eight times.
    expected = sqrt(np.mean([np.var(found[i : i + 2], ddof=1) for i in range(0, 16, 2)]) / 2)
    assert mutual_information(x, y, standardize=False).stderr == pytest.approx(expected, rel=1e-9)


def test_no_p_value_is_zero_as_in_npeet_and_infomeasure():
    assert mutual_information(*correlated(60, 0.99, seed=30)).test(19, rng=0).pvalue == 0.05
    assert mutual_information(np.ones(60), correlated(60, 0, seed=30)[0]).test(19, rng=0).pvalue == 1


def test_long_histories_do_not_make_information_as_in_infomeasure():
    # Its transfer entropy between two independent uniform series grows to 0.80 with their histories.
    x, y = np.random.default_rng(31).random((2, 600))
    estimate = transfer_entropy(x, y, source_history=6, target_history=6)
    assert estimate < 0.05
    assert "too few samples for so many columns, the value is too low" in estimate.note
    assert "too low" not in transfer_entropy(x, y).note


def test_a_shift_in_time_keeps_what_a_series_has_with_itself():
    # Independent, slow series: the p-values of shuffled rows would be far too small.
    rng = np.random.default_rng(32)
    small = 0
    for _ in range(12):
        noise, series = rng.normal(size=(2, 300)), np.zeros((2, 300))
        for t in range(1, 300):
            series[:, t] = 0.9 * series[:, t - 1] + noise[:, t]
        small += mutual_information(*series, method="gaussian", window=10).test(19, rng=0).pvalue <= 0.05
    assert small <= 3


@settings(max_examples=25)
@given(
    n=st.integers(30, 60),
    d=st.integers(1, 3),
    k=st.integers(1, 5),
    grid=st.booleans(),
    symbols=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_laws_of_every_sample(n, d, k, grid, symbols, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, d)), rng.normal(size=n)
    if grid:
        x, y = np.round(x, 1), np.round(y, 1)
    y = rng.integers(0, 3, n) if symbols else y
    estimate = mutual_information(x, y, k=k)
    same = pytest.approx(estimate, abs=1e-10)
    assert mutual_information(y, x, k=k) == same
    order = rng.permutation(n)
    assert mutual_information(x[order], y[order], k=k) == same
    assert mutual_information(x[:, ::-1], y, k=k) == same
    assert mutual_information(-4 * x + 1, np.array(["c", "a", "b"])[y] if symbols else 0.25 * y, k=k) == same
    assert mutual_information(x, y, k=k, base=2) == pytest.approx(estimate / log(2), abs=1e-10)
    assert conditional_mutual_information(x, y, np.zeros(n), k=k) == same


def test_wrong_input_is_explained():
    x = np.random.default_rng(0).normal(size=50)
    with pytest.raises(ValueError, match=r"x has 50, y has 49"):
        mutual_information(x, x[1:])
    with pytest.raises(ValueError, match="1 of 50 samples of y are NaN or infinite"):
        mutual_information(x, np.where(x == x[3], nan, x))
    with pytest.raises(ValueError, match=r"k=4 neighbours .* more than 4 samples"):
        mutual_information(x[:4], x[4:8])
    with pytest.raises(ValueError, match=r"50 whose symbols occur once are left out: .* astype"):
        mutual_information(x.astype(object), x)
    with pytest.raises(ValueError, match="method must be auto or one of ksg, ksg2"):
        mutual_information(x, x, method="kraskov")
    with pytest.raises(ValueError, match="metric must be"):
        mutual_information(x, x, metric="cosine")
    with pytest.raises(ValueError, match="k must be an integer of at least 1"):
        mutual_information(x, x, k=0)
    for window in (3, 20):
        with pytest.raises(ValueError, match="window must be 0 where"):
            mutual_information(x > 0, x > 1, window=window)
    with pytest.raises(TypeError, match=r"y must be real numbers for method 'ksg' \(got dtype <U1\)"):
        mutual_information(x, np.full(50, "a"), method="ksg")
    with pytest.raises(ValueError, match="linearly dependent"):
        mutual_information(x, 2 * x, method="gaussian")
    with pytest.raises(ValueError, match="one discrete and one continuous"):
        mutual_information(x, x, method="ross")
    with pytest.raises(ValueError, match="too few for histories"):
        transfer_entropy(x, x, target_history=46)
    with pytest.raises(ValueError, match="lag must be an integer of at least 1"):
        transfer_entropy(x, x, lag=0)


@pytest.mark.slow
@pytest.mark.parametrize(("rho", "d", "k"), [(0.0, 1, 4), (0.8, 1, 4), (0.8, 1, 8), (0.5, 2, 4)])
def test_the_standard_error_of_ksg_is_the_spread(rho, d, k):
    estimates = [mutual_information(*correlated(800, rho, seed, d), k=k, n_jobs=1) for seed in range(150)]
    spread, told = np.std(estimates, ddof=1), sqrt(np.mean([e.stderr**2 for e in estimates]))
    # 0.88 to 0.96, and the spread of 150 values is known to 6 per cent.
    assert 0.8 < told / spread < 1.15


@pytest.mark.slow
@pytest.mark.parametrize(("rho", "true"), [(0.0, 0.0), (0.9, 0.8303656)])
def test_ksg_is_almost_unbiased_at_a_thousand_samples(rho, true):
    for method in ("ksg", "ksg2"):
        values = [mutual_information(*correlated(1000, rho, seed), method=method) for seed in range(40)]
        assert abs(np.mean(values) - true) < 0.008 + 3 * np.std(values) / sqrt(40)


@pytest.mark.slow
def test_the_standard_error_of_mixed_conditional_and_transferred_information_is_the_spread():
    def mixed(rng):
        y = rng.integers(0, 3, 800)
        return mutual_information(rng.normal(y, 1.0), y, n_jobs=1)

    def rounded(rng):
        x, noise = rng.normal(size=(2, 800))
        return mutual_information(np.round(x, 1), np.round(x + noise, 1), n_jobs=1)

    def conditional(rng):
        x, y, z = rng.normal(size=(3, 800))
        return conditional_mutual_information(x + z, x + y + z, z, n_jobs=1)

    def transferred(rng):
        x, y = rng.normal(size=(2, 800))
        return transfer_entropy(x, y + np.roll(x, 1), n_jobs=1)

    # Too small by a fifth at most, as is said; the spread of 150 values is known to 6 per cent.
    for draw in (mixed, rounded, conditional, transferred):
        rng = np.random.default_rng(0)
        estimates = [draw(rng) for _ in range(150)]
        told = sqrt(np.mean([e.stderr**2 for e in estimates]))
        assert 0.7 < told / np.std(estimates, ddof=1) < 1.25, draw.__name__


@pytest.mark.slow
def test_intervals_cover_the_truth():
    inside = 0
    for seed in range(200):
        low, high = mutual_information(*correlated(1000, 0.6, seed), n_jobs=1).interval()
        inside += low < -0.5 * log(1 - 0.36) < high
    # The error itself is known to a fifth only, which costs some of the 95 per cent.
    assert 0.88 < inside / 200 < 0.985


@pytest.mark.slow
@pytest.mark.parametrize(("n", "window", "least"), [(500, 5, 0.83), (1000, 20, 0.88), (4000, 20, 0.89)])
def test_intervals_of_series_cover_the_truth(n, window, least):
    # The spread of 2 to 14 stretches of the series made it 0.74 for 500 samples and 0.82 for 1000.
    rng, truth, found = np.random.default_rng(36), -0.5 * log(1 - 0.36), []
    for _ in range(200):
        found.append(mutual_information(*slow_pair(rng, n, 0.6), window=window, n_jobs=1))
    told = sqrt(np.mean([one.stderr**2 for one in found]))
    assert 0.8 < told / np.std(found, ddof=1) < 1.25
    assert least < np.mean([one.interval()[0] < truth < one.interval()[1] for one in found]) < 0.985


def test_many_neighbours_take_large_parts():
    # In halves of 100 samples there are not 120 neighbours, and 98 are all of them.
    x, y = correlated(200, 0.6, seed=14)
    for k in (98, 120):
        for options in ({}, {"window": 5}):
            found = mutual_information(x, y, k=k, **options)
            assert f"a lower bound: fewer than {8 * k} samples" in found.note
            assert found.stderr > 0
    assert "bound" not in mutual_information(x, y, k=25).note


def test_a_single_sample_is_too_few():
    with pytest.raises(ValueError, match=r"mutual_information: at least 2 samples are needed \(got 1\)"):
        mutual_information([1.0], [2.0])


def test_information_near_none_may_be_negative_and_is_the_same_again_unlike_npeets():
    # NPEET takes the absolute value of mixed informations, and adds noise without a seed.
    rng = np.random.default_rng(37)
    y = rng.integers(0, 3, 200)
    found = [mutual_information(rng.normal(size=200), y, stderr=False) for _ in range(40)]
    assert 5 < sum(estimate < 0 for estimate in found) < 35
    assert abs(np.mean(found)) < 4 * np.std(found) / sqrt(40)
    x = np.round(rng.normal(size=200), 1)
    assert mutual_information(x, y) == mutual_information(x, y)


def overlapping_batches(values, length):
    """Variance of the mean of a series over that of as many independent values."""
    values = values - values.mean()
    means = [values[i : i + length].mean() for i in range(len(values) - length + 1)]
    return length * np.mean(np.square(means)) / (1 - length / len(values)) / np.var(values)


def slow_pair(rng, n, rho, phi=0.8):
    noise = rng.normal(size=(n, 2))
    noise[:, 1] = rho * noise[:, 0] + sqrt(1 - rho**2) * noise[:, 1]
    noise[0] /= sqrt(1 - phi**2)
    return lfilter([1.0], [1.0, -phi], noise, axis=0).T


def test_the_standard_error_of_a_series_is_wider_by_what_its_values_have_with_those_before():
    x, y = slow_pair(np.random.default_rng(35), 600, 0.6)
    series = transfer_entropy(x, y, local=True)
    alone = conditional_mutual_information(x[:-1], y[1:], y[:-1])
    assert series == pytest.approx(alone, abs=1e-12)
    assert series.stderr == pytest.approx(alone.stderr * sqrt(overlapping_batches(series.local, 24)), rel=1e-9)
    found = mutual_information(x, y, window=20, method="gaussian", local=True)
    expected = np.var(found.local, ddof=1) / 600 * overlapping_batches(found.local, 40)
    assert found.stderr == pytest.approx(sqrt(expected), rel=1e-9)
    # Decorrelated, it is that of the same samples in another order.
    assert found.stderr > 1.3 * mutual_information(x, y, method="gaussian").stderr


def test_a_standard_error_from_few_stretches_says_so():
    x, y = correlated(1000, 0.6, seed=13)
    assert "the standard error rests on 5 stretches" in mutual_information(x, y, window=100).note
    assert "the standard error rests on 5 stretches" in mutual_information(x, y, window=100, method="gaussian").note
    for window in (0, 20):
        assert "stretches" not in mutual_information(x, y, window=window).note


def test_without_its_standard_error_an_estimate_is_the_same():
    x, y = correlated(500, 0.75, seed=12)
    whole, value = mutual_information(x, y), mutual_information(x, y, stderr=False)
    assert value == whole
    assert whole.stderr > 0
    assert np.isnan(value.stderr)
    assert conditional_mutual_information(x, y, x**2, stderr=False) == conditional_mutual_information(x, y, x**2)


def test_a_variable_and_itself_are_said_to_be_at_the_ceiling():
    x, noise = np.random.default_rng(0).normal(size=(2, 500))
    for y in (x, -3 * x):
        assert "as much as so many samples can tell" in mutual_information(x, y).note
    assert "as much" not in mutual_information(x, x + 0.1 * noise).note


def test_values_that_differ_by_more_than_floats_hold_are_refused():
    huge = np.array([1e308, -1e308] * 45)
    with pytest.raises(ValueError, match="x spans more than floating-point numbers"):
        mutual_information(huge, np.random.default_rng(0).normal(size=90))
