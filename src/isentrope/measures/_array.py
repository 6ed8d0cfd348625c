"""Distributions read from probabilities or logits, for any Array-API array: validation, precision, support.

Functionals are computed from three arrays of one shape: the probabilities ``p``, their logarithms ``log_p`` with 0 in place
of ``log 0``, and the support, where a probability is not 0. The zeros keep ``p log p`` and its gradient finite.
"""

import sys
from math import isnan
from numbers import Real
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
from array_api_compat import array_namespace, is_array_api_obj, is_jax_array, is_torch_array
from jaxtyping import Float

from isentrope.measures._frames import array_of, without_mask

# Closer to order 1 than this, 1 - Σ p^α loses digits, and the same sum is taken of p (p^(α-1) - 1).
NEAR_ONE = 0.1


@runtime_checkable
class Labelled(Protocol):
    """A series or frame of pandas, polars or xarray."""

    def to_numpy(self) -> Any: ...


ArrayLike: TypeAlias = Float[Any, "..."] | list | tuple | Labelled


class Distribution(NamedTuple):
    """Probabilities along an axis, in at least float32."""

    p: Any
    log_p: Any
    support: Any
    """Where a probability is not 0; None where all are known not to be."""


class Reading(NamedTuple):
    """Distributions that broadcast, their namespace, the axis of their outcomes, and the dtype of results."""

    distributions: tuple[Distribution, ...]
    xp: Any
    axis: int
    dtype: Any

    def finish(self, value: Any) -> Any:
        """Round a result to the dtype of the input."""
        value = value + 0.0  # turns -0 into 0
        return value if value.dtype == self.dtype else self.xp.astype(self.xp.asarray(value), self.dtype)


def read(name: str, *, axis: int, normalize: bool, **sources: tuple[Any, Any]) -> Reading:
    """Read one distribution for each keyword, ``argument=(probabilities, logits)``, and broadcast them against each other."""
    given = [_choose(name, argument, *source, single=len(sources) == 1) for argument, source in sources.items()]
    xp = array_namespace(*(array for _, array, _ in given))
    axis = _common_axis(name, axis, given)
    if len(given) > 1:
        _check_broadcast(name, axis, given)
    dtype = xp.result_type(*(array for _, array, _ in given))
    wide = xp.result_type(dtype, xp.float32)
    distributions = []
    for argument, array, from_logits in given:
        array = array if array.dtype == wide else xp.astype(array, wide)
        if from_logits:
            distributions.append(_from_logits(name, argument, array, axis, xp))
        else:
            distributions.append(_from_probabilities(name, argument, array, axis, normalize, xp, dtype))

    return Reading(tuple(distributions), xp, axis, dtype)


def stop_gradient(x: Any) -> Any:
    """The same values, constant to automatic differentiation."""
    if is_torch_array(x):
        return x.detach()
    if is_jax_array(x):
        return sys.modules["jax"].lax.stop_gradient(x)
    return x


def on_support(support: Any, values: Any, otherwise: float, xp: Any) -> Any:
    """The values on the support and a constant elsewhere, through which no gradient flows."""
    return values if support is None else xp.where(support, values, otherwise)


def log_sum_exp(exponents: Any, support: Any, axis: int, xp: Any) -> Any:
    """``log Σ exp`` over the support; ``-inf`` where it is empty."""
    largest = stop_gradient(xp.max(on_support(support, exponents, -np.inf, xp), axis=axis, keepdims=True))
    empty = largest == -np.inf
    relative = on_support(support, exponents - xp.where(empty, 0.0, largest), 0.0, xp)
    total = xp.sum(on_support(support, xp.exp(relative), 0.0, xp), axis=axis, keepdims=True)
    logarithm = xp.where(empty, -np.inf, xp.log(xp.where(empty, 1.0, total)) + largest)
    return xp.squeeze(logarithm, axis=axis)


