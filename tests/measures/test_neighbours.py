"""The search for neighbours against the table of all distances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import KDTree

from isentrope.measures.neighbours import NeighbourSearch


def all_distances(a, b, blocks, euclidean):
    offset, parts, start = np.abs(a[:, None] - b[None]), [], 0
    for width in blocks:
        part = offset[..., start : start + width]
        parts.append(np.sqrt((part**2).sum(-1)) if euclidean else part.max(-1))
        start += width
    return np.max(parts, axis=0)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(3, 150),
    blocks=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    euclidean=st.booleans(),
    grid=st.booleans(),
    window=st.integers(0, 3),
    seed=st.integers(0, 1000),
)
def test_neighbours_and_counts_are_those_of_all_distances(n, blocks, euclidean, grid, window, seed):
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 4, (n, sum(blocks))).astype(float) if grid else rng.normal(size=(n, sum(blocks)))
    table = all_distances(points, points, blocks, euclidean)
    rows = np.arange(n)
    table[np.abs(rows[:, None] - rows) <= window] = np.inf
    search = NeighbourSearch(points, blocks=blocks, euclidean=euclidean)
    k = min(4, n - 1 - 2 * window)
    if k < 1:
        return
    distances, neighbours = search.nearest(k, window=window)
    np.testing.assert_allclose(distances, np.sort(table, axis=1)[:, :k], rtol=1e-14)
    np.testing.assert_allclose(table[rows[:, None], neighbours], distances, rtol=1e-14)
    np.testing.assert_allclose(search.block_distance(rows[:, None], neighbours), distances, rtol=1e-14)
    assert all(len(set(row)) == k for row in neighbours)
    # Radii between distances, so that rounding of squares does not matter; the smallest counts nothing.
    radii = np.where(rng.random(n) < 0.1, -1.0, rng.exponential(size=n) + 1e-3)
    counts = search.count(radii, window=window)
    assert np.array_equal(counts, (table <= radii[:, None]).sum(1))


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 80), m=st.integers(1, 80), d=st.integers(1, 4), euclidean=st.booleans(), seed=st.integers(0, 99)
)
def test_neighbours_among_other_points(n, m, d, euclidean, seed):
    rng = np.random.default_rng(seed)
    here, there = rng.normal(size=(n, d)), rng.normal(0.5, 2, size=(m, d))
    table = all_distances(there, here, [d], euclidean)
    search, queries = (NeighbourSearch(points, euclidean=euclidean) for points in (here, there))
    k = min(3, n)
    distances, _ = search.nearest(k, queries=queries)
    np.testing.assert_allclose(distances, np.sort(table, axis=1)[:, :k], rtol=1e-13)
    assert np.array_equal(search.count(np.full(m, 0.7), queries=queries), (table <= 0.7).sum(1))


@pytest.mark.parametrize("d", [1, 2, 5])
def test_a_closed_ball_holds_the_neighbour_at_its_radius(d):
    points = np.random.default_rng(0).normal(size=(300, d))
    search = NeighbourSearch(points)
    radius = search.nearest(4)[0][:, -1]
    assert np.all(search.count(radius) == 4)
    assert np.all(search.count(np.nextafter(radius, 0)) == 3)


def test_all_points_in_one_place():
    search = NeighbourSearch(np.ones((100, 2)))
    assert np.all(search.nearest(5)[0] == 0)
    assert np.all(search.count(np.zeros(100)) == 99)


def test_threads_do_not_change_the_answer():
    points = np.random.default_rng(1).normal(size=(3000, 3))
    search = NeighbourSearch(points)
    one, three = (search.nearest(3, n_jobs=jobs) for jobs in (1, 3))
    assert np.array_equal(one[0], three[0])
    assert np.array_equal(one[1], three[1])
    radii = one[0][:, 2] * 3
    assert np.array_equal(search.count(radii, n_jobs=1), search.count(radii, n_jobs=3))


def test_too_many_neighbours_are_refused():
    search = NeighbourSearch(np.zeros((5, 1)))
    with pytest.raises(ValueError, match=r"k must be from 1 to 4 for 5 points and window=0 \(got 5\)"):
        search.nearest(5)
    with pytest.raises(ValueError, match=r"k must be from 1 to 2 for 5 points and window=1 \(got 3\)"):
        search.nearest(3, window=1)
    with pytest.raises(ValueError, match="blocks"):
        NeighbourSearch(np.zeros((5, 2)), blocks=[1])


@pytest.mark.parametrize("d", [1, 2, 3, 4])
@pytest.mark.parametrize("law", ["normal", "cauchy", "line", "rounded", "five values"])
def test_many_points_of_every_shape(d, law):
    """Outliers, clusters and ties, which leave cells of a grid long, crowded or empty, against SciPy's tree."""
    rng = np.random.default_rng(d)
    points = rng.standard_cauchy((2000, d)) if law == "cauchy" else rng.normal(size=(2000, d))
    if law == "line":
        points = points[:, :1] + 1e-5 * points
    elif law == "rounded":
        points = points.round(1)
    elif law == "five values":
        points[:, 0] = rng.integers(0, 5, 2000)
    search, tree = NeighbourSearch(points), KDTree(points)
    distances, neighbours = search.nearest(4, n_jobs=2)
    expected, _ = tree.query(points, 5, p=np.inf)
    np.testing.assert_array_equal(distances, expected[:, 1:])
    np.testing.assert_array_equal(search.block_distance(np.arange(2000)[:, None], neighbours), distances)
    # Radii of the size of neighbourhoods, and larger ones.
    for radii in (distances[:, -1], 20 * distances[:, -1]):
        within = tree.query_ball_point(points, radii, p=np.inf, return_length=True)
        np.testing.assert_array_equal(search.count(radii), within - 1)
