"""Sampling completions from a policy, and scoring them again with gradient.

`sample` draws completions and records, at each generated token, the log-probability and the entropy of the distribution
it was drawn from. `score` computes the same numbers once more, differentiably, from hidden states at the generated
positions only. Both divide logits by the same temperature before anything else, so importance ratios are one at the
start of an update and an entropy is always that of the distribution that acted.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from isentrope.lab.models import LanguageModel
from isentrope.measures import token_statistics, token_statistics_from_logits

# Logits that exist at the same time while scoring: 16 MB in float32.
_LOGITS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Rollouts:
    """Prompts with their sampled completions.

    Attributes:
        token_ids: left-padded prompts followed by right-padded completions, ``[batch, prompt + time]``.
        attention_mask: True at prompt tokens and at generated tokens, ``[batch, prompt + time]``.
        prompt_length: columns of the prompt block.
        completion_ids: the completions, ``[batch, time]``.
        mask: True at generated tokens up to and including the end token, ``[batch, time]``.
        log_probs: log-probability of each generated token when it was drawn, in nats; 0 outside the mask.
        entropy: entropy of the distribution it was drawn from, in nats; 0 outside the mask.
        completions: the completions as text, special tokens left out.
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
    progress: Callable[[int, int], None] | None = None,
) -> Rollouts:
    """Draw one completion for each prompt from softmax(logits / temperature).

    Each draw inverts the cumulative distribution at a uniform number. The numbers of all rows and positions are drawn
    first, from one generator, so a completion depends on its row and the seed but not on when other rows finish. A
    prompt that is repeated in succession or elsewhere is read once; finished rows leave the batch.

    Args:
        model: the policy.
        prompts: one prompt a completion; repeat a prompt to draw from it again.
        max_new_tokens: completions that have not ended are cut here.
        temperature: divides the logits.
        generator: source of randomness (a CPU generator); needed unless `greedy`.
        token_ids: the prompts as token ids, for prompts that are encoded already; `prompts` may then be empty.
        greedy: take the most probable token instead of drawing; log-probabilities and entropies stay those of the
            distribution at `temperature`.
        progress: called with (positions done, `max_new_tokens`) after each position.

    Returns:
        The rollouts; their time axis is as long as the longest completion.

    Raises:
        ValueError: if there is no prompt, a prompt has no token, `temperature` or `max_new_tokens` is not positive, a
            generator is missing, or the model's logits are not numbers.

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
        drawn = torch.full((batch, max_new_tokens), tokenizer.pad_id, dtype=torch.long, device=device)
        mask = torch.zeros(batch, max_new_tokens, dtype=torch.bool, device=device)
        log_probs = torch.zeros(batch, max_new_tokens, device=device)
        entropy = torch.zeros(batch, max_new_tokens, device=device)

        rows = torch.arange(batch, device=device)  # the rollout that each row of the decoding belongs to
        running = torch.ones(batch, dtype=torch.bool, device=device)  # by row of the decoding
        time = 0
        for time in range(max_new_tokens):
            log_distribution = torch.log_softmax(decoding.logits / temperature, dim=-1)
            distribution = log_distribution.exp()
            token = log_distribution.argmax(-1) if uniform is None else _invert(distribution, uniform[rows, time])
            alive = rows[running]
            drawn[alive, time] = token[running]
            mask[alive, time] = True
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
    drawn, mask = drawn[:, :length], mask[:, :length]
    broken = (mask & ~log_probs[:, :length].isfinite()).nonzero()
    if len(broken):
        row, position = broken[0].tolist()
        raise ValueError(
            f"model: its logits are not numbers (prompt {row}, generated token {position}); has its training diverged?"
        )
    counts = mask.sum(1).tolist()
    return Rollouts(
        token_ids=torch.cat((prompt_ids[which], drawn), 1),
        attention_mask=torch.cat((prompt_mask[which], mask), 1),
        prompt_length=prompt_ids.shape[1],
        completion_ids=drawn,
        mask=mask,
        log_probs=log_probs[:, :length],
        entropy=entropy[:, :length],
        completions=[tokenizer.decode(ids[:count]) for ids, count in zip(drawn.tolist(), counts, strict=True)],
        temperature=temperature,
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


def score(
    model: LanguageModel,
    rollouts: Rollouts,
    *,
    temperature: float,
    outputs: Sequence[str] = ("log_probs", "entropy"),
    top_k: int = 20,
    need_logits: bool = False,
    activation: Callable[[Tensor], Tensor] | None = None,
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
    first, prompt = _first_column(rollouts.attention_mask), rollouts.prompt_length
    length = int(mask.any(0).sum())
    read = slice(first, prompt + length - 1)  # the last token predicts nothing that was generated
    hidden = model.hidden(rollouts.token_ids[:, read], rollouts.attention_mask[:, read])
    hidden = hidden[:, prompt - first - 1 :][mask[:, :length]]
    chosen = rollouts.completion_ids[mask]
    head = model.head()
    logits = None
    if need_logits or activation is not None:
        logits = head.logits(hidden) / temperature
        if activation is not None:
            logits = activation(logits)
        statistics = token_statistics_from_logits(logits, chosen, top_k=top_k, outputs=outputs)
    else:
        statistics = token_statistics(
            hidden,
            head.weight,
            chosen,
            bias=head.bias,
            softcap=head.softcap,
            logit_scale=head.scale,
            temperature=temperature,
            top_k=top_k,
            outputs=outputs,
            block_size=max(256, _LOGITS_AT_ONCE // len(head.weight)),
        )
    where = mask.nonzero(as_tuple=True)
    scattered = {
        name: None if value is None else value.new_zeros(mask.shape).index_put(where, value)
        for name, value in statistics._asdict().items()
    }
    if need_logits and logits is not None:
        scattered["logits"] = logits.new_zeros(*mask.shape, logits.shape[-1]).index_put(where, logits)
    return Scores(**scattered)


def _check_sampling(max_new_tokens: int, temperature: float, generator: torch.Generator | None, greedy: bool) -> None:
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens: must be at least 1 (got {max_new_tokens})")
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(f"temperature: must be positive and finite (got {temperature}); pass greedy=True for argmax")
    if generator is None and not greedy:
        raise ValueError("generator: a torch.Generator is needed to draw tokens; pass greedy=True to draw none")


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


def _first_column(attention_mask: Tensor) -> int:
    """The first column with a real token."""
    return int(attention_mask.any(0).long().argmax())
