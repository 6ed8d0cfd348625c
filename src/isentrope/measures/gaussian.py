r"""What a Gaussian law would give: log-determinants without bias, scores of ranks, and the information of blocks.

The log-determinant of a sample covariance of d variables is too low by
$\sum_{i=1}^d[\ln\frac{N-1}2-\psi(\frac{N-i}2)]$ on average, exactly so for Gaussian samples; with that added, entropies
and informations of Gaussian samples are unbiased at every size.
"""

import numpy as np
from jaxtyping import Float, Real
from scipy.special import digamma, ndtri


def gaussian_scores(samples: Real[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    r"""Normal scores of the ranks in each column, $\Phi^{-1}(r/(n+1))$; equal values share the middle of their ranks.

    Args:
        samples: n samples of d variables.

    Returns:
        The scores: what the samples would be if each margin were Gaussian.

    References:
        Ince et al., "A statistical framework for neuroimaging data analysis based on mutual information estimated via a
        Gaussian copula" (Human Brain Mapping 38, 2017).

    Examples:
        >>> gaussian_scores(np.array([[1.0], [1000.0], [10.0]])).ravel().round(3)
        array([-0.674,  0.674,  0.   ])
    """
    # One table serves all columns: without equal values every rank occurs once.
    n, d = samples.shape
    table = ndtri(np.arange(1, n + 1) / (n + 1))
    scores = np.empty((d, n))
    for row, column in zip(scores, np.ascontiguousarray(samples.T), strict=True):
        order = np.argsort(column)
        ascending = column[order]
        if (ascending[1:] == ascending[:-1]).any():
            from scipy.stats import rankdata

            row[:] = ndtri(rankdata(column) / (n + 1))
        else:
            row[order] = table
    return scores.T


def log_determinant_correction(n: int, dimensions: int) -> float:
    r"""What is to be added to $\ln\det\hat\Sigma$ of n Gaussian samples (divided by n - 1) to free it of bias.

    Args:
        n: number of samples, more than ``dimensions``.
        dimensions: number d of variables.

    Returns:
        $\sum_{i=1}^d[\ln\frac{n-1}2-\psi(\frac{n-i}2)]$, in nats.

    Examples:
        >>> round(log_determinant_correction(10, 1), 4)
        0.1152
    """
    freedom = (n - np.arange(1, dimensions + 1)) / 2
    return float(np.sum(np.log((n - 1) / 2) - digamma(freedom)))


def gaussian_log_density(samples: Real[np.ndarray, "n d"]) -> tuple[Float[np.ndarray, " n"], float]:
    r"""Log-density of each sample under the Gaussian law with the samples' mean and covariance.

    Args:
        samples: n samples of d variables, n > d; d may be 0.

    Returns:
        The n log-densities in nats, and what is to be taken from their mean to make it an unbiased estimate of minus the
        law's entropy, where the law is Gaussian.

    Raises:
        ValueError: if there are too few samples, or the variables are linearly dependent.

    Examples:
        >>> density, _ = gaussian_log_density(np.array([[-1.0], [0.0], [1.0]]))
        >>> density.round(4)
        array([-1.4189, -0.9189, -1.4189])
    """
    n, dimensions = samples.shape
    if n < dimensions + 2:
        raise ValueError(f"a covariance of {dimensions} variables takes at least {dimensions + 2} samples (got {n})")
    if dimensions == 0:
        return np.zeros(n), 0.0
    centred = samples - samples.mean(axis=0)
    largest = np.abs(centred).max(axis=0)
    if not largest.all():
        raise ValueError("a variable is constant; it has no density")
    # Scaled first: the square of 1e-200 is zero.
    scale = largest * np.sqrt(np.mean((centred / largest) ** 2, axis=0))
    left, singular, _ = np.linalg.svd(centred / scale, full_matrices=False)
    if singular[-1] < singular[0] * max(n, dimensions) * np.finfo(np.float64).eps:
        raise ValueError("the variables are linearly dependent; their joint law has no density")
    log_determinant = 2 * np.sum(np.log(singular * np.sqrt(1 / (n - 1)))) + 2 * np.sum(np.log(scale))
    squared = (n - 1) * np.sum(left**2, axis=1)
    density = -0.5 * (dimensions * np.log(2 * np.pi) + log_determinant + squared)
    return density, 0.5 * (log_determinant_correction(n, dimensions) + dimensions / n)
