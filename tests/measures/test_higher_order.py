from itertools import combinations
from math import comb, log, sqrt

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import KDTree
from scipy.special import digamma

from isentrope.measures import (
    _n_plets,
    discrete_dual_total_correlation,
    discrete_total_correlation,
    mutual_information_matrix,
)
from isentrope.measures._n_plet_numbers import list_members
from isentrope.measures.higher_order import higher_order_information
from isentrope.measures.shared_information import dual_total_correlation, total_correlation


def with_correlations(correlation, n=5000):
    """Samples whose correlations are exactly these."""
    x = np.random.default_rng(0).normal(size=(n, len(correlation)))
    x -= x.mean(axis=0)
    white = np.linalg.solve(np.linalg.cholesky(x.T @ x / n), x.T).T
    return white @ np.linalg.cholesky(correlation).T


def rows_of(found):
    return [tuple(int(i) for i in row if i >= 0) for row in found.members]


@settings(max_examples=40)
@given(st.integers(2, 9), st.data())
def test_n_plets_are_numbered_as_combinations_are(d, data):
    order = data.draw(st.integers(1, d))
    first = data.draw(st.integers(0, comb(d, order) - 1))
    count = data.draw(st.integers(0, comb(d, order) - first))
    listed = np.zeros((count, order), np.int16)
    list_members(first, _n_plets.numbers_of_subsets(d, order), listed)
    assert listed.tolist() == [list(c) for c in list(combinations(range(d), order))[first : first + count]]


# Equicorrelated Gaussian variables, ρ = 1/2: det R = (1 - ρ)^(n-1) (1 + (n - 1) ρ).
@pytest.mark.parametrize(
    ("order", "total", "dual", "o"),
    [
        (3, 0.346574, 0.261624, 0.084950),
        (4, log(4) - log(5) / 2, None, 0.223144),
        (2, log(4 / 3) / 2, log(4 / 3) / 2, 0),
    ],
)
def test_equicorrelated_gaussian_variables(order, total, dual, o):
    samples = with_correlations(0.5 * np.eye(5) + 0.5, n=200_000)
    found = higher_order_information(samples, orders=order, method="gaussian")
    # What is left is the correction of the bias, some n²/N.
    np.testing.assert_allclose(found.total_correlation, total, atol=5e-5)
    np.testing.assert_allclose(found.o_information, o, atol=5e-5)
    if dual is not None:
        np.testing.assert_allclose(found.dual_total_correlation, dual, atol=5e-5)


def test_gaussian_n_plets_are_sums_of_log_determinants():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(40, 7)) @ rng.normal(size=(7, 7))
    n = len(x)

    def h(columns):
        """Unbiased entropy of Gaussian samples."""
        m = len(columns)
        bias = sum(digamma((n - i) / 2) + log(2 / (n - 1)) for i in range(1, m + 1))
        covariance = np.atleast_2d(np.cov(x[:, list(columns)].T))
        return 0.5 * (np.linalg.slogdet(covariance)[1] - bias + m * log(2 * np.pi * np.e))

    found = higher_order_information(x, orders=(2, 7), method="gaussian", n_jobs=2)
    assert rows_of(found) == [c for order in range(2, 8) for c in combinations(range(7), order)]
    for row, members in enumerate(rows_of(found)):
        total = sum(h([i]) for i in members) - h(members)
        dual = sum(h([j for j in members if j != i]) for i in members) - (len(members) - 1) * h(members)
        assert found.total_correlation[row] == pytest.approx(total, abs=1e-10)
        assert found.dual_total_correlation[row] == pytest.approx(dual, abs=1e-10)
        assert found.o_information[row] == pytest.approx(total - dual, abs=1e-10)
        assert found.s_information[row] == pytest.approx(total + dual, abs=1e-10)
        assert found.order[row] == len(members)


