r"""Nearest neighbours and neighbour counts: the search that every estimate from distances stands on.

In up to three coordinates a grid of cells with about equally many points, in more a k-d tree whose leaves are runs of memory,
walked by whole leaves of queries; both compiled by Numba at the first call (and kept on disk). Distances are the largest of those in blocks of coordinates,
each maximum norm or Euclidean, as the joint spaces of Kraskov, Stögbauer and Grassberger need them. Ties are exact: the
difference of two coordinates is computed in the same way wherever it is compared.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int

from isentrope._threads import cores, threads_of

# A second thread pays from about this many coordinates on, in the tree and in the grid.
_COORDINATES_PER_THREAD = 8_000
_COORDINATES_PER_THREAD_OF_GRID = 100_000
# Points of a cell of the grid, on average.
_IN_A_CELL = 4


class NeighbourSearch:
    r"""Points among which neighbours are sought, under $d(a,b)=\max_{\text{blocks}}\lVert a_B-b_B\rVert$.

    Args:
        points: n points of d finite coordinates.
        blocks: how many coordinates each block has; None for one block of all.
        euclidean: Euclidean norm in each block, instead of the maximum norm (for which blocks make no difference).

    Examples:
        >>> search = NeighbourSearch(np.array([[0.0], [1.0], [3.0], [7.0]]))
        >>> distances, neighbours = search.nearest(1)
        >>> distances.ravel(), neighbours.ravel()
        (array([1., 1., 2., 4.]), array([1, 0, 1, 2]))
        >>> search.count(np.array([3.0, 0.5, 2.0, 4.0]))
        array([2, 0, 1, 1])
    """

    def __init__(
        self, points: Float[np.ndarray, "n d"], *, blocks: Sequence[int] | None = None, euclidean: bool = False
    ) -> None:
        self.points = np.ascontiguousarray(points, dtype=np.float64)
        n, dimensions = self.points.shape
        if n == 0 or dimensions == 0:
            raise ValueError(f"NeighbourSearch: points must have rows and columns (got shape {self.points.shape})")
        blocks = [dimensions] if blocks is None else list(blocks)
        if sum(blocks) != dimensions or min(blocks) < 1:
            raise ValueError(f"NeighbourSearch: blocks {blocks} must be positive and sum to {dimensions} coordinates")
        self.block = np.repeat(np.arange(len(blocks)), blocks)
        # In one coordinate the two norms agree, and the maximum norm needs no rounding.
        self.euclidean = euclidean and max(blocks) > 1

    @cached_property
    def _tree(self):
        from isentrope.measures._neighbour_kernels import build

        order, start, end, low, high = build(self.points, 20 if self.points.shape[1] <= 3 else 80)
        return np.ascontiguousarray(self.points[order].T), order, start, end, low, high

    @cached_property
    def _grid(self):
        from isentrope.measures._grid_kernels import build

        n, dimensions = self.points.shape
        return build(self.points, np.argsort(self.points, axis=0), max(1, round((n / _IN_A_CELL) ** (1 / dimensions))))

    @cached_property
    def _sorted(self):
        order = np.argsort(self.points[:, 0])
        return self.points[order, 0], order

    def nearest(
        self, k: int, *, queries: "NeighbourSearch | None" = None, window: int = 0, n_jobs: int | None = None
    ) -> tuple[Float[np.ndarray, "m k"], Int[np.ndarray, "m k"]]:
        """The k nearest points of each point, or of each of other points.

        Args:
            k: number of neighbours.
            queries: other points; None for these, of which each is then no neighbour of itself.
            window: of these points, those no more than so many rows away are no neighbours either (Theiler's window).
            n_jobs: number of threads; None for all cores where that pays. It does not change the result.

        Returns:
            Distances in rising order, and indices of the points.

        Raises:
            ValueError: if some point has fewer than k neighbours.
        """
        n = len(self.points)
        # In the middle of a series a window takes away twice its length.
        available = n if queries is not None else n - 1 - min(n - 1, 2 * window)
        if not 1 <= k <= available:
            raise ValueError(f"nearest: k must be from 1 to {available} for {n} points and window={window} (got {k})")
        asked = self if queries is None else queries
        rows = len(asked.points)
        distances, neighbours = np.full((rows, k), np.inf), np.full((rows, k), -1)
        if self._in_grid and queries is None:
            from isentrope.measures._grid_kernels import nearest

            asked._share(nearest, (*self._grid, k, window), len(self._grid[2]) - 1, (distances, neighbours), n_jobs)
        else:
            from isentrope.measures._neighbour_kernels import nearest

            arguments = *asked._tree, *self._tree, self.block, self.euclidean, k, window if queries is None else -1
            asked._share(nearest, arguments, asked._leaves, (distances, neighbours), n_jobs)
        return (np.sqrt(distances) if self.euclidean else distances), neighbours

    def count(
        self,
        radii: Float[np.ndarray, " m"],
        *,
        queries: "NeighbourSearch | None" = None,
        window: int = 0,
        n_jobs: int | None = None,
    ) -> Int[np.ndarray, " m"]:
        """How many other points lie at a distance of at most its radius from each point.

        Args:
            radii: a radius for each point; with a negative one there are none.
            queries: other points around which to count; None for these, of which each does not count itself.
            window: of these points, those no more than so many rows away do not count either.
            n_jobs: number of threads; None for all cores where that pays.

        Returns:
            The counts.
        """
        asked = self if queries is None else queries
        counts = np.zeros(len(asked.points), np.int64)
        if self.points.shape[1] == 1 and queries is None:
            from isentrope.measures._neighbour_kernels import count_sorted

            count_sorted(*self._sorted, radii, counts)
        elif self._in_grid and queries is None:
            from isentrope.measures._grid_kernels import count

            self._share(count, (*self._grid, radii), len(self._grid[2]) - 1, (counts,), n_jobs)
        else:
            from isentrope.measures._neighbour_kernels import count

            compared = np.where(radii < 0, -1.0, radii * radii) if self.euclidean else radii
            coordinates, _, start, end, low, high = self._tree
            reference = coordinates, start, end, low, high, self.block, self.euclidean, compared
            asked._share(count, (*asked._tree, *reference), asked._leaves, (counts,), n_jobs)
        if queries is None:
            counts -= radii >= 0
            for lag in range(1, min(window, len(counts) - 1) + 1):
                near = self.block_distance(np.arange(lag, len(counts)), np.arange(len(counts) - lag))
                counts[lag:] -= near <= radii[lag:]
                counts[:-lag] -= near <= radii[:-lag]
        return counts

    def block_distance(self, first: Int[np.ndarray, "..."], second: Int[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Distances between points given by their indices."""
        offset = np.abs(self.points[first] - self.points[second])
        if not self.euclidean:
            return offset.max(axis=-1)
        starts = np.flatnonzero(np.diff(self.block, prepend=-1))
        return np.sqrt(np.add.reduceat(offset * offset, starts, axis=-1).max(axis=-1))

    @property
    def _in_grid(self) -> bool:
        return self.points.shape[1] <= 3 and not self.euclidean

    @property
    def _leaves(self) -> int:
        return (len(self._tree[2]) + 1) // 2

    def _share(self, kernel, arguments: tuple, places: int, results: tuple, n_jobs: int | None) -> None:
        """Let each thread answer for the points of some cells or leaves; it writes only the rows of its own."""
        if n_jobs is None:
            least = _COORDINATES_PER_THREAD_OF_GRID if self._in_grid else _COORDINATES_PER_THREAD
            wanted = min(cores(), 1 + self.points.size // least)
        else:
            wanted = threads_of("NeighbourSearch", n_jobs)
        n_threads = min(wanted, places)
        if n_threads == 1:
            kernel(*arguments, 0, places, *results)
            return
        # More shares than threads, so that a thread that has only empty space is not waited for.
        edges = np.linspace(0, places, min(4 * n_threads, places) + 1).astype(int)
        with ThreadPoolExecutor(n_threads) as threads:
            list(threads.map(lambda ends: kernel(*arguments, *ends, *results), pairwise(edges)))
