"""Spectral entropies of matrices: closed forms, laws, gradients, and covariances gathered in batches."""

from functools import partial
from math import inf, log

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isentrope.measures import (
    CovarianceAccumulator,
    coding_rate,
    effective_rank,
    entropy,
    matrix_renyi_entropy,
    participation_ratio,
    renyi_entropy,
    stable_rank,
    von_neumann_entropy,
)

ORDERS = [0, 0.5, 1, 1.01, 2, 5, inf]
OF_A_MATRIX = {
    "von Neumann": von_neumann_entropy,
    **{f"Rényi {alpha}": partial(matrix_renyi_entropy, alpha=alpha) for alpha in (0.5, 1.01, 2, 3, inf)},
    "effective rank": effective_rank,
    "effective rank 2": partial(effective_rank, power=2),
    "participation ratio": participation_ratio,
    "stable rank": stable_rank,
    "coding rate": coding_rate,
}
every = pytest.mark.parametrize("function", OF_A_MATRIX.values(), ids=OF_A_MATRIX.keys())


def with_eigenvalues(eigenvalues, seed=0):
    """A symmetric matrix of these eigenvalues in a random frame."""
    n = len(eigenvalues)
    frame, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))
    matrix = frame * np.asarray(eigenvalues) @ frame.T
    return (matrix + matrix.T) / 2


@pytest.mark.parametrize("alpha", ORDERS)
def test_values_of_the_literature(alpha):
    """A quarter of the identity has 2 bits, a matrix of ones none, two blocks of two 1 bit, for every order."""
    blocks = np.kron(np.eye(2), np.ones((2, 2)))
    for matrix, bits in ((np.eye(4) / 4, 2), (np.ones((4, 4)), 0), (blocks, 1), (3 * blocks, 1)):
        assert float(matrix_renyi_entropy(matrix, alpha=alpha, base=2)) == pytest.approx(bits, abs=1e-12)


@given(st.lists(st.floats(1e-6, 10), min_size=2, max_size=7), st.integers(0, 3))
def test_entropy_of_a_matrix_is_that_of_its_eigenvalues(eigenvalues, zeros):
    shares = np.array([*eigenvalues, *[0.0] * zeros]) / sum(eigenvalues)
    matrix = with_eigenvalues(shares)
    assert float(von_neumann_entropy(7 * matrix)) == pytest.approx(float(entropy(shares)), abs=1e-10)
    for alpha in ORDERS:
        expected = float(renyi_entropy(shares, alpha=alpha))
        assert float(matrix_renyi_entropy(matrix, alpha=alpha)) == pytest.approx(expected, abs=1e-9)


def test_entropies_of_independent_systems_add_up():
    first, second = with_eigenvalues([0.5, 0.3, 0.2]), with_eigenvalues([0.9, 0.1], seed=1)
    for alpha in ORDERS:
        apart = matrix_renyi_entropy(first, alpha=alpha) + matrix_renyi_entropy(second, alpha=alpha)
        assert float(matrix_renyi_entropy(np.kron(first, second), alpha=alpha)) == pytest.approx(float(apart))


def test_a_pure_entangled_state_has_the_entropy_of_its_halves():
    """Of (|00> + |11>)/√2 the whole has entropy 0 and each half log 2."""
    state = np.array([1.0, 0, 0, 1]) / 2**0.5
    half = state.reshape(2, 2) @ state.reshape(2, 2).T
    assert float(von_neumann_entropy(np.outer(state, state))) == pytest.approx(0, abs=1e-12)
    assert float(von_neumann_entropy(half)) == pytest.approx(log(2))


def test_effective_ranks_of_known_singular_values():
    left, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(9, 3)))
    right, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 3)))
    matrix = left * [4.0, 2.0, 2.0] @ right.T
    shares, squares = np.array([0.5, 0.25, 0.25]), np.array([16, 4, 4]) / 24
    assert float(effective_rank(matrix)) == pytest.approx(np.exp(float(entropy(shares))))
    assert float(effective_rank(matrix, power=2)) == pytest.approx(np.exp(float(entropy(squares))))
    assert float(effective_rank(matrix, alpha=0)) == pytest.approx(3)
    assert float(participation_ratio(matrix)) == pytest.approx(24**2 / (16**2 + 2 * 4**2))
    assert float(stable_rank(matrix)) == pytest.approx(24 / 16)


