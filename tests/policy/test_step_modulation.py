import math

import pytest
import torch
from batches import make_batch

from isentrope.policy.step_modulation import StepModulation


def agent_batch(seed=0, rows=8):
    batch, _ = make_batch(rows=rows, width=9, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    # Turns of random lengths, some without any token of the policy.
    turn = torch.randint(0, 2, batch.mask.shape, generator=generator).cumsum(-1)
    advantages = torch.randn(rows, generator=generator).double()[:, None].expand_as(batch.mask)
    return batch.with_(
        entropy=batch.old_entropy, advantages=advantages, extras={"turn": torch.where(batch.mask, turn, -1)}
    )


def by_hand(batch, k, k_next, zeta):
    """The formulas, step by step in lists."""
    steps = {}
    for i, t in batch.mask.nonzero().tolist():
        steps.setdefault((i, int(batch.extras["turn"][i, t])), []).append(t)
    entropy = {key: sum(float(batch.entropy[key[0], t]) for t in ts) / len(ts) for key, ts in steps.items()}
    low, high = min(entropy.values()), max(entropy.values())
    height = {key: (value - low) / (high - low + 1e-8) for key, value in entropy.items()}
    mean = sum(math.exp(-k * h) for h in height.values()) / len(height)
    value = {}
    for i, turn in steps:
        later = [other for row, other in steps if row == i and other > turn]
        clear = math.exp(-k_next * height[i, min(later)]) if later else 0.0
        advantage = float(batch.advantages[i, steps[i, turn][0]])
        value[i, turn] = advantage * math.exp(-k * height[i, turn]) / mean + zeta * clear
    centre = sum(value.values()) / len(value)
    expected = torch.zeros_like(batch.advantages)
    for (i, turn), ts in steps.items():
        expected[i, ts] = value[i, turn] - centre
    return expected


@pytest.mark.parametrize(("k", "k_next", "zeta"), [(1.0, 1.0, 0.05), (2.0, 0.5, 0.3), (0.0, 1.0, 0.1)])
def test_against_a_slow_implementation(k, k_next, zeta):
    for seed in range(3):
        batch = agent_batch(seed)
        assert len(batch.extras["turn"][batch.mask].unique()) > 2
        torch.testing.assert_close(StepModulation(k, k_next, zeta)(batch), by_hand(batch, k, k_next, zeta))


def test_two_steps_have_the_published_scales():
    batch, _ = make_batch(rows=1, width=2)
    batch = batch.with_(
        mask=torch.ones(1, 2, dtype=torch.bool),
        entropy=torch.tensor([[0.0, 1.0]]).double(),
        advantages=torch.ones(1, 2).double(),
        extras={"turn": torch.tensor([[0, 1]])},
    )
    shaped = StepModulation(clarity=0.0)(batch)
    torch.testing.assert_close(shaped + 1, torch.tensor([[1.4621, 0.5379]]).double(), atol=5e-5, rtol=0)


def test_scales_average_to_one_over_steps_and_equal_entropies_change_nothing_but_the_mean():
    batch = agent_batch(3)
    constant = batch.with_(advantages=torch.ones_like(batch.advantages))
    firsts = torch.zeros_like(batch.mask)
    turn = batch.extras["turn"]
    firsts[:, 0] = batch.mask[:, 0]
    firsts[:, 1:] = batch.mask[:, 1:] & (turn[:, 1:] != turn[:, :-1])
    # A constant advantage times scales of mean 1, less its mean: nothing is left on average over steps.
    assert float(StepModulation(3.0, clarity=0.0)(constant)[firsts].mean()) == pytest.approx(0, abs=1e-12)
    equal = batch.with_(entropy=torch.ones_like(batch.entropy))
    expected = torch.where(batch.mask, batch.advantages - batch.advantages[firsts].mean(), 0)
    torch.testing.assert_close(StepModulation(clarity=0.0)(equal), expected)


def test_no_sharpness_and_no_clarity_centre_over_steps():
    batch = agent_batch(1)
    torch.testing.assert_close(StepModulation(0.0, 1.0, 0.0)(batch), by_hand(batch, 0.0, 1.0, 0.0))


def test_the_size_of_a_policy_gradient_is_tied_to_its_entropy():
    # What motivates the scaling: E |grad_z log pi(a)|^2 = 1 - sum pi^2 = 1 - exp(-H_2), so sure policies learn slowly.
    logits = torch.randn(9, generator=torch.Generator().manual_seed(0)).double()
    p = logits.softmax(-1)
    gradients = torch.eye(9).double() - p
    assert float((p[:, None] * gradients**2).sum()) == pytest.approx(1 - float((p**2).sum()))


def test_missing_and_inconsistent_turns_are_named():
    batch = agent_batch()
    with pytest.raises(ValueError, match=r"extras\['turn'\]"):
        StepModulation()(batch.with_(extras={}))
    with pytest.raises(ValueError, match="must belong to a turn"):
        StepModulation()(batch.with_(extras={"turn": torch.full_like(batch.extras["turn"], -1)}))
