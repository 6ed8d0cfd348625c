"""Neighbours of n-plets of variables within one distance in all subspaces, compiled; imported on first use.

Neighbours are sought, and counted, among the samples between two places in the order of one variable, which for a few
variables are a small part of all, in runs that vector instructions take.
"""

from typing import no_type_check

import numpy as np
from numba import njit

# Compiled functions stay unchecked: a run-time type checker would hand Numba its wrapper.

# Samples whose distances are computed at once.
_RUN = 64


@njit(cache=True, nogil=True)
@no_type_check
def _run(values, position, radius):
    """The first and the last place of sorted values within a radius of one of them."""
    value = values[position]
    below, above = 0, position
    while below < above:
        middle = (below + above) // 2
        if value - values[middle] <= radius:
            above = middle
        else:
            below = middle + 1
    first = below
    below, above = position, len(values) - 1
    while below < above:
        middle = (below + above + 1) // 2
        if values[middle] - value <= radius:
            below = middle
        else:
            above = middle - 1
    return first, below


@njit(cache=True, nogil=True)
@no_type_check
def _kth_distance(columns, position, nearest, distances):
    """Distance of a sample to its k-th neighbour under the maximum norm; samples lie in the order of the first column."""
    n = columns.shape[1]
    k = len(nearest)
    nearest[:] = np.inf
    left, right = position, position + 1
    value = columns[0, position]
    while True:
        # A run on either side, unless all beyond it is too far in the first column alone.
        to_left = value - columns[0, left - 1] if left > 0 else np.inf
        to_right = columns[0, right] - value if right < n else np.inf
        if min(to_left, to_right) >= nearest[k - 1]:
            return nearest[k - 1]
        if to_left < to_right:
            first, last = max(0, left - _RUN), left
            left = first
        else:
            first, last = right, min(n, right + _RUN)
            right = last
        length = last - first
        distances[:length] = np.abs(columns[0, first:last] - value)
        for i in range(1, len(columns)):
            column, own = columns[i, first:last], columns[i, position]
            for t in range(length):
                offset = abs(column[t] - own)
                distances[t] = offset if offset > distances[t] else distances[t]
        for t in range(length):
            if distances[t] < nearest[k - 1]:
                place = k - 1
                while place > 0 and nearest[place - 1] > distances[t]:
                    nearest[place] = nearest[place - 1]
                    place -= 1
                nearest[place] = distances[t]


@njit(cache=True, nogil=True)
@no_type_check
def _far(columns, start, position, first, last, radius, far):
    """For each sample of a run the sum of 2^i over the columns i from ``start`` on in which it is beyond the radius."""
    length = last - first
    far[:length] = 0.0
    for i in range(start, len(columns)):
        column, own, weight = columns[i, first:last], columns[i, position], 2.0**i
        for t in range(length):
            far[t] += weight if abs(column[t] - own) > radius else 0.0


@njit(cache=True, nogil=True)
@no_type_check
def _how_many(far, length, value):
    found = 0
    for t in range(length):
        found += far[t] == value
    return found


@njit(cache=True, nogil=True)
@no_type_check
def _surroundings(by_first, by_second, places, radius, alone, others, far):
    """Numbers of other samples within a radius in each variable, in all but each, and in all (returned).

    Args:
        by_first: the n-plet's coordinates, in the order of its first variable.
        by_second: in the order of its second one, and then its columns, each sorted.
        places: the sample's place in the order of each variable.
        radius: distance up to which samples count; below 0 there are none.
        alone: results for each variable.
        others: results for all variables but each.
        far: memory.
    """
    order = len(places)
    if radius < 0:
        alone[:] = 0
        others[:] = 0
        return 0
    # All subspaces but one hold the first variable: what is near in it is near in those where at most one other variable is
    # far, the one that is left out.
    first, last = _run(by_first[0], places[0], radius)
    alone[0] = last - first
    _far(by_first, 1, places[0], first, last + 1, radius, far)
    together = _how_many(far, last + 1 - first, 0.0) - 1
    for i in range(1, order):
        others[i] = together + _how_many(far, last + 1 - first, 2.0**i)
    first, last = _run(by_second[1], places[1], radius)
    alone[1] = last - first
    _far(by_second[:order], 2, places[1], first, last + 1, radius, far)
    others[0] = _how_many(far, last + 1 - first, 0.0) - 1
    for i in range(2, order):
        first, last = _run(by_second[order + i], places[i], radius)
        alone[i] = last - first
    return together


@njit(cache=True, nogil=True)
@no_type_check
def neighbour_means(points, ordered, varying, recurring, psi, k, rounding, members, means, covariances):
    r"""Means and covariances over the samples of $\psi(m)$, $\sum_i\psi(m_i)$ and $\sum_i\psi(m_{-i})$ for n-plets.

    Args:
        points: coordinates ``[d, n]``.
        ordered: for each variable, the samples in rising order.
        varying: whether each variable varies; an n-plet is taken without constants.
        recurring: whether values of each variable recur.
        psi: digamma of 1..n.
        k: number of neighbours.
        rounding: by how much equal distances may differ.
        members: the n-plets, one a row.
        means: results ``[count, 3]``; for fewer than two varying variables they are left as they are.
        covariances: results ``[count, 3, 3]``, likewise.
    """
    n = points.shape[1]
    place_of = np.empty(points.shape, np.int64)
    for variable in range(len(points)):
        for place in range(n):
            place_of[variable, ordered[variable, place]] = place
    nearest = np.empty(k)
    far = np.empty(n)
    for row in range(len(members)):
        used = members[row][varying[members[row]]]
        order = len(used)
        if order < 2:
            continue
        by_first, by_second = np.empty((order, n)), np.empty((2 * order, n))
        for i in range(order):
            for place in range(n):
                by_first[i, place] = points[used[i], ordered[used[0], place]]
                by_second[i, place] = points[used[i], ordered[used[1], place]]
                by_second[order + i, place] = points[used[i], ordered[used[i], place]]
        ties = recurring[used].any()
        places = np.empty(order, np.int64)
        near_alone, near_others = np.empty(order, np.int64), np.empty(order, np.int64)
        tied_alone, tied_others = np.zeros(order, np.int64), np.zeros(order, np.int64)
        values = np.zeros((3, n))
        for position in range(n):
            radius = _kth_distance(by_first, position, nearest, far)
            for i in range(order):
                places[i] = place_of[used[i], ordered[used[0], position]]
            inside = radius - max(rounding, np.spacing(radius))
            _surroundings(by_first, by_second, places, inside, near_alone, near_others, far)
            tied = k
            if ties:
                # Of samples at the very distance of the k-th neighbour one is expected, the neighbour itself; where there
                # are more, all of them count.
                reach = radius + rounding
                tied = max(k, _surroundings(by_first, by_second, places, reach, tied_alone, tied_others, far))
            values[0, position] = psi[tied - 1]
            for i in range(order):
                values[1, position] += psi[max(near_alone[i], tied_alone[i] - 1)]
                values[2, position] += psi[max(near_others[i], tied_others[i] - 1)]
        for i in range(3):
            means[row, i] = values[i].sum() / n
            values[i] -= means[row, i]
        for i in range(3):
            for j in range(3):
                covariances[row, i, j] = (values[i] * values[j]).sum() / (n - 1)
