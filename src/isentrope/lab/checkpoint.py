"""Checkpoints of a trainer: policy, optimiser and objective state, whole or absent.

A checkpoint is a folder ``step-000050`` with the policy as `LanguageModel.save` writes it, ``optimizer.safetensors``,
``state.json`` and, where responses are stored for self-imitation, ``replay.safetensors``. It is written under another name and renamed when complete. Random numbers need no place in it: the
trainer derives them from the seed and the step.
"""

import json
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from isentrope.lab.models import LanguageModel
from isentrope.lab.replay import ReplayBuffer
from isentrope.lab.trainer import Trainer
from isentrope.policy import State


def save_checkpoint(folder: Path, trainer: Trainer, keep: int = 2) -> Path:
    """Write the trainer's state as ``folder/step-<count>`` and delete all but the newest ``keep`` checkpoints.

    Raises:
        OSError: if it cannot be written, naming the path; earlier checkpoints stay and nothing half-written is left.
    """
    final = folder / f"step-{trainer.step_count:06d}"
    partial = folder / f".{final.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        trainer.model.save(partial / "model")
        moments = {
            f"{index}.{name}": value
            for index, entry in trainer.optimizer.state_dict()["state"].items()
            for name, value in entry.items()
        }
        save_file(moments, partial / "optimizer.safetensors")
        state = {"step_count": trainer.step_count, "objective": trainer.state.to_dict()}
        if trainer.replay.means:
            stored, state["replay"] = trainer.replay.to_tensors()
            save_file(stored, partial / "replay.safetensors")
        (partial / "state.json").write_text(json.dumps(state, indent=1), encoding="utf-8")
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise OSError(f"the checkpoint {final} could not be written ({error}); earlier ones are intact") from error
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints in a folder, oldest first."""
    return sorted(folder.glob("step-*")) if folder.is_dir() else []


def load_policy(checkpoint: Path, kind: type[LanguageModel], name: str = "model") -> LanguageModel:
    """The policy of a checkpoint.

    Raises:
        ValueError: if its files are damaged.
    """
    try:
        return kind.load(checkpoint / name)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise _damaged(checkpoint, error) from error


def restore(checkpoint: Path, trainer: Trainer) -> None:
    """Put the optimiser's and the objective's state of a checkpoint into a trainer that has its policy.

    Raises:
        ValueError: if its files are damaged, or belong to another objective or model.
    """
    try:
        state = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
        moments = load_file(checkpoint / "optimizer.safetensors")
        objective, step_count = State.from_dict(state["objective"]), int(state["step_count"])
        replay = ReplayBuffer()
        if "replay" in state:
            replay = ReplayBuffer.from_tensors(load_file(checkpoint / "replay.safetensors"), state["replay"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise _damaged(checkpoint, error) from error
    entries: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in moments.items():
        index, key = name.split(".", 1)
        entries.setdefault(int(index), {})[key] = value
    groups = trainer.optimizer.state_dict()["param_groups"]
    trainer.optimizer.load_state_dict({"state": entries, "param_groups": groups})
    trainer.state, trainer.step_count, trainer.replay = objective, step_count, replay
    trainer.objective.at(objective)


def _damaged(checkpoint: Path, error: Exception) -> ValueError:
    return ValueError(
        f"checkpoint {checkpoint} is damaged ({error}); delete that folder to resume from the one before it"
    )
