"""The Triton kernels of token statistics: their numbers, in Triton's interpreter or on a GPU, and their compilation.

The functions named `check_...` are tests that run in a process of their own, because whether Triton interprets is settled
when it is first imported. Where no GPU exists they run in the interpreter.
"""

import os
import subprocess
import sys
from math import inf, log, nan

import pytest
import torch

from isentrope.measures import TokenStatistics, token_statistics, token_statistics_from_logits
from isentrope.measures import tokens as tokens_module

pytest.importorskip("triton")

ALL = TokenStatistics._fields
DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"


@pytest.mark.parametrize(
    "interpret",
    [
        pytest.param("1", id="interpreter"),
        pytest.param("0", id="gpu", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
    ],
)
def test_the_kernels_compute_the_statistics_and_their_gradients(interpret):
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-o",
        "python_functions=check_*",
        __file__,
    ]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment = {**inherited, "TRITON_INTERPRET": interpret, "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def by_definition(logits, token_ids, k):
    """Each statistic by its definition, in float64."""
    log_p = torch.log_softmax(logits.double(), -1)
    p = log_p.exp()
    surprise = torch.where(p > 0, -log_p, 0.0)
    entropy = (p * surprise).sum(-1)
    deviation = entropy.unsqueeze(-1) - surprise
    return TokenStatistics(
        log_probs=log_p.gather(-1, token_ids.unsqueeze(-1)).squeeze(-1),
        entropy=entropy,
        varentropy=(p * deviation**2).sum(-1),
        collision_probability=(p * p).sum(-1),
        top_k_mass=p.sort(-1, descending=True).values[..., :k].sum(-1),
        max_probability=p.amax(-1),
        probability_covariance=(p * p * deviation).sum(-1),
    )


def logits_of(hidden, weight, bias, softcap=None, logit_scale=1.0, temperature=1.0):
    logits = (hidden @ weight.T + bias) * logit_scale
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    return logits / temperature


def problem(tokens, width, vocabulary, *, dtype=torch.float32, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    shapes = (tokens, width), (vocabulary, width), (vocabulary,)
    leaves = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    leaves[0] *= scale
    token_ids = torch.randint(vocabulary, (tokens,), generator=generator)
    return (*(leaf.to(DEVICE, dtype).requires_grad_() for leaf in leaves), token_ids.to(DEVICE))


def wide(*leaves):
    return [leaf.detach().double().requires_grad_() for leaf in leaves]


def assert_close(values, exact, tolerance):
    for name, value, expected in zip(ALL, values, exact, strict=False):
        torch.testing.assert_close(
            value.double(), expected, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: n + m
        )


def assert_gradients_close(gradients, exact, tolerance=5e-6):
    """Relative to the size of the gradient, as rounding is."""
    for gradient, expected in zip(gradients, exact, strict=True):
        assert torch.isfinite(gradient).all()
        assert (gradient.double() - expected).norm() <= tolerance * expected.norm()


def weighted_sum(values):
    """A different number for every statistic and token."""
    return sum(
        (value.flatten() * torch.linspace(-1.0, 1.0 + i, value.numel(), dtype=value.dtype, device=value.device)).sum()
        for i, value in enumerate(value for value in values if value is not None)
    )


@pytest.fixture
def small_tiles(monkeypatch):
    """Kernels on any device, 64 columns in a program, at most 4 tokens and 128 columns in a tile of the backward pass."""
    from isentrope.measures import _tokens_fused, _tokens_triton

    monkeypatch.setattr(tokens_module, "_has_kernels", lambda scores: True)
    monkeypatch.setattr(_tokens_triton, "_LANES", 64)
    monkeypatch.setattr(_tokens_fused, "_TOKENS_IN_TILE", 4)
    return _tokens_fused


@pytest.fixture
def wide_programs(small_tiles, monkeypatch):
    """As many columns in a program as on a GPU."""
    from isentrope.measures import _tokens_triton

    monkeypatch.setattr(_tokens_triton, "_LANES", 1024)


SETTINGS = [
    {},
    {"temperature": 0.6},
    {"softcap": 3.0},
    {"softcap": 3.0, "logit_scale": 0.25, "temperature": 1.7},
    {"logit_scale": 2.0},
]


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize(
    ("outputs", "options"),
    [
        *(((name,), SETTINGS[3]) for name in ALL),
        (("log_probs", "entropy"), SETTINGS[1]),
        *((ALL, options) for options in SETTINGS),
    ],
)
def check_values_and_gradients_equal_those_of_the_definition(outputs, options):
    hidden, weight, bias, token_ids = problem(3, 5, 130)
    ours = token_statistics(hidden, weight, token_ids, bias=bias, outputs=outputs, top_k=3, **options)
    leaves = wide(hidden, weight, bias)
    exact = by_definition(logits_of(*leaves, **options), token_ids, k=3)
    exact = TokenStatistics(*(value if name in outputs else None for name, value in exact._asdict().items()))
    for value, expected in zip(ours, exact, strict=True):
        assert (value is None) == (expected is None)
    assert_close([v for v in ours if v is not None], [v for v in exact if v is not None], 3e-6)
    got = torch.autograd.grad(weighted_sum(ours), (hidden, weight, bias))
    want = torch.autograd.grad(weighted_sum(exact), leaves)
    assert_gradients_close(got, want)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("options", SETTINGS[:4:3])
def check_gradients_are_finite_differences(options):
    hidden, weight, bias, token_ids = problem(4, 4, 150, seed=3)
    ours = token_statistics(hidden, weight, token_ids, bias=bias, outputs=ALL, top_k=5, block_size=2, **options)
    gradients = torch.autograd.grad(weighted_sum(ours), (hidden, weight, bias))
    leaves = [leaf.detach() for leaf in wide(hidden, weight, bias)]
    generator = torch.Generator(DEVICE).manual_seed(1)
    for _ in range(3):
        directions = [torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype, device=DEVICE) for leaf in leaves]

        def at(step, directions=directions):
            moved = [leaf + step * along for leaf, along in zip(leaves, directions, strict=True)]
            return weighted_sum(by_definition(logits_of(*moved, **options), token_ids, k=5))

        slope = (at(1e-6) - at(-1e-6)) / 2e-6
        along = sum((g.double() * d).sum() for g, d in zip(gradients, directions, strict=True))
        torch.testing.assert_close(along, slope, rtol=2e-5, atol=2e-5)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize(
    ("tokens", "vocabulary", "top_k", "block_size"),
    [
        (1, 1, 1, None),
        (9, 2, 1, 1),
        (3, 64, 64, 2),
        (3, 65, 7, 256),
        (6, 300, 40, 2),
        (2, 300, 400, None),
    ],
)
def check_any_shape_and_block_size(tokens, vocabulary, top_k, block_size):
    hidden, weight, bias, token_ids = problem(tokens, 4, vocabulary, seed=vocabulary, scale=2.0)
    options = {"bias": bias, "outputs": ALL, "top_k": top_k, "block_size": block_size}
    ours = token_statistics(hidden, weight, token_ids, **options)
    leaves = wide(hidden, weight, bias)
    exact = by_definition(logits_of(*leaves), token_ids, k=top_k)
    assert_close(ours, exact, 5e-6)
    got = torch.autograd.grad(weighted_sum(ours), (hidden, weight, bias))
    want = torch.autograd.grad(weighted_sum(exact), leaves)
    assert_gradients_close(got, want)


@pytest.mark.usefixtures("small_tiles")
def check_the_processor_gives_the_same(monkeypatch):
    """The other implementation, in float64 and on the same device."""
    hidden, weight, bias, token_ids = problem(7, 6, 200, seed=5)
    options = {"outputs": ALL, "top_k": 6, "temperature": 0.8, "softcap": 5.0}
    ours = token_statistics(hidden, weight, token_ids, bias=bias, **options)
    got = torch.autograd.grad(weighted_sum(ours), (hidden, weight, bias))
    monkeypatch.setattr(tokens_module, "_has_kernels", lambda scores: False)
    leaves = wide(hidden, weight, bias)
    exact = token_statistics(leaves[0], leaves[1], token_ids, bias=leaves[2], **options)
    want = torch.autograd.grad(weighted_sum(exact), leaves)
    assert_close(ours, exact, 5e-6)
    assert_gradients_close(got, want)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def check_half_precision_gives_float32_statistics(dtype, small_tiles):
    hidden, weight, bias, token_ids = problem(9, 16, 300, dtype=dtype, scale=0.5)
    options = {"bias": bias, "outputs": ALL, "softcap": 20.0, "top_k": 5, "block_size": 7}
    ours = token_statistics(hidden, weight, token_ids, **options)
    leaves = wide(hidden, weight, bias)
    products = leaves[0] @ leaves[1].T
    rounded = products if small_tiles._WIDENS else (hidden @ weight.T).double()
    logits = 20 * torch.tanh((rounded + leaves[2]) / 20)
    assert_close(ours, by_definition(logits, token_ids, k=5), 1e-5)
    assert all(value.dtype == torch.float32 for value in ours)
    got = torch.autograd.grad(weighted_sum(ours), (hidden, weight, bias))
    want = torch.autograd.grad(weighted_sum(by_definition(logits_of(*leaves, softcap=20.0), token_ids, k=5)), leaves)
    assert all(gradient.dtype == dtype for gradient in got)
    assert_gradients_close(got, want, 4 * torch.finfo(dtype).eps)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize(
    ("dtype", "layout"),
    [
        (torch.float32, lambda x: x),
        (torch.bfloat16, lambda x: x),
        (torch.float16, lambda x: x.T.contiguous().T),
        (torch.float32, lambda x: x[:, 3:-4]),
        (torch.bfloat16, lambda x: x[::2]),
    ],
)
def check_logits_of_any_dtype_and_layout(dtype, layout):
    generator = torch.Generator().manual_seed(0)
    # Distinct in every dtype, because the gradient of a top k is open where tokens tie at its edge.
    order = torch.rand(6, 200, generator=generator).argsort(1)
    whole = torch.linspace(-4, 4, 200)[order].to(DEVICE, dtype).requires_grad_()
    logits = layout(whole)
    token_ids = torch.randint(logits.shape[1], logits.shape[:1], generator=generator).to(DEVICE)
    ours = token_statistics_from_logits(logits, token_ids, outputs=ALL, temperature=0.7, top_k=4)
    (leaf,) = wide(whole)
    exact = by_definition(layout(leaf) / 0.7, token_ids, k=4)
    assert_close(ours, exact, 5e-6)
    (got,) = torch.autograd.grad(weighted_sum(ours), whole)
    (want,) = torch.autograd.grad(weighted_sum(exact), leaf)
    assert got.dtype == dtype
    tolerance = max(torch.finfo(dtype).eps, 5e-6)
    torch.testing.assert_close(got.double(), want, rtol=tolerance, atol=tolerance)


@pytest.mark.usefixtures("small_tiles")
def check_certain_uniform_and_excluded_tokens():
    logits = torch.full((6, 100), -inf, device=DEVICE)
    logits[0] = 0.0
    logits[1, 70] = 3.0
    logits[2, [3, 99]] = -1e4
    logits[3] = -1e4
    logits[3, 80] = 1e4
    logits[4, 50:] = 1e4
    logits[5, :50] = torch.linspace(-3000, 3000, 50, device=DEVICE)
    logits.requires_grad_()
    token_ids = torch.tensor([5, 70, 4, 80, 60, 49], device=DEVICE)
    ours = token_statistics_from_logits(logits, token_ids, outputs=ALL, top_k=2)
    expected = {
        "log_probs": [-log(100), 0, -inf, 0, -log(50), 0],
        "entropy": [log(100), 0, log(2), 0, log(50), 0],
        "varentropy": [0, 0, 0, 0, 0, 0],
        "collision_probability": [0.01, 1, 0.5, 1, 0.02, 1],
        "top_k_mass": [0.02, 1, 1, 1, 0.04, 1],
        "max_probability": [0.01, 1, 0.5, 1, 0.02, 1],
        "probability_covariance": [0, 0, 0, 0, 0, 0],
    }
    for name, values in expected.items():
        value = torch.tensor(values, dtype=torch.float32, device=DEVICE)
        torch.testing.assert_close(getattr(ours, name), value, rtol=1e-6, atol=1e-6)
    assert ours.entropy[[1, 3]].tolist() == [0.0, 0.0]
    finite = torch.stack([value[[0, 1, 3, 4, 5]].sum() for value in ours]).sum() + ours.entropy[2]
    (gradient,) = torch.autograd.grad(finite, logits)
    assert torch.isfinite(gradient).all()
    assert (gradient[logits == -inf] == 0).all()


@pytest.mark.parametrize("scale", [1.0, 100.0])
def check_float32_is_as_accurate_as_its_logits(scale, wide_programs):
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(3, 20_000, generator=generator) * 2 * scale + 1e4).to(DEVICE)
    token_ids = torch.randint(20_000, (3,), generator=generator).to(DEVICE)
    ours = token_statistics_from_logits(logits, token_ids, outputs=ALL, top_k=20)
    assert_close(ours, by_definition(logits, token_ids, k=20), 3e-6)


