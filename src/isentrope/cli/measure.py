"""``isentrope measure``: the entropy of what files hold."""

import json
from typing import Annotated, Literal

from cyclopts import Parameter

from isentrope.cli._measuring.exchange import Asked
from isentrope.cli._measuring.files import measure_file
from isentrope.cli._measuring.rendering import as_json, console, display_name, show


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
        discrete: a column of a table or an array to read as symbols, whatever its type. May be given again.
        numeric: a column of a table or an array to read as samples of a density, whatever its type. May be given again.
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
    asked = Asked(
        base={"2": 2.0, "e": None, "10": 10.0}[base],
        columns=column or [],
        discrete=discrete or [],
        numeric=numeric or [],
        drop_missing=missing == "drop",
        axis=axis,
        probabilities=probabilities,
    )
    screen = console()
    failures: list[str] = []
    for file in files:
        try:
            found = measure_file(file, asked)
        except (ValueError, OSError) as error:
            failures.append(f"{display_name(file)}: {_explain(error)}")
            if json_lines:
                print(json.dumps({"file": file, "error": _explain(error)}, ensure_ascii=False), flush=True)
            continue
        if json_lines:
            print(json.dumps(as_json(file, found, asked.unit), ensure_ascii=False, allow_nan=False), flush=True)
        else:
            show(screen, file, found, asked.unit)
    if failures:
        several = f"{len(failures)} of {len(files)} files: " if len(failures) > 1 else ""
        raise ValueError(several + "; ".join(failures))


def _explain(error: Exception) -> str:
    return " ".join((error.strerror if isinstance(error, OSError) and error.strerror else str(error)).split())
