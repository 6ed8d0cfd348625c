"""Table and pictures of the comparison of all recipes, from the Parquet file that it leaves behind.

    isentrope compare --all --seeds 3 --jobs 2 --output runs/all
    cp runs/all/comparison.parquet docs/comparison/comparison.parquet
    python benchmarks/comparison.py docs/comparison/comparison.parquet docs/comparison/first-comparison.parquet

Writes two pictures to `docs/images`, and to `benchmarks/results/comparison.md` what `docs/comparison.md` shows. A second file
is an earlier comparison, and the table then says where the two agree.
"""

import sys
from collections.abc import Sequence
from itertools import product
from math import cos, pi, sin
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox
from scipy.stats import spearmanr

from isentrope._files import replacing, write_atomically
from isentrope.lab.laboratory_settings import COMBINATIONS, SETTINGS
from isentrope.lab.ranking import COMPARED, HEADINGS, Record, Standing, marks, read_records, shown, standings
from isentrope.report.palette import MUTED, series_color

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "benchmarks" / "results" / "comparison.md"
IMAGES = ROOT / "docs" / "images"

CURVES = (
    "dapo", "entropy_bonus", "clip_cov", "kl_cov", "entropy_target", "entropic", "qae", "beyond_80_20",
    "siren", "em_rl", "ttrl", "qae + entropy_target",
)  # fmt: skip
"""The recipes whose entropy is drawn step by step."""

INTACT = 0.6
"""A recipe with a lower pass@8 has destroyed the policy, and orders nothing among those that have not."""

CROWD = 0.1
"""Recipes whose pass@8 lies within so much of the median are drawn enlarged."""

COMBINED = frozenset(setting.text for setting in COMBINATIONS)


def markdown(records: Sequence[Record]) -> str:
    """The pictures, the table, what chance alone would mark, and the settings that are not the published ones."""
    ranked = standings(records)
    lines = [
        "![Entropy and pass@8 after training, a dot for each recipe](images/comparison.png)",
        "",
        "![Entropy step by step of a dozen recipes](images/comparison-entropy.png)",
        "",
    ]
    lines += ["| " + " | ".join(HEADINGS) + " |", "|---|" + "---:|" * (len(HEADINGS) - 1)]
    for standing in ranked:
        recipe, *cells = shown(standing)
        lines.append(f"| `{recipe}` | " + " | ".join(cells).replace("*", r"\*") + " |")
    before = {key: float(np.mean([row[f"{key}_before"] for row in records])) for key in ("pass@1", "pass@8", "entropy")}
    lines += ["", "Before training: " + ", ".join(f"{key} {value:.3f}" for key, value in before.items()) + ".", ""]
    for name in COMPARED:
        marked, of, chance = marks(ranked, name)
        lines.append(
            f"- {name}: {marked} of {of} differences lie beyond two standard errors; chance alone would mark about "
            f"{chance:.0f}."
        )
    lines += ["", "| not as published | why |", "|---|---|"]
    present = {standing.recipe for standing in ranked}
    for setting in (*SETTINGS.values(), *COMBINATIONS):
        if setting.text in present:
            lines.append(f"| `{setting.text}` | {setting.reason} |")
    return "\n".join(lines) + "\n"


def agreement(ranked: list[Standing], earlier: list[Standing]) -> str:
    """How far two comparisons order the recipes alike, and which differences from the baseline both mark."""
    before = {standing.recipe: standing for standing in earlier}
    pairs = [(before[s.recipe], s) for s in ranked if s.recipe in before and s.baseline is not None]
    whole = [pair for pair in pairs if min(s.cells["pass@8"].mean for s in pair) > INTACT]
    lines = [
        f"| rank correlation with the first comparison | all {len(pairs)} in both | the {len(whole)} with pass@8 > {INTACT} |",
        "|---|---:|---:|",
    ]
    share = [[[s.cells["entropy_share"].mean for s in pair] for pair in group] for group in (pairs, whole)]
    rows = {"share of the entropy that is left": share}
    for name in COMPARED:
        rows[f"{name} less the baseline's"] = [
            [[s.differences[name].cell.mean for s in pair] for pair in group] for group in (pairs, whole)
        ]
    for name, groups in rows.items():
        values = " | ".join(f"{spearmanr(*np.transpose(group)).statistic:.2f}" for group in groups)
        lines.append(f"| {name} | {values} |")
    for name in COMPARED:
        lines += ["", f"{name}, marked in both to the same side: {_marked(whole, name, True)}."]
        lines += ["", f"{name}, marked in one alone: {_marked(whole, name, False)}."]
    return "\n".join(lines) + "\n"


def _marked(pairs: list[tuple[Standing, Standing]], name: str, in_both: bool) -> str:
    """The recipes that both comparisons mark to the same side, or those that only one does, with both differences."""
    found = []
    for first, second in pairs:
        one, other = first.differences[name], second.differences[name]
        alike = one.marked and other.marked and one.cell.mean * other.cell.mean > 0
        if alike if in_both else (one.marked or other.marked) and not alike:
            found.append(f"`{short(second.recipe)}` ({one.cell.mean:+.3f}, {other.cell.mean:+.3f})")
    return ", ".join(found) or "none"


def short(recipe: str) -> str:
    """A recipe without its settings."""
    return " + ".join(part.partition("(")[0].strip() for part in recipe.split(" + "))


