import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from isentrope.policy import TokenBatch, recipes
from isentrope.policy.normal_scores import NormalScores, normal_scores


@pytest.mark.parametrize(
    ("rewards", "published"),
    [
        ([0, 0, 0, 0, 1], [-0.3204] * 4 + [1.2816]),
        ([0.1, 0.1, 0.1, 0.2, 1], [-0.602] * 3 + [0.5244, 1.2816]),
        ([0, 0, 1, 1, 1], [-0.903] * 2 + [0.602] * 3),
        ([0.81, 0.81, 0.82, 0.82, 0.83], [-0.903, -0.903, 0.2622, 0.2622, 1.2816]),
    ],
)
def test_scores_are_those_of_the_papers_figure(rewards, published):
    scores = normal_scores(torch.tensor(rewards, dtype=torch.float64), torch.zeros(5, dtype=torch.long))
    torch.testing.assert_close(scores, torch.tensor(published, dtype=torch.float64), atol=6e-4, rtol=0)


def slowly(values):
    """Each value by the mean score of the ranks it could have."""
    out = []
    for value in values:
        ranks = [sum(v < value for v in values) + k for k in range(sum(v == value for v in values))]
        out.append(np.mean([norm.ppf((k + 0.5) / len(values)) for k in ranks]))
    return out


@given(st.lists(st.tuples(st.integers(-4, 4), st.integers(-2, 2)), min_size=1, max_size=30))
def test_scores_match_a_slow_definition_and_cancel_in_every_set(rows):
    values, sets = zip(*rows, strict=True)
    ids = torch.tensor(sets)
    scores = normal_scores(torch.tensor(values, dtype=torch.float64), ids)
    for one in set(sets):
        members = ids == one
        mine = [v for v, s in rows if s == one]
        np.testing.assert_allclose(scores[members], slowly(mine), atol=1e-12)
        assert abs(float(scores[members].sum())) < 1e-12
        assert float(scores[members].abs().max()) <= norm.ppf(1 - 0.5 / len(mine)) + 1e-12
        if len(set(mine)) == 1:
            assert (scores[members] == 0).all()


@given(st.lists(st.integers(-30, 30), min_size=1, max_size=12))
def test_only_the_order_counts_and_the_sign_is_symmetric(values):
    x = torch.tensor(values, dtype=torch.float64) / 10
    ids = torch.zeros(len(values), dtype=torch.long)
    torch.testing.assert_close(normal_scores(x.exp() * 50 - 3, ids), normal_scores(x, ids))
    torch.testing.assert_close(normal_scores(-x, ids), -normal_scores(x, ids))


@pytest.mark.parametrize(("count", "variance"), [(4, 0.712), (8, 0.851), (16, 0.924), (64, 0.980)])
def test_variance_without_ties_tends_to_one(count, variance):
    scores = normal_scores(torch.arange(count).double(), torch.zeros(count, dtype=torch.long))
    assert float(scores.var(correction=0)) == pytest.approx(variance, abs=6e-4)


def test_a_tolerance_joins_neighbours():
    values, ids = torch.tensor([0.1 + 0.2, 0.3, 1.0]).double(), torch.zeros(3, dtype=torch.long)
    values[0] += 1e-9
    assert normal_scores(values, ids)[0] != normal_scores(values, ids)[1]
    joined = normal_scores(values, ids, tolerance=1e-6)
    assert joined[0] == joined[1] < joined[2]


def test_sets_may_be_tasks():
    batch = TokenBatch(
        mask=torch.ones(4, 1, dtype=torch.bool),
        rewards=torch.tensor([0.0, 1.0, 10.0, 20.0]).double(),
        group_ids=torch.tensor([0, 0, 1, 1]),
        old_log_probs=torch.zeros(4, 1).double(),
    )
    quartile = float(norm.ppf(0.75))
    torch.testing.assert_close(NormalScores()(batch), torch.tensor([-1, 1, -1, 1]).double() * quartile)
    tasks = batch.with_(extras={"task": torch.zeros(4, dtype=torch.long)})
    expected = torch.tensor(norm.ppf([0.125, 0.375, 0.625, 0.875]))
    torch.testing.assert_close(NormalScores("task")(tasks), expected)
    with pytest.raises(ValueError, match=r"needs extras\['task'\], which the host did not give; there are none"):
        NormalScores("task")(batch)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="sets must be 'group' or 'task'"):
        NormalScores("prompt")
    with pytest.raises(ValueError, match="tolerance must not be negative"):
        NormalScores(tolerance=-1.0)


def test_the_recipe_adds_lengths_and_the_band_when_asked():
    assert recipes.g2rpo().needs == frozenset()
    shaped = recipes.g2rpo(lengths=(0, 100, 200, 400), entropy_band=(0.1, 0.5))
    assert shaped.reward[0].maximum == 400
    assert (shaped.regularizers[0].low, shaped.regularizers[0].high) == (0.1, 0.5)
