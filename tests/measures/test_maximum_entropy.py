"""Maximal entropy under known, uncertain and bounded means: closed forms, an independent optimiser, identities, what is impossible."""

from importlib import import_module
from itertools import product
from math import factorial, log, pi

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from isentrope.measures import gibbs_distribution, maximum_entropy, maximum_entropy_between, nested_information


def shannon(p):
    return -sum(x * log(x) for x in p if x > 0)


def divergence(p, q):
    return sum(x * log(x / y) for x, y in zip(p, q, strict=True) if x > 0)


def test_the_die_of_jaynes():
    # arXiv 1105.5662 takes up the die of Brandeis; a mean of 4.5 instead of 3.5.
    die = maximum_entropy(range(1, 7), 4.5)
    assert die.probabilities == pytest.approx([0.05435, 0.07877, 0.11416, 0.16545, 0.23977, 0.34749], abs=6e-6)
    assert die.multipliers == pytest.approx([-0.371049], abs=1e-6)
    assert die.entropy == pytest.approx(shannon(die.probabilities), rel=1e-12)
    assert maximum_entropy(range(1, 7), 3.5, base=2).entropy == pytest.approx(log(6) / log(2), rel=1e-12)


def test_known_mean_of_levels_gives_the_geometric_law():
    mean = 1.7
    found = maximum_entropy(np.arange(400), mean)
    assert found.multipliers[0] == pytest.approx(log(1 + 1 / mean), rel=1e-9)
    assert found.entropy == pytest.approx((mean + 1) * log(mean + 1) - mean * log(mean), rel=1e-10)


def test_mean_and_variance_on_a_grid_give_the_normal_law():
    # Far from 0, where x and x² are all but collinear.
    x = np.linspace(985, 1015, 6001)
    found = maximum_entropy(np.column_stack([x, x**2]), [1000.5, 1000.5**2 + 1.3**2], prior=np.full(6001, x[1] - x[0]))
    density = np.exp(-((x - 1000.5) ** 2) / (2 * 1.3**2)) / (1.3 * (2 * pi) ** 0.5)
    assert found.probabilities / (x[1] - x[0]) == pytest.approx(density, abs=1e-7)
    assert found.entropy == pytest.approx(0.5 * log(2 * pi * np.e * 1.3**2), abs=1e-8)


def test_noninteracting_fermions_occupy_by_fermi_and_dirac():
    # Grand canonical: the states are sets of occupied levels, the features energy and number, λ = (β, -βμ).
    energies = np.array([0.0, 0.4, 1.1, 1.9])
    states = np.array(list(product([0, 1], repeat=4)))
    found = maximum_entropy(np.column_stack([states @ energies, states.sum(axis=1)]), [0.9, 1.6])
    beta, minus_beta_mu = found.multipliers
    occupation = 1 / (np.exp(beta * energies + minus_beta_mu) + 1)
    assert states.T @ found.probabilities == pytest.approx(occupation, rel=1e-9)
    assert occupation @ energies == pytest.approx(0.9, rel=1e-9)
    assert occupation.sum() == pytest.approx(1.6, rel=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_an_independent_optimiser_finds_the_same(seed):
    rng = np.random.default_rng(seed)
    f, q = rng.normal(size=(7, 2)), rng.uniform(0.2, 2, 7)
    means = rng.dirichlet(np.ones(7)) @ f
    found = maximum_entropy(f, means, prior=q)
    slow = minimize(
        lambda p: np.sum(p * np.log(p / q)),
        np.full(7, 1 / 7),
        jac=lambda p: np.log(p / q) + 1,
        constraints=[{"type": "eq", "fun": lambda p: np.append(p @ f - means, p.sum() - 1)}],
        bounds=[(1e-12, 1)] * 7,
        options={"ftol": 1e-15, "maxiter": 500},
    )
    assert found.probabilities == pytest.approx(slow.x, abs=2e-6)
    assert found.entropy == pytest.approx(-slow.fun, abs=1e-9)


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 3), st.sampled_from([0.05, 1.0, 20.0]))
def test_laws_of_every_solution(seed, k, concentration):
    rng = np.random.default_rng(seed)
    f, q = rng.normal(size=(8, k)), rng.uniform(0.1, 3, 8)
    other = rng.dirichlet(np.full(8, concentration))
    found = maximum_entropy(f, other @ f, prior=q)
    assert found.means == pytest.approx(other @ f, abs=1e-9)
    # No other distribution has these means and more entropy; what it lacks is its divergence from the solution.
    assert found.entropy + divergence(other, q) == pytest.approx(divergence(other, found.probabilities), abs=1e-7)
    assert found.entropy == pytest.approx(found.log_partition + found.multipliers @ found.means, rel=1e-9, abs=1e-9)