def test_the_ranks_are_one_family():
    matrix = np.random.default_rng(0).normal(size=(4, 30, 8))
    np.testing.assert_allclose(participation_ratio(matrix), effective_rank(matrix, alpha=2, power=2))
    np.testing.assert_allclose(stable_rank(matrix), effective_rank(matrix, alpha=inf, power=2))
    moment = np.swapaxes(matrix, 1, 2) @ matrix
    np.testing.assert_allclose(np.exp(von_neumann_entropy(moment)), effective_rank(matrix, power=2))
    np.testing.assert_allclose(effective_rank(matrix), effective_rank(moment, power=0.5))
    np.testing.assert_allclose(participation_ratio(np.swapaxes(matrix, 1, 2)), participation_ratio(matrix))


def test_isotropic_data_of_rank_r_have_effective_rank_r():
    r = np.random.default_rng(0)
    data = r.normal(size=(5000, 6)) @ np.linalg.qr(r.normal(size=(20, 6)))[0].T
    assert float(effective_rank(data)) == pytest.approx(6, rel=2e-3)
    assert float(effective_rank(data)) <= 6


@every
def test_batches_scale_and_precision(function):
    matrices = np.stack([with_eigenvalues(np.arange(1.0, 7.0) ** 2, seed=seed) for seed in range(3)])
    rows = function(matrices)
    assert rows.shape == (3,)
    np.testing.assert_allclose(rows, [float(function(matrix)) for matrix in matrices])
    np.testing.assert_allclose(function(torch.tensor(matrices)).numpy(), rows)
    single = function(torch.tensor(matrices, dtype=torch.float32))
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), rows, rtol=1e-5)
    if function is not coding_rate:
        np.testing.assert_allclose(function(1e-200 * matrices), rows, rtol=1e-9)


@every
def test_gradients_agree_with_finite_differences(function):
    root = torch.tensor(np.random.default_rng(0).normal(size=(5, 5)), requires_grad=True)
    assert torch.autograd.gradcheck(lambda r: function(r @ r.T + 0.1 * torch.eye(5)), (root,))


@every
def test_gradients_stay_finite_at_equal_and_missing_eigenvalues(function):
    for matrix in (np.eye(4), np.diag([1.0, 1.0, 0.0, 0.0]), np.ones((4, 4))):
        tensor = torch.tensor(matrix, requires_grad=True)
        function(tensor).backward()
        assert torch.isfinite(tensor.grad).all()


def test_gradient_of_the_entropy_vanishes_at_its_maximum():
    matrix = torch.eye(5, dtype=torch.float64, requires_grad=True)
    von_neumann_entropy(matrix).backward()
    assert float(matrix.grad.abs().max()) < 1e-15


def test_gradient_at_equal_eigenvalues_agrees_with_the_closed_form():
    """dS/dA = -(log ρ + S) / tr A, here with a double eigenvalue."""
    matrix = torch.tensor(with_eigenvalues([0.4, 0.4, 0.2]), requires_grad=True)
    value = von_neumann_entropy(matrix)
    value.backward()
    eigenvalues, frame = np.linalg.eigh(matrix.detach().numpy())
    expected = -(frame * (np.log(eigenvalues) + value.item())) @ frame.T
    np.testing.assert_allclose(matrix.grad.numpy(), expected, atol=1e-12)


def test_coding_rate_of_two_orthogonal_classes():
    """Isotropic classes of 40 in two subspaces of 4 dimensions, ε² = 0.5: R 4.39445, within classes 3.21888."""
    tight = np.tile(np.eye(4), (10, 1))
    features = np.block([[tight, np.zeros((40, 4))], [np.zeros((40, 4)), tight]])
    whole = float(coding_rate(features))
    classes = np.repeat(np.eye(2), 40, axis=1)
    within = sum(0.5 * float(coding_rate(features, weights=members)) for members in classes)
    assert whole == pytest.approx(4.39445, abs=5e-6)
    assert within == pytest.approx(3.21888, abs=5e-6)
    assert float(coding_rate(features[:40])) == pytest.approx(float(coding_rate(features, weights=classes[0])))
    assert float(coding_rate(np.tile(features[0], (7, 1)))) == pytest.approx(log(1 + 8 / 0.5) / 2)


def test_coding_rate_against_its_definition_on_either_side():
    for shape in ((5, 9), (9, 5)):
        features = np.random.default_rng(0).normal(size=shape)
        inside = np.eye(shape[1]) + shape[1] / (shape[0] * 0.25) * features.T @ features
        expected = np.log(np.linalg.det(inside)) / 2
        assert float(coding_rate(features, squared_distortion=0.25)) == pytest.approx(expected)
    assert float(coding_rate(np.zeros((3, 4)))) == 0


