"""What the command `recipes` says of every recipe."""

import json

import pytest

from isentrope.cli import main
from isentrope.policy import recipes


def test_every_recipe_is_listed_with_slots_and_papers(capsys):
    main(["recipes", "--json"])
    listed = {recipe["name"]: recipe for recipe in json.loads(capsys.readouterr().out)}
    assert listed.keys() == recipes.names().keys()
    assert listed["grpo"]["slots"] == []
    assert set(listed["clip_cov"]["slots"]) == {"row_filter", "surrogate", "token_weight", "aggregation"}
    assert listed["clip_cov"]["settings"] == {"fraction": 2e-4, "low": 1.0, "high": 5.0}
    assert "2505.22617" in listed["clip_cov"]["papers"]
    assert listed["entropy_target"]["settings"]["target"] == "required"
    assert all(recipe["summary"] for recipe in listed.values())


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_can_be_explained(name, capsys):
    main(["recipes", name])
    assert name in capsys.readouterr().out
    main(["recipes", name, "--json"])
    parts = json.loads(capsys.readouterr().out)["parts"]
    assert {"advantage", "surrogate", "aggregation"} <= {part["slot"] for part in parts}
    assert all(part["description"] for part in parts)


def test_settings_in_parentheses_are_those_that_are_explained(capsys):
    main(["recipes", "clip_cov(fraction=0.02)"])
    assert "DropRandom(fraction=0.02" in capsys.readouterr().out


def test_an_unknown_recipe_suggests_a_near_one(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["recipes", "clip_conv"])
    assert "did you mean 'clip_cov'?" in capsys.readouterr().err


def test_a_combination_says_what_each_brings_in(capsys):
    main(["recipes", "dapo + qae + entropic(target=0.6)"])
    shown = capsys.readouterr().out
    assert "qae differs from dapo in advantage" in shown
    assert "entropic differs from grpo in regularizers" in shown
    assert "target=0.6" in shown
    main(["recipes", "clip_cov + era", "--json"])
    described = json.loads(capsys.readouterr().out)
    assert described["papers"] == ["2505.22617", "2402.03300", "2510.08549"]
    assert {"slot", "part", "description"} == described["parts"][0].keys()
