"""Compiled searches for `isentrope.measures.neighbours`, imported at the first search because Numba takes a second to.

Points lie in the order of the leaves of a balanced k-d tree, one row a coordinate, so that a leaf is a run of memory and
the distances from a point to a leaf are computed in vector instructions. The queries are the leaves of a second tree:
a whole leaf of queries walks through the tree of references at once. No thread is started here: the kernels release
the interpreter's lock, and the caller gives each thread its own leaves.

The distance is the maximum over blocks of coordinates of the distance in a block. Euclidean distances are squared
throughout, so that no root is taken.
"""

from typing import no_type_check

import numpy as np
from numba import njit

# Compiled functions stay unchecked: a run-time type checker would hand Numba its wrapper.


@njit(cache=True, nogil=True)
@no_type_check
def build(points, leaf_size):
    """Order of the points, and start, end and bounding box of each node; the children of node i are 2i+1 and 2i+2."""
    n, dimensions = points.shape
    depth = 0
    while (n >> depth) > leaf_size:
        depth += 1
    leaves = 1 << depth
    nodes = 2 * leaves - 1
    order = np.arange(n)
    start, end = np.zeros(nodes, np.int64), np.zeros(nodes, np.int64)
    low, high = np.empty((nodes, dimensions)), np.empty((nodes, dimensions))
    end[0] = n
    for node in range(nodes):
        first, last = start[node], end[node]
        for axis in range(dimensions):
            smallest = largest = points[order[first], axis]
            for position in range(first + 1, last):
                value = points[order[position], axis]
                smallest = min(smallest, value)
                largest = max(largest, value)
            low[node, axis], high[node, axis] = smallest, largest
        if node >= leaves - 1:
            continue
        widest = 0
        for axis in range(1, dimensions):
            if high[node, axis] - low[node, axis] > high[node, widest] - low[node, widest]:
                widest = axis
        middle = (first + last) // 2
        _select(points, widest, order, first, last - 1, middle)
        start[2 * node + 1], end[2 * node + 1] = first, middle
        start[2 * node + 2], end[2 * node + 2] = middle, last
    return order, start, end, low, high


