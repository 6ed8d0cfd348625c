import numpy as np
import pytest

from isentrope.lab import Addition, TinyTransformer, Trainer, TrainerSettings
from isentrope.lab.one_problem import most_varied
from isentrope.policy import recipes


def test_the_problem_nearest_to_one_half_is_chosen():
    accuracy = np.array([0.0, 1.0, 0.875, 0.375, 0.25, 0.625])
    rewards = (np.arange(8) < 8 * accuracy[:, None]).astype(float)
    assert most_varied(rewards) == 3


def test_partial_rewards_count_by_their_spread():
    assert most_varied(np.array([[0.4, 0.5, 0.6], [0.2, 0.5, 0.8]])) == 1


@pytest.mark.parametrize(
    ("rewards", "message"),
    [
        (np.ones((3, 4)), "each of the 3 problems is always rewarded alike"),
        (np.ones(3), r"must be of shape \[problems, samples\], got \(3,\)"),
    ],
)
def test_nothing_to_choose_from_is_an_error(rewards, message):
    with pytest.raises(ValueError, match=message):
        most_varied(rewards)


def test_a_trainer_keeps_to_the_problems_that_it_is_given():
    task, settings = Addition(), TrainerSettings(prompts_per_step=3, group_size=2, probe_every=0)
    given = task.problems("train", 2)
    model = TinyTransformer(width=16, layers=1, heads=2)
    trainer = Trainer(model, task, recipes.em_ft(), settings, problems=given)
    prompts = []
    for _ in range(2):
        trainer.step()
        rollouts = trainer.last_rollouts
        for ids, mask in zip(rollouts.token_ids, rollouts.attention_mask, strict=True):
            width = rollouts.prompt_length
            prompts.append(model.tokenizer.decode(ids[:width][mask[:width]].tolist()))
    assert prompts[::2] == [given[i % 2].prompt for i in range(6)]
    with pytest.raises(ValueError, match="there must be at least one, or None"):
        Trainer(model, task, recipes.em_ft(), settings, problems=[])
