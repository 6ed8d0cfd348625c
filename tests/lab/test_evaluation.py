import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isentrope.lab.evaluation import evaluate, pass_at_k
from isentrope.lab.models import LanguageModel, OutputHead
from isentrope.lab.tasks import Problem
from isentrope.lab.tokenizer import CharacterTokenizer


@pytest.mark.parametrize("n", [1, 2, 5, 7])
def test_pass_at_k_is_the_share_of_subsets_with_a_correct_draw(n):
    for c, k in itertools.product(range(n + 1), range(1, n + 1)):
        subsets = list(itertools.combinations([1] * c + [0] * (n - c), k))
        expected = np.mean([max(subset) for subset in subsets])
        assert pass_at_k(n, c, k) == pytest.approx(expected, abs=1e-12)


@given(st.integers(1, 5000), st.data())
def test_pass_at_k_is_exact_where_binomials_overflow(n, data):
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    exact = 1 - Fraction(math.comb(n - c, k), math.comb(n, k))
    assert float(pass_at_k(n, c, k)) == pytest.approx(float(exact), abs=1e-10)


def test_pass_at_k_of_many_problems_and_sizes():
    n, c = np.array([[4, 10], [6, 6]]), np.array([2, 3])
    expected = [[pass_at_k(int(a), int(b), 3) for a, b in zip(row, c, strict=True)] for row in n]
    np.testing.assert_allclose(pass_at_k(n, c, 3), np.array(expected))
    assert pass_at_k(8, np.array([], dtype=int), 2).shape == (0,)
    np.testing.assert_allclose(pass_at_k(16, np.arange(17), 1), np.arange(17) / 16)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((4, np.array([1, 5]), 2), ValueError, r"got 5 of 4 at index \(1,\)"),
        ((4, -1, 2), ValueError, "c: must lie between"),
        ((4, 1, 5), ValueError, "k: must lie between 1 and n = 4"),
        ((4, 1, 0), ValueError, "k: must lie between"),
    ],
)
def test_pass_at_k_refuses_the_impossible(arguments, error, message):
    with pytest.raises(error, match=message):
        pass_at_k(*arguments)


class _Decoding:
    def __init__(self, table, rows):
        self.table, self.rows, self.time = table, rows, 0

    @property
    def logits(self):
        return self.table[self.rows, self.time]

    def step(self, token_ids):
        self.time += 1
        return self.logits

    def keep(self, rows):
        self.rows = self.rows[rows]


class Guesser(LanguageModel):
    """To prompt i: 'a' with probability p_i, else 'b' or 'c', and then the end."""

    def __init__(self, probabilities):
        super().__init__()
        self.tokenizer = CharacterTokenizer("abc")
        self.anchor = torch.nn.Parameter(torch.zeros(1))
        self.probabilities = probabilities

    def start(self, token_ids, attention_mask, max_new_tokens):
        table = torch.full((len(token_ids), 2, 5), -math.inf)
        for row, length in enumerate(attention_mask.sum(1).tolist()):
            p = self.probabilities[length - 1]
            table[row, 0, 2:] = torch.tensor([p, (1 - p) / 2, (1 - p) / 2]).log()
        table[:, 1, self.tokenizer.eos_id] = 0.0
        return _Decoding(table, torch.arange(len(token_ids)))

    def hidden(self, token_ids, attention_mask):
        raise NotImplementedError

    def head(self):
        return OutputHead(torch.zeros(5, 1))

    def save(self, folder):
        raise NotImplementedError

    @classmethod
    def load(cls, folder):
        raise NotImplementedError


class WriteA:
    """Half a point for 'b', a point for 'a'; problem i has a prompt of length i + 1."""

    name = "write a"
    max_new_tokens = 3

    def problems(self, split, count, seed=0):
        return [Problem("a" * (index + 1)) for index in range(count)]

    def reward(self, problem, completion):
        return {"a": 1.0, "b": 0.5}.get(completion, 0.0)

    def demonstration(self, problem, rng):
        return "a"


