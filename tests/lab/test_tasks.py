import ast
import inspect
import itertools
import textwrap
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isentrope.lab.tasks import Addition, Calculator, Countdown, Problem, ReasoningGym, Task, split_of, task

TASKS = [
    Countdown(),
    Countdown(working=True),
    Countdown(count=2, operations="+-*/", largest=20),
    Countdown(count=4, operations="+-", working=True),
    Addition(),
    Addition(count=4, largest=9),
    Calculator(),
    Calculator(count=4, largest=20),
    ReasoningGym("chain_sum"),
    ReasoningGym("basic_arithmetic", settings={"max_terms": 3}),
    ReasoningGym("letter_counting"),
]


def value_of(expression):
    """Exact value by Python's own parser, each number a fraction; None where it divides by zero."""
    tree = ast.parse(expression, mode="eval")

    class Exact(ast.NodeTransformer):
        def visit_Constant(self, node):
            return ast.Call(ast.Name("Fraction", ast.Load()), [node], [])

    code = compile(ast.fix_missing_locations(Exact().visit(tree)), "expression", "eval")
    try:
        return eval(code, {"Fraction": Fraction})
    except ZeroDivisionError:
        return None


def all_expressions(numbers, operations):
    for a, b, c in itertools.permutations(numbers):
        for first, second in itertools.product(operations, repeat=2):
            yield f"{a}{first}{b}{second}{c}"
            yield f"({a}{first}{b}){second}{c}"
            yield f"{a}{first}({b}{second}{c})"


@pytest.mark.parametrize("one", TASKS, ids=lambda one: f"{one.name}-{len(str(one))}")
def test_every_task_keeps_the_contract(one):
    assert isinstance(one, Task)
    train, test = one.problems("train", 60, seed=1), one.problems("test", 40, seed=1)
    assert one.problems("train", 60, seed=1) == train
    assert one.problems("test", 40, seed=1) == test
    assert one.problems("train", 60, seed=2) != train
    assert not {problem.prompt for problem in train} & {problem.prompt for problem in test}
    assert len({problem.prompt for problem in test}) == 40
    rng = np.random.default_rng(0)
    for problem in train + test:
        demonstration = one.demonstration(problem, rng)
        assert one.reward(problem, demonstration) == 1.0
        assert one.reward(problem, problem.solution) == 1.0
        for wrong in ("", problem.prompt, "0", "<answer></answer>", demonstration[:-1]):
            assert one.reward(problem, wrong) == 0.0
        if not isinstance(one, ReasoningGym):
            assert one.reward(problem, demonstration + demonstration) == 0.0
            assert len(demonstration) + 1 <= one.max_new_tokens
            assert one.reward(problem, " " + demonstration) == 0.0
            assert one.reward(problem, demonstration + "\n") == 0.0


@pytest.mark.parametrize("one", [one for one in TASKS if not isinstance(one, ReasoningGym)], ids=str)
def test_demonstrations_are_all_the_solutions_equally_often(one):
    problem = next(p for p in one.problems("train", 50, seed=3) if 2 <= len(one.solutions(p)) <= 16)
    solutions = one.solutions(problem)
    rng = np.random.default_rng(0)
    drawn = [one.demonstration(problem, rng) for _ in range(400 * len(solutions))]
    assert len(set(solutions)) == len(solutions)
    assert set(drawn) == set(solutions)
    # Binomial counts of mean 400: five standard deviations are less than 100.
    assert all(abs(drawn.count(text) - 400) < 100 for text in solutions)


