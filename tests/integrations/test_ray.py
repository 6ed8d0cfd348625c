"""Comparisons on a Ray cluster of this machine: the same numbers as without it, whatever is killed on the way."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

import isentrope
from isentrope.integrations._folders import contents, lay_down
from isentrope.integrations.ray import ray_cluster
from isentrope.lab import Experiment, TrainerSettings, compare, initial_policy, run
from isentrope.lab.checkpoint import checkpoints
from isentrope.report import RunStore

pytest.importorskip("ray")

GUIDE = Path(__file__).parents[2] / "docs" / "sweeps.md"

EXPERIMENT = Experiment(
    recipe="entropy_target",
    target_entropy="80%",
    steps=60,
    warm_start_steps=20,
    evaluate_every=30,
    evaluation_problems=8,
    evaluation_samples=8,
    checkpoint_every=2,
    settings=TrainerSettings(prompts_per_step=4, group_size=4, probe_every=5, probe_rows=8),
)


@pytest.fixture(scope="module")
def cluster():
    with ray_cluster() as launcher:
        yield launcher


class Watched:
    """A launcher whose jobs a test can get at."""

    def __init__(self, launcher):
        self.launcher, self.slots, self.jobs = launcher, launcher.slots, []

    def __call__(self, run):
        self.jobs.append(self.launcher(run))
        return self.jobs[-1]


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """The experiment from a stored policy, because a warm start on more threads rounds in another way."""
    start = tmp_path_factory.mktemp("start") / "policy"
    initial_policy(EXPERIMENT).save(start)
    return replace(EXPERIMENT, start=str(start))


@pytest.fixture(scope="module")
def unbroken(experiment, tmp_path_factory):
    """The run without Ray, processes or interruptions, on one thread as theirs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    store = RunStore.create(tmp_path_factory.mktemp("unbroken"), "unbroken", experiment.config("test"))
    assert run(experiment, store)
    torch.set_num_threads(threads)
    return store


@pytest.fixture(scope="module")
def assert_same_run(assert_same_metrics):
    def check(first, second):
        assert_same_metrics(first, second)
        assert first.samples() == second.samples()
        one, other = (
            checkpoints(store.path / "checkpoints")[-1] / "model/model.safetensors" for store in (first, second)
        )
        assert one.read_bytes() == other.read_bytes()

    return check


def test_a_killed_worker_s_run_goes_on_and_repeats_the_unbroken_one(
    cluster, experiment, unbroken, tmp_path, assert_same_run
):
    launcher, killed, retried = Watched(cluster), [], []

    def kill_once(progress):
        if not killed and launcher.jobs and (launcher.jobs[0].step or 0) >= 3:
            killed.append(launcher.jobs[0].pid)
            os.kill(launcher.jobs[0].pid, signal.SIGKILL)

    (store,) = compare([experiment], tmp_path, launcher=launcher, on_change=kill_once, on_retry=retried.append)
    assert len(launcher.jobs) == 2
    assert len(retried) == 1
    assert retried[0].startswith(f"entropy_target-s0: worker {killed[0]} on ")
    # It went on from what had come back, and did not begin again.
    assert launcher.jobs[1].pid != killed[0]
    assert store.summary["finished"]
    assert_same_run(store, unbroken)
    assert {path.name for path in store.path.iterdir()} >= {"report.html", "diagnosis.json", "samples.jsonl"}
    assert [path.name for path in checkpoints(store.path / "checkpoints")] == ["step-000058", "step-000060"]


def test_an_interrupted_run_of_ray_goes_on_without_ray(cluster, experiment, unbroken, tmp_path, assert_same_run):
    launcher = Watched(cluster)

    def interrupt(progress):
        if launcher.jobs and (launcher.jobs[0].step or 0) >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare([experiment], tmp_path, launcher=launcher, on_change=interrupt)
    (path,) = tmp_path.glob("*-entropy_target-s0")
    newest = int(checkpoints(path / "checkpoints")[-1].name.removeprefix("step-"))
    assert 3 <= newest < experiment.steps
    # Not the last of every second step: the run stored the step that it was in.
    assert RunStore.open(path).last_step == newest
    assert RunStore.open(path).summary["finished"] is False
    (store,) = compare([experiment], tmp_path, jobs=1)
    assert store.path == path
    assert_same_run(store, unbroken)


def test_what_would_fail_again_is_tried_once(cluster, experiment, tmp_path, monkeypatch):
    (tmp_path / "start").mkdir()
    failing = replace(experiment, start=str(tmp_path / "start"))
    elsewhere = replace(experiment, recipe="grpo", target_entropy=None)
    launcher = Watched(cluster)

    def launch(run):
        with monkeypatch.context() as patch:
            if run.config["recipe"] == "grpo":
                patch.setattr(isentrope, "__version__", "0.0.0")
            return launcher(run)

    launch.slots = None
    with pytest.raises(RuntimeError, match=r"^2 of 2 runs failed: ") as raised:
        compare([failing, elsewhere], tmp_path / "runs", launcher=launch)
    assert len(launcher.jobs) == 2
    assert re.search(r"entropy_target-s0: ValueError: .*/start' is neither", str(raised.value))
    assert re.search(r"has isentrope .*, but the comparison 0\.0\.0; install the same version", str(raised.value))
    assert "in load_model" in (tmp_path / "runs" / "entropy_target-s0.log").read_text()