def weighted_excess(p: Any, log_p: Any, change: Any, xp: Any) -> Any:
    """``p (exp(change) - 1)``: all digits where the change is small, no overflow where it is large and ``p`` tiny."""
    small = xp.abs(change) < 1
    return xp.where(small, p * xp.expm1(xp.where(small, change, 0.0)), xp.exp(xp.where(small, 0.0, log_p + change)) - p)


def check_order(name: str, argument: str, order: float) -> None:
    """Refuse an order of a Rényi or Tsallis quantity below 0."""
    if not isinstance(order, Real):
        raise TypeError(f"{name}: {argument} must be a real number, got {order!r}")
    if isnan(order) or order < 0:
        raise ValueError(f"{name}: {argument} must be at least 0, got {order!r}")


def _choose(name: str, argument: str, probabilities: Any, logits: Any, single: bool) -> tuple[str, Any, bool]:
    logits_argument = "logits" if single else f"{argument}_logits"
    if (probabilities is None) == (logits is None):
        problem = "neither" if logits is None else "both"
        raise TypeError(f"{name}: give either {argument} (probabilities) or {logits_argument}, got {problem}")
    if probabilities is None:
        return logits_argument, _as_array(name, logits_argument, logits), True
    return argument, _as_array(name, argument, probabilities), False


def _as_array(name: str, argument: str, values: Any) -> Any:
    array: Any = _numbers(name, argument, values) if isinstance(values, (list, tuple)) else without_mask(values)
    if hasattr(array, "to_numpy"):
        array = array_of(name, argument, array)
    dtype: Any = getattr(array, "dtype", None)
    if not is_array_api_obj(array):
        raise TypeError(f"{name}: {argument} must be an array or a list of numbers, got {type(values).__name__}")
    if not _is_half(dtype) and not array_namespace(array).isdtype(dtype, "real floating"):
        raise TypeError(f"{name}: {argument} must be of a real floating dtype, got {dtype}")
    return array


def _numbers(name: str, argument: str, values: list | tuple) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {argument} must be numbers in rows of one length ({error})") from None


def _is_half(dtype: Any) -> bool:
    return str(dtype).rpartition(".")[2] in ("float16", "bfloat16")


def _common_axis(name: str, axis: int, given: list[tuple[str, Any, bool]]) -> int:
    """The axis counted from the end, where broadcasting aligns shapes."""
    dimensions = max(array.ndim for _, array, _ in given)
    if isinstance(axis, bool) or not isinstance(axis, int):
        raise TypeError(f"{name}: axis must be an integer, got {axis!r}")
    counted = axis - dimensions if axis >= 0 else axis
    for argument, array, _ in given:
        if not -array.ndim <= counted < 0:
            raise ValueError(f"{name}: axis {axis} is out of range for {argument} of shape {tuple(array.shape)}")
        if array.shape[counted] == 0:
            raise ValueError(f"{name}: axis {axis} of {argument} is empty (shape {tuple(array.shape)})")
    return counted


def _check_broadcast(name: str, axis: int, given: list[tuple[str, Any, bool]]) -> None:
    shapes = [tuple(array.shape) for _, array, _ in given]
    described = " and ".join(f"{argument} {shape}" for (argument, _, _), shape in zip(given, shapes, strict=True))
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        raise ValueError(f"{name}: shapes of {described} do not broadcast") from None
    if len({shape[axis] for shape in shapes}) > 1:
        raise ValueError(f"{name}: {described} must have the same number of outcomes along axis {axis}")


def _from_probabilities(
    name: str, argument: str, p: Any, axis: int, normalize: bool, xp: Any, given_dtype: Any
) -> Distribution:
    total = xp.sum(p, axis=axis, keepdims=True)
    all_positive = False
    if _values_are_known(p):
        least = xp.min(p, axis=axis, keepdims=True)
        in_range = xp.isfinite(total) if normalize else xp.abs(total - 1) <= _tolerance(given_dtype)
        valid = (least >= 0) & in_range & (total > 0)
        all_valid, all_positive = _booleans(xp.all(valid), xp.all(least > 0), xp)
        if not all_valid:
            _complain_of_probabilities(name, argument, p, total, valid, axis)
    if normalize:
        p = p / total
    support = None if all_positive else p > 0
    return Distribution(p, xp.log(on_support(support, p, 1.0, xp)), support)


