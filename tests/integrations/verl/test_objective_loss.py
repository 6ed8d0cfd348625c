"""The loss that workers run: verl's own numbers, and the same gradient however verl cuts and spreads the batch."""

import inspect
from functools import partial

import numpy as np
import pytest
import torch

pytest.importorskip("verl", reason="verl is not installed")
pytest.importorskip("tensordict", reason="tensordict, which verl imports, is not installed")

from tensordict import TensorDict
from verl.utils import tensordict_utils as tu
from verl.utils.metric import Metric
from verl.workers.utils.losses import ppo_loss
from verl.workers.utils.padding import no_padding_2_padding
from verl_rows import (
    WIDTH,
    actor_config,
    driven,
    everything,
    gradients,
    near_old,
    nested,
    rollouts,
    scores,
    tiny_llama,
    worker,
)

from isentrope.integrations.verl.loss import objective_loss, pack, unpack
from isentrope.integrations.verl.stage import token_batch, windows
from isentrope.policy import Objective, Tally, recipes
from isentrope.policy.advantages import GroupNormalized
from isentrope.policy.aggregation import SequenceSumOver, sequence_mean, token_mean
from isentrope.policy.regularizers import EntropyBonus, KLPenalty
from isentrope.policy.surrogates import ClippedRatio, SequenceRatio


def close(left, right, rtol=1e-5):
    """Equal up to the single precision in which verl's driver holds advantages."""
    torch.testing.assert_close(left, right, rtol=rtol, atol=rtol * float(right.abs().max()))


@pytest.mark.parametrize(
    ("aggregation", "mode"),
    [
        (token_mean, "token-mean"),
        (sequence_mean, "seq-mean-token-mean"),
        (SequenceSumOver(32), "seq-mean-token-sum-norm"),
    ],
)
@pytest.mark.parametrize(("ranks", "micro"), [(1, 4), (2, 1), (2, 2)])
def test_a_plain_objective_is_verls_own_actor_loss(aggregation, mode, ranks, micro):
    objective = Objective(
        "plain",
        advantage=GroupNormalized(),
        surrogate=ClippedRatio(0.2, 0.28, dual_clip=3.0),
        aggregation=aggregation,
        regularizers=(EntropyBonus(0.03), KLPenalty(0.1, "k3")),
    )
    data = driven(objective, rollouts(), mini=8, ranks=ranks)
    settings = {"clip_ratio_low": 0.2, "clip_ratio_high": 0.28, "clip_ratio_c": 3.0, "loss_scale_factor": 32}
    config = actor_config(
        loss_agg_mode=mode, entropy_coeff=0.03, use_kl_loss=True, kl_loss_coef=0.1, kl_loss_type="k3", **settings
    )
    ours, _ = worker(near_old(), data, partial(objective_loss, objective), mini=8, ranks=ranks, micro=micro)
    theirs, _ = worker(near_old(), data, partial(ppo_loss, config), mini=8, ranks=ranks, micro=micro)
    assert len(ours) == len(theirs) == 2
    for (gradient, loss), (of_other, other) in zip(ours, theirs, strict=True):
        assert loss == pytest.approx(other, rel=1e-6)
        close(gradient, of_other)


@pytest.mark.parametrize(
    ("surrogate", "aggregation"),
    [
        (ClippedRatio(), token_mean),
        (SequenceRatio(1e-3, 1e-3), sequence_mean),
        (ClippedRatio(), SequenceSumOver()),
    ],
)
def test_the_gradient_is_that_of_the_whole_batch_however_it_is_cut(surrogate, aggregation):
    objective = everything(surrogate=surrogate, aggregation=aggregation)
    raw = rollouts(seed=4)
    model = near_old()
    batch = token_batch(raw, objective)
    prepared, _ = objective.prepare(batch, objective.start())
    output = scores(model, raw)
    whole, tally = objective.loss(
        prepared.with_totals(WIDTH).with_(
            log_probs=no_padding_2_padding(output["log_probs"], raw),
            entropy=no_padding_2_padding(output["entropy"], raw),
        ),
        objective.start(),
    )
    whole.backward()
    expected = gradients(model).clone()
    for ranks, micro in ((1, 16), (2, 1), (4, 2)):
        data = driven(objective, raw, ranks=ranks)
        [(gradient, loss)], metrics = worker(
            model, data, partial(objective_loss, objective), mini=16, ranks=ranks, micro=micro
        )
        assert loss == pytest.approx(float(whole), rel=1e-6)
        close(gradient, expected)
        means = unpack(metrics)
        assert means == pytest.approx(tally.means(), rel=1e-6)
        assert not any("isentrope" in name for name in metrics)


