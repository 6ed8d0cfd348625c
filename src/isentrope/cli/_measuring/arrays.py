"""NumPy arrays: probabilities along an axis, or samples.

An array of floats that are not negative and sum to 1 along the axis holds probabilities, unless the user says samples;
any other holds samples, which `columns` reads as one column or, with an axis, as one column for each series along it.
"""

import zipfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.special import xlogy

from isentrope.cli._measuring.columns import Column, measure_column, methods_of, refuse_missing
from isentrope.cli._measuring.exchange import Asked, Found
from isentrope.cli._measuring.pairs import measure_pairs
from isentrope.cli._measuring.series import measure_series
from isentrope.cli._measuring.transfers import measure_transfers

# Series that the samples of an array may be split into by --axis.
_MANY_SLICES = 1000


def measure_arrays(path: Path, asked: Asked) -> Found:
    """Measure the array of a .npy file, or the arrays of a .npz archive."""
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        arrays = {path.stem: loaded} if isinstance(loaded, np.ndarray) else dict(loaded.items())
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        if "allow_pickle" in str(error) or "Python objects" in str(error):
            raise ValueError("holds Python objects, which only pickle could read; save plain numbers") from None
        raise ValueError(f"cannot be read as NumPy data ({error}); it may be cut off") from None
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    holds = f"NumPy, {len(arrays)} array{'s' * (len(arrays) > 1)}"
    chosen = asked.chosen(list(arrays), "array")
    for name in chosen:
        _check(name, arrays[name], asked)
    if asked.pairs or asked.series:
        return _measure_together(holds, {name: arrays[name] for name in chosen}, asked)
    for name in chosen:
        array = arrays[name]
        if _is_probabilities(array, asked, name):
            rows.append(_measure_probabilities(name, array, asked))
            if asked.probabilities is None:
                notes.append(f"{name!r} sums to 1 along its axis, so it is read as probabilities (--samples if not)")
        else:
            rows += _measure_samples(name, array, asked)
            if asked.probabilities is None and (other := _other_axis(array)) is not None:
                notes.append(f"{name!r} sums to 1 along axis {other}; --axis {other} if these are probabilities")
    return Found(holds, rows, methods_of(rows) + notes)


def _check(name: str, array: np.ndarray, asked: Asked) -> None:
    if array.size == 0 or array.ndim == 0 or array.dtype.kind not in "biufUS":
        raise ValueError(
            f"array {name!r} of shape {array.shape} and type {array.dtype} cannot be measured; "
            "a non-empty array of real numbers, booleans or strings can"
        )
    if asked.axis is not None and not -array.ndim <= asked.axis < array.ndim:
        raise ValueError(f"array {name!r} of shape {array.shape} has no axis {asked.axis}")


def _is_probabilities(array: np.ndarray, asked: Asked, name: str) -> bool:
    if name in [*asked.discrete, *asked.numeric]:
        asked.refuse(f"array {name!r}, whose values are to be read as samples", "--probabilities")
        return False
    if asked.probabilities is False:
        return False
    axis = -1 if asked.axis is None else asked.axis
    if asked.probabilities is None and (array.dtype.kind != "f" or array.shape[axis] < 2):
        return False
    if array.dtype.kind not in "biuf":
        raise ValueError(f"array {name!r} of type {array.dtype} holds no probabilities")
    negative = ~(array >= 0)
    sums, wrong = _sums(array, axis)
    if not negative.any() and not wrong.any():
        return True
    if asked.probabilities is None:
        return False
    if negative.any():
        index = np.unravel_index(int(np.argmax(negative)), array.shape)
        raise ValueError(
            f"array {name!r}: {np.count_nonzero(negative):,} of {array.size:,} probabilities are negative or NaN (the "
            f"first, {array[index]:.6g}, at index {tuple(map(int, index))}); pass --samples if they are samples"
        )
    index = np.unravel_index(int(np.argmax(wrong)), sums.shape)
    raise ValueError(
        f"array {name!r}: {np.count_nonzero(wrong):,} of {sums.size:,} sums along axis {axis} are not 1 (the first, "
        f"{sums[index]:.6g}, at index {tuple(map(int, index))}); normalise them or choose another --axis"
    )


