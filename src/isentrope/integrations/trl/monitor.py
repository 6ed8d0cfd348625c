"""Callbacks that follow the entropy of a run of TRL's own trainers, whose loss they leave alone.

`DiagnosisCallback` explains a run from its log when it ends. `EntropyMonitor` measures besides what TRL does not log.

Everything is read from outside. A forward hook keeps what the fused output head of TRL says of the tokens in a training
pass; a hook on its log-probabilities keeps the gradient that the loss sends back to them. That gradient *is* what each
token counts for: with ``N`` tokens in the step over ``P`` ranks (which average their gradients),

    w_t = -(N / P) dL / d log pi_t

is the advantage for a token mean on-policy (DAPO), the advantage times ratio, clip, masks and length normalisation in
general, and 1 for supervised training. So covariances need neither the trainer's private buffers nor its loss.
"""

import json
import logging
import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from transformers import Trainer, TrainerCallback

from isentrope._files import write_atomically
from isentrope.integrations.trl._probe import Probe, why_no_probe
from isentrope.integrations.trl._tokens import Pass, entropy_of, gathered, over_steps, token_metrics
from isentrope.policy.diagnosis import diagnose

_PREFIX = "isentrope/"
_NAMES = {
    "step": "step",
    "entropy": "entropy",
    "reward": "reward",
    "kl": "kl",
    "completions/mean_length": "completion_length",
    "clip_ratio/low_mean": "clip_fraction_low",
    "clip_ratio/high_mean": "clip_fraction_high",
}
"""What TRL calls the metrics that a diagnosis reads."""

_logger = logging.getLogger(__name__)


