r"""Information between discrete variables: mutual, conditional, transferred, and shared among many, from samples.

Each quantity is a sum of joint entropies of the same n samples with whole coefficients, $\sum_S c_S H(X_S)$, and is
estimated so: every entropy by the same method, which must need counts alone and, by default, goes by how well the samples
cover the joint values (`discrete_mutual_information` says how). Its standard error is the jackknife's. For
the additive methods (see `isentrope.measures.counts`) that is exactly

$$\mathrm{stderr}^2 = \frac{1}{n-1}\mathrm{Var}\Big[\sum_S c_S\,d(n_S)\Big]$$

over the samples, $n_S$ the number of samples that agree in $X_S$; it goes to the delta method's for large n. Where variables
are independent it is about $\sqrt2$ times too wide on average, but near 0 where by chance the plug-in is. There $2n$ times the
plug-in has the law of $\chi^2$, so that the variance is given as $|\sum_S c_S(K_S-1)|/2n^2$ at least, with $K_S$ the number of
values seen of $X_S$. That raised the share of
intervals of 95% that hold the 0 of two fair bits from 0.84 to 1.00 (n = 500). Of an information that is as small as its
spread, 0.005 nat there, they hold 0.82.

A variable is a vector of n values (numbers, strings, any hashable objects), or several columns that are read together: an
array ``[n, d]``, a data frame or a tuple of vectors. Nothing is clipped: a corrected information may be slightly negative.
"""

from collections.abc import Callable
from fractions import Fraction
from itertools import combinations
from math import comb, fsum, nan, sqrt
from typing import Any

import numpy as np

from isentrope.measures._frames import table_of, values_of
from isentrope.measures._symbols import encode, join, relabel
from isentrope.measures.counts import FREE, Profile, increment, leave_one_out, plugin, profile_of
from isentrope.measures.discrete import automatic, coverage_note, discrete_entropy, free_estimator
from isentrope.measures.estimate import Estimate, check_at_least, unit_of

# Coefficients of the entropies of subsets of the variables, exact so that those of what is constant vanish.
Terms = dict[tuple[int, ...], int | Fraction]

# What is read value by value; the rest by what NumPy makes of it.
_SEQUENCES = (str, bytes, bytearray, memoryview, list, tuple)

# Alternating sums have 2^d - 1 entropies.
_MOST_INTERACTING = 12


def discrete_joint_entropy(
    variables: Any, *, method: str = "auto", alphabet_size: int | None = None, base: float | None = None
) -> Estimate:
    r"""Entropy of several discrete variables read together, $H(X_1,\dots,X_d)$.

    Args:
        variables: array ``[n, d]``, data frame, or list or tuple of d variables of n values.
        method: estimator, as in `discrete_entropy`.
        alphabet_size: number of possible combinations, where it is known.
        base: base of the logarithm; None for nats, 2 for bits.

    Returns:
        The entropy with its standard error.

    Raises:
        ValueError: as `discrete_entropy` does, or if the variables differ in length.
        TypeError: as `discrete_entropy` does.

    References:
        Cover and Thomas (2006), "Elements of Information Theory", chapter 2.

    Examples:
        >>> discrete_joint_entropy(["aabb" * 100, "abab" * 100], method="plugin", base=2).value
        2.0
    """
    labels, _ = join(_variables("discrete_joint_entropy", variables))
    return discrete_entropy(labels, method=method, alphabet_size=alphabet_size, base=base)


def discrete_conditional_entropy(
    x: Any, y: Any, *, method: str = "auto", base: float | None = None, local: bool = False
) -> Estimate:
    r"""Entropy of x where y is known, $H(X|Y) = H(X,Y) - H(Y)$.

    Args:
        x: n values of a variable, or several columns.
        y: what is known, likewise.
        method: estimator of each entropy, "auto" or one of those of `discrete_entropy` that need no alphabet size.
        base: base of the logarithm; None for nats, 2 for bits.
        local: also return the pointwise values, each shifted by the bias correction.

    Returns:
        The conditional entropy with its standard error.

    Raises:
        ValueError: if lengths differ, there are no samples or some are missing, or the method or base is unknown.
        TypeError: if a sample is not hashable.

    References:
        Cover and Thomas (2006), "Elements of Information Theory", chapter 2.

    Examples:
        >>> discrete_conditional_entropy("abab" * 50, "aabb" * 50, method="plugin", base=2).value
        1.0
    """
    where = "discrete_conditional_entropy"
    return _estimate(_named(where, x=x, y=y), {(0, 1): 1, (1,): -1}, method, base, where, local)


