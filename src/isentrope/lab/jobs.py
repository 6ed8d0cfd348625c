"""Runs at work: what starts one, follows it and stops it, and the way of this machine: a process each.

A comparison knows runs at work only by these two protocols, so that a cluster fills the same place.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch

from isentrope._threads import cores
from isentrope.lab.experiment import Experiment
from isentrope.lab.experiment import run as train
from isentrope.report.store import RunStore

# Torch and the laboratory are imported once, in a process that computes nothing itself; each run is forked from it. The
# compiler is what torch's optimisers import on first use, for seconds.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__, "torch._dynamo"])


class WorkerLost(Exception):
    """What trained a run was killed from outside; the run can go on from its last checkpoint."""


class Job(Protocol):
    """A run at work."""

    @property
    def step(self) -> int | None:
        """The last step that is known of; None while the run waits to be let in."""
        ...

    def finished(self) -> bool:
        """Whether the run is complete; asked again and again, it does not wait.

        Raises:
            RuntimeError: the training itself failed, and would fail again.
            WorkerLost: the run was killed.
        """
        ...

    def stop(self) -> None:
        """Ask the run to store itself after the step that it is in, and end."""
        ...

    def wait(self) -> None:
        """Wait until a run that was asked to stop has ended, however it ends."""
        ...

    def kill(self) -> None:
        """End the run at once, whatever is lost since its last checkpoint."""
        ...


class Launcher(Protocol):
    """Something that trains runs."""

    @property
    def slots(self) -> int | None:
        """Runs at a time; None if it has a queue of its own and is given all."""
        ...

    def __call__(self, run: RunStore) -> Job:
        """Start a run, or let it go on from its newest checkpoint; the run's folder is where all comes to lie."""
        ...


class LocalProcesses:
    """Trains each run in a process of this machine.

    A script that uses it keeps its own work under ``if __name__ == "__main__":``, as with all of `multiprocessing`.

    Args:
        threads: of each process.

    Raises:
        ValueError: if ``threads`` is less than 1.

    Examples:
        >>> LocalProcesses(threads=cores()).slots
        1
    """

    def __init__(self, threads: int = 1):
        if threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        self.threads = threads

    @property
    def slots(self) -> int:
        """As many runs as the cores bear."""
        return max(1, cores() // self.threads)

    def __call__(self, run: RunStore) -> "_Process":
        """Start a run, or let it go on."""
        return _Process(run, self.threads)


class _Process:
    """A run in a process of its own, which ends with this one."""

    def __init__(self, run: RunStore, threads: int):
        self._run, self._log = run.path, log_path(run)
        self._process = _CONTEXT.Process(target=_work, args=(str(self._run), str(self._log), threads))
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def step(self) -> int:
        return RunStore.open(self._run).last_step or 0

    def finished(self) -> bool:
        code = self._process.exitcode
        if code is None:
            return False
        if code < 0:
            raise WorkerLost(f"process {self.pid} was killed by {_signal_name(-code)}")
        if code == _STOPPED:
            raise WorkerLost(f"process {self.pid} was told to stop")
        if code:
            lines = self._log.read_text(encoding="utf-8").strip().splitlines() if self._log.exists() else []
            raise RuntimeError(lines[-1] if lines else f"exit code {code}")
        self._log.unlink()
        return True

    def stop(self) -> None:
        self._process.terminate()

    def wait(self) -> None:
        self._process.join()

    def kill(self) -> None:
        self._process.kill()


_STOPPED = 130
"""The exit code of a run that was stopped in good order."""


def _work(run: str, log: str, threads: int) -> None:
    """Train a run in this process, until it is complete, or told to stop."""
    asked = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    # Ctrl-C in a terminal is the parent's alone, which then asks each run once to stop after its step.
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(output, sys.stdout.fileno())
    os.dup2(output, sys.stderr.fileno())
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    store = RunStore.open(run)
    finished = train(Experiment.from_dict(store.config["experiment"]), store, should_stop=lambda: bool(asked))
    sys.exit(0 if finished else _STOPPED)


def _end_with_parent() -> None:
    """End this process once its parent has: a run would go on unseen, and keep the next comparison from it."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(_STOPPED)


def stop_all(jobs: Sequence[Job]) -> None:
    """Let every job store its run and end; a second interrupt ends them at once."""
    try:
        for job in jobs:
            job.stop()
        for job in jobs:
            job.wait()
    except KeyboardInterrupt:
        for job in jobs:
            job.kill()
        raise


def log_path(run: RunStore) -> Path:
    """Where a run's output lies that ended badly: beside its folder, under its name."""
    return run.path.parent / f"{run.config['name']}.log"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        # Real-time signals have no names.
        return f"signal {number}"
