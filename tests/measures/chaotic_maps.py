"""Series of chaotic maps, on which published entropies of series are compared."""

import numpy as np


def logistic(n, x=0.4):
    values = []
    for _ in range(n):
        values.append(x)
        x = 4 * x * (1 - x)
    return np.array(values)


def henon(n):
    x, y, values = 0.0, 0.0, []
    for _ in range(n):
        values.append(x)
        x, y = 1 - 1.4 * x * x + y, 0.3 * x
    return np.array(values)
