"""Tensors of a safetensors file, one read at a time.

Floating numbers are samples of a density: the entropy of the values that are not zero, taken from a histogram over the
cells of their first sixteen bits where it is fine and full enough, and from spacings where not. Numbers of one or two
bytes, and all integers, are symbols as well: the entropy of what is stored, to compare with the bits it takes.
"""

import json
from collections.abc import Iterator
from math import isqrt, log, prod
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from scipy.special import xlogy

from isentrope.cli._measuring.exchange import Asked, Found
from isentrope.cli._measuring.rendering import progress
from isentrope.measures import Estimate, differential_entropy, discrete_entropy

# Multiplications that the effective rank of one tensor may cost; about a quarter of a second.
_SPECTRUM_COST = 5e9

# Values that are held as ordinary floats at once.
_CHUNK = 1 << 22

# Values of a tensor that the spacing estimator sorts, evenly taken.
_SPACING_SAMPLES = 1 << 18

# Values that a cell of a tensor's histogram must hold on average; the entropy is then within 0.004 nat on a Gaussian.
_SAMPLES_PER_CELL = 20

# Eight-bit floats are not here: NumPy has none, and they are measured as symbols alone.
_STORED: dict[str, np.dtype] = {
    "BF16": np.dtype("<u2"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "BOOL": np.dtype("u1"),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
}


def measure_safetensors(path: Path, asked: Asked) -> Found:
    """Measure each tensor, or those that were asked for."""
    asked.refuse(
        "tensors",
        *("--discrete", "--numeric", "--missing", "--axis", "--probabilities", "--samples", "--pairs", "--series"),
    )
    try:
        with safe_open(path, framework="np"):
            pass
    except SafetensorError as error:
        raise ValueError(f"cannot be read as safetensors ({error}); it may be cut off") from None
    # The tensors are mapped as raw bytes, because NumPy has no bfloat16 and no 8-bit floats.
    with path.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(size))
    header.pop("__metadata__", None)
    if not header:
        raise ValueError("holds no tensors; there is nothing to measure")
    chosen = asked.chosen(sorted(header), "tensor")
    parameters = sum(prod(header[name]["shape"]) for name in chosen)
    rows: list[dict[str, Any]] = []
    with progress(parameters > 2_000_000) as bar:
        for name in bar.track(chosen, description=path.name):
            start, end = header[name]["data_offsets"]
            raw = np.memmap(path, np.uint8, "r", offset=8 + size + start, shape=end - start) if end > start else None
            rows.append({"tensor": name, **_measure_tensor(raw, header[name]["dtype"], header[name]["shape"], asked)})
    notes = []
    if any(row["entropy*"] is not None for row in rows):
        notes.append(
            "entropy: differential, of the values that are not zero; below Gaussian: how far under a Gaussian of "
            "their standard deviation"
        )
    if any(row["code*"] is not None for row in rows):
        notes.append("code: Shannon entropy of the stored numbers as symbols, to compare with the bits each takes")
    return Found(f"safetensors, {len(chosen)} tensors, {parameters:,} values", rows, notes)


def _measure_tensor(raw: np.ndarray | None, dtype: str, shape: list[int], asked: Asked) -> dict[str, Any]:
    row: dict[str, Any] = {
        "shape": shape,
        "type": dtype,
        "std": None,
        "entropy*": None,
        "below Gaussian*": None,
        "code*": None,
        "effective rank": None,
        "zeros": None,
        "note": None,
    }
    if raw is None:
        return row | {"note": "empty"}
    if dtype not in _STORED:
        if len(raw) == prod(shape):
            return row | {"code*": discrete_entropy(counts=np.bincount(raw), base=asked.base)}
        return row | {"note": f"{dtype} values are not measured"}
    stored = raw.view(_STORED[dtype])
    if stored.dtype.kind in "iu" and dtype != "BF16":
        row["std"] = float(stored.std(dtype=np.float64))
        return row | {"code*": discrete_entropy(stored, base=asked.base)}
    wrong = sum(int(np.count_nonzero(~np.isfinite(values))) for values in _chunks(stored, dtype))
    if wrong:
        return row | {"note": f"NaN or infinite: {wrong:,} of {len(stored):,} values"}
    codes, mean, std = _cells(stored, dtype)
    row["std"] = std
    if dtype in ("BF16", "F16"):
        row["code*"] = discrete_entropy(counts=codes, base=asked.base)
    if std == 0:
        return row | {"note": f"constant {mean:g}"}
    zeros = int(codes[0] + codes[1 << 15]) if dtype in ("BF16", "F16") else int(np.count_nonzero(stored == 0))
    row["zeros"] = zeros or None
    entropy = _tensor_entropy(stored, dtype, codes, std, asked)
    if entropy is None:
        row["note"] = "takes too few values for a density"
    else:
        row["entropy*"] = entropy
        # Of the values that are not zero, as the entropy is: their sum and squares are those of all.
        others = len(stored) / (len(stored) - zeros)
        variance = others * (std**2 + mean**2) - (others * mean) ** 2
        of_gaussian = 0.5 * log(2 * np.pi * np.e * variance) / asked.nats
        row["below Gaussian*"] = round(of_gaussian - entropy.value, 4)
    if len(shape) == 2 and min(shape) > 1 and min(shape) ** 2 * max(shape) <= _SPECTRUM_COST:
        row["effective rank"] = _effective_rank(stored, dtype, shape)
    return row


