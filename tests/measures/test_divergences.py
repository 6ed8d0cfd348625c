"""Divergences and distances: closed forms, identities, inequalities, gradients, edges and errors."""

from functools import partial
from itertools import pairwise
from math import inf, log, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from isentrope.measures import (
    alpha_divergence,
    bhattacharyya_distance,
    chi_squared_divergence,
    cross_entropy,
    entropy,
    generalized_jensen_shannon_divergence,
    hellinger_distance,
    jensen_shannon_divergence,
    kl_divergence,
    renyi_divergence,
    total_variation_distance,
    tsallis_divergence,
)

ORDERS = [0, 0.3, 0.95, 1 - 1e-7, 1, 1 + 1e-7, 1.05, 2, 7.5, inf]
ALL = {
    "cross_entropy": cross_entropy,
    "kl_divergence": kl_divergence,
    "renyi_divergence 0": partial(renyi_divergence, alpha=0),
    "renyi_divergence 0.5": partial(renyi_divergence, alpha=0.5),
    "renyi_divergence 0.97": partial(renyi_divergence, alpha=0.97),
    "renyi_divergence 1.03": partial(renyi_divergence, alpha=1.03),
    "renyi_divergence 3": partial(renyi_divergence, alpha=3),
    "renyi_divergence inf": partial(renyi_divergence, alpha=inf),
    "jensen_shannon_divergence": jensen_shannon_divergence,
    "jensen_shannon_divergence 0.2": partial(jensen_shannon_divergence, weights=(0.2, 0.8)),
    "hellinger_distance": hellinger_distance,
    "total_variation_distance": total_variation_distance,
    "tsallis_divergence 0.5": partial(tsallis_divergence, alpha=0.5),
    "tsallis_divergence 0.97": partial(tsallis_divergence, alpha=0.97),
    "tsallis_divergence 3": partial(tsallis_divergence, alpha=3),
    "alpha_divergence -1": partial(alpha_divergence, alpha=-1),
    "alpha_divergence 0.03": partial(alpha_divergence, alpha=0.03),
    "chi_squared_divergence": chi_squared_divergence,
    "bhattacharyya_distance": bhattacharyya_distance,
}
WITHOUT_UNIT = {name for name in ALL if name.split("_")[0] in ("hellinger", "total", "tsallis", "alpha", "chi")}
every = pytest.mark.parametrize("function", ALL.values(), ids=ALL.keys())


@st.composite
def pairs(draw, positive=False):
    size = draw(st.integers(2, 10))
    elements = st.floats(1e-3, 1) if positive else st.just(0.0) | st.floats(1e-6, 1)
    weights = arrays(np.float64, size, elements=elements).filter(lambda w: w.sum() > 1e-2)
    first, second = draw(weights), draw(weights)
    return first / first.sum(), second / second.sum()


def random_pair(*shape, seed=0):
    generator = np.random.default_rng(seed)
    return tuple(generator.dirichlet(np.full(shape[-1], 0.7), size=shape[:-1]) for _ in range(2))


def test_two_point_closed_forms():
    p, q = np.array([0.5, 0.5]), np.array([0.9, 0.1])
    assert float(kl_divergence(p, q)) == pytest.approx(0.5 * log(25 / 9), rel=1e-12)
    assert float(kl_divergence(q, p)) == pytest.approx(0.9 * log(1.8) + 0.1 * log(0.2), rel=1e-12)
    assert float(cross_entropy(p, q)) == pytest.approx(-0.5 * log(0.09), rel=1e-12)
    assert float(total_variation_distance(p, q)) == pytest.approx(0.4, rel=1e-12)
    assert float(hellinger_distance(p, q)) == pytest.approx(sqrt(1 - sqrt(0.45) - sqrt(0.05)), rel=1e-12)
    assert float(renyi_divergence(p, q, alpha=2)) == pytest.approx(log(0.25 / 0.9 + 0.25 / 0.1), rel=1e-12)
    assert float(renyi_divergence(p, q, alpha=inf)) == pytest.approx(log(5), rel=1e-12)


@given(pairs(positive=True))
def test_kl_is_cross_entropy_minus_entropy(pair):
    p, q = pair
    assert float(kl_divergence(p, q)) == pytest.approx(float(cross_entropy(p, q)) - float(entropy(p)), abs=1e-12)
    assert float(cross_entropy(p, p)) == pytest.approx(float(entropy(p)), abs=1e-12)


