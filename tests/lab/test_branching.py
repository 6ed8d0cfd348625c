from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from isentrope.lab import Addition, Calculator, Templated, TinyTransformer, Trainer, TrainerSettings, collection, score
from isentrope.lab.branching import grow
from isentrope.lab.collection import collect, turns
from isentrope.lab.tempering import spread
from isentrope.policy import RolloutPlan, recipes
from isentrope.policy.rollout import Forks, PromptTemplates
from isentrope.policy.templates import SYMBOLS, Template
from isentrope.policy.tool_branching import ToolBranching
from isentrope.policy.tree_rollout import TreeRollout, most_uncertain

CUT = TreeRollout(forks=1, continuations=3, among=4, first=1, learns_prefix=False)
TREE = TreeRollout(forks=2, continuations=1)
TOOLS = ToolBranching(threshold=0.1)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def tiny(seed=0):
    return TinyTransformer(width=16, layers=1, heads=2, seed=seed)


def grown(rule, task=None, prompts=8, group_size=12, seed=0, **plan):
    """Rollouts, batch and plan of untrained responses, which are long and uncertain."""
    task, model = task or Addition(), tiny()
    plan = replace(rule(RolloutPlan(group_size)), **plan)
    rollouts, batch = collect(model, task, task.problems("train", prompts), plan, generator=seeded(seed))
    return model, rollouts, batch


def parents_of(rollouts, batch, group_size):
    """For each branch, the rows of its group that begin as it does."""
    for row, given in enumerate(batch.extras["given"].tolist()):
        first = row // group_size * group_size
        beginning = rollouts.completion_ids[row, :given]
        yield (
            row,
            given,
            [
                other
                for other in range(first, first + group_size)
                if other != row and rollouts.completion_ids[other, :given].equal(beginning)
            ],
        )


@pytest.mark.parametrize(("rule", "task"), [(CUT, Addition()), (TREE, Addition()), (TOOLS, Calculator())])
def test_branches_are_rows_like_any_other(rule, task):
    model, rollouts, batch = grown(rule, task)
    assert torch.bincount(batch.group_ids).tolist() == [12] * 8
    assert (batch.extras["given"] > 0).any()
    scores = score(model, rollouts, temperature=1.0)
    torch.testing.assert_close(scores.log_probs.detach(), batch.old_log_probs, rtol=0, atol=1e-5)
    torch.testing.assert_close(scores.entropy.detach(), batch.old_entropy, rtol=0, atol=1e-5)
    for row, text in enumerate(rollouts.completions):
        ids = rollouts.completion_ids[row][rollouts.written[row]].tolist()
        assert model.tokenizer.decode(ids) == text


def branchable(rollouts, batch, rows):
    """Positions at which a full response may be cut, ``[rows, T]``."""
    return rollouts.written[rows] & (rollouts.completion_ids[rows] != 1) & (torch.arange(batch.mask.shape[1]) >= 1)


def test_cut_responses_learn_what_they_drew_themselves():
    _, rollouts, batch = grown(CUT)
    position = torch.arange(batch.mask.shape[1])
    for row, given, others in parents_of(rollouts, batch, 12):
        assert given == 0 or others
        assert batch.mask[row].equal(rollouts.written[row] & (position >= given))
        assert (batch.old_log_probs[row, :given] == 0).all()
        assert (batch.extras["turn"][row][batch.mask[row]] == 0).all()
    for first in range(0, len(rollouts), 12):
        # Three full responses come first; what ended at once could not be cut.
        cut = branchable(rollouts, batch, [first, first + 1, first + 2]).any(-1).sum()
        assert (batch.extras["given"][first : first + 12] > 0).sum() == 3 * cut


