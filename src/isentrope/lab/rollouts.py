"""Sampling completions from a policy, and scoring them again with gradient.

`sample` draws completions and records, at each generated token, the log-probability and the entropy of the distribution
it was drawn from. A completion may begin with tokens that are given, and an environment may write into it: tokens of the
environment are read, but the policy did not choose them. `score` computes the same numbers once more, differentiably, from hidden states at the generated
positions only. Both divide logits by the same temperature before anything else, so importance ratios are one at the
start of an update and an entropy is always that of the distribution that acted.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from isentrope.lab.models import LanguageModel
from isentrope.lab.tokenizer import Tokenizer
from isentrope.policy.batch import scattered

# Logits that exist at the same time while scoring: 16 MB in float32.
_LOGITS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Rollouts:
    """Prompts with their sampled completions.

    Attributes:
        token_ids: left-padded prompts followed by right-padded completions, ``[batch, prompt + time]``.
        attention_mask: True at prompt tokens and at tokens of the completion, ``[batch, prompt + time]``.
        prompt_length: columns of the prompt block.
        completion_ids: the completions, what a tool wrote included, ``[batch, time]``.
        mask: True at the policy's own tokens up to and including the end token, ``[batch, time]``; False at what a tool
            wrote.
        log_probs: log-probability of each token of the policy when it was drawn, in nats; 0 outside the mask.
        entropy: entropy of the distribution it was drawn from, in nats; 0 outside the mask.
        completions: the completions as text, what a tool wrote included, special tokens left out.
        temperature: the temperature that all of this was drawn at.
    """

    token_ids: Int[Tensor, "batch length"]
    attention_mask: Bool[Tensor, "batch length"]
    prompt_length: int
    completion_ids: Int[Tensor, "batch time"]
    mask: Bool[Tensor, "batch time"]
    log_probs: Float[Tensor, "batch time"]
    entropy: Float[Tensor, "batch time"]
    completions: list[str]
    temperature: float = 1.0

    def __len__(self) -> int:
        """Number of completions."""
        return len(self.completions)

    @property
    def written(self) -> Bool[Tensor, "batch time"]:
        """True at all tokens of the completions, the policy's own and a tool's."""
        return self.attention_mask[:, self.prompt_length :]

    def rows(self, index: Int[Tensor, " rows"] | Bool[Tensor, " batch"] | Sequence[int] | slice) -> "Rollouts":
        """The rollouts at `index` (integers, a boolean mask or a slice), at unchanged widths."""
        rows = torch.arange(len(self), device=self.token_ids.device)[
            index if isinstance(index, slice) else torch.as_tensor(index, device=self.token_ids.device)
        ]
        return replace(
            self,
            token_ids=self.token_ids[rows],
            attention_mask=self.attention_mask[rows],
            completion_ids=self.completion_ids[rows],
            mask=self.mask[rows],
            log_probs=self.log_probs[rows],
            entropy=self.entropy[rows],
            completions=[self.completions[row] for row in rows.tolist()],
        )


@torch.no_grad()
def sample(
    model: LanguageModel,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
    token_ids: Sequence[Sequence[int]] | None = None,
    greedy: bool = False,
    prefixes: Sequence[Sequence[int]] | None = None,
    tool: Callable[[int, str], str | None] | None = None,
    activation: Callable[[Tensor], Tensor] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Rollouts:
    """Draw one completion for each prompt from softmax(logits / temperature).

    Each draw inverts the cumulative distribution at a uniform number. The numbers of all rows and positions are drawn
    first, from one generator, so a completion depends on its row and the seed but not on when other rows finish. A
    prompt that is repeated in succession or elsewhere is read once; finished rows leave the batch.

    Args:
        model: the policy.
        prompts: one prompt a completion; repeat a prompt to draw from it again.
        max_new_tokens: completions that have not ended are cut here; prefixes and a tool's tokens count.
        temperature: divides the logits.
        generator: source of randomness (a CPU generator); needed unless `greedy`.
        token_ids: the prompts as token ids, for prompts that are encoded already; `prompts` may then be empty.
        greedy: take the most probable token instead of drawing; log-probabilities and entropies stay those of the
            distribution at `temperature`.
        prefixes: token ids that each completion begins with; they count as the policy's own, with the log-probabilities
            and entropies that it gives them. With what a completion of the same seed began with, the rest repeats it.
        tool: called with (row, text of its completion so far) after each token of the policy but the end; the text that
            it returns is written next, as tokens outside the mask. Within a prefix, its answers must be those that the
            prefix holds.
        activation: applied to the logits after the temperature, ``[rows, vocabulary]`` to the same shape.
        progress: called with (positions done, `max_new_tokens`) after each position.

    Returns:
        The rollouts; their time axis is as long as the longest completion.

    Raises:
        ValueError: if there is no prompt, a prompt has no token, `temperature` or `max_new_tokens` is not positive, a
            generator is missing, a prefix is too long, holds what is no token, goes on after its end or contradicts the
            tool, or the model's logits are not numbers.

    Examples:
        >>> from isentrope.lab.tiny import TinyTransformer
        >>> model = TinyTransformer(width=16, layers=1, heads=2)
        >>> draw = lambda: sample(model, ["1+2=", "7="] * 2, max_new_tokens=3, generator=torch.Generator().manual_seed(0))
        >>> draw().completion_ids.shape == draw().mask.shape == (4, 3)
        True
        >>> draw().completions == draw().completions
        True
    """
    _check_sampling(max_new_tokens, temperature, generator, greedy)
    encoded = [list(model.tokenizer.encode_prompt(prompt)) for prompt in prompts] if token_ids is None else token_ids
    if not encoded:
        raise ValueError("prompts: at least one prompt is needed")
    empty = next((row for row, ids in enumerate(encoded) if not len(ids)), None)
    if empty is not None:
        raise ValueError(f"prompts: prompt {empty} has no token")
    if prefixes is not None:
        _check_prefixes(prefixes, len(encoded), max_new_tokens, model)
    device, batch, tokenizer = model.device, len(encoded), model.tokenizer

    distinct: dict[tuple[int, ...], int] = {}
    source = [distinct.setdefault(tuple(ids), len(distinct)) for ids in encoded]
    prompt_ids, prompt_mask = _left_padded(list(distinct), tokenizer.pad_id, device)
    which = torch.tensor(source, device=device)

    training = model.training
    model.eval()
    try:
        decoding = model.start(prompt_ids, prompt_mask, max_new_tokens)
        if len(distinct) < batch or source != list(range(batch)):
            decoding.keep(which)
        # In double precision: a single-precision uniform has steps of 6e-8, coarser than rare tokens' probabilities.
        uniform = (
            None
            if greedy
            else torch.rand(batch, max_new_tokens, generator=generator, dtype=torch.float64).to(
                device, non_blocking=True
            )
        )
        script = None if prefixes is None and tool is None else _Script(prefixes or [()] * batch, tool, tokenizer)
        drawn = torch.full((batch, max_new_tokens), tokenizer.pad_id, dtype=torch.long, device=device)
        written = torch.zeros(batch, max_new_tokens, dtype=torch.bool, device=device)
        mask = written if script is None else written.clone()
        log_probs = torch.zeros(batch, max_new_tokens, device=device)
        entropy = torch.zeros(batch, max_new_tokens, device=device)

        rows = torch.arange(batch, device=device)  # the rollout that each row of the decoding belongs to
        running = torch.ones(batch, dtype=torch.bool, device=device)  # by row of the decoding
        time = 0
        for time in range(max_new_tokens):
            logits = decoding.logits / temperature
            log_distribution = torch.log_softmax(logits if activation is None else activation(logits), dim=-1)
            distribution = log_distribution.exp()
            token = log_distribution.argmax(-1) if uniform is None else _invert(distribution, uniform[rows, time])
            alive = rows[running]
            if script is None:
                written[alive, time] = True
            else:
                token, own = script.play(rows, token, running)
                written[alive, time] = True
                mask[alive, time] = own[running]
            drawn[alive, time] = token[running]
            log_probs[alive, time] = log_distribution.gather(-1, token[:, None])[:, 0][running]
            # An impossible token has log-probability -inf and contributes nothing.
            entropy[alive, time] = -torch.where(distribution > 0, distribution * log_distribution, 0.0).sum(-1)[running]
            running = running & (token != tokenizer.eos_id)
            if progress is not None:
                progress(time + 1, max_new_tokens)
            left = int(running.sum())
            if left == 0 or time + 1 == max_new_tokens:
                break
            # Copying the cache costs about a step: drop finished rows when that pays.
            if left <= 0.75 * len(rows):
                decoding.keep(running.nonzero()[:, 0])
                rows, token = rows[running], token[running]
                running = torch.ones(left, dtype=torch.bool, device=device)
            decoding.step(token)
    finally:
        model.train(training)

    length = time + 1
    drawn, written, mask = drawn[:, :length], written[:, :length], mask[:, :length]
    log_probs, entropy = log_probs[:, :length], entropy[:, :length]
    if script is not None:
        log_probs, entropy = log_probs.masked_fill(~mask, 0), entropy.masked_fill(~mask, 0)
    broken = (mask & ~log_probs.isfinite()).nonzero()
    if len(broken):
        row, position = broken[0].tolist()
        raise ValueError(
            f"model: its logits are not numbers (prompt {row}, generated token {position}); has its training diverged?"
        )
    counts = written.sum(1).tolist()
    return Rollouts(
        token_ids=torch.cat((prompt_ids[which], drawn), 1),
        attention_mask=torch.cat((prompt_mask[which], written), 1),
        prompt_length=prompt_ids.shape[1],
        completion_ids=drawn,
        mask=mask,
        log_probs=log_probs,
        entropy=entropy,
        completions=[tokenizer.decode(ids[:count]) for ids, count in zip(drawn.tolist(), counts, strict=True)],
        temperature=temperature,
    )


def join(pieces: Sequence[Rollouts], *, pad_id: int = 0) -> Rollouts:
    """The rollouts of several `sample` calls as one batch, padded to common widths.

    Args:
        pieces: rollouts at one temperature.
        pad_id: id that fills the new positions.

    Returns:
        All rows in order: prompts padded on the left, completions on the right.

    Raises:
        ValueError: if there is no piece, or their temperatures differ.

    Examples:
        >>> from isentrope.lab.tiny import TinyTransformer
        >>> model = TinyTransformer(width=16, layers=1, heads=2)
        >>> draw = lambda prompt: sample(model, [prompt], max_new_tokens=2, greedy=True)
        >>> join([draw("1+2="), draw("7=")]).token_ids.shape
        torch.Size([2, 6])
    """
    if not pieces:
        raise ValueError("pieces: at least one is needed")
    temperatures = {piece.temperature for piece in pieces}
    if len(temperatures) > 1:
        raise ValueError(f"pieces: all must be of one temperature (got {', '.join(map(str, sorted(temperatures)))})")
    prompt = max(piece.prompt_length for piece in pieces)
    time = max(piece.mask.shape[1] for piece in pieces)

    def joined(name: str, fill: float) -> Tensor:
        padded = []
        for piece in pieces:
            left = prompt - piece.prompt_length if name in ("token_ids", "attention_mask") else 0
            right = time - piece.mask.shape[1]
            padded.append(torch.nn.functional.pad(getattr(piece, name), (left, right), value=fill))
        return torch.cat(padded)

    return Rollouts(
        token_ids=joined("token_ids", pad_id),
        attention_mask=joined("attention_mask", False),
        prompt_length=prompt,
        completion_ids=joined("completion_ids", pad_id),
        mask=joined("mask", False),
        log_probs=joined("log_probs", 0.0),
        entropy=joined("entropy", 0.0),
        completions=[text for piece in pieces for text in piece.completions],
        temperature=pieces[0].temperature,
    )


@dataclass(frozen=True)
class Scores:
    """What `score` computes at each generated token, ``[batch, time]``, with gradient; 0 outside the mask.

    Attributes:
        log_probs: log-probability of the token, in nats.
        entropy: entropy of its distribution, in nats.
        varentropy: variance of the log-probability of a token drawn from it.
        collision_probability: probability that two draws from it agree.
        top_k_mass: probability of its most probable tokens.
        max_probability: probability of the most probable token.
        probability_covariance: covariance of probability and log-probability of a token drawn from it.
        logits: logits after temperature and activation, ``[batch, time, vocabulary]``.

    Fields that were not asked for are None.
    """

    log_probs: Float[Tensor, "batch time"] | None = None
    entropy: Float[Tensor, "batch time"] | None = None
    varentropy: Float[Tensor, "batch time"] | None = None
    collision_probability: Float[Tensor, "batch time"] | None = None
    top_k_mass: Float[Tensor, "batch time"] | None = None
    max_probability: Float[Tensor, "batch time"] | None = None
    probability_covariance: Float[Tensor, "batch time"] | None = None
    logits: Float[Tensor, "batch time vocabulary"] | None = None


def hidden_states(
    model: LanguageModel, rollouts: Rollouts, where: Bool[Tensor, "batch time"]
) -> Float[Tensor, "tokens width"]:
    """The states from which a model predicts some tokens of `rollouts`, with gradient.

    Args:
        model: the policy, or another model with the same tokens.
        rollouts: what `sample` returned, or some rows of it.
        where: which tokens, ``[batch, time]``; at least one.

    Returns:
        One state a token, in the order of ``where.nonzero()``.
    """
    first, prompt = _first_column(rollouts.attention_mask), rollouts.prompt_length
    length = _last_column(where) + 1
    read = slice(first, prompt + length - 1)  # the last token predicts nothing that was generated
    hidden = model.hidden(rollouts.token_ids[:, read], rollouts.attention_mask[:, read])
    return hidden[:, prompt - first - 1 :][where[:, :length]]


def score(
    model: LanguageModel,
    rollouts: Rollouts,
    *,
    temperature: float,
    outputs: Sequence[str] = ("log_probs", "entropy"),
    top_k: int = 20,
    need_logits: bool = False,
    activation: Callable[[Tensor], Tensor] | None = None,
    hidden: Float[Tensor, "tokens width"] | None = None,
) -> Scores:
    """Statistics of the policy at the tokens of `rollouts`, with gradient.

    Only generated tokens meet the output head, in blocks whose logits are made again in the backward pass; see
    `isentrope.measures.token_statistics`.

    Args:
        model: the policy.
        rollouts: what `sample` returned, or some rows of it.
        temperature: divides the logits; the one of the rollouts makes importance ratios one before an update.
        outputs: which fields of `Scores` to compute, beside `logits`.
        top_k: how many tokens `top_k_mass` counts.
        need_logits: also return the logits, which takes ``batch · time · vocabulary`` numbers.
        activation: applied to the logits after the temperature, ``[tokens, vocabulary]`` to the same shape; all
            statistics are then those of the changed logits.
        hidden: the `hidden_states` at the policy's own tokens, where they are at hand.

    Returns:
        The statistics, in nats.

    Raises:
        ValueError: if `temperature` is not positive or an output is unknown.

    Examples:
        >>> from isentrope.lab.tiny import TinyTransformer
        >>> model = TinyTransformer(width=16, layers=1, heads=2)
        >>> drawn = sample(model, ["1+2="], max_new_tokens=3, generator=torch.Generator().manual_seed(0))
        >>> torch.allclose(score(model, drawn, temperature=1.0).log_probs, drawn.log_probs, atol=1e-5)
        True
    """
    mask = rollouts.mask
    hidden = hidden_states(model, rollouts, mask) if hidden is None else hidden
    head = model.head()
    statistics, logits = head.statistics(
        hidden,
        rollouts.completion_ids[mask],
        temperature=temperature,
        outputs=outputs,
        top_k=top_k,
        need_logits=need_logits,
        activation=activation,
        block_size=max(256, _LOGITS_AT_ONCE // len(head.weight)),
    )
    found = {name: value for name, value in statistics._asdict().items() if value is not None}
    if need_logits and logits is not None:
        found["logits"] = logits
    return Scores(**{name: scattered(value, mask) for name, value in found.items()})


def _check_sampling(max_new_tokens: int, temperature: float, generator: torch.Generator | None, greedy: bool) -> None:
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens: must be at least 1 (got {max_new_tokens})")
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(f"temperature: must be positive and finite (got {temperature}); pass greedy=True for argmax")
    if generator is None and not greedy:
        raise ValueError("generator: a torch.Generator is needed to draw tokens; pass greedy=True to draw none")


def _check_prefixes(prefixes: Sequence[Sequence[int]], batch: int, max_new_tokens: int, model: LanguageModel) -> None:
    vocabulary = len(model.head().weight)
    if len(prefixes) != batch:
        raise ValueError(f"prefixes: one is needed for each of the {batch} prompts (got {len(prefixes)})")
    for row, prefix in enumerate(prefixes):
        if len(prefix) > max_new_tokens:
            raise ValueError(
                f"prefixes: prefix {row} has {len(prefix)} tokens, more than max_new_tokens = {max_new_tokens}"
            )
        unknown = [index for index in prefix if not 0 <= index < vocabulary]
        if unknown:
            raise ValueError(
                f"prefixes: prefix {row} holds {unknown[0]}, but token ids lie between 0 and {vocabulary - 1}"
            )
        if model.tokenizer.eos_id in list(prefix)[:-1]:
            raise ValueError(f"prefixes: prefix {row} goes on after its end token")


class _Script:
    """The tokens that are not drawn: prefixes, and what the tool answers."""

    def __init__(
        self,
        prefixes: Sequence[Sequence[int]],
        tool: Callable[[int, str], str | None] | None,
        tokenizer: Tokenizer,
    ) -> None:
        self._tool, self._tokenizer = tool, tokenizer
        self._given = [deque(map(int, prefix)) for prefix in prefixes]
        self._answer: list[deque[int]] = [deque() for _ in prefixes]
        self._text: list[list[int]] = [[] for _ in prefixes]

    def play(self, rows: Tensor, drawn: Tensor, running: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens that these rows go on with, and whether each is the policy's own."""
        tokens, own = drawn.tolist(), [True] * len(drawn)
        for index, (row, runs) in enumerate(zip(rows.tolist(), running.tolist(), strict=True)):
            if runs:
                tokens[index], own[index] = self._next(row, tokens[index])
        return torch.tensor(tokens, device=drawn.device), torch.tensor(own, device=drawn.device)

    def _next(self, row: int, drawn: int) -> tuple[int, bool]:
        given, answer, text = self._given[row], self._answer[row], self._text[row]
        own = not answer
        token = answer.popleft() if answer else given.popleft() if given else drawn
        if not own and given and given.popleft() != token:
            raise ValueError(
                f"prefixes: prefix {row} contradicts the tool, which answers {self._tokenizer.tokens([token])[0]!r} "
                f"at token {len(text)}"
            )
        text.append(token)
        if own and self._tool is not None and token != self._tokenizer.eos_id:
            answer.extend(self._tokenizer.encode(self._tool(row, self._tokenizer.decode(text)) or ""))
        return token, own


def _left_padded(sequences: list[tuple[int, ...]], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    length = max(len(ids) for ids in sequences)
    token_ids = torch.tensor([[pad_id] * (length - len(ids)) + list(ids) for ids in sequences], device=device)
    lengths = torch.tensor([len(ids) for ids in sequences], device=device)
    return token_ids, torch.arange(length, device=device) >= (length - lengths)[:, None]


def _invert(distribution: Tensor, uniform: Tensor) -> Tensor:
    """The first token whose cumulative probability exceeds the uniform number, so none of probability zero."""
    cumulative = distribution.cumsum(-1, dtype=torch.float64)
    threshold = (uniform * cumulative[:, -1])[:, None]
    return torch.searchsorted(cumulative, threshold, right=True)[:, 0].clamp_(max=distribution.shape[-1] - 1)


def _last_column(mask: Tensor) -> int:
    """The last column with a token of the policy; -1 if there is none."""
    return int((mask.any(0) * torch.arange(1, mask.shape[1] + 1, device=mask.device)).max()) - 1


def _first_column(attention_mask: Tensor) -> int:
    """The first column with a real token."""
    return int(attention_mask.any(0).long().argmax())
