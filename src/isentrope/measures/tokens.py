r"""Statistics of next-token distributions, straight from hidden states, without ever holding the logits.

A language model's output layer turns ``N`` hidden states into ``N × V`` logits, of which reinforcement learning wants a
few numbers per row: the log-probability of the chosen token, the entropy, and sometimes more. The logits of 2,048 tokens
over a vocabulary of 49,152 take 400 MB in float32, and automatic differentiation keeps several copies. Here a block of
some hundred rows is made, reduced and overwritten, and made again in the backward pass, so that memory does not grow with
``N × V``. Inside a block the rows are reduced a few at a time, while they are still in the processor's cache. On a
GPU, where Triton is installed, kernels that read each block once do the same (`isentrope.measures._tokens_triton`).

With the logits ``z``, ``p = softmax(z)``, the entropy ``H = -Σ p log p`` and the deviation ``u_j = log p_j + H``:

===========================  =======================================  ==========================================
output                       value                                    derivative by ``z_j``
===========================  =======================================  ==========================================
``log_probs``                ``log p_a`` of the given token ``a``     ``1[j=a] - p_j``
``entropy``                  ``H``                                    ``-p_j u_j``
``varentropy``               ``W = Σ p u²``                           ``p_j (u_j² + 2 u_j - W)``
``collision_probability``    ``C = Σ p²``                             ``2 p_j (p_j - C)``
``top_k_mass``               ``T = Σ_{i ∈ top k} p_i``                ``p_j (1[j ∈ top k] - T)``
``max_probability``          ``M = max p``                            ``p_j (1[j = argmax] - M)``
``probability_covariance``   ``K = Cov_p(p, log p) = Σ p² u``         ``p_j (2 p_j u_j + p_j - C u_j - C - 2 K)``
===========================  =======================================  ==========================================

They follow from ``∂p_i/∂z_j = p_i (1[i=j] - p_j)`` and ``∂log p_i/∂z_j = 1[i=j] - p_j``. Every row of the table is ``p_j``
times a polynomial in ``u_j`` and ``p_j``, plus entries at single tokens. The gradient of any weighted sum of outputs is
therefore one matrix,

    ``G_j = p_j (a0 + a1 u_j + a2 u_j² + a3 p_j + a4 p_j u_j) + entries``,

with one set of coefficients per row, which meets ``weight`` and ``hidden`` in one matrix product each, however many outputs
there are.
"""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from math import isfinite
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

# A logit this far below the largest of its row has probability 0 even in float64. Raising lower ones (and -inf) to it
# keeps 0 · log 0 at 0.
_LOWEST_SHIFTED_LOGIT = -1e4
# Rows are reduced in groups of about this many logits per thread: three arrays of them fit a second-level cache.
_LOGITS_IN_CACHE = 1 << 17
# A block has at least this many tokens, so that matrix products are efficient, and more while it has few logits.
_LEAST_BLOCK = 256
_LOGITS_IN_BLOCK = 1 << 22
_HAS_TRITON = find_spec("triton") is not None


class TokenStatistics(NamedTuple):
    """Statistics of each position's next-token distribution, in nats; ``None`` where not asked for."""

    log_probs: Tensor | None = None
    """Log-probability of the given token."""
    entropy: Tensor | None = None
    """Entropy of the distribution."""
    varentropy: Tensor | None = None
    """Variance of the log-probability of a token drawn from the distribution."""
    collision_probability: Tensor | None = None
    """Probability that two independent draws agree."""
    top_k_mass: Tensor | None = None
    """Total probability of the ``k`` most probable tokens."""
    max_probability: Tensor | None = None
    """Probability of the most probable token."""
    probability_covariance: Tensor | None = None
    """Covariance of the probability and the log-probability of a token drawn from the distribution."""


