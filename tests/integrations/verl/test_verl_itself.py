"""What runs inside verl itself: its plugin loading, its training worker on two ranks, its queue on a local Ray."""

import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import pytest
import torch

pytest.importorskip("verl", reason="verl is not installed")
pytest.importorskip("tensordict", reason="tensordict, which verl imports, is not installed")
pytest.importorskip("transfer_queue", reason="TransferQueue, which verl's trainer imports, is not installed")

import ray
import transfer_queue as tq
from omegaconf import OmegaConf
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils.transferqueue_utils import _meta_to_realdata
from verl_driver import DictionaryQueue, Workers, configuration, stepped
from verl_rows import driven, everything, near_old, rollouts, worker

from isentrope.integrations.verl import trainer as trainer_module
from isentrope.integrations.verl.loss import objective_loss, unpack
from isentrope.integrations.verl.trainer import ObjectiveTrainer

FOLDER = Path(__file__).parent

LOADING = """
import sys
import {first}
import {second}
print(sorted(name for name in sys.modules if name in ("isentrope.policy", "verl.trainer.ppo.core_algos")))
from verl.trainer.ppo.core_algos import get_policy_loss_fn
print(get_policy_loss_fn("isentrope_gspo").__name__)
from verl.trainer.ppo.v1 import get_trainer_cls
print(get_trainer_cls("isentrope").__name__, get_trainer_cls("sync").__name__)
"""


def python(text, **environment):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", text], env=os.environ | environment, capture_output=True, text=True
    )
    return done.stdout.splitlines(), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second", "environment"),
    [
        ("verl", "verl", {"VERL_USE_EXTERNAL_MODULES": "isentrope.integrations.verl.plugin"}),
        ("isentrope.integrations.verl.plugin", "verl", {}),
    ],
)
def test_loading_costs_nothing_until_verl_imports_what_it_extends(first, second, environment):
    lines, errors = python(LOADING.format(first=first, second=second), **environment)
    assert lines == ["[]", "isentrope_gspo", "ObjectiveTrainer PPOTrainerSync"], errors


@pytest.mark.slow
def test_a_verl_that_lacks_what_we_use_works_without_us_and_says_so():
    lines, errors = python(
        "import isentrope.integrations.verl.plugin, sys\n"
        "sys.modules['isentrope.integrations.verl.trainer'] = None\n"
        "from verl.trainer.ppo.v1 import get_trainer_cls\n"
        "print(get_trainer_cls('sync').__name__)\n"
        "get_trainer_cls('isentrope')\n"
    )
    assert lines == ["PPOTrainerSync"]
    assert "isentrope is not available in verl 0.9.1" in errors
    assert "Unknown trainer 'isentrope'" in errors


@pytest.mark.slow
@pytest.mark.parametrize("micro_batches", ["fixed", "dynamic"])
def test_verls_training_worker_on_two_ranks_gives_the_whole_batchs_loss_and_gradient(tmp_path, micro_batches):
    near_old().float().save_pretrained(tmp_path)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, str(FOLDER / "cpu_rank.py"), str(tmp_path), micro_batches],
        env=os.environ | {"PYTHONPATH": str(FOLDER), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    assert lines, done.stderr[-3000:]
    result = json.loads(lines[0].removeprefix("RESULT"))
    objective = everything()
    data = driven(objective, rollouts())
    [(gradient, loss)], metrics = worker(near_old(), data, partial(objective_loss, objective), mini=len(data))
    assert result["loss"] == pytest.approx(loss, rel=1e-4, abs=1e-5)
    assert result["norm"] == pytest.approx(float(gradient.norm()), rel=1e-4)
    assert result["means"] == pytest.approx(unpack(metrics), rel=1e-4)


@pytest.mark.slow
def test_a_step_through_the_real_queue_is_that_through_the_dictionary(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(PPOTrainerSync, "_setup", lambda self: None)

    def step(queue, read):
        monkeypatch.setattr(trainer_module, "tq", queue)
        trainer = ObjectiveTrainer(configuration(objective="grpo(kl_coefficient=0.1)"))
        trainer.distillation_config = None
        trainer.actor_rollout_wg = Workers(read)
        trainer._setup()
        return stepped(trainer, queue, filling=8), trainer.actor_rollout_wg.steps

    dictionary = DictionaryQueue()
    expected, of_dictionary = step(dictionary, dictionary.read)
    # Sockets of Ray need a short path.
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=folder)
        try:
            storage = {"total_storage_size": 1000, "num_data_storage_units": 1}
            tq.init(OmegaConf.create({"backend": {"storage_backend": "SimpleStorage", "SimpleStorage": storage}}))
            metrics, steps = step(tq, _meta_to_realdata)
        finally:
            tq.close()
            ray.shutdown()
    assert metrics == pytest.approx(expected, rel=1e-9)
    for (gradient, loss), (other, of_other) in zip(steps, of_dictionary, strict=True):
        assert loss == pytest.approx(of_other, rel=1e-9)
        torch.testing.assert_close(gradient, other, rtol=1e-9, atol=1e-12)