def scatter(ranked: list[Standing], before: tuple[float, float]) -> Figure:
    """Entropy at the end against pass@8, a dot with error bars for each recipe: all of them, and the crowd enlarged."""
    figure, (whole, near) = plt.subplots(2, 1, figsize=(12, 14), height_ratios=(2, 3), layout="constrained")
    points = [(*before, "before training", "#555555")]
    for standing in ranked:
        entropy, passed = standing.cells["entropy"], standing.cells["pass@8"]
        plain = standing.recipe in ("grpo", "dapo", "dr_grpo", "rloo")
        color = series_color(1 if standing.recipe in COMBINED else 2 if plain else 0)
        points.append((entropy.mean, passed.mean, short(standing.recipe), color))
        for axis in (whole, near):
            axis.errorbar(
                entropy.mean, passed.mean, np.nan_to_num(passed.stderr), np.nan_to_num(entropy.stderr),
                fmt="o", markersize=4, color=color, elinewidth=0.6, ecolor=(color, 0.35),
            )  # fmt: skip
    for axis in (whole, near):
        axis.axvline(before[0], color=MUTED, linewidth=0.8, linestyle=":")
        axis.axhline(before[1], color=MUTED, linewidth=0.8, linestyle=":")
        axis.plot(*before, "D", color=MUTED, markersize=6)
        axis.set_ylabel("pass@8 after training")
    near.set_xlabel("entropy after training (nats per token)")
    whole.set_title(
        "Dotted: the policy before training. Green: plain recipes; orange: combinations. Below: the frame enlarged.",
        fontsize=10, loc="left",
    )  # fmt: skip
    places = np.array([point[:2] for point in points])
    crowd = np.abs(places[:, 1] - np.median(places[:, 1])) < CROWD
    (left, low), (right, high) = places[crowd].min(0), places[crowd].max(0)
    margin = 0.06 * (right - left), 0.08 * (high - low)
    near.set_xlim(left - margin[0], right + margin[0])
    near.set_ylim(low - margin[1], high + margin[1])
    whole.indicate_inset_zoom(near, edgecolor=MUTED)
    figure.canvas.draw()
    place_labels(near, [point for point, inside in zip(points, crowd, strict=True) if inside])
    place_labels(whole, [point for point, inside in zip(points, crowd, strict=True) if not inside])
    return figure


def place_labels(axis, points: list[tuple[float, float, str, str]], size: float = 7.5) -> None:
    """Write each point's label at the nearest place that is free, with a line to the point where that is far."""
    renderer = axis.figure.canvas.get_renderer()
    scale = axis.figure.dpi / 72
    pixels = axis.transData.transform([(x, y) for x, y, _, _ in points])
    taken = [Bbox.from_bounds(x - 3 * scale, y - 3 * scale, 6 * scale, 6 * scale) for x, y in pixels]
    inside = axis.get_window_extent()
    crowded = sorted(range(len(points)), key=lambda i: -np.sum(np.hypot(*(pixels - pixels[i]).T) < 40 * scale))
    for index in crowded:
        x, y, words, color = points[index]
        for distance, turn in product((6, 10, 16, 24, 34, 46, 60, 80, 105, 135), range(24)):
            angle = 2 * pi * turn / 24
            dx, dy = distance * cos(angle), distance * sin(angle)
            text = axis.annotate(
                words, (x, y), (dx, dy), textcoords="offset points", fontsize=size, color=color,
                path_effects=[withStroke(linewidth=2.5, foreground="white")],
                ha="left" if dx > 1 else "right" if dx < -1 else "center", va="center",
                arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.4, "shrinkB": 2} if distance > 10 else None,
            )  # fmt: skip
            box = text.get_window_extent(renderer)
            fits = inside.x0 < box.x0 and box.x1 < inside.x1 and inside.y0 < box.y0 and box.y1 < inside.y1
            if fits and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()


def curves(records: Sequence[Record]) -> Figure:
    """Entropy step by step: mean over seeds with a band of one standard error, beside plain GRPO's."""
    by_name: dict[str, list[Record]] = {}
    for row in records:
        by_name.setdefault(short(row["recipe"]), []).append(row)
    drawn = [name for name in CURVES if name in by_name]
    figure, axes = plt.subplots(3, 4, figsize=(12, 7), sharex=True, sharey=True, layout="constrained")
    for axis, name in zip(axes.flat, drawn, strict=False):
        for recipe, color in (("grpo", MUTED), (name, series_color(0))):
            if recipe not in by_name:
                continue
            values = np.array([row["entropies"] for row in by_name[recipe]])
            steps, mean = np.arange(1, values.shape[1] + 1), values.mean(0)
            error = values.std(0, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.zeros_like(mean)
            axis.plot(steps, mean, color=color, linewidth=1.4)
            axis.fill_between(steps, mean - error, mean + error, color=color, alpha=0.25, linewidth=0)
        targets = [row["target_entropy"] for row in by_name[name] if row["target_entropy"] is not None]
        if targets:
            axis.axhline(float(np.mean(targets)), color="#009e73", linewidth=1, linestyle="--")
        axis.set_title(name, fontsize=9, loc="left")
        axis.set_ylim(bottom=0)
    for axis in axes.flat[len(drawn) :]:
        axis.set_visible(False)
    figure.supxlabel("step", fontsize=10)
    figure.supylabel("entropy of the rollouts (nats per token)", fontsize=10)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a picture whole or not at all."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")
    print(path)


def main(path: str, earlier: str | None = None) -> None:
    records = read_records(path)
    text = markdown(records)
    if earlier is not None:
        text += "\n" + agreement(standings(records), standings(read_records(earlier)))
    print(text)
    write_atomically(TABLE, text.encode())
    before = (
        float(np.mean([r["entropy_before"] for r in records])),
        float(np.mean([r["pass@8_before"] for r in records])),
    )
    save(scatter(standings(records), before), IMAGES / "comparison.png")
    save(curves(records), IMAGES / "comparison-entropy.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