@given(st.lists(st.integers(1, 12), min_size=3, max_size=3), st.sampled_from(["+-*", "+-*/", "-/"]), st.data())
@settings(max_examples=30)
def test_countdown_expressions_against_brute_force(numbers, operations, data):
    one = Countdown(operations=operations, largest=12)
    values = {text: value_of(text) for text in all_expressions(numbers, operations)}
    reachable = sorted({int(value) for value in values.values() if value is not None and value.denominator == 1})
    if not reachable:
        return
    target = data.draw(st.sampled_from(reachable))
    problem = one.problem(tuple(numbers), target)
    # Needless parentheses are correct, too; solutions do not list them.
    for text, value in values.items():
        assert one.reward(problem, text) == float(value == target), text
    solutions = one.solutions(problem)
    assert solutions == sorted(set(solutions))
    assert all(value_of(text) == target for text in solutions)
    assert {text for text, value in values.items() if value == target and "(" not in text} <= set(solutions)
    missing = max(reachable) + 1
    with pytest.raises(ValueError, match=f"{missing} cannot be reached"):
        one.problem(tuple(numbers), missing)


@given(st.lists(st.integers(1, 12), min_size=3, max_size=3), st.sampled_from(["+-*", "+-*/"]), st.data())
@settings(max_examples=30)
def test_countdown_chains_against_brute_force(numbers, operations, data):
    one = Countdown(operations=operations, largest=12, working=True)

    def steps(a, b):
        for operation in operations:
            value = value_of(f"{a}{operation}{b}") if b or operation != "/" else None
            if value is not None and value >= 0 and value.denominator == 1:
                yield int(value), f"{a}{operation}{b}={value}"

    chains = {}
    for a, b, c in itertools.permutations(numbers):
        for middle, first in steps(a, b):
            for last, second in [*steps(middle, c), *steps(c, middle)]:
                chains[f"{first};{second}"] = last
    target = data.draw(st.sampled_from(sorted(set(chains.values()))))
    problem = one.problem(tuple(numbers), target)
    assert one.solutions(problem) == sorted(text for text, value in chains.items() if value == target)
    for text, value in chains.items():
        assert one.reward(problem, text) == float(value == target), text


@pytest.mark.parametrize(
    "completion",
    [
        "22",  # the target itself
        "3*5+7=22",
        "3*5+7;",
        "3*5+7+0",  # numbers that were not given
        "3*5+7-0",
        "3*5+7*1",
        "15+7",
        "3*5+07",  # a number in disguise
        "03*5+7",
        "3*5+7.0",
        "3*5+7e0",
        "3*5+0x7",
        "3*5+７",  # a full-width digit
        "3*5+٧",  # an Arabic digit
        "+3*5+7",  # signs
        "-3*-5+7",
        "3*5--7",
        "3*5++7",
        "3**5+7",
        "35-7-6",  # digits of two numbers joined
        "3 *5+7",
        "3*5\n+7",
        "3*5+7#",
        "(3*5+7",
        "3*5+7)",
        "()3*5+7",
        "(3)(5)+7",
        "3*5+(7)+",
        "22 if 3*5*7 else 0",
        "__import__('os')",
        "(" * 500 + "3*5+7" + ")" * 500,
        "9" * 5000,
    ],
)
def test_countdown_expressions_cannot_be_tricked(completion):
    one = Countdown()
    assert one.reward(one.problem((3, 5, 7), 22), completion) == 0.0


@pytest.mark.parametrize(
    "completion",
    [
        "3*5+7",
        "15+7=22",  # a number that was not made
        "3*5=15",
        "3*5=15;15+7=22;",
        "3*5=15;15+7=22;22+0=22",
        "3*5=22;15+7=22",  # a wrong result
        "3*5=15;15+7=23",
        "3*7=21;21+5=22",
        "3*5=15;3+7=10",  # a number used twice
        "3*5=15;15+7=022",
        "3*5=15;7+15=22.0",
        "3*5=1５;1５+7=22",
        "3-5=-2;7--2=9",
        "3*5=15=15;15+7=22",
        ";3*5=15;15+7=22",
        "3*5=15 ;15+7=22",
        "999999*999999=999998000001;3*5=15",
    ],
)
def test_countdown_chains_cannot_be_tricked(completion):
    one = Countdown(working=True)
    assert one.reward(one.problem((3, 5, 7), 22), completion) == 0.0


