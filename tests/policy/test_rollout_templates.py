import pytest

from isentrope.policy import RolloutPlan
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
    plan = PromptTemplates(SYMBOLS, format_weight=0.5)(RolloutPlan(8))
    assert (plan.templates, plan.template_weights, plan.format_weight) == (SYMBOLS, None, 0.5)
