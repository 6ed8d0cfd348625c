import json
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from batches import compared, make_batch, with_current

from isentrope.policy import Objective, RolloutPlan, State, Tally, recipes
from isentrope.policy.controllers import Linear, ProportionalIntegral, Stateful, StepTowards
from isentrope.policy.difficulty_entropy import DifficultyEntropyBonus
from isentrope.policy.entropy_minimization import TemperedEntropy
from isentrope.policy.filters import DropUniformGroups
from isentrope.policy.regularizers import EntropyBonus, KLPenalty
from isentrope.policy.rollout import Tempered
from isentrope.policy.selection import TopEntropy
from isentrope.policy.surrogates import ClippedRatio
from isentrope.policy.weights import CovarianceBetween, TopCovariance

RECIPES = {
    "grpo": recipes.grpo(),
    "grpo with KL": recipes.grpo(kl_coefficient=0.04),
    "dr_grpo": recipes.dr_grpo(),
    "dapo": recipes.dapo(),
    "dapo overlong": recipes.dapo(maximum_length=5),
    "rloo": recipes.rloo(kl_coefficient=0.1),
    "reinforce_plus_plus": recipes.reinforce_plus_plus(kl_coefficient=0.1),
    "gspo": recipes.gspo(low=0.2, high=0.2),
    "entropy_bonus": recipes.entropy_bonus(0.1),
    "clip_cov": recipes.clip_cov(fraction=0.2, low=0.1),
    "kl_cov": recipes.kl_cov(fraction=0.3),
    "entropic": recipes.entropic(target=0.2, threshold=0.3),
    "entropy_target": recipes.entropy_target(target=0.7),
    "qae": recipes.qae(),
    "canon": recipes.canon(inter_weight=0.8, low_emphasis=0.9),
    "canon length": recipes.canon("length", inter_weight="accuracy"),
    "g2rpo": recipes.g2rpo(lengths=(0, 2, 3, 6), entropy_band=(0.1, 0.3), band_coefficient=0.5),
    "reasoning_with_exploration": recipes.reasoning_with_exploration(),
    "steer": recipes.steer(lowest=0.3),
    "steer exact": recipes.steer(lowest=0.3, form="exact"),
    "steer published": recipes.steer(lowest=0.3, form="published", mapping="linear"),
    "clip_b": recipes.clip_b(threshold=0.3),
    "clip_v": recipes.clip_v(threshold=0.3, maximum_fraction=0.2),
    "entrocraft": recipes.entrocraft(band=(2.0, 3.0)),
    "entrocraft published": recipes.entrocraft(band=(0.1, 0.2), published=True),
    "beyond_80_20": recipes.beyond_80_20(fraction=0.4),
    "beyond_80_20 selected": recipes.beyond_80_20(fraction=0.4, denominator="selected"),
    "empg": recipes.empg(),
    "hicra": recipes.hicra(grams=[[1], [2, 3]], strength=0.5),
    "hicra marked": recipes.hicra(strength=0.5),
    "era": recipes.era(low=1.2),
    "ce_gppo": recipes.ce_gppo(low_gradient=0.5, high_gradient=2.0, low=0.05, high=0.05),
    "gppo": recipes.gppo(low=0.05, high=0.05),
    "cispo": recipes.cispo(high=0.1, low=0.1),
    "agentic_aepo": recipes.agentic_aepo(low=0.05, high=0.05),
    "agentic_aepo branching": recipes.agentic_aepo(low=0.05, high=0.05, rollout="branching"),
    "erc": recipes.erc(low=0.8, high=1.2),
    "aent": recipes.aent(initial=0.1, largest=1.0, removed=0.4),
    "siren": recipes.siren(coefficient=1.0, quantile=0.3),
    "epo": recipes.epo(coefficient=0.1, low=0.9, high=1.1, penalty=0.5),
    "epo published": recipes.epo(coefficient=0.1, low=0.9, high=1.1, penalty=0.5, shape="indicator"),
    "aer": recipes.aer().with_(regularizers=DifficultyEntropyBonus(0.3)),
    "ares": recipes.ares(window=1, kl_coefficient=0.3),
    "ares published": recipes.ares(reasoning_tokens=[0, 1], window=1, published=True),
    "dual_entropy": recipes.dual_entropy(target=1.0, initial=0.1),
    "dcpo": recipes.dcpo(target=0.5),
    "aepo_arbitrary": recipes.aepo_arbitrary(target=0.5),
    "cure": recipes.cure(),
    "prompt_augmentation": recipes.prompt_augmentation(),
    "spine": recipes.spine(fraction=0.5, high_weight=0.3, low_weight=0.2, kl_coefficient=0.1),
    "gtpo": recipes.gtpo(bonus=0.4),
    "gtpo split": recipes.gtpo(bonus=0.4, normalization="split"),
    "grpo_s": recipes.grpo_s(bonus=0.4),
    "em_rl": recipes.em_rl(kl_coefficient=0.1),
    "em_rl token": recipes.em_rl("token"),
    "ttrl": recipes.ttrl(),
    "ttrl leave one out": recipes.ttrl(leave_one_out=True),
    "ettrl": recipes.ettrl(),
    "ettrl tree": recipes.ettrl(rollout="tree"),
    "pear": recipes.pear(alpha=0.5),
    "em_ft": recipes.em_ft(),
    "one_shot_em": recipes.one_shot_em(),
    "one_shot_em sharper": recipes.one_shot_em(temperature=0.5, sampling_temperature=1.0),
    "tip": recipes.tip(),
    "tip overconfidence": recipes.tip(0.3, "overconfidence", "jensen_shannon"),
    "spear": recipes.spear(fraction=1.0, low=0.1),
    "pacs": recipes.pacs(),
    "pacs mean": recipes.pacs(beta=2.0, balanced=False, implicit_reward="mean_log_prob"),
    "selection and bonus": recipes.dapo().with_(selection=TopEntropy(0.4)).adding(regularizers=EntropyBonus(0.1)),
    "selection with sequence mean": recipes.grpo().with_(selection=TopEntropy(0.4)),
}


