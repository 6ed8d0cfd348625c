"""Entropies of known distributions: closed forms, relations between them, gradients, edges and errors."""

import subprocess
import sys
from functools import partial
from itertools import pairwise
from math import exp, inf, log, nan

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import gammaln

from isentrope.measures import (
    collision_probability,
    entropy,
    hartley_entropy,
    min_entropy,
    perplexity,
    renyi_entropy,
    tsallis_entropy,
    varentropy,
)

ORDERS = [0, 0.3, 0.95, 1 - 1e-7, 1, 1 + 1e-7, 1.05, 2, 7.5, inf]
ALL = {
    "entropy": entropy,
    "renyi_entropy 0": partial(renyi_entropy, alpha=0),
    "renyi_entropy 0.5": partial(renyi_entropy, alpha=0.5),
    "renyi_entropy 1.01": partial(renyi_entropy, alpha=1.01),
    "renyi_entropy 2": partial(renyi_entropy, alpha=2),
    "renyi_entropy inf": partial(renyi_entropy, alpha=inf),
    "tsallis_entropy 0.5": partial(tsallis_entropy, q=0.5),
    "tsallis_entropy 0.99": partial(tsallis_entropy, q=0.99),
    "tsallis_entropy 3": partial(tsallis_entropy, q=3),
    "min_entropy": min_entropy,
    "hartley_entropy": hartley_entropy,
    "perplexity": perplexity,
    "perplexity 2.5": partial(perplexity, alpha=2.5),
    "varentropy": varentropy,
    "collision_probability": collision_probability,
}
DIFFERENTIABLE = [name for name in ALL if name not in ("renyi_entropy 0", "hartley_entropy")]

every = pytest.mark.parametrize("function", ALL.values(), ids=ALL.keys())
every_differentiable = pytest.mark.parametrize("function", [ALL[n] for n in DIFFERENTIABLE], ids=DIFFERENTIABLE)

distributions = (
    arrays(np.float64, st.integers(1, 12), elements=st.floats(0, 1))
    .filter(lambda weights: weights.sum() > 1e-3)
    .map(lambda weights: weights / weights.sum())
)
some_logits = arrays(np.float64, st.integers(1, 12), elements=st.floats(-60, 60))


def random_distributions(*shape, seed=0):
    return np.random.default_rng(seed).dirichlet(np.full(shape[-1], 0.5), size=shape[:-1])


