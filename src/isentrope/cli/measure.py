"""``isentrope measure``: the entropy of what files hold."""

import json
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from isentrope.cli._measuring.exchange import Asked
from isentrope.cli._measuring.files import measure_file
from isentrope.cli._measuring.rendering import as_json, console, display_name, show
from isentrope.measures import InformationMatrix, TransferEntropyMatrix

# Pairs that a terminal lists unless it is told otherwise.
_ON_TERMINAL = 40
# Twenty thousand rows take neighbours a tenth of a second a pair and leave a standard error of a hundredth of a nat.
_ROWS, _SHUFFLES = 20_000, 199
# Ordered pairs are twice as many, and their neighbours lie in more dimensions.
_SUCCESSIVE_ROWS = 5_000
_FLAG = Parameter(negative="", show_default=False)
_PICTURES = (".html", ".png", ".svg", ".pdf")


def measure(
    *files: Annotated[str, Parameter(allow_leading_hyphen=True)],
    base: Literal["2", "e", "10"] = "2",
    column: Annotated[list[str] | None, Parameter(negative="")] = None,
    discrete: Annotated[list[str] | None, Parameter(negative="")] = None,
    numeric: Annotated[list[str] | None, Parameter(negative="")] = None,
    missing: Literal["error", "drop"] = "error",
    axis: int | None = None,
    probabilities: Annotated[bool | None, Parameter(negative="--samples")] = None,
    pairs: Annotated[bool, _FLAG] = False,
    test: Annotated[bool, _FLAG] = False,
    shuffles: int | None = None,
    rows: int | None = None,
    top: int | None = None,
    plot: Path | None = None,
    series: Annotated[bool, _FLAG] = False,
    lag: int | None = None,
    transfer: Annotated[bool, _FLAG] = False,
    history: int | None = None,
    neighbours: Annotated[bool, _FLAG] = False,
    json_lines: Annotated[bool, _FLAG, Parameter(name="--json")] = False,
) -> None:
    """Measure the entropy of what files hold.

    - **Text**: per character and per byte, alone and given the symbols before, beside what real compressors reach.
    - **CSV, TSV, Parquet**: each column. Text, booleans and integers with few values are read as symbols (discrete
      entropy), other numbers as samples of a density (differential entropy); the table says which.
    - **.npy, .npz**: probabilities where they are non-negative and sum to 1 along the axis, otherwise samples.
    - **.safetensors**: each tensor, read one at a time.
    - Anything else: its bytes. A single ``-`` reads standard input.

    With ``--pairs`` it is the mutual information of every two columns, the largest first. With ``--series`` the columns
    are series, and what counts is the order of their values; with ``--transfer`` it is what the past of each tells of
    the next value of every other.

    Estimates carry their standard error. On a terminal this prints tables, into a pipe plain columns.

    **Examples**

    ```
    isentrope measure book.txt
    isentrope measure table.csv --column age --column city --missing drop
    isentrope measure table.csv --pairs --test --plot information.html
    isentrope measure recording.npy --series --axis 1
    isentrope measure recording.npy --transfer --axis 1 --plot transfer.png
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
        pairs: measure the mutual information of all pairs of columns of a table or arrays.
        test: with --pairs or --transfer, test each pair against shuffles of one column (of series, shifts in time): a
            p-value, and a false discovery rate.
        shuffles: with --test, most shuffles (199 by default); a test ends early where the value is clearly not unusual.
        rows: with --pairs, most rows that pairs with numbers are measured on (20,000 by default); of more, so many are
            drawn at random. With --transfer, most successive rows that neighbours are sought in (5,000 by default).
        top: with --pairs or --transfer, how many of the pairs are listed; all without it, but 40 on a terminal.
        plot: with --pairs or --transfer, a file for the heat map: .html, .png, .svg or .pdf.
        series: measure the columns of a table or arrays as series.
        lag: with --series, steps between the values of a window; with --transfer, between a target's value and the last
            of its source that counts (1 by default).
        transfer: measure the transfer entropy from every column to every other, as series.
        history: with --transfer, how many past values of source and target count (1 by default).
        neighbours: with --transfer, find dependence of any kind, by nearest neighbours and a pair at a time; without,
            numbers are read by the correlations of their ranks, at once.
        json_lines: print one JSON object for each file, with standard errors and units.
    """
    if not files:
        raise ValueError("measure: name at least one file, or - for standard input")
    # The lone - has to pass as a file, so options that do not exist arrive here as well.
    if unknown := [file for file in files if file.startswith("-") and file != "-"]:
        raise ValueError(
            f"measure: no option {unknown[0]}; isentrope measure --help lists them (a file: ./{unknown[0]})"
        )
    series = series or transfer
    _check(pairs, test, shuffles, rows, top, plot, series, lag, transfer, history, neighbours, len(files))
    asked = Asked(
        base={"2": 2.0, "e": None, "10": 10.0}[base],
        columns=column or [],
        discrete=discrete or [],
        numeric=numeric or [],
        drop_missing=missing == "drop",
        axis=axis,
        probabilities=probabilities,
        pairs=pairs,
        series=series,
        shuffles=(shuffles or _SHUFFLES) if test else 0,
        most_rows=rows or (_SUCCESSIVE_ROWS if transfer else _ROWS),
        lag=lag,
        transfer=transfer,
        neighbours=neighbours,
        history=history or 1,
    )
    screen = console()
    failures: list[str] = []
    for file in files:
        try:
            found = measure_file(file, asked)
            if plot is not None and found.matrix is not None:
                _draw(file, found.matrix, plot)
        except (ValueError, OSError) as error:
            failures.append(f"{display_name(file)}: {_explain(error)}")
            if json_lines:
                print(json.dumps({"file": file, "error": _explain(error)}, ensure_ascii=False), flush=True)
            continue
        if (pairs or transfer) and (top is not None or (screen.is_terminal and not json_lines)):
            found = found.first(top or _ON_TERMINAL)
        if json_lines:
            print(json.dumps(as_json(file, found, asked.unit), ensure_ascii=False, allow_nan=False), flush=True)
        else:
            show(screen, file, found, asked.unit)
    if failures:
        several = f"{len(failures)} of {len(files)} files: " if len(failures) > 1 else ""
        raise ValueError(several + "; ".join(failures))


