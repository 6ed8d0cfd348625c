import json
import webbrowser
from pathlib import Path

import pytest

from isentrope.cli import main
from isentrope.report import RunStore


@pytest.fixture
def two(tmp_path):
    runs = [
        RunStore.create(tmp_path / "runs", f"{recipe}-s0", {"recipe": recipe, "seed": 0}) for recipe in ("grpo", "dapo")
    ]
    for run in runs:
        run.append({"step": 0, "entropy": 1.0})
        run.append({"step": 1, "entropy": 0.5})
        run.flush()
    return runs


def test_one_run_is_reported_in_its_folder(two, capsys):
    main(["report", str(two[0].path)])
    path = Path(capsys.readouterr().out.strip())
    assert path == two[0].path / "report.html"
    assert "<h1>grpo</h1>" in path.read_text()


@pytest.mark.parametrize("folder", [False, True])
def test_several_runs_are_reported_next_to_them(two, capsys, folder):
    main(["report", *([str(two[0].path.parent)] if folder else [str(run.path) for run in two]), "--json"])
    said = json.loads(capsys.readouterr().out)
    assert said["report"] == str(two[0].path.parent / "report.html")
    assert sorted(said["runs"]) == sorted(run.id for run in two)
    text = Path(said["report"]).read_text()
    assert "<h1>Comparison of " in text


def test_a_run_named_twice_counts_once(two, capsys):
    main(["report", str(two[0].path), str(two[0].path), "--json"])
    assert json.loads(capsys.readouterr().out)["runs"] == [two[0].id]


def test_the_output_can_be_chosen_and_opened(two, capsys, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(webbrowser, "open", shown.append)
    main(["report", str(two[0].path), "--output", str(tmp_path / "here.html"), "--open-browser"])
    assert capsys.readouterr().out.strip() == str(tmp_path / "here.html")
    assert (tmp_path / "here.html").is_file()
    assert not (two[0].path / "report.html").exists()
    assert shown == [(tmp_path / "here.html").as_uri()]


def test_a_mistake_is_one_line_and_exit_code_2(two, capsys, tmp_path):
    (two[1].path / "metrics.parquet").write_bytes(b"damaged")
    (tmp_path / "empty").mkdir()
    for arguments, message in [
        ([], "name at least one run folder"),
        ([str(tmp_path / "missing")], "no such run folder"),
        ([str(tmp_path / "empty")], "not a run folder"),
        ([str(two[1].path)], "metrics.parquet: damaged"),
        ([str(two[0].path), "--output", str(tmp_path / "missing" / "x.html")], "cannot write"),
    ]:
        with pytest.raises(SystemExit) as caught:
            main(["report", *arguments])
        out, err = capsys.readouterr()
        assert caught.value.code == 2
        assert out == ""
        assert message in err
        assert len(err.splitlines()) == 1
    assert not (two[0].path / "report.html").exists()


def test_help_shows_examples(capsys):
    main(["report", "--help"])
    assert "isentrope report runs/" in capsys.readouterr().out
