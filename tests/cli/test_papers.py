import json

import pytest

from isentrope.catalog import papers
from isentrope.cli import main
from isentrope.report import RunStore


def test_papers_in_a_pipe_are_tab_separated_lines_and_the_count_goes_to_stderr(capsys):
    main(["papers"])
    out, err = capsys.readouterr()
    rows = [line.split("\t") for line in out.splitlines()]
    assert {len(row) for row in rows} == {5}
    assert [row[0] for row in rows] == [paper.key for paper in papers() if paper.implemented]
    assert f"{len(rows)} implemented, {len(papers()) - len(rows)} planned (--all shows them)" in err


def test_all_shows_planned_papers_too(capsys):
    main(["papers", "--all"])
    assert len(capsys.readouterr().out.splitlines()) == len(papers())


def test_a_query_narrows_the_list(capsys):
    main(["papers", "proportional-integral"])
    assert capsys.readouterr().out.startswith("entropic\t2511.15248\t")


def test_json_holds_every_field(capsys):
    main(["papers", "gspo", "--json"])
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["arxiv"] == "2507.18071"
    assert "isentrope.policy.recipes.gspo" in entry["objects"]
    main(["papers", "no such paper at all", "--json"])
    assert json.loads(capsys.readouterr().out) == []


def test_the_table_of_a_terminal_names_what_is_planned(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "140")
    main(["papers", "Semantic Entropy", "--all"])
    out = capsys.readouterr().out
    assert "Semantic Uncertainty" in out
    assert "planned" in out


def test_cite_prints_each_paper_once(capsys):
    main(["cite", "dapo", "clip_cov", "2503.14476"])
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count("@misc{") == 2
    assert out.index("yu2025dapo") < out.index("cui2025entropy")


def test_cite_takes_a_run(capsys, tmp_path):
    run = RunStore.create(tmp_path, "clip_cov-s0", {"papers": ["dapo", "clip-cov-kl-cov"]})
    main(["cite", str(run.path), "--json"])
    entries = json.loads(capsys.readouterr().out)
    assert [entry["key"] for entry in entries] == ["dapo", "clip-cov-kl-cov"]
    assert entries[0]["bibtex"].startswith("@misc{yu2025dapo,")


PLANNED = next(paper.key for paper in papers() if not paper.implemented)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["papers", "no such paper at all"], "no entry matches"),
        (["cite"], "name at least one"),
        (["cite", "dapp"], "did you mean 'dapo'"),
        (["cite", PLANNED], "only planned"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(capsys, arguments, message):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("command", ["papers", "cite"])
def test_help_shows_examples(capsys, command):
    main([command, "--help"])
    assert f"isentrope {command} " in capsys.readouterr().out
