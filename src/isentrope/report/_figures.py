"""The charts of the report, as what Plotly draws: traces, and the words around them."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np

from isentrope.report._series import Curve, Group, moving_mean, smoothing_window, thin
from isentrope.report.palette import DASHES, GOOD, SERIES, rgba, series_color

# Half the width of the band around a target, as a share of it.
BAND = 0.1
# Replaced in the browser by the theme's colour for reference lines.
_MUTED = "@muted"


@dataclass
class Figure:
    """One chart: what the browser needs to draw it, and the words around it."""

    title: str
    caption: str
    x: str
    y: str
    traces: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    wide: bool = False
    to_zero: bool = False
    legend: bool = False


def _numbers(values: np.ndarray) -> list[float | None]:
    """For drawing: seven digits, null for what is not finite."""
    return [float(f"{value:.7g}") if math.isfinite(value) else None for value in values]


def _style(groups: Sequence[Group], group: int, part: int, parts: int) -> tuple[str, str]:
    """A run has one colour in all charts, its parts several dashes; a single run may give each part a colour."""
    if len(groups) == 1:
        return series_color(part), "solid" if part < len(SERIES) else "dash"
    return series_color(group), DASHES[(group // len(SERIES) + part) % len(DASHES)]


def _line(curve: Curve, name: str, color: str, dash: str, group: int, **more: Any) -> list[dict[str, Any]]:
    """The curve, with a band of one standard error where it has one."""
    if curve.sparse:
        curve = curve.finite
    curve = thin(curve)
    few = len(curve.finite.steps) <= 40
    isolated = len(curve.finite.steps) == 1
    traces: list[dict[str, Any]] = []
    if curve.stderr is not None:
        for values, fill in ((curve.values - curve.stderr, None), (curve.values + curve.stderr, "tonexty")):
            traces.append(
                {
                    "x": _numbers(curve.steps),
                    "y": _numbers(values),
                    "mode": "lines",
                    "line": {"width": 0},
                    "fill": fill or "none",
                    "fillcolor": rgba(color, 0.18),
                    "hoverinfo": "skip",
                    "showlegend": False,
                    "meta": group,
                }
            )
    spread = "" if curve.stderr is None else " ± %{customdata:.2g}"
    traces.append(
        {
            "x": _numbers(curve.steps),
            "y": _numbers(curve.values),
            "name": escape(name),
            "mode": "markers" if isolated else "lines+markers" if few else "lines",
            "line": {"color": color, "width": 2, "dash": dash},
            "marker": {"color": color, "size": 9 if isolated else 5},
            "hovertemplate": f"%{{y:.4g}}{spread}",
            "showlegend": False,
            "meta": group,
            **({} if curve.stderr is None else {"customdata": _numbers(curve.stderr)}),
            **more,
        }
    )
    return traces


def _chart(
    groups: Sequence[Group],
    title: str,
    caption: str,
    unit: str,
    parts: dict[str, str],
    *,
    noisy: bool = False,
    **more: Any,
) -> Figure | None:
    """One chart of the named metrics over steps; None where no run has any of them.

    Args:
        parts: for each metric's name, what it is called in the legend.
        noisy: a moving mean is drawn, over the pale values themselves where there is but one run.
    """
    figure = Figure(title, caption, "training step", unit, **more)
    drawn: list[str] = []
    notes: list[str] = []
    for number, group in enumerate(groups):
        for part, (name, label) in enumerate(parts.items()):
            curve = group.curve(name)
            if curve is None:
                continue
            color, dash = _style(groups, number, part, len(parts))
            called = label if len(groups) == 1 else group.label if len(parts) == 1 else f"{group.label}, {label}"
            window = smoothing_window(curve) if noisy and not curve.sparse else 1
            if window == 1:
                figure.traces += _line(curve, called, color, dash, number)
            elif len(groups) == 1 and curve.stderr is None:
                raw = {"line": {"color": color, "width": 1}, "opacity": 0.3}
                figure.traces += _line(curve, called, color, dash, number, **raw)
                mean = moving_mean(curve, window)
                figure.traces += _line(mean, called, color, dash, number, hoverinfo="skip", hovertemplate=None)
                notes.append(f"Thin: each step. Thick: mean over {window} steps.")
            else:
                mean = group.curve(name, window)
                assert mean is not None
                figure.traces += _line(mean, called, color, dash, number)
                notes.append(f"Each run averaged over {window} steps.")
            stderr = group.curve(f"{name}_stderr")
            if stderr is not None and curve.stderr is None:
                _error_bars(figure.traces[-1], curve, stderr)
            drawn.append(label)
            missing = int((~np.isfinite(curve.values)).sum())
            if missing and not curve.sparse:
                notes.append(f"{called}: {missing} of {len(curve.values)} steps have no finite value.")
    if not drawn:
        return None
    figure.notes = list(dict.fromkeys(notes))
    if len(parts) > 1:
        figure.legend = True
        if len(groups) == 1:
            for trace in figure.traces:
                trace["showlegend"] = "name" in trace and "opacity" not in trace
        else:
            figure.traces += _dash_legend([label for label in parts.values() if label in drawn], list(parts.values()))
    return figure


def _dash_legend(labels: list[str], parts: list[str]) -> list[dict[str, Any]]:
    """Legend entries without data: which dash is which part, whatever the run's colour."""
    return [
        {
            "x": [None],
            "y": [None],
            "name": escape(label),
            "mode": "lines",
            "line": {"color": _MUTED, "width": 2, "dash": DASHES[parts.index(label) % len(DASHES)]},
            "showlegend": True,
            "hoverinfo": "skip",
        }
        for label in labels
    ]


