"""OpenMP settings that must be made before torch is imported."""

import os
import sys


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
        os.environ.setdefault("OMP_NUM_THREADS", str(min(len(os.sched_getaffinity(0)), 8)))
