"""`ObjectiveTrainer`: verl's synchronous trainer with an `Objective` in the place of its advantage and its loss.

verl samples, scores and updates as ever. Between, the driver holds the whole batch: there `Objective.prepare` and the
controllers run, and each row is given what its loss will need. Controllers act once a batch of rollouts, and the
optimiser steps on this batch share their numbers.
"""

import json
import logging
from functools import partial
from pathlib import Path

import numpy as np
import transfer_queue as tq
from omegaconf import DictConfig
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

from isentrope._files import write_atomically
from isentrope.integrations.verl._surface import check_surface
from isentrope.integrations.verl.configuration import reconcile, refuse_what_verl_cannot, requested_objective
from isentrope.integrations.verl.loss import NOTE, objective_loss, unpack
from isentrope.integrations.verl.stage import real_rows, row_fields, token_batch, windows
from isentrope.policy import Diagnosis, State, diagnose
from isentrope.policy.dynamics import entropy_drivers

_LOGGER = logging.getLogger(__name__)

_STATE_FILE = "isentrope.json"


class ObjectiveTrainer(PPOTrainerSync):
    """verl's trainer under the mode ``isentrope``; see `isentrope.integrations.verl.configuration` for its keys.

    Args:
        config: verl's configuration with the key ``isentrope.objective``.

    Attributes:
        objective: what is trained.
        objective_state: its state; saved with each checkpoint as ``isentrope.json`` and restored from it.
        history: the metrics of each step.

    Raises:
        ImportError: for another version of verl.
        ValueError: if verl cannot host the objective, or a setting contradicts it.
    """

    def __init__(self, config: DictConfig):
        check_surface()
        self.objective, seed = requested_objective(config)
        refuse_what_verl_cannot(self.objective)
        reconcile(config, self.objective)
        super().__init__(config)
        self.objective_state: State = self.objective.start(seed)
        self.history: list[dict[str, float]] = []

    def _setup(self) -> None:
        super()._setup()
        self.actor_rollout_wg.set_loss_fn(partial(objective_loss, self.objective))

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        """Prepare the whole batch and give each row what its loss needs."""
        assert batch.partition_id is not None
        fields = ["uid", "response_mask", "rm_scores", "old_log_probs", "entropy"]
        fields += ["ref_log_prob"] * self.use_reference_policy + ["responses"] * ("token_ids" in self.objective.needs)
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=fields)
        real = real_rows(batch.keys, batch.tags)
        raw = token_batch(data, self.objective).rows(real.nonzero().squeeze(-1))

        prepared, tally = self.objective.prepare(raw, self.objective_state)
        row = tally.means()
        if raw.old_entropy is not None and prepared.advantages is not None:
            row |= entropy_drivers(raw.old_log_probs, raw.old_entropy, prepared.advantages, raw.mask)
        self.objective_state = self.objective.control(self.objective_state, tally.means())
        row |= self.objective.control_metrics(self.objective_state)
        self._record(row, metrics)

        actor, rollout = self.config.actor_rollout_ref.actor, self.config.actor_rollout_ref.rollout
        ranks = max(self.actor_rollout_wg._dispatch_info["actor"]) + 1
        deal = windows(
            len(real), actor.ppo_mini_batch_size * rollout.n, ranks, actor.shuffle, seed=actor.data_loader_seed
        )
        tensors, note = row_fields(prepared, real, data["response_mask"], deal, rollout.response_length)
        carried = TensorDict(tensors, batch_size=len(real))
        batch = tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=carried)
        assert batch.extra_info is not None
        batch.extra_info[NOTE] = json.dumps({"state": self.objective_state.to_dict(), **note})
        return batch

    def _update_actor(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        """Update the actor, then end the objective's step with the metrics of its loss."""
        batch = super()._update_actor(batch, metrics)
        means = unpack(metrics)
        self._record(means, metrics)
        self.objective_state = self.objective_state.next_step(means)
        return batch

    def _record(self, row: dict[str, float], metrics: dict) -> None:
        metrics.update({f"isentrope/{name}": value for name, value in row.items()})
        if not self.history or self.history[-1]["step"] != self.global_steps:
            self.history.append({"step": float(self.global_steps)})
        self.history[-1].update(row)

    def fit(self, agent_loop_manager) -> None:
        """Train, and say at the end what the entropy did and why; ``diagnosis.json`` beside the checkpoints says it too."""
        super().fit(agent_loop_manager)
        if self.history:
            diagnosis = self.diagnosis()
            print(diagnosis)
            folder = Path(self.config.trainer.default_local_dir)
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / "diagnosis.json", json.dumps(diagnosis.to_dict(), indent=2).encode())

    def diagnosis(self) -> Diagnosis:
        """What the entropy of the run did so far."""
        names = {name: None for row in self.history for name in row}
        return diagnose({name: np.array([row.get(name, np.nan) for row in self.history]) for name in names})

    def _save_checkpoint(self) -> None:
        # verl marks the checkpoint as the latest at the end of its own part, so ours must be there before.
        folder = Path(self.config.trainer.default_local_dir) / f"global_step_{self.global_steps}"
        folder.mkdir(parents=True, exist_ok=True)
        saved = {"objective": repr(self.objective), "state": self.objective_state.to_dict(), "history": self.history}
        write_atomically(folder / _STATE_FILE, json.dumps(saved).encode())
        super()._save_checkpoint()

    def _load_checkpoint(self) -> None:
        super()._load_checkpoint()
        if not self.global_steps:
            return
        trainer = self.config.trainer
        if trainer.resume_mode == "resume_path":
            folder = Path(trainer.resume_from_path)
        else:
            folder = Path(trainer.default_local_dir) / f"global_step_{self.global_steps}"
        path = folder / _STATE_FILE
        if not path.exists():
            _LOGGER.warning("%s is not there: the objective %s starts afresh", path, self.objective.name)
            return
        saved = json.loads(path.read_text())
        if saved["objective"] != repr(self.objective):
            _LOGGER.warning("the checkpoint was made with %s, now it is %s", saved["objective"], self.objective)
        self.objective_state = State.from_dict(saved["state"])
        self.objective.at(self.objective_state)
        self.history = saved["history"]
