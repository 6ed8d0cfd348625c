"""From runs to curves: which runs are one experiment, their mean and its standard error, and what is worth drawing."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from jaxtyping import Float64

from isentrope.report.store import RunStore

Metrics = Mapping[str, np.ndarray]

# What tells one run from another without being a setting of the experiment.
PER_RUN = {
    "id", "name", "created", "version", "command", "seed", "path", "root", "resume", "device", "threads", "entropy_before",
}  # fmt: skip


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
    def settings(self) -> dict[str, Any]:
        return settings(self.runs[0]) if self.runs else {}

    def curve(self, name: str, window: int = 1) -> Curve | None:
        """The metric of the one run, or the mean over the steps at which every seed has a value; None without any.

        With a `window` each run's values are first replaced by their centred moving mean over so many recorded steps.
        """
        members = [
            Curve(metrics["step"], metrics[name])
            for metrics in self.metrics
            if name in metrics and np.isfinite(metrics[name]).any()
        ]
        if window > 1:
            members = [moving_mean(member, window) for member in members]
        if not members:
            return None
        if len(members) == 1:
            known = np.flatnonzero(np.isfinite(members[0].values))
            span = slice(known[0], known[-1] + 1)
            return Curve(members[0].steps[span], members[0].values[span])
        members = [member.finite for member in members]
        steps = reduce(np.intersect1d, [member.steps for member in members])
        if not len(steps):
            return None
        values = np.stack([member.values[np.isin(member.steps, steps)] for member in members])
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
        target = self.settings.get("target_entropy")
        entropy = self.curve("entropy")
        if target is None or entropy is None:
            return None
        return Curve(entropy.steps, np.full(len(entropy.steps), float(target)))


def settings(run: RunStore) -> dict[str, Any]:
    """The run's configuration without nesting: the names of the leaves, dotted where two leaves share a name."""
    flat: dict[str, Any] = {}
    level = [("", run.config)]
    # Level by level, so that of two leaves of one name the outer keeps the bare name.
    while level:
        deeper = []
        for prefix, mapping in level:
            for key, value in mapping.items():
                if isinstance(value, dict):
                    deeper.append((f"{prefix}{key}.", value))
                    continue
                if isinstance(value, str):
                    # A function's address tells nothing, and differs from process to process.
                    value = re.sub(r"<function (\S+) at 0x[0-9a-f]+>", r"\1", value)
                if flat.setdefault(key, value) != value:
                    flat[f"{prefix}{key}"] = value
        level = deeper
    return flat


def group_runs(runs: Sequence[RunStore]) -> list[Group]:
    """Runs of the same settings and different seeds together, in the order in which they first appear."""
    alike: dict[str, list[RunStore]] = {}
    for run in runs:
        alike.setdefault(json.dumps(_asked(run), sort_keys=True), []).append(run)
    gathered: list[list[RunStore]] = []
    for members in alike.values():
        seeds = [settings(run).get("seed") for run in members]
        apart = None in seeds or len(set(seeds)) < len(seeds)
        gathered += [[run] for run in members] if apart else [members]
    labels = _labels(gathered)
    return [
        Group(label, tuple(members), tuple(run.metrics() for run in members))
        for label, members in zip(labels, gathered, strict=True)
    ]


def _asked(run: RunStore) -> dict[str, Any]:
    """The settings that make the experiment, without what was derived from them in the run."""
    flat = settings(run)
    dotted = {key.rpartition(".")[2] for key in flat if "." in key}
    derived = dotted | ({"objective"} if flat.get("recipe") else set())
    # A path such as start/countdown-s3, one for each seed, is the same setting.
    own_seed = re.compile(rf"-s{flat.get('seed')}\b")
    return {
        key: own_seed.sub("", value) if isinstance(value, str) else value
        for key, value in flat.items()
        if key.rpartition(".")[2] not in PER_RUN and not (key in derived and "." not in key)
    }


def _labels(gathered: list[list[RunStore]]) -> list[str]:
    if len(gathered) == 1:
        return [_name(gathered[0])]
    labels = []
    for members in gathered:
        own = _asked(members[0])
        rivals = [_asked(other[0]) for other in gathered if other is not members and _name(other) == _name(members)]
        differing = [
            f"{key.rpartition('.')[2].replace('_', ' ')} {value}"
            for key, value in own.items()
            if isinstance(value, str | int | float) and any(rival.get(key) != value for rival in rivals)
        ]
        labels.append(", ".join([_name(members), *differing]))
    return [
        label if labels.count(label) == 1 else members[0].id for label, members in zip(labels, gathered, strict=True)
    ]


def _name(members: list[RunStore]) -> str:
    own = settings(members[0])
    return str(own.get("recipe") or own.get("name") or members[0].id)


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


def smoothing_window(curve: Curve) -> int:
    """The window, in recorded steps, over which a noisy metric is averaged for drawing; 1 for a short one."""
    count = len(curve.finite.steps)
    return 1 if count < 60 else 2 * max(2, count // 60) + 1


def moving_mean(curve: Curve, window: int) -> Curve:
    """The mean of the curve's finite values within half a `window` on either side, as far as there are any."""
    finite = curve.finite
    total = np.concatenate([[0.0], np.cumsum(finite.values)])
    index = np.arange(len(finite.steps))
    first, after = np.maximum(index - window // 2, 0), np.minimum(index + window // 2 + 1, len(index))
    return Curve(finite.steps, (total[after] - total[first]) / (after - first))
