"""Semantic information: values computed apart, identities with Shannon's information and rate-distortion, edges."""

from math import exp, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from isentrope.measures import (
    semantic_information,
    semantic_mutual_information,
    semantic_rate,
    truth_function,
)

P, TRUTH = np.array([0.3, 0.7]), np.array([[1.0, 0.2], [0.1, 1.0]])


def shannon(joint):
    product = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0)
    some = joint > 0
    return float(np.sum(joint[some] * np.log(joint[some] / product[some])))


@pytest.mark.parametrize(
    ("slope", "information", "rate"),
    [(0, -0.5958, 0), (0.5, 0.00236, 0.10971), (1, 0.39182, 0.39182), (2, 0.65704, 0.75273), (20, 0.70747, 0.88129)],
)
def test_points_of_a_curve(slope, information, rate):
    point = semantic_rate(P, TRUTH, slope, base=2)
    assert point.information == pytest.approx(information, abs=6e-5)
    assert point.rate == pytest.approx(rate, abs=6e-6)


def test_best_truth_functions_give_shannons_information():
    channel = np.array([[0.8, 0.2], [0.1, 0.9]])
    joint = P[:, None] * channel
    found = semantic_mutual_information(joint, truth_function(channel), base=2)
    assert found == pytest.approx(0.348298, abs=1e-6)
    assert found == pytest.approx(shannon(joint) / log(2), rel=1e-12)


@settings(max_examples=25)
@given(st.integers(0, 10**6))
def test_semantic_information_is_shannons_less_the_error_of_the_predictions(seed):
    rng = np.random.default_rng(seed)
    p, channel, truth = rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(3), size=4), rng.uniform(0.01, 1, (4, 3))
    joint = p[:, None] * channel
    predicted = p[:, None] * truth / (p @ truth)
    observed = joint / joint.sum(axis=0)
    errors = np.sum(observed * np.log(observed / predicted), axis=0)
    found = semantic_mutual_information(joint, truth)
    assert found == pytest.approx(shannon(joint) - joint.sum(axis=0) @ errors, abs=1e-12)
    assert semantic_mutual_information(joint, truth_function(channel)) >= found - 1e-12


def test_mean_of_the_parts_and_fuzzy_entropy():
    rng = np.random.default_rng(1)
    joint, distortion = rng.dirichlet(np.ones(6)).reshape(3, 2), rng.uniform(0, 2, (3, 2))
    p, truth = joint.sum(axis=1), np.exp(-distortion)
    found = semantic_mutual_information(joint, truth)
    assert found == pytest.approx(np.sum(joint * semantic_information(p, truth)), abs=1e-12)
    assert found == pytest.approx(-joint.sum(axis=0) @ np.log(p @ truth) - np.sum(joint * distortion), abs=1e-12)


def test_normal_truth_is_squared_error_with_a_reward_for_precision():
    x = np.linspace(-8, 8, 2001)
    p = np.exp(-(x**2) / 2) / np.exp(-(x**2) / 2).sum()
    for width in (0.3, 1.0):
        truth = np.exp(-((x - 0.5) ** 2) / (2 * width**2))[:, None]
        logical = width / (1 + width**2) ** 0.5 * exp(-(0.5**2) / (2 * (1 + width**2)))
        expected = -((x - 0.5) ** 2) / (2 * width**2) - log(logical)
        assert semantic_information(p, truth)[:, 0] == pytest.approx(expected, abs=1e-9)


def test_what_is_always_true_tells_nothing():
    assert semantic_information(P, np.ones((2, 3))) == pytest.approx(np.zeros((2, 3)), abs=1e-15)
    assert semantic_mutual_information(P[:, None] * np.full((2, 3), 1 / 3), np.ones((2, 3))) == pytest.approx(
        0, abs=1e-15
    )


