import json
import math

import pytest
import torch
from batches import make_batch
from hypothesis import given, settings
from hypothesis import strategies as st

from isentrope.catalog import papers
from isentrope.policy import TokenBatch, recipes
from isentrope.policy.difficulty_reward import (
    EntropyRewardTowards,
    HierarchicalEntropyReward,
    difficulty,
    entropy_reward,
)
from isentrope.policy.window_entropy import UncertainWindows, WindowsAbove

EASY, MEDIUM, HARD = range(3)


def reward(number, bucket, right, target=0.0, gain=0.5):
    one = torch.ones(1, dtype=torch.float64)
    return float(entropy_reward(number * one, target * one, torch.tensor([bucket]), torch.tensor([right]), gain * one))


def slowly(number, bucket, right, target=0.0, gain=0.5):
    """The published table, one response at a time."""
    fraction, kappa, softness = ((0.15, 2, 2), (0.25, 3, 2.5), (0.35, 4, 3))[bucket]
    cap = gain * (1.2 if bucket == HARD else 1.0)
    margin = max(1.0, fraction * max(target, 1.0))
    delta = number - target

    def huber(x):
        x = max(x, 0.0)
        return x * x / (2 * kappa) if x <= kappa else x - kappa / 2

    def logistic(x):
        return 1 / (1 + math.exp(-x / softness))

    if bucket == HARD and right:
        if delta >= -margin:
            return logistic(delta + margin) * cap
        return -min(cap, 0.5 * huber(-delta - margin) / (margin + kappa) * cap)
    if right:
        return -min(cap, huber((delta if bucket == EASY else abs(delta)) - margin) / (margin + kappa) * cap)
    return logistic(max(delta - margin, 0.0)) * cap * (0.6, 0.8, 1.0)[bucket]


@settings(deadline=None, max_examples=200)
@given(st.floats(0, 200), st.floats(0, 200), st.sampled_from((EASY, MEDIUM, HARD)), st.booleans(), st.floats(0, 2))
def test_reward_is_the_published_table(number, target, bucket, right, gain):
    assert reward(number, bucket, right, target, gain) == pytest.approx(
        slowly(number, bucket, right, target, gain), abs=1e-9
    )


@pytest.mark.parametrize(
    ("number", "bucket", "right", "value"),
    [
        (0.0, EASY, True, 0.0),
        (11.5, EASY, True, 0.0),  # the margin of 10 is 1.5
        (1e4, EASY, True, -0.5),
        (0.0, MEDIUM, True, -0.5),
        (7.5, MEDIUM, True, 0.0),
        (6.5, HARD, True, 0.3),  # at the lower margin half of the cap of 0.6
        (1e4, HARD, True, 0.6),
        (0.0, EASY, False, 0.15),
        (0.0, MEDIUM, False, 0.2),
        (0.0, HARD, False, 0.3),
        (1e4, EASY, False, 0.3),
        (1e4, MEDIUM, False, 0.4),
    ],
)
def test_corners_of_the_table(number, bucket, right, value):
    assert reward(number, bucket, right, target=10.0) == pytest.approx(value, abs=1e-9)


def test_reward_is_monotone_in_the_number_of_passages():
    for right in (True, False):
        for bucket in (EASY, MEDIUM, HARD):
            values = [reward(n / 4, bucket, right, target=20.0) for n in range(400)]
            if bucket == MEDIUM and right:
                assert values[:81] == sorted(values[:81])
                assert values[80:] == sorted(values[80:], reverse=True)
            else:
                assert values == sorted(values, reverse=bucket == EASY and right)


def test_gains_from_which_a_wrong_answer_can_earn_more_than_a_right_one():
    # The penalty of a right answer to a hard prompt ends where it has no passage left: at 0.65 / 0.7 of its bound.
    for bucket, gain, usual in ((EASY, 0.625, 1e6), (MEDIUM, 0.5556, 1e6), (HARD, 0.4321, 1e6), (HARD, 0.5, 40.0)):
        for factor in (0.99, 1.01):
            counts = (0.0, usual, 1e9)
            worst_right = 1 + min(reward(n, bucket, True, usual, factor * gain) for n in counts)
            best_wrong = max(reward(n, bucket, False, usual, factor * gain) for n in counts)
            assert (best_wrong > worst_right) == (factor > 1)


