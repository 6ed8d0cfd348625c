"""The report: one HTML file with everything in it, which opens without network.

What happened comes first, in sentences and a few numbers; then the curves, the completions with their tokens shaded by
entropy, the configuration and the papers to cite. Runs that differ only in their seed are drawn as their mean with a
band of one standard error; of long runs the drawing is thinned, never the data.
"""

import json
import math
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

import isentrope
from isentrope import catalog
from isentrope.report._files import write_atomically
from isentrope.report._series import Curve, Group, group_runs, smooth, thin
from isentrope.report.palette import DASHES, GOOD, SERIES, rgba, series_color
from isentrope.report.store import RunStore

__all__ = ["write_report"]

_ENDS = "means over the first and last 5% of the steps"
_BAND = 0.1
_PAIRS_SHOWN = 4
_TOKENS_SHOWN = 1500
# Replaced in the browser by the theme's colour for reference lines.
_MUTED = "@muted"


@dataclass
class _Figure:
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


def write_report(runs: RunStore | Sequence[RunStore], path: str | os.PathLike[str]) -> Path:
    """Write the HTML report of one run, or of several side by side.

    Args:
        runs: the runs, finished or not. Those that differ only in their seed are drawn as one, with a band of one
            standard error.
        path: the file to write, usually ``run.path / "report.html"``.

    Returns:
        The path written.

    Raises:
        ValueError: there are no runs.
        ImportError: plotly is not installed.
        OSError: the file cannot be written; an earlier one is kept.

    Example:
        >>> import tempfile
        >>> run = RunStore.create(tempfile.mkdtemp(), "grpo-s0", {"recipe": "grpo"})
        >>> run.append({"step": 0, "entropy": 1.25})
        >>> write_report(run, run.path / "report.html").name
        'report.html'
    """
    runs = [runs] if isinstance(runs, RunStore) else list(runs)
    if not runs:
        raise ValueError("runs: needs at least one run; got none")
    path = Path(path)
    write_atomically(path, _page(runs).encode("utf-8", errors="replace"))
    return path


def _page(runs: list[RunStore]) -> str:
    plotly = _plotly()
    groups = group_runs(runs)
    main, folded = _main_figures(groups), _folded_figures(groups)
    figures = [figure for _, section in main for figure in section] + folded
    numbered = {id(figure): number for number, figure in enumerate(figures)}
    sections = [
        _diagnosis(groups),
        _headline(groups),
        _legend(groups),
        *(_figure_section(title, section, numbered) for title, section in main),
        _fold("Optimisation, speed and everything else recorded", folded, numbered),
        _samples(groups),
        _configuration(groups),
        _papers(runs),
    ]
    title = groups[0].label if len(groups) == 1 else "Comparison of " + _listed([group.label for group in groups])
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="isentrope {isentrope.__version__}">
<title>{escape(title)} · Isentrope</title>
<style>{_piece("report.css")}</style>
</head>
<body>
<main>
{_header(title, groups)}
{"".join(sections)}
<footer>Written by Isentrope {isentrope.__version__} on {datetime.now():%Y-%m-%d at %H:%M}. Entropies are in nats.</footer>
</main>
<script type="application/json" id="figures">{_json([_for_browser(figure) for figure in figures])}</script>
<script>{plotly}</script>
<script>{_piece("report.js")}</script>
</body>
</html>
"""


def _plotly() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ImportError("the HTML report needs plotly: pip install isentrope[report]") from error
    return get_plotlyjs()


def _piece(name: str) -> str:
    return resources.files("isentrope.report").joinpath(name).read_text(encoding="utf-8")


def _json(value: Any) -> str:
    """JSON that can stand inside a script element, whatever strings it holds."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def _for_browser(figure: _Figure) -> dict[str, Any]:
    return {
        "traces": figure.traces,
        "x": escape(figure.x),
        "y": escape(figure.y),
        "wide": figure.wide,
        "toZero": figure.to_zero,
        "legend": figure.legend,
    }


