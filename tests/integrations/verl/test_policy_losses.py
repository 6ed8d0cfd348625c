"""Our surrogates, aggregations and penalties against verl's own functions, on the same tensors."""

import math

import pytest
import torch

pytest.importorskip("verl", reason="verl is not installed")
pytest.importorskip("tensordict", reason="tensordict, which verl imports, is not installed")

from verl.trainer.ppo import core_algos
from verl.workers.config import PolicyLossConfig
from verl_rows import UNCLIPPED, actor_config

from isentrope.integrations.verl.policy_losses import policy_loss, refusal, register
from isentrope.policy import Objective, TokenBatch, recipes
from isentrope.policy.advantages import GroupNormalized
from isentrope.policy.aggregation import SequenceSumOver, sequence_mean, sequence_sum, token_mean
from isentrope.policy.regularizers import KLPenalty, LogRatioPenalty
from isentrope.policy.surrogates import ClippedRatio, SequenceRatio
from isentrope.policy.weights import TopCovariance

ROWS, WIDTH = 12, 20


def given(seed=0, spread=0.3):
    """Log-probabilities, their gradients wanted, with rewards that differ in every group and a ragged mask."""
    generator = torch.Generator().manual_seed(seed)
    old = -3 * torch.rand(ROWS, WIDTH, generator=generator, dtype=torch.float64)
    current = (old + spread * torch.randn(ROWS, WIDTH, generator=generator, dtype=torch.float64)).requires_grad_()
    lengths = torch.randint(3, WIDTH + 1, (ROWS,), generator=generator)
    batch = TokenBatch(
        mask=torch.arange(WIDTH) < lengths[:, None],
        rewards=torch.arange(ROWS, dtype=torch.float64).remainder(3),
        group_ids=torch.arange(ROWS) // 4,
        old_log_probs=old,
        reference_log_probs=old - 0.2 * torch.randn(ROWS, WIDTH, generator=generator, dtype=torch.float64),
    )
    return batch, current


def ours(objective, batch, current, width=None):
    """Loss and gradient of an objective whose whole batch is this one micro-batch, seen with the current policy."""
    prepared, _ = objective.prepare(batch.with_(log_probs=current.detach()), objective.start())
    loss, _ = objective.loss(prepared.with_totals(width).with_(log_probs=current), objective.start())
    return prepared, loss, torch.autograd.grad(loss, current)[0]


def theirs(name, prepared, current, mode="token-mean", weights=None, **settings):
    """Loss and gradient of verl's policy loss for the same advantages."""
    loss, metrics = core_algos.get_policy_loss_fn(name)(
        old_log_prob=prepared.old_log_probs,
        log_prob=current,
        advantages=prepared.advantages,
        response_mask=prepared.mask.long(),
        loss_agg_mode=mode,
        config=actor_config(**settings),
        rollout_is_weights=weights,
    )
    return loss, torch.autograd.grad(loss, current)[0], metrics


def objective_of(surrogate, aggregation=token_mean, **slots):
    return Objective("test", advantage=GroupNormalized(), surrogate=surrogate, aggregation=aggregation, **slots)


AGGREGATIONS = {
    "token-mean": token_mean,
    "seq-mean-token-mean": sequence_mean,
    "seq-mean-token-sum": sequence_sum,
    "seq-mean-token-sum-norm": SequenceSumOver(),
}


@pytest.mark.parametrize("mode", AGGREGATIONS)
@pytest.mark.parametrize("dual_clip", [None, 1.1])
def test_clipped_ratio_is_verls_vanilla_loss_in_every_aggregation(mode, dual_clip):
    batch, current = given()
    surrogate = ClippedRatio(0.2, 0.28, dual_clip)
    prepared, loss, gradient = ours(objective_of(surrogate, AGGREGATIONS[mode]), batch, current)
    other, of_other, metrics = theirs(
        "vanilla",
        prepared,
        current,
        mode,
        clip_ratio_low=0.2,
        clip_ratio_high=0.28,
        clip_ratio_c=dual_clip or UNCLIPPED,
    )
    torch.testing.assert_close(loss, other, rtol=1e-8, atol=0)
    torch.testing.assert_close(gradient, of_other, rtol=1e-8, atol=1e-14)
    assert (metrics["actor/pg_clipfrac_lower"] > 0) == (dual_clip is not None)


