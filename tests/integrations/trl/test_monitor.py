"""The callbacks beside TRL's own trainers, which run a few real steps on a small model."""

import gc
import json
import math
import socket
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer, SFTConfig, SFTTrainer
from trl.trainer.utils import FusedCausalLMOutput

from isentrope.integrations.trl._probe import Probe
from isentrope.integrations.trl._tokens import entropy_of, over_steps, token_metrics
from isentrope.integrations.trl.monitor import DiagnosisCallback, EntropyMonitor, columns
from isentrope.policy import diagnose

from .small import prompts_dataset, small_model, small_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


def reward(completions, **_):
    """Few, different words."""
    return [len(set(text.split())) / 4 - len(text.split()) / 8 for text in completions]


CONFIGS = {GRPOTrainer: GRPOConfig, RLOOTrainer: RLOOConfig, SFTTrainer: SFTConfig}


def make(kind, folder, *, dropout=0.0, callbacks=None, reward=reward, peft=None, eval_data=None, **settings):
    """A trainer of a stock class, or one derived from it, on the small model."""
    stock = next(parent for parent in kind.__mro__ if parent in CONFIGS)
    settings = {
        "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "report_to": "none", "disable_tqdm": True,
        "per_device_train_batch_size": 4, "gradient_accumulation_steps": 3, "max_steps": 3, "logging_steps": 1,
        "save_strategy": "no", "learning_rate": 1e-3, "lr_scheduler_type": "constant",
    } | settings  # fmt: skip
    model, data, options = small_model(), prompts_dataset(36), {}
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = dropout
    if stock is SFTTrainer:
        data = data.rename_column("prompt", "text")
        options["eval_dataset"] = eval_data and eval_data.rename_column("prompt", "text")
    else:
        settings = {"num_generations": 4, "max_completion_length": 12, "beta": 0.0} | settings
        options["reward_funcs"] = reward
    return kind(
        model=model, args=CONFIGS[stock](str(folder), **settings), train_dataset=data, callbacks=callbacks,
        processing_class=small_tokenizer(), peft_config=peft, **options,
    )  # fmt: skip


def full_softmax(model, ids, attention, labels, temperature):
    """Log-probability and entropy of the labelled tokens from full logits in double precision."""
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=attention).logits[:, :-1].double() / temperature
    table = logits.log_softmax(-1)
    valid = labels[:, 1:] != -100
    log_probs = table.gather(-1, labels[:, 1:].clamp_min(0)[..., None])[..., 0]
    return log_probs[valid], -(table.exp() * table).sum(-1)[valid]


class RecordingPolicy:
    """Keeps log-probabilities, entropies and advantages of every micro-batch, by optimiser step."""

    def _compute_loss(self, model, inputs):
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
        attention = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
        labels = ids.masked_fill(attention == 0, -100)
        labels[:, : inputs["prompt_ids"].shape[1]] = -100
        log_probs, entropy = full_softmax(model, ids, attention, labels, self.temperature)
        lengths = inputs["completion_mask"].sum(1)
        advantages = inputs["advantages"].double().repeat_interleave(lengths)
        lengths = lengths.double().repeat_interleave(lengths)
        self.__dict__.setdefault("seen", defaultdict(list))[self.state.global_step + 1].append(
            torch.stack([log_probs, entropy, advantages, lengths])
        )
        return super()._compute_loss(model, inputs)


class RecordingGRPO(RecordingPolicy, GRPOTrainer):
    pass


class RecordingRLOO(RecordingPolicy, RLOOTrainer):
    pass


class RecordingSFT(SFTTrainer):
    def compute_loss(self, model, inputs, *args, **kwargs):
        log_probs, entropy = full_softmax(model, inputs["input_ids"], inputs["attention_mask"], inputs["labels"], 1.0)
        self.__dict__.setdefault("seen", defaultdict(list))[self.state.global_step + 1].append(
            torch.stack([log_probs, entropy])
        )
        return super().compute_loss(model, inputs, *args, **kwargs)


