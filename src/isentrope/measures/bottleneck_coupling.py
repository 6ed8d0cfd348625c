r"""Couplings through a bottleneck: lossy compression whose output has a law of its own.

In X - T - Y the laws of X and Y are given and H(T) is at most R. As $I(X;Y)\ge I(X;T)+I(T;Y)-H(T)$, the encoder and the
decoder are found one after the other: the first tells the most of X within the bound, the second is a coupling of small
entropy of T and Y.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from isentrope.measures._laws import law_of, shannon
from isentrope.measures.entropy_bounded_encoder import _bound, _encoder
from isentrope.measures.estimate import unit_of
from isentrope.measures.minimum_entropy_coupling import minimum_entropy_coupling


@dataclass(frozen=True, eq=False)
class BottleneckCoupling:
    """A coupling through a variable of bounded entropy.

    Args:
        joint: law of X and Y, with the given marginals.
        encoder: law of X and T.
        decoder: law of T and Y.
        rate: H(T), in ``unit``.
        information: I(X; Y), in ``unit``.
        encoder_information: I(X; T), in ``unit``.
        decoder_information: I(T; Y), in ``unit``.
        unit: "nat", "bit", "hartley" or "log <base>".
    """

    joint: Float[np.ndarray, "x y"]
    encoder: Float[np.ndarray, "x t"]
    decoder: Float[np.ndarray, "t y"]
    rate: float
    information: float
    encoder_information: float
    decoder_information: float
    unit: str


def coupling_with_bottleneck(
    p: Float[np.ndarray, " x"] | npt.ArrayLike,
    q: Float[np.ndarray, " y"] | npt.ArrayLike,
    max_entropy: float,
    *,
    deterministic: bool = False,
    base: float | None = None,
) -> BottleneckCoupling:
    r"""Coupling X - T - Y of small entropy, whose middle has a bounded entropy H(T).

    .. math:: \max I(X;T)+I(T;Y)-H(T)\le I(X;Y) \quad\text{with}\quad H(T)\le R

    The encoder is that of `entropy_bounded_encoder`, the decoder the coupling of T and Y by `minimum_entropy_coupling`. With
    R = H(X) it is the coupling of X and Y; with R = 0, X and Y are independent.

    Args:
        p: probabilities of X.
        q: probabilities of Y.
        max_entropy: the bound R, in the unit of ``base``.
        deterministic: whether T must be a function of X.
        base: base of the logarithm; None for nats, 2 for bits.

    Returns:
        The laws of all pairs and their informations.

    Raises:
        TypeError: if probabilities are not numeric.
        ValueError: if probabilities are negative, not finite or do not sum to 1, the bound is negative or NaN, or the base
            is unknown.

    References:
        Ebrahimi, Chen and Khisti, "Minimum Entropy Coupling with Bottleneck" (arXiv 2410.21666).

    Examples:
        >>> found = coupling_with_bottleneck([0.25] * 4, [0.5, 0.5], 1.0, base=2)
        >>> round(found.rate, 9), round(found.information, 9)
        (1.0, 1.0)
    """
    where = "coupling_with_bottleneck"
    nats, unit = unit_of(base, where)
    first, second = law_of(where, "p", p), law_of(where, "q", q)
    encoder = _encoder(first, _bound(max_entropy, where) * nats, deterministic)
    middle = encoder.sum(axis=0)
    decoder = minimum_entropy_coupling(middle, second).toarray()
    joint = encoder @ (decoder / middle[:, None])
    rate = shannon(middle)
    return BottleneckCoupling(
        joint=joint,
        encoder=encoder,
        decoder=decoder,
        rate=rate / nats,
        information=max(shannon(first) + shannon(second) - shannon(joint), 0.0) / nats,
        encoder_information=max(shannon(first) + rate - shannon(encoder), 0.0) / nats,
        decoder_information=max(shannon(second) + rate - shannon(decoder), 0.0) / nats,
        unit=unit,
    )
