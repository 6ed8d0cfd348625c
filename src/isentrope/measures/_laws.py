"""What the systems of known probabilities read: float64 arrays of numbers and laws, or an error that names the argument."""

from numbers import Real
from typing import Any

import numpy as np
from scipy.special import entr

from isentrope.measures._frames import values_of

# How far the sum of rounded probabilities may be from 1.
_TOLERANCE = 1e-6
# The squares of larger numbers, in covariances, leave the range of float64.
_LARGEST = 1e150
_AXES = {1: "one axis", 2: "two axes"}


def numbers(where: str, argument: str, values: Any, *, infinite: bool = False) -> np.ndarray:
    """Real numbers: an array, a tensor on any device, a series or frame, or lists of them; finite unless told otherwise."""
    try:
        array = values_of(values)
    except ValueError:
        raise ValueError(f"{where}: {argument} must be an array, whose rows have one length") from None
    real = (
        all(isinstance(value, Real) for value in array.flat) if array.dtype.kind == "O" else array.dtype.kind in "biuf"
    )
    if not real:
        raise TypeError(f"{where}: {argument} must hold real numbers (got dtype {array.dtype})")
    array = array.astype(np.float64)
    fine = (np.abs(array) <= _LARGEST) | (infinite & np.isinf(array))
    if not fine.all():
        index = tuple(int(i) for i in np.argwhere(~fine)[0])
        allowed = "infinite or" if infinite else "finite,"
        raise ValueError(
            f"{where}: {argument} must be {allowed} at most 1e150 in size (got {array[index]}{_place(index)})"
        )
    return array


def number(where: str, argument: str, value: Any, *, infinite: bool = False) -> float:
    """One real number, finite unless told otherwise."""
    array = numbers(where, argument, value, infinite=infinite)
    if array.ndim:
        raise ValueError(f"{where}: {argument} must be one number (got shape {array.shape})")
    return float(array)


def weights(where: str, argument: str, values: Any) -> np.ndarray:
    """Finite real numbers that are not negative."""
    array = numbers(where, argument, values)
    if array.size and array.min() < 0:
        index = tuple(int(i) for i in np.argwhere(array < 0)[0])
        raise ValueError(f"{where}: {argument} must not be negative (got {array[index]:.6g}{_place(index)})")
    return array


def law_of(where: str, argument: str, values: Any, axes: int = 1) -> np.ndarray:
    """Probabilities that sum to 1 together, with so many axes; rescaled, so that they do to the last digit."""
    p = weights(where, argument, values)
    if p.ndim != axes or p.size == 0:
        raise ValueError(f"{where}: {argument} must be probabilities with {_AXES[axes]} (got shape {p.shape})")
    total = float(p.sum())
    if abs(total - 1) > _TOLERANCE:
        raise ValueError(f"{where}: probabilities in {argument} must sum to 1 (got {total:.6g})")
    p = p / total
    return p / p.sum()


def conditional_law(where: str, argument: str, values: Any) -> np.ndarray:
    """Probabilities with two axes that sum to 1 in each row, likewise rescaled."""
    p = weights(where, argument, values)
    if p.ndim != 2 or p.size == 0:
        raise ValueError(f"{where}: {argument} must be probabilities with two axes (got shape {p.shape})")
    sums = p.sum(axis=1)
    wrong = np.flatnonzero(np.abs(sums - 1) > _TOLERANCE)
    if wrong.size:
        raise ValueError(f"{where}: rows of {argument} must sum to 1 (got {sums[wrong[0]]:.6g} in row {wrong[0]})")
    return p / sums[:, None]


def shannon(p: Any) -> float:
    """Entropy of probabilities, in nats."""
    return float(np.sum(entr(p)))


def _place(index: tuple[int, ...]) -> str:
    return f" at index {index}" if index else ""
