"""Short real runs of TRL's trainers, stock and ours, on completions that are sampled or given."""

import tempfile

import torch
from small import WORDS, prompts_dataset, small_model, small_tokenizer
from trl import GRPOConfig, GRPOTrainer

from isentrope.integrations.trl import EntropyGRPOTrainer
from isentrope.policy import Objective, recipes
from isentrope.policy.advantages import GroupNormalized

GROUP = 2

STOCK_DAPO = recipes.dapo(high=0.2).with_(row_filter=(), advantage=GroupNormalized(epsilon=1e-4))
"""`recipes.dapo` as TRL's ``loss_type="dapo"`` has it by default: clipped alike on both sides, no group left out, 1e-4."""


def reward(completion_ids, **_):
    """A quarter of the sum of the tokens modulo four: in groups of two every step of TRL's arithmetic on it is exact."""
    return [sum(ids) % 4 / 4 for ids in completion_ids]


def given(prompts, trainer):
    """Completions that depend on the prompt and the place in its group alone, of 1 to 8 tokens, whatever the ranks."""
    tokenizer, first = trainer.processing_class, trainer.accelerator.process_index * len(prompts)
    completions = []
    for index, prompt in enumerate(prompts):
        generator = torch.Generator().manual_seed(sum(map(ord, prompt)) * GROUP + (first + index) % GROUP)
        length = int(torch.randint(1, 9, (1,), generator=generator))
        completions.append(torch.randint(3, 3 + len(WORDS), (length,), generator=generator).tolist())
    return {
        "prompt_ids": [tokenizer(prompt)["input_ids"] for prompt in prompts],
        "completion_ids": completions,
        "logprobs": [[0.0] * len(ids) for ids in completions],
    }


def settings(accumulation=1, per_generation=None, rows=4, steps=3, **options):
    return GRPOConfig(
        **{
            "output_dir": tempfile.mkdtemp(prefix="isentrope-"),
            "use_cpu": True,
            "bf16": False,
            "gradient_checkpointing": False,
            "report_to": "none",
            "save_strategy": "no",
            "disable_tqdm": True,
            "logging_steps": 1,
            "learning_rate": 1e-3,
            "seed": 3,
            "per_device_train_batch_size": rows,
            "num_generations": GROUP,
            "max_completion_length": 8,
            "max_steps": steps,
            "gradient_accumulation_steps": accumulation,
            "steps_per_generation": per_generation or accumulation,
            **options,
        }
    )


def trainer(objective: Objective | None, args, model=None, prompts=16, **options):
    """Our trainer, or the stock one where there is no objective."""
    common = {"train_dataset": prompts_dataset(prompts), "processing_class": small_tokenizer(), **options}
    functions = common.pop("reward_funcs", reward)
    model = small_model() if model is None else model
    if objective is None:
        return GRPOTrainer(model, functions, args, **common)
    return EntropyGRPOTrainer(model, functions, args, objective=objective, **common)


def trained(objective: Objective | None, args, **options):
    run = trainer(objective, args, **options)
    run.train()
    return run


def parameters(run) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in run.model.parameters()])


def metrics(run, name):
    return [row[name] for row in run.state.log_history if name in row]
