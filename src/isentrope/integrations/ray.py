"""Runs on Ray: a comparison's runs as tasks of a cluster, whose nodes need not share a file system.

Each run has a worker of its own, a Ray actor, which trains in a scratch folder on its node. The files of the run travel
as bytes: with the first message from the driver to the worker, and back whenever there is a new checkpoint. So the
driver's folder is always one from which the run can go on, here or anywhere, and a worker that is lost costs no more
than the steps since the last checkpoint that came back.
"""

import logging
import os
import re
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

import isentrope
from isentrope._threads import cores
from isentrope.integrations._folders import contents, lay_down, stamps
from isentrope.lab.checkpoint import checkpoints
from isentrope.lab.experiment import Experiment
from isentrope.lab.experiment import run as train
from isentrope.lab.jobs import WorkerLost, log_path
from isentrope.report import RunStore, write_report


@contextmanager
def ray_cluster(address: str = "local", *, threads: int = 1) -> Iterator["RayRuns"]:
    """A Ray cluster that trains runs: started for the block, or joined.

    Args:
        address: ``"local"`` starts a cluster on this machine and ends it after the block; ``"auto"`` joins the one that
            this machine belongs to; ``"host:6379"`` or ``"ray://host:10001"`` joins that one.
        threads: processors that each run asks for and computes with. The numbers of a run depend on it in their last
            digits, as they do without Ray.

    Yields:
        The launcher, for `isentrope.lab.compare`.

    Raises:
        ImportError: Ray is not installed.
        ValueError: ``threads`` is less than 1.
        ConnectionError: there is no cluster at the address.

    Examples:
        >>> from isentrope.lab import Experiment, compare, table  # doctest: +SKIP
        >>> with ray_cluster("auto") as launcher:  # doctest: +SKIP
        ...     runs = compare([Experiment("grpo"), Experiment("clip_cov")], folder, launcher=launcher)
    """
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    if not find_spec("ray"):
        raise ImportError("Ray is not installed: pip install 'isentrope[sweep]'")
    # Read when Ray is imported or started: nothing is reported to anyone, a run without an accelerator is no mistake, and
    # paragraphs about each lost worker stay off standard output, because the comparison says it in one line.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault(
        "RAY_DEDUP_LOGS_SKIP_REGEX", r"A worker died or was killed|marked dead|[Rr]aylet|\[state-dump\]"
    )
    import ray

    ours = not ray.is_initialized()
    if ours:
        own = {"num_cpus": max(cores(), threads), "include_dashboard": False} if address == "local" else {}
        if address not in ("local", "auto"):
            _check_listens(address)
        try:
            ray.init(address, logging_level=logging.ERROR, log_to_driver=False, **own)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ConnectionError(f"no Ray cluster at {address!r}: {str(error).strip().splitlines()[0]}") from error
    try:
        yield RayRuns(threads)
    finally:
        if ours:
            ray.shutdown()