@pytest.mark.parametrize("method", ["gaussian", "gaussian_copula"])
def test_independent_variables_have_no_information_on_average(method):
    # 12 samples of 5 variables: uncorrected, the total correlation of all five would be 1.3 nat of nothing.
    rng = np.random.default_rng(2)
    found = [higher_order_information(rng.normal(size=(12, 5)), orders=(3, 5), method=method) for _ in range(600)]
    for field in ("total_correlation", "dual_total_correlation", "o_information"):
        values = np.array([getattr(f, field) for f in found])
        means, errors = values.mean(axis=0), values.std(axis=0) / sqrt(len(values))
        if method == "gaussian":
            assert np.all(np.abs(means) < 4.5 * errors)
        else:
            # Scores of ranks are no Gaussian sample: their variances do not vary.
            assert np.all(np.abs(means) < 0.35)


@pytest.mark.parametrize("method", ["miller_madow", "plugin", "grassberger"])
def test_discrete_n_plets_are_those_of_single_functions(method):
    rng = np.random.default_rng(3)
    x = rng.integers(0, [2, 3, 1, 4, 9, 2], (150, 6))
    x[:, 5] = (x[:, 0] + x[:, 1]) % 3
    found = higher_order_information(x, orders=(2, 5), method=method, base=2, n_jobs=2)
    assert rows_of(found) == [c for order in range(2, 6) for c in combinations(range(6), order)]
    for row, members in enumerate(rows_of(found)):
        total = discrete_total_correlation(x[:, members], method=method, base=2)
        dual = discrete_dual_total_correlation(x[:, members], method=method, base=2)
        assert found.total_correlation[row] == pytest.approx(total.value, abs=1e-10)
        assert found.dual_total_correlation[row] == pytest.approx(dual.value, abs=1e-10)


def slow_ksg(x, k):
    """Total and dual total correlation at each sample from the matrix of all distances."""
    n, order = x.shape
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    offsets = np.abs(x[:, None] - x[None])
    joint = offsets.max(axis=2)
    np.fill_diagonal(joint, np.inf)
    radius = np.sort(joint, axis=1)[:, [k - 1]]
    everything = list(range(order))

    def surroundings(columns):
        """One more than the samples inside the radius, or those in it with its surface, if they are more."""
        distances = offsets[:, :, columns].max(axis=2)
        inside = (distances < radius - 1e-12).sum(axis=1) - (radius[:, 0] > 1e-12)
        return digamma(np.maximum(inside + 1, (distances <= radius + 1e-12).sum(axis=1) - 1))

    places = surroundings(everything)
    alone = sum(surroundings([i]) for i in everything)
    others = sum(surroundings([j for j in everything if j != i]) for i in everything)
    return places + (order - 1) * digamma(n) - alone, (order - 1) * places + digamma(n) - others


def test_neighbours_are_those_of_all_distances():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(150, 5)) @ rng.normal(size=(5, 5))
    x[:, 3:] = np.round(2 * x[:, 3:])
    found = higher_order_information(x, orders=(2, 5), method="ksg", k=3, n_jobs=2)
    errors = found.standard_errors()
    for row, members in enumerate(rows_of(found)):
        total, dual = slow_ksg(x[:, members], 3)
        assert found.total_correlation[row] == pytest.approx(total.mean(), abs=1e-10)
        assert found.dual_total_correlation[row] == pytest.approx(dual.mean(), abs=1e-10)
        sums = {"o_information": total - dual, "s_information": total + dual}
        for name, local in {"total_correlation": total, "dual_total_correlation": dual, **sums}.items():
            assert errors[name][row] == pytest.approx(local.std(ddof=1) / sqrt(150), abs=1e-10)
            assert found[[row, 0]].standard_errors()[name][0] == found[row].standard_errors()[name] == errors[name][row]
    in_bits = higher_order_information(x, orders=(2, 5), method="ksg", k=3, base=2).standard_errors()
    np.testing.assert_allclose(in_bits["o_information"] * log(2), errors["o_information"], atol=1e-14)


