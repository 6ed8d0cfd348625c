r"""Complexity and entropy rate of a symbol sequence: Lempel-Ziv parsings, match lengths, context-tree weighting.

A sequence is a string, bytes, an array or any sequence of hashable symbols. Codes and matches reach further back than
blocks of symbols can be counted.
"""

from dataclasses import replace
from math import log, nan, sqrt

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from isentrope.measures._series import check_count
from isentrope.measures._symbols import block_codes, encode, relabel
from isentrope.measures.discrete import WELL_SAMPLED, Samples, _batch_variance, _block_estimate, _conditional_estimate
from isentrope.measures.estimate import Estimate, unit_of

_METHODS = ("context_tree", "block", "match_length", "lz76", "lz78")
_CONTEXT = 8
# A history that is asked for may leave so much of the probability to blocks that were not seen.
_COVERAGE = 0.95
# Blocks of a sequence that hardly varies recur whatever their length.
_LONGEST_HISTORY = 32


def lempel_ziv_complexity(sequence: Samples, *, normalize: bool = False) -> float:
    r"""Number of phrases in the parsing of Lempel and Ziv (1976), where each phrase is the shortest string new so far.

    A phrase ends with the symbol that makes it differ from every string that starts earlier (the two may overlap):
    0·001·10·100·1000·101 has 6. Normalised it is $c\,\log_K n/n$, which for n independent, equally likely symbols
    out of K tends to 1 from above. Time and memory grow with n, by a suffix automaton.

    Args:
        sequence: n symbols: a string, bytes, an array or any sequence of hashable values.
        normalize: divide by $n/\log_K n$, with K the number of different symbols seen (2 if there is only one).

    Returns:
        The number of phrases, or its normalised value.

    Raises:
        ValueError: if the sequence is empty, not one-dimensional or has missing values.

    References:
        Lempel and Ziv (1976), "On the complexity of finite sequences", IEEE Transactions on Information Theory 22, 75;
        Kaspar and Schuster (1987), "Easily calculable measure for the complexity of spatiotemporal patterns".

    Examples:
        >>> lempel_ziv_complexity("0001101001000101")
        6.0
    """
    from isentrope.measures._automaton import exhaustive_phrases

    codes, distinct = _read("lempel_ziv_complexity", sequence)
    phrases = exhaustive_phrases(codes)
    n = len(codes)
    return float(phrases * log(n) / log(max(distinct, 2)) / n if normalize else phrases)


