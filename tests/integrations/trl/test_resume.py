"""A run that was stopped, or killed, ends with the same parameters, bit by bit, as one that was not."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from runs import STOCK_DAPO, parameters, settings, trained, trainer
from transformers import TrainerCallback

from isentrope.policy import recipes

HERE = Path(__file__).parent
# Four optimiser steps on each generation batch; entropic has a memory, clip-cov draws at random.
OBJECTIVE = recipes.entropic(target=2.0, threshold=0.2).with_(
    token_weight=recipes.clip_cov(fraction=0.1, low=0.0, high=9.0).token_weight
)
SHAPE = {
    "accumulation": 1,
    "per_generation": 2,
    "num_iterations": 2,
    "steps": 7,
    "save_strategy": "steps",
    "save_steps": 1,
}


class StopAt(TrainerCallback):
    def __init__(self, step, how):
        self.step, self.how = step, how

    def on_save(self, args, state, control, **_):
        if state.global_step == self.step:
            self.how()


def stop():
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def unbroken():
    return trained(OBJECTIVE, settings(**SHAPE))


def resumed(folder, step, **options):
    run = trainer(OBJECTIVE, settings(**{**SHAPE, "output_dir": folder, **options}))
    run.train(resume_from_checkpoint=f"{folder}/checkpoint-{step}")
    return run


@pytest.mark.parametrize("step", [2, 3, 4, 5], ids=["inside", "before the edge", "at the edge", "after the edge"])
def test_a_stopped_run_resumes_bit_by_bit(step, tmp_path, unbroken):
    run = trainer(OBJECTIVE, settings(**{**SHAPE, "output_dir": str(tmp_path)}), callbacks=[StopAt(step, stop)])
    with pytest.raises(KeyboardInterrupt):
        run.train()
    again = resumed(str(tmp_path), step)
    assert torch.equal(parameters(again), parameters(unbroken))
    assert again.objective_state == unbroken.objective_state
    assert [row.get("isentrope/entropy") for row in again.state.log_history] == [
        row.get("isentrope/entropy") for row in unbroken.state.log_history
    ]


def test_a_killed_run_resumes_bit_by_bit(tmp_path, unbroken):
    script = (
        "import os, signal\nfrom runs import settings, trainer\nfrom test_resume import OBJECTIVE, SHAPE, StopAt\n"
        f"args = settings(**{{**SHAPE, 'output_dir': {str(tmp_path)!r}}})\n"
        "trainer(OBJECTIVE, args, callbacks=[StopAt(3, lambda: os.kill(os.getpid(), signal.SIGKILL))]).train()"
    )
    environment = {**os.environ, "PYTHONPATH": str(HERE), "TRL_EXPERIMENTAL_SILENCE": "1"}
    killed = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert torch.equal(parameters(resumed(str(tmp_path), 3)), parameters(unbroken))


def test_a_checkpoint_says_what_it_does_not_fit(tmp_path):
    args = settings(**{**SHAPE, "output_dir": str(tmp_path), "steps": 3})
    trained(OBJECTIVE, args)
    with pytest.raises(ValueError, match="middle of a generation batch, with another steps_per_generation"):
        resumed(str(tmp_path), 3, per_generation=1)
    other = trainer(STOCK_DAPO, args)
    with pytest.raises(ValueError, match=r"the state remembers \['regularizers\[0\].alpha'\]"):
        other.train(resume_from_checkpoint=f"{tmp_path}/checkpoint-3")
    rollouts = tmp_path / "checkpoint-3" / "isentrope" / "rollouts-0.safetensors"
    rollouts.write_bytes(rollouts.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"rollouts-0.safetensors is missing or damaged"):
        resumed(str(tmp_path), 3)
    progress = tmp_path / "checkpoint-2" / "isentrope" / "progress.json"
    progress.write_text(progress.read_text()[:50])
    with pytest.raises(ValueError, match=r"progress.json is damaged"):
        resumed(str(tmp_path), 2)


def test_a_checkpoint_of_the_stock_trainer_can_be_gone_on_with(tmp_path, caplog):
    args = settings(**{**SHAPE, "output_dir": str(tmp_path), "steps": 4})
    trained(None, args)
    run = resumed(str(tmp_path), 4, steps=5)
    assert run.objective_state.step == 1


def test_progress_is_plain_json_without_tensors(tmp_path):
    trained(OBJECTIVE, settings(**{**SHAPE, "output_dir": str(tmp_path), "steps": 4}))
    at_edge = tmp_path / "checkpoint-4" / "isentrope"
    assert json.loads((at_edge / "progress.json").read_text())["micro_steps"] == 4
    assert not list(at_edge.glob("*.safetensors"))
    assert list((tmp_path / "checkpoint-3" / "isentrope").glob("*.safetensors"))
