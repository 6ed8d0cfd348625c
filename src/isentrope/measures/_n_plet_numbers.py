"""Numbers of n-plets and what is looked up by them, compiled; imported on first use because Numba takes a second to.

The n-plets of one order are numbered in lexicographic order, that of `itertools.combinations`. No thread is started in any of
these kernels: they release the interpreter's lock, and the caller gives each thread its own numbers.
"""

from typing import no_type_check

import numpy as np
from numba import njit

# Compiled functions stay unchecked: a run-time type checker would hand Numba its wrapper.


@njit(cache=True, nogil=True)
@no_type_check
def first_members(rank, binomial, members):
    """The n-plet of a number; ``binomial[a, b]`` is the number of b-plets of a variables."""
    order, variables = len(members), len(binomial) - 1
    variable = 0
    for place in range(order):
        while True:
            following = binomial[variables - 1 - variable, order - 1 - place]
            variable += 1
            if rank < following:
                break
            rank -= following
        members[place] = variable - 1


@njit(cache=True, nogil=True)
@no_type_check
def next_prefix(members, variables):
    """Advance all but the last member, set the last to the first that may follow; the first place that changed."""
    order = len(members)
    place = order - 2
    while place > 0 and members[place] == variables - order + place:
        place -= 1
    members[place] += 1
    for later in range(place + 1, order):
        members[later] = members[later - 1] + 1
    return place


@njit(cache=True, nogil=True)
@no_type_check
def list_members(first, binomial, listed):
    """The n-plets from a number on, one a row."""
    count, order = listed.shape
    variables = len(binomial) - 1
    members = np.empty(order, np.int64)
    if count:
        first_members(first, binomial, members)
    for row in range(count):
        listed[row] = members
        if members[order - 1] < variables - 1:
            members[order - 1] += 1
        elif row < count - 1:
            next_prefix(members, variables)


@njit(cache=True, nogil=True)
@no_type_check
def combine(single, smaller, whole, order, first, binomial, total, dual):
    r"""Total and dual total correlation, $\sum_i h_i - h$ and $\sum_i h_{-i} - (n-1) h$, of n-plets from a number on.

    Args:
        single: entropies of the variables.
        smaller: entropies of all n-plets of the order below.
        whole: entropies of these n-plets.
        order: number of variables of an n-plet.
        first: number of the first n-plet.
        binomial: numbers of subsets.
        total: total correlations, results.
        dual: dual total correlations, results.
    """
    variables = len(single)
    members = np.empty(order, np.int64)
    first_members(first, binomial, members)
    for row in range(len(whole)):
        alone, others = 0.0, 0.0
        # The number of a subset is the last one's less a sum over its members, each with its place: without one member, those
        # after it move a place down.
        after = 0
        for place in range(1, order):
            after += binomial[variables - 1 - members[place], order - place]
        before = 0
        highest = binomial[variables, order - 1] - 1
        for place in range(order):
            alone += single[members[place]]
            others += smaller[highest - before - after]
            if place < order - 1:
                before += binomial[variables - 1 - members[place], order - 1 - place]
                after -= binomial[variables - 1 - members[place + 1], order - 1 - place]
        total[row] = alone - whole[row]
        dual[row] = others - (order - 1) * whole[row]
        if members[order - 1] < variables - 1:
            members[order - 1] += 1
        elif row < len(whole) - 1:
            next_prefix(members, variables)
