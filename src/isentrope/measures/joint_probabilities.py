r"""Information among variables whose joint probabilities are known: a table with one axis for each variable.

Nothing is estimated here; of samples the same quantities are those of `isentrope.measures.discrete_mutual_information` and
its relatives. Every quantity is a mean logarithm of a ratio of marginal probabilities. Variables are named by their axes,
several may be read together, and those that are not named are summed over. Arrays, precision, gradients and zeros are
treated as in `isentrope.measures.entropies`.
"""

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace
from jaxtyping import Float

from isentrope.measures._array import ArrayLike, _as_array, on_support, read
from isentrope.measures.estimate import unit_of

Axes = int | Sequence[int]

_NORMALISERS = ("mean", "min", "max", "sqrt", "joint")


class SharedInformation(NamedTuple):
    """Information shared among many variables."""

    total_correlation: Any
    """By how much the variables alone have more entropy than together, $\\sum_i H(X_i) - H(X)$."""
    dual_total_correlation: Any
    """The part of the joint entropy that is shared, $H(X) - \\sum_i H(X_i|X_{-i})$."""

    @property
    def o_information(self) -> Any:
        """The first less the second: positive where redundancy prevails, negative where synergy does."""
        return self.total_correlation - self.dual_total_correlation

    @property
    def s_information(self) -> Any:
        """The sum of both."""
        return self.total_correlation + self.dual_total_correlation


def conditional_entropy_from_probabilities(
    p: ArrayLike, *, of: Axes = 0, given: Axes = 1, base: float | None = None, normalize: bool = False
) -> Float[Any, ""]:
    r"""Entropy of some variables where others are known, of a table of joint probabilities.

    .. math:: H(X | Z) = -\sum_{x, z} p(x, z) \log \frac{p(x, z)}{p(z)}

    Args:
        p: Joint probabilities with an axis for each variable, which sum to 1.
        of: Axis or axes of the variables whose entropy is asked for.
        given: Axis or axes of the variables that are known; ``()`` for none, which gives a joint entropy.
        base: Base of the logarithm; None for nats, 2 for bits.
        normalize: Divide ``p`` by its sum instead of requiring 1, as for a table of counts.

    Returns:
        The entropy in the unit of ``base``.

    Raises:
        TypeError: If the dtype is not real floating, or an axis is not an integer.
        ValueError: If probabilities are negative, not finite or do not sum to 1, or axes are out of range, named twice or
            missing.

    References:
        T. M. Cover and J. A. Thomas, Elements of Information Theory, 2006, chapter 2.

    Examples:
        >>> import numpy as np
        >>> float(conditional_entropy_from_probabilities(np.array([[0.5, 0.25], [0.0, 0.25]]), of=0, given=1, base=2))
        0.5
    """
    name = "conditional_entropy_from_probabilities"
    nats, _ = unit_of(base, name)
    table = _Table(name, p, normalize, of=of, given=given)
    of, given = table.axes
    return table.mean(table.log(given) - table.log(of + given), nats)