def test_difficulty_by_thirds_counts_fractions_exactly():
    for size in (1, 3, 7, 8, 9):
        for right in range(size + 1):
            correct = torch.arange(size) < right
            expected = EASY if 3 * right >= 2 * size else MEDIUM if 3 * right >= size else HARD
            assert difficulty(correct, torch.full((size,), 5)).tolist() == [expected] * size


def batch_of_counts(counts, rewards):
    """Groups of responses with so many tokens after which the entropy is 1, in one window of one token each."""
    rows = [count for group in counts for count in group]
    batch, _ = make_batch(rows=len(rows), width=12)
    entropy = (torch.arange(12) < torch.tensor(rows)[:, None] + 1).double()
    entropy[:, 0] = 0
    return batch.with_(
        mask=torch.ones_like(batch.mask),
        old_entropy=entropy,
        rewards=torch.tensor([r for group in rewards for r in group]).double(),
        group_ids=torch.tensor([index for index, group in enumerate(counts) for _ in group]),
    )


PART = HierarchicalEntropyReward(UncertainWindows(window=1))


def test_targets_are_means_over_prompts_and_the_first_batch_is_its_own():
    counts, rewards = [[2, 4], [10, 8, 9], [1, 3]], [[1, 1], [1, 1, 0], [0, 0]]
    batch = batch_of_counts(counts, rewards)
    counter = WindowsAbove(0.5, window=1)
    assert counter(batch).number.tolist() == [2, 4, 10, 8, 9, 1, 3]
    observed = HierarchicalEntropyReward(counter).observe(batch).means()
    assert observed == {"easy": (3 + 9) / 2, "hard": 2}
    first = EntropyRewardTowards(counter, (None,) * 3, (0.5, 0.5, 0.3))(batch)
    later = EntropyRewardTowards(counter, (6.0, 77.0, 2.0), (0.5, 0.5, 0.3))(batch)
    torch.testing.assert_close(first, later)
    expected = [r + slowly(n, EASY, bool(r), 6.0) for n, r in ((2, 1), (4, 1), (10, 1), (8, 1), (9, 0))]
    expected += [slowly(n, HARD, False, 2.0, 0.3) for n in (1, 3)]
    assert first.tolist() == pytest.approx(expected)


def test_gain_is_the_first_one_plus_the_growth_of_the_target():
    part = HierarchicalEntropyReward(rate=0.01, decay=0.75)
    memory = part.start()
    for number in (10.0, 14.0, 9.0, 16.0):
        memory = json.loads(json.dumps(part.update(memory, {"easy": number, "hard": number}, 0)))
    growth = memory["targets"][EASY] - 10.0
    assert memory["gains"] == pytest.approx([0.5 + 0.04 * growth, 0.5, 0.5 - 0.04 * growth])
    assert memory["targets"][MEDIUM] is None
    for _ in range(20):
        memory = part.update(memory, {"easy": 1e3, "hard": 1e3}, 0)
    assert memory["gains"][EASY] == 2.0
    assert memory["gains"][HARD] == 0.0


def test_published_gain_moves_by_what_rounding_left_only():
    published = HierarchicalEntropyReward(published=True)
    memory, sound = published.start(), PART.start()
    for number in (10.25, 40.25, 90.25):
        memory = published.update(memory, {"easy": number, "medium": number - 0.5}, 0)
        sound = PART.update(sound, {"easy": number}, 0)
    assert memory["gains"] == pytest.approx([0.5 + 3 * 0.05 * 0.25, 0.5 - 3 * 0.05 * 0.25, 0.5])
    assert sound["gains"][EASY] == 2.0
    counter = WindowsAbove(0.5, window=1)
    batch = batch_of_counts([[2, 5], [3, 3]], [[1, 1], [1, 1]])  # a mean of 3.25
    assert published.at(memory, 0).targets == (None,) * 3
    rounded = EntropyRewardTowards(counter, (None,) * 3, (0.5,) * 3, rounded=True)(batch)
    torch.testing.assert_close(rounded, EntropyRewardTowards(counter, (3.0,) * 3, (0.5,) * 3)(batch))