def entropy_rate(
    sequence: Samples,
    *,
    method: str = "context_tree",
    depth: int | None = None,
    base: float | None = None,
    local: bool = False,
) -> Estimate:
    r"""Entropy per symbol of a long sequence, by how well it can be predicted or compressed.

    For n symbols, K of them different, in nats:

    - ``"context_tree"``: the length per symbol of the code of context-tree weighting, which mixes all trees of
      contexts up to ``depth`` symbols. At a node with counts $a_s$ after its context,
      $P_w=\tfrac12 P_{KT}+\tfrac12\prod_{\mathrm{children}} P_w$, $P_w=P_{KT}$ at the depth, with
      $P_{KT}=\frac{\Gamma(K/2)}{\Gamma(\sum_s a_s+K/2)}\prod_s\frac{\Gamma(a_s+1/2)}{\Gamma(1/2)}$. The first
      ``depth`` symbols are not coded. It is too high by about $\frac{(K-1)\,L}{2}\frac{\ln n}{n}$ for a source with L
      contexts, and right for finite memory.
    - ``"block"``: $H_{k+1}-H_k$, the entropy of the next symbol given the k = ``depth`` before, from counted blocks, as in
      `conditional_block_entropy` (Grassberger's estimator). Without a depth k is the longest history, up to 32, whose
      blocks of k + 1 symbols cover 0.99 of the probability (one minus the share of blocks seen once), or the first
      that determines the next symbol. It is the rate of a source that remembers k symbols, too high for one that
      remembers more.
    - ``"match_length"``: $\left[\frac1{n-1}\sum_{i=1}^{n-1}\frac{\Lambda_i}{\ln(i+1)}\right]^{-1}$, where
      $\Lambda_i-1$ symbols from i on are found within the i symbols before. It needs no depth and converges slowly.
    - ``"lz76"``: $c\ln n/n$ with c phrases, as in `lempel_ziv_complexity`; too high in short sequences.
    - ``"lz78"``: $c(\ln c+\ln K)/n$ with the c phrases of the parsing of 1978, the length of its code; too high.

    Mean errors in bits for 10,000 symbols of a fair coin (1 bit), of the golden mean shift (2/3) and of a chain that flips
    with probability 0.1 (0.469): 0.001, 0.002 and 0.004 by ``"context_tree"``; -0.10, -0.05 and -0.05 by
    ``"match_length"``; 0.03, 0.04 and 0.01 by ``"lz76"``; 0.32, 0.33 and 0.28 by ``"lz78"``; 0.001, -0.001 and -0.004 by
    ``"block"``, with histories of 10, 13 and 9 symbols.

    The standard error of ``"context_tree"``, ``"block"`` and ``"match_length"`` comes from the means of consecutive
    stretches of the sequence; it leaves out the bias, which for ``"match_length"`` is larger. For the others it is NaN: the
    number of phrases is one number, which has no parts.

    Args:
        sequence: n symbols: a string, bytes, an array or any sequence of hashable values.
        method: one of the names above.
        depth: longest context of ``"context_tree"`` (None for 8), or history of ``"block"`` (None for the longest that is
            well sampled, which the note names); the other methods have none.
        base: base of the logarithm; None for nats, 2 for bits.
        local: also return the length of each symbol's code given the symbols before it; for ``"context_tree"`` alone.

    Returns:
        The entropy per symbol.

    Raises:
        ValueError: if the sequence has fewer than 2 symbols (depth + 1 for ``"context_tree"``) or missing values, its
            blocks of depth + 1 symbols cover less than 0.95 (for ``"block"``), the method is unknown, or it has no local
            values.

    References:
        Willems, Shtarkov and Tjalkens (1995), "The context-tree weighting method: basic properties", IEEE Transactions
        on Information Theory 41, 653; Kontoyiannis, Algoet, Suhov and Wyner (1998), "Nonparametric entropy estimation
        for stationary processes and random fields", same journal 44, 1319; Ziv and Lempel (1978), same journal 24, 530.

    Examples:
        >>> import numpy as np
        >>> coin = np.random.default_rng(0).integers(0, 2, size=10_000)
        >>> f"{entropy_rate(coin, base=2):.2f}"
        '1.00'
        >>> entropy_rate(coin, method="block", depth=2, base=2).note
        'history of 2 symbols'
    """
    where = "entropy_rate"
    nats, unit = unit_of(base, where)
    if method not in _METHODS:
        raise ValueError(f"{where}: method must be one of {', '.join(_METHODS)} (got {method!r})")
    if depth is not None:
        check_count(where, "depth", depth, 0)
    codes, distinct = _read(where, sequence)
    if method == "block":
        if local:
            raise ValueError(f"{where}: only method 'context_tree' has local values (got {method!r})")
        return _block_rate(where, codes, depth, base)
    depth = _CONTEXT if depth is None else depth
    n = len(codes)
    least = depth + 1 if method == "context_tree" else 2
    if n < max(least, 2):
        raise ValueError(f"{where}: at least {max(least, 2)} symbols are needed for these settings (got {n})")
    if local and method != "context_tree":
        raise ValueError(f"{where}: only method 'context_tree' has local values (got {method!r})")
    stderr, lengths = nan, None
    if method == "context_tree":
        lengths = _context_tree_code_lengths(codes, distinct, depth) / nats
        value, stderr = float(lengths.mean()) * nats, sqrt(_batch_variance(lengths)) * nats
    elif method == "match_length":
        value, stderr = _match_length_rate(codes)
    else:
        from isentrope.measures._automaton import exhaustive_phrases, incremental_phrases

        phrases = exhaustive_phrases(codes) if method == "lz76" else incremental_phrases(codes)
        value = phrases * (log(n) if method == "lz76" else log(phrases) + log(distinct)) / n
    return Estimate(value / nats, stderr / nats, unit=unit, method=method, n=n, local=lengths if local else None)


def markov_entropy_rate(
    transition: Float[np.ndarray, "states states"] | npt.ArrayLike, *, base: float | None = None
) -> float:
    r"""Entropy rate of a Markov chain, $h=-\sum_i\pi_i\sum_j P_{ij}\ln P_{ij}$ with $\pi P=\pi$.

    Args:
        transition: probabilities $P_{ij}$ to go from state i to state j; rows sum to 1.
        base: base of the logarithm; None for nats, 2 for bits.

    Returns:
        The entropy per step.

    Raises:
        ValueError: if the matrix is not square, its rows are not probabilities, or more than one set of states is never
            left, so that the rate depends on where the chain starts.

    References:
        Cover and Thomas (2006), "Elements of information theory", section 4.2; Grassmann, Taksar and Heyman (1985),
        "Regenerative analysis and steady state distributions for Markov chains", Operations Research 33, 1107, for the
        stationary law.

    Examples:
        >>> round(markov_entropy_rate([[0.5, 0.5], [1.0, 0.0]], base=2), 6)
        0.666667
    """
    where = "markov_entropy_rate"
    nats = unit_of(base, where)[0]
    try:
        p = np.asarray(transition, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{where}: transition must be a matrix of numbers (got {type(transition).__name__})") from None
    if p.ndim != 2 or p.shape[0] != p.shape[1] or p.shape[0] == 0:
        raise ValueError(f"{where}: transition must be a square matrix (got shape {p.shape})")
    sums = p.sum(axis=1)
    wrong = ~((p >= 0).all(axis=1) & (np.abs(sums - 1) < 1e-9))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"{where}: each row of transition must be probabilities that sum to 1 (row {row} sums to {sums[row]:.6g})"
        )
    stationary = _stationary_law(where, p)
    logarithms = np.log(np.where(p > 0, p, 1.0))
    return float(-(stationary @ (p * logarithms).sum(axis=1)) / nats) + 0.0


