"""Pure functions that measure entropy: arrays in, numbers out.

Importing this room imports neither torch nor JAX; the functions on token distributions, which need torch, are loaded on
first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from isentrope.measures.continuous import differential_entropy
from isentrope.measures.discrete import block_entropy, conditional_block_entropy, discrete_entropy
from isentrope.measures.discrete_information import (
    discrete_conditional_entropy,
    discrete_conditional_mutual_information,
    discrete_dual_total_correlation,
    discrete_interaction_information,
    discrete_joint_entropy,
    discrete_mutual_information,
    discrete_o_information,
    discrete_s_information,
    discrete_total_correlation,
    discrete_transfer_entropy,
)
from isentrope.measures.divergences import (
    cross_entropy,
    hellinger_distance,
    jensen_shannon_divergence,
    kl_divergence,
    renyi_divergence,
    total_variation_distance,
)
from isentrope.measures.entropies import (
    collision_probability,
    entropy,
    hartley_entropy,
    min_entropy,
    perplexity,
    renyi_entropy,
    tsallis_entropy,
    varentropy,
)
from isentrope.measures.estimate import Estimate, ShuffleTest
from isentrope.measures.information_matrix import InformationMatrix, mutual_information_matrix
from isentrope.measures.ordinal import (
    amplitude_aware_permutation_entropy,
    bubble_entropy,
    permutation_entropy,
    weighted_permutation_entropy,
)
from isentrope.measures.partial_information import (
    PartialInformation,
    discrete_partial_information,
    partial_information,
)
from isentrope.measures.regularity import approximate_entropy, fuzzy_entropy, sample_entropy
from isentrope.measures.text import CompressedSize, TextEntropies, compressed_size, text_entropies

if TYPE_CHECKING:
    from isentrope.measures.tokens import TokenStatistics, token_statistics, token_statistics_from_logits

_NEED_TORCH = {"TokenStatistics", "token_statistics", "token_statistics_from_logits"}

__all__ = [
    "CompressedSize",
    "Estimate",
    "InformationMatrix",
    "PartialInformation",
    "ShuffleTest",
    "TextEntropies",
    "TokenStatistics",
    "amplitude_aware_permutation_entropy",
    "approximate_entropy",
    "block_entropy",
    "bubble_entropy",
    "collision_probability",
    "compressed_size",
    "conditional_block_entropy",
    "cross_entropy",
    "differential_entropy",
    "discrete_conditional_entropy",
    "discrete_conditional_mutual_information",
    "discrete_dual_total_correlation",
    "discrete_entropy",
    "discrete_interaction_information",
    "discrete_joint_entropy",
    "discrete_mutual_information",
    "discrete_o_information",
    "discrete_partial_information",
    "discrete_s_information",
    "discrete_total_correlation",
    "discrete_transfer_entropy",
    "entropy",
    "fuzzy_entropy",
    "hartley_entropy",
    "hellinger_distance",
    "jensen_shannon_divergence",
    "kl_divergence",
    "min_entropy",
    "mutual_information_matrix",
    "partial_information",
    "permutation_entropy",
    "perplexity",
    "renyi_divergence",
    "renyi_entropy",
    "sample_entropy",
    "text_entropies",
    "token_statistics",
    "token_statistics_from_logits",
    "total_variation_distance",
    "tsallis_entropy",
    "varentropy",
    "weighted_permutation_entropy",
]


def __getattr__(name: str):
    if name in _NEED_TORCH:
        return getattr(import_module("isentrope.measures.tokens"), name)
    raise AttributeError(f"module 'isentrope.measures' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
