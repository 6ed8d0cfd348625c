"""A decoder-only transformer small enough to be trained by reinforcement learning on a laptop.

Pre-norm blocks with root-mean-square normalisation, rotary positions (arXiv 2104.09864), one fused projection for
queries, keys and values, and a SwiGLU layer (arXiv 2002.05202); input and output embeddings are tied unless asked
otherwise. Decoding writes into a cache that is allocated once.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Self, cast

import torch
from jaxtyping import Bool, Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from isentrope._files import replacing, write_atomically
from isentrope.lab.models import LanguageModel, OutputHead, check_left_padding
from isentrope.lab.tokenizer import CharacterTokenizer


class TinyTransformer(LanguageModel):
    """A decoder-only transformer in float32 over a `CharacterTokenizer`.

    Args:
        tokenizer: the tokenizer; its length is the vocabulary size.
        width: size of the hidden state.
        layers: number of blocks.
        heads: attention heads; ``width / heads`` must be an even number.
        feedforward: size of the inner layer of the SwiGLU, by default ``8/3 · width`` rounded up to a multiple of 16.
        tied: whether the output head is the input embedding.
        seed: seed of the initial weights; the same seed gives the same weights.

    Raises:
        ValueError: if `heads` does not divide `width` into even parts, or a size is not positive.

    Examples:
        >>> model = TinyTransformer(CharacterTokenizer("01"), width=16, layers=1, heads=2, seed=0)
        >>> ids = torch.tensor([[2, 3, 2]])
        >>> model.hidden(ids, torch.ones_like(ids, dtype=torch.bool)).shape
        torch.Size([1, 3, 16])
    """

    tokenizer: CharacterTokenizer

    def __init__(
        self,
        tokenizer: CharacterTokenizer | None = None,
        *,
        width: int = 96,
        layers: int = 2,
        heads: int = 4,
        feedforward: int | None = None,
        tied: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, size in (("width", width), ("layers", layers), ("heads", heads), ("feedforward", feedforward)):
            if size is not None and size < 1:
                raise ValueError(f"{name}: must be at least 1 (got {size})")
        if width % heads or (width // heads) % 2:
            raise ValueError(f"heads: must divide width {width} into parts of even size (got {heads})")
        self.tokenizer = CharacterTokenizer() if tokenizer is None else tokenizer
        feedforward = 16 * math.ceil(width / 6) if feedforward is None else feedforward
        self.settings = {
            "width": width,
            "layers": layers,
            "heads": heads,
            "feedforward": feedforward,
            "tied": tied,
        }
        self.width, self.heads, self.head_width = width, heads, width // heads
        # torch's own initialisation draws from the global generator, which is not ours to move.
        with torch.random.fork_rng(devices=[]):
            self.embedding = nn.Embedding(len(self.tokenizer), width)
            self.blocks = cast(
                "Sequence[_Block]", nn.ModuleList(_Block(width, heads, feedforward) for _ in range(layers))
            )
            self.norm = nn.RMSNorm(width, eps=1e-6)
            self.output = None if tied else nn.Linear(width, len(self.tokenizer), bias=False)
        self._turns = torch.empty(0, dtype=torch.complex64)
        self._initialise(torch.Generator().manual_seed(seed))

    def _initialise(self, generator: torch.Generator) -> None:
        # Output projections of a block shrink with depth, so that the residual stream keeps its scale.
        for name, parameter in self.named_parameters():
            if parameter.ndim < 2:
                continue
            scale = 1 / math.sqrt(parameter.shape[1])
            if name.endswith(("attention_out.weight", "down.weight")):
                scale /= math.sqrt(2 * len(self.blocks))
            with torch.no_grad():
                parameter.normal_(0.0, scale, generator=generator)

    def _rotation(self, start: int, stop: int, device: torch.device) -> Tensor:
        """Unit complex numbers that turn the pairs of a head, ``[time, 1, head width / 2]``."""
        if stop > len(self._turns) or self._turns.device != device:
            length = 1 << max(stop - 1, 63).bit_length()
            frequency = 10000.0 ** -torch.linspace(0, 1, self.head_width // 2 + 1, dtype=torch.float64)[:-1]
            angle = torch.outer(torch.arange(length, dtype=torch.float64), frequency)
            turns = torch.polar(torch.ones_like(angle), angle)[:, None]
            double = self.embedding.weight.dtype == torch.float64
            self._turns = (turns if double else turns.to(torch.complex64)).to(device)
        return self._turns[start:stop]

    def hidden(
        self, token_ids: Int[Tensor, "batch time"], attention_mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time width"]:
        """Hidden states before the output head, with gradient.

        Args:
            token_ids: ids, int64, ``[batch, time]``.
            attention_mask: True at real tokens, ``[batch, time]``.

        Returns:
            Normalised hidden states ``[batch, time, width]``; undefined at padded positions.
        """
        # Rotary attention sees differences of positions only, so the column serves as position whatever the padding.
        rotation = self._rotation(0, token_ids.shape[1], token_ids.device)
        mask = _attention_bias(attention_mask)
        state = self.embedding(token_ids)
        for block in self.blocks:
            query, key, value = block.project(state, rotation)
            attended = functional.scaled_dot_product_attention(
                query, key, value, attn_mask=mask, is_causal=mask is None
            )
            state = block.finish(state, attended)
        return self.norm(state)

    def head(self) -> OutputHead:
        """The output head: the embedding matrix when tied."""
        return OutputHead(self.embedding.weight if self.output is None else self.output.weight)

    @torch.no_grad()
    def start(
        self, token_ids: Int[Tensor, "batch time"], attention_mask: Bool[Tensor, "batch time"], max_new_tokens: int
    ) -> "TinyDecoding":
        """Read left-padded prompts and open a decoding.

        Args:
            token_ids: prompt ids ``[batch, time]``.
            attention_mask: True at real tokens; the last column must be real in every row.
            max_new_tokens: how many tokens the cache has room for.

        Returns:
            The decoding, whose `logits` are those of the first new token.

        Raises:
            ValueError: if a prompt is padded on the right.
        """
        check_left_padding(attention_mask)
        return TinyDecoding(self, token_ids, attention_mask, max_new_tokens)

    def save(self, folder: str | Path) -> None:
        """Write ``model.safetensors``, ``model.json`` and ``tokenizer.json`` into `folder`, each atomically."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / "model.safetensors") as temporary:
            save_file({name: tensor.contiguous() for name, tensor in self.state_dict().items()}, temporary)
        self.tokenizer.save(folder)
        write_atomically(folder / "model.json", json.dumps({"kind": "tiny", **self.settings}, indent=1).encode())

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a model that `save` wrote.

        Raises:
            ValueError: if ``model.json`` is not a tiny transformer's.
        """
        folder = Path(folder)
        settings = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        if settings.pop("kind", None) != "tiny":
            raise ValueError(f"folder: {folder / 'model.json'} does not describe a tiny transformer")
        model = cls(CharacterTokenizer.load(folder), **settings)
        model.load_state_dict(load_file(folder / "model.safetensors"))
        return model


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, width // heads
        self.attention_norm = nn.RMSNorm(width, eps=1e-6)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.feedforward_norm = nn.RMSNorm(width, eps=1e-6)
        self.gate_up = nn.Linear(width, 2 * feedforward, bias=False)
        self.down = nn.Linear(feedforward, width, bias=False)

    def project(self, state: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, time, _ = state.shape
        projected = self.query_key_value(self.attention_norm(state)).view(batch, time, 3, self.heads, self.head_width)
        # Pairs as complex numbers: one multiplication turns them, several times as fast as with sines and cosines.
        pairs = projected[:, :, :2].reshape(batch, time, 2 * self.heads, self.head_width // 2, 2)
        turned = torch.view_as_real(torch.view_as_complex(pairs) * rotation)
        query, key = turned.view(batch, time, 2, self.heads, self.head_width).unbind(2)
        return query.transpose(1, 2), key.transpose(1, 2), projected[:, :, 2].transpose(1, 2)

    def finish(self, state: Tensor, attended: Tensor) -> Tensor:
        state = state + self.attention_out(attended.transpose(1, 2).flatten(2))
        gate, up = self.gate_up(self.feedforward_norm(state)).chunk(2, dim=-1)
        return state + self.down(functional.silu(gate) * up)


class TinyDecoding:
    """A cached decoding of a `TinyTransformer`."""

    def __init__(self, model: TinyTransformer, token_ids: Tensor, attention_mask: Tensor, max_new_tokens: int) -> None:
        batch, prompt_length = token_ids.shape
        self._model = model
        self._length = prompt_length
        self._capacity = prompt_length + max_new_tokens
        shape = (len(model.blocks), 2, batch, model.heads, self._capacity, model.head_width)
        self._cache = torch.zeros(shape, dtype=model.embedding.weight.dtype, device=token_ids.device)
        self._padding: Tensor | None = None
        if not bool(attention_mask.all()):
            self._padding = torch.ones(batch, 1, 1, self._capacity, dtype=torch.bool, device=token_ids.device)
            self._padding[:, 0, 0, :prompt_length] = attention_mask

        rotation = model._rotation(0, prompt_length, token_ids.device)
        mask = _attention_bias(attention_mask)
        state = model.embedding(token_ids)
        for block, cache in zip(model.blocks, self._cache, strict=True):
            query, key, value = block.project(state, rotation)
            cache[0, :, :, :prompt_length], cache[1, :, :, :prompt_length] = key, value
            attended = functional.scaled_dot_product_attention(
                query, key, value, attn_mask=mask, is_causal=mask is None
            )
            state = block.finish(state, attended)
        self.logits = model.head().logits(model.norm(state[:, -1]))

    @torch.no_grad()
    def step(self, token_ids: Int[Tensor, " rows"]) -> Float[Tensor, "rows vocabulary"]:
        """Append one token to every row and return the logits of the next.

        Raises:
            ValueError: if the cache is full.
        """
        if self._length == self._capacity:
            raise ValueError(f"token_ids: the cache has room for {self._capacity} tokens and is full")
        model, position = self._model, self._length
        self._length += 1
        rotation = model._rotation(position, position + 1, token_ids.device)
        mask = None if self._padding is None else self._padding[..., : self._length]
        state = model.embedding(token_ids).unsqueeze(1)
        for block, cache in zip(model.blocks, self._cache, strict=True):
            query, key, value = block.project(state, rotation)
            cache[0, :, :, position], cache[1, :, :, position] = key[:, :, 0], value[:, :, 0]
            attended = functional.scaled_dot_product_attention(
                query, cache[0, :, :, : self._length], cache[1, :, :, : self._length], attn_mask=mask
            )
            state = block.finish(state, attended)
        self.logits = model.head().logits(model.norm(state[:, 0]))
        return self.logits

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Go on with these rows only, in this order; a row named twice is doubled."""
        cache = self._cache.new_zeros((*self._cache.shape[:2], len(rows), *self._cache.shape[3:]))
        cache[..., : self._length, :] = self._cache[..., : self._length, :].index_select(2, rows)
        self._cache = cache
        self._padding = None if self._padding is None else self._padding.index_select(0, rows)
        self.logits = self.logits.index_select(0, rows)


def _attention_bias(attention_mask: Tensor) -> Tensor | None:
    """Which keys each query sees, ``[batch, 1, time, time]``; None where causal attention alone hides all padding."""
    if bool((attention_mask[:, 1:] <= attention_mask[:, :-1]).all()):
        return None
    time = attention_mask.shape[1]
    causal = torch.ones(time, time, dtype=torch.bool, device=attention_mask.device).tril()
    # A padded query must see something, or its softmax is not a number and poisons the gradient: let it see itself.
    itself = torch.eye(time, dtype=torch.bool, device=attention_mask.device)
    return ((causal & attention_mask[:, None, :]) | itself)[:, None]
