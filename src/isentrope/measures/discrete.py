r"""Entropy of discrete samples: from values or counts, and of the blocks of a sequence.

The plug-in entropy of the observed frequencies is too low by about $(K-1)/2n$ for K values and n samples, so each
estimator here adds back what unseen and rarely seen values hide. Values may be integers, strings, booleans or any
hashable objects; a missing one is an error, never a category.
"""

from collections.abc import Callable, Hashable, Sequence
from math import isqrt, nan, sqrt

import numpy as np
import numpy.typing as npt
from jaxtyping import Int, Shaped

from isentrope.measures._symbols import block_codes, count, encode
from isentrope.measures.counts import FREE, METHODS, WITH_ALPHABET, Profile, estimate_entropy, plugin, profile_of
from isentrope.measures.estimate import Estimate, check_at_least, unit_of

Samples = Shaped[np.ndarray, " n"] | npt.ArrayLike | Sequence[Hashable]

# Below this estimated coverage an estimate carries a note.
_COVERAGE = 0.95
# From this estimated coverage on, no correction of what is unseen is needed.
WELL_SAMPLED = 0.99


def discrete_entropy(
    samples: Samples | None = None,
    *,
    counts: Int[np.ndarray, " distinct"] | npt.ArrayLike | Sequence[float] | None = None,
    method: str = "auto",
    alphabet_size: int | None = None,
    base: float | None = None,
) -> Estimate:
    r"""Shannon entropy of a discrete law, estimated from independent samples or from their counts.

    With counts $n_i$, $n=\sum_i n_i$, $\hat p_i=n_i/n$, $f_m$ values seen m times, L values seen and K possible, in nats:

    - ``"plugin"``: $\hat H = -\sum_i \hat p_i \ln \hat p_i$, too low by about $(K-1)/2n$.
    - ``"miller_madow"``: $\hat H + (L-1)/2n$.
    - ``"zhang"``: $\sum_i \hat p_i[\psi(n)-\psi(n_i)]$.
    - ``"grassberger"`` (2003): $\ln n - \frac1n\sum_i n_i G(n_i)$ with
      $G(m)=\psi(m)+\frac{(-1)^m}{2}\left[\psi(\frac{m+1}2)-\psi(\frac m2)\right]$; good where n is near K; 0 where
      L is 1.
    - ``"grassberger_1988"``: its forerunner, $G(m)=\psi(m)+\frac{(-1)^m}{m(m+1)}$.
    - ``"chao_shen"``: $-\sum_i \tilde p_i\ln\tilde p_i/[1-(1-\tilde p_i)^n]$ with $\tilde p_i = C\hat p_i$ and
      coverage $C=1-f_1/n$.
    - ``"chao_wang_jost"`` (2013): Zhang's plus
      $\frac{f_1}n(1-A)^{1-n}\left[-\ln A-\sum_{r<n}\frac{(1-A)^r}r\right]$, $A=2f_2/[(n-1)f_1+2f_2]$; the least biased
      where many values are unseen and K is not known.
    - ``"quadratic_extrapolation"``: the value at $1/n=0$ of the parabola in $1/n$ through the mean plug-in entropies of
      n, n/2 and n/4 of the samples, which are computed exactly, without drawing.

    and, with ``alphabet_size`` K:

    - ``"james_stein"``: plug-in of $\lambda/K+(1-\lambda)\hat p_i$, with the $\lambda$ of Hausser and Strimmer.
    - ``"jeffreys"``, ``"laplace"``, ``"perks"``, ``"minimax"``: plug-in of $(n_i+a)/(n+Ka)$ with
      $a=\frac12,\,1,\,1/K,\,\sqrt n/K$. Below a few samples for each value the pseudocount decides.
    - ``"nsb"``: posterior mean under a mixture of Dirichlet priors whose mean entropy is uniform; good even where n is
      below K.

    ``"auto"`` takes Miller-Madow where the coverage is 0.99 or more (all estimators agree there), ``"nsb"`` where n is
    below a known K, and ``"chao_wang_jost"`` otherwise; the estimate names the one it took.

    The standard error is the posterior standard deviation for NSB and the Dirichlet priors, the jackknife's for the
    two of Chao, and that of the plug-in to second order, $\sqrt{\mathrm{Var}[\ln\hat p]/n + (L-1)/2n^2}$ (Harris
    1975), for the others; for a nearly uniform law the last is up to 1.8 times too wide, and for Grassberger's and the
    extrapolation at n near K up to 1.7 times too narrow. Where the coverage is below 0.95 the estimate says so in its
    note: values never seen then hold more than a twentieth of the probability.

    Args:
        samples: n values, in one dimension.
        counts: how often each value occurred, instead of samples; zeros are allowed, and do not tell the alphabet.
        method: "auto" or one of the names above.
        alphabet_size: number K of possible values, seen or not, where it is known.
        base: base of the logarithm; None for nats, 2 for bits.

    Returns:
        The entropy with its standard error, which is NaN for a single sample, unless a prior gives it, and for the two of
        Chao where no value recurs.

    Raises:
        ValueError: if samples are empty, not one-dimensional or contain missing values; if counts are negative,
            fractional or sum to zero; if both or neither are given; if the method or base is unknown; if
            alphabet_size is below the number of values seen, or missing where the method needs it.
        TypeError: if a sample is not hashable, or alphabet_size is not an integer.

    References:
        Miller (1955), "Note on the bias of information estimates"; Harris (1975), "The statistical estimation of
        entropy in the non-parametric case"; Grassberger (1988), Physics Letters A 128, 369, and "Entropy estimates
        from insufficient samplings" (arXiv physics/0307138); Chao and Shen (2003), Environmental and Ecological
        Statistics 10, 429; Zhang (2012), Neural Computation 24, 1368; Chao, Wang and Jost (2013), Methods in Ecology
        and Evolution 4, 1091; Hausser and Strimmer, "Entropy inference and the James-Stein estimator" (arXiv
        0811.3579); Nemenman, Shafee and Bialek, "Entropy and inference, revisited" (arXiv physics/0108025); Strong et
        al., "Entropy and information in neural spike trains" (arXiv cond-mat/9603127); Wolpert and Wolf (1995),
        Physical Review E 52, 6841.

    Examples:
        >>> discrete_entropy("abracadabra", method="miller_madow", base=2)
        Estimate(2.30 ± 0.33 bit, miller_madow, n=11; coverage 0.82: ...)
        >>> discrete_entropy(counts=[500, 250, 125, 125], base=2)
        Estimate(1.752 ± 0.026 bit, miller_madow, n=1000)
        >>> discrete_entropy(counts=[2, 2, 1, 1, 1], alphabet_size=30)
        Estimate(2.44 ± 0.49 nat, nsb, n=7; coverage 0.57: ...)
    """
    if (samples is None) == (counts is None):
        raise ValueError("discrete_entropy: pass either samples or counts (got both or neither)")
    nats, unit = unit_of(base, "discrete_entropy")
    profile = profile_of(count(encode(samples, "discrete_entropy")) if counts is None else _checked_counts(counts))
    _check_alphabet_size(alphabet_size, profile.distinct)
    name = _resolve(method, profile, alphabet_size)
    value, stderr = estimate_entropy(profile, name, alphabet_size)
    notes = [coverage_note(profile)]
    if name == "nsb" and profile.distinct == profile.n:
        notes.append("no value was seen twice, so the prior alone decides")
    return Estimate(
        value / nats,
        stderr / nats,
        unit=unit,
        method=name,
        n=profile.n,
        bias_correction=(value - plugin(profile)) / nats,
        note="; ".join(note for note in notes if note),
    )