def test_cut_responses_fork_among_the_most_uncertain_tokens_of_a_full_one():
    _, rollouts, batch = grown(CUT)
    for first in range(0, len(rollouts), 12):
        roots = [first, first + 1, first + 2]
        valid = branchable(rollouts, batch, roots)
        best = most_uncertain(batch.old_entropy[roots], valid, 4)
        forks = Counter(
            (root, given)
            for row, given, others in parents_of(rollouts, batch, 12)
            if given and first <= row < first + 12
            for root in others
            if root in roots and given in best[roots.index(root)].tolist()
        )
        # Each of these has a fork with its three continuations among its candidates.
        uncut = {root for root, ok in zip(roots, valid.any(-1).tolist(), strict=True) if not ok}
        assert {root for (root, _), count in forks.items() if count >= 3} == set(roots) - uncut


def test_a_tree_learns_the_shared_beginnings_too():
    _, rollouts, batch = grown(TREE)
    assert batch.mask.equal(rollouts.written)
    for row, given, others in parents_of(rollouts, batch, 12):
        for other in others[:1] if given else ():
            torch.testing.assert_close(batch.old_log_probs[row, :given], batch.old_log_probs[other, :given])


def test_tokens_given_and_tokens_drawn_add_up(monkeypatch):
    drawn, sample = [], collection.sample

    def counting(*arguments, prefixes=None, **options):
        rollouts = sample(*arguments, prefixes=prefixes, **options)
        drawn.append(int(rollouts.written.sum()) - sum(map(len, prefixes or ())))
        return rollouts

    monkeypatch.setattr(collection, "sample", counting)
    for rule in (CUT, TREE):
        drawn.clear()
        _, rollouts, batch = grown(rule)
        assert sum(drawn) == int(rollouts.written.sum() - batch.extras["given"].sum())
        assert sum(drawn) < 0.9 * int(rollouts.written.sum())


def test_branches_of_an_agent_begin_after_the_answer_of_its_tool():
    _, rollouts, batch = grown(TOOLS, Calculator(), prompts=16)
    branches = 0
    for row, given, others in parents_of(rollouts, batch, 12):
        if not given:
            continue
        branches += 1
        assert others
        assert rollouts.written[row, given - 1]
        assert not rollouts.mask[row, given - 1]
        assert rollouts.mask[row, given]
        assert batch.extras["turn"][row, given] >= 1
        assert "=" in rollouts.completions[row]
    assert branches >= 10


