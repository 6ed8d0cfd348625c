"""Time and memory of token statistics against the ways others compute them.

    python benchmarks/token_statistics.py                        # 2,048 tokens, vocabulary 49,152, width 576, float32
    python benchmarks/token_statistics.py --threads 1 2 --save   # and write benchmarks/results/token_statistics.md

Each method runs in a process of its own, so that its peak memory is its own. "Extra" is how far the peak exceeds what
the process held before, with inputs in place and libraries warm: it includes the 4 V d bytes of the weight's gradient,
which no method avoids. All methods return the log-probability of given tokens and the entropy, with gradients by hidden
states and weight of a loss that uses both; the last one returns every statistic, and its loss uses every one.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

BLOCK = 256


def full_logits(hidden, weight, token_ids):
    import torch

    log_p = torch.log_softmax(hidden @ weight.T, -1)
    return log_p.gather(1, token_ids.unsqueeze(1)).squeeze(1), -(log_p.exp() * log_p).sum(-1)


def checkpointed_blocks(hidden, weight, token_ids):
    import torch
    from torch.utils.checkpoint import checkpoint

    blocks = [
        checkpoint(full_logits, hidden_block, weight, ids_block, use_reentrant=False)
        for hidden_block, ids_block in zip(hidden.split(BLOCK), token_ids.split(BLOCK), strict=True)
    ]
    return [torch.cat(parts) for parts in zip(*blocks, strict=True)]


def trl(hidden, weight, token_ids):
    from trl.kernels import ChunkedLogProbFunction
    from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE

    log_probs, entropy, *_ = ChunkedLogProbFunction.apply(
        hidden, weight, None, token_ids, 1.0, _CHUNKED_LOGPROB_CHUNK_SIZE, None, 1.0, ("log_probs", "entropy")
    )
    return log_probs, entropy


def isentrope_two(hidden, weight, token_ids):
    from isentrope.measures import token_statistics

    result = token_statistics(hidden, weight, token_ids, block_size=BLOCK)
    return result.log_probs, result.entropy


def isentrope_all(hidden, weight, token_ids):
    from isentrope.measures import TokenStatistics, token_statistics

    return token_statistics(hidden, weight, token_ids, outputs=TokenStatistics._fields, block_size=BLOCK)


METHODS = {
    "full logits, log_softmax": full_logits,
    f"checkpointed blocks of {BLOCK}": checkpointed_blocks,
    "TRL, chunked head (CPU path)": trl,
    "isentrope, 2 statistics": isentrope_two,
    "isentrope, all 7 statistics": isentrope_all,
}


def measure(method: str, tokens: int, vocabulary: int, width: int, threads: int) -> dict:
    """Time one method in this process."""
    import torch

    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    # Logits with a standard deviation of about 2.4: some nats of entropy, as a language model has.
    hidden = torch.randn(tokens, width, generator=generator)
    weight = torch.randn(vocabulary, width, generator=generator).mul_(0.1)
    token_ids = torch.randint(vocabulary, (tokens,), generator=generator)
    compute = METHODS[method]

    small = hidden[:4].clone().requires_grad_()
    sum(output.sum() for output in compute(small, weight[:512], token_ids[:4] % 512)).backward()
    hidden.requires_grad_()
    weight.requires_grad_()

    held_before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
    start = time.perf_counter()
    outputs = compute(hidden, weight, token_ids)
    middle = time.perf_counter()
    sum(output.mean() for output in outputs).backward()
    end = time.perf_counter()
    return {
        "forward": middle - start,
        "backward": end - middle,
        "extra_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - held_before,
        "entropy": float(outputs[1].mean()),
    }


def rows_of(arguments: argparse.Namespace, threads: int) -> list[dict]:
    """Measure every method, each time in a fresh process, in turns, so that other work on the machine meets all alike."""
    rows = {method: {"method": method, "forward": [], "backward": [], "extra_mb": 0.0} for method in METHODS}
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
    for _ in range(arguments.repeats):
        for method, row in rows.items():
            command = [sys.executable, __file__, "--method", method, "--threads", str(threads)]
            for name in ("tokens", "vocabulary", "width"):
                command += [f"--{name}", str(getattr(arguments, name))]
            answer = subprocess.run(command, capture_output=True, text=True, env=environment)
            if answer.returncode:
                sys.exit(f"{method}: {answer.stderr.strip().splitlines()[-1]}")
            one = json.loads(answer.stdout.splitlines()[-1])
            row["forward"].append(one["forward"])
            row["backward"].append(one["backward"])
            row["extra_mb"] = max(row["extra_mb"], one["extra_mb"])
            row["entropy"] = one["entropy"]
    return list(rows.values())


HEADINGS = ("method", "forward, s (best)", "backward, s (best)", "extra, MB", "mean entropy, nats")


def cells(row: dict) -> tuple[str, ...]:
    return (
        row["method"],
        *(f"{statistics.median(row[phase]):.2f} ({min(row[phase]):.2f})" for phase in ("forward", "backward")),
        f"{row['extra_mb']:.0f}",
        f"{row['entropy']:.5f}",
    )


def facts(arguments: argparse.Namespace, load_before: float) -> str:
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    return (
        f"{arguments.tokens:,} tokens, vocabulary {arguments.vocabulary:,}, width {arguments.width}, float32, weight with "
        f"gradient; median of {arguments.repeats} runs, the best in brackets. {processor}, {os.cpu_count()} cores; Python "
        f"{platform.python_version()}, torch {version('torch')}, trl {version('trl')}. Load average "
        f"{load_before:.1f} before, {os.getloadavg()[0]:.1f} after (1 minute; the benchmark itself adds the threads it uses)."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of token statistics.")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--vocabulary", type=int, default=49_152)
    parser.add_argument("--width", type=int, default=576)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/token_statistics.md")
    parser.add_argument("--method", choices=METHODS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.method:
        sizes = (arguments.tokens, arguments.vocabulary, arguments.width, arguments.threads[0])
        print(json.dumps(measure(arguments.method, *sizes)))
        return

    load_before = os.getloadavg()[0]
    console = Console()
    text = ["# Token statistics: time and memory", ""]
    for threads in arguments.threads:
        title = f"{threads} thread{'s' if threads > 1 else ''}"
        rows = rows_of(arguments, threads)
        table = Table(*HEADINGS, title=title)
        for row in rows:
            table.add_row(*cells(row))
        console.print(table)
        text += [f"## {title}", "", f"| {' | '.join(HEADINGS)} |", "|---|" + "---:|" * (len(HEADINGS) - 1)]
        text += [f"| {' | '.join(cells(row))} |" for row in rows]
        text.append("")
    described = facts(arguments, load_before)
    console.print(described)
    if arguments.save:
        from isentrope._files import write_atomically

        text += [described, "", "Made by `benchmarks/token_statistics.py`, which says what is measured.", ""]
        target = Path(__file__).parent / "results" / "token_statistics.md"
        target.parent.mkdir(exist_ok=True)
        write_atomically(target, "\n".join(text).encode())


if __name__ == "__main__":
    main()