def test_covariance_in_batches_is_that_of_all():
    data = np.random.default_rng(0).normal(size=(1000, 6)) @ np.diag([3.0, 1, 1, 0.5, 0.1, 0.01]) + 1e6
    left, right = CovarianceAccumulator(), CovarianceAccumulator()
    for batch in np.split(data[:400], [7, 100, 101, 101]):
        left.add(batch)
    right.add(data[400:].reshape(6, 100, 6))
    left.merge(CovarianceAccumulator())
    left.merge(right)
    assert left.n == 1000
    np.testing.assert_allclose(left.mean, data.mean(0), rtol=1e-14)
    # To the rounding of samples of size 1e6; without subtraction of the mean first it would be 1e-4.
    np.testing.assert_allclose(left.covariance(), np.cov(data.T, bias=True), rtol=0, atol=1e-9)
    np.testing.assert_allclose(left.covariance(center=False), data.T @ data / 1000, rtol=1e-12)
    whole = float(effective_rank(data - data.mean(0), power=2))
    assert float(np.exp(von_neumann_entropy(left.covariance()))) == pytest.approx(whole, rel=1e-8)


def test_covariance_of_tensors_stays_with_them():
    data = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)).bfloat16().requires_grad_()
    accumulator = CovarianceAccumulator(dtype="float32")
    accumulator.add(data)
    merged = CovarianceAccumulator(dtype="float32")
    merged.merge(accumulator)
    merged.add(data)
    assert accumulator.n == 50
    assert merged.covariance().dtype == torch.float32
    assert not merged.covariance().requires_grad
    np.testing.assert_allclose(merged.covariance().numpy(), accumulator.covariance().numpy(), rtol=1e-5)


def test_misuse_is_named():
    with pytest.raises(
        ValueError, match=r"matrix must be square matrices \[..., n, n\], not empty, got shape \(2, 3\)"
    ):
        von_neumann_entropy(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"matrix must be finite, got nan at index \(0, 1\)"):
        effective_rank([[1.0, np.nan]])
    with pytest.raises(ValueError, match="matrix must be symmetric"):
        von_neumann_entropy([[1.0, 0.5], [0.0, 1.0]])
    with pytest.raises(ValueError, match="positive semi-definite, it has the eigenvalue -1"):
        von_neumann_entropy([[1.0, 2.0], [2.0, 1.0]])
    with pytest.raises(ValueError, match="positive trace"):
        matrix_renyi_entropy([[0.0, 1.0], [1.0, 0.0]], alpha=2)
    with pytest.raises(ValueError, match="must not be 0"):
        stable_rank(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="alpha must be at least 0"):
        matrix_renyi_entropy(np.eye(2), alpha=-1)
    with pytest.raises(ValueError, match="power must be positive"):
        effective_rank(np.eye(2), power=0)
    with pytest.raises(ValueError, match="squared_distortion must be positive"):
        coding_rate(np.eye(2), squared_distortion=0)
    for weights in ([0.5, -0.5], [0.5, inf], [0.5, np.nan]):
        with pytest.raises(ValueError, match="weights must be finite, not negative"):
            coding_rate(np.eye(2), weights=weights)
    with pytest.raises(ValueError, match=r"weights must be \[..., m\]"):
        coding_rate(np.eye(2), weights=[0.5, 0.5, 0.5])
    accumulator = CovarianceAccumulator()
    with pytest.raises(ValueError, match="no samples yet"):
        accumulator.covariance()
    accumulator.add(np.ones((2, 3)))
    with pytest.raises(ValueError, match="batch has 2 features, earlier batches 3"):
        accumulator.add(np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"batch must be finite \(row 1 is not\)"):
        accumulator.add(np.array([[1.0, 1, 1], [1, inf, 1]]))
    with pytest.raises(ValueError, match="dtype must be"):
        CovarianceAccumulator(dtype="float16")


def test_at_order_two_signs_are_not_looked_at_but_the_trace_is():
    # Eigenvalues 3 and -1: the shares 3/2 and -1/2 have squares that sum to 5/2.
    assert matrix_renyi_entropy(np.diag([3.0, -1.0]), alpha=2) == pytest.approx(-np.log(2.5))
    with pytest.raises(ValueError, match="must have a positive trace, got 0"):
        matrix_renyi_entropy(np.diag([1.0, -1.0]), alpha=2)
