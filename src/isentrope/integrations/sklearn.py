r"""Feature selection by mutual information, as a scikit-learn transformer.

It differs from ``SelectKBest(mutual_info_classif)`` in what it knows of its scores: each has a standard error and, on
request, a p-value, so that the number of features may follow from a false discovery rate; features that repeat each other can
be told from features that add; columns of numbers, of few values and of text may stand side by side.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import ceil, isqrt
from numbers import Integral, Real
from typing import Any

import numpy as np
from scipy.stats import false_discovery_control

from isentrope._threads import cores
from isentrope.measures import Estimate, discrete_mutual_information
from isentrope.measures.mutual_information import mutual_information

try:
    from sklearn.base import BaseEstimator
    from sklearn.feature_selection import SelectorMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_is_fitted, check_X_y, validate_data
except ImportError as error:
    raise ImportError("isentrope.integrations.sklearn needs scikit-learn: pip install scikit-learn") from error

CRITERIA = ("relevance", "mrmr", "jmi")

# Whole numbers of at most this many values, or of at most the root of n, are read as symbols.
_FEW_VALUES = 10
_RESAMPLES = 199


class MutualInformationSelector(SelectorMixin, BaseEstimator):
    r"""Select the features that tell most about a target, with regard to what they repeat.

    The score of feature j is $\hat I(X_j;Y)$ by `isentrope.measures.mutual_information`, which takes the estimator that suits
    the kinds of the two columns: neighbours for numbers (Kraskov, Stögbauer and Grassberger; Ross where one side is
    discrete), counts where both are discrete. Scores are not clipped: around 0 they may be negative.

    Features are then taken one at a time; with S those taken already, the next is the one with the largest

    - ``"relevance"``: $I(X_j;Y)$, whatever else is taken.
    - ``"mrmr"``: $I(X_j;Y)-\frac1{|S|}\sum_{s\in S}I(X_j;X_s)$, relevance less redundancy (Peng, Long and Ding).
    - ``"jmi"``: $\sum_{s\in S}I(X_jX_s;Y)$, joint mutual information (Yang and Moody), which also sees what two features
      tell only together.

    Args:
        n_features_to_select: how many features: a number, or a share of all between 0 and 1; None for all that pass
            ``false_discovery_rate``, or for half of them where that is None too.
        criterion: "relevance", "mrmr" or "jmi".
        false_discovery_rate: keep only features whose dependence on the target is significant, so that the expected share
            of independent ones among them stays below this (Benjamini and Hochberg, on p-values by shuffling); None for
            no test. Features that tell something only together with others do not pass.
        n_resamples: number of shuffles for each p-value. None for none, or where there is a ``false_discovery_rate`` q
            for 199 or d/q of d features if that is more: a p-value cannot be less than 1/(1 + n_resamples).
        discrete_features: which columns are discrete: "auto", all or none, a mask, or indices. "auto" takes text, booleans
            and categories, and whole numbers (in floats too) of which at most 10 or at most √n values occur.
        discrete_target: "auto" (by the same rule), True or False.
        k: number of neighbours where neighbours are sought.
        base: base of the logarithm of scores; None for nats, 2 for bits.
        n_jobs: number of threads; None for 1, -1 for all cores.
        random_state: seed of the shuffles.

    Attributes:
        scores_: mutual information of each feature and the target, ``[d]``.
        stderr_: standard errors of the scores, ``[d]``.
        pvalues_: p-values by shuffling, ``[d]``; only where there were shuffles.
        order_: indices of the selected features, in the order in which they were taken.
        support_: mask of the selected features, ``[d]``.
        discrete_features_: mask of the columns read as discrete, ``[d]``.
        discrete_target_: whether the target was read as discrete.
        n_features_in_: number d of features.
        feature_names_in_: their names, where X is a frame with names that are all strings.

    References:
        Peng, Long and Ding (2005), "Feature selection based on mutual information: criteria of max-dependency,
        max-relevance, and min-redundancy" (IEEE TPAMI 27, 1226); Yang and Moody (1999), "Data visualization and feature
        selection"; Brown, Pocock, Zhao and Luján (2012), "Conditional likelihood maximisation: a unifying framework for
        information theoretic feature selection" (JMLR 13, 27); Benjamini and Hochberg (1995).

    Examples:
        >>> from sklearn.datasets import load_wine
        >>> X, y = load_wine(return_X_y=True, as_frame=True)
        >>> selector = MutualInformationSelector(3, criterion="mrmr").fit(X, y)
        >>> list(selector.get_feature_names_out())
        ['alcohol', 'flavanoids', 'hue']
    """

    def __init__(
        self,
        n_features_to_select: int | float | None = None,
        *,
        criterion: str = "relevance",
        false_discovery_rate: float | None = None,
        n_resamples: int | None = None,
        discrete_features: Any = "auto",
        discrete_target: bool | str = "auto",
        k: int = 4,
        base: float | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_features_to_select = n_features_to_select
        self.criterion = criterion
        self.false_discovery_rate = false_discovery_rate
        self.n_resamples = n_resamples
        self.discrete_features = discrete_features
        self.discrete_target = discrete_target
        self.k = k
        self.base = base
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> "MutualInformationSelector":
        """Score the features and select.

        Args:
            X: samples, ``[n, d]``: an array or a frame, whose columns may be of different kinds.
            y: target, ``[n]``: classes or numbers.

        Returns:
            The selector itself.

        Raises:
            ValueError: if an argument is out of its range, X and y differ in length, or values are missing or infinite.
        """
        columns, target = self._read(X, y)
        d = len(columns)
        count, resamples = self._check(d)
        threads = cores() if self.n_jobs == -1 else self.n_jobs or 1
        with ThreadPoolExecutor(threads) as pool:
            estimates = list(pool.map(lambda column: self._information([column], [target]), columns))
            self.scores_ = np.array([estimate.value for estimate in estimates])
            self.stderr_ = np.array([estimate.stderr for estimate in estimates])
            candidates = np.arange(d)
            vars(self).pop("pvalues_", None)
            if resamples:
                seeds = check_random_state(self.random_state).randint(2**31 - 1, size=d)
                tests = pool.map(
                    lambda pair: pair[0].test(resamples, rng=int(pair[1])), zip(estimates, seeds, strict=True)
                )
                self.pvalues_ = np.array([test.pvalue for test in tests])
            if self.false_discovery_rate is not None:
                candidates = np.flatnonzero(false_discovery_control(self.pvalues_) <= self.false_discovery_rate)
            if count is None:
                count = len(candidates)
            self.order_ = self._choose(pool.map, columns, target, candidates, min(count, len(candidates)))
        self.support_ = np.isin(np.arange(d), self.order_)
        return self

    def _choose(
        self, run: Callable[..., Iterable], columns: list, target: np.ndarray, candidates: np.ndarray, count: int
    ) -> np.ndarray:
        """The candidates in the order of the criterion, as many as asked for."""
        if self.criterion == "relevance":
            return candidates[np.argsort(-self.scores_[candidates], kind="stable")][:count]
        # Of mrmr the redundancy with all that were taken, of jmi the joint information with each of them.
        left, taken, summed = list(candidates), [], np.zeros(len(columns))
        while len(taken) < count:
            if taken:
                more = partial(self._with_last, columns, target, taken[-1])
                summed[left] += [float(value) for value in run(more, left)]
                merit = self.scores_ - summed / len(taken) if self.criterion == "mrmr" else summed
            else:
                merit = self.scores_
            best = max(left, key=lambda j: merit[j])
            left.remove(best)
            taken.append(best)
        return np.array(taken, dtype=np.int64)

    def _with_last(self, columns: list[np.ndarray], target: np.ndarray, last: int, j: int) -> Estimate:
        """What feature j shares with the last one taken, or tells together with it."""
        if self.criterion == "mrmr":
            return self._information([columns[j]], [columns[last]])
        return self._information([columns[j], columns[last]], [target])

    def _information(self, x: list[np.ndarray], y: list[np.ndarray]) -> Estimate:
        if all(column.dtype.kind == "i" for column in (*x, *y)):
            return discrete_mutual_information(tuple(x), tuple(y), base=self.base)
        return mutual_information(_Columns(x), _Columns(y), k=self.k, base=self.base, n_jobs=1)

    def _read(self, X: Any, y: Any) -> tuple[list[np.ndarray], np.ndarray]:
        """Columns and target: of integers from 0 where they are discrete, of floats where they are not."""
        matrix: Any
        target: Any
        if hasattr(X, "columns"):
            validate_data(self, X, skip_check_array=True)
            named = {str(name): np.asarray(X[name]) for name in X.columns}
            if len(named) < len(X.columns):
                raise ValueError(f"X has {len(X.columns)} columns of {len(named)} names; rename those that recur first")
            text = np.array([column.dtype.kind not in "iuf" for column in named.values()], dtype=bool)
            coded = [
                _codes(name, column) if is_text else column
                for (name, column), is_text in zip(named.items(), text, strict=True)
            ]
            matrix, target = check_X_y(np.column_stack(coded) if coded else np.empty((0, 0)), y)
        else:
            matrix, target = validate_data(self, X, y)
            text = np.zeros(matrix.shape[1], dtype=bool)
        if len(target) < self.k + 2:
            raise ValueError(f"n_samples={len(target)} is too few: k={self.k} neighbours need at least {self.k + 2}")
        columns = list(matrix.T)
        self.discrete_features_ = self._discrete(columns, text)
        if isinstance(self.discrete_target, str):
            if self.discrete_target != "auto":
                raise ValueError(f"discrete_target must be True, False or 'auto' (got {self.discrete_target!r})")
            self.discrete_target_ = _is_discrete(target)
        else:
            self.discrete_target_ = bool(self.discrete_target)
        kinds = zip(columns, self.discrete_features_, strict=True)
        return [_symbols_or_numbers(c, flag) for c, flag in kinds], _symbols_or_numbers(target, self.discrete_target_)

    def _discrete(self, columns: list[np.ndarray], text: np.ndarray) -> np.ndarray:
        given, d = self.discrete_features, len(columns)
        if isinstance(given, str):
            if given != "auto":
                raise ValueError(f"discrete_features must be 'auto', a boolean, a mask or indices (got {given!r})")
            return np.array([bool(is_text) or _is_discrete(c) for c, is_text in zip(columns, text, strict=True)])
        mask = np.zeros(d, bool)
        marks = np.asarray(given)
        if marks.dtype == bool and marks.shape not in ((), (d,)):
            raise ValueError(f"discrete_features must have one entry for each of {d} features (got {marks.shape})")
        mask[marks if marks.dtype != bool or marks.ndim else slice(None) if marks else slice(0)] = True
        if (text & ~mask).any():
            raise ValueError(
                f"discrete_features leaves out column {int(np.argmax(text & ~mask))}, which holds no numbers"
            )
        return mask

    def _check(self, d: int) -> tuple[int | None, int]:
        """Number of features to select (None for all that pass the test), and of shuffles."""
        if self.criterion not in CRITERIA:
            raise ValueError(f"criterion must be one of {', '.join(CRITERIA)} (got {self.criterion!r})")
        rate, number, resamples = self.false_discovery_rate, self.n_features_to_select, self.n_resamples
        if rate is not None and not 0 < rate < 1:
            raise ValueError(f"false_discovery_rate must lie between 0 and 1 (got {rate})")
        if resamples is not None and resamples < 1:
            raise ValueError(f"n_resamples must be at least 1, or None (got {resamples})")
        if rate is not None and resamples is None:
            resamples = max(_RESAMPLES, ceil(d / rate))
        if number is None:
            return (None if rate is not None else max(1, d // 2)), resamples or 0
        if isinstance(number, Integral):
            if number < 1:
                raise ValueError(f"n_features_to_select must be at least 1 (got {number})")
            return int(number), resamples or 0
        if not (isinstance(number, Real) and 0 < number < 1):
            raise ValueError(f"n_features_to_select must be a whole number or a share between 0 and 1 (got {number})")
        return max(1, int(number * d)), resamples or 0

    def _get_support_mask(self) -> np.ndarray:
        check_is_fitted(self)
        return self.support_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags


class _Columns(dict):
    """Columns of different kinds as one variable: symbols are text, which no estimator takes for numbers."""

    def __init__(self, columns: list[np.ndarray]) -> None:
        super().__init__((i, c.astype(str) if c.dtype.kind == "i" else c) for i, c in enumerate(columns))

    @property
    def columns(self) -> list[int]:
        return list(self)


def _is_discrete(column: np.ndarray) -> bool:
    """Whether values are symbols: always but for numbers, and of these if whole and few."""
    if column.dtype.kind not in "iuf":
        return True
    return bool((column == np.floor(column)).all()) and len(np.unique(column)) <= max(_FEW_VALUES, isqrt(len(column)))


def _symbols_or_numbers(column: np.ndarray, discrete: bool) -> np.ndarray:
    if not discrete:
        return column.astype(np.float64)
    return np.unique(column, return_inverse=True)[1].ravel().astype(np.int64)


def _codes(name: str, column: np.ndarray) -> np.ndarray:
    """Numbers for the values of a column that holds no numbers."""
    seen: dict[Any, int] = {}
    for value in column.tolist():
        # A NaN differs from itself; comparing pandas' NA gives NA, which has no truth value.
        if value is None or type(value).__name__ in ("NAType", "NaTType") or value != value:
            raise ValueError(f"column {name} holds missing values, of which nothing is known; drop or fill them first")
        seen.setdefault(value, len(seen))
    return np.array([seen[value] for value in column.tolist()])
