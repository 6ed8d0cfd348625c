"""Bounds on synergy by the laws of pairs: gates, random laws whose synergy is known, the limits of the paper's bounds."""

from math import log

import numpy as np
import pytest
from scipy.stats import spearmanr

from isentrope.measures import partial_information, synergy_bounds


def pairs(p):
    return p.sum(axis=2), p.sum(axis=1), p.sum(axis=0)


def gate(function):
    p = np.zeros((2, 2, 2))
    for first, second in np.ndindex(2, 2):
        p[function(first, second), first, second] += 0.25
    return p


def entropy(p):
    p = np.asarray(p).ravel()
    return float(-np.sum(p[p > 0] * np.log2(p[p > 0])))


def meet(*laws):
    size = max(np.size(law) for law in laws)
    sums = [np.cumsum(np.sort(np.pad(np.ravel(law), (0, size - np.size(law))))[::-1]) for law in laws]
    return np.maximum(np.diff(np.min(sums, axis=0), prepend=0), 0)


def test_parity_may_be_synergy_or_nothing():
    found = synergy_bounds(*pairs(gate(lambda x, y: x ^ y)), base=2)
    assert (found.redundancy, found.unique_first, found.unique_second) == pytest.approx((0, 0, 0), abs=1e-8)
    assert (found.from_agreement, found.from_disagreement, found.lower) == pytest.approx((0, 0, 0), abs=1e-8)
    assert found.upper == pytest.approx(1, abs=1e-8)


def test_the_upper_bound_is_reached_by_a_gate():
    found = synergy_bounds(*pairs(gate(lambda x, y: x & y)), base=2)
    assert found.redundancy == pytest.approx(0.311278, abs=1e-6)
    assert found.upper == pytest.approx(0.5, abs=1e-8)
    assert found.lower == pytest.approx(0.311278, abs=1e-6)
    # Predictions of a gate by one input are 0 or 1/2; a quarter of their squared distance remains without uniqueness.
    assert found.disagreement == pytest.approx(0.25, abs=1e-9)
    assert found.from_disagreement == pytest.approx(0.25 / 4 / log(2), abs=1e-6)


@pytest.mark.parametrize("concentration", [1.0, 0.3, 0.1])
def test_bounds_hold_for_laws_whose_synergy_is_known(concentration):
    rng = np.random.default_rng(int(10 * concentration))
    for shape in [(2, 2, 2)] * 4 + [(3, 2, 3)]:
        p = rng.dirichlet(np.full(np.prod(shape), concentration)).reshape(shape)
        found, known = synergy_bounds(*pairs(p), base=2), partial_information(p, base=2)
        assert found.redundancy == pytest.approx(known.redundancy, abs=1e-7)
        assert found.unique_first == pytest.approx(known.unique_first, abs=1e-7)
        assert found.unique_second == pytest.approx(known.unique_second, abs=1e-7)
        assert max(found.from_agreement, found.from_disagreement, 0) == found.lower
        assert found.lower - 1e-7 <= known.synergy <= found.upper + 1e-7


def test_upper_bound_is_below_that_of_the_paper():
    rng = np.random.default_rng(3)
    for _ in range(3):
        p = rng.dirichlet(np.full(12, 0.5)).reshape(2, 2, 3)
        tx, ty, xy = pairs(p)
        groupings = (xy, tx.sum(axis=1)), (tx, xy.sum(axis=0)), (ty, xy.sum(axis=1))
        paper = entropy(xy) + entropy(tx.sum(axis=1)) - max(entropy(meet(*laws)) for laws in groupings)
        found = synergy_bounds(tx, ty, xy, base=2)
        known = found.redundancy + found.unique_first + found.unique_second
        assert found.upper + known == pytest.approx(
            entropy(xy) + entropy(tx.sum(axis=1)) - entropy(meet(tx, ty, xy)), abs=1e-9
        )
        assert found.upper + known <= paper + 1e-12


