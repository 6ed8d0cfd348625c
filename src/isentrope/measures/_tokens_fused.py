"""Token statistics on accelerators: matrix products in the vendor's library, everything else in one pass over them.

The same functions of the same arguments as in `isentrope.measures.tokens`, with two differences. Products of
half-precision inputs are kept in float32 where torch can (CUDA, from 2.10), because rounding logits to bfloat16 moves
log-probabilities by hundredths; only their gradient is rounded, as automatic differentiation would. And the backward pass
needs no complete rows, since each row's statistics are known by then: it takes many tokens and part of the vocabulary at
a time, so that the float32 sum of the weight's gradient is read and written once in thousands of tokens.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from isentrope.measures._tokens_triton import differentiate, reduce_rows
from isentrope.measures.tokens import (
    TokenStatistics,
    _check_finite,
    _Coefficients,
    _largest,
    _Rows,
    _slices,
    _Transform,
)

# Rows start at multiples of this many numbers, as fast matrix products want them.
_ALIGNMENT = 16
# The matrix products of the backward pass reduce over tokens and are efficient from some thousand.
_TOKENS_IN_TILE = 4096
_LOGITS_IN_BLOCK = 1 << 27
# From this version on torch.addmm takes a float32 sum beside half-precision factors.
_WIDENS = torch.version.cuda is not None and tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 10)


def default_block_size(vocabulary: int) -> int:
    """Tokens whose logits take 512 MB in float32, at least 256."""
    return max(256, _LOGITS_IN_BLOCK // vocabulary // 128 * 128)


class FusedHeadStatistics(torch.autograd.Function):
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
        buffer = _matrix(min(block_size, tokens), vocabulary, hidden, torch.float32)
        with torch.autocast(hidden.device.type, enabled=False):
            for block in _slices(0, tokens, block_size):
                products = _products(hidden[block], weight, bias, buffer)
                _reduce(products, transform, token_ids[block], rows.at(block))
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
        transform, rows = ctx.transform, _Rows(*saved)
        by = _Coefficients.of(rows, TokenStatistics(*incoming), transform)
        need_hidden, need_weight, need_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.empty_like(hidden) if need_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if need_weight else None
        grad_bias = torch.zeros_like(bias, dtype=torch.float32) if need_bias else None
        tokens, columns = _tile(len(hidden), len(weight), ctx.block_size)
        buffer = _matrix(tokens, columns, hidden, torch.float32)
        result = buffer if hidden.dtype == torch.float32 else _matrix(tokens, columns, hidden, hidden.dtype)
        with torch.autocast(hidden.device.type, enabled=False):
            for some in _slices(0, len(hidden), tokens):
                grad_some = torch.zeros_like(hidden[some], dtype=torch.float32) if need_hidden else None
                for part in _slices(0, len(weight), columns):
                    products = _products(hidden[some], weight[part], None if bias is None else bias[part], buffer)
                    gradient = result[: len(products), : products.shape[1]]
                    few, factors = rows.at(some), by.at(some)
                    differentiate(products, gradient, part.start, transform, token_ids[some], few, factors)
                    if grad_some is not None:
                        _add_product(grad_some, gradient, weight[part])
                    if grad_weight is not None:
                        _add_product(grad_weight[part], gradient.t(), hidden[some])
                    if grad_bias is not None:
                        grad_bias[part] += gradient.sum(0, dtype=torch.float32)
                if grad_hidden is not None and grad_some is not None:
                    grad_hidden[some] = grad_some
        return (
            grad_hidden,
            None if grad_weight is None else grad_weight.to(weight.dtype),
            None if grad_bias is None else grad_bias.to(weight.dtype),
            *(None,) * 5,
        )


class FusedLogitStatistics(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, token_ids: Tensor, transform: _Transform, top_k: int, outputs: tuple[str, ...]
    ) -> tuple[Tensor | None, ...]:
        if logits.stride(1) != 1:
            logits = logits.contiguous()
        tokens, vocabulary = logits.shape
        rows = _Rows.empty(tokens, min(top_k, vocabulary), outputs, like=logits)
        for block in _slices(0, tokens, default_block_size(vocabulary)):
            _reduce(logits[block], transform, token_ids[block], rows.at(block))
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
        rows = _Rows(*saved)
        by = _Coefficients.of(rows, TokenStatistics(*incoming), ctx.transform)
        gradient = logits.new_empty(logits.shape)
        differentiate(logits, gradient, 0, ctx.transform, token_ids, rows, by)
        return gradient, None, None, None, None


def _reduce(products: Tensor, transform: _Transform, token_ids: Tensor, rows: _Rows) -> None:
    """Fill ``rows`` from products, which are only read."""
    reduce_rows(products, transform, token_ids, rows)
    if rows.top is None or rows.top_mass is None:
        return
    # A logit increases with its product, so that the largest are the same. In order, the backward pass finds them.
    torch.sort(_largest(products, rows.top.shape[1]), out=(rows.top, torch.empty_like(rows.top)))
    logits = transform.apply_(products.gather(1, rows.top).float())
    shifted = logits.sub_(rows.maximum.unsqueeze(1)).sub_(rows.log_sum.unsqueeze(1))
    rows.top_mass.copy_(shifted.exp_().sum(1))


def _tile(tokens: int, vocabulary: int, block_size: int) -> tuple[int, int]:
    """Tokens and columns that are differentiated together: no more logits than the forward pass has in a block."""
    most = max(1, min(tokens, max(block_size, _TOKENS_IN_TILE)))
    columns = block_size * vocabulary // most
    return most, min(vocabulary, max(128, columns // 128 * 128))


def _matrix(rows: int, columns: int, like: Tensor, dtype: torch.dtype) -> Tensor:
    stride = -(-columns // _ALIGNMENT) * _ALIGNMENT
    return like.new_empty((rows, stride), dtype=dtype)[:, :columns]


def _products(hidden: Tensor, weight: Tensor, bias: Tensor | None, buffer: Tensor) -> Tensor:
    """``hidden @ weight.T + bias`` in the float32 buffer."""
    out = buffer[: len(hidden), : len(weight)]
    if hidden.dtype == out.dtype:
        torch.mm(hidden, weight.t(), out=out)
    elif _WIDENS and hidden.is_cuda:
        torch.mm(hidden, weight.t(), out_dtype=torch.float32, out=out)
    else:
        out.copy_(hidden @ weight.t())
    return out if bias is None else out.add_(bias)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """``total += left @ right`` in float32: sums of products rounded to half precision would bias training."""
    if left.dtype != total.dtype and _WIDENS and left.is_cuda:
        torch.addmm(total, left, right, out_dtype=torch.float32, out=total)
    else:
        total.addmm_(left.to(total.dtype), right.to(total.dtype))
