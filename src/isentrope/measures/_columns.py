"""Several variables as columns of numbers, for estimators that take them all together."""

from typing import Any

import numpy as np

from isentrope.measures._frames import Table, table_of, values_of


def columns_of_variables(where: str, variables: Any) -> Table:
    """The columns of an array ``[n, d]``, a labelled table, or a list or tuple of d variables of n values."""
    if (table := table_of(where, "variables", variables)) is not None:
        return table
    if isinstance(variables, list | tuple):
        # Sequences of symbols stay what they are: an array would make strings of numbers beside strings.
        columns: list[Any] = [v if isinstance(v, str | bytes | list | tuple) else values_of(v) for v in variables]
    else:
        array = values_of(variables)
        if array.ndim != 2:
            raise ValueError(
                f"{where}: variables must be an array [n, d] or a list of variables (got shape {array.shape})"
            )
        columns = list(array.T)
    return Table(columns, tuple(map(str, range(len(columns)))))


def numbers_of_variables(where: str, variables: Any) -> tuple[np.ndarray, tuple[str, ...]]:
    """Finite real numbers ``[n, d]``, and the names of the columns."""
    columns, labels = columns_of_variables(where, variables)
    if len(columns) < 2:
        raise ValueError(f"{where}: at least 2 variables are needed (got {len(columns)})")
    columns = list(map(np.asarray, columns))
    for label, column in zip(labels, columns, strict=True):
        if column.ndim != 1 or len(column) != len(columns[0]):
            raise ValueError(
                f"{where}: variables must be vectors of the same length "
                f"(variable {labels[0]} has shape {columns[0].shape}, {label} has {column.shape})"
            )
        if column.dtype.kind not in "fiub":
            raise TypeError(f"{where}: variable {label} must hold real numbers (got dtype {column.dtype})")
        if not np.isfinite(column).all():
            wrong = int(np.count_nonzero(~np.isfinite(column)))
            raise ValueError(
                f"{where}: {wrong} of {len(column)} samples of variable {label} are NaN or infinite; drop them first"
            )
    if len(columns[0]) == 0:
        raise ValueError(f"{where}: there are no samples; at least one is needed")
    return np.stack([column.astype(np.float64) for column in columns], axis=1), labels


def standardized(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns centred and divided by their standard deviation, and whether each varies; a constant becomes 0."""
    # Taken from a value of its own, then divided by the largest: the mean of equal values is not exact, and the square of
    # 1e-200 is zero.
    centred = matrix - matrix[0]
    largest = np.abs(centred).max(axis=0)
    varying = largest > 0
    centred /= np.where(varying, largest, 1.0)
    centred -= centred.mean(axis=0)
    deviation = np.sqrt(np.mean(centred**2, axis=0))
    return centred / np.where(varying, deviation, 1.0), varying


def correlations(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlations of the columns, 0 for a constant with others, and whether each varies."""
    columns, varying = standardized(matrix)
    correlation = columns.T @ columns / len(columns)
    np.fill_diagonal(correlation, 1.0)
    return correlation, varying
