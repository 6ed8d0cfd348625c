"""Labelled data as columns with names: frames of pandas, polars, pyarrow and xarray, known by what they can do.

None of these libraries is imported, nor needed. A table has samples as rows and variables as columns.
"""

from typing import Any, NamedTuple

import numpy as np
from array_api_compat import is_torch_array


class Table(NamedTuple):
    """Columns, each of n values, and their names."""

    columns: list[np.ndarray]
    labels: tuple[str, ...]


def table_of(where: str, argument: str, data: Any) -> Table | None:
    """The columns of a labelled table; None of data that are no such table."""
    if hasattr(data, "data_vars"):  # xarray.Dataset
        names, columns = list(data.data_vars), [data[name] for name in data.data_vars]
    elif hasattr(data, "dims") and hasattr(data, "coords"):  # xarray.DataArray
        if data.ndim != 2:
            return None
        second = data.dims[1]
        names = data.coords[second].to_numpy().tolist() if second in data.coords else list(range(data.shape[1]))
        columns = list(np.asarray(data).T)
    elif hasattr(data, "column_names"):  # pyarrow.Table
        names, columns = list(data.column_names), [data[name] for name in data.column_names]
    elif hasattr(data, "columns"):  # pandas.DataFrame, polars.DataFrame
        names = list(data.columns)
        _check_names(where, argument, names)
        columns = [data[name] for name in names]
    else:
        return None
    _check_names(where, argument, names)
    if not columns:
        raise ValueError(f"{where}: {argument} has no columns")
    table = Table([values_of(column) for column in columns], tuple(map(str, names)))
    for label, column in zip(table.labels, table.columns, strict=True):
        if column.ndim != 1:
            raise ValueError(f"{where}: column {label} of {argument} has shape {column.shape}; columns must be vectors")
    return table


def without_mask(data: Any) -> Any:
    """What a masked array hides becomes a missing value, which a conversion to an array would uncover; other data stay."""
    if not isinstance(data, np.ma.MaskedArray):
        return data
    if not np.ma.is_masked(data):
        return data.data
    numbers = data.dtype.kind in "fiub"
    values = data.data.astype(np.float64 if numbers else object)
    values[np.ma.getmaskarray(data)] = np.nan if numbers else None
    return values


def values_of(data: Any) -> np.ndarray:
    """The values of an array, a tensor on any device, a series or a list."""
    data = without_mask(data)
    if is_torch_array(data):
        held = data.detach().cpu()
        return (held.float() if str(held.dtype) == "torch.bfloat16" else held).numpy()
    # An array of pyarrow (with to_pylist) has to_numpy for what needs no copy; NumPy reads all of them.
    labelled = hasattr(data, "to_numpy") and not hasattr(data, "to_pylist")
    values = np.asarray(data.to_numpy() if labelled else data)
    if str(getattr(data, "dtype", "")) == "category":
        # The categories of pandas may be numbers, and are symbols all the same.
        values = values.astype(object)
    if values.dtype == object and hasattr(data, "isna"):
        # A comparison with pandas' NA has no truth value; one with None has.
        values = values.copy()
        values[np.asarray(data.isna())] = None
    return values


def array_of(where: str, argument: str, data: Any) -> np.ndarray:
    """The array that a labelled series, array or frame holds."""
    values = values_of(data)
    # Columns of pandas that may have missing values are numbers one by one, but objects together.
    if values.dtype == object and (table := table_of(where, argument, data)) is not None:
        values = np.stack(table.columns, axis=1)
    return values


def _check_names(where: str, argument: str, names: list) -> None:
    repeated = sorted({str(name) for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"{where}: {argument} has several columns named {', '.join(repeated)}; rename them first")