def test_entropy_and_means_change_as_gibbs_and_the_fluctuations_say():
    rng = np.random.default_rng(5)
    f, q, target, small = rng.normal(size=(9, 2)), rng.uniform(0.5, 1, 9), np.array([0.1, -0.2]), 1e-5
    found = maximum_entropy(f, target, prior=q)
    for k in range(2):
        shift = small * np.eye(2)[k]
        up, down = (maximum_entropy(f, target + sign * shift, prior=q).entropy for sign in (1, -1))
        assert (up - down) / (2 * small) == pytest.approx(found.multipliers[k], rel=1e-6)
        up, down = (gibbs_distribution(f, found.multipliers + sign * shift, prior=q) for sign in (1, -1))
        assert (up.means - down.means) / (2 * small) == pytest.approx(-found.covariance[k], rel=1e-6)
        assert (up.log_partition - down.log_partition) / (2 * small) == pytest.approx(-target[k], rel=1e-6)


def test_multipliers_give_back_their_distribution():
    f = np.random.default_rng(6).normal(size=(9, 2))
    by_means = maximum_entropy(f, [0.3, 0.1], base=2)
    by_multipliers = gibbs_distribution(f, by_means.multipliers, base=2)
    assert by_multipliers.probabilities == pytest.approx(by_means.probabilities, rel=1e-9)
    assert by_multipliers.means == pytest.approx([0.3, 0.1], rel=1e-9)
    assert by_multipliers.entropy == pytest.approx(shannon(by_means.probabilities) / log(2), rel=1e-12)


def test_redundant_constraints_change_nothing():
    x = np.arange(6.0)
    once = maximum_entropy(x, 1.2)
    thrice = maximum_entropy(np.column_stack([x, 3 * x + 1, np.full(6, 5.0)]), [1.2, 4.6, 5.0])
    assert thrice.probabilities == pytest.approx(once.probabilities, rel=1e-10)
    assert thrice.multipliers @ [1, 3, 0] == pytest.approx(once.multipliers[0], rel=1e-9)


def test_without_constraints_the_prior_remains():
    assert maximum_entropy(np.zeros((4, 0)), []).probabilities == pytest.approx([0.25] * 4)
    weighted = maximum_entropy(np.zeros((3, 0)), [], prior=[1, 0, 3])
    assert weighted.probabilities == pytest.approx([0.25, 0, 0.75])
    assert list(weighted.support) == [True, False, True]
    assert weighted.entropy == pytest.approx(log(4))


@pytest.mark.parametrize(
    ("f", "means", "support"),
    [
        (range(1, 7), 6, [5]),
        (range(1, 7), 1, [0]),
        ([1, 2, 2, 0, 2], 2, [1, 2, 4]),
        ([[0, 0], [1, 0], [0, 1], [1, 1]], [0.3, 1], [2, 3]),
        ([[0, 0], [1, 1], [2, 4], [3, 9]], [1.5, 2.5], [1, 2]),  # the least second moment: the neighbours of the mean
        ([[0, 0], [1, 1], [2, 4], [3, 9]], [1.5, 4.5], [0, 3]),  # the largest: the ends
    ],
)
def test_extreme_means_leave_outcomes_without_probability(f, means, support):
    found = maximum_entropy(f, means)
    assert list(np.flatnonzero(found.support)) == support
    assert found.probabilities[~found.support] == pytest.approx(0, abs=0)
    assert found.means == pytest.approx(np.atleast_1d(means), abs=1e-12)
    # On the face it is the solution of the outcomes that are left.
    left = maximum_entropy(np.asarray(f, dtype=float)[support], means)
    assert found.probabilities[support] == pytest.approx(left.probabilities, abs=1e-9)


