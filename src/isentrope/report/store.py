"""The run store: everything one training run leaves behind, in one folder of plain files.

::

    runs/20261122-004512-grpo-s0/
        config.json        what was asked for
        metrics.parquet    one row a step, one float64 column a metric, null where a step did not measure it
        samples.jsonl      completions with the entropy of each token, one a line
        diagnosis.json     what the entropy did and why: sentences and the numbers behind them
        summary.json       the final numbers
        checkpoints/       written by the trainer
        report.html        written by `isentrope.report.write_report`

Rows and samples are held in memory and written by `RunStore.flush`, each file to a temporary name which then replaces
the earlier one, so that a crash or a full disk never leaves half a file.
"""

import errno
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float64

import isentrope
from isentrope._files import write_atomically

__all__ = ["RunStore", "list_runs"]

_CONFIG, _METRICS, _SAMPLES = "config.json", "metrics.parquet", "samples.jsonl"
_DIAGNOSIS, _SUMMARY = "diagnosis.json", "summary.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=-]*")


class RunStore:
    """One run's folder: its configuration, its metrics step by step, its samples and its conclusions.

    Make one with `RunStore.create` or `RunStore.open`. The folder of a run that is still going can be opened and read.

    Attributes:
        path: the run's folder.

    Examples:
        >>> import tempfile
        >>> root = tempfile.mkdtemp()
        >>> run = RunStore.create(root, "grpo-s0", {"recipe": "grpo", "seed": 0})
        >>> run.append({"step": 0, "entropy": 1.25, "reward": 0.1})
        >>> run.append({"step": 1, "entropy": 1.125, "pass@1": 0.3})
        >>> run.flush()
        >>> RunStore.open(run.path).metrics()["pass@1"]
        array([nan, 0.3])
    """

    path: Path

    def __init__(self, path: Path, config: dict[str, Any]):
        self.path = path
        self._config = config
        self._columns: dict[str, list[float | None]] = {"step": []}
        self._samples: list[dict[str, Any]] = []
        self._metrics_changed = False
        self._samples_changed = False

    @classmethod
    def create(cls, root: str | os.PathLike[str], name: str, config: Mapping[str, Any]) -> Self:
        """Make a new run folder under `root`, named after the time and `name`, and write its configuration.

        The keys `id`, `name`, `created` (local time with its offset) and `version` are filled in.

        Args:
            root: the folder of runs; made where missing.
            name: letters, digits and ``. _ + = -``, such as ``"grpo-s0"``.
            config: what JSON can hold (NumPy numbers and arrays and paths are converted).

        Returns:
            The empty run.

        Raises:
            ValueError: `name` cannot be a part of a folder's name.
            TypeError: `config` holds something JSON cannot.
            OSError: the folder cannot be made or written.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"name: must be letters, digits and . _ + = - , starting with a letter or digit; got {name!r}"
            )
        now = datetime.now().astimezone()
        stem = f"{now:%Y%m%d-%H%M%S}-{name}"
        plain = _plain(config, "config")
        root = Path(root)
        root.mkdir(parents=True, exist_ok=True)
        path, count = root / stem, 1
        while True:
            try:
                path.mkdir()
                break
            except FileExistsError:
                count += 1
                path = root / f"{stem}-{count}"
        own = {"id": path.name, "name": name, "created": now.isoformat(timespec="seconds")}
        run = cls(path, {})
        run.write_json("config", {**own, "version": isentrope.__version__, **plain, **own})
        return run

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open an existing run, finished or not.

        Args:
            path: the run's folder.

        Returns:
            The run, with what had been flushed.

        Raises:
            FileNotFoundError: there is no such folder.
            ValueError: the folder is not a run's, or one of its files is damaged (named in the message).
        """
        path = Path(path)
        if not path.is_dir():
            raise FileNotFoundError(errno.ENOENT, "no such run folder", str(path))
        if not (path / _CONFIG).is_file():
            inside = list_runs(path)
            hint = f"; it holds {len(inside)} runs, such as {inside[-1]}" if inside else ""
            raise ValueError(f"{path}: not a run folder (it has no {_CONFIG}){hint}")
        run = cls(path, _read_json(path / _CONFIG))
        run._columns = _read_metrics(path / _METRICS)
        run._samples = _read_samples(path / _SAMPLES)
        return run

    @property
    def id(self) -> str:
        """The run's identifier: the name of its folder when it was made."""
        return self._config.get("id", self.path.name)

    @property
    def config(self) -> dict[str, Any]:
        """What was asked for."""
        return self._config

    @property
    def papers(self) -> tuple[str, ...]:
        """The catalog keys of the papers the run used, so that `isentrope.cite` takes a run."""
        return tuple(self._config.get("papers", ()))

    @property
    def diagnosis(self) -> dict[str, Any]:
        """``{"sentences": [str], "numbers": {str: float}}``; empty until it is written."""
        return self._read_if_there(_DIAGNOSIS)

    @property
    def summary(self) -> dict[str, Any]:
        """The final numbers; empty until they are written."""
        return self._read_if_there(_SUMMARY)

    @property
    def last_step(self) -> int | None:
        """The last recorded step, or None before the first."""
        steps = self._columns["step"]
        return None if not steps else int(steps[-1])  # pyright: ignore[reportArgumentType]

    def append(self, row: Mapping[str, float | int | None]) -> None:
        """Add one step's metrics; written by the next `flush`.

        Args:
            row: a number for each metric name, with an integer ``step`` beyond every earlier one. A metric may appear
                late, be left out, or be None where this step did not measure it.

        Raises:
            ValueError: ``step`` is missing, negative or not beyond the last, or an integer is not a float64.
            TypeError: a value is not a number.
        """
        step = row.get("step")
        if not isinstance(step, Integral) or isinstance(step, bool):
            raise ValueError(f"row: needs an integer 'step'; got {step!r} in {dict(row)!r}")
        last = self.last_step
        if step < 0 or (last is not None and step <= last):
            raise ValueError(f"row: step must be at least {0 if last is None else last + 1}; got {step}")
        numbers = {name: _number(name, value) for name, value in row.items()}
        count = len(self)
        for name in numbers:
            if name not in self._columns:
                self._columns[name] = [None] * count
        for name, column in self._columns.items():
            column.append(numbers.get(name))
        self._metrics_changed = True

    def add_samples(self, samples: Iterable[Mapping[str, Any]]) -> None:
        """Add completions; written by the next `flush`.

        Args:
            samples: mappings with an integer ``step`` and usually ``prompt``, ``completion``, ``tokens`` (list of
                strings), ``entropies`` (nats, one a token) and ``reward``.

        Raises:
            ValueError: a sample has no integer ``step``, or as many entropies as tokens it has not.
            TypeError: a sample holds something JSON cannot.
        """
        plain = []
        for index, sample in enumerate(samples):
            sample = _plain(sample, f"samples[{index}]")
            if not isinstance(sample.get("step"), int):
                raise ValueError(f"samples[{index}]: needs an integer 'step'; got {sample.get('step')!r}")
            tokens, entropies = sample.get("tokens"), sample.get("entropies")
            if tokens is not None and entropies is not None and len(tokens) != len(entropies):
                raise ValueError(
                    f"samples[{index}]: needs one entropy a token; got {len(entropies)} entropies for {len(tokens)} tokens"
                )
            plain.append(sample)
        self._samples.extend(plain)
        self._samples_changed = self._samples_changed or bool(plain)

    def flush(self) -> None:
        """Write what was added since the last flush.

        Raises:
            OSError: a file could not be written, with its path. The earlier file is still whole, and nothing added is
                lost: a later flush writes it.
        """
        if self._metrics_changed:
            write_atomically(self.path / _METRICS, _parquet(self._columns))
            self._metrics_changed = False
        if self._samples_changed:
            lines = [json.dumps(sample, allow_nan=False) for sample in self._samples]
            write_atomically(self.path / _SAMPLES, "".join(line + "\n" for line in lines).encode())
            self._samples_changed = False

    def truncate(self, step: int) -> None:
        """Drop the rows and samples after `step`, in memory and on disk, to resume from there.

        The summary and the diagnosis are dropped too: they are of a run that now goes on.

        Args:
            step: the last step to keep; a negative one keeps nothing.

        Raises:
            OSError: a file could not be written.
        """
        keep = sum(1 for value in self._columns["step"] if value is not None and value <= step)
        samples = [sample for sample in self._samples if sample["step"] <= step]
        self._metrics_changed = self._metrics_changed or keep < len(self)
        self._samples_changed = self._samples_changed or len(samples) < len(self._samples)
        self._columns = {name: column[:keep] for name, column in self._columns.items()}
        self._samples = samples
        self.flush()
        for name in (_DIAGNOSIS, _SUMMARY):
            (self.path / name).unlink(missing_ok=True)

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write `value` as ``<name>.json`` in the run's folder, at once.

        NaN and infinities become null, which is what JSON has for them.

        Args:
            name: a file name, with or without ``.json``: ``"summary"``, ``"diagnosis"``, ``"config"``.
            value: what JSON can hold (NumPy numbers and arrays and paths are converted).

        Raises:
            ValueError: `name` is not a plain file name.
            TypeError: `value` holds something JSON cannot.
            OSError: the file could not be written.
        """
        stem = name.removesuffix(".json")
        if not _NAME.fullmatch(stem):
            raise ValueError(f"name: must be a plain file name such as 'summary'; got {name!r}")
        plain = _plain(value, name)
        write_atomically(self.path / f"{stem}.json", (json.dumps(plain, indent=2, allow_nan=False) + "\n").encode())
        if stem == "config":
            self._config = plain

    def metrics(self) -> dict[str, Float64[np.ndarray, " steps"]]:
        """All metrics, rows not yet flushed among them.

        Returns:
            One float64 array a metric, all as long as ``step``; NaN where a step did not measure it.
        """
        return {name: np.array(column, dtype=np.float64) for name, column in self._columns.items()}

    def samples(self) -> list[dict[str, Any]]:
        """All samples in the order they were added, those not yet flushed among them."""
        return list(self._samples)

    def __len__(self) -> int:
        return len(self._columns["step"])

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"RunStore({str(self.path)!r}, {len(self)} steps)"

    def _read_if_there(self, name: str) -> dict[str, Any]:
        path = self.path / name
        return _read_json(path) if path.is_file() else {}


def list_runs(root: str | os.PathLike[str]) -> list[Path]:
    """The run folders directly under `root`, oldest first.

    Args:
        root: the folder of runs.

    Returns:
        Their paths, in the order of their names, which begin with the time; empty where `root` does not exist.

    Examples:
        >>> import tempfile
        >>> root = tempfile.mkdtemp()
        >>> run = RunStore.create(root, "grpo-s0", {})
        >>> list_runs(root) == [run.path]
        True
    """
    return sorted(path.parent for path in Path(root).glob(f"*/{_CONFIG}"))


def _number(name: str, value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, Real) or isinstance(value, bool | np.bool_):
        hint = "; call .item() on a tensor" if hasattr(value, "item") else ""
        raise TypeError(f"row: {name!r} must be a number or None; got {type(value).__name__}{hint}")
    number = float(value)
    if isinstance(value, Integral) and int(number) != int(value):
        raise ValueError(f"row: {name!r} is an integer that float64 cannot hold exactly; got {value}")
    return number


def _plain(value: Any, where: str) -> Any:
    """`value` as JSON can hold it: NumPy and paths converted, NaN and infinities as null."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist(), where)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{where}: JSON cannot hold a {type(value).__name__}; got {value!r}")


