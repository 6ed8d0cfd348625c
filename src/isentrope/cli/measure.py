"""``isentrope measure``: the entropy of what files hold."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import inf, isfinite, isqrt, log
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from cyclopts import Parameter
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text
from scipy.special import xlogy

from isentrope.measures import (
    Estimate,
    compressed_size,
    differential_entropy,
    discrete_entropy,
    text_entropies,
)
from isentrope.measures.estimate import unit_of

# An integer column is read as symbols if it has no more values than this, or this many samples for each value.
_FEW_VALUES = 20
_SAMPLES_PER_VALUE = 10

# Multiplications that the effective rank of one tensor may cost; about a quarter of a second.
_SPECTRUM_COST = 5e9
_CHUNK = 1 << 22

# Values that a cell of a tensor's histogram must hold on average; the entropy is then within 0.004 nat on a Gaussian.
_SAMPLES_PER_CELL = 20

# Series that the samples of an array may be split into by --axis.
_MANY_SLICES = 1000


def measure(
    *files: Annotated[str, Parameter(allow_leading_hyphen=True)],
    base: Literal["2", "e", "10"] = "2",
    column: Annotated[list[str] | None, Parameter(negative="")] = None,
    discrete: Annotated[list[str] | None, Parameter(negative="")] = None,
    numeric: Annotated[list[str] | None, Parameter(negative="")] = None,
    missing: Literal["error", "drop"] = "error",
    axis: int | None = None,
    probabilities: Annotated[bool | None, Parameter(negative="--samples")] = None,
    json_lines: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Measure the entropy of what files hold.

    - **Text**: per character and per byte, alone and given the symbols before, beside what real compressors reach.
    - **CSV, TSV, Parquet**: each column. Text, booleans and integers with few values are read as symbols (discrete
      entropy), other numbers as samples of a density (differential entropy); the table says which.
    - **.npy, .npz**: probabilities where they are non-negative and sum to 1 along the axis, otherwise samples.
    - **.safetensors**: each tensor, read one at a time.
    - Anything else: its bytes. A single ``-`` reads standard input.

    Estimates carry their standard error. On a terminal this prints tables, into a pipe plain columns.

    **Examples**

    ```
    isentrope measure book.txt
    isentrope measure table.csv --column age --column city --missing drop
    isentrope measure predictions.npy --probabilities --axis 1 --base e
    isentrope measure model.safetensors --json | jq '.rows[0]'
    ```

    Args:
        files: files to measure, or - for standard input.
        base: base of the logarithm: 2 for bits, e for nats, 10 for hartleys.
        column: a column of a table, a tensor or an array to measure; all without it. May be given again.
        discrete: a column to read as symbols, whatever its type. May be given again.
        numeric: a column to read as samples of a density, whatever its type. May be given again.
        missing: what to do with missing values of a table or array: stop, or leave them out.
        axis: axis of .npy and .npz arrays: along which probabilities sum to 1 (the last by default), or along which
            samples lie (all values together by default).
        probabilities: read .npy and .npz arrays as probabilities, or as samples.
        json_lines: print one JSON object for each file, with standard errors and units.
    """
    if not files:
        raise ValueError("measure: name at least one file, or - for standard input")
    # The lone - has to pass as a file, so options that do not exist arrive here as well.
    if unknown := [file for file in files if file.startswith("-") and file != "-"]:
        raise ValueError(
            f"measure: no option {unknown[0]}; isentrope measure --help lists them (a file: ./{unknown[0]})"
        )
    asked = _Asked(
        base={"2": 2.0, "e": None, "10": 10.0}[base],
        columns=column or [],
        discrete=discrete or [],
        numeric=numeric or [],
        drop_missing=missing == "drop",
        axis=axis,
        probabilities=probabilities,
    )
    console = _console()
    failures: list[str] = []
    for file in files:
        try:
            found = _measure_file(file, asked)
        except (ValueError, OSError) as error:
            failures.append(f"{_name(file)}: {_explain(error)}")
            if json_lines:
                print(json.dumps({"file": file, "error": _explain(error)}, ensure_ascii=False), flush=True)
            continue
        if json_lines:
            print(json.dumps(_as_json(found, asked), ensure_ascii=False, allow_nan=False), flush=True)
        else:
            _show(console, found, asked)
    if failures:
        several = f"{len(failures)} of {len(files)} files: " if len(failures) > 1 else ""
        raise ValueError(several + "; ".join(failures))


