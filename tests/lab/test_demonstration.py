"""What `make demo` shows, checked: minutes, so it runs in `make test-all`."""

import copy
import math

import pytest

from isentrope.lab.comparison import run_name
from isentrope.lab.experiment import Experiment, initial_policy, run
from isentrope.report.store import RunStore


@pytest.mark.slow
def test_control_holds_entropy_where_plain_grpo_spends_it(tmp_path):
    plain, held = Experiment(recipe="grpo"), Experiment(recipe="entropy_target", target_entropy="80%")
    start = initial_policy(plain)
    summaries = []
    for experiment in (plain, held):
        store = RunStore.create(tmp_path, run_name(experiment), experiment.config("test"))
        assert run(experiment, store, model=copy.deepcopy(start))
        summaries.append(store.summary)
    uncontrolled, controlled = summaries
    assert uncontrolled["entropy_end"] <= 0.5 * uncontrolled["entropy_start"]
    assert controlled["entropy_second_half"] == pytest.approx(controlled["target_entropy"], rel=0.1)
    error = math.hypot(uncontrolled["pass@8_stderr"], controlled["pass@8_stderr"])
    assert controlled["pass@8"] >= uncontrolled["pass@8"] - 2 * error