def _error_bars(trace: dict[str, Any], curve: Curve, stderr: Curve) -> None:
    by_step = dict(zip(stderr.steps.tolist(), stderr.values.tolist(), strict=True))
    errors = [by_step.get(step, math.nan) for step in trace["x"]]
    trace["error_y"] = {
        "type": "data",
        "array": _numbers(np.array(errors, dtype=float)),
        "thickness": 1,
        "width": 0,
        "color": trace["line"]["color"],
    }
    trace["customdata"] = trace["error_y"]["array"]
    trace["hovertemplate"] = "%{y:.4g} ± %{customdata:.2g}"


def _entropy(groups: Sequence[Group]) -> Figure | None:
    temperatures = {group.settings.get("temperature") for group in groups} - {None}
    at = f", at sampling temperature {temperatures.pop():g}" if len(temperatures) == 1 else ""
    figure = _chart(
        groups,
        "Entropy of the policy",
        f"Mean entropy of the next-token distribution over all generated tokens{at}.",
        "entropy (nats per token)",
        {"entropy": "entropy"},
        wide=True,
        to_zero=True,
    )
    if figure is None:
        return None
    targets = [(number, target) for number, group in enumerate(groups) if (target := group.target()) is not None]
    distinct = {tuple(target.values.round(12)) for _, target in targets}
    behind: list[dict[str, Any]] = []
    for number, target in targets if len(distinct) > 1 else targets[:1]:
        target = thin(target.finite)
        color = _MUTED if len(distinct) == 1 else series_color(number)
        meta = {} if len(distinct) == 1 else {"meta": number}
        steps = _numbers(target.steps)
        if len(distinct) == 1:
            for factor, fill in ((1 - BAND, "none"), (1 + BAND, "tonexty")):
                behind.append(
                    {
                        "x": steps,
                        "y": _numbers(target.values * factor),
                        "mode": "lines",
                        "line": {"width": 0},
                        "fill": fill,
                        "fillcolor": rgba(GOOD, 0.13),
                        "hoverinfo": "skip",
                        "showlegend": False,
                    }
                )
        behind.append(
            {
                "x": steps,
                "y": _numbers(target.values),
                "name": "target" if len(distinct) == 1 else f"target, {escape(groups[number].label)}",
                "mode": "lines",
                "line": {"color": color, "width": 1.5, "dash": "dash"},
                "hovertemplate": "%{y:.4g}",
                "showlegend": False,
                **meta,
            }
        )
    figure.traces = behind + figure.traces
    if len(distinct) == 1:
        figure.caption += f" Dashed: the target; shaded: ±{BAND:.0%} around it."
    elif distinct:
        figure.caption += " Dashed: each run's target."
    return figure