def measured(trainer):
    """The rows of the log that the monitor wrote, by step, under their short names."""
    return {
        row["step"]: {name.removeprefix("isentrope/"): value for name, value in row.items() if "isentrope/" in name}
        for row in trainer.state.log_history
        if "isentrope/entropy" in row
    }


@pytest.fixture(scope="module")
def grpo_run(tmp_path_factory):
    trainer = make(RecordingGRPO, tmp_path_factory.mktemp("grpo"), temperature=0.7)
    EntropyMonitor(probe_every=2).watch(trainer)
    trainer.train()
    return trainer


def covariance(x, y):
    return float(((x - x.mean()) * (y - y.mean())).mean())


def test_the_entropy_is_the_mean_over_the_tokens_of_the_whole_step(grpo_run):
    rows, differences = measured(grpo_run), []
    assert sorted(rows) == [1, 2, 3]
    for step, row in rows.items():
        pieces = grpo_run.seen[step]
        log_probs, entropy, *_ = torch.cat(pieces, dim=1)
        assert len(pieces) == 3
        assert len({piece.shape[1] for piece in pieces}) > 1, "the micro-batches must differ in their number of tokens"
        assert row["tokens"] == len(entropy)
        assert row["entropy"] == pytest.approx(float(entropy.mean()), abs=2e-6)
        assert row["log_prob"] == pytest.approx(float(log_probs.mean()), abs=2e-6)
        assert row["entropy_p10"] == pytest.approx(np.quantile(entropy, 0.1), abs=2e-6)
        assert row["entropy_p90"] == pytest.approx(np.quantile(entropy, 0.9), abs=2e-6)
        of_host = next(r["entropy"] for r in grpo_run.state.log_history if r["step"] == step)
        mean_of_means = float(torch.stack([piece[1].mean() for piece in pieces]).mean())
        assert of_host == pytest.approx(mean_of_means, abs=2e-6)
        differences.append(abs(of_host - row["entropy"]))
    assert max(differences) > 1e-3


def test_the_gradient_gives_the_advantages_of_a_token_mean(grpo_run):
    for step, row in measured(grpo_run).items():
        log_probs, entropy, advantages, _ = torch.cat(grpo_run.seen[step], dim=1)
        assert row["covariance"] == pytest.approx(covariance(advantages, log_probs), abs=1e-5)
        share = (advantages - advantages.mean()) * (log_probs - log_probs.mean()) / len(log_probs)
        likely, rewarded = log_probs > -entropy, advantages > 0
        assert row["covariance/rewarded_likely"] == pytest.approx(float(share[rewarded & likely].sum()), abs=1e-5)
        assert row["covariance/punished_unlikely"] == pytest.approx(float(share[~rewarded & ~likely].sum()), abs=1e-5)
        p = log_probs.exp()
        change = -advantages * p * (1 - p) * (log_probs + entropy)
        assert row["token_entropy_change"] == pytest.approx(float(change.mean()), abs=1e-5)
        falls = np.sort(np.clip(-change.numpy(), 0, None))[::-1]
        carrying = next(n for n in range(1, len(falls) + 1) if falls[:n].sum() >= 0.8 * falls.sum())
        assert row["fall_concentration"] == pytest.approx(carrying / len(falls))


@pytest.mark.parametrize(("loss_type", "kind"), [("grpo", RecordingGRPO), (None, RecordingRLOO)])
def test_the_gradient_gives_the_weights_of_other_losses(tmp_path, loss_type, kind):
    trainer = make(kind, tmp_path, max_steps=2, **({"loss_type": loss_type} if loss_type else {}))
    EntropyMonitor(probe_every=0).watch(trainer)
    trainer.train()
    for step, row in measured(trainer).items():
        log_probs, entropy, advantages, lengths = torch.cat(trainer.seen[step], dim=1)
        assert row["entropy"] == pytest.approx(float(entropy.mean()), abs=2e-6)
        # Both average over the 12 responses; TRL's "grpo" divides each response by its length besides.
        weights = advantages * len(entropy) / 12 / (lengths if loss_type else 1)
        scale = float(weights.std() * log_probs.std())
        assert row["covariance"] == pytest.approx(covariance(weights, log_probs), abs=1e-5 * scale)


