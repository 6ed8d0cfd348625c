r"""Transfer entropy between all ordered pairs of many series, with p-values and false discovery rates.

Of Gaussian series it is $\frac12\ln(\sigma^2_{\text{own past}}/\sigma^2_{\text{both pasts}})$, half of Granger's causality:
every covariance of pairs and lags is read from one matrix, and the test is the F test of the regression. The other
methods are those of `transfer_entropy`, pair by pair.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import nan
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import fdtrc

from isentrope._threads import threads_of
from isentrope.measures._columns import columns_of_variables, correlations, numbers_of_variables
from isentrope.measures.estimate import check_at_least, generator_of, unit_of
from isentrope.measures.gaussian import gaussian_scores, log_determinant_correction
from isentrope.measures.transfer import transfer_entropy

_GAUSSIAN = ("gaussian", "gaussian_copula")
# A smallest eigenvalue of correlations below this is rounding: the variables are dependent.
_DEPENDENT = 1e-12


class Link(NamedTuple):
    """A transfer from one series to another that is unlikely to be chance."""

    source: str
    target: str
    value: float
    adjusted_pvalue: float


@dataclass(frozen=True, eq=False)
class TransferEntropyMatrix:
    """Transfer entropy from every series (rows) to every other (columns); 0 on the diagonal.

    Args:
        values: matrix ``[d, d]``, in ``unit``; `numpy.asarray` gives it.
        stderr: standard errors, likewise.
        pvalues: of no transfer, for each pair on its own; NaN on the diagonal, and where no test was asked for.
        unit: "nat", "bit", "hartley" or "log <base>".
        method: name of the estimator; "auto" where columns decided.
        n: number of time steps used.
        labels: names of the series.
    """

    values: Float[np.ndarray, "d d"]
    stderr: Float[np.ndarray, "d d"]
    pvalues: Float[np.ndarray, "d d"]
    unit: str
    method: str
    n: int
    labels: tuple[str, ...]

    def adjusted_pvalues(self, method: str = "bh") -> Float[np.ndarray, "d d"]:
        """The p-values adjusted for the number of pairs, so that those below q have a false discovery rate of at most q.

        Args:
            method: "bh" (Benjamini and Hochberg) or "by" (Benjamini and Yekutieli, for any dependence among the tests).

        Raises:
            ValueError: if there are no p-values, or the method is unknown.
        """
        from scipy.stats import false_discovery_control

        tested = ~np.eye(len(self.labels), dtype=bool)
        if np.isnan(self.pvalues[tested]).any():
            raise ValueError(
                "adjusted_pvalues: there are no p-values; ask transfer_entropy_matrix for n_resamples shuffles"
            )
        adjusted = np.full_like(self.pvalues, nan)
        adjusted[tested] = false_discovery_control(self.pvalues[tested], method=method)
        return adjusted

    def links(self, level: float = 0.05, method: str = "bh") -> list[Link]:
        """The pairs whose adjusted p-value is at most the level, the largest transfer first."""
        adjusted = self.adjusted_pvalues(method)
        rows, columns = np.nonzero(adjusted <= level)
        found = [
            Link(self.labels[i], self.labels[j], float(self.values[i, j]), float(adjusted[i, j]))
            for i, j in zip(rows, columns, strict=True)
        ]
        return sorted(found, key=lambda link: -link.value)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        """The values."""
        return np.array(self.values, dtype=dtype, copy=bool(copy))


def transfer_entropy_matrix(
    series: Any,
    *,
    lag: int = 1,
    source_history: int = 1,
    target_history: int = 1,
    method: str = "auto",
    k: int = 4,
    window: int = 0,
    n_resamples: int = 0,
    rng: int | np.random.Generator | None = None,
    base: float | None = None,
    n_jobs: int = 1,
) -> TransferEntropyMatrix:
    r"""Transfer entropy $T_{i\to j}=I(X_{j,t};\,X_{i,t-u},\dots,X_{i,t-u-l+1}\mid X_{j,t-1},\dots,X_{j,t-m})$ of all pairs.

    - ``"gaussian"``: $\frac12\ln\frac{\det\Sigma_{j,\text{past}_j}\det\Sigma_{\text{past}_j,\text{past}_i}}
      {\det\Sigma_{\text{past}_j}\det\Sigma_{j,\text{past}_j,\text{past}_i}}$ with log-determinants freed of their bias.
      The p-value is that of the F test of the regression of $X_{j,t}$ on both pasts against that on its own; the standard
      error is the delta method's, $\sqrt{R^2/T+l/2T^2}$ with the partial $R^2$ of the source's past and T steps.
    - ``"gaussian_copula"``: the same of the normal scores of ranks.
    - any other method of `transfer_entropy`, and "auto", by which columns decide: pair by pair. The p-values are those of
      `Estimate.test`, which shifts the source in time.

    Each pair is seen alone: a transfer through a third series, or from a common driver, counts like a direct one.

    Args:
        series: array ``[n, d]``, data frame, or list or tuple of d series of n values, in order of time.
        lag: steps u from the last source value that counts to the target's present.
        source_history: number l of source values.
        target_history: number m of target values.
        method: estimator, as above.
        k: number of neighbours, for methods that have them.
        window: times no more than so many steps apart are not neighbours.
        n_resamples: number of shuffles for each p-value; 0 for none. The Gaussian methods have p-values without.
        rng: seed or generator of the shuffles. A seed gives the same answer for every ``n_jobs``.
        base: base of the logarithm; None for nats, 2 for bits.
        n_jobs: number of threads; -1 for all cores.

    Returns:
        The matrices of values, standard errors and p-values. A constant series sends and receives exactly 0, with p = 1.

    Raises:
        ValueError: if there are fewer than 2 series, lengths differ, samples are missing, infinite or too few for the
            histories, series are linearly dependent (for the Gaussian methods), or an option is not accepted.
        TypeError: if a method for numbers is asked for symbols.

    References:
        Schreiber, "Measuring information transfer" (arXiv nlin/0001042); Barnett, Barrett and Seth, "Granger causality and
        transfer entropy are equivalent for Gaussian variables" (arXiv 0910.4514); Benjamini and Hochberg (1995),
        "Controlling the false discovery rate".

    Examples:
        >>> x, noise = np.random.default_rng(0).normal(size=(2, 2000))
        >>> y = np.roll(x, 1) + noise  # the truth is ln(2)/2 = 0.347 from x to y
        >>> found = transfer_entropy_matrix([x, y], method="gaussian")
        >>> found.values.round(1)
        array([[ 0. ,  0.3],
               [-0. ,  0. ]])
        >>> [(link.source, link.target) for link in found.links()]
        [('0', '1')]
    """
    where = "transfer_entropy_matrix"
    nats, unit = unit_of(base, where)
    for argument, number, least in (
        ("lag", lag, 1),
        ("source_history", source_history, 1),
        ("target_history", target_history, 1),
        ("n_resamples", n_resamples, 0),
    ):
        check_at_least(where, argument, number, least)
    n_threads = threads_of(where, n_jobs)
    if method in _GAUSSIAN:
        matrix, labels = numbers_of_variables(where, series)
        lost = max(target_history, lag + source_history - 1)
        steps = len(matrix) - lost
        if steps < 3 + target_history + source_history:
            raise ValueError(
                f"{where}: {len(matrix)} samples are too few for lag={lag}, source_history={source_history} and "
                f"target_history={target_history}"
            )
        values, stderr, pvalues = _gaussian(
            where, matrix, labels, range(lag, lag + source_history), range(1, target_history + 1), lost, method
        )
        return TransferEntropyMatrix(values / nats, stderr / nats, pvalues, unit, method, steps, labels)
    columns, labels = columns_of_variables(where, series)
    d = len(columns)
    if d < 2:
        raise ValueError(f"{where}: at least 2 series are needed (got {d})")
    pairs = [(i, j) for i in range(d) for j in range(d) if i != j]
    generators = generator_of(where, rng).spawn(len(pairs))

    def measure(pair: tuple[int, int], generator: np.random.Generator) -> tuple[float, float, float, int]:
        source, target = (columns[i] for i in pair)
        found = transfer_entropy(
            source,
            target,
            lag=lag,
            source_history=source_history,
            target_history=target_history,
            method=method,
            k=k,
            window=window,
            base=base,
            n_jobs=1,
        )
        pvalue = found.test(n_resamples, rng=generator).pvalue if n_resamples else nan
        return found.value, found.stderr, pvalue, found.n

    with ThreadPoolExecutor(n_threads) as threads:
        measured = list(threads.map(measure, pairs, generators))
    values, stderr, pvalues = np.zeros((d, d)), np.zeros((d, d)), np.full((d, d), nan)
    for (i, j), (value, error, pvalue, _) in zip(pairs, measured, strict=True):
        values[i, j], stderr[i, j], pvalues[i, j] = value, error, pvalue
    return TransferEntropyMatrix(values, stderr, pvalues, unit, method, measured[0][3], labels)


def _gaussian(
    where: str, matrix: np.ndarray, labels: tuple[str, ...], sent: range, known: range, lost: int, method: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values and standard errors in nats, and p-values."""
    n, d = matrix.shape
    steps = n - lost
    # Column lag * d + i holds series i so many steps back.
    lagged = np.concatenate([matrix[lost - lag : n - lag] for lag in range(lost + 1)], axis=1)
    correlation, varying = correlations(gaussian_scores(lagged) if method == "gaussian_copula" else lagged)
    largest = 1 + len(known) + len(sent)
    correction = np.array([log_determinant_correction(steps, size) for size in range(largest + 1)])

    def half_log_determinant(chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of the correlations of the columns chosen in each row, and half of what frees it of bias."""
        eigenvalues = np.linalg.eigvalsh(correlation[chosen[:, :, None], chosen[:, None, :]])
        if (dependent := eigenvalues[:, 0] < _DEPENDENT).any():
            names = dict.fromkeys(labels[column % d] for column in chosen[np.argmax(dependent)])
            raise ValueError(
                f"{where}: the values of {' and '.join(names)} at these lags are linearly dependent; leave one series out"
            )
        return np.log(eigenvalues).sum(axis=1) / 2, correction[varying[chosen].sum(axis=1)] / 2

    values, stderr, pvalues = np.zeros((d, d)), np.zeros((d, d)), np.full((d, d), nan)
    for target in range(d):
        sources = np.array([i for i in range(d) if i != target])
        present = np.full((d - 1, 1), target)
        past = np.array([lag * d + target for lag in known])[None, :].repeat(d - 1, axis=0)
        theirs = sources[:, None] + d * np.array(sent)[None, :]
        plain, correct = np.zeros(d - 1), np.zeros(d - 1)
        for sign, parts in (
            (1, (present, past)),
            (1, (past, theirs)),
            (-1, (past,)),
            (-1, (present, past, theirs)),
        ):
            half, bias = half_log_determinant(np.concatenate(parts, axis=1))
            plain += sign * half
            correct += sign * bias
        freedom = varying[theirs].sum(axis=1)
        rest = steps - 1 - varying[past].sum(axis=1) - freedom
        informed = (freedom > 0) & varying[target]
        plain = np.maximum(plain, 0.0)
        values[sources, target] = np.where(informed, plain + correct, 0.0)
        explained = -np.expm1(-2 * plain)
        stderr[sources, target] = np.where(informed, np.sqrt(explained / steps + freedom / (2 * steps**2)), 0.0)
        ratio = np.expm1(2 * plain) * rest / np.maximum(freedom, 1)
        pvalues[sources, target] = np.where(informed, fdtrc(np.maximum(freedom, 1), rest, ratio), 1.0)
    return values, stderr, pvalues
