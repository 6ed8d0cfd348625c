"""Controllers and schedules: numbers that change during training.

A controller may stand wherever a part takes a number: ``EntropyBonus(coefficient=ProportionalIntegral(target=0.6))``,
``TopEntropy(fraction=Linear(1.0, 0.2, steps=100))``, and inside another controller,
``ProportionalIntegral(target=Linear(0.6, 0.2, steps=100))``. `Objective` finds them, keeps what they remember in its
`State`, shows each of them the metrics of the whole batch once an optimiser step, and puts the number in their place.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

Memory = Mapping[str, Any]
"""What a stateful part remembers: names to numbers, strings and lists, as JSON holds them."""

Number = Annotated[Any, "a number, or a controller that stands for one"]
"""The type of a parameter that may be controlled. (A part is called only once controllers have become numbers.)"""


@dataclass(frozen=True)
class Stateful:
    """A part that changes from step to step; the abstract base of controllers and of parts that keep a history.

    `at` says what stands in the part's place during a step: a number for a controller, a plain part for a part with a
    history. All three methods are pure; fields that hold further controllers are already numbers when they are called.
    """

    def start(self) -> Memory:
        """What is remembered before the first step."""
        return {}

    def at(self, memory: Memory, step: int) -> Any:
        """What stands in this part's place at ``step``."""
        raise NotImplementedError

    def update(self, memory: Memory, metrics: Mapping[str, float], step: int) -> Memory:
        """What is remembered after the batch's metrics have been seen; called once before each optimiser step.

        ``metrics`` hold what the part's own ``observe(batch) -> Tally`` counted, if it has one, under the names it gave.
        """
        return memory


@dataclass(frozen=True)
class _Ramp(Stateful):
    start_value: float
    end_value: float
    steps: int

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"{type(self).__name__}: steps must be at least 1, got {self.steps}")

    def _progress(self, step: int) -> float:
        return min(step / self.steps, 1.0)


@dataclass(frozen=True)
class Linear(_Ramp):
    """A straight line from ``start_value`` at step 0 to ``end_value`` at step ``steps``, constant afterwards.

    Examples:
        >>> [Linear(1.0, 0.0, steps=4).at({}, t) for t in (0, 1, 4, 9)]
        [1.0, 0.75, 0.0, 0.0]
    """

    def at(self, memory: Memory, step: int) -> float:
        """The value at ``step``."""
        progress = self._progress(step)
        return self.start_value + (self.end_value - self.start_value) * progress


@dataclass(frozen=True)
class Cosine(_Ramp):
    """Half a cosine from ``start_value`` at step 0 to ``end_value`` at step ``steps``, constant afterwards.

    Examples:
        >>> [round(Cosine(1.0, 0.0, steps=4).at({}, t), 3) for t in (0, 1, 2, 4)]
        [1.0, 0.854, 0.5, 0.0]
    """

    def at(self, memory: Memory, step: int) -> float:
        """The value at ``step``."""
        progress = self._progress(step)
        return self.end_value + (self.start_value - self.end_value) * (1 + math.cos(math.pi * progress)) / 2


@dataclass(frozen=True)
class CosineRestarts(Stateful):
    """Half a cosine from ``start_value`` to ``end_value``, again and again, after a linear warm-up.

    Step ``t < warm_up`` gives ``warm_up_value + (start_value - warm_up_value) (t + 1) / warm_up``; afterwards each cycle
    of ``cycle`` steps begins at ``start_value``.

    Args:
        start_value: value at the start of each cycle.
        end_value: what each cycle runs to.
        cycle: steps in a cycle.
        warm_up: steps before the first cycle.
        warm_up_value: where the warm-up starts from.

    References:
        Loshchilov and Hutter, SGDR, arXiv 1608.03983; with a warm-up as in CANON's code, arXiv 2509.23962.

    Examples:
        >>> schedule = CosineRestarts(1.0, 0.0, cycle=4, warm_up=2)
        >>> [round(schedule.at({}, t), 3) for t in range(8)]
        [0.5, 1.0, 1.0, 0.854, 0.5, 0.146, 1.0, 0.854]
    """

    start_value: float
    end_value: float
    cycle: int
    warm_up: int = 0
    warm_up_value: float = 0.0

    def __post_init__(self):
        if self.cycle < 1 or self.warm_up < 0:
            raise ValueError(
                f"CosineRestarts: cycle must be at least 1 and warm_up at least 0, got {self.cycle} and {self.warm_up}"
            )

    def at(self, memory: Memory, step: int) -> float:
        """The value at ``step``."""
        if step < self.warm_up:
            return self.warm_up_value + (self.start_value - self.warm_up_value) * (step + 1) / self.warm_up
        return Cosine(self.start_value, self.end_value, self.cycle).at(memory, (step - self.warm_up) % self.cycle)


