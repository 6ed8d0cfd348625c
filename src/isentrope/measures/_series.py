"""Reading of real-valued series for NumPy and PyTorch: validation, precision, and entropies of symbols over windows.

Inside, a series lies along the last axis and all axes before it are one batch. Whatever is a formula on whole arrays runs
on both kinds of arrays by one path.

Missing samples (NaN) are refused, spoil the result of their series ("propagate"), or take the windows that hold them out
of the count ("omit"). Nothing closes the gap up: samples on its two sides are no neighbours in time.
"""

import sys
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from array_api_compat import array_namespace, is_numpy_array, is_torch_array
from jaxtyping import Bool, Real

from isentrope.measures._array import Labelled
from isentrope.measures._frames import without_mask
from isentrope.measures.estimate import unit_of

Series: TypeAlias = Real[Any, "..."] | Bool[Any, "..."] | list | tuple | Labelled

_NAN_POLICIES = ("raise", "propagate", "omit")

# More bins than this are not held in memory for several series at once.
_BINS = 1 << 22


class Reading(NamedTuple):
    """Series in at least float64 (NumPy) or float32 (PyTorch), their namespace, and what results look like."""

    rows: Any
    """The series, ``[rows, n]``, all finite: a missing sample has the value of the largest one of its series."""
    xp: Any
    shape: tuple[int, ...]
    """The axes of the input without that of time."""
    dtype: Any
    missing: Any = None
    """Which samples are to be omitted, ``[rows, n]``; None if none is."""
    spoiled: Any = None
    """Which series have no result, ``[rows]``; None if all have one."""

    def on_host(self) -> np.ndarray:
        """The series for compiled code: in NumPy and float64."""
        rows = self.rows.cpu().numpy() if is_torch_array(self.rows) else self.rows
        return np.ascontiguousarray(rows, dtype=np.float64)

    def scaled(self) -> tuple[Any, Any]:
        """The series times a power of two that brings their largest size to about 1, and that factor, ``[rows, 1]``.

        The squares of what is scaled neither overflow nor vanish, and no digit is lost.
        """
        xp, rows = self.xp, self.rows
        exponents = xp.frexp(xp.max(xp.abs(rows), axis=-1, keepdims=True))[1]
        most = 1000 if rows.dtype == xp.float64 else 120  # of what has a reciprocal
        factors = xp.ldexp(xp.ones_like(rows[:, :1]), -xp.clip(exponents, -most, most))
        return rows * factors, factors  # torch.ldexp(rows, ...) has no gradient

    def moments(self) -> tuple[Any, Any]:
        """Mean and standard deviation (divisor n) of each series, ``[rows, 1]``; exactly 0 for a constant."""
        xp, (rows, factors) = self.xp, self.scaled()
        if self.missing is None:
            mean, deviation = (f(rows, axis=-1, keepdims=True) for f in (xp.mean, xp.std))
        else:
            present = xp.astype(~self.missing, rows.dtype)
            number = xp.sum(present, axis=-1, keepdims=True)
            mean = xp.sum(rows * present, axis=-1, keepdims=True) / number
            deviation = xp.sqrt(xp.sum((rows - mean) ** 2 * present, axis=-1, keepdims=True) / number)
        spread = xp.max(rows, axis=-1, keepdims=True) - xp.min(rows, axis=-1, keepdims=True)
        # Rounding gives a constant a standard deviation of 1e-17.
        deviation = xp.where(spread == 0, xp.zeros_like(deviation), deviation)
        return mean / factors, deviation / factors

    def whole(self, order: int, delay: int) -> Any:
        """Which windows hold no missing sample, ``[rows, windows]``; None if all are whole."""
        if self.missing is None:
            return None
        whole = ~self.missing[:, : self.rows.shape[-1] - (order - 1) * delay]
        for missing in lagged(self.missing, order, delay)[1:]:
            whole = whole & ~missing
        return whole

    def finish(self, values: Any, whole: Any = None) -> Any:
        """One value a row, in the shape, kind, dtype and device of the input; trailing axes of the values stay.

        A series that is spoiled or that has no whole window has NaN.
        """
        xp = self.xp
        if isinstance(values, list | np.ndarray):
            values = xp.asarray(np.asarray(values, dtype=np.float64), device=self.rows.device, dtype=self.rows.dtype)
        for without in (self.spoiled, None if whole is None else ~xp.any(whole, axis=-1)):
            if without is not None:
                without = xp.reshape(without, (-1,) + (1,) * (values.ndim - 1))
                values = xp.where(without, xp.full_like(values, np.nan), values)
        values = xp.reshape(values, (*self.shape, *values.shape[1:]))
        return xp.astype(values + 0.0, self.dtype)[()]  # + 0.0 turns -0 into 0


