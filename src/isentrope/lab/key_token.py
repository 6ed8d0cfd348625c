r"""The key-token environment: a policy so small that everything about it is known exactly.

A sequence has ``T`` positions over an alphabet of ``V`` tokens. At a few *key* positions the token matters for the reward;
at the others a prescribed token is to be copied. The policy is a table of logits ``z[t, s, a]``: position, state (the
token before; state 0 at the start), token. There are ``V^T`` sequences, and all of them are enumerated, so that
distributions, entropies, rewards, gradients and divergences are sums over all sequences, differentiable, without sampling:

``π(y) = Π_t softmax(z[t, y_{t-1}])[y_t]``, ``J = Σ_y π(y) r(y)``, ``∇J = Σ_y π(y) r(y) ∇ log π(y)``,
``H(Y) = -Σ_y π(y) log π(y) = Σ_t Σ_s P(y_{t-1} = s) H(z[t, s])``.

It is the reference that reinforcement-learning parts are tested against: what a part estimates from samples, this knows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from isentrope.policy import Objective, TokenBatch

_MOST_SEQUENCES = 2**20


@dataclass(frozen=True)
class KeyTokenEnvironment:
    """Which positions decide, what is rewarded there, and what the others copy.

    Args:
        length: number of positions T.
        vocabulary: number of tokens V.
        key_positions: the positions whose token matters, increasing.
        rewarded: the rewarded combinations of tokens at the key positions, each as long as `key_positions`.
        copied: token that is to be written at every other position.

    Raises:
        ValueError: if a position or token is out of range, or there are more than about a million sequences.

    Examples:
        >>> environment = KeyTokenEnvironment()
        >>> environment.sequences.shape
        torch.Size([243, 5])
        >>> float(environment.reward(torch.tensor([[1, 0, 0, 2, 0], [1, 0, 0, 1, 0]])).sum())
        1.0
    """

    length: int = 5
    vocabulary: int = 3
    key_positions: tuple[int, ...] = (0, 3)
    rewarded: tuple[tuple[int, ...], ...] = ((1, 2), (2, 1))
    copied: int = 0

    def __post_init__(self) -> None:
        if self.length < 1 or self.vocabulary < 2:
            raise ValueError(
                f"length, vocabulary: need at least 1 position and 2 tokens (got {self.length} and {self.vocabulary})"
            )
        if self.vocabulary**self.length > _MOST_SEQUENCES:
            raise ValueError(f"length: {self.vocabulary}^{self.length} sequences are too many to enumerate")
        positions = self.key_positions
        if list(positions) != sorted(set(positions)) or not all(0 <= one < self.length for one in positions):
            raise ValueError(f"key_positions: must be increasing and below {self.length} (got {positions})")
        for combination in self.rewarded:
            if len(combination) != len(positions) or not all(0 <= token < self.vocabulary for token in combination):
                raise ValueError(f"rewarded: {combination} must name {len(positions)} tokens below {self.vocabulary}")
        if not 0 <= self.copied < self.vocabulary:
            raise ValueError(f"copied: must be below {self.vocabulary} (got {self.copied})")

    @cached_property
    def sequences(self) -> Int[Tensor, "sequences time"]:
        """All ``V^T`` sequences in lexicographic order."""
        return torch.cartesian_prod(*[torch.arange(self.vocabulary)] * self.length).view(-1, self.length)

    def reward(self, sequences: Int[Tensor, "*batch time"]) -> Float[Tensor, "*batch"]:
        """1 where all copies are made and the key tokens are a rewarded combination, else 0; float64."""
        keys = list(self.key_positions)
        others = [position for position in range(self.length) if position not in keys]
        copied = (sequences[..., others] == self.copied).all(-1)
        combinations = torch.tensor(self.rewarded, dtype=torch.long, device=sequences.device).view(-1, len(keys))
        right = (sequences[..., None, keys] == combinations).all(-1).any(-1)
        return (copied & right).double()


class KeyTokenPolicy(torch.nn.Module):
    """A tabular softmax policy in a `KeyTokenEnvironment`, in float64.

    Args:
        environment: the environment.
        logits: initial table ``[time, state, token]``; by default zero at key positions, and ``confidence`` at the copied
            token of the others.
        confidence: how much larger the logit of the copied token is.

    Raises:
        ValueError: if `logits` has another shape.

    Examples:
        >>> policy = KeyTokenPolicy(KeyTokenEnvironment(), confidence=100.0)
        >>> f"{policy.expected_reward():.4f} {policy.sequence_entropy():.4f}"  # two of nine combinations; 2 log 3
        '0.2222 2.1972'
    """

    def __init__(
        self,
        environment: KeyTokenEnvironment,
        logits: Float[Tensor, "time state token"] | None = None,
        *,
        confidence: float = 3.0,
    ) -> None:
        super().__init__()
        self.environment = environment
        shape = (environment.length, environment.vocabulary, environment.vocabulary)
        if logits is None:
            logits = torch.zeros(shape, dtype=torch.float64)
            others = [t for t in range(environment.length) if t not in environment.key_positions]
            logits[others, :, environment.copied] = confidence
        if tuple(logits.shape) != shape:
            raise ValueError(f"logits: must have shape {shape} (got {tuple(logits.shape)})")
        self.logits = torch.nn.Parameter(logits.detach().double().clone())

    def token_logits(self, sequences: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time token"]:
        """Logits of each position of each sequence, given the tokens before; differentiable."""
        before = torch.cat((torch.zeros_like(sequences[:, :1]), sequences[:, :-1]), 1)
        return self.logits[torch.arange(sequences.shape[1]), before]

    def log_probs(self, sequences: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time"]:
        """Log-probability of each token given those before, in nats; differentiable."""
        distribution = self.token_logits(sequences).log_softmax(-1)
        return distribution.gather(-1, sequences[..., None])[..., 0]

    def entropy(self, sequences: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time"]:
        """Entropy of each token's distribution given the tokens before, in nats; differentiable."""
        return _entropy(self.token_logits(sequences))

    def log_distribution(self) -> Float[Tensor, " sequences"]:
        """Log-probability of every sequence of the environment, in nats; differentiable."""
        return self.log_probs(self.environment.sequences).sum(-1)

    def expectation(
        self, of: Callable[[Int[Tensor, "sequences time"]], Float[Tensor, " sequences"]]
    ) -> Float[Tensor, ""]:
        """Exact mean of a function of the sequence, ``Σ_y π(y) f(y)``; differentiable through π and f."""
        return (self.log_distribution().exp() * of(self.environment.sequences)).sum()

    def expected_reward(self) -> Float[Tensor, ""]:
        """``J = Σ_y π(y) r(y)``; differentiable."""
        return self.expectation(self.environment.reward)

    def policy_gradient(
        self, advantage: Callable[[Int[Tensor, "sequences time"]], Float[Tensor, " sequences"]] | None = None
    ) -> Float[Tensor, "time state token"]:
        """``Σ_y π(y) A(y) ∇ log π(y)`` by the logits, exactly; the gradient of the expected reward for A = r."""
        weights = (advantage or self.environment.reward)(self.environment.sequences).detach()
        log_distribution = self.log_distribution()
        weighted = (log_distribution.detach().exp() * weights * log_distribution).sum()
        return torch.autograd.grad(weighted, self.logits)[0]

    def sequence_entropy(self) -> Float[Tensor, ""]:
        """Entropy of the whole sequence, by enumeration, in nats; differentiable."""
        log_distribution = self.log_distribution()
        return -(log_distribution.exp() * log_distribution).sum()

    def token_entropy(self) -> Float[Tensor, " time"]:
        """Mean entropy of each position given the tokens before, in nats; sums to `sequence_entropy`; differentiable."""
        return (self.state_distribution() * _entropy(self.logits)).sum(-1)

    def state_distribution(self) -> Float[Tensor, "time state"]:
        """Probability of each state at each position, by the forward recursion; differentiable."""
        state = torch.zeros(self.environment.vocabulary, dtype=torch.float64, device=self.logits.device)
        state[0] = 1.0
        states = [state]
        for transition in self.logits.softmax(-1)[:-1]:
            states.append(states[-1] @ transition)
        return torch.stack(states)

    def kl_divergence(self, other: "KeyTokenPolicy") -> Float[Tensor, ""]:
        """``Σ_y π(y) (log π(y) - log π'(y))`` to another policy, by enumeration, in nats; differentiable."""
        log_distribution = self.log_distribution()
        return (log_distribution.exp() * (log_distribution - other.log_distribution())).sum()

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Int[Tensor, "n time"]:
        """`n` independent sequences, one position after the other."""
        state = torch.zeros(n, dtype=torch.long)
        tokens: list[Tensor] = []
        for table in self.logits:
            state = torch.multinomial(table.softmax(-1)[state], 1, generator=generator)[:, 0]
            tokens.append(state)
        return torch.stack(tokens, 1)


