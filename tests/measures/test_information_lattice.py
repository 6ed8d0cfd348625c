"""The lattice of a small set of outcomes, whose partitions can all be listed, and the five problems of arXiv 2306.15540."""

from itertools import combinations, permutations, product
from math import comb, factorial, log, log2, prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isentrope.measures import (
    common_variable,
    complementary_variable,
    discrete_mutual_information,
    rajski_distance,
    reconstruction,
    shannon_distance,
)


def partitions(n):
    """Every partition of n outcomes, as labels that grow by at most one."""

    def extend(labels):
        if len(labels) == n:
            yield labels
            return
        for label in range(max(labels, default=-1) + 2):
            yield from extend((*labels, label))

    return list(extend(()))


def below(y, x):
    """Whether y is a function of x."""
    return len(set(zip(x, y, strict=True))) == len(set(x))


def canonical(labels):
    first = {}
    return tuple(first.setdefault(label, len(first)) for label in labels)


def joint(*variables):
    return canonical(zip(*variables, strict=True))


def entropy(labels, p):
    weight = {}
    for label, q in zip(labels, p, strict=True):
        weight[label] = weight.get(label, 0.0) + q
    return -sum(q * log(q) for q in weight.values() if q > 0)


LABELS = st.lists(st.integers(0, 3), min_size=7, max_size=7)


@st.composite
def laws(draw, n=7):
    weights = np.array(draw(st.lists(st.integers(1, 9), min_size=n, max_size=n)), dtype=float)
    return weights / weights.sum()


def test_common_variable_is_the_greatest_below_both():
    every = partitions(5)
    generator = np.random.default_rng(0)
    for _ in range(60):
        x, y = (every[i] for i in generator.integers(len(every), size=2))
        lower = [z for z in every if below(z, x) and below(z, y)]
        greatest = [z for z in lower if all(below(other, z) for other in lower)]
        assert greatest == [canonical(common_variable(x, y).tolist())]


def test_impossible_outcomes_connect_nothing():
    x, y = [0, 0, 1, 1], [0, 1, 1, 2]
    assert common_variable(x, y).tolist() == [0, 0, 0, 0]
    assert common_variable(x, y, p=[0.5, 0, 0.25, 0.25]).tolist() == [0, -1, 1, 1]
    assert common_variable(x, y, p=[0.5, 1e-17, 0.25, 0.25]).tolist() == [0, -1, 1, 1]


@settings(max_examples=25)
@given(x=LABELS, y=LABELS, p=laws())
def test_absorption_and_the_bound_on_common_information(x, y, p):
    common, both = common_variable(x, y, p=p).tolist(), joint(x, y)
    assert canonical(common_variable(x, both, p=p).tolist()) == canonical(x)
    assert joint(x, common) == canonical(x)
    mutual = entropy(x, p) + entropy(y, p) - entropy(both, p)
    assert entropy(common, p) <= mutual + 1e-12


def test_the_lattice_is_not_distributive():
    x, y, z = [0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 1, 0]
    left = canonical(common_variable(x, joint(y, z)).tolist())
    right = joint(common_variable(x, y).tolist(), common_variable(x, z).tolist())
    assert left == canonical(x)
    assert right == (0, 0, 0, 0)


@settings(max_examples=25)
@given(x=LABELS, coarse=st.lists(st.integers(0, 2), min_size=4, max_size=4), p=laws())
def test_complement_restores_the_variable_and_shares_nothing(x, coarse, p):
    y = [coarse[label] for label in x]
    z = complementary_variable(x, y, p=p).tolist()
    assert joint(y, z) == canonical(x)
    assert set(common_variable(y, z, p=p).tolist()) == {0}
    assert entropy(z, p) >= entropy(x, p) - entropy(y, p) - 1e-12


def test_complement_is_as_small_as_the_conditional_entropy_exactly_where_it_is_independent():
    x, y = [0, 1, 2, 3], [0, 0, 1, 1]
    for p, independent in ([0.1, 0.4, 0.1, 0.4], True), ([0.1, 0.4, 0.25, 0.25], False):
        z = complementary_variable(x, y, p=p)
        excess = entropy(z.tolist(), p) - (entropy(x, p) - entropy(y, p))
        assert (abs(excess) < 1e-12) == independent
    # The most probable value of each block is number 0, which orders [0.4, 0.1] and [0.4, 0.1] alike.
    assert complementary_variable(x, y, p=[0.1, 0.4, 0.4, 0.1]).tolist() == [1, 0, 0, 1]