def test_supervised_training_weighs_every_token_one(tmp_path):
    trainer = make(RecordingSFT, tmp_path, max_steps=2)
    EntropyMonitor(probe_every=0).watch(trainer)
    trainer.train()
    differences = []
    for step, row in measured(trainer).items():
        pieces = trainer.seen[step]
        log_probs, entropy = torch.cat(pieces, dim=1)
        assert row["tokens"] == len(entropy)
        assert row["entropy"] == pytest.approx(float(entropy.mean()), abs=2e-6)
        p = log_probs.exp()
        assert row["token_entropy_change"] == pytest.approx(
            float((-p * (1 - p) * (log_probs + entropy)).mean()), abs=1e-6
        )
        assert "covariance" not in row
        differences.append(abs(float(torch.stack([piece[1].mean() for piece in pieces]).mean()) - row["entropy"]))
    assert max(differences) > 1e-3


def test_a_loss_from_full_logits_is_measured_without_weights(tmp_path):
    trainer = make(RecordingSFT, tmp_path, max_steps=2, label_smoothing_factor=0.1)
    EntropyMonitor(probe_every=1).watch(trainer)
    trainer.train()
    for step, row in measured(trainer).items():
        _, entropy = torch.cat(trainer.seen[step], dim=1)
        assert row["entropy"] == pytest.approx(float(entropy.mean()), abs=2e-6)
        assert row["tokens"] == len(entropy)
        assert "token_entropy_change" not in row
        assert "entropy_change_measured" in row


def test_evaluation_and_generation_are_not_measured(tmp_path):
    trainer = make(SFTTrainer, tmp_path, max_steps=2, eval_strategy="steps", eval_steps=1, eval_data=prompts_dataset(4))
    EntropyMonitor(probe_every=0).watch(trainer)
    trainer.train()
    evaluated = [row for row in trainer.state.log_history if "eval_loss" in row]
    assert len(evaluated) == 2
    assert not any("isentrope" in name for row in evaluated for name in row)
    assert sorted(measured(trainer)) == [1, 2]


def test_steps_between_rows_of_the_log_count_by_their_tokens(tmp_path):
    trainer = make(RecordingGRPO, tmp_path, max_steps=4, logging_steps=2)
    EntropyMonitor(probe_every=0).watch(trainer)
    trainer.train()
    rows = measured(trainer)
    assert sorted(rows) == [2, 4]
    entropy = torch.cat([piece[1] for step in (3, 4) for piece in trainer.seen[step]])
    assert rows[4]["entropy"] == pytest.approx(float(entropy.mean()), abs=2e-6)
    assert rows[4]["tokens"] == len(entropy) / 2


def test_values_that_few_steps_have_are_means_over_those():
    steps = [{"tokens": 1.0, "entropy": 4.0}, {"tokens": 3.0, "entropy": 2.0, "entropy_change_measured": -0.5}]
    assert over_steps(steps) == {"tokens": 2.0, "entropy": 2.5, "entropy_change_measured": -0.5}


