"""`Objective`: a policy objective as a row of slots, and `State`: what it remembers between steps.

    rollout -> reward -> advantage -> row filter -> shaping -> selection
        | output activation -> surrogate -> token weight -> aggregation -> regularizers

Left of the bar parts see the whole optimisation batch without gradient (`Objective.prepare`); right of it they see a
micro-batch with gradient (`Objective.loss`). A host's loop is

    plan = objective.rollout_plan(plan, state)                 # how to sample
    batch, metrics = objective.prepare(batch, state)           # whole batch, no gradient
    state = objective.control(state, metrics.means())          # controllers, once an optimiser step
    window = batch.with_totals()
    for micro_batch in window.split(size):
        loss, tally = objective.loss(micro_batch.with_(log_probs=..., entropy=...), state)
        loss.backward()                                        # contributions add up to the window's loss
    state = state.next_step(tally.means())

A part is a callable. Beyond being called it may carry:

- ``needs``, a set of names from `NEEDS` that the host must then provide;
- ``prepare(batch, generator)``, if its rule needs the whole batch or randomness. Of a surrogate, token weight or
  regularizer the result, a tensor with leading ``[B]``, is handed back as the second argument of the call; of an output
  activation it is ``[B, T]`` with 0 where nothing is to be changed, and the call gets it at the tokens of its logits; of
  a row filter, shaping or selection it is the answer itself. The generator is a CPU generator;
- ``observe(batch) -> Tally``, for a stateful part that follows more than the objective's own metrics: what it counts on
  the whole batch reaches its ``update``;
- of a regularizer, a result that is a pair of the term and a `Tally`: what it counted joins the metrics of the loss, where
  a controller finds it by its name at the next step.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isentrope.policy.aggregation import Denominators, token_mean
from isentrope.policy.batch import Tally, TokenBatch
from isentrope.policy.controllers import Memory, Stateful
from isentrope.policy.dynamics import covariance_contributions
from isentrope.policy.rollout import RolloutPlan
from isentrope.policy.surrogates import importance_ratio

STATISTICS = frozenset(
    {"varentropy", "collision_probability", "top_k_mass", "max_probability", "probability_covariance"}
)
"""Token statistics that a part may need beyond log-probability and entropy."""

NEEDS = {
    "old_entropy": "entropy of the sampling policy on the whole batch",
    "entropy": "entropy of the current policy",
    "entropy_grad": "entropy of the current policy, with gradient",
    "reference": "log-probabilities under a frozen reference policy",
    "logits": "full logits of the current policy, [B, T, V]",
    "teacher": "the distributions of a frozen teacher",
    "token_ids": "the sampled tokens",
    **{name: f"{name.replace('_', ' ')} of the current policy, in extras" for name in sorted(STATISTICS)},
    "clipped": "which tokens the surrogate clips on the whole batch (made by the objective itself)",
}
"""What parts may ask for."""

Part = Callable[..., Any]


@dataclass(frozen=True)
class State:
    """What an objective remembers: the step, the seed of its random choices, and the memory of its stateful parts.

    Plain JSON, identical on all ranks because it is updated from reduced metrics only.
    """

    step: int = 0
    seed: int = 0
    memory: Mapping[str, Memory] = field(default_factory=dict)
    loss_metrics: Mapping[str, float] = field(default_factory=dict)

    def next_step(self, loss_metrics: Mapping[str, float] | None = None) -> "State":
        """The state after an optimiser step, whose loss had these metrics; controllers see them at the next one."""
        return replace(self, step=self.step + 1, loss_metrics=dict(loss_metrics or {}))

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready form."""
        return {
            "step": self.step,
            "seed": self.seed,
            "memory": {path: dict(memory) for path, memory in self.memory.items()},
            "loss_metrics": dict(self.loss_metrics),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "State":
        """The state that `to_dict` wrote."""
        return cls(**data)


@dataclass(frozen=True, repr=False)
class Objective:
    """A policy objective: one slot for each place where an intervention can act.

    Args:
        name: what reports call it.
        advantage: ``TokenBatch -> [B] | [B, T]``.
        surrogate: ``TokenBatch -> [B, T]`` token loss.
        aggregation: ``([B, T], mask, Denominators) -> 0-d`` contribution to the window's loss.
        rollout: ``RolloutPlan -> RolloutPlan`` each.
        reward: ``TokenBatch -> [B]`` each, in order.
        row_filter: ``TokenBatch -> [B]`` booleans each; a row must pass all. Dropped rows leave all denominators.
        shaping: ``TokenBatch -> [B, T]`` new advantages each, in order.
        selection: ``TokenBatch -> [B, T]`` booleans each; dropped tokens leave the surrogate and its denominators, not
            the regularizers.
        output_activation: ``logits -> logits``, applied by the host before any log-probability is taken (`activation`).
        token_weight: ``TokenBatch -> [B, T]`` factors on the token loss; denominators unchanged.
        regularizers: ``TokenBatch -> [B, T]`` token terms, or 0-d contributions; or a pair of that and a `Tally`.
        papers: catalog keys of what it implements.

    Examples:
        >>> from isentrope.policy import recipes
        >>> from isentrope.policy.regularizers import EntropyBonus
        >>> objective = recipes.dapo().adding(regularizers=EntropyBonus(0.01))
        >>> sorted(objective.needs)
        ['entropy_grad']
    """

    name: str
    advantage: Part
    surrogate: Part
    aggregation: Part = token_mean
    rollout: tuple[Part, ...] = ()
    reward: tuple[Part, ...] = ()
    row_filter: tuple[Part, ...] = ()
    shaping: tuple[Part, ...] = ()
    selection: tuple[Part, ...] = ()
    output_activation: Part | None = None
    token_weight: tuple[Part, ...] = ()
    regularizers: tuple[Part, ...] = ()
    papers: tuple[str, ...] = ()

    def __post_init__(self):
        unknown = self.needs - NEEDS.keys()
        if unknown:
            raise ValueError(f"Objective {self.name}: a part needs {sorted(unknown)}; known are {sorted(NEEDS)}")

    def __repr__(self) -> str:
        filled = [(f.name, getattr(self, f.name)) for f in fields(self) if getattr(self, f.name) not in ((), None)]
        return f"Objective({', '.join(f'{name}={_shown(value)}' for name, value in filled)})"

    def with_(self, **slots: Any) -> "Objective":
        """A copy with the named slots replaced; a single part given for a slot of many becomes its only one.

        Examples:
            >>> from isentrope.policy import recipes
            >>> from isentrope.policy.selection import TopEntropy
            >>> recipes.dapo().with_(selection=TopEntropy(0.2)).selection
            (TopEntropy(fraction=0.2),)
        """
        return replace(self, **{slot: self._as_slot(slot, value) for slot, value in slots.items()})

    def adding(self, **slots: Any) -> "Objective":
        """A copy with the given parts appended to slots that hold many (``papers`` too)."""
        for slot in slots:
            if slot not in _MANY:
                raise ValueError(
                    f"adding: {slot} holds one part, replace it by with_({slot}=...); many: {sorted(_MANY)}"
                )
        return replace(self, **{slot: getattr(self, slot) + self._as_slot(slot, new) for slot, new in slots.items()})

    @staticmethod
    def _as_slot(slot: str, value: Any) -> Any:
        return (value,) if slot in _MANY and not isinstance(value, tuple) else value

    @property
    def needs(self) -> frozenset[str]:
        """What the host must provide beyond log-probabilities, rewards and groups: names from `NEEDS`."""
        return frozenset().union(*(getattr(part, "needs", frozenset()) for part in _parts(self))) - {"clipped"}

    def start(self, seed: int = 0) -> State:
        """The state before the first step."""
        memory = {path: part.start() for path, part in _stateful(self, 0, {})}
        return State(seed=seed, memory=memory)

    def at(self, state: State) -> "Objective":
        """The objective of this step: every controller replaced by its present number.

        Raises:
            ValueError: if the state belongs to an objective with other stateful parts.
        """
        if not self.controllers(state):
            return self
        now = _resolved(self, "", state.step, state.memory)
        if not now.needs <= self.needs:
            raise ValueError(
                f"Objective {self.name}: a stateful part stands for one that needs {sorted(now.needs - self.needs)}; "
                "give the stateful part the same needs"
            )
        return now

    def coefficients(self, state: State) -> dict[str, float]:
        """The present output of each controller, by its path in the objective."""
        values = {path: _value(part, state.memory[path], state.step) for path, part in self.controllers(state).items()}
        return {path: float(value) for path, value in values.items() if isinstance(value, (int, float))}

    def target(self, state: State, metric: str = "entropy") -> float | None:
        """The target of the first controller that holds this metric, None if there is none."""
        for part in self.controllers(state).values():
            if getattr(part, "metric", None) == metric and hasattr(part, "target"):
                return float(part.target)  # pyright: ignore[reportAttributeAccessIssue]
        return None

    def control_metrics(self, state: State) -> dict[str, float]:
        """What a host logs of its controllers: ``coefficient/<path>`` of each, and ``target_entropy`` if one holds it."""
        target = self.target(state)
        metrics = {f"coefficient/{path}": value for path, value in self.coefficients(state).items()}
        return metrics if target is None else metrics | {"target_entropy": target}

    def controllers(self, state: State) -> dict[str, Stateful]:
        """The stateful parts by their paths, each with its own inner parts at their present numbers."""
        parts = dict(_stateful(self, state.step, state.memory))
        if parts.keys() != state.memory.keys():
            raise ValueError(
                f"Objective {self.name}: the state remembers {sorted(state.memory)}, the objective's stateful parts are "
                f"{sorted(parts)}; start a new state with objective.start()"
            )
        return parts

    def control(self, state: State, metrics: Mapping[str, float]) -> State:
        """Show the whole batch's metrics to every controller: call it once an optimiser step, before its loss.

        Beside the metrics of `prepare` controllers see those of the previous step's loss. The entropy is that of
        `prepare`, over every row.
        """
        memory = {}
        for path, part in self.controllers(state).items():
            own = {
                name.removeprefix(f"{path}/"): value for name, value in metrics.items() if name.startswith(f"{path}/")
            }
            memory[path] = part.update(state.memory[path], {**state.loss_metrics, **metrics, **own}, state.step)
        return replace(state, memory=memory)

    def rollout_plan(self, plan: RolloutPlan, state: State) -> RolloutPlan:
        """How the next batch is to be sampled."""
        for part in self.at(state).rollout:
            plan = part(plan)
        return plan

    def activation(
        self, state: State, batch: TokenBatch | None = None, mask: Tensor | None = None
    ) -> Callable[[Tensor], Tensor] | None:
        """What a host does to the logits ``[tokens, V]``, after the temperature and before it reads anything off them.

        An output activation that `prepare` decides token by token leaves the policy that samples as it is: without a
        batch there is none.

        Args:
            state: the state of this step.
            batch: rows that were prepared.
            mask: ``[B, T]`` whose tokens the logits are, in the order of ``mask.nonzero()``; the batch's own if None.
        """
        part = self.at(state).output_activation
        if part is None or not hasattr(part, "prepare"):
            return part
        if batch is None:
            return None
        decided = batch.prepared["output_activation"][batch.mask if mask is None else mask]
        return lambda logits: part(logits, decided)

    @torch.no_grad()
    def prepare(self, batch: TokenBatch, state: State) -> tuple[TokenBatch, Tally]:
        """Everything that needs the whole optimisation batch: rewards, advantages, filters, masks, choices of tokens.

        Where the batch carries no current ``log_probs`` and ``entropy``, those of the sampling policy stand in for them:
        exact at the first optimiser step on fresh rollouts. The raw batch may be prepared again with current values.

        Returns:
            The batch with ``advantages``, ``mask`` (rows that the filters kept), ``loss_mask`` and ``prepared`` set, and
            the tally of its metrics: over every row and token, before any filter.
        """
        now = self.at(state)
        current = batch.with_(
            log_probs=batch.old_log_probs if batch.log_probs is None else batch.log_probs.detach(),
            entropy=batch.old_entropy if batch.entropy is None else batch.entropy.detach(),
        )
        if "old_entropy" in self.needs and current.entropy is None:
            raise ValueError(f"Objective {self.name}: a part needs the entropy of the whole batch; give old_entropy")
        if not current.rewards.isfinite().all():
            row = int((~current.rewards.isfinite()).nonzero()[0])
            raise ValueError(
                f"Objective {self.name}: rewards must be finite, got {float(current.rewards[row])} in row {row}"
            )
        tally = Tally().add("reward", current.rewards).add("completion_length", current.lengths.double())
        current = current.with_(raw_rewards=current.rewards)
        if current.entropy is not None:
            tally = tally.add("entropy", current.entropy, current.mask)
        for part in now.reward:
            current = current.with_(rewards=part(current))
        advantages = now.advantage(current)
        advantages = advantages[:, None].expand(current.mask.shape) if advantages.ndim == 1 else advantages
        _check_shape(advantages, current.mask, "advantage")
        current = current.with_(advantages=torch.where(current.mask, advantages, 0))
        keep = torch.ones_like(current.rewards, dtype=torch.bool)
        for path, part in _indexed(now, "row_filter"):
            keep = keep & _check_shape(_decided(part, path, current, state), current.rewards, path)
        kept = current.with_(mask=current.mask & keep[:, None])
        for path, part in _indexed(now, "shaping"):
            shaped = _check_shape(_decided(part, path, kept, state), kept.mask, path)
            kept = kept.with_(advantages=torch.where(kept.mask, shaped, 0))
        selected = kept.mask
        for path, part in _indexed(now, "selection"):
            selected = selected & _check_shape(_decided(part, path, kept, state), kept.mask, path)
        tally = tally.add(
            "covariance",
            covariance_contributions(current.log_probs, kept.advantages, current.mask),  # pyright: ignore[reportArgumentType]
            current.mask,
        )
        clipped = now.surrogate.clipped(kept) if hasattr(now.surrogate, "clipped") else None
        ready = kept.with_(loss_mask=selected, clipped=clipped)
        prepared = {
            path: part.prepare(ready, _generator(state, path))
            for slot in ("output_activation", "surrogate", "token_weight", "regularizers")
            for path, part in _indexed(now, slot)
            if hasattr(part, "prepare")
        }
        for path, part in self.controllers(state).items():
            if hasattr(part, "observe"):
                seen = part.observe(ready)  # pyright: ignore[reportAttributeAccessIssue]
                tally += Tally(*({f"{path}/{name}": v for name, v in d.items()} for d in (seen.sums, seen.counts)))
        tally = tally.add("kept_rows", keep.double()).add("selected_tokens", selected.double(), current.mask)
        return batch.with_(
            rewards=current.rewards,
            raw_rewards=current.raw_rewards,
            advantages=ready.advantages,
            mask=ready.mask,
            loss_mask=selected,
            prepared=prepared,
        ), tally

    def loss(self, batch: TokenBatch, state: State) -> tuple[Tensor, Tally]:
        """A micro-batch's contribution to the window's loss, and its tally.

        Args:
            batch: rows of a prepared batch whose totals are those of the window (`TokenBatch.with_totals`), with
                ``log_probs`` (and ``entropy``, if needed) of the current policy.
            state: the state of this step.
        """
        if batch.advantages is None or batch.loss_mask is None or not batch.totals:
            raise ValueError("Objective.loss: the batch must come from prepare(...) and with_totals()")
        if batch.log_probs is None:
            raise ValueError("Objective.loss: the batch must carry the current policy's log_probs")
        for need, name in _FIELD_OF_NEED.items():
            if need in self.needs and getattr(batch, name) is None:
                raise ValueError(f"Objective {self.name}: a part needs {NEEDS[need]}; give {name}")
        if "entropy_grad" in self.needs and torch.is_grad_enabled() and not batch.entropy.requires_grad:  # pyright: ignore[reportOptionalMemberAccess]
            raise ValueError(
                f"Objective {self.name}: a part needs the gradient of the entropy, but entropy carries none"
            )
        now = self.at(state)

        token_loss = _check_shape(_call(now.surrogate, "surrogate", batch), batch.mask, "surrogate")
        for path, part in _indexed(now, "token_weight"):
            token_loss = token_loss * _check_shape(_call(part, path, batch), batch.mask, path).detach()
        totals = batch.totals
        chosen = Denominators(totals["loss_tokens"], totals["loss_rows"], totals["width"])
        everything = Denominators(totals["tokens"], totals["rows"], totals["width"])
        loss = now.aggregation(token_loss, batch.loss_mask, chosen)
        tally = Tally()
        for path, part in _indexed(now, "regularizers"):
            term = _call(part, path, batch)
            if isinstance(term, tuple):
                term, counted = term
                tally += counted
            if term.ndim:
                term = now.aggregation(_check_shape(term, batch.mask, path), batch.mask, everything)
            loss = loss + term

        ratio = importance_ratio(batch).detach()
        tally = tally.add("ratio_deviation", (ratio - 1).abs(), batch.loss_mask)
        if hasattr(now.surrogate, "clipped"):
            clipped = now.surrogate.clipped(batch)
            tally = tally.add("clip_fraction_high", (clipped & (batch.advantages > 0)).double(), batch.loss_mask)
            tally = tally.add("clip_fraction_low", (clipped & (batch.advantages < 0)).double(), batch.loss_mask)
        if batch.entropy is not None:
            # Under another name than the whole batch's: rows that a filter dropped are missing here.
            tally = tally.add("loss_entropy", batch.entropy, batch.mask)
        return loss, tally


_MANY = frozenset({"rollout", "reward", "row_filter", "shaping", "selection", "token_weight", "regularizers", "papers"})
_FIELD_OF_NEED = {
    "entropy": "entropy",
    "entropy_grad": "entropy",
    "reference": "reference_log_probs",
    "teacher": "teacher",
    "logits": "logits",
    "token_ids": "token_ids",
}


def _indexed(objective: Objective, slot: str) -> Iterator[tuple[str, Any]]:
    """The parts of a slot with their paths."""
    value = getattr(objective, slot)
    if slot in _MANY:
        yield from ((f"{slot}[{index}]", part) for index, part in enumerate(value))
    else:
        yield slot, value


def _generator(state: State, path: str) -> torch.Generator:
    """Randomness of one part at one step, the same on every rank and whenever the step is repeated."""
    seed = int(np.random.SeedSequence([state.seed, state.step, *path.encode()]).generate_state(1)[0])
    return torch.Generator().manual_seed(seed)


def _decided(part: Any, path: str, batch: TokenBatch, state: State) -> Tensor:
    """What a part left of the bar answers, with randomness if it asks for it."""
    return part.prepare(batch, _generator(state, path)) if hasattr(part, "prepare") else part(batch)


def _check_shape(value: Tensor, like: Tensor, path: str) -> Tensor:
    """Refuse what would be broadcast into something else."""
    if value.shape != like.shape:
        raise ValueError(f"{path}: must give the shape {tuple(like.shape)}, got {tuple(value.shape)}")
    return value


def _shown(value: Any) -> str:
    """A function by its name, where its repr would give an address that differs from run to run."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_shown, value))}{',' * (len(value) == 1)})"
    return getattr(value, "__qualname__", None) or repr(value)


def _call(part: Part, path: str, batch: TokenBatch) -> Any:
    if not hasattr(part, "prepare"):
        return part(batch)
    if path in batch.totals:
        batch = batch.with_(totals={**batch.totals, "selected": batch.totals[path]})
    return part(batch, batch.prepared[path])


def _parts(part: Any) -> Iterator[Any]:
    """All parts inside this one, at any depth."""
    for _, inner in _children(part):
        yield inner
        yield from _parts(inner)


def _children(part: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(part, tuple):
        yield from ((f"[{index}]", item) for index, item in enumerate(part))
    elif is_dataclass(part) and not isinstance(part, type):
        for f in fields(part):
            value = getattr(part, f.name)
            if isinstance(value, tuple) or (is_dataclass(value) and not isinstance(value, type)):
                yield f".{f.name}", value


def _stateful(part: Any, step: int, memory: Mapping[str, Memory], path: str = "") -> Iterator[tuple[str, Stateful]]:
    """Every stateful part with its path, inner ones first, each with its own inner parts already resolved."""
    for name, inner in _children(part):
        yield from _stateful(inner, step, memory, path + name)
    if isinstance(part, Stateful):
        yield path.removeprefix("."), _with_children_resolved(part, path, step, memory)


def _with_children_resolved(part: Any, path: str, step: int, memory: Mapping[str, Memory]) -> Any:
    resolved = {name: _resolved(inner, path + name, step, memory) for name, inner in _children(part)}
    if isinstance(part, tuple):
        return tuple(resolved.get(f"[{index}]", item) for index, item in enumerate(part))
    return replace(part, **{name[1:]: value for name, value in resolved.items()}) if resolved else part


def _resolved(part: Any, path: str, step: int, memory: Mapping[str, Memory]) -> Any:
    part = _with_children_resolved(part, path, step, memory)
    return _value(part, memory.get(path.removeprefix(".")), step) if isinstance(part, Stateful) else part


def _value(part: Stateful, memory: Memory | None, step: int) -> Any:
    return part.at(part.start() if memory is None else memory, step)
