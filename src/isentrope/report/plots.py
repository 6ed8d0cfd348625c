"""Matplotlib pictures of runs: each function draws on an axes, the current one by default, and returns it.

They take a run, several runs, or plain mappings of arrays; runs that differ only in their seed are drawn as their mean
with a band of one standard error, as in the HTML report.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath

from isentrope.report._series import Curve, Group, group_runs
from isentrope.report.palette import DASHES, GOOD, HEAT, MUTED, SERIES, series_color
from isentrope.report.store import RunStore

__all__ = ["plot_entropy", "plot_entropy_change", "plot_pass_at_k", "plot_reward", "plot_token_entropy"]

Run = RunStore | Mapping[str, np.ndarray]

_STYLES = dict(zip(DASHES, ("-", "--", ":", "-."), strict=True))


def plot_entropy(runs: Run | Sequence[Run], ax: Axes | None = None) -> Axes:
    """Draw the policy's entropy over training steps, with its target and the band of ±10% around it.

    Args:
        runs: a run or several; mappings need ``step`` and ``entropy`` (nats per token), and may hold
            ``target_entropy``.
        ax: where to draw; the current axes by default.

    Returns:
        The axes.

    Raises:
        ValueError: no run has an entropy.

    Examples:
        >>> import matplotlib
        >>> matplotlib.use("agg")
        >>> ax = plot_entropy({"step": np.arange(3), "entropy": np.array([1.0, 0.5, 0.25])})
        >>> ax.get_ylabel()
        'entropy (nats per token)'
    """
    ax = _over_steps(runs, {"entropy": "entropy"}, "entropy (nats per token)", ax)
    targets = {}
    for group in _groups(runs):
        target = group.target()
        if target is not None:
            targets.setdefault(tuple(target.values.round(12)), target)
    for target in targets.values():
        ax.plot(target.steps, target.values, color=MUTED, linestyle="--", linewidth=1, zorder=1)
        if len(targets) == 1:
            ax.fill_between(target.steps, 0.9 * target.values, 1.1 * target.values, color=GOOD, alpha=0.12, linewidth=0)
    ax.set_ylim(bottom=0)
    return ax


def plot_reward(runs: Run | Sequence[Run], ax: Axes | None = None) -> Axes:
    """Draw the mean reward over training steps.

    Args:
        runs: a run or several; mappings need ``step`` and ``reward``.
        ax: where to draw; the current axes by default.

    Returns:
        The axes.

    Raises:
        ValueError: no run has a reward.

    Examples:
        >>> import matplotlib
        >>> matplotlib.use("agg")
        >>> plot_reward({"step": np.arange(2), "reward": np.array([0.1, 0.4])}).get_ylabel()
        'mean reward'
    """
    return _over_steps(runs, {"reward": "reward"}, "mean reward", ax)


def plot_pass_at_k(runs: Run | Sequence[Run], ax: Axes | None = None) -> Axes:
    """Draw held-out pass@k over training steps, one line style for each k.

    Bars are one standard error of the evaluation where it is recorded (``pass@1_stderr``) and the run stands alone.

    Args:
        runs: a run or several; mappings need ``step`` and columns such as ``pass@1`` and ``pass@8``, NaN on steps
            without an evaluation.
        ax: where to draw; the current axes by default.

    Returns:
        The axes.

    Raises:
        ValueError: no run has been evaluated.

    Examples:
        >>> import matplotlib
        >>> matplotlib.use("agg")
        >>> ax = plot_pass_at_k({"step": np.arange(2), "pass@1": np.array([0.1, 0.4])})
        >>> ax.get_ylabel()
        'pass@k'
    """
    names = dict.fromkeys(name for group in _groups(runs) for metrics in group.metrics for name in metrics)
    passed = sorted((n for n in names if n.startswith("pass@") and n[5:].isdigit()), key=lambda n: int(n[5:]))
    ax = _over_steps(runs, {name: name for name in passed} or {"pass@1": "pass@1"}, "pass@k", ax)
    ax.set_ylim(bottom=0)
    return ax


def plot_entropy_change(runs: Run | Sequence[Run], ax: Axes | None = None) -> Axes:
    """Draw the measured against the predicted change of entropy of each step, with the line of identity.

    Args:
        runs: a run or several; mappings need ``step``, ``entropy_change_predicted`` and ``entropy_change_measured``
            (nats per token), NaN on steps without them.
        ax: where to draw; the current axes by default.

    Returns:
        The axes; the legend gives the correlation ``r`` of each run.

    Raises:
        ValueError: no step of any run has both.

    Examples:
        >>> import matplotlib
        >>> matplotlib.use("agg")
        >>> change = np.array([-0.02, 0.01, 0.03])
        >>> run = {"step": np.arange(3), "entropy_change_predicted": change, "entropy_change_measured": change}
        >>> plot_entropy_change(run).get_legend().get_texts()[0].get_text()
        'r = 1.00'
    """
    ax = plt.gca() if ax is None else ax
    drawn = False
    for number, group in enumerate(_groups(runs)):
        predicted, measured = group.pooled("entropy_change_predicted", "entropy_change_measured")
        if not len(predicted):
            continue
        label = group.label
        if len(predicted) > 2 and predicted.std() > 0 and measured.std() > 0:
            r = np.corrcoef(predicted, measured)[0, 1]
            label = f"{label}, r = {r:.2f}" if label else f"r = {r:.2f}"
        ax.scatter(predicted, measured, s=16, alpha=0.65, color=series_color(number), linewidth=0, label=label or None)
        drawn = True
    if not drawn:
        raise ValueError("runs: none has entropy_change_predicted and entropy_change_measured at the same step")
    ax.axline((0, 0), slope=1, color=MUTED, linestyle="--", linewidth=1, zorder=1)
    ax.set_xlabel("predicted change of entropy (nats per token)")
    ax.set_ylabel("measured change of entropy (nats per token)")
    _finish(ax)
    return ax


def plot_token_entropy(
    tokens: Sequence[str],
    entropies: Float[np.ndarray, " tokens"] | Sequence[float],
    ax: Axes | None = None,
    *,
    maximum: float | None = None,
) -> Axes:
    """Write out a completion with each token shaded by its entropy, and a colour bar in nats.

    Args:
        tokens: the tokens as text; a newline in one starts a new line.
        entropies: of each token's choice, in nats.
        ax: where to draw; the current axes by default. Its size decides where lines break.
        maximum: the entropy of the full colour, in nats; the largest one by default.

    Returns:
        The axes.

    Raises:
        ValueError: there are not as many entropies as tokens, one is negative or not finite, or `maximum` is not
            positive.

    Examples:
        >>> import matplotlib
        >>> matplotlib.use("agg")
        >>> ax = plot_token_entropy(["3", "*", "5"], [0.1, 1.2, 0.4], plt.figure().gca())
        >>> [text.get_text() for text in ax.texts]
        ['3', '*', '5']
    """
    values = np.asarray(entropies, dtype=float)
    if values.shape != (len(tokens),):
        raise ValueError(f"entropies: needs one for each of the {len(tokens)} tokens; got shape {values.shape}")
    wrong = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
    if len(wrong):
        raise ValueError(f"entropies: must be finite and not negative; got {values[wrong[0]]} at index {wrong[0]}")
    if maximum is not None and not maximum > 0:
        raise ValueError(f"maximum: must be positive; got {maximum}")
    ax = plt.gca() if ax is None else ax
    end = maximum if maximum is not None else float(values.max(initial=0.0)) or 1.0
    heat = LinearSegmentedColormap.from_list("entropy", ["#ffffff", HEAT])
    scale = Normalize(0, end, clip=True)
    figure = ax.get_figure(root=True)
    assert figure is not None
    shades = LinearSegmentedColormap.from_list("entropy-shown", [heat(0.0), heat(0.8)])
    bar = figure.colorbar(ScalarMappable(scale, shades), ax=ax, fraction=0.04, pad=0.02)
    bar.set_label("entropy (nats)")
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    font = FontProperties(family="monospace", size=11)
    # Everything is laid out in points, which the axes are made to span.
    extent = ax.get_window_extent()
    width, height = extent.width * 72 / figure.dpi, extent.height * 72 / figure.dpi
    advance = _advance(font)
    line, x, y = 1.5 * font.get_size_in_points(), 0.0, 0.0
    for token, entropy in zip(tokens, values, strict=True):
        for part, piece in enumerate(token.replace("\t", "    ").split("\n")):
            if part:
                x, y = 0.0, y + line
            shown = piece if part == token.count("\n") else f"{piece}⏎"
            if not shown:
                continue
            if x > 0 and x + advance * len(shown) > width:
                x, y = 0.0, y + line
            ax.add_patch(
                Rectangle((x, y), advance * len(shown), line * 0.86, facecolor=heat(0.8 * scale(entropy)), linewidth=0)
            )
            ax.text(x, y + 0.43 * line, shown, fontproperties=font, va="center", ha="left", parse_math=False)
            x += advance * len(shown)
    ax.set_xlim(0, width)
    ax.set_ylim(max(height, y + line), 0)
    ax.axis("off")
    return ax


def _advance(font: FontProperties) -> float:
    """The width of one character of a monospaced font, in points."""
    return TextPath((0, 0), "0" * 100, prop=font).get_extents().width / 100


def _groups(runs: Run | Sequence[Run]) -> list[Group]:
    several = [runs] if isinstance(runs, RunStore | Mapping) else list(runs)
    stored = [run for run in several if isinstance(run, RunStore)]
    plain = [run for run in several if not isinstance(run, RunStore)]
    for index, run in enumerate(plain):
        if "step" not in run:
            raise ValueError(
                f"runs: a mapping of arrays needs 'step'; mapping {index} has {', '.join(run) or 'nothing'}"
            )
    arrays = [{name: np.asarray(values, dtype=float) for name, values in run.items()} for run in plain]
    for index, run in enumerate(arrays):
        for name, values in run.items():
            if values.shape != run["step"].shape:
                shapes = f"has shape {values.shape}; 'step' has {run['step'].shape}"
                raise ValueError(f"runs: {name!r} of mapping {index} {shapes}")
    labels = [""] if len(several) == 1 else [f"run {number}" for number in range(1, len(plain) + 1)]
    return group_runs(stored) + [Group(label, (), (run,)) for label, run in zip(labels, arrays, strict=False)]


def _over_steps(runs: Run | Sequence[Run], parts: Mapping[str, str], unit: str, ax: Axes | None) -> Axes:
    ax = plt.gca() if ax is None else ax
    groups = _groups(runs)
    drawn = False
    for number, group in enumerate(groups):
        for part, (name, label) in enumerate(parts.items()):
            curve = group.curve(name)
            if curve is None:
                continue
            called = [group.label] if group.label and len(groups) > 1 else []
            called += [label] if len(parts) > 1 else []
            color = series_color(part if len(groups) == 1 else number)
            dash = 0 if len(groups) == 1 else number // len(SERIES) + part
            _draw(ax, curve, ", ".join(called), color, _STYLES[DASHES[dash % len(DASHES)]])
            stderr = group.curve(f"{name}_stderr")
            if stderr is not None and curve.stderr is None:
                at = np.intersect1d(stderr.finite.steps, curve.finite.steps)
                values = curve.values[np.isin(curve.steps, at)]
                ax.errorbar(at, values, stderr.values[np.isin(stderr.steps, at)], fmt="none", color=color, linewidth=1)
            drawn = True
    if not drawn:
        raise ValueError(f"runs: none has a finite value of {' or '.join(map(repr, parts))}")
    ax.set_xlabel("training step")
    ax.set_ylabel(unit)
    _finish(ax)
    return ax


def _draw(ax: Axes, curve: Curve, label: str, color: str, style: str) -> None:
    shown = curve.finite if curve.sparse else curve
    marker = "o" if len(shown.finite.steps) <= 60 else ""
    ax.plot(shown.steps, shown.values, style, color=color, marker=marker, markersize=3, label=label or None)
    if shown.stderr is not None:
        ax.fill_between(
            shown.steps, shown.values - shown.stderr, shown.values + shown.stderr, color=color, alpha=0.18, linewidth=0
        )


def _finish(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    if any(not str(label).startswith("_") for label in ax.get_legend_handles_labels()[1]):
        ax.legend(frameon=False)
