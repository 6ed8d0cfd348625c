"""Spectral entropies of matrices that are known only through their products with vectors: Krylov-aware stochastic Lanczos.

For a symmetric operator A, a block of b random signs spans a Krylov space with orthonormal basis Q, which holds the large
eigenvalues. The trace of a function of A is split into

    tr f(A) = tr Qᵀ f(A) Q + tr P f(A) P,    P = I - Q Qᵀ,

of which the first part is computed by continuing the Lanczos recurrence, without randomness beyond Q, and the second, small
and spread, is estimated with random probes projected by P. A known trace of A serves as control variate: on the remaining
spectrum f is nearly linear. So a few dozen products give an entropy to a tenth of a percent, where probes alone would need
thousands: of a spectrum with few effective values, their scatter is large.
"""

from collections.abc import Callable
from math import hypot, inf, isfinite
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace, is_torch_array
from jaxtyping import Float

from isentrope.measures._array import _to_numpy, stop_gradient
from isentrope.measures.estimate import Estimate, generator_of, unit_of

# Steps by which the recurrence is continued beyond the basis, so that f(A) is known on all of it.
_EXTRA_STEPS = 3
_ROUNDING = {"float32": 1e-4, "float64": 1e-8}


class _Traces(NamedTuple):
    """Parts of the traces of several functions."""

    basis: Float[np.ndarray, "functions"]
    probes: Float[np.ndarray, "functions probes"]


