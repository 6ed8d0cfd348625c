"""The driver's part: what it reads from verl's queue, what it writes back, and what survives a checkpoint.

verl's trainer is constructed as it is; its workers are re-enacted (`verl_rows.worker`), and its TransferQueue is a
dictionary, or, in the slow test, the real one on a local Ray.
"""

import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("verl", reason="verl is not installed")
pytest.importorskip("tensordict", reason="tensordict, which verl imports, is not installed")
pytest.importorskip("transfer_queue", reason="TransferQueue, which verl's trainer imports, is not installed")

from verl.trainer.ppo.v1.trainer_base import PPOTrainer
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.workers.utils.padding import no_padding_2_padding
from verl_driver import DictionaryQueue, Workers, composed, configuration, stepped
from verl_rows import gradients, near_old, rollouts, scores

from isentrope.integrations.verl import trainer as trainer_module
from isentrope.integrations.verl.configuration import requested_objective
from isentrope.integrations.verl.stage import real_rows, token_batch
from isentrope.integrations.verl.trainer import ObjectiveTrainer
from isentrope.policy import recipes
from isentrope.policy.rollout import Tempered
from isentrope.policy.selection import TopEntropy
from isentrope.policy.weights import DropRandom


@pytest.fixture
def made(monkeypatch):
    """Makes a trainer with two re-enacted workers on a dictionary."""

    def make(*overrides, objective="dapo"):
        trainer = ObjectiveTrainer(configuration(*overrides, objective=objective))
        queue = DictionaryQueue()
        monkeypatch.setattr(trainer_module, "tq", queue)
        monkeypatch.setattr(PPOTrainerSync, "_setup", lambda self: None)
        trainer.actor_rollout_wg = Workers(queue.read)
        trainer._setup()
        trainer.distillation_config = None
        return trainer, queue

    return make


# --- what is asked for


def test_the_objective_comes_through_verls_command_line(tmp_path, monkeypatch):
    (tmp_path / "my_objectives.py").write_text(
        "from isentrope.policy import recipes\n"
        "from isentrope.policy.selection import TopEntropy\n"
        "forks = recipes.dapo().with_(name='forks', selection=TopEntropy(0.2))\n"
        "number = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for text, name in (
        ("clip_cov(fraction=0.02)", "clip_cov"),
        ("my_objectives:forks", "forks"),
        ("isentrope.policy.recipes:grpo", "grpo"),
    ):
        objective, seed = requested_objective(composed(f'+isentrope.objective="{text}"', "+isentrope.seed=7"))
        assert (objective.name, seed) == (name, 7)
    with pytest.raises(ValueError, match="'my_objectives:number' must be an Objective, or make one, got 3"):
        requested_objective(configuration(objective="my_objectives:number"))


@pytest.mark.parametrize(
    ("overrides", "objective", "message"),
    [
        ((), "clip_kov", "did you mean 'clip_cov'"),
        (("+isentrope.sede=1",), "dapo", r"unknown keys \['sede'\]"),
        (("+isentrope.seed=one",), "dapo", "seed must be an integer"),
        (("algorithm.adv_estimator=gae",), "dapo", "a critic that nothing reads"),
        (("critic.enable=True",), "dapo", "no critic"),
        (("actor_rollout_ref.actor.entropy_coeff=0.01",), "dapo", "EntropyBonus"),
        (("actor_rollout_ref.actor.use_kl_loss=True",), "dapo", "KLPenalty"),
        (("actor_rollout_ref.actor.policy_loss.loss_mode=gspo",), "dapo", "loss_mode=gspo"),
        (("algorithm.use_kl_in_reward=True",), "dapo", "KL part"),
        (("algorithm.rollout_correction.rollout_is=token",), "dapo", "rollout_is=token"),
        (
            ("actor_rollout_ref.actor.shuffle=True", "actor_rollout_ref.actor.ppo_epochs=2"),
            "dapo",
            "shuffle=True with ppo_epochs=2",
        ),
    ],
)
def test_what_contradicts_the_objective_is_refused_by_name(overrides, objective, message):
    with pytest.raises(ValueError, match=message):
        ObjectiveTrainer(configuration(*overrides, objective=objective))


def test_a_missing_objective_is_refused():
    config = configuration()
    config.isentrope.objective = None
    with pytest.raises(ValueError, match="needs an objective, as in"):
        ObjectiveTrainer(config)


def activation(logits):
    return logits


