"""Entropy and information of samples through their kernel matrices: matrix-based Rényi, and diffusion spectral entropy.

A kernel matrix ``K_ij = k(x_i, x_j)`` with ones on its diagonal, divided by n, is a density matrix. Its entropy takes the place
of the entropy of the samples, the element-wise product of two kernel matrices that of their joint law. Nothing is fitted
but the width of the kernel, which decides what counts as equal: all of these are 0 for a very wide kernel and ``log n`` for
a very narrow one. Arrays, precision and gradients are treated as in `isentrope.measures.spectral`.
"""

from typing import Any

import numpy as np
from array_api_compat import array_namespace, device
from jaxtyping import Float

from isentrope.measures._array import ArrayLike, _to_numpy, _values_are_known, check_order, stop_gradient
from isentrope.measures._spaces import power_of_two
from isentrope.measures.estimate import unit_of
from isentrope.measures.spectral import (
    eigenvalue_weights,
    entropy_of_matrix,
    read_matrices,
    renyi_entropy,
    rounded,
)

# The width of a kernel is taken from the neighbours of at most this many samples.
_QUERIES = 1000


def gaussian_kernel(points: ArrayLike, *, bandwidth: float | None = None) -> Float[Any, "... n n"]:
    r"""Gaussian kernel matrix of points.

    .. math:: G_{ij} = \exp\Bigl(-\frac{\lVert x_i - x_j \rVert^2}{2 \sigma^2}\Bigr)

    Args:
        points: Points ``[..., n, d]``, one a row.
        bandwidth: Width σ, in the unit of the points; None for that of `neighbour_bandwidth`.

    Returns:
        Kernel matrices ``[..., n, n]``, with ones on the diagonal.

    Raises:
        TypeError: If the dtype is not real floating.
        ValueError: If there are no points, they are not finite, or ``bandwidth`` is not positive.

    Examples:
        >>> gaussian_kernel([[0.0], [2.0]], bandwidth=1.0).round(4)  # exp(-2)
        array([[1.    , 0.1353],
               [0.1353, 1.    ]])
    """
    points, xp, dtype = read_matrices("gaussian_kernel", "points", points, zero=True)
    bandwidth = _checked_bandwidth("gaussian_kernel", points, bandwidth, xp)
    return rounded(xp.exp(_exponents(points, bandwidth, xp)), dtype, xp)


def neighbour_bandwidth(points: ArrayLike, *, k: int = 10) -> float:
    r"""Width for a Gaussian kernel: the median distance of a point to its k-th nearest neighbour.

    It grows and shrinks with the data, so that entropies with this width do not depend on the unit of the points. Of more
    than 1000 points, the neighbours of 1000 evenly spaced in the order given are searched, among all.

    Args:
        points: Points ``[..., n, d]``, one a row; one width is returned for all leading axes.
        k: Which neighbour; n - 1 where there are fewer.

    Returns:
        The width, in the unit of the points; without gradient.

    Raises:
        TypeError: If the dtype is not real floating.
        ValueError: If there are fewer than 2 points, they are not finite, ``k`` is not positive, or more than half of the
            points have k equals, so that the distance is 0.

    Examples:
        >>> neighbour_bandwidth([[0.0], [1.0], [2.0], [3.0]], k=1)
        1.0
    """
    points, xp, _ = read_matrices("neighbour_bandwidth", "points", points, zero=True)
    return _neighbour_bandwidth("neighbour_bandwidth", stop_gradient(points), k, xp)


def matrix_joint_entropy(*kernels: ArrayLike, alpha: float = 1.0, base: float | None = None) -> Float[Any, "..."]:
    r"""Matrix-based joint Rényi entropy of several variables seen in the same samples.

    .. math:: S_\alpha(A_1, \dots, A_m) = S_\alpha\Bigl(\frac{A_1 \circ \dots \circ A_m}{\operatorname{tr}(\cdot)}\Bigr),
        \qquad (A)_{ij} = \frac{K_{ij}}{\sqrt{K_{ii} K_{jj}}}

    with the element-wise product. It is at least the entropy of each variable and at most the sum of all, for kernels
    without negative elements.

    Args:
        kernels: Kernel matrices ``[..., n, n]`` of the variables; each is scaled to ones on its diagonal.
        alpha: Order, from 0 to ``math.inf``; 1 for von Neumann's.
        base: Base of the logarithm; None for nats, 2 for bits.

    Returns:
        Entropies ``[...]`` in the unit of ``base``.

    Raises:
        TypeError: If the dtype is not real floating, or there is no kernel matrix.
        ValueError: As `matrix_renyi_entropy` does, or if the shapes differ or a diagonal element is not positive.

    References:
        arXiv 1211.2459 (L. G. Sanchez Giraldo, M. Rao and J. C. Principe).

    Examples:
        >>> import numpy as np
        >>> first, second = np.kron(np.eye(2), np.ones((2, 2))), np.kron(np.ones((2, 2)), np.eye(2))  # two fair bits
        >>> float(matrix_joint_entropy(first, second, base=2))
        2.0
    """
    nats, _ = unit_of(base, "matrix_joint_entropy")
    scaled, xp, dtype = _unit_kernels("matrix_joint_entropy", alpha, kernels)
    return rounded(_joint("matrix_joint_entropy", scaled, alpha, dtype, xp) / nats, dtype, xp)


