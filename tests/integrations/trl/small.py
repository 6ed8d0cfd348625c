"""A model, a tokenizer and prompts small enough for real trainers to run a few steps in seconds; nothing is downloaded."""

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<end>", "<unknown>")
WORDS = (
    "the", "cat", "dog", "bird", "fish", "sees", "likes", "finds", "red", "blue", "old", "new", "and", "or", "not",
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "+", "-", "=",
)  # fmt: skip


def small_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, out of thirty-odd; padding, end and unknown are three tokens."""
    vocabulary = {word: index for index, word in enumerate((*SPECIAL, *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>", unk_token="<unknown>", padding_side="left"
    )


def small_model(seed: int = 0, layers: int = 2, width: int = 32) -> LlamaForCausalLM:
    """A llama with random weights, of a spread at which its next-token distributions are far from uniform."""
    config = LlamaConfig(
        vocab_size=len(SPECIAL) + len(WORDS),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.3,
        pad_token_id=SPECIAL.index("<pad>"),
        bos_token_id=None,
        eos_token_id=SPECIAL.index("<end>"),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def prompts_dataset(n: int) -> Dataset:
    """`n` prompts of one to six words, ragged, without regard to meaning."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 7, (n,), generator=generator).tolist()
    words = [torch.randint(len(WORDS), (length,), generator=generator).tolist() for length in lengths]
    return Dataset.from_dict({"prompt": [" ".join(WORDS[index] for index in row) for row in words]})