@dataclass(frozen=True)
class ProportionalIntegral(Stateful):
    """A proportional-integral controller that drives a metric to a target.

    With the error ``e = metric - target``: ``u = clip(K_p e + K_i I, low, high)``, then ``I <- I + e``, so that ``I``
    holds the errors *before* the present one. The sign is that of EntroPIC: the output is positive while the metric is
    above its target. For a coefficient that must *raise* the metric, such as an entropy bonus, give negative gains.

    The reference code lets ``I`` grow while ``u`` is saturated, so that a long start far from the target overshoots by
    as long again; here ``I`` is held inside the range in which ``K_i I`` alone does not saturate, unless
    ``anti_windup=False``.

    Args:
        target: wanted value of the metric, in its unit (nats for entropies).
        proportional: ``K_p``.
        integral: ``K_i``.
        low: smallest output.
        high: largest output.
        metric: name of the metric that is held.
        anti_windup: bound the integral as described.

    References:
        Yang et al., EntroPIC, arXiv 2511.15248.

    Examples:
        >>> controller = ProportionalIntegral(target=1.0, proportional=1.0, integral=0.1)
        >>> memory = controller.update(controller.start(), {"entropy": 1.5}, 0)
        >>> controller.at(memory, 0)
        0.5
        >>> controller.at(controller.update(memory, {"entropy": 1.0}, 1), 1)
        0.05
    """

    target: Number
    proportional: float = 1.0
    integral: float = 0.01
    low: float = -1.0
    high: float = 1.0
    metric: str = "entropy"
    anti_windup: bool = True

    def __post_init__(self):
        if self.low >= self.high:
            raise ValueError(f"ProportionalIntegral: low must be below high, got {self.low} and {self.high}")

    def start(self) -> Memory:
        """No error seen yet; the output is 0, or the nearest value allowed."""
        return {"integral": 0.0, "output": min(max(0.0, self.low), self.high)}

    def at(self, memory: Memory, step: int) -> float:
        """The output."""
        return memory["output"]

    def update(self, memory: Memory, metrics: Mapping[str, float], step: int) -> Memory:
        """Take in the error of the present batch."""
        if _not_yet(metrics, self.metric, step):
            return memory
        error = _metric(metrics, self.metric) - self.target
        output = self.proportional * error + self.integral * memory["integral"]
        integral = memory["integral"] + error
        if self.anti_windup and self.integral:
            ends = (self.low / self.integral, self.high / self.integral)
            integral = min(max(integral, min(ends)), max(ends))
        return {"integral": integral, "output": min(max(output, self.low), self.high)}


@dataclass(frozen=True)
class StepTowards(Stateful):
    """A coefficient that climbs by a fixed step while the metric is below its target, and falls while it is above.

    ``c <- clip(c + delta sign(target - metric), low, high)``. With ``only_below`` the coefficient acts (is not 0) only
    while the metric is at or below the target, as in Skywork-OR1 and in TRL's ``use_adaptive_entropy``.

    Args:
        target: wanted value of the metric (nats for entropies).
        delta: step of the coefficient.
        low: smallest coefficient.
        high: largest coefficient.
        initial: coefficient at the start.
        metric: name of the metric that is held.
        only_below: switch the coefficient off above the target.

    References:
        He et al., Skywork Open Reasoner 1, arXiv 2505.22312.
    """

    target: Number
    delta: float = 0.005
    low: float = 0.0
    high: float = 1.0
    initial: float = 0.0
    metric: str = "entropy"
    only_below: bool = True

    def start(self) -> Memory:
        """The initial coefficient, acting."""
        return {"coefficient": self.initial, "active": True}

    def at(self, memory: Memory, step: int) -> float:
        """The coefficient, 0 while it does not act."""
        return memory["coefficient"] if memory["active"] else 0.0

    def update(self, memory: Memory, metrics: Mapping[str, float], step: int) -> Memory:
        """Step towards the target."""
        if _not_yet(metrics, self.metric, step):
            return memory
        value = _metric(metrics, self.metric)
        coefficient = memory["coefficient"] + self.delta * ((value < self.target) - (value > self.target))
        active = not self.only_below or value <= self.target
        return {"coefficient": min(max(coefficient, self.low), self.high), "active": active}


