"""The command `compare`: what it refuses, what it shows while runs finish, and how it ends."""

import json
from importlib import import_module

import pytest
from rich.console import Console

from isentrope.cli import main
from isentrope.lab.comparison import Progress
from isentrope.lab.experiment import Experiment
from isentrope.lab.laboratory_settings import BUDGET, Setting
from isentrope.lab.ranking import read_records
from isentrope.report import RunStore

command = import_module("isentrope.cli.compare")


def call(arguments, capsys):
    """The exit code, standard output and standard error of one call."""
    code = 0
    try:
        main(["compare", *arguments])
    except SystemExit as exit:
        code = exit.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def finished_run(folder, recipe, seed, reward):
    run = RunStore.create(folder, f"{recipe}-s{seed}", {"recipe": recipe})
    run.append({"step": 0, "entropy": 1.0})
    run.flush()
    summary = {"finished": True, "reward_end": reward, "entropy_start": 1.0, "entropy_end": 0.5}
    run.write_json("summary", {**summary, "tokens_per_second": 1000.0})
    return run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name the recipes"),
        (["grpo", "--seeds", "0"], "--seeds must be at least 1, got 0"),
        (["grpo", "--threads", "0"], "threads must be at least 1, got 0"),
        (
            ["grpo", "--ray", "clip_cov"],
            "--ray takes nothing, local, auto, HOST:PORT or ray://HOST:PORT, got 'clip_cov'",
        ),
        (["grpo", "--ray=127.0.0.1:1"], "no Ray cluster at '127.0.0.1:1'"),
    ],
)
def test_a_mistake_gives_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = call(arguments, capsys)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "address"),
    [
        ([], None),
        (["--ray"], "local"),
        (["--ray", "--seeds", "2"], "local"),
        (["--ray", "auto"], "auto"),
        (["--ray=ray://host:10001"], "ray://host:10001"),
        (["--ray", "host:6379"], "host:6379"),
    ],
)
def test_the_address_may_be_left_out(arguments, address, capsys, monkeypatch):
    asked = []

    def launcher(address, threads):
        asked.append((address, threads))
        raise ValueError("far enough")

    monkeypatch.setattr(command, "_launcher", launcher)
    assert call(["grpo", *arguments, "--threads", "3"], capsys)[0] == 2
    assert asked == [(address, 3)]


def test_a_run_is_one_line_where_there_is_no_terminal_and_failures_come_after_the_table(tmp_path, capsys, monkeypatch):
    good = [finished_run(tmp_path, "grpo", seed, reward) for seed, reward in ((0, 0.2), (1, 0.4))]

    def compared(experiments, folder, *, on_change, on_retry, **rest):
        assert [e.warm_start_steps for e in experiments] == [7] * 4
        assert [e.evaluation_problems for e in experiments] == [3] * 4
        on_change(Progress(4, (good[0],), running=("grpo-s1 3/200",)))
        on_retry("rloo-s0: killed [1]")
        on_change(Progress(4, tuple(good), failed=2))
        raise RuntimeError("2 of 4 runs failed: rloo-s0: why; rloo-s1: why")

    monkeypatch.setattr(command, "compare_runs", compared)
    arguments = ["grpo", "rloo", "--seeds", "2", "--warm-start", "7", "--evaluation-problems", "3"]
    code, out, err = call([*arguments, "--output", str(tmp_path)], capsys)
    assert code == 1
    lines = err.splitlines()
    assert lines[:3] == [
        "grpo-s0 done: reward 0.20, entropy 1.00→0.50",
        "rloo-s0: killed [1]",
        "grpo-s1 done: reward 0.40, entropy 1.00→0.50",
    ]
    assert lines[3].startswith("isentrope: 2 of 4 runs failed: rloo-s0: why; rloo-s1: why")
    assert "2/2" in out
    assert "0.30±0.10" in out
    assert "0/2" in out
    code, out, err = call([*arguments, "--output", str(tmp_path), "--json"], capsys)
    (row,) = json.loads(out)
    assert (code, row["runs"], row["reward_end"]) == (1, 2, pytest.approx(0.3))
    assert err.startswith("isentrope: 2 of 4 runs failed")


def test_the_live_table_grows(tmp_path, monkeypatch):
    experiments = [Experiment(recipe=recipe) for recipe in ("grpo", "grpo", "rloo")]
    view, console = command._LiveView(experiments, quiet=True), Console(width=80, record=True, quiet=False)
    shown = []
    view._live = type("Live", (), {"update": lambda self, renderable: shown.append(renderable)})()

    def text():
        with console.capture() as capture:
            console.print(shown[-1])
        return [line.split() for line in capture.get().splitlines() if line.strip()]

    view.change(Progress(3, running=("grpo-s0 1/200",)))
    assert ["grpo", "0/2", *"––––––"] in text()
    assert text()[-2:] == [["0", "of", "3", "runs", "done,", "2", "waiting"], ["grpo-s0", "1/200"]]
    first = finished_run(tmp_path, "grpo", 0, 0.2)
    view.change(Progress(3, (first,), failed=1))
    assert ["grpo", "1/2", "0.20", "–", "–", "1.00→0.50", "–", "1,000"] in text()
    assert ["rloo", "0/1", *"––––––"] in text()
    assert text()[-1] == ["1", "of", "3", "runs", "done,", "1", "failed,", "1", "waiting,", "about", "1", "min", "left"]