def discrete_mutual_information(
    x: Any, y: Any, *, method: str = "auto", base: float | None = None, local: bool = False
) -> Estimate:
    r"""Mutual information of two discrete variables, $I(X;Y) = H(X) + H(Y) - H(X,Y)$.

    ``"auto"`` takes Miller-Madow where the coverage of the pairs of values is 0.99 or more, and Chao, Wang and Jost
    below: Miller-Madow, which takes away $(K_{xy}-K_x-K_y+1)/2n$ with the numbers of values seen, is then far too high, by
    0.31 nat for 800 samples of two independent variables of 30 values, where that of Chao, Wang and Jost is off by less than
    0.01. Further methods are those of `discrete_entropy` that need no alphabet size, and ``"panzeri_treves"``: the plug-in
    less $\frac1{2n}\left[\sum_x(\tilde R_x-1)-(R-1)\right]$, where R values of y occur and $\tilde R_x$ of them are
    possible together with x, of which a Bayesian count estimates those not seen. It is not symmetric: x is the stimulus, y the
    response.

    The test of the estimate shuffles x against y.

    Args:
        x: n values of a variable, or several columns.
        y: another variable, likewise.
        method: estimator of each entropy, "auto" or "panzeri_treves".
        base: base of the logarithm; None for nats, 2 for bits.
        local: also return the pointwise values $\ln\frac{\hat p(x,y)}{\hat p(x)\hat p(y)}$, each shifted by the bias
            correction.

    Returns:
        The information with its standard error.

    Raises:
        ValueError: if lengths differ, there are no samples or some are missing, or the method or base is unknown.
        TypeError: if a sample is not hashable.

    References:
        Panzeri and Treves (1996), Network 7, 87; Miller (1955), "Note on the bias of information estimates".

    Examples:
        >>> discrete_mutual_information("abab" * 50, "cdcd" * 50, method="plugin", base=2).value
        1.0
    """
    where = "discrete_mutual_information"
    terms: Terms = {(0,): 1, (1,): 1, (0, 1): -1}
    variables = _named(where, x=x, y=y)
    correct = _panzeri_treves if method == "panzeri_treves" else None

    def shuffled(generator: np.random.Generator) -> list[np.ndarray]:
        return [generator.permutation(variables[0]), variables[1]]

    return _estimate(variables, terms, method, base, where, local, shuffled, correct)


def discrete_conditional_mutual_information(
    x: Any, y: Any, z: Any, *, method: str = "auto", base: float | None = None, local: bool = False
) -> Estimate:
    r"""Mutual information of x and y where z is known, $I(X;Y|Z) = H(X,Z) + H(Y,Z) - H(Z) - H(X,Y,Z)$.

    The test of the estimate shuffles x among the samples that agree in z.

    Args:
        x: n values of a variable, or several columns.
        y: another variable, likewise.
        z: what is known, likewise.
        method: estimator of each entropy, "auto" or one of those of `discrete_entropy` that need no alphabet size.
        base: base of the logarithm; None for nats, 2 for bits.
        local: also return the pointwise values, each shifted by the bias correction.

    Returns:
        The information with its standard error.

    Raises:
        ValueError: if lengths differ, there are no samples or some are missing, or the method or base is unknown.
        TypeError: if a sample is not hashable.

    References:
        Cover and Thomas (2006), "Elements of Information Theory", chapter 2.

    Examples:
        >>> x, y = [0, 0, 1, 1] * 50, [0, 1, 0, 1] * 50
        >>> parity = [a ^ b for a, b in zip(x, y)]
        >>> discrete_conditional_mutual_information(x, y, parity, method="plugin", base=2).value
        1.0
    """
    where = "discrete_conditional_mutual_information"
    return _conditional(_named(where, x=x, y=y, z=z), method, base, where, local)