@pytest.mark.parametrize("distance", [1e-2, 1e-6, 1e-10])
def test_means_next_to_the_extreme_are_kept(distance):
    die = maximum_entropy(range(1, 7), 6 - distance)
    assert die.support.all()
    assert die.means[0] == pytest.approx(6 - distance, abs=1e-14)
    # With p falling as x, x², ... the distance is x - x² + 2x² ..., and the probability next to the extreme x - x² ...
    assert die.probabilities[4] == pytest.approx(distance - 2 * distance**2, rel=10 * distance**2 + 2e-4)


@pytest.mark.parametrize(
    ("f", "means", "message"),
    [
        (range(1, 7), 7, r"means\[0\] is 7, but its feature has values from 1 to 6"),
        (range(1, 7), 6 + 1e-9, r"means\[0\] is 6.000000001, but"),
        ([[0, 1, 0], [1, 0, 1], [2, 1, 4]], [1, 0.5, 0.9], r"means\[0\] = 1, means\[2\] = 0.9 contradict each other"),
        ([[0, 1], [1, 3], [2, 5]], [1, 3.1], r"means\[0\] = 1, means\[1\] = 3.1 contradict each other"),
    ],
)
def test_impossible_means_are_named(f, means, message):
    with pytest.raises(ValueError, match=message):
        maximum_entropy(f, means)


def test_the_second_moment_below_the_square_of_the_mean_is_impossible():
    x = np.linspace(-1, 1, 101)
    f = np.column_stack([x, x**2, x**3])
    with pytest.raises(ValueError, match=r"means\[0\] = 0.5, means\[1\] = 0.2 contradict"):
        maximum_entropy(f, [0.5, 0.2, 0.2])


def test_each_level_adds_its_divergence():
    rng = np.random.default_rng(7)
    f, q = rng.normal(size=(10, 4)), rng.uniform(0.5, 1, 10)
    means = rng.dirichlet(np.ones(10)) @ f
    gained = nested_information(f, means, levels=[1, 2, 1], prior=q)
    solutions = [maximum_entropy(f[:, :k], means[:k], prior=q).probabilities for k in (0, 1, 3, 4)]
    for j in range(3):
        assert gained[j] == pytest.approx(divergence(solutions[j + 1], solutions[j]), rel=1e-8)
    assert gained.sum() == pytest.approx(divergence(solutions[3], solutions[0]), rel=1e-9)


def test_indistinguishability_follows_from_leaving_out_the_labels():
    # Four labelled particles on three levels: the occupation numbers inherit the multiplicity N!/Πn! as their prior, so
    # that both descriptions have one temperature. Nothing about identical particles is put in.
    energies = np.array([0.0, 1.0, 2.5])
    labelled = list(product(range(3), repeat=4))
    micro = maximum_entropy([energies[list(state)].sum() for state in labelled], 3.3)
    numbers = sorted({tuple(np.bincount(state, minlength=3)) for state in labelled})
    weights = [factorial(4) / np.prod([factorial(n) for n in state]) for state in numbers]
    macro = maximum_entropy(np.array(numbers) @ energies, 3.3, prior=weights)
    assert macro.multipliers == pytest.approx(micro.multipliers, rel=1e-9)
    by_numbers = dict.fromkeys(numbers, 0.0)
    for state, p in zip(labelled, micro.probabilities, strict=True):
        by_numbers[tuple(np.bincount(state, minlength=3))] += p
    assert macro.probabilities == pytest.approx(list(by_numbers.values()), rel=1e-9)


