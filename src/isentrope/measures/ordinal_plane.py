r"""How far the law of ordinal patterns is from white noise: statistical complexity, and the distance itself.

Beside `permutation_entropy`, which order and chance both make small or large, the complexity is small for both and large
for what lies between: together they place a series in the complexity-entropy plane.
"""

from collections.abc import Callable
from math import factorial, log
from typing import Any

from jaxtyping import Float

from isentrope.measures._series import Series, counted, frequencies, lagged, ordinal_codes, shannon
from isentrope.measures.ordinal import _read


def permutation_complexity(
    series: Series, *, order: int = 3, delay: int = 1, axis: int = -1, nan_policy: str = "raise"
) -> Float[Any, "..."]:
    r"""Statistical complexity of ordinal patterns: normalised entropy times normalised distance from white noise.

    $$C = \frac{H(p)}{\ln N}\,\frac{J(p)}{J_{\max}},\qquad
    J(p)=H\Bigl(\frac{p+u}2\Bigr)-\frac{H(p)+\ln N}2,$$

    with p the law of the N = m! patterns as in `permutation_entropy`, u the uniform law, and $J_{\max}$ the Jensen-Shannon
    divergence of a single pattern from it, $\ln 2N-\frac12\ln N-\frac{N+1}{2N}\ln(N+1)$. It is 0 for one pattern and for
    all alike, and at most about 0.5. The plane has `permutation_entropy` with ``normalize=True`` for its other axis.

    Args:
        series: real values, time along ``axis``; other axes are a batch. A NumPy array, a PyTorch tensor or a list.
        order: length m of a window, from 2 to 10.
        delay: steps τ between the values of a window.
        axis: axis of time.
        nan_policy: what a missing sample (NaN) does: "raise" (an error), "propagate" (its series has NaN) or "omit"
            (windows that hold one do not count; a series without a whole window has NaN).

    Returns:
        One complexity a series, as by `permutation_entropy`.

    Raises:
        ValueError: if the series is shorter than a window or not finite, or a setting is out of range.
        TypeError: if the series is not an array of real numbers.

    References:
        Rosso, Larrondo, Martin, Plastino and Fuentes (2007), "Distinguishing noise from chaos", Physical Review Letters
        99, 154102; López-Ruiz, Mancini and Calbet (1995), "A statistical measure of complexity", Physics Letters A 209, 321.

    Examples:
        >>> round(float(permutation_complexity([4, 7, 9, 10, 6, 11, 3], order=2)), 6)
        0.061128
    """

    def complexity(shares: Any, xp: Any) -> Any:
        number = factorial(order)
        largest = log(2 * number) - log(number) / 2 - (number + 1) / (2 * number) * log(number + 1)
        own = shannon(shares, xp)
        apart = shannon((shares + 1 / number) / 2, xp) - (own + log(number)) / 2
        return own / log(number) * (apart / largest)

    return _of_patterns("permutation_complexity", complexity, series, order, delay, axis, nan_policy)


def reverse_permutation_entropy(
    series: Series, *, order: int = 3, delay: int = 1, axis: int = -1, nan_policy: str = "raise"
) -> Float[Any, "..."]:
    r"""Reverse permutation entropy: the squared distance of the law of ordinal patterns from that of white noise.

    $$\beta^2 = \sum_\pi \Bigl(p(\pi)-\frac1{m!}\Bigr)^2 = \sum_\pi p(\pi)^2 - \frac1{m!}$$

    From 0, for white noise, to $1-1/m!$, for a series with one pattern; near white noise it is finer than
    `permutation_entropy`, whose distance from ln m! is about $\frac{m!}2\beta^2$.

    Args:
        series: real values, time along ``axis``; other axes are a batch.
        order: length m of a window, from 2 to 10.
        delay: steps τ between the values of a window.
        axis: axis of time.
        nan_policy: what a missing sample (NaN) does: "raise" (an error), "propagate" (its series has NaN) or "omit"
            (windows that hold one do not count; a series without a whole window has NaN).

    Returns:
        One distance a series, as by `permutation_entropy`.

    Raises:
        ValueError: if the series is shorter than a window or not finite, or a setting is out of range.
        TypeError: if the series is not an array of real numbers.

    References:
        Bandt (2017), "A new kind of permutation entropy used to classify sleep stages from invisible EEG
        microstructure", Entropy 19, 197.

    Examples:
        >>> round(float(reverse_permutation_entropy([4, 7, 9, 10, 6, 11, 3], order=2)), 6)  # shares 4/6 and 2/6
        0.055556
    """

    def distance(shares: Any, xp: Any) -> Any:
        return xp.sum((shares - 1 / factorial(order)) ** 2, axis=-1)

    return _of_patterns("reverse_permutation_entropy", distance, series, order, delay, axis, nan_policy)


def _of_patterns(
    where: str, function: Callable, series: Any, order: int, delay: int, axis: int, nan_policy: str
) -> Float[Any, "..."]:
    """A function of the shares of all patterns."""
    reading, _ = _read(where, series, order, delay, False, None, axis, nan_policy)
    xp, whole = reading.xp, reading.whole(order, delay)
    codes = ordinal_codes(lagged(reading.rows, order, delay), xp)
    found = [function(shares, xp) for shares in frequencies(codes, factorial(order), counted(None, whole, xp), xp)]
    return reading.finish(xp.concat(found), whole)
