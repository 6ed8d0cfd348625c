from dataclasses import replace

import pytest
import torch

from isentrope.lab import Addition, CharacterTokenizer, TinyTransformer, Trainer, TrainerSettings, distillation, sample
from isentrope.lab.distillation import beside_teacher
from isentrope.lab.rollouts import hidden_states
from isentrope.lab.tokenizer import ALPHABET
from isentrope.policy import recipes
from isentrope.policy.distillation import forward_kl, reverse_kl

SETTINGS = TrainerSettings(prompts_per_step=4, group_size=4, learning_rate=1e-2, probe_every=0)


def pair():
    return TinyTransformer(width=16, layers=1, heads=2, seed=1), TinyTransformer(width=24, layers=1, heads=2, seed=2)


def drawn(model):
    generator = torch.Generator().manual_seed(0)
    return sample(model, ["1+2=", "13+4+5=", "7="] * 2, max_new_tokens=6, temperature=0.7, generator=generator)


def whole_logits(model, rollouts, temperature):
    """Logits of all tokens of the completions, from the whole text of each row alone."""
    rows = []
    for ids, mask in zip(rollouts.token_ids, rollouts.attention_mask, strict=True):
        text = ids[mask][None]
        hidden = model.hidden(text, torch.ones_like(text, dtype=torch.bool))[0]
        prompt = int(mask[: rollouts.prompt_length].sum())
        logits = model.head().logits(hidden[prompt - 1 : -1]) / temperature
        rows.append(torch.nn.functional.pad(logits, (0, 0, 0, rollouts.mask.shape[1] - len(logits))))
    return torch.stack(rows)


@pytest.mark.parametrize("micro_batch_size", [None, 2])
def test_both_are_compared_at_the_tokens_that_are_asked_for(micro_batch_size, monkeypatch):
    monkeypatch.setattr(distillation, "_LOGITS_AT_ONCE", 1)
    model, teacher = pair()
    rollouts = drawn(model)
    where = rollouts.mask & (torch.rand(rollouts.mask.shape, generator=torch.Generator().manual_seed(1)) < 0.5)
    where[2] = False
    compare = beside_teacher(model, teacher, rollouts, temperature=0.7, micro_batch_size=micro_batch_size)
    for measure in (reverse_kl, forward_kl):
        values = measure(whole_logits(model, rollouts, 0.7), whole_logits(teacher, rollouts, 0.7))
        torch.testing.assert_close(compare(measure, where), torch.where(where, values, 0), atol=1e-5, rtol=1e-4)
    assert not compare(reverse_kl, torch.zeros_like(where)).any()


def test_the_gradient_is_the_student_s_alone_and_that_of_whole_logits():
    model, teacher = pair()
    rollouts = drawn(model)
    where = rollouts.mask & (torch.arange(rollouts.mask.shape[1]) % 2 == 0)
    whole = reverse_kl(whole_logits(model, rollouts, 1.0), whole_logits(teacher, rollouts, 1.0).detach())
    parameters = list(model.parameters())
    expected = torch.autograd.grad(torch.where(where, whole, 0).sum(), parameters)
    for hidden in (None, hidden_states(model, rollouts, rollouts.mask)):
        values = beside_teacher(model, teacher, rollouts, temperature=1.0, hidden=hidden)(reverse_kl, where)
        for ours, theirs in zip(torch.autograd.grad(values.sum(), parameters), expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    assert all(p.grad is None for p in teacher.parameters())


def test_logits_are_held_for_a_block_of_tokens_at_a_time(monkeypatch):
    monkeypatch.setattr(distillation, "_LOGITS_AT_ONCE", 1)
    model, teacher = pair()
    generator = torch.Generator().manual_seed(0)
    rollouts = sample(model, ["1+2="] * 200, max_new_tokens=8, generator=generator)
    sizes = []

    def measure(student, taught):
        sizes.append(len(student))
        return reverse_kl(student, taught)

    beside_teacher(model, teacher, rollouts, temperature=1.0)(measure, rollouts.mask).sum().backward()
    tokens = int(rollouts.mask.sum())
    assert tokens > 512
    assert max(sizes) == 256
    assert sum(sizes) == 2 * tokens  # once forward, once more for the gradient


def test_a_policy_learns_its_teacher():
    model, teacher = pair()
    before = [p.detach().clone() for p in teacher.parameters()]
    trainer = Trainer(model, Addition(), recipes.tip(), SETTINGS, teacher=teacher)

    def distance():
        rollouts = drawn(model)
        values = beside_teacher(model, teacher, rollouts, temperature=1.0)(reverse_kl, rollouts.mask)
        return float(values[rollouts.mask].mean().detach())

    far = distance()
    for _ in range(25):
        trainer.step()
    assert distance() < 0.5 * far
    assert all(torch.equal(p, then) for p, then in zip(teacher.parameters(), before, strict=True))


def test_micro_batches_change_memory_not_results():
    results = []
    for size in (None, 3):
        trainer = Trainer(
            *pair()[:1], Addition(), recipes.tip(), replace(SETTINGS, micro_batch_size=size), teacher=pair()[1]
        )
        trainer.optimizer = torch.optim.SGD(trainer.parameters, lr=0.1)
        rows = [trainer.step() for _ in range(2)]
        results.append((rows[-1]["loss"], torch.cat([p.detach().flatten() for p in trainer.parameters])))
    assert results[1][0] == pytest.approx(results[0][0], rel=1e-4)
    torch.testing.assert_close(results[1][1], results[0][1], rtol=0, atol=2e-6)


def test_a_teacher_is_asked_for_and_must_speak_the_same_language():
    model, teacher = pair()
    with pytest.raises(ValueError, match="objective tip needs a teacher; give teacher="):
        Trainer(model, Addition(), recipes.tip(), SETTINGS)
    stranger = TinyTransformer(CharacterTokenizer("0123456789+=;"), width=16, layers=1, heads=2)
    with pytest.raises(ValueError, match=r"vocabulary has \d+ tokens, the policy's 54; they must be the same"):
        Trainer(model, Addition(), recipes.tip(), SETTINGS, teacher=stranger)
    # As many tokens, two of them exchanged: their logits would be compared across tokens.
    exchanged = CharacterTokenizer("1032456789" + ALPHABET[10:])
    namesake = TinyTransformer(exchanged, width=16, layers=1, heads=2)
    with pytest.raises(ValueError, match="teacher: its token 2 is '1', the policy's '0'; they must be the same"):
        Trainer(model, Addition(), recipes.tip(), SETTINGS, teacher=namesake)
    with pytest.raises(ValueError, match="they must be the same"):
        beside_teacher(model, namesake, drawn(model), temperature=1.0)
    same = TinyTransformer(CharacterTokenizer(ALPHABET), width=16, layers=1, heads=2)
    Trainer(model, Addition(), recipes.tip(), SETTINGS, teacher=same)
    activated = recipes.tip().with_(output_activation=torch.tanh)
    with pytest.raises(ValueError, match="with an output activation cannot have a teacher"):
        Trainer(model, Addition(), activated, SETTINGS, teacher=teacher)