def columns(log_history: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """The columns of a diagnosis from a trainer's log.

    TRL's names are translated, ``isentrope/<name>`` is ``<name>``, and where a row has both, ours stands.

    Args:
        log_history: rows as in ``trainer.state.log_history`` or the ``log_history`` of a ``trainer_state.json``.

    Returns:
        Columns with one value a row, NaN where it has none, for `isentrope.policy.diagnose`.

    Examples:
        >>> columns([{"entropy": 1.5, "reward": 0.2, "step": 1}, {"entropy": 1.4, "isentrope/entropy": 1.25, "step": 2}])
        {'entropy': array([1.5 , 1.25]), 'reward': array([0.2, nan]), 'step': array([1., 2.])}
    """
    found: dict[str, np.ndarray] = {}
    for ours in (False, True):
        for index, row in enumerate(log_history):
            for key, value in row.items():
                if key.startswith(_PREFIX) != ours or not isinstance(value, int | float) or not math.isfinite(value):
                    continue
                name = key.removeprefix(_PREFIX) if ours else _NAMES.get(key)
                if name is not None:
                    found.setdefault(name, np.full(len(log_history), np.nan))[index] = value
    return found


def _entropy_source(log_history: Sequence[Mapping[str, Any]]) -> str:
    """Which entropy the diagnosis of this log is about."""
    own = sum(f"{_PREFIX}entropy" in row for row in log_history)
    host = sum("entropy" in row and f"{_PREFIX}entropy" not in row for row in log_history)
    kinds = [f"{own} rows: mean over all tokens of whole steps"] if own else []
    kinds += [f"{host} rows: TRL's mean of the means of micro-batches"] if host else []
    return "; ".join(kinds)


class DiagnosisCallback(TrainerCallback):
    """Explains the entropy of a run when it ends.

    It prints the sentences of `isentrope.policy.diagnose`, writes them with their numbers to ``diagnosis.json`` in the
    output folder, and logs the numbers. It reads the trainer's log, which is in every checkpoint, so a run that was
    resumed is explained from its beginning.

    Args:
        log: takes the numbers as a dictionary, such as ``trainer.log``; `watch` gives one.

    Examples:
        >>> trainer = GRPOTrainer(..., callbacks=[DiagnosisCallback()])  # doctest: +SKIP
    """

    def __init__(self, log: Callable[[dict[str, float]], None] | None = None):
        self.log = log
        self._before_reporters = False

    def watch(self, trainer: Trainer) -> Self:
        """Follow `trainer`, standing before its reporters (W&B, TensorBoard, ...), so that they get the numbers too.

        Callbacks that are given to a trainer stand behind its reporters, which have then written a row of the log before
        anything can be added to it.

        Args:
            trainer: any trainer of `transformers` or TRL, before ``train()``.
        """
        # One diagnosis is enough, whether it was asked for twice or the trainer brings its own.
        others = [
            each
            for each in trainer.callback_handler.callbacks
            # A monitor measures too: only another monitor takes its place.
            if each is not self and not (isinstance(each, DiagnosisCallback) and isinstance(self, type(each)))
        ]
        trainer.callback_handler.callbacks = [self, *others]
        self._before_reporters = True
        # TRL's trainers show their table of completions again with every call of their own `log`.
        self.log = self.log or partial(Trainer.log, trainer)
        return self

    def on_train_end(self, args, state, control, **kwargs):
        """Print, write and log the diagnosis, in the main process."""
        if not state.is_world_process_zero:
            return
        metrics = columns(state.log_history)
        diagnosis = diagnose(metrics)
        source = _entropy_source(state.log_history)
        print("\n".join(["", "Entropy of this run" + (f" ({source})" if source else ""), *diagnosis.sentences]))
        folder = Path(args.output_dir or ".")
        folder.mkdir(parents=True, exist_ok=True)
        content = diagnosis.to_dict() | {"entropy": source}
        write_atomically(folder / "diagnosis.json", json.dumps(content, indent=2).encode())
        if self.log is not None and diagnosis.numbers:
            self.log({f"{_PREFIX}diagnosis/{name}": value for name, value in diagnosis.numbers.items()})


class EntropyMonitor(DiagnosisCallback):
    """Measures the entropy of the policy that TRL's GRPO, RLOO or SFT trainer trains, what drives it and where it goes.

    Each row of the log gets ``isentrope/...``: exact means over the tokens of whole optimiser steps and all ranks, the
    covariance of weight and log-probability with its four parts, how few tokens carry the predicted fall, and every few
    steps the change of entropy that the step's parameter change predicts to first order, ``grad H . (theta' - theta)``,
    beside the one that happened on the same tokens. Nats, at the temperature of the trainer. The trained parameters are
    those of a run without it, bit for bit.

    Args:
        probe_every: optimiser steps between predictions; 0 for none. One costs about a forward and backward pass and
            another forward pass over one micro-batch, and holds a gradient.
        log: as for `DiagnosisCallback`.

    References:
        Covariance and first-order change of entropy: arXiv 2505.22617; the four parts: arXiv 2602.03392.

    Examples:
        >>> trainer = GRPOTrainer(...)  # doctest: +SKIP
        >>> monitor = EntropyMonitor(probe_every=20).watch(trainer)  # doctest: +SKIP
        >>> trainer.train()  # doctest: +SKIP
    """

    def __init__(self, probe_every: int = 10, log: Callable[[dict[str, float]], None] | None = None):
        if not isinstance(probe_every, int) or isinstance(probe_every, bool) or probe_every < 0:
            raise ValueError(f"probe_every must be a number of steps, or 0 for no probes, got {probe_every!r}")
        super().__init__(log)
        self.probe_every = probe_every
        self._handle: Any = None
        self._reset()

    def _reset(self) -> None:
        self._steps: list[dict[str, float]] = []
        self._passes: list[Pass] = []
        self._inputs: tuple[tuple, dict] | None = None
        self._probe: Probe | None = None
        self._probe_due = self._loss_from_logits = self._asking = False

    def stop(self) -> None:
        """Take the hook off the model. Only an interrupted run needs this: the end of training does it."""
        if self._handle is not None:
            self._handle.remove()
        self._handle = None
        self._reset()

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        """Put the hook on the model."""
        assert model is not None
        self.stop()
        self._can_probe = self.probe_every > 0
        if self._can_probe and (reason := why_no_probe(args, model)):
            self._can_probe = False
            _logger.warning("EntropyMonitor: no predictions of entropy changes, because %s", reason)
        if args.report_to and not self._before_reporters:
            _logger.warning(
                "EntropyMonitor stands behind the reporters, which will not get its numbers; use "
                "EntropyMonitor().watch(trainer) in place of callbacks=[EntropyMonitor()]"
            )
        # An exception ends training without an event: the hook must not keep the monitor, and goes when the monitor does.
        monitor = weakref.ref(self)
        self._handle = model.register_forward_hook(partial(_on_forward, monitor), with_kwargs=True)
        weakref.finalize(self, self._handle.remove)

    def on_step_begin(self, args, state, control, **kwargs):
        """Start a step."""
        self._passes, self._inputs, self._loss_from_logits = [], None, False
        self._probe_due = self._can_probe and state.global_step % self.probe_every == 0

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        """Sum up the step's tokens, and predict."""
        step = gathered(self._passes, args.device, scale=math.nan if args.fp16 else 1 / args.world_size)
        if len(step) and state.is_world_process_zero:
            self._steps.append(token_metrics(*step.T))
        elif not len(step) and state.global_step == 0:
            _logger.warning("EntropyMonitor: the first step had no pass through TRL's fused head; nothing is measured")
        if self._inputs is not None:
            assert model is not None
            with self._probing():
                self._probe = Probe(model, *self._inputs)
        self._passes, self._inputs = [], None

    def on_optimizer_step(self, args, state, control, **kwargs):
        """Measure what was predicted."""
        if self._probe is not None:
            with self._probing():
                changes = self._probe.changes()
            if self._steps:
                self._steps[-1] |= changes
            self._probe = None

    def on_log(self, args, state, control, logs=None, model=None, **kwargs):
        """Add the steps since the last row of the log to this one."""
        if not self._steps or logs is None or (model is not None and not model.training):
            return
        values = {f"{_PREFIX}{name}": value for name, value in over_steps(self._steps).items()}
        # What a trainer of ours says of its own objective stands.
        values = {name: value for name, value in values.items() if name not in logs}
        self._steps = []
        logs.update(values)
        state.log_history[-1].update(values)

    def on_train_end(self, args, state, control, **kwargs):
        """Take the hook off, then explain the run."""
        self.stop()
        super().on_train_end(args, state, control, **kwargs)

    @contextmanager
    def _probing(self):
        self._asking = True
        try:
            yield
        finally:
            self._asking = False

    def _see(self, module: torch.nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        if self._asking or not module.training:
            return
        with_gradient = torch.is_grad_enabled()
        if getattr(output, "label_mask", None) is None or output.entropy is None:
            # A loss from full logits (label smoothing, `compute_loss_func`); SFTTrainer asks the fused head right after.
            self._loss_from_logits = self._loss_from_logits or with_gradient
            return
        if not with_gradient and not self._loss_from_logits:
            return
        self._loss_from_logits = False
        seen = Pass(output.label_mask, output.log_probs.detach(), entropy_of(output).detach())
        if output.log_probs.requires_grad:
            output.log_probs.register_hook(seen.receive)
        if self._probe_due and not self._passes:
            self._inputs = (args, kwargs)
        self._passes.append(seen)


def _on_forward(monitor: weakref.ref, module: torch.nn.Module, args, kwargs, output) -> None:
    if (living := monitor()) is not None:
        living._see(module, args, kwargs, output)
