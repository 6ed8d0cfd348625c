from inspect import signature

import numpy as np
import pytest
import torch

from isentrope.lab import (
    Addition,
    Calculator,
    CharacterTokenizer,
    Countdown,
    Templated,
    TinyTransformer,
    Trainer,
    TrainerSettings,
)
from isentrope.lab.collection import collect, draw, to_batch, turns
from isentrope.lab.rollouts import sample
from isentrope.policy import RolloutPlan, recipes
from isentrope.policy.rollout import PromptTemplates
from isentrope.policy.templates import SYMBOLS, Template

PLAN = RolloutPlan(group_size=4, temperature=1.1)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def scripted(task, problem, text):
    """Rollouts of one row in which the policy wrote its part of `text`."""
    model = TinyTransformer(width=16, layers=1, heads=2)
    prefix = [*model.tokenizer.encode(text), model.tokenizer.eos_id]
    rollouts = draw(model, task, [problem], generator=seeded(), max_new_tokens=len(prefix), prefixes=[prefix])
    assert rollouts.completions == [text]
    return model, rollouts


def test_turns_phases_and_answers_of_an_episode():
    task = Calculator()
    problem = task.problem("3+4*5")
    model, rollouts = scripted(task, problem, "4*5=20;20+3=23;23")
    batch = to_batch(model.tokenizer, task, [problem], rollouts, 1)
    columns = "4*5=20;20+3=23;23."
    turn = "0000---11111---222"
    think = "xxxx---xxxxx---   "
    plans = "xxx ---xxxx ---   "
    assert len(columns) == batch.mask.shape[1]
    assert batch.mask[0].tolist() == [character != "-" for character in turn]
    assert batch.extras["turn"][0].tolist() == [-1 if c == "-" else int(c) for c in turn]
    assert batch.extras["thinking"][0].tolist() == [c == "x" for c in think]
    assert batch.extras["strategic"][0].tolist() == [c == "x" for c in plans]
    assert batch.rewards.tolist() == [1.0]


def test_a_task_without_tool_phases_and_answers():
    class Plain:
        name = "plain"
        max_new_tokens = 6

        def problems(self, split, count, seed=0):
            return Countdown().problems(split, count, seed)

        def reward(self, problem, completion):
            return 0.0

        def demonstration(self, problem, rng):
            return ""

    model, task = TinyTransformer(CharacterTokenizer("0123456789=>+-* abcd:<"), width=16, layers=1, heads=2), Plain()
    rollouts, batch = collect(model, task, task.problems("train", 6), PLAN, generator=seeded(3))
    assert batch.extras["turn"].equal(torch.where(rollouts.mask, 0, -1))
    with pytest.raises(ValueError, match=r"needs extras\['thinking'\], which the host did not give; there are answer"):
        batch.extra("thinking")
    objective = recipes.pear()
    with pytest.raises(ValueError, match=r"needs extras\['thinking'\]"):
        objective.prepare(batch, objective.start())
    templated = PromptTemplates(SYMBOLS)(PLAN)
    _, in_forms = collect(model, task, task.problems("train", 2), templated, generator=seeded(3))
    assert not {"thinking", "strategic"} & in_forms.extras.keys()
    answers = batch.extras["answer"].tolist()
    for one, text in zip(answers, rollouts.completions, strict=True):
        assert (one == -1) == (text == "")
        assert [other == one for other in answers] == [other == text for other in rollouts.completions]