# Curves


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
    few = len(curve.finite.steps) <= 60
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
) -> _Figure | None:
    """One chart of the named metrics over steps; None where no run has any of them.

    Args:
        parts: for each metric's name, what it is called in the legend.
        noisy: one run's values are drawn pale, with their moving mean over them.
    """
    figure = _Figure(title, caption, "training step", unit, **more)
    drawn: list[str] = []
    for number, group in enumerate(groups):
        for part, (name, label) in enumerate(parts.items()):
            curve = group.curve(name)
            if curve is None:
                continue
            color, dash = _style(groups, number, part, len(parts))
            called = label if len(groups) == 1 else group.label if len(parts) == 1 else f"{group.label}, {label}"
            smoothed = smooth(curve) if noisy and curve.stderr is None and not curve.sparse else None
            if smoothed is not None:
                figure.traces += _line(
                    curve, called, color, dash, number, opacity=0.3, line={"color": color, "width": 1}
                )
                mean, window = smoothed
                figure.traces += _line(mean, called, color, dash, number, hoverinfo="skip", hovertemplate=None)
                note = f"Thin: each step. Thick: mean over {window} steps."
                figure.notes += [note] * (note not in figure.notes)
            else:
                figure.traces += _line(curve, called, color, dash, number)
            stderr = group.curve(f"{name}_stderr")
            if stderr is not None and curve.stderr is None:
                _error_bars(figure.traces[-1], curve, stderr)
            drawn.append(label)
            missing = int((~np.isfinite(curve.values)).sum())
            if missing and not curve.sparse:
                figure.notes.append(f"{called}: {missing} of {len(curve.values)} steps have no finite value.")
    if not drawn:
        return None
    if len(parts) > 1:
        figure.legend = True
        if len(groups) == 1:
            for trace in figure.traces:
                trace["showlegend"] = "hovertemplate" in trace and trace["hovertemplate"] is not None
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


def _entropy(groups: Sequence[Group]) -> _Figure | None:
    temperatures = {group.config.get("temperature") for group in groups} - {None}
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
            for factor, fill in ((1 - _BAND, "none"), (1 + _BAND, "tonexty")):
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
        figure.caption += f" Dashed: the target; shaded: ±{_BAND:.0%} around it."
    elif distinct:
        figure.caption += " Dashed: each run's target."
    return figure


def _entropy_change(groups: Sequence[Group]) -> list[_Figure]:
    """Predicted against measured, with the line of identity, and both over time."""
    scatter = _Figure(
        "Predicted and measured change of entropy",
        "One point for each step on which both are known; on the line they agree.",
        "predicted change (nats per token)",
        "measured change (nats per token)",
    )
    reach: list[float] = []
    for number, group in enumerate(groups):
        steps, predicted, measured = group.pooled("step", "entropy_change_predicted", "entropy_change_measured")
        if not len(steps):
            continue
        reach += [*predicted, *measured]
        color = series_color(number)
        if len(steps) > 3 and predicted.std() > 0 and measured.std() > 0:
            r = float(np.corrcoef(predicted, measured)[0, 1])
            whose = "" if len(groups) == 1 else f"{group.label}: "
            scatter.notes.append(f"{whose}Correlation r = {r:.2f} over {len(steps)} points.")
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


def _trade(groups: Sequence[Group]) -> _Figure | None:
    """Reward against entropy: what each nat bought."""
    figure = _Figure(
        "Reward against entropy",
        "The path of the run: how much reward was gained while the entropy was spent. The ring marks its end.",
        "entropy (nats per token)",
        "reward",
    )
    for number, group in enumerate(groups):
        entropy, reward = group.curve("entropy"), group.curve("reward")
        if entropy is None or reward is None:
            continue
        smoothed = [(smooth(curve) or (curve.finite, 1))[0] for curve in (entropy, reward)]
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


def _names(groups: Iterable[Group]) -> list[str]:
    return list(dict.fromkeys(name for group in groups for metrics in group.metrics for name in metrics))


def _pass_names(names: Iterable[str]) -> list[str]:
    return sorted((name for name in names if re.fullmatch(r"pass@\d+", name)), key=lambda name: int(name[5:]))


def _main_figures(groups: Sequence[Group]) -> list[tuple[str, list[_Figure]]]:
    names = _names(groups)
    coefficients = {name: name.removeprefix("coefficient/") for name in names if name.startswith("coefficient/")}
    covariances = {name: name.removeprefix("covariance/") for name in names if name.startswith("covariance/")}
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
                    {name: name for name in _pass_names(names)},
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
                    {"covariance": "all tokens", **covariances},
                    noisy=not covariances,
                ),
                _chart(
                    groups,
                    "Clipped tokens",
                    "Share of tokens whose gradient the clip removes: low where their probability has fallen, high where "
                    "it has risen.",
                    "fraction of tokens",
                    {"clip_fraction_low": "low side", "clip_fraction_high": "high side"},
                    to_zero=True,
                ),
                _chart(groups, "Controller", "What the controllers put out.", "coefficient", coefficients),
                _trade(groups),
                *_entropy_change(groups),
            ],
        ),
    ]
    kept = [(title, [figure for figure in figures if figure is not None]) for title, figures in sections]
    return [(title, figures) for title, figures in kept if figures]


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