def _chunks(stored: np.ndarray, dtype: str) -> Iterator[np.ndarray]:
    """The values as ordinary floats, some millions at a time."""
    for start in range(0, len(stored), _CHUNK):
        part = stored[start : start + _CHUNK]
        # A bfloat16 is the upper half of a float32.
        yield (part.astype(np.uint32) << 16).view(np.float32) if dtype == "BF16" else np.asarray(part)


def _cells(stored: np.ndarray, dtype: str) -> tuple[np.ndarray, float, float]:
    """How often each 16-bit pattern occurs (the upper half of wider floats), the mean and the standard deviation."""
    counts = np.zeros(1 << 16, dtype=np.int64)
    total = squares = 0.0
    # Sums of the differences from one value, so that a constant has no deviation at all.
    origin = float(next(_chunks(stored, dtype))[0])
    for values in _chunks(stored, dtype):
        if dtype == "F16":
            codes = values.view(np.uint16)
        else:
            with np.errstate(over="ignore"):
                codes = (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        counts += np.bincount(codes, minlength=1 << 16)
        exact = values.astype(np.float64) - origin
        total += float(exact.sum())
        squares += float(exact @ exact)
    shift = total / len(stored)
    return counts, origin + shift, float(np.sqrt(max(0.0, squares / len(stored) - shift**2)))


def _cell_widths(dtype: str) -> np.ndarray:
    """Widths of the cells of numbers that share sign, exponent and the first 7 bits of the mantissa."""
    magnitude = np.arange(1 << 12 if dtype == "F16" else 1 << 15, dtype=np.uint32)
    with np.errstate(invalid="ignore"):
        if dtype == "F16":
            edges = (magnitude << 3).astype(np.uint16).view(np.float16).astype(np.float64)
        else:
            edges = (magnitude << 16).view(np.float32).astype(np.float64)
        # The last cells are those of infinity and NaN, and stay empty.
        widths = np.diff(edges, append=np.inf)
    return np.tile(widths, 2)


def _tensor_entropy(stored: np.ndarray, dtype: str, codes: np.ndarray, std: float, asked: Asked) -> Estimate | None:
    """Differential entropy of the non-zero values; None where they are too few or too alike to have a density.

    A histogram over the cells of `_cell_widths`, as the entropy of the cells plus the mean of ln width, needs no sort.
    Where its cells are too wide or too rarely hit, the spacings of some of the values are taken instead.
    """
    counts = codes.copy()
    counts[[0, 1 << 15]] = 0
    counts = counts.reshape(-1, 8).sum(axis=1) if dtype == "F16" else counts
    occupied = np.flatnonzero(counts)
    counts, log_width = counts[occupied], np.log(_cell_widths(dtype)[occupied])
    n = int(counts.sum())
    # A Gaussian in cells of a quarter of its deviation loses less than 0.003 nat.
    is_fine = n > 0 and np.exp(counts @ log_width / n) < std / 4
    if is_fine and len(counts) >= 32 and n >= _SAMPLES_PER_CELL * len(counts):
        value = discrete_entropy(counts=counts, method="grassberger").value + float(counts @ log_width) / n
        local = log_width - np.log(counts / n)
        stderr = float(np.sqrt(counts @ (local - counts @ local / n) ** 2)) / n
        return Estimate(value / asked.nats, stderr / asked.nats, unit=asked.unit, method="histogram", n=n)
    values = np.concatenate(list(_chunks(stored[:: 1 + len(stored) // _SPACING_SAMPLES], dtype))).astype(np.float64)
    values = values[values != 0]
    if len(values) < 4:
        return None
    _, recurrences = np.unique(values, return_counts=True)
    return None if recurrences.max() > isqrt(len(values)) else differential_entropy(values, base=asked.base)


def _effective_rank(stored: np.ndarray, dtype: str, shape: list[int]) -> float:
    """exp of the entropy of the singular values divided by their sum (Roy and Vetterli 2007)."""
    matrix = np.concatenate(list(_chunks(stored, dtype))).astype(np.float64).reshape(shape)
    if shape[0] > shape[1]:
        matrix = matrix.T
    singular = np.sqrt(np.clip(np.linalg.eigvalsh(matrix @ matrix.T), 0, None))
    p = singular / singular.sum()
    return float(np.exp(-xlogy(p, p).sum()))
