"""Draw a comparison's entropy and pass@8, recipe by recipe, with bands of one standard error over seeds.

isentrope compare grpo entropy_target --seeds 5 --output runs/demonstration
python examples/picture_of_a_comparison.py runs/demonstration demonstration.png
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt

from isentrope.report import RunStore, list_runs, plot_entropy, plot_pass_at_k

folder, picture = Path(sys.argv[1]), Path(sys.argv[2])
recipes = sys.argv[3:]
runs = [RunStore.open(path) for path in list_runs(folder)]
runs = [run for run in runs if not recipes or run.config["recipe"] in recipes]

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
plot_entropy(runs, ax=left)
plot_pass_at_k(runs, ax=right)
figure.savefig(picture, dpi=150)
print(picture)