def _parquet(columns: Mapping[str, list[float | None]]) -> bytes:
    arrays = {
        name: pa.array(column, type=pa.float64(), from_pandas=False) if name != "step" else pa.array(map(int, column))  # pyright: ignore[reportArgumentType]
        for name, column in columns.items()
    }
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(arrays), sink)
    return sink.getvalue().to_pybytes()


def _read_metrics(path: Path) -> dict[str, list[float | None]]:
    if not path.is_file():
        return {"step": []}
    try:
        # Opened as a file, not by name, because a damaged file must not stay memory-mapped.
        table = pq.read_table(pa.BufferReader(path.read_bytes()))
        columns = {name: table[name].cast(pa.float64()).to_pylist() for name in table.column_names}
    except pa.ArrowException as error:
        raise ValueError(f"{path}: damaged ({error})") from error
    if "step" not in columns or None in columns["step"]:
        raise ValueError(f"{path}: damaged (every row needs a step)")
    return columns


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: damaged ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: damaged (must hold a JSON object; got {type(value).__name__})")
    return value


def _read_samples(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    samples = []
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n")[:-1], start=1):
            sample = json.loads(line)
            if not isinstance(sample, dict) or not isinstance(sample.get("step"), int):
                raise ValueError(f"line {number} is not an object with a step")
            samples.append(sample)
    except ValueError as error:
        raise ValueError(f"{path}: damaged ({error})") from error
    return samples
