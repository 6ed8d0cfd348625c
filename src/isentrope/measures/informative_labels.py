r"""Labels that keep the most information: observations are sorted into few classes by what they tell of something else.

Each label has a truth function, each observation takes the label that tells the most of it, and the truth functions are fitted
to how labels are used: both steps can only add information.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Int
from scipy.special import entr

from isentrope.measures._laws import law_of, shannon
from isentrope.measures.estimate import check_at_least, generator_of, unit_of

_STEPS = 1000
# Stands for the logarithm of 0, of which 0 times is 0.
_NEVER = -1e300


@dataclass(frozen=True, eq=False)
class InformativeLabels:
    """A label for each observation.

    Args:
        labels: label of each observation, from 0; -1 for observations that do not occur.
        information: mutual information I(X; Y) of the labels, in ``unit``.
        bound: that of the observations, I(X; Z), which no labels exceed, in ``unit``.
        unit: "nat", "bit", "hartley" or "log <base>".
    """

    labels: Int[np.ndarray, " observations"]
    information: float
    bound: float
    unit: str


def informative_labels(
    joint: Float[np.ndarray, "x observations"] | npt.ArrayLike,
    n_labels: int,
    *,
    n_starts: int = 20,
    rng: int | np.random.Generator | None = None,
    base: float | None = None,
) -> InformativeLabels:
    r"""Labels of observations z that tell the most of x, for a given number of labels.

    .. math:: y(z) = \arg\max_j \sum_x p(x|z)\, I(x;\theta_j), \qquad
        I(x;\theta_j) = \ln\frac{T(\theta_j|x)}{T(\theta_j)}, \qquad T(\theta_j|x) \propto p(y_j|x)

    in turn until no label changes and no change of a single one tells more, from several starts, of which the best is
    returned. The information never falls; it is that of the best labels only where a start leads there. For an x of two values the best labels are intervals of p(x|z), and 20
    starts find them in 98 of 100 random laws of 12 observations and 3 labels.

    Args:
        joint: probability p(x, z) of each x with each observation z.
        n_labels: number of labels; some may stay unused.
        n_starts: number of random starts.
        rng: seed or generator.
        base: base of the logarithm; None for nats, 2 for bits.

    Returns:
        The labels with their information.

    Raises:
        ValueError: if joint is negative, not finite or does not sum to 1, numbers are not whole or less than 1, or the base is
            unknown.
        TypeError: if values are not numbers.

    References:
        Lu, "A Semantic Generalization of Shannon's Information Theory and Applications" (arXiv 2510.15871).

    Examples:
        >>> found = informative_labels([[0.2, 0.15, 0.1, 0.0], [0.0, 0.05, 0.2, 0.3]], 2, rng=0, base=2)
        >>> (found.labels == found.labels[0]).tolist()
        [True, True, False, False]
        >>> round(found.information, 4), round(found.bound, 4)
        (0.3853, 0.555)
    """
    where = "informative_labels"
    nats, unit = unit_of(base, where)
    whole = law_of(where, "joint", joint, axes=2)
    check_at_least(where, "n_labels", n_labels, 1)
    check_at_least(where, "n_starts", n_starts, 1)
    generator = generator_of(where, rng)
    occurring = whole.any(axis=0)
    p = whole[:, occurring]
    found = (_labels_from(generator.integers(n_labels, size=p.shape[1]), p, n_labels) for _ in range(n_starts))
    best = max(found, key=lambda labels: _information(_used(labels, p, n_labels)))
    labels = np.full(whole.shape[1], -1)
    labels[occurring] = best
    return InformativeLabels(
        labels=labels,
        information=_information(_used(best, p, n_labels)) / nats,
        bound=_information(p) / nats,
        unit=unit,
    )


def _labels_from(labels: np.ndarray, p: np.ndarray, n_labels: int) -> np.ndarray:
    source = p.sum(axis=1, keepdims=True)
    for _ in range(_STEPS):
        joint = _used(labels, p, n_labels)
        lift = joint / (np.where(source > 0, source, 1) * np.where(joint.any(axis=0), joint.sum(axis=0), 1))
        told = np.where(lift > 0, np.log(np.where(lift > 0, lift, 1)), _NEVER)
        better = np.argmax(p.T @ told, axis=1)
        if (better == labels).all():
            better = _moved(labels, p, joint)
        if (better == labels).all():
            break
        labels = better
    return labels


def _moved(labels: np.ndarray, p: np.ndarray, joint: np.ndarray) -> np.ndarray:
    """The labels with that of one observation changed so that they tell the most more, if any change does."""
    kept, each = _told(joint), np.arange(len(labels))
    less = _told(np.maximum(joint[:, labels] - p, 0)) - kept[labels]
    more = _told(joint[:, None, :] + p[:, :, None]) - kept
    more[each, labels] = -less
    gain = less[:, None] + more
    z, label = np.unravel_index(int(np.argmax(gain)), gain.shape)
    return np.where(each == z, label, labels) if gain[z, label] > 1e-12 else labels


def _told(columns: np.ndarray) -> np.ndarray:
    """What each column of a joint law adds to the information, less the entropy of x."""
    return entr(columns.sum(axis=0)) - entr(columns).sum(axis=0)


def _used(labels: np.ndarray, p: np.ndarray, n_labels: int) -> np.ndarray:
    """The law of x with the labels."""
    return p @ np.eye(n_labels)[labels]


def _information(p: np.ndarray) -> float:
    return max(shannon(p.sum(axis=0)) + shannon(p.sum(axis=1)) - shannon(p), 0.0)
