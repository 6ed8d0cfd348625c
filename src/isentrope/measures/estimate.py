"""A number estimated from samples, which knows how far to trust it.

A functional of known probabilities is exact and comes back as an array. An estimate from samples is a random number,
and comes back as an `Estimate`: a float that also carries its standard error, its unit and how it was made.
"""

import math
from dataclasses import dataclass

from scipy.special import ndtri


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
        note: a warning about this value for the reader, or "".

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

    def __new__(cls, value: float, *args, **kwargs) -> "Estimate":
        """Make the float; the dataclass fills the fields."""
        return super().__new__(cls, value)

    def __post_init__(self) -> None:
        if self.stderr < 0:
            raise ValueError(f"Estimate: stderr must not be negative (got {self.stderr}); pass NaN if it is unknown")

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
        if not 0 < confidence_level < 1:
            raise ValueError(f"interval: confidence_level must lie between 0 and 1 (got {confidence_level})")
        half_width = float(ndtri((1 + confidence_level) / 2)) * self.stderr
        return self.value - half_width, self.value + half_width

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
    if base is None or base == math.e:
        return 1.0, "nat"
    if not (0 < base < math.inf) or base == 1:
        raise ValueError(f"{where}: base must be positive and different from 1 (got {base}); None means nats")
    return math.log(base), "bit" if base == 2 else "hartley" if base == 10 else f"log {base:g}"


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
    return f"{value:.{decimals}f} ± {stderr:.{decimals}f}"
