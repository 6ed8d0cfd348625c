r"""Mutual information of discrete samples as a share of their entropies."""

from math import nan, sqrt
from typing import Any

import numpy as np

from isentrope.measures.discrete_information import Terms, _estimate, _named
from isentrope.measures.estimate import Estimate

# Each normaliser of H(X), H(Y) and H(X,Y), and its derivatives by them.
_SCALES = {
    "mean": lambda x, y, xy: ((x + y) / 2, (0.5, 0.5, 0.0)),
    "min": lambda x, y, xy: (min(x, y), (float(x <= y), float(x > y), 0.0)),
    "max": lambda x, y, xy: (max(x, y), (float(x > y), float(x <= y), 0.0)),
    "sqrt": lambda x, y, xy: (sqrt(max(x * y, 0)), (sqrt(y / x) / 2, sqrt(x / y) / 2, 0.0) if x * y > 0 else (0, 0, 0)),
    "joint": lambda x, y, xy: (xy, (0.0, 0.0, 1.0)),
}
_ENTROPIES: tuple[Terms, ...] = ({(0,): 1}, {(1,): 1}, {(0, 1): 1})


def discrete_normalized_mutual_information(
    x: Any, y: Any, *, normalized_by: str = "mean", method: str = "auto"
) -> Estimate:
    r"""Mutual information of two discrete variables as a share of their entropies, from 0 to 1.

    $$\frac{I(X;Y)}{D},\qquad D=\tfrac12[H(X)+H(Y)],\;\min,\;\max,\;\sqrt{H(X)H(Y)}\text{ or }H(X,Y)$$

    By the mean it is the symmetric uncertainty, which scores of clusterings and selections of features use. Every entropy
    is estimated by the same method: the plug-in, which other packages take, finds shares in independent variables of many
    values. The test shuffles x against y.

    Args:
        x: n values of a variable, or several columns.
        y: another variable, likewise.
        normalized_by: "mean", "min", "max", "sqrt" or "joint".
        method: estimator of each entropy, as in `discrete_mutual_information`.

    Returns:
        The share, with the unit "share" and the standard error of the delta method. It is not clipped: near independence
        half of the values are negative. Where x or y is constant it is 0.

    Raises:
        ValueError: if lengths differ, there are no samples or some are missing, or the method or normalized_by is unknown.
        TypeError: if a sample is not hashable.

    References:
        Vinh, Epps and Bailey (2010), "Information theoretic measures for clusterings comparison", Journal of Machine
        Learning Research 11, 2837.

    Examples:
        >>> x = [0, 0, 1, 1] * 100
        >>> discrete_normalized_mutual_information(x, [0, 0, 0, 1] * 100, method="plugin")
        Estimate(0.344 ± 0.027 share, plugin, n=400)
    """
    where = "discrete_normalized_mutual_information"
    if normalized_by not in _SCALES:
        raise ValueError(f"{where}: normalized_by must be one of {', '.join(_SCALES)} (got {normalized_by!r})")
    variables = _named(where, x=x, y=y)

    def entropies(data: list[np.ndarray], method: str, local: bool) -> list[Estimate]:
        return [_estimate(data, terms, method, None, where, local) for terms in _ENTROPIES]

    found = entropies(variables, method, True)
    share, slopes = _share(found, normalized_by)
    plain, _ = _share(entropies(variables, "plugin", False), normalized_by)
    n = found[0].n
    influence = sum(slope * np.asarray(one.local) for slope, one in zip(slopes, found, strict=True))

    def shuffled(generator: np.random.Generator) -> float:
        moved = [generator.permutation(variables[0]), variables[1]]
        together = _estimate(moved, _ENTROPIES[2], found[2].method, None, where, False)
        return _share([found[0], found[1], together], normalized_by)[0]

    return Estimate(
        share,
        float(np.std(influence, ddof=1)) / sqrt(n) if n > 1 else nan,
        unit="share",
        method=found[2].method,
        n=n,
        bias_correction=share - plain,
        note=found[2].note,
        shuffled=shuffled,
    )


def _share(entropies: list[Estimate], normalized_by: str) -> tuple[float, tuple[float, ...]]:
    """The share, and its derivatives by the three entropies."""
    x, y, together = map(float, entropies)
    scale, by_each = _SCALES[normalized_by](x, y, together)
    if scale <= 0 or min(x, y) <= 0:
        return 0.0, (0.0, 0.0, 0.0)
    share = (x + y - together) / scale
    return share, tuple((own - share * by) / scale for own, by in zip((1, 1, -1), by_each, strict=True))
