"""Entropies of the spectrum of a matrix: density matrices, covariances, kernel matrices, weights and activations.

The eigenvalues of a positive semi-definite matrix, divided by their sum, are a distribution, and its entropy says over how
many directions the matrix spreads. The singular values of any matrix serve in the same way. A matrix that is too large to be
held is treated by `isentrope.measures.matrix_entropy_from_products`, activations too many to be held by
`isentrope.measures.CovarianceAccumulator`.

Functions take NumPy arrays, tensors of PyTorch and arrays of other Array-API libraries, with any leading batch axes, and keep
library, dtype, device and gradient. Spectra are computed in float64 (in float32 on accelerators, where the input has no
more). An eigenvalue below ``n · eps`` of the largest one is rounding and counts as 0, for the value and for the gradient.
Functions of a spectrum are symmetric in its values, so that gradients stay finite where eigenvalues coincide.
"""

from math import log
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, is_jax_array, is_torch_array
from jaxtyping import Float

from isentrope.measures._array import (
    ArrayLike,
    _as_array,
    _to_numpy,
    _tolerance,
    _values_are_known,
    check_order,
    stop_gradient,
)
from isentrope.measures.entropies import renyi_entropy
from isentrope.measures.estimate import unit_of


def von_neumann_entropy(matrix: ArrayLike, *, base: float | None = None) -> Float[Any, "..."]:
    r"""Von Neumann entropy of a density matrix: the Shannon entropy of its eigenvalues.

    .. math:: S(\rho) = -\operatorname{tr} \rho \log \rho = -\sum_i p_i \log p_i, \qquad
        \rho = A / \operatorname{tr} A, \quad p_i = \lambda_i / \textstyle\sum_j \lambda_j

    From 0 (rank one) to ``log n`` (a multiple of the identity). It costs one symmetric eigenvalue problem.

    Args:
        matrix: Symmetric positive semi-definite matrices ``[..., n, n]``; each is divided by its trace.
        base: Base of the logarithm; None for nats, 2 for bits.

    Returns:
        Entropies ``[...]`` in the unit of ``base``.

    Raises:
        TypeError: If the dtype is not real floating.
        ValueError: If matrices are not square, not symmetric, not finite, have a negative eigenvalue or trace 0.

    Examples:
        >>> import numpy as np
        >>> float(von_neumann_entropy(np.eye(4), base=2))
        2.0
        >>> float(von_neumann_entropy(np.ones((4, 4))))
        0.0
    """
    nats, _ = unit_of(base, "von_neumann_entropy")
    matrix, xp, dtype = read_matrices("von_neumann_entropy", "matrix", matrix, symmetric=True)
    weights = eigenvalue_weights("von_neumann_entropy", "matrix", matrix, dtype, xp)
    return rounded(renyi_entropy(weights, alpha=1, normalize=True) / nats, dtype, xp)


def matrix_renyi_entropy(matrix: ArrayLike, *, alpha: float, base: float | None = None) -> Float[Any, "..."]:
    r"""Matrix-based Rényi entropy of order α.

    .. math:: S_\alpha(A) = \frac{1}{1-\alpha} \log \operatorname{tr} \rho^\alpha, \qquad \rho = A / \operatorname{tr} A

    Of a kernel matrix ``K_ij = k(x_i, x_j)`` it is an entropy of the samples that needs no density. At α = 1 it is the von
    Neumann entropy, at 0 the logarithm of the rank, at ∞ minus the logarithm of the largest share. At α = 2 it is
    :math:`-\log \sum_{ij} \rho_{ij}^2` and needs no eigenvalues, which are then not checked to be non-negative.

    Args:
        matrix: Symmetric positive semi-definite matrices ``[..., n, n]``; each is divided by its trace.
        alpha: Order, from 0 to ``math.inf``.
        base: Base of the logarithm; None for nats, 2 for bits.

    Returns:
        Entropies ``[...]`` in the unit of ``base``.

    Raises:
        TypeError: As `von_neumann_entropy` does.
        ValueError: As `von_neumann_entropy` does, or if ``alpha`` is negative or NaN.

    References:
        arXiv 1211.2459 (L. G. Sanchez Giraldo, M. Rao and J. C. Principe), there with all diagonal elements equal.

    Examples:
        >>> blocks = [[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]]
        >>> float(matrix_renyi_entropy(blocks, alpha=2, base=2))  # two groups of two equal samples
        1.0
    """
    name = "matrix_renyi_entropy"
    nats, _ = unit_of(base, name)
    check_order(name, "alpha", alpha)
    matrix, xp, dtype = read_matrices(name, "matrix", matrix, symmetric=True)
    return rounded(entropy_of_matrix(name, "matrix", matrix, alpha, dtype, xp) / nats, dtype, xp)


