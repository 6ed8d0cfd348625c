"""What TRL can host, what is refused, and where the numbers of the whole-batch stage come from."""

import json
import math
from dataclasses import dataclass
from importlib.metadata import version
from typing import ClassVar

import pytest
import torch
from peft import LoraConfig
from runs import STOCK_DAPO, given, metrics, parameters, reward, settings, trained, trainer
from small import prompts_dataset, small_model
from test_trainer import CHOOSING, Gradients
from transformers import TrainerCallback
from trl.trainer import grpo_trainer

from isentrope.integrations.trl import DiagnosisCallback, EntropyGRPOTrainer, EntropyMonitor
from isentrope.integrations.trl._stage import token_parts
from isentrope.integrations.trl._surface import check_surface
from isentrope.integrations.trl.trainer import SamplerCorrection
from isentrope.policy import RolloutPlan, TokenBatch, recipes
from isentrope.policy.controllers import Linear
from isentrope.policy.regularizers import EntropyBonus, KLPenalty
from isentrope.policy.rollout import Tempered
from isentrope.policy.selection import TopEntropy

# --- refusals


@pytest.mark.parametrize(
    ("objective", "options", "named", "message"),
    [
        (STOCK_DAPO, {"beta": 0.04}, {}, r"beta=0.04 would do nothing.*KLPenalty"),
        (STOCK_DAPO, {"entropy_coef": 0.1, "epsilon_high": 0.3}, {}, r"epsilon_high=0.3, entropy_coef=0.1 would do"),
        (STOCK_DAPO.with_(rollout=lambda plan: RolloutPlan(4)), {}, {}, r"cannot host rollout\[0\]"),
        (
            STOCK_DAPO.with_(rollout=Tempered(0.7)).adding(regularizers=KLPenalty(0.1)),
            {},
            {},
            r"rollout\[0\].* a reference policy",
        ),
        (STOCK_DAPO, {}, {"batch_statistics": "whole"}, "batch_statistics must be one of old_pass"),
        (CHOOSING, {}, {"batch_statistics": "previous_step"}, r"selection\[0\], token_weight\[0\] of clip_cov read"),
        (STOCK_DAPO, {}, {"token_head": "fast"}, "token_head must be"),
        (STOCK_DAPO.with_(rollout=Tempered(0.7)), {}, {"token_head": "trl"}, "a temperature that changes"),
        (STOCK_DAPO.with_(output_activation=torch.tanh), {}, {}, "cannot host the output activation"),
        (recipes.tip(), {}, {}, "needs the distributions of a frozen teacher, which TRL"),
        (recipes.spear(), {}, {}, r"cannot host rollout\[0\], Replay"),
        (recipes.era(), {}, {"token_head": "trl"}, "an output activation"),
        (recipes.era(), {"accumulation": 1, "per_generation": 2}, {}, "one optimiser step a generation batch"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(objective, options, named, message):
    with pytest.raises(ValueError, match=message):
        trainer(objective, settings(**options), **named)


def test_an_objective_must_be_one():
    with pytest.raises(TypeError, match=r"as from isentrope\.policy\.recipes, got 'grpo'"):
        EntropyGRPOTrainer(small_model(), reward, settings(), objective="grpo")


def test_another_trl_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr("isentrope.integrations._surface.version", lambda _: "1.17.0")
    with pytest.raises(ImportError, match=r"made for trl 1.16, found 1.17.0: pip install 'trl>=1.16,<1.17'"):
        check_surface()
    monkeypatch.setattr("isentrope.integrations._surface.version", version)
    monkeypatch.setattr(grpo_trainer.GRPOTrainer, "_compute_loss", lambda self, model, rows: None)
    with pytest.raises(ImportError, match="changed in it: _compute_loss: pip install"):
        check_surface()
    monkeypatch.setattr(grpo_trainer.GRPOTrainer, "loss_is_scaled_for_ga", False)
    with pytest.raises(ImportError, match="changed in it: _compute_loss, loss_is_scaled_for_ga: pip install"):
        check_surface()


def test_needs_inside_a_part_count():
    """A reward that looks at windows of the entropy needs it of the whole batch, though only the windows say so."""
    objective = recipes.ares().with_(regularizers=())
    assert "reward" in token_parts(objective.at(objective.start()))
    assert not token_parts(STOCK_DAPO)


# --- where whole-batch numbers come from


def test_a_generation_batch_of_one_micro_batch_needs_no_further_pass(monkeypatch):
    """Its decisions are those of the pass: the same completions in one micro-batch, and in two."""
    # What is drawn at random depends on the order of the rows.
    monkeypatch.setattr(grpo_trainer, "shuffle_sequence_dict", lambda rows: rows)
    kept, others = Gradients(), Gradients()
    shape = {"steps": 1, "max_grad_norm": 0.0}
    one = trained(CHOOSING, settings(rows=8, **shape), rollout_func=given, callbacks=[kept])
    two = trained(CHOOSING, settings(2, rows=4, **shape), rollout_func=given, callbacks=[others])
    assert not any("isentrope/loss_mask" in batch for batch in one._buffered_inputs)
    for name, gradient in kept.steps[0].items():
        torch.testing.assert_close(others.steps[0][name], gradient, rtol=1e-4, atol=1e-6)
    for name in ("isentrope/selected_tokens", "isentrope/kept_rows", "isentrope/entropy", "isentrope/covariance"):
        assert metrics(one, name) == pytest.approx(metrics(two, name), rel=1e-5)


def test_a_pass_is_made_only_where_something_reads_it(monkeypatch):
    passes = []
    scored = EntropyGRPOTrainer._scored_without_gradient
    monkeypatch.setattr(EntropyGRPOTrainer, "_scored_without_gradient", lambda *a: passes.append(1) or scored(*a))
    for objective, per_generation, options, expected in (
        (STOCK_DAPO, 2, {"rollout_func": given}, 0),
        (CHOOSING, 2, {"rollout_func": given}, 2),
        (recipes.entropic(target=2.0), 2, {"rollout_func": given}, 2),
        (CHOOSING, 2, {}, 0),  # read off what `generate` drew from
        (CHOOSING, 4, {"rollout_func": given}, 0),  # TRL's own pass
    ):
        passes.clear()
        trained(objective, settings(2, per_generation, steps=2), **options)
        assert len(passes) == expected


def test_old_entropies_of_trls_own_pass_are_those_of_the_policy_that_sampled():
    objective = STOCK_DAPO.with_(selection=TopEntropy(0.5))
    run = trained(objective, settings(1, 2, steps=1, learning_rate=0.0), rollout_func=given)
    for batch in run._buffered_inputs:
        mask, expected = batch["completion_mask"].bool(), entropies(batch)
        torch.testing.assert_close(batch["isentrope/old_entropy"][mask].double(), expected[mask], rtol=1e-4, atol=1e-5)


def test_micro_batch_statistics_choose_other_tokens_and_say_so():
    shape = {"accumulation": 4, "rows": 2, "steps": 1}
    objective = STOCK_DAPO.with_(selection=TopEntropy(0.3))
    whole = trained(objective, settings(**shape), rollout_func=given)
    part = trained(objective, settings(**shape), rollout_func=given, batch_statistics="micro_batch")
    assert metrics(whole, "isentrope/statistics_scope/old_pass") == [1.0]
    assert metrics(part, "isentrope/statistics_scope/micro_batch") == [1.0]
    # A micro-batch takes its own share at least of one token, so more than the whole batch's in sum.
    assert metrics(part, "isentrope/selected_tokens")[0] != metrics(whole, "isentrope/selected_tokens")[0]
    # The loss is the token-weighted mean over micro-batches of the mean over the tokens chosen in each.
    expected, tokens = 0.0, 0
    for batch in part._buffered_inputs:
        n = int(batch["completion_mask"].sum())
        tokens += n
        score = torch.where(batch["completion_mask"].bool(), entropies(batch), -math.inf).flatten()
        top = score.topk(max(1, math.floor(0.3 * n + 1e-9))).indices
        expected -= n * float(batch["isentrope/advantages"].flatten()[top].mean())
    assert metrics(part, "loss")[0] == pytest.approx(expected / tokens, abs=1e-4)


def entropies(batch):
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    seen = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    with torch.no_grad():
        logits = small_model()(input_ids=ids, attention_mask=seen).logits
    log_probs = logits[:, batch["prompt_ids"].shape[1] - 1 : -1].double().log_softmax(-1)
    return -(log_probs.exp() * log_probs).sum(-1)


def test_controllers_may_follow_the_step_before():
    options = {"rollout_func": given, "batch_statistics": "previous_step"}
    run = trained(recipes.entropy_target(target=2.6), settings(2, steps=3), **options)
    entropy = metrics(run, "isentrope/entropy")
    coefficients = metrics(run, "isentrope/coefficient/regularizers[0].coefficient")
    assert coefficients[0] == 0.0
    assert coefficients[1] == pytest.approx(min(0.5, max(0.0, 2.6 - entropy[0])), rel=1e-5)
    exact = trained(recipes.entropy_target(target=2.6), settings(2, steps=3), rollout_func=given)
    entropy = metrics(exact, "isentrope/entropy")
    coefficients = metrics(exact, "isentrope/coefficient/regularizers[0].coefficient")
    assert coefficients[0] == pytest.approx(min(0.5, max(0.0, 2.6 - entropy[0])), rel=1e-5)
    assert metrics(exact, "isentrope/target_entropy") == [2.6] * 3


# --- what parts may ask for


@dataclass(frozen=True)
class Asking:
    """A regularizer made of every further statistic and of the full logits."""

    needs: ClassVar[frozenset[str]] = frozenset({"varentropy", "top_k_mass", "logits", "token_ids"})

    def __call__(self, batch):
        logits = batch.logits()
        chosen = logits.gather(-1, batch.token_ids[..., None])[..., 0]
        # Zero in exact arithmetic, if logits, tokens and log-probabilities belong together.
        return (
            batch.extras["varentropy"] + batch.extras["top_k_mass"] + (chosen - logits.logsumexp(-1) - batch.log_probs)
        )


@pytest.mark.parametrize("accumulation", [1, 2])
def test_further_statistics_and_logits_reach_a_part(accumulation):
    kept = Gradients()
    objective = STOCK_DAPO.adding(regularizers=Asking())
    args = settings(accumulation, rows=8 // accumulation, steps=1, max_grad_norm=0.0, temperature=0.7)
    run = trained(objective, args, rollout_func=given, callbacks=[kept])
    model, loss, tokens = small_model(), 0.0, 0
    for batch in run._buffered_inputs:
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
        seen = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
        logits = model(input_ids=ids, attention_mask=seen).logits[:, batch["prompt_ids"].shape[1] - 1 : -1]
        mask, advantages = batch["completion_mask"].bool(), batch["advantages"]
        log_probs = (logits / 0.7).log_softmax(-1)
        p = log_probs.exp()
        varentropy = (p * log_probs**2).sum(-1) - (p * log_probs).sum(-1) ** 2
        chosen = log_probs.gather(-1, batch["completion_ids"][..., None])[..., 0]
        surrogate = -advantages[:, None] * (chosen - chosen.detach()).exp()
        loss = loss + (surrogate + varentropy + p.topk(20).values.sum(-1))[mask].sum()
        tokens += int(mask.sum())
    (loss / tokens).backward()
    assert metrics(run, "loss")[0] == pytest.approx(float(loss.detach()) / tokens, abs=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(kept.steps[0][name], parameter.grad, rtol=1e-3, atol=1e-5)


def test_a_controller_can_hold_the_temperature_of_sampling_and_scoring():
    objective = STOCK_DAPO.with_(rollout=Tempered(Linear(1.0, 0.5, 2)))
    run = trained(objective, settings(steps=3))
    assert metrics(run, "isentrope/temperature") == [1.0, 0.75, 0.5]
    assert run.generation_config.temperature == 0.5
    plain = trained(STOCK_DAPO, settings(steps=3))
    assert metrics(run, "isentrope/entropy")[2] < 0.8 * metrics(plain, "isentrope/entropy")[2]


def test_a_reference_policy_is_kept_by_peft_as_the_model_without_adapters():
    adapter = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    objective = STOCK_DAPO.adding(regularizers=KLPenalty(0.1))
    run = trainer(objective, settings(1, 2, steps=1), peft_config=adapter, rollout_func=given)
    run.train()
    batch = run._buffered_inputs[0]
    mask = batch["completion_mask"].bool()
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    seen = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    with torch.no_grad():
        logits = small_model()(input_ids=ids, attention_mask=seen).logits[:, batch["prompt_ids"].shape[1] - 1 : -1]
    expected = logits.log_softmax(-1).gather(-1, batch["completion_ids"][..., None])[..., 0]
    torch.testing.assert_close(batch["ref_per_token_logps"][mask], expected[mask], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(batch["old_per_token_logps"][mask], expected[mask], atol=1e-2)


def test_the_correction_for_vllm_weighs_tokens():
    ratio = torch.tensor([[0.5], [2.0]])
    batch = TokenBatch(
        mask=torch.ones(2, 3, dtype=torch.bool),
        rewards=torch.zeros(2),
        group_ids=torch.zeros(2, dtype=torch.long),
        old_log_probs=torch.zeros(2, 3),
        extras={"importance_sampling_ratio": ratio},
    )
    assert SamplerCorrection()(batch).tolist() == [[0.5] * 3, [2.0] * 3]


# --- rows that do not count


def test_completions_that_no_function_scored_have_no_part_in_groups_or_loss():
    def partly(completion_ids, **_):
        return [
            None if len(ids) % 3 == 0 else value
            for ids, value in zip(completion_ids, reward(completion_ids), strict=True)
        ]

    run = trained(recipes.grpo(), settings(2, steps=1), rollout_func=given, reward_funcs=partly)
    rows = [
        (len(ids), mask, advantage)
        for batch in run._buffered_inputs
        for ids, mask, advantage in zip(
            [i[: int(m.sum())] for i, m in zip(batch["completion_ids"], batch["completion_mask"], strict=True)],
            batch["isentrope/mask"].any(1).tolist(),
            batch["isentrope/advantages"].abs().sum(1).tolist(),
            strict=True,
        )
    ]
    assert {mask for length, mask, _ in rows if length % 3 == 0} == {False}
    assert {mask for length, mask, _ in rows if length % 3} == {True}
    assert all(advantage == 0 for length, _, advantage in rows if length % 3 == 0)


def test_a_batch_that_nobody_scored_leaves_the_policy_as_it_is():
    run = trained(
        recipes.grpo(), settings(2, steps=1), reward_funcs=lambda completion_ids, **_: [None] * len(completion_ids)
    )
    assert torch.equal(parameters(run), parameters(trainer(recipes.grpo(), settings())))


def test_tool_output_is_not_the_policys():
    def with_tool_output(prompts, run):
        rollouts = given(prompts, run)
        rollouts["env_mask"] = [
            [int(index % 2 == 0) for index in range(len(ids))] for ids in rollouts["completion_ids"]
        ]
        return rollouts

    run = trained(STOCK_DAPO, settings(2, steps=1), rollout_func=with_tool_output)
    for batch in run._buffered_inputs:
        odd = batch["isentrope/mask"][:, 1::2]
        assert not odd.any()
        assert batch["isentrope/mask"][:, ::2].sum() == batch["completion_mask"][:, ::2].sum()
    expected = [entropies(batch)[batch["isentrope/mask"]] for batch in run._buffered_inputs]
    assert metrics(run, "isentrope/entropy")[0] == pytest.approx(float(torch.cat(expected).mean()), rel=1e-5)


# --- evaluation and the end of a run


def test_evaluation_measures_and_changes_nothing(monkeypatch):
    # Iterating over the evaluation set draws a random number, after which TRL shuffles rows in another order.
    monkeypatch.setattr(grpo_trainer, "shuffle_sequence_dict", lambda rows: rows)
    objective = recipes.entropic(target=2.0, threshold=0.2).with_(selection=TopEntropy(0.5))
    options = {"rollout_func": given, "eval_dataset": prompts_dataset(4)}
    plain = trained(objective, settings(2, steps=3), **options)
    watched = trained(
        objective, settings(2, steps=3, eval_strategy="steps", eval_steps=1, per_device_eval_batch_size=4), **options
    )
    assert torch.equal(parameters(plain), parameters(watched))
    assert plain.objective_state == watched.objective_state
    assert len(metrics(watched, "eval_isentrope/entropy")) == 3
    assert metrics(watched, "eval_loss")


def test_a_run_ends_with_its_diagnosis(tmp_path, capsys):
    run = trained(recipes.entropy_target(target=2.6), settings(steps=4, output_dir=str(tmp_path)))
    sentences = json.loads((tmp_path / "diagnosis.json").read_text())["sentences"]
    assert any("The target of 2.60 nats" in sentence for sentence in sentences)
    assert "The target of 2.60 nats" in capsys.readouterr().out
    assert metrics(run, "isentrope/diagnosis/entropy_start")


def test_the_model_card_cites_the_objectives_paper(tmp_path):
    run = trained(recipes.clip_cov(), settings(steps=1, output_dir=str(tmp_path), save_strategy="steps", save_steps=1))
    card = (tmp_path / "README.md").read_text()
    assert "The Entropy Mechanism of Reinforcement Learning" in card
    assert "2505.22617" in card
    assert run.objective.papers[0] == "clip-cov-kl-cov"


# --- what once went wrong


def test_controllers_rest_while_a_batch_has_no_token_and_no_entropy_is_logged():
    def cut_at(step):
        def sometimes_truncated(prompts, run):
            rollouts = given(prompts, run)
            end = [] if run.state.global_step == step else [run.processing_class.eos_token_id]
            rollouts["completion_ids"] = [[*ids[:7], *end] for ids in rollouts["completion_ids"]]
            rollouts["logprobs"] = [[0.0] * len(ids) for ids in rollouts["completion_ids"]]
            return rollouts

        return sometimes_truncated

    for mode in ("old_pass", "previous_step"):
        run = trained(
            recipes.entropy_target(target=2.6),
            settings(2, steps=3, mask_truncated_completions=True),
            rollout_func=cut_at(1),
            batch_statistics=mode,
        )
        assert len(metrics(run, "isentrope/entropy")) == 2
        assert min(metrics(run, "isentrope/entropy")) > 1


def test_a_trainer_that_was_interrupted_can_be_told_to_go_on(tmp_path):
    objective, shape = (
        recipes.entropic(target=2.0, threshold=0.2),
        {"steps": 4, "save_strategy": "steps", "save_steps": 1},
    )
    unbroken = trained(objective, settings(2, **shape))

    class Interrupts(TrainerCallback):
        def on_substep_end(self, args, state, control, **_):
            if state.global_step == 2 and not done:
                done.append(True)
                raise KeyboardInterrupt

    done = []
    run = trainer(objective, settings(2, **shape, output_dir=str(tmp_path)), callbacks=[Interrupts()])
    with pytest.raises(KeyboardInterrupt):
        run.train()
    run.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert torch.equal(parameters(run), parameters(unbroken))


def test_micro_batch_statistics_that_choose_everything_change_nothing():
    """Also under a mean over responses, whose denominators are rows."""
    runs = []
    for mode in ("old_pass", "micro_batch"):
        kept = Gradients()
        args = settings(4, rows=2, steps=1, max_grad_norm=0.0)
        objective = recipes.grpo().with_(selection=TopEntropy(1.0))
        trained(objective, args, rollout_func=given, batch_statistics=mode, callbacks=[kept])
        runs.append(kept.steps[0])
    for name, gradient in runs[0].items():
        torch.testing.assert_close(runs[1][name], gradient, rtol=1e-4, atol=1e-6)


def test_controllers_follow_each_step_on_a_generation_batch():
    run = trained(recipes.entropy_target(target=2.6, integral=0.0), settings(1, 4, steps=4, learning_rate=1e-2))
    entropy = metrics(run, "isentrope/entropy")
    coefficients = metrics(run, "isentrope/coefficient/regularizers[0].coefficient")
    for before, coefficient in zip(entropy, coefficients[1:], strict=False):
        assert coefficient == pytest.approx(min(0.5, max(0.0, 2.6 - before)), rel=1e-5)


def test_a_schedule_alone_needs_no_pass(monkeypatch):
    passes = []
    monkeypatch.setattr(EntropyGRPOTrainer, "_scored_without_gradient", lambda *_: passes.append(1))
    trained(STOCK_DAPO.adding(regularizers=EntropyBonus(Linear(0.1, 0.0, 3))), settings(2, steps=2))
    assert not passes


def test_a_monitor_given_as_a_callback_stays():
    run = trainer(STOCK_DAPO, settings(), callbacks=[EntropyMonitor(probe_every=1)])
    assert sum(isinstance(each, DiagnosisCallback) for each in run.callback_handler.callbacks) == 1
    assert isinstance(run.callback_handler.callbacks[0], EntropyMonitor)


def test_the_entropy_of_an_evaluation_is_that_of_all_its_tokens():
    args = settings(steps=1, eval_strategy="steps", eval_steps=1, per_device_eval_batch_size=2, learning_rate=0.0)
    seen = []
    run = trainer(STOCK_DAPO, args, rollout_func=given, eval_dataset=prompts_dataset(3))
    prepare = run._prepare_inputs
    run._prepare_inputs = lambda rows: (
        (seen.append(prepare(rows)) if not run.model.training else None)
        or (seen[-1] if not run.model.training else prepare(rows))
    )
    run.train()
    tokens = torch.cat([entropies(batch)[batch["completion_mask"].bool()] for batch in seen])
    assert len({int(batch["completion_mask"].sum()) for batch in seen}) > 1
    assert metrics(run, "eval_isentrope/entropy") == [pytest.approx(float(tokens.mean()), rel=1e-5)]
    assert metrics(run, "eval_entropy") == metrics(run, "eval_isentrope/entropy")
