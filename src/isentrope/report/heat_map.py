"""The heat map of a matrix of mutual information, or of transfer entropy: how much every variable tells of every other.

Information, not correlation: the scale begins at 0, has a unit and is linear, and what an estimate has below 0 is drawn as
0. The diagonal is left out, because an entropy is no information between two variables and would take the scale. So would
two columns that say the same: where a few pairs stand far above all others, the scale ends with the others, and theirs is
written into their cells.
"""

import os
from html import escape
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from isentrope._files import replacing, write_atomically
from isentrope.measures import InformationMatrix, TransferEntropyMatrix
from isentrope.report.html import _json, _plotly
from isentrope.report.palette import HEAT, HEAT_END, MUTED

__all__ = ["plot_information", "write_information"]

# More variables than this are put in the order of a clustering, and their values are left to the colours.
_MANY = 12
_LONGEST_LABEL = 28
# One pair, or one in so many, may stand beyond the scale if it has this many times what the others have.
_BEYOND_SHARE, _BEYOND = 50, 3
# False discovery rate up to which a transfer is outlined.
_LEVEL = 0.05
_SCALE = ((0.0, "#ffffff"), (0.5, HEAT), (1.0, HEAT_END))
_UNKNOWN = "#e4e6ea"
_OUTLINE = "#0072b2"
_OUTLINED = f"Outlined: false discovery rate of at most {_LEVEL}"


def plot_information(matrix: InformationMatrix | TransferEntropyMatrix, ax: Axes | None = None) -> Axes:
    """Draw the information of all pairs of variables as a heat map, with a colour bar in its unit.

    Up to 12 variables keep their order, and their values are written into the cells; more are clustered, so that those
    that tell of one another stand together. Pairs without a value (NaN) are grey. Transfers go from the rows to the
    columns; where they were tested, those with a false discovery rate of at most 0.05 are outlined.

    Args:
        matrix: the informations, as `isentrope.measures.mutual_information_matrix` gives them, or the transfers of
            `isentrope.measures.transfer_entropy_matrix`; the diagonal is not drawn.
        ax: where to draw; the current axes by default.

    Returns:
        The axes.

    Raises:
        ValueError: there are fewer than two variables.

    Examples:
        >>> import matplotlib
        >>> matplotlib.use("agg")
        >>> from isentrope.measures import mutual_information_matrix
        >>> ax = plot_information(mutual_information_matrix(["abab" * 9, "cdcd" * 9], base=2))
        >>> ax.figure.axes[1].get_ylabel()
        'mutual information (bit)'
    """
    import matplotlib.pyplot as plt

    ax = plt.gca() if ax is None else ax
    shown, order = _shown(matrix)
    labels = [_short(matrix.labels[i]) for i in order]
    end = _end(shown, np.asarray(matrix.stderr)[np.ix_(order, order)], directed=_is_directed(matrix))
    colors = LinearSegmentedColormap.from_list("information", _SCALE).with_extremes(bad=_UNKNOWN)
    image = ax.imshow(np.ma.masked_invalid(shown), cmap=colors, vmin=0, vmax=end)
    places = np.arange(len(order))
    size = 9 if len(order) <= 40 else 6
    ax.set_xticks(places, labels, rotation=90, fontsize=size)
    ax.set_yticks(places, labels, fontsize=size)
    for text in [*ax.get_xticklabels(), *ax.get_yticklabels()]:
        text.set_parse_math(False)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    for edge in places[1:] - 0.5:
        ax.axhline(edge, color="white", linewidth=0.5)
        ax.axvline(edge, color="white", linewidth=0.5)
    for row, column in zip(*np.nonzero(_written(shown, end)), strict=True):
        value = shown[row, column]
        color = "white" if value > 0.45 * end else "black"
        ax.text(column, row, _number(float(value), end), ha="center", va="center", fontsize=min(8, size), color=color)
    for row, column in _outlined(matrix, order):
        ax.add_patch(Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, fill=False, edgecolor=_OUTLINE, linewidth=0.8))
    if _is_directed(matrix):
        ax.set_ylabel("from")
        ax.set_xlabel("to")
    figure = ax.get_figure(root=True)
    assert figure is not None
    bar = figure.colorbar(image, ax=ax, fraction=0.046, pad=0.03, extend="max" if np.nanmax(shown) > end else "neither")
    bar.set_label(f"{_quantity(matrix)} ({matrix.unit})")
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    return ax


