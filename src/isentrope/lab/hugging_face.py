"""Any causal language model of `transformers` as a `LanguageModel` of the laboratory."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from isentrope.lab.models import LanguageModel, OutputHead, check_left_padding


class HuggingFaceTokenizer:
    """A tokenizer of `transformers` as the laboratory wants it; prompts go through the chat template if there is one.

    Args:
        tokenizer: a `transformers` tokenizer with an end-of-sequence token. The end token also pads where there is no
            padding token.

    Raises:
        ValueError: if the tokenizer has no end-of-sequence token.
    """

    def __init__(self, tokenizer: Any) -> None:
        if tokenizer.eos_token_id is None:
            raise ValueError(f"tokenizer: {type(tokenizer).__name__} has no end-of-sequence token")
        self.tokenizer = tokenizer
        self.eos_id: int = tokenizer.eos_token_id
        self.pad_id: int = self.eos_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id

    def __len__(self) -> int:
        """Number of token ids."""
        return len(self.tokenizer)

    def encode(self, text: str) -> list[int]:
        """Token ids of `text` as it stands."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def encode_prompt(self, text: str) -> list[int]:
        """Token ids of `text` as a user's turn, up to where the answer begins; plain text where there is no template."""
        if self.tokenizer.chat_template is None:
            return self.tokenizer(text)["input_ids"]
        turn = [{"role": "user", "content": text}]
        return self.tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=False)

    def decode(self, token_ids: Iterable[int]) -> str:
        """Text of `token_ids`, special tokens left out."""
        return self.tokenizer.decode(list(token_ids), skip_special_tokens=True)

    def tokens(self, token_ids: Iterable[int]) -> list[str]:
        """Each token as a string to show."""
        return [self.tokenizer.decode([index]) for index in token_ids]

    def save(self, folder: str | Path) -> None:
        """Write the tokenizer's files into `folder`."""
        self.tokenizer.save_pretrained(folder)


