"""Tables: CSV, TSV and Parquet, each column as `columns` reads it.
"""

from pathlib import Path

import pyarrow as pa
from pyarrow import csv, parquet


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