def _folded_figures(groups: Sequence[Group]) -> list[_Figure]:
    names = _names(groups)
    known = [name for name in _FOLDED if name in names]
    others = [name for name in names if name not in _FOLDED and not _SHOWN_ABOVE.fullmatch(name)]
    figures = []
    for name in [*known, *others]:
        title, caption, unit = _FOLDED.get(name, (name.replace("_", " "), "", name))
        figures.append(_chart(groups, title, caption, unit, {name: name}, noisy=name in _FOLDED))
    return [figure for figure in figures if figure is not None]


# Words and tables


def _header(title: str, groups: Sequence[Group]) -> str:
    runs = [run for group in groups for run in group.runs]
    facts = []
    for key in ("task", "model"):
        values = list(dict.fromkeys(str(run.config[key]) for run in runs if key in run.config))
        if values:
            facts.append(f"{key} <b>{escape(_listed(values))}</b>")
    seeds = [run.config["seed"] for run in runs if "seed" in run.config]
    if seeds:
        distinct = sorted(set(seeds), key=str)
        facts.append(f"seed{'s' * (len(distinct) > 1)} <b>{escape(', '.join(map(str, distinct)))}</b>")
    facts.append(_progress(runs))
    if len(runs) == 1 and "created" in runs[0].config:
        facts.append(f"begun <b>{escape(str(runs[0].config['created'])[:16].replace('T', ' '))}</b>")
    return f"""<header>
<p class="brand">Isentrope <span>entropy report</span></p>
<h1>{escape(title)}</h1>
<p class="facts">{"".join(f"<span>{fact}</span>" for fact in facts)}</p>
</header>"""


def _progress(runs: Sequence[RunStore]) -> str:
    if len(runs) > 1:
        unfinished = sum(not run.summary for run in runs)
        return f"<b>{len(runs)} runs</b>" + (f', <b class="going">{unfinished} unfinished</b>' if unfinished else "")
    (run,) = runs
    if run.last_step is None:
        return '<b class="going">no step recorded yet</b>'
    planned = run.config.get("steps")
    if run.summary:
        return f"finished at step <b>{run.last_step}</b>"
    return f'<b class="going">unfinished: step {run.last_step}{f" of {planned}" if planned else ""}</b>'


def _diagnosis(groups: Sequence[Group]) -> str:
    blocks = []
    for number, group in enumerate(groups):
        for run in group.runs:
            sentences = run.diagnosis.get("sentences", [])
            if not sentences:
                continue
            items = "".join(f"<li>{escape(str(sentence))}</li>" for sentence in sentences)
            if len(groups) == 1 and len(group.runs) == 1:
                blocks.append(f'<ul class="diagnosis">{items}</ul>')
                continue
            seed = f' <span class="soft">seed {escape(str(run.config.get("seed", "?")))}</span>'
            name = _dot(number) + escape(group.label) + (seed if len(group.runs) > 1 else "")
            opened = " open" * (run is group.runs[0])
            blocks.append(f'<details{opened}><summary>{name}</summary><ul class="diagnosis">{items}</ul></details>')
    if not blocks:
        return ""
    return (
        f'<section><h2>What happened</h2><div class="columns">{"".join(blocks)}</div></section>'
        if len(blocks) > 1
        else f"<section><h2>What happened</h2>{blocks[0]}</section>"
    )