TIMES = ("step_time", "train_runtime", "train_samples_per_second", "train_steps_per_second")


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (GRPOTrainer, {}),
        (GRPOTrainer, {"gradient_checkpointing": True, "num_iterations": 2}),
        (GRPOTrainer, {"bf16": True}),
        (RLOOTrainer, {}),
        (SFTTrainer, {}),
        (SFTTrainer, {"label_smoothing_factor": 0.1}),
    ],
)
def test_training_is_the_same_bit_by_bit(tmp_path, kind, settings):
    # Dropout and sampling read the generator at every step, so a draw too many anywhere would show.
    runs = []
    for watched in (False, True):
        trainer = make(kind, tmp_path, dropout=0.2, **settings)
        if watched:
            EntropyMonitor(probe_every=1).watch(trainer)
        trainer.train()
        runs.append((trainer, torch.get_rng_state()))
    (plain, state), (watched, watched_state) = runs
    assert len([row for row in measured(watched).values() if "entropy_change_measured" in row]) == 3
    assert torch.equal(state, watched_state)
    for one, other in zip(plain.model.parameters(), watched.model.parameters(), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(plain.state.log_history, watched.state.log_history, strict=False):
        shared = {name: value for name, value in other.items() if "isentrope" not in name and name not in TIMES}
        assert shared == {name: value for name, value in one.items() if name not in TIMES}


@pytest.mark.parametrize("peft", [None, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)])
@pytest.mark.parametrize("kind", [GRPOTrainer, SFTTrainer])
def test_small_steps_change_the_entropy_as_predicted(tmp_path, kind, peft):
    trainer = make(kind, tmp_path, dropout=0.2, learning_rate=2e-5 if peft else 2e-6, max_steps=4, peft=peft)
    EntropyMonitor(probe_every=1).watch(trainer)
    trainer.train()
    rows = measured(trainer)
    predicted, seen = (np.array([rows[s][f"entropy_change_{k}"] for s in rows]) for k in ("predicted", "measured"))
    assert np.abs(predicted).max() > 1e-5
    assert np.abs(predicted - seen).max() < 0.03 * np.abs(predicted).max()


def test_the_probe_is_the_gradient_times_the_step(tmp_path):
    trainer = make(SFTTrainer, tmp_path)
    model = trainer.model.train()
    ids = small_tokenizer()(["the cat sees 3 red"], return_tensors="pt").input_ids
    state = torch.get_rng_state()
    probe = Probe(model, (), {"input_ids": ids, "labels": ids, "fused_lm_head": True})
    log_probs = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
    entropy = -(log_probs.exp() * log_probs).sum(-1).mean()
    gradient = torch.autograd.grad(entropy, list(model.parameters()))
    expected, generator = 0.0, torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter, slope in zip(model.parameters(), gradient, strict=True):
            before = parameter.clone()
            parameter += 1e-5 * (slope + torch.randn(parameter.shape, generator=generator))
            expected += float(((parameter - before).double() * slope.double()).sum())
    changes = probe.changes()
    assert changes["entropy_change_predicted"] == pytest.approx(expected, rel=1e-4)
    assert changes["entropy_change_measured"] == pytest.approx(expected, rel=0.02)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_probes_come_every_so_many_steps(grpo_run):
    probed = [step for step, row in measured(grpo_run).items() if "entropy_change_predicted" in row]
    assert probed == [1, 3]


def test_reentrant_checkpointing_has_no_probes_and_says_so(tmp_path, caplog):
    settings = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}}
    trainer = make(GRPOTrainer, tmp_path, max_steps=1, **settings)
    EntropyMonitor(probe_every=1).watch(trainer)
    trainer.train()
    assert "use_reentrant=False" in caplog.text
    assert "entropy_change_predicted" not in measured(trainer)[1]
    assert "covariance" in measured(trainer)[1]


class Reporter(TrainerCallback):
    """Stands where W&B and TensorBoard stand: behind the default callbacks, before those of the user."""

    def __init__(self):
        self.rows = []

    def on_log(self, args, state, control, logs=None, **_):
        self.rows.append(dict(logs))


@pytest.mark.parametrize("watching", [True, False])
def test_reporters_get_the_numbers_if_the_monitor_watches(tmp_path, watching, caplog):
    monitor, reporter = EntropyMonitor(probe_every=0), Reporter()
    trainer = make(SFTTrainer, tmp_path, callbacks=None if watching else [monitor], max_steps=2)
    trainer.callback_handler.callbacks.insert(1, reporter)
    trainer.args.report_to = ["something"]
    if watching:
        monitor.watch(trainer)
    trainer.train()
    assert ["isentrope/entropy" in row for row in reporter.rows[:2]] == [watching, watching]
    assert ("isentrope/diagnosis/entropy_end" in reporter.rows[-1]) == watching
    assert sorted(measured(trainer)) == [1, 2]
    assert ("watch(trainer)" in caplog.text) != watching


