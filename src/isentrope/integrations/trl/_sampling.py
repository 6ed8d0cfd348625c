"""Statistics of the policy that sampled, read off the logits it sampled from: a scoring pass that costs nothing."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from isentrope.measures import token_statistics_from_logits


class SamplingRecord:
    """What `transformers`' ``generate`` knew of each token when it drew it.

    ``generate`` calls the model once a token; each call's last logits are those that the next token is drawn from, and the
    next call says which token that was. Statistics are those of ``softmax(logits / temperature)``, before any top-k or
    top-p cut, as in a scoring pass. They differ from such a pass by rounding: a cached step adds in another order. Models
    with absolute positions (GPT-2) are another matter: `generate` counts positions from the first token of a prompt, TRL's
    passes from the first column of the padded block, so on padded rows the policy that samples is not the one TRL scores.

    Args:
        temperature: divides the logits.
        statistics: names of `isentrope.measures.token_statistics`.
    """

    def __init__(self, temperature: float, statistics: Sequence[str]):
        self._temperature, self._names = temperature, tuple(statistics)
        self._logits: Tensor | None = None  # of the token that is not known yet
        self._columns: list[tuple[Tensor, ...]] = []
        self._tokens: list[Tensor] = []
        self._generations = 0

    @contextmanager
    def watching(self, model: torch.nn.Module) -> Iterator[None]:
        """Read every call of this model: one generation, and nothing else, belongs in here."""
        self._generations += 1
        handle = model.register_forward_hook(self._read, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    def scores(self, token_ids: Tensor, mask: Tensor) -> dict[str, Tensor] | None:
        """The statistics ``[B, T]`` of these completions, 0 outside the mask.

        None if they are not what one generation drew: tools ran in between, another engine sampled, or somebody changed
        the tokens.
        """
        width = token_ids.shape[1]
        if self._generations != 1:
            return None
        if self._logits is None or len(self._logits) != len(token_ids) or not width or len(self._tokens) < width - 1:
            return None
        tokens, columns = self._tokens[:width], self._columns[:width]
        if len(tokens) < width:
            tokens, columns = [*tokens, token_ids[:, -1]], [*columns, self._statistics(self._logits, token_ids[:, -1])]
        if not torch.equal(torch.stack(tokens, 1)[mask], token_ids[mask]):
            return None
        values = (torch.stack(column, 1) for column in zip(*columns, strict=True))
        return {name: torch.where(mask, value, 0) for name, value in zip(self._names, values, strict=True)}

    def _read(self, module: torch.nn.Module, arguments: tuple, options: dict[str, Any], output: Any) -> None:
        logits, token_ids = getattr(output, "logits", None), options.get("input_ids")
        if logits is None or token_ids is None or options.get("fused_lm_head"):
            return
        if self._logits is None or len(token_ids) != len(self._logits):
            self._columns, self._tokens = [], []
        else:
            self._tokens.append(token_ids[:, -1])
            self._columns.append(self._statistics(self._logits, token_ids[:, -1]))
        # A compiled model writes its next output over this one.
        self._logits = logits[:, -1].detach().clone()

    def _statistics(self, logits: Tensor, token_ids: Tensor) -> tuple[Tensor, ...]:
        found = token_statistics_from_logits(logits, token_ids, temperature=self._temperature, outputs=self._names)
        return tuple(getattr(found, name).float() for name in self._names)
