"""Rows as verl's trainer holds them, a tiny model that scores them, and verl's worker re-enacted without a device.

The re-enactment calls verl's own functions for every step that decides which rows meet which: splitting over ranks,
mini-batches, micro-batches and the reduction of metrics. Only the forward pass and the averaging of gradients over ranks
are written here.
"""

import json
from itertools import chain

import torch
from tensordict import TensorDict
from tensordict.tensorclass import NonTensorStack
from transformers import LlamaConfig, LlamaForCausalLM
from verl.utils import tensordict_utils as tu
from verl.utils.metric import Metric, reduce_metrics
from verl.utils.py_functional import append_to_dict, rename_dict
from verl.workers.config import ActorConfig
from verl.workers.engine.utils import postprocess_batch_func, prepare_micro_batches
from verl.workers.utils.padding import response_from_nested

from isentrope.integrations.verl.loss import NOTE
from isentrope.integrations.verl.stage import row_fields, token_batch, windows
from isentrope.policy import Objective
from isentrope.policy.advantages import GroupNormalized
from isentrope.policy.regularizers import EntropyBonus, HighProbabilityAdvantage, KLPenalty, LogRatioPenalty
from isentrope.policy.selection import TopEntropy
from isentrope.policy.surrogates import ClippedRatio
from isentrope.policy.weights import TopCovariance

VOCABULARY = 11
UNCLIPPED = 1e9
WIDTH = 9
"""Longest response allowed, in tokens."""


