"""Maximal path entropy: known chains, enumeration of all paths, an independent optimiser, fluctuation and response."""

from itertools import pairwise, product
from math import log, tanh

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from isentrope.measures import information_loss, maximum_caliber, path_ensemble


def binary(p):
    return -p * log(p) - (1 - p) * log(1 - p)


def entropy_rate(pi, chain):
    some = chain > 0
    return -np.sum((pi[:, None] * chain)[some] * np.log(chain[some]))


def test_the_golden_mean_shift_has_the_entropy_of_the_golden_ratio():
    walk = maximum_caliber(np.zeros((2, 2, 0)), [], prior=[[1, 1], [1, 0]], base=2)
    golden = (1 + 5**0.5) / 2
    assert walk.entropy_rate == pytest.approx(log(golden) / log(2), rel=1e-12)
    assert walk.transitions == pytest.approx(np.array([[1 / golden, 1 / golden**2], [1, 0]]), rel=1e-12)
    assert walk.stationary[1] == pytest.approx(1 / (1 + golden**2), rel=1e-12)


def test_on_a_graph_it_is_the_random_walk_of_maximal_entropy():
    # A path of five nodes: growth 2cos(π/6), stationary law sin²(kπ/6)/3, not that of the degrees.
    graph = np.eye(5, k=1) + np.eye(5, k=-1)
    walk = maximum_caliber(np.zeros((5, 5, 0)), [], prior=graph)
    assert walk.log_growth == pytest.approx(log(3**0.5), rel=1e-12)
    assert walk.stationary == pytest.approx(np.sin(np.arange(1, 6) * np.pi / 6) ** 2 / 3, rel=1e-10)
    degrees = graph / graph.sum(axis=1, keepdims=True)
    assert entropy_rate(graph.sum(axis=1) / graph.sum(), degrees) == pytest.approx(0.75 * log(2))
    assert walk.entropy_rate == pytest.approx(walk.log_growth, rel=1e-12)


def test_a_hopping_rate_gives_independent_hops():
    # On a ring of three sites, steps to either side and none at rest, with a mean current.
    j = np.array([[0, 1, -1], [-1, 0, 1], [1, -1, 0]])
    found = maximum_caliber(j, 0.4, prior=j**2)
    assert found.transitions == pytest.approx(np.where(j == 1, 0.7, np.where(j == -1, 0.3, 0)), rel=1e-9)
    assert found.entropy_rate == pytest.approx(binary(0.7), rel=1e-10)
    assert tanh(found.forces[0]) == pytest.approx(0.4, rel=1e-9)
    assert found.covariance[0, 0] == pytest.approx(1 - 0.4**2, rel=1e-9)