def _entropy_change(groups: Sequence[Group]) -> list[Figure]:
    """Predicted against measured, with the line of identity, and both over time."""
    scatter = Figure(
        "Predicted and measured change of entropy",
        "One point for each step on which both are known; on the line they agree.",
        "predicted change (nats per token)",
        "measured change (nats per token)",
    )
    reach: list[float] = []
    correlations: list[str] = []
    for number, group in enumerate(groups):
        steps, predicted, measured = group.pooled("step", "entropy_change_predicted", "entropy_change_measured")
        if not len(steps):
            continue
        reach += [*predicted, *measured]
        color = series_color(number)
        if len(steps) > 3 and predicted.std() > 0 and measured.std() > 0:
            r = float(np.corrcoef(predicted, measured)[0, 1])
            whose = "" if len(groups) == 1 else f"{group.label} "
            correlations.append(f"{whose}r = {r:.2f} over {len(steps)} points")
        keep = np.arange(len(steps)) if len(steps) <= 2000 else np.linspace(0, len(steps) - 1, 2000).astype(int)
        scatter.traces.append(
            {
                "x": _numbers(predicted[keep]),
                "y": _numbers(measured[keep]),
                "customdata": _numbers(steps[keep]),
                "name": escape(group.label),
                "mode": "markers",
                "marker": {"color": color, "size": 6, "opacity": 0.65},
                "hovertemplate": "step %{customdata}<br>predicted %{x:.3g}<br>measured %{y:.3g}<extra></extra>",
                "showlegend": False,
                "meta": number,
            }
        )
    if not scatter.traces:
        return []
    if correlations:
        scatter.notes.append(f"Correlation: {'; '.join(correlations)}.")
    ends = [min(reach), max(reach)]
    scatter.traces.insert(
        0,
        {
            "x": _numbers(np.array(ends)),
            "y": _numbers(np.array(ends)),
            "mode": "lines",
            "line": {"color": _MUTED, "width": 1.5, "dash": "dash"},
            "hoverinfo": "skip",
            "showlegend": False,
        },
    )
    over_time = _chart(
        groups,
        "Change of entropy over time",
        "What a step was predicted to do to the entropy, and what it did.",
        "change (nats per token)",
        {"entropy_change_measured": "measured", "entropy_change_predicted": "predicted"},
    )
    return [scatter, *([over_time] if over_time else [])]


def _trade(groups: Sequence[Group]) -> Figure | None:
    """Reward against entropy: what each nat bought."""
    figure = Figure(
        "Reward against entropy",
        "The path of the run: how much reward was gained while the entropy was spent. The ring marks its end.",
        "entropy (nats per token)",
        "reward",
    )
    for number, group in enumerate(groups):
        entropy, reward = group.curve("entropy"), group.curve("reward")
        if entropy is None or reward is None:
            continue
        smoothed = [moving_mean(curve, smoothing_window(curve)) for curve in (entropy, reward)]
        steps, left, right = np.intersect1d(smoothed[0].steps, smoothed[1].steps, return_indices=True)
        if len(steps) < 2:
            continue
        keep = np.unique(np.linspace(0, len(steps) - 1, 400).astype(int))
        x, y = smoothed[0].values[left][keep], smoothed[1].values[right][keep]
        figure.traces.append(
            {
                "x": _numbers(x),
                "y": _numbers(y),
                "customdata": _numbers(steps[keep]),
                "name": escape(group.label),
                "mode": "lines+markers",
                "line": {"color": series_color(number), "width": 2},
                "marker": {
                    "color": series_color(number),
                    "symbol": ["circle"] * (len(keep) - 1) + ["circle-open"],
                    "size": [0] * (len(keep) - 1) + [11],
                    "line": {"width": 2},
                },
                "hovertemplate": "step %{customdata}<br>entropy %{x:.3g}<br>reward %{y:.3g}<extra></extra>",
                "showlegend": False,
                "meta": number,
            }
        )
    return figure if figure.traces else None


def metric_names(groups: Iterable[Group]) -> list[str]:
    return list(dict.fromkeys(name for group in groups for metrics in group.metrics for name in metrics))


def pass_names(names: Iterable[str]) -> list[str]:
    return sorted((name for name in names if re.fullmatch(r"pass@\d+", name)), key=lambda name: int(name[5:]))