def test_the_factorial_of_the_grand_ensemble_comes_from_leaving_out_the_labels_too():
    # Six labelled particles, each on one of two levels or outside: energy and number on the levels are known.
    places = list(product(["low", "high", "outside"], repeat=6))
    inside = [(state.count("low"), state.count("high")) for state in places]
    micro = maximum_entropy([[high, low + high] for low, high in inside], [0.5, 1.2])
    numbers = sorted(set(inside))
    by_numbers = dict.fromkeys(numbers, 0.0)
    for occupied, p in zip(inside, micro.probabilities, strict=True):
        by_numbers[occupied] += p

    def weights(particles):
        """How many ways there are to place so many of the particles, relative to none, up to a factor for each."""
        return [
            np.prod([1 - k / particles for k in range(low + high)]) / (factorial(low) * factorial(high))
            for low, high in numbers
        ]

    f = [[high, low + high] for low, high in numbers]
    macro = maximum_entropy(f, [0.5, 1.2], prior=weights(6))
    assert macro.probabilities == pytest.approx(list(by_numbers.values()), rel=1e-8)
    # With a large outside only 1/Πn! is left, and the levels fill independently of each other.
    numbers = list(product(range(25), repeat=2))
    grand = maximum_entropy([[high, low + high] for low, high in numbers], [0.5, 1.2], prior=weights(1e9))
    poisson = [[np.exp(-mean) * mean**n / factorial(n) for n in range(25)] for mean in (0.7, 0.5)]
    assert grand.probabilities == pytest.approx(np.outer(*poisson).ravel(), abs=1e-8)


def test_an_ion_channel_known_in_more_and_more_detail():
    # Five sites in a row, each empty or taken: the mean number of ions, the sites' energy, repulsion, the voltage.
    sites = np.array(list(product([0, 1], repeat=5)))
    pairs = [(k, m) for k in range(5) for m in range(k + 1, 5)]
    repulsion = np.array([sum(state[k] * state[m] / (m - k) for k, m in pairs) for state in sites])
    depth = np.linspace(0.1, 0.9, 5)
    f = np.column_stack([sites.sum(axis=1), sites @ [0.0, -0.5, 0.8, -0.5, 0.0], repulsion, sites @ depth])
    truth = gibbs_distribution(f, [-0.4, 1.0, 1.5, -2.0])
    gained = nested_information(f, truth.means)
    assert (gained > 1e-3).all()  # each level tells something
    assert gained.sum() == pytest.approx(5 * log(2) - truth.entropy, rel=1e-9)
    # The charge that a voltage moves is the variance of the charge without more voltage.
    more = gibbs_distribution(f, [-0.4, 1.0, 1.5, -2.0 - 1e-5])
    assert (more.means[3] - truth.means[3]) / 1e-5 == pytest.approx(truth.covariance[3, 3], rel=1e-4)
    # All that is known at the last level is enough to find the model again.
    assert maximum_entropy(f, truth.means).multipliers == pytest.approx([-0.4, 1.0, 1.5, -2.0], rel=1e-8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"features": np.zeros((2, 2, 2)), "means": 0}, r"axes outcomes, features \(got shape \(2, 2, 2\)\)"),
        ({"features": [0, np.nan], "means": 0}, "features must be finite"),
        ({"features": [0, 1], "means": [0, 1]}, "one value for each of 1 features"),
        ({"features": [0, 1], "means": np.inf}, "means must be finite"),
        ({"features": [0, 1], "means": 0.5, "prior": [1]}, "one weight for each of the 2 outcomes"),
        ({"features": [0, 1], "means": 0.5, "prior": [1, -1]}, "prior must not be negative"),
        ({"features": [0, 1], "means": 0.5, "prior": [0, 0]}, "must not all be 0"),
        ({"features": [0, 1], "means": 0.5, "base": 1}, "base must be positive and different from 1"),
    ],
)
def test_wrong_arguments_are_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        maximum_entropy(**arguments)


def test_levels_must_add_up():
    with pytest.raises(ValueError, match=r"add up to the 2 features \(got \[1, 2\]\)"):
        nested_information(np.eye(2), [0.5, 0.5], levels=[1, 2])


@pytest.mark.parametrize("weight", [1e-20, 1e-100, 1e-250])
def test_weights_that_differ_by_many_orders(weight):
    levels = maximum_entropy([0.0, 1.0], 0.5, prior=[1.0, weight])
    assert levels.probabilities == pytest.approx([0.5, 0.5])
    assert levels.multipliers[0] == pytest.approx(np.log(weight))


