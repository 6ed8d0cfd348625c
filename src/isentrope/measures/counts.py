r"""Estimators of Shannon entropy from counts: what each adds to the observed frequencies, and its standard error.

A count that occurs often is written once: an estimator sees the `Profile` of a sample, its distinct counts m and how
many values $F_m$ have each, of which there are at most $\sqrt{2n}$. All numbers here are in nats. The public face is
`isentrope.measures.discrete_entropy`.

Most estimators are additive, $\hat H = a(n) - \frac1n\sum_i h(n_i)$. Taking away one sample of a value seen m times then
changes the sum by $d(m) = h(m) - h(m-1)$ alone, so that the jackknife is closed: its variance is that of $d$ over the
samples, divided by n - 1. The same holds for any combination of entropies of the same samples.
"""

from collections.abc import Callable
from math import isnan, log, nan, sqrt
from typing import NamedTuple

import numpy as np
from scipy.special import digamma, gammaln, polygamma


class Profile(NamedTuple):
    """How often each count occurs in a sample."""

    sizes: np.ndarray
    """Distinct positive counts m, ascending."""
    number: np.ndarray
    """How many values were seen m times, F_m."""
    n: int
    """Number of samples."""
    distinct: int
    """Number of values seen."""

    def seen(self, times: int) -> int:
        """How many values were seen so many times."""
        return int(self.number[self.sizes == times].sum())


def profile_of(counts: np.ndarray) -> Profile:
    """The profile of positive counts."""
    if counts.max() < 1 << 22:
        table = np.bincount(counts)
        sizes = np.flatnonzero(table)
        number = table[sizes]
    else:
        sizes, number = np.unique(counts, return_counts=True)
    return Profile(sizes, number, int(sizes @ number), len(counts))


# Additive estimators: a(n) and h(m).


def _plugin_term(sizes: np.ndarray) -> np.ndarray:
    return sizes * np.log(np.maximum(sizes, 1))


def _miller_madow_term(sizes: np.ndarray) -> np.ndarray:
    # (K - 1)/2n is half a sample for each value seen, less half a sample.
    return _plugin_term(sizes) - np.where(sizes > 0, 0.5, 0)


def _zhang_term(sizes: np.ndarray) -> np.ndarray:
    return np.where(sizes > 0, sizes * digamma(np.maximum(sizes, 1)), 0.0)


def _grassberger_term(sizes: np.ndarray) -> np.ndarray:
    m = np.maximum(sizes, 1)
    alternating = (1 - 2 * (m % 2)) / 2 * (digamma((m + 1) / 2) - digamma(m / 2))
    return np.where(sizes > 0, m * (digamma(m) + alternating), 0.0)


def _grassberger_1988_term(sizes: np.ndarray) -> np.ndarray:
    m = np.maximum(sizes, 1)
    return np.where(sizes > 0, m * digamma(m) + (1 - 2 * (m % 2)) / (m + 1), 0.0)


class Additive(NamedTuple):
    """An estimator $a(n) - \\frac1n\\sum_i h(n_i)$."""

    constant: Callable[[int], float]
    term: Callable[[np.ndarray], np.ndarray]

    def __call__(self, profile: Profile, alphabet_size: int | None = None) -> float:
        """The estimate; ``alphabet_size`` is not used."""
        # A single value has exactly no entropy, which rounding and the parity of n must not change.
        if profile.distinct == 1:
            return 0.0
        return self.constant(profile.n) - float(profile.number @ self.term(profile.sizes)) / profile.n


ADDITIVE: dict[str, Additive] = {
    "plugin": Additive(log, _plugin_term),
    "miller_madow": Additive(lambda n: log(n) - 1 / (2 * n), _miller_madow_term),
    "grassberger": Additive(log, _grassberger_term),
    "grassberger_1988": Additive(log, _grassberger_1988_term),
    "zhang": Additive(lambda n: float(digamma(n)), _zhang_term),
}


