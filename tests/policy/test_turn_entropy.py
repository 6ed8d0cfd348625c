import itertools
import math

import pytest
import torch
from batches import make_batch, with_current

from isentrope.policy import recipes
from isentrope.policy.turn_entropy import PhaseWeight, TurnEntropyBand, TurnEntropySmoothing


def two_turns(batch):
    """Tokens up to the third are turn 0, the others turn 1; -1 in the padding."""
    turn = (torch.arange(batch.mask.shape[1]) > 2).long().expand(batch.mask.shape)
    return batch.with_(extras={**batch.extras, "turn": torch.where(batch.mask, turn, -1)})


def band(shape, low=0.5, high=1.5, means=(1.0, 0.4)):
    return TurnEntropyBand(1.0, low, high, penalty=0.1, smoothing=2.0, shape=shape, means=means)


def hand_batch(entropies, turns):
    batch, _ = make_batch(rows=1, width=len(entropies), group_size=1)
    return batch.with_(
        mask=torch.ones(1, len(entropies), dtype=torch.bool),
        entropy=torch.tensor([entropies]).double().requires_grad_(),
        extras={"turn": torch.tensor([turns])},
    )


def test_penalties_by_hand():
    batch = hand_batch([0.3, 1.0, 1.8, 0.3, 0.1], [0, 0, 0, 1, 1])
    entropy = batch.entropy.detach()
    hinge = torch.tensor([[0.2, 0, 0.3, 0, 0.1 / 0.4]]).double()
    torch.testing.assert_close(band("hinge")(batch).detach(), -(entropy - 0.2 * hinge))
    indicator = torch.tensor([[1, 0, 1, 0, 1]]).double()
    torch.testing.assert_close(band("indicator")(batch).detach(), -(entropy - 0.2 * indicator))


def test_only_the_hinge_has_a_gradient():
    batch = hand_batch([0.3, 1.0, 1.8, 0.3, 0.1], [0, 0, 0, 1, 1])
    published, ours = (torch.autograd.grad(band(s)(batch).sum(), batch.entropy)[0] for s in ("indicator", "hinge"))
    # The indicator leaves the plain bonus, the hinge adds its slope against the side the token is on.
    torch.testing.assert_close(published, -torch.ones(1, 5).double())
    torch.testing.assert_close(ours + 1, torch.tensor([[-0.2, 0, 0.2, 0, -0.5]]).double())


def test_inside_the_band_there_is_no_penalty():
    batch = hand_batch([0.9, 1.1], [0, 0])
    for shape in ("hinge", "indicator"):
        torch.testing.assert_close(band(shape)(batch), -batch.entropy)


def test_turns_without_a_history_or_without_entropy_have_no_band():
    batch = hand_batch([0.9, 1.1, 0.5], [0, 1, 1])
    for means in ((math.nan, math.nan), (0.0, 0.0)):
        term = band("hinge", means=means)(batch)
        torch.testing.assert_close(term, -batch.entropy)
        assert torch.autograd.grad(term.sum(), batch.entropy)[0].isfinite().all()


def test_history_is_the_mean_over_the_batches_that_reached_the_turn():
    objective = recipes.epo(turns=3)
    state, expected = objective.start(), {0: [], 1: []}
    for seed in (0, 1, 2):
        batch, _ = make_batch(seed=seed)
        batch = two_turns(batch)
        if seed == 1:
            # Short episodes: the second turn is never reached.
            batch = batch.with_(mask=batch.mask & (batch.extras["turn"] == 0))
        for index in expected:
            values = batch.old_entropy[batch.mask & (batch.extras["turn"] == index)]
            expected[index] += [float(values.mean())] if len(values) else []
        _, metrics = objective.prepare(batch, state)
        state = objective.control(state, metrics.means()).next_step()
    means = objective.at(state).regularizers[0].means
    assert len(expected[1]) == 2
    assert means[:2] == pytest.approx([sum(values) / len(values) for values in expected.values()])
    assert math.isnan(means[2])


def test_without_a_penalty_it_is_an_entropy_bonus():
    batch, logits = make_batch(seed=5)
    losses = []
    for objective in (
        recipes.epo(0.1, penalty=0.0),
        recipes.entropy_bonus(0.1).with_(aggregation=recipes.dapo().aggregation),
    ):
        state = objective.start()
        prepared, metrics = objective.prepare(two_turns(batch), state)
        state = objective.control(state, metrics.means())
        losses.append(objective.loss(with_current(prepared.with_totals(), logits.clone().requires_grad_()), state)[0])
    torch.testing.assert_close(*losses)


def test_phase_weight_falls_and_stays_at_its_end():
    weights = [PhaseWeight(150).at({}, step) for step in range(200)]
    assert all(a >= b for a, b in itertools.pairwise(weights))
    assert [round(weights[step], 4) for step in (0, 75, 76, 150, 199)] == [1.0, 0.8271, 0.7686, 0.0398, 0.0398]


def test_missing_and_impossible_turns_are_named():
    batch, _ = make_batch()
    objective = recipes.epo(turns=2)
    with pytest.raises(ValueError, match=r"needs extras\['turn'\]"):
        objective.prepare(batch.with_(extras={}), objective.start())
    late = batch.with_(extras={"turn": torch.full(batch.mask.shape, 2)})
    with pytest.raises(ValueError, match="must lie between 0 and turns - 1 = 1, got 2 to 2"):
        objective.prepare(late, objective.start())
    with pytest.raises(ValueError, match="shape must be 'hinge' or 'indicator'"):
        TurnEntropySmoothing(shape="square")
