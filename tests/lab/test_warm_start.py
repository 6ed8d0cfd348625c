import math

import numpy as np
import pytest
import torch

from isentrope.lab.rollouts import sample, score
from isentrope.lab.tasks import Countdown, Problem
from isentrope.lab.tiny import TinyTransformer
from isentrope.lab.warm_start import warm_start


def small(seed=0):
    return TinyTransformer(width=32, layers=1, heads=2, seed=seed)


class TwoAnswers:
    """One problem with two equally good answers."""

    name = "two answers"
    max_new_tokens = 4

    def problems(self, split, count, seed=0):
        return [Problem("1=")] * count

    def reward(self, problem, completion):
        return float(completion in ("ab", "cd"))

    def demonstration(self, problem, rng):
        return ("ab", "cd")[rng.integers(2)]


def test_the_loss_is_the_mean_surprise_of_completion_tokens():
    task, model = Countdown(), small()
    (loss,) = warm_start(model, task, steps=1, batch_size=6, learning_rate=0.0, seed=4)
    rng = np.random.default_rng(4)
    surprise = []
    for problem in task.problems("train", 6, seed=4):
        prompt = model.tokenizer.encode(problem.prompt)
        completion = [*model.tokenizer.encode(task.demonstration(problem, rng)), model.tokenizer.eos_id]
        for time, token in enumerate(completion):
            ids = torch.tensor([prompt + completion[:time]])
            with torch.no_grad():
                logits = model.head().logits(model.hidden(ids, torch.ones_like(ids, dtype=torch.bool)))[0, -1]
            surprise.append(-logits.log_softmax(-1)[token].item())
    assert loss == pytest.approx(np.mean(surprise), abs=1e-5)


class Shouting:
    """The policy writes a letter and a comma; the tool writes the letter twice."""

    name = "shouting"
    max_new_tokens = 12

    def problems(self, split, count, seed=0):
        return [Problem("1="), Problem("12=")] * (count // 2)

    def reward(self, problem, completion):
        return 1.0

    def tool(self, problem, text):
        return text[-2] * 2 if text.endswith(",") else None

    def demonstration(self, problem, rng):
        return "a,aab,bbc" if len(problem.prompt) == 2 else "b,bb"


def test_what_a_tool_writes_is_read_but_not_learnt():
    model = small()
    (loss,) = warm_start(model, Shouting(), steps=1, batch_size=2, learning_rate=0.0)
    surprise = []
    for text, own in (("1=a,aab,bbc", "--xx--xx--x"), ("12=b,bb", "---xx--")):
        ids = [*model.tokenizer.encode(text), model.tokenizer.eos_id]
        for time, chosen in enumerate(own + "x"):
            if chosen == "x":
                before = torch.tensor([ids[:time]])
                with torch.no_grad():
                    hidden = model.hidden(before, torch.ones_like(before, dtype=torch.bool))
                surprise.append(-model.head().logits(hidden)[0, -1].log_softmax(-1)[ids[time]].item())
    assert loss == pytest.approx(np.mean(surprise), abs=1e-5)


def test_demonstrations_have_to_agree_with_the_tool():
    class Lying(Shouting):
        def demonstration(self, problem, rng):
            return "a,bb"

    with pytest.raises(ValueError, match="has not what its tool writes after 'a,', 'aa'"):
        warm_start(small(), Lying(), steps=1, batch_size=2)


def test_it_learns_both_answers():
    model, task = small(), TwoAnswers()
    losses = warm_start(model, task, steps=120, batch_size=32, learning_rate=1e-2)
    # What is left is the coin between the answers: log 2 over three tokens.
    assert np.mean(losses[-20:]) == pytest.approx(math.log(2) / 3, abs=0.02)
    rollouts = sample(model, ["1="] * 400, max_new_tokens=4, generator=torch.Generator().manual_seed(0))
    rewards = [task.reward(task.problems("train", 1)[0], text) for text in rollouts.completions]
    assert np.mean(rewards) > 0.97
    assert abs(rollouts.completions.count("ab") / 400 - 0.5) < 4 * 0.5 / math.sqrt(400) + 0.05
    assert score(model, rollouts, temperature=1.0).entropy[:, 0].mean().item() == pytest.approx(math.log(2), abs=0.05)


def test_a_seed_decides_everything():
    def run(seed):
        model = small()
        losses = warm_start(model, Countdown(), steps=3, batch_size=4, seed=seed)
        return losses, torch.cat([p.detach().flatten() for p in model.parameters()])

    (losses, weights), (again, same), (other, _) = run(1), run(1), run(2)
    assert losses == again
    assert torch.equal(weights, same)
    assert losses != other


def test_progress_and_mode():
    model, seen = small(), []
    model.eval()
    losses = warm_start(model, TwoAnswers(), steps=3, batch_size=2, progress=lambda *news: seen.append(news))
    assert seen == [(step + 1, 3, loss) for step, loss in enumerate(losses)]
    assert not model.training


def test_frozen_parameters_stay():
    model = small()
    model.embedding.weight.requires_grad_(False)
    before = model.embedding.weight.clone()
    warm_start(model, TwoAnswers(), steps=3, batch_size=2)
    assert torch.equal(model.embedding.weight, before)


@pytest.mark.parametrize("name", ["steps", "batch_size"])
def test_bad_arguments_are_named(name):
    with pytest.raises(ValueError, match=f"{name}: must be at least 1"):
        warm_start(small(), TwoAnswers(), **{name: 0})


@pytest.mark.slow
def test_calibration_of_the_default_task():
    """After the default warm start the policy is sometimes right, in several ways, and has entropy to spend."""
    from isentrope.lab.evaluation import evaluate

    model, task = TinyTransformer(), Countdown()
    warm_start(model, task)
    result = evaluate(model, task, task.problems("test", 100), generator=torch.Generator().manual_seed(0))
    assert 0.15 < result.pass_at_k[1] < 0.35
    assert 0.5 < result.pass_at_k[8] < 0.8
    assert result.entropy > 0.4