def test_the_command_prints_json_alone_and_leaves_no_process(tmp_path):
    mark = uuid.uuid4().hex
    command = "compare grpo --seeds 1 --steps 1 --warm-start 1 --evaluation-problems 1 --ray --json"
    done = subprocess.run(
        [sys.executable, "-m", "isentrope", *command.split(), "--output", str(tmp_path)],
        capture_output=True, text=True, check=True, env={**os.environ, "ISENTROPE_TEST": mark}, timeout=300,
    )  # fmt: skip
    (row,) = json.loads(done.stdout)
    assert (row["recipe"], row["runs"]) == ("grpo", 1)
    assert done.stderr == ""
    assert not [process for process in psutil.process_iter() if mark in marks(process)]


def marks(process):
    try:
        return process.environ().get("ISENTROPE_TEST", "") if process.status() != psutil.STATUS_ZOMBIE else ""
    except psutil.Error:
        return ""


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("somewhere", ValueError, "must be 'local', 'auto', 'HOST:PORT' or 'ray://HOST:PORT', got 'somewhere'"),
        ("ray://somewhere", ValueError, "got 'ray://somewhere'"),
        ("127.0.0.1:1", ConnectionError, "no Ray cluster at '127.0.0.1:1': Connection refused"),
    ],
)
def test_an_address_without_a_cluster_is_refused_at_once(address, error, message, monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(error, match=re.escape(message)), ray_cluster(address):
        pass


def test_threads_and_a_missing_ray_are_explained(monkeypatch):
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"), ray_cluster(threads=0):
        pass
    monkeypatch.setattr("isentrope.integrations.ray.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'isentrope\[sweep\]'"), ray_cluster():
        pass


FILES = {
    "config.json": b"{}",
    "metrics.parquet": b"rows",
    "summary.json": b"end",
    "checkpoints/step-000002/state.json": b"2",
    "checkpoints/step-000002/model/model.json": b"m",
}


def test_a_folder_travels_whole_without_what_is_half_written(tmp_path):
    lay_down(FILES, tmp_path / "there")
    (tmp_path / "there/checkpoints/.step-000004.partial").mkdir()
    (tmp_path / "there/checkpoints/.step-000004.partial/state.json").write_text("half")
    (tmp_path / "there/.metrics.parquet.7.tmp").write_text("half")
    assert contents(tmp_path / "there") == FILES


def test_old_checkpoints_and_conclusions_go_but_not_what_the_user_put_there(tmp_path):
    lay_down(FILES, tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    new = {"metrics.parquet": b"more rows", "checkpoints/step-000004/state.json": b"4"}
    lay_down(new, tmp_path, {"config.json", *new})
    assert contents(tmp_path) == {"config.json": b"{}", "notes.txt": b"mine", **new}


@pytest.mark.parametrize("broken_at", range(1, 6))
def test_a_write_that_breaks_off_leaves_a_folder_to_go_on_from(broken_at, tmp_path, monkeypatch):
    from isentrope.integrations import _folders

    lay_down({**FILES, "checkpoints/step-000001/state.json": b"1"}, tmp_path, {"config.json", "metrics.parquet"} | {
        "checkpoints/step-000001/state.json"
    })  # fmt: skip
    new = {**FILES, "metrics.parquet": b"rows of 2"}
    writes, write = [], _folders.write_atomically

    def breaking(path, data):
        writes.append(path)
        if len(writes) == broken_at:
            raise OSError("disk full")
        write(path, data)

    monkeypatch.setattr(_folders, "write_atomically", breaking)
    with pytest.raises(OSError, match="disk full"):
        lay_down(new, tmp_path, set(new))
    found = contents(tmp_path)
    assert found["checkpoints/step-000001/state.json"] == b"1"
    # A checkpoint is whole and has its metrics; a conclusion has its checkpoint.
    second = [name for name in found if "step-000002" in name]
    assert len(second) in (0, 2)
    assert not second or found["metrics.parquet"] == b"rows of 2"
    assert "summary.json" not in found


def test_the_guide_runs_as_it_stands(cluster, tmp_path, monkeypatch, capsys):
    text = GUIDE.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    commands = [
        line[2:] for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL) for line in block.splitlines()
    ]
    assert len(commands) >= 2
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "isentrope"
        isentrope_main(arguments)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, names)
    assert [(row.recipe, row.runs) for row in names["rows"]] == [("grpo", 2), ("clip_cov", 2)]
    assert re.search(r"grpo +2/2", capsys.readouterr().out)


def isentrope_main(arguments):
    from isentrope.cli import main

    main(arguments)
