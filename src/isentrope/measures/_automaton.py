"""Repetitions in a symbol sequence by its suffix automaton: the compiled loops of Lempel-Ziv parsing and match lengths.

The automaton has a state for each set of end positions that a substring may have, and knows the first of them, so whether
a string occurred before a position is one comparison, and reading the sequence once costs time in proportion to its
length whatever the alphabet. Memory is about 100 bytes a symbol.

Numba takes most of a second to import: functions that need this module import it when they are called.
"""

from typing import no_type_check

import numpy as np
from numba import njit


@njit(cache=True)
@no_type_check
def _slot(state, symbol, slots):
    """Where the list of edges starts in which that of a state for a symbol is."""
    mixed = (np.uint64(state) << np.uint64(32) | np.uint64(symbol)) * np.uint64(0x9E3779B97F4A7C15)
    return np.int64((mixed >> np.uint64(32)) & np.uint64(slots - 1))


@njit(cache=True)
@no_type_check
def _follow(table, edges, state, symbol):
    """The edge of a state for a symbol, or -1."""
    edge = table[_slot(state, symbol, len(table))]
    while edge >= 0 and (edges[edge, 0] != state or edges[edge, 1] != symbol):
        edge = edges[edge, 3]
    return edge


@njit(cache=True)
@no_type_check
def _add(table, edges, first_edge, edge, state, symbol, target):
    slot = _slot(state, symbol, len(table))
    edges[edge, 0] = state
    edges[edge, 1] = symbol
    edges[edge, 2] = target
    edges[edge, 3] = table[slot]  # the next edge in the same slot
    edges[edge, 4] = first_edge[state]  # the next edge of the same state
    table[slot] = edge
    first_edge[state] = edge


@njit(cache=True)
@no_type_check
def _build(codes):
    """Longest string, suffix link and first end position of each state, and the edges; state 0 is the empty string."""
    n = len(codes)
    length = np.zeros(2 * n + 1, np.int32)
    link = np.full(2 * n + 1, -1, np.int32)
    first_end = np.full(2 * n + 1, -1, np.int32)
    first_edge = np.full(2 * n + 1, -1, np.int32)
    edges = np.empty((3 * n + 4, 5), np.int32)
    slots = 4
    while slots < 3 * n:
        slots *= 2
    table = np.full(slots, -1, np.int32)
    states, used, last = 1, 0, 0
    for position in range(n):
        symbol = codes[position]
        current = states
        states += 1
        length[current] = length[last] + 1
        first_end[current] = position
        state, edge = last, -1
        while state >= 0:
            edge = _follow(table, edges, state, symbol)
            if edge >= 0:
                break
            _add(table, edges, first_edge, used, state, symbol, current)
            used += 1
            state = link[state]
        last = current
        if state < 0:
            link[current] = 0
            continue
        target = edges[edge, 2]
        if length[state] + 1 == length[target]:
            link[current] = target
            continue
        clone = states
        states += 1
        length[clone] = length[state] + 1
        link[clone] = link[target]
        first_end[clone] = first_end[target]
        copied = first_edge[target]
        while copied >= 0:
            _add(table, edges, first_edge, used, clone, edges[copied, 1], edges[copied, 2])
            used += 1
            copied = edges[copied, 4]
        while state >= 0:
            edge = _follow(table, edges, state, symbol)
            if edge < 0 or edges[edge, 2] != target:
                break
            edges[edge, 2] = clone
            state = link[state]
        link[target] = clone
        link[current] = clone
    return length, link, first_end, edges, table


@njit(cache=True)
@no_type_check
def exhaustive_phrases(codes):
    """Number of phrases of the parsing of Lempel and Ziv (1976), each the shortest string that did not start before."""
    _, _, first_end, edges, table = _build(codes)
    n = len(codes)
    phrases, position = 0, 0
    while position < n:
        state = 0
        # Read on while the string so far also ends earlier, which for a string of its length means it starts earlier.
        while position < n:
            state = edges[_follow(table, edges, state, codes[position]), 2]
            position += 1
            if first_end[state] == position - 1:
                break
        phrases += 1
    return phrases


@njit(cache=True)
@no_type_check
def match_lengths(codes):
    """For each position, the longest string from there on that lies wholly before it."""
    length, link, first_end, edges, table = _build(codes)
    n = len(codes)
    longest = np.zeros(n, np.int64)
    state, matched = 0, 0
    for position in range(n):
        if matched > 0:
            # Without its first symbol the match still lies before; it may be too short for its state.
            matched -= 1
            if matched <= length[link[state]]:
                state = link[state]
        while position + matched < n:
            target = edges[_follow(table, edges, state, codes[position + matched]), 2]
            if first_end[target] >= position:
                break
            state = target
            matched += 1
        longest[position] = matched
    return longest


@njit(cache=True)
@no_type_check
def incremental_phrases(codes):
    """Number of phrases of the parsing of Lempel and Ziv (1978), each a known phrase and one symbol more."""
    n = len(codes)
    first_edge = np.full(n + 1, -1, np.int32)
    edges = np.empty((n, 5), np.int32)
    slots = 4
    while slots < n:
        slots *= 2
    table = np.full(slots, -1, np.int32)
    known, phrase = 0, 0  # a phrase has the number of the edge that ends it, plus 1; the empty one is 0
    for position in range(n):
        edge = _follow(table, edges, phrase, codes[position])
        if edge >= 0:
            phrase = edges[edge, 2]
            continue
        _add(table, edges, first_edge, known, phrase, codes[position], known + 1)
        known += 1
        phrase = 0
    return known + (phrase > 0)  # what is left over at the end