@given(pairs(), st.floats(0.05, 0.95))
def test_jensen_shannon_is_the_entropy_gained_by_mixing(pair, weight):
    p, q = pair
    weights = (weight, 1 - weight)
    gained = float(entropy(weight * p + (1 - weight) * q, normalize=True))
    gained -= weight * float(entropy(p)) + (1 - weight) * float(entropy(q))
    value = float(jensen_shannon_divergence(p, q, weights=weights))
    assert value == pytest.approx(gained, abs=1e-12)
    assert -1e-12 <= value <= float(entropy(list(weights))) + 1e-12


@given(arrays(np.float64, (3, 5), elements=st.just(0.0) | st.floats(1e-6, 1)).filter(lambda w: w.sum(axis=1).all()))
def test_roots_of_jensen_shannon_hellinger_and_total_variation_are_metrics(weights):
    p, q, r = weights / weights.sum(axis=1, keepdims=True)
    for distance in (
        lambda a, b: sqrt(max(0.0, float(jensen_shannon_divergence(a, b)))),
        lambda a, b: float(hellinger_distance(a, b)),
        lambda a, b: float(total_variation_distance(a, b)),
    ):
        assert distance(p, r) <= distance(p, q) + distance(q, r) + 1e-7
        assert distance(p, q) == pytest.approx(distance(q, p), abs=1e-7)


@given(pairs())
def test_inequalities_between_the_distances(pair):
    p, q = pair
    distance, hellinger = float(total_variation_distance(p, q)), float(hellinger_distance(p, q))
    assert hellinger**2 <= distance + 1e-12
    assert distance <= hellinger * sqrt(2 - hellinger**2) + 1e-12
    assert 2 * distance**2 <= float(kl_divergence(p, q)) + 1e-12  # Pinsker
    assert float(jensen_shannon_divergence(p, q)) <= log(2) * distance + 1e-12
    assert float(jensen_shannon_divergence(p, q)) == pytest.approx(float(jensen_shannon_divergence(q, p)), abs=1e-13)


@given(pairs())
def test_renyi_divergences_do_not_decrease_with_the_order(pair):
    p, q = pair
    values = [float(renyi_divergence(p, q, alpha=alpha)) for alpha in ORDERS]
    assert values[0] >= -1e-12
    assert all(later >= earlier - 1e-7 for earlier, later in pairwise(values))
    assert values[4] == float(kl_divergence(p, q))


@given(pairs())
def test_renyi_divergence_against_its_definition(pair):
    p, q = pair
    for alpha in (0.3, 0.95, 1.05, 2.5):
        kept = (p > 0) & (q > 0)
        total = (p[kept] ** alpha * q[kept] ** (1 - alpha)).sum()
        expected = inf if total == 0 or (alpha > 1 and (q[p > 0] == 0).any()) else log(total) / (alpha - 1)
        assert float(renyi_divergence(p, q, alpha=alpha)) == pytest.approx(expected, rel=1e-7, abs=1e-10)
    hellinger = float(hellinger_distance(p, q))
    half = float(renyi_divergence(p, q, alpha=0.5))
    assert np.exp(-half / 2) == pytest.approx(1 - hellinger**2, abs=1e-12)
    covered = q[p > 0].sum()
    assert float(renyi_divergence(p, q, alpha=0)) == pytest.approx(-log(covered) if covered else inf, abs=1e-12)


@every
def test_renyi_slope_at_one_and_float32_accuracy(function):
    """In float32, orders next to 1 must not divide the rounding of a sum by a small number."""
    p, q = random_pair(50, seed=4)
    exact = float(function(p, q))
    assert float(function(p.astype(np.float32), q.astype(np.float32))) == pytest.approx(exact, rel=1e-5)
    for alpha in (1 - 1e-6, 1 + 1e-6):
        value = float(renyi_divergence(p.astype(np.float32), q.astype(np.float32), alpha=alpha))
        assert value == pytest.approx(float(kl_divergence(p, q)), rel=1e-5)


@given(pairs())
def test_processing_the_data_does_not_increase_divergence(pair):
    p, q = pair
    merged = [np.concatenate([[x[0] + x[1]], x[2:]]) for x in pair]
    for name, function in ALL.items():
        if name != "cross_entropy":
            assert float(function(*merged)) <= float(function(p, q)) + 1e-9