def discrete_transfer_entropy(
    source: Any,
    target: Any,
    *,
    lag: int = 1,
    source_history: int = 1,
    target_history: int = 1,
    method: str = "auto",
    base: float | None = None,
    local: bool = False,
) -> Estimate:
    r"""Transfer entropy between two series of symbols: what the source's past tells of the target beyond its own past.

    $$T_{X\to Y} = I(Y_t;\,X_{t-u},\dots,X_{t-u-l+1}\,|\,Y_{t-1},\dots,Y_{t-k})$$

    with u the lag, l the source's history and k the target's. The number of histories grows as a power of their lengths:
    where most are seen once, the note says that the samples are too few. The test of the estimate shuffles the source's pasts among the times at which the target's past
    is the same.

    Args:
        source: n values of the driving series, or several columns, in order of time.
        target: n values of the driven series, likewise.
        lag: steps u from the source to the target, at least 1.
        source_history: length l of the source's history.
        target_history: length k of the target's history.
        method: estimator of each entropy, "auto" or one of those of `discrete_entropy` that need no alphabet size.
        base: base of the logarithm; None for nats, 2 for bits.
        local: also return the pointwise values, each shifted by the bias correction; the first is that of time
            max(target_history, lag + source_history - 1).

    Returns:
        The transfer entropy per step with its standard error, which takes the steps as independent.

    Raises:
        ValueError: if lengths differ or are not above the histories, samples are missing, lag or a history is not
            positive, or the method or base is unknown.
        TypeError: if a sample is not hashable.

    References:
        Schreiber, "Measuring information transfer" (arXiv nlin/0001042).

    Examples:
        >>> import numpy as np
        >>> coin = np.random.default_rng(0).integers(0, 2, 2000)
        >>> discrete_transfer_entropy(coin[1:], coin[:-1], base=2)
        Estimate(0.9994 ± 0.0014 bit, miller_madow, n=1998)
    """
    where = "discrete_transfer_entropy"
    for name, length in (("lag", lag), ("source_history", source_history), ("target_history", target_history)):
        check_at_least(where, name, length, 1)
    driving, driven = _named(where, source=source, target=target)
    n, first = len(driven), max(target_history, lag + source_history - 1)
    if n <= first:
        raise ValueError(
            f"{where}: {n} samples are too few for lag={lag}, source_history={source_history} and "
            f"target_history={target_history}; more than {first} are needed"
        )
    past, _ = join([driven[first - step : n - step] for step in range(1, target_history + 1)])
    sent, _ = join([driving[first - step : n - step] for step in range(lag, lag + source_history)])
    return _conditional([sent, driven[first:], past], method, base, where, local)


def discrete_interaction_information(
    variables: Any, *, method: str = "auto", base: float | None = None, local: bool = False
) -> Estimate:
    r"""Interaction information of d discrete variables with the sign of the co-information, positive for redundancy.

    $$I(X_1;\dots;X_d) = -\sum_{S\ne\emptyset}(-1)^{|S|}H(X_S),\qquad I(X;Y;Z) = I(X;Y) - I(X;Y|Z).$$

    It is 1 bit for three copies of a fair bit and -1 bit for two fair bits and their parity. Some authors call $(-1)^d$
    times this the interaction information.

    Args:
        variables: array ``[n, d]``, data frame, or list or tuple of d variables of n values, at most 12.
        method: estimator of each entropy, "auto" or one of those of `discrete_entropy` that need no alphabet size.
        base: base of the logarithm; None for nats, 2 for bits.
        local: also return the pointwise values, each shifted by the bias correction.

    Returns:
        The information with its standard error.

    Raises:
        ValueError: if there are fewer than 2 or more than 12 variables, lengths differ, there are no samples or some are
            missing, or the method or base is unknown.
        TypeError: if a sample is not hashable.

    References:
        McGill (1954), "Multivariate information transmission"; Bell (2003), "The co-information lattice".

    Examples:
        >>> x, y = [0, 0, 1, 1] * 50, [0, 1, 0, 1] * 50
        >>> parity = [a ^ b for a, b in zip(x, y)]
        >>> discrete_interaction_information([x, y, parity], method="plugin", base=2).value
        -1.0
    """
    where = "discrete_interaction_information"
    columns = _few(where, variables)
    subsets = [s for size in range(1, len(columns) + 1) for s in combinations(range(len(columns)), size)]
    return _estimate(columns, {s: -((-1) ** len(s)) for s in subsets}, method, base, where, local)


