"""Joint entropies of all n-plets of variables, compiled; imported on first use.

A walk over a range of numbers keeps, for each prefix of the current n-plet, what is already known of it (its symbols, or the
covariance that is left once it is known), so that the next n-plet costs little more than its last variable.
"""

from typing import no_type_check

import numpy as np
from numba import njit

from isentrope.measures._n_plet_numbers import first_members, next_prefix

# Compiled functions stay unchecked: a run-time type checker would hand Numba its wrapper.

# What is left of a variance of 1 once others are known; less is rounding, and the variables are dependent.
DEPENDENT = 1e-12


@njit(cache=True, nogil=True)
@no_type_check
def gaussian_entropies(correlation, varying, correction, order, first, binomial, entropies):
    """Half the log-determinant of each n-plet's correlations, from a number on, by Schur complements.

    Args:
        correlation: correlations ``[d, d]``; those of a constant are 0.
        varying: whether each variable varies; constants add nothing.
        correction: what is added to the log-determinant of so many varying variables.
        order: number of variables of an n-plet.
        first: number of the first n-plet.
        binomial: numbers of subsets.
        entropies: results; NaN where the variables are linearly dependent.
    """
    variables = len(correlation)
    last = first + len(entropies)
    members = np.empty(order, np.int64)
    first_members(first, binomial, members)
    # Covariances of the later variables once the members before each place are known.
    rest = np.empty((order, variables, variables))
    rest[0] = correlation
    variance = np.empty(variables)
    logarithm = np.zeros(order)
    effective = np.zeros(order, np.int64)
    for variable in range(variables):
        variance[variable] = correlation[variable, variable]
    place, position = 0, first
    while True:
        for known in range(place, order - 1):
            member = members[known]
            before = rest[known]
            pivot = before[member, member]
            if pivot < DEPENDENT:
                logarithm[known + 1] = np.nan
                pivot = 1.0
            else:
                logarithm[known + 1] = logarithm[known] + np.log(pivot)
            effective[known + 1] = effective[known] + varying[member]
            if known == order - 2:
                for i in range(member + 1, variables):
                    variance[i] = before[i, i] - before[member, i] * before[member, i] / pivot
                continue
            after = rest[known + 1]
            for i in range(member + 1, variables):
                factor = before[member, i] / pivot
                for j in range(i, variables):
                    after[i, j] = before[i, j] - factor * before[member, j]
        for member in range(members[order - 1], variables):
            left = variance[member]
            value = logarithm[order - 1] + (np.log(left) if left >= DEPENDENT else np.nan)
            entropies[position - first] = 0.5 * (value + correction[effective[order - 1] + varying[member]])
            position += 1
            if position == last:
                return
        place = next_prefix(members, variables)


@njit(cache=True, nogil=True)
@no_type_check
def discrete_entropies(codes, alphabet, cells, term, constant, order, first, binomial, entropies):
    """Entropy a - Σ h(n_i)/n of each n-plet's joint counts, from a number on.

    Args:
        codes: values 0..K-1 of each variable ``[d, n]``.
        alphabet: number K of values of each.
        cells: the largest number of combinations of values that can occur, times the largest K.
        term: h(m) for m = 0..n.
        constant: a.
        order: number of variables of an n-plet.
        first: number of the first n-plet.
        binomial: numbers of subsets.
        entropies: results.
    """
    variables, n = codes.shape
    last = first + len(entropies)
    members = np.empty(order, np.int64)
    first_members(first, binomial, members)
    # The combination of the first members that each sample shows, and how many combinations there are.
    labels = np.zeros((order, n), np.int32)
    sizes = np.ones(order, np.int64)
    table = np.empty(cells, np.int32)
    counts = np.zeros(cells, np.int32)
    place, position = 0, first
    while True:
        for known in range(place, order - 1):
            member = members[known]
            values = alphabet[member]
            # Numbered in the order of their values, so that sums of the same counts are equal to the last digit.
            width = sizes[known] * values
            table[:width] = 0
            for sample in range(n):
                table[labels[known, sample] * values + codes[member, sample]] = 1
            seen = 0
            for cell in range(width):
                if table[cell]:
                    table[cell] = seen
                    seen += 1
            for sample in range(n):
                labels[known + 1, sample] = table[labels[known, sample] * values + codes[member, sample]]
            sizes[known + 1] = seen
        joint, combinations = labels[order - 1], sizes[order - 1]
        for member in range(members[order - 1], variables):
            values = alphabet[member]
            column = codes[member]
            for sample in range(n):
                counts[joint[sample] * values + column[sample]] += 1
            total, distinct = 0.0, 0
            for cell in range(combinations * values):
                if counts[cell] > 0:
                    total += term[counts[cell]]
                    distinct += 1
                    counts[cell] = 0
            entropies[position - first] = constant - total / n if distinct > 1 else 0.0
            position += 1
            if position == last:
                return
        place = next_prefix(members, variables)