@every
def test_independent_pairs_add_up(function):
    name = next(name for name, candidate in ALL.items() if candidate is function)
    if name in WITHOUT_UNIT or "jensen" in name:
        return
    (p, q), (r, s) = random_pair(5, seed=1), random_pair(4, seed=2)
    joint = float(function(np.outer(p, r).reshape(-1), np.outer(q, s).reshape(-1)))
    assert joint == pytest.approx(float(function(p, q)) + float(function(r, s)), rel=1e-9)


@every
def test_equal_distributions_are_at_zero(function):
    p, _ = random_pair(7)
    expected = float(entropy(p)) if function is cross_entropy else 0
    assert float(function(p, p)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.filterwarnings("error")
def test_what_q_excludes():
    p, q = np.array([0.5, 0.5, 0.0]), np.array([1.0, 0.0, 0.0])
    for alpha in (1, 1.05, 2, inf):
        assert float(renyi_divergence(p, q, alpha=alpha)) == inf
    assert float(kl_divergence(p, q)) == float(cross_entropy(p, q)) == inf
    assert float(kl_divergence(q, p)) == pytest.approx(log(2))
    for alpha in (0, 0.5, 0.95):
        assert float(renyi_divergence(p, q, alpha=alpha)) == pytest.approx(alpha * log(2) / (1 - alpha))
    disjoint = np.array([0.0, 0.0, 1.0])
    for alpha in (0, 0.5, 0.95, 1.05, 3, inf):
        assert float(renyi_divergence(p, disjoint, alpha=alpha)) == inf
    assert float(jensen_shannon_divergence(p, disjoint)) == pytest.approx(log(2))
    assert float(hellinger_distance(p, disjoint)) == float(total_variation_distance(p, disjoint)) == 1
    rows = kl_divergence(np.stack([p, q]), np.stack([q, q]))
    assert rows[0] == inf
    assert rows[1] == 0


@pytest.mark.filterwarnings("error")
def test_logits_far_apart_do_not_overflow():
    p, q = np.array([0.0, -1e4], dtype=np.float32), np.array([-1e4, 0.0], dtype=np.float32)
    assert float(kl_divergence(p_logits=p, q_logits=q)) == pytest.approx(1e4, rel=1e-6)
    for alpha in (0.5, 0.97, 1.03, 3):
        expected = np.logaddexp(1e4 * (alpha - 1), -1e4 * alpha) / (alpha - 1)
        assert float(renyi_divergence(p_logits=p, q_logits=q, alpha=alpha)) == pytest.approx(expected, rel=1e-6)
    assert float(jensen_shannon_divergence(p_logits=p, q_logits=q)) == pytest.approx(log(2))
    a = torch.tensor([0.0, -1e4, -inf], requires_grad=True)
    b = torch.tensor([-1e4, 0.0, -inf], requires_grad=True)
    for name, function in ALL.items():
        value = function(p_logits=a, q_logits=b)
        if torch.isinf(value):  # the ratio exp(10^4), or its square, exceeds all numbers
            assert name in WITHOUT_UNIT
            continue
        for gradient in torch.autograd.grad(value, (a, b)):
            assert torch.isfinite(gradient).all()


@every
def test_probabilities_logits_libraries_axes_and_broadcasting_agree(function):
    p, q = random_pair(3, 6)
    expected = function(p, q)
    np.testing.assert_allclose(function(p_logits=np.log(p) + 3, q=q), expected, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(function(p, q_logits=np.log(q) - 500), expected, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(function(p.T, q.T, axis=0), expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(function(torch.tensor(p), torch.tensor(q)).numpy(), expected, rtol=1e-12, atol=1e-14)
    one_to_many = function(p[0], q)
    np.testing.assert_allclose(one_to_many, [float(function(p[0], row)) for row in q], rtol=1e-12, atol=1e-14)
    table = function(p[:, None, :], q[None, :, :])
    np.testing.assert_allclose(np.diag(table), expected, rtol=1e-12, atol=1e-14)
    bf16 = function(torch.tensor(p).bfloat16(), torch.tensor(q).bfloat16(), normalize=True)
    assert bf16.dtype == torch.bfloat16
    np.testing.assert_allclose(bf16.float().numpy(), expected, rtol=0.1, atol=1e-6)


@every
def test_gradients_pass_gradcheck(function):
    generator = torch.Generator().manual_seed(0)
    p, q = (torch.randn(3, 5, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(2))
    assert torch.autograd.gradcheck(lambda a, b: function(p_logits=a, q_logits=b), (p, q))
    assert torch.autograd.gradcheck(lambda a, b: function(torch.softmax(a, -1), torch.softmax(b, -1)), (p, q))


@every
def test_gradients_are_finite_at_zeros(function):
    p = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.8, 0.0]], requires_grad=True)
    q = torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.25, 0.25]], requires_grad=True)
    function(p, q).sum().backward()
    assert torch.isfinite(p.grad).all()
    assert torch.isfinite(q.grad).all()