def mutual_information_from_probabilities(
    p: ArrayLike,
    *,
    x: Axes = 0,
    y: Axes = 1,
    given: Axes = (),
    normalized_by: str | None = None,
    base: float | None = None,
    normalize: bool = False,
) -> Float[Any, ""]:
    r"""Mutual information of two variables, also where others are known, of a table of joint probabilities.

    .. math:: I(X; Y | Z) = \sum_{x, y, z} p(x, y, z) \log \frac{p(x, y, z)\, p(z)}{p(x, z)\, p(y, z)}

    As a share, from 0 to 1, it is divided by the mean, the minimum, the maximum or the geometric mean (``"sqrt"``) of
    :math:`H(X|Z)` and :math:`H(Y|Z)`, or by ``"joint"``, :math:`H(X,Y|Z)`. By the mean it is the symmetric uncertainty
    :math:`2I/(H_x + H_y)`, by the joint entropy one minus `rajski_distance`. Where X or Y is certain the share is 0.

    Args:
        p: Joint probabilities with an axis for each variable, which sum to 1.
        x: Axis or axes of one variable.
        y: Axis or axes of the other.
        given: Axis or axes of the variables that are known.
        normalized_by: None for the information itself, or "mean", "min", "max", "sqrt" or "joint".
        base: Base of the logarithm; None for nats, 2 for bits. A share has none.
        normalize: Divide ``p`` by its sum instead of requiring 1, as for a table of counts.

    Returns:
        The information in the unit of ``base``, or the share.

    Raises:
        TypeError: As `conditional_entropy_from_probabilities` does.
        ValueError: As `conditional_entropy_from_probabilities` does, or if ``normalized_by`` is unknown, or ``base`` is given
            for a share.

    References:
        N. X. Vinh, J. Epps and J. Bailey, Information theoretic measures for clusterings comparison, 2010 (the shares).

    Examples:
        >>> import numpy as np
        >>> p = np.array([[0.5, 0.0], [0.25, 0.25]])
        >>> round(float(mutual_information_from_probabilities(p, base=2)), 4)
        0.3113
        >>> round(float(mutual_information_from_probabilities(p, normalized_by="mean")), 4)  # of H = 1 and 0.8113
        0.3437
        >>> parity = np.zeros((2, 2, 2))
        >>> parity[[0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 1, 0]] = 1 / 4
        >>> round(float(mutual_information_from_probabilities(parity, x=0, y=1, given=2, base=2)), 9)
        1.0
    """
    name = "mutual_information_from_probabilities"
    nats, _ = unit_of(base, name)
    if normalized_by is not None and normalized_by not in _NORMALISERS:
        raise ValueError(
            f"{name}: normalized_by must be None or one of {', '.join(_NORMALISERS)}, got {normalized_by!r}"
        )
    if normalized_by is not None and base is not None:
        raise ValueError(f"{name}: a share has no unit, so base must be None, got {base!r}")
    table = _Table(name, p, normalize, x=x, y=y, given=given)
    x, y, given = table.axes
    known, with_x, with_y, whole = (table.log(axes) for axes in (given, x + given, y + given, x + y + given))
    information = table.sum((whole + known) - (with_x + with_y))
    if normalized_by is None:
        return table.finish(information / nats)
    first, second, joint = (table.sum(known - one) for one in (with_x, with_y, whole))
    xp = table.xp
    # An entropy below the rounding of its terms is none.
    certain = (first < 1e-12) | (second < 1e-12)
    first, second, joint = (xp.where(certain, xp.ones_like(one), one) for one in (first, second, joint))
    scale = {
        "mean": (first + second) / 2,
        "min": xp.minimum(first, second),
        "max": xp.maximum(first, second),
        "sqrt": xp.sqrt(first * second),
        "joint": joint,
    }[normalized_by]
    return table.finish(xp.where(certain, xp.zeros_like(information), information / scale))


def shared_information_from_probabilities(
    p: ArrayLike,
    *,
    variables: Sequence[Axes] | None = None,
    given: Axes = (),
    base: float | None = None,
    normalize: bool = False,
) -> SharedInformation:
    r"""Total and dual total correlation, and with them the O- and S-information, of a table of joint probabilities.

    .. math:: T = \sum_i H(X_i | Z) - H(X | Z), \qquad D = H(X | Z) - \sum_i H(X_i | X_{-i}, Z), \qquad O = T - D

    Args:
        p: Joint probabilities with an axis for each variable, which sum to 1.
        variables: Axis or axes of each variable; None takes every axis that is not given.
        given: Axis or axes of the variables that are known.
        base: Base of the logarithm; None for nats, 2 for bits.
        normalize: Divide ``p`` by its sum instead of requiring 1, as for a table of counts.

    Returns:
        The total and the dual total correlation in the unit of ``base``; ``o_information`` and ``s_information`` are their
        difference and their sum.

    Raises:
        TypeError: As `conditional_entropy_from_probabilities` does.
        ValueError: As `conditional_entropy_from_probabilities` does, or if there are fewer than two variables.

    References:
        S. Watanabe, Information theoretical analysis of multivariate correlation, 1960; T. S. Han, Nonnegative entropy
        measures of multivariate symmetric correlations, 1978; arXiv 1902.11239 (F. E. Rosas, P. A. M. Mediano,
        M. Gastpar and H. J. Jensen).

    Examples:
        >>> import numpy as np
        >>> parity = np.zeros((2, 2, 2))
        >>> parity[[0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 1, 0]] = 1 / 4
        >>> found = shared_information_from_probabilities(parity, base=2)
        >>> [round(float(value), 9) for value in (*found, found.o_information)]
        [1.0, 2.0, -1.0]
    """
    name = "shared_information_from_probabilities"
    nats, _ = unit_of(base, name)
    table = _Table(name, p, normalize, variables=variables, given=given)
    *single, known = table.axes
    everything = sum(single, ())
    others = [tuple(axis for axis in everything if axis not in one) for one in single]
    whole, rest = table.log(everything + known), table.log(known)
    surplus = len(single) - 1
    total = whole + surplus * rest - sum(table.log(one + known) for one in single)
    dual = surplus * whole + rest - sum(table.log(one + known) for one in others)
    return SharedInformation(table.mean(total, nats), table.mean(dual, nats))