def effective_rank(matrix: ArrayLike, *, alpha: float = 1.0, power: float = 1.0) -> Float[Any, "..."]:
    r"""Effective rank: the number of equal singular values that would be as spread as those of the matrix.

    .. math:: \exp H_\alpha(p), \qquad p_i = \sigma_i^t / \textstyle\sum_j \sigma_j^t

    with the Rényi entropy :math:`H_\alpha` and the power t. Between 1 and the rank. With the defaults it is the effective rank
    of Roy and Vetterli, which as RankMe judges representations; with ``power=2`` the singular values become those of the
    second moment ``XᵀX``, and the exponential is one of a von Neumann entropy. Rows are not centred: pass
    ``x - x.mean(0)`` where the covariance is meant. `participation_ratio` is ``alpha=2, power=2`` and `stable_rank`
    ``alpha=inf, power=2``.

    Args:
        matrix: Matrices ``[..., m, n]``, such as samples by features, or weights.
        alpha: Order of the Rényi entropy, from 0 to ``math.inf``; 1 for Shannon's.
        power: Power t of the singular values, positive.

    Returns:
        Effective ranks ``[...]``.

    Raises:
        TypeError: If the dtype is not real floating.
        ValueError: If a matrix is empty, not finite or 0, ``alpha`` is negative or NaN, or ``power`` is not positive.

    References:
        O. Roy and M. Vetterli, The effective rank: a measure of effective dimensionality, 2007; arXiv 2210.02885
        (Q. Garrido, R. Balestriero, L. Najman and Y. LeCun: RankMe); arXiv 2509.23024 (power 2 of centred features).

    Examples:
        >>> import numpy as np
        >>> round(float(effective_rank(np.diag([3.0, 3.0, 3.0, 0.0]))), 9)
        3.0
    """
    name = "effective_rank"
    check_order(name, "alpha", alpha)
    if not 0 < power < np.inf:
        raise ValueError(f"{name}: power must be positive and finite, got {power!r}")
    array, xp, dtype = read_matrices(name, "matrix", matrix)
    weights = _share_of_largest(xp.linalg.svdvals(array), max(array.shape[-2:]), xp)
    powers = weights if power == 1 else xp.where(weights > 0, xp.where(weights > 0, weights, 1.0) ** power, 0.0)
    return rounded(xp.exp(renyi_entropy(powers, alpha=alpha, normalize=True)), dtype, xp)


def participation_ratio(matrix: ArrayLike) -> Float[Any, "..."]:
    r"""Participation ratio: an effective number of directions, without a decomposition.

    .. math:: \frac{(\sum_i \sigma_i^2)^2}{\sum_i \sigma_i^4}
        = \frac{(\operatorname{tr} X^\top X)^2}{\lVert X^\top X \rVert_F^2}

    With the eigenvalues :math:`\lambda_i = \sigma_i^2` of the second moment it is :math:`(\sum \lambda)^2 / \sum \lambda^2`, the
    exponential of their Rényi entropy of order 2. It costs one product of the matrix with itself.

    Args:
        matrix: Matrices ``[..., m, n]``, such as samples by features (centre the columns where the covariance is meant).

    Returns:
        Participation ratios ``[...]``, between 1 and the rank.

    Raises:
        TypeError: If the dtype is not real floating.
        ValueError: If a matrix is empty, not finite or 0.

    Examples:
        >>> import numpy as np
        >>> float(participation_ratio(np.diag([1.0, 1.0, 1.0, 0.0])))
        3.0
    """
    matrix, xp, dtype = read_matrices("participation_ratio", "matrix", matrix)
    moment = _second_moment(matrix / _largest_element(matrix, xp), xp)
    return rounded(_trace(moment, xp) ** 2 / _square_sum(moment, xp), dtype, xp)


def stable_rank(matrix: ArrayLike) -> Float[Any, "..."]:
    r"""Stable rank: squared Frobenius norm over squared spectral norm.

    .. math:: \frac{\sum_i \sigma_i^2}{\max_i \sigma_i^2}

    Unlike the rank it hardly moves when the matrix does. The exponential of the min-entropy of :math:`\sigma_i^2`.

    Args:
        matrix: Matrices ``[..., m, n]``.

    Returns:
        Stable ranks ``[...]``, between 1 and the rank.

    Raises:
        TypeError: If the dtype is not real floating.
        ValueError: If a matrix is empty, not finite or 0.

    Examples:
        >>> import numpy as np
        >>> float(stable_rank(np.diag([2.0, 1.0, 1.0])))
        1.5
    """
    matrix, xp, dtype = read_matrices("stable_rank", "matrix", matrix)
    matrix = matrix / _largest_element(matrix, xp)
    largest = xp.max(xp.linalg.svdvals(matrix), axis=-1)
    return rounded(_square_sum(matrix, xp) / largest**2, dtype, xp)