@pytest.mark.parametrize("method", ["gaussian", "gaussian_copula", "ksg"])
def test_n_plets_are_those_of_functions_of_one_set(method):
    rng = np.random.default_rng(15)
    x = rng.normal(size=(120, 4)) @ rng.normal(size=(4, 4))
    x[:, 3] = np.round(2 * x[:, 3])
    found = higher_order_information(x, orders=(2, 4), method=method)
    for row, members in enumerate(rows_of(found)):
        total = total_correlation(x[:, members], method=method)
        dual = dual_total_correlation(x[:, members], method=method)
        assert found.total_correlation[row] == pytest.approx(total.value, abs=1e-10)
        assert found.dual_total_correlation[row] == pytest.approx(dual.value, abs=1e-10)


def test_rounded_values_have_nearly_the_information_of_the_exact_ones():
    x = with_correlations(0.5 * np.eye(3) + 0.5, n=1000)
    exact, rounded = (higher_order_information(v, orders=3, method="ksg") for v in (x, np.round(x, 1)))
    assert rounded.total_correlation[0] == pytest.approx(exact.total_correlation[0], abs=0.03)
    assert rounded.o_information[0] == pytest.approx(exact.o_information[0], abs=0.03)


def test_neighbours_find_the_gaussian_values():
    found = higher_order_information(with_correlations(0.5 * np.eye(3) + 0.5), orders=3, method="ksg")
    assert found.total_correlation[0] == pytest.approx(0.346574, abs=0.02)
    assert found.o_information[0] == pytest.approx(0.084950, abs=0.02)


def test_one_distance_for_all_subspaces_has_less_error_than_entropies_apart():
    # The O-information of independent variables by subtracted entropies of Kozachenko and Leonenko is low by 0.02, and
    # its error three times that within one distance.
    x = np.random.default_rng(5).normal(size=(500, 6))
    n, k = len(x), 4

    def h(columns):
        distance = KDTree(x[:, columns]).query(x[:, columns], k=k + 1, p=np.inf)[0][:, -1]
        return digamma(n) - digamma(k) + len(columns) * np.mean(np.log(2 * distance))

    apart = [h(list(c)) + sum(h([i]) - h([j for j in c if j != i]) for i in c) for c in combinations(range(6), 3)]
    together = higher_order_information(x, orders=3, method="ksg", k=k).o_information
    assert np.sqrt(np.mean(together**2)) < 0.5 * np.sqrt(np.mean(np.square(apart)))


@pytest.mark.parametrize("method", ["gaussian", "gaussian_copula", "ksg"])
def test_scales_do_not_matter_as_they_do_to_hoi(method):
    # Entropies of nearest neighbours clipped at 0 spoil what is made of variables that are small in their unit.
    rng = np.random.default_rng(6)
    x = rng.normal(size=(200, 4)) @ rng.normal(size=(4, 4))
    found = higher_order_information(x, orders=(3, 4), method=method)
    scaled = higher_order_information(x * [1e-200, 1e-3, 1, 1e150] + [0, 3, 0, 0], orders=(3, 4), method=method)
    np.testing.assert_allclose(scaled.total_correlation, found.total_correlation, atol=1e-9)
    np.testing.assert_allclose(scaled.dual_total_correlation, found.dual_total_correlation, atol=1e-9)


@pytest.mark.parametrize("method", ["gaussian", "gaussian_copula", "ksg", "miller_madow"])
def test_a_constant_adds_nothing(method):
    rng = np.random.default_rng(7)
    x = rng.integers(0, 30, (100, 4)).astype(float) if method == "miller_madow" else rng.normal(size=(100, 4))
    x[:, 1] = 0.1
    found = higher_order_information(x, orders=(2, 4), method=method)
    values = {members: row for row, members in enumerate(rows_of(found))}
    for members in ((0, 2), (0, 2, 3)):
        both = values[members], values[tuple(sorted((1, *members)))]
        for field in ("total_correlation", "dual_total_correlation"):
            without, with_constant = getattr(found, field)[list(both)]
            assert with_constant == pytest.approx(without, abs=1e-12)
    assert found.total_correlation[values[0, 1]] == found.dual_total_correlation[values[0, 1]] == 0


