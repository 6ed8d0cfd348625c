"""Isentrope: measure, follow and control entropy, in systems that learn and in systems that obey physics.

Rooms are imported on first use, so ``import isentrope`` is fast and pulls in neither torch nor plotting.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_ROOMS = ("catalog", "lab", "measures", "policy", "report")

if TYPE_CHECKING:
    from isentrope import catalog, lab, measures, policy, report
    from isentrope.catalog import cite

__all__ = ["__version__", "catalog", "cite", "lab", "measures", "policy", "report"]


def __getattr__(name: str):
    if name in _ROOMS:
        return import_module(f"isentrope.{name}")
    if name == "cite":
        return import_module("isentrope.catalog").cite
    raise AttributeError(f"module 'isentrope' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