def _stationary_law(where: str, p: np.ndarray) -> np.ndarray:
    """By elimination of one state after the other without a subtraction, which keeps every digit of rare transitions."""
    from scipy.sparse.csgraph import connected_components

    number, label = connected_components(p > 0, connection="strong")
    leaving = np.array([(p[label == one][:, label != one] > 0).any() for one in range(number)])
    closed = np.flatnonzero(~leaving)
    if len(closed) > 1:
        raise ValueError(
            f"{where}: transition has more than one stationary law, since {len(closed)} sets of states are never left; pass "
            "one of them alone"
        )
    states = np.flatnonzero(label == closed[0])
    rates = p[np.ix_(states, states)].copy()
    for last in range(len(states) - 1, 0, -1):
        rates[:last, last] /= rates[last, :last].sum()
        rates[:last, :last] += np.outer(rates[:last, last], rates[last, :last])
    weights = np.ones(len(states))
    for state in range(1, len(states)):
        weights[state] = weights[:state] @ rates[:state, state]
    stationary = np.zeros(len(p))
    stationary[states] = weights / weights.sum()
    return stationary


def _read(where: str, sequence: Samples) -> tuple[np.ndarray, int]:
    """The symbols as numbers 0..K-1, and K."""
    codes, counts = relabel(encode(sequence, where))
    return np.ascontiguousarray(codes, dtype=np.int64), len(counts)


def _block_rate(where: str, codes: np.ndarray, depth: int | None, base: float | None) -> Estimate:
    """The entropy of a symbol given the history that is asked for, or the longest that is well sampled."""
    n, longest = len(codes), _LONGEST_HISTORY if depth is None else depth
    history, before, blocks, covered = -1, None, None, 1.0
    for known, longer in enumerate(block_codes(codes, min(n, longest + 1))):
        covered = 1 - np.count_nonzero(longer[1] == 1) / len(longer[0])
        if covered < (WELL_SAMPLED if depth is None and known else _COVERAGE):
            break
        history, before, blocks = known, blocks, longer
        if depth is None and before is not None and _is_determined(before, blocks):
            break
    if blocks is None or (depth is not None and history < depth):
        fits = f"a depth of {history} is the longest that fits" if blocks is not None else "most symbols occur once"
        raise ValueError(
            f"{where}: {n} symbols are too few for blocks of {history + 2}, which cover {covered:.2f} of the probability "
            f"where {_COVERAGE} is needed; {fits}"
        )
    if before is None:
        found = _block_estimate(blocks, "grassberger", base, where)
    else:
        found = _conditional_estimate(before, blocks, "grassberger", base, where)
    remembered = f"history of {history} symbol{'s' * (history != 1)}"
    return replace(found, method="block", n=n, note="; ".join(part for part in (remembered, found.note) if part))


def _is_determined(contexts: tuple[np.ndarray, np.ndarray], blocks: tuple[np.ndarray, np.ndarray]) -> bool:
    """Whether each context has one successor; the last may have none."""
    labels, counts = contexts
    return len(blocks[1]) == len(counts) - int(counts[labels[-1]] == 1)


def _match_length_rate(codes: np.ndarray) -> tuple[float, float]:
    from isentrope.measures._automaton import match_lengths

    local = (match_lengths(codes)[1:] + 1) / np.log(np.arange(2, len(codes) + 1))
    value = 1 / float(local.mean())
    return value, value**2 * sqrt(_batch_variance(local))


def _context_tree_code_lengths(codes: np.ndarray, distinct: int, depth: int) -> np.ndarray:
    """Length of the code of each symbol after the first ``depth``, given those before it, in nats."""
    from isentrope.measures._context_tree import code_lengths

    n = len(codes)
    symbols = codes[depth:]
    contexts = np.zeros(n - depth, np.int64)
    nodes, pairs = np.empty((2, depth + 1, n - depth), np.int32)
    number_of_nodes = number_of_pairs = 0
    for back in range(depth + 1):
        if back > 0:
            contexts, _ = relabel(contexts * distinct + codes[depth - back : n - back])
        followed, counts = relabel(contexts * distinct + symbols)
        nodes[back], pairs[back] = contexts + number_of_nodes, followed + number_of_pairs
        number_of_nodes, number_of_pairs = int(nodes[back].max()) + 1, number_of_pairs + len(counts)
    return code_lengths(nodes, pairs, number_of_nodes, number_of_pairs, distinct)