@pytest.fixture
def without_type_checks(monkeypatch):
    """Call the package as users do: without the checks of annotations that the test suite adds."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def slow_shannon(p):
    return -sum(float(x) * log(float(x)) for x in p if x > 0)


@pytest.mark.parametrize("count", [1, 2, 50])
def test_uniform_distributions_have_the_logarithm_of_their_size_at_every_order(count):
    p = np.full(count, 1 / count)
    for alpha in ORDERS:
        assert float(renyi_entropy(p, alpha=alpha)) == pytest.approx(log(count), abs=1e-9)
    assert float(varentropy(p)) == pytest.approx(0, abs=1e-25)
    for alpha in ORDERS:
        assert float(perplexity(p, alpha=alpha)) == pytest.approx(count, rel=1e-8)
    assert float(collision_probability(p)) == pytest.approx(1 / count, rel=1e-12)
    assert float(tsallis_entropy(p, q=2)) == pytest.approx(1 - 1 / count, abs=1e-12)


@pytest.mark.parametrize("x", [0.5, 0.1, 1e-9])
def test_two_outcomes(x):
    p = np.array([x, 1 - x])
    assert float(entropy(p)) == pytest.approx(-x * log(x) - (1 - x) * np.log1p(-x), rel=1e-7)
    assert float(varentropy(p)) == pytest.approx(x * (1 - x) * (log(x) - log(1 - x)) ** 2, rel=1e-7)
    assert float(min_entropy(p)) == pytest.approx(-log(1 - x), abs=1e-12)
    assert float(hartley_entropy(p)) == pytest.approx(log(2))
    assert float(renyi_entropy(p, alpha=2)) == pytest.approx(-log(x * x + (1 - x) ** 2), abs=1e-12)
    assert float(tsallis_entropy(p, q=2)) == pytest.approx(2 * x * (1 - x), rel=1e-6)


def test_geometric_distribution():
    success = 0.3
    p = success * (1 - success) ** np.arange(200)
    exact = -(success * log(success) + (1 - success) * log(1 - success)) / success
    assert float(entropy(p)) == pytest.approx(exact, rel=1e-12)
    assert float(varentropy(p)) == pytest.approx((1 - success) / success**2 * log(1 - success) ** 2, rel=1e-12)
    for alpha in (0.5, 0.97, 2, 40):
        power_sum = success**alpha / (1 - (1 - success) ** alpha)
        assert float(renyi_entropy(p, alpha=alpha)) == pytest.approx(log(power_sum) / (1 - alpha), rel=1e-9)
        assert float(tsallis_entropy(p, q=alpha)) == pytest.approx((1 - power_sum) / (alpha - 1), rel=1e-9)


def test_values_in_bits():
    p = [1 / 2, 1 / 4, 1 / 8, 1 / 8]
    assert float(entropy(p, base=2)) == 1.75
    assert (
        float(renyi_entropy(p, alpha=2, base=2)) == pytest.approx(-np.log2(0.34375)) == pytest.approx(1.5406, abs=5e-5)
    )
    assert float(min_entropy(p, base=2)) == 1
    assert float(perplexity(p, alpha=2)) == pytest.approx(1 / 0.34375)
    assert float(perplexity(p, alpha=0)) == pytest.approx(4)
    assert float(perplexity(p, alpha=inf)) == pytest.approx(2)
    assert float(entropy([0.11, 0.89], base=2)) == pytest.approx(0.4999, abs=5e-5)


@pytest.mark.parametrize("mean", [20.0, 200.0])
def test_poisson_distributions_approach_a_gaussian_law(mean):
    n = np.arange(int(mean + 20 * mean**0.5))
    p = np.exp(n * log(mean) - mean - gammaln(n + 1))
    # The next term is 1/(24 mean^2).
    expected = log(2 * np.pi * np.e * mean) / 2 - 1 / (12 * mean)
    assert float(entropy(p)) == pytest.approx(expected - 1 / (24 * mean**2), abs=0.2 / mean**3)


@given(distributions)
def test_limits_of_the_renyi_family(p):
    assert float(renyi_entropy(p, alpha=0)) == float(hartley_entropy(p))
    assert float(renyi_entropy(p, alpha=1)) == float(entropy(p)) == pytest.approx(slow_shannon(p), abs=1e-12)
    assert float(renyi_entropy(p, alpha=inf)) == float(min_entropy(p)) == pytest.approx(-log(p.max()), abs=1e-12)
    # dH_α/dα at 1 is -varentropy/2.
    step = 1e-6
    slope = (float(renyi_entropy(p, alpha=1 + step)) - float(renyi_entropy(p, alpha=1 - step))) / (2 * step)
    assert slope == pytest.approx(-float(varentropy(p)) / 2, abs=1e-4)
    assert float(tsallis_entropy(p, q=1)) == float(entropy(p))
    assert float(tsallis_entropy(p, q=0)) == pytest.approx(np.count_nonzero(p) - 1, abs=1e-9)


@given(distributions)
def test_renyi_entropies_do_not_increase_with_the_order(p):
    entropies = [float(renyi_entropy(p, alpha=alpha)) for alpha in ORDERS]
    assert all(later <= earlier + 1e-9 for earlier, later in pairwise(entropies))
    assert entropies[-1] >= 0
    assert entropies[0] <= log(len(p)) + 1e-12


def test_orders_next_to_the_near_one_formula_join():
    p = random_distributions(20)
    for edge in (0.9, 1.1):
        below, above = (float(renyi_entropy(p, alpha=edge + shift)) for shift in (-1e-9, 1e-9))
        assert below == pytest.approx(above, abs=1e-7)
        below, above = (float(tsallis_entropy(p, q=edge + shift)) for shift in (-1e-9, 1e-9))
        assert below == pytest.approx(above, abs=1e-7)


@given(distributions, st.floats(0, 5))
def test_tsallis_and_renyi_entropies_determine_each_other(p, order):
    if order == 1:
        return
    renyi = float(renyi_entropy(p, alpha=order))
    assert float(tsallis_entropy(p, q=order)) == pytest.approx(np.expm1((1 - order) * renyi) / (1 - order), abs=1e-9)


@given(distributions, distributions)
def test_composition_of_independent_variables(first, second):
    joint = np.outer(first, second).reshape(-1)
    for function in (entropy, varentropy, min_entropy, partial(renyi_entropy, alpha=0.6)):
        assert float(function(joint)) == pytest.approx(float(function(first)) + float(function(second)), abs=1e-8)
    tsallis = partial(tsallis_entropy, q=2.5)
    parts = float(tsallis(first)), float(tsallis(second))
    assert float(tsallis(joint)) == pytest.approx(sum(parts) - 1.5 * parts[0] * parts[1], abs=1e-9)


@given(distributions)
def test_bounds_between_entropy_and_collision(p):
    h, collision = float(entropy(p)), float(collision_probability(p))
    assert exp(-h) <= collision + 1e-12  # H_2 <= H_1
    assert -1e-12 <= h <= log(len(p)) + 1e-12
    assert float(renyi_entropy(p, alpha=2)) == pytest.approx(-log(collision), abs=1e-12)


@given(some_logits, st.floats(-1e4, 1e4))
@pytest.mark.filterwarnings("error")
def test_logits_are_their_softmax_and_a_shift_changes_nothing(logits, shift):
    p = np.exp(logits - logits.max())
    p /= p.sum()
    for function in ALL.values():
        if "alpha" in getattr(function, "keywords", {}) and function.keywords["alpha"] == 0:
            continue
        value = float(function(logits=logits))
        assert value == pytest.approx(float(function(p)), rel=1e-9, abs=1e-9)
        assert float(function(logits=logits + shift)) == pytest.approx(value, rel=1e-6, abs=1e-6)


@every
def test_base_is_the_unit(function):
    p = random_distributions(9)
    if getattr(function, "func", function) in (perplexity, collision_probability) or "q" in getattr(
        function, "keywords", {}
    ):
        with pytest.raises(TypeError, match="base"):
            function(p, base=2)
        return
    power = 2 if function is varentropy else 1
    assert float(function(p, base=2)) == pytest.approx(float(function(p)) / log(2) ** power, rel=1e-12)


@every
def test_any_axis_and_any_library_give_the_same(function):
    p = random_distributions(3, 4, 6)
    rows = np.stack([[np.asarray(function(p[i, j])) for j in range(4)] for i in range(3)])
    for axis in (0, 1, 2, -1, -2, -3):
        moved = np.moveaxis(p, -1, axis)
        np.testing.assert_allclose(function(moved, axis=axis), rows, rtol=1e-12, atol=1e-13)
        ours = function(torch.from_numpy(moved.copy()), axis=axis)
        np.testing.assert_allclose(ours.numpy(), rows, rtol=1e-12, atol=1e-13)
    logits = np.random.default_rng(3).normal(size=(5, 7)) * 4
    np.testing.assert_allclose(
        function(logits=torch.from_numpy(logits)).numpy(), function(logits=logits), rtol=1e-12, atol=1e-13
    )


@every
def test_jax_gives_the_same(function):
    jax = pytest.importorskip("jax")
    p = random_distributions(4, 6).astype(np.float32)
    np.testing.assert_allclose(function(jax.numpy.asarray(p)), function(p), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.jit(function)(jax.numpy.asarray(p)), function(p), rtol=1e-5, atol=1e-6)
    gradient = jax.grad(lambda x: function(logits=x).sum())(jax.numpy.asarray(p))
    assert np.isfinite(np.asarray(gradient)).all()


@every
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_numpy_dtype_is_kept(function, dtype):
    p = random_distributions(2, 6)
    value = function(p.astype(dtype))
    assert value.dtype == np.dtype(dtype)
    np.testing.assert_allclose(
        value.astype(float), function(p), rtol={"float16": 4e-3, "float32": 3e-5}.get(dtype, 1e-12)
    )


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(function, dtype):
    logits = torch.randn(3, 5000, generator=torch.Generator().manual_seed(0)).to(dtype)
    value = function(logits=logits)
    assert value.dtype == dtype
    # The same numbers in float32, rounded once: more than one unit in the last place off would be half-precision sums.
    torch.testing.assert_close(value, function(logits=logits.float()).to(dtype), rtol=0, atol=0)


@every_differentiable
def test_gradients_pass_gradcheck(function):
    logits = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: function(logits=z), (logits,))
    assert torch.autograd.gradcheck(lambda z: function(torch.softmax(z, -1)), (logits,))
    assert torch.autograd.gradgradcheck(lambda z: function(logits=z), (logits,))
    weights = torch.rand(4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert torch.autograd.gradcheck(lambda w: function(w, normalize=True), (weights,))


def test_gradient_of_entropy_by_logits_is_the_closed_form():
    logits = torch.randn(4, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    h = entropy(logits=logits)
    (gradient,) = torch.autograd.grad(h.sum(), logits)
    p = torch.softmax(logits.detach(), -1)
    torch.testing.assert_close(gradient, -p * (p.log() + h.detach().unsqueeze(-1)), rtol=1e-12, atol=1e-14)


@every_differentiable
def test_gradients_are_finite_at_certainty_and_at_excluded_outcomes(function):
    one_hot = torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.5, 0.0]], requires_grad=True)
    function(one_hot).sum().backward()
    assert torch.isfinite(one_hot.grad).all()
    logits = torch.tensor([[0.3, -1.0, -inf], [0.0, -inf, -inf], [1e4, -1e4, 0.0]], requires_grad=True)
    value = function(logits=logits)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[torch.isinf(logits.detach())] == 0).all()
    # Excluding outcomes is the same as leaving them out.
    short = torch.tensor([0.3, -1.0], requires_grad=True)
    function(logits=short).backward()
    torch.testing.assert_close(value[0], function(logits=short))
    torch.testing.assert_close(logits.grad[0, :2], short.grad)


@every
def test_excluded_outcomes_count_nothing(function):
    p = random_distributions(6)
    padded = np.concatenate([p, [0.0, 0.0]])
    assert float(function(padded)) == pytest.approx(float(function(p)), rel=1e-12)
    masked = np.concatenate([np.log(p), [-inf, -inf]])
    assert float(function(logits=masked)) == pytest.approx(float(function(p)), rel=1e-12)


@pytest.mark.parametrize("function", [entropy, varentropy, min_entropy, hartley_entropy])
def test_certainty_is_plus_zero(function):
    for value in (function([0.0, 1.0]), function(logits=np.array([0.0, -inf])), function(np.array([1.0]))):
        assert float(value) == 0
        assert not np.signbit(value)


def test_tails_that_underflow_still_count_from_logits():
    logits = np.array([0.0, -1000.0])  # exp(-1000) is 0 in float64
    assert float(hartley_entropy(logits=logits)) == pytest.approx(log(2))
    assert float(renyi_entropy(logits=logits, alpha=1e-3)) == pytest.approx(log(1 + exp(-1)) / (1 - 1e-3), rel=1e-12)


def test_large_orders_neither_under_nor_overflow():
    p = np.full(5000, 1 / 5000)
    assert float(renyi_entropy(p, alpha=1e4)) == pytest.approx(log(5000), rel=1e-12)
    assert float(tsallis_entropy(p, q=1e4)) == pytest.approx(1 / 9999, rel=1e-12)


def test_normalize_rescales_counts():
    counts = np.array([[2.0, 1.0, 1.0], [30.0, 0.0, 10.0]])
    np.testing.assert_allclose(entropy(counts, normalize=True, base=2), [1.5, 2 - 0.75 * np.log2(3)], rtol=1e-12)


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(
    ("p", "message"),
    [
        ([[0.5, 0.5], [0.5, 0.43]], r"must sum to 1 \(got p summing to 0.93 at index \(1,\)\); pass normalize=True"),
        ([0.7, 0.7], r"must sum to 1 \(got p summing to 1.4\)"),
        ([1.5, -0.5], r"p is negative \(-0.5\) at index \(1,\)"),
        ([-0.5, 0.5, 1.0], r"p is negative \(-0.5\) at index \(0,\)"),
        ([[0.5, 0.5], [nan, 1.0]], r"p is NaN \(nan\) at index \(1, 0\)"),
        ([inf, 0.0], r"p is infinite \(inf\) at index \(0,\)"),
        ([], "axis -1 of p is empty"),
        (1.0, "p must be an array or a list of numbers, got float"),
        (np.float64(1.0), "axis -1 is out of range for p of shape"),
        (np.array([1, 0]), "p must be of a real floating dtype, got int64"),
        (np.array([1.0 + 0j]), "p must be of a real floating dtype, got complex128"),
    ],
)
def test_bad_probabilities_are_named(p, message):
    with pytest.raises((ValueError, TypeError), match=message):
        entropy(p)


@pytest.mark.parametrize("library", [np.array, torch.tensor])
@pytest.mark.parametrize(
    ("logits", "message"),
    [
        ([[0.0, 1.0], [nan, 0.0]], r"logits along axis -1 contain nan at index \(1,\)"),
        ([inf, 0.0], "contain inf"),
        ([-inf, -inf], "are all -inf"),
    ],
)
def test_bad_logits_are_named(logits, message, library):
    with pytest.raises(ValueError, match=message):
        min_entropy(logits=library(logits))


@every
def test_other_misuse_is_named(function):
    p = np.array([0.5, 0.5])
    with pytest.raises(TypeError, match=r"give either p \(probabilities\) or logits, got both"):
        function(p, logits=p)
    with pytest.raises(TypeError, match="got neither"):
        function()
    with pytest.raises(ValueError, match="axis 1 is out of range for p"):
        function(p, axis=1)
    with pytest.raises(ValueError, match="sums to 0, which no rescaling"):
        function(np.zeros(3), normalize=True)


def test_orders_and_bases_out_of_range_are_named():
    with pytest.raises(ValueError, match="alpha must be at least 0, got -1"):
        renyi_entropy([1.0], alpha=-1)
    with pytest.raises(ValueError, match="q must be at least 0, got nan"):
        tsallis_entropy([1.0], q=nan)
    with pytest.raises(ValueError, match="q must be finite"):
        tsallis_entropy([1.0], q=inf)
    with pytest.raises(ValueError, match="entropy: base must be positive"):
        entropy([1.0], base=1)


def test_rounded_softmax_of_large_vocabularies_is_accepted():
    logits = torch.randn(4, 50_000, generator=torch.Generator().manual_seed(0)) * 3
    exact = entropy(logits=logits.double())
    torch.testing.assert_close(entropy(torch.softmax(logits, -1)).double(), exact, rtol=2e-6, atol=0)
    torch.testing.assert_close(entropy(torch.softmax(logits, -1).bfloat16()).double(), exact, rtol=1e-2, atol=0)
    # What rounding may leave of 1 depends on the precision.
    off = np.array([0.5, 0.50005])
    assert float(entropy(off.astype(np.float32), base=2)) == pytest.approx(1, abs=1e-4)
    with pytest.raises(ValueError, match="must sum to 1"):
        entropy(off)


def test_compiles_into_one_graph():
    # In a process of its own, without the checks of annotations that the test suite adds and torch.compile cannot trace.
    code = """
import torch
from isentrope.measures import entropy
compiled = torch.compile(lambda z: entropy(logits=z), backend="eager", fullgraph=True)
logits = torch.randn(3, 5)
torch.testing.assert_close(compiled(logits), entropy(logits=logits))
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_torch_maps_over_it():
    logits = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    u = torch.log_softmax(logits, -1) + entropy(logits=logits)[:, None]
    torch.testing.assert_close(torch.func.vmap(lambda z: entropy(logits=z))(logits), entropy(logits=logits))
    # A gradient for each sample, and a matrix of second derivatives, are maps over differentiation.
    gradients = torch.func.vmap(torch.func.grad(lambda z: entropy(logits=z)))(logits)
    torch.testing.assert_close(gradients, -torch.softmax(logits, -1) * u)
    curvature = torch.func.hessian(lambda z: entropy(logits=z))(logits[0])
    torch.testing.assert_close(curvature, torch.autograd.functional.hessian(lambda z: entropy(logits=z), logits[0]))


def test_importing_measures_imports_no_framework():
    code = "import sys, isentrope.measures; print(sorted({'torch', 'jax', 'matplotlib'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