@every
def test_base_is_the_unit(function):
    p, q = random_pair(6)
    if next(name for name, candidate in ALL.items() if candidate is function) in WITHOUT_UNIT:
        with pytest.raises(TypeError, match="base"):
            function(p, q, base=2)
        return
    assert float(function(p, q, base=2)) == pytest.approx(float(function(p, q)) / log(2), rel=1e-12)


@every
def test_misuse_is_named(function):
    p = np.array([0.5, 0.5])
    with pytest.raises(TypeError, match=r"give either q \(probabilities\) or q_logits, got neither"):
        function(p)
    with pytest.raises(TypeError, match=r"give either p \(probabilities\) or p_logits, got both"):
        function(p, p, p_logits=p)
    with pytest.raises(ValueError, match=r"shapes of p \(3, 2\) and q \(2, 2\) do not broadcast"):
        function(np.full((3, 2), 0.5), np.full((2, 2), 0.5))
    with pytest.raises(ValueError, match=r"p \(2,\) and q \(1,\) must have the same number of outcomes along axis -1"):
        function(p, np.array([1.0]))
    with pytest.raises(ValueError, match=r"\(got q summing to 0.9\)"):
        function(p, np.array([0.5, 0.4]))
    with pytest.raises(ValueError, match="q is negative"):
        function(p, np.array([1.5, -0.5]))
    with pytest.raises(ValueError, match="q_logits along axis -1 contain nan"):
        function(p, q_logits=np.array([0.0, np.nan]))


@pytest.mark.parametrize("weights", [(0.5, 0.6), (1.0, 0.0), (0.2, 0.3, 0.5), (1.5, -0.5)])
def test_weights_must_be_two_probabilities(weights):
    with pytest.raises(ValueError, match="weights must be two positive numbers with sum 1"):
        jensen_shannon_divergence([1.0], [1.0], weights=weights)


@given(pairs())
def test_power_divergences_are_one_family(pair):
    p, q = pair
    for alpha in (0, 0.3, 0.95, 1, 1.05, 2.5):
        tsallis, renyi = (float(f(p, q, alpha=alpha)) for f in (tsallis_divergence, renyi_divergence))
        expected = renyi if alpha == 1 else np.expm1((alpha - 1) * renyi) / (alpha - 1)
        assert tsallis == pytest.approx(expected, rel=1e-7, abs=1e-10)
        if alpha:
            assert float(alpha_divergence(p, q, alpha=alpha)) == pytest.approx(tsallis / alpha, rel=1e-9, abs=1e-12)
        exchanged = float(alpha_divergence(q, p, alpha=1 - alpha))
        assert float(alpha_divergence(p, q, alpha=alpha)) == pytest.approx(exchanged, rel=1e-9, abs=1e-12)
    assert float(alpha_divergence(p, q, alpha=0)) == float(kl_divergence(q, p))
    chi_squared, squared_hellinger = float(chi_squared_divergence(p, q)), float(hellinger_distance(p, q)) ** 2
    assert float(tsallis_divergence(p, q, alpha=2)) == pytest.approx(chi_squared, rel=1e-9, abs=1e-12)
    assert float(alpha_divergence(p, q, alpha=2)) == pytest.approx(chi_squared / 2, rel=1e-9, abs=1e-12)
    assert float(alpha_divergence(p, q, alpha=-1)) == pytest.approx(
        float(chi_squared_divergence(q, p)) / 2, rel=1e-9, abs=1e-12
    )
    assert float(alpha_divergence(p, q, alpha=0.5)) == pytest.approx(4 * squared_hellinger, abs=1e-12)
    half = float(renyi_divergence(p, q, alpha=0.5))
    assert float(bhattacharyya_distance(p, q)) == pytest.approx(half / 2, abs=1e-12)
    assert float(kl_divergence(p, q)) <= np.log1p(chi_squared) + 1e-12


