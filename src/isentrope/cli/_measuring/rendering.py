"""What the user sees: tables on a terminal, plain columns in a pipe, JSON, and a bar while a long file is read."""

import sys
from math import isfinite
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from isentrope.cli._measuring.exchange import Found
from isentrope.measures import Estimate

# Remarks on single rows that are printed; a table of all pairs may have hundreds. One that recurs more often than
# `_REPEATED` is printed once.
_MOST_REMARKS, _REPEATED = 20, 3
# Names are wrapped where a table is too wide, but not below this; then columns are left out, in this order.
_NARROWEST, _DISPENSABLE = 12, ("type", "read as", "shape")


def console() -> Console:
    """Where tables are printed."""
    # Into a pipe nothing is wrapped or cut, so that other programs read whole lines.
    return Console() if sys.stdout.isatty() else Console(width=10_000, no_color=True)


def progress(long: bool) -> Progress:
    """A bar on standard error, if the work is long and someone looks."""
    errors = Console(stderr=True)
    return Progress(console=errors, transient=True, disable=not (long and errors.is_terminal))


def display_name(file: str) -> str:
    """What a file is called on the screen."""
    return "standard input" if file == "-" else file


def _heading(key: str, unit: str, broken: bool) -> str:
    if key.endswith("*"):
        key = f"{key[:-1]} ({unit})"
    return key.replace(" ", "\n") if broken else key


def show(console: Console, file: str, found: Found, unit: str) -> None:
    """Print what a file holds; ``unit`` is that of its entropies."""
    if console.is_terminal:
        _print(console, file, found, unit)
    else:
        with console.capture() as captured:
            _print(console, file, found, unit)
        print("\n".join(line.rstrip() for line in captured.get().split("\n")), end="", flush=True)


def _print(console: Console, file: str, found: Found, unit: str) -> None:
    on_terminal = console.is_terminal
    console.print(Text.assemble((display_name(file), "bold"), ": ", found.holds))
    table = Table(
        box=box.SIMPLE_HEAD if on_terminal else None,
        padding=0 if on_terminal else (0, 1, 0, 0),
        pad_edge=False,
        header_style="bold" if on_terminal else "",
        show_edge=False,
    )
    names = list(found.rows[0])[: found.keys]
    # Of pairs those without a value are told in remarks alone.
    listed = [row for row in found.rows if found.keys == 1 or _has_value(row)]
    shown = [key for key in found.rows[0] if key != "note" and any(row.get(key) is not None for row in listed)]
    if not any(row.get("missing") for row in found.rows):
        shown = [key for key in shown if key != "missing"]
    written = [[_written(row.get(key), with_error="tensor" not in names) for key in shown] for row in listed]
    left_out = _left_out(shown, names, written, unit, console.width) if on_terminal else []
    written = [[text for key, text in zip(shown, texts, strict=True) if key not in left_out] for texts in written]
    shown = [key for key in shown if key not in left_out]
    for key in shown:
        is_number = any(isinstance(row.get(key), int | float) for row in found.rows)
        table.add_column(
            _heading(key, unit, broken=on_terminal),
            justify="right" if is_number else "left",
            no_wrap=key not in names,
            overflow="fold",
            style="cyan" if key in names and on_terminal else "",
        )
    for texts in written:
        table.add_row(*map(Text, texts))
    if shown:
        console.print(table)
    said: dict[str, list[str]] = {}
    for row in found.rows:
        if row.get("note"):
            said.setdefault(row["note"], []).append(" and ".join(str(row[key]) for key in names))
    remarks = [
        (f"{label}: ", note)
        for note, labels in said.items()
        for label in (
            labels if len(labels) <= _REPEATED else [f"{len(labels)} {'pairs' if found.keys == 2 else 'rows'}"]
        )
    ]
    if len(remarks) > _MOST_REMARKS:
        remarks = [*remarks[:_MOST_REMARKS], (f"{len(remarks) - _MOST_REMARKS} remarks more: ", "see --json")]
    if left_out:
        remarks.append(("left out for want of width: ", f"{' and '.join(left_out)} (--json has all)"))
    for name, remark in [*remarks, *(("", note) for note in found.notes)]:
        console.print(Text.assemble("" if on_terminal else "# ", (name, "cyan" if on_terminal else ""), remark))
    console.print()


def _has_value(row: dict[str, Any]) -> bool:
    return any(value is not None for key, value in row.items() if key.endswith("*"))


def _left_out(shown: list[str], names: list[str], written: list[list[str]], unit: str, width: int) -> list[str]:
    """The columns to be left out so that the others fit, names wrapped if need be."""
    widths = {
        key: max([*map(len, _heading(key, unit, broken=True).split("\n")), *(len(texts[place]) for texts in written)])
        for place, key in enumerate(shown)
    }
    widths |= {key: min(widths[key], _NARROWEST) for key in names if key in widths}
    left_out: list[str] = []
    for key in _DISPENSABLE:
        kept = [size for other, size in widths.items() if other not in left_out]
        # One place between two columns, and one at the edges that the frame has.
        if sum(kept) + len(kept) + 1 <= width:
            break
        left_out += [key] * (key in shown)
    return left_out


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


def as_json(file: str, found: Found, unit: str) -> dict[str, Any]:
    """What a file holds in plain values; a number that is not finite becomes None."""

    def plain(value: Any) -> Any:
        if isinstance(value, Estimate):
            return value.to_dict()
        return value if not isinstance(value, float) or isfinite(value) else None

    rows = [{key.rstrip("*").replace(" ", "_"): plain(value) for key, value in row.items()} for row in found.rows]
    return {"file": file, "holds": found.holds, "unit": unit, "rows": rows, "notes": found.notes}
