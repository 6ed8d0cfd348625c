"""The guide's lines run as they stand, on a small model."""

import re
from pathlib import Path

from runs import given, metrics, reward, settings
from small import prompts_dataset, small_model, small_tokenizer

GUIDE = Path(__file__).parents[3] / "docs" / "trl.md"


def test_the_guide():
    names = {
        "model": small_model(),
        "reward": reward,
        "args": settings(steps=2),
        "dataset": prompts_dataset(8),
        "tokenizer": small_tokenizer(),
    }
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(block, names)
    assert metrics(names["trainer"], "isentrope/target_entropy") == [2.0, 2.0]


def test_the_log_has_what_the_guide_says():
    from runs import trained

    from isentrope.policy import recipes

    run = trained(recipes.entropy_target(target=2.0), settings(2, steps=2), rollout_func=given)
    logged = {
        name.removeprefix("isentrope/")
        for row in run.state.log_history
        for name in row
        if name.startswith("isentrope/")
    }
    table = GUIDE.read_text(encoding="utf-8").split("## What is in the log")[1]
    for name in re.findall(r"^\| (.*?) \|", table, re.MULTILINE)[2:]:
        for metric in re.findall(r"`([^`]*)`", name):
            stem = metric.split("<")[0]
            assert any(one.startswith(stem) for one in logged), metric
