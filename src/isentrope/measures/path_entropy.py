r"""Entropy of paths: ensembles driven by forces on a current, and the information that a step loses.

Maximal entropy over whole paths Γ instead of states, under what is known of their currents, gives

$$P(\Gamma)=P_0(\Gamma)\,e^{\sum_k\lambda_kJ_k(\Gamma)}/Z,\qquad F[\lambda]=\ln Z,\qquad
\langle J_k\rangle=\frac{\partial F}{\partial\lambda_k},\qquad
\frac{\partial\langle J_k\rangle}{\partial\lambda_l}=\mathrm{Cov}(J_k,J_l)$$

however strong the forces λ: a fluctuation-dissipation relation arbitrarily far from equilibrium. Forces have the sign with
which they drive their current, opposite to the multipliers of `isentrope.measures.maximum_entropy`. The stationary chain whose
currents have given means is that of `isentrope.measures.maximum_caliber`.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from isentrope.measures._laws import conditional_law, law_of, numbers
from isentrope.measures.estimate import unit_of


@dataclass(frozen=True, eq=False)
class PathEnsemble:
    """Paths of finite length, weighted by forces on their current.

    Args:
        free_energy: ln Z, the logarithm of the mean weight, in nats.
        means: mean current of each step.
        covariance: covariance of the currents of two steps: the response of one to the force at the other.
        marginals: probabilities of the states before the first step and after each.
        transitions: probabilities of each step of the driven chain, whose paths these are.
    """

    free_energy: float
    means: Float[np.ndarray, " steps"]
    covariance: Float[np.ndarray, "steps steps"]
    marginals: Float[np.ndarray, "steps+1 states"]
    transitions: Float[np.ndarray, "steps states states"]


def path_ensemble(
    initial: Float[np.ndarray, " states"] | npt.ArrayLike,
    transitions: Float[np.ndarray, "states states"] | npt.ArrayLike,
    current: Float[np.ndarray, "states states"] | npt.ArrayLike,
    forces: Float[np.ndarray, " steps"] | npt.ArrayLike,
) -> PathEnsemble:
    r"""Paths of a Markov chain, weighted by a force on a current at each step.

    .. math:: P(\Gamma) = P_0(\Gamma)\, e^{\sum_t \lambda_t j(x_t, x_{t+1})} / Z

    The backward recursion of the weights makes of it a chain again, with transition probabilities of its own at each step
    (Doob's transform), and an initial distribution of its own.

    Args:
        initial: probabilities of the first state.
        transitions: probabilities $P_0(x'|x)$ of the undriven steps, from rows to columns.
        current: value $j(x,x')$ at each step.
        forces: force $\lambda_t$ at each step, in the inverse unit of the current.

    Returns:
        Free energy, mean currents, their covariance, and the driven chain.

    Raises:
        ValueError: if shapes do not fit, a value is not finite, probabilities are negative or do not sum to 1, or a force is
            so strong that weights leave the range of float64.
        TypeError: if values are not numbers.

    References:
        Rogers, Beck and Rempe, "Information Theory and Statistical Mechanics Revisited" (arXiv 1105.5662).

    Examples:
        >>> import numpy as np
        >>> hop = path_ensemble([1.0], [[1.0]], [[2.0]], [0.5, 0.25])  # one state: each step carries 2
        >>> hop.free_energy, hop.means
        (1.5, array([2., 2.]))
    """
    where = "path_ensemble"
    p0, kernel = _chain(initial, transitions, where)
    j, force = numbers(where, "current", current), numbers(where, "forces", forces)
    if j.shape != kernel.shape:
        raise ValueError(f"{where}: current must have the shape of transitions, {kernel.shape} (got {j.shape})")
    if force.ndim != 1:
        raise ValueError(f"{where}: forces must have one value for each step (got shape {force.shape})")
    driven = np.empty((len(force), *kernel.shape))
    ahead, free_energy = np.ones(len(p0)), 0.0
    for t in reversed(range(len(force))):
        exponents = np.where(kernel > 0, force[t] * j, -np.inf)
        largest = exponents.max()
        weighted = kernel * np.exp(exponents - largest) * ahead
        total = weighted.sum(axis=1)
        if not (total > 0).all():
            raise ValueError(f"{where}: the force {force[t]:g} at step {t} is too strong for float64")
        driven[t] = weighted / total[:, None]
        free_energy += float(largest + np.log(total.max()))
        ahead = total / total.max()
    marginals = np.empty((len(force) + 1, len(p0)))
    marginals[0] = p0 * ahead / (p0 @ ahead)
    for t, step in enumerate(driven):
        marginals[t + 1] = marginals[t] @ step
    flows = marginals[:-1, :, None] * driven
    means = np.einsum("txy,xy->t", flows, j)
    from_state = np.einsum("txy,txy->tx", driven, j - means[:, None, None])
    covariance = np.diag(np.einsum("txy,txy->t", flows, (j - means[:, None, None]) ** 2))
    # For each step, what it is expected to have carried, by the state that the walk is in some steps later.
    carried = np.einsum("txy,txy->ty", flows, j - means[:, None, None])
    for lag in range(1, len(force)):
        carried = carried[: len(force) - lag]
        steps = np.arange(len(carried))
        covariance[steps, steps + lag] = covariance[steps + lag, steps] = np.sum(carried * from_state[lag:], axis=1)
        carried = (carried[:, None, :] @ driven[lag:])[:, 0]
    return PathEnsemble(free_energy + float(np.log(p0 @ ahead)), means, covariance, marginals, driven)


def information_loss(
    initial: Float[np.ndarray, " states"] | npt.ArrayLike,
    transitions: Float[np.ndarray, "states states"] | npt.ArrayLike,
    *,
    reverse: Float[np.ndarray, "states states"] | npt.ArrayLike | None = None,
    base: float | None = None,
) -> float:
    r"""Information that a step of a Markov chain loses: the entropy production of system and surroundings.

    .. math:: \sigma = \sum_{x,x'} p(x) P(x'|x) \ln\frac{p(x) P(x'|x)}{p'(x') \tilde P(x|x')} \ge 0,
        \qquad p'(x') = \sum_x p(x) P(x'|x)

    It is the divergence of the step from its reversal, the gain of entropy $S(p')-S(p)$ of the system and the rest that goes
    to the surroundings; 0 at equilibrium with detailed balance.

    Args:
        initial: probabilities p(x) before the step.
        transitions: probabilities $P(x'|x)$, from rows to columns.
        reverse: probabilities $\tilde P(x|x')$ of the steps of the reversed protocol, from rows x' to columns x; None for the
            same as forwards.
        base: base of the logarithm; None for nats, 2 for bits.

    Returns:
        The loss in the unit of ``base``; infinite where a step that occurs has no reversal.

    Raises:
        ValueError: if shapes do not fit, probabilities are negative, not finite or do not sum to 1, or the base is unknown.
        TypeError: if values are not numbers.

    References:
        Rogers, Beck and Rempe, "Information Theory and Statistical Mechanics Revisited" (arXiv 1105.5662).

    Examples:
        >>> turning = [[0.0, 0.75, 0.25], [0.25, 0.0, 0.75], [0.75, 0.25, 0.0]]
        >>> round(information_loss([1 / 3, 1 / 3, 1 / 3], turning), 6)  # half of ln 3
        0.549306
    """
    where = "information_loss"
    nats, _ = unit_of(base, where)
    p, kernel = _chain(initial, transitions, where)
    backward = kernel if reverse is None else _chain(p, reverse, where, "reverse")[1]
    forwards = p[:, None] * kernel
    backwards = (forwards.sum(axis=0)[:, None] * backward).T
    some = forwards > 0
    if not (backwards[some] > 0).all():
        return np.inf
    return max(float(forwards[some] @ np.log(forwards[some] / backwards[some])), 0.0) / nats


def _chain(
    initial: npt.ArrayLike, transitions: npt.ArrayLike, where: str, argument: str = "transitions"
) -> tuple[np.ndarray, np.ndarray]:
    p, kernel = law_of(where, "initial", initial), conditional_law(where, argument, transitions)
    if kernel.shape != (len(p), len(p)):
        raise ValueError(f"{where}: {argument} must have shape {(len(p), len(p))}, as initial has (got {kernel.shape})")
    return p, kernel