def matrix_conditional_entropy(
    kernel: ArrayLike, given: ArrayLike, *, alpha: float = 1.0, base: float | None = None
) -> Float[Any, "..."]:
    r"""Matrix-based conditional Rényi entropy of a variable given another.

    .. math:: S_\alpha(A \mid B) = S_\alpha(A, B) - S_\alpha(B)

    Args:
        kernel: Kernel matrices ``[..., n, n]`` of the variable.
        given: Kernel matrices ``[..., n, n]`` of what is known.
        alpha: Order, from 0 to ``math.inf``; 1 for von Neumann's.
        base: Base of the logarithm; None for nats, 2 for bits.

    Returns:
        Entropies ``[...]`` in the unit of ``base``.

    Raises:
        TypeError: As `matrix_joint_entropy` does.
        ValueError: As `matrix_joint_entropy` does.

    References:
        arXiv 1211.2459 (L. G. Sanchez Giraldo, M. Rao and J. C. Principe).

    Examples:
        >>> import numpy as np
        >>> coin, constant = np.kron(np.eye(2), np.ones((2, 2))), np.ones((4, 4))
        >>> float(matrix_conditional_entropy(coin, constant, base=2)), float(matrix_conditional_entropy(coin, coin))
        (1.0, 0.0)
    """
    name = "matrix_conditional_entropy"
    nats, _ = unit_of(base, name)
    scaled, xp, dtype = _unit_kernels(name, alpha, (kernel, given))
    value = _joint(name, scaled, alpha, dtype, xp) - _joint(name, scaled[1:], alpha, dtype, xp)
    return rounded(value / nats, dtype, xp)


def matrix_mutual_information(
    first: ArrayLike, second: ArrayLike, *, alpha: float = 1.0, base: float | None = None
) -> Float[Any, "..."]:
    r"""Matrix-based Rényi mutual information of two variables.

    .. math:: I_\alpha(A; B) = S_\alpha(A) + S_\alpha(B) - S_\alpha(A, B)

    Not negative for kernels without negative elements, and 0 if one of the variables is constant. Of independent samples
    it is not 0: the joint entropy of n samples cannot exceed ``log n``. Compare it with that of shuffled samples.

    Args:
        first: Kernel matrices ``[..., n, n]`` of one variable.
        second: Kernel matrices ``[..., n, n]`` of the other, for the same samples in the same order.
        alpha: Order, from 0 to ``math.inf``; 1 for von Neumann's.
        base: Base of the logarithm; None for nats, 2 for bits.

    Returns:
        Informations ``[...]`` in the unit of ``base``.

    Raises:
        TypeError: As `matrix_joint_entropy` does.
        ValueError: As `matrix_joint_entropy` does.

    References:
        arXiv 1211.2459 (L. G. Sanchez Giraldo, M. Rao and J. C. Principe).

    Examples:
        >>> import numpy as np
        >>> first, second = np.kron(np.eye(2), np.ones((2, 2))), np.kron(np.ones((2, 2)), np.eye(2))  # two fair bits
        >>> float(matrix_mutual_information(first, first, base=2)), float(matrix_mutual_information(first, second))
        (1.0, 0.0)
    """
    name = "matrix_mutual_information"
    nats, _ = unit_of(base, name)
    scaled, xp, dtype = _unit_kernels(name, alpha, (first, second))
    value = _joint(name, scaled[:1], alpha, dtype, xp) + _joint(name, scaled[1:], alpha, dtype, xp)
    return rounded((value - _joint(name, scaled, alpha, dtype, xp)) / nats, dtype, xp)


