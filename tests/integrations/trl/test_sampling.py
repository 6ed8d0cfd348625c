"""Statistics read off the logits that `generate` drew from, against a scoring pass over the finished completions."""

import pytest
import torch
from runs import STOCK_DAPO, reward, settings, trained, trainer
from small import small_model
from test_trainer import CHOOSING

from isentrope.integrations.trl import EntropyGRPOTrainer
from isentrope.integrations.trl._sampling import SamplingRecord
from isentrope.measures import token_statistics_from_logits
from isentrope.policy import recipes

NAMES = ("log_probs", "entropy", "varentropy")


@torch.no_grad()
def drawn(model, prompt, mask, **options):
    torch.manual_seed(0)
    tokens = model.generate(prompt, attention_mask=mask, do_sample=True, **options)
    return tokens[:, prompt.shape[1] :]


def ragged_prompts():
    prompt = torch.randint(3, 30, (5, 6), generator=torch.Generator().manual_seed(1))
    mask = torch.arange(6) >= torch.tensor([0, 2, 0, 5, 1])[:, None]
    return torch.where(mask, prompt, 0), mask.long()


def after_the_end(completions, end):
    ended = (completions == end).int().cumsum(1)
    return ended - (completions == end).int() == 0


@torch.no_grad()
def test_they_are_those_of_a_pass_over_the_whole():
    model, (prompt, mask) = small_model().eval(), ragged_prompts()
    record = SamplingRecord(0.7, NAMES)
    with record.watching(model):
        # Top-k cuts what is drawn, not what is recorded.
        completions = drawn(model, prompt, mask, max_new_tokens=9, temperature=0.7, top_k=8)
    valid = after_the_end(completions, model.config.eos_token_id)
    assert not valid.all()
    found = record.scores(completions, valid)
    assert found is not None
    whole = torch.cat([prompt, completions], 1)
    attended = torch.cat([mask.bool(), valid], 1)
    positions = (attended.long().cumsum(1) - 1).clamp_min(0)
    logits = model(whole, attention_mask=attended.long(), position_ids=positions).logits[:, 5:-1]
    expected = token_statistics_from_logits(logits, completions, temperature=0.7, outputs=NAMES)
    for name in NAMES:
        torch.testing.assert_close(found[name][valid], getattr(expected, name)[valid], rtol=1e-4, atol=1e-5)
        assert not found[name][~valid].any()


def test_another_completion_than_was_drawn_has_none():
    model, (prompt, mask) = small_model().eval(), ragged_prompts()
    record = SamplingRecord(1.0, NAMES)
    everything = torch.ones(5, 4, dtype=torch.bool)
    assert record.scores(torch.zeros(5, 4, dtype=torch.long), everything) is None
    with record.watching(model):
        completions = drawn(model, prompt, mask, max_new_tokens=4, min_new_tokens=4)
    assert record.scores(completions, everything) is not None
    changed = completions.clone()
    changed[3, 1] = (changed[3, 1] + 1) % 30
    assert record.scores(changed, everything) is None
    changed_where_nobody_looks = everything.clone()
    changed_where_nobody_looks[3, 1] = False
    assert record.scores(changed, changed_where_nobody_looks) is not None
    longer = torch.cat([completions, completions], 1)
    assert record.scores(longer, torch.ones_like(longer, dtype=torch.bool)) is None
    assert record.scores(completions[:3], everything[:3]) is None
    # Nothing is read once the watch is over.
    drawn(model, prompt[:2], mask[:2], max_new_tokens=3)
    assert record.scores(completions, everything) is not None


def test_of_several_generations_nothing_is_said():
    model, (prompt, mask) = small_model().eval(), ragged_prompts()
    record = SamplingRecord(1.0, NAMES)
    with record.watching(model):
        completions = drawn(model, prompt, mask, max_new_tokens=1)
    assert record.scores(completions, torch.ones_like(completions, dtype=torch.bool)) is not None
    with record.watching(model):
        completions = drawn(model, prompt, mask, max_new_tokens=1)
    assert record.scores(completions, torch.ones_like(completions, dtype=torch.bool)) is None


def test_a_reward_function_that_calls_the_model_changes_nothing(monkeypatch):
    compared = []
    prepared = EntropyGRPOTrainer._prepared

    def comparing(self, inputs, scores, part):
        compared.append((inputs["completion_mask"].bool(), scores, self._scored_without_gradient(inputs, True)))
        return prepared(self, inputs, scores, part)

    def by_the_model(completion_ids, **_):
        with torch.no_grad():
            run.model(input_ids=torch.tensor([[5], [7], [9]]))
            run.model(input_ids=torch.tensor([ids[:1] for ids in completion_ids]))
        return reward(completion_ids)

    monkeypatch.setattr(EntropyGRPOTrainer, "_prepared", comparing)
    shape = settings(4, rows=2, steps=1, max_completion_length=1)
    run = trainer(CHOOSING, shape, reward_funcs=by_the_model)
    run.train()
    ((mask, recorded, scored),) = compared
    for name, values in scored.items():
        torch.testing.assert_close(recorded[name][mask], values[mask], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "objective", [CHOOSING, recipes.clip_v(), recipes.entropic(target=2.0)], ids=lambda objective: objective.name
)
def test_the_trainer_decides_by_them_as_by_a_pass(objective, monkeypatch):
    shape = settings(4, rows=2, steps=1, temperature=0.8)
    compared = []
    prepared = EntropyGRPOTrainer._prepared

    def comparing(self, inputs, scores, part):
        compared.append((inputs["completion_mask"].bool(), scores, self._scored_without_gradient(inputs, True)))
        return prepared(self, inputs, scores, part)

    monkeypatch.setattr(EntropyGRPOTrainer, "_prepared", comparing)
    trained(objective, shape)
    ((mask, recorded, scored),) = compared
    assert recorded.keys() == scored.keys()
    for name, values in scored.items():
        torch.testing.assert_close(recorded[name][mask], values[mask], rtol=1e-4, atol=1e-5)


def test_nothing_is_recorded_where_nothing_reads_it(monkeypatch):
    monkeypatch.setattr(SamplingRecord, "_read", lambda *_: pytest.fail("recorded in vain"))
    trained(STOCK_DAPO, settings(2, steps=1))
    trained(CHOOSING, settings(1, steps=1))