def part_that_needs(*needs):
    part = DropRandom(0.1, where=lambda batch: batch.mask)
    return type("Part", (type(part),), {"needs": frozenset(needs)})(0.1, part.where)


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (recipes.dapo().adding(rollout=Tempered(1.2)), "cannot host the rollout part Tempered"),
        (recipes.dapo().with_(output_activation=activation), "output activation"),
        (recipes.dapo().adding(token_weight=part_that_needs("logits")), r"needs logits \(full logits"),
        (recipes.dapo().adding(token_weight=part_that_needs("varentropy")), "needs varentropy"),
    ],
)
def test_parts_without_a_place_in_verl_are_refused_by_name(objective, message, monkeypatch):
    monkeypatch.setattr(trainer_module, "requested_objective", lambda config: (objective, 0))
    with pytest.raises(ValueError, match=message):
        ObjectiveTrainer(configuration())


def test_needs_switch_on_what_verls_workers_compute():
    for text, entropy, reference in (
        ("dapo", False, False),
        ("entropy_bonus", True, False),
        ("grpo(kl_coefficient=0.04)", False, True),
    ):
        trainer = ObjectiveTrainer(configuration(objective=text))
        actor = trainer.config.actor_rollout_ref.actor
        assert (actor.calculate_entropy, actor.use_kl_loss, trainer.use_reference_policy) == (
            entropy,
            reference,
            reference,
        )
        assert trainer.trainer_mode == trainer.config.trainer.v1.trainer_mode == "sync"


def test_another_verl_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr("isentrope.integrations._surface.version", lambda name: "0.10.0")
    monkeypatch.setattr(PPOTrainer, "_update_actor", lambda self, batch: batch)
    with pytest.raises(
        ImportError, match=r"made for verl 0.9.1, found 0.10.0; changed in it: PPOTrainer._update_actor"
    ):
        ObjectiveTrainer(configuration())


# --- a step


@pytest.mark.parametrize("filling", [0, 8])
def test_a_step_is_the_objectives_own(made, filling):
    trainer, queue = made(objective="grpo(kl_coefficient=0.1)")
    metrics = stepped(trainer, queue, filling=filling)
    objective, raw = trainer.objective, rollouts(prompts=4, n=4)
    batch = token_batch(raw, objective)
    prepared, tally = objective.prepare(batch, objective.start())
    for name, value in tally.means().items():
        assert metrics[f"isentrope/{name}"] == pytest.approx(value, rel=1e-6), name
    assert metrics["isentrope/completion_length"] == pytest.approx(float(batch.lengths.double().mean()))
    model = near_old()
    output = scores(model, raw)["log_probs"]
    log_probs = no_padding_2_padding(output, raw)
    windows = [[0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]]
    if filling:
        windows = [[0, 1, 2, 3, 12, 13, 14, 15], [4, 5, 6, 7], [8, 9, 10, 11]]
    steps = trainer.actor_rollout_wg.steps
    assert len(steps) == len(windows)
    for rows, (gradient, loss) in zip(windows, steps, strict=True):
        window = prepared.rows(torch.tensor(rows)).with_totals(9).with_(log_probs=log_probs[rows])
        alone, _ = objective.loss(window, objective.start())
        model.zero_grad()
        alone.backward(retain_graph=True)
        assert loss == pytest.approx(float(alone.detach()), rel=1e-5)
        torch.testing.assert_close(gradient, gradients(model), rtol=1e-4, atol=1e-5 * float(gradient.abs().max()))


def test_verls_own_metrics_find_advantages_and_returns(made):
    trainer, queue = made()
    stepped(trainer, queue)
    row = queue.rows["prompt1_2_0"]
    assert torch.equal(row["advantages"], row["returns"])
    assert len(row["advantages"]) == len(row["responses"])


def test_metrics_feed_the_diagnosis(made):
    trainer, queue = made(objective="entropy_target(target=1.5, high=5.0)")
    for step in range(1, 6):
        metrics = stepped(trainer, queue, seed=step, step=step)
    assert {"isentrope/entropy", "isentrope/loss_entropy", "isentrope/covariance/sure_and_good"} & set(metrics)
    assert metrics["isentrope/target_entropy"] == 1.5
    assert not [name for name in metrics if name.endswith(("/sum", "/count"))]
    assert [row["step"] for row in trainer.history] == [1, 2, 3, 4, 5]
    assert "The target of 1.50 nats was" in str(trainer.diagnosis())


def test_the_end_of_training_says_what_the_entropy_did(made, monkeypatch, tmp_path, capsys):
    trainer, queue = made(f"trainer.default_local_dir={tmp_path / 'new'}")

    def fit(self, agent_loop_manager):
        for step in (1, 2):
            stepped(self, queue, seed=step, step=step)

    monkeypatch.setattr(PPOTrainer, "fit", fit)
    trainer.fit(None)
    written = json.loads((tmp_path / "new" / "diagnosis.json").read_text())
    assert written["sentences"][0] in capsys.readouterr().out
    assert written["numbers"]["entropy_start"] == pytest.approx(trainer.history[0]["entropy"])