@settings(max_examples=25)
@given(x=LABELS, y=LABELS, z=LABELS, p=laws())
def test_both_distances_are_metrics(x, y, z, p):
    for distance in (shannon_distance, rajski_distance):
        assert distance(x, y, p=p) == pytest.approx(distance(y, x, p=p), abs=1e-12)
        assert distance(x, z, p=p) <= distance(x, y, p=p) + distance(y, z, p=p) + 1e-12
        assert (distance(x, y, p=p) == 0) == (canonical(x) == canonical(y))
    assert rajski_distance(x, y, p=p) <= 1


@settings(max_examples=25)
@given(x=LABELS, y=LABELS, p=laws())
def test_distances_by_their_definitions(x, y, p):
    h, hx, hy = entropy(joint(x, y), p), entropy(x, p), entropy(y, p)
    assert shannon_distance(x, y, p=p) == pytest.approx((h - hy) + (h - hx), abs=1e-12)
    if h > 0:
        assert rajski_distance(x, y, p=p) == pytest.approx(1 - (hx + hy - h) / h, abs=1e-12)


@settings(max_examples=25)
@given(x=LABELS, y=LABELS, p=laws())
def test_the_joint_variable_lies_between(x, y, p):
    both = joint(x, y)
    through = shannon_distance(x, both, p=p) + shannon_distance(both, y, p=p)
    assert through == pytest.approx(shannon_distance(x, y, p=p), abs=1e-12)


def test_two_functions_are_enough_exactly_where_the_variable_lies_between_them():
    p, every = np.array([0.1, 0.2, 0.3, 0.4]), partitions(4)
    for x in every:
        for one, other in combinations([y for y in every if below(y, x)], 2):
            through = shannon_distance(one, x, p=p) + shannon_distance(x, other, p=p)
            between = through <= shannon_distance(one, other, p=p) + 1e-12
            assert between == (joint(one, other) == canonical(x)) == reconstruction(x, [one, other], p=p).exact


def test_distance_of_constants_is_zero():
    assert rajski_distance([1, 1], [2, 2]) == shannon_distance([1, 1], [2, 2]) == 0


def test_distance_agrees_with_the_information_of_samples():
    generator = np.random.default_rng(1)
    x = generator.integers(4, size=500)
    y = (x + generator.integers(2, size=500)) % 4
    mutual = discrete_mutual_information(x, y, method="plugin")
    h = entropy(joint(x.tolist(), y.tolist()), [1 / 500] * 500)
    assert rajski_distance(x, y) == pytest.approx(1 - mutual / h, abs=1e-12)


# The five problems of the paper.


def test_symmetric_variable_from_sign_and_absolute_value():
    x = [-3, -2, -1, 1, 2, 3]
    p = np.array([0.05, 0.15, 0.3, 0.3, 0.15, 0.05])
    found = reconstruction(x, [np.sign(x), np.abs(x)], p=p)
    assert found.exact
    assert found.possible
    assert found.missing == 0
    assert found.total == pytest.approx(1, abs=1e-12)  # equality, because sign and absolute value are independent
    skew = reconstruction(x, [np.sign(x), np.abs(x)], p=[0.3, 0.2, 0.1, 0.1, 0.1, 0.2])
    assert skew.exact
    assert skew.total < 1


def test_word_from_linear_forms():
    words = list(product([0, 1], repeat=3))
    forms = list(product([0, 1], repeat=3))[1:]
    for m in (1, 2, 3, 4):
        for chosen in combinations(forms, m):
            values = [[sum(a * b for a, b in zip(form, word, strict=True)) % 2 for word in words] for form in chosen]
            found = reconstruction(words, values, base=2)
            np.testing.assert_allclose(found.distances, 1 - 1 / 3, atol=1e-12)
            assert found.possible == (m >= 3)
            spanned = {tuple(sum(c * f[i] for c, f in zip(cs, chosen, strict=True)) % 2 for i in range(3))
                       for cs in product([0, 1], repeat=m)}  # fmt: skip
            rank = round(log2(len(spanned)))
            assert found.exact == (rank == 3)
            assert found.missing == pytest.approx(3 - rank, abs=1e-12)


