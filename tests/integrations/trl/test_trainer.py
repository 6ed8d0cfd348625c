"""An objective inside TRL: the same numbers as TRL's own losses, as the laboratory, and however batches are cut."""

import pytest
import torch
from runs import GROUP, STOCK_DAPO, given, metrics, parameters, settings, trained, trainer
from small import small_model, small_tokenizer
from transformers import TrainerCallback
from trl.trainer import grpo_trainer

import isentrope.lab.trainer as lab_trainer
from isentrope.lab import TrainerSettings
from isentrope.lab.hugging_face import HuggingFaceModel
from isentrope.lab.rollouts import Rollouts
from isentrope.lab.tasks import Problem
from isentrope.policy import recipes
from isentrope.policy.advantages import GroupNormalized
from isentrope.policy.regularizers import EntropyBonus
from isentrope.policy.selection import TopEntropy

FIXED_LENGTH = {"generation_kwargs": {"min_new_tokens": 8}}


class Gradients(TrainerCallback):
    """Keeps the gradient of each optimiser step before it is clipped or spent."""

    def __init__(self):
        self.steps = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **_):
        self.steps.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})


# --- the same numbers as TRL's own losses


@pytest.mark.parametrize(("accumulation", "per_generation"), [(1, 1), (2, 2), (1, 2), (2, 4)])
def test_dapo_trains_the_same_parameters_as_trl_bit_by_bit(accumulation, per_generation):
    # With several windows a generation batch TRL divides by the mean window, we by the actual one: equal lengths.
    options = {} if accumulation == per_generation else FIXED_LENGTH
    stock = trained(None, settings(accumulation, per_generation, **options))
    ours = trained(STOCK_DAPO, settings(accumulation, per_generation, **options), token_head="trl")
    assert torch.equal(parameters(stock), parameters(ours))
    assert metrics(stock, "loss") == metrics(ours, "loss")
    assert not torch.equal(parameters(ours), parameters(trainer(None, settings())))


def test_our_token_head_trains_the_same_within_rounding():
    stock, ours = trained(None, settings(2)), trained(STOCK_DAPO, settings(2))
    assert metrics(ours, "loss") == pytest.approx(metrics(stock, "loss"), abs=1e-6)
    assert metrics(ours, "grad_norm") == pytest.approx(metrics(stock, "grad_norm"), rel=1e-5)


def test_windows_of_unequal_length_are_divided_by_their_own_tokens():
    """TRL divides each window of a generation batch by the mean window (its `num_items_in_batch` over the windows)."""
    stock = trained(None, settings(1, 2, steps=2), rollout_func=given)
    ours = trained(STOCK_DAPO, settings(1, 2, steps=2, learning_rate=0.0), rollout_func=given)
    frozen = trained(None, settings(1, 2, steps=2, learning_rate=0.0), rollout_func=given)
    lengths = [int(batch["completion_mask"].sum()) for batch in ours._buffered_inputs]
    assert lengths[0] != lengths[1]
    for mine, theirs, length in zip(metrics(ours, "grad_norm"), metrics(frozen, "grad_norm"), lengths, strict=True):
        assert mine * length == pytest.approx(theirs * sum(lengths) / 2, rel=1e-5)
    assert metrics(stock, "loss") != metrics(ours, "loss")


@pytest.mark.parametrize(
    ("objective", "options"),
    [
        (recipes.grpo(kl_coefficient=0.3), {"loss_type": "grpo", "beta": 0.3, "use_bias_correction_kl": False}),
        (
            recipes.gspo(low=0.2, high=0.2),
            {"loss_type": "grpo", "importance_sampling_level": "sequence"},
        ),
        (recipes.dr_grpo(), {"loss_type": "dr_grpo", "scale_rewards": "none"}),
        (
            STOCK_DAPO.adding(regularizers=EntropyBonus(0.1)),
            {"loss_type": "dapo", "entropy_coef": 0.1},
        ),
    ],
    ids=["grpo_with_kl", "gspo", "dr_grpo", "entropy_bonus"],
)
def test_recipes_have_the_gradient_of_trl_where_both_have_them(objective, options, saved_model):
    """One window of one micro-batch, off-policy: the second step on rollouts of the first policy."""
    objective = objective if objective.name == "dr_grpo" else objective.with_(advantage=GroupNormalized(epsilon=1e-4))
    theirs, mine = Gradients(), Gradients()
    # Plain gradient descent: Adam's first step makes rounding as large as the gradient where that is nearly zero.
    shape = {"num_iterations": 2, "steps": 2, "rows": 8, "learning_rate": 0.05, "optim": "sgd"}
    trained(None, settings(**shape, **options), callbacks=[theirs], model=saved_model, rollout_func=given)
    trained(objective, settings(**shape), callbacks=[mine], model=saved_model, rollout_func=given)
    for expected, got in zip(theirs.steps, mine.steps, strict=True):
        scale = max(float(g.abs().max()) for g in expected.values())
        for name, gradient in expected.items():
            torch.testing.assert_close(got[name], gradient, rtol=1e-4, atol=1e-5 * scale)


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    """A model that TRL can load a second time, as its reference."""
    folder = str(tmp_path_factory.mktemp("model"))
    small_model().save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    return folder


