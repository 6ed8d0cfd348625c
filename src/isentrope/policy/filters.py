"""Row filters: which responses enter the loss at all.

A filter returns ``[B]`` booleans. Rows that it drops leave the mask, so denominators shrink. Metrics of the batch
(entropy, reward) are taken before the filter and cover every row.
"""

from dataclasses import dataclass

from jaxtyping import Bool
from torch import Tensor

from isentrope.policy.advantages import group_moments
from isentrope.policy.batch import TokenBatch


@dataclass(frozen=True)
class DropUniformGroups:
    """Keep only groups whose rewards differ: the others have no advantage to learn from.

    It looks at the rewards before any shaping of them, so that a length penalty does not keep a group that is all right.

    Drawing further prompts until the batch is full again, as DAPO's dynamic sampling does, is the host's work.

    Args:
        tolerance: groups whose rewards have at most this standard deviation are dropped.

    References:
        Yu et al., DAPO, arXiv 2503.14476, section 3.2.
    """

    tolerance: float = 0.0

    def __call__(self, batch: TokenBatch) -> Bool[Tensor, "batch"]:
        """True for the rows to keep."""
        return group_moments(batch.outcome_rewards, batch.group_ids).std > self.tolerance
