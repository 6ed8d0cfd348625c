"""Recipes laid over each other: `recipes.combined`, and texts such as ``"dapo + qae"``."""

import itertools
from dataclasses import fields

import pytest
import torch
from batches import make_batch, with_current

from isentrope.policy import Objective, RolloutPlan, recipes
from isentrope.policy.controllers import Cosine
from isentrope.policy.rollout import Tempered, Until

SLOTS = [f.name for f in fields(Objective) if f.name not in ("name", "papers")]


def every_recipe():
    """Each recipe at its defaults, a target where it needs one; those that need more are left out."""
    for name in recipes.names():
        given = {"target": 0.5} if recipes.takes(name, "target") else {}
        try:
            yield recipes.named(name, **given)
        except ValueError:
            continue


ALL = {objective.name: objective for objective in every_recipe()}


def slots_of(objective):
    return {slot: getattr(objective, slot) for slot in SLOTS}


def loss_and_gradient(objective):
    batch, logits = make_batch(seed=4)
    logits.requires_grad_()
    state = objective.start()
    prepared, metrics = objective.prepare(batch, state)
    loss, _ = objective.loss(with_current(prepared.with_totals(), logits), objective.control(state, metrics.means()))
    loss.backward()
    return float(loss.detach()), logits.grad


@pytest.mark.parametrize("name", ALL)
def test_a_recipe_laid_over_its_own_baseline_is_the_recipe(name):
    baseline, changes = recipes.difference(ALL[name])
    if changes:
        assert slots_of(recipes.combined(baseline, ALL[name])) == slots_of(ALL[name])
    else:
        assert slots_of(baseline) == slots_of(ALL[name])


def test_the_baseline_is_the_one_that_the_papers_name():
    named_so = {
        "grpo": ["entropic", "entropy_bonus", "era", "epo"],
        "dapo": ["qae", "clip_cov", "beyond_80_20", "reasoning_with_exploration"],
        "dr_grpo": ["canon", "siren"],
        "rloo": ["em_rl", "pacs"],
    }
    for baseline, members in named_so.items():
        assert recipes.difference(ALL[baseline])[1] == {}
        assert {recipes.difference(ALL[name])[0].name for name in members} == {baseline}


def test_any_two_recipes_agree_whichever_comes_first_or_say_where_they_conflict():
    together = 0
    for one, other in itertools.combinations(ALL.values(), 2):
        (base, ours), (other_base, theirs) = recipes.difference(one), recipes.difference(other)
        if not ours or not theirs:
            continue
        made, messages = [], []
        for order in ((one, other), (other, one)):
            try:
                made.append(recipes.combined(*order))
            except ValueError as error:
                messages.append(str(error))
        if messages:
            assert not made
            assert all("cannot be combined: both replace" in message for message in messages)
            continue
        together += 1
        for slot in SLOTS:
            first, second = getattr(made[0], slot), getattr(made[1], slot)
            for changes in (ours, theirs):
                if isinstance(first, tuple):
                    assert set(map(repr, changes.get(slot, ()))) <= set(map(repr, first))
            if base.name == other_base.name:
                same = sorted(map(repr, first)) == sorted(map(repr, second)) if isinstance(first, tuple) else None
                assert same or first == second, (one.name, other.name, slot)
            if slot not in ours and slot not in theirs:
                assert first == getattr(base, slot)
    assert together > 300


def test_an_intervention_at_its_neutral_setting_changes_no_loss():
    alone = loss_and_gradient(recipes.clip_cov(fraction=0.3, low=0.0))
    neutral = loss_and_gradient(recipes.named("clip_cov(fraction=0.3, low=0.0) + entropy_bonus(coefficient=0.0)"))
    assert neutral[0] == pytest.approx(alone[0], rel=1e-12)
    torch.testing.assert_close(neutral[1], alone[1])


def test_a_combination_has_the_terms_of_both():
    batch, logits = make_batch(seed=4)
    kept = recipes.dapo().prepare(batch, recipes.dapo().start())[0].mask
    entropy = with_current(batch, logits).entropy[kept].mean()
    alone, both = (
        loss_and_gradient(o)[0] for o in (recipes.qae(), recipes.named("qae + entropy_bonus(coefficient=0.3)"))
    )
    assert both - alone == pytest.approx(-0.3 * float(entropy), rel=1e-9)


def test_equal_parts_are_not_doubled():
    assert recipes.named("dapo + g2rpo").row_filter == recipes.dapo().row_filter


def test_a_target_goes_to_whoever_takes_it():
    objective = recipes.named("qae + entropic + entropy_target(target=0.1)", target=0.7)
    alpha, coefficient = objective.regularizers[0].alpha, objective.regularizers[1].coefficient
    assert (alpha.target, coefficient.target) == (0.7, 0.1)
    # Two controllers remember apart.
    assert sorted(objective.start().memory) == ["regularizers[0].alpha", "regularizers[1].coefficient"]


def test_papers_of_all_are_kept():
    assert recipes.named("qae + entropic").papers == ("qae", "dapo", "grpo", "entropic")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("qae + canon", "qae and canon cannot be combined: both replace advantage, by QuantileBaseline"),
        ("gspo + erc", "both replace surrogate"),
        ("qae + dapo", "dapo changes nothing in a combination, it is dapo; put it first"),
        ("grpo - qae", "must be a name, or like .* or several joined by \\+"),
        ("grpo +", "must be a name"),
        ("grpo(epsilon={[]:1})", "must be a name"),
        (
            "cure + ettrl(rollout='tree')",
            "cure and ettrl cannot be combined: both replace branching of the rollout plan",
        ),
        (
            "ettrl(rollout='tree', forks=3, continuations=1) + agentic_aepo(rollout='branching')",
            "both replace branching of the rollout plan, by TreeRollout.* and by ToolBranching",
        ),
        ("spear + spear(replayed=3)", "both replace replay of the rollout plan"),
        ("grpo + qay", "there is no 'qay'; did you mean 'qae'"),
        ("grpo + qae(0.4)", "must be a name"),
        ("qae + era(quantile=0.1)", "recipe era has no 'quantile', it takes low.*recipes that have one: qae"),
        ("qae + entropy_target", "recipe entropy_target needs target"),
    ],
)
def test_what_cannot_be_combined_is_explained(text, message):
    with pytest.raises(ValueError, match=message):
        recipes.named(text)


def test_rollout_parts_go_together_if_they_set_different_fields_of_the_plan():
    hot, warm, late = Tempered(1.2), Tempered(1.0), Until(Tempered(1.1), 3)
    bonus = recipes.entropy_bonus()
    for one, other in ((hot, warm), (warm, hot), (warm, Tempered(Cosine(1.0, 2.0, 5))), (hot, late)):
        with pytest.raises(ValueError, match="both replace temperature of the rollout plan"):
            recipes.combined(recipes.grpo().with_(rollout=one), bonus.with_(rollout=other))
    assert recipes.combined(recipes.grpo().with_(rollout=hot), bonus.with_(rollout=hot)).rollout == (hot,)
    both = recipes.named("cure + spear")
    plan = both.rollout_plan(RolloutPlan(8), both.start())
    assert plan.branching is not None
    assert plan.replay is not None


def test_an_argument_that_none_takes_is_refused():
    with pytest.raises(
        ValueError, match=r"recipe qae \+ canon has no 'target', it takes quantile, method; it takes metric"
    ):
        recipes.named("qae + canon", target=0.5)
