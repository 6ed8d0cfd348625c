"""A number estimated from samples, which knows how far to trust it.

A functional of known probabilities is exact and comes back as an array. An estimate from samples is a random number,
and comes back as an `Estimate`: a float that also carries its standard error, its unit and how it was made.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri

from isentrope._threads import threads_of

# Values from shuffled data that differ from the observed one by less than this, relatively, are equal to it: the same
# sum in another order.
_ROUNDING = 1e-12

# An error that would take more is written with a power of ten.
_MOST_DECIMALS = 9


@dataclass(frozen=True)
class ShuffleTest:
    """What `Estimate.test` found: the p-value, and the law of the estimate where there is no dependence.

    Args:
        pvalue: share of the shuffled values, the observed one among them, that reach the observed one.
        null_mean: mean of the shuffled values, in ``unit``: the bias that is left where there is no dependence.
        null_std: their standard deviation, in ``unit``.
        excess: the observed value less ``null_mean``, in ``unit``; of a transfer entropy, the effective one.
        n_resamples: how often the data were shuffled; fewer than asked where the test stopped early.
        unit: unit of the values.
    """

    pvalue: float
    null_mean: float
    null_std: float
    excess: float
    n_resamples: int
    unit: str = "nat"


@dataclass(frozen=True, eq=False, repr=False)
class Estimate(float):
    """An estimate from samples: a float with a standard error, a unit and a method.

    It compares, hashes, formats and computes as the float ``value``. Arithmetic returns a plain float, because the
    standard error of a sum or ratio depends on a covariance that two estimates do not know.

    Args:
        value: the estimate, in ``unit``.
        stderr: its standard error, in ``unit``; NaN where it is not known.
        unit: "nat", "bit" or "hartley" (to the base e, 2 or 10), or "log <base>".
        method: name of the estimator.
        n: number of samples used.
        bias_correction: what the method added to the uncorrected (plug-in) value, in ``unit``.
        note: how the data were read, where that was decided from them, and warnings about this value; or "".
        local: the pointwise values that the estimate is the mean of, in ``unit``, where the estimator was asked for
            them with ``local=True``; None otherwise.
        shuffled: the estimate, in ``unit``, from data that a given generator has shuffled so that the dependence is
            gone; None for a quantity that has no such null hypothesis, and in a process to which the estimate was sent.

    Examples:
        >>> entropy = Estimate(1.234, 0.012, method="miller_madow", n=1000)
        >>> entropy
        Estimate(1.234 ± 0.012 nat, miller_madow, n=1000)
        >>> entropy > 1, f"{entropy:.1f}", entropy + 1
        (True, '1.2', 2.234)
    """

    value: float
    stderr: float = math.nan
    unit: str = "nat"
    method: str = ""
    n: int = 0
    bias_correction: float = 0.0
    note: str = ""
    local: Float[np.ndarray, "..."] | None = None
    shuffled: Callable[[np.random.Generator], float] | None = None

    def __new__(cls, value: float, *args, **kwargs) -> "Estimate":
        """Make the float; the dataclass fills the fields."""
        return super().__new__(cls, value)

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", float(self))
        if self.stderr < 0:
            raise ValueError(f"Estimate: stderr must not be negative (got {self.stderr}); pass NaN if it is unknown")

    def __getstate__(self) -> dict:
        """Without the shuffles, which hold the data and cannot be sent to another process."""
        return {**self.__dict__, "shuffled": None}

    def __copy__(self) -> "Estimate":
        return self

    def __deepcopy__(self, memo: dict) -> "Estimate":
        return self

    def interval(self, confidence_level: float = 0.95) -> tuple[float, float]:
        r"""Central confidence interval of a normal law, $\hat H \pm z_{(1+c)/2}\,\mathrm{stderr}$.

        It covers the sampling error only: a bias that the estimator leaves is not in it.

        Args:
            confidence_level: probability c that the interval is to cover, between 0 and 1.

        Returns:
            The lower and the upper end, in ``unit``; NaN where the standard error is not known.

        Raises:
            ValueError: if the confidence level is not between 0 and 1.

        Examples:
            >>> low, high = Estimate(2.0, 0.1).interval()
            >>> f"{low:.3f} {high:.3f}"
            '1.804 2.196'
        """
        if not isinstance(confidence_level, Real) or not 0 < confidence_level < 1:
            raise ValueError(f"interval: confidence_level must lie between 0 and 1 (got {confidence_level!r})")
        half_width = float(ndtri((1 + confidence_level) / 2)) * self.stderr
        return self.value - half_width, self.value + half_width

    def test(
        self,
        n_resamples: int = 999,
        *,
        rng: int | np.random.Generator | None = None,
        n_jobs: int = 1,
        stop_after: int | None = None,
    ) -> ShuffleTest:
        r"""Test of no dependence: how often shuffled data reach the estimate.

        $$p=\frac{1+\#\{b:\hat I_b\ge\hat I\}}{1+B}$$

        for B shuffles, so that p is never 0, and 1 where shuffling changes nothing. Which data are shuffled, and what of
        them is kept, is said by the function that made the estimate. With ``stop_after=h`` the test ends at the first h
        shuffles that reach the estimate, after b in all, with $p=h/b$ (Besag and Clifford): a dependence that is not
        there is then recognised with few shuffles, and p stays valid.

        Args:
            n_resamples: number B of shuffles.
            rng: seed or generator. A seed gives the same answer for every ``n_jobs``.
            n_jobs: number of threads, -1 for all cores; the neighbour searches run in parallel.
            stop_after: number h of shuffled values that end the test early; None for no early end.

        Returns:
            The p-value with mean and standard deviation of the shuffled values.

        Raises:
            ValueError: if the estimate has no null hypothesis to be tested, or a number is not positive.

        References:
            Phipson and Smyth, "Permutation p-values should never be zero" (arXiv 1603.05766); Besag and Clifford
            (1991), "Sequential Monte Carlo p-values".

        Examples:
            >>> Estimate(4.0, shuffled=lambda generator: generator.normal()).test(99, rng=0).pvalue
            0.01
        """
        if self.shuffled is None:
            raise ValueError(
                f"test: an estimate by {self.method or 'this method'} has no shuffled null hypothesis, "
                "or was sent here by another process, without the data to shuffle"
            )
        check_at_least("test", "n_resamples", n_resamples, 1)
        if stop_after is not None:
            check_at_least("test", "stop_after", stop_after, 1)
        n_threads = threads_of("test", n_jobs)
        reached = self.value - _ROUNDING * max(1.0, abs(self.value))
        generators = generator_of("test", rng).spawn(n_resamples)
        null: list[float] = []
        exceeding = 0
        # Without an early end everything is one batch; with one, a batch is what may be done in vain.
        batch = n_resamples if stop_after is None else 8 * n_threads
        with ThreadPoolExecutor(n_threads) as threads:
            for start in range(0, n_resamples, batch):
                for value in threads.map(self.shuffled, generators[start : start + batch]):
                    null.append(value)
                    exceeding += value >= reached
                    if exceeding == stop_after:
                        break
                if exceeding == stop_after:
                    break
        stopped = exceeding == stop_after
        mean = float(np.mean(null))
        return ShuffleTest(
            pvalue=exceeding / len(null) if stopped else (exceeding + 1) / (n_resamples + 1),
            null_mean=mean,
            null_std=float(np.std(null, ddof=1)) if len(null) > 1 else math.nan,
            excess=self.value - mean,
            n_resamples=len(null),
            unit=self.unit,
        )

    def to_dict(self) -> dict[str, float | int | str | None]:
        """The fields as JSON knows them: a number that is not finite becomes None.

        Examples:
            >>> Estimate(0.5, unit="bit", method="plugin", n=8).to_dict()["stderr"] is None
            True
        """
        return {
            "value": _finite(self.value),
            "stderr": _finite(self.stderr),
            "unit": self.unit,
            "method": self.method,
            "n": self.n,
            "bias_correction": _finite(self.bias_correction),
            "note": self.note,
        }

    def __str__(self) -> str:
        return f"{_with_error(self.value, self.stderr)} {self.unit}"

    def __repr__(self) -> str:
        parts = [str(self), *([self.method] if self.method else []), *([f"n={self.n}"] if self.n else [])]
        return f"Estimate({', '.join(parts)}{f'; {self.note}' if self.note else ''})"


def unit_of(base: float | None, where: str) -> tuple[float, str]:
    """How many nats one unit to this base has, and the unit's name.

    Args:
        base: base of the logarithm; None for nats.
        where: name of the function that was given the base, for its error.

    Examples:
        >>> unit_of(None, "entropy"), unit_of(2, "entropy")[1], unit_of(10, "entropy")[1]
        ((1.0, 'nat'), 'bit', 'hartley')
    """
    if base is None:
        return 1.0, "nat"
    if not isinstance(base, Real) or not (0 < base < math.inf) or base == 1:
        raise ValueError(f"{where}: base must be positive and different from 1 (got {base!r}); None means nats")
    if base == math.e:
        return 1.0, "nat"
    return math.log(base), "bit" if base == 2 else "hartley" if base == 10 else f"log {base:g}"


def check_at_least(where: str, argument: str, number: object, least: int) -> None:
    """Refuse what is not an integer of at least ``least``."""
    if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < least:
        raise ValueError(f"{where}: {argument} must be an integer of at least {least} (got {number!r})")


def generator_of(where: str, rng: Any) -> np.random.Generator:
    """The generator of random numbers that an argument ``rng`` gives or seeds."""
    seed = rng is None or (isinstance(rng, int | np.integer) and not isinstance(rng, bool) and rng >= 0)
    if not seed and not isinstance(rng, np.random.Generator):
        raise TypeError(f"{where}: rng must be a non-negative integer, a numpy.random.Generator or None (got {rng!r})")
    return np.random.default_rng(rng)


def _finite(number: float) -> float | None:
    return float(number) if math.isfinite(number) else None


def _with_error(value: float, stderr: float) -> str:
    """Write ``value ± stderr`` with two figures of the error and as many decimals of the value."""
    if not math.isfinite(stderr):
        return f"{value:.6g}"
    if stderr == 0 or not math.isfinite(value):
        return f"{value:.6g} ± {stderr:.2g}"
    # Rounded to two figures first, so that 0.0996 is read as 0.10 and not as 0.100.
    decimals = max(0, 1 - math.floor(math.log10(float(f"{stderr:.1e}"))))
    if decimals > _MOST_DECIMALS:
        figures = math.floor(math.log10(abs(value) or stderr)) + decimals + 1
        return f"{value:.{min(max(figures, 2), 10)}g} ± {stderr:.2g}"
    return f"{value:.{decimals}f} ± {stderr:.{decimals}f}"
