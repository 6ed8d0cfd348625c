"""Joint counts of many pairs of discrete variables, compiled; imported on first use.

Variables of few values are packed into blocks, one number for each combination. A pass over the samples then counts two
blocks at once, and the tables of all their pairs of variables are sums over that one table: with blocks of two, four pairs
of variables cost one pass.
"""

from typing import no_type_check

import numba
import numpy as np


@numba.njit(nogil=True, cache=True)
@no_type_check  # a run-time type checker would hand Numba its wrapper
def count_row(codes, sizes, first, strides, alphabet, row, starts, tables):
    """Tables of every variable of one block beside every variable of this block and those after it.

    Args:
        codes: block codes ``[blocks, n]``.
        sizes: number of combinations of each block.
        first: first variable of each block, and the number of variables.
        strides: what a step of a variable adds to its block's code.
        alphabet: number of values of each variable.
        row: the block.
        starts: first column of each variable in ``tables``.
        tables: counts ``[values of the block's variables, values of all from the block on]``, zeros on entry.
    """
    n = codes.shape[1]
    height = sizes[row]
    widest = sizes[row:].max()
    joint = np.empty(height * widest, np.int32)
    part = np.empty(alphabet[first[row] : first[row + 1]].max() * widest, np.int32)
    left = codes[row]
    for other in range(row, len(sizes)):
        width = sizes[other]
        joint[: height * width] = 0
        right = codes[other]
        for t in range(n):
            joint[np.int64(left[t]) * width + right[t]] += 1
        above = 0
        for i in range(first[row], first[row + 1]):
            part[: alphabet[i] * width] = 0
            for u in range(height):
                value = (u // strides[i]) % alphabet[i]
                for v in range(width):
                    part[value * width + v] += joint[u * width + v]
            for j in range(first[other], first[other + 1]):
                for v in range(width):
                    column = starts[j] + (v // strides[j]) % alphabet[j]
                    for value in range(alphabet[i]):
                        tables[above + value, column] += part[value * width + v]
            above += alphabet[i]
