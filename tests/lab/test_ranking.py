"""What a comparison of many recipes says: pairs by seed, marks, and what chance alone would mark."""

import math

import numpy as np
import pytest

from isentrope.cli.train import base_experiment
from isentrope.lab.experiment import Experiment, run
from isentrope.lab.laboratory_settings import BUDGET, COMBINATIONS, SETTINGS, all_recipes
from isentrope.lab.ranking import (
    COMPARED,
    HEADINGS,
    MARKED,
    Cell,
    Difference,
    baseline,
    marks,
    read_records,
    record,
    shown,
    standings,
    write_records,
)
from isentrope.lab.trainer import TrainerSettings
from isentrope.policy import recipes
from isentrope.report.store import RunStore


def row(recipe, seed, passed, **more):
    return {
        "recipe": recipe, "baseline": None if recipe == "grpo" else "grpo", "seed": seed, "reward": 0.5, "pass@1": 0.1,
        "pass@8": passed, "entropy": 0.2, "entropy_share": 0.4, "target_distance": None, "seconds": 9.0, "tokens": 1e5,
        "entropies": [0.5, 0.2], **more,
    }  # fmt: skip


def test_differences_are_those_of_the_same_seed():
    # The seeds differ by far more than the recipes: only in pairs is the gain to be seen.
    rows = [row("grpo", s, passed) for s, passed in ((0, 0.1), (1, 0.5), (2, 0.9))]
    rows += [row("qae", s, passed) for s, passed in ((2, 0.95), (0, 0.12), (1, 0.52))]
    best, plain = standings(rows)
    assert (best.recipe, plain.recipe) == ("qae", "grpo")
    difference = best.differences["pass@8"]
    assert difference.cell.mean == pytest.approx(0.03)
    # Deviations -0.01, -0.01, 0.02: a standard deviation of sqrt(6e-4 / 2), over sqrt(3).
    assert difference.cell.stderr == pytest.approx(0.01)
    assert difference.marked
    assert f"{difference:+.3f}" == "+0.030±0.010*"
    assert (plain.baseline, plain.differences["pass@8"].pairs) == (None, 0)
    assert shown(plain)[HEADINGS.index("pass@8") + 1] == "–"


def test_a_seed_that_one_of_them_lacks_is_no_pair():
    rows = [row("grpo", 0, 0.5), row("grpo", 1, 0.6), row("qae", 1, 0.7), row("qae", 2, 9.0)]
    standing = next(s for s in standings(rows) if s.recipe == "qae")
    difference = standing.differences["pass@8"]
    assert (difference.pairs, difference.cell.mean) == (1, pytest.approx(0.1))
    assert not difference.marked
    assert difference.chance == 0
    assert standing.cells["pass@8"].mean == pytest.approx(4.85)


def test_the_share_that_chance_marks_is_student_s():
    # P(|t| > x) with one degree of freedom is 1 - (2 / pi) atan x, with two 1 - x / sqrt(2 + x^2).
    of = {pairs: Difference(Cell(0.0, 1.0), pairs).chance for pairs in (2, 3)}
    assert of[2] == pytest.approx(1 - 2 / math.pi * math.atan(MARKED))
    assert of[3] == pytest.approx(1 - MARKED / math.sqrt(2 + MARKED**2))


def test_where_nothing_differs_as_many_are_marked_as_chance_says():
    rng, names, counts = np.random.default_rng(0), list("abcdefgh"), []
    for _ in range(400):
        rows = [row(name, seed, rng.normal(), baseline="a") for name in names for seed in range(3)]
        marked, of, chance = marks([s for s in standings(rows) if s.recipe != "a"], "pass@8")
        assert (of, chance) == (7, pytest.approx(7 * (1 - 2 / math.sqrt(6))))
        counts.append(marked)
    # Marks of one round share their baseline, so only whole rounds are independent.
    assert np.mean(counts) == pytest.approx(chance, abs=4 * float(np.std(counts)) / math.sqrt(len(counts)))


def test_the_largest_comes_first():
    rows = [row("grpo", 0, 0.5, reward=0.1), row("qae", 0, 0.4, reward=0.2), row("era", 0, 0.6, reward=0.15)]
    assert [s.recipe for s in standings(rows)] == ["era", "grpo", "qae"]
    assert [s.recipe for s in standings(rows, by="reward")] == ["qae", "era", "grpo"]


