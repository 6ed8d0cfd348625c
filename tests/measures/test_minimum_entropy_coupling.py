"""Couplings of small entropy, with and without a bottleneck: guarantees against exact searches, limits, known values."""

from itertools import combinations, product
from math import e, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from isentrope.measures import coupling_with_bottleneck, entropy_bounded_encoder, minimum_entropy_coupling


def bits(p):
    p = np.asarray(p)[np.asarray(p) > 1e-300]
    return float(-np.sum(p * np.log2(p)))


def binary(x):
    return bits([x, 1 - x])


def information(joint):
    return bits(joint.sum(axis=0)) + bits(joint.sum(axis=1)) - bits(joint)


def least_entropy(p, q):
    """The exact minimum: entropy is concave, so that it lies on a vertex, with at most n + m - 1 cells."""
    cells = list(product(range(len(p)), range(len(q))))
    equations = np.array(
        [[i == k for i, _ in cells] for k in range(len(p))] + [[j == k for _, j in cells] for k in range(len(q))]
    )
    known, best = np.concatenate([p, q]), np.inf
    for chosen in combinations(range(len(cells)), len(p) + len(q) - 1):
        columns = equations[:, chosen].astype(float)
        solution = np.linalg.lstsq(columns, known, rcond=None)[0]
        if np.abs(columns @ solution - known).max() < 1e-9 and solution.min() > -1e-12:
            best = min(best, bits(np.maximum(solution, 0)))
    return best


@pytest.mark.parametrize("seed", range(6))
def test_greedy_coupling_is_within_its_guarantee_of_the_exact_minimum(seed):
    rng = np.random.default_rng(seed)
    p, q = rng.dirichlet(np.ones(3)), rng.dirichlet(np.ones(3))
    found, least = minimum_entropy_coupling(p, q, base=2), least_entropy(p, q)
    assert least - 1e-9 <= found.entropy <= least + 1 / (e * log(2))
    assert found.lower_bound <= least + 1e-9
    assert found.toarray().sum(axis=1) == pytest.approx(p, abs=1e-12)
    assert found.toarray().sum(axis=0) == pytest.approx(q, abs=1e-12)


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 9), min_size=2, max_size=4))
def test_every_coupling_has_its_marginals_and_bounds(seed, sizes):
    rng = np.random.default_rng(seed)
    laws = [rng.dirichlet(np.full(n, 0.5)) for n in sizes]
    found = minimum_entropy_coupling(*laws, base=2)
    joint = found.toarray()
    for k, law in enumerate(laws):
        assert joint.sum(axis=tuple(set(range(len(laws))) - {k})) == pytest.approx(law, abs=1e-12)
    assert len(found.probabilities) <= sum(sizes) - len(sizes) + 1
    assert found.entropy == pytest.approx(bits(joint), abs=1e-9)
    assert max(bits(law) for law in laws) - 1e-9 <= found.lower_bound <= found.entropy
    # Cicalese, Gargano and Vaccaro: within a bit of the bound for two; Compton: within a nat for any number.
    assert found.entropy - found.lower_bound <= 1 / log(2) + 1e-9


def test_refining_matches_what_is_alike():
    # 0.6 is 0.3 twice; the largest masses first make four cells of it.
    p, q = [0.4, 0.3, 0.3], [0.6, 0.4]
    assert minimum_entropy_coupling(p, q, base=2).entropy == pytest.approx(bits([0.4, 0.3, 0.2, 0.1]))
    refined = minimum_entropy_coupling(p, q, refine=True, base=2)
    assert refined.entropy == pytest.approx(least_entropy(np.array(p), np.array(q)))
    assert refined.toarray() == pytest.approx(np.array([[0, 0.4], [0.3, 0], [0.3, 0]]), abs=1e-12)


