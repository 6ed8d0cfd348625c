"""The smallest problem on which entropy collapses: one softmax over arms, trained by policy gradients."""

import numpy as np
import torch

from isentrope.policy import RolloutPlan, TokenBatch


def entropy_of(logits):
    return -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)


def bandit(objective, steps, learning_rate, seed=0, prompts=32, group=8, arms=20, inner_steps=1, extras=None):
    """One softmax over arms that pay Bernoulli(.2 ... .8), trained by plain gradient ascent: entropy and reward curves.

    `extras` makes further tensors of the batch from its actions. Where the objective's plan asks for it, the first groups
    are drawn at its other temperature.
    """
    generator = torch.Generator().manual_seed(seed)
    pay = torch.linspace(0.2, 0.8, arms).double()
    logits = torch.zeros(arms).double()
    state, curve = objective.start(seed), []
    for _ in range(steps):
        plan = objective.rollout_plan(RolloutPlan(group), state)
        tempered = (torch.arange(prompts) < plan.tempered_share * prompts).repeat_interleave(group)
        if tempered.any():
            at = torch.where(tempered, plan.tempered_at, 1.0).double()
            actions = torch.multinomial((logits / at[:, None]).softmax(-1), 1, generator=generator)
        else:
            draw = torch.multinomial(logits.softmax(-1), prompts * group, replacement=True, generator=generator)
            actions = draw[:, None]
        log_probs = logits.log_softmax(-1)
        batch = TokenBatch(
            mask=torch.ones_like(actions, dtype=torch.bool),
            rewards=torch.bernoulli(pay[actions[:, 0]], generator=generator),
            group_ids=torch.arange(len(actions)) // group,
            old_log_probs=log_probs[actions],
            old_entropy=entropy_of(logits).expand(actions.shape),
            token_ids=actions,
            extras={"tempered": tempered, **(extras(actions) if extras else {})},
        )
        batch, metrics = objective.prepare(batch, state)
        window = batch.with_totals()
        for _ in range(inner_steps):
            state = objective.control(state, metrics.means())
            live = logits.clone().requires_grad_()
            every_row = live.expand(*actions.shape, arms)
            activation = objective.activation(state, window)
            scored = every_row if activation is None else activation(every_row.flatten(0, 1)).view_as(every_row)
            log_probs = scored.log_softmax(-1).gather(-1, actions[..., None])[..., 0]
            current = window.with_(
                log_probs=log_probs,
                entropy=entropy_of(live).expand(actions.shape),
                logits=lambda every_row=every_row: every_row,
            )
            if activation is not None:
                # One optimiser step a batch: the policy that sampled is the one at hand, under the same activation.
                assert inner_steps == 1
                current = current.with_(old_log_probs=log_probs.detach())
            loss, tally = objective.loss(current, state)
            logits = logits - learning_rate * torch.autograd.grad(loss, live)[0]
            state = state.next_step(tally.means())
        curve.append((float(entropy_of(logits)), metrics.means()["reward"]))
    return np.array(curve)