@pytest.mark.parametrize(("ranks", "shuffle", "epochs"), [(1, False, 1), (2, False, 2), (2, True, 1), (4, True, 1)])
def test_each_mini_batch_has_the_loss_of_its_own_window(ranks, shuffle, epochs):
    objective = everything()
    raw = rollouts(prompts=4, seed=5)
    data = driven(objective, raw, mini=8, ranks=ranks, shuffle=shuffle)
    model = near_old()
    steps, _ = worker(
        model, data, partial(objective_loss, objective), mini=8, ranks=ranks, shuffle=shuffle, epochs=epochs
    )
    prepared, _ = objective.prepare(token_batch(raw, objective), objective.start())
    deal = windows(16, 8, ranks, shuffle) * epochs
    assert len(steps) == len(deal) == 2 * epochs
    output = scores(model, raw)
    log_probs, entropy = (no_padding_2_padding(output[name], raw) for name in ("log_probs", "entropy"))
    for rows, (gradient, loss) in zip(deal, steps, strict=True):
        window = prepared.rows(rows).with_totals(WIDTH).with_(log_probs=log_probs[rows], entropy=entropy[rows])
        alone, _ = objective.loss(window, objective.start())
        model.zero_grad()
        alone.backward(retain_graph=True)
        assert loss == pytest.approx(float(alone.detach()), rel=1e-6)
        close(gradient, gradients(model))


def test_clip_cov_is_the_same_in_every_cut():
    objective = recipes.clip_cov(fraction=0.1, low=0.05)
    raw = rollouts(seed=6)
    results = []
    for ranks, micro in ((1, 16), (2, 1)):
        data = driven(objective, raw, ranks=ranks)
        assert any(row.any() for row in data["isentrope_prepared_0"].unbind())
        results += worker(near_old(), data, partial(objective_loss, objective), mini=16, ranks=ranks, micro=micro)[0]
    close(results[1][0], results[0][0])


def test_rows_that_a_filter_drops_leave_the_denominators_where_verl_counts_them():
    data = rollouts()
    uniform = [row * 0 + (torch.arange(len(row)) == len(row) - 1) for row in data["rm_scores"].unbind()[:8]]
    data["rm_scores"] = nested([*uniform, *data["rm_scores"].unbind()[8:]])
    kept = {}
    for objective in (recipes.dapo(), recipes.dapo().with_(row_filter=())):
        driver = driven(objective, data)
        [(gradient, _)], _ = worker(near_old(), driver, partial(objective_loss, objective), mini=16)
        kept[bool(objective.row_filter)] = gradient
    tokens = [int(mask.sum()) for mask in data["response_mask"].unbind()]
    close(kept[True], kept[False] * sum(tokens) / sum(tokens[8:]))


def without_tokens(data, row):
    masks = [mask * (i != row) for i, mask in enumerate(data["response_mask"].unbind())]
    data["response_mask"] = data["loss_mask"] = nested(masks)
    return data


def test_rows_without_tokens_leave_the_mean_over_sequences_where_verl_counts_them():
    objective = recipes.grpo()
    data = driven(objective, without_tokens(rollouts(), 5))
    config = actor_config(loss_agg_mode="seq-mean-token-mean")
    [(ours, _)], _ = worker(near_old(), data, partial(objective_loss, objective), mini=16, micro=4)
    [(theirs, _)], _ = worker(near_old(), data, partial(ppo_loss, config), mini=16, micro=4)
    close(ours, theirs * 16 / 15)


def test_the_constant_length_is_the_longest_allowed_where_verl_takes_that_of_the_micro_batch():
    objective = recipes.grpo().with_(aggregation=SequenceSumOver())
    data = driven(objective, rollouts())
    config = actor_config(loss_agg_mode="seq-mean-token-sum-norm")
    results = {}
    for micro in (16, 1):
        for name, loss in (("ours", partial(objective_loss, objective)), ("theirs", partial(ppo_loss, config))):
            results[name, micro] = worker(near_old(), data, loss, mini=16, micro=micro)[0][0][0]
    longest = max(len(row) for row in data["responses"].unbind())
    assert longest < WIDTH
    close(results["ours", 16], results["theirs", 16] * longest / WIDTH)
    close(results["ours", 1], results["ours", 16])
    assert float((results["theirs", 1] - results["theirs", 16]).abs().max()) > 0.1 * float(
        results["theirs", 16].abs().max()
    )


def test_a_batch_without_any_advantage_gives_a_zero_gradient():
    data = rollouts()
    data["rm_scores"] = nested([row * 0 for row in data["rm_scores"].unbind()])
    objective = recipes.dapo()
    steps, metrics = worker(near_old(), driven(objective, data), partial(objective_loss, objective), mini=16, micro=4)
    assert float(steps[0][0].abs().max()) == steps[0][1] == 0
    assert unpack(metrics) == {}


