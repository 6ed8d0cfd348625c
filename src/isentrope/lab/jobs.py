"""Runs at work: what starts one, follows it and stops it, and the way of this machine: a process each.

A comparison knows runs at work only by these two protocols, so that a cluster fills the same place.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from isentrope.report.store import RunStore


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
    """A run trained by the command ``isentrope train --resume``."""

    def __init__(self, run: RunStore, threads: int):
        self._run, self._log = run.path, log_path(run)
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, "-m", "isentrope", "train", "--resume", str(run.path), "--quiet"]
        with self._log.open("w", encoding="utf-8") as output:
            self._process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment,
                # Ctrl-C in a terminal is ours alone; each run is then asked once to stop after its step.
                start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def step(self) -> int:
        return RunStore.open(self._run).last_step or 0

    def finished(self) -> bool:
        code = self._process.poll()
        if code is None:
            return False
        if code < 0:
            raise WorkerLost(f"process {self.pid} was killed by {_signal_name(-code)}")
        if code == 130:
            # The command stops in good order when it is told to from outside, and says so by this code.
            raise WorkerLost(f"process {self.pid} was told to stop")
        if code:
            lines = self._log.read_text(encoding="utf-8").strip().splitlines()
            raise RuntimeError(lines[-1] if lines else f"exit code {code}")
        self._log.unlink()
        return True

    def stop(self) -> None:
        self._process.terminate()

    def wait(self) -> None:
        self._process.wait()

    def kill(self) -> None:
        self._process.kill()


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


def cores() -> int:
    """The processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        # Real-time signals have no names.
        return f"signal {number}"