def test_ctrl_c_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    def interrupted(*arguments, **rest):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "compare_runs", interrupted)
    code, out, err = call(["grpo", "--output", str(tmp_path / "here")], capsys)
    assert (code, out) == (130, "")
    assert f"Stopped; go on with the same command and --output {tmp_path / 'here'}" in err.replace("\n", "")


@pytest.mark.parametrize(
    ("arguments", "there"), [([], True), (["--warm-start", "0"], False), (["--model", "elsewhere"], False)]
)
def test_all_leaves_out_what_has_no_teacher_here(arguments, there, tmp_path, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(command, "compare_runs", lambda experiments, *rest, **more: asked.extend(experiments) or [])
    code, _, err = call(["--all", *arguments, "--output", str(tmp_path / "here")], capsys)
    assert code == 0
    assert ("tip" in {experiment.recipe for experiment in asked}) == there
    assert ("tip is left out: its teacher is a longer warm start" in err) == (not there)
    assert {"grpo", "dapo"} <= {experiment.recipe for experiment in asked}


def test_all_recipes_leave_a_sorted_table_and_a_file(tmp_path, capsys, monkeypatch):
    settings = [Setting("grpo", ""), Setting("clip_cov(fraction=0.02)", "2e-4 of few tokens is none")]
    monkeypatch.setattr(command, "all_recipes", lambda: (settings, ["hicra is left out: it needs grams"]))
    gains = {"grpo": 0.0, "clip_cov(fraction=0.02)": 0.1, "dapo": -0.1}

    def compared(experiments, folder, *, on_change, on_retry, **rest):
        assert {e.steps for e in experiments} == {7}
        assert {(e.task, e.warm_start_task) for e in experiments} == {("calculator", "templated:calculator")}
        assert {e.settings.windows for e in experiments} == {BUDGET["windows"]}
        assert [e.recipe for e in experiments] == [recipe for recipe in gains for _ in range(2)]
        runs = []
        for e in experiments:
            run = RunStore.create(folder, f"{len(runs)}", {**e.config("test"), "name": "run"})
            passed = 0.5 + 0.2 * e.settings.seed + gains[e.recipe]
            timing = {"tokens_per_second": 100.0, "seconds": 2.0}
            run.append({"step": 0, "evaluation_entropy": 1.0, "pass@1": 0.2, "pass@8": 0.5})
            run.append(
                {"step": 1, "entropy": 0.8, "evaluation_entropy": 0.6, "pass@1": 0.3, "pass@8": passed, **timing}
            )
            run.flush()
            summary = {"steps": 1, "reward_end": 0.4, "seconds": 2.0, "entropy_start": 0.8, "entropy_end": 0.8}
            run.write_json("summary", {**summary, "finished": True, "pass@1": 0.3, "pass@8": passed})
            runs.append(RunStore.open(run.path))
        on_change(Progress(len(runs), tuple(runs)))
        return runs

    monkeypatch.setattr(command, "compare_runs", compared)
    arguments = ["dapo", "--all", "--seeds", "2", "--steps", "7", "--output", str(tmp_path / "a")]
    code, out, err = call(arguments, capsys)
    assert code == 0
    assert "hicra is left out: it needs grams" in err
    names = [line.split()[0] for line in out.splitlines() if line.strip().startswith(("grpo", "clip_cov", "dapo"))]
    assert names[:3] == ["clip_cov(fraction=0.02)", "grpo", "dapo"]
    assert "2e-4 of few tokens is none" in out
    assert "+0.200±0.000*" in out
    assert "pass@8: 2 of 2 differences" in out
    rows = read_records(tmp_path / "a" / "comparison.parquet")
    assert [(r["recipe"], r["seed"], r["baseline"]) for r in rows][2:4] == [
        ("clip_cov(fraction=0.02)", 0, "dapo"),
        ("clip_cov(fraction=0.02)", 1, "dapo"),
    ]
    assert rows[0]["entropies"] == [0.8]
    code, out, err = call([*arguments[:-1], str(tmp_path / "b"), "--json"], capsys)
    best = json.loads(out)[0]
    assert (best["recipe"], best["baseline"], best["pass@8_marked"]) == ("clip_cov(fraction=0.02)", "dapo", True)
    assert best["pass@8_difference"] == pytest.approx(0.2)
    assert best["target_distance"] is None