@given(pairs())
def test_chi_squared_against_its_definition(pair):
    p, q = pair
    kept = q > 0
    expected = inf if p[~kept].any() else ((p - q)[kept] ** 2 / q[kept]).sum()
    assert float(chi_squared_divergence(p, q)) == pytest.approx(expected, rel=1e-9, abs=1e-14)


def test_a_small_chi_squared_keeps_its_digits():
    p = np.array([0.3, 0.7])
    assert float(chi_squared_divergence(p + np.array([1e-9, -1e-9]), p)) == pytest.approx(1e-18 / 0.21, rel=1e-6)


def test_tsallis_divergence_of_independent_pairs():
    (p, q), (r, s) = random_pair(5, seed=1), random_pair(4, seed=2)
    for alpha in (0.5, 2, 3):
        left, right = float(tsallis_divergence(p, q, alpha=alpha)), float(tsallis_divergence(r, s, alpha=alpha))
        joint = float(tsallis_divergence(np.outer(p, r).reshape(-1), np.outer(q, s).reshape(-1), alpha=alpha))
        assert joint == pytest.approx(left + right + (alpha - 1) * left * right)


def test_jensen_shannon_of_many_distributions():
    p = np.random.default_rng(0).dirichlet(np.ones(6), size=(4, 3))
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    gained = entropy(np.tensordot(weights, p, 1)) - np.tensordot(weights, entropy(p), 1)
    value = generalized_jensen_shannon_divergence(p, weights=weights.tolist())
    np.testing.assert_allclose(value, gained, rtol=1e-10)
    assert (value <= float(entropy(weights))).all()
    moved = np.moveaxis(p, (0, 2), (2, 1))
    np.testing.assert_allclose(
        generalized_jensen_shannon_divergence(moved, weights=weights.tolist(), among=2, axis=1), value
    )
    np.testing.assert_allclose(
        generalized_jensen_shannon_divergence(logits=torch.tensor(np.log(p)), weights=weights.tolist()).numpy(), value
    )
    two = generalized_jensen_shannon_divergence(p[:2], weights=(0.2, 0.8))
    np.testing.assert_allclose(two, jensen_shannon_divergence(p[0], p[1], weights=(0.2, 0.8)))
    without = generalized_jensen_shannon_divergence(np.eye(3), weights=(0.5, 0.5, 0.0))
    assert float(without) == pytest.approx(log(2))
    logits = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: generalized_jensen_shannon_divergence(logits=z), (logits,))


def test_misuse_of_the_new_arguments_is_named():
    p = np.array([0.5, 0.5])
    with pytest.raises(ValueError, match="tsallis_divergence: alpha must be finite"):
        tsallis_divergence(p, p, alpha=inf)
    with pytest.raises(ValueError, match="tsallis_divergence: alpha must be at least 0"):
        tsallis_divergence(p, p, alpha=-1)
    with pytest.raises(ValueError, match="alpha_divergence: alpha must be finite"):
        alpha_divergence(p, p, alpha=float("nan"))
    for weights in ((0.5,), (0.7, 0.7), (1.5, -0.5)):
        with pytest.raises(ValueError, match="weights must be 2 numbers"):
            generalized_jensen_shannon_divergence(np.eye(2), weights=weights)
    with pytest.raises(ValueError, match="among and axis must differ"):
        generalized_jensen_shannon_divergence(np.eye(2), among=-1)
    with pytest.raises(ValueError, match="among must be an axis of the 2 of p"):
        generalized_jensen_shannon_divergence(np.eye(2), among=2)


def test_no_distributions_and_rows_of_unequal_length_are_refused():
    with pytest.raises(
        ValueError, match="generalized_jensen_shannon_divergence: there are no distributions along axis"
    ):
        generalized_jensen_shannon_divergence(np.zeros((0, 2)))
    with pytest.raises(ValueError, match="kl_divergence: q must be numbers in rows of one length"):
        kl_divergence([0.5, 0.5], [[0.5, 0.5], [1.0]])