class HuggingFaceModel(LanguageModel):
    """A causal language model of `transformers`, with or without LoRA adapters of `peft`.

    Dropout never acts: a policy that is scored must be the policy that was sampled.

    Args:
        model: a causal model, or a `peft` model around one.
        tokenizer: its `transformers` tokenizer.

    Raises:
        ValueError: if the model's logits are not those of its output layer applied to the hidden states of its decoder.
    """

    tokenizer: HuggingFaceTokenizer

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = HuggingFaceTokenizer(tokenizer)
        self.train(model.training)
        self._check_head()

    @property
    def _causal(self) -> Any:
        return self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model

    def train(self, mode: bool = True) -> Self:
        """Set the mode of this module; the wrapped model stays in evaluation mode."""
        super().train(mode)
        self.model.eval()
        return self

    def hidden(
        self, token_ids: Int[Tensor, "batch time"], attention_mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time width"]:
        """Hidden states before the output head, with gradient; undefined at padded positions."""
        return self._read(token_ids, attention_mask, _positions(attention_mask), use_cache=False).last_hidden_state

    def head(self) -> OutputHead:
        """The output head, with the cap and the scale of the families that have them."""
        return output_head(self._causal)

    def start(
        self, token_ids: Int[Tensor, "batch time"], attention_mask: Bool[Tensor, "batch time"], max_new_tokens: int
    ) -> "HuggingFaceDecoding":
        """Read left-padded prompts and open a decoding; the cache grows as needed.

        Raises:
            ValueError: if a prompt is padded on the right.
        """
        check_left_padding(attention_mask)
        return HuggingFaceDecoding(self, token_ids, attention_mask)

    def save(self, folder: str | Path) -> None:
        """Write the model (only the adapters where there are some) and the tokenizer, each file atomically.

        What is written is a folder of `transformers` (or `peft`), which either loads.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".saving-", dir=folder.parent) as name:
            self.model.save_pretrained(name)
            self.tokenizer.save(name)
            # The weights last: a folder that has them is complete.
            for path in sorted(Path(name).iterdir(), key=lambda path: path.suffix == ".safetensors"):
                os.replace(path, folder / path.name)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a model that `save` wrote; adapters come back trainable."""
        model, tokenizer = from_pretrained(str(folder), dtype=None)
        return cls(model, tokenizer)

    def _read(self, token_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, **cache: Any) -> Any:
        return self._causal.get_decoder()(
            input_ids=token_ids, attention_mask=attention_mask, position_ids=position_ids, **cache
        )

    @torch.no_grad()
    def _check_head(self) -> None:
        # Families differ in what they do between the decoder and the logits; a wrong guess would be a silent number.
        token_ids = torch.tensor([[self.tokenizer.eos_id, 0]], device=self.device)
        everything = torch.ones_like(token_ids, dtype=torch.bool)
        expected = self._causal(input_ids=token_ids).logits.float()
        difference = float((self.head().logits(self.hidden(token_ids, everything)) - expected).abs().max())
        if not difference <= 1e-2 * max(1.0, float(expected.abs().max())):
            raise ValueError(
                f"model: the logits of {type(self._causal).__name__} are not its output layer applied to its last hidden "
                f"states (they differ by {difference:.3g}); this family is not supported"
            )


class HuggingFaceDecoding:
    """A cached decoding of a `HuggingFaceModel`."""

    @torch.no_grad()
    def __init__(self, model: HuggingFaceModel, token_ids: Tensor, attention_mask: Tensor) -> None:
        self._model = model
        self._mask = attention_mask
        self._head = model.head()
        position_ids = _positions(attention_mask)
        self._next_position = position_ids[:, -1:] + 1
        read = model._read(token_ids, attention_mask, position_ids, use_cache=True)
        self._cache = read.past_key_values
        self.logits = self._head.logits(read.last_hidden_state[:, -1])

    @torch.no_grad()
    def step(self, token_ids: Int[Tensor, " rows"]) -> Float[Tensor, "rows vocabulary"]:
        """Append one token to every row and return the logits of the next."""
        self._mask = torch.cat((self._mask, self._mask.new_ones(len(token_ids), 1)), 1)
        read = self._model._read(
            token_ids[:, None], self._mask, self._next_position, past_key_values=self._cache, use_cache=True
        )
        self._next_position = self._next_position + 1
        self.logits = self._head.logits(read.last_hidden_state[:, -1])
        return self.logits

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Go on with these rows only, in this order; a row named twice is doubled."""
        self._cache.batch_select_indices(rows)
        self._mask, self._next_position = self._mask[rows], self._next_position[rows]
        self.logits = self.logits[rows]


def output_head(causal_model: Any) -> OutputHead:
    """The output head of a causal model of `transformers`, with the cap and the scale of the families that have them.

    Families name the scale of their logits differently: Cohere ``logit_scale``, Falcon-H1 ``lm_head_multiplier``, others
    ``output_multiplier``; Granite divides by ``logits_scaling``, by which HyperCLOVA X multiplies.
    """
    layer = causal_model.get_output_embeddings()
    config = causal_model.config.get_text_config()
    names = ("logit_scale", "output_multiplier", "lm_head_multiplier")
    scale = next((value for name in names if (value := getattr(config, name, None)) is not None), None)
    if scale is None and getattr(config, "logits_scaling", None) is not None:
        scale = config.logits_scaling if config.model_type == "hyperclovax" else 1 / config.logits_scaling
    return OutputHead(
        weight=layer.weight,
        bias=getattr(layer, "bias", None),
        softcap=getattr(config, "final_logit_softcapping", None),
        scale=1.0 if scale is None else scale,
    )


def _positions(attention_mask: Tensor) -> Tensor:
    """Positions counted from the first real token."""
    return (attention_mask.long().cumsum(-1) - 1).clamp_(min=0)


def from_pretrained(folder: str, dtype: torch.dtype | None) -> tuple[Any, Any]:
    """The model and tokenizer of a folder that `transformers` or `peft` wrote; only safetensors are read."""
    transformers = import_transformers()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    dtype = torch.float32 if dtype is None else dtype
    if (Path(folder) / "adapter_config.json").is_file():
        model = import_peft().AutoPeftModelForCausalLM.from_pretrained(folder, is_trainable=True, dtype=dtype)
    else:
        # Other weight files are pickles, which could run anything.
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True)
    return model, tokenizer


def import_transformers() -> Any:
    """The module `transformers`, or an ImportError that says how to install it."""
    try:
        import transformers
    except ImportError as error:
        raise ImportError("real language models need transformers: pip install isentrope[lm]") from error
    return transformers


def import_peft() -> Any:
    """The module `peft`, or an ImportError that says how to install it."""
    try:
        import peft
    except ImportError as error:
        raise ImportError("LoRA adapters need peft: pip install isentrope[lm]") from error
    return peft
