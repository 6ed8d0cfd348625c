from math import log

import numpy as np
import pandas
import pytest
from scipy.special import digamma, fdtrc
from scipy.stats import kstest

from isentrope.measures.mutual_information import mutual_information
from isentrope.measures.transfer import transfer_entropy
from isentrope.measures.transfer_matrix import transfer_entropy_matrix


def chain(n, seed=0):
    """x drives y, which drives z; w stands alone."""
    noise = np.random.default_rng(seed).normal(size=(n, 4))
    series = np.zeros((n, 4))
    for t in range(1, n):
        x, y, z, w = series[t - 1]
        series[t] = noise[t] + [0.3 * x, 0.4 * y + 0.8 * x, 0.2 * z + 0.6 * y, 0.5 * w]
    return pandas.DataFrame(series, columns=["x", "y", "z", "w"])


def test_closed_form_of_a_driven_series():
    # y_t = a y_{t-1} + b x_{t-1} + s e with white x: ½ ln(1 + b²/s²), and nothing the other way.
    rng = np.random.default_rng(1)
    x, noise = rng.normal(size=(2, 20_000))
    y = np.zeros_like(x)
    for t in range(1, len(y)):
        y[t] = 0.5 * y[t - 1] + 0.7 * x[t - 1] + 1.2 * noise[t]
    truth = log(1 + (0.7 / 1.2) ** 2) / 2
    for method in ("gaussian", "gaussian_copula"):
        found = transfer_entropy_matrix([x, y], method=method)
        assert abs(found.values[0, 1] - truth) < 4 * found.stderr[0, 1]
        assert found.stderr[0, 1] < 0.005
        assert abs(found.values[1, 0]) < 1e-3
        assert found.pvalues[0, 1] < 1e-100
        assert found.pvalues[1, 0] > 0.001
    bits = transfer_entropy_matrix([x, y], method="gaussian", base=2)
    nats = transfer_entropy_matrix([x, y], method="gaussian")
    np.testing.assert_allclose(bits.values, nats.values / log(2))
    np.testing.assert_array_equal(bits.pvalues, nats.pvalues)


def residual(y, regressors):
    design = np.column_stack([np.ones(len(y)), *regressors])
    return float(np.sum((y - design @ np.linalg.lstsq(design, y, rcond=None)[0]) ** 2))


def test_gaussian_entries_are_regressions():
    data = chain(300).to_numpy()
    found = transfer_entropy_matrix(data, method="gaussian", lag=2, source_history=2, target_history=3)
    n = 297
    assert found.n == n

    def bias(size):
        return sum(log((n - 1) / 2) - digamma((n - i) / 2) for i in range(1, size + 1)) / 2

    for i in range(4):
        for j in range(4):
            if i == j:
                assert found.values[i, j] == 0
                assert np.isnan(found.pvalues[i, j])
                continue
            own = [data[3 - u : 300 - u, j] for u in (1, 2, 3)]
            sent = [data[3 - u : 300 - u, i] for u in (2, 3)]
            alone, both = residual(data[3:, j], own), residual(data[3:, j], own + sent)
            expected = log(alone / both) / 2 + bias(4) + bias(5) - bias(3) - bias(6)
            assert found.values[i, j] == pytest.approx(expected, abs=1e-9)
            # The share of the rest that the source's past explains, and two variables more.
            assert found.stderr[i, j] == pytest.approx(np.sqrt((1 - both / alone) / n + 2 / (2 * n**2)))
            f = (alone - both) / 2 / (both / (n - 6))
            assert found.pvalues[i, j] == pytest.approx(fdtrc(2, n - 6, f), rel=1e-6)


@pytest.mark.parametrize("method", ["gaussian", "gaussian_copula", "frenzel_pompe"])
def test_entries_are_those_of_pairs(method):
    frame = chain(200)
    options = {"method": method, "lag": 2, "source_history": 1, "target_history": 2}
    found = transfer_entropy_matrix(frame, **options, n_jobs=2)
    for i, source in enumerate(frame):
        for j, target in enumerate(frame):
            if i != j:
                pair = transfer_entropy(frame[source], frame[target], **options)
                assert found.values[i, j] == pytest.approx(pair.value, abs=1e-9)
                assert found.n == pair.n
                if method == "frenzel_pompe":
                    assert found.stderr[i, j] == pytest.approx(pair.stderr)


def test_links_of_a_chain():
    frame = chain(1000)
    found = transfer_entropy_matrix(frame, method="gaussian")
    assert [(link.source, link.target) for link in found.links(0.001)][:2] == [("x", "y"), ("y", "z")]
    assert all(link.source not in "zw" and link.target not in "xw" for link in found.links(0.001))
    adjusted = found.adjusted_pvalues()
    apart = ~np.eye(4, dtype=bool)
    assert (adjusted[apart] >= found.pvalues[apart]).all()
    assert found.labels == ("x", "y", "z", "w")
    np.testing.assert_array_equal(np.asarray(found), found.values)


