import pytest
import torch

from isentrope.policy import RolloutPlan, TokenBatch, recipes
from isentrope.policy.rollout import Forks, Tempered, Until
from isentrope.policy.tree_rollout import TreeRollout, expected_token_ratio, most_uncertain


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def responses(entropy, mask=None, **extras):
    entropy = torch.as_tensor(entropy, dtype=torch.float64)
    mask = torch.ones_like(entropy, dtype=torch.bool) if mask is None else torch.as_tensor(mask)
    return TokenBatch(
        mask=mask,
        rewards=torch.zeros(len(entropy)),
        group_ids=torch.arange(len(entropy)),
        old_log_probs=torch.zeros_like(entropy),
        old_entropy=entropy,
        token_ids=torch.zeros_like(mask, dtype=torch.long),
        extras=extras,
    )


def forks_of(rule, batch, seed=0):
    """What a tree asks for after one full response to each prompt."""
    rounds = rule.rounds(len(batch.mask), rule.size, seeded(seed))
    next(rounds)
    return rounds.send(batch)


def test_the_most_uncertain_positions_are_those_of_a_full_sort():
    generator = seeded(1)
    entropy = torch.rand(50, 12, generator=generator)
    valid = torch.rand(50, 12, generator=generator) < 0.4
    for count in (1, 3, 20):
        found = most_uncertain(entropy, valid, count)
        assert found.shape == (50, count)
        for row in range(50):
            ranked = sorted((t for t in range(12) if valid[row, t]), key=lambda t: -entropy[row, t])
            expected = (ranked + [-1] * count)[:count]
            assert found[row].tolist() == expected


def test_a_tree_forks_at_its_most_uncertain_tokens_and_nowhere_else():
    forks = forks_of(TreeRollout(forks=2, continuations=2), responses([[0.1, 0.9, 0.4, 0.8], [1.0, 0.0, 0.0, 2.0]]))
    assert forks.groups.tolist() == [0] * 4 + [1] * 4
    assert forks.parents.tolist() == [0] * 4 + [1] * 4
    assert forks.positions.tolist() == [1, 1, 3, 3, 3, 3, 0, 0]


def test_positions_before_the_first_and_special_tokens_are_never_forked_at():
    special = torch.tensor([[False, False, False, True]])
    batch = responses([[9.0, 0.1, 0.2, 8.0]], special=special)
    drawn = {
        int(p) for seed in range(30) for p in forks_of(TreeRollout(1, 3, among=20, first=1), batch, seed).positions
    }
    assert drawn == {1, 2}


def test_the_position_is_uniform_among_the_most_uncertain():
    entropy = torch.rand(1, 40, generator=seeded(2)).expand(6000, 40)
    batch = responses(entropy)
    positions = TreeRollout(1, 3, among=5, first=1).positions(batch, seeded(3))[:, 0]
    best = most_uncertain(entropy[:1], torch.arange(40)[None] >= 1, 5)[0]
    counts = torch.bincount(positions, minlength=40)
    assert counts.sum() == counts[best].sum()
    # Chi-squared with 4 degrees of freedom: above 18.5 in one of a thousand.
    assert float(((counts[best] - 1200.0) ** 2 / 1200).sum()) < 18.5


def test_uniform_forks_disregard_the_entropy():
    entropy = torch.zeros(6000, 6)
    entropy[:, 2] = 5.0
    positions = TreeRollout(1, 3, first=1, uniform=True).positions(responses(entropy), seeded(4))[:, 0]
    counts = torch.bincount(positions, minlength=6)
    assert counts[0] == 0
    assert float(((counts[1:] - 1200.0) ** 2 / 1200).sum()) < 18.5


@pytest.mark.parametrize(("forks", "continuations", "ratio"), [(3, 2, 4 / 7), (1, 3, 2.5 / 4)])
def test_uniform_forks_sample_the_share_of_tokens_that_the_formula_says(forks, continuations, ratio):
    assert expected_token_ratio(forks, continuations) == pytest.approx(ratio)
    trees, length = 400, 500
    rule = TreeRollout(forks, continuations, uniform=True)
    asked = forks_of(rule, responses(torch.zeros(trees, length)), seed=5)
    sampled = trees * length + int((length - asked.positions).sum())
    # A uniform position has standard deviation length / sqrt(12); continuations of a fork share it.
    error = continuations * (trees * forks / 12) ** 0.5 / (trees * rule.size)
    assert sampled / (trees * rule.size * length) == pytest.approx(ratio, abs=4 * error + 1 / length)


def test_short_responses_ask_for_what_they_can():
    mask = [[True, False, False], [True, True, True]]
    forks = forks_of(TreeRollout(2, 1), responses([[1.0, 0, 0], [0.0, 2.0, 1.0]], mask))
    assert list(zip(forks.parents.tolist(), forks.positions.tolist(), strict=True)) == [(0, 0), (1, 1), (1, 2)]
    none = forks_of(TreeRollout(1, 3, first=1), responses([[1.0, 0, 0]], [[True, False, False]]))
    assert len(none) == 0


def test_groups_must_hold_whole_trees():
    tree = TreeRollout(forks=1, continuations=3)
    rounds = tree.rounds(prompts=2, group_size=16, generator=seeded())
    assert next(rounds).groups.tolist() == [0] * 4 + [1] * 4
    with pytest.raises(ValueError, match="multiple of 4, got 6"):
        tree(RolloutPlan(group_size=6))


@pytest.mark.parametrize("arguments", [{"forks": 0}, {"continuations": 0}, {"forks": 3, "among": 2}, {"first": -1}])
def test_bad_trees_are_refused(arguments):
    with pytest.raises(ValueError, match=f"TreeRollout: .*{next(reversed(arguments))}"):
        TreeRollout(**arguments)


def test_cure_has_two_stages():
    objective = recipes.cure(first_stage=2)
    state, plans = objective.start(), []
    for _ in range(4):
        plans.append(objective.rollout_plan(RolloutPlan(group_size=16), state))
        state = state.next_step()
    assert [plan.branching is not None for plan in plans] == [True, True, False, False]
    assert not plans[0].branching.learns_prefix
    assert recipes.cure(first_stage=0).rollout == ()
    with pytest.raises(ValueError, match="Until: step must not be negative"):
        Until(Tempered(1.0), -1)


def test_fresh_responses_have_no_parent():
    fresh = Forks.fresh(torch.tensor([1, 1, 0]))
    assert len(fresh) == 3
    assert fresh.parents.tolist() == [-1, -1, -1]
    assert fresh.positions.tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", ["ettrl", "agentic_aepo"])
def test_unknown_rollouts_are_refused_and_the_plain_one_is_the_default(name):
    assert recipes.named(name).rollout == ()
    with pytest.raises(ValueError, match="rollout must be 'plain' or"):
        recipes.named(name, rollout="forest")
