import pytest
import torch
from batches import make_batch
from toy_bench import bandit

from isentrope.policy import recipes
from isentrope.policy.exploration_bonus import ExplorationBonus


def shaped(advantages, entropy, **settings):
    batch, _ = make_batch(rows=1, width=len(advantages))
    values = [torch.tensor([each]).double() for each in (advantages, entropy)]
    return ExplorationBonus(**settings)(batch.with_(advantages=values[0], entropy=values[1]))[0].tolist()


def test_hand_cases():
    assert shaped([1.0, -1.0, 1.0, 0.0], [3.0, 3.0, 0.0, 3.0]) == [1.5, -0.5, 1.0, 0.0]
    assert shaped([1.0, -1.0], [0.5, 0.5], coefficient=0.4) == pytest.approx([1.2, -0.8])


def test_the_sign_stays_and_the_bonus_is_bounded():
    generator = torch.Generator().manual_seed(0)
    advantages, entropy = torch.randn(200, generator=generator), 5 * torch.rand(200, generator=generator)
    new = torch.tensor(shaped(advantages.tolist(), entropy.tolist(), coefficient=3.0, divisor=1.5))
    assert (new.sign() == advantages.sign()).all()
    assert ((new - advantages).abs() <= advantages.abs() / 1.5 + 1e-6).all()
    assert ((new - advantages) >= 0).all()


def test_no_gradient_flows_into_the_entropy():
    batch, _ = make_batch()
    entropy = batch.old_entropy.clone().requires_grad_()
    advantages = ExplorationBonus()(batch.with_(entropy=entropy, advantages=torch.ones_like(entropy)))
    assert not advantages.requires_grad


def test_it_slows_the_collapse_of_the_toy_bench_and_does_not_stop_it():
    plain, paid = (bandit(o, 400, 0.5)[:, 0] for o in (recipes.dapo(), recipes.reasoning_with_exploration()))
    # Over three seeds 0.54 against 0.78 nats after 200 steps, 0.15 against 0.17 after 400.
    assert paid[190:210].mean() > 1.25 * plain[190:210].mean()
    assert paid[-20:].mean() < 0.25


@pytest.mark.parametrize(("settings", "message"), [({"divisor": 1.0}, "above 1"), ({"coefficient": -0.1}, "negative")])
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ExplorationBonus(**settings)