@dataclass(frozen=True)
class _Asked:
    base: float | None
    columns: list[str]
    discrete: list[str]
    numeric: list[str]
    drop_missing: bool
    axis: int | None
    probabilities: bool | None

    @property
    def unit(self) -> str:
        return unit_of(self.base, "measure")[1]

    def chosen(self, names: list[str], what: str) -> list[str]:
        """The names that were asked for, or all; one that is not there is an error."""
        for name in [*self.columns, *self.discrete, *self.numeric]:
            if name not in names:
                raise ValueError(f"no {what} {name!r}; there are {', '.join(map(repr, names[:20]))}")
        return [name for name in names if not self.columns or name in self.columns]


@dataclass(frozen=True)
class _Found:
    """What a file holds: a sentence, rows of named values, and remarks.

    A heading that ends in a star is an entropy and gets the unit; its star is not shown.
    """

    file: str
    holds: str
    rows: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)


def _name(file: str) -> str:
    return "standard input" if file == "-" else file


def _explain(error: Exception) -> str:
    return " ".join((error.strerror if isinstance(error, OSError) and error.strerror else str(error)).split())


# Which reader a file gets.


def _measure_file(file: str, asked: _Asked) -> _Found:
    if file == "-":
        return _measure_bytes("-", sys.stdin.buffer.read(), asked)
    path = Path(file)
    if path.is_dir():
        raise ValueError(f"is a directory; name the files in it, as in {path / '*'}")
    with path.open("rb") as stream:
        start = stream.read(16)
    if not start:
        raise ValueError("is empty; there is nothing to measure")
    reader = _BY_SUFFIX.get(path.suffix.lower()) or _by_start(start)
    if reader is not None:
        return reader(path, asked)
    return _measure_bytes(file, path.read_bytes(), asked)


def _by_start(start: bytes) -> "Callable[[Path, _Asked], _Found] | None":
    if start.startswith(b"PAR1"):
        return _measure_parquet
    if start.startswith(b"\x93NUMPY"):
        return _measure_array
    if len(start) > 9 and start[8:10] == b'{"' and int.from_bytes(start[:8], "little") < 100 << 20:
        return _measure_safetensors
    return None


# Text and bytes


def _measure_bytes(file: str, data: bytes, asked: _Asked) -> _Found:
    if asked.columns or asked.discrete or asked.numeric or asked.probabilities is not None or asked.axis is not None:
        raise ValueError(
            "is read as text or bytes, which have no columns or axes; table, array and tensor files are known by their "
            "suffix (.csv, .tsv, .parquet, .npy, .npz, .safetensors)"
        )
    if not data:
        raise ValueError("is empty; there is nothing to measure")
    notes: list[str] = []
    text = None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        notes.append(f"not UTF-8 text (byte 0x{data[error.start]:02x} at offset {error.start}): read as bytes")
    if text is not None and "\0" in text:
        notes.append(f"holds zero bytes (the first at offset {data.index(0)}): read as bytes")
        text = None
    if text == "":
        raise ValueError("holds nothing but a byte order mark; there is nothing to measure")
    one_byte_each = text is not None and len(text) == len(data)
    symbols: list[str | bytes] = [data] if text is None else [text] if one_byte_each else [text, data]
    compressed = compressed_size(data)
    rows: list[dict[str, Any]] = []
    for symbol in symbols:
        found = text_entropies(symbol, base=asked.base)
        for known, (entropy, block) in enumerate(zip(found.conditional, found.block, strict=True)):
            rows.append(
                {
                    "per": found.symbol,
                    "given": f"{known} before" if known else "nothing",
                    "entropy*": entropy,
                    "block*": block,
                    "coverage": round(found.coverage[known], 4),
                }
            )
        longest = len(found.block)
        if longest > 1 and found.conditional[-1] == 0:
            notes.append(f"{longest - 1} {found.symbol}s determine the next in all of the text")
        elif longest < min(found.n, 8):
            notes.append(
                f"blocks of {longest + 1} {found.symbol}s are too rare here (coverage below 0.95), "
                f"so no {found.symbol} is measured given {longest} before"
            )
        if min(found.coverage) < 0.99:
            notes.append(
                f"{found.symbol}s: where the coverage is below 0.99, entropies tend to be low by some hundredths of a bit "
                "that the standard error does not hold"
            )
        if found.block[0].note:
            notes.append(f"{found.symbol}s: {found.block[0].note}")
    for symbol in symbols:
        rows.append(
            {
                "per": "character" if isinstance(symbol, str) else "byte",
                "given": f"{compressed.best} compressed",
                "entropy*": compressed.per_byte(base=asked.base) * len(data) / len(symbol),
            }
        )
    if text is None:
        holds = f"{len(data):,} bytes"
    else:
        holds = f"UTF-8 text, {len(text):,} characters ({len(set(text)):,} distinct), "
        holds += "one byte each" if one_byte_each else f"{len(data):,} bytes"
    return _Found(file, holds, rows, notes)