def _sums(array: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """The sums along an axis, and which of them are not 1."""
    sums = np.asarray(array.sum(axis=axis, dtype=np.float64))
    # What rounding each probability to the array's precision can change in their sum, with room to spare.
    tolerance = 1e-4 if array.dtype.itemsize > 2 else 1e-2
    return sums, ~(np.abs(sums - 1) <= tolerance)


def _other_axis(array: np.ndarray) -> int | None:
    """An axis along which an array sums to 1 everywhere, though it was not asked for."""
    if array.dtype.kind != "f" or not (array >= 0).all():
        return None
    for axis in range(array.ndim):
        if array.shape[axis] > 1 and not _sums(array, axis)[1].any():
            return axis
    return None


def _measure_probabilities(name: str, array: np.ndarray, asked: Asked) -> dict[str, Any]:
    axis = -1 if asked.axis is None else asked.axis
    p = array.astype(np.float64)
    p /= p.sum(axis=axis, keepdims=True)
    entropies = -xlogy(p, p).sum(axis=axis) / asked.nats
    return {
        "array": name,
        "shape": list(array.shape),
        "read as": f"probabilities along axis {axis}",
        "entropy*": float(entropies.mean()),
        "lowest*": float(entropies.min()),
        "highest*": float(entropies.max()),
        "n": entropies.size,
    }


def _measure_samples(name: str, array: np.ndarray, asked: Asked) -> Iterator[dict[str, Any]]:
    columns = _columns(name, array, asked.axis)
    refuse_missing(columns, array.size if asked.axis is None else array.shape[asked.axis], asked)
    asked = _asked_of_columns({name: list(columns)}, asked)
    for label, column in columns.items():
        yield {"array": label, "shape": list(array.shape), **measure_column(label, column, asked)}


def _measure_together(holds: str, arrays: dict[str, np.ndarray], asked: Asked) -> Found:
    """The pairs or the series that arrays hold: vectors, and what lies along the axis of other arrays."""
    asked.refuse("samples, which --pairs and --series take", "--probabilities")
    columns: dict[str, Column] = {}
    labels: dict[str, list[str]] = {}
    for name, array in arrays.items():
        if array.ndim > 1 and asked.axis is None:
            raise ValueError(
                f"array {name!r} of shape {array.shape} holds more than one column; say along which axis the samples lie "
                "(--axis 0 for columns)"
            )
        found = _columns(name, array, 0 if array.ndim == 1 else asked.axis)
        labels[name] = list(found)
        columns |= found
    lengths = {label: len(column.values) + column.missing for label, column in columns.items()}
    if (asked.pairs or asked.transfer) and len(set(lengths.values())) > 1:
        (first, n), (other, m) = next((a, b) for a, b in pairwise(lengths.items()) if a[1] != b[1])
        option = "--pairs" if asked.pairs else "--transfer"
        raise ValueError(f"{option} takes columns of one length (got {n:,} in {first!r} and {m:,} in {other!r})")
    for label, column in columns.items():
        refuse_missing({label: column}, lengths[label], asked)
    measure = measure_pairs if asked.pairs else measure_transfers if asked.transfer else measure_series
    return measure(holds, columns, max(lengths.values()), _asked_of_columns(labels, asked))


def _columns(name: str, array: np.ndarray, axis: int | None) -> dict[str, Column]:
    """All values of an array as one column, or each of its series along an axis."""
    if axis is None or array.ndim == 1:
        slices = {name: array.ravel()}
    else:
        others = np.moveaxis(array, axis, 0)
        if others[0].size > _MANY_SLICES:
            raise ValueError(
                f"array {name!r} of shape {array.shape} has {others[0].size:,} series along axis {axis}; at most "
                f"{_MANY_SLICES:,} are listed: leave out --axis to measure all values together"
            )
        slices = {
            _slice_name(name, index, axis): others[(slice(None), *index)] for index in np.ndindex(others.shape[1:])
        }
    return {
        label: Column.of(pa.array(np.array(values, np.float64 if values.dtype == np.float16 else None)))
        for label, values in slices.items()
    }


def _asked_of_columns(labels: dict[str, list[str]], asked: Asked) -> Asked:
    """What was said of an array, said of each of its columns."""
    return replace(
        asked,
        discrete=[label for name in asked.discrete for label in labels.get(name, [])],
        numeric=[label for name in asked.numeric for label in labels.get(name, [])],
    )


def _slice_name(name: str, index: tuple[int, ...], axis: int) -> str:
    places = list(map(str, index))
    places.insert(axis % (len(index) + 1), ":")
    return f"{name}[{', '.join(places)}]"
