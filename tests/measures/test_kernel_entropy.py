"""Entropies of kernel matrices and diffusion operators: published and closed values, laws, and products instead of matrices."""

from math import log, log2

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import aslinearoperator

from isentrope.measures import (
    DiffusionOperator,
    diffusion_matrix,
    diffusion_spectral_entropy,
    diffusion_spectral_mutual_information,
    gaussian_kernel,
    matrix_conditional_entropy,
    matrix_entropy_from_products,
    matrix_joint_entropy,
    matrix_mutual_information,
    matrix_renyi_entropy,
    neighbour_bandwidth,
    trace_from_products,
    von_neumann_entropy,
)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_diffusion_spectral_entropy_of_the_published_code():
    """dse-dsmi 1.1 on 200 x 8 normal numbers of seed 0 with σ = 2, in bits."""
    points = normal(200, 8)
    assert float(diffusion_spectral_entropy(points, bandwidth=2.0, base=2)) == pytest.approx(5.707115, abs=1e-6)
    assert float(diffusion_spectral_entropy(points, bandwidth=2.0, time=2, base=2)) == pytest.approx(2.366575, abs=1e-6)


@pytest.mark.slow
def test_diffusion_spectral_entropy_of_two_thousand_points():
    """dse-dsmi 1.1 on 2000 x 64 normal numbers of seed 12 with its own σ = 10, in bits."""
    value = diffusion_spectral_entropy(normal(2000, 64, seed=12), bandwidth=10.0, base=2)
    assert float(value) == pytest.approx(4.790909, abs=1e-6)


def test_limits_of_the_diffusion_spectral_entropy():
    assert float(diffusion_spectral_entropy(np.ones((30, 4)), bandwidth=1.0)) == pytest.approx(0, abs=1e-9)
    assert float(diffusion_spectral_entropy(1e6 * normal(64, 3), bandwidth=1.0, base=2)) == pytest.approx(6)
    points = normal(50, 3)
    assert float(diffusion_spectral_entropy(points, bandwidth=1e6)) == pytest.approx(0, abs=1e-9)
    assert float(diffusion_spectral_entropy(points, bandwidth=1e-6)) == pytest.approx(log(50))
    for k in (2, 5):
        groups = np.repeat(1e3 * np.arange(k)[:, None], 6, axis=0)
        assert float(diffusion_spectral_entropy(groups, bandwidth=1.0, base=2)) == pytest.approx(log2(k))
        spread = groups + 0.3 * normal(6 * k, 1)
        assert float(diffusion_spectral_entropy(spread, bandwidth=1.0, time=2000.0, base=2)) == pytest.approx(log2(k))


def test_diffusion_operator_is_the_random_walk_and_not_the_anisotropic_one():
    """The eigenvalues are those of D⁻¹ G; after normalisation by density they differ, as those of that walk do."""
    points = normal(60, 2)
    kernel = np.exp(-((points[:, None] - points[None]) ** 2).sum(-1) / 2)
    plain = np.linalg.eigvals(kernel / kernel.sum(1, keepdims=True)).real
    by_density = kernel / np.outer(kernel.sum(1), kernel.sum(1))
    anisotropic = np.linalg.eigvals(by_density / by_density.sum(1, keepdims=True)).real
    for exponent, expected in ((0.0, plain), (1.0, anisotropic)):
        found = np.linalg.eigvalsh(diffusion_matrix(points, bandwidth=1.0, density_exponent=exponent))
        np.testing.assert_allclose(np.sort(found), np.sort(expected), atol=1e-10)
    assert abs(np.sort(plain)[-2] - np.sort(anisotropic)[-2]) > 0.01


def test_bandwidth_follows_the_unit_of_the_points():
    points = normal(300, 3)
    distances = np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1))
    assert neighbour_bandwidth(points, k=4) == pytest.approx(np.median(np.sort(distances, axis=1)[:, 4]))
    assert neighbour_bandwidth(1e3 * points + 5) == pytest.approx(1e3 * neighbour_bandwidth(points))
    expected = float(diffusion_spectral_entropy(points))
    assert float(diffusion_spectral_entropy(1e-6 * points)) == pytest.approx(expected, rel=1e-9)
    rotation, _ = np.linalg.qr(normal(3, 3, seed=1))
    assert float(diffusion_spectral_entropy((points @ rotation)[::-1])) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.01, 2, 5])