def discrete_total_correlation(
    variables: Any, *, method: str = "auto", base: float | None = None, local: bool = False
) -> Estimate:
    r"""Total correlation (multi-information) of d discrete variables, $\sum_i H(X_i) - H(X_1,\dots,X_d)$.

    Zero where all are independent. The test of the estimate shuffles each variable on its own.

    Args:
        variables: array ``[n, d]``, data frame, or list or tuple of d variables of n values.
        method: estimator of each entropy, "auto" or one of those of `discrete_entropy` that need no alphabet size.
        base: base of the logarithm; None for nats, 2 for bits.
        local: also return the pointwise values, each shifted by the bias correction.

    Returns:
        The total correlation with its standard error.

    Raises:
        ValueError: if there are fewer than 2 variables, lengths differ, there are no samples or some are missing, or the
            method or base is unknown.
        TypeError: if a sample is not hashable.

    References:
        Watanabe (1960), "Information theoretical analysis of multivariate correlation".

    Examples:
        >>> discrete_total_correlation(["abab" * 50] * 3, method="plugin", base=2).value
        2.0
    """
    where = "discrete_total_correlation"
    columns = _several(where, variables)

    def shuffled(generator: np.random.Generator) -> list[np.ndarray]:
        return [generator.permutation(column) for column in columns]

    return _estimate(columns, _total(len(columns)), method, base, where, local, shuffled)


def discrete_dual_total_correlation(
    variables: Any, *, method: str = "auto", base: float | None = None, local: bool = False
) -> Estimate:
    r"""Dual total correlation (binding information), $\sum_i H(X_{-i}) - (d-1)H(X_1,\dots,X_d)$.

    The part of the joint entropy that is shared: $H(X) - \sum_i H(X_i|X_{-i})$.

    Args:
        variables: array ``[n, d]``, data frame, or list or tuple of d variables of n values.
        method: estimator of each entropy, "auto" or one of those of `discrete_entropy` that need no alphabet size.
        base: base of the logarithm; None for nats, 2 for bits.
        local: also return the pointwise values, each shifted by the bias correction.

    Returns:
        The dual total correlation with its standard error.

    Raises:
        ValueError: as `discrete_total_correlation` does.
        TypeError: if a sample is not hashable.

    References:
        Han (1978), "Nonnegative entropy measures of multivariate symmetric correlations"; Abdallah and Plumbley, "A
        measure of statistical complexity based on predictive information" (arXiv 1012.1890).

    Examples:
        >>> discrete_dual_total_correlation(["abab" * 50] * 3, method="plugin", base=2).value
        1.0
    """
    where = "discrete_dual_total_correlation"
    columns = _several(where, variables)
    return _estimate(columns, _dual(len(columns)), method, base, where, local)


def discrete_o_information(
    variables: Any, *, method: str = "auto", base: float | None = None, local: bool = False
) -> Estimate:
    r"""O-information of d discrete variables: total less dual total correlation.

    $$\Omega = (d-2)H(X) + \sum_i\left[H(X_i) - H(X_{-i})\right]$$

    Positive where redundancy dominates, negative where synergy does; for three variables it is their co-information.

    Args:
        variables: array ``[n, d]``, data frame, or list or tuple of d variables of n values.
        method: estimator of each entropy, "auto" or one of those of `discrete_entropy` that need no alphabet size.
        base: base of the logarithm; None for nats, 2 for bits.
        local: also return the pointwise values, each shifted by the bias correction.

    Returns:
        The O-information with its standard error.

    Raises:
        ValueError: as `discrete_total_correlation` does.
        TypeError: if a sample is not hashable.

    References:
        Rosas, Mediano, Gastpar and Jensen, "Quantifying high-order interdependencies via multivariate extensions of the
        mutual information" (arXiv 1902.11239).

    Examples:
        >>> discrete_o_information(["abab" * 50] * 5, method="plugin", base=2).value
        3.0
    """
    where = "discrete_o_information"
    columns = _several(where, variables)
    return _estimate(columns, _sum(_total(len(columns)), _dual(len(columns)), -1), method, base, where, local)