# Tables


def _measure_csv(path: Path, asked: _Asked) -> _Found:
    import pyarrow as pa
    from pyarrow import csv

    try:
        table = csv.read_csv(
            path,
            parse_options=csv.ParseOptions(
                delimiter="\t" if path.suffix.lower() == ".tsv" else ",", newlines_in_values=True
            ),
            convert_options=csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False),
        )
    except pa.ArrowException as error:
        raise ValueError(f"cannot be read as a table ({error})") from None
    return _measure_table(path, table, "TSV" if path.suffix.lower() == ".tsv" else "CSV", asked)


def _measure_parquet(path: Path, asked: _Asked) -> _Found:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path, memory_map=True) as source:
            table = source.read(columns=asked.chosen(source.schema_arrow.names, "column"))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"cannot be read as Parquet ({error}); it may be cut off") from None
    return _measure_table(path, table, "Parquet", asked)


def _measure_table(path: Path, table, kind: str, asked: _Asked) -> _Found:
    chosen = asked.chosen(table.column_names, "column")
    if table.num_rows == 0:
        raise ValueError(f"has {table.num_columns} columns but no rows; there is nothing to measure")
    columns = {name: _Column.of(table.column(index)) for index, name in enumerate(table.column_names) if name in chosen}
    _refuse_missing(columns, table.num_rows, asked)
    with _progress(table.num_rows * len(columns) > 10_000_000) as progress:
        rows = [
            {"column": name, **_measure_column(name, column, asked)}
            for name, column in progress.track(columns.items(), description=str(path), total=len(columns))
        ]
    holds = f"{kind} table, {table.num_rows:,} rows and {table.num_columns:,} columns"
    return _Found(str(path), holds, rows, _methods(rows))


_READINGS = {
    "discrete": "Shannon entropy of symbols",
    "numeric": "differential entropy of a density, in the unit of the values",
}


def _methods(rows: list[dict[str, Any]]) -> list[str]:
    """What each reading in the rows stands for, and its estimators."""
    notes = []
    for reading, meaning in _READINGS.items():
        estimates = [row["entropy*"] for row in rows if row["read as"] == reading and row["entropy*"] is not None]
        if estimates:
            notes.append(f"{reading}: {meaning} ({', '.join(sorted({e.method for e in estimates}))})")
    return notes


@dataclass(frozen=True)
class _Column:
    """Values without the missing ones (a pyarrow array), and how many those were."""

    values: Any
    missing: int
    first_missing: int

    @classmethod
    def of(cls, values) -> "_Column":
        import pyarrow as pa

        if pa.types.is_float16(values.type) or pa.types.is_decimal(values.type):
            values = values.cast(pa.float64())
        if pa.types.is_null(values.type):
            return cls(values.slice(0, 0), len(values), 0)
        absent = np.asarray(values.is_null(nan_is_null=True))
        missing = int(np.count_nonzero(absent))
        if not missing:
            return cls(values, 0, -1)
        return cls(values.filter(pa.array(~absent)), missing, int(np.argmax(absent)))


def _refuse_missing(columns: dict[str, _Column], rows: int, asked: _Asked) -> None:
    holed = [(name, column) for name, column in columns.items() if column.missing]
    if holed and not asked.drop_missing:
        listed = ", ".join(f"{column.missing:,} in {name!r}" for name, column in holed[:8])
        more = f" and {len(holed) - 8} columns more" if len(holed) > 8 else ""
        name, column = holed[0]
        raise ValueError(
            f"missing values, of {rows:,}: {listed}{more} (the first in row {column.first_missing + 1} of {name!r}); "
            "pass --missing drop to leave them out"
        )