def token_statistics(
    hidden: Float[Tensor, "*tokens d"],
    weight: Float[Tensor, "vocabulary d"],
    token_ids: Int[Tensor, "*tokens"],
    *,
    bias: Float[Tensor, " vocabulary"] | None = None,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    temperature: float = 1.0,
    top_k: int = 20,
    outputs: Sequence[str] = ("log_probs", "entropy"),
    block_size: int | None = None,
) -> TokenStatistics:
    r"""Statistics of next-token distributions from hidden states and the output embedding.

    The logits are ``z = s (hidden @ weight.T + bias)``, then ``c tanh(z / c)`` where a soft cap is given, then divided by
    the temperature; they are never held for more than a block of tokens at once. Every output is differentiable (once)
    with respect to ``hidden``, ``weight`` and ``bias``; the formulas are in the module's documentation.

    Args:
        hidden: Last hidden states, ``[..., d]``, in float32, float64, bfloat16 or float16. Logits of half-precision input
            are rounded to its dtype, as a model's own are, except with the kernels on CUDA, which keep them in float32.
        weight: Output embedding, ``[V, d]``, of the same dtype (under autocast both are cast). A weight that requires no
            gradient costs none.
        token_ids: Tokens whose log-probability is wanted, ``[...]``, integers in ``[0, V)``.
        bias: Added to the logits, ``[V]``. ``-inf`` excludes a token.
        softcap: Bound ``c`` of the logits (Gemma's final soft cap), or None.
        logit_scale: Factor ``s`` of the logits (Cohere, Granite).
        temperature: Divides the logits, after the soft cap.
        top_k: The ``k`` of ``top_k_mass``; with ``k >= V`` the mass is 1.
        outputs: Names of the wanted fields of `TokenStatistics`.
        block_size: Tokens whose logits exist at the same time: the extra memory is ``block_size × V`` numbers, plus the
            gradient of ``weight``. None for 256, or more where a small vocabulary leaves room; with the kernels for as
            many as take 512 MB in float32, at least 256.

    Returns:
        The asked statistics as tensors ``[...]``, in nats, in float32 (float64 for float64 input).

    Raises:
        TypeError: If dtypes are not as above.
        ValueError: If shapes or devices do not match, a token id or a setting is out of range, an output is unknown, or
            logits are NaN, ``+inf``, or all ``-inf``.

    References:
        arXiv 2411.09009 (computing losses over large vocabularies without the logits); arXiv 2505.22617 (the covariance of
        log-probability and advantage that drives a policy's entropy).

    Examples:
        >>> import torch
        >>> hidden, weight = torch.zeros(3, 8, requires_grad=True), torch.randn(50, 8)
        >>> statistics = token_statistics(hidden, weight, torch.tensor([4, 7, 1]))
        >>> statistics.entropy  # uniform over 50 tokens: log 50
        tensor([3.9120, 3.9120, 3.9120], grad_fn=...)
        >>> statistics.varentropy is None
        True
    """
    _check_settings(
        "token_statistics",
        outputs,
        temperature=temperature,
        softcap=softcap,
        logit_scale=logit_scale,
        top_k=top_k,
        block_size=block_size,
    )
    device_type = hidden.device.type
    if torch.is_autocast_enabled(device_type):
        dtype = torch.get_autocast_dtype(device_type)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    _check_head(hidden, weight, bias)
    _check_token_ids("token_statistics", "hidden", hidden, token_ids, vocabulary=weight.shape[0])
    function, default_block_size = _HeadStatistics, max(_LEAST_BLOCK, _LOGITS_IN_BLOCK // len(weight))
    if _has_kernels(hidden):
        from isentrope.measures import _tokens_fused

        function, default_block_size = _tokens_fused.FusedHeadStatistics, _tokens_fused.default_block_size(len(weight))
    values = function.apply(
        hidden.reshape(-1, hidden.shape[-1]),
        weight,
        bias,
        token_ids.reshape(-1).long(),
        _Transform(logit_scale, softcap, temperature),
        top_k,
        tuple(outputs),
        block_size or default_block_size,
    )
    return TokenStatistics(*(None if value is None else value.view(token_ids.shape) for value in values))


def token_statistics_from_logits(
    logits: Float[Tensor, "*tokens vocabulary"],
    token_ids: Int[Tensor, "*tokens"],
    *,
    temperature: float = 1.0,
    top_k: int = 20,
    outputs: Sequence[str] = ("log_probs", "entropy"),
) -> TokenStatistics:
    r"""Statistics of next-token distributions from logits that exist anyway.

    The same numbers as `token_statistics`. The rows are reduced a few at a time, so the forward pass makes no second array
    of the size of ``logits``; the backward pass makes exactly one, their gradient.

    Args:
        logits: Unnormalised log-probabilities, ``[..., V]``. ``-inf`` excludes a token.
        token_ids: Tokens whose log-probability is wanted, ``[...]``, integers in ``[0, V)``.
        temperature: Divides the logits.
        top_k: The ``k`` of ``top_k_mass``; with ``k >= V`` the mass is 1.
        outputs: Names of the wanted fields of `TokenStatistics`.

    Returns:
        The asked statistics as tensors ``[...]``, in nats, in float32 (float64 for float64 input).

    Raises:
        TypeError: If ``logits`` are not floating or ``token_ids`` not integers.
        ValueError: If shapes do not match, a token id or a setting is out of range, an output is unknown, or logits are
            NaN, ``+inf``, or all ``-inf``.

    References:
        arXiv 2505.22617 (the covariance of log-probability and advantage that drives a policy's entropy).

    Examples:
        >>> import torch
        >>> logits = torch.tensor([[0.0, 0.0, float("-inf")]])
        >>> statistics = token_statistics_from_logits(logits, torch.tensor([1]), outputs=["log_probs", "max_probability"])
        >>> statistics.log_probs, statistics.max_probability
        (tensor([-0.6931]), tensor([0.5000]))
    """
    _check_settings("token_statistics_from_logits", outputs, temperature=temperature, top_k=top_k)
    _check_floating("token_statistics_from_logits", "logits", logits)
    if logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(
            f"token_statistics_from_logits: logits must have a non-empty last axis, the vocabulary, got shape "
            f"{tuple(logits.shape)}"
        )
    vocabulary = logits.shape[-1]
    _check_token_ids("token_statistics_from_logits", "logits", logits, token_ids, vocabulary)
    function = _LogitStatistics
    if _has_kernels(logits):
        from isentrope.measures import _tokens_fused

        function = _tokens_fused.FusedLogitStatistics
    values = function.apply(
        logits.reshape(-1, vocabulary),
        token_ids.reshape(-1).long(),
        _Transform(1.0, None, temperature),
        top_k,
        tuple(outputs),
    )
    return TokenStatistics(*(None if value is None else value.view(token_ids.shape) for value in values))


class _Transform(NamedTuple):
    """From the output layer's products to logits: ``z = c tanh(s y / c) / T``, without a soft cap ``z = s y / T``."""

    scale: float
    softcap: float | None
    temperature: float

    def apply_(self, products: Tensor) -> Tensor:
        """Turn products into logits, in place."""
        if self.softcap is None:
            return products if self.factor == 1 else products.mul_(self.factor)
        return products.mul_(self.scale / self.softcap).tanh_().mul_(self.softcap / self.temperature)

    @property
    def factor(self) -> float:
        """The derivative ``s / T`` of a logit by its product, without soft cap."""
        return self.scale / self.temperature

    def cap_slope(self, logits: Tensor, out: Tensor) -> Tensor:
        """What a soft cap multiplies the derivative by: ``1 - tanh²``, from the logits."""
        assert self.softcap is not None
        inverse_bound = self.temperature / self.softcap
        return torch.mul(logits, logits, out=out).mul_(-inverse_bound * inverse_bound).add_(1)


class _Rows(NamedTuple):
    """What is known of each row, ``[N]`` each (``top`` ``[N, k]``); None where neither an output nor its gradient uses it."""

    maximum: Tensor
    log_sum: Tensor
    log_probs: Tensor | None
    entropy: Tensor | None
    varentropy: Tensor | None
    collision: Tensor | None
    covariance: Tensor | None
    top_mass: Tensor | None
    top: Tensor | None
    mode: Tensor | None

    @classmethod
    def empty(cls, count: int, k: int, outputs: tuple[str, ...], like: Tensor) -> "_Rows":
        """Room for the quantities that ``outputs`` and their gradients use."""

        def room(*users: str, **kind: Any) -> Tensor | None:
            shape = (count, k) if kind.pop("top", False) else (count,)
            return like.new_empty(shape, **kind) if set(users) & set(outputs) else None

        dtype = _accumulation_dtype(like)
        return cls(
            maximum=like.new_empty(count, dtype=dtype),
            log_sum=like.new_empty(count, dtype=dtype),
            log_probs=room("log_probs", dtype=dtype),
            entropy=room("entropy", "varentropy", "probability_covariance", dtype=dtype),
            varentropy=room("varentropy", dtype=dtype),
            collision=room("collision_probability", "probability_covariance", dtype=dtype),
            covariance=room("probability_covariance", dtype=dtype),
            top_mass=room("top_k_mass", dtype=dtype),
            top=room("top_k_mass", dtype=torch.int64, top=True),
            mode=room("max_probability", dtype=torch.int64),
        )

    def at(self, rows: slice) -> "_Rows":
        """The same for some rows."""
        return _Rows(*(None if quantity is None else quantity[rows] for quantity in self))  # type: ignore[arg-type]

    def statistics(self, outputs: tuple[str, ...]) -> TokenStatistics:
        """The asked outputs."""
        values = TokenStatistics(
            log_probs=self.log_probs,
            entropy=self.entropy,
            varentropy=self.varentropy,
            collision_probability=self.collision,
            top_k_mass=self.top_mass,
            max_probability=None if self.mode is None else torch.exp(-self.log_sum),
            probability_covariance=self.covariance,
        )
        return TokenStatistics(*(v if n in outputs else None for n, v in zip(values._fields, values, strict=True)))


class _Coefficients(NamedTuple):
    """Coefficients, one a row, of the gradient by the logits; None where zero for every row.

    With ``e_j = p_j exp(log_sum)``, the gradient is
    ``e_j (one + deviation u_j + square u_j² + exponential e_j + product e_j u_j)`` plus the entries: ``token`` at the given
    token, ``mode`` at the most probable one, and ``top e_j`` at the top ``k``.
    """

    one: Tensor | None = None
    deviation: Tensor | None = None
    square: Tensor | None = None
    exponential: Tensor | None = None
    product: Tensor | None = None
    token: Tensor | None = None
    mode: Tensor | None = None
    top: Tensor | None = None

    @classmethod
    def of(cls, rows: _Rows, incoming: TokenStatistics, transform: _Transform) -> "_Coefficients":
        """The table of the module's documentation, weighted by the incoming gradients."""
        sums: dict[str, Tensor] = {}
        inverse = torch.exp(-rows.log_sum)

        def add(name: str, value: Tensor) -> None:
            sums[name] = sums[name] + value if name in sums else value

        weighted = TokenStatistics(*(None if g is None else g * (transform.factor * inverse) for g in incoming))
        if (g := weighted.log_probs) is not None:
            add("one", -g)
            add("token", transform.factor * incoming.log_probs)  # type: ignore[operator]
        if (g := weighted.entropy) is not None:
            add("deviation", -g)
        if (g := weighted.varentropy) is not None:
            add("square", g)
            add("deviation", 2 * g)
            add("one", -g * rows.varentropy)  # type: ignore[operator]
        if (g := weighted.collision_probability) is not None:
            add("exponential", 2 * g * inverse)
            add("one", -2 * g * rows.collision)  # type: ignore[operator]
        if (g := weighted.top_k_mass) is not None:
            add("top", g)
            add("one", -g * rows.top_mass)  # type: ignore[operator]
        if (g := weighted.max_probability) is not None:
            # The largest exponential is 1, so that e_mode times the coefficient is the coefficient.
            add("mode", g)
            add("one", -g * inverse)
        if (g := weighted.probability_covariance) is not None:
            add("product", 2 * g * inverse)
            add("exponential", g * inverse)
            add("deviation", -g * rows.collision)  # type: ignore[operator]
            add("one", -g * (rows.collision + 2 * rows.covariance))  # type: ignore[operator]
        return cls(**sums)

    def at(self, rows: slice) -> "_Coefficients":
        """The same for some rows, as columns."""
        return _Coefficients(*(None if c is None else c[rows].unsqueeze(1) for c in self))


class _Workspace:
    """Arrays for the rows that are reduced together, made when first used and kept for one pass."""

    def __init__(self, tokens: int, vocabulary: int, like: Tensor) -> None:
        self.rows = max(1, tokens)
        if like.device.type == "cpu":
            self.rows = max(1, min(self.rows, _LOGITS_IN_CACHE * torch.get_num_threads() // vocabulary))
        self._make = lambda: like.new_empty((self.rows, vocabulary), dtype=_accumulation_dtype(like))
        self._arrays: dict[str, Tensor] = {}

    def __call__(self, name: str, count: int) -> Tensor:
        """The first ``count`` rows of the array called ``name``."""
        if name not in self._arrays:
            self._arrays[name] = self._make()
        return self._arrays[name][:count]

    def widened(self, values: Tensor) -> Tensor:
        """The values themselves where they have the precision for accumulations, otherwise a copy that has."""
        if values.dtype == _accumulation_dtype(values):
            return values
        return self("widened", len(values)).copy_(values)


def _has_kernels(scores: Tensor) -> bool:
    device = scores.device
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else (0, 0)
    return _HAS_TRITON and _kernels_take(device.type, capability, scores.dtype)


def _kernels_take(device_type: str, capability: tuple[int, int], dtype: torch.dtype) -> bool:
    """Whether the Triton kernels take tensors of this kind: from NVIDIA's Ampere (8.0), and not in float64."""
    known = device_type == "xpu" or (device_type == "cuda" and capability >= (8, 0))
    return known and dtype in (torch.float32, torch.bfloat16, torch.float16)


def _accumulation_dtype(like: Tensor) -> torch.dtype:
    return torch.float64 if like.dtype == torch.float64 else torch.float32


def _slices(start: int, stop: int, step: int) -> Iterator[slice]:
    for first in range(start, stop, step):
        yield slice(first, min(first + step, stop))


def _largest(logits: Tensor, k: int) -> Tensor:
    """Indices of the ``k`` largest entries of each row, ``[n, k]``, in no order.

    A row is cut into groups, and the ``k`` largest entries lie in the ``k`` groups with the largest maxima, so that
    the selection, slow on a processor, sees a few percent of the row.
    """
    count, vocabulary = logits.shape
    size = 64
    groups = vocabulary // size
    if k * size * 4 > vocabulary:
        return logits.topk(k, sorted=False).indices
    whole = groups * size
    # Group g holds the columns g, g + groups, g + 2 groups, ...: the maximum runs over the outer axis, at memory speed.
    best = logits[:, :whole].view(count, size, groups).amax(1).topk(k, sorted=False).indices
    offsets = torch.arange(0, whole, groups, device=logits.device)
    candidates = (best.unsqueeze(-1) + offsets).view(count, k * size)
    rest = torch.arange(whole, vocabulary, device=logits.device).expand(count, -1)
    candidates = torch.cat((candidates, rest), 1)
    return candidates.gather(1, logits.gather(1, candidates).topk(k, sorted=False).indices)


def _reduce(logits: Tensor, token_ids: Tensor, rows: _Rows, work: _Workspace) -> None:
    """Fill ``rows`` from the logits, which are overwritten."""
    torch.amax(logits, 1, out=rows.maximum)
    shifted = logits.sub_(rows.maximum.unsqueeze(1))
    if rows.top is not None:
        rows.top.copy_(_largest(shifted, rows.top.shape[1]))
    if rows.mode is not None:
        rows.mode.copy_(_largest(shifted, 1).view(-1))
    if rows.log_probs is not None:
        rows.log_probs.copy_(shifted.gather(1, token_ids.unsqueeze(1)).view(-1))
    shifted.clamp_(min=_LOWEST_SHIFTED_LOGIT)
    exponentials = torch.exp(shifted, out=work("exponentials", len(shifted)))
    total = exponentials.sum(1)
    torch.log(total, out=rows.log_sum)
    if rows.log_probs is not None:
        rows.log_probs.sub_(rows.log_sum)
    if rows.top_mass is not None:
        rows.top_mass.copy_(exponentials.gather(1, rows.top).sum(1).div_(total))  # type: ignore[arg-type]
    scratch = work("scratch", len(shifted))
    if rows.collision is not None:
        rows.collision.copy_(torch.mul(exponentials, exponentials, out=scratch).sum(1).div_(total * total))
    if rows.entropy is None:
        return
    mean = torch.mul(exponentials, shifted, out=scratch).sum(1).div_(total)
    torch.sub(rows.log_sum, mean, out=rows.entropy)
    if rows.varentropy is None and rows.covariance is None:
        return
    deviation = shifted.sub_(mean.unsqueeze(1))
    weighted = torch.mul(exponentials, deviation, out=scratch)
    if rows.varentropy is not None:
        rows.varentropy.copy_(deviation.mul_(weighted).sum(1).div_(total))
    if rows.covariance is not None:
        rows.covariance.copy_(weighted.mul_(exponentials).sum(1).div_(total * total))


def _differentiate(
    products: Tensor, transform: _Transform, token_ids: Tensor, rows: _Rows, by: _Coefficients, work: _Workspace
) -> Tensor:
    """Overwrite products with the gradient by them."""
    count = len(products)
    logits = transform.apply_(products)
    slope = transform.cap_slope(logits, out=work("slope", count)) if transform.softcap else None
    shifted = logits.sub_(rows.maximum.unsqueeze(1)).clamp_(min=_LOWEST_SHIFTED_LOGIT)
    exponentials = torch.exp(shifted, out=work("exponentials", count))
    if by.deviation is None:  # then square and product are None, too
        gradient = shifted.zero_() if by.one is None else shifted.copy_(by.one)
    else:
        deviation = shifted.add_((rows.entropy - rows.log_sum).unsqueeze(1))  # type: ignore[operator]
        factor = by.deviation
        if by.square is not None:
            factor = torch.mul(deviation, by.square, out=work("factor", count)).add_(by.deviation)
            if by.product is not None:
                factor.addcmul_(exponentials, by.product)
        elif by.product is not None:
            factor = torch.mul(exponentials, by.product, out=work("factor", count)).add_(by.deviation)
        gradient = deviation.mul_(factor)
        if by.one is not None:
            gradient.add_(by.one)
    if by.exponential is not None:
        gradient.addcmul_(exponentials, by.exponential)
    gradient.mul_(exponentials)
    if by.token is not None:
        gradient.scatter_add_(1, token_ids.unsqueeze(1), by.token)
    if by.mode is not None:
        gradient.scatter_add_(1, rows.mode.unsqueeze(1), by.mode)  # type: ignore[union-attr]
    if by.top is not None:
        gradient.scatter_add_(1, rows.top, exponentials.gather(1, rows.top) * by.top)  # type: ignore[arg-type]
    return gradient if slope is None else gradient.mul_(slope)


def _check_finite(name: str, rows: _Rows) -> None:
    bad = ~torch.isfinite(rows.log_sum)
    if bad.any():
        index = int(bad.nonzero()[0])
        raise ValueError(
            f"{name}: the logits of token {index} (counted over all leading axes) have no softmax, their largest is "
            f"{float(rows.maximum[index])}; logits must be finite, or -inf for some but not all of the vocabulary"
        )


def _products(hidden: Tensor, weight: Tensor, bias: Tensor | None, buffer: Tensor) -> Tensor:
    """``hidden @ weight.T + bias`` in the buffer."""
    out = buffer[: len(hidden)]
    if bias is None:
        return torch.mm(hidden, weight.t(), out=out)
    return torch.addmm(bias, hidden, weight.t(), out=out)


class _HeadStatistics(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        token_ids: Tensor,
        transform: _Transform,
        top_k: int,
        outputs: tuple[str, ...],
        block_size: int,
    ) -> tuple[Tensor | None, ...]:
        tokens, vocabulary = len(hidden), len(weight)
        rows = _Rows.empty(tokens, min(top_k, vocabulary), outputs, like=hidden)
        buffer = hidden.new_empty((min(block_size, tokens), vocabulary))
        work = _Workspace(len(buffer), vocabulary, like=hidden)
        with torch.autocast(hidden.device.type, enabled=False):
            for block in _slices(0, tokens, block_size):
                products = _products(hidden[block], weight, bias, buffer)
                for few in _slices(block.start, block.stop, work.rows):
                    part = products[few.start - block.start : few.stop - block.start]
                    _reduce(transform.apply_(work.widened(part)), token_ids[few], rows.at(few), work)
        _check_finite("token_statistics", rows)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(hidden, weight, bias, token_ids, *rows)
        ctx.transform, ctx.block_size = transform, block_size
        return tuple(rows.statistics(outputs))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *incoming: Tensor | None) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, token_ids, *saved = ctx.saved_tensors
        if all(gradient is None for gradient in incoming):
            return (None,) * 8
        transform, block_size, rows = ctx.transform, ctx.block_size, _Rows(*saved)
        by = _Coefficients.of(rows, TokenStatistics(*incoming), transform)
        need_hidden, need_weight, need_bias = ctx.needs_input_grad[:3]
        tokens, vocabulary = len(hidden), len(weight)
        dtype = _accumulation_dtype(hidden)
        grad_hidden = torch.empty_like(hidden) if need_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=dtype) if need_weight else None
        grad_bias = torch.zeros_like(bias, dtype=dtype) if need_bias else None
        buffer = hidden.new_empty((min(block_size, tokens), vocabulary))
        work = _Workspace(len(buffer), vocabulary, like=hidden)
        with torch.autocast(hidden.device.type, enabled=False):
            for block in _slices(0, tokens, block_size):
                products = _products(hidden[block], weight, bias, buffer)
                for few in _slices(block.start, block.stop, work.rows):
                    part = products[few.start - block.start : few.stop - block.start]
                    wide = work.widened(part)
                    gradient = _differentiate(wide, transform, token_ids[few], rows.at(few), by.at(few), work)
                    if grad_bias is not None:
                        grad_bias.add_(gradient.sum(0))
                    if wide is not part:
                        part.copy_(gradient)
                if grad_hidden is not None:
                    torch.mm(products, weight, out=grad_hidden[block])
                if grad_weight is not None:
                    # Summing block products rounded to half precision would bias training.
                    grad_weight.addmm_(products.t().to(dtype), hidden[block].to(dtype))
        return (
            grad_hidden,
            None if grad_weight is None else grad_weight.to(weight.dtype),
            None if grad_bias is None else grad_bias.to(bias.dtype),
            *(None,) * 5,
        )


class _LogitStatistics(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, token_ids: Tensor, transform: _Transform, top_k: int, outputs: tuple[str, ...]
    ) -> tuple[Tensor | None, ...]:
        tokens, vocabulary = logits.shape
        rows = _Rows.empty(tokens, min(top_k, vocabulary), outputs, like=logits)
        work = _Workspace(tokens, vocabulary, like=logits)
        for few in _slices(0, tokens, work.rows):
            part = logits[few]
            _reduce(transform.apply_(work("logits", len(part)).copy_(part)), token_ids[few], rows.at(few), work)
        _check_finite("token_statistics_from_logits", rows)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(logits, token_ids, *rows)
        ctx.transform = transform
        return tuple(rows.statistics(outputs))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *incoming: Tensor | None) -> tuple[Tensor | None, ...]:
        logits, token_ids, *saved = ctx.saved_tensors
        if all(gradient is None for gradient in incoming):
            return (None,) * 5
        transform, rows = ctx.transform, _Rows(*saved)
        by = _Coefficients.of(rows, TokenStatistics(*incoming), transform)
        grad_logits = torch.empty_like(logits)
        work = _Workspace(len(logits), logits.shape[1], like=logits)
        for few in _slices(0, len(logits), work.rows):
            part = work("logits", few.stop - few.start).copy_(logits[few])
            gradient = _differentiate(part, transform, token_ids[few], rows.at(few), by.at(few), work)
            grad_logits[few].copy_(gradient)
        return grad_logits, None, None, None, None


