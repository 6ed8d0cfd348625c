r"""Entropy of discrete samples: from values or counts, and of the blocks of a sequence.

The plug-in entropy of the observed frequencies is too low by about $(K-1)/2n$ for K values and n samples, so each
estimator here adds back what unseen and rarely seen values hide. Values may be integers, strings, booleans or any
hashable objects; a missing one is an error, never a category.
"""

from collections.abc import Hashable, Sequence
from math import isqrt, log, nan, sqrt

import numpy as np
import numpy.typing as npt
from jaxtyping import Int, Shaped
from scipy.special import digamma

from isentrope.measures.estimate import Estimate, unit_of

Samples = Shaped[np.ndarray, " n"] | npt.ArrayLike | Sequence[Hashable]

# Below this estimated coverage an estimate carries a note.
_COVERAGE = 0.95


def discrete_entropy(
    samples: Samples | None = None,
    *,
    counts: Int[np.ndarray, " distinct"] | npt.ArrayLike | Sequence[float] | None = None,
    method: str = "miller_madow",
    base: float | None = None,
) -> Estimate:
    r"""Shannon entropy of a discrete law, estimated from independent samples or from their counts.

    With counts $n_i$, $n=\sum_i n_i$, $\hat p_i=n_i/n$ and K observed values, in nats:

    - ``"plugin"``: $\hat H = -\sum_i \hat p_i \ln \hat p_i$.
    - ``"miller_madow"``: $\hat H + (K-1)/2n$.
    - ``"grassberger"``: $\ln n - \frac1n\sum_i n_i G(n_i)$ with
      $G(m)=\psi(m)+\frac{(-1)^m}{2}\left[\psi(\frac{m+1}2)-\psi(\frac m2)\right]$; good where n is near K;
      0 where K is 1.
    - ``"chao_shen"``: $-\sum_i \tilde p_i\ln\tilde p_i/[1-(1-\tilde p_i)^n]$ with $\tilde p_i = C\hat p_i$ and
      coverage $C=1-f_1/n$, $f_1$ the number of values seen once; good where many values are unseen.

    The standard error is that of the plug-in to second order,
    $\sqrt{\mathrm{Var}[\ln\hat p]/n + (K-1)/2n^2}$ (Harris 1975); for a nearly uniform law it is up to 1.8
    times too wide. Where the coverage is below 0.95 the estimate says so
    in its note: values never seen then hold more than a twentieth of the probability.

    Args:
        samples: n values, in one dimension.
        counts: how often each value occurred, instead of samples; zeros are allowed.
        method: one of the names above.
        base: base of the logarithm; None for nats, 2 for bits.

    Returns:
        The entropy with its standard error. With a single sample the standard error is NaN.

    Raises:
        ValueError: if samples are empty, not one-dimensional or contain missing values; if counts are negative,
            fractional or sum to zero; if both or neither are given; if the method or base is unknown.
        TypeError: if a sample is not hashable.

    References:
        Miller (1955), "Note on the bias of information estimates"; Harris (1975), "The statistical estimation of
        entropy in the non-parametric case"; Grassberger, "Entropy estimates from insufficient samplings"
        (arXiv physics/0307138); Chao and Shen (2003), Environmental and Ecological Statistics 10, 429.

    Examples:
        >>> discrete_entropy("abracadabra", base=2)
        Estimate(2.30 ± 0.33 bit, miller_madow, n=11; coverage 0.82: ...)
        >>> discrete_entropy(counts=[500, 250, 125, 125], method="plugin", base=2)
        Estimate(1.750 ± 0.026 bit, plugin, n=1000)
    """
    if (samples is None) == (counts is None):
        raise ValueError("discrete_entropy: pass either samples or counts (got both or neither)")
    observed = _count(_encode(samples, "discrete_entropy")) if counts is None else _checked_counts(counts)
    return _entropy_of_counts(observed, method, base, "discrete_entropy")


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
        method: estimator, as in `discrete_entropy`.
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
    _check_order(order, 1, "block_entropy")
    codes = _encode(sequence, "block_entropy")
    if len(codes) < order:
        raise ValueError(f"block_entropy: a block of {order} symbols is longer than the sequence of {len(codes)}")
    *_, blocks = _block_codes(codes, order)
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
        method: estimator, as in `discrete_entropy`.
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
    _check_order(order, 0, "conditional_block_entropy")
    codes = _encode(sequence, "conditional_block_entropy")
    if len(codes) <= order:
        raise ValueError(
            f"conditional_block_entropy: a block of {order + 1} symbols is longer than the sequence of {len(codes)}"
        )
    levels = list(_block_codes(codes, order + 1))
    if order == 0:
        return _block_estimate(levels[0], method, base, "conditional_block_entropy")
    return _conditional_estimate(levels[-2], levels[-1], method, base, "conditional_block_entropy")


