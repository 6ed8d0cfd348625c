"""What a comparison does with runs that are killed, that fail, and that wait."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from isentrope.lab.comparison import RETRIES, Progress, compare, lacks_teacher
from isentrope.lab.experiment import Experiment, initial_policy
from isentrope.lab.jobs import LocalProcesses, WorkerLost, cores, log_path, stop_all
from isentrope.lab.trainer import TrainerSettings

EXPERIMENT = Experiment(
    recipe="grpo",
    steps=16,
    warm_start_steps=0,
    evaluate_every=0,
    evaluation_problems=4,
    evaluation_samples=8,
    checkpoint_every=2,
    settings=TrainerSettings(prompts_per_step=4, group_size=4, probe_every=0),
)


class Job:
    """A run that ends as it is told to: finished, or by raising."""

    def __init__(self, run, end, log):
        self.run, self.end, self.log, self.step = run, end, log, 1

    def finished(self):
        if isinstance(self.end, Exception):
            raise self.end
        if self.end:
            self.run.write_json("summary", {"finished": True})
        return self.end

    def stop(self):
        self.log.append("stop")

    def wait(self):
        self.log.append("wait")

    def kill(self):
        self.log.append("kill")


class Launcher:
    """Starts jobs that end in the given ways, by name, one after the other; the last way again and again."""

    def __init__(self, slots=None, **ends):
        self.slots, self.ends, self.started, self.log = slots, ends, [], []

    def __call__(self, run):
        name = run.config["recipe"]
        self.started.append(name)
        ends = self.ends[name]
        return Job(run, ends.pop(0) if len(ends) > 1 else ends[0], self.log)


def experiments(*names):
    return [replace(EXPERIMENT, recipe=name) for name in names]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch, request):
    if "slow_clock" not in request.fixturenames:
        monkeypatch.setattr("isentrope.lab.comparison.time.sleep", lambda seconds: None)


@pytest.fixture
def slow_clock():
    """For tests with real processes."""


def test_a_lost_run_is_taken_up_again_three_times_and_then_has_failed(tmp_path):
    launcher, said = Launcher(grpo=[WorkerLost("it was killed")], rloo=[True]), []
    with pytest.raises(RuntimeError, match=r"^1 of 2 runs failed: grpo-s0: it was killed, for the 4th time$"):
        compare(experiments("grpo", "rloo"), tmp_path, launcher=launcher, on_retry=said.append)
    assert launcher.started.count("grpo") == 1 + RETRIES == 4
    assert launcher.started.count("rloo") == 1
    assert said == [f"grpo-s0: it was killed; it goes on from its last checkpoint ({n} of 3)" for n in (1, 2, 3)]


def test_a_lost_run_that_comes_through_is_one_that_finished(tmp_path):
    launcher = Launcher(grpo=[WorkerLost("killed"), WorkerLost("killed"), True])
    (run,) = compare(experiments("grpo"), tmp_path, launcher=launcher)
    assert launcher.started == ["grpo"] * 3
    assert run.config["name"] == "grpo-s0"
    # The same run goes on: there is no second folder.
    assert len(list(tmp_path.glob("*-grpo-s0"))) == 1


def test_a_failure_is_not_tried_again(tmp_path):
    launcher = Launcher(grpo=[RuntimeError("diverged")], rloo=[True])
    with pytest.raises(RuntimeError, match=r"^1 of 2 runs failed: grpo-s0: diverged$"):
        compare(experiments("grpo", "rloo"), tmp_path, launcher=launcher)
    assert launcher.started == ["grpo", "rloo"]
    again = Launcher(grpo=[True])
    assert len(compare(experiments("grpo", "rloo"), tmp_path, launcher=again)) == 2
    assert again.started == ["grpo"]


def test_progress_grows_while_runs_finish(tmp_path):
    seen = []
    launcher = Launcher(slots=1, grpo=[True], rloo=[RuntimeError("x")], dapo=[True])
    with pytest.raises(RuntimeError):
        compare(experiments("grpo", "rloo", "dapo"), tmp_path, launcher=launcher, on_change=seen.append)
    counts = [(len(p.finished), p.failed, p.waiting) for p in seen if not p.running]
    assert counts == [(1, 0, 2), (1, 1, 1), (2, 1, 0)]
    assert [run.config["recipe"] for run in seen[-1].finished] == ["grpo", "dapo"]


@pytest.mark.parametrize(("slots", "jobs", "at_once"), [(None, None, 3), (None, 2, 2), (2, None, 2), (2, 3, 3)])
def test_jobs_come_before_slots_and_a_queue_is_given_everything(slots, jobs, at_once, tmp_path):
    ends = {name: [False] for name in ("grpo", "rloo", "dapo")}

    def interrupt(progress):
        if progress.running and "/" in progress.running[0]:
            assert progress.running[0] == "grpo-s0 1/16"
            assert (len(progress.running), progress.waiting) == (at_once, 3 - at_once)
            raise KeyboardInterrupt

    launcher = Launcher(slots=slots, **ends)
    with pytest.raises(KeyboardInterrupt):
        compare(experiments(*ends), tmp_path, launcher=launcher, jobs=jobs, on_change=interrupt)
    # All are told before any is waited for.
    assert launcher.log == ["stop"] * at_once + ["wait"] * at_once


def test_a_second_interrupt_kills(tmp_path):
    log = []

    class Stubborn(Job):
        def wait(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_all([Stubborn(None, False, log), Job(None, False, log)])
    assert log == ["stop", "stop", "kill", "kill"]


@pytest.mark.parametrize("changes", [{"warm_start_steps": 0}, {"model": "elsewhere", "warm_start_steps": None}])
def test_a_recipe_without_its_teacher_is_refused_before_any_run_begins(changes, tmp_path):
    launcher = Launcher(grpo=[True], tip=[True])
    asked = [replace(experiment, **changes) for experiment in experiments("grpo", "tip")]
    assert [lacks_teacher(experiment) for experiment in asked] == [False, True]
    with pytest.raises(ValueError, match="teacher: recipe tip needs one"):
        compare(asked, tmp_path, launcher=launcher)
    assert launcher.started == []
    assert not list(tmp_path.glob("*-s0"))


def test_a_recipe_that_is_given_its_teacher_by_a_warm_start_is_not_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("isentrope.lab.comparison._warm", lambda *arguments: "policy")
    (warm,) = experiments("tip")
    warm = replace(warm, warm_start_steps=3)
    assert not lacks_teacher(warm)
    (run,) = compare([warm], tmp_path, launcher=Launcher(tip=[True]))
    assert run.config["experiment"]["teacher"] == "policy"


def test_waiting_is_what_is_left():
    assert Progress(7, finished=(None,) * 2, failed=1, running=("a",)).waiting == 3


def test_threads_are_checked_and_share_the_cores():
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        LocalProcesses(threads=0)
    assert LocalProcesses(threads=1).slots == cores()
    assert LocalProcesses(threads=10 * cores()).slots == 1


def test_a_killed_process_s_run_goes_on_and_repeats_the_unbroken_one(
    tmp_path, unbroken, slow_clock, assert_same_metrics
):
    jobs, said, signals = [], [], [signal.SIGKILL, signal.SIGTERM]
    local = LocalProcesses()

    def launch(run):
        jobs.append(local(run))
        return jobs[-1]

    launch.slots = 1

    def kill_each_once(progress):
        if signals and len(jobs) == 3 - len(signals) and jobs[-1].step >= 10 * len(jobs):
            os.kill(jobs[-1].pid, signals.pop(0))

    experiment = Experiment.from_dict(unbroken.config["experiment"])
    (run,) = compare([experiment], tmp_path, launcher=launch, on_change=kill_each_once, on_retry=said.append)
    assert [line.partition("; ")[0] for line in said] == [
        f"grpo-s0: process {jobs[0].pid} was killed by SIGKILL",
        f"grpo-s0: process {jobs[1].pid} was told to stop",
    ]
    assert len(jobs) == 3
    assert run.summary["finished"]
    assert not log_path(run).exists()
    assert_same_metrics(run, unbroken)


def test_a_killed_comparison_takes_its_runs_with_it(tmp_path, slow_clock):
    endless = replace(EXPERIMENT, steps=10**6)
    script = (
        "import json, pathlib; from isentrope.lab import Experiment, compare;"
        f"compare([Experiment.from_dict(json.loads({json.dumps(json.dumps(endless.to_dict()))}))],"
        f" pathlib.Path({str(tmp_path)!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not list(tmp_path.glob("*-grpo-s0/metrics.parquet")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    (path,) = tmp_path.glob("*-grpo-s0")
    with (path / ".lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                assert time.monotonic() < deadline
                time.sleep(0.05)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    initial_policy(EXPERIMENT).save(folder / "policy")
    (run,) = compare([replace(EXPERIMENT, start=str(folder / "policy"), steps=60)], folder / "runs")
    return run