def coding_rate(
    features: ArrayLike, *, squared_distortion: float = 0.5, weights: ArrayLike | None = None, base: float | None = None
) -> Float[Any, "..."]:
    r"""Coding rate of features: what a sample costs at least when all are coded up to a distortion.

    .. math:: R(Z) = \tfrac{1}{2} \log\det\Bigl(I + \frac{d}{m\,\varepsilon^2} \sum_i w_i z_i z_i^\top\Bigr), \qquad
        m = \textstyle\sum_i w_i

    The rate of a Gaussian source of the same second moment. The determinant is taken on the smaller side. The rate
    reduction of classes is :math:`R(Z) - \sum_j \frac{m_j}{m} R_j` with the memberships of class j for weights in
    :math:`R_j`.

    Args:
        features: Features ``[..., m, d]``, one sample a row, usually of length 1.
        squared_distortion: ε², the mean squared error allowed to a sample, positive.
        weights: Weights ``[..., m]`` of the samples, such as memberships in a class, not negative; None for ones.
        base: Base of the logarithm; None for nats, 2 for bits.

    Returns:
        Rates ``[...]`` a sample in the unit of ``base``.

    Raises:
        TypeError: If the dtype is not real floating.
        ValueError: If ``features`` are empty or not finite, ``weights`` are negative, sum to 0 or do not fit them, or
            ``squared_distortion`` is not positive.

    References:
        arXiv 2006.08558 (Y. Yu, K. H. R. Chan, C. You, C. Song and Y. Ma), eq. 2 and 7.

    Examples:
        >>> import numpy as np
        >>> same = np.tile([1.0, 0.0], (5, 1))  # five equal unit vectors: half of log(1 + d / ε²)
        >>> bool(np.isclose(coding_rate(same), np.log(5) / 2))
        True
    """
    name = "coding_rate"
    nats, _ = unit_of(base, name)
    if not 0 < squared_distortion < np.inf:
        raise ValueError(f"{name}: squared_distortion must be positive and finite, got {squared_distortion!r}")
    rows, xp, dtype = read_matrices(name, "features", features, zero=True)
    samples, dimension = rows.shape[-2:]
    size = _largest_element(rows, xp)
    size = xp.where(size > 0, size, 1.0)
    rows = rows / size
    if weights is None:
        scaled = rows / samples**0.5
    else:
        shares = xp.astype(_as_array(name, "weights", weights), rows.dtype)
        if shares.shape[-1:] != (samples,) or shares.ndim > rows.ndim - 1:
            raise ValueError(
                f"{name}: weights must be [..., m] for features [..., m, d], got shapes {tuple(shares.shape)} and "
                f"{tuple(rows.shape)}"
            )
        total = xp.sum(shares, axis=-1, keepdims=True)
        if _values_are_known(shares) and not bool(xp.all((shares >= 0) & xp.isfinite(total)) & xp.all(total > 0)):
            raise ValueError(f"{name}: weights must be finite, not negative and not all be 0")
        shares = shares / total
        # The root of a weight 0 has no derivative, and the sample no part in the sum.
        roots = xp.where(shares > 0, xp.sqrt(xp.where(shares > 0, shares, 1.0)), 0.0)
        scaled = rows * roots[..., :, None]
    moment, log_factor = _second_moment(scaled, xp), 2 * xp.log(size[..., 0, 0]) + log(dimension / squared_distortion)
    # Beside a moment beyond 1 / eps the identity would be lost in the sum, and with it what no feature spans.
    if _values_are_known(moment) and bool(xp.any(log_factor > -log(float(xp.finfo(moment.dtype).eps)) / 2)):
        eigenvalues = xp.linalg.eigvalsh(moment)
        spanned = _share_of_largest(eigenvalues, moment.shape[-1], xp) > 0
        logarithms = xp.log(xp.where(spanned, eigenvalues, 1.0)) + log_factor[..., None]
        rates = xp.where(spanned, xp.logaddexp(logarithms, xp.zeros_like(logarithms)), 0.0)
        return rounded(xp.sum(rates, axis=-1) / (2 * nats), dtype, xp)
    identity = xp.eye(moment.shape[-1], dtype=moment.dtype, device=device(moment))
    determinant = xp.linalg.slogdet(identity + moment * xp.exp(log_factor)[..., None, None]).logabsdet
    return rounded(determinant / (2 * nats), dtype, xp)