def block_entropy(
    sequence: Samples, order: int, *, method: str = "miller_madow", base: float | None = None
) -> Estimate:
    r"""Entropy of the blocks of ``order`` consecutive symbols of a sequence, $H_k = H(X_1,\dots,X_k)$.

    The n - k + 1 overlapping blocks are counted and their entropy is estimated as by `discrete_entropy`. Blocks of a
    sequence are not independent, so the standard error comes from batch means: the local values $-\ln\hat p$ are
    averaged over up to 100 consecutive stretches, and the spread of these averages is that of the whole.

    Args:
        sequence: n symbols: a string, bytes, an array or any sequence of hashable values.
        order: block length k, at least 1.
        method: estimator, one of those of `discrete_entropy` that need no alphabet size.
        base: base of the logarithm; None for nats, 2 for bits.

    Returns:
        The entropy of a whole block (not per symbol). The standard error is NaN below four blocks.

    Raises:
        ValueError: if the sequence is shorter than a block or has missing values, or order is not positive.

    References:
        Shannon (1951), "Prediction and entropy of printed English"; Crutchfield and Feldman (2003),
        "Regularities unseen, randomness observed" (arXiv cond-mat/0102181).

    Examples:
        >>> block_entropy("ab" * 500, 3, method="plugin", base=2)
        Estimate(1.0000 ± 0.0010 bit, plugin, n=998)
    """
    check_at_least("block_entropy", "order", order, 1)
    codes = encode(sequence, "block_entropy")
    if len(codes) < order:
        raise ValueError(f"block_entropy: a block of {order} symbols is longer than the sequence of {len(codes)}")
    *_, blocks = block_codes(codes, order)
    return _block_estimate(blocks, method, base, "block_entropy")