def test_known_frequencies_of_pairs_give_back_their_chain():
    rng = np.random.default_rng(1)
    chain = rng.dirichlet(np.ones(4), size=4)
    values, vectors = np.linalg.eig(chain.T)
    pi = np.real(vectors[:, np.argmax(values.real)])
    pi /= pi.sum()
    indicators = np.eye(16).reshape(4, 4, 16)  # redundant: they sum to 1 and balance
    found = maximum_caliber(indicators, (pi[:, None] * chain).ravel())
    assert found.transitions == pytest.approx(chain, abs=1e-9)
    assert found.entropy_rate == pytest.approx(entropy_rate(pi, chain), rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_an_independent_optimiser_finds_the_same(seed):
    rng = np.random.default_rng(seed)
    prior, j = rng.uniform(0.2, 2, (3, 3)), rng.normal(size=(3, 3))
    target = 0.6 * j.mean() + 0.4 * j[0, 0]

    def minus_entropy(flow):
        flow = flow.reshape(3, 3)
        return np.sum(flow * np.log(flow / flow.sum(axis=1, keepdims=True) / prior))

    def conditions(flow):
        flow = flow.reshape(3, 3)
        balance = flow.sum(axis=1) - flow.sum(axis=0)
        return np.array([*balance[1:], flow.sum() - 1, np.sum(flow * j) - target])

    slow = minimize(
        minus_entropy,
        np.full(9, 1 / 9),
        constraints=[{"type": "eq", "fun": conditions}],
        bounds=[(1e-9, 1)] * 9,
        options={"ftol": 1e-14, "maxiter": 500},
    )
    found = maximum_caliber(j, target, prior=prior)
    assert found.stationary[:, None] * found.transitions == pytest.approx(slow.x.reshape(3, 3), abs=1e-5)
    assert found.entropy_rate == pytest.approx(-slow.fun, abs=1e-8)
    assert found.means == pytest.approx([target], abs=1e-10)


def test_rate_of_entropy_and_response_follow_from_the_growth():
    rng = np.random.default_rng(4)
    prior, j = rng.dirichlet(np.ones(4), size=4), rng.normal(size=(4, 4, 2))
    found = maximum_caliber(j, [0.2, -0.1], prior=prior)

    def growth(forces):
        return log(np.abs(np.linalg.eigvals(prior * np.exp(j @ forces))).max())

    small = 1e-4
    assert found.log_growth == pytest.approx(growth(found.forces), rel=1e-9)
    assert found.entropy_rate == pytest.approx(found.log_growth - found.forces @ found.means, rel=1e-9)
    for k, direction in enumerate(small * np.eye(2)):
        up, down = growth(found.forces + direction), growth(found.forces - direction)
        assert (up - down) / (2 * small) == pytest.approx(found.means[k], rel=1e-5)
        curvature = (up + down - 2 * growth(found.forces)) / small**2
        assert curvature == pytest.approx(found.covariance[k, k], rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"means": 1.5}, r"no stationary chain .*: means\[0\] is 1.5, but its feature has values from -1 to 1"),
        ({"means": 1.0}, "so extreme that they exclude steps"),
        ({"means": [0.1, 0.2]}, "one value for each of 1 currents"),
        ({"means": 0.1, "prior": np.ones((2, 2))}, "one weight for each step"),
        ({"means": 0.1, "prior": np.triu(np.ones((3, 3)))}, "every state must be reached from every other"),
        ({"means": 0.1, "currents": np.ones(3)}, r"the axes state, next state, current \(got shape \(3,\)\)"),
        ({"means": 0.1, "base": -2}, "base must be positive"),
    ],
)
def test_wrong_arguments_are_explained(arguments, message):
    ring = np.array([[0, 1, -1], [-1, 0, 1], [1, -1, 0]])
    with pytest.raises(ValueError, match=message):
        maximum_caliber(**{"currents": ring, "prior": ring**2, **arguments})


def test_a_chain_cannot_go_one_way_on_a_line():
    # Each mean step could have this value, but no chain can leave a line for ever.
    line = np.eye(4, k=1) + np.eye(4, k=-1)
    with pytest.raises(ValueError, match=r"means\[0\] = 0.5 lies outside what is possible"):
        maximum_caliber(np.triu(line) - np.tril(line), 0.5, prior=line)


def drawn(seed, states=3, steps=4):
    rng = np.random.default_rng(seed)
    chain = rng.dirichlet(np.ones(states), size=states)
    return rng.dirichlet(np.ones(states)), chain, rng.normal(size=(states, states)), rng.normal(size=steps) * 2


@pytest.mark.parametrize("seed", range(3))
def test_recursions_agree_with_the_sum_over_all_paths(seed):
    initial, chain, j, forces = drawn(seed)
    paths = list(product(range(3), repeat=5))
    undriven = np.array([initial[path[0]] * np.prod([chain[a, b] for a, b in pairwise(path)]) for path in paths])
    currents = np.array([[j[a, b] for a, b in pairwise(path)] for path in paths])
    weights = undriven * np.exp(currents @ forces)
    p = weights / weights.sum()
    found = path_ensemble(initial, chain, j, forces)
    assert found.free_energy == pytest.approx(log(weights.sum()), rel=1e-12)
    assert found.means == pytest.approx(p @ currents, rel=1e-10)
    assert found.covariance == pytest.approx(np.cov(currents.T, aweights=p, bias=True), abs=1e-10)
    for t in range(5):
        marginal = np.bincount([path[t] for path in paths], weights=p)
        assert found.marginals[t] == pytest.approx(marginal, rel=1e-10)
    by_chain = [
        found.marginals[0][path[0]] * np.prod([found.transitions[t][path[t], path[t + 1]] for t in range(4)])
        for path in paths
    ]
    assert by_chain == pytest.approx(p, rel=1e-10)


def test_response_equals_fluctuation_far_from_equilibrium():
    initial, chain, j, _ = drawn(8, states=4, steps=6)
    forces, small = np.array([3.0, -2.0, 5.0, 0.0, 4.0, -6.0]), 1e-5
    found = path_ensemble(initial, chain, j, forces)
    for s, direction in enumerate(small * np.eye(6)):
        up, down = (path_ensemble(initial, chain, j, forces + sign * direction) for sign in (1, -1))
        assert (up.free_energy - down.free_energy) / (2 * small) == pytest.approx(found.means[s], rel=1e-6)
        # Before the force as well as after it: these are paths known in retrospect.
        assert (up.means - down.means) / (2 * small) == pytest.approx(found.covariance[s], abs=1e-6)