def test_sources_may_be_exchanged_and_units_chosen():
    p = np.random.default_rng(4).dirichlet(np.ones(12)).reshape(2, 2, 3)
    bits, nats = synergy_bounds(*pairs(p), base=2), synergy_bounds(*pairs(p.transpose(0, 2, 1)))
    for name in ("redundancy", "lower", "upper", "from_agreement", "from_disagreement"):
        assert getattr(bits, name) * log(2) == pytest.approx(getattr(nats, name), abs=1e-7)
    assert bits.unique_first * log(2) == pytest.approx(nats.unique_second, abs=1e-7)
    assert bits.disagreement == pytest.approx(nats.disagreement, abs=1e-12)


def test_squared_distance_of_predictions():
    p = np.random.default_rng(5).dirichlet(np.ones(12)).reshape(2, 2, 3)
    tx, ty, xy = pairs(p)
    slow = sum(
        xy[x, y] * (tx[t, x] / tx[:, x].sum() - ty[t, y] / ty[:, y].sum()) ** 2 for t, x, y in np.ndindex(2, 2, 3)
    )
    assert synergy_bounds(tx, ty, xy).disagreement == pytest.approx(slow, rel=1e-12)


def test_disagreement_without_a_constant_is_no_bound():
    # The code of the paper takes the constant for 1, in bits. A target that follows two correlated signs alike: one
    # sign alone predicts it too far on its side, so that predictions differ more than either is wrong.
    yes = np.array([[0.9, 0.5], [0.5, 0.1]])
    p = np.array([[0.4, 0.1], [0.1, 0.4]]) * np.array([yes, 1 - yes])
    found, known = synergy_bounds(*pairs(p), base=2), partial_information(p, base=2)
    assert found.disagreement == pytest.approx(4 * (0.2 * 1.6) ** 2 * (1 - 0.6), rel=1e-9)
    assert found.disagreement - max(found.unique_first, found.unique_second) > known.synergy + 0.05
    assert found.from_disagreement <= known.synergy


@pytest.mark.parametrize(
    ("laws", "message"),
    [
        ((np.eye(2) / 2, np.eye(2) / 2, np.eye(2)[::-1] / 2), "no law of all three variables has these laws of pairs"),
        ((np.eye(2) / 2, np.full((2, 2), 0.25), np.diag([0.4, 0.6])), "first source .* must have the same law"),
        ((np.full((2, 3), 1 / 6), np.eye(2) / 2, np.eye(2) / 2), r"as many values \(got 3 and 2\)"),
        ((np.eye(2), np.eye(2) / 2, np.eye(2) / 2), r"target_first must sum to 1 \(got 2\)"),
        ((np.eye(2) / 2, np.ones(2) / 2, np.eye(2) / 2), r"target_second must be .* two axes \(got shape \(2,\)\)"),
        ((np.eye(2) / 2, np.eye(2) / 2, np.diag([1.5, -0.5])), "sources must not be negative"),
    ],
)
def test_wrong_arguments_are_explained(laws, message):
    with pytest.raises(ValueError, match=message):
        synergy_bounds(*laws)


@pytest.mark.slow
def test_how_well_bounds_follow_the_synergy():
    """The paper finds that the bounds track the synergy. Over random laws the rank correlation is weak (about 0.3)."""
    rng = np.random.default_rng(0)
    rows = []
    for concentration in np.repeat([1.0, 0.3, 0.1], 40):
        p = rng.dirichlet(np.full(8, concentration)).reshape(2, 2, 2)
        found = synergy_bounds(*pairs(p), base=2)
        rows.append((found.lower, found.upper, partial_information(p, base=2).synergy))
    lower, upper, synergy = np.transpose(rows)
    assert (lower <= synergy + 1e-7).all()
    assert (upper >= synergy - 1e-7).all()
    assert 0.15 < spearmanr(lower, synergy).statistic < 0.6
    assert 0.15 < spearmanr(upper, synergy).statistic < 0.6