def test_forbidden_operations_are_not_rewarded():
    problem = Countdown(operations="+-*/").problem((8, 4, 3), 6)
    assert Countdown(operations="+-*/").reward(problem, "8/4*3") == 1.0
    assert Countdown(operations="+-*").reward(problem, "8/4*3") == 0.0
    assert Countdown(operations="+-*/").reward(Problem("", data=((8, 4, 2), 4)), "8/(4-2*2)") == 0.0


def test_countdown_has_several_solutions_to_each_problem():
    one = Countdown(minimum_solutions=3)
    for problem in one.problems("test", 100):
        numbers, target = problem.data
        assert len(one.solutions(problem)) >= 3
        assert 1 <= target <= 99
        assert problem.prompt == f"{' '.join(map(str, numbers))}>{target}="


def test_the_order_of_the_numbers_does_not_decide_the_split():
    one = Countdown()
    train = {(tuple(sorted(p.data[0])), p.data[1]) for p in one.problems("train", 3000)}
    test = {(tuple(sorted(p.data[0])), p.data[1]) for p in one.problems("test", 300)}
    assert not train & test
    assert len(test) == 300


def test_splits_are_a_fifth_and_too_few_problems_are_said():
    share = np.mean([split_of(f"problem {index}") == "test" for index in range(5000)])
    assert abs(share - 0.2) < 4 * np.sqrt(0.2 * 0.8 / 5000)
    with pytest.raises(ValueError, match="there seem to be only"):
        Addition(count=2, largest=3).problems("test", 50)


@given(st.lists(st.integers(1, 99), min_size=3, max_size=4))
def test_addition_against_brute_force(numbers):
    one = Addition(count=len(numbers), largest=99)
    problem = one.problem(tuple(numbers))
    expected = {
        ";".join(str(sum(order[:used])) for used in range(2, len(order) + 1))
        for order in itertools.permutations(numbers)
    }
    assert set(one.solutions(problem)) == expected
    assert len(one.solutions(problem)) == len(expected)


@pytest.mark.parametrize(
    "completion", ["54", "19;54;", "20;54", "19;55", "019;54", "19; 54", "19;19;54", "12;19;54", ""]
)
def test_addition_cannot_be_tricked(completion):
    one = Addition()
    assert one.reward(one.problem((12, 7, 35)), completion) == 0.0


def test_reasoning_gym_pays_for_the_last_answer_only():
    one = ReasoningGym("chain_sum", settings={"max_terms": 2, "max_digits": 1})
    problem = one.problems("train", 1)[0]
    right = problem.data["answer"]
    assert one.reward(problem, f"<answer>{right}</answer>") == 1.0
    assert one.reward(problem, right) == 0.0
    assert one.reward(problem, f"<answer>{right}</answer><answer>1234</answer>") == 0.0
    assert one.reward(problem, f"<answer>{right} or {right}0</answer>") == 0.0


def test_reasoning_gym_does_not_pay_for_lists_of_guesses():
    one = ReasoningGym("letter_counting")
    problem = one.problems("train", 1)[0]
    guesses = f"<answer>{' '.join(map(str, range(30)))}</answer>"
    assert one.reward(problem, guesses) == 0.0
    # What the library itself gives for it, and why partial credit is not the default.
    assert 0.0 < ReasoningGym("letter_counting", partial_credit=True).reward(problem, guesses) < 1.0


def test_verifiers_that_run_the_answer_are_refused():
    factory = pytest.importorskip("reasoning_gym.factory")
    evaluating = {
        name
        for name, (dataset, _) in factory.DATASETS.items()
        if {"eval", "exec", "parse_expr", "sympify"} & called_in(dataset.score_answer)
    }
    assert {"countdown", "n_queens", "puzzle24"} <= evaluating
    evaluating.remove("number_sorting")  # evaluates its own answer, not the policy's
    for name in evaluating:
        with pytest.raises(ValueError, match="run_answers=True"):
            ReasoningGym(name)
    assert ReasoningGym("n_queens", run_answers=True).problems("train", 1)


