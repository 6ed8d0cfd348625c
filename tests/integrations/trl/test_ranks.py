"""Two processes that average gradients train as one process on the same completions does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from runs import given, metrics, parameters, settings, trained

from isentrope.policy import recipes
from isentrope.policy.selection import TopEntropy

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
    done = subprocess.run(
        [*command, HERE / "on_two_ranks.py", folder], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.fixture(scope="module")
def alone():
    choosing = recipes.entropic(target=2.0, threshold=0.2).with_(selection=TopEntropy(0.3))
    return trained(choosing, settings(rows=6, accumulation=3, max_grad_norm=0.0), rollout_func=given)


def by_completion(ranks, key):
    table = {}
    for rank in ranks:
        rows = zip(rank["group_ids"], rank["completion_ids"], rank["completion_mask"], rank[key], strict=True)
        for group, ids, mask, values in rows:
            table[group, tuple(ids[: sum(mask)])] = values[: sum(mask)]
    return table


def test_dapo_trains_the_same_parameters_as_trl_bit_by_bit(ranks):
    assert all(rank["bit_equal"] and rank["moved"] for rank in ranks)


def test_each_rank_resumes_inside_a_generation_batch_bit_by_bit(ranks):
    assert all(rank["resumed"] for rank in ranks)


def test_a_group_lies_on_both_ranks_and_lengths_differ(ranks):
    first, second = (set(rank["group_ids"]) for rank in ranks)
    assert first & second
    assert ranks[0]["widths"] != ranks[1]["widths"]


def test_ranks_agree_on_parameters_and_on_the_controllers_state(ranks):
    assert ranks[0]["parameters"] == ranks[1]["parameters"]
    assert ranks[0]["state"] == ranks[1]["state"]
    assert ranks[0]["state"]["memory"]
    assert ranks[0]["entropy"] == ranks[1]["entropy"]


def test_two_ranks_decide_and_train_as_one_process(ranks, alone):
    rows = {
        "group_ids": "isentrope/group_ids",
        "completion_ids": "completion_ids",
        "completion_mask": "completion_mask",
        "loss_mask": "isentrope/loss_mask",
        "advantages": "isentrope/advantages",
    }
    single = {key: [x for batch in alone._buffered_inputs for x in batch[name].tolist()] for key, name in rows.items()}
    for key in ("loss_mask", "advantages"):
        mine, theirs = by_completion(ranks, key), by_completion([single], key)
        assert mine.keys() == theirs.keys()
        for completion, values in mine.items():
            assert values == pytest.approx(theirs[completion], rel=1e-5)
    assert ranks[0]["entropy"] == pytest.approx(metrics(alone, "isentrope/entropy"), rel=1e-5)
    memory = ranks[0]["state"]["memory"]["regularizers[0].alpha"]
    for name, value in alone.objective_state.memory["regularizers[0].alpha"].items():
        assert memory[name] == pytest.approx(value, rel=1e-4)
    torch.testing.assert_close(torch.tensor(ranks[0]["parameters"]), parameters(alone), rtol=0, atol=2e-4)