def tiny_llama(seed: int = 0) -> LlamaForCausalLM:
    """A llama of a few thousand weights, in double precision."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.5,
        attn_implementation="eager",
    )
    return LlamaForCausalLM(config).double().eval()


def nested(rows: list[torch.Tensor]) -> torch.Tensor:
    return torch.nested.as_nested_tensor(rows, layout=torch.jagged)


def scores(model: LlamaForCausalLM, data: TensorDict) -> dict[str, torch.Tensor]:
    """Nested ``log_probs`` and ``entropy`` over whole sequences; position ``t`` scores token ``t + 1``, as in verl."""
    ids = data["input_ids"]
    lengths = ids.offsets().diff().tolist()
    # Padding stands behind, where a causal model does not look.
    padded = ids.to_padded_tensor(0)
    law = model(padded, use_cache=False).logits.log_softmax(-1)
    following = torch.stack([row.roll(-1) for row in padded])
    log_probs = law.gather(-1, following[..., None]).squeeze(-1)
    entropy = -(law.exp() * law).sum(-1)
    named = {"log_probs": log_probs, "entropy": entropy}
    return {name: nested([row[:n] for row, n in zip(x, lengths, strict=True)]) for name, x in named.items()}


def rollouts(prompts: int = 4, n: int = 4, seed: int = 0, tool_output: bool = True) -> TensorDict:
    """Random rows with the fields of verl's data after its passes of the old and the reference policy."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low, high, size=()):
        return torch.randint(low, high, size, generator=generator)

    rows = prompts * n
    asked = [draw(0, VOCABULARY, (int(draw(2, 5)),)) for _ in range(prompts)]
    answered = [draw(0, VOCABULARY, (int(draw(2, 9)),)) for _ in range(rows)]
    masks = [torch.ones_like(row) for row in answered]
    if tool_output:
        masks[1][: len(masks[1]) // 2] = 0
    rewards = [torch.zeros(len(row)) for row in answered]
    for row in rewards:
        row[-1] = float(draw(0, 2))
    data = TensorDict(
        {
            "prompts": nested([asked[i // n] for i in range(rows)]),
            "responses": nested(answered),
            "input_ids": nested([torch.cat([asked[i // n], answered[i]]) for i in range(rows)]),
            "response_mask": nested(masks),
            "loss_mask": nested(masks),
            "rm_scores": nested(rewards),
            "uid": NonTensorStack(*[f"prompt{i // n}" for i in range(rows)]),
        },
        batch_size=rows,
    )
    with torch.no_grad():
        old, reference = scores(tiny_llama(seed=1), data), scores(near_old(spread=0.02), data)
    data["old_log_probs"] = response_from_nested(old["log_probs"], data["response_mask"])
    data["entropy"] = response_from_nested(old["entropy"], data["response_mask"])
    data["ref_log_prob"] = response_from_nested(reference["log_probs"], data["response_mask"])
    return data


def near_old(spread: float = 0.01) -> LlamaForCausalLM:
    """The policy that sampled, moved by a little: ratios differ from one and some are clipped."""
    model = tiny_llama(seed=1)
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += spread * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return model


def actor_config(**changes) -> ActorConfig:
    """verl's actor configuration, without the dual clip unless it is asked for."""
    settings = {"strategy": "fsdp", "rollout_n": 4, "ppo_micro_batch_size_per_gpu": 1, "clip_ratio_c": UNCLIPPED}
    return ActorConfig(**settings | changes)


def gradients(model) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def worker(model, data, loss, *, mini, ranks=1, micro=1, epochs=1, shuffle=False, seed=42):
    """What verl's workers do with a batch in `train_mini_batch`: the gradient and loss of each window, and the metrics.

    No optimiser step is made, so that each window is seen by the same policy.
    """
    deals = [
        tu.make_iterator(run, mini // ranks, epochs, seed=seed + rank, dataloader_kwargs={"shuffle": shuffle})
        for rank, run in enumerate(tu.chunk_tensordict(data, ranks))
    ]
    steps, collected = [], {}
    for window in zip(*deals, strict=True):
        tokens = sum(int(part["loss_mask"].values().sum()) for part in window)
        model.zero_grad()
        total, of_ranks = 0.0, []
        for part in window:
            tu.assign_non_tensor(
                part,
                batch_num_tokens=tokens,
                dp_size=ranks,
                global_batch_size=mini,
                use_dynamic_bsz=False,
                micro_batch_size_per_gpu=micro,
            )
            pieces, indices = prepare_micro_batches(part)
            outputs = []
            for piece in pieces:
                value, metrics = loss(model_output=scores(model, piece), data=piece, dp_group=None)
                value.backward()
                outputs.append({"loss": float(value.detach()), "metrics": metrics})
            output = postprocess_batch_func(outputs, indices, part)
            total += sum(output["loss"]) / ranks
            of_ranks.append(output["metrics"])
        steps.append((gradients(model).clone() / ranks, total))
        reduced = {}
        for name in of_ranks[0]:
            values = [metrics[name] for metrics in of_ranks]
            reduced[name] = Metric.aggregate_dp(values) if isinstance(values[0], Metric) else list(chain(*values))
        append_to_dict(collected, reduced)
    return steps, reduce_metrics(rename_dict(collected, "actor/"))


def driven(objective, data, *, mini=None, ranks=1, shuffle=False, state=None):
    """The data as the driver hands them to the workers."""
    data = data.clone()
    real = torch.ones(len(data), dtype=torch.bool)
    state = state or objective.start()
    prepared, _ = objective.prepare(token_batch(data, objective), state)
    deal = windows(len(data), mini or len(data), ranks, shuffle)
    fields, names = row_fields(prepared, real, data["response_mask"], deal, WIDTH)
    for name, value in fields.items():
        data[name] = value
    tu.assign_non_tensor(data, **{NOTE: json.dumps({"state": state.to_dict(), **names})})
    return data


def everything(**changes):
    """An objective with a part at each place that workers see, some of them choosing tokens on the whole batch."""
    slots = {
        "name": "everything",
        "advantage": GroupNormalized(),
        "surrogate": ClippedRatio(0.2, 0.28),
        "selection": (TopEntropy(0.6),),
        "regularizers": (
            EntropyBonus(0.03),
            KLPenalty(0.1),
            LogRatioPenalty(TopCovariance(0.2), 0.5),
            HighProbabilityAdvantage(0.4, threshold=0.2),
        ),
    }
    return Objective(**slots | changes)
