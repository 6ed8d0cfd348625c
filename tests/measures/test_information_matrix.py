import numpy as np
import pandas
import pytest

from isentrope.measures.discrete_information import discrete_mutual_information
from isentrope.measures.information_matrix import mutual_information_matrix


def variables(n, alphabet):
    rng = np.random.default_rng(0)
    common = rng.integers(0, 50, n)
    return [(common + rng.integers(0, 4, n)) % size for size in alphabet]


# Blocks of one and of several variables, a constant, and a variable of more values than are packed.
@pytest.mark.parametrize(("n", "alphabet"), [(400, (2, 3, 1, 5, 300)), (20_000, (8, 8, 2, 2, 2, 100)), (1, (1, 1))])
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


@pytest.mark.parametrize(
    ("options", "message"),
    [({"method": "nsb"}, "method must be one of plugin"), ({"n_jobs": 0}, "n_jobs must be positive, or -1")],
)
def test_wrong_arguments_are_explained(options, message):
    with pytest.raises(ValueError, match=message):
        mutual_information_matrix([[0, 1], [1, 0]], **options)