@pytest.mark.parametrize(
    ("template", "text", "thinking"),
    [
        (Template("plain"), "19;54", "19;"),
        (Template("tags", "{prompt}", ("<", ">")), "<19;54>", "<19;"),
        (Template("given", "{prompt}", ("<", ">"), given=1), "19;54>", "19;"),
        (Template("phases", "{prompt}", ("!", "?", "<", ">")), "!1?<19;54>", "!1?<19;"),
        (Template("announced", "{prompt}", ("is:",)), "is:19;54", "is:19;"),
        # Neither a mark that is missing nor an answer that never comes has a phase of its own.
        (Template("tags", "{prompt}", ("<", ">")), "19;54>", "19;"),
        (Template("tags", "{prompt}", ("<", ">")), "<19;>", "<19;>."),
    ],
)
def test_the_phases_of_an_answer_in_a_form_are_the_task_s(template, text, thinking):
    task = Templated(Addition(), (template,))
    (problem,) = task.put([Addition().problem((12, 7, 35))], np.random.default_rng(0))
    model, rollouts = scripted(task, problem, text)
    batch = to_batch(model.tokenizer, task, [problem], rollouts, 1)
    written = f"{text}."
    assert "".join(c for c, t in zip(written, batch.extras["thinking"][0].tolist(), strict=True) if t) == thinking


def test_a_tool_answers_within_the_marks_of_a_form():
    task = Templated(Calculator(), SYMBOLS[3:4])
    (problem,) = task.put([Calculator().problem("3+4*5")], np.random.default_rng(0))
    assert [task.tool(problem, text) for text in ("!?<4*5=", "!?<4*5", "!?<4*5=>", "!?<4*5=>3+4=")] == ["20;"] + [
        None
    ] * 3
    model, rollouts = scripted(task, problem, "!?<4*5=20;20+3=23;23>")
    batch = to_batch(model.tokenizer, task, [problem], rollouts, 1)
    assert "".join("x" if s else " " for s in batch.extras["strategic"][0].tolist()) == "   xxx    xxxx        "
    assert batch.extras["turn"][0].tolist() == [-1 if c == "-" else int(c) for c in "0000000---11111---2222"]
    assert batch.rewards.tolist() == [1.0]


def test_pear_charges_for_thinking_in_forms_and_on_countdown_only_with_working():
    model = TinyTransformer(width=16, layers=1, heads=2)
    in_tags = PromptTemplates(SYMBOLS[1:2])(PLAN)
    for task, plan, phased in (
        (Countdown(), PLAN, False),
        (Countdown(working=True), PLAN, True),
        (Addition(), in_tags, True),
    ):
        _, batch = collect(model, task, task.problems("train", 4), plan, generator=seeded())
        assert batch.extras["thinking"].any() == phased
        right = batch.with_(rewards=torch.ones_like(batch.rewards))
        charged = recipes.pear(alpha=0.0).reward[0](right)
        assert (charged < 1).any() == phased


def test_equal_answers_have_equal_numbers():
    task = Addition()
    problems = [task.problem((12, 7, 35))] * 5
    model = TinyTransformer(width=16, layers=1, heads=2)
    texts = ["19;54", "42;54", "19;53", "54", "19;"]
    prefixes = [[*model.tokenizer.encode(text), model.tokenizer.eos_id] for text in texts]
    rollouts = draw(model, task, problems, generator=seeded(), prefixes=prefixes)
    batch = to_batch(model.tokenizer, task, problems, rollouts, torch.tensor([3, 3, 3, 8, 8]))
    assert batch.extras["answer"].tolist() == [0, 0, 1, 0, -1]
    assert batch.rewards.tolist() == [1.0, 1.0, 0.0, 0.0, 0.0]
    assert batch.group_ids.tolist() == [3, 3, 3, 8, 8]
    expected = [3, 3, 3, 0, 4]  # the end of a text that never answers is no answer either
    assert batch.extras["thinking"].sum(1).tolist() == expected
    with pytest.raises(ValueError, match=r"one is needed for each of the 5 rollouts \(got 4\)"):
        to_batch(model.tokenizer, task, problems[:4], rollouts, 1)