def test_rewards_are_those_of_the_whole_completion():
    task = Addition()
    problems = task.problems("train", 8)
    _, rollouts, batch = grown(CUT, task)
    expected = [task.reward(problems[row // 12], text) for row, text in enumerate(rollouts.completions)]
    assert batch.rewards.tolist() == expected


def test_the_same_seed_grows_the_same_trees():
    (_, first, _), (_, second, _), (_, third, _) = grown(TREE), grown(TREE), grown(TREE, seed=1)
    assert first.completion_ids.equal(second.completion_ids)
    assert first.completions != third.completions


class Asking:
    """A rule that asks for what it is given."""

    learns_prefix = True

    def __init__(self, *rounds):
        self.rounds_asked = rounds

    def rounds(self, prompts, group_size, generator):
        for groups, parents, positions in self.rounds_asked:
            yield Forks(*(torch.tensor(each, dtype=torch.long) for each in (groups, parents, positions)))


@pytest.mark.parametrize(
    ("rounds", "message"),
    [
        ([([0, 0, 0], [-1] * 3, [0] * 3)], "groups hold 2 responses"),
        ([([5], [-1], [0])], "there are 2"),
        ([([0], [-1], [3])], "response -1 is none of the 0"),
        ([([0], [-1], [0]), ([0], [4], [1])], "response 4 is none of the 1 to prompt 0"),
        ([([0], [-1], [0]), ([0], [0], [99])], "response 0 has .* tokens, of which 99 cannot be taken over"),
        ([([0], [-1], [0]), ([0], [0], [-1])], "response 0 has .* tokens, of which -1 cannot be taken over"),
        ([([0], [-1], [0]), ([1], [0], [1])], "response 0 is none of the 1 to prompt 1"),
        ([([], [], [])], "the first round must ask"),
    ],
)
def test_rules_that_ask_for_the_impossible_are_named(rounds, message):
    with pytest.raises(ValueError, match=message):
        grown(lambda plan: replace(plan, branching=Asking(*rounds)), prompts=2, group_size=2)


def test_short_groups_are_filled_from_the_prompt():
    _, _, batch = grown(lambda plan: replace(plan, branching=Asking(([1], [-1], [0]))), prompts=3, group_size=2)
    assert batch.group_ids.tolist() == [0, 0, 1, 1, 2, 2]
    assert batch.extras["given"].tolist() == [0] * 6


def test_a_rule_sees_what_it_needs():
    seen = []

    class Watching(Asking):
        def rounds(self, prompts, group_size, generator):
            seen.append((yield Forks.fresh(torch.tensor([1, 0]))))

    model, task = tiny(), Addition()
    problems = task.problems("train", 2)
    plan = RolloutPlan(1, branching=Watching())
    draw = lambda groups, prefixes: collection.draw(  # noqa: E731
        model, task, [problems[g] for g in groups], generator=seeded(), prefixes=prefixes
    )
    rollouts, _ = grow(draw, plan, 2, turns=turns, tokenizer=model.tokenizer, generator=seeded())
    (batch,) = seen
    assert batch.group_ids.tolist() == [1, 0]
    assert batch.token_ids.equal(rollouts.completion_ids[[1, 0]])
    assert batch.extras["special"].equal(batch.token_ids == model.tokenizer.eos_id)
    assert batch.old_entropy[batch.mask].min() > 0


def test_tempered_prompts_are_spread_over_the_batch():
    for count, share in ((8, 0.25), (32, 0.1), (5, 1.0), (7, 0.0), (10, 0.3)):
        marks = spread(count, share)
        assert int(marks.sum()) == int(count * share + 1e-9)
        assert abs(int(marks[: count // 2].sum()) - share * (count // 2)) <= 1


def test_tempered_responses_are_drawn_hotter_and_scored_like_all_others():
    model, task, hot = tiny(), Addition(), 3.0
    with torch.no_grad():
        model.embedding.weight *= 3.0
    problem = task.problem((12, 7, 35))
    plan = RolloutPlan(1000, tempered_share=0.5, tempered_at=hot)
    rollouts, batch = collect(model, task, [problem, problem], plan, generator=seeded(), max_new_tokens=1)
    assert batch.extras["tempered"].tolist() == [False] * 1000 + [True] * 1000
    prompt = torch.tensor([model.tokenizer.encode_prompt(problem.prompt)])
    with torch.no_grad():
        logits = model.start(prompt, torch.ones_like(prompt, dtype=torch.bool), 1).logits[0].double()
    log_probs = logits.log_softmax(-1)
    for rows, temperature in ((slice(0, 1000), 1.0), (slice(1000, 2000), hot)):
        policy = (logits / temperature).softmax(-1)
        mean = float((policy * log_probs).sum())
        error = float((policy * (log_probs - mean) ** 2).sum() / 1000) ** 0.5
        assert float(batch.old_log_probs[rows].mean()) == pytest.approx(mean, abs=4 * error)
    entropy = float(-(log_probs.exp() * log_probs).sum())
    assert batch.old_entropy[:, 0].tolist() == pytest.approx([entropy] * 2000, rel=1e-4)
    scores = score(model, rollouts, temperature=1.0)
    torch.testing.assert_close(scores.log_probs.detach(), batch.old_log_probs, rtol=0, atol=1e-5)
    assert rollouts.temperature == 1.0


def test_trees_may_be_tempered():
    model, rollouts, batch = grown(CUT, tempered_share=0.25, tempered_at=2.0)
    assert torch.bincount(batch.group_ids[batch.extras["tempered"]]).tolist()[3::4] == [12, 12]
    assert (batch.extras["given"].view(8, 12) > 0).any(1).all()
    torch.testing.assert_close(
        score(model, rollouts, temperature=1.0).log_probs.detach(), batch.old_log_probs, rtol=0, atol=1e-5
    )


def test_a_plan_without_rules_draws_what_it_always_drew():
    model, task = tiny(), Addition()
    problems = task.problems("train", 3)
    rollouts, _ = collect(model, task, problems, RolloutPlan(4), generator=seeded(5))
    plain = collection.draw(model, task, [p for p in problems for _ in range(4)], generator=seeded(5))
    assert rollouts.completion_ids.equal(plain.completion_ids)


def test_each_group_answers_in_one_form_and_is_told_how_well_it_keeps_to_it():
    model, task = tiny(), Addition()
    problems = task.problems("train", 40)
    plan = PromptTemplates(SYMBOLS)(RolloutPlan(4))
    rollouts, batch = collect(model, task, problems, plan, generator=seeded(), max_new_tokens=task.max_new_tokens)
    names = set()
    for group, problem in enumerate(problems):
        rows = range(4 * group, 4 * group + 4)
        prompts = {model.tokenizer.decode(rollouts.token_ids[row, : rollouts.prompt_length].tolist()) for row in rows}
        (template,) = [t for t in SYMBOLS if prompts == {t.asked(problem.prompt)}]
        names.add(template.name)
        for row in rows:
            text = rollouts.completions[row]
            assert batch.rewards[row] == task.reward(problem, template.answer(text))
            assert batch.extras["format"][row] == pytest.approx(template.format(text))
    assert names == {template.name for template in SYMBOLS}
    # The longest form has four marks of one character.
    assert batch.mask.shape[1] == task.max_new_tokens + 4


def test_templates_are_drawn_with_their_weights():
    task = Templated(Addition(), SYMBOLS[:3], (1.0, 1.0, 2.0))
    problem = Addition().problem((1, 2, 3))
    drawn = Counter(p.data[0].name for p in task.put([problem] * 10_000, np.random.default_rng(0)))
    expected = {"plain": 2500, "angles": 2500, "angle given": 5000}
    # Chi-squared with 2 degrees of freedom: above 13.8 in one of a thousand.
    assert sum((drawn[name] - count) ** 2 / count for name, count in expected.items()) < 13.8


def test_one_plain_template_is_plain_training():
    problems = Addition().problems("train", 3)
    plan = PromptTemplates((Template("plain"),))(RolloutPlan(4))
    task = Templated(Addition(), SYMBOLS)
    asked = task.put(problems, np.random.default_rng(0))
    first, _ = collect(tiny(), Addition(), problems, plan, generator=seeded())
    second, _ = collect(tiny(), task, asked, plan, generator=seeded())
    assert first.completion_ids.equal(second.completion_ids)
    assert first.token_ids.equal(second.token_ids)


def test_a_templated_task_demonstrates_and_verifies_in_its_forms():
    task = Templated(Addition())
    rng = np.random.default_rng(0)
    for problem in task.problems("test", 50):
        text = task.demonstration(problem, rng)
        assert task.reward(problem, text) == 1.0
        assert task.format(problem, text) == 1.0
        assert task.answer(problem, text) == Addition().answer(problem.data[1], problem.data[0].answer(text))
        assert len(text) < task.max_new_tokens
    assert task.problems("test", 5) == task.problems("test", 5)


@pytest.mark.parametrize(
    ("recipe", "task"),
    [
        ("cure", Addition()),
        ("cure(first_stage=1)", Addition()),
        ("ettrl(rollout='tree', forks=1, continuations=3)", Addition()),
        ("agentic_aepo(rollout='branching')", Calculator()),
        ("aepo_arbitrary(target=0.5)", Addition()),
        ("prompt_augmentation", Addition()),
    ],
)
def test_recipes_with_plans_train_in_the_laboratory(recipe, task):
    settings = TrainerSettings(prompts_per_step=4, group_size=8, windows=2, probe_every=1, probe_rows=8)
    trainer = Trainer(tiny(), task, recipes.named(recipe), settings)
    for _ in range(2):
        metrics = trainer.step()
    assert all(value == value for value in metrics.values())
    assert trainer.last_rollouts is not None
    assert len(trainer.last_rollouts) == 32
