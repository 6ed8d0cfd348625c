"""The one palette of every picture.

The categorical colours are those of Okabe and Ito, which people with any common colour blindness can tell apart, without
their yellow (too pale on white) and with a grey in place of black, so that they also show on a dark page. Beyond the
seventh series the colours repeat with another dash.
"""

__all__ = ["DASHES", "GOOD", "HEAT", "HEAT_END", "MUTED", "SERIES", "rgba", "series_color"]

SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")
"""Colours of runs, in order."""

DASHES = ("solid", "dash", "dot", "dashdot")
"""Line styles of the parts of one chart that share a run's colour, in order (Plotly's names)."""

MUTED = "#8a8f98"
"""Reference lines: targets, identities, zero."""

GOOD = "#009e73"
"""The band around a target."""

HEAT = "#d55e00"
"""What entropy is painted with: transparent at zero, this at the scale's end."""

HEAT_END = "#4a1a00"
"""Where a scale goes on beyond `HEAT`: for values of which a few are many times the others."""


def series_color(index: int) -> str:
    """The colour of the series at `index`, counted from 0.

    Examples:
        >>> series_color(0), series_color(7) == series_color(0)
        ('#0072b2', True)
    """
    return SERIES[index % len(SERIES)]


def rgba(color: str, alpha: float) -> str:
    """CSS for a ``#rrggbb`` colour with an opacity.

    Examples:
        >>> rgba("#d55e00", 0.25)
        'rgba(213, 94, 0, 0.25)'
    """
    red, green, blue = (int(color[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {alpha:g})"
