"""Time and memory of token statistics on a GPU against the ways others compute them, and against what the GPU allows.

    python benchmarks/token_statistics_gpu.py           # print the tables
    python benchmarks/token_statistics_gpu.py --save    # and write benchmarks/results/token_statistics_gpu.md

All methods return the log-probability of given tokens and the entropy, with gradients by hidden states and weight of a
loss that uses both; the last one returns every statistic, and its loss uses every one. "Extra" is how far the peak of
allocated memory exceeds the inputs, gradients of hidden states and weight included. "Error" is the largest deviation of
the entropy from float64 on 64 of the tokens.

The limit is that of a program that reads its inputs and writes its outputs once, does the matrix products that nothing
avoids (one forward; backward the same again, and one for each gradient), and does all else at no cost: the larger of the
products' operations over the rate of a large matrix product, and the bytes over the rate of a copy, both measured in the
same run. Products in float32 use TensorFloat32 only where --tf32 says so.
"""

import argparse
import statistics
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from isentrope._files import write_atomically
from isentrope.measures import TokenStatistics, token_statistics

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
HEADINGS = ("method", "forward, ms", "backward, ms", "extra, MB", "error, nats")


def full_logits(hidden, weight, token_ids):
    log_p = torch.log_softmax((hidden @ weight.T).float(), -1)
    return log_p.gather(1, token_ids.unsqueeze(1)).squeeze(1), -(log_p.exp() * log_p).sum(-1)


def trl(hidden, weight, token_ids):
    from trl.kernels import ChunkedLogProbFunction
    from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE

    return ChunkedLogProbFunction.apply(
        hidden, weight, None, token_ids, 1.0, _CHUNKED_LOGPROB_CHUNK_SIZE, None, 1.0, ("log_probs", "entropy")
    )[:2]


def isentrope_two(hidden, weight, token_ids):
    return token_statistics(hidden, weight, token_ids)[:2]


def isentrope_all(hidden, weight, token_ids):
    return token_statistics(hidden, weight, token_ids, outputs=TokenStatistics._fields)


METHODS = {
    "full logits, log_softmax": full_logits,
    "TRL, chunked head (Triton)": trl,
    "isentrope, 2 statistics": isentrope_two,
    "isentrope, all 7 statistics": isentrope_all,
}


def milliseconds(work: Callable[[], object], repeats: int) -> float:
    """Median time of the work on the GPU, after one run that warms up."""
    work()
    times = []
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def rates(dtype: torch.dtype, repeats: int) -> tuple[float, float]:
    """Operations a second of a large matrix product, and bytes a second of a copy (read and written)."""
    left, right = torch.randn(2, 8192, 8192, device="cuda", dtype=dtype)
    product = torch.empty_like(left)
    operations = 2 * 8192**3 / (milliseconds(lambda: torch.mm(left, right, out=product), repeats) / 1e3)
    source = torch.empty(1 << 30, device="cuda", dtype=torch.uint8)
    target = torch.empty_like(source)
    return operations, 2 * source.numel() / (milliseconds(lambda: target.copy_(source), repeats) / 1e3)


def measure(compute: Callable, hidden, weight, token_ids, exact, repeats: int) -> tuple[str, ...]:
    """Forward and backward time, memory and error of one method."""
    hidden, weight = hidden.detach().requires_grad_(), weight.detach().requires_grad_()
    forward, backward = [], []
    held = torch.cuda.memory_allocated()
    for _ in range(repeats + 1):
        hidden.grad = weight.grad = None
        torch.cuda.reset_peak_memory_stats()
        events = [torch.cuda.Event(enable_timing=True) for _ in range(3)]
        events[0].record()
        outputs = compute(hidden, weight, token_ids)
        events[1].record()
        loss = torch.stack([output.mean() for output in outputs]).sum()
        loss.backward()
        events[2].record()
        torch.cuda.synchronize()
        forward.append(events[0].elapsed_time(events[1]))
        backward.append(events[1].elapsed_time(events[2]))
        extra = torch.cuda.max_memory_allocated() - held
        error = float((outputs[1][: len(exact)].detach().double() - exact).abs().max())
        del outputs, loss
    # The first run compiles.
    times = [statistics.median(phase[1:]) for phase in (forward, backward)]
    return f"{times[0]:.2f}", f"{times[1]:.2f}", f"{extra / 2**20:.0f}", f"{error:.1e}"