@dataclass(frozen=True)
class DeadBand(Stateful):
    """A coefficient that rises while a metric is below a band, falls while it is above, and rests inside.

    ``c <- clip(c - rate (min(0, m - low) + max(0, m - high)), smallest, largest)``, in proportion to how far the metric
    ``m`` is outside.

    Args:
        low: lower end of the band, in the metric's unit (nats for entropies).
        high: upper end.
        rate: change of the coefficient per unit of the metric outside the band.
        initial: coefficient at the start.
        smallest: least coefficient.
        largest: largest coefficient.
        warm_up: steps during which the coefficient does not change.
        metric: name of the metric; one of the loss is that of the step before.

    References:
        Shen, On Entropy Control in LLM-RL Algorithms (AEnt), arXiv 2509.03493.

    Examples:
        >>> controller = DeadBand(low=1.0, high=2.0, rate=0.1, initial=0.5, largest=1.0, metric="entropy")
        >>> memory, values = controller.start(), []
        >>> for step, entropy in enumerate([1.5, 0.5, 1.5, 2.5]):
        ...     memory = controller.update(memory, {"entropy": entropy}, step)
        ...     values.append(round(controller.at(memory, step), 3))
        >>> values
        [0.5, 0.55, 0.55, 0.5]
    """

    low: Number = 0.05
    high: Number = 0.23
    rate: float = 1e-3
    initial: float = 2e-4
    smallest: float = 1e-5
    largest: float = 3e-3
    warm_up: int = 0
    metric: str = "entropy"

    def __post_init__(self):
        if not self.smallest <= self.initial <= self.largest:
            raise ValueError(
                f"DeadBand: initial must lie between smallest = {self.smallest} and largest = {self.largest}, "
                f"got {self.initial}"
            )
        ends = (self.low, self.high)
        if all(isinstance(end, (int, float)) for end in ends) and self.low > self.high:
            raise ValueError(f"DeadBand: low must not exceed high, got {self.low} and {self.high}")

    def start(self) -> Memory:
        """The initial coefficient."""
        return {"coefficient": self.initial}

    def at(self, memory: Memory, step: int) -> float:
        """The coefficient."""
        return memory["coefficient"]

    def update(self, memory: Memory, metrics: Mapping[str, float], step: int) -> Memory:
        """Move against the metric if it is outside the band."""
        if step < self.warm_up or _not_yet(metrics, self.metric, step):
            return memory
        value = _metric(metrics, self.metric)
        outside = min(0.0, value - self.low) + max(0.0, value - self.high)
        return {"coefficient": min(max(memory["coefficient"] - self.rate * outside, self.smallest), self.largest)}


