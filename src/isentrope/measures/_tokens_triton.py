"""The two loops over the vocabulary that token statistics need, as Triton kernels.

`reduce_rows` reads a row of products once and leaves its statistics; `differentiate` turns products into the gradient by
them. What they compute is the table in `isentrope.measures.tokens`, whose names are used here. An argument that is None
is compiled away with everything that only it needs.

In `reduce_rows` each lane of a program keeps the statistics of the columns it has seen, relative to the largest of them,
and the lanes meet once, at the end of the row. Sums of products of probabilities and log-probabilities relative to the
maximum have terms of one sign. The varentropy has not, so its sum of squares is kept around the running mean.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from isentrope.measures.tokens import _Coefficients, _Rows, _Transform

# As in isentrope.measures.tokens: so far below the largest of its row, a logit has probability 0.
_LOWEST_SHIFTED_LOGIT = tl.constexpr(-1e4)
# Below every finite logit: what a lane has seen before its first one.
_NOTHING = tl.constexpr(-3e38)
_TINY = tl.constexpr(1e-37)
_LANES = 1024


def reduce_rows(products: Tensor, transform: _Transform, token_ids: Tensor, rows: _Rows) -> None:
    """Fill ``rows``, except what concerns the top ``k``, from products ``[n, V]``, which are only read."""
    with torch.cuda.device_of(products):
        _reduce_row[(len(products),)](
            products,
            products.stride(0),
            token_ids,
            rows.maximum,
            rows.log_sum,
            rows.log_probs,
            rows.entropy,
            rows.varentropy,
            rows.collision,
            rows.covariance,
            rows.mode,
            products.shape[1],
            *_factors(transform),
            LANES=_LANES,
            enable_fp_fusion=True,  # type: ignore[call-arg]
        )


def differentiate(
    products: Tensor,
    gradient: Tensor,
    first_column: int,
    transform: _Transform,
    token_ids: Tensor,
    rows: _Rows,
    by: _Coefficients,
) -> None:
    """Write the gradient by products, some columns ``[n, columns]`` of all; both may be the same tensor.

    ``rows.top`` must be ascending in each row.
    """
    if not products.numel():
        return
    with torch.cuda.device_of(products):
        _differentiate_part[(len(products), triton.cdiv(products.shape[1], _LANES))](
            products,
            products.stride(0),
            gradient,
            gradient.stride(0),
            first_column,
            products.shape[1],
            token_ids,
            rows.maximum,
            rows.log_sum,
            rows.entropy,
            rows.mode,
            rows.top,
            *by,
            *_factors(transform),
            TOP=0 if rows.top is None else rows.top.shape[1],
            LANES=_LANES,
            enable_fp_fusion=True,  # type: ignore[call-arg]
        )


def _factors(transform: _Transform) -> tuple[float, float | None]:
    """What products are multiplied by, and the bound of the logits where there is a soft cap."""
    if transform.softcap is None:
        return transform.factor, None
    return transform.scale / transform.softcap, transform.softcap / transform.temperature


# The test suite's checks of annotations would wrap the functions that Triton has to read.
@triton.jit
@no_type_check
def _logits(products, factor, bound):
    logits = products.to(tl.float32) * factor
    if bound is not None:
        # tanh to within 1e-7, from an exponential that cannot overflow.
        decay = tl.exp(-2.0 * tl.abs(logits))
        size = (1.0 - decay) / (1.0 + decay)
        logits = tl.where(logits < 0.0, -size, size) * bound
    return logits


@triton.jit
@no_type_check
def _raised(shifted):
    return tl.maximum(shifted, _LOWEST_SHIFTED_LOGIT, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
@no_type_check
def _reduce_row(
    products,
    stride,
    token_ids,
    maximum,
    log_sum,
    log_probs,
    entropy,
    varentropy,
    collision,
    covariance,
    mode,
    vocabulary,
    factor,
    bound,
    LANES: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    products += row * stride
    lanes = tl.arange(0, LANES)
    # Of each lane, with e = exp(z - highest) and s = z - highest: Σ e, Σ e s, Σ e (s - mean)², Σ e², Σ e² s, argmax.
    highest = tl.full((LANES,), _NOTHING, tl.float32)
    total = tl.zeros((LANES,), tl.float32)
    shifted_sum = tl.zeros((LANES,), tl.float32)
    spread = tl.zeros((LANES,), tl.float32)
    squares = tl.zeros((LANES,), tl.float32)
    shifted_squares = tl.zeros((LANES,), tl.float32)
    best = tl.zeros((LANES,), tl.int32)
    for start in range(0, vocabulary, LANES):
        columns = start + lanes
        inside = columns < vocabulary
        logits = _logits(tl.load(products + columns, mask=inside, other=float("-inf")), factor, bound)
        if bound is not None:
            logits = tl.where(inside, logits, float("-inf"))
        rise = logits - highest
        higher = rise > 0.0
        highest = tl.maximum(highest, logits)
        # Either the old sums shrink or the new term is smaller than 1: one exponential serves both.
        gap = _raised(-tl.abs(rise))
        decay = tl.exp(gap)
        rescale = tl.where(higher, decay, 1.0)
        exponential = tl.where(higher, 1.0, decay)
        fall = tl.where(higher, gap, 0.0)
        shifted = gap - fall
        if mode is not None:
            best = tl.where(higher, columns, best)
        if entropy is not None:
            shifted_sum = rescale * (shifted_sum + fall * total)
        if collision is not None:
            if covariance is not None:
                shifted_squares = rescale * rescale * (shifted_squares + fall * squares)
                shifted_squares += exponential * exponential * shifted
            squares = rescale * rescale * squares + exponential * exponential
        total = rescale * total
        if varentropy is not None:
            # Two groups' sums of squares around their means make one around the common mean.
            distance = shifted * total - shifted_sum
            between = exponential * distance * (distance / tl.maximum(total * (total + exponential), _TINY))
            spread = rescale * spread + between
        total += exponential
        if entropy is not None:
            shifted_sum += exponential * shifted

    largest = tl.max(highest, axis=0)
    fall = _raised(highest - largest)
    rescale = tl.exp(fall)
    everything = tl.sum(rescale * total, axis=0)
    logarithm = tl.log(everything)
    # What an error will name: -inf where there is nothing else, NaN where one is among finite logits.
    reported = tl.where(largest > _NOTHING, largest, float("-inf"))
    reported += tl.where(largest < float("inf"), everything - everything, 0.0)
    tl.store(maximum + row, reported)
    tl.store(log_sum + row, logarithm)
    if log_probs is not None:
        chosen = _logits(tl.load(products + tl.load(token_ids + row)), factor, bound)
        tl.store(log_probs + row, chosen - largest - logarithm)
    if entropy is not None:
        lane_sum = rescale * (shifted_sum + fall * total)
        mean = tl.sum(lane_sum, axis=0) / everything
        tl.store(entropy + row, logarithm - mean)
        if varentropy is not None:
            lane_total = rescale * total
            distance = lane_sum - mean * lane_total
            within = rescale * spread + distance * (distance / tl.maximum(lane_total, _TINY))
            tl.store(varentropy + row, tl.sum(within, axis=0) / everything)
    if collision is not None:
        collisions = tl.sum(rescale * rescale * squares, axis=0) / (everything * everything)
        tl.store(collision + row, collisions)
        if covariance is not None:
            lane_squares = rescale * rescale * (shifted_squares + fall * squares)
            tl.store(covariance + row, tl.sum(lane_squares, axis=0) / (everything * everything) - mean * collisions)
    if mode is not None:
        tl.store(mode + row, tl.min(tl.where(highest == largest, best, vocabulary), axis=0))


@triton.jit
@no_type_check
def _differentiate_part(
    products,
    stride,
    gradient,
    gradient_stride,
    first_column,
    width,
    token_ids,
    maximum,
    log_sum,
    entropy,
    mode,
    top,
    by_one,
    by_deviation,
    by_square,
    by_exponential,
    by_product,
    by_token,
    by_mode,
    by_top,
    factor,
    bound,
    TOP: tl.constexpr,
    LANES: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    local = tl.program_id(1) * LANES + tl.arange(0, LANES)
    inside = local < width
    columns = first_column + local
    logits = _logits(tl.load(products + row * stride + local, mask=inside, other=float("-inf")), factor, bound)
    shifted = _raised(logits - tl.load(maximum + row))
    exponential = tl.exp(shifted)
    weight = tl.zeros((LANES,), tl.float32)
    if by_deviation is not None:
        deviation = shifted + (tl.load(entropy + row) - tl.load(log_sum + row))
        slope = tl.load(by_deviation + row)
        if by_square is not None:
            slope += tl.load(by_square + row) * deviation
        if by_product is not None:
            slope += tl.load(by_product + row) * exponential
        weight += slope * deviation
    if by_one is not None:
        weight += tl.load(by_one + row)
    if by_exponential is not None:
        weight += tl.load(by_exponential + row) * exponential
    if by_top is not None:
        top += row * TOP
        start = first_column + tl.program_id(1) * LANES
        # The top tokens are ascending: those of these columns follow the ones before.
        before = 0
        until = 0
        for chunk in range(0, TOP, 32):
            places = chunk + tl.arange(0, 32)
            indices = tl.load(top + places, mask=places < TOP, other=2147483647)
            before += tl.sum((indices < start).to(tl.int32), axis=0)
            until += tl.sum((indices < start + LANES).to(tl.int32), axis=0)
        among_top = tl.zeros((LANES,), tl.int32)
        for place in range(before, until):
            among_top += (columns == tl.load(top + place)).to(tl.int32)
        weight += tl.load(by_top + row) * among_top
    result = exponential * weight
    if by_token is not None:
        result += tl.where(columns == tl.load(token_ids + row), tl.load(by_token + row), 0.0)
    if by_mode is not None:
        result += tl.where(columns == tl.load(mode + row), tl.load(by_mode + row), 0.0)
    if bound is not None:
        tangent = logits / bound
        result *= 1.0 - tangent * tangent
    tl.store(gradient + row * gradient_stride + local, result.to(gradient.dtype.element_ty), mask=inside)
