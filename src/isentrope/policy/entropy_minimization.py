"""The entropy of the policy as the whole loss: no reward, no label, no policy gradient.

Responses are drawn and kept fixed, and the mean of ``H(pi(. | y_<t))`` over their tokens is minimised by its exact gradient,
``dH/dz_i = -p_i (log p_i + H)`` by the logits ``z``. Only how sure the policy is at the prefixes that it came through is
trained; that other prefixes would become likelier is left out (there is no score-function term). A uniform distribution is a
stationary point, and otherwise the likeliest token grows, right or wrong.

`EntropyBonus` with the coefficient -1 is this loss at the sampling temperature; here is the one at another temperature.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from isentrope.measures import token_statistics_from_logits
from isentrope.policy.batch import Tally, TokenBatch
from isentrope.policy.controllers import Number
from isentrope.policy.plausible_entropy import at_valid_tokens


@dataclass(frozen=True)
class TemperedEntropy:
    """Adds ``-coefficient H(softmax(z / temperature))`` to the loss, ``z`` being the logits that tokens are drawn from.

    Its mean is the metric ``tempered_entropy``. A temperature below 1 counts what would be left of the entropy if the
    policy were sharpened, so that tokens which are nearly sure have hardly a gradient.

    Args:
        coefficient: in loss per nat; -1 minimises the entropy. A number or a controller.
        temperature: relative to that of sampling; 1 is `EntropyBonus`.

    Raises:
        ValueError: if the temperature is not positive.

    References:
        Gao et al., One-shot Entropy Minimization, arXiv 2505.20282.

    Examples:
        >>> logits = torch.tensor([[[0.0, 0.0, -1e9], [1.0, 0.0, -1e9]]])
        >>> batch = TokenBatch(
        ...     mask=torch.ones(1, 2, dtype=torch.bool), rewards=torch.ones(1), group_ids=torch.zeros(1).long(),
        ...     old_log_probs=torch.zeros(1, 2), logits=lambda: logits)
        >>> term, _ = TemperedEntropy(-1.0, temperature=0.5)(batch)
        >>> term  # log 2, and less than the 0.5823 of the plain entropy
        tensor([[0.6931, 0.3653]])
    """

    coefficient: Number = -1.0
    temperature: float = 0.5
    needs: ClassVar[frozenset[str]] = frozenset({"logits"})

    def __post_init__(self):
        if not self.temperature > 0:
            raise ValueError(f"TemperedEntropy: temperature must be positive, got {self.temperature}")

    def __call__(self, batch: TokenBatch) -> tuple[Float[Tensor, "batch time"], Tally]:
        """The term for each token, and the tally of the entropy."""
        entropy = at_valid_tokens(batch, self._entropy)
        return -self.coefficient * entropy, Tally().add("tempered_entropy", entropy, batch.mask)

    def _entropy(self, logits: Tensor) -> Tensor:
        anything = torch.zeros(logits.shape[:-1], dtype=torch.long, device=logits.device)
        entropy = token_statistics_from_logits(
            logits, anything, temperature=self.temperature, outputs=("entropy",)
        ).entropy
        assert entropy is not None
        return entropy
