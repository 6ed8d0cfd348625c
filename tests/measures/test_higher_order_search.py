from itertools import combinations

import numpy as np
import pandas
import pytest

from isentrope.measures import higher_order_information
from isentrope.measures.higher_order_search import _exchanged, strongest_n_plets


def planted(n=1500, d=14):
    """A sum of four among the first variables, five copies of a common cause, and noise."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, d))
    x[:, 4] = 0.5 * x[:, 4] + x[:, :4].sum(axis=1)
    x[:, 5:10] = 0.5 * x[:, 5:10] + rng.normal(size=(n, 1))
    return x


def entangled(seed, n=400, d=13):
    """Everything depends on everything, more or less."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ (np.eye(d) + 0.4 * rng.normal(size=(d, d)))


def rows_of(found):
    return [tuple(int(i) for i in row) for row in found.members]


def assert_same(found, expected):
    assert rows_of(found) == rows_of(expected)
    for field in ("total_correlation", "dual_total_correlation", "o_information"):
        np.testing.assert_allclose(getattr(found, field), getattr(expected, field), atol=1e-9)
    for name, errors in expected.standard_errors().items():
        np.testing.assert_allclose(found.standard_errors()[name], errors, rtol=1e-6)


@pytest.mark.parametrize("samples", [planted(), entangled(1), entangled(2)], ids=["planted", "entangled", "other"])
@pytest.mark.parametrize("order", [3, 4, 6])
def test_the_strongest_of_all_are_found(samples, order):
    every = higher_order_information(samples, orders=order, base=2)
    assert_same(strongest_n_plets(samples, order=order, sign=1, base=2), every.most_redundant(10))
    assert_same(strongest_n_plets(samples, order=order, sign=-1, base=2), every.most_synergistic(10))
    largest = every[np.argsort(-np.abs(every.o_information), kind="stable")[:10]]
    assert_same(strongest_n_plets(samples, order=order, base=2), largest)


def test_what_was_planted_among_many_is_found():
    rng = np.random.default_rng(3)
    samples = rng.normal(size=(1000, 60))
    sources, copies = [2, 9, 17, 23, 31, 40, 44, 52, 58], list(range(3, 60, 7))
    samples[:, copies] = 0.4 * samples[:, copies] + rng.normal(size=(1000, 1))
    whole = samples[:, sources].sum(axis=1)
    samples[:, 5] = 0.3 * samples[:, 5] + whole
    frame = pandas.DataFrame(samples, columns=[f"x{i}" for i in range(60)])
    # Of 75 thousand million subsets of ten.
    found = strongest_n_plets(frame, order=10, sign=-1, count=1, width=30)
    assert found.variables(0) == tuple(f"x{i}" for i in sorted([5, *sources]))
    found = strongest_n_plets(frame, order=9, sign=1, count=1, width=30, method="gaussian")
    assert found.variables(0) == tuple(f"x{i}" for i in copies)


def test_exchanges_are_all_neighbours():
    found = {
        tuple(sorted(row))
        for row in _exchanged(np.array([[0, 2, 5], [1, 2, 3]]), np.array([0, 1, 2, 3, 5, 6])).tolist()
    }
    expected = {
        other
        for members in ({0, 2, 5}, {1, 2, 3})
        for other in combinations([0, 1, 2, 3, 5, 6], 3)
        if len(members & set(other)) == 2
    }
    assert found == expected


def test_constants_are_left_out():
    samples = planted(d=11)
    samples[:, 10] = 3.0
    found = strongest_n_plets(samples, order=4, count=400)
    assert 0 < len(found) <= 210
    assert 10 not in found.members


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 2}, "order must be an integer of at least 3"),
        ({"order": 15}, "order must be at most 14 for 14 variables"),
        ({"order": 4, "sign": 0}, r"sign must be 1 \(redundancy\), -1 \(synergy\) or None"),
        ({"order": 4, "method": "ksg"}, "method must be one of gaussian_copula, gaussian"),
        ({"order": 4, "count": 0}, "count must be an integer of at least 1"),
        ({"order": 4, "width": 0}, "width must be an integer of at least 1"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        strongest_n_plets(planted(100), **options)


def test_dependent_variables_are_named():
    samples = np.random.default_rng(4).normal(size=(100, 6))
    samples[:, 5] = samples[:, :4].sum(axis=1)
    with pytest.raises(ValueError, match="variables 0, 1, 2, 3, 5 are linearly dependent"):
        strongest_n_plets(samples, order=5, method="gaussian")