def test_watching_a_trainer_that_has_the_monitor_moves_it(tmp_path):
    monitor = EntropyMonitor()
    trainer = make(SFTTrainer, tmp_path, callbacks=[monitor])
    assert monitor.watch(trainer) is monitor
    assert trainer.callback_handler.callbacks.count(monitor) == 1
    assert trainer.callback_handler.callbacks[0] is monitor


class OwnNumbers(GRPOTrainer):
    """Logs under a name of ours, as `EntropyGRPOTrainer` does."""

    def _compute_loss(self, model, inputs):
        self._metrics["train"]["isentrope/covariance"].append(7.0)
        return super()._compute_loss(model, inputs)


def test_what_the_trainer_says_itself_stands_and_is_explained_once(tmp_path, capsys):
    trainer = make(OwnNumbers, tmp_path, callbacks=[DiagnosisCallback()])
    EntropyMonitor(probe_every=1).watch(trainer)
    trainer.train()
    rows = measured(trainer)
    assert [row["covariance"] for row in rows.values()] == [7.0, 7.0, 7.0]
    assert all("entropy_change_predicted" in row for row in rows.values())
    assert capsys.readouterr().out.count("Entropy of this run") == 1


def test_statistics_packed_behind_the_entropy_are_left_aside():
    mask, entropy = torch.ones(2, 3, dtype=torch.bool), torch.arange(6.0).view(2, 3)
    plain, packed = (
        FusedCausalLMOutput(entropy=e, label_mask=mask) for e in (entropy, torch.stack([entropy, -entropy], -1))
    )
    assert torch.equal(entropy_of(plain), entropy)
    assert torch.equal(entropy_of(packed), entropy)


def test_the_diagnosis_is_printed_written_and_logged(tmp_path, capsys):
    logged = []
    trainer = make(GRPOTrainer, tmp_path, callbacks=[DiagnosisCallback(log=logged.append)], max_steps=5)
    trainer.train()
    metrics = columns(trainer.state.log_history)
    expected = diagnose(metrics)
    written = json.loads((tmp_path / "diagnosis.json").read_text())
    assert written["sentences"] == list(expected.sentences)
    assert written["numbers"] == pytest.approx(dict(expected.numbers))
    assert written["entropy"] == "5 rows: TRL's mean of the means of micro-batches"
    assert expected.sentences[0] in capsys.readouterr().out
    assert logged == [{f"isentrope/diagnosis/{name}": value for name, value in expected.numbers.items()}]
    assert metrics["reward"][:5] == pytest.approx([row["reward"] for row in trainer.state.log_history[:5]])
    assert [path.name for path in tmp_path.iterdir()] == ["diagnosis.json"]


def test_names_of_the_host_are_translated_and_ours_stand():
    rows = [
        {"step": 1, "entropy": 2.0, "clip_ratio/high_mean": 0.1, "completions/mean_length": 7.0, "reward": None},
        {"step": 2, "entropy": 1.0, "isentrope/entropy": 1.5, "isentrope/covariance/rewarded_likely": 0.25},
        {"step": 2, "eval_entropy": 9.0, "eval_reward": 1.0},
        {"step": 3, "isentrope/entropy": math.nan, "entropy": 0.5, "reward": 1.0},
    ]
    found = columns(rows)
    expected = {
        "step": [1, 2, 2, 3],
        "entropy": [2.0, 1.5, math.nan, 0.5],
        "clip_fraction_high": [0.1, math.nan, math.nan, math.nan],
        "completion_length": [7.0, math.nan, math.nan, math.nan],
        "covariance/rewarded_likely": [math.nan, 0.25, math.nan, math.nan],
        "reward": [math.nan, math.nan, math.nan, 1.0],
    }
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
    assert columns([]) == {}


def test_a_resumed_run_is_explained_from_its_beginning(tmp_path):
    settings = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    whole = make(GRPOTrainer, tmp_path / "whole", **settings)
    EntropyMonitor(probe_every=1).watch(whole)
    whole.train()
    resumed = make(GRPOTrainer, tmp_path / "resumed", **settings)
    EntropyMonitor(probe_every=1).watch(resumed)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert measured(resumed) == measured(whole)
    one, other = (json.loads((tmp_path / run / "diagnosis.json").read_text()) for run in ("whole", "resumed"))
    assert one == other


