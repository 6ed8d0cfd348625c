"""Higher-order information of more n-plets than memory holds, written to Parquet files as it is computed."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from math import comb
from pathlib import Path
from typing import Any

from isentrope.measures._n_plets import prepare
from isentrope.measures.estimate import unit_of
from isentrope.measures.higher_order import HigherOrderInformation

_METADATA = b"isentrope"


def write_higher_order_information(
    folder: str | Path,
    variables: Any,
    *,
    orders: int | tuple[int, int] | None = None,
    method: str = "gaussian_copula",
    k: int = 4,
    base: float | None = None,
    n_jobs: int = 1,
) -> list[Path]:
    """Write what `higher_order_information` computes to a folder, one Parquet file an order, in batches of a million n-plets.

    A file gets its name when it is whole, so that an interrupted run goes on where it was when it is started again: orders
    whose files are there, and were made from the same samples in the same way, are not computed again. The columns are those
    of `HigherOrderInformation.to_table`; any Parquet reader finds the extremes without reading the rest into memory. On a
    terminal the progress is shown.

    Args:
        folder: where the files ``order_3.parquet``, ``order_4.parquet``, ... go; made if it is not there.
        variables: as in `higher_order_information`.
        orders: likewise.
        method: likewise.
        k: likewise.
        base: likewise.
        n_jobs: likewise.

    Returns:
        The files, in rising order.

    Raises:
        ValueError: as `higher_order_information` does, or if the folder holds files of other samples or another method.
        TypeError: as `higher_order_information` does.

    References:
        Rosas, Mediano, Gastpar and Jensen, "Quantifying high-order interdependencies via multivariate extensions of the
        mutual information" (arXiv 1902.11239).

    Examples:
        >>> import tempfile
        >>> import numpy as np
        >>> from pyarrow import parquet
        >>> samples = np.random.default_rng(0).normal(size=(100, 6))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     files = write_higher_order_information(folder, samples, orders=(3, 4))
        ...     [file.name for file in files], [parquet.read_table(file).num_rows for file in files]
        (['order_3.parquet', 'order_4.parquet'], [20, 15])
    """
    # Imported here, with pyarrow, so that importing the measures stays fast.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    where = "write_higher_order_information"
    nats, unit = unit_of(base, where)
    walk = prepare(where, variables, orders, method, k, n_jobs)
    origin = {
        "samples": hashlib.sha256(walk.data.tobytes()).hexdigest(),
        "labels": list(walk.labels),
        "n": walk.n,
        "method": method,
        "k": k if method == "ksg" else None,
        "unit": unit,
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = {order: folder / f"order_{order}.parquet" for order in walk.orders}
    missing = [order for order, path in files.items() if not _is_done(where, path, origin)]
    if not missing:
        return list(files.values())
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    errors = Console(stderr=True)
    batches = walk.batches(missing)
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        for order in missing:
            count, written, writer = comb(len(walk.labels), order), 0, None
            task = progress.add_task(f"n-plets of {order}", total=count)
            with _replacing(files[order]) as partial:
                # Counted, so that a file is whole before the next order is begun.
                while written < count:
                    batch = next(batches)
                    values = batch.members, batch.total / nats, batch.dual / nats
                    stderr = None if batch.stderr is None else batch.stderr / nats
                    found = HigherOrderInformation(*values, unit, method, walk.n, walk.labels, stderr=stderr)
                    writer = _append(writer, partial, found, origin)
                    written += len(found)
                    progress.update(task, completed=written)
                if writer is not None:
                    writer.close()
    return list(files.values())


def _is_done(where: str, path: Path, origin: dict[str, Any]) -> bool:
    from pyarrow import parquet

    if not path.exists():
        return False
    metadata = parquet.read_schema(path).metadata or {}
    if json.loads(metadata.get(_METADATA, b"{}")) != origin:
        raise ValueError(
            f"{where}: {path} is of other samples, another method or another unit; remove it, or choose another folder"
        )
    return True


def _append(writer: Any, path: Path, found: HigherOrderInformation, origin: dict[str, Any]) -> Any:
    """Write a table, and make the writer with the first one."""
    from pyarrow import parquet

    table = found.to_table()
    table = table.replace_schema_metadata({_METADATA: json.dumps(origin)})
    if writer is None:
        writer = parquet.ParquetWriter(path, table.schema, compression="zstd")
    writer.write_table(table)
    return writer


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of the file once all is written, and is removed where that fails."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