def test_long_paths_approach_the_stationary_chain():
    rng = np.random.default_rng(9)
    prior, j = rng.dirichlet(np.ones(3), size=3), rng.normal(size=(3, 3))
    stationary = maximum_caliber(j, 0.3 * j.max() + 0.7 * j.mean(), prior=prior)
    finite = path_ensemble(np.full(3, 1 / 3), prior, j, np.full(400, stationary.forces[0]))
    assert finite.transitions[200] == pytest.approx(stationary.transitions, abs=1e-10)
    assert finite.means[200] == pytest.approx(stationary.means[0], rel=1e-10)
    assert finite.covariance[200].sum() == pytest.approx(stationary.covariance[0, 0], rel=1e-9)
    longer = path_ensemble(np.full(3, 1 / 3), prior, j, np.full(401, stationary.forces[0]))
    assert longer.free_energy - finite.free_energy == pytest.approx(stationary.log_growth, rel=1e-10)


def test_hopping_channel_has_the_current_of_its_voltage():
    # One ion step of ±1 with force βzΔV/2: mean current tanh of it, each step for itself.
    force = np.array([0.2, 3.0, -1.0])
    j = np.array([[1.0, -1.0], [1.0, -1.0]])  # the direction of the hop is the next state
    found = path_ensemble([0.5, 0.5], np.full((2, 2), 0.5), j, force)
    assert found.means == pytest.approx(np.tanh(force), rel=1e-12)
    assert found.covariance == pytest.approx(np.diag(1 - np.tanh(force) ** 2), abs=1e-12)
    assert found.free_energy == pytest.approx(np.log(np.cosh(force)).sum(), rel=1e-12)


@settings(max_examples=30)
@given(st.integers(0, 10**6))
def test_what_a_step_loses_is_never_negative_and_has_two_parts(seed):
    rng = np.random.default_rng(seed)
    p, chain = rng.dirichlet(np.ones(4)), rng.dirichlet(np.full(4, 0.7), size=4) + 1e-12
    chain /= chain.sum(axis=1, keepdims=True)
    after = p @ chain
    system = -np.sum(after * np.log(after)) + np.sum(p * np.log(p))
    surroundings = np.sum(p[:, None] * chain * np.log(chain / chain.T))
    assert information_loss(p, chain) == pytest.approx(system + surroundings, abs=1e-9)
    assert information_loss(p, chain) >= 0


def test_nothing_is_lost_at_equilibrium_only():
    energies = np.array([0.0, 0.5, 1.3])
    boltzmann = np.exp(-energies) / np.exp(-energies).sum()
    chain = np.minimum(1, np.exp(energies[:, None] - energies)) / 3  # Metropolis
    np.fill_diagonal(chain, 0)
    np.fill_diagonal(chain, 1 - chain.sum(axis=1))
    assert information_loss(boltzmann, chain) == pytest.approx(0, abs=1e-15)
    assert information_loss([0.2, 0.3, 0.5], chain) > 0.01
    # Relaxation: the loss is the fall of the divergence from equilibrium.
    p = np.array([0.2, 0.3, 0.5])
    fall = np.sum(p * np.log(p / boltzmann)) - np.sum((p @ chain) * np.log(p @ chain / boltzmann))
    assert information_loss(p, chain) == pytest.approx(fall, rel=1e-10)


def test_reversed_protocols_and_steps_without_reversal():
    chain, back = np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([[1.0, 0.0], [0.5, 0.5]])
    assert information_loss([0.5, 0.5], chain) < np.inf
    assert information_loss([0.5, 0.5], [[0.5, 0.5], [0.0, 1.0]]) == np.inf
    assert information_loss([0.5, 0.5], chain, reverse=back) == np.inf
    # The reversal of Bayes loses nothing.
    flow = np.array([0.3, 0.7])[:, None] * chain
    assert information_loss([0.3, 0.7], chain, reverse=(flow / flow.sum(axis=0)).T) == pytest.approx(0, abs=1e-15)
    with pytest.raises(ValueError, match="rows of reverse must sum to 1"):
        information_loss([0.5, 0.5], chain, reverse=2 * back)
    with pytest.raises(ValueError, match="too strong for float64"):
        path_ensemble([0.5, 0.5], chain, [[0, 0], [1, 0]], [2000.0])
