"""A driver for the tests: verl's configuration, its queue as a dictionary, its workers re-enacted, and a step."""

import copy
import json
import os
from functools import cache

import torch
import verl
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.padding_utils import construct_minimal_padding_template
from verl.utils import tensordict_utils as tu
from verl_rows import near_old, rollouts, worker

USUAL = (
    "trainer.v1.trainer_mode=isentrope",
    "algorithm.adv_estimator=grpo",
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=2",
    "actor_rollout_ref.actor.ppo_mini_batch_size=2",
    "actor_rollout_ref.rollout.n=4",
    "actor_rollout_ref.rollout.calculate_log_probs=False",
    "data.max_response_length=9",
)


@cache
def composed(*overrides):
    folder = os.path.join(os.path.dirname(verl.__file__), "trainer", "config")
    with initialize_config_dir(folder, version_base=None):
        return compose("ppo_trainer", overrides=[*USUAL, *overrides])


def configuration(*overrides, objective="dapo"):
    """verl's configuration with these settings, made from one composition because Hydra takes its time."""
    config = copy.deepcopy(composed())
    for override in (f"isentrope.objective={json.dumps(objective)}", *overrides):
        name, _, value = override.removeprefix("+").partition("=")
        OmegaConf.update(config, name, OmegaConf.create(f"value: {value}").value, force_add=True)
    return config


class DictionaryQueue:
    """TransferQueue's three calls. As there, rows of one dimension or more come back nested."""

    def __init__(self):
        self.rows = {}

    def kv_batch_put(self, keys, partition_id, fields=None, tags=None):
        for i, key in enumerate(keys):
            row = self.rows.setdefault(key, {})
            for name, value in () if fields is None else fields.items():
                row[name] = value[i] if isinstance(value, torch.Tensor) else value.tolist()[i]
        present = sorted(set.intersection(*(set(self.rows[key]) for key in keys)))
        return KVBatchMeta(keys=keys, tags=tags or [{} for _ in keys], partition_id=partition_id, fields=present)

    def kv_batch_get(self, keys, partition_id, select_fields=None):
        names = [n for n in select_fields or self.rows[keys[0]] if all(n in self.rows[key] for key in keys)]
        columns = {name: [copy.deepcopy(self.rows[key][name]) for key in keys] for name in names}
        data = {
            name: values
            if not isinstance(values[0], torch.Tensor)
            else torch.stack(values)
            if values[0].ndim == 0
            else torch.nested.as_nested_tensor(values, layout=torch.jagged)
            for name, values in columns.items()
        }
        return tu.get_tensordict(data)

    def read(self, batch):
        """A batch's data as the workers get them."""
        data = self.kv_batch_get(batch.keys, batch.partition_id, batch.fields)
        for name, value in batch.extra_info.items():
            tu.assign_non_tensor_data(data, name, value)
        return data


class Workers:
    """The worker group of two data-parallel ranks; ``read`` gives them the data of a batch."""

    _dispatch_info = {"actor": [0, 1]}  # noqa: RUF012

    def __init__(self, read):
        self.read, self.model, self.loss, self.steps = read, near_old(), None, []

    def set_loss_fn(self, loss_fn):
        self.loss = loss_fn

    def update_actor(self, batch):
        data = self.read(batch)
        mini = batch.extra_info["mini_batch_size"]
        self.steps, metrics = worker(self.model, data, self.loss, mini=mini, ranks=2, micro=2)
        # Reduced already; verl's driver reduces lists of one value for each mini-batch.
        listed = {name: [value] for name, value in metrics.items()} | {"mfu": [0.0]}
        return tu.get_tensordict({}, {"metrics": listed})


def with_filling(data, rows):
    """The data with verl's synthetic rows behind: one token, masked, without a reward."""
    columns = {
        name: value.unbind() if isinstance(value, torch.Tensor) else value.tolist() for name, value in data.items()
    }
    real = [{name: column[i] for name, column in columns.items()} for i in range(len(data))]
    template, tag = construct_minimal_padding_template(real[0], {}, eos_token_id=1)
    scored = {"old_log_probs": torch.zeros(1), "entropy": torch.ones(1), "ref_log_prob": torch.zeros(1)}
    template |= {"uid": "pad"} | {name: value.double() for name, value in scored.items()}
    kept = {name: template[name] for name in real[0]}
    return tu.list_of_dict_to_tensordict([*real, *[copy.deepcopy(kept) for _ in range(rows)]]), tag


def stepped(trainer, queue, seed=0, filling=0, step=1):
    """One batch of rollouts through the trainer's two overridden stages; returns its metrics."""
    data = rollouts(prompts=4, n=4, seed=seed)
    keys = [f"{uid}_{i % 4}_0" for i, uid in enumerate(data["uid"])]
    tags = [{} for _ in keys]
    if filling:
        data, tag = with_filling(data, filling)
        keys += [f"pad_{i}_0" for i in range(filling)]
        tags += [tag] * filling
    trainer.global_steps = step
    queue.kv_batch_put(keys, "train", data, tags)
    batch = KVBatchMeta(keys=keys, tags=tags, partition_id="train", extra_info={"temperature": 1.0})
    metrics = {}
    batch = trainer._compute_advantage(batch, metrics)
    trainer._update_actor(batch, metrics)
    return metrics