@dataclass(frozen=True)
class DualVariable(Stateful):
    """The Lagrange multiplier of a lower bound on a metric, learnt by gradient steps on its logarithm.

    ``c <- clip(c exp(-rate (m - target)), low, high)``: it grows while the metric ``m`` is below its target and decays
    while it is above, by factors, so that it finds its order of magnitude by itself and stays positive. This is how soft
    actor-critic sets its temperature (plain gradient steps here, where its implementations use Adam).

    Args:
        target: lower bound of the metric, in its unit (nats for entropies).
        rate: step size of the logarithm per unit of the metric.
        initial: coefficient at the start.
        low: smallest coefficient, positive.
        high: largest coefficient.
        metric: name of the metric.

    References:
        Haarnoja et al., Soft Actor-Critic Algorithms and Applications, arXiv 1812.05905, section 5.

    Examples:
        >>> controller = DualVariable(target=1.0, rate=0.5, initial=0.1)
        >>> controller.at(controller.update(controller.start(), {"entropy": 0.0}, 0), 0)  # 0.1 exp(0.5)
        0.1648...
    """

    target: Number
    rate: float = 0.1
    initial: float = 0.01
    low: float = 1e-6
    high: float = 1.0
    metric: str = "entropy"

    def __post_init__(self):
        if not 0 < self.low <= self.initial <= self.high:
            raise ValueError(
                f"DualVariable: 0 < low <= initial <= high must hold, got {self.low}, {self.initial} and {self.high}"
            )

    def start(self) -> Memory:
        """The initial coefficient."""
        return {"coefficient": self.initial}

    def at(self, memory: Memory, step: int) -> float:
        """The coefficient."""
        return memory["coefficient"]

    def update(self, memory: Memory, metrics: Mapping[str, float], step: int) -> Memory:
        """One gradient step on the logarithm."""
        if _not_yet(metrics, self.metric, step):
            return memory
        # The bounds come first, or a far metric would overflow the exponential.
        exponent = math.log(memory["coefficient"]) - self.rate * (_metric(metrics, self.metric) - self.target)
        return {"coefficient": math.exp(min(max(exponent, math.log(self.low)), math.log(self.high)))}


@dataclass(frozen=True)
class FractionOfInitial(Stateful):
    """A coefficient that holds a metric at a fraction of its first value.

    ``c <- clip(c + rate (fraction m_0 - m), 0, largest)`` from 0, where ``m_0`` is the metric at the first step. It starts
    to act once the metric has fallen to the target.

    Args:
        fraction: ``tau`` in ``(0, 1]``.
        rate: change of the coefficient per unit of the metric's error.
        largest: largest coefficient.
        metric: name of the metric.

    References:
        Zhang et al., Rediscovering Entropy Regularization (AER), arXiv 2510.10959; inferred from its abstract.

    Examples:
        >>> controller = FractionOfInitial(fraction=0.5, rate=0.1, largest=1.0)
        >>> memory, values = controller.start(), []
        >>> for step, entropy in enumerate([2.0, 0.5, 0.5, 1.4]):
        ...     memory = controller.update(memory, {"entropy": entropy}, step)
        ...     values.append(round(controller.at(memory, step), 3))
        >>> values
        [0.0, 0.05, 0.1, 0.06]
    """

    fraction: float = 0.4
    rate: float = 0.005
    largest: float = 0.05
    metric: str = "entropy"

    def __post_init__(self):
        if not 0 < self.fraction <= 1:
            raise ValueError(f"FractionOfInitial: fraction must lie in (0, 1], got {self.fraction}")

    def start(self) -> Memory:
        """Nothing seen, coefficient 0."""
        return {"initial": None, "coefficient": 0.0}

    def at(self, memory: Memory, step: int) -> float:
        """The coefficient."""
        return memory["coefficient"]

    def update(self, memory: Memory, metrics: Mapping[str, float], step: int) -> Memory:
        """Integrate the error."""
        if _not_yet(metrics, self.metric, step):
            return memory
        value = _metric(metrics, self.metric)
        initial = value if memory["initial"] is None else memory["initial"]
        coefficient = memory["coefficient"] + self.rate * (self.fraction * initial - value)
        return {"initial": initial, "coefficient": min(max(coefficient, 0.0), self.largest)}


def _not_yet(metrics: Mapping[str, float], name: str, step: int) -> bool:
    """Metrics of the loss come from the step before, so the first step has none."""
    return step == 0 and name not in metrics


def _metric(metrics: Mapping[str, float], name: str) -> float:
    if name not in metrics:
        raise ValueError(f"controller: no metric {name!r} to follow; there are {', '.join(sorted(metrics)) or 'none'}")
    if not math.isfinite(metrics[name]):
        raise ValueError(f"controller: the metric {name!r} is {metrics[name]}, which no controller can follow")
    return metrics[name]
