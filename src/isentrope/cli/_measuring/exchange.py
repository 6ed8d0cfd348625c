"""What a reader of files is asked, and what it gives back."""

from dataclasses import dataclass, field, replace
from typing import Any

from isentrope.measures import InformationMatrix, TransferEntropyMatrix
from isentrope.measures.estimate import unit_of


@dataclass(frozen=True)
class Asked:
    """What the user wants to know of a file, and how it is to be read.

    ``probabilities`` is None where the file decides, and ``axis`` where it was not named. ``shuffles`` is 0 where no test
    was asked for, and ``lag`` None where it was not named.
    """

    base: float | None
    columns: list[str]
    discrete: list[str]
    numeric: list[str]
    drop_missing: bool
    axis: int | None
    probabilities: bool | None
    pairs: bool = False
    series: bool = False
    shuffles: int = 0
    most_rows: int = 0
    lag: int | None = None
    transfer: bool = False
    neighbours: bool = False
    history: int = 1

    @property
    def nats(self) -> float:
        """Nats in one unit."""
        return unit_of(self.base, "measure")[0]

    @property
    def unit(self) -> str:
        """Name of the unit."""
        return unit_of(self.base, "measure")[1]

    def refuse(self, kind: str, *options: str) -> None:
        """Stop at an option that was given and does not apply to a kind of file."""
        given = {
            "--column": bool(self.columns),
            "--discrete": bool(self.discrete),
            "--numeric": bool(self.numeric),
            "--missing": self.drop_missing,
            "--axis": self.axis is not None,
            "--probabilities": self.probabilities is True,
            "--samples": self.probabilities is False,
            "--pairs": self.pairs,
            "--series": self.series,
        }
        if wrong := [option for option in options if given[option]]:
            raise ValueError(f"{wrong[0]} does not apply to {kind}")

    def chosen(self, names: list[str], what: str) -> list[str]:
        """The names that were asked for, or all; one that is not there is an error."""
        for name in [*self.columns, *self.discrete, *self.numeric]:
            if name not in names:
                raise ValueError(f"no {what} {name!r}; there are {', '.join(map(repr, names[:20]))}")
        return [name for name in names if not self.columns or name in self.columns]


@dataclass(frozen=True)
class Found:
    """What a file holds: a sentence, rows of named values, and remarks.

    A heading that ends in a star is an entropy and gets the unit; its star is not shown. The first ``keys`` values of a
    row name it. Of pairs and of transfers there is also the matrix, to be drawn.
    """

    holds: str
    rows: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)
    keys: int = 1
    matrix: InformationMatrix | TransferEntropyMatrix | None = None

    def first(self, most: int) -> "Found":
        """The same with no more than so many rows."""
        if len(self.rows) <= most:
            return self
        return replace(
            self, rows=self.rows[:most], notes=[*self.notes, f"{len(self.rows) - most:,} pairs more (--top)"]
        )