def test_refining_finds_less_entropy_on_average_and_never_more():
    # The paper prints 2.946 and 2.937 bit for its two orders, of laws that it does not name.
    rng, gained = np.random.default_rng(3), []
    for _ in range(60):
        p, q = rng.dirichlet(np.ones(8)), rng.dirichlet(np.ones(8))
        plain, refined = (minimum_entropy_coupling(p, q, refine=flag, base=2) for flag in (False, True))
        gained.append(plain.entropy - refined.entropy)
        assert refined.toarray().sum(axis=1) == pytest.approx(p, abs=1e-12)
        assert refined.toarray().sum(axis=0) == pytest.approx(q, abs=1e-12)
        assert len(refined.probabilities) <= 15
        assert plain.lower_bound == refined.lower_bound <= refined.entropy + 1e-12
    assert min(gained) >= 0
    assert np.mean(gained) == pytest.approx(0.023, abs=3 * np.std(gained) / 60**0.5)


@pytest.mark.parametrize("seed", range(25))
def test_refining_matches_the_best_of_all_pairs_of_masses(seed):
    rng = np.random.default_rng(seed)
    laws = rng.dirichlet(np.ones(6)), rng.dirichlet(np.ones(7))
    left, cells = [list(law) for law in laws], []
    while max(left[0]) > 1e-14 and max(left[1]) > 1e-14:
        pairs = [(i, j) for i, j in product(range(6), range(7)) if min(left[0][i], left[1][j]) > 1e-14]
        i, j = max(pairs, key=lambda pair: min(left[0][pair[0]], left[1][pair[1]])
                   - abs(left[0][pair[0]] - left[1][pair[1]]) / 4)  # fmt: skip
        cells.append(min(left[0][i], left[1][j]))
        left[0][i], left[1][j] = left[0][i] - cells[-1], left[1][j] - cells[-1]
    slow = min(bits(cells), minimum_entropy_coupling(*laws, base=2).entropy)
    assert minimum_entropy_coupling(*laws, refine=True, base=2).entropy == pytest.approx(slow, abs=1e-12)


def test_lower_bound_is_the_better_of_two():
    # A pair found by climbing, whose greedy coupling is further from the bound of majorisation than it can be from the least.
    p = np.array([0.1816, 0.18, 0.1598, 0.4786])
    q = np.array([0.297, 0.2975, 0.1124, 0.2931])
    plain, refined = (minimum_entropy_coupling(p, q, refine=flag, base=2) for flag in (False, True))
    sums = np.minimum(np.cumsum(np.sort(p)[::-1]), np.cumsum(np.sort(q)[::-1]))
    assert plain.entropy - bits(np.diff(sums, prepend=0)) > 0.6
    assert plain.lower_bound == pytest.approx(plain.entropy - 1 / (e * log(2)), abs=1e-12)
    assert refined.lower_bound == pytest.approx(plain.lower_bound, abs=1e-12)
    assert refined.entropy <= plain.entropy


@pytest.mark.parametrize("seed", range(3))
def test_refined_couplings_are_not_below_the_exact_minimum(seed):
    rng = np.random.default_rng(seed)
    p, q = rng.dirichlet(np.ones(3)), rng.dirichlet(np.ones(3))
    found = minimum_entropy_coupling(p, q, refine=True, base=2)
    assert least_entropy(p, q) - 1e-9 <= found.entropy <= minimum_entropy_coupling(p, q, base=2).entropy


def test_equal_marginals_lie_on_the_diagonal():
    p = np.random.default_rng(1).dirichlet(np.ones(12))
    found = minimum_entropy_coupling(p, p[::-1], p)
    assert found.entropy == pytest.approx(found.lower_bound, abs=1e-12)
    assert np.count_nonzero(found.toarray()) == 12
    joint = minimum_entropy_coupling(p, p).toarray()
    assert joint == pytest.approx(np.diag(p), abs=1e-15)