def conditional_block_entropy(
    sequence: Samples, order: int, *, method: str = "miller_madow", base: float | None = None
) -> Estimate:
    r"""Entropy of the next symbol of a sequence given the ``order`` before it, $h_k = H_{k+1} - H_k$.

    It falls with k towards the entropy rate. Both block entropies are corrected for bias, and both over the same
    n - k contexts; when blocks of k + 1 symbols are rarely seen twice the estimate stays too low, by more than its standard
    error, which the note tells. The standard error comes from batch means, as in `block_entropy`.

    Args:
        sequence: n symbols: a string, bytes, an array or any sequence of hashable values.
        order: number k of symbols known, at least 0 (then it is the entropy of a single symbol).
        method: estimator, one of those of `discrete_entropy` that need no alphabet size.
        base: base of the logarithm; None for nats, 2 for bits.

    Returns:
        The conditional entropy per symbol. The standard error is NaN below four blocks.

    Raises:
        ValueError: if the sequence has no block of order + 1 symbols or has missing values, or order is negative.

    References:
        Shannon (1951), "Prediction and entropy of printed English"; Crutchfield and Feldman (2003),
        "Regularities unseen, randomness observed" (arXiv cond-mat/0102181).

    Examples:
        >>> float(conditional_block_entropy("ab" * 500 + "a", 1, method="plugin"))
        0.0
    """
    check_at_least("conditional_block_entropy", "order", order, 0)
    codes = encode(sequence, "conditional_block_entropy")
    if len(codes) <= order:
        raise ValueError(
            f"conditional_block_entropy: a block of {order + 1} symbols is longer than the sequence of {len(codes)}"
        )
    levels = list(block_codes(codes, order + 1))
    if order == 0:
        return _block_estimate(levels[0], method, base, "conditional_block_entropy")
    return _conditional_estimate(levels[-2], levels[-1], method, base, "conditional_block_entropy")


def _checked_counts(counts) -> np.ndarray:
    array = np.asarray(counts)
    if array.ndim != 1:
        raise ValueError(f"discrete_entropy: counts must have one dimension (got shape {array.shape})")
    if array.dtype.kind not in "iuf":
        raise TypeError(f"discrete_entropy: counts must be whole numbers (got dtype {array.dtype})")
    wrong = ~((array >= 0) & (array == np.floor(array)) & np.isfinite(array))
    if wrong.any():
        index = int(np.argmax(wrong))
        raise ValueError(
            f"discrete_entropy: counts must be whole numbers of at least 0 (got {array[index]} at index {index})"
        )
    array = array[array > 0].astype(np.int64)
    if len(array) == 0:
        raise ValueError("discrete_entropy: counts sum to zero; at least one sample is needed")
    return array


def _check_alphabet_size(alphabet_size: int | None, distinct: int) -> None:
    if alphabet_size is None:
        return
    if isinstance(alphabet_size, bool) or not isinstance(alphabet_size, int | np.integer):
        raise TypeError(f"discrete_entropy: alphabet_size must be an integer (got {alphabet_size!r})")
    if alphabet_size < distinct:
        raise ValueError(
            f"discrete_entropy: alphabet_size must be at least the {distinct} values seen (got {alphabet_size})"
        )