def test_constant_length_aggregation_takes_verls_scale_factor():
    batch, current = given()
    prepared, loss, _ = ours(objective_of(ClippedRatio(), SequenceSumOver(512)), batch, current)
    config = actor_config()
    config.global_batch_info["loss_scale_factor"] = 512
    other, _ = core_algos.compute_policy_loss_vanilla(
        prepared.old_log_probs, current, prepared.advantages, prepared.mask.long(), "seq-mean-token-sum-norm", config
    )
    torch.testing.assert_close(loss, other, rtol=1e-12, atol=0)


def test_sequence_ratio_is_verls_gspo():
    batch, current = given(spread=0.002)
    prepared, loss, gradient = ours(recipes.gspo(), batch, current)
    other, of_other, metrics = theirs(
        "gspo", prepared, current, "seq-mean-token-mean", clip_ratio_low=3e-4, clip_ratio_high=4e-4
    )
    assert 0 < metrics["actor/pg_clipfrac"] < 1
    torch.testing.assert_close(loss, other, rtol=1e-8, atol=0)
    torch.testing.assert_close(gradient, of_other, rtol=1e-7, atol=1e-14)


def test_gspo_differs_where_the_mean_log_ratio_passes_ten():
    batch, _ = given()
    rewarded = batch.with_(log_probs=batch.old_log_probs + 12, advantages=torch.ones_like(batch.old_log_probs))
    mine = SequenceRatio(0.0, math.inf)(rewarded)[rewarded.mask]
    other, _ = core_algos.compute_policy_loss_gspo(
        rewarded.old_log_probs,
        rewarded.log_probs,
        rewarded.advantages,
        rewarded.mask.long(),
        config=actor_config(clip_ratio_low=0.0, clip_ratio_high=math.inf),
    )
    assert float(mine[0]) == pytest.approx(-math.exp(12))
    assert float(other) == pytest.approx(-math.exp(10))


def test_clip_cov_drops_verls_tokens_where_every_candidate_goes():
    batch, current = given(seed=3)
    objective = recipes.clip_cov(fraction=1.0, low=0.2, high=5.0)
    prepared, loss, gradient = ours(objective, batch, current)
    limits = PolicyLossConfig(clip_cov_ratio=1.0, clip_cov_lb=0.2, clip_cov_ub=5.0)
    other, of_other, _ = theirs(
        "clip_cov", prepared, current, clip_ratio_low=1.0, clip_ratio_high=1.0, policy_loss=limits
    )
    assert prepared.prepared["token_weight[0]"].any()
    torch.testing.assert_close(loss, other, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, of_other, rtol=1e-12, atol=1e-15)


def test_clip_cov_drops_as_many_random_tokens_as_verl_out_of_the_same_candidates():
    batch, current = given(seed=3)
    settings = {"clip_cov_lb": 0.2, "clip_cov_ub": 5.0}
    candidates = recipes.clip_cov(fraction=1.0, low=0.2)
    chosen = recipes.clip_cov(fraction=0.02, low=0.2)
    everyone, *_ = ours(candidates, batch, current)
    prepared, _, gradient = ours(chosen, batch, current)
    _, of_other, _ = theirs(
        "clip_cov",
        prepared,
        current,
        clip_ratio_low=1.0,
        clip_ratio_high=1.0,
        policy_loss=PolicyLossConfig(clip_cov_ratio=0.02, **settings),
    )
    unclipped = prepared.mask & ~ClippedRatio(1.0, 1.0).clipped(prepared.with_(log_probs=current.detach()))
    without = (of_other == 0) & unclipped & (prepared.advantages != 0)
    assert without.sum() == ((gradient == 0) & unclipped & (prepared.advantages != 0)).sum() == 2
    assert bool((everyone.prepared["token_weight[0]"] | ~without).all())


@pytest.mark.parametrize("fraction", [0.002, 0.1])
def test_kl_cov_is_verls(fraction):
    batch, current = given(seed=1)
    objective = recipes.kl_cov(fraction, coefficient=0.7)
    prepared, loss, gradient = ours(objective, batch, current)
    other, of_other, _ = theirs(
        "kl_cov", prepared, current, policy_loss=PolicyLossConfig(kl_cov_ratio=fraction, ppo_kl_coef=0.7)
    )
    torch.testing.assert_close(loss, other, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, of_other, rtol=1e-12, atol=1e-15)