def test_laws_of_the_joint_entropy(alpha):
    kernels = [gaussian_kernel(normal(40, 2, seed=seed), bandwidth=1.0) for seed in range(3)]
    single = [float(matrix_renyi_entropy(kernel, alpha=alpha)) for kernel in kernels]
    joint = float(matrix_joint_entropy(*kernels, alpha=alpha))
    two = float(matrix_joint_entropy(*kernels[:2], alpha=alpha))
    assert max(single[:2]) <= two <= joint <= log(40)
    assert two <= single[0] + single[1]
    assert float(matrix_conditional_entropy(kernels[0], kernels[1], alpha=alpha)) == pytest.approx(two - single[1])
    information = float(matrix_mutual_information(kernels[0], kernels[1], alpha=alpha))
    assert information == pytest.approx(single[0] + single[1] - two)
    assert information >= 0
    constant = np.ones((40, 40))
    assert float(matrix_mutual_information(kernels[0], constant, alpha=alpha)) == pytest.approx(0, abs=1e-9)
    scaled = kernels[0] * np.outer(np.arange(1, 41), np.arange(1, 41))
    assert float(matrix_joint_entropy(scaled, kernels[1], alpha=alpha)) == pytest.approx(two)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.01, 2, 3])
def test_the_joint_entropy_is_that_of_the_product_of_elements(alpha):
    kernels = [gaussian_kernel(normal(30, 2, seed=seed), bandwidth=1.0) for seed in range(3)]
    product = kernels[0] * kernels[1] * kernels[2]
    eigenvalues = np.linalg.eigvalsh(product / np.trace(product))
    eigenvalues = eigenvalues[eigenvalues > 0]
    if alpha == 1:
        expected = -(eigenvalues * np.log(eigenvalues)).sum()
    else:
        expected = log((eigenvalues**alpha).sum()) / (1 - alpha)
    assert float(matrix_joint_entropy(*kernels, alpha=alpha)) == pytest.approx(expected, rel=1e-9)
    # Neither the sum of the kernels nor their matrix product has this entropy.
    assert abs(float(matrix_renyi_entropy(sum(kernels), alpha=alpha)) - expected) > 0.1


def test_information_grows_with_dependence():
    noise, x = normal(80, 1, seed=1), normal(80, 1)
    found = [
        float(matrix_mutual_information(gaussian_kernel(x, bandwidth=0.5), gaussian_kernel(y, bandwidth=0.5)))
        for y in (noise, 0.8 * x + 0.6 * noise, x)
    ]
    assert found == sorted(found)


def test_gradients_of_kernel_entropies():
    points = torch.tensor(normal(12, 2), requires_grad=True)
    for function in (
        lambda x: diffusion_spectral_entropy(x, bandwidth=1.0, time=1.5, density_exponent=0.5),
        lambda x: matrix_renyi_entropy(gaussian_kernel(x, bandwidth=1.0), alpha=2),
        lambda x: matrix_mutual_information(
            gaussian_kernel(x[:, :1], bandwidth=1.0), gaussian_kernel(x[:, 1:], bandwidth=1.0), alpha=1.01
        ),
    ):
        assert torch.autograd.gradcheck(function, (points,))
    equal = torch.ones(6, 2, dtype=torch.float64, requires_grad=True)
    diffusion_spectral_entropy(equal, bandwidth=1.0).backward()
    assert torch.isfinite(equal.grad).all()


def test_batches_and_precision_of_kernel_entropies():
    points = normal(3, 30, 2)
    rows = diffusion_spectral_entropy(points, bandwidth=0.7)
    np.testing.assert_allclose(rows, [float(diffusion_spectral_entropy(x, bandwidth=0.7)) for x in points])
    single = diffusion_spectral_entropy(torch.tensor(points, dtype=torch.float32), bandwidth=0.7)
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), rows, rtol=1e-5)