@pytest.mark.parametrize("seed", range(3))
def test_an_independent_optimiser_finds_the_same_with_uncertain_means(seed):
    rng = np.random.default_rng(seed)
    f, q, means, errors = rng.normal(size=(6, 2)), rng.uniform(0.2, 2, 6), rng.normal(size=2), np.array([0.3, 0.8])
    found = maximum_entropy(f, means, stderr=errors, prior=q)

    def slow(logits):
        p = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        return np.sum(p * np.log(p / q)) + 0.5 * np.sum(((p @ f - means) / errors) ** 2)

    best = minimize(slow, np.zeros(6), tol=1e-14)
    assert -found.entropy + 0.5 * np.sum(((found.means - means) / errors) ** 2) == pytest.approx(best.fun, abs=1e-8)
    assert found.means == pytest.approx(means + errors**2 * found.multipliers, abs=1e-9)


def test_an_uncertain_mean_and_a_normal_prior_meet_as_kalman_says():
    x = np.linspace(-12, 12, 4001)
    variance, measured, error = 1.7, 2.0, 0.6
    found = maximum_entropy(x, measured, stderr=error, prior=np.exp(-(x**2) / (2 * variance)))
    assert found.means[0] == pytest.approx(measured * variance / (variance + error**2), rel=1e-9)
    assert found.covariance[0, 0] == pytest.approx(variance, rel=1e-9)


def test_repeated_measurements_are_weighed_by_their_errors():
    x = np.arange(1.0, 7.0)
    twice = maximum_entropy(np.column_stack([x, 10 * x]), [4.0, 50.0], stderr=[0.5, 2.5])
    weight, other = 1 / 0.5**2, 1 / 0.25**2  # 50 ± 2.5 of ten times x is 5 ± 0.25 of x
    once = maximum_entropy(x, (4 * weight + 5 * other) / (weight + other), stderr=(weight + other) ** -0.5)
    assert twice.probabilities == pytest.approx(once.probabilities, rel=1e-9)


def test_limits_of_uncertainty():
    rng = np.random.default_rng(8)
    f, q = rng.normal(size=(8, 2)), rng.uniform(0.5, 1, 8)
    means = rng.dirichlet(np.ones(8)) @ f
    exact = maximum_entropy(f, means, prior=q)
    assert maximum_entropy(f, means, stderr=[0, 0], prior=q).probabilities == pytest.approx(exact.probabilities)
    near = maximum_entropy(f, means, stderr=[1e-6, 1e-6], prior=q)
    assert near.probabilities == pytest.approx(exact.probabilities, abs=1e-9)
    far = maximum_entropy(f, means, stderr=[1e9, 1e9], prior=q)
    assert far.probabilities == pytest.approx(q / q.sum(), abs=1e-9)
    # One mean exact, the other unknown: as if only the first were given.
    half = maximum_entropy(f, means, stderr=[0, 1e9], prior=q)
    assert half.probabilities == pytest.approx(maximum_entropy(f[:, 0], means[0], prior=q).probabilities, abs=1e-9)


def test_uncertain_means_may_be_impossible_but_exact_ones_may_not():
    die = maximum_entropy(range(1, 7), 9, stderr=1)
    assert die.support.all()
    assert die.means[0] == pytest.approx(9 + die.multipliers[0], abs=1e-9)
    assert 5 < die.means[0] < 6
    square = np.array([[0, 0], [1, 0], [0, 1], [1, 1]])
    edge = maximum_entropy(square, [3.0, 1.0], stderr=[0.5, 0])
    assert list(edge.support) == [False, False, True, True]
    assert edge.means == pytest.approx([3 + 0.25 * edge.multipliers[0], 1], abs=1e-9)
    with pytest.raises(ValueError, match=r"means\[1\] is 1.5, but its feature has values from 0 to 1"):
        maximum_entropy(square, [3.0, 1.5], stderr=[0.5, 0])
    with pytest.raises(ValueError, match="stderr must not be negative"):
        maximum_entropy(square, [0.3, 0.5], stderr=[0.5, -1])


def test_bounds_that_the_prior_keeps_tell_nothing():
    found = maximum_entropy_between(range(1, 7), 3, 4, prior=[1, 2, 3, 3, 2, 1])
    assert found.multipliers == pytest.approx([0], abs=0)
    assert found.probabilities == pytest.approx(np.array([1, 2, 3, 3, 2, 1]) / 12, rel=1e-12)


