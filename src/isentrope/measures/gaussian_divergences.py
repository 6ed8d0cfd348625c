"""Divergences and distances between two normal distributions, in closed form.

All are computed in coordinates in which the second distribution is standard: with Cholesky factors ``S_p = L_p L_pᵀ`` and
``S_q = L_q L_qᵀ`` these are ``W = L_q⁻¹ L_p`` and ``z = L_q⁻¹ (μ_p - μ_q)``. Arrays, precision and gradients are treated as in
`isentrope.measures.spectral`; leading axes are batches and broadcast.
"""

from math import isfinite
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace, device
from jaxtyping import Float

from isentrope.measures._array import ArrayLike, _as_array, check_order, stop_gradient
from isentrope.measures.estimate import unit_of
from isentrope.measures.spectral import read_matrices, rounded


class _Pair(NamedTuple):
    apart: Any
    """``μ_p - μ_q`` as a column."""
    left: Any
    """``L_p``"""
    right: Any
    """``L_q``"""
    xp: Any
    dtype: Any

    def whitened(self) -> tuple[Any, Any]:
        """``W`` and ``z``."""
        return self.xp.linalg.solve(self.right, self.left), self.xp.linalg.solve(self.right, self.apart)


def gaussian_kl_divergence(
    mean_p: ArrayLike,
    covariance_p: ArrayLike,
    mean_q: ArrayLike,
    covariance_q: ArrayLike,
    *,
    base: float | None = None,
) -> Float[Any, "..."]:
    r"""Kullback-Leibler divergence of a normal distribution from another.

    .. math:: \tfrac{1}{2} \Bigl[ \operatorname{tr}(S_q^{-1} S_p) + \delta^\top S_q^{-1} \delta - d
        + \log \frac{|S_q|}{|S_p|} \Bigr], \qquad \delta = \mu_p - \mu_q

    Args:
        mean_p: Mean ``[..., d]`` of the distribution that is averaged over.
        covariance_p: Its covariance ``[..., d, d]``, positive definite.
        mean_q: Mean ``[..., d]`` of the one it is compared with.
        covariance_q: Its covariance ``[..., d, d]``, positive definite.
        base: Base of the logarithm; None for nats, 2 for bits.

    Returns:
        Divergences ``[...]`` in the unit of ``base``.

    Raises:
        TypeError: If a dtype is not real floating.
        ValueError: If shapes do not fit, values are not finite, or a covariance is not symmetric and positive definite.

    Examples:
        >>> float(gaussian_kl_divergence([0.0], [[1.0]], [1.0], [[1.0]]))
        0.5
    """
    nats, _ = unit_of(base, "gaussian_kl_divergence")
    pair = _read("gaussian_kl_divergence", mean_p, covariance_p, mean_q, covariance_q)
    return rounded(_kl(pair) / nats, pair.dtype, pair.xp)


def gaussian_jeffreys_divergence(
    mean_p: ArrayLike,
    covariance_p: ArrayLike,
    mean_q: ArrayLike,
    covariance_q: ArrayLike,
    *,
    base: float | None = None,
) -> Float[Any, "..."]:
    r"""Jeffreys divergence of two normal distributions: the sum of both Kullback-Leibler divergences.

    .. math:: \tfrac{1}{2} \operatorname{tr}(S_q^{-1} S_p + S_p^{-1} S_q) - d
        + \tfrac{1}{2} \delta^\top (S_p^{-1} + S_q^{-1}) \delta

    Args:
        mean_p: Mean ``[..., d]`` of one distribution.
        covariance_p: Its covariance ``[..., d, d]``, positive definite.
        mean_q: Mean ``[..., d]`` of the other.
        covariance_q: Its covariance ``[..., d, d]``, positive definite.
        base: Base of the logarithm; None for nats, 2 for bits.

    Returns:
        Divergences ``[...]`` in the unit of ``base``.

    Raises:
        TypeError: As `gaussian_kl_divergence` does.
        ValueError: As `gaussian_kl_divergence` does.

    Examples:
        >>> float(gaussian_jeffreys_divergence([0.0], [[1.0]], [1.0], [[1.0]]))
        1.0
    """
    nats, _ = unit_of(base, "gaussian_jeffreys_divergence")
    pair = _read("gaussian_jeffreys_divergence", mean_p, covariance_p, mean_q, covariance_q)
    both = _kl(pair) + _kl(pair._replace(left=pair.right, right=pair.left))
    return rounded(both / nats, pair.dtype, pair.xp)


