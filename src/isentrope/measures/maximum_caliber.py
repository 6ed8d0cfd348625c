r"""Maximal caliber: the stationary Markov chain of maximal path entropy with known mean currents.

$$\max\;-\sum_{x,x'}\pi(x)P(x'|x)\ln\frac{P(x'|x)}{w(x,x')}\quad\text{with}\quad\langle j_k\rangle=F_k$$

over transition probabilities P with their stationary law π is what maximal entropy is for states, taken for long paths. Forces
have the sign with which they drive their current, opposite to the multipliers of `maximum_entropy`.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from isentrope.measures._duals import contradiction, minimise, possible, whitened
from isentrope.measures._laws import numbers, weights
from isentrope.measures.estimate import unit_of


@dataclass(frozen=True, eq=False)
class MaximumCaliber:
    r"""A stationary Markov chain of maximal path entropy.

    Args:
        transitions: probability $P(x'|x)$ of each step, from rows to columns.
        stationary: stationary probabilities.
        forces: λ, one for each current, of the natural exponential.
        log_growth: $\ln\rho$, the logarithm of the largest eigenvalue of $w(x,x')e^{\lambda\cdot j(x,x')}$: the free energy of
            a step, in nats.
        entropy_rate: $-\sum\pi(x)P(x'|x)\ln\frac{P(x'|x)}{w(x,x')}$ a step, in ``unit``: that of Kolmogorov and Sinai where all
            weights are 0 or 1, and minus the divergence rate from the prior where their rows sum to 1.
        means: mean of each current a step.
        covariance: $\lim_T\mathrm{Cov}(J_T)/T$ for the sums J over T steps, which is $\partial\langle j\rangle/\partial\lambda$.
        unit: "nat", "bit", "hartley" or "log <base>".
    """

    transitions: Float[np.ndarray, "states states"]
    stationary: Float[np.ndarray, " states"]
    forces: Float[np.ndarray, " currents"]
    log_growth: float
    entropy_rate: float
    means: Float[np.ndarray, " currents"]
    covariance: Float[np.ndarray, "currents currents"]
    unit: str


def maximum_caliber(
    currents: Float[np.ndarray, "states states currents"] | npt.ArrayLike,
    means: Float[np.ndarray, " currents"] | npt.ArrayLike,
    *,
    prior: Float[np.ndarray, "states states"] | npt.ArrayLike | None = None,
    base: float | None = None,
) -> MaximumCaliber:
    r"""Stationary Markov chain of maximal path entropy whose currents have the given means.

    .. math:: P(x'|x) = \frac{w(x,x')\,e^{\lambda\cdot j(x,x')}\,r(x')}{\rho\, r(x)}, \qquad
        \lambda = \arg\min\, \ln\rho(\lambda) - \lambda\cdot F

    with the largest eigenvalue ρ of $w\,e^{\lambda\cdot j}$ and its right eigenvector r. Without currents and with the
    adjacency matrix of a graph as prior it is the random walk of maximal entropy.

    Args:
        currents: value $j_k(x,x')$ of each current at each step, or of one current.
        means: mean $F_k$ a step that each current is to have, in the unit of the current.
        prior: weights $w(x,x')$ of the steps: transition probabilities, or 1 where a step is allowed and 0 where it is not;
            None for 1 each. Every state must be reached from every other.
        base: base of the logarithm of the entropy rate; None for nats, 2 for bits.

    Returns:
        The chain with its forces.

    Raises:
        ValueError: if no stationary chain has these means, or only chains that do without steps of positive weight have;
            if shapes do not fit, a value is not finite or a weight negative, if a state is not reached, or the base is
            unknown.
        TypeError: if values are not numbers.

    References:
        Rogers, Beck and Rempe, "Information Theory and Statistical Mechanics Revisited" (arXiv 1105.5662).

    Examples:
        >>> import numpy as np
        >>> golden_mean = np.array([[1, 1], [1, 0]])  # no two ones in a row
        >>> walk = maximum_caliber(np.zeros((2, 2, 0)), [], prior=golden_mean)
        >>> walk.transitions[0].round(4)  # 1/φ and 1/φ²
        array([0.618, 0.382])
        >>> round(walk.entropy_rate, 6)  # ln φ
        0.481212
    """
    where = "maximum_caliber"
    nats, unit = unit_of(base, where)
    j = numbers(where, "currents", currents)
    j = j[..., None] if j.ndim == 2 else j
    if j.ndim != 3 or j.shape[0] != j.shape[1] or len(j) == 0:
        raise ValueError(f"{where}: currents must have the axes state, next state, current (got shape {j.shape})")
    target = np.atleast_1d(numbers(where, "means", means))
    if target.shape != j.shape[2:]:
        raise ValueError(f"{where}: means must have one value for each of {j.shape[2]} currents (got {target})")
    w = np.ones(j.shape[:2]) if prior is None else weights(where, "prior", prior)
    if w.shape != j.shape[:2]:
        raise ValueError(f"{where}: prior must have one weight for each step, {j.shape[:2]} (got shape {w.shape})")
    # Imported here because it takes as long as all of the room.
    from scipy.sparse.csgraph import connected_components

    if connected_components(w > 0, connection="strong")[0] > 1 or not w.any():
        raise ValueError(f"{where}: every state must be reached from every other by steps of positive prior")

    steps = np.nonzero(w)
    deviations = j[steps] - target
    scale = np.abs(deviations).max(axis=0)
    h, combine = whitened(deviations, np.where(scale > 0, scale, 1))
    log_w = np.log(w[steps])

    def dual(point: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        log_growth, p, pi = _perron(steps, log_w + h @ point, len(w))
        mean, covariance = _stationary_moments(steps, h, p, pi)
        return log_growth, mean, covariance

    # The growth of the tilted matrix is at least that of any one cycle; a cycle has at most as many steps as states.
    found = minimise(dual, h.shape[1], floor=float(log_w.min()) - 1e-9)
    # In a stationary chain each state is entered as often as it is left.
    balance = (np.eye(len(w))[steps[0]] - np.eye(len(w))[steps[1]])[:, 1:]
    told = contradiction(j[steps], target, balance) if found is None else ""
    if told:
        raise ValueError(f"{where}: no stationary chain has these means: {told}")
    log_growth, p, pi = _perron(steps, log_w + h @ (np.zeros(h.shape[1]) if found is None else found), len(w))
    if found is None or _on_boundary(pi[steps[0]] * p, np.hstack([h, balance])):
        raise ValueError(f"{where}: means {target} are so extreme that they exclude steps whose prior is positive")
    mean, covariance = _stationary_moments(steps, j[steps], p, pi)
    forces = combine @ found
    transitions = np.zeros_like(w)
    transitions[steps] = p
    return MaximumCaliber(
        transitions=transitions,
        stationary=pi,
        forces=forces,
        log_growth=log_growth + float(forces @ target),
        entropy_rate=(log_growth - float(found @ (pi[steps[0]] * p @ h))) / nats,
        means=mean,
        covariance=covariance,
        unit=unit,
    )


def _perron(steps: tuple[np.ndarray, ...], exponents: np.ndarray, n: int) -> tuple[float, np.ndarray, np.ndarray]:
    """Logarithm of the largest eigenvalue of the matrix exp(exponents), its chain's transitions and stationary law."""
    largest = exponents.max()
    matrix = np.zeros((n, n))
    matrix[steps] = np.exp(exponents - largest)
    values, vectors = np.linalg.eig(matrix)
    first = int(np.argmax(np.real(values)))
    rho, right = float(np.real(values[first])), np.abs(np.real(vectors[:, first]))
    p = matrix[steps] * right[steps[1]] / (rho * right[steps[0]])
    chain = np.zeros((n, n))
    chain[steps] = p
    chain /= chain.sum(axis=1, keepdims=True)
    # The stationary law solves pi (P - 1) = 0 with one equation replaced by its sum.
    equations = (chain - np.eye(n)).T
    equations[0] = 1
    pi = np.abs(np.linalg.solve(equations, np.eye(n)[0]))
    return float(np.log(rho) + largest), chain[steps], pi / pi.sum()


def _on_boundary(flow: np.ndarray, constraints: np.ndarray) -> bool:
    """Whether the steps that hardly occur need not occur at all, because the others are in a plane of fewer dimensions."""
    many = flow > 1e-6 * flow.max()
    sizes = [whitened(rows, np.ones(rows.shape[1]))[0].shape[1] for rows in (constraints[many], constraints)]
    return sizes[0] < sizes[1] and possible(constraints[many])


def _stationary_moments(
    steps: tuple[np.ndarray, ...], g: np.ndarray, p: np.ndarray, pi: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Means a step of quantities of the steps of a stationary chain, and the growth of the covariance of their sums."""
    n, flow = len(pi), pi[steps[0]] * p
    mean = flow @ g
    centred = g - mean
    chain = np.zeros((n, n))
    chain[steps] = p
    expected = np.zeros((n, g.shape[1]))
    np.add.at(expected, steps[0], p[:, None] * centred)
    # What all later steps are expected to bring, from each state: the solution of Poisson's equation.
    later = np.linalg.solve(np.eye(n) - chain + pi, expected)
    lagged = (flow[:, None] * centred).T @ later[steps[1]]
    return mean, (flow[:, None] * centred).T @ centred + lagged + lagged.T