def test_integer_from_its_prime_signature():
    numbers = range(1, 31)
    primes = [p for p in numbers if p > 1 and all(p % q for q in range(2, p))]

    def valuation(x, p):
        return 0 if x % p else 1 + valuation(x // p, p)

    signature = [[valuation(x, p) for x in numbers] for p in primes]
    assert reconstruction(list(numbers), signature).exact
    without_two = reconstruction(list(numbers), signature[1:])
    assert not without_two.exact
    assert without_two.missing > 0


@pytest.mark.parametrize(("moduli", "coprime"), [((3, 5), True), ((3, 4, 5), True), ((4, 6), False), ((2, 6), False)])
def test_integer_from_remainders(moduli, coprime):
    x = range(prod(moduli))
    found = reconstruction(list(x), [[i % m for i in x] for m in moduli])
    # By its entropies alone every set of moduli might do; the common factor shows only in the joint law.
    assert found.possible
    assert found.total == pytest.approx(len(moduli) - 1, abs=1e-12)
    assert found.exact == coprime
    if not coprime:
        assert found.missing == pytest.approx(log(prod(moduli) / np.lcm.reduce(moduli)), abs=1e-12)


def test_order_of_a_list_from_comparisons():
    n = 4
    orders = list(permutations(range(n)))
    comparisons = [[order.index(i) < order.index(j) for order in orders] for i, j in combinations(range(n), 2)]
    assert reconstruction(orders, comparisons).exact
    least = int(np.ceil(log2(factorial(n))))
    for m in range(1, comb(n, 2) + 1):
        found = reconstruction(orders, comparisons[:m], base=2)
        assert found.possible == (m >= least)
        assert found.exact <= found.possible


@settings(max_examples=25)
@given(x=LABELS, maps=st.lists(st.lists(st.integers(0, 2), min_size=4, max_size=4), min_size=1, max_size=3), p=laws())
def test_the_condition_is_necessary(x, maps, p):
    components = [[mapping[label] for label in x] for mapping in maps]
    found = reconstruction(x, components, p=p)
    conditional = entropy(joint(x, *components), p) - entropy(joint(*components), p)
    assert found.missing == pytest.approx(conditional, abs=1e-12)
    assert found.exact == (canonical(x) == joint(*components))
    assert found.possible or not found.exact
    if found.exact:
        # The slack is what the components tell more than once.
        surplus = (found.bound - found.total) * entropy(x, p)
        assert surplus == pytest.approx(
            sum(entropy(c, p) for c in components) - entropy(joint(*components), p), abs=1e-9
        )


@pytest.mark.slow
def test_the_condition_tells_apart_most_random_components_that_do_not_suffice():
    """Where components carry too little, it says so without the joint law; near the edge it cannot."""
    generator, refused, failed, false = np.random.default_rng(0), 0, 0, 0
    for _ in range(1000):
        x = np.arange(64)
        n, values = int(generator.integers(2, 6)), int(generator.integers(2, 5))
        found = reconstruction(x, [generator.integers(values, size=64) for _ in range(n)])
        failed += not found.exact
        refused += not found.possible and not found.exact
        false += not found.possible and found.exact
    assert false == 0
    assert 0.5 < refused / failed < 0.95


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"component 1 is not a function of x"):
        reconstruction([0, 0, 1], [[0, 0, 1], [0, 1, 1]])
    with pytest.raises(ValueError, match="y is not a function of x"):
        complementary_variable([0, 0, 1], [0, 1, 1])
    with pytest.raises(ValueError, match="components are empty"):
        reconstruction([0, 1], [])
    with pytest.raises(ValueError, match="x has 3, y has 2"):
        shannon_distance([0, 1, 2], [0, 1])
    with pytest.raises(ValueError, match="probabilities in p must sum to 1"):
        rajski_distance([0, 1], [0, 1], p=[0.5, 0.6])
    with pytest.raises(ValueError, match="p must not be negative"):
        common_variable([0, 1], [0, 1], p=[1.5, -0.5])
    with pytest.raises(ValueError, match=r"p must have one probability for each of the 2"):
        common_variable([0, 1], [0, 1], p=[1.0])
    with pytest.raises(ValueError, match="there are no samples"):
        common_variable([], [])
    # A function of x on possible outcomes is one almost surely.
    assert reconstruction([0, 0, 1], [[0, 1, 1]], p=[0.5, 0.0, 0.5]).exact