def _measure_column(name: str, column: _Column, asked: _Asked) -> dict[str, Any]:
    """One row of the table: how the values are read, their entropy and what it rests on."""
    import pyarrow as pa

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


def _reading(name: str, values, occurrences, counts: np.ndarray, asked: _Asked) -> tuple[str, str]:
    """Whether a column is read as "discrete" symbols or "numeric" samples of a density, and a remark on it."""
    import pyarrow as pa

    is_integer, is_float = pa.types.is_integer(values.type), pa.types.is_floating(values.type)
    if name in asked.discrete:
        return "discrete", ""
    if name in asked.numeric:
        if not (is_integer or is_float):
            raise ValueError(f"column {name!r} is of type {values.type}, which --numeric cannot read as numbers")
        return "numeric", ""
    if not (is_integer or is_float):
        return "discrete", _numbers_among_text(values, occurrences)
    n, distinct, most = len(values), len(counts), int(counts.max())
    if is_integer and (distinct <= _FEW_VALUES or n >= _SAMPLES_PER_VALUE * distinct):
        return "discrete", ""
    # The spacing estimator looks about sqrt(n) values aside; a value that recurs as often has no density.
    if distinct > 1 and most > isqrt(n):
        return "discrete", f"one value recurs {most:,} times, so there is no density"
    return "numeric", ""


def _numbers_among_text(values, occurrences) -> str:
    """A remark on a text column most of whose values are numbers: a stray word makes a reader of CSV take it as text."""
    import pyarrow as pa

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


# NumPy arrays


def _measure_array(path: Path, asked: _Asked) -> _Found:
    import zipfile

    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        arrays = {path.stem: loaded} if isinstance(loaded, np.ndarray) else dict(loaded.items())
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        if "allow_pickle" in str(error) or "Python objects" in str(error):
            raise ValueError("holds Python objects, which only pickle could read; save plain numbers") from None
        raise ValueError(f"cannot be read as NumPy data ({error}); it may be cut off") from None
    chosen = list(arrays) if isinstance(loaded, np.ndarray) else asked.chosen(list(arrays), "array")
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    for name in chosen:
        array = arrays[name]
        if array.size == 0 or array.ndim == 0 or array.dtype.kind not in "biufUS":
            raise ValueError(
                f"array {name!r} of shape {array.shape} and type {array.dtype} cannot be measured; "
                "a non-empty array of real numbers, booleans or strings can"
            )
        if asked.axis is not None and not -array.ndim <= asked.axis < array.ndim:
            raise ValueError(f"array {name!r} of shape {array.shape} has no axis {asked.axis}")
        if _is_probabilities(array, asked, name):
            rows.append(_measure_probabilities(name, array, asked))
            if asked.probabilities is None:
                notes.append(f"{name!r} sums to 1 along its axis, so it is read as probabilities (--samples if not)")
        else:
            rows += _measure_samples(name, array, asked)
            if asked.probabilities is None and (other := _other_axis(array)) is not None:
                notes.append(f"{name!r} sums to 1 along axis {other}; --axis {other} if these are probabilities")
    holds = f"NumPy, {len(arrays)} array{'s' * (len(arrays) > 1)}"
    return _Found(str(path), holds, rows, _methods(rows) + notes)


def _is_probabilities(array: np.ndarray, asked: _Asked, name: str) -> bool:
    if asked.probabilities is False:
        return False
    axis = -1 if asked.axis is None else asked.axis
    if asked.probabilities is None and (array.dtype.kind != "f" or array.shape[axis] < 2):
        return False
    if array.dtype.kind not in "biuf":
        raise ValueError(f"array {name!r} of type {array.dtype} holds no probabilities")
    negative = ~(array >= 0)
    sums = array.sum(axis=axis, dtype=np.float64)
    wrong = ~(np.abs(sums - 1) <= _sum_tolerance(array))
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


def _sum_tolerance(array: np.ndarray) -> float:
    """What rounding each probability to the array's precision can change in their sum, with room to spare."""
    return 1e-4 if array.dtype.itemsize > 2 else 1e-2


