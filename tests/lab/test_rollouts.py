import math
from dataclasses import dataclass

import numpy as np
import pytest
import scipy.stats
import torch

from isentrope.lab.models import LanguageModel, OutputHead
from isentrope.lab.rollouts import join, sample, score
from isentrope.lab.tiny import TinyTransformer
from isentrope.lab.tokenizer import CharacterTokenizer

PROMPTS = ["12+7=", "3", "12+7=", "40=", "3"]


@dataclass
class _ConstantDecoding:
    logits: torch.Tensor

    def step(self, token_ids):
        return self.logits

    def keep(self, rows):
        self.logits = self.logits[rows]


class ConstantModel(LanguageModel):
    """The same distribution at every position."""

    def __init__(self, logits, tokenizer):
        super().__init__()
        self.tokenizer = tokenizer
        self.row = torch.nn.Parameter(torch.tensor(logits))

    def hidden(self, token_ids, attention_mask):
        return torch.ones(*token_ids.shape, 1)

    def head(self):
        return OutputHead(self.row[:, None])

    def start(self, token_ids, attention_mask, max_new_tokens):
        return _ConstantDecoding(self.row.detach().expand(len(token_ids), -1))

    def save(self, folder):
        raise NotImplementedError

    @classmethod
    def load(cls, folder):
        raise NotImplementedError


@pytest.fixture
def model():
    # With few tokens, an untrained model ends some of its texts early.
    return TinyTransformer(CharacterTokenizer("0123456789+="), width=24, layers=2, heads=3, seed=1)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def slow_samples(model, prompts, max_new_tokens, temperature, seed):
    """The same completions, one row at a time, without cache or padding; and the logits they were drawn from."""
    uniform = torch.rand(len(prompts), max_new_tokens, generator=seeded(seed), dtype=torch.float64)
    drawn, logits = [], []
    for row, prompt in enumerate(prompts):
        text, seen = model.tokenizer.encode(prompt), []
        start = len(text)
        for time in range(max_new_tokens):
            ids = torch.tensor([text])
            seen.append(model.head().logits(model.hidden(ids, torch.ones_like(ids, dtype=torch.bool)))[0, -1])
            probabilities = (seen[-1].double() / temperature).softmax(-1).tolist()
            total, token = 0.0, -1
            while total <= uniform[row, time]:
                token += 1
                total += probabilities[token]
            text.append(token)
            if token == model.tokenizer.eos_id:
                break
        drawn.append(text[start:])
        logits.append(torch.stack(seen) / temperature)
    return drawn, logits


@pytest.mark.parametrize("temperature", [1.0, 1.4])
def test_sampling_agrees_with_a_slow_reference(model, temperature):
    prompts = PROMPTS * 4
    rollouts = sample(model, prompts, max_new_tokens=12, temperature=temperature, generator=seeded(5))
    drawn, logits = slow_samples(model, prompts, 12, temperature, 5)
    lengths = {len(ids) for ids in drawn}
    assert len(lengths) > 2, "the test wants rows that end at different times"
    assert rollouts.completion_ids.shape[1] == max(lengths)
    for row, ids in enumerate(drawn):
        assert rollouts.completion_ids[row][rollouts.mask[row]].tolist() == ids
        log_distribution = logits[row].log_softmax(-1)
        chosen = log_distribution[range(len(ids)), ids]
        torch.testing.assert_close(rollouts.log_probs[row, : len(ids)], chosen, atol=1e-4, rtol=0)
        entropy = torch.distributions.Categorical(logits=logits[row]).entropy()
        torch.testing.assert_close(rollouts.entropy[row, : len(ids)], entropy, atol=1e-4, rtol=0)
        assert rollouts.completions[row] == model.tokenizer.decode(ids)


def test_layout_of_rollouts(model):
    rollouts = sample(model, PROMPTS, max_new_tokens=8, generator=seeded(2))
    prompt, tokenizer = rollouts.prompt_length, model.tokenizer
    assert prompt == max(map(len, PROMPTS))
    for row, text in enumerate(PROMPTS):
        ids, real = rollouts.token_ids[row], rollouts.attention_mask[row]
        assert ids[:prompt][real[:prompt]].tolist() == tokenizer.encode(text)
        assert not real[: prompt - len(text)].any()
    assert torch.equal(rollouts.token_ids[:, prompt:], rollouts.completion_ids)
    assert torch.equal(rollouts.attention_mask[:, prompt:], rollouts.mask)
    outside = ~rollouts.mask
    assert outside.any()
    assert (rollouts.log_probs[outside] == 0).all()
    assert (rollouts.entropy[outside] == 0).all()
    assert (rollouts.completion_ids[outside] == tokenizer.pad_id).all()
    ends = (rollouts.completion_ids == tokenizer.eos_id) & rollouts.mask
    cut = rollouts.mask.all(1) & ~ends.any(1)
    last = rollouts.mask.sum(1) - 1
    assert (ends.any(1) | cut).all()
    assert (ends.long().argmax(1) == last)[ends.any(1)].all()


