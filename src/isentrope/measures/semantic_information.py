r"""Semantic information by truth functions (G theory), and the rate R(G) that it needs at least.

A truth function $T(\theta_j|x)\in[0,1]$ says how true the label j is of x; it takes the place of a distortion. Its logical
probability $T(\theta_j)=\sum_xp(x)T(\theta_j|x)$ makes of it a prediction $p(x|\theta_j)=p(x)T(\theta_j|x)/T(\theta_j)$. What
the label tells of x is

$$I(x;\theta_j)=\ln\frac{T(\theta_j|x)}{T(\theta_j)}=\ln\frac{p(x|\theta_j)}{p(x)}$$

negative where it misleads, and more where the label is less probable and still true.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from isentrope.measures.estimate import unit_of

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


def truth_function(channel: Float[np.ndarray, "x labels"] | npt.ArrayLike) -> Float[np.ndarray, "x labels"]:
    r"""Truth functions that a channel of labels is best described by.

    .. math:: T^*(\theta_j|x) = p(y_j|x) / \max_x p(y_j|x)

    With them each prediction $p(x|\theta_j)$ is $p(x|y_j)$, and the semantic information is Shannon's, whatever the source.

    Args:
        channel: probability p(y|x) of each label, from rows x to columns y.

    Returns:
        The truth functions, each 1 where it is truest; 1 everywhere for a label that never occurs.

    Raises:
        ValueError: if rows are not probabilities that sum to 1.

    References:
        Lu, "A Semantic Generalization of Shannon's Information Theory and Applications" (arXiv 2510.15871).

    Examples:
        >>> truth_function([[0.8, 0.2], [0.1, 0.9]]).round(3)
        array([[1.   , 0.222],
               [0.125, 1.   ]])
    """
    where = "truth_function"
    p = _numbers(channel, "channel", where)
    if not np.allclose(p.sum(axis=1), 1, rtol=0, atol=1e-6):
        raise ValueError(f"{where}: rows of channel must sum to 1")
    most = p.max(axis=0)
    return np.where(most > 0, p / np.where(most > 0, most, 1), 1.0)


def semantic_information(
    p: Float[np.ndarray, " x"] | npt.ArrayLike,
    truth: Float[np.ndarray, "x labels"] | npt.ArrayLike,
    *,
    base: float | None = None,
) -> Float[np.ndarray, "x labels"]:
    r"""Semantic information of each label about each x.

    .. math:: I(x;\theta_j) = \ln\frac{T(\theta_j|x)}{T(\theta_j)}, \qquad T(\theta_j) = \sum_x p(x) T(\theta_j|x)

    Args:
        p: probabilities of x.
        truth: truth $T(\theta_j|x)$ of each label, between 0 and 1, from rows x to columns j.
        base: base of the logarithm; None for nats, 2 for bits.

    Returns:
        The informations; minus infinity where a label is false.

    Raises:
        ValueError: if p are not probabilities that sum to 1, truths are not between 0 and 1, a label is false of all that is
            possible, shapes do not fit, or the base is unknown.

    References:
        Lu, "A Semantic Generalization of Shannon's Information Theory and Applications" (arXiv 2510.15871).

    Examples:
        >>> semantic_information([0.25, 0.75], [[1.0, 1.0], [0.0, 1.0]], base=2)  # "it is the first", "it is either"
        array([[  2.,   0.],
               [-inf,   0.]])
    """
    where = "semantic_information"
    nats, _ = unit_of(base, where)
    return _pointwise(*_source(p, truth, where)) / nats


def semantic_mutual_information(
    joint: Float[np.ndarray, "x labels"] | npt.ArrayLike,
    truth: Float[np.ndarray, "x labels"] | npt.ArrayLike,
    *,
    base: float | None = None,
) -> float:
    r"""Mean semantic information of labels that are used by a joint law.

    .. math:: I(X;Y_\theta) = \sum_{x,j} p(x,y_j)\ln\frac{T(\theta_j|x)}{T(\theta_j)} = H(Y_\theta) - H(Y_\theta|X)
        \le I(X;Y)

    with the entropy $H(Y_\theta)=-\sum_jp(y_j)\ln T(\theta_j)$ and the fuzzy entropy
    $H(Y_\theta|X)=-\sum p(x,y_j)\ln T(\theta_j|x)$, which is the mean distortion d where $T=e^{-d}$. It is Shannon's information
    less the divergence of the predictions from the truth, and equal to it for the truth functions of `truth_function`.

    Args:
        joint: probability p(x, y) of each x with each label.
        truth: truth $T(\theta_j|x)$ of each label, between 0 and 1, from rows x to columns j.
        base: base of the logarithm; None for nats, 2 for bits.

    Returns:
        The information; minus infinity where a label is used of what it is false of.

    Raises:
        ValueError: as `semantic_information` does, for the law of x in the joint law.

    References:
        Lu, "A Semantic Generalization of Shannon's Information Theory and Applications" (arXiv 2510.15871).

    Examples:
        >>> round(semantic_mutual_information([[0.24, 0.06], [0.07, 0.63]], [[1, 2 / 9], [1 / 8, 1]], base=2), 6)
        0.348298
    """
    where = "semantic_mutual_information"
    nats, _ = unit_of(base, where)
    law = _numbers(joint, "joint", where)
    if abs(law.sum() - 1) > 1e-6:
        raise ValueError(f"{where}: probabilities in joint must sum to 1 (got {law.sum():.6g})")
    law = law / law.sum()
    p, truths = _source(law.sum(axis=1), truth, where)
    if truths.shape != law.shape:
        raise ValueError(f"{where}: truth must have the shape of joint, {law.shape} (got {truths.shape})")
    information, used = _pointwise(p, truths), law > 0
    return float(law[used] @ information[used]) / nats


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
    predictions $p(x|\theta_j)$ is the source, and nowhere else. At slope 0 no label tells anything, R = 0, and all labels are
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
    if not np.isfinite(slope):
        raise ValueError(f"{where}: slope must be finite (got {slope})")
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


def _numbers(values: npt.ArrayLike, argument: str, where: str) -> np.ndarray:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 2:
        raise ValueError(f"{where}: {argument} must have the axes x, label (got shape {numbers.shape})")
    if not (np.isfinite(numbers) & (numbers >= 0)).all():
        raise ValueError(f"{where}: {argument} must be finite and not negative")
    return numbers


def _source(p: npt.ArrayLike, truth: npt.ArrayLike, where: str) -> tuple[np.ndarray, np.ndarray]:
    source, truths = np.asarray(p, dtype=np.float64), _numbers(truth, "truth", where)
    if source.shape != truths.shape[:1]:
        raise ValueError(
            f"{where}: truth must have a row for each of the probabilities (got {truths.shape}, {source.shape})"
        )
    if not (np.isfinite(source) & (source >= 0)).all() or abs(source.sum() - 1) > 1e-6:
        raise ValueError(f"{where}: probabilities must be finite, not negative and sum to 1 (sum {source.sum():.6g})")
    if truths.max() > 1:
        raise ValueError(f"{where}: truths must be between 0 and 1 (the greatest is {truths.max():.6g})")
    if not (source @ truths > 0).all():
        raise ValueError(f"{where}: each label must be true, in some degree, of some x that is possible")
    return source / source.sum(), truths


def _pointwise(p: np.ndarray, truths: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(truths / (p @ truths))
