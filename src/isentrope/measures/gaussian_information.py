r"""Entropy and information of Gaussian laws of known covariance, and of Student laws, in closed form.

All are combinations of log-determinants, taken of correlations, so that no unit is too small or too large. From samples, the
same quantities are estimated by ``method="gaussian"`` of `isentrope.measures.mutual_information` and its relatives, which
correct the bias that a sample covariance would bring here. Arrays, precision and gradients are treated as in
`isentrope.measures.spectral`; leading axes are batches.
"""

from collections.abc import Sequence
from math import inf, log, log1p, pi
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import digamma, gammaln

from isentrope.measures._array import ArrayLike, check_order
from isentrope.measures.estimate import unit_of
from isentrope.measures.joint_probabilities import Axes, SharedInformation, named_axes
from isentrope.measures.spectral import read_matrices, rounded


def gaussian_entropy(covariance: ArrayLike, *, alpha: float = 1.0, base: float | None = None) -> Float[Any, "..."]:
    r"""Differential entropy of a Gaussian law, of any order of Rényi.

    .. math:: h_\alpha = \frac12 \log\det(2\pi\Sigma) + \frac d2 \frac{\log\alpha}{\alpha-1}, \qquad
        h_1 = \frac12 \log\det(2\pi e\Sigma)

    Args:
        covariance: Covariances ``[..., d, d]``, positive definite.
        alpha: Order, positive, up to ``math.inf``; 1 for Shannon's.
        base: Base of the logarithm; None for nats, 2 for bits.

    Returns:
        Entropies ``[...]`` in the unit of ``base``; they depend on the unit of the variables and may be negative.

    Raises:
        TypeError: If the dtype is not real floating.
        ValueError: If covariances are not square, symmetric, finite and positive definite, or ``alpha`` is not positive.

    References:
        K.-S. Song, Rényi information, loglikelihood and an intrinsic distribution measure, 2001.

    Examples:
        >>> import numpy as np
        >>> round(float(gaussian_entropy(np.eye(1))), 7)
        1.4189385
    """
    name = "gaussian_entropy"
    nats, _ = unit_of(base, name)
    check_order(name, "alpha", alpha)
    if alpha == 0:
        raise ValueError(f"{name}: alpha must be positive: at 0 the entropy is infinite")
    law = _Law(name, covariance)
    tail = 1.0 if alpha == 1 else 0.0 if alpha == inf else log1p(alpha - 1) / (alpha - 1)
    scale = law.xp.sum(law.xp.log(law.variances), axis=-1)
    return law.finish(
        (law.log_determinant(range(law.dimensions)) + scale + law.dimensions * (log(2 * pi) + tail)) / 2, nats
    )


def gaussian_mutual_information(
    covariance: ArrayLike, *, x: Axes, y: Axes, given: Axes = (), base: float | None = None
) -> Float[Any, "..."]:
    r"""Mutual information of variables of a Gaussian law, also where others are known.

    .. math:: I(X; Y | Z) = \frac12 \log \frac{|\Sigma_{XZ}| |\Sigma_{YZ}|}{|\Sigma_Z| |\Sigma_{XYZ}|}

    Of two variables of correlation ρ it is :math:`-\frac12 \log(1 - \rho^2)`.

    Args:
        covariance: Covariances ``[..., d, d]``, positive definite.
        x: Index or indices of one variable.
        y: Index or indices of the other.
        given: Index or indices of the variables that are known.
        base: Base of the logarithm; None for nats, 2 for bits.

    Returns:
        Informations ``[...]`` in the unit of ``base``.

    Raises:
        TypeError: If the dtype is not real floating, or an index is not an integer.
        ValueError: If covariances are not square, symmetric, finite and positive definite, or indices are out of range,
            named twice or missing.

    References:
        T. M. Cover and J. A. Thomas, Elements of Information Theory, 2006, chapter 8.

    Examples:
        >>> import numpy as np
        >>> round(float(gaussian_mutual_information(np.array([[1.0, 0.75], [0.75, 1.0]]), x=0, y=1)), 6)
        0.413339
    """
    name = "gaussian_mutual_information"
    nats, _ = unit_of(base, name)
    law = _Law(name, covariance)
    x, y, given = named_axes(name, law.dimensions, {"x": x, "y": y, "given": given}, "variables of covariance")
    apart = law.log_determinant(x + given) + law.log_determinant(y + given)
    return law.finish((apart - law.log_determinant(given) - law.log_determinant(x + y + given)) / 2, nats)