def gaussian_renyi_divergence(
    mean_p: ArrayLike,
    covariance_p: ArrayLike,
    mean_q: ArrayLike,
    covariance_q: ArrayLike,
    *,
    alpha: float,
    base: float | None = None,
) -> Float[Any, "..."]:
    r"""Rényi divergence of order α of a normal distribution from another.

    .. math:: \frac{\alpha}{2} \delta^\top S_\alpha^{-1} \delta
        - \frac{1}{2 (\alpha - 1)} \log \frac{|S_\alpha|}{|S_p|^{1-\alpha} |S_q|^\alpha}, \qquad
        S_\alpha = (1 - \alpha) S_p + \alpha S_q

    At α = 1 it is the Kullback-Leibler divergence. Where ``α > 1`` and ``p`` is so much wider than ``q`` in some direction that
    :math:`S_\alpha` is not positive definite, it is infinite.

    Args:
        mean_p: Mean ``[..., d]`` of the distribution that is averaged over.
        covariance_p: Its covariance ``[..., d, d]``, positive definite.
        mean_q: Mean ``[..., d]`` of the one it is compared with.
        covariance_q: Its covariance ``[..., d, d]``, positive definite.
        alpha: Order, finite, at least 0.
        base: Base of the logarithm; None for nats, 2 for bits.

    Returns:
        Divergences ``[...]`` in the unit of ``base``.

    Raises:
        TypeError: As `gaussian_kl_divergence` does.
        ValueError: As `gaussian_kl_divergence` does, or if ``alpha`` is negative, infinite or NaN.

    References:
        arXiv 1206.2459 (T. van Erven and P. Harremoës), section II.

    Examples:
        >>> float(gaussian_renyi_divergence([0.0], [[1.0]], [1.0], [[1.0]], alpha=3))  # α δ² / 2
        1.5
        >>> float(gaussian_renyi_divergence([0.0], [[2.0]], [0.0], [[1.0]], alpha=2))
        inf
    """
    name = "gaussian_renyi_divergence"
    nats, _ = unit_of(base, name)
    check_order(name, "alpha", alpha)
    if not isfinite(alpha):
        raise ValueError(f"{name}: alpha must be finite, got {alpha!r}")
    pair = _read(name, mean_p, covariance_p, mean_q, covariance_q)
    return rounded(_renyi(pair, alpha) / nats, pair.dtype, pair.xp)


def gaussian_bhattacharyya_distance(
    mean_p: ArrayLike,
    covariance_p: ArrayLike,
    mean_q: ArrayLike,
    covariance_q: ArrayLike,
    *,
    base: float | None = None,
) -> Float[Any, "..."]:
    r"""Bhattacharyya distance of two normal distributions.

    .. math:: \tfrac{1}{8} \delta^\top S^{-1} \delta + \tfrac{1}{2} \log \frac{|S|}{\sqrt{|S_p| |S_q|}}, \qquad
        S = \tfrac{1}{2} (S_p + S_q)

    Args:
        mean_p: Mean ``[..., d]`` of one distribution.
        covariance_p: Its covariance ``[..., d, d]``, positive definite.
        mean_q: Mean ``[..., d]`` of the other.
        covariance_q: Its covariance ``[..., d, d]``, positive definite.
        base: Base of the logarithm; None for nats, 2 for bits.

    Returns:
        Distances ``[...]`` in the unit of ``base``.

    Raises:
        TypeError: As `gaussian_kl_divergence` does.
        ValueError: As `gaussian_kl_divergence` does.

    Examples:
        >>> float(gaussian_bhattacharyya_distance([0.0], [[1.0]], [2.0], [[1.0]]))
        0.5
    """
    nats, _ = unit_of(base, "gaussian_bhattacharyya_distance")
    pair = _read("gaussian_bhattacharyya_distance", mean_p, covariance_p, mean_q, covariance_q)
    return rounded(_renyi(pair, 0.5) / (2 * nats), pair.dtype, pair.xp)


def gaussian_hellinger_distance(
    mean_p: ArrayLike, covariance_p: ArrayLike, mean_q: ArrayLike, covariance_q: ArrayLike
) -> Float[Any, "..."]:
    r"""Hellinger distance of two normal distributions.

    .. math:: \sqrt{1 - e^{-D_B}}

    with the Bhattacharyya distance :math:`D_B` in nats; between 0 and 1. Where the distributions are equal, its gradient is
    taken to be 0.

    Args:
        mean_p: Mean ``[..., d]`` of one distribution.
        covariance_p: Its covariance ``[..., d, d]``, positive definite.
        mean_q: Mean ``[..., d]`` of the other.
        covariance_q: Its covariance ``[..., d, d]``, positive definite.

    Returns:
        Distances ``[...]``.

    Raises:
        TypeError: As `gaussian_kl_divergence` does.
        ValueError: As `gaussian_kl_divergence` does.

    Examples:
        >>> round(float(gaussian_hellinger_distance([0.0], [[1.0]], [2.0], [[1.0]])) ** 2, 6)  # 1 - exp(-1/2)
        0.393469
    """
    pair = _read("gaussian_hellinger_distance", mean_p, covariance_p, mean_q, covariance_q)
    return rounded(_root(-pair.xp.expm1(-_renyi(pair, 0.5) / 2), pair.xp), pair.dtype, pair.xp)