def main_figures(groups: Sequence[Group]) -> list[tuple[str, list[Figure]]]:
    names = metric_names(groups)
    coefficients = {name: name.removeprefix("coefficient/") for name in names if name.startswith("coefficient/")}
    sections = [
        ("Entropy", [_entropy(groups)]),
        (
            "Reward and evaluation",
            [
                _chart(
                    groups,
                    "Reward",
                    "Mean reward of the sampled completions.",
                    "reward",
                    {"reward": "reward"},
                    noisy=True,
                ),
                _chart(
                    groups,
                    "Held-out pass@k",
                    "Probability that at least one of k completions is right, on problems never trained on.",
                    "pass@k",
                    {name: name for name in pass_names(names)},
                    to_zero=True,
                ),
            ],
        ),
        (
            "What moves the entropy",
            [
                _chart(
                    groups,
                    "Covariance of log-probability and advantage",
                    "Positive: likely tokens are being rewarded, which lowers the entropy.",
                    "covariance (nats)",
                    {"covariance": "covariance"},
                    noisy=True,
                ),
                _covariance_parts(groups) if len(groups) == 1 else None,
                _clipped(groups) if _any_clipped(groups) else None,
                _chart(groups, "Controller", "What the controllers put out.", "coefficient", coefficients),
                _trade(groups),
                *_entropy_change(groups),
            ],
        ),
    ]
    kept = [(title, [figure for figure in figures if figure is not None]) for title, figures in sections]
    return [(title, figures) for title, figures in kept if figures]


def _covariance_parts(groups: Sequence[Group]) -> Figure | None:
    parts = [name for name in metric_names(groups) if name.startswith("covariance/")]
    return _chart(
        groups,
        "What the covariance is made of",
        "Above zero: tokens that pull the entropy down; below: tokens that push it up.",
        "covariance (nats)",
        {name: name.removeprefix("covariance/").replace("_", " ") for name in parts},
        noisy=True,
    )


def _clipped(groups: Sequence[Group]) -> Figure | None:
    return _chart(
        groups,
        "Clipped tokens",
        "Share of tokens whose gradient the clip removes: low where their probability has fallen, high where it has risen.",
        "fraction of tokens",
        {"clip_fraction_low": "low side", "clip_fraction_high": "high side"},
        to_zero=True,
        noisy=True,
    )


def _any_clipped(groups: Sequence[Group]) -> bool:
    """With one optimiser step a batch nothing is clipped, and a chart of zeros belongs in the fold."""
    sides = ("clip_fraction_low", "clip_fraction_high")
    return any(
        np.nansum(metrics[side]) > 0
        for group in groups
        for metrics in group.metrics
        for side in sides
        if side in metrics
    )


_FOLDED = {
    "loss": ("Loss", "Of the surrogate with its regularizers.", "loss"),
    "gradient_norm": ("Gradient norm", "Before clipping.", "norm"),
    "learning_rate": ("Learning rate", "", "learning rate"),
    "completion_length": ("Completion length", "Mean number of generated tokens.", "tokens"),
    "ratio_deviation": ("Importance ratio", "Mean distance of the importance ratio from 1.", "mean |ratio − 1|"),
    "tokens_per_second": ("Speed", "Generated tokens per second.", "tokens per second"),
    "seconds": ("Time", "", "seconds"),
    "memory_mb": ("Memory", "Resident memory of the process.", "MB"),
}
_SHOWN_ABOVE = re.compile(
    r"step|entropy|target_entropy|reward|covariance(/.*)?|clip_fraction_(low|high)|coefficient/.*|pass@\d+"
    r"|entropy_change_(predicted|measured)|.*_stderr"
)


def folded_figures(groups: Sequence[Group]) -> list[Figure]:
    names = metric_names(groups)
    known = [name for name in _FOLDED if name in names]
    others = [name for name in names if name not in _FOLDED and not _SHOWN_ABOVE.fullmatch(name)]
    figures = []
    for name in [*known, *others]:
        title, caption, unit = _FOLDED.get(name, (name.replace("_", " "), "", name))
        figures.append(_chart(groups, title, caption, unit, {name: name}, noisy=name in _FOLDED))
    if len(groups) > 1:
        figures.insert(0, _covariance_parts(groups))
    if not _any_clipped(groups):
        figures.insert(0, _clipped(groups))
    return [figure for figure in figures if figure is not None]