def called_in(function):
    """Names that a function's own source calls, plain or as attributes."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {getattr(call, "attr", getattr(call, "id", "")) for call in calls}


@pytest.mark.parametrize(
    ("one", "completion", "thinking", "answer"),
    [
        (Addition(), "19;54", "19;", "54"),
        (Addition(), "54", "", "54"),
        (Addition(), "19;", "19;", None),
        (Addition(), "19;5a", "19;5a", None),
        (Addition(), "", "", None),
        (Countdown(), "3*5+7", "", "3*5+7"),
        (Countdown(), "", "", None),
        (Countdown(working=True), "3*5=15;7+15=22", "3*5=15;", "7+15=22"),
        (Countdown(working=True), "3*5=15;7+15", "3*5=15;7+15", None),
        (Calculator(), "4*5=20;20+3=23;23", "4*5=20;20+3=23;", "23"),
        (Calculator(), "4*5=20;4+=?;", "4*5=20;4+=?;", None),
        (Calculator(), "23", "", "23"),
        (
            ReasoningGym("chain_sum"),
            "So <answer>3</answer>, or <answer> 4 </answer>.",
            "So <answer>3</answer>, or ",
            "4",
        ),
        (ReasoningGym("chain_sum"), "It is <answer>3", "It is <answer>3", None),
    ],
)
def test_phases_and_answers(one, completion, thinking, answer):
    problem = one.problems("train", 1)[0]
    assert one.answer(problem, completion) == answer
    assert completion[: one.thinking(problem, completion)] == thinking


@pytest.mark.parametrize("one", TASKS, ids=lambda one: f"{one.name}-{len(str(one))}")
def test_demonstrations_of_a_problem_answer_after_they_thought(one):
    rng = np.random.default_rng(0)
    for problem in one.problems("train", 20):
        text = one.demonstration(problem, rng)
        assert text[one.thinking(problem, text) :].endswith((one.answer(problem, text), "</answer>"))


def test_tasks_are_found_by_name():
    assert task("countdown") == Countdown()
    assert task("addition") == Addition()
    assert task("calculator") == Calculator()
    assert task("reasoning_gym:chain_sum") == ReasoningGym("chain_sum")
    for one in (task("countdown"), task("reasoning_gym:chain_sum")):
        assert task(one.name) == one


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("adition", "did you mean 'addition'"),
        ("reasoning_gym:chain_sums", "did you mean 'chain_sum'"),
        ("reasoning_gym", "did you mean 'reasoning_gym:DATASET'"),
        ("chess", "tasks: addition, calculator, countdown, reasoning_gym:DATASET"),
    ],
)
def test_unknown_names_get_a_hint(name, message):
    with pytest.raises(ValueError, match=message):
        task(name)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Countdown(count=1), "count"),
        (lambda: Countdown(operations="+^"), "operations"),
        (lambda: Countdown(operations=""), "operations"),
        (lambda: Countdown(largest=0), "largest"),
        (lambda: Countdown(minimum_solutions=0), "minimum_solutions"),
        (lambda: Addition(count=7), "count"),
        (lambda: Addition(largest=0), "largest"),
        (lambda: Addition().problem((1, 2)), "numbers: 3 are needed"),
        (lambda: Addition().problem((1, 2, 0)), "0 at index 2"),
        (lambda: Countdown().problem((1, 2), 3), "numbers: 3 are needed"),
        (lambda: Countdown().problems("eval", 1), "split: must be 'train' or 'test'"),
        (lambda: Countdown().problems("train", -1), "count: must not be negative"),
    ],
)
def test_bad_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