def rows_of(tokens: int, vocabulary: int, width: int, dtype: torch.dtype, repeats: int) -> list[tuple[str, ...]]:
    generator = torch.Generator("cuda").manual_seed(0)
    # Logits with a standard deviation of about 2.4: some nats of entropy, as a language model has.
    hidden = torch.randn(tokens, width, generator=generator, device="cuda").to(dtype)
    weight = torch.randn(vocabulary, width, generator=generator, device="cuda").mul_(2.4 * width**-0.5).to(dtype)
    token_ids = torch.randint(vocabulary, (tokens,), generator=generator, device="cuda")
    log_p = torch.log_softmax(hidden[:64].double() @ weight.double().T, -1)
    exact = -(log_p.exp() * log_p).sum(-1)
    del log_p
    rows = []
    for method, compute in METHODS.items():
        torch.cuda.empty_cache()
        try:
            rows.append((method, *measure(compute, hidden, weight, token_ids, exact, repeats)))
        except torch.OutOfMemoryError:
            rows.append((method, "out of memory", "", "", ""))
    operations, bandwidth = rates(dtype, repeats)
    products = 2 * tokens * vocabulary * width / operations
    once = (hidden.nbytes + weight.nbytes) / bandwidth
    times = max(products, once), max(3 * products, 2 * once)
    gradients = (hidden.nbytes + weight.nbytes) / 2**20
    return [*rows, ("limit", *(f"{1e3 * time:.2f}" for time in times), f"{gradients:.0f}", "")]


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of token statistics on a GPU.")
    parser.add_argument("--tokens", type=int, nargs="+", default=[2048, 16_384])
    parser.add_argument("--vocabulary", type=int, nargs="+", default=[49_152, 151_936])
    parser.add_argument("--width", type=int, nargs="+", default=[576, 4096])
    parser.add_argument("--dtype", choices=DTYPES, nargs="+", default=list(DTYPES))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--tf32", action="store_true", help="let products in float32 use TensorFloat32")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/token_statistics_gpu.md")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("token_statistics_gpu: no CUDA device here, nothing measured")
        return
    torch.backends.cuda.matmul.allow_tf32 = arguments.tf32
    described = (
        f"{torch.cuda.get_device_name()}; torch {torch.__version__}, triton {version('triton')}, trl {version('trl')}; "
        f"TensorFloat32 {'on' if arguments.tf32 else 'off'}; median of {arguments.repeats} runs."
    )
    console = Console()
    console.print(described)
    text = ["# Token statistics on a GPU: time and memory", "", described, ""]
    cases = [
        (name, tokens, vocabulary, width)
        for name in arguments.dtype
        for tokens in arguments.tokens
        for vocabulary in arguments.vocabulary
        for width in arguments.width
    ]
    for name, tokens, vocabulary, width in cases:
        title = f"{name}, {tokens:,} tokens, vocabulary {vocabulary:,}, width {width:,}"
        rows = rows_of(tokens, vocabulary, width, DTYPES[name], arguments.repeats)
        table = Table(*HEADINGS, title=title)
        for row in rows:
            table.add_row(*row)
        console.print(table)
        text += [f"## {title}", "", f"| {' | '.join(HEADINGS)} |", "|---|" + "---:|" * (len(HEADINGS) - 1)]
        text += [f"| {' | '.join(row)} |" for row in rows] + [""]
    if arguments.save:
        text += ["Made by `benchmarks/token_statistics_gpu.py`, which says what is measured.", ""]
        target = Path(__file__).parent / "results" / "token_statistics_gpu.md"
        target.parent.mkdir(exist_ok=True)
        write_atomically(target, "\n".join(text).encode())


if __name__ == "__main__":
    main()
