"""An objective inside TRL against TRL's own loss: time a step and peak memory, on a real model and task.

    python benchmarks/trl_host.py            # SmolLM2-135M, letter counting, 4 prompts x 4 responses x 48 tokens
    python benchmarks/trl_host.py --save     # and write benchmarks/results/trl_host.md

Each run is a process of its own, so that its peak memory is its own; runs take turns, so that what else the machine does
falls on all of them alike. All see the same prompts in the same order; a step is sampling, scoring, loss and optimiser.
The first step of a run is not counted. Rewards are the task's own and a small one for brevity, so that groups differ
before the model has learned the form of an answer.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

TASK = "reasoning_gym:letter_counting"
PROMPTS, GROUP, TOKENS = 4, 4, 48
RUNS = {
    "TRL, loss_type=dapo": None,
    "entropic (EntroPIC)": "entropic(target=0.8)",
    "clip_cov (Clip-Cov)": "clip_cov(fraction=0.02)",
}
SHAPES = {"4 x 4": (4, 4), "1 x 16": (16, 1)}
"""Micro-batches x rows: rows a micro-batch, micro-batches an optimiser step."""


def train(recipe: str | None, rows: int, accumulation: int, steps: int) -> dict:
    """One run in this process."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
    from isentrope._threads import settle_threads

    settle_threads()
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from isentrope.integrations.trl import EntropyGRPOTrainer
    from isentrope.lab import load_model
    from isentrope.lab.tasks import task
    from isentrope.policy import recipes

    game = task(TASK)
    problems = game.problems("train", PROMPTS * (steps + 1), 0)
    prompts = [[{"role": "user", "content": problem.prompt}] for problem in problems]
    dataset = Dataset.from_dict({"prompt": prompts, "index": list(range(len(prompts)))})

    def correct(completions, index, **_):
        return [game.reward(problems[i], c[0]["content"]) for i, c in zip(index, completions, strict=True)]

    def brief(completion_ids, **_):
        return [0.1 * (1 - len(ids) / TOKENS) for ids in completion_ids]

    policy = load_model("smollm2")
    with tempfile.TemporaryDirectory() as folder:
        args = GRPOConfig(
            folder, use_cpu=True, bf16=False, gradient_checkpointing=False, report_to="none", save_strategy="no",
            disable_tqdm=True, logging_steps=1, max_steps=steps, seed=0, num_generations=GROUP,
            max_completion_length=TOKENS, per_device_train_batch_size=rows, gradient_accumulation_steps=accumulation,
        )  # fmt: skip
        options = {"train_dataset": dataset, "processing_class": policy.tokenizer.tokenizer}
        if recipe is None:
            trainer = GRPOTrainer(policy.model, [correct, brief], args, **options)
        else:
            objective = recipes.named(recipe)
            trainer = EntropyGRPOTrainer(policy.model, [correct, brief], args, objective=objective, **options)
        trainer.train()
    history = [row for row in trainer.state.log_history if "step_time" in row]
    return {
        "seconds": [row["step_time"] for row in history][1:],
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "tokens": statistics.mean(row["completions/mean_length"] for row in history),
        "entropy": [row["entropy"] for row in history],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(train(**json.loads(arguments.worker))))
        return

    found: dict[tuple[str, str], list[dict]] = {}
    for _ in range(arguments.rounds):
        for shape, (rows, accumulation) in SHAPES.items():
            for name, recipe in RUNS.items():
                job = {"recipe": recipe, "rows": rows, "accumulation": accumulation, "steps": arguments.steps}
                command = [sys.executable, __file__, "--worker", json.dumps(job)]
                output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                found.setdefault((shape, name), []).append(json.loads(output.strip().splitlines()[-1]))
                print(f"{shape}, {name}: {statistics.median(found[shape, name][-1]['seconds']):.1f} s", file=sys.stderr)
                if arguments.save:
                    save(found, arguments)
    table = Table("micro-batches", "loss", "s/step", "of TRL's", "peak MB", "of TRL's", "tokens/response")
    for row in rows_of(found):
        table.add_row(*row)
    Console().print(table)


def rows_of(found: dict[tuple[str, str], list[dict]]) -> list[tuple[str, ...]]:
    """Each line of the table as text."""
    rows, stock = [], next(iter(RUNS))
    for (shape, name), results in found.items():
        seconds, stock_seconds = (
            statistics.median(s for result in found[shape, which] for s in result["seconds"]) for which in (name, stock)
        )
        peak, stock_peak = (max(result["peak_mb"] for result in found[shape, which]) for which in (name, stock))
        tokens = statistics.mean(result["tokens"] for result in results)
        ratios = (f"{seconds / stock_seconds:.2f}", f"{peak:,.0f}", f"{peak / stock_peak:.2f}")
        rows.append((shape, name, f"{seconds:.1f}", *ratios, f"{tokens:.1f}"))
    return rows


def save(found: dict[tuple[str, str], list[dict]], arguments: argparse.Namespace) -> None:
    lines = [
        "# An objective inside TRL against TRL's own loss", "",
        f"SmolLM2-135M in float32, {TASK}, {PROMPTS} prompts x {GROUP} responses x {TOKENS} tokens, on CPU. Median over "
        f"{arguments.rounds} x {arguments.steps - 1} steps; peak resident memory of the process. torch {version('torch')}, "
        f"transformers {version('transformers')}, trl {version('trl')}, {os.cpu_count()} cores, {platform.machine()}. By "
        f"`python benchmarks/trl_host.py --steps {arguments.steps} --rounds {arguments.rounds} --save`.", "",
        "<!-- --8<-- [start:table] -->", "",
        "| micro-batches x rows | loss | s/step | of TRL's | peak MB | of TRL's | tokens a response |",
        "|---|---|---|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows_of(found)), "",
        "<!-- --8<-- [end:table] -->",
    ]  # fmt: skip
    path = Path(__file__).parent / "results" / "trl_host.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
