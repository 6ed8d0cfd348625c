"""Whatever is given instead of numbers and laws: an error that names the argument, or an answer without NaN.

The calls run in a process of their own, without the checks of types that the tests add.
"""

import json
import subprocess
import sys

CALLS = """
import json
import warnings
import numpy as np
import pandas as pd
from isentrope import measures

warnings.simplefilter("ignore")
square, chain, truth = np.full((2, 2), 0.25), [[0.5, 0.5], [0.2, 0.8]], [[1.0, 0.2], [0.1, 1.0]]
uniform, law, values = [1.0, 1.0, 1.0], [0.3, 0.7], [0.0, 1.0, 2.0]
calls = {
    "maximum_entropy": dict(features=values, means=1.2, stderr=0.1, prior=uniform, base=2),
    "maximum_entropy_between": dict(features=values, low=1.2, high=1.5, prior=uniform, base=2),
    "gibbs_distribution": dict(features=values, multipliers=1.2, prior=uniform, base=2),
    "nested_information": dict(features=[[0, 1], [1, 2], [2, 5]], means=[1.2, 3.0], levels=[1, 1], prior=uniform, base=2),
    "maximum_caliber": dict(currents=[[0, 1], [0, 0]], means=0.3, prior=np.ones((2, 2)), base=2),
    "path_ensemble": dict(initial=law, transitions=chain, current=[[0, 1], [-1, 0]], forces=[0.1, 0.2]),
    "information_loss": dict(initial=law, transitions=chain, reverse=chain, base=2),
    "minimum_entropy_coupling": dict(marginal_0=law, marginal_1=[0.5, 0.5], base=2),
    "entropy_bounded_encoder": dict(p=law, max_entropy=0.3, base=2),
    "coupling_with_bottleneck": dict(p=law, q=[0.5, 0.5], max_entropy=0.3, base=2),
    "synergy_bounds": dict(target_first=square, target_second=square, sources=square, base=2),
    "truth_function": dict(channel=chain),
    "semantic_information": dict(p=law, truth=truth, base=2),
    "semantic_mutual_information": dict(joint=square, truth=truth, base=2),
    "semantic_rate": dict(p=law, truth=truth, slope=1.0, base=2),
    "informative_labels": dict(joint=square, n_labels=2, n_starts=2, rng=0, base=2),
    "confirmation": dict(joint=square),
    "common_variable": dict(x=[0, 0, 1], y=[0, 1, 1], p=[0.2, 0.3, 0.5]),
    "complementary_variable": dict(x=[0, 1, 2], y=[0, 1, 1], p=[0.2, 0.3, 0.5]),
    "shannon_distance": dict(x=[0, 0, 1], y=[0, 1, 1], p=[0.2, 0.3, 0.5], base=2),
    "rajski_distance": dict(x=[0, 0, 1], y=[0, 1, 1], p=[0.2, 0.3, 0.5]),
    "reconstruction": dict(x=[0, 1, 2], components=[[0, 1, 1], [0, 0, 1]], p=[0.2, 0.3, 0.5], base=2),
    "structural_entropy": dict(counts=[1, 2, 3], axis=0, base=2),
    "consolidated_entropy": dict(parcels=10, pick_up=[1, 2], chained=0.5, base=2),
}
bad = [
    "a", ["a", "b"], ["0.5", "0.5"], b"ab", None, np.nan, np.inf, -1.0, [], [np.nan, 0.5], [np.inf, 0.0], [-0.5, 1.5], [1.0],
    [[1.0, 2.0], [1.0]], [[0.5, 0.5]], np.zeros((1, 0)), np.zeros((0, 2)), np.zeros((2, 2, 2)), [0.0, 0.0, 0.0], [1j, 0.0],
    [object(), 1.0], {"a": 1}, {0.5, 0.2}, len, [0.5, 0.6], [1e308, 1e308, 1e308], True, 0, pd.Series([0.5, 0.5]),
    pd.Series([1, None, 2], dtype="Int64"), pd.DataFrame({"a": [0.5, 0.5]}), pd.Timestamp("2020-01-01"),
]
faults = {}
for name, good in calls.items():
    faults[name] = []
    for argument in good:
        for value in bad:
            given = {**good, argument: value}
            marginals = [given.pop(key) for key in list(given) if key.startswith("marginal")]
            try:
                found = getattr(measures, name)(*marginals, **given)
            except (ValueError, TypeError) as error:
                named = any(key.replace("_", " ") in str(error).replace("_", " ") for key in [*good, "component"])
                if not (named and str(error).startswith(f"{name}:")):
                    faults[name].append(f"{argument} = {value!r}: {error}")
            except Exception as error:
                faults[name].append(f"{argument} = {value!r}: {error!r}")
            else:
                parts = vars(found).values() if hasattr(found, "__dataclass_fields__") else [found]
                if any(np.isnan(part).any() for part in parts if not isinstance(part, str)):
                    faults[name].append(f"{argument} = {value!r}: NaN")
print(json.dumps(faults))
"""


def test_bad_values_are_named():
    run = subprocess.run([sys.executable, "-c", CALLS], capture_output=True, text=True, check=True)
    faults = json.loads(run.stdout.splitlines()[-1])
    assert len(faults) == 24
    assert {name: found for name, found in faults.items() if found} == {}
