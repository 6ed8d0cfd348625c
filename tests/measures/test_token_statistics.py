"""Token statistics against naive float64 references, at the edges, and in memory."""

import subprocess
import sys
from math import inf, log, nan

import jaxtyping
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from isentrope.measures import (
    TokenStatistics,
    collision_probability,
    entropy,
    token_statistics,
    token_statistics_from_logits,
    varentropy,
)

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


@given(
    tokens=st.integers(1, 9),
    vocabulary=st.integers(1, 40),
    block_size=st.sampled_from([1, 3, 256]),
    top_k=st.integers(1, 45),
    scale=st.sampled_from([0.01, 1.0, 30.0]),
    seed=st.integers(0, 2**20),
)
def test_any_shape_and_block_size(tokens, vocabulary, block_size, top_k, scale, seed):
    hidden, weight, bias, token_ids = problem(tokens, 4, vocabulary, seed=seed, scale=scale)
    ours = token_statistics(hidden, weight, token_ids, bias=bias, outputs=ALL, top_k=top_k, block_size=block_size)
    expected = reference(naive_logits(hidden, weight, bias), token_ids, k=top_k)
    for value, exact in zip(ours, expected, strict=True):
        torch.testing.assert_close(value, exact, rtol=1e-9, atol=1e-11)
    got = torch.autograd.grad(sum(value.sum() for value in ours), (hidden, weight, bias))
    want = torch.autograd.grad(sum(value.sum() for value in expected), (hidden, weight, bias))
    for gradient, exact in zip(got, want, strict=True):
        torch.testing.assert_close(gradient, exact, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("vocabulary", [5000, 6423])
def test_top_k_of_a_large_vocabulary(vocabulary):
    """Large enough that the candidates come from groups; ties and clusters of large logits included."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, vocabulary, dtype=torch.float64, generator=generator)
    logits[1, 100:130] = 9.0
    logits[2, -30:] += 8.0
    logits[3] = logits[3].round()
    logits[4] = logits[4].sort().values
    token_ids = torch.zeros(6, dtype=torch.int64)
    for k in (1, 7, 20):
        ours = token_statistics_from_logits(logits, token_ids, outputs=["top_k_mass", "max_probability"], top_k=k)
        exact = reference(logits, token_ids, k=k)
        torch.testing.assert_close(ours.top_k_mass, exact.top_k_mass, rtol=1e-12, atol=0)
        torch.testing.assert_close(ours.max_probability, exact.max_probability, rtol=1e-12, atol=0)


def test_logits_and_hidden_states_give_the_same():
    hidden, weight, bias, token_ids = problem(11, 5, 23)
    from_hidden = token_statistics(hidden, weight, token_ids, bias=bias, outputs=ALL, temperature=0.8, top_k=4)
    logits = hidden @ weight.T + bias
    from_logits = token_statistics_from_logits(logits, token_ids, outputs=ALL, temperature=0.8, top_k=4)
    along = torch.linspace(-1, 1, 7 * 11, dtype=torch.float64).view(7, 11)
    for value, other in zip(from_hidden, from_logits, strict=True):
        torch.testing.assert_close(value, other, rtol=1e-12, atol=1e-14)
    gradients = [
        torch.autograd.grad((torch.stack(list(values)) * along).sum(), (hidden, weight, bias), retain_graph=True)
        for values in (from_hidden, from_logits)
    ]
    for gradient, other in zip(*gradients, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-10, atol=1e-12)


def test_agrees_with_the_measures_of_full_distributions():
    logits = torch.randn(4, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(5)) * 3
    ours = token_statistics_from_logits(
        logits, torch.zeros(4, dtype=torch.int64), outputs=["entropy", "varentropy", "collision_probability"]
    )
    torch.testing.assert_close(ours.entropy, entropy(logits=logits))
    torch.testing.assert_close(ours.varentropy, varentropy(logits=logits))
    torch.testing.assert_close(ours.collision_probability, collision_probability(logits=logits))


def test_uniform_and_certain_rows():
    logits = torch.tensor([[0.0, 0, 0, 0], [1e4, -1e4, 0, 0], [2, 2, -inf, -inf]], requires_grad=True)
    ours = token_statistics_from_logits(logits, torch.tensor([3, 0, 2]), outputs=ALL, top_k=2)
    expected = {
        "log_probs": [-log(4), 0.0, -inf],
        "entropy": [log(4), 0.0, log(2)],
        "varentropy": [0.0, 0.0, 0.0],
        "collision_probability": [0.25, 1.0, 0.5],
        "top_k_mass": [0.5, 1.0, 1.0],
        "max_probability": [0.25, 1.0, 0.5],
        "probability_covariance": [0.0, 0.0, 0.0],
    }
    for name, values in expected.items():
        torch.testing.assert_close(getattr(ours, name), torch.tensor(values), rtol=1e-6, atol=1e-6)
    torch.stack([value[:2].sum() for value in ours]).sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_excluding_tokens_by_bias_is_leaving_them_out():
    hidden, weight, bias, token_ids = problem(5, 4, 12)
    excluded = torch.tensor([2, 7, 11])
    kept = torch.tensor([i for i in range(12) if i not in excluded])
    token_ids = kept[token_ids % 9]
    masked_bias = bias.detach().index_fill(0, excluded, -inf).requires_grad_()
    ours = token_statistics(hidden, weight, token_ids, bias=masked_bias, outputs=ALL, top_k=4)
    position = torch.searchsorted(kept, token_ids)
    expected = reference(naive_logits(hidden, weight[kept], bias[kept]), position, k=4)
    got = torch.autograd.grad(sum(value.sum() for value in ours), (hidden, weight, masked_bias))
    want = torch.autograd.grad(sum(value.sum() for value in expected), (hidden, weight, bias))
    for value, exact in zip((*ours, *got), (*expected, *want), strict=True):
        torch.testing.assert_close(value, exact, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("tokens", [(0,), (1,), (), (2, 3), (2, 0, 3)])
def test_any_leading_shape(tokens):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(*tokens, 4, generator=generator, requires_grad=True)
    weight = torch.randn(9, 4, generator=generator, requires_grad=True)
    token_ids = torch.randint(9, tokens, generator=generator, dtype=torch.int32)
    ours = token_statistics(hidden, weight, token_ids, outputs=ALL, top_k=3)
    expected = reference(hidden @ weight.T, token_ids.long(), k=3)
    for value, exact in zip(ours, expected, strict=True):
        torch.testing.assert_close(value, exact.float(), rtol=1e-5, atol=1e-6)
    sum(value.sum() for value in ours).backward()
    assert hidden.grad.shape == hidden.shape
    assert weight.grad.shape == weight.shape
    assert torch.isfinite(weight.grad).all()
    direct = token_statistics_from_logits((hidden @ weight.T).detach(), token_ids, outputs=ALL, top_k=3)
    torch.testing.assert_close(direct.entropy, ours.entropy.detach())


@pytest.mark.parametrize("options", SETTINGS)
def test_block_sizes_give_the_same_gradients(options):
    hidden, weight, bias, token_ids = problem(50, 8, 301, dtype=torch.float32)
    results = []
    for block_size in (1, 3, 256):
        ours = token_statistics(
            hidden, weight, token_ids, bias=bias, outputs=ALL, top_k=5, block_size=block_size, **options
        )
        gradients = torch.autograd.grad(sum(value.sum() for value in ours), (hidden, weight, bias))
        results.append((*ours, *gradients))
    for other in results[1:]:
        for value, expected in zip(other, results[0], strict=True):
            torch.testing.assert_close(value, expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_float32_is_as_accurate_as_its_logits(scale):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(8, 20_000, generator=generator) * 2 * scale + 1e4
    token_ids = torch.randint(20_000, (8,), generator=generator)
    ours = token_statistics_from_logits(logits, token_ids, outputs=ALL, top_k=20)
    for value, exact in zip(ours, reference(logits, token_ids, k=20), strict=True):
        torch.testing.assert_close(value.double(), exact, rtol=3e-6, atol=3e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_float32_statistics(dtype):
    hidden, weight, bias, token_ids = problem(20, 16, 500, dtype=dtype, scale=0.5)
    ours = token_statistics(hidden, weight, token_ids, bias=bias, outputs=ALL, softcap=20.0, top_k=5, block_size=7)
    # The logits are rounded to half precision as torch rounds them; what follows is float32.
    rounded = 20 * torch.tanh(torch.addmm(bias, hidden, weight.T).detach().double() / 20)
    for value, exact in zip(ours, reference(rounded, token_ids, k=5), strict=True):
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), exact, rtol=1e-4, atol=1e-5)
    sum(value.sum() for value in ours).backward()
    wide = [leaf.detach().double().requires_grad_() for leaf in (hidden, weight, bias)]
    exact = reference(naive_logits(*wide, softcap=20.0), token_ids, k=5)
    sum(value.sum() for value in exact).backward()
    for leaf, expected in zip((hidden, weight, bias), wide, strict=True):
        assert leaf.grad.dtype == dtype
        error = (leaf.grad.double() - expected.grad).norm() / expected.grad.norm()
        assert error < 4 * torch.finfo(dtype).eps


def test_autocast_uses_its_dtype():
    hidden, weight, _, token_ids = problem(6, 8, 50, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = token_statistics(hidden, weight, token_ids)
    explicit = token_statistics(hidden.bfloat16(), weight.bfloat16(), token_ids)
    torch.testing.assert_close(ours.entropy, explicit.entropy, rtol=0, atol=0)
    ours.entropy.sum().backward()
    assert hidden.grad.dtype == torch.float32


def test_what_needs_no_gradient_costs_none():
    hidden, weight, bias, token_ids = problem(5, 4, 9)
    frozen = weight.detach()
    ours = token_statistics(hidden, frozen, token_ids, bias=bias.detach(), outputs=ALL)
    expected = reference(naive_logits(hidden, frozen, bias.detach()), token_ids, k=20)
    got, want = (torch.autograd.grad(sum(v.sum() for v in values), hidden)[0] for values in (ours, expected))
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-11)
    assert frozen.grad is None
    no_graph = token_statistics(hidden.detach(), frozen, token_ids)
    assert not no_graph.entropy.requires_grad
    with torch.no_grad():
        assert token_statistics(hidden, weight, token_ids).entropy.grad_fn is None
    # Nothing flows back through outputs that the loss does not use.
    partly = token_statistics(hidden, weight, token_ids, outputs=ALL)
    torch.testing.assert_close(
        torch.autograd.grad(partly.log_probs.sum(), weight)[0],
        torch.autograd.grad(reference(hidden @ weight.T, token_ids).log_probs.sum(), weight)[0],
    )


def test_inputs_are_left_alone():
    hidden, weight, bias, token_ids = problem(5, 4, 9)
    logits = (hidden @ weight.T).detach().requires_grad_()
    before = [tensor.detach().clone() for tensor in (hidden, weight, bias, logits)]
    sum(v.sum() for v in token_statistics(hidden, weight, token_ids, bias=bias, outputs=ALL)).backward()
    sum(v.sum() for v in token_statistics_from_logits(logits, token_ids, outputs=ALL)).backward()
    for tensor, copy in zip((hidden, weight, bias, logits), before, strict=True):
        assert torch.equal(tensor.detach(), copy)


MEMORY = """
import resource, torch
from isentrope.measures import TokenStatistics, token_statistics
torch.set_num_threads(1)
def run(tokens, vocabulary):
    hidden, weight = torch.randn(tokens, 8, requires_grad=True), torch.randn(vocabulary, 8, requires_grad=True)
    ours = token_statistics(hidden, weight, torch.randint(vocabulary, (tokens,)), outputs=TokenStatistics._fields)
    sum(value.mean() for value in ours).backward()
run(16, 1000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run(8192, 20_000)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss has other units elsewhere")
def test_the_logits_never_exist():
    """8,192 × 20,000 logits are 625 MB; a block of 256 is 20 MB."""
    answer = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert float(answer.stdout) < 80


@pytest.fixture
def without_type_checks(monkeypatch):
    """Call the package as users do: without the checks of annotations that the test suite adds."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"temperature": 0.0}, ValueError, "temperature must be a positive finite number, got 0.0"),
        ({"temperature": nan}, ValueError, "temperature must be a positive finite number, got nan"),
        ({"softcap": -1.0}, ValueError, "softcap must be a positive"),
        ({"logit_scale": inf}, ValueError, "logit_scale must be a positive"),
        ({"top_k": 0}, ValueError, "top_k must be at least 1, got 0"),
        ({"block_size": 2.5}, TypeError, "block_size must be an integer, got 2.5"),
        ({"outputs": ()}, ValueError, "outputs is empty; choose among log_probs, entropy"),
        ({"outputs": "entropy"}, TypeError, "outputs must be a sequence of names"),
        ({"outputs": ["entropi"]}, ValueError, "unknown output 'entropi'; did you mean 'entropy'?"),
        ({"token_ids": torch.tensor([0, 9, 1])}, ValueError, r"must lie in \[0, 9\), got 9 at index \(1,\)"),
        ({"token_ids": torch.tensor([0, 1, -100])}, ValueError, r"got -100 at index \(2,\)"),
        ({"token_ids": torch.tensor([0, 1])}, ValueError, r"shape of hidden without its last axis, \(3,\), got \(2,\)"),
        (
            {"token_ids": torch.tensor([0.0, 1, 2])},
            TypeError,
            "token_ids must be an integer torch tensor, got torch.float32",
        ),
        ({"weight": torch.ones(9, 5)}, ValueError, r"must share d, got shapes \(3, 4\) and \(9, 5\)"),
        ({"weight": torch.ones(9, 4).double()}, TypeError, "weight is torch.float64, hidden torch.float32"),
        ({"weight": torch.ones(9, 4).long()}, TypeError, "weight must be a floating-point torch tensor"),
        ({"bias": torch.ones(8)}, ValueError, r"bias must have shape \(9,\), got \(8,\)"),
        ({"hidden": torch.full((3, 4), nan)}, ValueError, "logits of token 0 .* have no softmax, their largest is nan"),
        ({"bias": torch.full((9,), -inf)}, ValueError, "logits of token 0 .* their largest is -inf"),
    ],
)
def test_bad_input_is_named(changes, error, message):
    arguments = {"hidden": torch.ones(3, 4), "weight": torch.ones(9, 4), "token_ids": torch.tensor([0, 1, 2])}
    with pytest.raises(error, match=f"token_statistics: .*{message}"):
        token_statistics(**(arguments | changes))


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize(
    ("logits", "error", "message"),
    [
        (torch.tensor([[0.0, 1.0], [nan, 1.0]]), ValueError, "logits of token 1 .* largest is nan"),
        (torch.tensor([[0.0, 1.0], [-inf, -inf]]), ValueError, "logits of token 1 .* largest is -inf"),
        (torch.tensor([[0.0, 1.0], [inf, 1.0]]), ValueError, "logits of token 1 .* largest is inf"),
        (torch.tensor([[0, 1], [0, 1]]), TypeError, "logits must be a floating-point torch tensor, got torch.int64"),
        (torch.ones(2, 0), ValueError, "non-empty last axis"),
        (torch.ones(3, 2), ValueError, r"shape of logits without its last axis, \(3,\), got \(2,\)"),
    ],
)
def test_bad_logits_are_named(logits, error, message):
    with pytest.raises(error, match=f"token_statistics_from_logits: .*{message}"):
        token_statistics_from_logits(logits, torch.tensor([0, 1]))
