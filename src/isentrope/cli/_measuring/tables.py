"""Tables: CSV, TSV and Parquet files, each column read as `columns` decides."""

from itertools import count
from pathlib import Path

import pyarrow as pa
from pyarrow import csv, parquet

from isentrope.cli._measuring.columns import Column, measure_column, methods_of, refuse_missing
from isentrope.cli._measuring.exchange import Asked, Found
from isentrope.cli._measuring.pairs import measure_pairs
from isentrope.cli._measuring.rendering import progress
from isentrope.cli._measuring.series import measure_series
from isentrope.cli._measuring.transfers import measure_transfers

_OF_ARRAYS = ("--axis", "--probabilities", "--samples")


def measure_csv(path: Path, asked: Asked) -> Found:
    """Measure comma-separated values, or tab-separated ones in a .tsv; unquoted NA, null and the like are missing."""
    asked.refuse("tables", *_OF_ARRAYS)
    is_tsv = path.suffix.lower() == ".tsv"
    try:
        table = csv.read_csv(
            path,
            parse_options=csv.ParseOptions(delimiter="\t" if is_tsv else ",", newlines_in_values=True),
            convert_options=csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False),
        )
    except pa.ArrowException as error:
        raise ValueError(f"cannot be read as a table ({error})") from None
    names = _numbered(table.column_names)
    table = table.rename_columns(names).select(asked.chosen(names, "column"))
    return _measure_table(path, table, names, "TSV" if is_tsv else "CSV", asked)


def measure_parquet(path: Path, asked: Asked) -> Found:
    """Measure Parquet, of which only the chosen columns are read."""
    asked.refuse("tables", *_OF_ARRAYS)
    try:
        with parquet.ParquetFile(path, memory_map=True) as source:
            names = _numbered(source.schema_arrow.names)
            chosen = asked.chosen(names, "column")
            if names == source.schema_arrow.names:
                table = source.read(columns=chosen)
            else:
                table = source.read().rename_columns(names).select(chosen)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"cannot be read as Parquet ({error}); it may be cut off") from None
    return _measure_table(path, table, names, "Parquet", asked)


def _numbered(names: list[str]) -> list[str]:
    """The names of all columns, each once: a repeated x becomes x (2), or the next number that no column has."""
    taken, numbered = set(names), dict[str, None]()
    for name in names:
        if name in numbered:
            name = next(other for k in count(2) if (other := f"{name} ({k})") not in taken)
            taken.add(name)
        numbered[name] = None
    return list(numbered)


def _measure_table(path: Path, table: pa.Table, names: list[str], kind: str, asked: Asked) -> Found:
    """Measure the columns of a table that were chosen of those that the file names."""
    if table.num_rows == 0:
        raise ValueError(f"has {len(names)} columns but no rows; there is nothing to measure")
    columns = {name: Column.of(table.column(name)) for name in table.column_names}
    refuse_missing(columns, table.num_rows, asked)
    holds = f"{kind} table, {table.num_rows:,} rows and {len(names):,} columns"
    if asked.pairs:
        return measure_pairs(holds, columns, table.num_rows, asked)
    if asked.transfer:
        return measure_transfers(holds, columns, table.num_rows, asked)
    if asked.series:
        return measure_series(holds, columns, table.num_rows, asked)
    with progress(table.num_rows * len(columns) > 10_000_000) as bar:
        rows = [
            {"column": name, **measure_column(name, column, asked)}
            for name, column in bar.track(columns.items(), description=str(path), total=len(columns))
        ]
    return Found(holds, rows, methods_of(rows))
