"""One column of numbers or text: how its values are read, their entropy, and what that rests on.

Text, booleans and integers that take few values are symbols (discrete entropy); other numbers are samples of a density
(differential entropy), unless one value recurs so often that there is none. The user's word goes before both.
"""

import re
from dataclasses import dataclass
from math import inf, isqrt
from typing import Any

import numpy as np
import pyarrow as pa

from isentrope.cli._measuring.exchange import Asked
from isentrope.measures import Estimate, differential_entropy, discrete_entropy

# An integer column is read as symbols if it has no more values than this, or this many samples for each value.
_FEW_VALUES = 20
_SAMPLES_PER_VALUE = 10

_READINGS = {
    "discrete": "Shannon entropy of symbols",
    "numeric": "differential entropy of a density, in the unit of the values",
}


def methods_of(rows: list[dict[str, Any]]) -> list[str]:
    """What each reading in the rows stands for, and its estimators."""
    notes = []
    for reading, meaning in _READINGS.items():
        estimates = [row["entropy*"] for row in rows if row["read as"] == reading and row["entropy*"] is not None]
        if estimates:
            notes.append(f"{reading}: {meaning} ({', '.join(sorted({e.method for e in estimates}))})")
    return notes


@dataclass(frozen=True)
class Column:
    """Values without the missing ones (a pyarrow array), and in which rows they were (None where in all)."""

    values: Any
    present: np.ndarray | None

    @classmethod
    def of(cls, values) -> "Column":
        """Take the missing values, nulls and NaNs alike, out of a pyarrow array."""
        if pa.types.is_float16(values.type) or pa.types.is_decimal(values.type):
            values = values.cast(pa.float64())
        if pa.types.is_null(values.type):
            return cls(values.slice(0, 0), np.zeros(len(values), bool))
        present = ~np.asarray(values.is_null(nan_is_null=True))
        if present.all():
            return cls(values, None)
        return cls(values.filter(pa.array(present)), present)

    @property
    def missing(self) -> int:
        """How many values are missing."""
        return 0 if self.present is None else int(np.count_nonzero(~self.present))


def refuse_missing(columns: dict[str, Column], rows: int, asked: Asked) -> None:
    """Stop at missing values, unless the user leaves them out."""
    holed = [(name, column) for name, column in columns.items() if column.missing]
    if holed and not asked.drop_missing:
        listed = ", ".join(f"{column.missing:,} in {name!r}" for name, column in holed[:8])
        more = f" and {len(holed) - 8} columns more" if len(holed) > 8 else ""
        name, column = holed[0]
        assert column.present is not None
        raise ValueError(
            f"missing values, of {rows:,}: {listed}{more} (the first in row {int(np.argmin(column.present)) + 1} of {name!r}); "
            "pass --missing drop to leave them out"
        )


def measure_column(name: str, column: Column, asked: Asked) -> dict[str, Any]:
    """One row of the table: how the values are read, their entropy and what it rests on."""
    values, n = column.values, len(column.values)
    row: dict[str, Any] = {
        "type": str(values.type),
        "read as": None,
        "entropy*": None,
        "n": n,
        "distinct": None,
        "missing": column.missing,
        "note": None,
    }
    if n == 0:
        return row | {"note": "all values are missing"}
    if pa.types.is_nested(values.type):
        return row | {"note": "nested values are not measured"}
    occurrences = values.value_counts()
    counts = occurrences.field("counts").to_numpy(zero_copy_only=False)
    row["distinct"] = len(counts)
    reading, note = _reading(name, values, occurrences, counts, asked)
    if reading == "discrete":
        entropy = discrete_entropy(counts=counts, base=asked.base)
    elif n < 4:
        return row | {"read as": reading, "note": "a differential entropy takes at least 4 values"}
    elif len(counts) == 1:
        entropy = Estimate(-inf, unit=asked.unit, method="exact", n=n)
        note = "constant: minus infinity as a density, 0 as a symbol"
    else:
        try:
            entropy = differential_entropy(values.to_numpy(), base=asked.base)
        except ValueError as error:
            raise ValueError(f"column {name!r}: {error}") from None
    notes = "; ".join(part for part in (note, entropy.note) if part)
    return row | {"read as": reading, "entropy*": entropy, "note": notes or None}


def is_symbolic(name: str, values: Any, distinct: int, asked: Asked) -> bool:
    """Whether values are symbols: text, booleans, dates and integers that take few values, or what the user says."""
    is_integer, is_float = pa.types.is_integer(values.type), pa.types.is_floating(values.type)
    if name in asked.discrete:
        return True
    if name in asked.numeric:
        if not (is_integer or is_float):
            raise ValueError(f"column {name!r} is of type {values.type}, which --numeric cannot read as numbers")
        return False
    if is_integer:
        return distinct <= _FEW_VALUES or len(values) >= _SAMPLES_PER_VALUE * distinct
    return not is_float


def _reading(name: str, values: Any, occurrences: Any, counts: np.ndarray, asked: Asked) -> tuple[str, str]:
    """Whether a column is read as "discrete" symbols or "numeric" samples of a density, and a remark on it."""
    if is_symbolic(name, values, len(counts), asked):
        return "discrete", "" if name in asked.discrete else _numbers_among_text(values, occurrences)
    most = int(counts.max())
    # The spacing estimator looks about sqrt(n) values aside; a value that recurs as often has no density.
    if name not in asked.numeric and len(counts) > 1 and most > isqrt(len(values)):
        return "discrete", f"one value recurs {most:,} times, so there is no density"
    return "numeric", ""


def _numbers_among_text(values, occurrences) -> str:
    """A remark on a text column most of whose values are numbers: a stray word makes a reader of CSV take it as text."""
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)) or len(occurrences) > 100_000:
        return ""
    others = [entry for entry in occurrences.to_pylist() if not _NUMBER.fullmatch(entry["values"].strip())]
    stray = sum(entry["counts"] for entry in others)
    if not 0 < stray <= len(values) / 2:
        return ""
    return (
        f"text, though {len(values) - stray:,} of {len(values):,} values are numbers ({others[0]['values']!r} is not)"
    )


_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