# --- the same numbers as the laboratory


class GivenTask:
    name = "given"
    max_new_tokens = 8

    def __init__(self, problems, rewards):
        self._problems, self._rewards = problems, iter(rewards)

    def problems(self, split, count, seed):
        return self._problems[:count]

    def reward(self, problem, text):
        return next(self._rewards)


@pytest.mark.parametrize(
    "name",
    [
        "dapo",
        "gspo",
        "clip_cov(fraction=0.1, low=0.0, high=9.0)",
        "entropic(target=2.0)",
        "entropy_target(target=2.5)",
        "era(low=2.4)",
    ],
)
@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_laboratory_and_trl_have_the_same_loss_and_gradient(name, accumulation, monkeypatch):
    objective, kept = recipes.named(name), Gradients()
    monkeypatch.setattr(grpo_trainer, "shuffle_sequence_dict", lambda rows: rows)
    run = trained(
        objective,
        settings(accumulation, rows=8 // accumulation, steps=1, max_grad_norm=0.0, seed=0),
        callbacks=[kept],
        rollout_func=given,
    )
    names = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "isentrope/rewards")
    rows = {name: torch.cat([batch[name] for batch in run._buffered_inputs]) for name in names}
    mask = rows["completion_mask"].bool()
    rollouts = Rollouts(
        token_ids=torch.cat([rows["prompt_ids"], rows["completion_ids"]], 1),
        attention_mask=torch.cat([rows["prompt_mask"], rows["completion_mask"]], 1).bool(),
        prompt_length=rows["prompt_ids"].shape[1],
        completion_ids=rows["completion_ids"],
        mask=mask,
        log_probs=torch.zeros(mask.shape),
        entropy=torch.zeros(mask.shape),
        completions=[""] * len(mask),
        temperature=1.0,
    )
    model = HuggingFaceModel(small_model(), small_tokenizer())
    scored = lab_trainer.score(model, rollouts, temperature=1.0)
    rollouts = Rollouts(
        **{**vars(rollouts), "log_probs": scored.log_probs.detach(), "entropy": scored.entropy.detach()}
    )
    monkeypatch.setattr("isentrope.lab.collection.sample", lambda *_, **__: rollouts)
    rewards = [float(r) for r in rows["isentrope/rewards"]]
    task = GivenTask([Problem("", ()) for _ in range(8 // GROUP)], rewards)
    options = TrainerSettings(
        prompts_per_step=8 // GROUP, group_size=GROUP, maximum_gradient_norm=1e9, micro_batch_size=3, probe_every=0
    )
    lab = lab_trainer.Trainer(model, task, objective, options)
    step = lab.step()

    assert step["loss"] == pytest.approx(metrics(run, "loss")[0], abs=2e-6)
    assert step["entropy"] == pytest.approx(metrics(run, "isentrope/entropy")[0], rel=1e-5)
    assert step["covariance"] == pytest.approx(metrics(run, "isentrope/covariance")[0], rel=1e-4)
    for key in step:
        if key.startswith("coefficient/"):
            assert step[key] == pytest.approx(metrics(run, f"isentrope/{key}")[0], rel=1e-5)
    scale = max(float(g.abs().max()) for g in kept.steps[0].values())
    for name_of, parameter in lab.model.model.named_parameters():
        torch.testing.assert_close(parameter.grad, kept.steps[0][name_of], rtol=1e-3, atol=1e-5 * scale)


# --- however batches are cut


def decided(run, key):
    """What was decided for each completion, by its group and its tokens."""
    table = {}
    for batch in run._buffered_inputs:
        lengths = batch["completion_mask"].sum(1).tolist()
        for group, ids, values, length in zip(
            batch["isentrope/group_ids"].tolist(),
            batch["completion_ids"].tolist(),
            batch[key].tolist(),
            lengths,
            strict=True,
        ):
            table[group, tuple(ids[:length])] = values[:length]
    return table


CHOOSING = recipes.clip_cov(fraction=0.1, low=0.0, high=9.0).with_(selection=TopEntropy(0.5))


def test_masks_and_gradients_do_not_depend_on_micro_batches():
    """Eight completions in 2, 4 or 8 micro-batches; whole-batch statistics by the pass without gradient."""
    runs = []
    for accumulation in (2, 4):
        kept = Gradients()
        args = settings(accumulation, rows=8 // accumulation, steps=1, max_grad_norm=0.0)
        runs.append((trained(CHOOSING, args, callbacks=[kept], rollout_func=given), kept))
    (first, gradients), (second, others) = runs
    for key in ("isentrope/loss_mask", "isentrope/prepared/token_weight[0]", "isentrope/advantages"):
        assert decided(first, key) == decided(second, key)
    assert any(bit for bits in decided(first, "isentrope/prepared/token_weight[0]").values() for bit in bits)
    assert metrics(first, "loss")[0] == pytest.approx(metrics(second, "loss")[0], abs=1e-6)
    for name, gradient in gradients.steps[0].items():
        torch.testing.assert_close(others.steps[0][name], gradient, rtol=1e-4, atol=1e-6)
