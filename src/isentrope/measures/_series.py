"""Reading of real-valued series for NumPy and PyTorch: validation, precision, and entropies of symbols over windows.

Inside, a series lies along the last axis and all axes before it are one batch. Whatever is a formula on whole arrays runs
on both kinds of arrays by one path.
"""

import sys
from math import factorial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from array_api_compat import array_namespace, is_numpy_array, is_torch_array
from jaxtyping import Bool, Real

from isentrope.measures.estimate import unit_of

Series: TypeAlias = Real[Any, "..."] | Bool[Any, "..."] | list | tuple

# More bins than this are not held in memory for several series at once.
_BINS = 1 << 22


class Reading(NamedTuple):
    """Series in at least float64 (NumPy) or float32 (PyTorch), their namespace, and what results look like."""

    rows: Any
    """The series, ``[rows, n]``."""
    xp: Any
    shape: tuple[int, ...]
    """The axes of the input without that of time."""
    dtype: Any

    def on_host(self) -> np.ndarray:
        """The series for compiled code: in NumPy and float64."""
        rows = self.rows.cpu().numpy() if is_torch_array(self.rows) else self.rows
        return np.ascontiguousarray(rows, dtype=np.float64)

    def finish(self, values: Any) -> Any:
        """One value a row, in the shape, kind, dtype and device of the input; trailing axes of the values stay."""
        if isinstance(values, list | np.ndarray):
            values = self.xp.asarray(np.asarray(values), device=self.rows.device)
        values = self.xp.reshape(values, (*self.shape, *values.shape[1:]))
        return self.xp.astype(values + 0.0, self.dtype)[()]  # + 0.0 turns -0 into 0


def read_series(where: str, series: Any, axis: int, *, least: int) -> Reading:
    """Check the series, move time to the end and flatten the axes before it."""
    array: Any = np.asarray(series) if isinstance(series, list | tuple) else series
    torch_given = is_torch_array(array)
    if not (is_numpy_array(array) or torch_given):
        raise TypeError(
            f"{where}: series must be a NumPy array, a PyTorch tensor or a list, got {type(array).__name__}"
        )
    array = array.detach() if torch_given else array
    xp = array_namespace(array)
    if not xp.isdtype(array.dtype, ("bool", "real floating", "integral")) and "float16" not in str(array.dtype):
        raise TypeError(f"{where}: series must be real numbers, got dtype {array.dtype}")
    if isinstance(axis, bool) or not isinstance(axis, int):
        raise TypeError(f"{where}: axis must be an integer, got {axis!r}")
    if not -array.ndim <= axis < array.ndim:
        raise ValueError(f"{where}: axis {axis} is out of range for series of shape {tuple(array.shape)}")
    floating = "float" in str(array.dtype)
    dtype = array.dtype if floating else xp.float64
    working = xp.float64 if not (torch_given and floating) else xp.result_type(array.dtype, xp.float32)
    array = xp.moveaxis(xp.astype(array, working), axis, -1)
    shape, n = tuple(array.shape[:-1]), array.shape[-1]
    if n < least:
        raise ValueError(f"{where}: series must have at least {least} samples for these settings, got {n}")
    if 0 in shape:
        raise ValueError(f"{where}: series of shape {tuple(array.shape)} hold no series")
    finite = xp.isfinite(array)
    if not bool(xp.all(finite)):
        wrong = n * _product(shape) - int(xp.sum(xp.astype(finite, xp.int64)))
        raise ValueError(f"{where}: {wrong} samples of series are NaN or infinite; drop or interpolate them first")
    return Reading(xp.reshape(array, (-1, n)), xp, shape, dtype)


def check_count(where: str, argument: str, value: Any, least: int, most: int | None = None) -> int:
    """Refuse what is not an integer in the range."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{where}: {argument} must be an integer, got {value!r}")
    if value < least or (most is not None and value > most):
        accepted = f"at least {least}" if most is None else f"between {least} and {most}"
        raise ValueError(f"{where}: {argument} must be {accepted}, got {value}")
    return int(value)


def check_scale(where: str, base: float | None, normalize: bool) -> float:
    """Nats per unit of the result; a normalised entropy has no unit to choose."""
    if normalize and base is not None:
        raise ValueError(f"{where}: a normalised entropy has no unit, so base must be None, got {base!r}")
    return unit_of(base, where)[0]


def lagged(rows: Any, order: int, delay: int) -> list[Any]:
    """Views of the ``order`` coordinates of all windows: coordinate k of the window that starts at t is ``x[t + k delay]``."""
    windows = rows.shape[-1] - (order - 1) * delay
    return [rows[:, k * delay : k * delay + windows] for k in range(order)]


def ordinal_codes(coordinates: list[Any], xp: Any) -> Any:
    """Number of the ordinal pattern of each window, 0 to m! - 1; of equal values the earlier counts as the smaller.

    The digits in the factorial number system are the inversions that start at each coordinate, so that m(m-1)/2
    comparisons of whole arrays replace a sort of each window.
    """
    order = len(coordinates)
    codes = xp.zeros_like(coordinates[0], dtype=xp.int64 if factorial(order) > 2**31 else xp.int32)
    for position in range(order - 1):
        digit = xp.zeros_like(coordinates[0], dtype=xp.uint8)
        for later in coordinates[position + 1 :]:
            digit += xp.astype(later < coordinates[position], xp.uint8)
        codes *= order - position
        codes += xp.astype(digit, codes.dtype)
    return codes


def frequencies(codes: Any, bins: int, weights: Any, xp: Any) -> list[Any]:
    """For each row, the share of its windows (or of their weights) in each bin; zero if all weights are 0."""
    at_once = max(1, _BINS // bins)
    chunks = []
    for first in range(0, codes.shape[0], at_once):
        few = codes[first : first + at_once]
        heavy = None if weights is None else weights[first : first + at_once]
        chunks.append(_shares(few, bins, heavy, xp))
    return chunks


def pattern_entropy(codes: Any, bins: int, weights: Any, xp: Any) -> Any:
    """Shannon entropy in nats of the codes of each row."""
    parts = []
    for shares in frequencies(codes, bins, weights, xp):
        logarithms = xp.log(xp.where(shares > 0, shares, xp.ones_like(shares)))
        parts.append(-xp.sum(shares * logarithms, axis=-1))
    return xp.concat(parts)


def _shares(codes: Any, bins: int, weights: Any, xp: Any) -> Any:
    rows = codes.shape[0]
    if rows > 1:
        codes = xp.astype(codes, xp.int64)
        codes = codes + bins * xp.arange(rows, dtype=xp.int64, device=codes.device)[:, None]
    flat = xp.reshape(codes, (-1,))
    flat_weights = None if weights is None else xp.astype(xp.reshape(weights, (-1,)), xp.float64)
    bincount = sys.modules["torch"].bincount if is_torch_array(codes) else np.bincount
    totals = xp.reshape(xp.astype(bincount(flat, flat_weights, bins * rows), xp.float64), (rows, bins))
    whole = xp.sum(totals, axis=-1, keepdims=True)
    return totals / xp.where(whole > 0, whole, xp.ones_like(whole))


def _product(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64)) if shape else 1
