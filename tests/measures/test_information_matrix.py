import numpy as np
import pandas
import pytest

from isentrope.measures.discrete_information import discrete_mutual_information
from isentrope.measures.information_matrix import mutual_information_matrix
from isentrope.measures.mutual_information import mutual_information


def variables(n, alphabet):
    rng = np.random.default_rng(0)
    common = rng.integers(0, 50, n)
    # Sizes beyond those of what is common are reached too.
    return [(common + rng.integers(0, 4, n) if size < 50 else rng.permutation(n)) % size for size in alphabet]


# Blocks of one and of several variables, a constant, and a variable of more values than are packed.
@pytest.mark.parametrize(
    ("n", "alphabet"), [(400, (2, 3, 1, 5, 256, 257)), (20_000, (8, 8, 2, 2, 2, 100)), (1, (1, 1))]
)
@pytest.mark.parametrize("method", ["miller_madow", "grassberger"])
def test_entries_are_those_of_pairs(n, alphabet, method):
    columns = variables(n, alphabet)
    found = mutual_information_matrix(columns, method=method, base=2, n_jobs=2)
    for i, x in enumerate(columns):
        for j, y in enumerate(columns):
            pair = discrete_mutual_information(x, y, method=method, base=2)
            assert found.values[i, j] == pytest.approx(pair.value, abs=1e-12)
            assert found.stderr[i, j] == pytest.approx(pair.stderr, abs=1e-10, nan_ok=True)
    assert (found.n, found.unit, found.method) == (n, "bit", method)


def test_constants_inform_of_exactly_nothing():
    found = mutual_information_matrix(variables(500, (4, 1, 3)))
    np.testing.assert_array_equal(found.values[1], 0)
    np.testing.assert_array_equal(found.stderr[1], 0)


def test_frames_keep_their_labels():
    a, b = variables(200, (3, 4))
    found = mutual_information_matrix(pandas.DataFrame({"a": a.astype(str), "b": b}))
    assert found.labels == ("a", "b")
    np.testing.assert_array_equal(np.asarray(found), mutual_information_matrix([a, b]).values)


def test_an_error_names_the_columns():
    numbers = np.random.default_rng(0).normal(size=20)
    names = pandas.DataFrame({"name": [f"n{i}" for i in range(20)], "size": numbers})
    with pytest.raises(ValueError, match=r"mutual_information_matrix: variables name and size: .* symbols occur once"):
        mutual_information_matrix(names)
    with pytest.raises(ValueError, match="mutual_information_matrix: variable name: 1 of 20 samples are missing"):
        mutual_information_matrix(names.assign(name=["a", None, *"bb" * 9]))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"method": "nsb"}, "method must be one of auto, plugin"), ({"n_jobs": 0}, "n_jobs must be positive, or -1")],
)
def test_wrong_arguments_are_explained(options, message):
    with pytest.raises(ValueError, match=message):
        mutual_information_matrix([[0, 1], [1, 0]], **options)


@pytest.mark.parametrize("method", ["gaussian", "gaussian_copula", "ksg"])
def test_continuous_entries_are_those_of_pairs(method):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(120, 4)) @ rng.normal(size=(4, 4))
    found = mutual_information_matrix(x, method=method, base=2, n_jobs=2)
    for i in range(4):
        for j in range(4):
            if i == j:
                assert found.values[i, j] == np.inf
                continue
            pair = mutual_information(x[:, i], x[:, j], method=method, base=2)
            assert found.values[i, j] == pytest.approx(pair.value, abs=1e-9)
            if method == "gaussian":
                share = np.corrcoef(x[:, i], x[:, j])[0, 1] ** 2
                assert found.stderr[i, j] * np.log(2) == pytest.approx(np.sqrt(share / 120 + 1 / (2 * 120**2)))
            if method == "ksg":
                assert found.stderr[i, j] == pytest.approx(pair.stderr)
    assert found.kinds == ("continuous",) * 4