def _ends(values: np.ndarray) -> tuple[float, float]:
    values = values[np.isfinite(values)]
    if not len(values):
        return math.nan, math.nan
    width = max(1, len(values) // 20)
    return float(values[:width].mean()), float(values[-width:].mean())


def _last(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(values[-1]) if len(values) else math.nan


_Quantity = Callable[[RunStore, Any], tuple[float, float]]


def _quantities(names: Sequence[str]) -> dict[str, _Quantity]:
    """For each headline number of a run, the function that finds its value and standard error (NaN where none)."""

    def end(name: str, which: int) -> _Quantity:
        return lambda run, metrics: (_ends(metrics[name])[which], math.nan) if name in metrics else (math.nan, math.nan)

    def evaluated(name: str, which: int) -> _Quantity:
        def value(run: RunStore, metrics: Any) -> tuple[float, float]:
            if name not in metrics or not np.isfinite(metrics[name]).any():
                return math.nan, math.nan
            index = np.flatnonzero(np.isfinite(metrics[name]))[which]
            errors = metrics.get(f"{name}_stderr")
            return float(metrics[name][index]), math.nan if errors is None else float(errors[index])

        return value

    def in_band(run: RunStore, metrics: Any) -> tuple[float, float]:
        target = Group("", (run,), (metrics,)).target()
        if target is None or "entropy" not in metrics:
            return math.nan, math.nan
        count = len(target.steps)
        distance = np.abs(metrics["entropy"][:count] - target.values)[count // 2 :]
        known = np.isfinite(distance)
        inside = distance[known] <= _BAND * np.abs(target.values[count // 2 :][known])
        return float(inside.mean()) if len(inside) else math.nan, math.nan

    def target(run: RunStore, metrics: Any) -> tuple[float, float]:
        curve = Group("", (run,), (metrics,)).target()
        return (_last(curve.values), math.nan) if curve is not None else (math.nan, math.nan)

    def seconds(run: RunStore, metrics: Any) -> tuple[float, float]:
        if "seconds" in run.summary:
            return float(run.summary["seconds"] or math.nan), math.nan
        return (float(np.nansum(metrics["seconds"])) if "seconds" in metrics else math.nan), math.nan

    def speed(run: RunStore, metrics: Any) -> tuple[float, float]:
        values = metrics.get("tokens_per_second", np.zeros(0))
        values = values[np.isfinite(values)]
        return (float(np.median(values)) if len(values) else math.nan), math.nan

    return {
        "entropy_start": end("entropy", 0),
        "entropy_end": end("entropy", 1),
        "target": target,
        "in_band": in_band,
        "reward_start": end("reward", 0),
        "reward_end": end("reward", 1),
        **{f"{name} first": evaluated(name, 0) for name in names},
        **{f"{name} last": evaluated(name, -1) for name in names},
        "seconds": seconds,
        "speed": speed,
    }


def _measured(groups: Sequence[Group]) -> list[dict[str, tuple[float, float]]]:
    """The headline numbers of each group: of its run, or the mean and standard error over its seeds."""
    rows = []
    for group in groups:
        row = {}
        for key, quantity in _quantities(_pass_names(_names(groups))).items():
            pairs = [quantity(run, metrics) for run, metrics in zip(group.runs, group.metrics, strict=True)]
            known = [pair for pair in pairs if math.isfinite(pair[0])]
            if len(known) < 2:
                row[key] = known[0] if known else (math.nan, math.nan)
            else:
                values = np.array([value for value, _ in known])
                row[key] = float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))
        rows.append(row)
    return rows


def _headline(groups: Sequence[Group]) -> str:
    rows = _measured(groups)
    if len(groups) == 1:
        return _tiles(groups[0], rows[0])
    names = _pass_names(_names(groups))
    columns: list[tuple[str, Callable[[dict[str, tuple[float, float]]], str]]] = [
        ("Entropy, start", lambda row: _value(row["entropy_start"])),
        ("Entropy, end", lambda row: _value(row["entropy_end"])),
        ("Target", lambda row: _value(row["target"])),
        ("In band", lambda row: _percent(row["in_band"])),
        ("Reward, start", lambda row: _value(row["reward_start"])),
        ("Reward, end", lambda row: _value(row["reward_end"])),
        *((f"{name}, end", lambda row, name=name: _value(row[f"{name} last"])) for name in names),
        ("Tokens/s", lambda row: _value(row["speed"])),
        ("Time", lambda row: _duration(row["seconds"][0])),
    ]
    shown = [(title, show) for title, show in columns if any(show(row) != "–" for row in rows)]
    if not shown:
        return ""
    head = "".join(f"<th>{escape(title)}</th>" for title, _ in shown)
    body = "".join(
        f"<tr><th>{_dot(number)}{escape(group.label)}{_seed_count(group)}</th>"
        + "".join(f"<td>{show(row)}</td>" for _, show in shown)
        + "</tr>"
        for number, (group, row) in enumerate(zip(groups, rows, strict=True))
    )
    several = any(len(group.runs) > 1 for group in groups)
    over = "over seeds where there are several, otherwise of the evaluation" if several else "of the evaluation"
    band = "" if "In band" not in [title for title, _ in shown] else (
        f" In band: share of the steps of the second half within ±{_BAND:.0%} of the target."
    )  # fmt: skip
    return f"""<section><h2>Side by side</h2>
<div class="scroll"><table class="numbers"><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table></div>
<p class="note">Entropies in nats per token. Start and end: {_ENDS}; of evaluations, the last. ±: one standard error, {over}.{band}</p>
</section>"""


def _tiles(group: Group, row: dict[str, tuple[float, float]]) -> str:
    tiles = []

    def add(title: str, value: str, unit: str, detail: str = "") -> None:
        tiles.append(
            f'<div class="tile"><h3>{escape(title)}</h3><p class="value">{value}</p><p class="soft">{escape(unit)}</p>'
            + (f'<p class="soft">{detail}</p>' if detail else "")
            + "</div>"
        )

    if math.isfinite(row["entropy_start"][0]):
        detail = ""
        if math.isfinite(row["target"][0]):
            detail = f"target {_value(row['target'])}"
            if math.isfinite(row["in_band"][0]):
                detail += f"; within ±{_BAND:.0%} on {_percent(row['in_band'])} of the second half"
        add("Entropy", _change(row["entropy_start"], row["entropy_end"]), "nats per token", detail)
    if math.isfinite(row["reward_start"][0]):
        add("Reward", _change(row["reward_start"], row["reward_end"]), "mean of the sampled completions")
    for name in (key.removesuffix(" last") for key in row if key.endswith(" last")):
        if math.isfinite(row[f"{name} last"][0]):
            add(name, _change(row[f"{name} first"], row[f"{name} last"]), "held-out, first and last evaluation")
    if math.isfinite(row["seconds"][0]):
        speed = f"{_value(row['speed'])} tokens per second" if math.isfinite(row["speed"][0]) else ""
        each = " a run, on average" if len(group.runs) > 1 else ""
        add("Time", _duration(row["seconds"][0]), f"of training{each}", speed)
    if not tiles:
        return ""
    over = f"over {len(group.runs)} seeds" if len(group.runs) > 1 else "of the evaluation"
    return f"""<section class="headline"><div class="tiles">{"".join(tiles)}</div>
<p class="note">From start to end: {_ENDS}. ±: one standard error {over}.</p></section>"""


def _legend(groups: Sequence[Group]) -> str:
    if len(groups) == 1:
        return ""
    chips = "".join(
        f'<button type="button" class="chip" data-group="{number}" aria-pressed="true">{_dot(number)}'
        f"{escape(group.label)}{_seed_count(group)}</button>"
        for number, group in enumerate(groups)
    )
    band = " Bands: one standard error over seeds." if any(len(group.runs) > 1 for group in groups) else ""
    return f'<nav class="legend" aria-label="Runs">{chips}<span class="soft">Click to hide.{band}</span></nav>'


def _figure_section(title: str, figures: Sequence[_Figure], numbered: dict[int, int]) -> str:
    return f'<section><h2>{escape(title)}</h2><div class="grid">{_drawings(figures, numbered)}</div></section>'


def _fold(title: str, figures: Sequence[_Figure], numbered: dict[int, int]) -> str:
    if not figures:
        return ""
    return (
        f'<section><details class="fold"><summary><h2>{escape(title)}</h2></summary>'
        f'<div class="grid">{_drawings(figures, numbered)}</div></details></section>'
    )


def _drawings(figures: Sequence[_Figure], numbered: dict[int, int]) -> str:
    return "".join(
        f'<figure class="{"wide" if figure.wide else "half"}"><figcaption><h3>{escape(figure.title)}</h3>'
        + (f"<p>{escape(figure.caption)}</p>" if figure.caption else "")
        + f'</figcaption><div class="plot" data-figure="{numbered[id(figure)]}" role="img" '
        f'aria-label="{escape(figure.title)}"></div>'
        + "".join(f'<p class="note">{escape(note)}</p>' for note in figure.notes)
        + "</figure>"
        for figure in figures
    )


# Samples


def _samples(groups: Sequence[Group]) -> str:
    shown = [(number, group, group.runs[0], group.runs[0].samples()) for number, group in enumerate(groups)]
    shown = [entry for entry in shown if entry[3]]
    if not shown:
        return ""
    scale = _heat_scale([sample for *_, samples in shown for sample in samples])
    blocks = []
    for position, (number, group, run, samples) in enumerate(shown):
        body = _pairs(samples, scale)
        if len(groups) == 1:
            blocks.append(body)
        else:
            seed = f' <span class="soft">seed {escape(str(run.config.get("seed")))}</span>' * (len(group.runs) > 1)
            blocks.append(
                f'<details class="run"{" open" * (position == 0)}><summary>{_dot(number)}{escape(group.label)}{seed}'
                f"</summary>{body}</details>"
            )
    ticks = "".join(f"<span>{scale * part / 4:.2g}</span>" for part in range(5))
    return f"""<section><h2>Completions</h2>
<div class="heat"><span>entropy of the choice of each token (nats)</span><div><div class="ramp"></div>
<div class="ticks">{ticks}</div></div></div>{"".join(blocks)}</section>"""


def _heat_scale(samples: Sequence[dict[str, Any]]) -> float:
    """The end of the colour scale: the largest entropy shown, up to the next half nat."""
    entropies = [value for sample in samples for value in sample.get("entropies") or [] if value is not None]
    return max(0.5, math.ceil(2 * max(entropies, default=0.5)) / 2)


def _pairs(samples: Sequence[dict[str, Any]], scale: float) -> str:
    """Completions of the first and the last evaluated step side by side, of the same prompts where there are any."""
    first, last = samples[0]["step"], samples[-1]["step"]
    before = [sample for sample in samples if sample["step"] == first]
    after = [sample for sample in samples if sample["step"] == last] if last != first else []
    asked = [sample.get("prompt") for sample in after]
    common = list(dict.fromkeys(sample.get("prompt") for sample in before if sample.get("prompt") in asked))
    if common:
        rows = [
            (
                next(sample for sample in before if sample.get("prompt") == prompt),
                next(sample for sample in after if sample.get("prompt") == prompt),
            )
            for prompt in common[:_PAIRS_SHOWN]
        ]
    else:
        count = min(_PAIRS_SHOWN, max(len(before), len(after)))
        rows = [(_at(before, index), _at(after, index)) for index in range(count)]
    heads = f'<p class="when">Step {first}</p>' + (f'<p class="when">Step {last}</p>' if after else "")
    cells = "".join(
        f'<div class="sample">{_sample(sample, scale, step)}</div>'
        for row in rows
        for sample, step in zip(row, (first, last), strict=True)
        if after or sample in before
    )
    return f'<div class="samples{"" if after else " single"}">{heads}{cells}</div>'


def _at(samples: Sequence[dict[str, Any]], index: int) -> dict[str, Any]:
    return samples[index] if index < len(samples) else {}


def _sample(sample: dict[str, Any], scale: float, step: int) -> str:
    if not sample:
        return ""
    tokens, entropies = sample.get("tokens"), sample.get("entropies")
    if tokens and entropies:
        text = "".join(
            _token(str(token), entropy, scale)
            for token, entropy in list(zip(tokens, entropies, strict=True))[:_TOKENS_SHOWN]
        )
        if len(tokens) > _TOKENS_SHOWN:
            text += f'<span class="soft"> … {len(tokens) - _TOKENS_SHOWN} more tokens</span>'
        known = [entropy for entropy in entropies if entropy is not None]
        mean = f"mean entropy {np.mean(known):.3f} nats" if known else ""
    else:
        text, mean = escape(str(sample.get("completion", ""))), ""
    reward = sample.get("reward")
    badge = "" if reward is None else f'<b class="{"right" if reward > 0 else "wrong"}">reward {reward:.3g}</b>'
    facts = " ".join(fact for fact in (f'<span class="when-small">step {step}</span>', badge, mean) if fact)
    prompt = f'<div class="prompt">{escape(str(sample["prompt"]))}</div>' if "prompt" in sample else ""
    return f'{prompt}<div class="completion">{text}</div><p class="soft">{facts}</p>'


def _token(token: str, entropy: float | None, scale: float) -> str:
    text = escape(token.replace("\r", "␍").replace("\t", "␉")).replace("\n", "⏎\n")
    if entropy is None:
        return f'<span title="no entropy recorded">{text}</span>'
    share = min(1.0, max(0.0, entropy / scale))
    return f'<span style="--e:{share:.3f}" title="{entropy:.3f} nats">{text}</span>'


# Configuration and papers


def _configuration(groups: Sequence[Group]) -> str:
    keys = list(dict.fromkeys(key for group in groups for run in group.runs for key in run.config))
    columns = [[_setting(group, key) for group in groups] for key in keys]
    rows = list(zip(keys, columns, strict=True))
    rows.sort(key=lambda row: len(set(row[1])) == 1)
    differing = sum(len(set(values)) > 1 for _, values in rows)
    head = "" if len(groups) == 1 else (
        "<thead><tr><th></th>"
        + "".join(f"<th>{_dot(number)}{escape(group.label)}</th>" for number, group in enumerate(groups))
        + "</tr></thead>"
    )  # fmt: skip

    def body(part: Sequence[tuple[str, list[str]]]) -> str:
        return "".join(
            f"<tr><th>{escape(key.replace('_', ' '))}</th>"
            + (
                "".join(f"<td><code>{escape(value)}</code></td>" for value in values)
                if len(set(values)) > 1
                else f'<td colspan="{len(groups)}"><code>{escape(values[0])}</code></td>'
            )
            + "</tr>"
            for key, values in part
        )

    if len(groups) == 1:
        return f"""<section><details class="fold"><summary><h2>Configuration</h2></summary>
<div class="scroll"><table class="settings"><tbody>{body(rows)}</tbody></table></div></details></section>"""
    return f"""<section><h2>Configuration</h2><h3>What differs</h3>
<div class="scroll"><table class="settings">{head}<tbody>{body(rows[:differing])}</tbody></table></div>
<details><summary>What is the same ({len(rows) - differing})</summary>
<div class="scroll"><table class="settings"><tbody>{body(rows[differing:])}</tbody></table></div></details></section>"""


def _setting(group: Group, key: str) -> str:
    values = [run.config.get(key) for run in group.runs]
    shown = [
        "–" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for value in values
    ]
    return ", ".join(dict.fromkeys(shown))


def _papers(runs: Sequence[RunStore]) -> str:
    keys = list(dict.fromkeys(key for run in runs for key in run.papers))
    if not keys:
        return ""
    known = {paper.key: paper for paper in catalog.papers()}
    items, entries = [], []
    for key in keys:
        paper = known.get(key)
        if paper is None:
            items.append(f"<li><code>{escape(key)}</code> (not in this version's catalog)</li>")
            continue
        title = escape(paper.title)
        link = f'<a href="{paper.url}">{title}</a>' if paper.url else title
        authors = [name for name in paper.authors if name != "others"]
        more = len(authors) > 3 or len(authors) < len(paper.authors)
        by = ", ".join(authors[:3]) + (" and others" if more else "")
        items.append(f'<li>{link}<br><span class="soft">{escape(by)}, {paper.year}, arXiv {paper.arxiv}</span></li>')
        if paper.authors:
            entries.append(paper.bibtex())
    bibtex = escape("\n\n".join(entries))
    copy = (
        f'<details><summary>BibTeX</summary><div class="bibtex"><button type="button" class="copy">Copy</button>'
        f"<pre>{bibtex}</pre></div></details>"
        if entries
        else ""
    )
    return f'<section><h2>Papers used</h2><ul class="papers">{"".join(items)}</ul>{copy}</section>'


# Formats


def _dot(number: int) -> str:
    return f'<i class="dot" style="background:{series_color(number)}"></i>'


def _seed_count(group: Group) -> str:
    return f' <span class="soft">{len(group.runs)} seeds</span>' if len(group.runs) > 1 else ""


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _plain(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", "\u202f")
    text = f"{value:.3g}" if abs(value) >= 1e-3 or value == 0 else f"{value:.1e}"
    return text.replace("-", "−")


def _value(pair: tuple[float, float]) -> str:
    value, stderr = pair
    if not math.isfinite(value):
        return "–"
    if not math.isfinite(stderr) or stderr == 0:
        return _plain(value)
    # As many digits as the standard error's two leading ones.
    digits = max(0, 1 - math.floor(math.log10(stderr)))
    return f"{value:.{digits}f}".replace("-", "−") + f' <span class="error">± {stderr:.{digits}f}</span>'


def _percent(pair: tuple[float, float]) -> str:
    return "–" if not math.isfinite(pair[0]) else f"{pair[0]:.0%}"


def _change(start: tuple[float, float], end: tuple[float, float]) -> str:
    end_text, _, error = _value(end).partition(" ")
    return f'{_value((start[0], math.nan))} <span class="arrow">→</span> {end_text} {error}'


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "–"
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"