def read_matrices(name: str, argument: str, values: Any, *, symmetric: bool = False, zero: bool = False) -> tuple:
    """Check matrices ``[..., m, n]`` and widen them: the matrices, their namespace, and the dtype of results."""
    array = _as_array(name, argument, values)
    xp = array_namespace(array)
    if array.ndim < 2 or 0 in array.shape[-2:] or (symmetric and array.shape[-1] != array.shape[-2]):
        wanted = "square matrices [..., n, n]" if symmetric else "matrices [..., m, n]"
        raise ValueError(f"{name}: {argument} must be {wanted}, not empty, got shape {tuple(array.shape)}")
    dtype = array.dtype
    on_accelerator = is_torch_array(array) and array.device.type != "cpu"
    # JAX has float64 only where it is switched on.
    widest = xp.zeros(0).dtype if is_jax_array(array) else xp.float64
    wide = xp.result_type(dtype, xp.float32) if on_accelerator else widest
    array = array if dtype == wide else xp.astype(array, wide)
    if _values_are_known(array):
        _check_values(name, argument, array, symmetric, zero, dtype, xp)
    return array, xp, dtype


def eigenvalue_weights(name: str, argument: str, matrix: Any, dtype: Any, xp: Any) -> Any:
    """Eigenvalues of positive semi-definite matrices as shares of the largest, with rounding set to 0."""
    eigenvalues = xp.linalg.eigvalsh(matrix)
    if _values_are_known(eigenvalues):
        least, largest = xp.min(eigenvalues, axis=-1), xp.max(eigenvalues, axis=-1)
        bad = least < -_tolerance(dtype) * largest
        if bool(xp.any(bad)):
            value = float(np.min(_to_numpy(least)))
            raise ValueError(f"{name}: {argument} must be positive semi-definite, it has the eigenvalue {value:.6g}")
    return _share_of_largest(eigenvalues, matrix.shape[-1], xp)


def entropy_of_matrix(name: str, argument: str, matrix: Any, alpha: float, dtype: Any, xp: Any) -> Any:
    """Rényi entropy in nats of a matrix that has been read."""
    if alpha != 2:
        weights = eigenvalue_weights(name, argument, matrix, dtype, xp)
        return renyi_entropy(weights, alpha=alpha, normalize=True)
    return -xp.log(_square_sum(matrix / _trace(matrix, xp)[..., None, None], xp))


def rounded(value: Any, dtype: Any, xp: Any) -> Any:
    """Round a result to the dtype of the input."""
    value = value + 0.0  # turns -0 into 0
    return value if value.dtype == dtype else xp.astype(value[...], dtype)


def _share_of_largest(values: Any, size: int, xp: Any) -> Any:
    largest = xp.max(values, axis=-1, keepdims=True)
    # Of the precision of the computation: that of a float32 input would cut off real tails of large kernel matrices.
    epsilon = float(xp.finfo(values.dtype).eps)
    kept = stop_gradient(values) > size * epsilon * stop_gradient(largest)
    return xp.where(kept, values / largest, 0.0)


def _check_values(name: str, argument: str, array: Any, symmetric: bool, zero: bool, dtype: Any, xp: Any) -> None:
    size = xp.max(xp.abs(array), axis=(-2, -1))
    if not bool(xp.all(xp.isfinite(size))):
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(_to_numpy(array)))[0])
        raise ValueError(f"{name}: {argument} must be finite, got {float(array[index])} at index {index}")
    if not zero and bool(xp.any(size == 0)):
        raise ValueError(f"{name}: {argument} must not be 0: a spectrum of zeros has no shares")
    if not symmetric:
        return
    apart = xp.max(xp.abs(array - xp.matrix_transpose(array)), axis=(-2, -1))
    if bool(xp.any(apart > _tolerance(dtype) * size)):
        raise ValueError(
            f"{name}: {argument} must be symmetric (elements differ from the transposed by {_most(apart)})"
        )
    trace = _trace(array, xp)
    if bool(xp.any(trace <= 0)):
        raise ValueError(f"{name}: {argument} must have a positive trace, got {float(np.min(_to_numpy(trace))):.6g}")


def _most(values: Any) -> str:
    return f"{float(np.max(_to_numpy(values))):.3g}"


def _largest_element(matrix: Any, xp: Any) -> Any:
    return stop_gradient(xp.max(xp.abs(matrix), axis=(-2, -1), keepdims=True))


def _second_moment(matrix: Any, xp: Any) -> Any:
    """``XᵀX`` or ``XXᵀ``, which share their eigenvalues other than 0: the smaller one."""
    transposed = xp.matrix_transpose(matrix)
    return transposed @ matrix if matrix.shape[-1] <= matrix.shape[-2] else matrix @ transposed


def _trace(matrix: Any, xp: Any) -> Any:
    return xp.sum(xp.linalg.diagonal(matrix), axis=-1)


def _square_sum(matrix: Any, xp: Any) -> Any:
    return xp.sum(matrix * matrix, axis=(-2, -1))