def _from_logits(name: str, argument: str, logits: Any, axis: int, xp: Any) -> Distribution:
    largest = stop_gradient(xp.max(logits, axis=axis, keepdims=True))
    all_possible = False
    if _values_are_known(logits):
        valid = xp.isfinite(largest)
        all_valid, all_possible = _booleans(xp.all(valid), xp.min(logits) > -np.inf, xp)
        if not all_valid:
            index, value = _first_invalid(largest, valid, axis)
            problem = "are all -inf" if value == -np.inf else f"contain {value}"
            raise ValueError(
                f"{name}: {argument} along axis {axis} {problem}{index}; they must be finite, or -inf for some outcomes"
            )
    support = None if all_possible else logits > -np.inf
    shifted = on_support(support, logits - largest, 0.0, xp)
    exponentials = on_support(support, xp.exp(shifted), 0.0, xp)
    total = xp.sum(exponentials, axis=axis, keepdims=True)
    log_p = on_support(support, shifted - xp.log(total), 0.0, xp)
    return Distribution(exponentials / total, log_p, support)


def _booleans(first: Any, second: Any, xp: Any) -> tuple[bool, bool]:
    """Two flags, fetched from their device at once."""
    both = int(xp.astype(xp.asarray(first), xp.int8) + 2 * xp.astype(xp.asarray(second), xp.int8))
    return bool(both & 1), bool(both & 2)


def _values_are_known(x: Any) -> bool:
    """Whether values may be looked at: not while torch.compile, torch.func.vmap or JAX traces the program."""
    if is_torch_array(x):
        torch = sys.modules["torch"]
        return not (torch.compiler.is_compiling() or _is_mapped(x, torch._C._functorch))
    if is_jax_array(x):
        return not isinstance(x, sys.modules["jax"].core.Tracer)
    return True


def _is_mapped(x: Any, functorch: Any) -> bool:
    """Whether torch.func.vmap maps over this tensor, within other transformations or not."""
    while functorch.is_functorch_wrapped_tensor(x):
        if functorch.is_batchedtensor(x):
            return True
        x = functorch.get_unwrapped(x)
    return False


def _tolerance(dtype: Any) -> float:
    """How far a sum of rounded probabilities of this dtype may be from 1."""
    if _is_half(dtype):
        return 1e-2
    return 1e-4 if str(dtype).endswith("float32") else 1e-6


def _first_invalid(values: Any, valid: Any, axis: int) -> tuple[str, float]:
    """Where the first invalid slice lies, in words, and its value; both arrays keep ``axis`` with length 1."""
    flags = np.moveaxis(_to_numpy(valid), axis, -1)[..., 0]
    numbers = np.moveaxis(_to_numpy(values), axis, -1)[..., 0]
    index = tuple(int(i) for i in np.argwhere(~flags)[0])
    return (f" at index {index}" if index else ""), float(numbers[index])


def _complain_of_probabilities(name: str, argument: str, p: Any, total: Any, valid: Any, axis: int) -> None:
    values = _to_numpy(p)
    for described, wrong in (("NaN", np.isnan(values)), ("infinite", np.isinf(values)), ("negative", values < 0)):
        if wrong.any():
            index = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise ValueError(
                f"{name}: probabilities must be finite and not negative, "
                f"{argument} is {described} ({values[index]:.6g}) at index {index}"
            )
    index, value = _first_invalid(total, valid, axis)
    if value == 0:
        raise ValueError(
            f"{name}: {argument} along axis {axis} sums to 0{index}, which no rescaling makes probabilities"
        )
    raise ValueError(
        f"{name}: probabilities along axis {axis} must sum to 1 (got {argument} summing to {value:.6g}{index}); "
        "pass normalize=True to rescale"
    )


def _to_numpy(x: Any) -> np.ndarray:
    return x.detach().cpu().numpy() if is_torch_array(x) else np.asarray(x)
