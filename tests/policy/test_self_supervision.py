from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy_bench import bandit, entropy_of

from isentrope.policy import TokenBatch, recipes
from isentrope.policy.advantages import LeaveOneOut
from isentrope.policy.self_supervision import MajorityVote, NegativeEntropy


def voted(answers, groups=None):
    count = len(answers)
    return TokenBatch(
        mask=torch.ones(count, 1, dtype=torch.bool),
        rewards=torch.zeros(count).double(),
        group_ids=torch.zeros(count, dtype=torch.long) if groups is None else torch.tensor(groups),
        old_log_probs=torch.zeros(count, 1).double(),
        extras={"answer": torch.tensor(answers)},
    )


def winners(votes):
    counts = Counter(a for a in votes if a >= 0)
    best = max(counts.values(), default=0)
    return [a for a, c in counts.items() if c == best]


@given(st.lists(st.tuples(st.integers(-1, 4), st.integers(0, 2)), min_size=1, max_size=20))
def test_votes_are_counted_as_a_loop_would(rows):
    answers, groups = zip(*rows, strict=True)
    batch = voted(answers, groups)
    plain, alone = MajorityVote()(batch).tolist(), MajorityVote(leave_one_out=True)(batch).tolist()
    for i, (answer, group) in enumerate(rows):
        mates = [a for a, g in rows if g == group]
        others = [a for j, (a, g) in enumerate(rows) if g == group and j != i]
        for reward, votes in ((plain[i], mates), (alone[i], others)):
            won = winners(votes)
            assert reward == pytest.approx(1 / len(won) if answer in won else 0)


def test_a_clear_majority_pays_one_and_no_agreement_teaches_nothing():
    assert MajorityVote()(voted([5, 5, 5, 9])).tolist() == [1, 1, 1, 0]
    assert MajorityVote()(voted([1, 2, 3, 4])).tolist() == [0.25] * 4
    assert MajorityVote(leave_one_out=True)(voted([1, 2, 3, 4])).tolist() == [0] * 4
    assert MajorityVote()(voted([-1, -1, -1])).tolist() == [0] * 3
    with pytest.raises(ValueError, match=r"needs extras\['answer'\]"):
        MajorityVote()(voted([1]).with_(extras={}))


def test_labels_are_not_looked_at():
    batch = voted([5, 5, 9, 9, 9, 1])
    objective = recipes.ttrl()
    first, _ = objective.prepare(batch, objective.start())
    second, _ = objective.prepare(batch.with_(rewards=torch.rand(6).double()), objective.start())
    assert torch.equal(first.advantages, second.advantages)
    assert torch.equal(first.mask, second.mask)
    assert first.advantages.any()


def test_negative_entropy_sums_over_response_tokens():
    batch = TokenBatch(
        mask=torch.tensor([[True, True, False], [True, False, False]]),
        rewards=torch.ones(2).double(),
        group_ids=torch.zeros(2, dtype=torch.long),
        old_log_probs=torch.tensor([[-1.0, -2.0, torch.nan], [-0.5, torch.nan, torch.nan]]).double(),
        old_entropy=torch.tensor([[0.3, 0.4, torch.nan], [0.6, torch.nan, torch.nan]]).double(),
    )
    torch.testing.assert_close(NegativeEntropy("token")(batch), torch.tensor([-0.7, -0.6]).double())
    torch.testing.assert_close(NegativeEntropy("sequence")(batch), torch.tensor([-3.0, -0.5]).double())
    assert NegativeEntropy("sequence").needs == frozenset()
    with pytest.raises(ValueError, match="estimator must be 'sequence' or 'token'"):
        NegativeEntropy("mean")


def test_equal_samples_have_no_advantage():
    batch = TokenBatch(
        mask=torch.ones(4, 2, dtype=torch.bool),
        rewards=torch.tensor([1.0, 0, 0, 1]).double(),
        group_ids=torch.zeros(4, dtype=torch.long),
        old_log_probs=torch.full((4, 2), -0.3).double(),
        old_entropy=torch.full((4, 2), 0.7).double(),
    )
    for estimator in ("token", "sequence"):
        rewards = NegativeEntropy(estimator)(batch)
        assert LeaveOneOut()(batch.with_(rewards=rewards)).tolist() == [0] * 4


