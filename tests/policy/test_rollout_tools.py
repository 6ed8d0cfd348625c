import math

import pytest
import torch

from isentrope.policy import RolloutPlan, TokenBatch
from isentrope.policy.rollout import Forks
from isentrope.policy.tool_branching import ToolBranching, branch_probability, global_responses, opening_entropy

# Three turns of two tokens, with one token of the tool's answer between them.
TURN = torch.tensor([0, 0, -1, 1, 1, -1, 2, 2])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def host(rule, entropy_of, prompts, group_size, seed=0, turn=TURN):
    """Carries a rule out on responses whose entropy in each turn is ``entropy_of(group, turn)``; all that it asked for."""
    rounds, asked = rule.rounds(prompts, group_size, seeded(seed)), []
    forks = next(rounds)
    while True:
        asked.append(forks)
        groups = torch.cat([each.groups for each in asked])
        turns = turn.expand(len(groups), -1)
        entropy = torch.tensor(
            [[entropy_of(g, t) if t >= 0 else math.nan for t in turn.tolist()] for g in groups.tolist()]
        )
        batch = TokenBatch(
            mask=turns >= 0,
            rewards=torch.zeros(len(groups)),
            group_ids=groups,
            old_log_probs=torch.zeros(turns.shape),
            old_entropy=entropy,
            extras={"turn": turns},
        )
        try:
            forks = rounds.send(batch)
        except StopIteration:
            return asked


def test_equal_entropies_divide_the_budget_in_halves():
    same = torch.full((3,), 0.7)
    assert global_responses(same, same, 16).tolist() == [8, 8, 8]
    assert global_responses(same, same, 1).tolist() == [1, 1, 1]


def test_the_budget_follows_the_logistic_of_the_difference():
    difference = torch.linspace(-8, 8, 33, dtype=torch.float64)
    fresh = global_responses(difference, torch.zeros(33), budget=1000, sharpness=0.5)
    expected = [max(1, round(1000 / (1 + math.exp(-0.5 * d)))) for d in difference.tolist()]
    assert fresh.tolist() == expected


def test_the_probability_is_that_of_the_published_score():
    generator = seeded(1)
    for difference, consecutive in ((0.0, 0), (0.8, 2), (-1.0, 4), (3.0, 9), (0.0, 10), (5.0, 20)):
        u = torch.rand(200_000, generator=generator, dtype=torch.float64)
        score = ((u + 0.2 * difference) * max(0.0, 1 - 0.05 * consecutive)).clamp(0, 1)
        frequency = float((score >= 0.5).double().mean())
        exact = float(branch_probability(torch.tensor(difference), torch.tensor(consecutive)))
        assert exact == pytest.approx(frequency, abs=4 * 0.5 / 200_000**0.5)


def test_without_a_difference_it_halves_and_ends_after_ten_branchings():
    steps = torch.arange(0, 30)
    probability = branch_probability(torch.zeros(30), steps)
    expected = [max(0.0, 1 - 0.5 / (1 - 0.05 * s)) if s < 20 else 0.0 for s in range(30)]
    assert probability.tolist() == pytest.approx(expected)
    assert probability[0] == 0.5
    assert (probability[10:] == 0).all()


def test_the_opening_of_a_turn_is_what_the_policy_wrote_first():
    batch = TokenBatch(
        mask=torch.tensor([[True, True, True, False, True], [True, False, False, False, False]]),
        rewards=torch.zeros(2),
        group_ids=torch.zeros(2).long(),
        old_log_probs=torch.zeros(2, 5),
        old_entropy=torch.tensor([[1.0, 3.0, 100.0, torch.nan, 7.0], [4.0, torch.nan, torch.nan, 2.0, 2.0]]),
        extras={"turn": torch.tensor([[0, 0, 0, -1, 1], [0, -1, -1, -1, 5]])},
    )
    found = opening_entropy(batch, window=2)
    torch.testing.assert_close(found, torch.tensor([[2.0, 7.0], [4.0, torch.nan]]), equal_nan=True)