def test_controllers_reach_the_workers_through_the_note():
    objective = recipes.entropy_target(target=2.0, high=5.0)
    data = rollouts()
    low, high = (objective.control(objective.start(), {"entropy": value}) for value in (2.0, 0.5))
    _, without = worker(near_old(), driven(objective, data, state=low), partial(objective_loss, objective), mini=16)
    steps = [
        worker(near_old(), driven(objective, data, state=state), partial(objective_loss, objective), mini=16)[0][0]
        for state in (low, high)
    ]
    coefficient = objective.coefficients(high)["regularizers[0].coefficient"]
    assert coefficient == pytest.approx(1.5)
    entropy = unpack(without)["loss_entropy"]
    bonus = Objective("bonus", GroupNormalized(), recipes.grpo().surrogate, sequence_mean).adding(
        regularizers=EntropyBonus(coefficient)
    )
    [(expected, loss)], _ = worker(near_old(), driven(bonus, data), partial(objective_loss, bonus), mini=16)
    assert entropy > 0
    assert steps[1][1] == pytest.approx(loss)
    close(steps[1][0], expected)
    assert float((steps[0][0] - expected).abs().max()) > 1e-3


def test_data_of_the_stock_trainer_are_refused():
    data = rollouts()
    with pytest.raises(ValueError, match="trainer_mode=isentrope"):
        objective_loss(recipes.grpo(), scores(tiny_llama(), data), data)


def test_an_entropy_without_gradient_is_refused():
    objective = recipes.entropy_bonus()
    data = driven(objective, rollouts())
    output = scores(near_old(), data)
    output["entropy"] = output["entropy"].detach()
    with pytest.raises(ValueError, match="carries none"):
        objective_loss(objective, output, data)


def test_metrics_survive_verls_reduction_as_exact_means():
    parts = [Tally().add("x", torch.tensor(v)) for v in ([1.0, 2.0, 6.0], [10.0])]
    packed = [pack(part) for part in parts]
    reduced = {f"actor/{name}": Metric.aggregate_dp([p[name] for p in packed]) for name in packed[0]}
    assert unpack(reduced | {"actor/loss": 1.0}) == {"x": 19 / 4}


def required(make):
    return [p for p in inspect.signature(make).parameters.values() if p.default is p.empty]


@pytest.mark.parametrize("name", [name for name, make in recipes.names().items() if not required(make)])
def test_no_metric_has_a_name_that_verl_would_reduce_by_another_rule(name):
    objective = recipes.names()[name]()
    objective = objective.with_(regularizers=tuple(p for p in objective.regularizers if not hasattr(p, "metric")))
    try:
        data = driven(objective, rollouts())
        _, metrics = objective_loss(objective, scores(near_old(), data), data)
    except ValueError as refusal:
        # Verl knows no turns, phases or answers, and hands no full logits to a loss.
        if "which the host did not give" in str(refusal) or "give logits" in str(refusal):
            pytest.skip(str(refusal))
        raise
    assert not [name for name in metrics if "max" in name or "min" in name]


def test_totals_stay_whole_where_there_are_as_many_as_columns():
    data = rollouts()
    five = [row[:5] for row in data["responses"].unbind()]
    for name in ("responses", "response_mask", "loss_mask", "rm_scores", "old_log_probs", "entropy", "ref_log_prob"):
        data[name] = nested([row[: len(kept)] for row, kept in zip(data[name].unbind(), five, strict=True)])
    driver = driven(recipes.grpo(), data)
    assert driver["isentrope_totals"].shape == (16, 5)
    tokens = sum(int(mask.sum()) for mask in data["response_mask"].unbind())
    assert driver["isentrope_totals"].tolist() == [[tokens, 16, tokens, 16, WIDTH]] * 16


def test_windows_are_those_that_verls_workers_deal():
    data = TensorDict({"row": torch.arange(24)}, batch_size=24)
    for ranks, shuffle in ((1, False), (2, True), (3, True)):
        deals = [
            tu.make_iterator(run, 12 // ranks, 1, seed=7 + rank, dataloader_kwargs={"shuffle": shuffle})
            for rank, run in enumerate(tu.chunk_tensordict(data, ranks))
        ]
        expected = [torch.cat([part["row"] for part in step]).tolist() for step in zip(*deals, strict=True)]
        assert [window.tolist() for window in windows(24, 12, ranks, shuffle, seed=7)] == expected
        assert sorted(np.concatenate(expected)) == list(range(24))
