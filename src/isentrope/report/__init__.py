"""Pictures, the HTML report, and the run store they are made from.

Plotting and Parquet are imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isentrope.report import palette
    from isentrope.report.heat_map import plot_information, write_information
    from isentrope.report.html import write_report
    from isentrope.report.plots import (
        plot_entropy,
        plot_entropy_change,
        plot_pass_at_k,
        plot_reward,
        plot_token_entropy,
    )
    from isentrope.report.store import RunStore, list_runs

__all__ = [
    "RunStore",
    "list_runs",
    "palette",
    "plot_entropy",
    "plot_entropy_change",
    "plot_information",
    "plot_pass_at_k",
    "plot_reward",
    "plot_token_entropy",
    "write_information",
    "write_report",
]


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module 'isentrope.report' has no attribute {name!r}")
    if name == "palette":
        return import_module("isentrope.report.palette")
    if name in ("plot_information", "write_information"):
        home = "heat_map"
    else:
        home = "html" if name == "write_report" else "plots" if name.startswith("plot_") else "store"
    return getattr(import_module(f"isentrope.report.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