def test_standard_error_of_gaussian_entries_is_their_spread():
    rng = np.random.default_rng(2)
    mixing = np.linalg.cholesky([[1, 0.6, 0], [0.6, 1, 0], [0, 0, 1]])
    draws = [mutual_information_matrix(rng.normal(size=(80, 3)) @ mixing.T, method="gaussian") for _ in range(400)]
    values = np.array([draw.values for draw in draws])
    stderr = np.mean([draw.stderr for draw in draws], axis=0)
    for pair in ((0, 1), (0, 2)):
        assert values[(slice(None), *pair)].std() == pytest.approx(stderr[pair], rel=0.3)
    # -½ ln(1 - 0.36) and nothing: without bias even at 80 samples.
    assert values[:, 0, 1].mean() == pytest.approx(0.2231, abs=4 * 0.07 / 20)
    assert abs(values[:, 0, 2].mean()) < 4 * 0.009 / 20


def test_columns_decide_for_each_pair():
    rng = np.random.default_rng(3)
    x = rng.normal(size=200)
    frame = pandas.DataFrame({"number": x, "sign": np.where(x > 0, "up", "down"), "count": rng.integers(0, 4, 200)})
    found = mutual_information_matrix(frame)
    assert found.method == "auto"
    assert found.kinds == ("continuous", "discrete (labels)", "discrete (4 integers)")
    for i, first in enumerate(frame):
        for j, second in enumerate(frame):
            if i != j:
                pair = mutual_information(frame[first], frame[second])
                assert found.values[i, j] == pytest.approx(pair.value, abs=1e-12)
                assert found.stderr[i, j] == pytest.approx(pair.stderr, abs=1e-10)
    assert found.values[0, 0] == np.inf
    assert found.values[1, 1] == pytest.approx(np.log(2), abs=0.01)
    assert found.values[0, 1] > 0.5 > 0.1 > abs(found.values[0, 2])
    assert mutual_information_matrix(frame[["sign", "count"]]).method == "auto"


def test_pairs_of_which_few_values_recur_are_corrected_for_what_is_unseen():
    """Counted together by Miller and Madow's estimator, they would seem to share 0.3 nat."""
    rng = np.random.default_rng(0)
    columns = [rng.integers(0, 30, 800), rng.integers(0, 30, 800), rng.integers(0, 2, 800), rng.integers(0, 400, 800)]
    found = mutual_information_matrix([column.astype(str) for column in columns])
    for i, j in np.ndindex(4, 4):
        one = discrete_mutual_information(columns[i], columns[j])
        assert found.values[i, j] == pytest.approx(one.value, abs=1e-12)
        assert found.stderr[i, j] == pytest.approx(one.stderr, abs=1e-12)
    assert discrete_mutual_information(columns[0], columns[2]).method == "miller_madow"
    assert discrete_mutual_information(columns[0], columns[1]).method == "chao_wang_jost"


def test_continuous_constants_inform_of_exactly_nothing():
    x = np.random.default_rng(4).normal(size=(60, 3))
    x[:, 1] = 0.1
    for method in ("gaussian", "gaussian_copula", "ksg", "auto"):
        found = mutual_information_matrix(x, method=method)
        np.testing.assert_array_equal(found.values[1], 0)
        np.testing.assert_array_equal(found.stderr[1], 0)


def test_a_copy_is_known_without_end():
    x = np.random.default_rng(5).normal(size=60)
    found = mutual_information_matrix([x, 3 * x + 1], method="gaussian")
    assert found.values[0, 1] == np.inf
    assert np.isnan(found.stderr[0, 1])


def test_correlations_take_four_samples():
    x = np.random.default_rng(6).normal(size=(4, 2))
    pair = mutual_information(x[:, 0], x[:, 1], method="gaussian")
    assert mutual_information_matrix(x, method="gaussian").values[0, 1] == pytest.approx(pair.value)
    with pytest.raises(ValueError, match=r"at least 4 samples \(got 3\)"):
        mutual_information_matrix(x[:3], method="gaussian")


def test_a_copy_up_to_rounding_is_known_without_end():
    x, noise = np.random.default_rng(7).normal(size=(2, 60))
    found = mutual_information_matrix([x, x + 1e-7 * noise], method="gaussian")
    assert found.values[0, 1] == np.inf
