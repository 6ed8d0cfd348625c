"""Run by torchrun: trains with and without an objective on this process's share and writes what came out."""

import json
import sys
from pathlib import Path

import torch
from runs import STOCK_DAPO, given, metrics, parameters, settings, trained, trainer

from isentrope.policy import recipes
from isentrope.policy.selection import TopEntropy


def rows_of(run, key):
    return [values for batch in run._buffered_inputs for values in batch[key].tolist()]


def main(folder: Path):
    # Nine rows a rank and groups of two: the fifth group lies on both ranks.
    shape = {"rows": 3, "accumulation": 3}
    sampled = [
        trained(objective, settings(**shape), **head)
        for objective, head in ((None, {}), (STOCK_DAPO, {"token_head": "trl"}))
    ]
    choosing = recipes.entropic(target=2.0, threshold=0.2).with_(selection=TopEntropy(0.3))
    run = trained(choosing, settings(**shape, max_grad_norm=0.0), rollout_func=given)
    rank = run.accelerator.process_index
    block = {"rows": 3, "accumulation": 1, "per_generation": 3, "steps": 4, "save_strategy": "steps", "save_steps": 1}
    saved = settings(**block, output_dir=str(folder / "resume"))
    unbroken = trained(recipes.entropic(target=2.0, threshold=0.2), saved)
    again = trainer(recipes.entropic(target=2.0, threshold=0.2), saved)
    again.train(resume_from_checkpoint=str(folder / "resume" / "checkpoint-2"))
    result = {
        "resumed": torch.equal(parameters(again), parameters(unbroken)),
        "bit_equal": torch.equal(*map(parameters, sampled)),
        "moved": not torch.equal(parameters(sampled[0]), parameters(trained(None, settings(**shape, steps=1)))),
        "widths": sorted({batch["completion_ids"].shape[1] for batch in run._buffered_inputs}),
        "group_ids": rows_of(run, "isentrope/group_ids"),
        "completion_ids": rows_of(run, "completion_ids"),
        "completion_mask": rows_of(run, "completion_mask"),
        "loss_mask": rows_of(run, "isentrope/loss_mask"),
        "advantages": rows_of(run, "isentrope/advantages"),
        "state": run.objective_state.to_dict(),
        "parameters": parameters(run).tolist(),
        "entropy": metrics(run, "isentrope/entropy"),
    }
    (folder / f"{rank}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