def _check_settings(name: str, outputs: Sequence[str], **settings: Any) -> None:
    if isinstance(outputs, str):
        raise TypeError(
            f"{name}: outputs must be a sequence of names such as ({outputs!r},), got the string {outputs!r}"
        )
    if not outputs:
        raise ValueError(f"{name}: outputs is empty; choose among {', '.join(TokenStatistics._fields)}")
    for output in outputs:
        if output not in TokenStatistics._fields:
            close = get_close_matches(str(output), TokenStatistics._fields, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ValueError(
                f"{name}: unknown output {output!r}; {hint}choose among {', '.join(TokenStatistics._fields)}"
            )
    for setting in ("temperature", "softcap", "logit_scale"):
        value = settings.get(setting)
        if value is not None and not (isfinite(value) and value > 0):
            raise ValueError(f"{name}: {setting} must be a positive finite number, got {value!r}")
    for setting in ("top_k", "block_size"):
        value = settings.get(setting)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name}: {setting} must be an integer, got {value!r}")
        if value < 1:
            raise ValueError(f"{name}: {setting} must be at least 1, got {value}")


def _check_floating(name: str, argument: str, value: Tensor) -> None:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"{name}: {argument} must be a floating-point torch tensor, got {kind}")


def _check_token_ids(name: str, argument: str, scores: Tensor, token_ids: Tensor, vocabulary: int) -> None:
    if not isinstance(token_ids, Tensor) or token_ids.dtype not in (torch.int64, torch.int32, torch.int16, torch.uint8):
        kind = token_ids.dtype if isinstance(token_ids, Tensor) else type(token_ids).__name__
        raise TypeError(f"{name}: token_ids must be an integer torch tensor, got {kind}")
    if token_ids.shape != scores.shape[:-1]:
        raise ValueError(
            f"{name}: token_ids must have the shape of {argument} without its last axis, {tuple(scores.shape[:-1])}, "
            f"got {tuple(token_ids.shape)}"
        )
    if token_ids.device != scores.device:
        raise ValueError(f"{name}: token_ids are on {token_ids.device}, {argument} on {scores.device}")
    outside = (token_ids < 0) | (token_ids >= vocabulary)
    if outside.any():
        index = tuple(outside.nonzero()[0].tolist())
        raise ValueError(
            f"{name}: token_ids must lie in [0, {vocabulary}), got {int(token_ids[index])} at index {index}; "
            "leave padding and ignored positions out"
        )


def _check_head(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    name = "token_statistics"
    for argument, value in (("hidden", hidden), ("weight", weight), ("bias", bias)):
        if value is None:
            continue
        _check_floating(name, argument, value)
        if value.dtype != hidden.dtype:
            raise TypeError(f"{name}: {argument} is {value.dtype}, hidden {hidden.dtype}; convert one of them")
        if value.device != hidden.device:
            raise ValueError(f"{name}: {argument} is on {value.device}, hidden on {hidden.device}")
    if hidden.ndim == 0 or weight.ndim != 2 or hidden.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"{name}: hidden [..., d] and weight [V, d] must share d, got shapes {tuple(hidden.shape)} and "
            f"{tuple(weight.shape)}"
        )
    if 0 in weight.shape:
        raise ValueError(f"{name}: weight [V, d] must not be empty, got shape {tuple(weight.shape)}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"{name}: bias must have shape ({weight.shape[0]},), got {tuple(bias.shape)}")