STEERED = recipes.dapo().with_(row_filter=(), surrogate=ClippedRatio(0.2, 0.28, dual_clip=10.0))
DUAL_CLIPPED = recipes.ce_gppo().with_(surrogate=ClippedRatio(0.05, 0.05, dual_clip=10.0))


def less_its_mean_over_turns(batch):
    turns = {
        (i, int(batch.extras["turn"][i, t])): float(batch.advantages[i, t]) for i, t in batch.mask.nonzero().tolist()
    }
    return batch.advantages - sum(turns.values()) / len(turns)


def trained(objective, batch, logits, size):
    """Masks, loss and gradient with micro-batches of at most ``size`` rows."""
    state = objective.start(seed=3)
    prepared, metrics = objective.prepare(compared(batch, batch.extras["old_logits"]), state)
    state = objective.control(state, metrics.means())
    logits = logits.clone().requires_grad_()
    window = with_current(prepared.with_totals(), logits)
    total, tally = 0.0, Tally()
    for start in range(0, len(logits), size):
        rows = slice(start, start + size)
        micro = window.rows(rows)
        scored = logits[rows]
        activation = objective.activation(state, micro)
        if activation is not None:
            where = micro.mask.nonzero(as_tuple=True)
            scored = scored.index_put(where, activation(scored[where]))
        micro = with_current(micro, scored)
        loss, part = objective.loss(micro, state)
        loss.backward()
        total, tally = total + loss.item(), tally + part
    return prepared, total, logits.grad, tally.means()