def _resolve(method: str, profile: Profile, alphabet_size: int | None) -> str:
    """The name of the estimator that a method stands for, once it is known to have what it needs."""
    if method == "auto":
        known = alphabet_size is not None and profile.n < alphabet_size and not _is_well_sampled(profile)
        return "nsb" if known else automatic(profile)
    if method not in METHODS:
        raise ValueError(f"discrete_entropy: method must be one of auto, {', '.join(METHODS)} (got {method!r})")
    if method in WITH_ALPHABET and alphabet_size is None:
        raise ValueError(
            f"discrete_entropy: method {method!r} needs alphabet_size, the number of possible values, seen or not; "
            'without it, "chao_wang_jost" estimates what is unseen'
        )
    return method


def automatic(profile: Profile) -> str:
    """The estimator for samples that cover so much, among those that need counts alone."""
    return "miller_madow" if _is_well_sampled(profile) else "chao_wang_jost"


def free_estimator(name: str, where: str) -> Callable[[Profile], float]:
    """The estimator of this name, if it needs counts alone."""
    if name not in FREE:
        raise ValueError(f"{where}: method must be one of {', '.join(FREE)} (got {name!r})")
    return FREE[name]


def _coverage(profile: Profile) -> float:
    return 1 - profile.seen(1) / profile.n


def _is_well_sampled(profile: Profile) -> bool:
    return _coverage(profile) >= WELL_SAMPLED


def coverage_note(profile: Profile) -> str:
    """What to tell the reader where values never seen hold much of the probability."""
    coverage = _coverage(profile)
    return f"coverage {coverage:.2f}: too few samples for {profile.distinct} values" if coverage < _COVERAGE else ""


def _batch_variance(local: np.ndarray) -> float:
    """Variance of the mean of a dependent series, from the means of up to 100 consecutive batches."""
    batches = min(isqrt(len(local)), 100)
    if batches < 2:
        return nan
    length = len(local) // batches
    means = local[: batches * length].reshape(batches, length).mean(axis=1)
    return float(means.var(ddof=1)) / batches


def _block_estimate(blocks: tuple[np.ndarray, np.ndarray], method: str, base: float | None, where: str) -> Estimate:
    labels, counts = blocks
    estimator, (nats, unit) = free_estimator(method, where), unit_of(base, where)
    n, profile = len(labels), profile_of(counts)
    value = estimator(profile)
    variance = _batch_variance(np.log(n / counts)[labels]) + (len(counts) - 1) / (2 * n**2)
    return Estimate(
        value / nats,
        sqrt(variance) / nats,
        unit=unit,
        method=method,
        n=n,
        bias_correction=(value - plugin(profile)) / nats,
        note=coverage_note(profile),
    )


def followed(contexts: tuple[np.ndarray, np.ndarray], n: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and counts of the n contexts that have a successor: without the last, theirs and the blocks' are one joint law."""
    labels, counts = contexts[0][:n], contexts[1].copy()
    counts[contexts[0][n]] -= 1
    return labels, counts


def _conditional_estimate(
    contexts: tuple[np.ndarray, np.ndarray],
    blocks: tuple[np.ndarray, np.ndarray],
    method: str,
    base: float | None,
    where: str,
) -> Estimate:
    """h_k from blocks of k symbols (contexts) and of k + 1."""
    estimator, (nats, unit) = free_estimator(method, where), unit_of(base, where)
    labels, counts = blocks
    n = len(labels)
    context_labels, context_counts = followed(contexts, n)
    occupied = context_counts[context_counts > 0]
    whole, context = profile_of(counts), profile_of(occupied)
    uncorrected = max(0.0, plugin(whole) - plugin(context))
    value = max(0.0, estimator(whole) - estimator(context))
    # Logarithms of the tables, not of each position; the context that is never followed is not looked up.
    local = np.log(np.maximum(context_counts, 1))[context_labels] - np.log(counts)[labels]
    variance = _batch_variance(local) + (len(counts) - len(occupied)) / (2 * n**2)
    return Estimate(
        value / nats,
        sqrt(variance) / nats,
        unit=unit,
        method=method,
        n=n,
        bias_correction=(value - uncorrected) / nats,
        note=coverage_note(whole),
    )