def test_branches_take_over_everything_up_to_the_answer():
    asked = host(ToolBranching(threshold=0.0, beam=9), lambda group, turn: 0.5, prompts=1, group_size=8)
    probe, fresh, first, second = asked
    assert [len(each) for each in asked] == [1, 3, 4, 0]
    assert (first.positions == 3).all()  # both answers begin right after two tokens and the tool's one
    assert first.parents.tolist() == [0, 1, 2, 3]
    assert (probe.parents == -1).all()
    assert (fresh.parents == -1).all()
    assert len(second) == 0


def test_no_group_grows_beyond_its_size_and_no_response_beyond_its_beam():
    for seed in range(20):
        rule = ToolBranching(threshold=0.1, beam=2)
        asked = host(rule, lambda group, turn: 0.3 * group * turn, prompts=5, group_size=7, seed=seed)
        groups = torch.cat([each.groups for each in asked])
        assert torch.bincount(groups).max() <= 7
        parents = torch.cat([each.parents for each in asked])
        assert torch.bincount(parents[parents >= 0], minlength=1).max() <= 1
        for each in asked:
            taken = each.parents >= 0
            assert (groups[each.parents[taken]] == each.groups[taken]).all()
            assert set(each.positions[taken].tolist()) <= {3, 6}


def test_branches_may_branch_again_at_the_next_answer():
    asked = host(ToolBranching(threshold=0.0, penalty=0.0), lambda group, turn: 0.0, prompts=1, group_size=16)
    fresh = len(asked[0]) + len(asked[1])
    assert fresh == 8
    # Every response branched at the first answer, which fills the group.
    assert asked[2].parents.tolist() == list(range(8))
    wide = host(
        ToolBranching(threshold=0.0, penalty=0.0, sharpness=9.0), lambda g, t: float(t), prompts=1, group_size=16
    )
    assert [len(each) for each in wide] == [1, 0, 1, 1]
    # The first response has branched as often as its beam allows, so the second round is its branch's.
    assert (wide[2].positions.item(), wide[3].parents.item(), wide[3].positions.item()) == (3, 1, 6)


def test_a_full_penalty_forbids_branching_twice_in_succession():
    rule = ToolBranching(threshold=0.0, penalty=1.0, beam=9, sharpness=9.0)
    asked = host(rule, lambda group, turn: float(turn), prompts=1, group_size=16)
    assert [len(each) for each in asked] == [1, 0, 1, 0]


def test_uncertain_answers_keep_more_for_branches_and_branch_more():
    rule = ToolBranching(beam=9)
    calm = [host(rule, lambda g, t: 1.0 - 0.8 * (t > 0), 1, 16, seed) for seed in range(60)]
    unsure = [host(rule, lambda g, t: 0.2 + 0.8 * (t > 0), 1, 16, seed) for seed in range(60)]
    assert len(calm[0][1]) > len(unsure[0][1])

    def rate(runs):
        return sum(len(run[2]) for run in runs) / sum(len(run[0]) + len(run[1]) for run in runs)

    assert rate(unsure) > rate(calm) + 0.1


def test_without_tools_nothing_branches():
    asked = host(ToolBranching(), lambda group, turn: 1.0, prompts=3, group_size=8, turn=torch.tensor([0, 0, 0]))
    assert [len(each) for each in asked] == [3, 9]


@pytest.mark.parametrize("arguments", [{"beam": 0}, {"window": 0}, {"penalty": -0.1}, {"weight": math.inf}])
def test_bad_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match=f"ToolBranching: .*{next(iter(arguments))}"):
        ToolBranching(**arguments)


def test_the_rule_is_its_own_rollout_part():
    rule = ToolBranching()
    assert rule(RolloutPlan(8)).branching == rule
    assert isinstance(next(rule.rounds(2, 8, seeded())), Forks)