def test_the_hook_goes_when_training_ends(grpo_run):
    assert not grpo_run.model._forward_hooks


def test_the_hook_of_an_interrupted_run_goes_with_the_next_one_or_the_monitor(tmp_path):
    calls = []

    def failing(completions, **_):
        calls.append(len(completions))
        if len(calls) == 2:
            raise RuntimeError("no reward today")
        return reward(completions)

    monitor = EntropyMonitor(probe_every=0)
    trainer = make(GRPOTrainer, tmp_path, reward=failing)
    monitor.watch(trainer)
    with pytest.raises(RuntimeError, match="no reward today"):
        trainer.train()
    assert len(trainer.model._forward_hooks) == 1
    monitor.stop()
    assert not trainer.model._forward_hooks

    calls.clear()
    with pytest.raises(RuntimeError, match="no reward today"):
        trainer.train()
    trainer.train()
    assert not trainer.model._forward_hooks
    assert all(row["tokens"] <= 12 * 12 for row in measured(trainer).values())

    calls.clear()
    with pytest.raises(RuntimeError, match="no reward today"):
        trainer.train()
    model = trainer.model
    assert len(model._forward_hooks) == 1
    del trainer, monitor
    gc.collect()
    assert not model._forward_hooks


@pytest.mark.parametrize("value", [-1, 2.5, True, None])
def test_the_distance_of_probes_is_a_number_of_steps(value):
    with pytest.raises(ValueError, match="probe_every"):
        EntropyMonitor(probe_every=value)


def test_metrics_of_tokens_in_closed_form():
    entropy = torch.arange(1.0, 11.0, dtype=torch.float64)
    unknown = token_metrics(-entropy, entropy, torch.full_like(entropy, math.nan))
    assert unknown["entropy"] == 5.5
    assert unknown["log_prob"] == -5.5
    assert unknown["entropy_share_top20"] == pytest.approx(19 / 55)
    assert not {"covariance", "token_entropy_change", "fall_concentration"} & set(unknown)
    # A policy without any entropy has no share of it to give.
    assert "entropy_share_top20" not in token_metrics(0 * entropy, 0 * entropy, 0 * entropy)


TWO_RANKS = """
import json, sys
from pathlib import Path
import torch
sys.path.insert(0, {tests!r})
from integrations.trl.test_monitor import EntropyMonitor, RecordingGRPO, make, measured
folder = Path({folder!r})
trainer = make(RecordingGRPO, folder, gradient_accumulation_steps=2, learning_rate=2e-6)
EntropyMonitor(probe_every=1).watch(trainer)
trainer.train()
rank = trainer.accelerator.process_index
torch.save({{step: torch.cat(pieces, dim=1) for step, pieces in trainer.seen.items()}}, folder / f"seen-{{rank}}.pt")
(folder / f"rows-{{rank}}.json").write_text(json.dumps(measured(trainer)))
"""


@pytest.mark.slow
def test_two_ranks_are_one_step(tmp_path):
    script = tmp_path / "two_ranks.py"
    script.write_text(TWO_RANKS.format(tests=str(Path(__file__).parents[2]), folder=str(tmp_path)))
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}", str(script)]
    subprocess.run(launch, check=True, timeout=120)
    rows = json.loads((tmp_path / "rows-0.json").read_text())
    seen = [torch.load(tmp_path / f"seen-{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert sorted(rows) == ["1", "2", "3"]
    for step, row in rows.items():
        log_probs, entropy, advantages, _ = torch.cat([of_rank[int(step)] for of_rank in seen], dim=1)
        assert row["tokens"] == len(entropy)
        assert row["entropy"] == pytest.approx(float(entropy.mean()), abs=2e-6)
        assert row["covariance"] == pytest.approx(covariance(advantages, log_probs), abs=1e-5)
        assert row["entropy_change_measured"] == pytest.approx(row["entropy_change_predicted"], rel=0.05, abs=1e-6)
