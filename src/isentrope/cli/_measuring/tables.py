"""Tables: CSV, TSV and Parquet files, each column read as `columns` decides."""

from pathlib import Path

import pyarrow as pa
from pyarrow import csv, parquet

from isentrope.cli._measuring.columns import Column, measure_column, methods_of, refuse_missing
from isentrope.cli._measuring.exchange import Asked, Found
from isentrope.cli._measuring.rendering import progress


_OF_ARRAYS = ("--axis", "--probabilities", "--samples")

def measure_csv(path: Path, asked: Asked) -> Found:
    """Measure comma-separated values, or tab-separated ones in a .tsv; unquoted NA, null and the like are missing."""
    is_tsv = path.suffix.lower() == ".tsv"
    asked.refuse("tables", *_OF_ARRAYS)
    try:
        table = csv.read_csv(
            path,
            parse_options=csv.ParseOptions(delimiter="\t" if is_tsv else ",", newlines_in_values=True),
            convert_options=csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False),
        )
    except pa.ArrowException as error:
        raise ValueError(f"cannot be read as a table ({error})") from None
    return _measure_table(path, table, "TSV" if is_tsv else "CSV", asked)


def measure_parquet(path: Path, asked: Asked) -> Found:
    """Measure Parquet, of which only the chosen columns are read."""
    try:
        with parquet.ParquetFile(path, memory_map=True) as source:
            table = source.read(columns=asked.chosen(source.schema_arrow.names, "column"))
    asked.refuse("tables", *_OF_ARRAYS)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"cannot be read as Parquet ({error}); it may be cut off") from None
    return _measure_table(path, table, "Parquet", asked)


def _measure_table(path: Path, table: pa.Table, kind: str, asked: Asked) -> Found:
    chosen = asked.chosen(table.column_names, "column")
    if table.num_rows == 0:
        raise ValueError(f"has {table.num_columns} columns but no rows; there is nothing to measure")
    columns = {name: Column.of(table.column(index)) for index, name in enumerate(table.column_names) if name in chosen}
    refuse_missing(columns, table.num_rows, asked)
    with progress(table.num_rows * len(columns) > 10_000_000) as bar:
        rows = [
            {"column": name, **measure_column(name, column, asked)}
            for name, column in bar.track(columns.items(), description=str(path), total=len(columns))
        ]
    holds = f"{kind} table, {table.num_rows:,} rows and {table.num_columns:,} columns"
    return Found(str(path), holds, rows, methods_of(rows))