def test_drawing_is_categorical():
    probabilities = np.array([0.0, 0.1, 0.4, 1e-3, 0.0, 0.299, 0.2, 0.0])
    with np.errstate(divide="ignore"):
        model = ConstantModel(np.log(probabilities).tolist(), CharacterTokenizer("abcdef"))
    n = 20_000
    rollouts = sample(model, ["a"] * n, max_new_tokens=1, generator=seeded(3))
    counts = np.bincount(rollouts.completion_ids[:, 0].numpy(), minlength=8)
    possible = probabilities > 0
    assert counts[~possible].sum() == 0
    assert scipy.stats.chisquare(counts[possible], n * probabilities[possible]).pvalue > 1e-3
    entropy = -(probabilities[possible] * np.log(probabilities[possible])).sum()
    np.testing.assert_allclose(rollouts.entropy[:, 0], entropy, atol=1e-5)
    np.testing.assert_allclose(rollouts.log_probs[:, 0].exp(), probabilities[rollouts.completion_ids[:, 0]], rtol=1e-5)


def test_draws_of_different_positions_are_independent():
    model = ConstantModel([-math.inf, -math.inf, 0.0, 0.0], CharacterTokenizer("ab"))
    rollouts = sample(model, ["a"] * 20_000, max_new_tokens=2, generator=seeded(4))
    table = np.zeros((2, 2))
    np.add.at(table, tuple((rollouts.completion_ids - 2).numpy().T), 1)
    assert scipy.stats.chi2_contingency(table).pvalue > 1e-3


def test_greedy_takes_the_most_probable_token(model):
    rollouts = sample(model, PROMPTS, max_new_tokens=6, greedy=True)
    probabilities = rollouts.log_probs[rollouts.mask].exp()
    scores = score(model, rollouts, temperature=1.0, outputs=("max_probability",))
    torch.testing.assert_close(scores.max_probability[rollouts.mask], probabilities, atol=1e-5, rtol=0)
    assert rollouts.completions[0] == rollouts.completions[2]
    assert float(rollouts.entropy.max()) > 1  # that of the distribution, not of the argmax


@pytest.mark.parametrize("temperature", [1.0, 0.5, 1.7])
def test_scores_are_what_sampling_recorded(model, temperature):
    rollouts = sample(model, PROMPTS * 3, max_new_tokens=10, temperature=temperature, generator=seeded(6))
    scores = score(model, rollouts, temperature=temperature)
    torch.testing.assert_close(scores.log_probs.detach(), rollouts.log_probs, atol=1e-4, rtol=0)
    torch.testing.assert_close(scores.entropy.detach(), rollouts.entropy, atol=1e-4, rtol=0)
    assert scores.varentropy is None
    assert scores.logits is None
    # Some rows, whose prompts and completions are shorter than the widths: the same numbers.
    few = [1, 4, 6]
    part = score(model, rollouts.rows(few), temperature=temperature)
    torch.testing.assert_close(part.log_probs.detach(), rollouts.log_probs[few], atol=1e-4, rtol=0)


def test_gradients_are_those_of_a_plain_log_softmax(model):
    rollouts = sample(model, PROMPTS, max_new_tokens=7, temperature=0.8, generator=seeded(7))
    weight = torch.randn(rollouts.mask.shape, generator=seeded(8))

    def gradient(value):
        grads = torch.autograd.grad(value, list(model.parameters()))
        return torch.cat([g.flatten() for g in grads])

    scores = score(model, rollouts, temperature=0.8)
    ours = gradient((weight * scores.log_probs).sum() + 2 * (weight * scores.entropy).sum())
    hidden = model.hidden(rollouts.token_ids, rollouts.attention_mask)[:, rollouts.prompt_length - 1 : -1]
    distribution = torch.distributions.Categorical(logits=model.head().logits(hidden) / 0.8)
    log_probs = distribution.log_prob(rollouts.completion_ids)
    mask = rollouts.mask
    plain = gradient((weight * log_probs)[mask].sum() + 2 * (weight * distribution.entropy())[mask].sum())
    torch.testing.assert_close(ours, plain, atol=1e-3, rtol=1e-3)