def write_information(
    matrix: InformationMatrix | TransferEntropyMatrix, path: str | os.PathLike[str], *, title: str = ""
) -> Path:
    """Write the heat map of `plot_information` to a file, whole or not at all.

    Args:
        matrix: the informations.
        path: the file; its suffix says what it holds. An .html file opens without network and tells value and standard
            error of the pair under the pointer; .png, .svg and .pdf are drawn by Matplotlib.
        title: what stands above the map.

    Returns:
        The path written.

    Raises:
        ValueError: the suffix is none of these, or there are fewer than two variables.
        ImportError: plotly is not installed, which .html takes.
        OSError: the file cannot be written; an earlier one is kept.

    Examples:
        >>> import tempfile
        >>> from isentrope.measures import mutual_information_matrix
        >>> matrix = mutual_information_matrix(["abab" * 9, "cdcd" * 9, "aabb" * 9])
        >>> write_information(matrix, tempfile.mkdtemp() + "/map.svg").name
        'map.svg'
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".html":
        write_atomically(path, _page(matrix, title).encode("utf-8", errors="replace"))
        return path
    if suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"write_information: {path.name} must end in .html, .png, .svg or .pdf")
    side = 2.4 + max(0.14 if len(matrix.labels) > 40 else 0.3, 3.2 / len(matrix.labels)) * len(matrix.labels)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    ax = plot_information(matrix, figure.add_subplot())
    ax.set_title(
        "\n".join(line for line in (title, _OUTLINED if ax.patches else "") if line), fontsize=10, parse_math=False
    )
    with replacing(path) as temporary:
        # The layout leaves long labels beside a square map outside of the page.
        figure.savefig(temporary, format=suffix[1:], dpi=160, bbox_inches="tight", pad_inches=0.1)
    return path


def _is_directed(matrix: InformationMatrix | TransferEntropyMatrix) -> bool:
    return isinstance(matrix, TransferEntropyMatrix)


def _quantity(matrix: InformationMatrix | TransferEntropyMatrix) -> str:
    return "transfer entropy" if _is_directed(matrix) else "mutual information"


def _outlined(matrix: InformationMatrix | TransferEntropyMatrix, order: list[int]) -> list[list[int]]:
    """Rows and columns of the cells, in this order, whose transfer is unlikely to be chance."""
    if not isinstance(matrix, TransferEntropyMatrix) or np.isnan(matrix.pvalues).sum() > len(matrix.labels):
        return []
    return np.argwhere(matrix.adjusted_pvalues()[np.ix_(order, order)] <= _LEVEL).tolist()


def _shown(matrix: InformationMatrix | TransferEntropyMatrix) -> tuple[Float[np.ndarray, "d d"], list[int]]:
    """What is drawn, in which order: nothing below 0, and no diagonal."""
    values = np.array(matrix.values, dtype=float)
    if len(values) < 2:
        raise ValueError(f"matrix: a heat map takes at least two variables (got {len(values)})")
    np.fill_diagonal(values, np.nan)
    # The information of two numbers that determine each other has no end, but the scale has one.
    values = np.clip(values, 0.0, np.max(values, where=np.isfinite(values), initial=0.0))
    order = _clustered(values) if len(values) > _MANY else list(range(len(values)))
    return values[np.ix_(order, order)], order


def _clustered(values: Float[np.ndarray, "d d"]) -> list[int]:
    """An order in which neighbours share much information: the leaves of average linkage, turned as well as may be."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    known = np.nan_to_num(np.fmax(values, values.T))
    distance = known.max() - known
    np.fill_diagonal(distance, 0.0)
    return leaves_list(linkage(squareform(distance), "average", optimal_ordering=True)).tolist()