def test_greatest_lower_bound_is_that_of_majorisation():
    # Sorted sums .6 .9 1 and .5 1 1: their minima .5 .9 1 are those of (.5, .4, .1).
    found = minimum_entropy_coupling([0.6, 0.3, 0.1], [0.5, 0.5], base=2)
    guaranteed = found.entropy - 1 / (e * log(2))
    assert found.lower_bound == pytest.approx(max(bits([0.5, 0.4, 0.1]), guaranteed), rel=1e-12)


def test_size_eight_is_close_to_its_bound():
    # 0.28 bit on average over uniform pairs of laws, as computed apart from this implementation.
    rng = np.random.default_rng(2)
    excess = []
    for _ in range(60):
        p, q = rng.dirichlet(np.ones(8), size=2)
        meet = np.diff(np.minimum(np.cumsum(np.sort(p)[::-1]), np.cumsum(np.sort(q)[::-1])), prepend=0)
        excess.append(minimum_entropy_coupling(p, q, base=2).entropy - bits(meet))
    assert 0.26 < np.mean(excess) < 0.30
    assert 0 <= min(excess) <= max(excess) < 0.6


@pytest.mark.parametrize(
    ("bound", "rate"),
    [(2, 1.1568), (1.1, 0.8813), (0.8813, 0.8813), (0.73, 0.7219), (0.6, 0.4690), (0.4, 0.0), (0, 0.0)],
)
def test_maps_of_three_outcomes(bound, rate):
    encoder = entropy_bounded_encoder([0.7, 0.2, 0.1], bound, deterministic=True, base=2)
    assert bits(encoder.sum(axis=0)) == pytest.approx(rate, abs=5e-5)
    assert np.count_nonzero(encoder) == 3


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(2, 8), st.floats(0, 1))
def test_encoders_keep_their_bound_and_the_guarantee(seed, n, share):
    p = np.random.default_rng(seed).dirichlet(np.ones(n))
    bound = share * bits(p)
    by_map, drawn = (entropy_bounded_encoder(p, bound, deterministic=flag, base=2) for flag in (True, False))
    for encoder in (by_map, drawn):
        assert encoder.sum(axis=1) == pytest.approx(p, abs=1e-12)
        assert bits(encoder.sum(axis=0)) <= bound + 1e-9
    assert bound - information(by_map) <= binary(np.sort(p)[-2]) + 1e-9
    assert information(drawn) >= information(by_map) - 1e-9


def every_map(n):
    """All functions on n outcomes, one of each relabelling."""
    if n == 0:
        return [()]
    return [(*rest, k) for rest in every_map(n - 1) for k in range(max(rest, default=-1) + 2)]


def best_of_every_edge(p, bound, maps=None):
    """The most information of all maps with the law of one outcome's value shared by two values, at most at the bound."""
    best = 0.0
    for columns in maps or every_map(len(p)):
        for x, to in product(range(len(p)), range(max(columns) + 2)):

            def encoder(moved, columns=columns, x=x, to=to):
                joint = np.zeros((len(p), max(columns) + 2))
                joint[np.arange(len(p)), columns] = p
                joint[x, columns[x]] -= moved
                joint[x, to] += moved
                return joint

            def excess(moved, encoder=encoder):
                return bits(encoder(moved).sum(axis=0)) - bound

            grid = np.linspace(0, p[x], 9)
            values = [excess(moved) for moved in grid]
            moves = [moved for moved, value in zip(grid, values, strict=True) if value <= 1e-12]
            moves += [
                brentq(excess, a, b)
                for a, b, low, high in zip(grid, grid[1:], values, values[1:], strict=False)
                if low * high < 0
            ]
            best = max([best, *(information(encoder(moved)) for moved in moves)])
    return best


@pytest.mark.parametrize("bound", [0.15, 0.5, 0.72, 0.95, 1.1])
def test_drawn_encoders_are_the_best_next_to_any_map(bound):
    # The example of the paper, where its search recovers the exact solution.
    p = np.array([0.7, 0.2, 0.1])
    encoder = entropy_bounded_encoder(p, bound, base=2)
    assert information(encoder) == pytest.approx(best_of_every_edge(p, bound), abs=1e-6)