def test_memory_of_the_recipe_survives_json_and_looks_at_kept_groups():
    objective = recipes.ares(window=1, kl_coefficient=0)
    state = objective.start()
    batch = batch_of_counts([[2, 4], [10, 8, 9], [1, 3]], [[1, 1], [1, 1, 0], [0, 0]])
    prepared, metrics = objective.prepare(batch, state)
    assert prepared.mask.any(-1).tolist() == [False, False, True, True, True, False, False]
    state = objective.control(state, metrics.means())
    assert state.to_dict() == json.loads(json.dumps(state.to_dict()))
    assert state.memory["reward[0].counter"] == {"threshold": 1.0}
    # The threshold of the first batch is its own: every window of entropy 1 reaches it.
    assert state.memory["reward[0]"]["targets"] == [9.0, None, None]


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match=r"gain must lie in \[0, largest_gain = 2.0\], got 3"):
        HierarchicalEntropyReward(gain=3)
    with pytest.raises(ValueError, match=r"decay must lie in \[0, 1\)"):
        HierarchicalEntropyReward(decay=1.0)


def uncertain_share(objective, steps=60, prompts=32, group=8, width=12):
    """Of responses whose first token decides whether they are calm or uncertain, whatever is right: the share of the latter.

    For prompts that are solved 85%, 50% and 15% of the time, by a policy with one logit pair for each kind.
    """
    generator = torch.Generator().manual_seed(0)
    logits, solved = torch.zeros(3, 2).double(), torch.tensor([0.85, 0.5, 0.15])
    kind = (torch.arange(prompts) % 3).repeat_interleave(group)
    rows, state = len(kind), objective.start()

    def log_probs(logits, first):
        chosen = logits.log_softmax(-1)[kind].gather(-1, first)
        return torch.cat((chosen, torch.zeros(rows, width - 1).double()), 1)

    for _ in range(steps):
        first = torch.multinomial(logits.softmax(-1)[kind], 1, generator=generator)
        entropy = torch.where(first == 1, 1.0, 0.3) * (0.5 + torch.rand(rows, width, generator=generator).double())
        batch = TokenBatch(
            mask=torch.ones(rows, width, dtype=torch.bool),
            rewards=(torch.rand(rows, generator=generator) < solved[kind]).double(),
            group_ids=torch.arange(rows) // group,
            old_log_probs=log_probs(logits, first),
            old_entropy=entropy,
        )
        batch, metrics = objective.prepare(batch, state)
        state = objective.control(state, metrics.means())
        live = logits.clone().requires_grad_()
        current = batch.with_totals().with_(log_probs=log_probs(live, first), entropy=entropy)
        logits = logits - 2.0 * torch.autograd.grad(objective.loss(current, state)[0], live)[0]
        state = state.next_step()
    return logits.softmax(-1)[:, 1].tolist()


def test_easy_prompts_grow_calmer_and_hard_ones_more_uncertain():
    easy, _, hard = uncertain_share(recipes.ares(kl_coefficient=0))
    assert easy < 0.3
    assert hard > 0.55
    plain = uncertain_share(recipes.dapo())
    assert all(abs(share - 0.5) < 0.08 for share in plain)


def test_three_methods_called_aepo_are_three_papers():
    made = (recipes.ares(), recipes.dcpo(target=0.5), recipes.agentic_aepo())
    entries = [[paper for paper in papers() if paper.key in recipe.papers and paper.key != "grpo"] for recipe in made]
    ids = [{paper.arxiv for paper in some} - {"2503.14476"} for some in entries]
    assert ids == [{"2510.08457"}, {"2510.08141"}, {"2510.14545"}]