class _Table:
    """A table of probabilities without the variables that nobody named, and logarithms of its marginals."""

    def __init__(self, name: str, p: ArrayLike, normalize: bool, **named: Any):
        array = _as_array(name, "p", p)
        shape = tuple(array.shape)
        self.axes = named_axes(name, len(shape), named, "axes of p")
        flat = array_namespace(array).reshape(array, (prod(shape),))
        self.reading = read(name, axis=-1, normalize=normalize, p=(flat, None))
        self.xp = self.reading.xp
        self.p = self.xp.reshape(self.reading.distributions[0].p, shape)
        chosen = sum(self.axes, ())
        self.p = self._sum_over([axis for axis in range(len(shape)) if axis not in chosen])

    def log(self, axes: tuple[int, ...]) -> Any:
        """Logarithms of the probabilities of these variables, in the shape of the table."""
        marginal = self._sum_over([axis for axis in range(self.p.ndim) if axis not in axes])
        return self.xp.log(on_support(marginal > 0, marginal, 1.0, self.xp))

    def sum(self, values: Any) -> Any:
        return self.xp.sum(self.p * values)

    def mean(self, values: Any, nats: float) -> Any:
        return self.finish(self.sum(values) / nats)

    def finish(self, value: Any) -> Any:
        return self.reading.finish(value)

    def _sum_over(self, axes: list[int]) -> Any:
        return self.xp.sum(self.p, axis=tuple(axes), keepdims=True) if axes else self.p


def named_axes(name: str, dimensions: int, named: dict[str, Any], of: str) -> list[tuple[int, ...]]:
    """The axes of each variable, none of them twice; ``variables`` stands for several, or with None for all but the given."""
    wanted = dict(named)
    if "variables" in wanted:
        known = _axes_of(name, "given", wanted["given"], dimensions, of)
        several = wanted.pop("variables")
        single = [axis for axis in range(dimensions) if axis not in known] if several is None else several
        if len(single) < 2:
            raise ValueError(f"{name}: at least 2 variables are needed, got {len(single)}")
        wanted = {f"variable {i}": axes for i, axes in enumerate(single)} | wanted
    found: dict[str, tuple[int, ...]] = {}
    holder: dict[int, str] = {}
    for argument, axes in wanted.items():
        found[argument] = _axes_of(name, argument, axes, dimensions, of)
        if not found[argument] and argument != "given":
            raise ValueError(f"{name}: {argument} must name at least one of the {of}")
        for axis in found[argument]:
            if axis in holder:
                raise ValueError(f"{name}: {axis} is named twice, by {holder[axis]} and {argument}")
            holder[axis] = argument
    return list(found.values())


def _axes_of(name: str, argument: str, axes: Any, dimensions: int, of: str) -> tuple[int, ...]:
    given = tuple(axes) if isinstance(axes, Iterable) else (axes,)
    for axis in given:
        if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)):
            raise TypeError(f"{name}: {argument} must be an integer or several of them, got {axes!r}")
        if not -dimensions <= axis < dimensions:
            raise ValueError(f"{name}: {argument} names {axis}, but there are {dimensions} {of}")
    return tuple(int(axis) % dimensions for axis in given)
