"""Our advantages against verl's estimators, on the same rewards."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("verl", reason="verl is not installed")
pytest.importorskip("tensordict", reason="tensordict, which verl imports, is not installed")

from verl.trainer.ppo import core_algos

from isentrope.policy import TokenBatch
from isentrope.policy.advantages import BatchWhitened, GroupCentered, GroupNormalized, LeaveOneOut

ROWS, WIDTH = 13, 7


def given(seed=0):
    """Groups of several sizes out of order, one of them a single response, with tool output inside a response."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, WIDTH + 1, (ROWS,), generator=generator)
    mask = torch.arange(WIDTH) < lengths[:, None]
    rewards = torch.rand(ROWS, generator=generator, dtype=torch.float64)
    last = lengths - 1
    token_rewards = torch.zeros(ROWS, WIDTH, dtype=torch.float64).scatter(1, last[:, None], rewards[:, None])
    mask[lengths > 3, 1] = False
    groups = torch.tensor([0, 1, 0, 1, 2, 0, 3, 3, 3, 3, 1, 0, 3])
    batch = TokenBatch(mask, rewards, groups, old_log_probs=torch.zeros(ROWS, WIDTH, dtype=torch.float64))
    return batch, token_rewards, np.array([f"uid{g}" for g in groups])


def theirs(name, batch, token_rewards, uid, **further):
    config = SimpleNamespace(gamma=further.pop("gamma", 1.0))
    function = core_algos.get_adv_estimator_fn(name)
    return function(token_rewards, batch.mask.long(), index=uid, config=config, **further)[0]


@pytest.mark.parametrize(
    ("advantage", "name", "further"),
    [
        (GroupNormalized(), "grpo", {}),
        (GroupNormalized(), "grpo_vectorized", {}),
        (GroupCentered(), "grpo", {"norm_adv_by_std_in_grpo": False}),
        (LeaveOneOut(), "rloo", {}),
    ],
)
def test_group_advantages_are_verls(advantage, name, further):
    batch, token_rewards, uid = given()
    other = theirs(name, batch, token_rewards.clone(), uid, **further)
    mine = advantage(batch)[:, None] * batch.mask
    torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-9)


def test_verls_two_leave_one_out_estimators_differ_on_a_single_response():
    batch, token_rewards, uid = given()
    other = theirs("rloo_vectorized", batch, token_rewards.clone(), uid)
    mine = LeaveOneOut()(batch)[:, None] * batch.mask
    alone = batch.group_ids == 2
    torch.testing.assert_close(mine[~alone], other[~alone], rtol=1e-6, atol=1e-9)
    assert float(other[alone].abs().max()) == 0 < float(mine[alone].abs().max())


def test_equal_rewards_have_exactly_no_advantage_where_verl_leaves_rounding_noise():
    batch, token_rewards, _ = given()
    equal = torch.full((ROWS,), 0.1, dtype=torch.float32)
    single = batch.with_(rewards=equal, group_ids=torch.zeros(ROWS, dtype=torch.long))
    noise = theirs("grpo", batch, (token_rewards != 0).float() * 0.1, np.array(["one"] * ROWS))
    assert float(GroupNormalized()(single).abs().max()) == 0 < float(noise.abs().max()) < 0.1


@pytest.mark.parametrize("discount", [1.0, 0.9])
def test_reinforce_plus_plus_differs_by_the_unbiased_variance_alone(discount):
    batch, token_rewards, uid = given()
    other = theirs("reinforce_plus_plus", batch, token_rewards, uid, gamma=discount)
    mine = BatchWhitened(discount=discount)(batch)
    count = int(batch.mask.sum())
    torch.testing.assert_close(mine * ((count - 1) / count) ** 0.5, other, rtol=1e-6, atol=1e-8)


def test_reinforce_plus_plus_baseline_differs_by_the_variance_and_the_group_of_one():
    batch, token_rewards, uid = given()
    other = theirs("reinforce_plus_plus_baseline", batch, token_rewards, uid)
    mine = BatchWhitened(group_baseline=True)(batch)
    count = int(batch.mask.sum())
    torch.testing.assert_close(mine * ((count - 1) / count) ** 0.5, other, rtol=1e-6, atol=1e-8)