def train_key_tokens(
    policy: KeyTokenPolicy,
    objective: Objective,
    steps: int,
    *,
    groups: int = 16,
    group_size: int = 8,
    learning_rate: float = 1.0,
    inner_steps: int = 1,
    seed: int = 0,
) -> dict[str, Float[Tensor, " times"]]:
    """Train a policy in place by plain gradient descent on an objective's loss, and follow what is exactly known of it.

    Every step samples ``groups`` groups. The reference policy is the one at the start. The *answer* of a response, for
    objectives that vote, is its combination of key tokens; without all copies it has none.

    Args:
        policy: the policy; its logits are changed.
        objective: what to train on.
        steps: batches to sample.
        groups: groups in a batch.
        group_size: responses in a group.
        learning_rate: of gradient descent.
        inner_steps: optimiser steps on each batch.
        seed: of the samples and of the objective.

    Returns:
        Before the first step and after each: ``reward``, the expected reward; ``key_entropy``, the mean entropy at the key
        positions in nats; ``copy_entropy``, that at the others; ``kl_divergence`` from the policy at the start, in nats.

    Examples:
        >>> from isentrope.policy import recipes
        >>> policy = KeyTokenPolicy(KeyTokenEnvironment(length=3, key_positions=(0, 1)))
        >>> path = train_key_tokens(policy, recipes.grpo(), steps=40)
        >>> bool(path["reward"][-1] > 2 * path["reward"][0]), bool(path["key_entropy"][-1] < path["key_entropy"][0])
        (True, True)
    """
    environment, generator = policy.environment, torch.Generator().manual_seed(seed)
    start = KeyTokenPolicy(environment, policy.logits)
    keys = list(environment.key_positions)
    others = [position for position in range(environment.length) if position not in keys]
    places = environment.vocabulary ** torch.arange(len(keys))
    path = [_exact(policy, start, keys, others)]
    state = objective.start(seed)
    for _ in range(steps):
        sequences = policy.sample(groups * group_size, generator)
        copied = (sequences[:, others] == environment.copied).all(-1)
        with torch.no_grad():
            batch = TokenBatch(
                mask=torch.ones_like(sequences, dtype=torch.bool),
                rewards=environment.reward(sequences),
                group_ids=torch.arange(len(sequences)) // group_size,
                old_log_probs=policy.log_probs(sequences),
                old_entropy=policy.entropy(sequences),
                reference_log_probs=start.log_probs(sequences),
                token_ids=sequences,
                extras={"answer": torch.where(copied, (sequences[:, keys] * places).sum(-1), -1)},
            )
        batch, tally = objective.prepare(batch, state)
        window, metrics = batch.with_totals(), tally.means()
        for _ in range(inner_steps):
            state = objective.control(state, metrics)
            current = window.with_(
                log_probs=policy.log_probs(sequences),
                entropy=policy.entropy(sequences),
                logits=lambda sequences=sequences: policy.token_logits(sequences),
            )
            loss, counted = objective.loss(current, state)
            with torch.no_grad():
                policy.logits.sub_(learning_rate * torch.autograd.grad(loss, policy.logits)[0])
            state = state.next_step(counted.means())
        path.append(_exact(policy, start, keys, others))
    return {name: torch.stack([values[name] for values in path]) for name in path[0]}


@torch.no_grad()
def _exact(policy: KeyTokenPolicy, start: KeyTokenPolicy, keys: list[int], others: list[int]) -> dict[str, Tensor]:
    entropy = policy.token_entropy()
    return {
        "reward": policy.expected_reward(),
        "key_entropy": entropy[keys].mean(),
        "copy_entropy": entropy[others].mean(),
        "kl_divergence": policy.kl_divergence(start),
    }


def _entropy(logits: Tensor) -> Tensor:
    distribution = logits.softmax(-1)
    return logits.logsumexp(-1) - (distribution * logits).sum(-1)
