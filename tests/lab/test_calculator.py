import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isentrope.lab.tasks import Calculator, HasAnswers, HasPhases, UsesTool


def test_it_keeps_the_optional_contracts():
    task = Calculator()
    assert isinstance(task, UsesTool)
    assert isinstance(task, HasPhases)
    assert isinstance(task, HasAnswers)


def test_the_tool_answers_each_equals_sign():
    task = Calculator()
    problem = task.problem("3+4*5")
    assert task.tool(problem, "4*5=") == "20;"
    assert task.tool(problem, "4*5=20;20+3=") == "23;"
    assert task.tool(problem, "999*1001=") == "999999;"
    for quiet in ("", "4", "4*5", "4*5=20", "4*5=20;"):
        assert task.tool(problem, quiet) is None
    for nonsense in (
        "=",
        "4=",
        "4*=",
        "4*5+3=",
        "04*5=",
        "4-5=",
        "4*5 =",
        "1000*1000=",
        "4*5=20=",
        "1234567+1=",
        "٤*5=",
    ):
        assert task.tool(problem, nonsense) == "?;"


@given(st.lists(st.integers(1, 9), min_size=2, max_size=4), st.data())
def test_solutions_against_brute_force(numbers, data):
    signs = data.draw(st.lists(st.sampled_from("+*"), min_size=len(numbers) - 1, max_size=len(numbers) - 1))
    text = str(numbers[0]) + "".join(f"{sign}{number}" for sign, number in zip(signs, numbers[1:], strict=True))
    task = Calculator(count=len(numbers), largest=9)
    problem = task.problem(text)

    # By the rules of grammar: a call joins two neighbours of some rearrangement of the sum that leaves its value.
    def rearranged(terms):
        for order in itertools.permutations(terms):
            for factors in itertools.product(*(sorted(set(itertools.permutations(term))) for term in order)):
                yield "+".join("*".join(map(str, term)) for term in factors)

    def chains(expression):
        terms = [tuple(map(int, term.split("*"))) for term in expression.split("+")]
        if len(terms) == 1 and len(terms[0]) == 1:
            return {expression}
        found = set()
        for order in set(rearranged(terms)):
            # The first two numbers of the rearrangement, where nothing binds the second more strongly.
            match = re.match(r"(\d+\+\d+(?![\d*]))|(\d+\*\d+)", order)
            if match:
                result = str(eval(match[0]))
                found |= {f"{match[0]}={result};{rest}" for rest in chains(result + order[match.end() :])}
        return found

    expected = chains(text)
    assert set(task.solutions(problem)) == expected
    assert len(task.solutions(problem)) == len(expected)
    assert all(task.reward(problem, solution) == 1.0 for solution in expected)
    assert all(solution.endswith(f";{eval(text)}") for solution in expected)


@pytest.mark.parametrize(
    "completion",
    [
        "23",  # no call
        "23;23",
        "4*5=20;20+3=23;",  # given up before the answer
        "4*5=20;20",
        "4*5=20;20+3=23;24",
        "4*5=20;20+3=23;023",
        "4*5=23;23",  # results that the tool did not give
        "4*5=20;20+3=24;23",
        "4*5;23",
        "4*5=20=20;23",
        "=?;23",  # only failed calls
        "4+=?;23",
        "3+4=7;7*5=35;35",  # against precedence
        " 4*5=20;20+3=23;23",
        "4*5=20;;20+3=23;23",
        "4*5=20;20+3=23;23\n",
        "4*5=20;20+3=23;٢٣",
        "",
    ],
)
def test_it_cannot_be_tricked(completion):
    task = Calculator()
    assert task.reward(task.problem("3+4*5"), completion) == 0.0


def test_failed_and_needless_calls_do_no_harm():
    task = Calculator()
    for completion in ("4+=?;4*5=20;20+3=23;23", "1+1=2;4*5=20;20+3=23;23", "4*5=20;23"):
        assert task.reward(task.problem("3+4*5"), completion) == 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Calculator(count=1), "count: must be between 2 and 5"),
        (lambda: Calculator(largest=0), "largest: must be between 1 and 99 for 3 numbers"),
        (lambda: Calculator(count=5, largest=16), "between 1 and 15 for 5 numbers"),
        (lambda: Calculator().problem("3+4"), r"3 numbers are needed \(got 2\)"),
        (lambda: Calculator().problem("3+4*05"), "must be a sum of products"),
        (lambda: Calculator().problem("3-4*5"), "must be a sum of products"),
    ],
)
def test_bad_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