@pytest.mark.parametrize("name", RECIPES)
def test_micro_batches_of_any_size_give_the_same_masks_loss_and_gradient(name):
    batch, logits = make_batch(rows=8, seed=5)
    objective = RECIPES[name]
    prepared, loss, gradient, metrics = trained(objective, batch, logits, 8)
    assert gradient.abs().max() > 0
    for count in (2, 4, 8):
        again, split_loss, split_gradient, split_metrics = trained(objective, batch, logits, 8 // count)
        assert split_loss == pytest.approx(loss, rel=1e-12, abs=1e-12)
        torch.testing.assert_close(split_gradient, gradient, rtol=1e-10, atol=1e-14)
        assert torch.equal(again.loss_mask, prepared.loss_mask)
        for key, value in prepared.prepared.items():
            assert torch.equal(again.prepared[key], value)
        assert split_metrics == pytest.approx(metrics)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("kind", ["equal rewards", "one token", "group of one", "empty row"])
def test_degenerate_batches_stay_finite(name, kind):
    batch, logits = make_batch(rows=4, seed=6)
    match kind:
        case "equal rewards":
            batch = batch.with_(rewards=torch.full_like(batch.rewards, 0.1))
        case "one token":
            batch = batch.with_(mask=torch.zeros_like(batch.mask).index_fill_(1, torch.tensor([0]), True))
            batch = batch.with_(mask=batch.mask & (torch.arange(4) == 2)[:, None])
        case "group of one":
            batch = batch.with_(group_ids=torch.arange(4))
        case "empty row":
            batch = batch.with_(mask=batch.mask & (torch.arange(4) != 1)[:, None])
    poisoned = {
        field: torch.where(batch.mask, getattr(batch, field), torch.nan)
        for field in ("old_log_probs", "old_entropy", "reference_log_probs")
    }
    _, loss, gradient, _ = trained(RECIPES[name], batch.with_(**poisoned), logits, 2)
    assert loss == loss
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", sorted(set(RECIPES) - {"clip_cov"}))
def test_the_order_of_rows_does_not_matter(name):
    batch, logits = make_batch(rows=8, seed=7)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    _, loss, gradient, _ = trained(RECIPES[name], batch, logits, 8)
    _, permuted_loss, permuted_gradient, _ = trained(RECIPES[name], batch.rows(order), logits[order], 3)
    assert permuted_loss == pytest.approx(loss, rel=1e-10, abs=1e-12)
    torch.testing.assert_close(permuted_gradient, gradient[order], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize(
    ("neutral", "baseline"),
    [
        (recipes.entropy_bonus(0.0), recipes.grpo()),
        (recipes.era(low=1.2, factor=1.0), recipes.era(low=0.0, high=9.0)),
        (recipes.entropic(target=0.5, proportional=0, integral=0, threshold=0.1), recipes.grpo()),
        (recipes.entropy_target(target=0.5, proportional=0, integral=0), recipes.grpo()),
        (recipes.clip_cov(fraction=0.0), recipes.clip_cov(fraction=0.5, low=1e6, high=2e6)),
        (recipes.gtpo(bonus=0), recipes.dapo().with_(reward=lambda b: 2 * b.rewards - 1)),
        (recipes.grpo_s(bonus=0), recipes.grpo_s(bonus=0).with_(reward=lambda b: 2 * b.rewards - 1)),
        (recipes.ettrl(strength=0), recipes.ttrl()),
        (recipes.pear(weight=0), recipes.grpo()),
        (recipes.dapo().with_(selection=TopEntropy(1.0)), recipes.dapo()),
        (recipes.qae(quantile=None), recipes.dapo()),
        (recipes.canon(inter_weight=0.5), recipes.dr_grpo().with_(surrogate=recipes.dapo().surrogate)),
        (
            recipes.g2rpo(lengths=(0, 1, 3, 6), length_weight=0, entropy_band=(0.1, 0.3), band_coefficient=0),
            recipes.g2rpo(),
        ),
        (recipes.reasoning_with_exploration(coefficient=0), recipes.dapo()),
        (recipes.steer(lowest=1.0), STEERED),
        (recipes.steer(lowest=1.0, mapping="linear", highest=1.0), STEERED),
        (recipes.clip_b(threshold=float("inf")), recipes.grpo().with_(aggregation=recipes.dapo().aggregation)),
        (recipes.clip_v(threshold=float("inf")), recipes.grpo().with_(aggregation=recipes.dapo().aggregation)),
        (recipes.entrocraft(band=(0.0, 9.0)), recipes.grpo()),
        (recipes.entrocraft(band=(2.0, 3.0), exceptions=1.0), recipes.grpo()),
        (recipes.beyond_80_20(fraction=1.0), recipes.dapo()),
        (recipes.beyond_80_20(fraction=1.0, denominator="selected"), recipes.dapo()),
        (recipes.empg(sharpness=0, clarity=0), recipes.grpo().adding(shaping=less_its_mean_over_turns)),
        (recipes.hicra(strength=0), recipes.grpo()),
        (recipes.hicra(grams=[]), recipes.grpo()),
        (recipes.agentic_aepo(strength=0), recipes.agentic_aepo().with_(shaping=())),
        (recipes.ce_gppo(0.0, 0.0, low=0.05, high=0.05), DUAL_CLIPPED),
        (recipes.gppo(low=1.0, high=1e9), recipes.ce_gppo(0.0, 0.0, low=1.0, high=1e9)),
        (recipes.erc(low=0.0, high=float("inf")), recipes.dapo().with_(surrogate=ClippedRatio(0.2, 0.28, 10.0))),
        (
            recipes.aent(initial=0.0, smallest=0.0, largest=0.0),
            recipes.grpo(epsilon=0.4).with_(aggregation=recipes.dapo().aggregation),
        ),
        (recipes.em_ft().with_(regularizers=TemperedEntropy(-1.0, 1.0)), recipes.em_ft()),
        (recipes.one_shot_em(1.0, 1.0), recipes.em_ft()),
        (recipes.tip(fraction=1.0), recipes.tip().with_(selection=())),
        (
            recipes.spear(fraction=0.0, tool_weight=0.0, kept_groups=1.0),
            recipes.dr_grpo().with_(surrogate=recipes.dapo().surrogate),
        ),
        (recipes.siren(coefficient=0.0), recipes.dr_grpo(epsilon=0.28)),
        (recipes.epo(coefficient=0.0), recipes.grpo().with_(aggregation=recipes.dapo().aggregation)),
        (recipes.aer(largest=0.0), recipes.grpo().with_(aggregation=recipes.dapo().aggregation)),
        (recipes.ares(gain=0, kl_coefficient=0), recipes.dapo().with_(surrogate=ClippedRatio(0.2, 0.3, 3.0))),
        (recipes.dual_entropy(target=1.0, rate=0.0, initial=0.1), recipes.entropy_bonus(0.1)),
        (recipes.dcpo(target=0.5, largest=0.0), recipes.grpo()),
        (
            recipes.aepo_arbitrary(target=0.5, responses=0.0),
            recipes.grpo().with_(
                surrogate=ClippedRatio(0.2, 0.2, dual_clip=3.0), row_filter=lambda b: ~b.extras["tempered"]
            ),
        ),
        (recipes.cure(), recipes.dapo()),
        (
            recipes.prompt_augmentation(format_weight=0.0, high=0.2),
            recipes.grpo().with_(aggregation=recipes.dapo().aggregation),
        ),
        (
            recipes.spine(fraction=1.0, high_weight=0.0, low_weight=0.0, kl_coefficient=0.0),
            recipes.ttrl().with_(aggregation=recipes.dapo().aggregation),
        ),
        (
            recipes.dapo(low=1e9, high=1e9).with_(aggregation=recipes.kl_cov().aggregation),
            recipes.kl_cov(coefficient=0),
        ),
    ],
)
def test_neutral_settings_are_the_baseline(neutral, baseline):
    batch, logits = make_batch(seed=8)
    _, loss, gradient, _ = trained(neutral, batch, logits, 4)
    _, base_loss, base_gradient, _ = trained(baseline, batch, logits, 4)
    assert loss == pytest.approx(base_loss, rel=1e-12)
    torch.testing.assert_close(gradient, base_gradient)


def test_grpo_loss_by_hand():
    batch, logits = make_batch(rows=4, group_size=2, seed=9)
    _, loss, _, _ = trained(recipes.grpo(), batch, logits, 4)
    expected = 0.0
    current = with_current(batch, logits)
    for i in range(4):
        mates = batch.rewards[batch.group_ids == batch.group_ids[i]]
        advantage = (batch.rewards[i] - mates.mean()) / (mates.std() + 1e-6)
        length = int(batch.mask[i].sum())
        for t in range(length):
            ratio = (current.log_probs[i, t] - batch.old_log_probs[i, t]).exp()
            expected += max(-advantage * ratio, -advantage * ratio.clamp(0.8, 1.2)) / length / 4
    assert loss == pytest.approx(float(expected))


def test_dropped_rows_and_unselected_tokens_leave_the_denominators_but_not_the_metrics():
    batch, _logits = make_batch(rows=4, group_size=2, seed=10)
    batch = batch.with_(rewards=torch.tensor([1.0, 0, 1, 1]).double())
    objective = recipes.dapo().with_(selection=TopEntropy(0.5))
    prepared, metrics = objective.prepare(batch, objective.start())
    assert not prepared.mask[2:].any()
    totals = prepared.with_totals().totals
    kept = int(batch.mask[:2].sum())
    assert int(totals["tokens"]) == kept
    assert int(totals["loss_tokens"]) == max(1, kept // 2)
    assert int(totals["rows"]) == 2
    assert metrics.means()["entropy"] == pytest.approx(float(batch.old_entropy[batch.mask].mean()))
    assert metrics.means()["kept_rows"] == 0.5


def test_clip_cov_drops_as_many_candidates_as_asked_and_keeps_the_denominator():
    batch, _logits = make_batch(rows=16, seed=11)
    objective = recipes.clip_cov(fraction=0.1, low=0.2, high=5.0)
    state = objective.start(seed=1)
    prepared, _ = objective.prepare(batch, state)
    dropped = prepared.prepared["token_weight[0]"]
    count = int(prepared.loss_mask.sum())
    covariance = CovarianceBetween(0.2, 5.0)(prepared.with_(log_probs=batch.old_log_probs))
    assert int(dropped.sum()) == min(int((covariance & prepared.loss_mask).sum()), max(1, int(0.1 * count)))
    assert (covariance | ~dropped).all()
    assert int(prepared.with_totals().totals["loss_tokens"]) == count
    # Another step makes another choice, the same step the same one.
    again, _ = objective.prepare(batch, state)
    later, _ = objective.prepare(batch, state.next_step())
    assert torch.equal(again.prepared["token_weight[0]"], dropped)
    assert not torch.equal(later.prepared["token_weight[0]"], dropped)


def test_clip_cov_leaves_out_tokens_that_are_clipped_already():
    batch, logits = make_batch(rows=8, seed=12)
    objective = recipes.clip_cov(fraction=1.0, low=-1e9, high=1e9)
    current = with_current(batch, logits)
    shifted = current.with_(log_probs=batch.old_log_probs + 3 * torch.sign(batch.rewards - 0.5)[:, None])
    prepared, _ = objective.prepare(shifted, objective.start())
    advantages = prepared.advantages
    clipped = (advantages > 0) & prepared.loss_mask
    assert clipped.any()
    assert not (prepared.prepared["token_weight[0]"] & clipped).any()
    assert (prepared.prepared["token_weight[0]"] | clipped | ~prepared.loss_mask).all()


def test_kl_cov_penalises_exactly_the_top_tokens():
    batch, logits = make_batch(rows=8, seed=13)
    plain, penalised = recipes.kl_cov(fraction=0.2, coefficient=0.0), recipes.kl_cov(fraction=0.2, coefficient=0.5)
    prepared, loss, _, _ = trained(penalised, batch, logits, 8)
    _, base, _, _ = trained(plain, batch, logits, 8)
    chosen = TopCovariance(0.2)(prepared.with_(log_probs=batch.old_log_probs))
    assert int(chosen.sum()) == max(1, int(0.2 * int(prepared.loss_mask.sum())))
    distance = (with_current(batch, logits).log_probs - batch.old_log_probs).abs()[chosen].sum()
    assert loss - base == pytest.approx(0.5 * float(distance) / int(prepared.mask.sum()))


def test_needs_are_collected_from_every_depth():
    assert recipes.grpo().needs == frozenset()
    assert recipes.clip_cov().needs == frozenset()
    assert recipes.entropic().adding(regularizers=KLPenalty()).needs == {"reference"}
    assert recipes.reinforce_plus_plus(kl_coefficient=0.1).needs == {"reference"}
    assert recipes.dapo().with_(selection=TopEntropy(0.2)).needs == {"old_entropy"}


def test_missing_tensors_are_named():
    batch, _logits = make_batch()
    objective = recipes.entropy_bonus(0.1)
    prepared, _ = objective.prepare(batch, objective.start())
    with pytest.raises(ValueError, match="must come from prepare"):
        objective.loss(prepared, objective.start())
    with pytest.raises(ValueError, match="give entropy"):
        objective.loss(prepared.with_totals().with_(log_probs=batch.old_log_probs), objective.start())
    selecting = recipes.dapo().with_(selection=TopEntropy(0.2))
    with pytest.raises(ValueError, match="give old_entropy"):
        selecting.prepare(batch.with_(old_entropy=None), selecting.start())
    with pytest.raises(ValueError, match=r"old_entropy must have the shape of mask, \(8, 6\), got \(8, 2\)"):
        batch.with_(old_entropy=batch.old_entropy[:, :2])


def test_slots_of_one_and_of_many():
    objective = recipes.dapo().with_(selection=TopEntropy(0.2))
    assert objective.with_(selection=()).selection == ()
    with pytest.raises(ValueError, match="surrogate holds one part"):
        objective.adding(surrogate=recipes.gspo().surrogate)


def test_controllers_work_wherever_a_number_stands():
    objective = Objective(
        name="controlled",
        rollout=(Tempered(Linear(1.0, 0.5, steps=2)),),
        advantage=recipes.grpo().advantage,
        surrogate=recipes.grpo().surrogate,
        selection=(TopEntropy(Linear(1.0, 0.5, steps=2)),),
        regularizers=(EntropyBonus(ProportionalIntegral(Linear(1.0, 0.0, steps=2), proportional=1.0)),),
    )
    state = objective.start()
    assert objective.rollout_plan(RolloutPlan(4), state).temperature == 1.0
    assert objective.target(state) == 1.0
    state = objective.control(state, {"entropy": 1.25})
    assert objective.coefficients(state)["regularizers[0].coefficient"] == pytest.approx(0.25)
    state = objective.control(state.next_step(), {"entropy": 1.25})
    assert objective.target(state) == 0.5
    assert objective.at(state).regularizers[0].coefficient == pytest.approx(0.75 + 0.01 * 0.25)
    assert objective.at(state).selection[0].fraction == 0.75
    assert objective.rollout_plan(RolloutPlan(4), state).temperature == 0.75


def test_state_round_trips_through_json_and_refuses_another_objective():
    objective = recipes.entropic(target=0.3)
    state = objective.control(objective.start(seed=4), {"entropy": 1.0}).next_step()
    restored = State.from_dict(json.loads(json.dumps(state.to_dict())))
    assert restored == state
    assert objective.at(restored) == objective.at(state)
    with pytest.raises(ValueError, match=r"stateful parts are \['regularizers\[0\].coefficient'\]"):
        recipes.entropy_target(target=0.3).at(state)


@dataclass(frozen=True)
class ClampedEntropy:
    """A regularizer over the three likeliest tokens only: needs full logits (the shape of AEnt and SIREN)."""

    needs: ClassVar[frozenset[str]] = frozenset({"logits"})

    def __call__(self, batch):
        top = batch.logits().topk(3, -1).values.log_softmax(-1)
        return 0.1 * (top.exp() * top).sum(-1)


@dataclass(frozen=True)
class KeepSign:
    """Keeps responses whose advantage has one sign, by a history of entropies (the shape of Entrocraft)."""

    low: float
    high: float

    def __call__(self, batch):
        entropy = batch.entropy[batch.mask].mean()
        sign = (entropy > self.high).double() - (entropy < self.low).double()
        return sign * batch.advantages[:, 0] >= 0


@dataclass(frozen=True)
class HistoryBand(Stateful):
    """A part that turns its history into a plain part (the shape of EPO)."""

    needs: ClassVar[frozenset[str]] = frozenset({"entropy_grad"})

    def start(self):
        return {"history": []}

    def at(self, memory, step):
        mean = sum(memory["history"]) / max(1, len(memory["history"]))
        return EntropyBonus(0.1 * (step > 1) * mean)

    def update(self, memory, metrics, step):
        return {"history": [*memory["history"], metrics["entropy"]]}


def test_slots_carry_parts_with_full_logits_row_filters_and_histories():
    batch, logits = make_batch(seed=14)
    grpo = recipes.grpo()
    for objective in (
        grpo.adding(regularizers=ClampedEntropy()),
        grpo.adding(row_filter=KeepSign(5.0, 6.0)),
        grpo.adding(shaping=lambda b: b.advantages + 0.1 * b.entropy),
    ):
        _, loss, gradient, _ = trained(objective, batch, logits, 8)
        _, split_loss, split_gradient, _ = trained(objective, batch, logits, 1)
        assert split_loss == pytest.approx(loss)
        torch.testing.assert_close(split_gradient, gradient)
        assert loss != pytest.approx(trained(grpo, batch, logits, 8)[1])
    filtered, _ = grpo.adding(row_filter=KeepSign(5.0, 6.0)).prepare(batch, grpo.start())
    assert (filtered.advantages[filtered.mask] <= 0).all()

    objective = grpo.adding(regularizers=HistoryBand())
    state = objective.start()
    for step, entropy in enumerate((1.0, 2.0, 3.0)):
        state = objective.control(state, {"entropy": entropy})
        assert objective.at(state).regularizers[0].coefficient == pytest.approx((0, 0, 0.2)[step])
        state = State.from_dict(json.loads(json.dumps(state.next_step().to_dict())))


@dataclass(frozen=True)
class FollowsLongest(Stateful):
    """A schedule that follows what it counts itself (the shape of ARES)."""

    def start(self):
        return {"longest": 0.0}

    def observe(self, batch):
        return Tally().add("longest", batch.lengths.max().double())

    def at(self, memory, step):
        return memory["longest"]

    def update(self, memory, metrics, step):
        return {"longest": metrics["longest"]}


def test_stateful_parts_follow_what_they_observe_on_the_whole_batch():
    batch, _ = make_batch()
    objective = recipes.entropy_bonus(FollowsLongest())
    state = objective.start()
    _, metrics = objective.prepare(batch, state)
    state = objective.control(state, metrics.means())
    assert objective.at(state).regularizers[0].coefficient == int(batch.lengths.max())


def test_controllers_see_the_last_loss_beside_the_whole_batch():
    batch, logits = make_batch()
    controller = ProportionalIntegral(target=0.0, proportional=1.0, metric="clip_fraction_high")
    objective = recipes.grpo(epsilon=0.01).adding(regularizers=EntropyBonus(controller))
    state = objective.start()
    prepared, metrics = objective.prepare(batch, state)
    state = objective.control(state, metrics.means())
    assert objective.at(state).regularizers[0].coefficient == 0.0
    _, tally = objective.loss(with_current(prepared.with_totals(), logits.requires_grad_()), state)
    assert tally.means()["clip_fraction_high"] > 0
    state = State.from_dict(json.loads(json.dumps(state.next_step(tally.means()).to_dict())))
    state = objective.control(state, metrics.means())
    assert objective.at(state).regularizers[0].coefficient == pytest.approx(tally.means()["clip_fraction_high"])


@dataclass(frozen=True)
class KeepHalf:
    """A random row filter (the shape of soft acceptance)."""

    def prepare(self, batch, generator):
        return torch.rand(len(batch.rewards), generator=generator) < 0.5


def test_parts_left_of_the_bar_may_ask_for_randomness():
    batch, _ = make_batch(rows=32)
    objective = recipes.grpo().adding(row_filter=KeepHalf())
    state = objective.start(seed=2)
    first, _ = objective.prepare(batch, state)
    again, _ = objective.prepare(batch, state)
    later, _ = objective.prepare(batch, state.next_step())
    assert torch.equal(first.mask, again.mask)
    assert not torch.equal(first.mask, later.mask)
    assert 4 < int(first.mask.any(-1).sum()) < 28


def test_groups_are_dropped_by_correctness_not_by_shaped_rewards():
    batch, _ = make_batch(rows=4, group_size=4, seed=3)
    batch = batch.with_(rewards=torch.ones(4).double())
    objective = recipes.dapo(maximum_length=5, cache=4)
    prepared, _ = objective.prepare(batch, objective.start())
    assert len(prepared.rewards.unique()) > 1
    assert not prepared.mask.any()


def test_padding_does_not_change_a_loss_over_a_constant_length():
    batch, logits = make_batch()
    wide = {name: torch.nn.functional.pad(getattr(batch, name), (0, 3)) for name in (
        "mask", "old_log_probs", "old_entropy", "reference_log_probs", "token_ids")}  # fmt: skip
    objective = recipes.dr_grpo()
    losses = []
    for each, z in ((batch, logits), (batch.with_(**wide), torch.nn.functional.pad(logits, (0, 0, 0, 3)))):
        prepared, _ = objective.prepare(each, objective.start())
        losses.append(objective.loss(with_current(prepared.with_totals(width=16), z), objective.start())[0])
    torch.testing.assert_close(*losses)


def test_tensors_that_would_be_misread_are_refused():
    batch, logits = make_batch(rows=6, width=6, group_size=3)
    with pytest.raises(ValueError, match="rewards must be floating point, got torch\\.int64"):
        batch.with_(rewards=batch.rewards.long())
    grpo = recipes.grpo()
    with pytest.raises(ValueError, match="rewards must be finite, got nan in row 2"):
        grpo.prepare(batch.with_(rewards=batch.rewards.index_fill(0, torch.tensor([2]), torch.nan)), grpo.start())
    for slot in ("shaping", "selection"):
        # A square batch, where a row vector would pass for a column.
        with pytest.raises(ValueError, match=rf"{slot}\[0\]: must give the shape \(6, 6\), got \(6,\)"):
            grpo.adding(**{slot: lambda b: b.rewards > 0}).prepare(batch, grpo.start())
    weighted = grpo.adding(token_weight=lambda b: b.rewards)
    prepared, _ = weighted.prepare(batch, weighted.start())
    with pytest.raises(ValueError, match=r"token_weight\[0\]: must give"):
        weighted.loss(with_current(prepared.with_totals(), logits), weighted.start())
    paid = recipes.entropy_bonus(0.1)
    prepared, _ = paid.prepare(batch, paid.start())
    with pytest.raises(ValueError, match="needs the gradient of the entropy"):
        paid.loss(with_current(prepared.with_totals(), logits), paid.start())


def test_a_stateful_part_must_declare_what_it_stands_for_needs():
    @dataclass(frozen=True)
    class Hides(Stateful):
        def at(self, memory, step):
            return EntropyBonus(0.1)

    objective = recipes.grpo().adding(regularizers=Hides())
    with pytest.raises(ValueError, match="stands for one that needs \\['entropy_grad'\\]"):
        objective.at(objective.start())


def test_control_refuses_the_state_of_another_objective():
    with pytest.raises(ValueError, match="start a new state"):
        recipes.entropic(target=0.3).control(recipes.grpo().start(), {"entropy": 1.0})


def test_unknown_needs_are_refused_at_construction():
    @dataclass(frozen=True)
    class Wants:
        needs: ClassVar[frozenset[str]] = frozenset({"hessian"})

    with pytest.raises(ValueError, match="needs \\['hessian'\\]"):
        recipes.grpo().adding(regularizers=Wants())


def test_uniform_groups_are_dropped_in_spite_of_rounding():
    batch, _ = make_batch(rows=6, group_size=3)
    batch = batch.with_(rewards=torch.tensor([0.1, 0.1, 0.1, 0.1, 0.1, 0.3]).double())
    assert DropUniformGroups()(batch).tolist() == [False] * 3 + [True] * 3


def test_what_a_regularizer_counts_reaches_controllers_at_the_next_step():
    @dataclass(frozen=True)
    class CountsPeaks:
        weight: object

        def __call__(self, batch):
            return -self.weight * batch.entropy, Tally().add("peak_entropy", batch.entropy.detach(), batch.entropy > 1)

        needs: ClassVar[frozenset[str]] = frozenset({"entropy"})

    rule = StepTowards(target=10.0, delta=0.1, metric="peak_entropy", only_below=False)
    objective = recipes.grpo().adding(regularizers=CountsPeaks(rule))
    batch, logits = make_batch()
    state = objective.start()
    coefficients = []
    for _ in range(2):
        prepared, whole = objective.prepare(batch, state)
        state = objective.control(state, whole.means())
        coefficients.append(objective.coefficients(state)["regularizers[0].weight"])
        window = with_current(prepared, logits).with_totals()
        tallies = [objective.loss(micro, state)[1] for micro in window.split(3)]
        state = state.next_step(sum(tallies[1:], tallies[0]).means())
    entropy = with_current(batch, logits).entropy
    assert state.loss_metrics["peak_entropy"] == pytest.approx(float(entropy[entropy > 1].mean()))
    assert coefficients[1] == pytest.approx(coefficients[0] + 0.1)


@pytest.mark.parametrize("name", ["clip_cov", "clip_v", "beyond_80_20", "beyond_80_20 selected"])
def test_tensors_in_another_memory_order_give_the_same_loss(name):
    batch, logits = make_batch(rows=8, seed=5)
    columns = {
        field: getattr(batch, field).T.contiguous().T
        for field in ("mask", "old_log_probs", "old_entropy", "reference_log_probs", "token_ids")
    }
    assert not columns["mask"].is_contiguous()
    _, loss, gradient, _ = trained(RECIPES[name], batch, logits, 8)
    _, other_loss, other_gradient, _ = trained(RECIPES[name], batch.with_(**columns), logits, 8)
    assert other_loss == pytest.approx(loss, rel=1e-12)
    torch.testing.assert_close(other_gradient, gradient)