def test_bounds_that_are_reached_are_known_means():
    die = range(1, 7)
    for low, high, mean in ((4.5, np.inf, 4.5), (-np.inf, 2.25, 2.25), (5, 5, 5), (-np.inf, 1, 1)):
        found, known = maximum_entropy_between(die, low, high, base=2), maximum_entropy(die, mean, base=2)
        assert found.probabilities == pytest.approx(known.probabilities, abs=1e-12)
        assert found.entropy == pytest.approx(known.entropy, abs=1e-12)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_the_conditions_of_karush_kuhn_and_tucker(seed, k):
    rng = np.random.default_rng(seed)
    f, q = rng.normal(size=(9, k)) * 10.0 ** rng.integers(-3, 4, k), rng.uniform(0.1, 2, 9)
    inside, width = rng.dirichlet(np.full(9, 0.4)) @ f, np.ptp(f, axis=0)
    low, high = inside - rng.choice([0, 0.02, np.inf], k) * width, inside + rng.choice([0, 0.02, np.inf], k) * width
    found = maximum_entropy_between(f, low, high, prior=q)
    assert (found.means >= low - 1e-8 * width).all()
    assert (found.means <= high + 1e-8 * width).all()
    for mean, multiplier, least, most, size in zip(found.means, found.multipliers, low, high, width, strict=True):
        if multiplier * size > 1e-6:
            assert mean == pytest.approx(most, abs=1e-8 * size)
        if multiplier * size < -1e-6:
            assert mean == pytest.approx(least, abs=1e-8 * size)
    # With these conditions the dual is its own proof: no law within the bounds has more entropy.
    other = maximum_entropy(f, inside, prior=q)
    assert found.entropy >= other.entropy - 1e-9


@pytest.mark.parametrize("sign", [0.0, 1.0])
def test_a_wrong_choice_of_bounds_is_not_returned(monkeypatch, sign):
    # A mean beyond its bound, and one that is held at a bound that it would not pass by itself.
    monkeypatch.setattr(
        import_module("isentrope.measures.maximum_entropy_bounds"), "_reached", lambda *_: np.array([sign])
    )
    low, high = (4.5, np.inf) if sign == 0 else (-np.inf, 5.0)
    with pytest.raises(ArithmeticError, match="has not found the multipliers"):
        maximum_entropy_between(range(1, 7), low, high)


def test_an_independent_optimiser_finds_the_same_with_bounds():
    rng = np.random.default_rng(9)
    f, q = rng.normal(size=(7, 3)), rng.uniform(0.2, 2, 7)
    inside = rng.dirichlet(np.ones(7)) @ f
    low, high = inside - np.array([0.05, 0.3, np.inf]), inside + np.array([0.05, 0.02, 0.1])
    slow = minimize(
        lambda p: np.sum(p * np.log(p / q)),
        np.full(7, 1 / 7),
        constraints=[
            {"type": "eq", "fun": lambda p: p.sum() - 1},
            {"type": "ineq", "fun": lambda p: high - p @ f},
            {"type": "ineq", "fun": lambda p: (p @ f - low)[:2]},
        ],
        bounds=[(1e-12, 1)] * 7,
        options={"ftol": 1e-15, "maxiter": 500},
    )
    assert maximum_entropy_between(f, low, high, prior=q).entropy == pytest.approx(-slow.fun, abs=1e-8)


@pytest.mark.parametrize(
    ("f", "low", "high", "message"),
    [
        (range(1, 7), 6.5, np.inf, r"low\[0\] = 6.5 lies outside what is possible"),
        (range(1, 7), 4, 3, r"low\[0\] = 4 and high\[0\] = 3 have no mean between them"),
        (range(1, 7), np.inf, np.inf, "have no mean between them"),
        ([[0, 0], [1, 1], [2, 4]], [1.5, 0], [2, 1.2], r"low\[0\] = 1.5, high\[1\] = 1.2 contradict each other"),
        (range(1, 7), np.nan, 3, r"low must be infinite or .* \(got nan\)"),
    ],
)
def test_impossible_bounds_are_named(f, low, high, message):
    with pytest.raises(ValueError, match=message):
        maximum_entropy_between(f, low, high)