def test_a_lie_costs_without_limit():
    crisp = np.eye(2)
    assert semantic_mutual_information([[0.3, 0.0], [0.0, 0.7]], crisp) == pytest.approx(
        -0.3 * log(0.3) - 0.7 * log(0.7)
    )
    assert semantic_mutual_information([[0.29, 0.01], [0.0, 0.7]], crisp) == -np.inf


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.sampled_from([-1.0, 0.4, 1.0, 3.0]))
def test_points_are_consistent(seed, slope):
    rng = np.random.default_rng(seed)
    p, truth = rng.dirichlet(np.ones(4)), rng.uniform(0.05, 1, (4, 3))
    point = semantic_rate(p, truth, slope)
    joint = p[:, None] * point.channel
    assert joint.sum(axis=0) == pytest.approx(point.labels, abs=1e-4)
    assert shannon(joint) == pytest.approx(point.rate, abs=1e-6)
    assert semantic_mutual_information(joint, truth) == pytest.approx(point.information, abs=1e-9)
    assert point.information <= point.rate + 1e-9
    if slope == 1:
        assert point.rate - point.information == pytest.approx(point.mismatch, abs=1e-9)


def test_no_channel_needs_less():
    rng = np.random.default_rng(5)
    p, truth = rng.dirichlet(np.ones(3)), rng.uniform(0.05, 1, (3, 2))
    point = semantic_rate(p, truth, 1.7)
    parts = semantic_information(p, truth)

    def lagrangian(logits):
        channel = np.exp(logits.reshape(3, 2))
        joint = p[:, None] * channel / channel.sum(axis=1, keepdims=True)
        return shannon(joint) - 1.7 * np.sum(joint * parts)

    slow = min(minimize(lagrangian, rng.normal(size=6), tol=1e-12).fun for _ in range(4))
    assert point.rate - 1.7 * point.information == pytest.approx(slow, abs=1e-8)


def test_slope_is_that_of_the_curve():
    low, high = (semantic_rate(P, TRUTH, slope) for slope in (1.499, 1.501))
    assert (high.rate - low.rate) / (high.information - low.information) == pytest.approx(1.5, abs=1e-4)


def test_crisp_labels_for_a_fair_source_are_the_curve_of_hamming():
    # Truth e^-d for d = wrong or right: the semantic curve is the rate-distortion curve R(D) = ln 2 - h(D).
    slope, cost = 0.8, 2.0
    point = semantic_rate([0.5, 0.5], [[1, exp(-cost)], [exp(-cost), 1]], slope)
    wrong = exp(-slope * cost) / (1 + exp(-slope * cost))
    assert point.channel == pytest.approx(np.array([[1 - wrong, wrong], [wrong, 1 - wrong]]), rel=1e-9)
    assert point.rate == pytest.approx(log(2) + wrong * log(wrong) + (1 - wrong) * log(1 - wrong), rel=1e-9)
    assert point.information == pytest.approx(-log((1 + exp(-cost)) / 2) - wrong * cost, rel=1e-9)


def test_rate_equals_information_at_slope_one_only_where_labels_can_explain_the_source():
    explained = semantic_rate(P, TRUTH, 1.0)
    assert explained.rate == pytest.approx(explained.information, abs=1e-9)
    assert explained.mismatch == pytest.approx(0, abs=1e-9)
    # One label that is truer of the first x: it tells less than nothing on average, at a rate of 0.
    alone = semantic_rate(P, TRUTH[:, :1], 1.0)
    assert alone.rate == pytest.approx(0, abs=1e-12)
    assert alone.information == pytest.approx(0.3 * log(1 / 0.37) + 0.7 * log(0.1 / 0.37), rel=1e-12)
    assert alone.mismatch == pytest.approx(-alone.information, rel=1e-9)


@pytest.mark.parametrize("slope", [0.5, 2.0])
def test_mismatch_is_the_divergence_of_the_source_from_what_the_labels_predict(slope):
    point = semantic_rate(P, TRUTH, slope, base=2)
    logical = [sum(P[x] * TRUTH[x, y] for x in range(2)) for y in range(2)]
    predicted = [sum(point.labels[y] * P[x] * TRUTH[x, y] / logical[y] for y in range(2)) for x in range(2)]
    divergence = sum(P[x] * log(P[x] / predicted[x]) for x in range(2)) / log(2)
    assert divergence > 1e-6
    assert point.mismatch == pytest.approx(divergence, rel=1e-9)