def test_false_alarms_are_as_rare_as_they_should_be():
    rng = np.random.default_rng(2)
    pvalues, found = [], 0
    for _ in range(150):
        matrix = transfer_entropy_matrix(rng.normal(size=(40, 4)), method="gaussian", source_history=2)
        pvalues.append(matrix.pvalues[0, 1])
        found += bool(matrix.links(0.1))
    assert kstest(pvalues, "uniform").pvalue > 0.01
    # At least one link in a tenth of the matrices; 12 tests on 4 series are nearly independent.
    assert found / 150 == pytest.approx(0.1, abs=0.075)


def test_symbols_are_shuffled_for_their_p_values():
    rng = np.random.default_rng(3)
    x = rng.integers(0, 2, 300)
    y = np.concatenate([[0], x[:-1]]) ^ (rng.random(300) < 0.1)
    found = transfer_entropy_matrix([x, y], n_resamples=19, rng=0)
    assert found.method == "auto"
    assert found.pvalues[0, 1] == 0.05
    assert found.pvalues[1, 0] > 0.05
    again = transfer_entropy_matrix([x, y], n_resamples=19, rng=0, n_jobs=2)
    np.testing.assert_array_equal(again.pvalues, found.pvalues)


@pytest.mark.parametrize("method", ["gaussian", "gaussian_copula", "auto"])
def test_a_constant_sends_and_receives_nothing(method):
    x, y = np.random.default_rng(4).normal(size=(2, 100))
    found = transfer_entropy_matrix([x, np.full(100, 0.1), y], method=method, n_resamples=9, rng=0)
    for pair in ((0, 1), (1, 0), (1, 2), (2, 1)):
        assert found.values[pair] == found.stderr[pair] == 0
        assert found.pvalues[pair] == 1


X = np.random.default_rng(5).normal(size=(30, 3))


@pytest.mark.parametrize(
    ("series", "options", "message"),
    [
        (X, {"lag": 0}, "lag must be an integer of at least 1"),
        (X, {"n_resamples": -1}, "n_resamples must be an integer of at least 0"),
        (X, {"n_jobs": 0}, "n_jobs must be positive"),
        (X, {"target_history": 20, "source_history": 20}, "30 samples are too few"),
        (X[:, :1], {}, "at least 2 variables"),
        (np.column_stack([X, X[:, 0]]), {}, "the values of . and . at these lags are linearly dependent"),
        (X, {"method": "best"}, "method must be"),
    ],
)
def test_wrong_arguments_are_explained(series, options, message):
    with pytest.raises(ValueError, match=message):
        transfer_entropy_matrix(series, **{"method": "gaussian"} | options)


def test_adjusting_takes_p_values():
    with pytest.raises(ValueError, match="there are no p-values"):
        transfer_entropy_matrix(X, method="frenzel_pompe").adjusted_pvalues()


def test_a_level_that_is_just_reached_counts_and_the_largest_link_comes_first():
    found = transfer_entropy_matrix(chain(300), method="gaussian")
    adjusted = np.sort(found.adjusted_pvalues()[~np.eye(4, dtype=bool)])
    links = found.links(adjusted[2])
    assert len(links) == 3
    assert [link.value for link in links] == sorted((link.value for link in links), reverse=True)
    assert max(link.adjusted_pvalue for link in links) == adjusted[2]


def test_as_few_samples_as_a_covariance_of_all_takes():
    x = np.random.default_rng(6).normal(size=(7, 2))
    options = {"method": "gaussian", "source_history": 2, "target_history": 1}
    # Two are lost to the histories, and four variables ask for six of the rest.
    with pytest.raises(ValueError, match="7 samples are too few"):
        transfer_entropy_matrix(x, **options)
    x = np.random.default_rng(6).normal(size=(8, 2))
    pair = transfer_entropy(x[:, 0], x[:, 1], k=1, **options)
    assert transfer_entropy_matrix(x, **options).values[0, 1] == pytest.approx(pair.value, abs=1e-9)


def test_series_that_are_all_but_the_same_are_refused():
    x, noise = np.random.default_rng(7).normal(size=(2, 200))
    with pytest.raises(ValueError, match="linearly dependent"):
        transfer_entropy_matrix([x, x + 1e-7 * noise], method="gaussian")


def test_a_past_that_explains_exactly_nothing_has_the_p_value_one():
    # Both partial sums of squares are equal; rounded, what is explained may come out below 0, of which F knows no chance.
    source, target = [1, 1, 0, 0, 1, 1, 0, 0], [0, 1, 1, 1, 0, 1, 0, 1]
    found = transfer_entropy_matrix([source, target], method="gaussian")
    assert found.pvalues[0, 1] == pytest.approx(1, abs=1e-6)
    assert found.stderr[0, 1] == pytest.approx(np.sqrt(1 / 2) / 7)


def test_a_past_without_variance_is_no_past():
    # The target changes in its last step alone: what its past tells is nothing, and a pair's information is left.
    source = np.random.default_rng(8).normal(size=30)
    target = np.where(np.arange(30) == 29, 1.0, 0.0)
    found = transfer_entropy_matrix([source, target], method="gaussian")
    expected = mutual_information(source[:-1], target[1:], method="gaussian")
    assert found.values[0, 1] == pytest.approx(expected.value, abs=1e-12)
