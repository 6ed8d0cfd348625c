"""Information of tables of joint probabilities: published values, identities, the plug-in of samples, gradients, errors."""

from itertools import product
from math import log

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isentrope.measures import (
    conditional_entropy_from_probabilities,
    discrete_conditional_entropy,
    discrete_conditional_mutual_information,
    discrete_dual_total_correlation,
    discrete_mutual_information,
    discrete_total_correlation,
    entropy,
    mutual_information_from_probabilities,
    rajski_distance,
    shared_information_from_probabilities,
)


def law_of(*outcomes):
    """The law in which all of these have the same probability."""
    outcomes = np.array(outcomes)
    p = np.zeros(outcomes.max(axis=0) + 1)
    np.add.at(p, tuple(outcomes.T), 1 / len(outcomes))
    return p


def parity(d):
    return law_of(*((*bits, sum(bits) % 2) for bits in product((0, 1), repeat=d - 1)))


def copies(d):
    return law_of([0] * d, [1] * d)


# Values of the package dit, in bits.
@pytest.mark.parametrize(
    ("p", "known", "expected"),
    [
        (parity(3), (), (1, 2)),
        (copies(3), (), (2, 1)),
        (parity(4), (), (1, 3)),
        (copies(5), (), (4, 1)),
        (copies(5), (2,), (0, 0)),
        (parity(5), (), (1, 4)),
        (parity(5), (0,), (1, 3)),
        (parity(5), (1, 4), (1, 2)),
    ],
)
def test_parities_and_copies_also_where_some_are_known(p, known, expected):
    found = shared_information_from_probabilities(p, given=known, base=2)
    assert tuple(map(float, found)) == pytest.approx(expected, abs=1e-12)
    assert float(found.o_information) == pytest.approx(expected[0] - expected[1], abs=1e-12)
    assert float(found.s_information) == pytest.approx(sum(expected), abs=1e-12)


def test_dyadic_and_triadic_variables_have_the_same():
    # James and Crutchfield (arXiv 1609.01233), each variable of two bits, on two axes.
    shared = list(product((0, 1), repeat=3))
    dyadic = law_of(*((a, b, b, c, c, a) for a, b, c in shared))
    triadic = law_of(*((a, b, a, c, a, b ^ c) for a, b, c in shared))
    for p in (dyadic, triadic):
        found = shared_information_from_probabilities(p, variables=[(0, 1), (2, 3), (4, 5)], base=2)
        assert tuple(map(float, found)) == pytest.approx((3, 3), abs=1e-12)


@settings(max_examples=30)
@given(st.lists(st.tuples(*[st.integers(0, 2)] * 4), min_size=2, max_size=30))
def test_it_is_the_plug_in_of_samples_with_these_frequencies(rows):
    samples = np.array(rows)
    p = law_of(*rows)
    x, y, z, w = samples.T
    same = {"abs": 1e-12}
    found = conditional_entropy_from_probabilities(p, of=(0, 3), given=2)
    assert float(found) == pytest.approx(discrete_conditional_entropy((x, w), z, method="plugin").value, **same)
    found = mutual_information_from_probabilities(p, x=(0, 3), y=1)
    assert float(found) == pytest.approx(discrete_mutual_information((x, w), y, method="plugin").value, **same)
    found = mutual_information_from_probabilities(p, x=-1, y=1, given=(0, 2))
    expected = discrete_conditional_mutual_information(w, y, (x, z), method="plugin").value
    assert float(found) == pytest.approx(expected, **same)
    found = shared_information_from_probabilities(p)
    expected = (discrete_total_correlation(samples, method="plugin").value,)
    expected += (discrete_dual_total_correlation(samples, method="plugin").value,)
    assert tuple(map(float, found)) == pytest.approx(expected, **same)


def random_table(*shape, seed=0):
    return np.random.default_rng(seed).dirichlet(np.full(int(np.prod(shape)), 0.4)).reshape(shape)


def test_chain_rules():
    p = random_table(3, 2, 4)
    joint = conditional_entropy_from_probabilities(p, of=(0, 1, 2), given=())
    assert float(joint) == pytest.approx(float(entropy(p.ravel())))
    steps = [((0,), ()), ((1,), (0,)), ((2,), (0, 1))]
    assert float(joint) == pytest.approx(
        sum(float(conditional_entropy_from_probabilities(p, of=of, given=known)) for of, known in steps)
    )
    whole = mutual_information_from_probabilities(p, x=0, y=(1, 2))
    first = mutual_information_from_probabilities(p, x=0, y=2)
    assert float(whole) == pytest.approx(float(first + mutual_information_from_probabilities(p, x=0, y=1, given=2)))
    # Three variables: the O-information is the co-information I(X;Y) - I(X;Y|Z).
    third = mutual_information_from_probabilities(p) - mutual_information_from_probabilities(p, given=2)
    assert float(shared_information_from_probabilities(p).o_information) == pytest.approx(float(third))
    two = shared_information_from_probabilities(p, variables=[0, (1, 2)])
    assert tuple(map(float, two)) == pytest.approx((float(whole), float(whole)))