def test_pairs_share_their_mutual_information():
    x = np.random.default_rng(8).integers(0, 3, (80, 5))
    found = higher_order_information(x, orders=2, method="zhang")
    pairs = mutual_information_matrix(x, method="zhang").values
    for row, (i, j) in enumerate(rows_of(found)):
        assert found.total_correlation[row] == pytest.approx(pairs[i, j], abs=1e-12)
        assert found.dual_total_correlation[row] == pytest.approx(pairs[i, j], abs=1e-12)


@pytest.mark.parametrize("method", ["gaussian", "plugin", "ksg"])
def test_threads_and_batches_change_nothing(method, monkeypatch):
    x = np.random.default_rng(9).integers(0, 40, (60, 7)) + np.random.default_rng(10).normal(size=(60, 7))
    x = x.round() if method == "plugin" else x
    plain = higher_order_information(x, orders=(2, 4), method=method)
    monkeypatch.setattr(_n_plets, "_BATCH", 5)
    divided = higher_order_information(x, orders=(2, 4), method=method, n_jobs=3)
    np.testing.assert_array_equal(divided.members, plain.members)
    np.testing.assert_array_equal(divided.total_correlation, plain.total_correlation)
    np.testing.assert_array_equal(divided.dual_total_correlation, plain.dual_total_correlation)


def test_labels_rankings_and_tables():
    rng = np.random.default_rng(11)
    a, b, c, d = rng.normal(size=(4, 1000))
    frame = pandas.DataFrame({"a": a, "b": b, "sum": a + b + 0.1 * c, "copy": a + 0.1 * d})
    found = higher_order_information(frame, orders=(3, 4))
    assert found.labels == ("a", "b", "sum", "copy")
    assert found.most_redundant(1).variables(0) == ("a", "sum", "copy")
    assert found.most_synergistic(1).variables(0) == ("a", "b", "sum")
    ranked = found.most_synergistic(3)
    assert len(ranked) == 3
    assert list(ranked.o_information) == sorted(found.o_information)[:3]
    rows = found.to_table().to_pylist()
    assert [row["variables"] for row in rows] == [list(found.variables(i)) for i in range(len(found))]
    assert [row["order"] for row in rows] == [3, 3, 3, 3, 4]
    assert [row["o_information"] for row in rows] == list(found.o_information)
    assert repr(found) == "HigherOrderInformation(5 n-plets of 3 to 4 of 4 variables, nat, gaussian_copula, n=1000)"
    assert rows_of(found[found.order == 4]) == [(0, 1, 2, 3)]


@pytest.mark.parametrize("independent", [True, False])
def test_standard_errors_are_the_spread(independent):
    rng = np.random.default_rng(13)
    mixing = np.eye(4) if independent else np.linalg.cholesky(np.cov(rng.normal(size=(4, 9))))
    draws = [
        higher_order_information(rng.normal(size=(150, 4)) @ mixing.T, orders=(3, 4), method="gaussian", base=2)
        for _ in range(400)
    ]
    for name in ("total_correlation", "dual_total_correlation", "o_information", "s_information"):
        spread = np.std([getattr(draw, name) for draw in draws], axis=0)
        claimed = np.mean([draw.standard_errors()[name] for draw in draws], axis=0)
        # The squares of correlations that are 0 are 1/N on average, which makes the claim √2 too wide for independent
        # variables (for O, whose spread is of a higher order, up to twice).
        low, high = (0.9, 2.5) if independent else (0.8, 1.25)
        assert np.all((low * spread < claimed) & (claimed < high * spread)), name


