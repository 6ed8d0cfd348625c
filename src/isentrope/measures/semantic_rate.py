r"""The rate R(G): the least Shannon information with which labels convey a semantic information G.

Truth functions take the place of a distortion; with $T=e^{-d}$ it is the curve of rate and distortion, told by information.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from isentrope.measures._laws import number
from isentrope.measures.estimate import unit_of
from isentrope.measures.semantic_information import _pointwise, _source

_GAP = 1e-10
_STEPS = 500
# By how much the sum of the labels' probabilities is heavier in least squares than what is to be fitted.
_SUM = 1e3


@dataclass(frozen=True, eq=False)
class SemanticRate:
    r"""A point of the curve R(G).

    Args:
        information: the semantic information G, in ``unit``.
        rate: the least Shannon information R that conveys it, in ``unit``; dR/dG is the slope that was given.
        labels: probability p(y) of each label.
        channel: probability p(y|x) of the labels, from rows x to columns y.
        mismatch: divergence of the source from the mixture $\sum_yp(y)p(x|\theta_y)$, in ``unit``; R - G where the slope is 1.
        unit: "nat", "bit", "hartley" or "log <base>".
    """

    information: float
    rate: float
    labels: Float[np.ndarray, " labels"]
    channel: Float[np.ndarray, "x labels"]
    mismatch: float
    unit: str


def semantic_rate(
    p: Float[np.ndarray, " x"] | npt.ArrayLike,
    truth: Float[np.ndarray, "x labels"] | npt.ArrayLike,
    slope: float,
    *,
    base: float | None = None,
) -> SemanticRate:
    r"""Least Shannon information with which labels convey a semantic information: the point of slope s of the curve R(G).

    .. math:: R(G) = \min_{I(X;Y_\theta)=G} I(X;Y), \qquad
        p(y_j|x) = \frac{p(y_j)\,m_{xj}^s}{\sum_k p(y_k)\,m_{xk}^s}, \qquad m_{xj} = \frac{T(\theta_j|x)}{T(\theta_j)}

    with $p(y_j)=\sum_xp(x)p(y_j|x)$, found by Newton steps until R is within 1e-10 nat of its least value at this slope; then
    $R = sG - \sum_x p(x)\ln\sum_jp(y_j)m_{xj}^s$. R is at least G. They are equal at slope 1 where some mixture of the
    predictions $p(x|\theta_j)$ is the source, and nowhere else. The labels at slope 1 are the weights of greatest likelihood of
    that mixture: for components $f_j(x)$ give truths proportional to $f_j(x)/p(x)$, and ``mismatch`` is what the fit misses. At slope 0 no label tells anything, R = 0, and all labels are
    taken to be equally probable.

    Args:
        p: probabilities of x.
        truth: truth $T(\theta_j|x)$ of each label, between 0 and 1, from rows x to columns j.
        slope: s = dR/dG. Between 0 and 1 rate is spent sparingly, above 1 for what little more can be told; below 0 labels
            mislead.
        base: base of the logarithm; None for nats, 2 for bits.

    Returns:
        The point of the curve with its labels and channel.

    Raises:
        ValueError: as `semantic_information` does; if the slope is not finite, or is at most 0 where a truth is 0; if an x is
            possible of which every label is false.
        ArithmeticError: if the iteration does not converge.

    References:
        Lu, "A Semantic Generalization of Shannon's Information Theory and Applications" (arXiv 2510.15871).

    Examples:
        >>> point = semantic_rate([0.3, 0.7], [[1.0, 0.2], [0.1, 1.0]], 1.0, base=2)
        >>> round(point.information, 5), round(point.rate, 5)
        (0.39182, 0.39182)
    """
    where = "semantic_rate"
    nats, unit = unit_of(base, where)
    source, truths = _source(p, truth, where)
    slope = number(where, "slope", slope)
    possible = source > 0
    if slope <= 0 and (truths[possible] == 0).any():
        raise ValueError(f"{where}: slope must be positive where a truth is 0 (got {slope})")
    if not truths[possible].any(axis=1).all():
        raise ValueError(f"{where}: of each possible x some label must be true in some degree")
    source, information = source[possible], _pointwise(source, truths)[possible]
    exponents = slope * information if slope else np.zeros_like(information)
    # Each row relative to its largest, so that steep slopes do not overflow.
    largest = exponents.max(axis=1, keepdims=True)
    weights = np.exp(exponents - largest)
    labels = _labels(where, source, weights)
    sums = weights @ labels
    channel = labels * weights / sums[:, None]
    finite = np.where(channel > 0, information, 0.0)
    meant = float(source @ np.sum(channel * finite, axis=1))
    rate = slope * meant - float(source @ (np.log(sums) + largest[:, 0]))
    mixture = source * (np.exp(information) @ labels)
    whole = np.tile(labels, (len(possible), 1))
    whole[possible] = channel
    return SemanticRate(
        information=meant / nats,
        rate=max(rate, 0.0) / nats,
        labels=labels,
        channel=whole,
        mismatch=max(float(source @ np.log(source / mixture)), 0.0) / nats if mixture.all() else np.inf,
        unit=unit,
    )


def _labels(where: str, source: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The law q of labels that maximises the sum of p(x) ln q·w(x), a concave function.

    With s = q'·w / q·w, ln s is about ½ - ½(s - 2)² near s = 1, which makes each Newton step a problem of least squares without
    negative parts. Blahut's iteration needs more than 100,000 steps where labels overlap much, these need some ten.
    """
    # Imported here because it takes as long as all of the room.
    from scipy.optimize import nnls

    labels, root, gap = np.full(weights.shape[1], 1 / weights.shape[1]), np.sqrt(source), np.inf
    for _ in range(_STEPS):
        ratios = weights / (weights @ labels)[:, None]
        growth = source @ ratios
        gap = float(np.log(growth.max()))
        # The rate is above its least value by at most the logarithm of the largest growth (Blahut).
        if gap <= _GAP:
            return labels
        fitted = np.vstack([root[:, None] * ratios, np.full_like(labels, _SUM)])
        found = nnls(fitted, np.append(2 * root, _SUM), maxiter=100 * len(labels))[0]
        step, length = found / found.sum() - labels, 1.0
        with np.errstate(divide="ignore"):
            while source @ np.log(1 + length * (ratios @ step)) < 1e-4 * length * (growth @ step) and length > 1e-9:
                length /= 2
        labels = np.maximum(labels + length * step, 0)
        labels /= labels.sum()
    raise ArithmeticError(f"{where}: after {_STEPS} steps the rate is only known to {gap:.1g} nat")
