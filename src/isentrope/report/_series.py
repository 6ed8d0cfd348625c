"""From runs to curves: which runs are one experiment, their mean and its standard error, and what is worth drawing."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from isentrope.report.store import RunStore

Metrics = Mapping[str, np.ndarray]

# What tells one run from another without being a setting of the experiment.
_PER_RUN = {"id", "name", "created", "version", "command", "seed", "path", "root", "resume", "device", "threads"}


@dataclass(frozen=True)
class Curve:
    """A metric over steps: one run's values, or the mean over seeds with its standard error."""

    steps: Float64[np.ndarray, " steps"]
    values: Float64[np.ndarray, " steps"]
    stderr: Float64[np.ndarray, " steps"] | None = None

    @property
    def finite(self) -> "Curve":
        keep = np.isfinite(self.values)
        return Curve(self.steps[keep], self.values[keep], None if self.stderr is None else self.stderr[keep])

    @property
    def sparse(self) -> bool:
        """Left out on many steps, which is by plan; a few missing values are gaps."""
        return bool(np.isfinite(self.values).mean() < 0.8)


@dataclass(frozen=True)
class Group:
    """Runs that differ only in their seed, drawn as one."""

    label: str
    runs: tuple[RunStore, ...]
    metrics: tuple[Metrics, ...]

    @property
    def config(self) -> dict[str, Any]:
        return self.runs[0].config if self.runs else {}

    def curve(self, name: str) -> Curve | None:
        """The metric of the one run, or the mean over the steps at which every seed has a value; None without any."""
        members = [metrics for metrics in self.metrics if name in metrics and np.isfinite(metrics[name]).any()]
        if not members:
            return None
        if len(members) == 1:
            steps, values = members[0]["step"], members[0][name]
            last = np.flatnonzero(np.isfinite(values))[-1]
            return Curve(steps[: last + 1], values[: last + 1])
        finite = [np.isfinite(metrics[name]) for metrics in members]
        steps = members[0]["step"][finite[0]]
        for metrics, keep in zip(members[1:], finite[1:], strict=True):
            steps = np.intersect1d(steps, metrics["step"][keep])
        if not len(steps):
            return None
        values = np.stack([metrics[name][np.isin(metrics["step"], steps)] for metrics in members])
        return Curve(steps, values.mean(0), values.std(0, ddof=1) / np.sqrt(len(members)))

    def pooled(self, *names: str) -> list[np.ndarray]:
        """The named metrics at the steps where all are finite, of all seeds one after another."""
        kept: list[list[np.ndarray]] = [[] for _ in names]
        for metrics in self.metrics:
            if all(name in metrics for name in names):
                keep = np.logical_and.reduce([np.isfinite(metrics[name]) for name in names])
                for values, name in zip(kept, names, strict=True):
                    values.append(metrics[name][keep])
        return [np.concatenate(values) if values else np.zeros(0) for values in kept]

    def target(self) -> Curve | None:
        """The entropy it was to hold: the recorded target, else the configured one as a constant."""
        recorded = self.curve("target_entropy")
        if recorded is not None:
            return Curve(recorded.steps, recorded.values)
        target = self.config.get("target_entropy")
        entropy = self.curve("entropy")
        if target is None or entropy is None:
            return None
        return Curve(entropy.steps, np.full(len(entropy.steps), float(target)))


def group_runs(runs: Sequence[RunStore]) -> list[Group]:
    """Runs of the same settings and different seeds together, in the order in which they first appear."""
    settings: dict[str, list[RunStore]] = {}
    for run in runs:
        own = {key: value for key, value in run.config.items() if key not in _PER_RUN}
        settings.setdefault(json.dumps(own, sort_keys=True), []).append(run)
    gathered: list[list[RunStore]] = []
    for members in settings.values():
        seeds = [run.config.get("seed") for run in members]
        apart = None in seeds or len(set(seeds)) < len(seeds)
        gathered += [[run] for run in members] if apart else [members]
    labels = _labels(gathered)
    return [
        Group(label, tuple(members), tuple(run.metrics() for run in members))
        for label, members in zip(labels, gathered, strict=True)
    ]


def _labels(gathered: list[list[RunStore]]) -> list[str]:
    if len(gathered) == 1:
        return [_name(gathered[0])]
    labels = []
    for members in gathered:
        own = members[0].config
        rivals = [other[0].config for other in gathered if other is not members and _name(other) == _name(members)]
        differing = [
            f"{key.replace('_', ' ')} {own[key]}"
            for key in own
            if key not in _PER_RUN | {"objective", "papers"}
            and any(rival.get(key) != own[key] for rival in rivals)
            and isinstance(own[key], str | int | float)
        ]
        labels.append(", ".join([_name(members), *differing]))
    return [
        label if labels.count(label) == 1 else members[0].id for label, members in zip(labels, gathered, strict=True)
    ]


def _name(members: list[RunStore]) -> str:
    config = members[0].config
    return str(config.get("recipe") or config.get("name") or members[0].id)


def thin(curve: Curve, points: int = 1200) -> Curve:
    """At most about `points` of the curve's points, the lowest and highest of each stretch among them.

    Every spike survives, so what is drawn has the outline of what was recorded.
    """
    count = len(curve.steps)
    if count <= points:
        return curve
    keep = {0, count - 1}
    for stretch in np.array_split(np.arange(count), points // 2):
        values = curve.values[stretch]
        if np.isfinite(values).any():
            keep |= {int(stretch[np.nanargmin(values)]), int(stretch[np.nanargmax(values)])}
        if not np.isfinite(values).all():
            keep.add(int(stretch[np.flatnonzero(~np.isfinite(values))[0]]))
    kept = np.array(sorted(keep))
    return Curve(curve.steps[kept], curve.values[kept], None if curve.stderr is None else curve.stderr[kept])


def smooth(curve: Curve) -> tuple[Curve, int] | None:
    """The centred moving mean and its window in recorded steps; None for a curve too short to need it."""
    finite = curve.finite
    if len(finite.steps) < 60:
        return None
    half = max(2, len(finite.steps) // 60)
    total = np.concatenate([[0.0], np.cumsum(finite.values)])
    index = np.arange(len(finite.steps))
    reach = np.minimum(np.minimum(index, len(index) - 1 - index), half)
    means = (total[index + reach + 1] - total[index - reach]) / (2 * reach + 1)
    return Curve(finite.steps, means), 2 * half + 1
