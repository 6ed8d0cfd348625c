import json
import os

import numpy as np
import pytest
import torch

from isentrope.lab.tiny import TinyTransformer
from isentrope.lab.tokenizer import CharacterTokenizer


@pytest.fixture
def model():
    return TinyTransformer(CharacterTokenizer("0123456789"), width=24, layers=2, heads=3, seed=3)


def random_ids(batch, time, seed=0):
    return torch.randint(2, 12, (batch, time), generator=torch.Generator().manual_seed(seed))


def padded(rows, left, right, pad=0):
    """Each row with its own padding on both sides."""
    ids = [[pad] * a + row.tolist() + [pad] * b for row, a, b in zip(rows, left, right, strict=True)]
    mask = [[False] * a + [True] * len(row) + [False] * b for row, a, b in zip(rows, left, right, strict=True)]
    return torch.tensor(ids), torch.tensor(mask)


def reference_hidden(model, ids):
    """The forward pass for one sequence, token by token, in float64 and with complex rotations."""
    weights = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
    heads, size = model.heads, model.head_width

    def norm(x, weight):
        return x / np.sqrt((x**2).mean() + 1e-6) * weight

    states = [weights["embedding.weight"][i] for i in ids]
    frequencies = 10000.0 ** (-np.arange(size // 2) / (size // 2))
    for layer in range(len(model.blocks)):
        block = {name.split(".", 2)[2]: w for name, w in weights.items() if name.startswith(f"blocks.{layer}.")}
        queries, keys, values = [], [], []
        for position, state in enumerate(states):
            projected = block["query_key_value.weight"] @ norm(state, block["attention_norm.weight"])
            query, key, value = projected.reshape(3, heads, size)
            turn = np.exp(1j * position * frequencies)
            queries.append((query[:, 0::2] + 1j * query[:, 1::2]) * turn)
            keys.append((key[:, 0::2] + 1j * key[:, 1::2]) * turn)
            values.append(value)
        for position in range(len(states)):
            attended = np.zeros((heads, size))
            for head in range(heads):
                scores = np.array(
                    [(queries[position][head] * keys[j][head].conj()).real.sum() for j in range(position + 1)]
                ) / np.sqrt(size)
                attention = np.exp(scores - scores.max())
                attention /= attention.sum()
                attended[head] = sum(a * values[j][head] for j, a in enumerate(attention))
            state = states[position] + block["attention_out.weight"] @ attended.ravel()
            gate, up = np.split(block["gate_up.weight"] @ norm(state, block["feedforward_norm.weight"]), 2)
            states[position] = state + block["down.weight"] @ (gate / (1 + np.exp(-gate)) * up)
    return np.stack([norm(state, weights["norm.weight"]) for state in states])


def test_agrees_with_a_slow_reference(model):
    ids = random_ids(1, 7)
    with torch.no_grad():
        hidden = model.hidden(ids, torch.ones_like(ids, dtype=torch.bool))[0]
    np.testing.assert_allclose(hidden.numpy(), reference_hidden(model, ids[0].tolist()), atol=2e-5)


@pytest.mark.parametrize(("left", "right"), [((3, 0, 1), (0, 3, 2)), ((0, 0, 0), (2, 1, 0)), ((2, 1, 0), (0, 0, 0))])
def test_padding_changes_nothing(model, left, right):
    longest = max(a + b for a, b in zip(left, right, strict=True)) + 4
    rows = [random_ids(1, longest - a - b, seed)[0] for seed, (a, b) in enumerate(zip(left, right, strict=True))]
    ids, mask = padded(rows, left, right)
    hidden = model.hidden(ids, mask)
    for row, plain in enumerate(rows):
        alone = model.hidden(plain[None], torch.ones(1, len(plain), dtype=torch.bool))[0]
        torch.testing.assert_close(hidden[row][mask[row]], alone, atol=1e-5, rtol=0)
    with torch.no_grad():
        torch.testing.assert_close(model.hidden(torch.where(mask, ids, 7), mask)[mask], hidden[mask], atol=0, rtol=0)


def test_padding_changes_no_gradient(model):
    rows = [random_ids(1, 3, 1)[0], random_ids(1, 6, 2)[0]]
    ids, mask = padded(rows, (3, 0), (1, 1))
    weight = torch.linspace(-1, 1, model.width)

    def gradient(loss):
        model.zero_grad()
        loss.backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    batched = gradient((model.hidden(ids, mask)[mask] @ weight).sum())
    alone = gradient(
        sum((model.hidden(row[None], torch.ones(1, len(row), dtype=torch.bool)) @ weight).sum() for row in rows)
    )
    assert batched.isfinite().all()
    torch.testing.assert_close(batched, alone, atol=1e-4, rtol=1e-4)


def test_no_token_sees_a_later_one(model):
    ids = random_ids(2, 8)
    changed = ids.clone()
    changed[:, 5:] = (changed[:, 5:] - 1) % 10 + 2
    everything = torch.ones_like(ids, dtype=torch.bool)
    before, after = model.hidden(ids, everything), model.hidden(changed, everything)
    torch.testing.assert_close(before[:, :5], after[:, :5], atol=1e-6, rtol=0)
    assert (before[:, 5:] - after[:, 5:]).abs().amax(-1).min() > 1e-3


def test_order_matters(model):
    everything = torch.ones(1, 3, dtype=torch.bool)
    one = model.hidden(torch.tensor([[3, 4, 5]]), everything)[:, -1]
    other = model.hidden(torch.tensor([[4, 3, 5]]), everything)[:, -1]
    assert (one - other).abs().max() > 1e-3


@pytest.mark.parametrize("left", [(0, 0, 0), (0, 2, 4)])
@torch.no_grad()
def test_cached_decoding_is_the_full_forward_pass(model, left):
    rows = [random_ids(1, 6 - a, seed)[0] for seed, a in enumerate(left)]
    ids, mask = padded(rows, left, (0, 0, 0))
    new = random_ids(3, 5, seed=9)
    decoding = model.start(ids, mask, max_new_tokens=5)
    # Rows that leave, move and double must take their caches with them.
    order = torch.tensor([2, 0, 0, 1])
    logits = [decoding.logits]
    for time in range(2):
        logits.append(decoding.step(new[:, time]))
    decoding.keep(order)
    kept = [decoding.step(new[order, time]) for time in range(2, 5)]
    for row, plain in enumerate(rows):
        text = torch.cat((plain, new[row]))[None]
        full = model.head().logits(model.hidden(text, torch.ones_like(text, dtype=torch.bool)))[0, len(plain) - 1 :]
        torch.testing.assert_close(torch.stack([step[row] for step in logits]), full[:3], atol=1e-5, rtol=0)
        for place in (order == row).nonzero()[:, 0]:
            torch.testing.assert_close(torch.stack([step[place] for step in kept]), full[3:], atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="cache has room for 11 tokens"):
        decoding.step(new[order, 0])


def test_prompts_must_end_in_a_token(model):
    with pytest.raises(ValueError, match="row 1 ends in padding"):
        model.start(random_ids(2, 3), torch.tensor([[True, True, True], [True, True, False]]), 2)


def test_seed_decides_the_weights():
    def weights(seed):
        return torch.cat([p.flatten() for p in TinyTransformer(width=16, layers=1, heads=2, seed=seed).parameters()])

    state = torch.get_rng_state()
    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
    assert torch.equal(torch.get_rng_state(), state)


def test_initial_logits_are_nearly_uniform(model):
    ids = random_ids(8, 6)
    logits = model.head().logits(model.hidden(ids, torch.ones_like(ids, dtype=torch.bool)))
    # RMS-normalised states against rows of length about one: standard deviation about one.
    assert 0.5 < logits.std().item() < 2.0


@pytest.mark.parametrize("tied", [True, False])
@torch.no_grad()
def test_saving_and_loading(tmp_path, tied):
    model = TinyTransformer(CharacterTokenizer("0123456789"), width=24, layers=1, heads=3, tied=tied, seed=5)
    model.save(tmp_path / "model")
    loaded = TinyTransformer.load(tmp_path / "model")
    ids = random_ids(2, 5)
    everything = torch.ones_like(ids, dtype=torch.bool)
    assert torch.equal(
        model.head().logits(model.hidden(ids, everything)), loaded.head().logits(loaded.hidden(ids, everything))
    )
    assert loaded.tokenizer == model.tokenizer
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "model.json",
        "model.safetensors",
        "tokenizer.json",
    ]


def test_a_save_that_is_cut_off_leaves_the_old_model(model, tmp_path, monkeypatch):
    model.save(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()

    def cut_off(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", cut_off)
    with pytest.raises(KeyboardInterrupt):
        TinyTransformer(CharacterTokenizer("01"), width=8, layers=1, heads=1).save(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 3


def test_bad_settings_are_named(tmp_path):
    with pytest.raises(ValueError, match="heads: must divide width 96"):
        TinyTransformer(heads=5)
    with pytest.raises(ValueError, match="layers: must be at least 1"):
        TinyTransformer(layers=0)
    (tmp_path / "model.json").write_text(json.dumps({"kind": "other"}))
    with pytest.raises(ValueError, match="does not describe a tiny transformer"):
        TinyTransformer.load(tmp_path)