def two_tokens(logits):
    """Every response of two binary tokens, their probabilities, and the entropy over responses; all differentiable."""
    first, second = logits[0].log_softmax(-1), logits[1:].log_softmax(-1)
    responses = [(a, b) for a in (0, 1) for b in (0, 1)]
    log_probs = torch.stack([torch.stack((first[a], second[a, b])) for a, b in responses])
    entropies = torch.stack([torch.stack((entropy_of(logits[0]), entropy_of(logits[1 + a]))) for a, _ in responses])
    whole = log_probs.sum(-1)
    return log_probs, entropies, -(whole.exp() * whole).sum()


def test_only_the_sequence_reward_has_the_gradient_of_the_entropy_of_responses():
    logits = torch.tensor([[0.3, -0.8], [1.1, 0.2], [-0.4, 0.9]]).double().requires_grad_()
    log_probs, entropies, entropy = two_tokens(logits)
    batch = TokenBatch(
        mask=torch.ones(4, 2, dtype=torch.bool),
        rewards=torch.zeros(4).double(),
        group_ids=torch.zeros(4, dtype=torch.long),
        old_log_probs=log_probs.detach(),
        old_entropy=entropies.detach(),
    )
    exact = -torch.autograd.grad(entropy, logits, retain_graph=True)[0]
    probabilities = log_probs.detach().sum(-1).exp()
    gradients = {}
    for estimator in ("sequence", "token"):
        rewards = NegativeEntropy(estimator)(batch)
        assert float((probabilities * rewards).sum()) == pytest.approx(-float(entropy.detach()))
        surrogate = (probabilities * rewards * log_probs.sum(-1)).sum()
        gradients[estimator] = torch.autograd.grad(surrogate, logits, retain_graph=True)[0]
    torch.testing.assert_close(gradients["sequence"], exact)
    # The last token's entropy does not depend on which last token was drawn.
    torch.testing.assert_close(gradients["token"][1:], torch.zeros(2, 2).double())
    assert exact[1:].abs().max() > 0.01


def trained_bandit(objective, logits, steps=150, rows=64):
    """Logits of one softmax after policy-gradient steps on samples whose true rewards are random."""
    generator = torch.Generator().manual_seed(0)
    state = objective.start()
    for _ in range(steps):
        live = logits.clone().requires_grad_()
        log_probs = live.log_softmax(-1)
        actions = torch.multinomial(logits.softmax(-1), rows, replacement=True, generator=generator)[:, None]
        batch = TokenBatch(
            mask=torch.ones(rows, 1, dtype=torch.bool),
            rewards=torch.rand(rows, generator=generator).double(),
            group_ids=torch.arange(rows) // 8,
            old_log_probs=log_probs.detach()[actions],
            old_entropy=entropy_of(logits).expand(rows, 1),
        )
        prepared, _ = objective.prepare(batch, state)
        loss, _ = objective.loss(prepared.with_totals().with_(log_probs=log_probs[actions]), state)
        logits = logits - torch.autograd.grad(loss, live)[0]
    return logits


@pytest.mark.parametrize("likely", [0, 3])
def test_entropy_falls_to_nothing_on_the_arm_that_was_likely_first(likely):
    start = torch.zeros(5).double().index_fill_(0, torch.tensor(likely), 0.7)
    end = trained_bandit(recipes.em_rl(kl_coefficient=0.0), start)
    assert float(entropy_of(end)) < 0.05
    assert int(end.argmax()) == likely


def test_a_uniform_policy_is_a_stationary_point():
    start = torch.zeros(5).double()
    assert torch.equal(trained_bandit(recipes.em_rl(kl_coefficient=0.0), start, steps=5), start)


def test_toy_bench_majority_votes_sharpen_too():
    curve = bandit(recipes.ttrl(), 150, 1.0, extras=lambda actions: {"answer": actions[:, 0]})
    assert curve[-1, 0] < 0.1
