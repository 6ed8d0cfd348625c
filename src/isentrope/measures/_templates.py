"""Pairs of windows of a series that lie close together: the compiled loops of the sample, approximate and fuzzy entropies.

Two windows match if no coordinate differs by more than the radius. Sorted into strips along their first coordinate, as
wide as the radius, and by their second one within a strip, the candidates of a window are one contiguous run in each of
three strips. Their number exceeds that of the matches in two coordinates by half, and comparing them needs no index,
so a processor compares several at once. Comparisons are those of the definition, without rounding of their own.

Numba takes most of a second to import: functions that need this module import it when they are called.
"""

from typing import no_type_check

import numpy as np
from numba import njit

# Candidates are compared in pieces that stay in the fastest cache.
_PIECE = 1024

# Memberships below exp(-60) = 1e-26 of the sum so far are left out: a million millions of them do not change a digit.
_NEGLIGIBLE = 60.0


def matches(windows: np.ndarray, radius: float) -> tuple[int, int]:
    """Numbers of unordered pairs of windows ``[length, number]`` that match in all values but the last, and in all."""
    length, number = windows.shape
    if number < 2:
        return 0, 0
    if length == 2:
        close = _count_sorted(np.sort(windows[0]), radius)
    columns, strips = _sort_into_strips(windows, radius)
    counts = np.zeros((1, 1), np.int64)
    totals = _count_pairs(columns, strips, radius, length - 2, True, counts)
    return int(close if length == 2 else totals[0]), int(totals[-1])


def neighbours(windows: np.ndarray, radius: float) -> np.ndarray:
    """For each window of ``[length, number]``, in no order, how many windows match it, itself included."""
    length, number = windows.shape
    if length == 1 or number == 0:
        return _count_each_sorted(np.sort(windows[0]), radius)
    columns, strips = _sort_into_strips(windows, radius)
    counts = np.zeros((1, number), np.int64)
    _count_pairs(columns, strips, radius, length - 1, False, counts)
    return counts[0]


def memberships(windows: np.ndarray, radius: float, exponent: float) -> float:
    """Sum over unordered pairs of the memberships of windows ``[length, number]``, their means removed."""
    return _sum_memberships(np.ascontiguousarray(windows - windows.mean(axis=0)), radius, exponent)


def _sort_into_strips(columns: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """The windows sorted by strip and second coordinate, and the strip of each."""
    first = columns[0]
    low, high = first.min(), first.max()
    # A little wider than the radius, so that rounding cannot put a match more than one strip away.
    width = max(radius * (1 + 1e-9), (high - low) * 2.0**-30, np.finfo(np.float64).tiny)
    strips = np.floor((first - low) / width).astype(np.int64)
    order = np.lexsort((columns[1], strips))
    return np.ascontiguousarray(columns[:, order]), strips[order]


@njit(cache=True)
@no_type_check
def _count_sorted(values, radius):
    total, end = 0, 0
    for i in range(len(values)):
        while end < len(values) and values[end] - values[i] <= radius:
            end += 1
        total += end - i - 1
    return total


@njit(cache=True)
@no_type_check
def _count_each_sorted(values, radius):
    counts = np.empty(len(values), np.int64)
    start, end = 0, 0
    for i in range(len(values)):
        while end < len(values) and values[end] - values[i] <= radius:
            end += 1
        while values[i] - values[start] > radius:
            start += 1
        counts[i] = end - start
    return counts


@njit(cache=True)
@no_type_check
def _count_pairs(columns, strips, radius, from_coordinate, each_pair_once, counts):
    """Matches in the coordinates up to and including each one from ``from_coordinate`` on, as totals over the windows.

    With ``each_pair_once`` a window looks only at those after it in the sorted order. Otherwise the matches in all
    coordinates are also counted for each window.
    """
    length, n = columns.shape
    totals = np.zeros(length - from_coordinate, np.int64)
    close = np.empty(_PIECE, np.uint8)
    bounds = np.zeros((3, 2), np.int64)  # where the runs of the previous window lay, from which they only move on
    strip_start, strip_end = 0, 0
    before_start, after_end = 0, 0
    second = columns[1]
    for i in range(n):
        if i == strip_end:
            # A new strip: find it and its neighbours.
            previous = strip_start
            strip_start = i
            strip_end = i + 1
            while strip_end < n and strips[strip_end] == strips[i]:
                strip_end += 1
            before_start = previous if i > 0 and strips[previous] == strips[i] - 1 else strip_start
            after_end = strip_end
            while after_end < n and strips[after_end] == strips[i] + 1:
                after_end += 1
            bounds[0, 0] = bounds[0, 1] = before_start
            bounds[1, 0] = bounds[1, 1] = strip_start
            bounds[2, 0] = bounds[2, 1] = strip_end
        mine = second[i]
        for run in range(1 if each_pair_once else 0, 3):
            limit = strip_start if run == 0 else (strip_end if run == 1 else after_end)
            low, high = bounds[run, 0], bounds[run, 1]
            while low < limit and mine - second[low] > radius:
                low += 1
            while high < limit and second[high] - mine <= radius:
                high += 1
            bounds[run, 0] = low
            bounds[run, 1] = high
            if run == 1 and each_pair_once:
                low = i + 1
            while low < high:
                size = min(_PIECE, high - low)
                x, own = columns[0, low : low + size], columns[0, i]
                for j in range(size):
                    close[j] = abs(x[j] - own) <= radius
                for k in range(1, length):
                    if k > 1:
                        y, own = columns[k, low : low + size], columns[k, i]
                        for j in range(size):
                            close[j] &= abs(y[j] - own) <= radius
                    if k >= from_coordinate:
                        found = 0
                        for j in range(size):
                            found += close[j]
                        totals[k - from_coordinate] += found
                        if not each_pair_once and k == length - 1:
                            counts[0, i] += found
                low += size
    return totals


@njit(cache=True)
@no_type_check
def _sum_memberships(columns, radius, exponent):
    length, n = columns.shape
    total, limit = 0.0, np.inf
    farthest = np.empty(n)
    for i in range(n - 1):
        size = n - i - 1
        for j in range(size):
            farthest[j] = 0.0
        for k in range(length):
            others, own = columns[k, i + 1 :], columns[k, i]
            for j in range(size):
                farthest[j] = max(farthest[j], abs(others[j] - own))
        for j in range(size):
            ratio = farthest[j] / radius
            # A general power takes several times as long as the exponential.
            power = ratio * ratio if exponent == 2.0 else (ratio if exponent == 1.0 else ratio**exponent)
            if power < limit:
                total += np.exp(-power)
        if total > 0.0:
            limit = _NEGLIGIBLE - np.log(total)
    return total