def discrete_s_information(
    variables: Any, *, method: str = "auto", base: float | None = None, local: bool = False
) -> Estimate:
    r"""S-information of d discrete variables: total plus dual total correlation, $\sum_i I(X_i;X_{-i})$.

    Args:
        variables: array ``[n, d]``, data frame, or list or tuple of d variables of n values.
        method: estimator of each entropy, "auto" or one of those of `discrete_entropy` that need no alphabet size.
        base: base of the logarithm; None for nats, 2 for bits.
        local: also return the pointwise values, each shifted by the bias correction.

    Returns:
        The S-information with its standard error.

    Raises:
        ValueError: as `discrete_total_correlation` does.
        TypeError: if a sample is not hashable.

    References:
        Rosas, Mediano, Gastpar and Jensen, "Quantifying high-order interdependencies via multivariate extensions of the
        mutual information" (arXiv 1902.11239).

    Examples:
        >>> round(discrete_s_information(["abab" * 50] * 3, method="plugin", base=2), 9)
        3.0
    """
    where = "discrete_s_information"
    columns = _several(where, variables)
    return _estimate(columns, _sum(_total(len(columns)), _dual(len(columns)), 1), method, base, where, local)


def discrete_tse_complexity(
    variables: Any, *, method: str = "auto", base: float | None = None, local: bool = False
) -> Estimate:
    r"""Complexity of Tononi, Sporns and Edelman: by how much parts of every size have more entropy than their share.

    $$C=\sum_{k=1}^{d-1}\Big[\langle H(X_S)\rangle_{|S|=k}-\tfrac kd H(X)\Big]
      =\tfrac12\sum_{k=1}^{d-1}\langle I(X_S;X_{-S})\rangle_{|S|=k}$$

    Zero where all variables are independent. It is large where parts are nearly independent of each other, but not of the
    whole.

    Args:
        variables: array ``[n, d]``, data frame, or list or tuple of d variables of n values, at most 12.
        method: estimator of each entropy, "auto" or one of those of `discrete_entropy` that need no alphabet size.
        base: base of the logarithm; None for nats, 2 for bits.
        local: also return the pointwise values, each shifted by the bias correction.

    Returns:
        The complexity with its standard error.

    Raises:
        ValueError: as `discrete_interaction_information` does.
        TypeError: if a sample is not hashable.

    References:
        Tononi, Sporns and Edelman (1994), "A measure for brain complexity", PNAS 91, 5033.

    Examples:
        >>> x, y = [0, 0, 1, 1] * 50, [0, 1, 0, 1] * 50
        >>> parity = [a ^ b for a, b in zip(x, y)]
        >>> round(discrete_tse_complexity([x, y, parity], method="plugin", base=2), 9)
        1.0
    """
    where = "discrete_tse_complexity"
    columns = _few(where, variables)
    d = len(columns)
    terms: Terms = {s: Fraction(1, comb(d, size)) for size in range(1, d) for s in combinations(range(d), size)}
    # The shares of all sizes add up to half of d - 1.
    return _estimate(columns, terms | {tuple(range(d)): -Fraction(d - 1, 2)}, method, base, where, local)


# Which entropies.


def _total(d: int) -> Terms:
    single: Terms = {(i,): 1 for i in range(d)}
    return _sum(single, {tuple(range(d)): 1}, -1)


def _dual(d: int) -> Terms:
    others: Terms = {tuple(j for j in range(d) if j != i): 1 for i in range(d)}
    return _sum(others, {tuple(range(d)): d - 1}, -1)


def _sum(first: Terms, second: Terms, sign: int) -> Terms:
    total = {s: first.get(s, 0) + sign * second.get(s, 0) for s in [*first, *second]}
    return {subset: coefficient for subset, coefficient in total.items() if coefficient}


# Variables as labels 0..K-1 of every sample.