def test_labels_at_slope_one_are_the_weights_of_a_mixture():
    # Three bells that overlap, fitted to counts by expectation and maximisation.
    rng, x = np.random.default_rng(6), np.arange(30)
    components = np.exp(-((x[:, None] - [6, 12, 20]) ** 2) / [8, 18, 32])
    components /= components.sum(axis=0)
    p = rng.multinomial(400, components @ [0.2, 0.5, 0.3]) / 400
    seen = p > 0
    truth = np.where(seen[:, None], components / np.where(seen, p, 1)[:, None], 0)
    point = semantic_rate(p, truth / truth.max(axis=0), 1.0)
    # Components as far as they are seen: what falls on other x is missing from each alike in both fits.
    known, weights = components[seen] / components[seen].sum(axis=0), np.full(3, 1 / 3)
    for _ in range(20_000):
        joint = known * weights
        weights = p[seen] @ (joint / joint.sum(axis=1, keepdims=True))
    assert point.labels == pytest.approx(weights, abs=1e-5)
    assert point.mismatch == pytest.approx(p[seen] @ np.log(p[seen] / (known @ weights)), abs=1e-9)


def test_information_costs_least_at_slope_one():
    # The paper's information efficiency G/R; away from slope 1 each bit of G costs more than a bit of R.
    points = [semantic_rate(P, TRUTH, slope) for slope in (0.6, 0.8, 0.9, 1.0, 1.1, 1.5, 4.0)]
    efficiency = [point.information / point.rate for point in points]
    assert max(efficiency) == efficiency[3] == pytest.approx(1, abs=1e-8)
    assert sorted(efficiency[:4]) == efficiency[:4]
    assert sorted(efficiency[3:], reverse=True) == efficiency[3:]


def test_impossible_outcomes_and_false_labels():
    point = semantic_rate([0.5, 0.5, 0.0], [[1, 0], [0, 1], [0, 0]], 1.0, base=2)
    assert point.rate == pytest.approx(1, abs=1e-9)
    assert point.channel[:2] == pytest.approx(np.eye(2), abs=1e-12)
    assert (truth_function([[1.0, 0.0], [1.0, 0.0]]) == 1).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: semantic_information([0.5, 0.5], [[1.0], [1.2]]), "between 0 and 1"),
        (lambda: semantic_information([0.5, 0.6], TRUTH), "sum to 1"),
        (lambda: semantic_information([0.5, 0.5], np.ones((3, 2))), "a row for each of the 2 probabilities"),
        (lambda: semantic_information([1.0, 0.0], [[0.0], [1.0]]), "true, in some degree, of some x that is possible"),
        (lambda: semantic_mutual_information(TRUTH, TRUTH), "joint must sum to 1"),
        (lambda: semantic_mutual_information(np.full((2, 2), 0.25), np.ones((2, 3))), "must have the shape of joint"),
        (lambda: semantic_rate(P, [[1, 0], [0.5, 1]], 0), "slope must be positive where a truth is 0"),
        (lambda: semantic_rate(P, TRUTH, np.inf), "slope must be finite"),
        (lambda: semantic_rate(P, [[1, 1], [0, 0]], 1), "of each possible x some label"),
        (
            lambda: truth_function([[0.5, 0.5], [0.5, 0.50001]]),
            r"rows of channel must sum to 1 \(got 1.00001 in row 1\)",
        ),
        (lambda: truth_function([[0.5, 0.2]]), "rows of channel must sum to 1"),
        (lambda: truth_function([0.5, 0.5]), r"channel must be .* two axes \(got shape \(2,\)\)"),
    ],
)
def test_wrong_arguments_are_explained(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_labels_that_overlap_much_are_found_at_once():
    # Forty bells on a line: Blahut's iteration is 3e-6 nat from the least rate after 100,000 steps.
    x, centres = np.arange(200)[:, None], np.linspace(0, 200, 40)
    p, truth = np.full(200, 1 / 200), np.exp(-((x - centres) ** 2) / 200)
    point = semantic_rate(p, truth, 1.0)
    information = semantic_information(p, truth)
    # The conditions of Karush, Kuhn and Tucker: growth is 1 for labels in use and at most 1 for others.
    sums = np.exp(information) @ point.labels
    growth = (p / sums) @ np.exp(information)
    assert growth.max() <= 1 + 2e-10
    assert growth[point.labels > 1e-6] == pytest.approx(1, abs=1e-6)
    assert point.rate == pytest.approx(point.information - p @ np.log(sums))