def test_controllers_move_once_a_batch_and_see_the_loss_of_the_batch_before(made):
    trainer, queue = made(objective="entropy_target(target=9.0, proportional=0.01, integral=0.001)")
    coefficients = []
    for step in range(1, 4):
        stepped(trainer, queue, seed=1, step=step)
        coefficients.append(trainer.history[-1]["coefficient/regularizers[0].coefficient"])
    entropy = trainer.history[0]["entropy"]
    error = 9.0 - entropy
    expected = [0.01 * error, 0.01 * error + 0.001 * error, 0.01 * error + 0.002 * error]
    assert coefficients == pytest.approx(expected, rel=1e-6)
    assert trainer.objective_state.step == 3
    assert set(trainer.objective_state.loss_metrics) == {
        "loss_entropy",
        "ratio_deviation",
        "clip_fraction_high",
        "clip_fraction_low",
    }


def test_several_outputs_of_one_session_are_refused():
    with pytest.raises(ValueError, match="'a_0_1'"):
        real_rows(["a_0_0", "a_0_1"], [{}, {}])


def test_data_without_entropy_are_refused_where_a_part_needs_it():
    objective = recipes.dapo().with_(selection=TopEntropy(0.2))
    data = rollouts()
    del data["entropy"]
    with pytest.raises(ValueError, match="needs old_entropy, but verl's data have no 'entropy'"):
        token_batch(data, objective)


# --- checkpoints


@pytest.fixture
def checkpoints(monkeypatch):
    """verl's own saving and loading reduced to the tracker and the number of the step."""

    def save(self):
        folder = self.config.trainer.default_local_dir
        assert os.path.exists(os.path.join(folder, f"global_step_{self.global_steps}", "isentrope.json"))
        with open(os.path.join(folder, "latest_checkpointed_iteration.txt"), "w") as file:
            file.write(str(self.global_steps))

    def load(self):
        path = os.path.join(self.config.trainer.default_local_dir, "latest_checkpointed_iteration.txt")
        self.global_steps = int(Path(path).read_text()) if os.path.exists(path) else 0

    monkeypatch.setattr(PPOTrainer, "_save_checkpoint", save)
    monkeypatch.setattr(PPOTrainer, "_load_checkpoint", load)


def test_a_resumed_run_repeats_the_unbroken_one(made, checkpoints, tmp_path):
    arguments = (f"trainer.default_local_dir={tmp_path}",)
    text = "entropy_target(target=9.0, proportional=0.01, integral=0.001)"
    unbroken, queue = made(*arguments, objective=text)
    unbroken._load_checkpoint()
    assert unbroken.objective_state == unbroken.objective.start()
    for step in (1, 2, 3):
        last = stepped(unbroken, queue, seed=step, step=step)
        if step == 2:
            unbroken._save_checkpoint()
    resumed, queue = made(*arguments, objective=text)
    resumed._load_checkpoint()
    again = stepped(resumed, queue, seed=3, step=3)
    assert again == last
    assert resumed.objective_state == unbroken.objective_state
    assert resumed.history == unbroken.history
    assert sorted(os.listdir(tmp_path / "global_step_2")) == ["isentrope.json"]


def test_a_state_of_another_objective_is_refused(made, checkpoints, tmp_path, caplog):
    arguments = (f"trainer.default_local_dir={tmp_path}",)
    first, queue = made(*arguments, objective="entropic(target=1.0)")
    stepped(first, queue, step=1)
    first._save_checkpoint()
    other, _ = made(*arguments, objective="dapo")
    with pytest.raises(ValueError, match="the state remembers"):
        other._load_checkpoint()


def test_a_checkpoint_of_the_stock_trainer_starts_the_objective_afresh(made, checkpoints, tmp_path, caplog):
    trainer, _ = made(f"trainer.default_local_dir={tmp_path}", objective="entropic(target=1.0)")
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("4")
    with caplog.at_level(logging.WARNING):
        trainer._load_checkpoint()
    assert trainer.global_steps == 4
    assert "starts afresh" in caplog.text
    assert trainer.objective_state == trainer.objective.start()


def test_the_state_is_plain_json(made, checkpoints, tmp_path):
    trainer, queue = made(f"trainer.default_local_dir={tmp_path}", objective="entropic(target=1.0)")
    stepped(trainer, queue, step=1)
    trainer._save_checkpoint()
    saved = json.loads((tmp_path / "global_step_1" / "isentrope.json").read_text())
    assert saved["state"]["step"] == 1
    assert np.isfinite(saved["history"][0]["entropy"])
