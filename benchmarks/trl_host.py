"""An objective inside TRL against TRL's own loss: time a step and peak memory, on a real model and task.

    python benchmarks/trl_host.py            # SmolLM2-135M, letter counting, 4 prompts x 4 responses x 48 tokens
    python benchmarks/trl_host.py --save     # and write benchmarks/results/trl_host.md

Each run is a process of its own, so that its peak memory is its own. They take turns step by step, so that what else the
machine does falls on all of them alike; a ratio is the median of the ratios of steps that stand side by side. All see the
same prompts in the same order; a step is sampling, scoring, loss and optimiser. The first is not counted. Rewards are the task's own and a small one for brevity, so that groups differ
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
import time
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


def say(name: str, value: object) -> None:
    """A line for the process that gives the turns."""
    print(f"@{json.dumps([name, value])}", flush=True)


def train(recipe: str | None, rows: int, accumulation: int, steps: int) -> dict:
    """One run in this process, which waits for its turn before each step."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
    from isentrope._threads import settle_threads

    settle_threads()
    from datasets import Dataset
    from transformers import TrainerCallback
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

        class Turn(TrainerCallback):
            def on_step_begin(self, args, state, control, **_):
                say("ready", None)
                sys.stdin.readline()

        args = GRPOConfig(
            folder, use_cpu=True, bf16=False, gradient_checkpointing=False, report_to="none", save_strategy="no",
            disable_tqdm=True, logging_steps=1, max_steps=steps, seed=0, num_generations=GROUP,
            max_completion_length=TOKENS, per_device_train_batch_size=rows, gradient_accumulation_steps=accumulation,
        )  # fmt: skip
        options = {
            "train_dataset": dataset, "processing_class": policy.tokenizer.tokenizer, "callbacks": [Turn()]
        }  # fmt: skip
        if recipe is None:
            trainer = GRPOTrainer(policy.model, [correct, brief], args, **options)
        else:
            objective = recipes.named(recipe)
            trainer = EntropyGRPOTrainer(policy.model, [correct, brief], args, objective=objective, **options)
        trainer.train()
    history = [row for row in trainer.state.log_history if "step_time" in row]
    return {
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "tokens": statistics.mean(row["completions/mean_length"] for row in history),
        "entropy": [row["entropy"] for row in history],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        say("done", train(**json.loads(arguments.worker)))
        return

    found: dict[tuple[str, str], list[dict]] = {}
    for _ in range(arguments.rounds):
        for shape, (rows, accumulation) in SHAPES.items():
            runs = {
                name: Run({"recipe": recipe, "rows": rows, "accumulation": accumulation, "steps": arguments.steps})
                for name, recipe in RUNS.items()
            }
            for step in range(arguments.steps):
                for name, run in runs.items():
                    print(f"{shape}, step {step}, {name}: {run.step():.1f} s", file=sys.stderr)
            for name, run in runs.items():
                found.setdefault((shape, name), []).append(run.result())
            if arguments.save:
                save(found, arguments)
    table = Table("micro-batches", "loss", "s/step", "of TRL's", "peak MB", "of TRL's", "tokens/response")
    for row in rows_of(found):
        table.add_row(*row)
    Console().print(table)


class Run:
    """A training run in a process of its own, of which one step is done at a time."""

    def __init__(self, job: dict):
        command = [sys.executable, __file__, "--worker", json.dumps(job)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._heard = self._listen()
        self._seconds: list[float] = []

    def _listen(self) -> tuple[str, object]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("@"):
                return tuple(json.loads(line[1:]))
        raise RuntimeError(f"the run ended with exit code {self._process.wait()}")

    def step(self) -> float:
        """Seconds from the step's beginning to the beginning of the next, or to the end of the run."""
        assert self._process.stdin is not None
        started = time.perf_counter()
        print("go", file=self._process.stdin, flush=True)
        self._heard = self._listen()
        self._seconds.append(time.perf_counter() - started)
        return self._seconds[-1]

    def result(self) -> dict:
        """What the run says at its end, with the seconds of all steps but the first."""
        assert self._heard[0] == "done"
        self._process.wait()
        return {**self._heard[1], "seconds": self._seconds[1:]}


def rows_of(found: dict[tuple[str, str], list[dict]]) -> list[tuple[str, ...]]:
    """Each line of the table as text."""
    rows, stock = [], next(iter(RUNS))
    for (shape, name), results in found.items():
        seconds, stock_seconds = (
            [s for result in found[shape, which] for s in result["seconds"]] for which in (name, stock)
        )
        slower = statistics.median(own / other for own, other in zip(seconds, stock_seconds, strict=True))
        peak, stock_peak = (max(result["peak_mb"] for result in found[shape, which]) for which in (name, stock))
        tokens = statistics.mean(result["tokens"] for result in results)
        ratios = (f"{slower:.2f}", f"{peak:,.0f}", f"{peak / stock_peak:.2f}")
        rows.append((shape, name, f"{statistics.median(seconds):.1f}", *ratios, f"{tokens:.1f}"))
    return rows


def save(found: dict[tuple[str, str], list[dict]], arguments: argparse.Namespace) -> None:
    lines = [
        "# An objective inside TRL against TRL's own loss", "",
        f"SmolLM2-135M in float32, {TASK}, {PROMPTS} prompts x {GROUP} responses x {TOKENS} tokens, on CPU. Medians over "
        f"{arguments.rounds} x {arguments.steps - 1} steps that took turns; peak resident memory of the process. torch {version('torch')}, "
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
