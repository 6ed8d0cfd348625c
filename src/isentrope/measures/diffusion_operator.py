"""The diffusion operator of many points as products with vectors, in blocks of the kernel: held while memory lasts, else made anew."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from array_api_compat import array_namespace, is_numpy_array
from jaxtyping import Float
from threadpoolctl import ThreadpoolController

from isentrope._threads import threads_of
from isentrope.measures._array import ArrayLike, stop_gradient
from isentrope.measures.kernel_entropy import neighbour_bandwidth
from isentrope.measures.spectral import read_matrices

# A square block of the kernel stays in the second cache.
_BLOCK = 512
# Half the largest squared distance from the centre, in squared bandwidths, up to which float32 gives exponents to 1e-3.
_FLOAT32_RADIUS = 4000.0
# Below, the exponential would not be a normal number in float32, and products with it slow.
_LEAST_EXPONENT = -75.0


class DiffusionOperator:
    r"""Symmetric diffusion operator on points, to be multiplied with vectors: `diffusion_matrix`, never held.

    .. math:: K = D^{-1/2} G D^{-1/2}, \qquad G_{ij} = e^{-\lVert x_i - x_j \rVert^2 / 2 \sigma^2}, \qquad
        D_{ii} = \textstyle\sum_j G_{ij}

    ``operator @ vectors`` takes the kernel in square blocks, half of them by symmetry. As many as fit into ``memory`` are held, the
    others are made anew for every product. Kernel values are in float32, which is enough for the entropy to 1e-4, or in float64 where the points are
    so far apart in bandwidths that their distances need it.

    Args:
        points: Points ``[n, d]``, one a row: an array or a tensor, whose library and device the products keep.
        bandwidth: Width σ, in the unit of the points; None for that of `neighbour_bandwidth`.
        density_exponent: Exponent a of the normalisation by density, as in `diffusion_matrix`.
        memory: Bytes up to which blocks of the kernel are held.
        n_jobs: Number of threads that share the blocks, -1 for all cores. With several, the linear algebra library is
            limited to one of its own while they run.

    Attributes:
        shape: (n, n).
        dtype: dtype of the kernel and of the vectors it takes.
        bandwidth: Width σ that was used.
        held: Share of the kernel that is held, from 0 to 1.

    Raises:
        TypeError: As `gaussian_kernel` does.
        ValueError: As `diffusion_matrix` does, or if ``points`` have leading axes.

    References:
        arXiv 2312.04823 (D. Liao et al.), of which this is the operator.

    Examples:
        >>> import numpy as np
        >>> from isentrope.measures import matrix_entropy_from_products
        >>> points = np.random.default_rng(0).normal(size=(2000, 2))
        >>> operator = DiffusionOperator(points, bandwidth=0.3)
        >>> estimate = matrix_entropy_from_products(operator, base=2, rng=0)
        >>> bool(estimate.stderr < 0.005 * estimate)
        True
    """

    def __init__(
        self,
        points: ArrayLike,
        *,
        bandwidth: float | None = None,
        density_exponent: float = 0.0,
        memory: int = 2**30,
        n_jobs: int = 1,
    ) -> None:
        name = "DiffusionOperator"
        wide, xp, _ = read_matrices(name, "points", stop_gradient(points), zero=True)
        if wide.ndim != 2:
            raise ValueError(f"{name}: points must be [n, d], got shape {tuple(wide.shape)}")
        if bandwidth is not None and not 0 < bandwidth < np.inf:
            raise ValueError(f"{name}: bandwidth must be positive and finite, got {bandwidth!r}")
        if not np.isfinite(density_exponent):
            raise ValueError(f"{name}: density_exponent must be finite, got {density_exponent!r}")
        self.n_jobs = threads_of(name, n_jobs)
        # The linear algebra library, which is to make no threads of its own in each of ours.
        self._library = ThreadpoolController()
        self.bandwidth = neighbour_bandwidth(wide) if bandwidth is None else float(bandwidth)
        scaled = (wide - xp.mean(wide, axis=0)) / self.bandwidth
        half = xp.sum(scaled * scaled, axis=1, keepdims=True) / 2
        farthest = float(xp.max(half))
        self.dtype = xp.float32 if farthest <= _FLOAT32_RADIUS else wide.dtype
        # No two points are farther apart than twice the farthest from the centre.
        self._may_underflow = 4 * farthest > -_LEAST_EXPONENT
        # One product gives the whole exponent, x·y - |x|²/2 - |y|²/2.
        one = xp.ones_like(half)
        self.points = xp.astype(xp.concat([scaled, -half, one], axis=1), self.dtype)
        self._others = xp.astype(xp.concat([scaled, one, -half], axis=1), self.dtype)
        n = self.points.shape[0]
        self.shape = (n, n)
        # One block where all fits: the fewest calls.
        self._size = n if n * n * self.points.itemsize <= memory else _BLOCK
        starts = range(0, n, self._size)
        corners = [(row, column) for row in starts for column in range(row, n, self._size)]
        within = min(int(memory // (self._size**2 * self.points.itemsize)), len(corners))
        self.held = within / len(corners)
        self._blocks: dict[tuple[int, int], Any] = dict.fromkeys(corners[:within])
        factors = xp.ones((n, 1), dtype=self.dtype, device=self.points.device)
        if density_exponent:
            factors = (factors * self._times(factors)) ** -density_exponent
        self._factors = factors * (factors * self._times(factors)) ** -0.5

    def trace(self) -> float:
        """Sum of the diagonal, exactly: the kernel is 1 there."""
        return float((self._factors**2).sum())

    def __matmul__(self, vectors: Float[Any, "n columns"]) -> Float[Any, "n columns"]:
        """Product with vectors ``[n, b]``."""
        return self._factors * self._times(self._factors * vectors)

    def _times(self, vectors: Any) -> Any:
        """Product of the kernel with vectors."""
        if self.n_jobs == 1:
            return self._times_rows(0, vectors)
        with self._library.limit(limits=1, user_api="blas"), ThreadPoolExecutor(self.n_jobs) as threads:
            # Rows dealt out in turn: those at the end have fewer blocks.
            return sum(threads.map(lambda first: self._times_rows(first, vectors), range(self.n_jobs)))

    def _times_rows(self, first: int, vectors: Any) -> Any:
        """What every ``n_jobs``-th row of blocks, with its mirror image, adds to a product."""
        n, size = self.shape[0], self._size
        result = array_namespace(vectors).zeros_like(vectors)
        for row in range(first * size, n, self.n_jobs * size):
            rows = slice(row, min(row + size, n))
            for column in range(row, n, size):
                columns = slice(column, min(column + size, n))
                block = self._blocks.get((row, column))
                if block is None:
                    block = self._block(rows, columns)
                    if (row, column) in self._blocks:
                        self._blocks[row, column] = block
                result[rows] += block @ vectors[columns]
                if column != row:
                    result[columns] += block.T @ vectors[rows]
        return result

    def _block(self, rows: slice, columns: slice) -> Any:
        """Kernel values of some points with others."""
        block: Any = self.points[rows] @ self._others[columns].T
        if is_numpy_array(block):
            if self._may_underflow:
                np.maximum(block, _LEAST_EXPONENT, out=block)
            np.exp(block, out=block)
        else:
            block = block.clamp_(min=_LEAST_EXPONENT).exp_()
        if rows == columns:
            diagonal = np.arange(rows.stop - rows.start)
            block[diagonal, diagonal] = 1.0
        return block
