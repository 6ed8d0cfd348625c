"""Labels of most information against exhaustive searches, and confirmation by its identities."""

from itertools import combinations, product
from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isentrope.measures import confirmation, informative_labels, semantic_mutual_information, truth_function


def information(p):
    expected = p.sum(axis=1, keepdims=True) * p.sum(axis=0)
    return float(np.sum(p[p > 0] * np.log(p[p > 0] / expected[p > 0])))


def used(p, labels, n):
    return np.array([[p[x, labels == j].sum() for j in range(n)] for x in range(len(p))])


@pytest.mark.parametrize("seed", range(20))
def test_best_labels_of_two_values_are_intervals(seed):
    p = np.random.default_rng(seed).dirichlet(np.ones(20)).reshape(2, 10)
    p[0, seed % 3 : 3] = p[1, 9 - seed % 3 :] = 0  # some exclude a value
    p /= p.sum()
    ordered = p[:, np.argsort(p[0] / p.sum(axis=0))]
    splits = [np.split(ordered, cut, axis=1) for cut in combinations(range(1, 10), 2)]
    best = max(information(np.column_stack([part.sum(axis=1) for part in parts])) for parts in splits)
    assert informative_labels(p, 3, rng=0).information == pytest.approx(best, rel=1e-12)


def test_no_labels_of_three_values_tell_more():
    p = np.random.default_rng(5).dirichlet(np.full(18, 0.5)).reshape(3, 6)
    best = max(information(used(p, np.array(labels), 2)) for labels in product(range(2), repeat=6))
    found = informative_labels(p, 2, rng=0, base=2)
    assert found.information == pytest.approx(best / log(2), rel=1e-12)
    assert found.bound == pytest.approx(information(p) / log(2), rel=1e-12)
    # Each observation has the label that tells the most of it, the truth functions being those of the labels.
    joint = used(p, found.labels, 2)
    told = np.log(joint / (joint.sum(axis=1, keepdims=True) * joint.sum(axis=0)))
    assert np.argmax((p / p.sum(axis=0)).T @ told, axis=1).tolist() == found.labels.tolist()


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(1, 5))
def test_labels_keep_what_they_say_they_keep(seed, n_labels):
    p = np.random.default_rng(seed).dirichlet(np.full(24, 0.3)).reshape(3, 8)
    found = informative_labels(p, n_labels, n_starts=3, rng=0)
    joint = used(p, found.labels, n_labels)
    assert found.information == pytest.approx(information(joint), abs=1e-12)
    assert found.information <= found.bound + 1e-12
    channel = joint / joint.sum(axis=1, keepdims=True)
    assert semantic_mutual_information(joint, truth_function(channel)) == pytest.approx(found.information, abs=1e-12)


def test_observations_that_say_the_same_need_one_label():
    # Three kinds of observations, each four times in parts, and one that never occurs.
    kinds = np.array([[0.3, 0.1, 0.05], [0.05, 0.2, 0.3]])
    p = np.column_stack([np.repeat(kinds, 4, axis=1) * np.tile([0.1, 0.2, 0.3, 0.4], 3), [0, 0]])
    found = informative_labels(p, 3, rng=0)
    assert found.information == pytest.approx(found.bound, rel=1e-12)
    assert found.labels[-1] == -1
    assert [len(set(found.labels[4 * k : 4 * k + 4])) for k in range(3)] == [1, 1, 1]
    assert informative_labels(p, 1, rng=0).information == 0


@settings(max_examples=30)
@given(st.integers(0, 10**6))
def test_confirmation_by_its_identities(seed):
    joint = np.random.default_rng(seed).dirichlet(np.ones(4)).reshape(2, 2)
    found, opposite = confirmation(joint), confirmation(joint[::-1])
    assert (opposite.channel, opposite.prediction) == pytest.approx((-found.channel, -found.prediction), abs=1e-12)
    truth = truth_function(joint / joint.sum(axis=1, keepdims=True))[:, 0]
    assert found.channel == pytest.approx(1 - truth[1] if truth[0] == 1 else truth[0] - 1, abs=1e-12)
    odds = joint[0, 0] / joint[1, 0]
    assert found.prediction == pytest.approx(1 - 1 / odds if odds > 1 else odds - 1, abs=1e-12)
    # The channel does not depend on how frequent h is.
    rarer = joint * np.array([[0.1], [1.0]])
    assert confirmation(rarer / rarer.sum()).channel == pytest.approx(found.channel, abs=1e-12)


def test_a_rule_without_counterexamples_is_certain():
    assert confirmation([[0.2, 0.3], [0.0, 0.5]]) == (1.0, 1.0)
    assert confirmation([[0.0, 0.3], [0.2, 0.5]]) == (-1.0, -1.0)
    assert confirmation([[0.25, 0.25], [0.25, 0.25]]) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: confirmation([[0.5, 0.2, 0.3]]), r"shape \(2, 2\) \(got \(1, 3\)\)"),
        (lambda: confirmation([[0.5, 0.5], [0.0, 0.0]]), "h true and false at times"),
        (lambda: confirmation([[0.0, 0.5], [0.0, 0.5]]), "must have e at times"),
        (lambda: informative_labels([[0.5, 0.5]], 0), "n_labels must be an integer of at least 1"),
        (lambda: informative_labels([[0.5, 0.5]], 2, n_starts=0), "n_starts must be an integer of at least 1"),
        (lambda: informative_labels([0.5, 0.5], 2), "joint must be .* two axes"),
    ],
)
def test_wrong_arguments_are_explained(call, message):
    with pytest.raises(ValueError, match=message):
        call()