def test_rows_come_back_from_the_file(tmp_path):
    rows = [row("grpo", 0, 0.5), row("qae", 0, 0.4, target_distance=0.1, entropies=[0.1])]
    write_records(rows, tmp_path / "comparison.parquet")
    assert read_records(tmp_path / "comparison.parquet") == rows


def test_a_number_that_some_rows_lack_is_kept_and_shown_as_missing(tmp_path):
    fewer = {name: value for name, value in row("era", 0, 0.5).items() if name != "pass@8"}
    rows = [row("grpo", 0, 0.5), row("grpo", 1, 0.7), row("qae", 0, 0.6, **{"pass@4": 0.25}), fewer]
    rows += [row("qae", 1, None), row("era", 1, None, entropy_share=None, seconds=None)]
    write_records(rows, tmp_path / "comparison.parquet")
    read = read_records(tmp_path / "comparison.parquet")
    assert [r["pass@4"] for r in read] == [None, None, 0.25, None, None, None]
    for records in (rows, read):
        first, second, last = standings(records)
        assert (first.recipe, second.recipe, last.recipe) == ("grpo", "qae", "era")
        # A seed counts as a pair only if both have the number.
        assert (second.differences["pass@8"].pairs, second.differences["pass@8"].cell.mean) == (1, pytest.approx(0.1))
        assert last.differences["pass@8"].pairs == 0
        assert shown(last)[HEADINGS.index("pass@8") :][:2] == ("–", "–")
        assert shown(last)[HEADINGS.index("of start")] == "40%"
    (alone,) = standings([row("era", 1, None, entropy_share=None, seconds=None)])
    assert [shown(alone)[HEADINGS.index(name)] for name in ("of start", "seconds")] == ["–", "–"]


def test_a_run_becomes_a_row(tmp_path):
    experiment = Experiment(
        "entropy_target", task="addition", steps=3, target_entropy=0.5, warm_start_steps=0, evaluation_problems=2,
        evaluation_samples=8, settings=TrainerSettings(prompts_per_step=2, group_size=4, seed=5),
    )  # fmt: skip
    store = RunStore.create(tmp_path, "run", experiment.config("test"))
    assert run(experiment, store)
    metrics, made = store.metrics(), record(RunStore.open(store.path))
    assert (made["recipe"], made["baseline"], made["seed"], made["steps"]) == ("entropy_target", "grpo", 5, 3)
    assert made["entropies"] == metrics["entropy"][1:].tolist()
    assert made["entropy_before"] == metrics["evaluation_entropy"][0]
    assert made["entropy"] == metrics["evaluation_entropy"][3]
    assert made["entropy_share"] == pytest.approx(made["entropy"] / made["entropy_before"])
    assert made["pass@8_before"] == metrics["pass@8"][0]
    assert made["target_entropy"] == 0.5
    assert made["tokens"] == pytest.approx(8 * metrics["completion_length"][1:].sum())
    (standing,) = standings([made])
    assert set(COMPARED) == standing.differences.keys()


def test_every_recipe_is_compared():
    chosen, left_out = all_recipes()
    assert {recipes.parsed(setting.text)[0][0] for setting in chosen} == recipes.names().keys()
    assert left_out == []
    assert len({setting.text for setting in chosen}) == len(chosen)


@pytest.mark.parametrize("setting", [*SETTINGS.values(), *COMBINATIONS], ids=lambda setting: setting.text)
def test_settings_of_the_laboratory_are_not_the_published_ones_and_say_why(setting):
    target = 0.5 if recipes.takes(setting.text, "target") else None
    objective = Experiment(setting.text, target_entropy=target).objective()
    assert setting.reason
    assert setting.text not in recipes.names() or setting.experiment or "teacher" in objective.needs
    assert (" + " in setting.text) == (setting in COMBINATIONS)


def test_the_budget_is_that_of_an_experiment():
    experiment = base_experiment(**BUDGET)
    assert (experiment.steps, experiment.warm_start_steps) == (BUDGET["steps"], BUDGET["warm_start"])
    # A clip acts from the second optimiser step on a batch on.
    assert experiment.settings.windows > 1


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [("grpo", None), ("grpo(epsilon=0.1)", "grpo"), ("dapo", "grpo"), ("siren", "dr_grpo"), ("qae + entropic", "dapo")],
)
def test_a_recipe_is_compared_with_what_it_is_made_from(recipe, expected):
    assert baseline(Experiment(recipe)) == expected