def student_mutual_information(
    dispersion: ArrayLike, *, degrees_of_freedom: float, x: Axes, y: Axes, base: float | None = None
) -> Float[Any, "..."]:
    r"""Mutual information of variables of a multivariate Student law.

    .. math:: I_{\mathrm{Gauss}}(X; Y) + c(\nu) + c(\nu + m + n) - c(\nu + m) - c(\nu + n), \qquad
        c(t) = \log\Gamma\bigl(\tfrac t2\bigr) - \tfrac t2\,\psi\bigl(\tfrac t2\bigr)

    for m and n variables on the sides, where the first term is that of a Gaussian law with the dispersion for its covariance.
    It is positive also where nothing is correlated: large values come together.

    Args:
        dispersion: Dispersion matrices ``[..., d, d]``, positive definite; the covariance is :math:`\nu/(\nu-2)` times that.
        degrees_of_freedom: ν, positive; 1 is the Cauchy law, and the Gaussian one is the limit of many.
        x: Index or indices of one variable.
        y: Index or indices of the other.
        base: Base of the logarithm; None for nats, 2 for bits.

    Returns:
        Informations ``[...]`` in the unit of ``base``.

    Raises:
        TypeError: As `gaussian_mutual_information` does.
        ValueError: As `gaussian_mutual_information` does, or if ``degrees_of_freedom`` is not positive and finite.

    References:
        R. B. Arellano-Valle, J. E. Contreras-Reyes and M. G. Genton, Shannon entropy and mutual information for multivariate
        skew-elliptical distributions, 2013; arXiv 2306.11078 (P. Czyż, F. Grabowski, J. E. Vogt, N. Beerenwinkel and A. Marx).

    Examples:
        >>> import numpy as np
        >>> round(float(student_mutual_information(np.eye(2), degrees_of_freedom=1, x=0, y=1)), 6)
        0.224171
    """
    name = "student_mutual_information"
    nats, _ = unit_of(base, name)
    if not 0 < degrees_of_freedom < inf:
        raise ValueError(f"{name}: degrees_of_freedom must be positive and finite, got {degrees_of_freedom!r}")
    law = _Law(name, dispersion, "dispersion")
    x, y = named_axes(name, law.dimensions, {"x": x, "y": y}, "variables of dispersion")
    sizes = np.array([0, len(x) + len(y), len(x), len(y)])
    half = (degrees_of_freedom + sizes) / 2
    common = float(np.array([1, 1, -1, -1]) @ (gammaln(half) - half * digamma(half)))
    gaussian = (law.log_determinant(x) + law.log_determinant(y) - law.log_determinant(x + y)) / 2
    return law.finish(gaussian + common, nats)


def gaussian_shared_information(
    covariance: ArrayLike, *, variables: Sequence[Axes] | None = None, given: Axes = (), base: float | None = None
) -> SharedInformation:
    r"""Total and dual total correlation of a Gaussian law, and with them its O- and S-information.

    .. math:: T = \sum_i h(X_i | Z) - h(X | Z), \qquad D = h(X | Z) - \sum_i h(X_i | X_{-i}, Z), \qquad O = T - D

    Args:
        covariance: Covariances ``[..., d, d]``, positive definite.
        variables: Index or indices of each variable; None takes every one that is not given.
        given: Index or indices of the variables that are known.
        base: Base of the logarithm; None for nats, 2 for bits.

    Returns:
        The total and the dual total correlation ``[...]`` in the unit of ``base``; ``o_information`` and ``s_information`` are
        their difference and their sum.

    Raises:
        TypeError: As `gaussian_mutual_information` does.
        ValueError: As `gaussian_mutual_information` does, or if there are fewer than two variables.

    References:
        arXiv 1902.11239 (F. E. Rosas, P. A. M. Mediano, M. Gastpar and H. J. Jensen).

    Examples:
        >>> import numpy as np
        >>> found = gaussian_shared_information(0.5 * np.eye(3) + 0.5)  # three variables of equal correlation
        >>> [round(float(value), 6) for value in (*found, found.o_information)]
        [0.346574, 0.261624, 0.08495]
    """
    name = "gaussian_shared_information"
    nats, _ = unit_of(base, name)
    law = _Law(name, covariance)
    *single, known = named_axes(
        name, law.dimensions, {"variables": variables, "given": given}, "variables of covariance"
    )
    everything = sum(single, ())
    whole, rest = law.log_determinant(everything + known), law.log_determinant(known)
    surplus = len(single) - 1
    others = [tuple(i for i in everything if i not in one) for one in single]
    total = sum(law.log_determinant(one + known) for one in single) - surplus * rest - whole
    dual = sum(law.log_determinant(one + known) for one in others) - rest - surplus * whole
    return SharedInformation(law.finish(total / 2, nats), law.finish(dual / 2, nats))


class _Law:
    """Correlations and variances of a Gaussian law."""

    def __init__(self, name: str, covariance: ArrayLike, argument: str = "covariance"):
        matrix, self.xp, self.dtype = read_matrices(name, argument, covariance, symmetric=True)
        self.variances = self.xp.linalg.diagonal(matrix)
        self.dimensions = matrix.shape[-1]
        deviations = self.xp.sqrt(self.xp.where(self.variances > 0, self.variances, self.xp.ones_like(self.variances)))
        self.correlations = matrix / deviations[..., :, None] / deviations[..., None, :]
        try:
            self.xp.linalg.cholesky(self.correlations)
        except (np.linalg.LinAlgError, RuntimeError):  # the second is torch's
            raise ValueError(f"{name}: {argument} must be positive definite") from None

    def log_determinant(self, indices: Sequence[int]) -> Any:
        """Of the correlations of these variables; 0 of none."""
        kept = self.correlations[..., list(indices), :][..., :, list(indices)]
        return self.xp.linalg.slogdet(kept).logabsdet

    def finish(self, value: Any, nats: float) -> Any:
        return rounded(value / nats, self.dtype, self.xp)