def _end(shown: np.ndarray, stderr: np.ndarray, *, directed: bool) -> float:
    """Where the scale ends: the largest value, or the largest of the others where a few are far beyond them."""
    i, j = np.nonzero(~np.eye(len(shown), dtype=bool)) if directed else np.triu_indices(len(shown), 1)
    order = np.argsort(-np.nan_to_num(shown[i, j]))
    values, errors = np.nan_to_num(shown[i, j][order]), np.nan_to_num(stderr[i, j][order])
    for leaders in range(1, min(len(values), 1 + max(1, len(values) // _BEYOND_SHARE))):
        # Others that are nothing but chance get no scale of their own.
        if values[leaders - 1] > _BEYOND * values[leaders] and values[leaders] > 4 * errors[leaders]:
            return float(values[leaders])
    return float(values[0]) or 1.0


def _written(shown: np.ndarray, end: float) -> np.ndarray:
    """The cells whose value is written: all of a small map, and those beyond the scale."""
    return np.isfinite(shown) & ((len(shown) <= _MANY) | (shown > end))


def _number(value: float, end: float) -> str:
    """What is written into a cell; the table has what is next to nothing on this scale."""
    return f"{value:.2g}" if value >= end / 100 else "0"


def _short(label: str) -> str:
    return label if len(label) <= _LONGEST_LABEL else label[: _LONGEST_LABEL - 1] + "…"


def _page(matrix: InformationMatrix | TransferEntropyMatrix, title: str) -> str:
    shown, order = _shown(matrix)
    # A repeated label would be one place on Plotly's axis, so places are numbers and labels their ticks.
    places, labels = list(range(len(order))), [matrix.labels[i] for i in order]
    stderr = np.asarray(matrix.stderr)[np.ix_(order, order)]
    directed, quantity = _is_directed(matrix), _quantity(matrix)
    end = _end(shown, stderr, directed=directed)
    outlined = _outlined(matrix, order)
    values = np.asarray(matrix.values)[np.ix_(order, order)]
    told = [
        [
            f"{escape(labels[i])} {'to' if directed else 'and'} {escape(labels[j])}<br>{_told(values[i, j], stderr[i, j], matrix.unit)}"
            if i != j
            else ""
            for j in places
        ]
        for i in places
    ]
    written = _written(shown, end)
    axis = {
        "tickvals": places,
        "ticktext": [escape(_short(label)) for label in labels],
        "showgrid": False,
        "zeroline": False,
        "automargin": True,
        "tickfont": {"size": 12 if len(places) <= 40 else 9},
    }
    trace = {
        "type": "heatmap",
        "z": [[value if np.isfinite(value) else None for value in row] for row in shown.tolist()],
        "x": places,
        "y": places,
        "text": [
            [_number(v, end) if w else "" for v, w in zip(*row, strict=True)]
            for row in zip(shown, written, strict=True)
        ],
        "texttemplate": "%{text}",
        "customdata": told,
        "hovertemplate": "%{customdata}<extra></extra>",
        "hoverongaps": False,
        "colorscale": _SCALE,
        "zmin": 0,
        "zmax": end,
        "xgap": 1,
        "ygap": 1,
        "colorbar": {"title": {"text": f"{quantity} ({matrix.unit})", "side": "right"}, "outlinewidth": 0},
    }
    side = max(420, 28 * len(places) + 200) if len(places) <= 40 else 14 * len(places) + 240
    layout = {
        "width": side + 120,
        "height": side,
        "xaxis": {**axis, "tickangle": -90, "constrain": "domain", **({"title": {"text": "to"}} if directed else {})},
        "yaxis": {
            **axis,
            "autorange": "reversed",
            "scaleanchor": "x",
            "constrain": "domain",
            **({"title": {"text": "from"}} if directed else {}),
        },
        "shapes": [
            {
                "type": "rect",
                **{"x0": column - 0.47, "x1": column + 0.47, "y0": row - 0.47, "y1": row + 0.47},
                "line": {"color": _OUTLINE, "width": 1},
            }
            for row, column in outlined
        ],
        "plot_bgcolor": _UNKNOWN,
        "paper_bgcolor": "#ffffff",
        # Room for the buttons above the colour bar.
        "margin": {"l": 8, "r": 8, "t": 36, "b": 8},
        "font": {"family": "system-ui, sans-serif"},
    }
    # Named one by one, because Plotly's own choice holds a button that sends the data to its server.
    config = {
        "displaylogo": False,
        "modeBarButtons": [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
        "plotlyServerURL": "",
        "toImageButtonOptions": {"format": "svg", "filename": "isentrope"},
    }
    link = f" {_OUTLINED}." if outlined else ""
    beyond = " A number in a cell lies beyond the scale." if len(places) > _MANY and np.nanmax(shown) > end else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title) or quantity.capitalize()} · Isentrope</title>
<style>body {{ margin: 2rem; font-family: system-ui, sans-serif; }} h1 {{ font-size: 1.1rem; }}
p {{ color: {MUTED}; font-size: 0.85rem; }}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<div id="map" role="img" aria-label="Heat map of {quantity}"></div>
<p>Grey: no value. Values below 0, which estimates of no information have by chance, are drawn as 0.{link}{beyond}</p>
<script>{_plotly()}</script>
<script>Plotly.newPlot("map", [{_json(trace)}], {_json(layout)}, {_json(config)});</script>
</body>
</html>
"""


def _told(value: float, stderr: float, unit: str) -> str:
    if not np.isfinite(value):
        return "no value"
    return f"{value:.4g} ± {stderr:.2g} {unit}" if np.isfinite(stderr) else f"{value:.4g} {unit}"