def test_kl_cov_of_verl_inflates_its_share_on_micro_batches_and_ours_does_not():
    batch, current = given(seed=1)
    objective = objective_of(ClippedRatio(), regularizers=(LogRatioPenalty(TopCovariance(0.01)),))
    prepared, _, _ = ours(objective, batch, current)
    whole = int(prepared.prepared["regularizers[0]"].sum())
    micro = 0
    for row in range(ROWS):
        piece = prepared.rows(slice(row, row + 1))
        alone = current[row : row + 1].detach().requires_grad_()
        _, with_penalty, _ = theirs("kl_cov", piece, alone, policy_loss=PolicyLossConfig(kl_cov_ratio=0.01))
        _, without, _ = theirs("vanilla", piece, alone, clip_ratio_low=1.0, clip_ratio_high=1e9)
        micro += int((with_penalty != without).sum())
    assert whole == int(0.01 * int(batch.mask.sum()))
    assert micro == ROWS > whole


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3", "k3+"])
def test_kl_penalties_are_verls(estimator):
    batch, current = given()
    term = KLPenalty(0.5, estimator)(batch.with_(log_probs=current))
    other = 0.5 * core_algos.kl_penalty(current, batch.reference_log_probs, estimator)
    for mine, their in (
        (term, other),
        *[[torch.autograd.grad(x[batch.mask].sum(), current)[0] for x in (term, other)]],
    ):
        torch.testing.assert_close(mine[batch.mask], their[batch.mask], rtol=1e-12, atol=1e-15)


def test_k3_of_verl_stops_at_ten_and_ours_does_not():
    batch, _ = given()
    current = batch.reference_log_probs - 4
    mine = KLPenalty(1.0, "k3")(batch.with_(log_probs=current))[batch.mask]
    assert float(mine[0]) == pytest.approx(math.exp(4) - 1 - 4)
    assert float(core_algos.kl_penalty(current, batch.reference_log_probs, "k3")[0, 0]) == 10


# --- recipes under verl's own names


def test_surrogate_only_recipes_are_registered_and_equal_verls():
    register()
    batch, current = given(spread=0.002)
    prepared, *_ = ours(recipes.grpo(), batch, current)
    for name, same_as, limits in (
        ("grpo", "vanilla", {"clip_ratio_low": 0.2, "clip_ratio_high": 0.2}),
        ("gspo", "gspo", {"clip_ratio_low": 3e-4, "clip_ratio_high": 4e-4}),
        ("rloo", "vanilla", {"clip_ratio_low": UNCLIPPED, "clip_ratio_high": UNCLIPPED}),
    ):
        weights = torch.linspace(0.5, 1.5, ROWS * WIDTH, dtype=torch.float64).view(ROWS, WIDTH)
        mine = theirs(f"isentrope_{name}", prepared, current, "seq-mean-token-sum", weights)
        other = theirs(same_as, prepared, current, "seq-mean-token-sum", weights, **limits)
        torch.testing.assert_close(mine[0], other[0], rtol=1e-12, atol=0)
        torch.testing.assert_close(mine[1], other[1], rtol=1e-12, atol=1e-15)
        for metric, value in mine[2].items():
            assert value == pytest.approx(other[2][metric], rel=1e-6, abs=1e-12)


def test_a_policy_loss_counts_over_verls_whole_mini_batch():
    batch, current = given()
    prepared, *_ = ours(recipes.grpo(), batch, current)
    config = actor_config(clip_ratio_c=UNCLIPPED)
    config.global_batch_info.update(dp_size=2, batch_num_tokens=1000, global_batch_size=64, loss_scale_factor=None)
    arguments = (prepared.old_log_probs, current, prepared.advantages, prepared.mask.long(), "token-mean", config)
    mine, _ = policy_loss("grpo", recipes.grpo)(*arguments)
    torch.testing.assert_close(mine, core_algos.compute_policy_loss_vanilla(*arguments)[0], rtol=1e-12, atol=0)


def test_which_recipes_are_policy_losses():
    taken = [name for name, make in recipes.names().items() if refusal(make) is None]
    assert {"grpo", "dr_grpo", "rloo", "reinforce_plus_plus", "gspo"} <= set(taken)
    assert not {"dapo", "clip_cov", "kl_cov", "entropy_bonus", "entropic", "entropy_target"} & set(taken)


@pytest.mark.parametrize(
    ("name", "reason"), [("clip_cov", "row_filter and token_weight"), ("entropy_target", "needs target")]
)
def test_other_recipes_say_why_they_are_none_and_what_to_do(name, reason):
    register()
    batch, current = given()
    prepared, *_ = ours(recipes.grpo(), batch, current)
    with pytest.raises(ValueError, match=f"{reason}.*trainer_mode=isentrope"):
        theirs(f"isentrope_{name}", prepared, current)
