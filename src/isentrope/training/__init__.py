"""Training with an eye on entropy: activations that keep the entropy of a network's outputs above a bound.

Importing this room does not import torch; what is in it needs torch and is loaded on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isentrope.training.bounded_gaussian import BoundedLogScales, bounded_log_scales
    from isentrope.training.bounded_softmax import BoundedEntropyLogits, bounded_entropy_logits, lower_lambert_w

_MODULE_OF = {
    "BoundedEntropyLogits": "bounded_softmax",
    "BoundedLogScales": "bounded_gaussian",
    "bounded_entropy_logits": "bounded_softmax",
    "bounded_log_scales": "bounded_gaussian",
    "lower_lambert_w": "bounded_softmax",
}

__all__ = [
    "BoundedEntropyLogits",
    "BoundedLogScales",
    "bounded_entropy_logits",
    "bounded_log_scales",
    "lower_lambert_w",
]


def __getattr__(name: str):
    if name in _MODULE_OF:
        return getattr(import_module(f"isentrope.training.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module 'isentrope.training' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
