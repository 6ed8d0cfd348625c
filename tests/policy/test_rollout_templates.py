import pytest
import torch

from isentrope.policy import RolloutPlan, TokenBatch, recipes
from isentrope.policy.rollout import PromptTemplates
from isentrope.policy.templates import SYMBOLS, Template

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
FOUR = Template("four", "{prompt}\n", TAGS)
GIVEN = Template("given", "{prompt}\n", TAGS, given=1)
ANNOUNCED = Template("announced", marks=("The final answer is:",))


@pytest.mark.parametrize(
    ("template", "completion", "score"),
    [
        (FOUR, "<think>a</think><answer>3</answer>", 1),
        (FOUR, "<think>a</think>3</answer>", 3 / 4),
        (FOUR, "<think>a</think><answer>3</answer></answer>", 3 / 4),
        (FOUR, "<think><think>a</think></think><answer>3</answer>", 2 / 4),
        (FOUR, "3", 0),
        (GIVEN, "a</think><answer>3</answer>", 1),
        (GIVEN, "a</think>3", 1 / 3),
        (GIVEN, "<think>a</think><answer>3</answer>", 1),
        (ANNOUNCED, "So. The final answer is: 3", 1),
        (ANNOUNCED, "The final answer is: 3. The final answer is: 4", 0),
        (Template("plain"), "anything", 1),
    ],
)
def test_format_scores(template, completion, score):
    assert template.format(completion) == pytest.approx(score)


@pytest.mark.parametrize(
    ("template", "completion", "answer"),
    [
        (FOUR, "<think>4</think><answer>3</answer> so", "3"),
        (FOUR, "3", "3"),
        (FOUR, "<answer>3", "3"),
        (FOUR, "3</answer>", "3"),
        (GIVEN, "4</think><answer>3</answer>", "3"),
        (GIVEN, "3", "3"),
        (ANNOUNCED, "So. The final answer is:3", "3"),
        (Template("teacher", marks=("<", ">"), given=1), "3> and more", "3"),
        (Template("plain"), "3", "3"),
    ],
)
def test_answers(template, completion, answer):
    assert template.answer(completion) == answer


@pytest.mark.parametrize("template", [*SYMBOLS, FOUR, GIVEN, ANNOUNCED])
def test_a_demonstration_in_a_form_keeps_to_it_and_gives_its_answer_back(template):
    completion = template.answered("42;54")
    assert template.format(completion) == 1
    assert template.answer(completion) == "42;54"


def test_a_given_mark_belongs_to_the_prompt():
    assert GIVEN.asked("1+1?") == "1+1?\n<think>"
    assert GIVEN.answered("2") == "</think><answer>2</answer>"
    assert FOUR.asked("{}") == "{}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": "again"}, "prompt must hold"),
        ({"prompt": "{prompt}{prompt}"}, "prompt must hold"),
        ({"marks": ("<", "")}, "marks must not be empty"),
        ({"marks": ("<",), "given": 2}, "given must lie between 0 and 1"),
        ({"marks": ("<", ">"), "given": 2}, "given must lie between 0 and 1, because the last mark closes the answer"),
    ],
)
def test_bad_templates_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Template("bad", **arguments)


@pytest.mark.parametrize(
    ("templates", "weights", "message"),
    [
        ((), None, "different names"),
        ((Template("a"), Template("a")), None, "different names"),
        ((Template("a"), Template("b")), (1.0,), "one for each of 2"),
        ((Template("a"), Template("b")), (1.0, -1.0), "one for each of 2"),
        ((Template("a"), Template("b")), (0.0, 0.0), "one for each of 2"),
    ],
)
def test_bad_drawings_are_refused(templates, weights, message):
    with pytest.raises(ValueError, match=message):
        PromptTemplates(templates, weights)


def test_the_plan_carries_them():
    plan = PromptTemplates(SYMBOLS)(RolloutPlan(8))
    assert (plan.templates, plan.template_weights) == (SYMBOLS, None)


def formatted(rewards, scores, answers=None):
    """One group of responses with these rewards and scores of their formats."""
    extras = {"format": torch.tensor(scores)}
    if answers is not None:
        extras["answer"] = torch.tensor(answers)
    rows = len(rewards)
    return TokenBatch(
        mask=torch.ones(rows, 2, dtype=torch.bool),
        rewards=torch.tensor(rewards),
        group_ids=torch.zeros(rows, dtype=torch.long),
        old_log_probs=torch.full((rows, 2), -0.5),
        old_entropy=torch.full((rows, 2), 0.5),
        extras=extras,
    )


def test_the_pay_for_the_format_leaves_the_outcome_as_it_is():
    objective = recipes.named("prompt_augmentation(format_weight=0.75)")
    prepared, tally = objective.prepare(formatted([1.0, 0.0, 0.0], [0.0, 1.0, 0.5]), objective.start())
    assert prepared.rewards.tolist() == [1.0, 0.75, 0.375]
    assert prepared.outcome_rewards.tolist() == [1.0, 0.0, 0.0]
    assert tally.means()["reward"] == pytest.approx(1 / 3)


def test_what_keeps_to_the_form_is_not_taken_for_right():
    # All wrong, all in form: with the format in the outcome, half of them would count as right.
    batch = formatted([0.0] * 4, [1.0, 1.0, 0.0, 0.0])
    for text in ("prompt_augmentation + dcpo(target=0.5)", "dcpo(target=0.5) + prompt_augmentation"):
        objective = recipes.named(text)
        prepared, _ = objective.prepare(batch, objective.start())
        assert not (prepared.outcome_rewards > 0.5).any()
        assert prepared.rewards.tolist() == [1.0, 1.0, 0.0, 0.0]
    # A group that no answer of which is right has nothing to learn from but its format: DAPO drops it.
    dapo = recipes.named("dapo + prompt_augmentation")
    assert not dapo.prepare(batch, dapo.start())[0].mask.any()


def test_the_format_is_paid_beside_the_vote():
    objective = recipes.named("ttrl + prompt_augmentation(format_weight=0.5)")
    batch = formatted([0.0] * 3, [1.0, 0.0, 1.0], answers=[4, 4, 7])
    assert objective.prepare(batch, objective.start())[0].rewards.tolist() == [1.5, 1.0, 0.5]


def test_a_host_without_scores_of_formats_is_refused():
    objective = recipes.prompt_augmentation()
    batch = formatted([0.0], [1.0]).with_(extras={})
    with pytest.raises(ValueError, match=r"needs extras\['format'\], which the host did not give"):
        objective.prepare(batch, objective.start())
    with pytest.raises(ValueError, match="FormatBonus: weight must be finite, got nan"):
        recipes.prompt_augmentation(format_weight=float("nan"))
