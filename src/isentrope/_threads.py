"""How many threads there may be, and OpenMP settings that must be made before torch is imported."""

import os
import sys
from numbers import Integral


def settle_threads() -> None:
    """Let idle OpenMP threads sleep instead of spinning, and use no more threads than this process may run on.

    torch's CPU build starts an OpenMP team whose threads spin at barriers. On cores shared with other work the
    spinning has been measured to slow a training step by a factor of eight. A value that the user has set is kept.
    Nothing is done once torch is loaded, because the runtime reads its environment only at start.
    """
    if "torch" in sys.modules:
        return
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("KMP_BLOCKTIME", "0")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if hasattr(os, "sched_getaffinity"):
        os.environ.setdefault("OMP_NUM_THREADS", str(min(cores(), 8)))


def cores() -> int:
    """The processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_of(where: str, n_jobs: int) -> int:
    """The number of threads that an argument ``n_jobs`` asks for."""
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, Integral) or (n_jobs < 1 and n_jobs != -1):
        raise ValueError(f"{where}: n_jobs must be positive, or -1 for all cores (got {n_jobs!r})")
    return cores() if n_jobs == -1 else int(n_jobs)