@pytest.mark.parametrize("seed", range(40))
def test_drawn_encoders_of_three_outcomes_are_the_best_next_to_any_map(seed):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(3, 1.5))
    # Anywhere below H(X), or a little above or below the rate of a map.
    near = bits(np.bincount(rng.integers(0, 2, 3), p)) + rng.choice([-0.02, 0.02])
    bound = np.clip(near if seed % 2 else rng.uniform(0, 1) * bits(p), 0.01, bits(p) - 1e-3)
    encoder = entropy_bounded_encoder(p, bound, base=2)
    assert information(encoder) == pytest.approx(best_of_every_edge(p, bound), abs=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_drawn_encoders_are_as_good_as_next_to_the_merged_pair_just_above_the_bound(seed):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(5, 3.0))
    pairs = [tuple(np.where(np.arange(5) == j, i, np.arange(5))) for i, j in combinations(range(5), 2)]
    rates = np.array([bits(np.bincount(columns, p)) for columns in pairs])
    bound = rng.uniform(rates.min() - 0.05, rates.max())
    above = pairs[int(np.argmin(np.where(rates > bound, rates, np.inf)))]
    encoder = entropy_bounded_encoder(p, bound, base=2)
    assert information(encoder) >= best_of_every_edge(p, bound, [above]) - 1e-9


@pytest.mark.parametrize("seed", range(4))
def test_drawn_encoders_are_the_best_next_to_the_maps_of_the_algorithm(seed):
    rng = np.random.default_rng(seed)
    p = np.sort(rng.dirichlet(np.full(4, 0.8)))[::-1]
    bound = rng.uniform(0.1, 0.9) * bits(p)
    apart = [tuple(np.maximum(np.arange(4) - merged, 0)) for merged in range(4)]
    besides = [tuple(np.minimum(columns, max(columns) - 1)) for columns in apart[:2]]
    encoder = entropy_bounded_encoder(p, bound, base=2)
    assert information(encoder) >= best_of_every_edge(p, bound, apart + besides) - 1e-6


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_encoders_of_many_outcomes_use_all_that_they_may(share):
    p = np.random.default_rng(6).dirichlet(np.ones(1000))
    bound = share * bits(p)
    encoder = entropy_bounded_encoder(p, bound, base=2)
    assert bits(encoder.sum(axis=0)) == pytest.approx(bound, abs=1e-9)
    # H(T|X) is that of the one outcome that is drawn.
    assert bound - information(encoder) == pytest.approx(bits(encoder) - bits(p), abs=1e-9)
    assert bound - information(encoder) < 1e-3


def test_limits_of_the_bottleneck():
    rng = np.random.default_rng(3)
    p, q = rng.dirichlet(np.ones(6)), rng.dirichlet(np.ones(5))
    wide, closed = coupling_with_bottleneck(p, q, np.inf), coupling_with_bottleneck(p, q, 0.0)
    plain = minimum_entropy_coupling(p, q)
    assert wide.information == pytest.approx((bits(p) + bits(q)) * log(2) - plain.entropy, abs=1e-12)
    assert wide.encoder_information == pytest.approx(wide.rate, abs=1e-12)
    assert closed.information == pytest.approx(0, abs=1e-12)
    assert closed.joint == pytest.approx(np.outer(p, q), abs=1e-12)