class _Krylov(NamedTuple):
    """Block tridiagonal matrix ``T`` of a Krylov space, and the start block in its first basis vectors."""

    projected: Float[np.ndarray, "size size"]
    start: Float[np.ndarray, "block block"]

    def quadrature(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues of ``T`` after so many steps, and their eigenvectors."""
        size = steps * len(self.start)
        return np.linalg.eigh(self.projected[:size, :size])


def trace_from_products(
    operator: Any,
    function: Callable[[np.ndarray], np.ndarray],
    *,
    trace: float | None = None,
    block_size: int = 16,
    depth: int = 5,
    n_probes: int = 16,
    n_steps: int = 10,
    rng: int | np.random.Generator | None = None,
) -> Estimate:
    r"""Trace of a function of a symmetric operator, :math:`\operatorname{tr} f(A) = \sum_i f(\lambda_i)`, from products with it.

    It asks for ``depth + 3`` products with ``block_size`` columns and ``n_steps`` with ``n_probes``, and holds
    ``max((depth + 3) block_size, n_steps n_probes)`` vectors. The standard error contains the scatter of the probes and what the
    last step of the recurrence changed, as for convergence with the square of the number of steps; not rounding. A small operator is
    diagonalised.

    Args:
        operator: Anything with ``shape`` (n, n) and ``@`` for arrays ``[n, b]``: an array, a sparse matrix, a SciPy
            ``LinearOperator``, a `DiffusionOperator`. It is given NumPy arrays, or tensors where it is one or has an
            attribute ``points`` that is one.
        function: f, of an array of eigenvalues in float64.
        trace: Trace of A where it is known, which makes the estimate sharper; None to ask ``operator.trace()`` if it is there.
        block_size: Columns b of the start block of the basis.
        depth: Blocks of the basis.
        n_probes: Random vectors for the rest, at least 4.
        n_steps: Steps of the recurrence for the rest, at least 2.
        rng: Seed or generator.

    Returns:
        The trace, with its standard error.

    Raises:
        TypeError: If the operator is complex.
        ValueError: If the operator is not square, or its products are not finite or not symmetric, the function is not
            finite on the eigenvalues, or a number is too small.

    References:
        arXiv 2205.01736 (T. Chen and E. Hallman); S. Ubaru, J. Chen and Y. Saad, Fast estimation of tr(f(A)) via
        stochastic Lanczos quadrature, 2017.

    Examples:
        >>> import numpy as np
        >>> matrix = np.diag(np.linspace(1.0, 2.0, 400))
        >>> log_determinant = trace_from_products(matrix, np.log, rng=0)
        >>> bool(abs(log_determinant - np.log(np.linspace(1.0, 2.0, 400)).sum()) < 4 * log_determinant.stderr)
        True
    """
    name = "trace_from_products"

    def evaluated(eigenvalues: np.ndarray) -> np.ndarray:
        values = np.asarray(function(eigenvalues), dtype=np.float64)
        if not np.isfinite(values).all():
            wrong = float(eigenvalues[~np.isfinite(values)][0])
            raise ValueError(f"{name}: function must be finite on the eigenvalues, it is not at {wrong:.6g}")
        return values[None]

    known, levels, _ = _traces(name, operator, evaluated, trace, (block_size, depth, n_probes, n_steps), rng)
    found = [_combined(traces, known, lambda traces: traces[0], lambda _: np.ones(1)) for traces in levels]
    return _estimate(found, n_steps, n_probes, "1", 1.0)


def matrix_entropy_from_products(
    operator: Any,
    *,
    alpha: float = 1.0,
    power: float = 1.0,
    trace: float | None = None,
    block_size: int = 16,
    depth: int = 5,
    n_probes: int = 16,
    n_steps: int = 10,
    rng: int | np.random.Generator | None = None,
    base: float | None = None,
) -> Estimate:
    r"""Von Neumann or Rényi entropy of a positive semi-definite operator from products with it.

    .. math:: S_\alpha = \frac{1}{1-\alpha} \log \sum_i p_i^\alpha, \qquad p_i = \lambda_i^t / \textstyle\sum_j \lambda_j^t

    with the power t; at α = 1 it is :math:`-\sum p_i \log p_i`. Cost and error as for `trace_from_products`; the standard error
    also contains what rounding makes of eigenvalues 0, which in float32 is about 1e-5. The diffusion
    spectral entropy of many points is the one of a `DiffusionOperator`.

    Args:
        operator: As for `trace_from_products`.
        alpha: Order, positive and finite; 1 for von Neumann's.
        power: Power t of the eigenvalues, positive: the time of a diffusion.
        trace: As for `trace_from_products`.
        block_size: As for `trace_from_products`.
        depth: As for `trace_from_products`.
        n_probes: As for `trace_from_products`.
        n_steps: As for `trace_from_products`.
        rng: Seed or generator.
        base: Base of the logarithm; None for nats, 2 for bits.

    Returns:
        The entropy, with its standard error, in the unit of ``base``.

    Raises:
        TypeError: As `trace_from_products` does.
        ValueError: As `trace_from_products` does, or if the operator has a negative eigenvalue or is 0, or ``alpha`` or
            ``power`` is not positive and finite.

    References:
        arXiv 2205.01736 (T. Chen and E. Hallman); arXiv 1211.2459 for the entropies.

    Examples:
        >>> import numpy as np
        >>> features = np.random.default_rng(0).normal(size=(500, 500)) / np.arange(1, 501)
        >>> estimate = matrix_entropy_from_products(features.T @ features, rng=0)
        >>> bool(estimate.stderr < 0.002 * estimate)
        True
    """
    name = "matrix_entropy_from_products"
    nats, unit = unit_of(base, name)
    for argument, number in (("alpha", alpha), ("power", power)):
        if not 0 < number < inf:
            raise ValueError(f"{name}: {argument} must be positive and finite, got {number!r}")

    def sums(eigenvalues: np.ndarray) -> np.ndarray:
        """Of the powers, and of what the entropy averages."""
        positive = eigenvalues > 0
        logarithm = np.log(np.where(positive, eigenvalues, 1.0))
        powers = np.where(positive, np.exp(power * logarithm), 0.0)
        other = powers * power * logarithm if alpha == 1 else np.where(positive, np.exp(alpha * power * logarithm), 0.0)
        return np.stack([powers, other])

    def entropy(traces: np.ndarray) -> float:
        total, other = traces
        if alpha == 1:
            return np.log(total) - other / total
        return (np.log(other) - alpha * np.log(total)) / (1 - alpha)

    def slope(traces: np.ndarray) -> np.ndarray:
        total, other = traces
        if alpha == 1:
            return np.array([1 / total + other / total**2, -1 / total])
        return np.array([-alpha / total, 1 / other]) / (1 - alpha)

    settings = (block_size, depth, n_probes, n_steps)
    known, levels, noise = _traces(name, operator, sums, trace, settings, rng, positive=True)
    found = [_combined(traces, known, entropy, slope) for traces in levels]
    total = float(levels[0].basis[0] + levels[0].probes[0].sum() / max(n_probes, 1))
    return _estimate(found, n_steps, n_probes, unit, nats, noise**power / total)


def _estimate(
    found: list[tuple[float, float]], n_steps: int, n_probes: int, unit: str, nats: float, rounding: float = 0.0
) -> Estimate:
    """From the results after all steps, and, unless they are exact, after all but one."""
    (value, scatter), *before = found
    # Where the error falls with the square of the number of steps, it is this multiple of what the last one changed.
    unfinished = abs(value - before[0][0]) * n_steps / 2 if before else 0.0
    return Estimate(
        value / nats,
        hypot(scatter, unfinished, rounding) / nats,
        unit,
        method="krylov_aware_lanczos" if before else "eigenvalues",
        n=n_probes if before else 0,
    )


def _combined(
    traces: _Traces,
    known: float | None,
    value: Callable[[np.ndarray], float],
    slope: Callable[[np.ndarray], np.ndarray],
) -> tuple[float, float]:
    """A function of traces, and the scatter that the probes give it; the last trace is that of the operator itself."""
    probes, n_probes = traces.probes, traces.probes.shape[1]
    if n_probes == 0:
        return float(value(traces.basis[:-1])), 0.0
    mean = traces.basis + probes.mean(axis=1)
    control = probes[-1] - probes[-1].mean()
    variance = float(control @ control)
    if known is None or variance == 0:
        coefficients, free = np.zeros(len(probes) - 1), 1
    else:
        coefficients, free = probes[:-1] @ control / variance, 2
    mean = mean[:-1] - coefficients * (0.0 if known is None else mean[-1] - known)
    influence = slope(mean) @ (probes[:-1] - coefficients[:, None] * probes[-1])
    spread = float(((influence - influence.mean()) ** 2).sum() / (n_probes - free))
    return float(value(mean)), (spread / n_probes) ** 0.5


def _traces(
    name: str,
    operator: Any,
    functions: Callable[[np.ndarray], np.ndarray],
    trace: float | None,
    settings: tuple[int, int, int, int],
    rng: int | np.random.Generator | None,
    positive: bool = False,
) -> tuple[float | None, list[_Traces], float]:
    """The known trace, the traces of the functions and of the operator after all steps and after all but one, and noise.

    The noise is what the rounding of products adds to ``-Σ λ log λ`` where eigenvalues are 0: it makes them about
    ``ε λ_max / √n``, half of them positive.
    """
    for argument, number, least in zip(
        ("block_size", "depth", "n_probes", "n_steps"), settings, (1, 1, 4, 2), strict=True
    ):
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < least:
            raise ValueError(f"{name}: {argument} must be an integer of at least {least}, got {number!r}")
    block_size, depth, n_probes, n_steps = settings
    shape = tuple(getattr(operator, "shape", ()))
    if len(shape) != 2 or shape[0] != shape[1] or shape[0] == 0:
        raise ValueError(f"{name}: operator must have a shape (n, n), got {shape}")
    n = int(shape[0])
    if "complex" in str(getattr(operator, "dtype", "")):
        raise TypeError(f"{name}: operator must be real, got dtype {operator.dtype}")
    operator = stop_gradient(operator)
    like = _like(operator)
    tolerance = _ROUNDING[str(like.dtype).rpartition(".")[2]]
    generator = generator_of(name, rng)

    def summed(eigenvalues: np.ndarray, largest: float) -> np.ndarray:
        if positive and not eigenvalues.min() >= -tolerance * largest < 0:
            raise ValueError(
                f"{name}: operator must be positive semi-definite and not 0, its eigenvalues reach from "
                f"{eigenvalues.min():.6g} to {largest:.6g}"
            )
        return np.concatenate([functions(eigenvalues), eigenvalues[None]])

    if n <= 2 * max(block_size * (depth + _EXTRA_STEPS), n_probes * n_steps):
        eigenvalues = np.linalg.eigvalsh(_dense(name, operator, n, like))
        totals = summed(eigenvalues, eigenvalues.max()).sum(axis=1)
        return None, [_Traces(totals, np.zeros((len(totals), 0)))], 0.0
    if trace is None and callable(getattr(operator, "trace", None)):
        trace = float(operator.trace())
    if trace is not None and not isfinite(trace):
        raise ValueError(f"{name}: trace must be finite, got {trace!r}")
    signs = _signs(generator, n, block_size, like)
    basis, first = _block_lanczos(name, operator, signs, depth + _EXTRA_STEPS, check=True)
    basis = basis[:, : block_size * depth]
    probes = _signs(generator, n, n_probes, like)
    probes = probes - basis @ (basis.T @ probes)
    _, second = _block_lanczos(name, operator, probes, n_steps)
    levels = []
    for left_out in (0, 1):
        eigenvalues, vectors = first.quadrature(depth + _EXTRA_STEPS - left_out)
        largest = eigenvalues.max()
        head = summed(eigenvalues, largest) @ (vectors[: block_size * depth] ** 2).sum(axis=0)
        eigenvalues, vectors = second.quadrature(n_steps - left_out)
        rest = summed(eigenvalues, largest) @ (vectors[:n_probes].T @ second.start) ** 2
        levels.append(_Traces(head, rest))
    epsilon = float(np.finfo(str(like.dtype).rpartition(".")[2]).eps)
    largest = float(first.quadrature(depth + _EXTRA_STEPS)[0].max())
    return trace, levels, epsilon * abs(float(np.log(epsilon))) * n**0.5 * abs(largest)


def _block_lanczos(name: str, operator: Any, start: Any, steps: int, check: bool = False) -> tuple[Any, _Krylov]:
    """Orthonormal basis of the Krylov space of a block, orthogonalised in full, and the operator in it."""
    xp = array_namespace(start)
    n, width = start.shape
    size = width * steps
    basis = xp.empty((n, size), dtype=start.dtype, device=start.device)
    block, triangle = xp.linalg.qr(start)
    projected = np.zeros((size, size))
    filler = np.random.default_rng(0)
    for step in range(steps):
        here, upto = slice(step * width, (step + 1) * width), (step + 1) * width
        basis[:, here] = block
        product = operator @ block
        column = basis[:, :upto].T @ product
        projected[:upto, here] = _to_numpy(column)
        if check and step == 0:
            _check_symmetric(name, projected[here, here])
        projected[here, :upto] = projected[:upto, here].T
        if step + 1 < steps:
            block = product - basis[:, :upto] @ column
            # Where the space is exhausted nothing may be left, and of zeros a direction is made that the basis has.
            least = float(np.abs(projected[:upto, here]).max()) * float(xp.finfo(start.dtype).eps) / n**0.5
            block = block + least * _signs(filler, n, width, start)
            # The second round restores what cancellation, or a space that is exhausted, leaves of earlier directions.
            for _ in range(2):
                block, _ = xp.linalg.qr(block)
                block = block - basis[:, :upto] @ (basis[:, :upto].T @ block)
            block, _ = xp.linalg.qr(block)
    return basis, _Krylov((projected + projected.T) / 2, _to_numpy(triangle).astype(np.float64))


def _check_symmetric(name: str, projected: np.ndarray) -> None:
    size = np.abs(projected).max()
    if not np.isfinite(size):
        raise ValueError(f"{name}: products with operator must be finite")
    if np.abs(projected - projected.T).max() > 1e-3 * size:
        raise ValueError(f"{name}: operator must be symmetric, its products are not")


def _like(operator: Any) -> Any:
    """An array of the library, dtype and device that an operator takes."""
    points = getattr(operator, "points", operator)
    if is_torch_array(points):
        xp = array_namespace(points)
        dtype = points.dtype if points.dtype in (xp.float32, xp.float64) else xp.float32
        return xp.empty(0, dtype=dtype, device=points.device)
    dtype = getattr(operator, "dtype", None)
    return np.empty(0, dtype=np.float32 if dtype == np.float32 else np.float64)


def _signs(generator: np.random.Generator, n: int, columns: int, like: Any) -> Any:
    signs = 2.0 * generator.integers(0, 2, (n, columns), dtype=np.int8) - 1
    return array_namespace(like).asarray(signs, dtype=like.dtype, device=like.device)


def _dense(name: str, operator: Any, n: int, like: Any) -> np.ndarray:
    identity = array_namespace(like).eye(n, dtype=like.dtype, device=like.device)
    matrix = _to_numpy(operator @ identity).astype(np.float64)
    _check_symmetric(name, matrix)
    return (matrix + matrix.T) / 2
