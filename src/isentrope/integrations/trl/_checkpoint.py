"""What TRL's checkpoints lack: the objective's state, and the rollouts that a resumed run must not draw again."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from isentrope._files import replacing, write_atomically

FOLDER = "isentrope"


@dataclass
class Progress:
    """Where a run stands between two optimiser steps.

    Attributes:
        objective: the objective's name.
        state: its state, as `State.to_dict` gives it.
        micro_steps: micro-batches done, TRL's ``_step``.
        layout: sizes that say which rows of a generation batch come next; a resumed run must have the same.
        seen: metrics of the present generation batch, for the controllers.
        last: metrics of the last optimiser step.
        in_block: whether rollouts of the present generation batch are still to be trained on.
    """

    objective: str
    state: dict[str, Any]
    micro_steps: int
    layout: dict[str, int]
    seen: dict[str, float]
    last: dict[str, float]
    in_block: bool


def save(checkpoint: Path, progress: Progress, rank: int, buffer: list[dict[str, Any]]) -> None:
    """Write a rank's rollouts and, on the first rank, the progress; each file whole or not at all."""
    folder = checkpoint / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    if progress.in_block:
        tensors, rest = {}, {}
        for index, rows in enumerate(buffer):
            for key, value in rows.items():
                if isinstance(value, Tensor):
                    # Micro-batches are views of one tensor, which safetensors refuses.
                    tensors[f"{index}|{key}"] = value.detach().clone().contiguous()
                elif value is not None:
                    rest[f"{index}|{key}"] = value
        with replacing(folder / f"rollouts-{rank}.safetensors") as path:
            save_file(tensors, path, {"count": str(len(buffer)), "lists": json.dumps(rest)})
    if rank == 0:
        write_atomically(folder / "progress.json", json.dumps(asdict(progress), indent=1).encode())


def load(checkpoint: Path) -> Progress | None:
    """The progress in a checkpoint; None if a stock trainer wrote it.

    Raises:
        ValueError: if the file is damaged.
    """
    path = checkpoint / FOLDER / "progress.json"
    if not path.is_file():
        return None
    try:
        return Progress(**json.loads(path.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); resume from an earlier checkpoint") from error


def load_rollouts(checkpoint: Path, rank: int, device: torch.device) -> list[dict[str, Any]]:
    """A rank's micro-batches of rollouts.

    Raises:
        ValueError: if the file is missing or damaged.
    """
    path = checkpoint / FOLDER / f"rollouts-{rank}.safetensors"
    try:
        tensors = load_file(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} is missing or damaged ({error}); resume from an earlier checkpoint") from error
    rows: list[dict[str, Any]] = [{} for _ in range(int(metadata["count"]))]
    for name, value in {**tensors, **json.loads(metadata["lists"])}.items():
        index, _, key = name.partition("|")
        rows[int(index)][key] = value.to(device) if isinstance(value, Tensor) else value
    return rows