def test_standard_errors_of_selected_n_plets():
    x = np.random.default_rng(14).normal(size=(50, 5))
    x[:, 3] = 1
    found = higher_order_information(x, orders=(2, 4))
    errors = found.standard_errors()
    some = [3, 11, 20]
    for name, values in found[some].standard_errors().items():
        np.testing.assert_allclose(values, errors[name][some])
    with_constant = rows_of(found).index((0, 3))
    assert errors["total_correlation"][with_constant] == 0
    # A constant is left out of an n-plet, and with it its neighbours' distances: two variables have no O-information.
    by_neighbours = higher_order_information(x, orders=(2, 4), method="ksg").standard_errors()
    assert by_neighbours["total_correlation"][with_constant] == 0
    assert by_neighbours["o_information"][:10] == pytest.approx(np.zeros(10), abs=1e-9)
    with pytest.raises(ValueError, match="not known of n-plets by method 'plugin'"):
        higher_order_information(x > 0, orders=3, method="plugin").standard_errors()


@pytest.mark.slow
def test_standard_errors_of_neighbours_are_a_lower_bound():
    rng = np.random.default_rng(16)
    mixing = np.linalg.cholesky(0.5 * np.eye(5) + 0.5)
    draws = [
        higher_order_information(rng.normal(size=(300, 5)) @ mixing.T, orders=(3, 4), method="ksg") for _ in range(200)
    ]
    for name in ("total_correlation", "dual_total_correlation", "o_information", "s_information"):
        spread = np.std([getattr(draw, name) for draw in draws], axis=0, ddof=1)
        claimed = np.mean([draw.standard_errors()[name] for draw in draws], axis=0)
        # The spread of 200 draws is known to 5%, that of the fifteen n-plets together better.
        assert 0.65 < np.mean(claimed / spread) < 1.0, name


X = np.random.default_rng(12).normal(size=(30, 4))


@pytest.mark.parametrize(
    ("variables", "options", "message"),
    [
        (X, {"orders": (3, 5)}, "at most the number of variables, 4"),
        (X, {"orders": (4, 3)}, "a smallest and a largest one"),
        (X, {"orders": 1}, "at least 2"),
        (X, {"orders": 3, "method": "nsb"}, "method must be one of gaussian_copula"),
        (X, {"orders": 3, "n_jobs": 0}, "n_jobs must be positive"),
        (X, {"orders": 3, "method": "ksg", "k": 30}, "k must be an integer from 1 to 29"),
        (X, {"orders": 3, "base": 1}, "base must be positive"),
        (X[:4], {"orders": 3}, "take at least 5 samples"),
        (X[:, 0], {"orders": 2}, r"got shape \(30,\)"),
        (X[:, :1], {"orders": 2}, "at least 2 variables"),
        ([X[:, 0], X[:9, 1]], {"orders": 2}, "vectors of the same length"),
        (np.where(X > 2, np.nan, X), {"orders": 2}, "of variable . are NaN or infinite"),
        (pandas.DataFrame({"p": X[:, 0], "q": X[:, 1], "r": X[:, 0] - X[:, 1]}), {"orders": 3}, "p, q, r are linearly"),
        (np.arange(40_000).reshape(20_000, 2), {"orders": 2, "method": "plugin"}, "is it discrete"),
    ],
)
def test_wrong_arguments_are_explained(variables, options, message):
    options = {"method": "gaussian"} | options
    with pytest.raises(ValueError, match=message):
        higher_order_information(variables, **options)


def test_words_are_no_numbers():
    with pytest.raises(TypeError, match="variable 1 must hold real numbers"):
        higher_order_information([X[:3, 0], ["a", "b", "c"]], orders=2)


def test_few_variables_have_the_orders_there_are():
    samples = np.random.default_rng(0).normal(size=(200, 4))
    assert set(higher_order_information(samples).order) == {3, 4}
    assert set(higher_order_information(samples[:, :3]).order) == {3}
    with pytest.raises(ValueError, match="at least 3 variables are needed"):
        higher_order_information(samples[:, :2])