def test_logits_and_activation(model):
    rollouts = sample(model, PROMPTS, max_new_tokens=7, temperature=0.8, generator=seeded(9))
    plain = score(model, rollouts, temperature=0.8, need_logits=True)
    mask = rollouts.mask
    log_probs = plain.logits.log_softmax(-1).gather(-1, rollouts.completion_ids[..., None])[..., 0]
    torch.testing.assert_close(log_probs[mask], rollouts.log_probs[mask], atol=1e-4, rtol=0)
    assert (plain.logits[~mask] == 0).all()
    # Doubling the logits is halving the temperature.
    doubled = score(model, rollouts, temperature=0.8, need_logits=True, activation=lambda logits: 2 * logits)
    halved = score(model, rollouts, temperature=0.4)
    torch.testing.assert_close(doubled.log_probs, halved.log_probs, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(doubled.entropy, halved.entropy, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(doubled.logits, 2 * plain.logits)
    assert score(model, rollouts, temperature=0.8, activation=torch.relu).logits is None


@pytest.mark.parametrize(
    "index", [[3, 0], torch.tensor([3, 0]), slice(1, 4), torch.tensor([True, False, True, False, True])]
)
def test_rows(model, index):
    rollouts = sample(model, PROMPTS, max_new_tokens=5, generator=seeded(10))
    chosen = torch.arange(5)[index].tolist()
    rows = rollouts.rows(index)
    assert rows.completions == [rollouts.completions[row] for row in chosen]
    assert torch.equal(rows.log_probs, rollouts.log_probs[chosen])
    assert torch.equal(rows.token_ids, rollouts.token_ids[chosen])
    assert rows.prompt_length == rollouts.prompt_length
    assert len(rows) == len(chosen)


def test_encoded_prompts_may_be_given(model):
    by_text = sample(model, PROMPTS, max_new_tokens=5, generator=seeded(11))
    encoded = [model.tokenizer.encode(prompt) for prompt in PROMPTS]
    by_ids = sample(model, [], token_ids=encoded, max_new_tokens=5, generator=seeded(11))
    assert by_ids.completions == by_text.completions


def echo(row, text):
    """A tool that answers each equals sign with a text that depends on the row and on what stands before."""
    return f"{row}{len(text)}+" if text.endswith("=") else None


def with_tool(model, **changes):
    arguments = {"max_new_tokens": 24, "temperature": 1.2, "generator": seeded(13), "tool": echo, **changes}
    return sample(model, PROMPTS * 12, **arguments)


def test_a_tool_writes_into_completions(model):
    rollouts = with_tool(model)
    calls = 0
    for row, text in enumerate(rollouts.completions):
        written = rollouts.written[row].tolist()
        assert written == sorted(written, reverse=True), "what was written is one stretch"
        ids = rollouts.completion_ids[row][rollouts.written[row]].tolist()
        assert model.tokenizer.decode(ids) == text
        # The mask by reading the tokens once more. (An untrained policy also draws padding, which has no text.)
        expected, seen = [], ""
        while len(expected) < len(ids):
            seen += model.tokenizer.decode(ids[len(expected) : len(expected) + 1])
            expected.append(True)
            answer = "" if ids[len(expected) - 1] == model.tokenizer.eos_id else echo(row, seen) or ""
            rest = ids[len(expected) :][: len(answer)]
            assert answer.startswith(model.tokenizer.decode(rest))
            calls += bool(rest)
            seen += answer
            expected += [False] * len(rest)
        assert rollouts.mask[row][rollouts.written[row]].tolist() == expected
    assert calls > 10
    assert (rollouts.log_probs[~rollouts.mask] == 0).all()
    assert (rollouts.entropy[~rollouts.mask] == 0).all()
    assert (rollouts.log_probs[rollouts.mask] < 0).all()


def test_scores_see_what_the_tool_wrote(model):
    rollouts = with_tool(model)
    assert (rollouts.mask[:, 1:] & ~rollouts.mask[:, :-1]).any(), "the test wants holes in the mask"
    scores = score(model, rollouts, temperature=1.2)
    torch.testing.assert_close(scores.log_probs.detach(), rollouts.log_probs, atol=1e-5, rtol=0)
    torch.testing.assert_close(scores.entropy.detach(), rollouts.entropy, atol=1e-5, rtol=0)
    # Rows of which the longest ends with the tool: columns after the policy's last token are not needed.
    for row in range(len(rollouts)):
        one = score(model, rollouts.rows([row]), temperature=1.2)
        torch.testing.assert_close(one.log_probs.detach(), rollouts.log_probs[[row]], atol=1e-5, rtol=0)


def beginnings(rollouts):
    """Of the row k the first k mod 9 tokens."""
    return [
        ids[written][: row % 9].tolist()
        for row, (ids, written) in enumerate(zip(rollouts.completion_ids, rollouts.written, strict=True))
    ]


@pytest.mark.parametrize("tool", [None, echo])
def test_completions_that_begin_as_they_did_go_on_as_they_did(model, tool):
    rollouts = with_tool(model, tool=tool)
    again = with_tool(model, tool=tool, prefixes=beginnings(rollouts))
    for name in ("token_ids", "attention_mask", "mask", "log_probs", "entropy"):
        assert torch.equal(getattr(again, name), getattr(rollouts, name))


@pytest.mark.parametrize("tool", [None, echo])
def test_prefixes_are_the_policys_own_tokens(model, tool):
    prefixes = beginnings(with_tool(model, tool=tool))
    rollouts = with_tool(model, tool=tool, prefixes=prefixes, generator=seeded(14))
    for row, prefix in enumerate(prefixes):
        assert rollouts.completion_ids[row, : len(prefix)].tolist() == prefix
        assert rollouts.written[row, : len(prefix)].all()
    scores = score(model, rollouts, temperature=1.2)
    torch.testing.assert_close(scores.log_probs.detach(), rollouts.log_probs, atol=1e-5, rtol=0)
    torch.testing.assert_close(scores.entropy.detach(), rollouts.entropy, atol=1e-5, rtol=0)
    if tool is None:
        assert torch.equal(rollouts.mask, rollouts.written)


def test_a_prefix_may_be_a_whole_completion(model):
    end = model.tokenizer.eos_id
    rollouts = sample(model, ["1", "1"], max_new_tokens=5, prefixes=[[2, 3, end], [2, 3, 4]], generator=seeded())
    assert rollouts.completion_ids[0].tolist()[:3] == [2, 3, end]
    assert rollouts.mask[0].sum() == 3
    assert rollouts.completions[1].startswith("012")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prefixes": [[2]]}, r"one is needed for each of the 2 prompts \(got 1\)"),
        ({"prefixes": [[2], [2] * 4]}, "prefix 1 has 4 tokens, more than max_new_tokens = 3"),
        ({"prefixes": [[1, 2], []]}, "prefix 0 goes on after its end"),
        ({"prefixes": [[2], [3, -1]]}, "prefix 1 holds -1, but token ids lie between 0 and"),
        ({"prefixes": [[2], [10**6]]}, "prefix 1 holds 1000000, but token ids lie between 0 and"),
        (
            {"prefixes": [[], [2, 13, 4]], "tool": lambda row, text: "1" if text.endswith("=") else None},
            "prefix 1 contradicts the tool, which answers '1' at token 2",
        ),
    ],
)
def test_bad_prefixes_are_named(model, changes, message):
    with pytest.raises(ValueError, match=message):
        sample(model, ["1", "2"], max_new_tokens=3, generator=seeded(), **changes)


