"""Token statistics against naive float64 references, at the edges, and in memory."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from isentrope.measures import TokenStatistics, token_statistics, token_statistics_from_logits

ALL = TokenStatistics._fields


def reference(logits, token_ids, k=3):
    """Each statistic by its definition, on full float64 logits."""
    log_p = torch.log_softmax(logits.double(), -1)
    p = log_p.exp()
    log_p_or_zero = torch.where(p > 0, log_p, 0.0)
    entropy = -(p * log_p_or_zero).sum(-1)
    mean_p = (p * p).sum(-1)
    return TokenStatistics(
        log_probs=log_p.gather(-1, token_ids.unsqueeze(-1)).squeeze(-1),
        entropy=entropy,
        varentropy=(p * (log_p_or_zero + entropy.unsqueeze(-1)) ** 2).sum(-1),
        collision_probability=mean_p,
        top_k_mass=p.sort(-1, descending=True).values[..., :k].sum(-1),
        max_probability=p.max(-1).values,
        probability_covariance=(p * (p - mean_p.unsqueeze(-1)) * (log_p_or_zero + entropy.unsqueeze(-1))).sum(-1),
    )


def problem(tokens, width, vocabulary, *, dtype=torch.float64, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(tokens, width, generator=generator, dtype=torch.float64).mul_(scale).to(dtype)
    weight = torch.randn(vocabulary, width, generator=generator, dtype=torch.float64).to(dtype)
    bias = torch.randn(vocabulary, generator=generator, dtype=torch.float64).to(dtype)
    token_ids = torch.randint(vocabulary, (tokens,), generator=generator)
    return hidden.requires_grad_(), weight.requires_grad_(), bias.requires_grad_(), token_ids


def naive_logits(hidden, weight, bias, softcap=None, scale=1.0, temperature=1.0):
    logits = (hidden @ weight.T + bias) * scale
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    return logits / temperature


SETTINGS = [
    {},
    {"temperature": 0.6},
    {"softcap": 3.0},
    {"softcap": 3.0, "logit_scale": 0.25, "temperature": 1.7},
    {"logit_scale": 2.0},
]


@pytest.mark.parametrize("options", SETTINGS)
@pytest.mark.parametrize("output", ALL)
def test_each_value_and_gradient_equals_the_definition(output, options):
    hidden, weight, bias, token_ids = problem(7, 5, 13)
    ours = token_statistics(hidden, weight, token_ids, bias=bias, outputs=[output], top_k=3, **options)
    renamed = {"scale" if key == "logit_scale" else key: value for key, value in options.items()}
    expected = reference(naive_logits(hidden, weight, bias, **renamed), token_ids)
    assert [name for name in ALL if getattr(ours, name) is not None] == [output]
    torch.testing.assert_close(getattr(ours, output), getattr(expected, output), rtol=1e-10, atol=1e-12)
    along = torch.linspace(-1, 2, 7, dtype=torch.float64)
    inputs = (hidden, weight, bias)
    got = torch.autograd.grad((getattr(ours, output) * along).sum(), inputs)
    want = torch.autograd.grad((getattr(expected, output) * along).sum(), inputs)
    for ours_gradient, expected_gradient in zip(got, want, strict=True):
        torch.testing.assert_close(ours_gradient, expected_gradient, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("options", SETTINGS)
def test_gradient_of_all_outputs_together_passes_gradcheck(options):
    hidden, weight, bias, token_ids = problem(4, 3, 9)

    def all_statistics(hidden, weight, bias):
        return tuple(
            token_statistics(hidden, weight, token_ids, bias=bias, outputs=ALL, top_k=3, block_size=3, **options)
        )

    assert gradcheck(all_statistics, (hidden, weight, bias))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_gradient_by_logits_passes_gradcheck(temperature):
    logits = torch.randn(3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    token_ids = torch.tensor([0, 7, 3])

    def all_statistics(logits):
        return tuple(token_statistics_from_logits(logits, token_ids, temperature=temperature, outputs=ALL, top_k=2))

    assert gradcheck(all_statistics, (logits,))
