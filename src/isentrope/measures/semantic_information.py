r"""Semantic information by truth functions (G theory).

A truth function $T(\theta_j|x)\in[0,1]$ says how true the label j is of x; it takes the place of a distortion. Its logical
probability $T(\theta_j)=\sum_xp(x)T(\theta_j|x)$ makes of it a prediction $p(x|\theta_j)=p(x)T(\theta_j|x)/T(\theta_j)$. What
the label tells of x is

$$I(x;\theta_j)=\ln\frac{T(\theta_j|x)}{T(\theta_j)}=\ln\frac{p(x|\theta_j)}{p(x)}$$

negative where it misleads, and more where the label is less probable and still true. The least rate that conveys it is that of
`isentrope.measures.semantic_rate`.
"""

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from isentrope.measures._laws import conditional_law, law_of, weights
from isentrope.measures.estimate import unit_of


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
    p = conditional_law(where, "channel", channel)
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
    pairs = law_of(where, "joint", joint, axes=2)
    p, truths = _source(pairs.sum(axis=1), truth, where)
    if truths.shape != pairs.shape:
        raise ValueError(f"{where}: truth must have the shape of joint, {pairs.shape} (got {truths.shape})")
    information, used = _pointwise(p, truths), pairs > 0
    return float(pairs[used] @ information[used]) / nats


def _source(p: npt.ArrayLike, truth: npt.ArrayLike, where: str) -> tuple[np.ndarray, np.ndarray]:
    source, truths = law_of(where, "p", p), weights(where, "truth", truth)
    if truths.ndim != 2 or truths.shape[0] != len(source) or truths.shape[1] == 0:
        raise ValueError(
            f"{where}: truth must have a row for each of the {len(source)} probabilities and a column for each label "
            f"(got shape {truths.shape})"
        )
    if truths.max() > 1:
        raise ValueError(f"{where}: truth must be between 0 and 1 (the greatest is {truths.max():.6g})")
    if not (source @ truths > 0).all():
        raise ValueError(f"{where}: each label in truth must be true, in some degree, of some x that is possible")
    return source, truths


def _pointwise(p: np.ndarray, truths: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(truths / (p @ truths))