@pytest.mark.parametrize("bound", [0.3, 0.9, 1.4])
def test_what_passes_a_bottleneck_obeys_its_inequalities(bound):
    rng = np.random.default_rng(4)
    p, q = rng.dirichlet(np.ones(6)), rng.dirichlet(np.ones(5))
    found = coupling_with_bottleneck(p, q, bound, base=2)
    assert found.joint.sum(axis=1) == pytest.approx(p, abs=1e-12)
    assert found.joint.sum(axis=0) == pytest.approx(q, abs=1e-12)
    assert found.rate <= bound + 1e-9
    assert found.information == pytest.approx(information(found.joint), abs=1e-12)
    assert found.encoder_information == pytest.approx(information(found.encoder), abs=1e-12)
    assert found.decoder_information == pytest.approx(information(found.decoder), abs=1e-12)
    assert found.information >= found.encoder_information + found.decoder_information - found.rate - 1e-12
    assert found.information <= min(found.encoder_information, found.decoder_information) + 1e-12


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: minimum_entropy_coupling([1.0]), "at least two marginals"),
        (lambda: minimum_entropy_coupling([1.0], [1.0], [1.0], refine=True), r"refine needs two marginals \(got 3\)"),
        (lambda: minimum_entropy_coupling([1.0], [0.5, 0.50001]), r"marginal 1 must sum to 1 \(got 1.00001\)$"),
        (lambda: minimum_entropy_coupling([1.0], [0.5, 0.4]), r"marginal 1 must sum to 1 \(got 0.9\)$"),
        (
            lambda: minimum_entropy_coupling([1.0], [[0.5, 0.5]]),
            r"marginal 1 must be .* one axis \(got shape \(1, 2\)\)",
        ),
        (lambda: minimum_entropy_coupling([1.0], [1.5, -0.5]), r"must not be negative \(got -0.5 at index \(1,\)\)"),
        (lambda: entropy_bounded_encoder([0.5, 0.5], -1), "max_entropy must not be negative"),
        (
            lambda: coupling_with_bottleneck([0.5, 0.5], [1.0], np.nan),
            r"max_entropy must be infinite or .* \(got nan\)",
        ),
        (lambda: coupling_with_bottleneck([0.5, 0.5], [1.0], 1, base=1), "base must be positive"),
    ],
)
def test_wrong_arguments_are_explained(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def by_belief(belief, rate):
    """Values of T that are equally probable, as many as the rate allows: the most probable messages together."""
    order, values = np.argsort(-belief, kind="stable"), int(2**rate)
    middles = np.cumsum(belief[order]) - belief[order] / 2
    joint = np.zeros((len(belief), values))
    joint[order, np.minimum((middles * values).astype(int), values - 1)] = belief[order]
    return joint[:, joint.any(axis=0)]


def by_number(belief, rate):
    """Values of T that are equally long ranges of messages: a uniform quantiser."""
    values = int(2**rate)
    joint = np.zeros((len(belief), values))
    joint[np.arange(len(belief)), np.arange(len(belief)) * values // len(belief)] = belief
    return joint[:, joint.any(axis=0)]


def share_understood(encoder, rate, messages=32, steps=10, games=100):
    """How often a receiver of actions, whose law is given at each step, understands a message sent at a bounded rate."""
    rng, understood = np.random.default_rng(1), 0
    for _ in range(games):
        message, belief = rng.integers(messages), np.full(messages, 1 / messages)
        for _ in range(steps):
            policy = rng.dirichlet(np.ones(4))
            sent = encoder(belief, rate)
            decoder = minimum_entropy_coupling(sent.sum(axis=0), policy).toarray()
            joint = sent @ (decoder / sent.sum(axis=0)[:, None])
            action = rng.choice(4, p=joint[message] / joint[message].sum())
            belief = np.where(joint[:, action] < 1e-14, 0, joint[:, action])
            belief /= belief.sum()
        understood += belief.argmax() == message
    return understood / games


@pytest.mark.slow
def test_markov_coding_game():
    """The claim of the paper, that the search sends more through a policy than a uniform quantiser at the same rate, and its
    limit: a quantiser that follows the receiver's belief sends more than the search at a rate of one bit."""

    def search(belief, rate):
        return entropy_bounded_encoder(belief, rate, deterministic=True, base=2)

    searched, uniform, following = (share_understood(encoder, 1.0) for encoder in (search, by_number, by_belief))
    assert searched > uniform + 0.5
    assert following > searched