def test_joined_rollouts_are_the_rows_of_all(model):
    pieces = [
        sample(model, prompts, max_new_tokens=width, generator=seeded(15))
        for prompts, width in ((PROMPTS[1:3], 3), (PROMPTS[:1], 9), (PROMPTS[1:2], 5))
    ]
    whole = join(pieces)
    assert whole.completions == [text for piece in pieces for text in piece.completions]
    scores = score(model, whole, temperature=1.0)
    torch.testing.assert_close(scores.log_probs.detach(), whole.log_probs, atol=1e-5, rtol=0)
    torch.testing.assert_close(scores.entropy.detach(), whole.entropy, atol=1e-5, rtol=0)
    parts = torch.cat([piece.log_probs[piece.mask] for piece in pieces])
    assert torch.equal(whole.log_probs[whole.mask], parts)
    with pytest.raises(ValueError, match="at least one is needed"):
        join([])
    with pytest.raises(ValueError, match=r"of one temperature \(got 1.0, 1.2\)"):
        join([pieces[0], with_tool(model)])


@pytest.mark.parametrize("greedy", [True, False])
def test_a_diverged_model_is_reported(model, greedy):
    with torch.no_grad():
        model.norm.weight[0] = math.nan
    with pytest.raises(ValueError, match=r"logits are not numbers \(prompt 0, generated token 0\)"):
        sample(model, PROMPTS, max_new_tokens=3, generator=seeded(), greedy=greedy)


def test_progress_and_mode_of_the_model(model):
    seen = []
    model.train()
    sample(model, PROMPTS, max_new_tokens=30, generator=seeded(12), progress=lambda done, of: seen.append((done, of)))
    assert seen == [(step, 30) for step in range(1, len(seen) + 1)]
    assert model.training


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompts": []}, "prompts: at least one"),
        ({"prompts": ["1", ""]}, "prompt 1 has no token"),
        ({"temperature": 0.0}, "temperature: must be positive"),
        ({"temperature": math.nan}, "temperature: must be positive"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"generator": None}, "generator"),
    ],
)
def test_bad_arguments_are_named(model, change, message):
    arguments = {"prompts": ["1"], "max_new_tokens": 3, "generator": seeded(), **change}
    with pytest.raises(ValueError, match=message):
        sample(model, arguments.pop("prompts"), **arguments)