def test_a_tokenizer_of_longer_tokens():
    """Phases are told in characters; a token belongs to the first if it ends within it."""

    class Pairs(CharacterTokenizer):
        """Tokens of two digits."""

        def decode(self, token_ids):
            return "".join(2 * text for text in super().decode(token_ids))

    class Half(Addition):
        def thinking(self, problem, completion):
            return 5

    model = TinyTransformer(Pairs("0123456789+="), width=16, layers=1, heads=2)
    problem = Half().problem((1, 2, 3))
    prefix = model.tokenizer.encode("1234")
    rollouts = sample(model, [problem.prompt], max_new_tokens=4, prefixes=[prefix], generator=seeded())
    assert rollouts.completions == ["11223344"]
    batch = to_batch(model.tokenizer, Half(), [problem], rollouts, 1)
    assert batch.extras["thinking"].tolist() == [[True, True, False, False]]


def test_turns_count_answers_that_begin():
    model = TinyTransformer(CharacterTokenizer("ab"), width=16, layers=1, heads=2, seed=3)
    (letter,) = model.tokenizer.encode("a")
    rollouts = sample(
        model,
        ["a"] * 40,
        max_new_tokens=12,
        generator=seeded(2),
        tool=lambda row, text: "bb" if text.endswith("a") else None,
    )
    counted = turns(rollouts)
    for row, ids in enumerate(rollouts.completion_ids.tolist()):
        written, expected, calls = int(rollouts.written[row].sum()), [], 0
        while len(expected) < written:
            expected.append(calls)
            if ids[len(expected) - 1] == letter:
                calls += 1
                expected += [-1, -1][: written - len(expected)]
        assert counted[row][:written].tolist() == expected
        assert (counted[row][written:] == -1).all()
    assert counted.max() >= 2


def test_a_batch_is_the_rewarded_groups():
    model, task = TinyTransformer(width=16, layers=1, heads=2), Calculator()
    problems = task.problems("train", 3)
    rollouts, batch = collect(model, task, problems, PLAN, generator=seeded(1), max_new_tokens=9)
    assert batch.group_ids.tolist() == list(np.repeat([0, 1, 2], 4))
    assert batch.mask.shape[1] <= 9
    assert rollouts.temperature == 1.1
    tokenizer = model.tokenizer
    for row, problem in enumerate(np.repeat(np.array(problems, dtype=object), 4)):
        prompt = rollouts.token_ids[row, : rollouts.prompt_length]
        assert tokenizer.decode(prompt.tolist()) == problem.prompt


def without_arguments():
    """All recipes that need no arguments; HICRA with grams, for which it has no default that the laboratory knows."""
    tokenizer = CharacterTokenizer()
    for name, make in recipes.names().items():
        if name == "hicra":
            yield recipes.hicra(grams=[tokenizer.encode("="), tokenizer.encode("1+")])
        elif all(parameter.default is not parameter.empty for parameter in signature(make).parameters.values()):
            yield make()


def trained(objective, task):
    settings = TrainerSettings(prompts_per_step=2, group_size=4, learning_rate=1e-3, epochs=2, probe_every=0)
    model, other = (TinyTransformer(width=16, layers=1, heads=2, seed=seed) for seed in (1, 2))
    trainer = Trainer(model, task, objective, settings, reference=other, teacher=other)
    return [trainer.step() for _ in range(2)]


@pytest.mark.parametrize("objective", list(without_arguments()), ids=lambda objective: objective.name)
def test_every_recipe_trains_on_a_task_of_several_turns(objective):
    # Answers in drawn forms are for tasks without a tool.
    task = Addition() if objective.name == "prompt_augmentation" else Calculator()
    for metrics in trained(objective, task):
        assert np.isfinite([metrics["loss"], metrics["gradient_norm"]]).all()


@pytest.mark.parametrize("name", ["ttrl", "ettrl", "pear", "epo", "empg", "spine"])
def test_recipes_that_read_turns_phases_and_answers_train_on_a_task_of_one_turn(name):
    for metrics in trained(recipes.named(name), Addition()):
        assert np.isfinite([metrics["loss"], metrics["gradient_norm"]]).all()