def test_shares_of_the_entropies():
    p = random_table(3, 4)
    h_x, h_y = (float(entropy(p.sum(axis=axis))) for axis in (1, 0))
    information = h_x + h_y - float(entropy(p.ravel()))
    scales = {"mean": (h_x + h_y) / 2, "min": min(h_x, h_y), "max": max(h_x, h_y), "sqrt": (h_x * h_y) ** 0.5}
    for name, scale in (scales | {"joint": h_x + h_y - information}).items():
        share = float(mutual_information_from_probabilities(p, normalized_by=name))
        assert share == pytest.approx(information / scale), name
        # A bijection has all of it, a constant nothing; scikit-learn gives two constants 1.
        assert float(mutual_information_from_probabilities(np.eye(3) / 3, normalized_by=name)) == pytest.approx(1)
        for constant in (np.full((1, 3), 1 / 3), np.ones((1, 1))):
            assert float(mutual_information_from_probabilities(constant, normalized_by=name)) == 0
    x, y = np.indices(p.shape)
    distance = rajski_distance(x.ravel(), y.ravel(), p=p.ravel())
    assert float(mutual_information_from_probabilities(p, normalized_by="joint")) == pytest.approx(1 - distance)


def test_counts_are_rescaled():
    counts = np.array([[30.0, 10], [0, 60]])
    again = mutual_information_from_probabilities(counts, normalize=True)
    assert float(again) == pytest.approx(float(mutual_information_from_probabilities(counts / 100)))
    assert float(mutual_information_from_probabilities(counts.tolist(), normalize=True)) == float(again)


def test_libraries_precision_and_gradients():
    p = random_table(2, 3, 2)
    for function in (
        lambda q: mutual_information_from_probabilities(q, given=2),
        lambda q: mutual_information_from_probabilities(q, normalized_by="sqrt"),
        lambda q: conditional_entropy_from_probabilities(q, of=1, given=(0, 2)),
        lambda q: shared_information_from_probabilities(q).o_information,
    ):
        tensor = torch.tensor(p, requires_grad=True)
        assert function(tensor).item() == pytest.approx(float(function(p)), abs=1e-14)
        assert function(tensor.float()).dtype == torch.float32
        assert torch.autograd.gradcheck(lambda z, f=function: f(torch.softmax(z.ravel(), 0).reshape(2, 3, 2)), tensor)
    zeros = torch.tensor([[0.5, 0.0], [0.0, 0.5]], requires_grad=True)
    mutual_information_from_probabilities(zeros, normalized_by="mean").backward()
    assert torch.isfinite(zeros.grad).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: mutual_information_from_probabilities(p, x=2), "x names 2, but there are 2 axes of p"),
        (lambda p: mutual_information_from_probabilities(p, x=0, y=-2), "0 is named twice, by x and y"),
        (lambda p: mutual_information_from_probabilities(p, x=()), "x must name at least one of the axes of p"),
        (lambda p: mutual_information_from_probabilities(2 * p), "must sum to 1"),
        (lambda p: mutual_information_from_probabilities(p, normalized_by="size"), "None or one of mean, min, max"),
        (lambda p: mutual_information_from_probabilities(p, normalized_by="min", base=2), "a share has no unit"),
        (lambda p: conditional_entropy_from_probabilities(-p), "p is negative"),
        (lambda p: shared_information_from_probabilities(p, given=1), "at least 2 variables are needed, got 1"),
        (lambda p: shared_information_from_probabilities(p, variables=[0, (0, 1)]), "by variable 0 and variable 1"),
    ],
)
def test_misuse_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.full((2, 2), 1 / 4))


def test_the_unit():
    p = np.eye(2) / 2
    for base, expected in ((None, log(2)), (2, 1)):
        assert float(mutual_information_from_probabilities(p, base=base)) == pytest.approx(expected)
        assert float(conditional_entropy_from_probabilities(p, of=0, given=(), base=base)) == pytest.approx(expected)
        assert float(shared_information_from_probabilities(p, base=base).total_correlation) == pytest.approx(expected)
