r"""Confirmation of a rule "if e then h": how far evidence supports it, by counterexamples instead of by what is usual."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from isentrope.measures._laws import law_of


class Confirmation(NamedTuple):
    """How far a rule "if e then h" is confirmed, from -1, where the opposite rule is certain, to 1, where it is."""

    channel: float
    """b*, of the channel from h to e: whether e tells h apart from its opposite, however frequent h is."""
    prediction: float
    """c*, of the prediction: whether h is to be expected after e."""


def confirmation(joint: Float[np.ndarray, "2 2"] | npt.ArrayLike) -> Confirmation:
    r"""Confirmation of the rule "if e then h", of the channel and of the prediction.

    .. math:: b^* = \frac{P(e|h)-P(e|\bar h)}{\max(P(e|h),P(e|\bar h))}, \qquad
        c^* = \frac{P(h|e)-P(\bar h|e)}{\max(P(h|e),P(\bar h|e))}

    b* is a function of the likelihood ratio alone, $1-1/r$ for $r\ge1$ and $r-1$ below; where it is positive, $1-b^*$ is how true
    the best truth function of e is of $\bar h$ (`truth_function`). A test for a disease: b* is a property of the test, c* also of
    how frequent the disease is.

    Args:
        joint: probabilities with the axes h (true, false) and e (present, absent).

    Returns:
        Both confirmations; NaN is never among them.

    Raises:
        ValueError: if joint has not the shape (2, 2), is not finite, negative or does not sum to 1, if e never occurs, or if h
            is always true or never.
        TypeError: if values are not numbers.

    References:
        Lu, "A Semantic Generalization of Shannon's Information Theory and Applications" (arXiv 2510.15871).

    Examples:
        >>> ill = [0.0009, 0.0001]  # one in a thousand is ill; of those the test finds nine in ten
        >>> well = [0.04995, 0.94905]  # of the others it finds one in twenty
        >>> found = confirmation([ill, well])
        >>> round(found.channel, 4), round(found.prediction, 4)  # a good test, and yet most that it finds are well
        (0.9444, -0.982)
    """
    where = "confirmation"
    p = law_of(where, "joint", joint, axes=2)
    if p.shape != (2, 2):
        raise ValueError(f"{where}: joint must have the shape (2, 2) (got {p.shape})")
    hypotheses = p.sum(axis=1)
    if not hypotheses.all():
        raise ValueError(f"{where}: joint must have h true and false at times (probabilities {hypotheses})")
    if not p[:, 0].any():
        raise ValueError(f"{where}: joint must have e at times (its probability is 0)")
    return Confirmation(*(float((a - b) / max(a, b)) for a, b in (p[:, 0] / hypotheses, p[:, 0])))
