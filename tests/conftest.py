import os

# Before anything imports torch: its idle OpenMP threads must sleep, and a worker of pytest-xdist takes one core.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("KMP_BLOCKTIME", "0")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# The suite needs no network, and must not find out by waiting for one.
os.environ["HF_HUB_OFFLINE"] = "1"

import signal

import hypothesis
import jaxtyping
import numpy as np
import pytest

# In these rooms shapes and types in the signatures are checked in every call that the tests make. The hook decorates
# single methods and the constructors of dataclasses, which three rooms do not bear: in `policy` a schedule may stand in
# every field that is a number, `lab` takes protocols that are not runtime-checkable, and `report` returns `typing.Self`.
CHECKED_ROOMS = (
    "adaptation",
    "coding",
    "decoding",
    "estimators",
    "inspection",
    "measures",
    "physics",
    "training",
    "uncertainty",
)
# As for a static type checker, an int passes for a float. The hook takes its type checker as source text.
jaxtyping.install_import_hook(
    [f"isentrope.{room}" for room in CHECKED_ROOMS],
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
)

# Deterministic, and without a deadline: the machine that runs the tests may be busy.
hypothesis.settings.register_profile("isentrope", derandomize=True, deadline=None)
hypothesis.settings.load_profile("isentrope")

# Where a shell runs the suite in the background, interrupts are ignored, and what the tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

TIMING = {"seconds", "seconds_sampling", "tokens_per_second", "memory_mb"}


@pytest.fixture(scope="session")
def assert_same_metrics():
    """That two runs have the same numbers at every step, bit for bit, but for those that measure the machine."""

    def check(first, second):
        one, other = first.metrics(), second.metrics()
        assert one.keys() == other.keys()
        for name in one.keys() - TIMING:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)

    return check