def increment(method: str, sizes: np.ndarray) -> np.ndarray:
    """d(m) = h(m) - h(m - 1), whose variance over the samples, divided by n - 1, is the jackknife's.

    Grassberger's terms alternate with the parity of m, which a jackknife would take for spread: Zhang's stand for them.
    """
    term = ADDITIVE["zhang" if method.startswith("grassberger") else method].term
    return term(sizes) - term(sizes - 1)


def plugin(profile: Profile, alphabet_size: int | None = None) -> float:
    """Entropy of the observed frequencies."""
    # A sum without negative terms: nothing cancels, and a single value has exactly no entropy.
    sizes, number, n, _ = profile
    return float((number * sizes) @ np.log(n / sizes)) / n


# Coverage estimators.


def _chao_shen(profile: Profile, alphabet_size: int | None = None) -> float:
    # With singletons alone the coverage would be zero; one of them is then taken as seen twice.
    sizes, number, n, _ = profile
    singletons = profile.seen(1)
    coverage = 1 - (singletons - 1 if singletons == n else singletons) / n
    p = coverage * sizes / n
    with np.errstate(divide="ignore"):
        seen = -np.expm1(n * np.log1p(-p))
    return max(0.0, float(-np.sum(number * p * np.log(p) / seen)))


def _chao_wang_jost(profile: Profile, alphabet_size: int | None = None) -> float:
    n, singletons, doubletons = profile.n, profile.seen(1), profile.seen(2)
    observed = ADDITIVE["zhang"](profile)
    if singletons == 0 or n == 1:
        return observed
    # The mean probability of a value seen once.
    rare = (
        2 * doubletons / ((n - 1) * singletons + 2 * doubletons) if doubletons else 2 / ((n - 1) * (singletons - 1) + 2)
    )
    return observed + singletons / n * _tail(rare, n)


def _tail(rare: float, n: int) -> float:
    r"""$(1-A)^{1-n}[-\ln A - \sum_{r<n}(1-A)^r/r]$ without its overflow.

    It is $(1-A)\sum_{j\ge0}(1-A)^j/(n+j) = \frac{1-A}{n}\int_0^\infty\frac{e^{-v}\,dv}{1-(1-A)e^{-v/n}}$, which the
    trapezoid rule in $\ln v$ gives to all digits.
    """
    logarithm = np.arange(log(rare) - 40, 5, 0.125)
    v = np.exp(logarithm)
    return (1 - rare) / n * float(np.sum(v * np.exp(-v) / (rare - (1 - rare) * np.expm1(-v / n)))) * 0.125


# Estimators that know the number K of possible values, seen or not.


def _plugin_of_smoothed(profile: Profile, p: np.ndarray, unseen: float, alphabet_size: int) -> float:
    """Entropy where a value seen m times has probability p(m), and each of the others ``unseen``."""
    rest = (alphabet_size - profile.distinct) * unseen * log(unseen) if unseen > 0 else 0.0
    # Taken from 0, a certain value has entropy 0 and not -0.
    return 0.0 - float(profile.number @ (p * np.log(p))) - rest


def _james_stein(profile: Profile, alphabet_size: int) -> float:
    sizes, number, n, distinct = profile
    p, target = sizes / n, 1 / alphabet_size
    squares = float(number @ p**2)
    distance = (n - 1) * (float(number @ (target - p) ** 2) + (alphabet_size - distinct) * target**2)
    # Where p is the target any weight gives the same.
    weight = min(1.0, (1 - squares) / distance) if distance > 0 else 1.0
    return _plugin_of_smoothed(profile, weight * target + (1 - weight) * p, weight * target, alphabet_size)


_PSEUDOCOUNTS: dict[str, Callable[[int, int], float]] = {
    "jeffreys": lambda n, alphabet_size: 0.5,
    "laplace": lambda n, alphabet_size: 1.0,
    "perks": lambda n, alphabet_size: 1 / alphabet_size,
    "minimax": lambda n, alphabet_size: sqrt(n) / alphabet_size,
}


def _dirichlet(profile: Profile, alphabet_size: int, pseudocount: float) -> float:
    total = profile.n + pseudocount * alphabet_size
    return _plugin_of_smoothed(profile, (profile.sizes + pseudocount) / total, pseudocount / total, alphabet_size)