def _variable(where: str, argument: str, data: Any) -> np.ndarray:
    """Labels of the n values of a variable, or of n rows of several columns."""
    if (table := table_of(where, argument, data)) is not None:
        columns: list[Any] = table.columns
    elif isinstance(data, tuple) and data and all(isinstance(c, list) or getattr(c, "ndim", 0) == 1 for c in data):
        columns = list(data)
    elif isinstance(data, list) and data and all(isinstance(row, list) for row in data):
        if len(set(map(len, data))) > 1:
            raise ValueError(f"{where}: rows of {argument} must have one length")
        columns = list(zip(*data, strict=True))
    elif getattr(data, "ndim", 1) == 2:
        columns = list(values_of(data).T)
    else:
        columns = [data]
    if not columns:
        raise ValueError(f"{where}: {argument} has no columns")
    coded = [
        encode(column if isinstance(column, _SEQUENCES) else values_of(column), f"{where}: {argument}")
        for column in columns
    ]
    _check_lengths(where, {f"column {i} of {argument}": len(codes) for i, codes in enumerate(coded)})
    return join(coded)[0]


def _named(where: str, **data: Any) -> list[np.ndarray]:
    variables = {argument: _variable(where, argument, values) for argument, values in data.items()}
    _check_lengths(where, {argument: len(labels) for argument, labels in variables.items()})
    return list(variables.values())


def _variables(where: str, data: Any) -> list[np.ndarray]:
    """The labels of each of several variables."""
    if (table := table_of(where, "variables", data)) is not None:
        parts: list[Any] = table.columns
    elif isinstance(data, list | tuple):
        parts = list(data)
    else:
        array = values_of(data)
        if array.ndim != 2:
            raise ValueError(
                f"{where}: variables must be an array [n, d] or a list of variables (got shape {array.shape})"
            )
        parts = list(np.ascontiguousarray(array.T))
    if not parts:
        raise ValueError(f"{where}: there are no variables")
    return _named(where, **{f"variable {i}": part for i, part in enumerate(parts)})


def _several(where: str, data: Any) -> list[np.ndarray]:
    columns = _variables(where, data)
    if len(columns) < 2:
        raise ValueError(f"{where}: at least 2 variables are needed (got {len(columns)})")
    return columns


def _few(where: str, data: Any) -> list[np.ndarray]:
    columns = _several(where, data)
    if len(columns) > _MOST_INTERACTING:
        raise ValueError(
            f"{where}: {len(columns)} variables have {2 ** len(columns) - 1} joint entropies; "
            f"at most {_MOST_INTERACTING} variables are accepted"
        )
    return columns


def _check_lengths(where: str, lengths: dict[str, int]) -> None:
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{argument} has {length}" for argument, length in lengths.items())
        raise ValueError(f"{where}: variables must have the same number of samples ({shown})")


# The estimate of any combination.


def _estimate(
    variables: list[np.ndarray],
    terms: Terms,
    method: str,
    base: float | None,
    where: str,
    local: bool,
    shuffle: Callable[[np.random.Generator], list[np.ndarray]] | None = None,
    correct: Callable[[list[np.ndarray]], float] | None = None,
) -> Estimate:
    """A combination of entropies, by a method for each, or by the plug-in and one correction of the whole."""
    nats, unit = unit_of(base, where)
    labels, counts = join(variables)
    whole = profile_of(counts)
    method = automatic(whole) if method == "auto" else method
    estimator = plugin if correct is not None else free_estimator(method, where)
    weights = _without_constants(terms, variables)
    n, sample_of = len(labels), np.empty(len(counts), np.int64)
    sample_of[labels] = np.arange(n)
    cells = [variable[sample_of] for variable in variables]
    values: list[float] = []
    uncorrected: list[float] = []
    without, pointwise = np.zeros(len(counts)), np.zeros(len(counts))
    freedom = 0.0
    for subset, coefficient in weights.items():
        part, _ = join([cells[i] for i in subset])
        occurrences = np.bincount(part, weights=counts).astype(np.int64)
        profile = profile_of(occurrences)
        values.append(coefficient * estimator(profile))
        uncorrected.append(coefficient * plugin(profile))
        pointwise += coefficient * np.log(n / occurrences)[part]
        freedom += coefficient * (len(occurrences) - 1)
        by_size = _without_one(profile, "plugin" if correct is not None else method)
        without += coefficient * by_size[np.searchsorted(profile.sizes, occurrences)][part]
    degenerate = abs(freedom) / (2 * n * n)
    # Summed exactly, so that what cancels in the formula cancels in floats.
    value, observed = fsum(values), fsum(uncorrected)
    if correct is not None:
        value = observed + correct(variables)

    def shuffled(generator: np.random.Generator) -> float:
        assert shuffle is not None
        data = shuffle(generator)
        plain = fsum(c * estimator(profile_of(join([data[i] for i in s])[1])) for s, c in weights.items())
        return (plain + (correct(data) if correct is not None else 0.0)) / nats

    return Estimate(
        value / nats,
        sqrt(max(_variance(without, counts), degenerate)) / nats,
        unit=unit,
        method=method,
        n=n,
        bias_correction=(value - observed) / nats,
        note=coverage_note(whole),
        local=(pointwise[labels] + (value - observed)) / nats if local else None,
        shuffled=shuffled if shuffle is not None else None,
    )


