"""Covariance of samples that arrive in batches, so that a million activations are never held."""

from typing import Any

from array_api_compat import array_namespace, device
from jaxtyping import Float

from isentrope.measures._array import ArrayLike, _as_array, _to_numpy


class CovarianceAccumulator:
    r"""Mean and covariance of samples seen batch by batch, on any number of processes.

    It holds the count n, the mean μ and the centred sum of products M, and joins two sets a and b by

    .. math:: M = M_a + M_b + \frac{n_a n_b}{n_a + n_b} (\mu_b - \mu_a)(\mu_b - \mu_a)^\top

    which stays exact where the mean is much larger than the spread. A d-dimensional sample costs d² multiplications and
    the accumulator d² numbers, in the library and on the device of the first batch, in float64 unless ``dtype`` says
    otherwise. Samples carry no gradient through it.

    Args:
        dtype: "float64", or "float32" for devices on which float64 is slow or missing.

    Attributes:
        n: Number of samples seen.
        mean: Their mean ``[d]``; None before the first batch.
        scatter: Centred sum of products ``[d, d]``; None before the first batch.

    Raises:
        ValueError: If ``dtype`` is another one.

    References:
        T. F. Chan, G. H. Golub and R. J. LeVeque, Updating formulae and a pairwise algorithm for computing sample
        variances, 1982; arXiv 2509.23024 for the entropies of hidden states that it serves.

    Examples:
        >>> import numpy as np
        >>> from isentrope.measures import von_neumann_entropy
        >>> activations = np.random.default_rng(0).normal(size=(3000, 4)) * [1, 1, 1e-6, 1e-6]
        >>> accumulator = CovarianceAccumulator()
        >>> for batch in np.split(activations, 10):
        ...     accumulator.add(batch)
        >>> round(float(np.exp(von_neumann_entropy(accumulator.covariance()))), 2)  # two directions
        2.0
    """

    def __init__(self, dtype: str = "float64") -> None:
        if dtype not in ("float32", "float64"):
            raise ValueError(f"CovarianceAccumulator: dtype must be 'float64' or 'float32', got {dtype!r}")
        self.dtype = dtype
        self.n = 0
        self.mean: Any = None
        self.scatter: Any = None

    def add(self, batch: ArrayLike) -> None:
        """Take in a batch of samples.

        Args:
            batch: Samples ``[..., d]``; all leading axes are samples.

        Raises:
            TypeError: If the dtype is not real floating, or batches before were of another library.
            ValueError: If d or the device differs from that of earlier batches, values are not finite, or their squares
                are beyond the range of the accumulator's numbers.
        """
        name = "CovarianceAccumulator.add"
        array = _as_array(name, "batch", batch)
        xp = array_namespace(array)
        self._check_alike(name, "batch", array)
        if array.ndim == 0 or array.shape[-1] == 0:
            raise ValueError(f"{name}: batch must be samples [..., d], got shape {tuple(array.shape)}")
        if self.mean is not None and array.shape[-1] != self.mean.shape[0]:
            raise ValueError(f"{name}: batch has {array.shape[-1]} features, earlier batches {self.mean.shape[0]}")
        rows = xp.reshape(array.detach() if hasattr(array, "detach") else array, (-1, array.shape[-1]))
        n = rows.shape[0]
        if n == 0:
            return
        rows = xp.astype(rows, getattr(xp, self.dtype))
        if not bool(xp.all(xp.isfinite(rows))):
            raise ValueError(f"{name}: batch must be finite (row {_first_not_finite(rows, xp)} is not)")
        mean = xp.mean(rows, axis=0)
        centred = rows - mean
        self._check_squares(name, float(xp.max(xp.abs(rows))), xp.finfo(rows.dtype))
        self._join(n, mean, xp.matrix_transpose(centred) @ centred)

    def merge(self, other: "CovarianceAccumulator") -> None:
        """Take in what another accumulator has seen, such as that of another process.

        Args:
            other: Accumulator of samples with as many features, on the same device.

        Raises:
            TypeError: If it saw arrays of another library.
            ValueError: If the numbers of features or the devices differ.
        """
        if other.n == 0:
            return
        self._check_alike("CovarianceAccumulator.merge", "other", other.mean)
        if self.mean is not None and other.mean.shape != self.mean.shape:
            raise ValueError(
                f"CovarianceAccumulator.merge: other has {other.mean.shape[0]} features, this {self.mean.shape[0]}"
            )
        self._join(other.n, other.mean, other.scatter)

    def covariance(self, *, center: bool = True) -> Float[Any, "features features"]:
        """Covariance ``M / n`` of all samples, or their second moment.

        Args:
            center: Whether the mean is subtracted; if not, the second moment ``E[x xᵀ]`` is returned.

        Raises:
            ValueError: If there are no samples yet.
        """
        if self.n == 0:
            raise ValueError("CovarianceAccumulator.covariance: there are no samples yet; add batches first")
        covariance = self.scatter / self.n
        return covariance if center else covariance + self.mean[:, None] * self.mean[None, :]

    def _check_alike(self, name: str, argument: str, array: Any) -> None:
        """Refuse arrays of another library or on another device than those before."""
        if self.mean is None:
            return
        libraries = [array_namespace(given).__name__.rpartition("compat.")[2] for given in (self.mean, array)]
        if libraries[0] != libraries[1]:
            raise TypeError(f"{name}: {argument} must be of {libraries[0]}, as the batches before, got {libraries[1]}")
        if device(array) != device(self.mean):
            raise ValueError(
                f"{name}: {argument} must be on {device(self.mean)}, as the batches before, got {device(array)}"
            )

    def _check_squares(self, name: str, size: float, limits: Any) -> None:
        """Refuse values whose squares are beyond the range of the accumulator's numbers."""
        if size > float(limits.max) ** 0.5 / 1e6 or 0 < size < float(limits.smallest_normal) ** 0.5:
            raise ValueError(
                f"{name}: squares of the values of batch, of a size of {size:.3g}, are beyond {self.dtype}; rescale them"
            )

    def _join(self, n: int, mean: Any, scatter: Any) -> None:
        if self.n == 0:
            self.n, self.mean, self.scatter = n, mean, scatter + 0.0
            return
        total = self.n + n
        apart = mean - self.mean
        self.scatter += scatter
        self.scatter += (apart * (self.n * n / total))[:, None] * apart[None, :]
        self.mean = self.mean + apart * (n / total)
        self.n = total


def _first_not_finite(rows: Any, xp: Any) -> int:
    return int((~_to_numpy(xp.isfinite(rows)).all(axis=1)).argmax())
