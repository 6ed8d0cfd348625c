"""Batches for the tests of the policy room."""

import torch

from isentrope.policy import TokenBatch


def make_batch(rows=8, width=6, vocabulary=5, group_size=4, seed=0, dtype=torch.float64):
    """A ragged batch from a softmax policy a little off the one that sampled it; returns it with the current logits."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, width, vocabulary, generator=generator, dtype=dtype)
    old_logits = logits + 0.3 * torch.randn(rows, width, vocabulary, generator=generator, dtype=dtype)
    tokens = torch.multinomial(old_logits.softmax(-1).flatten(0, 1), 1, generator=generator).view(rows, width)
    lengths = torch.randint(1, width + 1, (rows,), generator=generator)
    mask = torch.arange(width) < lengths[:, None]
    old = old_logits.log_softmax(-1)
    batch = TokenBatch(
        mask=mask,
        rewards=torch.randint(0, 2, (rows,), generator=generator).to(dtype),
        group_ids=torch.arange(rows) // group_size,
        old_log_probs=old.gather(-1, tokens[..., None]).squeeze(-1),
        old_entropy=-(old.exp() * old).sum(-1),
        reference_log_probs=(old * 0.9).log_softmax(-1).gather(-1, tokens[..., None]).squeeze(-1),
        token_ids=tokens,
        extras={
            "turn": torch.where(mask, torch.arange(width) // 2, -1),
            "thinking": mask & (torch.arange(width) < 3),
            "answer": torch.where(lengths > 1, tokens[:, 0] // 2, -1),
            "strategic": mask & (tokens == 0),
            "format": tokens[:, 0].to(dtype) / vocabulary,
            "tempered": torch.arange(rows) // group_size % 2 == 1,
            "probability_covariance": probability_covariance(old),
            "old_logits": old_logits,
            "teacher_logits": torch.randn(rows, width, vocabulary, generator=generator, dtype=dtype),
        },
    )
    return batch, logits


def compared(batch, logits):
    """The batch with a teacher, whose logits are in the extras, beside the policy with these logits."""
    teacher_logits = batch.extras["teacher_logits"]

    def teacher(measure, where):
        if not where.any():
            return 0 * logits.sum(-1)
        values = measure(logits[where], teacher_logits[where])
        return values.new_zeros(where.shape).index_put(where.nonzero(as_tuple=True), values)

    return batch.with_(teacher=teacher)


def probability_covariance(log_probs):
    """Covariance of the probability and the log-probability of a token drawn from each distribution."""
    p = log_probs.exp()
    return (p * p * log_probs).sum(-1) - (p * p).sum(-1) * (p * log_probs).sum(-1)


def with_current(batch, logits):
    """The batch with log-probabilities and entropy of the policy with these logits, gradient kept."""
    log_probs = logits.log_softmax(-1)
    if "teacher_logits" in batch.extras:
        batch = compared(batch, logits)
    return batch.with_(
        log_probs=log_probs.gather(-1, batch.token_ids[..., None]).squeeze(-1),
        entropy=-(log_probs.exp() * log_probs).sum(-1),
        logits=lambda: logits,
        extras={**batch.extras, "probability_covariance": probability_covariance(log_probs.detach())},
    )