def _check(
    pairs: bool,
    test: bool,
    shuffles: int | None,
    rows: int | None,
    top: int | None,
    plot: Path | None,
    series: bool,
    lag: int | None,
    transfer: bool,
    history: int | None,
    neighbours: bool,
    files: int,
) -> None:
    if pairs and series:
        which = "--transfer" if transfer else "--series"
        raise ValueError(f"measure: --pairs and {which} ask for different things; choose one")
    of_pairs = {"--test": test or None, "--plot": plot, "--top": top, "--rows": rows}
    if given := [name for name, value in of_pairs.items() if value is not None and not (pairs or transfer)]:
        raise ValueError(f"measure: {given[0]} goes with --pairs or --transfer")
    of_transfers = {"--history": history, "--neighbours": neighbours or None}
    if given := [name for name, value in of_transfers.items() if value is not None and not transfer]:
        raise ValueError(f"measure: {given[0]} goes with --transfer")
    if shuffles is not None and not test:
        raise ValueError("measure: --shuffles goes with --test")
    if lag is not None and not series:
        raise ValueError("measure: --lag goes with --series")
    numbers = ("shuffles", shuffles, 1), ("rows", rows, 100), ("top", top, 1), ("lag", lag, 1), ("history", history, 1)
    for name, value, least in numbers:
        if value is not None and value < least:
            raise ValueError(f"measure: --{name} must be at least {least} (got {value})")
    if plot is not None:
        if files > 1:
            raise ValueError("measure: --plot draws one file; measure the others by themselves")
        if plot.suffix.lower() not in _PICTURES:
            raise ValueError(f"measure: --plot {plot} must end in {', '.join(_PICTURES)}")
        if not plot.parent.is_dir():
            raise ValueError(f"measure: --plot {plot}: there is no folder {plot.parent}")


def _draw(file: str, matrix: InformationMatrix | TransferEntropyMatrix, path: Path) -> None:
    # Matplotlib takes a second to import.
    from isentrope.report import write_information

    between = "mutual information of" if isinstance(matrix, InformationMatrix) else "transfer entropy between"
    write_information(matrix, path, title=f"{Path(display_name(file)).name}: {between} its columns")


def _explain(error: Exception) -> str:
    return " ".join((error.strerror if isinstance(error, OSError) and error.strerror else str(error)).split())
