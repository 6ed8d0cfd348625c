"""Compiled searches in up to three coordinates under the maximum norm, for `isentrope.measures.neighbours`.

Each coordinate is cut into slabs of equally many points, so that cells are narrow where points are dense. Around a point
a box of cells grows on the side that is nearest, until every side is further away than what was found; a radius reaches
so many slabs on each side. The distance to a side is that of the next point beyond it, so that the answer is exact, with ties.

There are always three coordinates, of which the first may be one slab of zeros: along the last one cells are runs of memory.
"""

from typing import no_type_check

import numpy as np
from numba import njit

# A point has this much company in its cell, on average, before cells are made smaller, and so many cells at most.
_CROWD = 12
_CELLS_PER_POINT = 16

# Compiled functions stay unchecked: a run-time type checker would hand Numba its wrapper.


@njit(cache=True, nogil=True)
@no_type_check
def build(points, ranking, slabs):
    """Coordinates and order of the points by cells, start of each cell, and values in order, width and number of slabs.

    The ranking has the points in the order of each coordinate. There are more slabs than asked for where the points lie on a line or in clusters, which leave most cells empty.
    """
    n, dimensions = points.shape
    levels, rank = np.zeros((3, n)), np.zeros((3, n), np.int64)
    for axis in range(dimensions):
        place = axis + 3 - dimensions
        for position in range(n):
            levels[place, position] = points[ranking[position, axis], axis]
            rank[place, ranking[position, axis]] = position
    width, number = np.full(3, n), np.ones(3, np.int64)
    cell = np.empty(n, np.int64)
    while True:
        for place in range(3 - dimensions, 3):
            width[place] = (n + slabs - 1) // slabs
            number[place] = (n + width[place] - 1) // width[place]
        start = np.zeros(number[0] * number[1] * number[2] + 1, np.int64)
        for index in range(n):
            a, b, c = rank[0, index] // width[0], rank[1, index] // width[1], rank[2, index] // width[2]
            cell[index] = (a * number[1] + b) * number[2] + c
            start[cell[index] + 1] += 1
        company = 0
        for c in range(1, len(start)):
            company += start[c] * start[c]
        if company <= _CROWD * n or len(start) << dimensions > _CELLS_PER_POINT * n:
            break
        slabs *= 2
    for c in range(len(start) - 1):
        start[c + 1] += start[c]
    free = start.copy()
    order = np.empty(n, np.int64)
    coordinates = np.zeros((3, n))
    for index in range(n):
        position = free[cell[index]]
        free[cell[index]] += 1
        order[position] = index
        for axis in range(dimensions):
            coordinates[axis + 3 - dimensions, position] = points[index, axis]
    return coordinates, order, start, levels, width, number


@njit(cache=True, nogil=True, inline="always")
@no_type_check
def _below(levels, width, axis, slab, value):
    """From a value down to the slabs before this one."""
    return value - levels[axis, slab * width[axis] - 1] if slab > 0 else np.inf


@njit(cache=True, nogil=True, inline="always")
@no_type_check
def _above(levels, width, number, axis, slab, value):
    """From a value up to the slabs after this one."""
    return levels[axis, (slab + 1) * width[axis]] - value if slab + 1 < number[axis] else np.inf


@njit(cache=True, nogil=True)
@no_type_check
def nearest(coordinates, order, start, levels, width, number, k, window, first, last, distances, neighbours):
    """Distances and indices of the k nearest others of each point in some cells, none of them within the window."""
    low, high = np.empty(3, np.int64), np.empty(3, np.int64)
    begin, end = np.empty(3, np.int64), np.empty(3, np.int64)
    gap = np.empty(6)
    for cell in range(first, last):
        for i in range(start[cell], start[cell + 1]):
            index = order[i]
            x, y, z = coordinates[0, i], coordinates[1, i], coordinates[2, i]
            low[0], low[1], low[2] = cell // (number[2] * number[1]), cell // number[2] % number[1], cell % number[2]
            for axis in range(3):
                high[axis] = begin[axis] = end[axis] = low[axis]
                gap[axis] = _below(levels, width, axis, low[axis], coordinates[axis, i])
                gap[axis + 3] = _above(levels, width, number, axis, low[axis], coordinates[axis, i])
            worst = np.inf
            while True:
                for a in range(begin[0], end[0] + 1):
                    for b in range(begin[1], end[1] + 1):
                        row = (a * number[1] + b) * number[2]
                        for j in range(start[row + begin[2]], start[row + end[2] + 1]):
                            distance = max(abs(coordinates[0, j] - x), abs(coordinates[1, j] - y))
                            distance = max(distance, abs(coordinates[2, j] - z))
                            if distance < worst and abs(order[j] - index) > window:
                                place = k - 1
                                while place > 0 and distances[index, place - 1] > distance:
                                    distances[index, place] = distances[index, place - 1]
                                    neighbours[index, place] = neighbours[index, place - 1]
                                    place -= 1
                                distances[index, place] = distance
                                neighbours[index, place] = order[j]
                                worst = distances[index, k - 1]
                side = 0
                for candidate in range(1, 6):
                    if gap[candidate] < gap[side]:
                        side = candidate
                if gap[side] >= worst:
                    break
                axis = side % 3
                for other in range(3):
                    begin[other], end[other] = low[other], high[other]
                if side < 3:
                    low[axis] -= 1
                    begin[axis] = end[axis] = low[axis]
                    gap[side] = _below(levels, width, axis, low[axis], coordinates[axis, i])
                else:
                    high[axis] += 1
                    begin[axis] = end[axis] = high[axis]
                    gap[side] = _above(levels, width, number, axis, high[axis], coordinates[axis, i])


@njit(cache=True, nogil=True)
@no_type_check
def count(coordinates, order, start, levels, width, number, radii, first, last, counts):
    """Number of points at a distance of at most its radius from each point in some cells, the point itself included."""
    low, high = np.empty(3, np.int64), np.empty(3, np.int64)
    for cell in range(first, last):
        for i in range(start[cell], start[cell + 1]):
            radius = radii[order[i]]
            if radius < 0:
                continue
            x, y, z = coordinates[0, i], coordinates[1, i], coordinates[2, i]
            low[0], low[1], low[2] = cell // (number[2] * number[1]), cell // number[2] % number[1], cell % number[2]
            for axis in range(3):
                high[axis] = low[axis]
                while _below(levels, width, axis, low[axis], coordinates[axis, i]) <= radius:
                    low[axis] -= 1
                while _above(levels, width, number, axis, high[axis], coordinates[axis, i]) <= radius:
                    high[axis] += 1
            found = 0
            for a in range(low[0], high[0] + 1):
                for b in range(low[1], high[1] + 1):
                    row = (a * number[1] + b) * number[2]
                    begin, end = start[row + low[2]], start[row + high[2] + 1]
                    # Slabs that have others of the box on both sides lie in it whole.
                    if (number[0] == 1 or low[0] < a < high[0]) and low[1] < b < high[1] and high[2] - low[2] > 1:
                        inner, outer = start[row + low[2] + 1], start[row + high[2]]
                        found += outer - inner
                        for j in range(begin, inner):
                            found += abs(coordinates[2, j] - z) <= radius
                        for j in range(outer, end):
                            found += abs(coordinates[2, j] - z) <= radius
                        continue
                    for j in range(begin, end):
                        near = (abs(coordinates[0, j] - x) <= radius) & (abs(coordinates[1, j] - y) <= radius)
                        found += near & (abs(coordinates[2, j] - z) <= radius)
            counts[order[i]] = found
