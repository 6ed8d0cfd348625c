import pytest
import torch
from batches import make_batch, with_current
from toy_bench import bandit

from isentrope.policy import TokenBatch, recipes
from isentrope.policy.entropy_shares import ResponseEntropyShares, TokenEntropyShares, entropy_shares
from isentrope.policy.surrogates import SequenceRatio


def answered(rewards, entropy, mask=None, groups=None):
    entropy = torch.as_tensor(entropy, dtype=torch.float64)
    rewards = torch.as_tensor(rewards, dtype=torch.float64)
    return TokenBatch(
        mask=torch.ones(entropy.shape, dtype=torch.bool) if mask is None else torch.as_tensor(mask, dtype=torch.bool),
        rewards=rewards,
        group_ids=torch.zeros(len(rewards), dtype=torch.long) if groups is None else torch.as_tensor(groups),
        old_log_probs=torch.zeros_like(entropy),
        old_entropy=entropy,
    )


def test_token_rewards_by_hand():
    batch = answered(
        [1, 1, 0, 0],
        [[1.0, 2.0], [3.0, 7.0], [1.0, 2.0], [3.0, 2.0]],
        mask=[[1, 1], [1, 0], [1, 1], [1, 1]],
    )
    rewards = TokenEntropyShares(base=1.0, bonus=0.1).rewards(batch)
    # Right: shares 1/4 and 3/4 of two, then alone. Wrong: 1 and 1/3 of two, then equal.
    expected = torch.tensor([[1.05, 1.1], [1.15, 1.1], [-1.15, -1.1], [-1.05, -1.1]]).double()
    torch.testing.assert_close(rewards[batch.mask], expected[batch.mask])


def test_shares_conserve_the_reward_at_every_position():
    batch, _ = make_batch(rows=12, group_size=6, seed=1)
    rewards = TokenEntropyShares(base=0.7, bonus=0.4).rewards(batch)
    for group in (0, 1):
        for right in (False, True):
            rows = (batch.group_ids == group) & ((batch.rewards > 0) == right)
            alive = batch.mask[rows]
            sums = torch.where(alive, rewards[rows], 0).sum(0)
            torch.testing.assert_close(sums, (1.1 if right else -1.1) * alive.sum(0).double())


def test_equal_entropies_give_every_token_the_same():
    batch = answered([1, 1, 0], [[0.3, 0.3]] * 3)
    assert TokenEntropyShares(1.0, 0.5).rewards(batch).tolist() == [[1.5, 1.5], [1.5, 1.5], [-1.5, -1.5]]


def test_zero_entropies_share_equally_and_stay_finite():
    batch = answered([1, 1, 0, 0], [[0.0]] * 4)
    torch.testing.assert_close(
        entropy_shares(batch.old_entropy, batch.mask, batch.rewards > 0, batch.group_ids), torch.ones(4, 1).double()
    )


@pytest.mark.parametrize("right", [True, False])
def test_more_entropy_earns_more_and_costs_less(right):
    low, high = TokenEntropyShares().rewards(answered([float(right)] * 2, [[0.5], [1.5]])).view(-1).tolist()
    assert low < high


def test_split_standardisation_forgets_base_bonus_and_outcome():
    batch, _ = make_batch(rows=8, group_size=8, seed=2)
    split = TokenEntropyShares(1.0, 0.1, "split", epsilon=0)(batch)
    torch.testing.assert_close(TokenEntropyShares(3.0, 0.7, "split", epsilon=0)(batch), split)
    for right in (False, True):
        mine = split[((batch.rewards > 0) == right)[:, None] & batch.mask]
        assert float(mine.sum()) == pytest.approx(0, abs=1e-9)
        assert float(mine.std()) == pytest.approx(1)
    joint = TokenEntropyShares()(batch)
    # Jointly, no bonus of this size turns a right answer into a wrong one.
    assert (joint[(batch.rewards > 0)[:, None] & batch.mask] > 0).all()
    assert (joint[(batch.rewards == 0)[:, None] & batch.mask] < 0).all()


def test_joint_advantages_cancel_over_the_responses_of_a_group():
    batch, _ = make_batch(rows=12, group_size=6, seed=3)
    advantages = torch.where(batch.mask, TokenEntropyShares(bonus=0.5)(batch), 0)
    means = advantages.sum(-1) / batch.lengths
    for group in (0, 1):
        assert float(means[batch.group_ids == group].sum()) == pytest.approx(0, abs=1e-9)


def test_response_rewards_by_hand():
    batch = answered([1, 1, 0, 0], [[0.5, 1.5], [3.0, 3.0], [1.0, 1.0], [3.0, 3.0]])
    assert ResponseEntropyShares(1.0, 0.2)(batch).tolist() == pytest.approx([1.1, 1.3, -1.3, -1.1])


def test_arithmetic_sequence_ratio_has_the_value_and_gradient_of_the_definition():
    batch, logits = make_batch(rows=4, seed=4)
    advantages = torch.tensor([1.0, -2.0, 0.5, -0.1]).double()[:, None].expand(batch.mask.shape)
    live = logits.clone().requires_grad_()
    current = with_current(batch, live).with_(advantages=advantages)
    loss = SequenceRatio(0.05, 0.05, mean="arithmetic")(current)
    ratios = torch.where(batch.mask, (current.log_probs - batch.old_log_probs).exp(), 0)
    ratio = ratios.sum(-1) / batch.lengths
    plain = torch.maximum(-advantages[:, 0] * ratio, -advantages[:, 0] * ratio.clamp(0.95, 1.05))
    token_form = (torch.where(batch.mask, loss, 0).sum(-1) / batch.lengths).mean()
    torch.testing.assert_close(token_form, plain.mean())
    torch.testing.assert_close(
        torch.autograd.grad(token_form, live, retain_graph=True)[0], torch.autograd.grad(plain.mean(), live)[0]
    )


def test_toy_bench_split_standardisation_learns_nothing():
    # One token a response and one entropy for all: only the outcome tells responses apart.
    learned = bandit(recipes.gtpo(), 150, 1.0)
    assert learned[-20:, 1].mean() > 0.7
    blind = bandit(recipes.gtpo(normalization="split"), 150, 1.0)
    assert blind[-1, 0] == pytest.approx(blind[0, 0], abs=1e-6)
    assert blind[-50:, 1].mean() == pytest.approx(0.5, abs=0.02)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="normalization must be 'joint' or 'split'"):
        TokenEntropyShares(normalization="batch")
    with pytest.raises(ValueError, match="mean must be 'geometric' or 'arithmetic'"):
        SequenceRatio(mean="harmonic")


def test_a_group_of_wrong_responses_teaches_nothing_unless_asked_for():
    """Entropy alone would give them advantages of full size: the bonus is small, but so is what it is divided by."""
    entropy = torch.tensor([[0.1], [0.2], [0.3], [0.4]])
    batch = TokenBatch(
        mask=torch.ones(4, 1, dtype=torch.bool), rewards=torch.zeros(4), group_ids=torch.zeros(4).long(),
        old_log_probs=torch.zeros(4, 1), old_entropy=entropy,
    )  # fmt: skip
    for keep_uniform in (False, True):
        objective = recipes.grpo_s(bonus=1e-2, keep_uniform=keep_uniform)
        prepared, _ = objective.prepare(batch, objective.start())
        assert prepared.mask.any() == keep_uniform
    assert float(prepared.advantages.abs().max()) > 1