def _check_listens(address: str) -> None:
    """Refuse an address where nothing answers, for which Ray would wait without end."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"address must be 'local', 'auto', 'HOST:PORT' or 'ray://HOST:PORT', got {address!r}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise ConnectionError(f"no Ray cluster at {address!r}: {error.strerror or error}") from error


class RayRuns:
    """Trains each run in a worker of the Ray cluster that this process is connected to; made by `ray_cluster`.

    Args:
        threads: processors of each run.
    """

    slots = None

    def __init__(self, threads: int):
        self.threads = threads
        self._starts: dict[str, Any] = {}

    def __call__(self, run: RunStore) -> "RayRun":
        """Start a run, or let it go on from its newest checkpoint."""
        import ray

        start = run.config["experiment"]["start"]
        if start and start not in self._starts:
            # Stored in the cluster once, however many recipes start from it.
            self._starts[start] = ray.put(contents(Path(start)))
        # While one thread trains, others answer.
        worker = ray.remote(_Worker).options(num_cpus=self.threads, max_restarts=0, max_concurrency=3)
        return RayRun(
            run, worker.remote(isentrope.__version__, contents(run.path), self._starts.get(start), self.threads)
        )


class RayRun:
    """A run at work on a Ray cluster.

    Attributes:
        step: the last step that is known of; None while the run waits for free processors.
        pid: its process on its node; None while there is none.
    """

    def __init__(self, run: RunStore, worker: Any):
        self.step: int | None = None
        self.pid: int | None = None
        self._run, self._worker, self._where = run, worker, "its worker"
        self._training, self._report = worker.train.remote(), worker.report.remote()

    def finished(self) -> bool:
        """Take in what came back; whether the run is complete.

        Raises:
            RuntimeError: the training failed.
            WorkerLost: the worker, or its node, was.
        """
        import ray
        from ray.exceptions import RayActorError, RayError, RayTaskError

        try:
            if ray.wait([self._report], timeout=0)[0]:
                self._take(ray.get(self._report))
                self._report = self._worker.report.remote()
            if not ray.wait([self._training], timeout=0)[0]:
                return False
            self._take_rest()
            ray.get(self._training)
        except RayTaskError as error:
            log_path(self._run).write_text(_plain(error), encoding="utf-8")
            raise RuntimeError(_plain(error).splitlines()[-1]) from error
        except RayActorError as error:
            if error.actor_init_failed:
                raise RuntimeError(_plain(error).splitlines()[-1]) from error
            raise WorkerLost(f"{self._where} was lost") from error
        except RayError as error:
            raise WorkerLost(f"{self._where} was lost ({type(error).__name__})") from error
        self.kill()
        return True

    def stop(self) -> None:
        """Ask the run to store itself after the step that it is in, and end."""
        if self.step is None:
            # It never began: there is nothing to store, and nothing that would answer.
            self.kill()
        else:
            self._worker.stop.remote()

    def wait(self) -> None:
        """Wait for the end of a run that was asked to stop, and take in what it stored."""
        import ray
        from ray.exceptions import RayError

        try:
            ray.wait([self._training])
            self._take_rest()
        except RayError:
            # Whatever ended it, its folder here is as of the last checkpoint that came back.
            return

    def kill(self) -> None:
        """End the worker at once."""
        import ray

        ray.kill(self._worker)

    def _take_rest(self) -> None:
        import ray

        # The report that was asked for may have been made before the end, and the one after it lacks what that one has.
        self._take(ray.get(self._report))
        self._take(ray.get(self._worker.report.remote()))

    def _take(self, report: "_Report") -> None:
        self.step, self.pid, self._where = report.step, report.pid, f"worker {report.pid} on {report.node}"
        lay_down(report.files, self._run.path, report.names)


@dataclass(frozen=True)
class _Report:
    """What a worker says: where it is, how far, which files are new, and the names of all (none before the first)."""

    pid: int
    node: str
    step: int
    files: dict[str, bytes]
    names: frozenset[str]


class _Worker:
    """Trains one run in a scratch folder of a node, in the process that Ray makes for it."""

    def __init__(self, version: str, files: dict[str, bytes], start: dict[str, bytes] | None, threads: int):
        if version != isentrope.__version__:
            raise RuntimeError(
                f"{socket.gethostname()} has isentrope {isentrope.__version__}, but the comparison {version}; "
                "install the same version on every node"
            )
        self._scratch = Path(tempfile.mkdtemp(prefix="isentrope-run-"))
        self._folder = self._scratch / "run"
        lay_down(files, self._folder)
        if start:
            lay_down(start, self._scratch / "start")
        self._threads, self._stopping = threads, threading.Event()
        self._step, self._newest = 0, None
        # What is on its way to the driver; `report` takes it while `train` adds to it.
        self._lock, self._stamps = threading.Lock(), stamps(self._folder)
        self._files: dict[str, bytes] = {}
        self._names: frozenset[str] = frozenset()

    def train(self) -> None:
        """Train to the end, or until told to stop."""
        torch.set_num_threads(self._threads)
        try:
            store = RunStore.open(self._folder)
            experiment = Experiment.from_dict(store.config["experiment"])
            if experiment.start:
                # The driver's path means nothing here.
                experiment = replace(experiment, start=str(self._scratch / "start"))
            self._step = store.last_step or 0
            finished = train(experiment, store, on_step=self._stepped, should_stop=self._stopping.is_set)
            if finished and find_spec("plotly"):
                write_report(store, store.path / "report.html")
        finally:
            self._pack()
            shutil.rmtree(self._scratch)

    def report(self) -> _Report:
        """How far the run is, with the files that are new since the last report."""
        with self._lock:
            files, self._files = self._files, {}
            return _Report(os.getpid(), socket.gethostname(), self._step, files, self._names)

    def stop(self) -> None:
        """Let the run end after its step."""
        self._stopping.set()

    def _stepped(self, row: Mapping[str, float]) -> None:
        self._step = int(row["step"])
        newest = checkpoints(self._folder / "checkpoints")[-1:]
        if newest != self._newest:
            # Between two steps nothing is written to the folder, so that its files belong together.
            self._newest = newest
            self._pack()

    def _pack(self) -> None:
        present = stamps(self._folder)
        new = {n: (self._folder / n).read_bytes() for n, stamp in present.items() if self._stamps.get(n) != stamp}
        with self._lock:
            self._files = {n: data for n, data in (self._files | new).items() if n in present}
            self._names = frozenset(present)
        self._stamps = present


def _plain(error: Exception) -> str:
    """An error's text without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
