import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from isentrope.lab.checkpoint import checkpoints
from isentrope.lab.comparison import compare, run_name, table, with_seeds
from isentrope.lab.experiment import Experiment, run
from isentrope.lab.tasks import Addition
from isentrope.lab.tiny import TinyTransformer
from isentrope.lab.trainer import TrainerSettings
from isentrope.report.store import RunStore

QUICK = Experiment(
    recipe="entropy_target",
    target_entropy="80%",
    steps=6,
    warm_start_steps=20,
    evaluate_every=3,
    evaluation_problems=8,
    evaluation_samples=8,
    checkpoint_every=2,
    settings=TrainerSettings(prompts_per_step=4, group_size=4, probe_every=2, probe_rows=8),
)


def new_run(folder, experiment=QUICK):
    return RunStore.create(folder, run_name(experiment), experiment.config("test"))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    store = new_run(tmp_path_factory.mktemp("unbroken"))
    assert run(QUICK, store)
    return store


def test_a_run_leaves_everything_behind(unbroken):
    store = RunStore.open(unbroken.path)
    metrics = store.metrics()
    assert metrics["step"].tolist() == list(range(7))
    assert np.isfinite(metrics["entropy"][1:]).all()
    assert np.isfinite(metrics["pass@8"][[0, 3, 6]]).all()
    assert np.isnan(metrics["pass@8"][[1, 2, 4, 5]]).all()
    assert store.config["target_entropy"] == pytest.approx(0.8 * store.config["entropy_before"])
    assert (metrics["target_entropy"][1:] == store.config["target_entropy"]).all()
    assert store.summary["finished"] is True
    assert store.summary["steps"] == 6
    assert store.diagnosis["sentences"]
    samples = store.samples()
    assert {sample["step"] for sample in samples} == {1, 3, 6}
    assert all(len(s["tokens"]) == len(s["entropies"]) for s in samples)
    assert len(checkpoints(store.path / "checkpoints")) == 2


def test_a_stopped_run_goes_on_as_if_it_had_not_been(unbroken, tmp_path, assert_same_metrics):
    store = new_run(tmp_path)
    steps = []
    assert not run(QUICK, store, on_step=steps.append, should_stop=lambda: len(steps) == 4)
    assert store.summary["finished"] is False
    assert run(QUICK, RunStore.open(store.path))
    assert_same_metrics(RunStore.open(store.path), unbroken)
    assert RunStore.open(store.path).samples() == unbroken.samples()


