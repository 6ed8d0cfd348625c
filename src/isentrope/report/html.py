"""The report: one HTML file with everything in it, which opens without network.

What happened comes first, in sentences and a few numbers; then the curves, the completions with their tokens shaded by
entropy, the configuration and the papers to cite. Runs that differ only in their seed are drawn as their mean with a
band of one standard error; of long runs the drawing is thinned, never the data.
"""

import json
import os
from collections.abc import Sequence
from datetime import datetime
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import isentrope
from isentrope._files import write_atomically
from isentrope.report import _sections
from isentrope.report._figures import Figure, folded_figures, main_figures
from isentrope.report._series import group_runs
from isentrope.report.store import RunStore

__all__ = ["write_report"]


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

    Examples:
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
    main, folded = main_figures(groups), folded_figures(groups)
    figures = [figure for _, section in main for figure in section] + folded
    numbered = {id(figure): number for number, figure in enumerate(figures)}
    sections = [
        _sections.diagnosis(groups),
        _sections.headline(groups),
        _sections.legend(groups),
        *(_sections.figure_section(title, section, numbered) for title, section in main),
        _sections.fold("Optimisation, speed and everything else recorded", folded, numbered),
        _sections.samples(groups),
        _sections.configuration(groups),
        _sections.papers(runs),
    ]
    title = (
        groups[0].label if len(groups) == 1 else "Comparison of " + _sections.listed([group.label for group in groups])
    )
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
{_sections.header(title, groups)}
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


def _for_browser(figure: Figure) -> dict[str, Any]:
    return {
        "traces": figure.traces,
        "x": escape(figure.x),
        "y": escape(figure.y),
        "wide": figure.wide,
        "toZero": figure.to_zero,
        "legend": figure.legend,
    }