def _other_axis(array: np.ndarray) -> int | None:
    """An axis along which an array sums to 1 everywhere, though it was not asked for."""
    if array.dtype.kind != "f" or not (array >= 0).all():
        return None
    for axis in range(array.ndim):
        sums = array.sum(axis=axis, dtype=np.float64)
        if array.shape[axis] > 1 and (np.abs(sums - 1) <= _sum_tolerance(array)).all():
            return axis
    return None


def _measure_probabilities(name: str, array: np.ndarray, asked: _Asked) -> dict[str, Any]:
    axis = -1 if asked.axis is None else asked.axis
    p = array.astype(np.float64)
    p /= p.sum(axis=axis, keepdims=True)
    entropies = -xlogy(p, p).sum(axis=axis) / unit_of(asked.base, "measure")[0]
    return {
        "array": name,
        "shape": list(array.shape),
        "read as": f"probabilities along axis {axis}",
        "entropy*": float(entropies.mean()),
        "lowest*": float(entropies.min()),
        "highest*": float(entropies.max()),
        "n": entropies.size,
    }


def _measure_samples(name: str, array: np.ndarray, asked: _Asked) -> Iterator[dict[str, Any]]:
    import pyarrow as pa

    if asked.axis is None:
        slices = {name: array.ravel()}
    else:
        others = np.moveaxis(array, asked.axis, 0)
        if others[0].size > _MANY_SLICES:
            raise ValueError(
                f"array {name!r} of shape {array.shape} has {others[0].size:,} series along axis {asked.axis}; at most "
                f"{_MANY_SLICES:,} are listed: leave out --axis to measure all values together"
            )
        slices = {
            _slice_name(name, index, asked.axis): others[(slice(None), *index)]
            for index in np.ndindex(others.shape[1:])
        }
    columns = {
        label: _Column.of(pa.array(np.array(values, np.float64 if values.dtype == np.float16 else None)))
        for label, values in slices.items()
    }
    _refuse_missing(columns, array.size if asked.axis is None else array.shape[asked.axis], asked)
    for label, column in columns.items():
        row = _measure_column(label, column, asked)
        yield {"array": label, "shape": list(array.shape), **row}


def _slice_name(name: str, index: tuple[int, ...], axis: int) -> str:
    places = list(map(str, index))
    places.insert(axis % (len(index) + 1), ":")
    return f"{name}[{', '.join(places)}]"


# Tensors


def _measure_safetensors(path: Path, asked: _Asked) -> _Found:
    from safetensors import SafetensorError, safe_open

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
    parameters = sum(int(np.prod(header[name]["shape"])) for name in chosen)
    rows: list[dict[str, Any]] = []
    with _progress(parameters > 2_000_000) as progress:
        for name in progress.track(chosen, description=path.name):
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
    return _Found(str(path), f"safetensors, {len(chosen)} tensors, {parameters:,} values", rows, notes)


def _measure_tensor(raw: np.ndarray | None, dtype: str, shape: list[int], asked: _Asked) -> dict[str, Any]:
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
        if len(raw) == int(np.prod(shape)):
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
        of_gaussian = 0.5 * log(2 * np.pi * np.e * variance) / unit_of(asked.base, "measure")[0]
        row["below Gaussian*"] = round(of_gaussian - entropy.value, 4)
    if len(shape) == 2 and min(shape) > 1 and min(shape) ** 2 * max(shape) <= _SPECTRUM_COST:
        row["effective rank"] = _effective_rank(stored, dtype, shape)
    return row