def _without_constants(terms: Terms, variables: list[np.ndarray]) -> dict[tuple[int, ...], float]:
    """The same sum without constants, so that what they inform of is exactly nothing."""
    varying = {i for i, labels in enumerate(variables) if labels.max() > 0}
    kept: Terms = {}
    for subset, coefficient in terms.items():
        rest = tuple(i for i in subset if i in varying)
        kept[rest] = kept.get(rest, 0) + coefficient
    return {subset: float(coefficient) for subset, coefficient in kept.items() if subset and coefficient}


def _without_one(profile: Profile, method: str) -> np.ndarray:
    """The entropy without one sample of a value seen so often, up to a constant, for each size."""
    if method.startswith("chao"):
        return leave_one_out(profile, FREE[method])
    additive = "plugin" if method == "quadratic_extrapolation" else method
    return increment(additive, profile.sizes) / (profile.n - 1) if profile.n > 1 else np.full(1, nan)


def _variance(without: np.ndarray, counts: np.ndarray) -> float:
    """Variance by the jackknife from the values without one sample of each cell."""
    n = int(counts.sum())
    if n < 2:
        return nan
    centred = without - without[0]
    mean = float(counts @ centred) / n
    return (n - 1) / n * float(counts @ (centred - mean) ** 2)


def _conditional(variables: list[np.ndarray], method: str, base: float | None, where: str, local: bool) -> Estimate:
    x, y, z = variables
    stratum = np.argsort(z, kind="stable")

    def shuffled(generator: np.random.Generator) -> list[np.ndarray]:
        moved = np.empty_like(x)
        moved[stratum] = x[np.lexsort((generator.random(len(x)), z))]
        return [moved, y, z]

    terms: Terms = {(0, 2): 1, (1, 2): 1, (2,): -1, (0, 1, 2): -1}
    return _estimate(variables, terms, method, base, where, local, shuffled)


def _panzeri_treves(variables: list[np.ndarray]) -> float:
    """What the plug-in information of stimulus and response is to be changed by."""
    stimulus, response = variables
    responses = len(relabel(response)[1])
    cells, counts = join([stimulus, response])
    sample_of = np.empty(len(counts), np.int64)
    sample_of[cells] = np.arange(len(cells))
    stimulus_of = stimulus[sample_of]
    possible = sum(_possible_responses(counts[stimulus_of == value], responses) - 1 for value in np.unique(stimulus_of))
    return -(possible - (responses - 1)) / (2 * len(stimulus))


def _possible_responses(counts: np.ndarray, most: int) -> int:
    """How many values are possible, if so many are seen: the number that makes the expected number seen the observed.

    With x values beyond the R seen, those get together the probability $g = x[1-(n/(n+R))^{1/n}]$, the others
    $(1-g)(n_i+1)/(n+R)$.
    """
    n, seen = int(counts.sum()), len(counts)

    def missed(extra: int) -> float:
        if extra == 0:
            return abs(float(np.sum((1 - counts / n) ** n)))
        hidden = 1 - (n / (n + seen)) ** (1 / n)
        p = (1 - extra * hidden) * (counts + 1) / (n + seen)
        expected = float(np.sum(1 - (1 - p) ** n)) + extra * (1 - (1 - hidden) ** n)
        return abs(seen - expected)

    extra, distance = 0, missed(0)
    while seen + extra < most and (further := missed(extra + 1)) < distance:
        extra, distance = extra + 1, further
    return seen + extra