def gaussian_wasserstein_distance(
    mean_p: ArrayLike, covariance_p: ArrayLike, mean_q: ArrayLike, covariance_q: ArrayLike
) -> Float[Any, "..."]:
    r"""Wasserstein distance of order 2 of two normal distributions (Fréchet distance).

    .. math:: \sqrt{ \lVert \delta \rVert^2
        + \operatorname{tr}\bigl( S_p + S_q - 2 (S_q^{1/2} S_p S_q^{1/2})^{1/2} \bigr) }

    in the unit of the variables. The last trace is the sum of the singular values of :math:`L_p^\top L_q`. Where the
    distributions are equal, its gradient is taken to be 0; close to that, the square has the rounding of the traces.

    Args:
        mean_p: Mean ``[..., d]`` of one distribution.
        covariance_p: Its covariance ``[..., d, d]``, positive definite.
        mean_q: Mean ``[..., d]`` of the other.
        covariance_q: Its covariance ``[..., d, d]``, positive definite.

    Returns:
        Distances ``[...]``.

    Raises:
        TypeError: As `gaussian_kl_divergence` does.
        ValueError: As `gaussian_kl_divergence` does.

    References:
        D. C. Dowson and B. V. Landau, The Fréchet distance between multivariate normal distributions, 1982.

    Examples:
        >>> float(gaussian_wasserstein_distance([0.0], [[1.0]], [3.0], [[25.0]]))  # √(3² + (5 - 1)²)
        5.0
    """
    pair = _read("gaussian_wasserstein_distance", mean_p, covariance_p, mean_q, covariance_q)
    xp = pair.xp
    squares = sum(xp.sum(matrix**2, axis=(-2, -1)) for matrix in (pair.apart, pair.left, pair.right))
    common = xp.sum(xp.linalg.svdvals(xp.matrix_transpose(pair.left) @ pair.right), axis=-1)
    return rounded(_root(squares - 2 * common, xp), pair.dtype, xp)


def _kl(pair: _Pair) -> Any:
    xp = pair.xp
    factor, shift = pair.whitened()
    # Of equal covariances the first part is 0, which leaves a small shift its digits.
    widths = (xp.sum(factor**2, axis=(-2, -1)) - factor.shape[-1]) / 2 - _log_diagonal(factor, xp)
    return widths + xp.sum(shift**2, axis=(-2, -1)) / 2


def _renyi(pair: _Pair, alpha: float) -> Any:
    if alpha == 1:
        return _kl(pair)
    xp = pair.xp
    factor, shift = pair.whitened()
    ratio = factor @ xp.matrix_transpose(factor)
    # S_α in these coordinates is I + (1 - α) (W Wᵀ - I), whose logarithm keeps its digits close to α = 1.
    excess = (1 - alpha) * (xp.linalg.eigvalsh(ratio) - 1)
    finite = xp.min(stop_gradient(excess), axis=-1) > -1
    logarithm = xp.sum(xp.log1p(xp.where(finite[..., None], excess, 0.0)), axis=-1) / (2 * (1 - alpha))
    identity = xp.eye(factor.shape[-1], dtype=factor.dtype, device=device(factor))
    mixed = xp.where(finite[..., None, None], (1 - alpha) * ratio + alpha * identity, identity)
    square = xp.sum(shift * xp.linalg.solve(mixed, shift), axis=(-2, -1))
    return xp.where(finite, alpha / 2 * square + logarithm - _log_diagonal(factor, xp), np.inf)


def _log_diagonal(factor: Any, xp: Any) -> Any:
    return xp.sum(xp.log(xp.linalg.diagonal(factor)), axis=-1)


def _root(square: Any, xp: Any) -> Any:
    apart = square > 0
    return xp.where(apart, xp.sqrt(xp.where(apart, square, 1.0)), 0.0)


def _read(name: str, mean_p: Any, covariance_p: Any, mean_q: Any, covariance_q: Any) -> _Pair:
    means, factors, dtypes = [], [], []
    for mean, covariance, which in ((mean_p, covariance_p, "p"), (mean_q, covariance_q, "q")):
        matrix, xp, dtype = read_matrices(name, f"covariance_{which}", covariance, symmetric=True)
        vector = _as_array(name, f"mean_{which}", mean)
        if vector.ndim == 0 or vector.shape[-1] != matrix.shape[-1]:
            raise ValueError(
                f"{name}: mean_{which} must be [..., d] for covariance_{which} [..., d, d], got shapes "
                f"{tuple(vector.shape)} and {tuple(matrix.shape)}"
            )
        column, _, vector_dtype = read_matrices(name, f"mean_{which}", vector[..., None], zero=True)
        try:
            factors.append(xp.linalg.cholesky(matrix))
        except (np.linalg.LinAlgError, RuntimeError):  # the second is torch's
            raise ValueError(f"{name}: covariance_{which} must be positive definite") from None
        means.append(column)
        dtypes += [dtype, vector_dtype]
    if means[0].shape[-2] != means[1].shape[-2]:
        raise ValueError(
            f"{name}: distributions must have the same dimension, got {means[0].shape[-2]} and {means[1].shape[-2]}"
        )
    xp = array_namespace(*means, *factors)
    return _Pair(means[0] - means[1], factors[0], factors[1], xp, xp.result_type(*dtypes))