_STORED: dict[str, Any] = {
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


def _tensor_entropy(stored: np.ndarray, dtype: str, codes: np.ndarray, std: float, asked: _Asked) -> Estimate | None:
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
        nats, unit = unit_of(asked.base, "measure")
        value = discrete_entropy(counts=counts, method="grassberger").value + float(counts @ log_width) / n
        local = log_width - np.log(counts / n)
        stderr = float(np.sqrt(counts @ (local - counts @ local / n) ** 2)) / n
        return Estimate(value / nats, stderr / nats, unit=unit, method="histogram", n=n)
    values = np.concatenate(list(_chunks(stored[:: 1 + len(stored) // _SPACING_SAMPLES], dtype))).astype(np.float64)
    values = values[values != 0]
    if len(values) < 4:
        return None
    _, recurrences = np.unique(values, return_counts=True)
    return None if recurrences.max() > isqrt(len(values)) else differential_entropy(values, base=asked.base)


# Values of a tensor that the spacing estimator sorts, evenly taken.
_SPACING_SAMPLES = 1 << 18


def _effective_rank(stored: np.ndarray, dtype: str, shape: list[int]) -> float:
    """exp of the entropy of the singular values divided by their sum (Roy and Vetterli 2007)."""
    matrix = np.concatenate(list(_chunks(stored, dtype))).astype(np.float64).reshape(shape)
    if shape[0] > shape[1]:
        matrix = matrix.T
    singular = np.sqrt(np.clip(np.linalg.eigvalsh(matrix @ matrix.T), 0, None))
    p = singular / singular.sum()
    return float(np.exp(-xlogy(p, p).sum()))


_BY_SUFFIX: "dict[str, Callable[[Path, _Asked], _Found]]" = {
    ".csv": _measure_csv,
    ".tsv": _measure_csv,
    ".parquet": _measure_parquet,
    ".pq": _measure_parquet,
    ".npy": _measure_array,
    ".npz": _measure_array,
    ".safetensors": _measure_safetensors,
}


# What the user sees


def _console() -> Console:
    # Into a pipe nothing is wrapped or cut, so that other programs read whole lines.
    return Console() if sys.stdout.isatty() else Console(width=10_000, no_color=True)


def _progress(long: bool) -> Progress:
    errors = Console(stderr=True)
    return Progress(console=errors, transient=True, disable=not (long and errors.is_terminal))


def _heading(key: str, asked: _Asked, broken: bool) -> str:
    if key.endswith("*"):
        key = f"{key[:-1]} ({asked.unit})"
    return key.replace(" ", "\n") if broken else key


def _show(console: Console, found: _Found, asked: _Asked) -> None:
    if console.is_terminal:
        _print(console, found, asked)
    else:
        with console.capture() as captured:
            _print(console, found, asked)
        print("\n".join(line.rstrip() for line in captured.get().split("\n")), end="", flush=True)


def _print(console: Console, found: _Found, asked: _Asked) -> None:
    on_terminal = console.is_terminal
    console.print(Text.assemble((_name(found.file), "bold"), ": ", found.holds))
    table = Table(
        box=box.SIMPLE_HEAD if on_terminal else None,
        padding=(0, 1, 0, 0),
        pad_edge=on_terminal,
        header_style="bold" if on_terminal else "",
        show_edge=False,
    )
    first = next(iter(found.rows[0]))
    shown = [key for key in found.rows[0] if key != "note" and any(row.get(key) is not None for row in found.rows)]
    if not any(row.get("missing") for row in found.rows):
        shown = [key for key in shown if key != "missing"]
    for key in shown:
        is_number = any(isinstance(row.get(key), int | float) for row in found.rows)
        table.add_column(
            _heading(key, asked, broken=on_terminal),
            justify="right" if is_number else "left",
            no_wrap=is_number,
            overflow="fold",
            min_width=None if is_number else min(16, max(len(_written(row.get(key))) for row in found.rows)),
            style="cyan" if key == first and on_terminal else "",
        )
    for row in found.rows:
        table.add_row(*(Text(_written(row.get(key), with_error=first != "tensor")) for key in shown))
    console.print(table)
    remarks = [(f"{row[first]}: ", row["note"]) for row in found.rows if row.get("note")]
    for name, remark in [*remarks, *(("", note) for note in found.notes)]:
        console.print(Text.assemble("" if on_terminal else "# ", (name, "cyan" if on_terminal else ""), remark))
    console.print()


def _written(value: Any, with_error: bool = True) -> str:
    # A tensor is no sample of anything, so the table leaves the standard errors of its entropies to --json.
    value = float(value) if isinstance(value, Estimate) and not with_error else value
    match value:
        case None:
            return ""
        case Estimate():
            return str(value).removesuffix(f" {value.unit}")
        case float():
            return f"{value:.5g}"
        case int():
            return f"{value:,}"
        case list():
            return "×".join(map(str, value))
        case _:
            return str(value)


def _as_json(found: _Found, asked: _Asked) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, Estimate):
            return value.to_dict()
        return value if not isinstance(value, float) or isfinite(value) else None

    rows = [{key.rstrip("*").replace(" ", "_"): plain(value) for key, value in row.items()} for row in found.rows]
    return {"file": found.file, "holds": found.holds, "unit": asked.unit, "rows": rows, "notes": found.notes}