@pytest.mark.parametrize("density_exponent", [0.0, 1.0])
@pytest.mark.parametrize(("memory", "held"), [(0, 0.0), (2 * 4 * 512**2, 1 / 3), (2**30, 1.0)])
def test_products_are_those_of_the_matrix(density_exponent, memory, held):
    """More points than fit into one block, so that blocks on and off the diagonal take part."""
    points, vectors = normal(1100, 3), normal(1100, 2, seed=1).astype(np.float32)
    matrix = diffusion_matrix(points, bandwidth=0.8, density_exponent=density_exponent)
    operator = DiffusionOperator(points, bandwidth=0.8, density_exponent=density_exponent, memory=memory)
    assert operator.held == held
    threads = DiffusionOperator(points, bandwidth=0.8, density_exponent=density_exponent, memory=memory, n_jobs=3)
    np.testing.assert_allclose(threads @ vectors, operator @ vectors, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(operator @ vectors, matrix @ vectors, atol=1e-4 * np.abs(matrix @ vectors).max())
    assert operator.trace() == pytest.approx(np.trace(matrix), rel=1e-4)
    tensors = DiffusionOperator(torch.tensor(points), bandwidth=0.8, density_exponent=density_exponent, memory=memory)
    np.testing.assert_allclose((tensors @ torch.tensor(vectors)).numpy(), operator @ vectors, atol=1e-5)


def test_points_far_apart_are_multiplied_in_float64():
    points = 1e5 * normal(40, 2)
    points[1] = points[0] + [1e-3, 0]
    operator = DiffusionOperator(points, bandwidth=1e-3)
    assert operator.dtype == np.float64
    np.testing.assert_allclose(operator @ np.eye(40), diffusion_matrix(points, bandwidth=1e-3), atol=1e-4)


def spread_matrix(n=400, decay=1.0, seed=0):
    frame, _ = np.linalg.qr(normal(n, n, seed=seed))
    matrix = frame * np.arange(1.0, n + 1) ** -decay @ frame.T
    return (matrix + matrix.T) / 2


@pytest.mark.parametrize(
    ("decay", "alpha", "power"), [(0.3, 1, 1), (1.0, 1, 1), (3.0, 1, 1), (0.5, 1, 2), (1.0, 2, 1), (1.0, 0.7, 1)]
)
def test_entropy_from_products(decay, alpha, power):
    eigenvalues = np.arange(1.0, 401) ** -(decay * power)
    shares = eigenvalues / eigenvalues.sum()
    exact = -(shares * np.log(shares)).sum() if alpha == 1 else log((shares**alpha).sum()) / (1 - alpha)
    estimate = matrix_entropy_from_products(spread_matrix(decay=decay), alpha=alpha, power=power, rng=1)
    assert estimate.value == pytest.approx(exact, abs=4 * estimate.stderr + 1e-9)
    assert estimate.stderr < 0.02 * exact


def test_a_known_trace_sharpens_the_entropy():
    matrix = spread_matrix()
    with_trace = matrix_entropy_from_products(matrix, rng=1)
    without = matrix_entropy_from_products(aslinearoperator(matrix), rng=1)
    given = matrix_entropy_from_products(aslinearoperator(matrix), trace=float(np.trace(matrix)), rng=1)
    assert with_trace.stderr < without.stderr
    assert given.value == pytest.approx(with_trace.value, rel=1e-9)
    shares = np.arange(1.0, 401) ** -1.0 / (np.arange(1.0, 401) ** -1.0).sum()
    assert without.value == pytest.approx(-(shares * np.log(shares)).sum(), abs=4 * without.stderr)


def test_trace_of_a_function_from_products():
    matrix = spread_matrix() + np.eye(400)
    exact = np.linalg.slogdet(matrix)[1]
    estimate = trace_from_products(matrix, np.log, rng=0)
    assert estimate.value == pytest.approx(exact, abs=4 * estimate.stderr)
    assert 0 < estimate.stderr < 1e-2 * exact
    assert trace_from_products(matrix, lambda x: x, rng=0).value == pytest.approx(np.trace(matrix), rel=1e-9)
    assert trace_from_products(matrix, np.log, rng=0).value == estimate.value
    tensor = trace_from_products(torch.tensor(matrix), np.log, rng=0)
    assert tensor.value == pytest.approx(estimate.value, rel=1e-9)


def test_a_small_operator_is_diagonalised():
    matrix = spread_matrix(50)
    estimate = matrix_entropy_from_products(matrix)
    assert estimate.value == pytest.approx(float(von_neumann_entropy(matrix)), rel=1e-12)
    assert estimate.stderr == 0
    assert estimate.method == "eigenvalues"


def test_operators_of_low_rank_exhaust_their_space():
    features = normal(400, 5)
    estimate = matrix_entropy_from_products(features @ features.T, rng=0)
    assert estimate.value == pytest.approx(float(von_neumann_entropy(features.T @ features)), abs=1e-6)
    assert matrix_entropy_from_products(np.eye(400), rng=0).value == pytest.approx(log(400))
    # Of the identity nothing is left after one step, and the same direction was taken twice.
    for seed in range(5):
        for dtype in (torch.float32, torch.float64):
            estimate = matrix_entropy_from_products(torch.eye(1000, dtype=dtype), rng=seed)
            assert estimate.value == pytest.approx(log(1000), abs=1e-5)


@pytest.mark.slow
def test_standard_errors_cover_the_truth():
    """Of 100 seeds each, at least 88 lie within two standard errors; 95 would be expected of a normal law."""
    points = normal(1000, 2)
    for bandwidth in (0.05, 0.5, 2.0):
        operator = DiffusionOperator(points, bandwidth=bandwidth)
        exact = float(diffusion_spectral_entropy(points, bandwidth=bandwidth))
        found = [matrix_entropy_from_products(operator, rng=seed) for seed in range(100)]
        assert sum(abs(estimate - exact) < 2 * estimate.stderr for estimate in found) >= 88
        assert np.sqrt(np.mean([(estimate - exact) ** 2 for estimate in found])) < 0.005 * exact


def test_misuse_is_named():
    points = normal(10, 2)
    with pytest.raises(ValueError, match="bandwidth must be positive"):
        gaussian_kernel(points, bandwidth=0.0)
    with pytest.raises(ValueError, match="points must be finite"):
        diffusion_spectral_entropy([[0.0], [np.inf]], bandwidth=1.0)
    with pytest.raises(ValueError, match="more than half of the points have 9 equals"):
        diffusion_spectral_entropy(np.ones((10, 2)))
    with pytest.raises(ValueError, match="at least 2, got 1; pass bandwidth"):
        neighbour_bandwidth(np.ones((1, 2)))
    with pytest.raises(ValueError, match="time must be positive"):
        diffusion_spectral_entropy(points, time=0.0)
    with pytest.raises(ValueError, match="of the same samples"):
        matrix_joint_entropy(np.eye(3), np.eye(4))
    with pytest.raises(ValueError, match="diagonal of kernel matrix 0 must be positive"):
        matrix_joint_entropy(np.diag([1.0, 0.0]))
    with pytest.raises(TypeError, match="at least one kernel matrix"):
        matrix_joint_entropy()
    with pytest.raises(ValueError, match=r"points must be \[n, d\]"):
        DiffusionOperator(np.ones((2, 3, 4)), bandwidth=1.0)
    with pytest.raises(ValueError, match="n_jobs must be positive, or -1 for all cores"):
        DiffusionOperator(points, n_jobs=0)
    with pytest.raises(ValueError, match=r"operator must have a shape \(n, n\), got \(3, 2\)"):
        trace_from_products(np.ones((3, 2)), np.exp)
    with pytest.raises(TypeError, match="operator must be real, got dtype complex128"):
        trace_from_products(np.eye(3) + 0j, np.exp)
    with pytest.raises(ValueError, match="n_probes must be an integer of at least 4"):
        trace_from_products(np.eye(3), np.exp, n_probes=2)
    with pytest.raises(ValueError, match="operator must be symmetric"):
        trace_from_products(np.triu(np.ones((3, 3))), np.exp)
    with pytest.raises(ValueError, match="function must be finite on the eigenvalues, it is not at -1"):
        trace_from_products(-np.eye(3), lambda x: np.where(x > 0, x, np.nan))
    with pytest.raises(ValueError, match="positive semi-definite"):
        matrix_entropy_from_products(np.diag([1.0, -1.0]))
    with pytest.raises(ValueError, match="alpha must be positive"):
        matrix_entropy_from_products(np.eye(3), alpha=0)


def test_mutual_information_with_groups():
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b", "c"], 30)
    apart = 100.0 * np.repeat(np.eye(3), 30, axis=0)
    found = diffusion_spectral_mutual_information(apart, labels, bandwidth=1.0, rng=0, base=2)
    # Each group is one mode, however many of its points a subset holds.
    assert found.value == pytest.approx(log2(3), abs=1e-9)
    points = normal(90, 2)
    independent = diffusion_spectral_mutual_information(points, labels, rng=0)
    assert abs(independent) < 0.2
    assert independent.test(19, rng=1).pvalue > 0.05
    dependent = diffusion_spectral_mutual_information(points + 3 * (labels == "a")[:, None], labels, rng=0)
    assert dependent.test(19, rng=1).pvalue == 0.05
    order = rng.permutation(90)
    again = diffusion_spectral_mutual_information(apart[order], labels[order], bandwidth=1.0, rng=0, base=2)
    assert again.value == pytest.approx(found.value, abs=1e-9)
    with pytest.raises(ValueError, match="groups must be a label for each of the 90 points"):
        diffusion_spectral_mutual_information(points, labels[:-1].tolist())
    with pytest.raises(ValueError, match="n_subsets must be an integer of at least 2"):
        diffusion_spectral_mutual_information(points, labels, n_subsets=1)


def test_the_width_is_taken_from_points_all_over():
    # The first half lies a thousand times as close together as the second: the median is between both, not in the first.
    steps = np.concatenate([np.full(1200, 1e-3), np.full(1300, 1.0)])
    points = np.cumsum(steps)[:, None]
    assert neighbour_bandwidth(points, k=1) == pytest.approx(1.0)


def test_a_kernel_is_one_on_its_diagonal_and_bears_points_far_off():
    points = normal(40, 3)
    kernel = gaussian_kernel(points, bandwidth=0.5)
    np.testing.assert_array_equal(np.diagonal(kernel), 1)
    assert kernel.max() == 1
    far = points + 2.0**20
    np.testing.assert_allclose(
        gaussian_kernel(far, bandwidth=0.5), gaussian_kernel(far - 2.0**20, bandwidth=0.5), atol=1e-9
    )


def test_points_that_recur_have_no_width_whatever_rounding_leaves_of_their_distances():
    with pytest.raises(ValueError, match="more than half of the points have 10 equals"):
        neighbour_bandwidth(np.repeat(normal(7, 64), 20, axis=0))


def test_the_diagonal_of_an_operator_in_float32_is_exact():
    # Exponents of points so far from the centre are wrong by 1e-3 in float32, but for those that are 0.
    operator = DiffusionOperator(20 * normal(60, 2), bandwidth=1.0)
    assert operator.dtype == np.float32
    assert np.trace(operator @ np.eye(60, dtype=np.float32)) == pytest.approx(operator.trace(), rel=1e-6)


def test_information_with_groups_has_the_spread_of_its_subsets():
    points, labels = normal(24, 2), np.repeat([0, 1], 12)
    found = [
        diffusion_spectral_mutual_information(points, labels, bandwidth=1.0, n_subsets=2, rng=seed)
        for seed in range(300)
    ]
    # Both are known to about a tenth; with another divisor the one would be half of the other.
    assert np.mean([e.stderr**2 for e in found]) == pytest.approx(np.var(found), rel=0.35)
    # The one subset of all points are the points.
    single = diffusion_spectral_mutual_information(points, np.zeros(24), bandwidth=1.0, rng=0)
    assert (single.value, single.stderr) == pytest.approx((0, 0), abs=1e-12)
    with pytest.raises(ValueError, match="n_subsets must be an integer of at least 2, got 1"):
        diffusion_spectral_mutual_information(points, labels, n_subsets=1)


def test_after_a_long_time_groups_of_the_same_clusters_share_nothing():
    # Every half of the points has both clusters, of which each is one mode in the end.
    points = np.concatenate([normal(20, 1), 1e3 + normal(20, 1, seed=1)])
    groups = np.arange(40) % 2
    options = {"bandwidth": 1.0, "n_subsets": 2, "rng": 0}
    assert abs(diffusion_spectral_mutual_information(points, groups, time=1e4, **options)) < 1e-6
    assert abs(diffusion_spectral_mutual_information(points, groups, **options)) > 1e-3


def test_a_trace_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="trace must be finite, got nan"):
        matrix_entropy_from_products(spread_matrix(), trace=float("nan"))