def read_series(
    where: str,
    series: Any,
    axis: int,
    *,
    least: int,
    nan_policy: str = "raise",
    windows: bool = True,
    gradient: bool = False,
) -> Reading:
    """Check the series, move time to the end and flatten the axes before it.

    Without ``windows`` the measure has no windows to leave out, so missing samples cannot be omitted.
    """
    array = _unlabelled(where, series)
    torch_given = is_torch_array(array)
    if not (is_numpy_array(array) or torch_given):
        raise TypeError(
            f"{where}: series must be a NumPy array, a PyTorch tensor, a labelled series or a list, "
            f"got {type(array).__name__}"
        )
    array = array.detach() if torch_given and not gradient else array
    xp = array_namespace(array)
    if not xp.isdtype(array.dtype, ("bool", "real floating", "integral")) and "float16" not in str(array.dtype):
        raise TypeError(f"{where}: series must be real numbers, got dtype {array.dtype}")
    if isinstance(axis, bool) or not isinstance(axis, int):
        raise TypeError(f"{where}: axis must be an integer, got {axis!r}")
    if not -array.ndim <= axis < array.ndim:
        raise ValueError(f"{where}: axis {axis} is out of range for series of shape {tuple(array.shape)}")
    if nan_policy not in _NAN_POLICIES:
        raise ValueError(f"{where}: nan_policy must be one of {', '.join(_NAN_POLICIES)}, got {nan_policy!r}")
    if nan_policy == "omit" and not windows:
        raise ValueError(
            f"{where}: nan_policy must be raise or propagate, got 'omit': all samples enter together and evenly "
            "spaced; interpolate what is missing"
        )
    floating = "float" in str(array.dtype)
    widest = widest_float(array, xp)
    dtype = array.dtype if floating else widest
    working = xp.result_type(array.dtype, xp.float32) if torch_given and floating else widest
    array = xp.moveaxis(xp.astype(array, working, copy=False), axis, -1)
    shape, n = tuple(array.shape[:-1]), array.shape[-1]
    if n < least:
        raise ValueError(f"{where}: series must have at least {least} samples for these settings, got {n}")
    if 0 in shape:
        raise ValueError(f"{where}: series of shape {tuple(array.shape)} hold no series")
    rows = xp.reshape(array, (-1, n))
    finite = xp.isfinite(rows)
    if bool(xp.all(finite)):
        return Reading(rows, xp, shape, dtype)
    missing = xp.isnan(rows)
    wrong, infinite = (int(xp.sum(xp.astype(x, xp.int64))) for x in (~finite, ~finite & ~missing))
    if nan_policy == "raise":
        raise ValueError(
            f"{where}: {wrong} samples of series are NaN or infinite; drop or interpolate them first, or see nan_policy"
        )
    if infinite:
        raise ValueError(f"{where}: {infinite} samples of series are infinite; nan_policy is about NaN alone")
    return _without_missing(Reading(rows, xp, shape, dtype), missing, omit=nan_policy == "omit")


def _unlabelled(where: str, series: Any) -> Any:
    series = without_mask(series)
    if isinstance(series, list | tuple):
        try:
            return np.asarray(series)
        except ValueError as error:
            raise ValueError(f"{where}: series must be rows of one length ({error})") from None
    if is_torch_array(series) or not hasattr(series, "to_numpy"):
        return series
    if hasattr(series, "columns"):
        # Its time runs down the rows, against the default axis.
        raise TypeError(f"{where}: series must not be a table; give one of its columns, or its values and axis=0")
    return np.asarray(series.to_numpy())


def _without_missing(reading: Reading, missing: Any, *, omit: bool) -> Reading:
    xp, rows = reading.xp, reading.rows
    # What stands in for a series without a result is neither constant, periodic nor straight, so that no measure refuses it.
    harmless = xp.sin(xp.arange(rows.shape[-1], dtype=rows.dtype, device=rows.device) ** 2)[None, :]
    spoiled = (xp.all if omit else xp.any)(missing, axis=-1, keepdims=True)
    largest = xp.max(xp.where(missing, xp.full_like(rows, -np.inf), rows), axis=-1, keepdims=True)
    rows = xp.where(spoiled, harmless, xp.where(missing, largest, rows))
    return reading._replace(rows=rows, missing=missing & ~spoiled if omit else None, spoiled=spoiled[:, 0])


def widest_float(array: Any, xp: Any) -> Any:
    """The most precise floating dtype of the array's device: Apple's accelerators have no float64."""
    return xp.float32 if is_torch_array(array) and array.device.type == "mps" else xp.float64


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
    """Number of the ordinal pattern of each window, 0 to m! - 1 (m <= 12); of equal values the earlier counts as smaller.

    The digits in the factorial number system are the inversions that start at each coordinate, so that m(m-1)/2
    comparisons of whole arrays replace a sort of each window.
    """
    order = len(coordinates)
    codes = xp.zeros_like(coordinates[0], dtype=xp.int32)
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


def counted(weights: Any, whole: Any, xp: Any) -> Any:
    """The weights of windows, without those that are not whole; None for all alike."""
    if whole is None:
        return weights
    return xp.astype(whole, xp.int32) if weights is None else weights * xp.astype(whole, weights.dtype)


def pattern_entropy(codes: Any, bins: int, weights: Any, xp: Any) -> Any:
    """Shannon entropy in nats of the codes of each row."""
    return xp.concat([shannon(shares, xp) for shares in frequencies(codes, bins, weights, xp)])


def shannon(shares: Any, xp: Any) -> Any:
    """Shannon entropy in nats of the shares along the last axis, with a gradient where a share is 0."""
    return -xp.sum(shares * xp.log(xp.where(shares > 0, shares, xp.ones_like(shares))), axis=-1)


def _shares(codes: Any, bins: int, weights: Any, xp: Any) -> Any:
    rows = codes.shape[0]
    if rows > 1:
        codes = xp.astype(codes, xp.int64)
        codes = codes + bins * xp.arange(rows, dtype=xp.int64, device=codes.device)[:, None]
    wide = widest_float(codes, xp)
    flat = xp.reshape(codes, (-1,))
    flat_weights = None if weights is None else xp.astype(xp.reshape(weights, (-1,)), wide)
    bincount = sys.modules["torch"].bincount if is_torch_array(codes) else np.bincount
    totals = xp.reshape(xp.astype(bincount(flat, flat_weights, bins * rows), wide), (rows, bins))
    whole = xp.sum(totals, axis=-1, keepdims=True)
    return totals / xp.where(whole > 0, whole, xp.ones_like(whole))