def test_evaluation_of_a_policy_that_is_known():
    p, samples = np.array([0.5, 0.2, 0.05, 0.0]), 4000
    task = WriteA()
    result = evaluate(
        Guesser(p.tolist()),
        task,
        task.problems("test", 4),
        samples=samples,
        k=(1, 2, 8),
        generator=torch.Generator().manual_seed(0),
        batch_size=8192,
    )
    standard_error = np.sqrt(p * (1 - p) / samples).mean()
    assert result.pass_at_k[1] == pytest.approx(p.mean(), abs=4 * standard_error)
    for k in (2, 8):
        assert result.pass_at_k[k] == pytest.approx((1 - (1 - p) ** k).mean(), abs=4 * k * standard_error)
    assert result.reward == pytest.approx((p + (1 - p) / 4).mean(), abs=4 * standard_error)
    by_problem = (result.rewards == 1).mean(1)
    assert result.pass_at_k_standard_error[1] == pytest.approx(by_problem.std(ddof=1) / 2)
    assert result.reward_standard_error == pytest.approx(result.rewards.mean(1).std(ddof=1) / 2)
    parts = np.stack([p, (1 - p) / 2, (1 - p) / 2])
    surprise = np.where(parts > 0, -parts * np.log(np.where(parts > 0, parts, 1)), 0).sum(0)
    assert result.entropy == pytest.approx(surprise.mean() / 2, abs=1e-6)  # the end is certain and counts
    assert result.length == 2
    assert result.truncated == 0
    assert result.distinct_correct == 0.75  # 'a' is the only correct answer, and problem 3 never gets it
    assert (result.problems, result.samples) == (4, samples)


def test_the_tool_of_a_task_answers():
    """The tool repeats the letter; its letter is part of the completion, but not of lengths and entropies."""

    class Repeated(WriteA):
        def tool(self, problem, text):
            return text if len(text) == 1 else None

        def reward(self, problem, completion):
            return {"aa": 1.0, "a": 0.5}.get(completion, 0.0)

    class Patient(Guesser):
        def start(self, token_ids, attention_mask, max_new_tokens):
            decoding = super().start(token_ids, attention_mask, max_new_tokens)
            decoding.table = decoding.table[:, [0, 1, 1]]
            return decoding

    task, p, samples = Repeated(), 0.5, 2000
    result = evaluate(
        Patient([p]),
        task,
        task.problems("test", 1),
        samples=samples,
        generator=torch.Generator().manual_seed(0),
        batch_size=samples,
    )
    assert result.pass_at_k[1] == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / samples))
    assert result.reward == pytest.approx(result.pass_at_k[1])
    assert result.length == 2
    assert result.truncated == 0
    assert result.entropy == pytest.approx((0.5 * math.log(2) + 0.5 * math.log(4)) / 2, abs=1e-6)


def test_half_a_point_counts_if_asked():
    task = WriteA()
    arguments = {"samples": 200, "k": (1,)}
    strict, lenient = (
        evaluate(
            Guesser([0.2]),
            task,
            task.problems("test", 1),
            correct=correct,
            generator=torch.Generator().manual_seed(0),
            **arguments,
        )
        for correct in (1.0, 0.5)
    )
    assert strict.pass_at_k[1] < 0.35 < lenient.pass_at_k[1]
    assert strict.distinct_correct == 1
    assert lenient.distinct_correct == 2
    assert math.isnan(strict.reward_standard_error)


def test_completions_without_an_end_are_counted():
    task = WriteA()
    task.max_new_tokens = 1
    result = evaluate(
        Guesser([0.5]), task, task.problems("test", 1), samples=8, generator=torch.Generator().manual_seed(0)
    )
    assert result.truncated == 1
    assert result.length == 1


def test_batches_and_seeds():
    task, model = WriteA(), Guesser([0.3, 0.6, 0.1])
    problems = task.problems("test", 3)

    def run(seed, batch_size=512):
        seen = []
        result = evaluate(
            model,
            task,
            problems,
            samples=8,
            generator=torch.Generator().manual_seed(seed),
            batch_size=batch_size,
            progress=lambda done, of: seen.append((done, of)),
        )
        return result, seen

    assert (run(1)[0].rewards == run(1)[0].rewards).all()
    assert (run(1)[0].rewards != run(2)[0].rewards).any()
    assert run(1, batch_size=16)[1] == [(2, 3), (3, 3)]
    with pytest.raises(ValueError, match="k: each must lie between 1 and samples = 4"):
        evaluate(model, task, problems, samples=4, generator=torch.Generator())
    with pytest.raises(ValueError, match="problems: at least one"):
        evaluate(model, task, [], generator=torch.Generator())