@njit(cache=True, nogil=True)
@no_type_check
def _select(points, axis, order, left, right, middle):
    """Hoare's selection: afterwards order[middle] has its final place along the axis."""
    while left < right:
        pivot = points[order[(left + right) // 2], axis]
        i, j = left, right
        while i <= j:
            while points[order[i], axis] < pivot:
                i += 1
            while points[order[j], axis] > pivot:
                j -= 1
            if i <= j:
                order[i], order[j] = order[j], order[i]
                i += 1
                j -= 1
        if middle <= j:
            right = j
        elif middle >= i:
            left = i
        else:
            return


@njit(cache=True, nogil=True, inline="always")
@no_type_check
def _gap(low, high, a, other_low, other_high, b, block, euclidean):
    """Smallest distance between two boxes."""
    distance, within = 0.0, 0.0
    for axis in range(low.shape[1]):
        gap = max(0.0, max(other_low[b, axis] - high[a, axis], low[a, axis] - other_high[b, axis]))
        if euclidean:
            within = within + gap * gap if axis > 0 and block[axis] == block[axis - 1] else gap * gap
            distance = max(distance, within)
        else:
            distance = max(distance, gap)
    return distance


@njit(cache=True, nogil=True, inline="always")
@no_type_check
def _span(low, high, a, other_low, other_high, b, block, euclidean):
    """Largest distance between two boxes."""
    distance, within = 0.0, 0.0
    for axis in range(low.shape[1]):
        span = max(other_high[b, axis] - low[a, axis], high[a, axis] - other_low[b, axis])
        if euclidean:
            within = within + span * span if axis > 0 and block[axis] == block[axis - 1] else span * span
            distance = max(distance, within)
        else:
            distance = max(distance, span)
    return distance


@njit(cache=True, nogil=True, inline="always")
@no_type_check
def _point_gap(coordinates, point, low, high, node, block, euclidean):
    """Smallest distance from a point to a box."""
    distance, within = 0.0, 0.0
    for axis in range(coordinates.shape[0]):
        value = coordinates[axis, point]
        gap = max(0.0, max(low[node, axis] - value, value - high[node, axis]))
        if euclidean:
            within = within + gap * gap if axis > 0 and block[axis] == block[axis - 1] else gap * gap
            distance = max(distance, within)
        else:
            distance = max(distance, gap)
    return distance


@njit(cache=True, nogil=True, inline="always")
@no_type_check
def _distances(queries, point, references, first, last, block, euclidean, within, out):
    """Distances from one point to a leaf."""
    length = last - first
    for axis in range(queries.shape[0]):
        value = queries[axis, point]
        row = references[axis, first:last]
        if not euclidean:
            if axis == 0:
                for j in range(length):
                    out[j] = abs(row[j] - value)
            else:
                for j in range(length):
                    offset = abs(row[j] - value)
                    out[j] = offset if offset > out[j] else out[j]
            continue
        if axis == 0 or block[axis] != block[axis - 1]:
            for j in range(length):
                within[j] = (row[j] - value) * (row[j] - value)
        else:
            for j in range(length):
                within[j] += (row[j] - value) * (row[j] - value)
        if axis == 0:
            for j in range(length):
                out[j] = within[j]
        else:
            for j in range(length):
                out[j] = within[j] if within[j] > out[j] else out[j]


@njit(cache=True, nogil=True)
@no_type_check
def nearest(
    queries,
    query_order,
    query_start,
    query_end,
    query_low,
    query_high,
    references,
    order,
    start,
    end,
    low,
    high,
    block,
    euclidean,
    k,
    window,
    first_leaf,
    last_leaf,
    distances,
    neighbours,
):
    """Distances and indices of the k nearest references of each query in some leaves; a window of -1 excludes nothing."""
    leaves = (len(start) + 1) // 2
    query_nodes = (len(query_start) + 1) // 2 - 1
    longest = 0
    for node in range(leaves - 1, len(start)):
        longest = max(longest, end[node] - start[node])
    out, within = np.empty(longest), np.empty(longest)
    stack, stack_gap = np.empty(128, np.int64), np.empty(128)
    for leaf in range(first_leaf, last_leaf):
        q = query_nodes + leaf
        bound = np.inf
        stack[0], stack_gap[0] = 0, 0.0
        depth = 1
        while depth > 0:
            depth -= 1
            if stack_gap[depth] >= bound:
                continue
            node = stack[depth]
            if node < leaves - 1:
                left, right = 2 * node + 1, 2 * node + 2
                left_gap = _gap(query_low, query_high, q, low, high, left, block, euclidean)
                right_gap = _gap(query_low, query_high, q, low, high, right, block, euclidean)
                if left_gap > right_gap or (
                    left_gap == right_gap and _further(query_low, query_high, q, low, high, left)
                ):
                    left, right, left_gap, right_gap = right, left, right_gap, left_gap
                if right_gap < bound:
                    stack[depth], stack_gap[depth] = right, right_gap
                    depth += 1
                if left_gap < bound:
                    stack[depth], stack_gap[depth] = left, left_gap
                    depth += 1
                continue
            bound = 0.0
            for i in range(query_start[q], query_end[q]):
                index = query_order[i]
                worst = distances[index, k - 1]
                if _point_gap(queries, i, low, high, node, block, euclidean) < worst:
                    _distances(queries, i, references, start[node], end[node], block, euclidean, within, out)
                    for j in range(end[node] - start[node]):
                        if out[j] < worst:
                            other = order[start[node] + j]
                            if abs(other - index) <= window:
                                continue
                            place = k - 1
                            while place > 0 and distances[index, place - 1] > out[j]:
                                distances[index, place] = distances[index, place - 1]
                                neighbours[index, place] = neighbours[index, place - 1]
                                place -= 1
                            distances[index, place] = out[j]
                            neighbours[index, place] = other
                            worst = distances[index, k - 1]
                bound = max(bound, worst)


@njit(cache=True, nogil=True, inline="always")
@no_type_check
def _further(query_low, query_high, q, low, high, left):
    """Whether the left of two sibling boxes is the further one, by the middles of the boxes."""
    to_left, to_right = 0.0, 0.0
    for axis in range(low.shape[1]):
        middle = query_low[q, axis] + query_high[q, axis]
        to_left += abs(low[left, axis] + high[left, axis] - middle)
        to_right += abs(low[left + 1, axis] + high[left + 1, axis] - middle)
    return to_left > to_right


@njit(cache=True, nogil=True)
@no_type_check
def count(
    queries,
    query_order,
    query_start,
    query_end,
    query_low,
    query_high,
    references,
    start,
    end,
    low,
    high,
    block,
    euclidean,
    radii,
    first_leaf,
    last_leaf,
    counts,
):
    """Number of references at a distance of at most its radius from each query in some leaves, the query itself included."""
    leaves = (len(start) + 1) // 2
    query_nodes = (len(query_start) + 1) // 2 - 1
    longest = 0
    for node in range(leaves - 1, len(start)):
        longest = max(longest, end[node] - start[node])
    out, within = np.empty(longest), np.empty(longest)
    stack = np.empty(128, np.int64)
    for leaf in range(first_leaf, last_leaf):
        q = query_nodes + leaf
        smallest, largest = np.inf, -np.inf
        for i in range(query_start[q], query_end[q]):
            smallest = min(smallest, radii[query_order[i]])
            largest = max(largest, radii[query_order[i]])
        everywhere = 0
        stack[0] = 0
        depth = 1
        while depth > 0:
            depth -= 1
            node = stack[depth]
            if _gap(query_low, query_high, q, low, high, node, block, euclidean) > largest:
                continue
            if _span(query_low, query_high, q, low, high, node, block, euclidean) <= smallest:
                everywhere += end[node] - start[node]
                continue
            if node < leaves - 1:
                stack[depth], stack[depth + 1] = 2 * node + 1, 2 * node + 2
                depth += 2
                continue
            for i in range(query_start[q], query_end[q]):
                index = query_order[i]
                radius = radii[index]
                if _point_gap(queries, i, low, high, node, block, euclidean) <= radius:
                    _distances(queries, i, references, start[node], end[node], block, euclidean, within, out)
                    found = 0
                    for j in range(end[node] - start[node]):
                        found += out[j] <= radius
                    counts[index] += found
        for i in range(query_start[q], query_end[q]):
            counts[query_order[i]] += everywhere


@njit(cache=True, nogil=True)
@no_type_check
def count_sorted(values, order, radii, counts):
    """`count` in one dimension, from the sorted values: two binary searches a point."""
    n = len(values)
    for rank in range(n):
        index = order[rank]
        value, radius = values[rank], radii[index]
        if radius < 0:
            continue
        # The difference is what the search in the plane computed, so that ties are found by the same rounding.
        below, above = 0, rank
        while below < above:
            middle = (below + above) // 2
            if value - values[middle] <= radius:
                above = middle
            else:
                below = middle + 1
        lower = below
        below, above = rank, n - 1
        while below < above:
            middle = (below + above + 1) // 2
            if values[middle] - value <= radius:
                below = middle
            else:
                above = middle - 1
        counts[index] = below - lower + 1


@njit(cache=True, nogil=True)
@no_type_check
def substitutes(neighbours, available, keys, sequence):
    """For each row one of its neighbours that no row before it in the sequence has taken, else the last one tried."""
    taken = np.zeros(len(neighbours), np.bool_)
    chosen = np.arange(len(neighbours))
    for row in sequence:
        for candidate in np.argsort(keys[row, : available[row]]):
            chosen[row] = neighbours[row, candidate]
            if not taken[chosen[row]]:
                break
        taken[chosen[row]] = True
    return chosen
