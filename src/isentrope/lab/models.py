"""Language models of the laboratory: the contract that all of them keep.

A model is split where entropy is made. `LanguageModel.hidden` gives the state before the output layer and
`LanguageModel.head` the layer itself, so that log-probabilities and entropies can be taken at the positions that count
and in blocks, without ever holding all logits. `LanguageModel.start` opens a cached decoding.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from isentrope.lab.tokenizer import Tokenizer
from isentrope.measures.tokens import TokenStatistics, token_statistics, token_statistics_from_logits


@dataclass(frozen=True)
class OutputHead:
    """The output layer: logits = cap(scale · (W h + b)), with cap(z) = softcap · tanh(z / softcap).

    Attributes:
        weight: W, ``[vocabulary, width]``.
        bias: b, ``[vocabulary]``, or None.
        softcap: bound of the logits (Gemma's final softcap), or None for no cap.
        scale: factor of the logits before the cap (Cohere's ``logit_scale``, the inverse of Granite's
            ``logits_scaling``).
    """

    weight: Tensor
    bias: Tensor | None = None
    softcap: float | None = None
    scale: float = 1.0

    def logits(self, hidden: Float[Tensor, "*shape width"]) -> Float[Tensor, "*shape vocabulary"]:
        """Logits of `hidden`, in float32 (or float64 where the model is).

        Args:
            hidden: last hidden states, ``[..., width]``.

        Returns:
            Logits ``[..., vocabulary]``.

        Examples:
            >>> head = OutputHead(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), softcap=1.0)
            >>> head.logits(torch.tensor([[3.0, 0.0]]))
            tensor([[0.9951, 0.0000]])
        """
        logits = torch.nn.functional.linear(hidden, self.weight, self.bias)
        if logits.dtype in (torch.bfloat16, torch.float16):
            logits = logits.float()
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.softcap is not None:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        return logits

    def statistics(
        self,
        hidden: Float[Tensor, "tokens width"],
        token_ids: Int[Tensor, " tokens"],
        *,
        temperature: float,
        outputs: Sequence[str],
        top_k: int = 20,
        need_logits: bool = False,
        activation: Callable[[Tensor], Tensor] | None = None,
        block_size: int | None = None,
    ) -> tuple[TokenStatistics, Float[Tensor, "tokens vocabulary"] | None]:
        """Statistics of the next-token distributions after `hidden`, with the logits only where something needs them.

        Args:
            hidden: last hidden states, ``[tokens, width]``.
            token_ids: the tokens whose log-probability is wanted.
            temperature: divides the logits.
            outputs: names of `isentrope.measures.token_statistics`.
            top_k: how many tokens ``top_k_mass`` counts.
            need_logits: make all logits at once, and return them.
            activation: changes the logits after the temperature; they are then made all at once.
            block_size: tokens whose logits exist at the same time otherwise.

        Returns:
            The statistics in nats, and the logits after temperature and activation if they were made, else None.

        Examples:
            >>> head = OutputHead(torch.eye(2))
            >>> head.statistics(torch.zeros(1, 2), torch.tensor([0]), temperature=1.0, outputs=("entropy",))[0].entropy
            tensor([0.6931])
        """
        if need_logits or activation is not None:
            logits = self.logits(hidden) / temperature
            if activation is not None:
                logits = activation(logits)
            return token_statistics_from_logits(logits, token_ids, top_k=top_k, outputs=outputs), logits
        statistics = token_statistics(
            hidden,
            self.weight,
            token_ids,
            bias=self.bias,
            softcap=self.softcap,
            logit_scale=self.scale,
            temperature=temperature,
            top_k=top_k,
            outputs=outputs,
            block_size=block_size,
        )
        return statistics, None


class Decoding(Protocol):
    """A batch that is being generated: the cache of what was read, and the logits of what comes next."""

    @property
    def logits(self) -> Tensor:
        """Logits of the next token, ``[rows, vocabulary]``, float32."""
        ...

    def step(self, token_ids: Int[Tensor, " rows"]) -> Float[Tensor, "rows vocabulary"]:
        """Append one token to every row and return the logits of the next."""
        ...

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Go on with these rows only, in this order; a row named twice is doubled."""
        ...


class LanguageModel(torch.nn.Module, ABC):
    """A causal language model with its tokenizer.

    Batches are padded on the left, on the right or on both sides; `attention_mask` is True at real tokens, which are
    contiguous in each row, and what stands in padded positions has no influence on the others.
    """

    tokenizer: Tokenizer

    @abstractmethod
    def hidden(
        self, token_ids: Int[Tensor, "batch time"], attention_mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time width"]:
        """Hidden states before the output head, with gradient; undefined at padded positions."""

    @abstractmethod
    def head(self) -> OutputHead:
        """The output head that turns hidden states into logits."""

    @abstractmethod
    def start(
        self, token_ids: Int[Tensor, "batch time"], attention_mask: Bool[Tensor, "batch time"], max_new_tokens: int
    ) -> Decoding:
        """Read left-padded prompts and open a decoding of at most `max_new_tokens` further tokens, without gradient."""

    @abstractmethod
    def save(self, folder: str | Path) -> None:
        """Write weights (safetensors), configuration and tokenizer (JSON) into `folder`."""

    @classmethod
    @abstractmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a model that `save` wrote."""

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device


def check_left_padding(attention_mask: Tensor) -> None:
    """Raise a ValueError if a prompt ends in padding.

    Examples:
        >>> check_left_padding(torch.tensor([[False, True], [True, False]]))
        Traceback (most recent call last):
        ValueError: attention_mask: prompts are padded on the left, but row 1 ends in padding
    """
    if not bool(attention_mask[:, -1].all()):
        row = int((~attention_mask[:, -1]).nonzero()[0])
        raise ValueError(f"attention_mask: prompts are padded on the left, but row {row} ends in padding")
