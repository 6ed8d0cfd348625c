r"""Excess entropy of a sequence of symbols: how much of its future its past tells."""

from math import sqrt

import numpy as np

from isentrope.measures._symbols import block_codes, encode
from isentrope.measures.counts import plugin, profile_of
from isentrope.measures.discrete import Samples, _batch_variance, coverage_note, followed, free_estimator
from isentrope.measures.estimate import Estimate, check_at_least, unit_of


def excess_entropy(
    sequence: Samples, order: int, *, method: str = "miller_madow", base: float | None = None
) -> Estimate:
    r"""Excess entropy (predictive information) of a sequence: by how much blocks have more entropy than their rate.

    $$E = \sum_{k\ge0}(h_k - h) = \lim_{L\to\infty} H_L - Lh,\qquad \hat E_L = H_L - L(H_{L+1}-H_L)$$

    with the block entropies $H_k$ and $h_k=H_{k+1}-H_k$, which at ``order`` L stands for the rate h. It is the mutual
    information of past and future, 0 for independent symbols and ln p for a period of p. $\hat E_L$ grows with L, and is
    exact where the sequence remembers no more than L symbols. Corrections of bias and the counting of blocks are those of
    `conditional_block_entropy`; so is the standard error, which for independent symbols is 1.4 to 1.7 times too wide.

    Args:
        sequence: n symbols: a string, bytes, an array or any sequence of hashable values.
        order: number L of symbols remembered, at least 1.
        method: estimator, one of those of `discrete_entropy` that need no alphabet size.
        base: base of the logarithm; None for nats, 2 for bits.

    Returns:
        The excess entropy; its note says where blocks of L + 1 symbols are too rarely seen twice. The standard error is NaN
        below four blocks.

    Raises:
        ValueError: if the sequence has no block of order + 1 symbols or has missing values, or order is not positive.

    References:
        Crutchfield and Feldman (2003), "Regularities unseen, randomness observed" (arXiv cond-mat/0102181); Grassberger
        (1986), "Toward a quantitative theory of self-generated complexity"; Bialek, Nemenman and Tishby,
        "Predictability, complexity and learning" (arXiv physics/0007070).

    Examples:
        >>> round(excess_entropy("abc" * 400, 3, method="plugin", base=2), 2)  # log2 of the period
        1.58
    """
    where = "excess_entropy"
    check_at_least(where, "order", order, 1)
    codes = encode(sequence, where)
    if len(codes) <= order:
        raise ValueError(f"{where}: a block of {order + 1} symbols is longer than the sequence of {len(codes)}")
    estimator, (nats, unit) = free_estimator(method, where), unit_of(base, where)
    *_, contexts, (labels, counts) = block_codes(codes, order + 1)
    n = len(labels)
    context_labels, context_counts = followed(contexts, n)
    whole, context = profile_of(counts), profile_of(context_counts[context_counts > 0])

    def excess(entropy):
        return (order + 1) * entropy(context) - order * entropy(whole)

    value, uncorrected = excess(estimator), excess(plugin)
    local = order * np.log(counts / n)[labels] - (order + 1) * np.log(np.maximum(context_counts, 1) / n)[context_labels]
    return Estimate(
        value / nats,
        sqrt(_batch_variance(local)) / nats,
        unit=unit,
        method=method,
        n=n,
        bias_correction=(value - uncorrected) / nats,
        note=coverage_note(whole),
    )
