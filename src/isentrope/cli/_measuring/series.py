"""Columns as series: entropies that ask in which order values come, a few with settings that suit most series.

Numbers have permutation, sample, dispersion and spectral entropy, and the Lempel-Ziv complexity of the signs around
their median; symbols an entropy rate and their Lempel-Ziv complexity. What is missing takes the windows that hold it out of
the count: closing the gap would make neighbours of strangers.
"""

from math import inf, isnan, log2
from typing import Any

import numpy as np
import pyarrow as pa

from isentrope.cli._measuring.columns import Column, is_symbolic
from isentrope.cli._measuring.exchange import Asked, Found
from isentrope.cli._measuring.rendering import progress
from isentrope.measures import (
    dispersion_entropy,
    entropy_rate,
    lempel_ziv_complexity,
    permutation_entropy,
    sample_entropy,
    spectral_entropy,
)

# Orders of 4 values, words of 2 values in 6 classes: 24 and 36 bins.
_ORDER, _WORD, _CLASSES = 4, 2, 6
# Below so many samples for each bin the number of samples shows in the entropy.
_SAMPLES_PER_BIN = 10
# Fewer values say nothing of an order.
_SHORTEST = 32
# Welch's segments hold so many samples, or a quarter of a shorter series.
_SEGMENT = 256
# Sample entropy compares all pairs of windows; of longer series it takes the middle.
_LONGEST_COMPARED = 100_000

_NUMERIC = {
    "permutation": f"orders of {_ORDER} values, as a share of the largest entropy",
    "sample*": "sample entropy of order 2 with a tolerance of 0.2 standard deviations",
    "dispersion": f"words of {_WORD} values in {_CLASSES} classes, as a share of the largest entropy",
    "spectral": "Welch's spectrum, as a share of the largest entropy",
}
_MEANINGS = {
    **_NUMERIC,
    "rate*": "entropy of the next symbol when those before are known (context trees of depth 8)",
    "Lempel-Ziv": "phrases of the parsing of 1976, numbers as above or below their median; 1 for a coin",
}


def measure_series(holds: str, columns: dict[str, Column], rows: int, asked: Asked) -> Found:
    """A row for each column, and what its numbers mean."""
    with progress(rows * len(columns) > 100_000) as bar:
        found = [
            {"series": name, **_measure(name, column, asked)}
            for name, column in bar.track(columns.items(), description="series", total=len(columns))
        ]
    notes = [
        f"{key.rstrip('*')}: {meaning}"
        for key, meaning in _MEANINGS.items()
        if any(row[key] is not None for row in found)
    ]
    if any(row["permutation"] is not None for row in found):
        notes.append(f"steps between the values of a window: {asked.lag or 1} (--lag)")
    return Found(holds, found, notes)


def _measure(name: str, column: Column, asked: Asked) -> dict[str, Any]:
    values, n = column.values, len(column.values)
    row: dict[str, Any] = {
        "type": str(values.type),
        "read as": None,
        **dict.fromkeys(_MEANINGS),
        "n": n,
        "missing": column.missing,
        "note": None,
    }
    if n == 0:
        return row | {"note": "all values are missing"}
    if pa.types.is_nested(values.type):
        return row | {"note": "nested values are not measured"}
    distinct = len(values.unique())
    if distinct == 1:
        return row | {"note": "constant"}
    if is_symbolic(name, values, distinct, asked):
        return row | {"read as": "symbols"} | _of_symbols(values, column.missing, asked)
    series = np.full(n + column.missing, np.nan)
    series[slice(None) if column.present is None else column.present] = values.to_numpy()
    if wrong := int(np.count_nonzero(np.isinf(series))):
        raise ValueError(f"column {name!r}: {wrong:,} of {len(series):,} values are infinite; leave them out first")
    return row | {"read as": "numbers"} | _of_numbers(series, asked)


def _of_symbols(values: Any, missing: int, asked: Asked) -> dict[str, Any]:
    if missing:
        return {"note": "symbols are missing: a parsing cannot leave them out"}
    symbols = values.to_pylist()
    rate = entropy_rate(symbols, base=asked.base) if len(symbols) > 8 else None
    return {"rate*": rate, "Lempel-Ziv": lempel_ziv_complexity(symbols, normalize=True)}


def _of_numbers(series: np.ndarray, asked: Asked) -> dict[str, Any]:
    n, lag = len(series), asked.lag or 1
    if n < _SHORTEST + _ORDER * lag:
        return {"note": f"too short: at least {_SHORTEST + _ORDER * lag} values are needed for a lag of {lag}"}
    notes = []
    start = max(0, (n - _LONGEST_COMPARED) // 2)
    compared = series[start : start + _LONGEST_COMPARED]
    if len(compared) < n:
        notes.append(f"sample entropy of {len(compared):,} values in the middle")
    if n < _SAMPLES_PER_BIN * _CLASSES**_WORD:
        notes.append(f"short: with {n} values permutation and dispersion entropy come out low")
    segment = min(_SEGMENT, 2 ** int(log2(n / 4)))
    holed = bool(np.isnan(series).any())
    gaps: dict[str, Any] = {"nan_policy": "omit" if holed else "raise"}
    lagged = {"delay": lag, **gaps}
    found: dict[str, Any] = {
        "permutation": permutation_entropy(series, order=_ORDER, normalize=True, **lagged),
        "sample*": sample_entropy(compared, base=asked.base, **lagged),
        "dispersion": dispersion_entropy(series, order=_WORD, classes=_CLASSES, normalize=True, **lagged),
        "spectral": spectral_entropy(series, segment=segment, normalize=True, **gaps),
    }
    if found["sample*"] == inf:
        notes.append("no two windows stay close, so sample entropy is infinite: it takes more values")
    found = {key: None if isnan(value) else float(value) for key, value in found.items()}
    if None in found.values():
        notes.append("too many values are missing")
    if holed:
        notes.append("Lempel-Ziv cannot leave missing values out")
    else:
        found["Lempel-Ziv"] = lempel_ziv_complexity(series > np.median(series), normalize=True)
    return found | {"note": "; ".join(notes) or None}