def dirichlet_moments(profile: Profile, alphabet_size: int, pseudocounts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""Posterior mean and variance of the entropy under symmetric Dirichlet priors, one for each pseudocount a.

    With $\alpha_i=n_i+a$ and $A=n+Ka$: $E[H]=\psi(A+1)-\sum_i\frac{\alpha_i}{A}\psi(\alpha_i+1)$, and $E[H^2]$ from
    the second moments of $p_i\ln p_i\;p_j\ln p_j$ (Wolpert and Wolf 1995).
    """
    sizes = np.concatenate([profile.sizes, [0]])
    number = np.concatenate([profile.number, [alphabet_size - profile.distinct]])
    a = pseudocounts[:, None]
    alpha, total = sizes + a, profile.n + alphabet_size * pseudocounts
    mean = digamma(total + 1) - ((alpha * digamma(alpha + 1)) @ number) / total
    # E[p_i ln p_i p_j ln p_j] for i != j and for i = j, both over A(A+1).
    centred = digamma(alpha + 1) - digamma(total + 2)[:, None]
    first, squares = (alpha * centred) @ number, (alpha**2) @ number
    across = first**2 - (alpha**2 * centred**2) @ number - polygamma(1, total + 2) * (total**2 - squares)
    twice = digamma(alpha + 2) - digamma(total + 2)[:, None]
    spread = polygamma(1, alpha + 2) - polygamma(1, total + 2)[:, None]
    within = (alpha * (alpha + 1) * (twice**2 + spread)) @ number
    return mean, np.maximum((across + within) / (total * (total + 1)) - mean**2, 0)


def nsb(profile: Profile, alphabet_size: int) -> tuple[float, float]:
    r"""Posterior mean and standard deviation of the entropy under the prior of Nemenman, Shafee and Bialek.

    The pseudocount a is averaged over with the weight
    $\frac{d\xi}{da}\frac{\Gamma(Ka)}{\Gamma(n+Ka)}\prod_i\frac{\Gamma(n_i+a)}{\Gamma(a)}$, $\xi(a)=\psi(Ka+1)-\psi(a+1)$
    the prior mean of the entropy, so that this mean is uniform a priori. The integral is a trapezoid sum in
    $\ln a$, first over 32 decades, then over the part that holds the weight.
    """
    if alphabet_size == 1:
        return 0.0, 0.0

    def log_weight(logarithm: np.ndarray) -> np.ndarray:
        a = np.exp(logarithm)
        prior = alphabet_size * polygamma(1, alphabet_size * a + 1) - polygamma(1, a + 1)
        many = gammaln(profile.sizes + a[:, None]) - gammaln(a)[:, None]
        evidence = gammaln(alphabet_size * a) - gammaln(profile.n + alphabet_size * a) + many @ profile.number
        return evidence + np.log(np.maximum(prior, 1e-300)) + logarithm

    coarse = np.linspace(log(1e-20), log(1e12), 300)
    heavy = coarse[(weight := log_weight(coarse)) > weight.max() - 45]
    step = coarse[1] - coarse[0]
    fine = np.linspace(heavy[0] - step, heavy[-1] + step, 300)
    weight = log_weight(fine)
    weight = np.exp(weight - weight.max())
    weight /= weight.sum()
    mean, variance = dirichlet_moments(profile, alphabet_size, np.exp(fine))
    average = float(weight @ mean)
    return average, sqrt(float(weight @ (variance + (mean - average) ** 2)))


# Extrapolation.


def _mean_plugin_of_subsamples(profile: Profile, m: int) -> float:
    r"""Mean plug-in entropy of all subsamples of m of the n samples: a count is then hypergeometric."""
    n, total = profile.n, 0.0
    for size, number in zip(profile.sizes.tolist(), profile.number.tolist(), strict=True):
        mean = m * size / n
        width = 12 * sqrt(mean * (1 - size / n) * (n - m) / max(n - 1, 1)) + 12
        k = np.arange(max(1, m - (n - size), int(mean - width)), min(size, m, int(mean + width)) + 1)
        log_probability = (
            gammaln(size + 1) - gammaln(k + 1) - gammaln(size - k + 1)
            + gammaln(n - size + 1) - gammaln(m - k + 1) - gammaln(n - size - m + k + 1)
            - (gammaln(n + 1) - gammaln(m + 1) - gammaln(n - m + 1))
        )  # fmt: skip
        total += number * float(np.exp(log_probability) @ (k * np.log(m / k)))
    return total / m


def _quadratic_extrapolation(profile: Profile, alphabet_size: int | None = None) -> float:
    n = profile.n
    if n < 4:
        return plugin(profile)
    lengths = np.array([n, n // 2, n // 4])
    entropies = [plugin(profile), *(_mean_plugin_of_subsamples(profile, int(m)) for m in lengths[1:])]
    return float(np.linalg.solve(np.vander(1 / lengths, 3, increasing=True), entropies)[0])


FREE: dict[str, Callable[..., float]] = {
    **ADDITIVE,
    "plugin": plugin,
    "chao_shen": _chao_shen,
    "chao_wang_jost": _chao_wang_jost,
    "quadratic_extrapolation": _quadratic_extrapolation,
}
"""Estimators that need the counts alone, by name."""

WITH_ALPHABET = ("james_stein", *_PSEUDOCOUNTS, "nsb")
"""Estimators that need the number of possible values."""

METHODS = (*FREE, *WITH_ALPHABET)


def estimate_entropy(profile: Profile, method: str, alphabet_size: int | None = None) -> tuple[float, float]:
    """Entropy and its standard error, in nats; the error is NaN for a single sample, whose spread is not known.

    The methods are checked by the caller.
    """
    if method == "nsb":
        assert alphabet_size is not None
        return nsb(profile, alphabet_size)
    if method in _PSEUDOCOUNTS:
        assert alphabet_size is not None
        pseudocount = _PSEUDOCOUNTS[method](profile.n, alphabet_size)
        _, variance = dirichlet_moments(profile, alphabet_size, np.array([pseudocount]))
        return _dirichlet(profile, alphabet_size, pseudocount), sqrt(float(variance[0]))
    if method == "james_stein":
        assert alphabet_size is not None
        # Where the weight reaches 1 a jackknife would see no spread at all.
        return _james_stein(profile, alphabet_size), sqrt(_harris_variance(profile))
    value = FREE[method](profile)
    if method.startswith("chao"):
        return value, sqrt(_jackknife_variance(profile, leave_one_out(profile, FREE[method])))
    return value, sqrt(_harris_variance(profile))


def leave_one_out(profile: Profile, estimator: Callable[[Profile], float]) -> np.ndarray:
    """The estimates without one sample, for a sample of a value seen m times, for each size m."""
    sizes, number, n, distinct = profile
    values = np.full(len(sizes), nan)
    for j, size in enumerate(sizes.tolist()) if n > 1 else ():
        # The size below may then be there twice, which sums over the profile do not mind.
        kept = np.arange(len(sizes)) != j if number[j] == 1 else slice(None)
        lower = [size - 1] if size > 1 else []
        remaining = number - (np.arange(len(sizes)) == j)
        reduced = Profile(
            np.append(sizes[kept], lower).astype(sizes.dtype),
            np.append(remaining[kept], [1] * len(lower)).astype(number.dtype),
            n - 1,
            distinct - (size == 1),
        )
        values[j] = estimator(reduced)
    return values


def _jackknife_variance(profile: Profile, without: np.ndarray) -> float:
    sizes, number, n, distinct = profile
    # Where no value recurs, leaving out one sample or another is the same, and tells nothing of the spread.
    if n < 2 or distinct == n or isnan(without[0]):
        return nan
    share = sizes * number / n
    return (n - 1) * float(share @ (without - share @ without) ** 2)


def _harris_variance(profile: Profile) -> float:
    """Variance of the plug-in entropy to second order (Harris 1975)."""
    sizes, number, n, distinct = profile
    if n < 2:
        return nan
    information, share = np.log(n / sizes), sizes * number / n
    return float(share @ (information - share @ information) ** 2) / n + (distinct - 1) / (2 * n**2)