@pytest.mark.usefixtures("wide_programs")
@pytest.mark.parametrize("peak", [0.0, 2.0, 5.0])
def check_a_small_varentropy_is_not_lost_far_from_the_maximum(peak):
    """A flat distribution with a peak of 2: the mean square around the maximum is 2,600 times the varentropy.

    Their difference in float32 would be off by 2e-5 and, with a peak of 5, by 4e-5 of the varentropy.
    """
    logits = 1e-2 * torch.randn(1, 20_000, generator=torch.Generator().manual_seed(0))
    logits[:, 17] += peak
    logits = logits.to(DEVICE)
    token_ids = torch.zeros(1, dtype=torch.int64, device=DEVICE)
    ours = token_statistics_from_logits(logits, token_ids, outputs=["varentropy"])
    exact = by_definition(logits, token_ids, k=1).varentropy
    torch.testing.assert_close(ours.varentropy.double(), exact, rtol=3e-6, atol=0)


@pytest.mark.usefixtures("wide_programs")
@pytest.mark.parametrize("k", [1, 7, 33, 100])
def check_top_k_with_ties_and_clusters(k):
    """The candidates of a small k come from groups of the vocabulary."""
    logits = torch.randn(5, 2500, generator=torch.Generator().manual_seed(0))
    logits[1, 100:130] = 9.0
    logits[2, -30:] += 8.0
    logits[3] = logits[3].round()
    logits[4] = logits[4].sort().values
    logits = logits.to(DEVICE).requires_grad_()
    token_ids = torch.zeros(5, dtype=torch.int64, device=DEVICE)
    ours = token_statistics_from_logits(logits, token_ids, outputs=["top_k_mass", "max_probability"], top_k=k)
    (leaf,) = wide(logits)
    exact = by_definition(leaf, token_ids, k=k)
    torch.testing.assert_close(ours.top_k_mass.double(), exact.top_k_mass, rtol=3e-6, atol=0)
    torch.testing.assert_close(ours.max_probability.double(), exact.max_probability, rtol=3e-6, atol=0)
    # Where tokens tie at the edge of the top, which of them counts is open, but not how many.
    gradient = torch.autograd.grad(ours.top_k_mass.sum(), logits)[0].double()
    expected = torch.autograd.grad(exact.top_k_mass.sum(), leaf)[0]
    torch.testing.assert_close(gradient.sort(1).values, expected.sort(1).values, rtol=1e-5, atol=1e-6)
    assert ((gradient > 0).sum(1) == k).all()


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("leading", [(0,), (), (2, 3), (2, 0, 3)])
def check_any_leading_shape(leading):
    hidden, weight = torch.randn(*leading, 4, device=DEVICE, requires_grad=True), torch.randn(9, 4, device=DEVICE)
    token_ids = torch.randint(9, leading, dtype=torch.int32, device=DEVICE)
    ours = token_statistics(hidden, weight, token_ids, outputs=ALL, top_k=3)
    assert_close(ours, by_definition(hidden.double() @ weight.double().T, token_ids.long(), k=3), 5e-6)
    sum(value.sum() for value in ours).backward()
    assert hidden.grad.shape == hidden.shape
    direct = token_statistics_from_logits(hidden @ weight.T, token_ids, outputs=ALL, top_k=3)
    torch.testing.assert_close(direct.varentropy, ours.varentropy, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("small_tiles")
def check_what_needs_no_gradient_costs_none_and_inputs_are_left_alone():
    hidden, weight, bias, token_ids = problem(6, 4, 70)
    before = [leaf.detach().clone() for leaf in (hidden, weight, bias)]
    with torch.no_grad():
        assert token_statistics(hidden, weight, token_ids, bias=bias, outputs=ALL).entropy.grad_fn is None
    ours = token_statistics(hidden, weight.detach(), token_ids, bias=bias.detach(), outputs=ALL)
    ours.log_probs.sum().backward()
    leaves = wide(hidden, weight, bias)
    by_definition(logits_of(*leaves), token_ids, k=20).log_probs.sum().backward()
    torch.testing.assert_close(hidden.grad.double(), leaves[0].grad, rtol=1e-5, atol=1e-6)
    assert weight.grad is None
    logits = (hidden @ weight.T).detach().requires_grad_()
    copy = logits.detach().clone()
    token_statistics_from_logits(logits, token_ids).entropy.sum().backward()
    for leaf, old in zip((hidden, weight, bias, logits), (*before, copy), strict=True):
        assert torch.equal(leaf.detach(), old)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize(
    ("row", "largest"), [([nan, 1.0, 2.0], "nan"), ([-inf, -inf, -inf], "-inf"), ([inf, 1.0, -inf], "inf")]
)
def check_logits_without_a_softmax_are_named(row, largest):
    logits = torch.tensor([[0.0, 1.0, 2.0], row], device=DEVICE)
    token_ids = torch.tensor([0, 1], device=DEVICE)
    with pytest.raises(ValueError, match=f"logits of token 1 .* have no softmax, their largest is {largest};"):
        token_statistics_from_logits(logits, token_ids)
    hidden, weight = torch.tensor([[1.0], [nan]], device=DEVICE), torch.ones(3, 1, device=DEVICE)
    with pytest.raises(ValueError, match=r"token_statistics: the logits of token 1 .* largest is nan;"):
        token_statistics(hidden, weight, token_ids)


@pytest.mark.parametrize(
    ("device_type", "capability", "dtype", "taken"),
    [
        ("cpu", (0, 0), torch.float32, False),
        ("mps", (0, 0), torch.float32, False),
        ("xpu", (0, 0), torch.bfloat16, True),
        ("cuda", (9, 0), torch.bfloat16, True),
        ("cuda", (8, 0), torch.float16, True),
        ("cuda", (8, 0), torch.float32, True),
        ("cuda", (8, 0), torch.float64, False),
        ("cuda", (7, 5), torch.float32, False),
    ],
)
def test_which_tensors_the_kernels_take(device_type, capability, dtype, taken):
    assert tokens_module._kernels_take(device_type, capability, dtype) == taken
    if device_type == "cpu":
        assert not tokens_module._has_kernels(torch.zeros(1, dtype=dtype))


@pytest.mark.parametrize("vocabulary", [1, 50, 1000, 50_257, 151_936])
@pytest.mark.parametrize("tokens", [0, 1, 300, 5000, 100_000])
@pytest.mark.parametrize("block_size", [1, 256, 768, 10_000])
def test_a_tile_of_the_backward_pass_has_no_more_logits_than_a_block(tokens, vocabulary, block_size):
    from isentrope.measures._tokens_fused import _tile

    rows, columns = _tile(tokens, vocabulary, block_size)
    assert 1 <= rows <= max(1, tokens)
    assert 1 <= columns <= vocabulary
    assert rows * columns <= max(block_size * vocabulary, 128 * rows)


FLOATS = ["maximum", "log_sum", "log_probs", "entropy", "varentropy", "collision", "covariance"]
COEFFICIENTS = [f"by_{name}" for name in tokens_module._Coefficients._fields]
# A backward pass of log-probability and entropy has no use for the rest.
OF_TWO_REDUCE = {"varentropy", "collision", "covariance", "mode"}
OF_TWO_DIFFERENTIATE = {"mode", "top", "by_square", "by_exponential", "by_product", "by_mode", "by_top"}


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="Triton interprets in this process")
@pytest.mark.parametrize("architecture", [80, 90])
@pytest.mark.parametrize("capped", [False, True])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("kernel", "absent"),
    [
        ("_reduce_row", OF_TWO_REDUCE),
        ("_reduce_row", set()),
        ("_differentiate_part", OF_TWO_DIFFERENTIATE),
        ("_differentiate_part", set()),
    ],
    ids=["reduce two", "reduce all", "differentiate two", "differentiate all"],
)
def test_the_kernels_compile_without_spilling(
    kernel, absent, dtype, capped, architecture, tmp_path, monkeypatch, capfd
):
    """What the interpreter cannot see. The compiler and the assembler need no GPU."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from isentrope.measures import _tokens_triton

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_DUMP_PTXAS_LOG", "1")
    function = getattr(_tokens_triton, kernel)
    kinds = dict.fromkeys([*FLOATS, *COEFFICIENTS], "*fp32") | dict.fromkeys(("token_ids", "mode", "top"), "*i64")
    kinds |= {"products": f"*{dtype}", "gradient": f"*{dtype}", "factor": "fp32", "bound": "fp32"}
    constants = (
        dict.fromkeys(absent) | {"LANES": _tokens_triton._LANES, "TOP": 20} | ({} if capped else {"bound": None})
    )
    signature = {name: "constexpr" if name in constants else kinds.get(name, "i32") for name in function.arg_names}
    constants = {name: value for name, value in constants.items() if name in function.arg_names}
    divisible = [
        (place,) for place, kind in enumerate(signature.values()) if kind.startswith("*") or kind == "i32"
    ]  # as tensors and vocabularies usually are
    source = ASTSource(function, signature, constants, {place: [["tt.divisibility", 16]] for place in divisible})
    compiled = triton.compile(source, GPUTarget("cuda", architecture, 32), options={"enable_fp_fusion": True})
    assert "ld.global.v" in compiled.asm["ptx"]
    assert " 0 bytes spill stores, 0 bytes spill loads" in capfd.readouterr().out