def test_a_killed_run_goes_on_as_if_it_had_not_been(unbroken, tmp_path, assert_same_metrics):
    store = new_run(tmp_path)
    command = [sys.executable, "-m", "isentrope", "train", "--resume", str(store.path), "--quiet"]
    # Sums are taken in another order by another number of threads.
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not any(c.name >= "step-000002" for c in checkpoints(store.path / "checkpoints")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not RunStore.open(store.path).summary.get("finished")
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert_same_metrics(RunStore.open(store.path), unbroken)


def test_a_damaged_checkpoint_is_named_and_the_one_before_serves(unbroken, tmp_path, assert_same_metrics):
    store = new_run(tmp_path)
    steps = []
    run(QUICK, store, on_step=steps.append, should_stop=lambda: len(steps) == 5)
    newest = checkpoints(store.path / "checkpoints")[-1]
    for name in ("model/model.safetensors", "optimizer.safetensors", "state.json"):
        whole = (newest / name).read_bytes()
        (newest / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ValueError, match=f"checkpoint .*{newest.name} is damaged"):
            run(QUICK, RunStore.open(store.path))
        (newest / name).write_bytes(whole)
    (newest / "state.json").unlink()
    newest.rename(newest.with_name("broken"))
    assert run(QUICK, RunStore.open(store.path))
    assert_same_metrics(RunStore.open(store.path), unbroken)


def test_a_checkpoint_that_cannot_be_written_leaves_the_earlier_ones(tmp_path, monkeypatch):
    store = new_run(tmp_path)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    steps = []

    def break_disk(row):
        steps.append(row)
        if len(steps) == 4:
            monkeypatch.setattr("isentrope.lab.checkpoint.save_file", full)

    with pytest.raises(OSError, match=r"could not be written .*No space left on device.*; earlier ones are intact"):
        run(QUICK, store, on_step=break_disk)
    assert [c.name for c in (store.path / "checkpoints").iterdir()] == ["step-000002"] or {
        c.name for c in (store.path / "checkpoints").iterdir()
    } == {"step-000000", "step-000002"}
    monkeypatch.undo()
    assert run(QUICK, RunStore.open(store.path))


def test_a_recipe_with_a_reference_resumes_with_the_same_one(tmp_path, assert_same_metrics):
    experiment = replace(QUICK, recipe="grpo(kl_coefficient=0.5)", target_entropy=None)
    whole, broken = new_run(tmp_path / "a", experiment), new_run(tmp_path / "b", experiment)
    run(experiment, whole)
    steps = []
    run(experiment, broken, on_step=steps.append, should_stop=lambda: len(steps) == 4)
    run(experiment, RunStore.open(broken.path))
    assert_same_metrics(RunStore.open(broken.path), whole)


def test_experiments_round_trip_through_json():
    assert Experiment.from_dict(json.loads(json.dumps(QUICK.to_dict()))) == QUICK


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": "grpo"}, "recipe grpo has no 'target'.*recipes that have one: entropic, entropy_target"),
        ({"recipe": "clip_kov"}, "did you mean 'clip_cov'"),
        ({"recipe": "grpo(epsilon=0.1"}, "must be a name, or like"),
        ({"target_entropy": "lots"}, "must be nats such as 0.5"),
        ({"target_entropy": "-5%"}, "must be nats such as 0.5"),
        ({"target_entropy": None}, "recipe entropy_target needs target"),
    ],
)
def test_impossible_objectives_are_explained(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(QUICK, **changes).objective(1.0)


def test_a_comparison_runs_in_processes_skips_what_is_done_and_tabulates(tmp_path):
    grpo = replace(QUICK, recipe="grpo", target_entropy=None, steps=2)
    experiments = [*with_seeds(grpo, 2), *with_seeds(replace(QUICK, steps=2), 1)]
    runs = compare(experiments, tmp_path, jobs=2)
    rows = table(runs)
    assert [(row.recipe, row.runs) for row in rows] == [("grpo", 2), ("entropy_target", 1)]
    ends = [r.summary["entropy_end"] for r in runs[:2]]
    assert rows[0].cells["entropy_end"].mean == pytest.approx(np.mean(ends))
    assert rows[0].cells["entropy_end"].stderr == pytest.approx(abs(ends[0] - ends[1]) / 2)
    # The same seed starts from the same policy.
    assert runs[0].summary["pass@1_start"] == runs[2].summary["pass@1_start"]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/metrics.parquet")}
    again = compare(experiments, tmp_path, jobs=2)
    assert [r.path for r in again] == [r.path for r in runs]
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/metrics.parquet")}


def test_a_comparison_refuses_what_it_would_mix_up(tmp_path):
    grpo = replace(QUICK, recipe="grpo", target_entropy=None, steps=1)
    compare([grpo], tmp_path, jobs=1)
    with pytest.raises(ValueError, match="grpo-s0 is a run of that name with another steps; choose another folder"):
        compare([replace(grpo, steps=2)], tmp_path, jobs=1)
    with pytest.raises(ValueError, match="grpo-s0 asked for more than once"):
        compare([grpo, replace(grpo, task="addition")], tmp_path, jobs=1)
    with pytest.raises(ValueError, match="jobs must be at least 1, got -1"):
        compare([grpo], tmp_path, jobs=-1)


def test_an_interrupted_comparison_keeps_each_run_s_progress(tmp_path):
    long = replace(QUICK, recipe="grpo", target_entropy=None, steps=20_000, checkpoint_every=20_000, evaluate_every=0)
    script = (
        "import json, pathlib, sys; from isentrope.lab import Experiment, compare;"
        f"compare([Experiment.from_dict(json.loads({json.dumps(json.dumps(long.to_dict()))}))],"
        f" pathlib.Path({str(tmp_path)!r}), jobs=1)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("*-grpo-s0/metrics.parquet")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(2)
    # A terminal's Ctrl-C reaches the whole process group.
    os.killpg(process.pid, signal.SIGINT)
    process.wait(timeout=60)
    (path,) = tmp_path.glob("*-grpo-s0")
    newest = int(checkpoints(path / "checkpoints")[-1].name.removeprefix("step-"))
    assert 0 < newest < 20_000
    assert RunStore.open(path).last_step == newest


def test_a_failed_run_is_named_after_the_others_are_done(tmp_path):
    good = replace(QUICK, recipe="grpo", target_entropy=None, steps=1)
    bad = replace(good, recipe="rloo", task="reasoning_gym:no_such_dataset", start=str(tmp_path))
    with pytest.raises(RuntimeError, match="1 of 2 runs failed: rloo-s0: "):
        compare([bad, good], tmp_path / "runs", jobs=1)
    assert any(path.name.endswith("grpo-s0") for path in (tmp_path / "runs").glob("*"))


def test_a_run_is_trained_by_one_process_at_a_time(tmp_path):
    experiment = Experiment(warm_start_steps=0, steps=2, evaluation_problems=2)
    store = RunStore.create(tmp_path, "twice", experiment.config("test"))

    def again(row):
        with pytest.raises(ValueError, match="is being trained by another process"):
            run(experiment, RunStore.open(store.path))

    assert run(experiment, store, on_step=again)


def test_a_student_on_one_problem_resumes_with_the_same_teacher_and_problem(tmp_path, monkeypatch, assert_same_metrics):
    class Rewarded(Addition):
        """Addition whose reward is the share of digits, which varies from completion to completion."""

        def reward(self, problem, completion):
            return sum(c.isdigit() for c in completion) / self.max_new_tokens

    monkeypatch.setattr("isentrope.lab.experiment.find_task", lambda name: Rewarded())
    TinyTransformer(seed=7).save(tmp_path / "teacher")
    experiment = replace(
        QUICK, recipe="tip(fraction=0.8)", target_entropy=None, task="addition", warm_start_steps=0,
        teacher=str(tmp_path / "teacher"), one_problem_of=6,
    )  # fmt: skip
    whole, broken = new_run(tmp_path / "a", experiment), new_run(tmp_path / "b", experiment)
    run(experiment, whole)
    assert whole.config["trained_problem"] in range(6)
    assert len({sample["prompt"] for sample in RunStore.open(whole.path).samples()}) == 1
    steps = []
    run(experiment, broken, on_step=steps.append, should_stop=lambda: len(steps) == 4)
    run(experiment, RunStore.open(broken.path))
    assert_same_metrics(RunStore.open(broken.path), whole)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": "tip"}, "teacher: recipe tip needs one; give the folder of a saved policy"),
        ({"recipe": "grpo", "teacher": "x"}, "teacher: recipe grpo learns from none; leave it out, or take tip"),
    ],
)
def test_a_teacher_is_asked_for(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(QUICK, target_entropy=None, **changes).check()
    with pytest.raises(ValueError, match="one_problem_of must be at least 1, or None, got 0"):
        replace(QUICK, one_problem_of=0)