def _check_order(order: int, least: int, where: str) -> None:
    if isinstance(order, bool) or not isinstance(order, int | np.integer) or order < least:
        raise ValueError(f"{where}: order must be an integer of at least {least} (got {order!r})")


# Codes: every symbol becomes an integer from 0, so that counting is one pass of bincount.


def _encode(samples, where: str) -> np.ndarray:
    """Non-negative integer codes of the samples, in one dimension; equal samples have equal codes."""
    if isinstance(samples, str):
        codes = np.frombuffer(samples.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    elif isinstance(samples, bytes | bytearray | memoryview):
        codes = np.frombuffer(samples, dtype=np.uint8)
    elif isinstance(samples, list | tuple) and not set(map(type, samples)) <= {int, float, bool}:
        codes = _encode_objects(samples, where)
    else:
        codes = _encode_array(np.asarray(samples), where)
    if len(codes) == 0:
        raise ValueError(f"{where}: there are no samples; at least one is needed")
    return codes


def _encode_array(samples: np.ndarray, where: str) -> np.ndarray:
    if samples.ndim != 1:
        raise ValueError(f"{where}: samples must have one dimension (got shape {samples.shape}); ravel them first")
    kind = samples.dtype.kind
    if kind == "O":
        return _encode_objects(samples.tolist(), where)
    if kind in "fcMm":
        _refuse_missing(np.isnat(samples) if kind in "Mm" else np.isnan(samples), where)
    if kind == "b":
        return samples.view(np.uint8)
    if kind in "iu" and len(samples):
        low, high = int(samples.min()), int(samples.max())
        if high - low < max(65536, 4 * len(samples)):
            # Subtracted modulo 2^64, so that the whole range of uint64 and int64 stays exact.
            return (samples.astype(np.uint64) - np.uint64(low % 2**64)).astype(np.int64)
    return np.unique(samples, return_inverse=True)[1].ravel()


def _encode_objects(samples: Sequence, where: str) -> np.ndarray:
    table: dict[Hashable, int] = {}
    try:
        codes = np.fromiter((table.setdefault(sample, len(table)) for sample in samples), np.int64, len(samples))
    except TypeError as error:
        raise TypeError(f"{where}: samples must be hashable values in one dimension ({error})") from None
    missing = [code for sample, code in table.items() if _is_missing(sample)]
    if missing:
        _refuse_missing(np.isin(codes, missing), where)
    return codes


def _is_missing(sample: Hashable) -> bool:
    # A NaN differs from itself; comparing pandas' NA gives NA, which has no truth value.
    return sample is None or type(sample).__name__ in ("NAType", "NaTType") or bool(sample != sample)


def _refuse_missing(missing: np.ndarray, where: str) -> None:
    number = int(np.count_nonzero(missing))
    if number:
        first = int(np.argmax(missing))
        raise ValueError(
            f"{where}: {number} of {len(missing)} samples are missing (the first at index {first}); drop them first"
        )


def _count(codes: np.ndarray) -> np.ndarray:
    """Counts of the codes that occur."""
    if int(codes.max()) < max(1 << 22, 4 * len(codes)):
        counts = np.bincount(codes)
        return counts[counts > 0]
    return np.unique(codes, return_counts=True)[1]


def _relabel(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The codes renumbered 0..K-1 without gaps, and their K counts."""
    if int(codes.max()) < max(1 << 22, 4 * len(codes)):
        counts = np.bincount(codes)
        occupied = counts > 0
        return (np.cumsum(occupied) - 1)[codes], counts[occupied]
    _, labels, counts = np.unique(codes, return_inverse=True, return_counts=True)
    return labels.ravel(), counts


def _block_codes(codes: np.ndarray, longest: int):
    """For each block length 1..longest: the label of the block that starts at each position, and the counts.

    The label of a block is made from that of the block without its last symbol, so that numbers stay below
    (distinct blocks) x (distinct symbols) whatever the length.
    """
    symbols, counts = _relabel(codes)
    distinct = len(counts)
    labels = symbols
    yield labels, counts
    for length in range(2, longest + 1):
        labels, counts = _relabel(labels[:-1] * distinct + symbols[length - 1 :])
        yield labels, counts


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


# Estimators in nats. Each takes the occupied counts and their sum.


def _plugin(counts: np.ndarray, n: int) -> float:
    # A sum without negative terms: nothing cancels, and a single value has exactly no entropy.
    return float(counts @ np.log(n / counts)) / n


def _miller_madow(counts: np.ndarray, n: int) -> float:
    return _plugin(counts, n) + (len(counts) - 1) / (2 * n)


def _grassberger(counts: np.ndarray, n: int) -> float:
    # ln n - G(n) is not zero: -1/6n^2 for an even n, about 1/n for an odd one.
    if len(counts) == 1:
        return 0.0
    sizes, number = np.unique(counts, return_counts=True)
    sign = 1 - 2 * (sizes % 2)
    g = digamma(sizes) + sign / 2 * (digamma((sizes + 1) / 2) - digamma(sizes / 2))
    return log(n) - float((number * sizes) @ g) / n


def _chao_shen(counts: np.ndarray, n: int) -> float:
    # With singletons alone the coverage would be zero; one of them is then taken as seen twice.
    singletons = int(np.count_nonzero(counts == 1))
    coverage = 1 - (singletons - 1 if singletons == n else singletons) / n
    p = coverage * counts / n
    with np.errstate(divide="ignore"):
        seen = -np.expm1(n * np.log1p(-p))
    return max(0.0, float(-np.sum(p * np.log(p) / seen)))


_METHODS = {
    "plugin": _plugin,
    "miller_madow": _miller_madow,
    "grassberger": _grassberger,
    "chao_shen": _chao_shen,
}


def _method(name: str, where: str):
    if name not in _METHODS:
        raise ValueError(f"{where}: method must be one of {', '.join(_METHODS)} (got {name!r})")
    return _METHODS[name]


def _local_variance(counts: np.ndarray, n: int) -> float:
    """Variance of -ln p over the observed frequencies, in squared nats."""
    information = np.log(n / counts)
    mean = float(counts @ information) / n
    return float(counts @ (information - mean) ** 2) / n


def _coverage_note(counts: np.ndarray, n: int) -> str:
    coverage = 1 - int(np.count_nonzero(counts == 1)) / n
    return f"coverage {coverage:.2f}: too few samples for {len(counts)} values" if coverage < _COVERAGE else ""


def _entropy_of_counts(counts: np.ndarray, method: str, base: float | None, where: str) -> Estimate:
    estimator, (nats, unit) = _method(method, where), unit_of(base, where)
    n = int(counts.sum())
    plugin, value = _plugin(counts, n), estimator(counts, n)
    variance = _local_variance(counts, n) / n + (len(counts) - 1) / (2 * n**2) if n > 1 else nan
    return Estimate(
        value / nats,
        sqrt(variance) / nats,
        unit=unit,
        method=method,
        n=n,
        bias_correction=(value - plugin) / nats,
        note=_coverage_note(counts, n),
    )


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
    estimator, (nats, unit) = _method(method, where), unit_of(base, where)
    n = len(labels)
    plugin, value = _plugin(counts, n), estimator(counts, n)
    variance = _batch_variance(np.log(n / counts)[labels]) + (len(counts) - 1) / (2 * n**2)
    return Estimate(
        value / nats,
        sqrt(variance) / nats,
        unit=unit,
        method=method,
        n=n,
        bias_correction=(value - plugin) / nats,
        note=_coverage_note(counts, n),
    )


def _conditional_estimate(
    contexts: tuple[np.ndarray, np.ndarray],
    blocks: tuple[np.ndarray, np.ndarray],
    method: str,
    base: float | None,
    where: str,
) -> Estimate:
    """h_k from blocks of k symbols (contexts) and of k + 1."""
    estimator, (nats, unit) = _method(method, where), unit_of(base, where)
    labels, counts = blocks
    n = len(labels)
    # The last context has no successor: without it both entropies are of one joint law, and the plug-in is not negative.
    context_labels, context_counts = contexts[0][:n], contexts[1].copy()
    context_counts[contexts[0][n]] -= 1
    occupied = context_counts[context_counts > 0]
    plugin = max(0.0, _plugin(counts, n) - _plugin(occupied, n))
    value = max(0.0, estimator(counts, n) - estimator(occupied, n))
    # Logarithms of the tables, not of each position; the context that is never followed is not looked up.
    local = np.log(np.maximum(context_counts, 1))[context_labels] - np.log(counts)[labels]
    variance = _batch_variance(local) + (len(counts) - len(occupied)) / (2 * n**2)
    return Estimate(
        value / nats,
        sqrt(variance) / nats,
        unit=unit,
        method=method,
        n=n,
        bias_correction=(value - plugin) / nats,
        note=_coverage_note(counts, n),
    )
