"""How much a training step changes the entropy: predicted to first order, and measured.

Both on the same contexts: rollouts that were sampled before the step. With ``H(theta)`` the mean entropy over their
tokens, the prediction is ``grad H(theta) . (theta' - theta)``, whatever optimiser made the step, and the measurement
``H(theta') - H(theta)``. Where they part, steps are too large for first-order reasoning about entropy.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from isentrope.lab.models import LanguageModel
from isentrope.lab.rollouts import Rollouts, score


class EntropyProbe:
    """Made before a step, asked after it.

    It holds a gradient and a copy of the trained parameters in between.

    Args:
        model: the policy.
        rollouts: contexts and tokens to measure on, at their own temperature.
        micro_batch_size: responses in a forward pass; all at once if None.
        activation: the objective's output activation, if it has one.

    References:
        The first-order entropy change of a policy step: arXiv 2505.22617.

    Examples:
        >>> from isentrope.lab import TinyTransformer, sample
        >>> model = TinyTransformer(width=16, layers=1, heads=2)
        >>> drawn = sample(model, ["1+2="] * 4, max_new_tokens=3, generator=torch.Generator().manual_seed(0))
        >>> probe = EntropyProbe(model, drawn)
        >>> with torch.no_grad():
        ...     model.embedding.weight *= 1.001
        >>> changes = probe.changes()
        >>> abs(changes["entropy_change_predicted"] / changes["entropy_change_measured"] - 1) < 0.05
        True
    """

    def __init__(
        self,
        model: LanguageModel,
        rollouts: Rollouts,
        *,
        micro_batch_size: int | None = None,
        activation: Callable[[Tensor], Tensor] | None = None,
    ):
        self._model, self._activation = model, activation
        self._pieces = [rollouts.rows(i) for i in torch.arange(len(rollouts)).split(micro_batch_size or len(rollouts))]
        self._tokens = int(rollouts.mask.sum())
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._gradient = [torch.zeros_like(p) for p in self._parameters]
        self._entropy = 0.0
        for piece in self._pieces:
            entropy = self._total(piece) / self._tokens
            self._entropy += float(entropy.detach())
            for total, part in zip(
                self._gradient, torch.autograd.grad(entropy, self._parameters, allow_unused=True), strict=True
            ):
                if part is not None:
                    total += part
        self._before = [p.detach().clone() for p in self._parameters]

    @torch.no_grad()
    def changes(self) -> dict[str, float]:
        """``entropy_change_predicted`` and ``entropy_change_measured`` since the probe was made, in nats per token."""
        predicted = sum(
            float(((now.detach() - then).double() * gradient.double()).sum())
            for now, then, gradient in zip(self._parameters, self._before, self._gradient, strict=True)
        )
        measured = sum(float(self._total(piece)) for piece in self._pieces) / self._tokens - self._entropy
        return {"entropy_change_predicted": predicted, "entropy_change_measured": measured}

    def _total(self, rollouts: Rollouts) -> Tensor:
        scores = score(
            self._model, rollouts, temperature=rollouts.temperature, outputs=("entropy",), activation=self._activation
        )
        assert scores.entropy is not None
        return scores.entropy.sum()
