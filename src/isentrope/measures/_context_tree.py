"""Context-tree weighting symbol by symbol: the compiled loop of the entropy rate.

Numba takes most of a second to import: functions that need this module import it when they are called.
"""

from typing import no_type_check

import numpy as np
from numba import njit


@njit(cache=True)
@no_type_check
def code_lengths(nodes, pairs, number_of_nodes, number_of_pairs, distinct):
    """Minus the logarithm of the weighted probability of each symbol given those before it.

    For each length of context from 0 on (rows) and each symbol (columns): the number of the node, and of the pair of the
    node with the symbol. Each length has nodes of its own.
    """
    longest, n = nodes.shape[0] - 1, nodes.shape[1]
    followed = np.zeros(number_of_nodes)
    followed_by = np.zeros(number_of_pairs)
    own = np.zeros(number_of_nodes)  # logarithms of Krichevsky and Trofimov's probabilities
    below = np.zeros(number_of_nodes)  # sums of the children's weighted logarithms
    weighted = np.zeros(number_of_nodes)
    lengths = np.empty(n)
    for i in range(n):
        change = 0.0
        for level in range(longest, -1, -1):
            node, pair = nodes[level, i], pairs[level, i]
            own[node] += np.log((followed_by[pair] + 0.5) / (followed[node] + 0.5 * distinct))
            followed_by[pair] += 1
            followed[node] += 1
            before = weighted[node]
            if level == longest:
                weighted[node] = own[node]
            else:
                below[node] += change
                apart = abs(own[node] - below[node])
                weighted[node] = max(own[node], below[node]) + np.log1p(np.exp(-apart)) - np.log(2.0)
            change = weighted[node] - before
        lengths[i] = -change
    return lengths