def diffusion_matrix(
    points: ArrayLike, *, bandwidth: float | None = None, density_exponent: float = 0.0
) -> Float[Any, "... n n"]:
    r"""Symmetric diffusion operator on points, with the eigenvalues of a random walk among them.

    .. math:: K = D^{-1/2} G D^{-1/2}, \qquad D_{ii} = \textstyle\sum_j G_{ij}

    for the Gaussian kernel G. It shares its eigenvalues with the transition matrix :math:`D^{-1} G`, the largest of which is 1.
    With the exponent a, G is first divided by :math:`D_{ii}^a D_{jj}^a`: at a = 1 the sampling density drops out of the walk
    (anisotropic diffusion). The published diffusion spectral entropy speaks of that and computes a = 0, the default here.

    Args:
        points: Points ``[..., n, d]``, one a row.
        bandwidth: Width σ of the kernel, in the unit of the points; None for that of `neighbour_bandwidth`.
        density_exponent: Exponent a.

    Returns:
        Operators ``[..., n, n]``.

    Raises:
        TypeError: As `gaussian_kernel` does.
        ValueError: As `gaussian_kernel` does, or if ``density_exponent`` is not finite.

    References:
        R. R. Coifman and S. Lafon, Diffusion maps, 2006; arXiv 2312.04823 (D. Liao et al.).

    Examples:
        >>> import numpy as np
        >>> operator = diffusion_matrix([[0.0], [1.0], [3.0]], bandwidth=1.0)
        >>> round(float(np.linalg.eigvalsh(operator)[-1]), 12)
        1.0
    """
    points, xp, dtype = read_matrices("diffusion_matrix", "points", points, zero=True)
    return rounded(_diffusion("diffusion_matrix", points, bandwidth, density_exponent, xp), dtype, xp)


def diffusion_spectral_entropy(
    points: ArrayLike,
    *,
    bandwidth: float | None = None,
    time: float = 1.0,
    density_exponent: float = 0.0,
    base: float | None = None,
) -> Float[Any, "..."]:
    r"""Diffusion spectral entropy of points: over how many diffusion modes they spread, robustly against noise.

    .. math:: -\sum_i p_i \log p_i, \qquad p_i = |\lambda_i|^t / \textstyle\sum_j |\lambda_j|^t

    with the eigenvalues of `diffusion_matrix`. Of equal points it is 0, of n points far apart ``log n``, of k groups far apart
    of equal points ``log k``; for long times t only the logarithm of the number of unconnected groups is left. It costs one
    symmetric eigenvalue problem; for more points than that allows, see `DiffusionOperator`.

    Args:
        points: Points ``[..., n, d]``, one a row.
        bandwidth: Width σ of the kernel, in the unit of the points, by which the value stands and falls (the published
            code takes 10). None for that of `neighbour_bandwidth`, which makes the value independent of the unit.
        time: Diffusion time t, positive.
        density_exponent: Exponent a of `diffusion_matrix`.
        base: Base of the logarithm; None for nats, 2 for bits.

    Returns:
        Entropies ``[...]`` in the unit of ``base``. Their gradient takes the bandwidth for a constant.

    Raises:
        TypeError: As `gaussian_kernel` does.
        ValueError: As `diffusion_matrix` does, or if ``time`` is not positive.

    References:
        arXiv 2312.04823 (D. Liao, C. Liu, B. W. Christensen, A. Tong, G. Huguet, G. Wolf, M. Nickel, I. Adelstein and
        S. Krishnaswamy).

    Examples:
        >>> import numpy as np
        >>> groups = np.repeat([[0.0], [100.0], [200.0], [300.0]], 5, axis=0)
        >>> round(float(diffusion_spectral_entropy(groups, bandwidth=1.0, base=2)), 9)
        2.0
    """
    name = "diffusion_spectral_entropy"
    nats, _ = unit_of(base, name)
    if not 0 < time < np.inf:
        raise ValueError(f"{name}: time must be positive and finite, got {time!r}")
    points, xp, dtype = read_matrices(name, "points", points, zero=True)
    operator = _diffusion(name, points, bandwidth, density_exponent, xp)
    weights = eigenvalue_weights(name, "the diffusion operator", operator, dtype, xp)
    if time != 1:
        weights = xp.where(weights > 0, xp.where(weights > 0, weights, 1.0) ** time, 0.0)
    return rounded(renyi_entropy(weights, alpha=1, normalize=True) / nats, dtype, xp)


