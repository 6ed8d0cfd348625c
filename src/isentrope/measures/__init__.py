"""Pure functions that measure entropy: arrays in, numbers out.

Importing this room imports neither torch nor JAX; the functions on token distributions, which need torch, are loaded on
first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from isentrope.measures.bottleneck_coupling import BottleneckCoupling, coupling_with_bottleneck
from isentrope.measures.complexity import entropy_rate, lempel_ziv_complexity, markov_entropy_rate
from isentrope.measures.confirmation import Confirmation, confirmation
from isentrope.measures.continuous import differential_entropy
from isentrope.measures.covariance import CovarianceAccumulator
from isentrope.measures.deliveries import ConsolidatedEntropy, consolidated_entropy, structural_entropy
from isentrope.measures.diffusion_information import diffusion_spectral_mutual_information
from isentrope.measures.diffusion_operator import DiffusionOperator
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
    discrete_tse_complexity,
)
from isentrope.measures.divergences import (
    cross_entropy,
    generalized_jensen_shannon_divergence,
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
from isentrope.measures.entropy_bounded_encoder import entropy_bounded_encoder
from isentrope.measures.estimate import Estimate, ShuffleTest
from isentrope.measures.excess_entropy import excess_entropy
from isentrope.measures.fractal import (
    Hjorth,
    detrended_fluctuation,
    higuchi_dimension,
    hjorth_parameters,
    katz_dimension,
    petrosian_dimension,
)
from isentrope.measures.frequency import spectral_entropy, svd_entropy
from isentrope.measures.gaussian_divergences import (
    gaussian_bhattacharyya_distance,
    gaussian_hellinger_distance,
    gaussian_jeffreys_divergence,
    gaussian_kl_divergence,
    gaussian_renyi_divergence,
    gaussian_wasserstein_distance,
)
from isentrope.measures.gaussian_information import (
    gaussian_entropy,
    gaussian_mutual_information,
    gaussian_shared_information,
    student_mutual_information,
)
from isentrope.measures.gibbs import MaximumEntropy, gibbs_distribution
from isentrope.measures.higher_order import HigherOrderInformation, higher_order_information
from isentrope.measures.higher_order_files import write_higher_order_information
from isentrope.measures.higher_order_search import strongest_n_plets
from isentrope.measures.information_lattice import (
    common_variable,
    complementary_variable,
    rajski_distance,
    shannon_distance,
)
from isentrope.measures.information_matrix import InformationMatrix, mutual_information_matrix
from isentrope.measures.informative_labels import InformativeLabels, informative_labels
from isentrope.measures.joint_probabilities import (
    SharedInformation,
    conditional_entropy_from_probabilities,
    mutual_information_from_probabilities,
    shared_information_from_probabilities,
)
from isentrope.measures.kernel_entropy import (
    diffusion_matrix,
    diffusion_spectral_entropy,
    gaussian_kernel,
    matrix_conditional_entropy,
    matrix_joint_entropy,
    matrix_mutual_information,
    neighbour_bandwidth,
)
from isentrope.measures.matrix_free import matrix_entropy_from_products, trace_from_products
from isentrope.measures.maximum_caliber import MaximumCaliber, maximum_caliber
from isentrope.measures.maximum_entropy import maximum_entropy, nested_information
from isentrope.measures.maximum_entropy_bounds import maximum_entropy_between
from isentrope.measures.minimum_entropy_coupling import Coupling, minimum_entropy_coupling
from isentrope.measures.multiscale import coarse_grain, multiscale_entropy
from isentrope.measures.mutual_information import conditional_mutual_information, mutual_information
from isentrope.measures.normalized_information import discrete_normalized_mutual_information
from isentrope.measures.ordinal import (
    amplitude_aware_permutation_entropy,
    bubble_entropy,
    permutation_entropy,
    weighted_permutation_entropy,
)
from isentrope.measures.ordinal_plane import permutation_complexity, reverse_permutation_entropy
from isentrope.measures.partial_information import (
    PartialInformation,
    discrete_partial_information,
    partial_information,
)
from isentrope.measures.path_entropy import PathEnsemble, information_loss, path_ensemble
from isentrope.measures.power_divergences import (
    alpha_divergence,
    bhattacharyya_distance,
    chi_squared_divergence,
    tsallis_divergence,
)
from isentrope.measures.reconstruction import Reconstruction, reconstruction
from isentrope.measures.regularity import approximate_entropy, fuzzy_entropy, sample_entropy
from isentrope.measures.sample_divergence import kl_divergence_from_samples
from isentrope.measures.semantic_information import (
    semantic_information,
    semantic_mutual_information,
    truth_function,
)
from isentrope.measures.semantic_rate import SemanticRate, semantic_rate
from isentrope.measures.shared_information import (
    dual_total_correlation,
    o_information,
    s_information,
    total_correlation,
)
from isentrope.measures.spectral import (
    coding_rate,
    effective_rank,
    matrix_renyi_entropy,
    participation_ratio,
    stable_rank,
    von_neumann_entropy,
)
from isentrope.measures.symbolic import dispersion_entropy, fluctuation_dispersion_entropy, slope_entropy
from isentrope.measures.synergy_bounds import SynergyBounds, synergy_bounds
from isentrope.measures.text import CompressedSize, TextEntropies, compressed_size, text_entropies
from isentrope.measures.transfer import transfer_entropy
from isentrope.measures.transfer_matrix import TransferEntropyMatrix, transfer_entropy_matrix

if TYPE_CHECKING:
    from isentrope.measures.tokens import TokenStatistics, token_statistics, token_statistics_from_logits

_NEED_TORCH = {"TokenStatistics", "token_statistics", "token_statistics_from_logits"}

__all__ = [
    "BottleneckCoupling",
    "CompressedSize",
    "Confirmation",
    "ConsolidatedEntropy",
    "Coupling",
    "CovarianceAccumulator",
    "DiffusionOperator",
    "Estimate",
    "HigherOrderInformation",
    "Hjorth",
    "InformationMatrix",
    "InformativeLabels",
    "MaximumCaliber",
    "MaximumEntropy",
    "PartialInformation",
    "PathEnsemble",
    "Reconstruction",
    "SemanticRate",
    "SharedInformation",
    "ShuffleTest",
    "SynergyBounds",
    "TextEntropies",
    "TokenStatistics",
    "TransferEntropyMatrix",
    "alpha_divergence",
    "amplitude_aware_permutation_entropy",
    "approximate_entropy",
    "bhattacharyya_distance",
    "block_entropy",
    "bubble_entropy",
    "chi_squared_divergence",
    "coarse_grain",
    "coding_rate",
    "collision_probability",
    "common_variable",
    "complementary_variable",
    "compressed_size",
    "conditional_block_entropy",
    "conditional_entropy_from_probabilities",
    "conditional_mutual_information",
    "confirmation",
    "consolidated_entropy",
    "coupling_with_bottleneck",
    "cross_entropy",
    "detrended_fluctuation",
    "differential_entropy",
    "diffusion_matrix",
    "diffusion_spectral_entropy",
    "diffusion_spectral_mutual_information",
    "discrete_conditional_entropy",
    "discrete_conditional_mutual_information",
    "discrete_dual_total_correlation",
    "discrete_entropy",
    "discrete_interaction_information",
    "discrete_joint_entropy",
    "discrete_mutual_information",
    "discrete_normalized_mutual_information",
    "discrete_o_information",
    "discrete_partial_information",
    "discrete_s_information",
    "discrete_total_correlation",
    "discrete_transfer_entropy",
    "discrete_tse_complexity",
    "dispersion_entropy",
    "dual_total_correlation",
    "effective_rank",
    "entropy",
    "entropy_bounded_encoder",
    "entropy_rate",
    "excess_entropy",
    "fluctuation_dispersion_entropy",
    "fuzzy_entropy",
    "gaussian_bhattacharyya_distance",
    "gaussian_entropy",
    "gaussian_hellinger_distance",
    "gaussian_jeffreys_divergence",
    "gaussian_kernel",
    "gaussian_kl_divergence",
    "gaussian_mutual_information",
    "gaussian_renyi_divergence",
    "gaussian_shared_information",
    "gaussian_wasserstein_distance",
    "generalized_jensen_shannon_divergence",
    "gibbs_distribution",
    "hartley_entropy",
    "hellinger_distance",
    "higher_order_information",
    "higuchi_dimension",
    "hjorth_parameters",
    "information_loss",
    "informative_labels",
    "jensen_shannon_divergence",
    "katz_dimension",
    "kl_divergence",
    "kl_divergence_from_samples",
    "lempel_ziv_complexity",
    "markov_entropy_rate",
    "matrix_conditional_entropy",
    "matrix_entropy_from_products",
    "matrix_joint_entropy",
    "matrix_mutual_information",
    "matrix_renyi_entropy",
    "maximum_caliber",
    "maximum_entropy",
    "maximum_entropy_between",
    "min_entropy",
    "minimum_entropy_coupling",
    "multiscale_entropy",
    "mutual_information",
    "mutual_information_from_probabilities",
    "mutual_information_matrix",
    "neighbour_bandwidth",
    "nested_information",
    "o_information",
    "partial_information",
    "participation_ratio",
    "path_ensemble",
    "permutation_complexity",
    "permutation_entropy",
    "perplexity",
    "petrosian_dimension",
    "rajski_distance",
    "reconstruction",
    "renyi_divergence",
    "renyi_entropy",
    "reverse_permutation_entropy",
    "s_information",
    "sample_entropy",
    "semantic_information",
    "semantic_mutual_information",
    "semantic_rate",
    "shannon_distance",
    "shared_information_from_probabilities",
    "slope_entropy",
    "spectral_entropy",
    "stable_rank",
    "strongest_n_plets",
    "structural_entropy",
    "student_mutual_information",
    "svd_entropy",
    "synergy_bounds",
    "text_entropies",
    "token_statistics",
    "token_statistics_from_logits",
    "total_correlation",
    "total_variation_distance",
    "trace_from_products",
    "transfer_entropy",
    "transfer_entropy_matrix",
    "truth_function",
    "tsallis_divergence",
    "tsallis_entropy",
    "varentropy",
    "von_neumann_entropy",
    "weighted_permutation_entropy",
    "write_higher_order_information",
]


def __getattr__(name: str):
    if name in _NEED_TORCH:
        return getattr(import_module("isentrope.measures.tokens"), name)
    raise AttributeError(f"module 'isentrope.measures' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