def _exponents(points: Any, bandwidth: float, xp: Any) -> Any:
    """``-|x_i - x_j|² / 2σ²``, exactly 0 on the diagonal."""
    centred = (points - stop_gradient(xp.mean(points, axis=-2, keepdims=True))) / bandwidth
    half = xp.sum(centred * centred, axis=-1) / 2
    exponents = centred @ xp.matrix_transpose(centred)
    exponents -= half[..., :, None]
    exponents -= half[..., None, :]
    itself = xp.eye(points.shape[-2], dtype=xp.bool, device=device(points))
    return xp.where(itself | (exponents > 0), 0.0, exponents)


def _neighbour_bandwidth(name: str, points: Any, k: int, xp: Any) -> float:
    n = points.shape[-2]
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise ValueError(f"{name}: k must be a positive integer, got {k!r}")
    if n < 2:
        raise ValueError(f"{name}: points must be at least 2, got {n}; pass bandwidth")
    centred = points - xp.mean(points, axis=-2, keepdims=True)
    factor = power_of_two(float(xp.max(xp.abs(centred))))
    centred = centred * factor
    queries = centred[..., :: -(-n // _QUERIES), :]
    square = xp.sum(centred * centred, axis=-1)
    distances = xp.sum(queries * queries, axis=-1)[..., :, None] + square[..., None, :]
    distances = _to_numpy(distances - 2 * queries @ xp.matrix_transpose(centred))
    k = min(k, n - 1)
    # Each query is its own nearest neighbour, at index 0.
    nearest = np.sqrt(np.maximum(np.partition(distances, k, axis=-1)[..., k], 0))
    bandwidth = float(np.median(nearest))
    if bandwidth <= 1e-7 * float(np.sqrt(np.max(_to_numpy(square)))):
        raise ValueError(
            f"{name}: more than half of the points have {k} equals, so that no width follows; pass bandwidth"
        )
    return bandwidth / factor


def _checked_bandwidth(name: str, points: Any, bandwidth: float | None, xp: Any) -> float:
    if bandwidth is None:
        return _neighbour_bandwidth(name, stop_gradient(points), 10, xp)
    if not 0 < bandwidth < np.inf:
        raise ValueError(f"{name}: bandwidth must be positive and finite, got {bandwidth!r}")
    return bandwidth


def _diffusion(name: str, points: Any, bandwidth: float | None, density_exponent: float, xp: Any) -> Any:
    if not np.isfinite(density_exponent):
        raise ValueError(f"{name}: density_exponent must be finite, got {density_exponent!r}")
    kernel = xp.exp(_exponents(points, _checked_bandwidth(name, points, bandwidth, xp), xp))
    if density_exponent:
        kernel = _both_sides(kernel, xp.sum(kernel, axis=-1) ** -density_exponent)
    return _both_sides(kernel, xp.sum(kernel, axis=-1) ** -0.5)


def _both_sides(matrix: Any, factors: Any) -> Any:
    return matrix * factors[..., :, None] * factors[..., None, :]


def _unit_kernels(name: str, alpha: float, kernels: tuple) -> tuple[list, Any, Any]:
    """Kernel matrices scaled to ones on the diagonal, their namespace and the dtype of results."""
    check_order(name, "alpha", alpha)
    if not kernels:
        raise TypeError(f"{name}: give at least one kernel matrix")
    scaled, dtypes, shapes = [], [], []
    for position, kernel in enumerate(kernels):
        argument = f"kernel matrix {position}"
        matrix, xp, dtype = read_matrices(name, argument, kernel, symmetric=True)
        diagonal = xp.linalg.diagonal(matrix)
        if _values_are_known(matrix) and not bool(xp.all(diagonal > 0)):
            raise ValueError(f"{name}: the diagonal of {argument} must be positive, as that of a kernel is")
        scaled.append(_both_sides(matrix, diagonal**-0.5))
        dtypes.append(dtype)
        shapes.append(tuple(matrix.shape))
    if len({shape[-1] for shape in shapes}) > 1:
        raise ValueError(
            f"{name}: kernel matrices must be of the same samples, got shapes {', '.join(map(str, shapes))}"
        )
    xp = array_namespace(*scaled)
    return scaled, xp, xp.result_type(*dtypes)


def _joint(name: str, scaled: list, alpha: float, dtype: Any, xp: Any) -> Any:
    product = scaled[0]
    for matrix in scaled[1:]:
        product = product * matrix
    return entropy_of_matrix(name, "the product of kernel matrices", product, alpha, dtype, xp)
