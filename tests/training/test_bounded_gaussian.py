import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Independent, Normal

from isentrope.training import BoundedLogScales, bounded_log_scales


def entropy_per_dimension(log_scales):
    gaussian = Independent(Normal(torch.zeros_like(log_scales), log_scales.exp()), 1)
    return gaussian.entropy() / log_scales.shape[-1]


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 10**6), st.integers(1, 12), st.floats(-2, 2), st.floats(-6, 1.4))
def test_entropy_is_the_wanted_one_unless_a_scale_is_clipped(seed, dimensions, spread, wanted):
    raw = 10**spread * torch.randn(dimensions, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    log_scales = bounded_log_scales(raw, wanted)
    entropy = float(entropy_per_dimension(log_scales))
    assert entropy >= wanted - 1e-9
    assert (log_scales <= 0).all()
    if (log_scales > -8).all():
        assert entropy == pytest.approx(wanted, abs=1e-9)
    torch.testing.assert_close(bounded_log_scales(raw + 5, wanted), log_scales)


def test_measured_values_of_the_paper_setting():
    zero = bounded_log_scales(torch.zeros(6, dtype=torch.float64), -0.5)
    assert float(entropy_per_dimension(zero)) == pytest.approx(-0.5, abs=1e-12)
    assert zero.tolist() == pytest.approx([-0.5 - 0.5 * math.log(2 * math.pi * math.e)] * 6)
    raw = 10 * torch.randn(100_000, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    entropy = entropy_per_dimension(bounded_log_scales(raw, -0.5))
    assert float(entropy.min()) == pytest.approx(-0.5, abs=1e-9)
    # The mean of 10^5 draws; their own standard error is below 0.001.
    assert float(entropy.mean()) == pytest.approx(-0.0506, abs=0.01)


def test_one_dimension_has_no_freedom():
    raw = torch.tensor([[-40.0], [0.0], [7.0]], requires_grad=True)
    log_scales = bounded_log_scales(raw, 0.25)
    assert log_scales.flatten().tolist() == pytest.approx([0.25 - 0.5 * math.log(2 * math.pi * math.e)] * 3)
    log_scales.sum().backward()
    assert not raw.grad.any()


def test_gradient_is_that_of_finite_differences():
    raw = torch.randn(3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: bounded_log_scales(x, -0.5), raw)


CURVATURE = torch.tensor([0.25, 1.0, 4.0, 16.0], dtype=torch.float64)
GOAL = torch.tensor([0.3, -0.2, 0.5, 0.0], dtype=torch.float64)


def expected_reward(mean, log_scales):
    """Of ``-sum_i c_i (a_i - g_i)^2``, exactly."""
    return -(CURVATURE * ((mean - GOAL) ** 2 + (2 * log_scales).exp())).sum()


def trained(scales, steps=600):
    """A one-step bandit of four dimensions: mean and log scales after gradient ascent, and the entropies on the way."""
    mean, raw = torch.zeros(4).double().requires_grad_(), torch.zeros(4).double().requires_grad_()
    optimizer = torch.optim.Adam([mean, raw], lr=0.03)
    path = []
    for _ in range(steps):
        log_scales = scales(raw)
        path.append(float(entropy_per_dimension(log_scales.detach())))
        optimizer.zero_grad()
        (-expected_reward(mean, log_scales)).backward()
        optimizer.step()
    return mean.detach(), scales(raw).detach(), path


def test_on_a_bandit_the_bound_holds_all_the_way_and_ends_where_soft_actor_critic_does():
    mean, log_scales, path = trained(lambda raw: bounded_log_scales(raw, -2.0))
    assert max(abs(entropy + 2) for entropy in path) < 1e-9
    torch.testing.assert_close(mean, GOAL, atol=1e-4, rtol=0)
    # Of all Gaussians of this entropy the reward is highest where c_i sigma_i^2 is the same in all dimensions.
    optimum = -2.0 - 0.5 * math.log(2 * math.pi * math.e) + 0.5 * (CURVATURE.log().mean() - CURVATURE.log())
    torch.testing.assert_close(log_scales, optimum, atol=1e-4, rtol=0)
    # There soft actor-critic's objective is stationary too, at one temperature for all dimensions.
    free, temperature = optimum.clone().requires_grad_(), 2 * CURVATURE[0] * (2 * optimum[0]).exp()
    (expected_reward(GOAL, free) + temperature * 4 * entropy_per_dimension(free)).backward()
    torch.testing.assert_close(free.grad, torch.zeros(4).double(), atol=1e-12, rtol=0)
    # Without a bound nothing stops the entropy's fall.
    _, _, falling = trained(lambda raw: raw, steps=300)
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] < falling[0] - 1


def squashed_entropy(mean, log_scales, nodes, weights):
    """Entropy of ``tanh`` of independent Gaussians, by quadrature in each dimension."""
    u = mean + log_scales.exp() * nodes[:, None]
    stretch = 2 * (math.log(2) - u - torch.nn.functional.softplus(-2 * u))
    return (4 * entropy_per_dimension(log_scales)) + (weights[:, None] * stretch).sum()


def test_learnt_compensation_gives_squashed_actions_the_wanted_entropy():
    import numpy as np

    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    nodes, weights = torch.tensor(nodes), torch.tensor(weights / weights.sum())
    wanted, mean = -0.5, torch.tensor([0.0, 0.5, 1.0, -1.5]).double()
    raw = torch.tensor([0.5, 0.0, -0.5, 0.2]).double()
    entropies = {}
    for compensation in (0.0, 0.01):
        head = BoundedLogScales(wanted, compensation=compensation)
        for _ in range(400 if compensation else 1):
            entropy = squashed_entropy(mean, head(raw), nodes, weights)
            if compensation:
                head.log_compensation.grad = None
                head.compensation_loss(entropy, 4).backward()
                head.log_compensation.data -= 0.5 * head.log_compensation.grad
        entropies[compensation] = float(entropy) / 4
    assert entropies[0.0] < wanted - 0.3
    assert entropies[0.01] == pytest.approx(wanted, abs=1e-4)


def test_policy_loss_does_not_move_the_compensation_and_the_ceiling_holds():
    head = BoundedLogScales(0.0, compensation=5.0)
    raw = torch.randn(3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    log_scales = head(raw)
    assert log_scales.tolist() == pytest.approx([0, 0, 0], abs=1e-5)
    log_scales.sum().backward()
    assert head.log_compensation.grad is None
    assert list(head.state_dict()) == ["log_compensation"]


@pytest.mark.parametrize("high", [-1.4189385332046727, -0.5, 0.0, 0.1, 0.3, 0.7, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_compensation_at_the_ceiling_keeps_within_it_in_every_precision(high, dtype):
    head = BoundedLogScales(-1.0, high=high, compensation=20.0).to(dtype)
    raw = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    log_scales = head(raw)
    assert (log_scales <= torch.tensor(high, dtype=dtype)).all()
    # The entropy wanted is rounded, and three dimensions may share what it lacks.
    assert (log_scales >= high - 8 * torch.finfo(dtype).eps).all()
    log_scales.sum().backward()
    assert raw.grad.isfinite().all()


def test_an_entropy_at_an_end_of_its_range_is_taken_and_one_beyond_is_not():
    unit = 0.5 * math.log(2 * math.pi * math.e)
    for high in (0.1, 0.3, 1.0, 1.5, 2.0):
        for end in (high, -8.0):
            for h in (unit + end, torch.tensor(unit + end), torch.tensor(unit + end, dtype=torch.float64)):
                scales = bounded_log_scales(torch.zeros(4), h, high=high)
                torch.testing.assert_close(scales, torch.full((4,), end), rtol=0, atol=1e-5)
        for h in (unit + high + 1e-5, torch.tensor(unit + high + 1e-5), torch.tensor(math.nan), math.nan):
            with pytest.raises(ValueError, match="entropy_per_dimension must lie between"):
                bounded_log_scales(torch.zeros(2), h, high=high)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"entropy_per_dimension": 1.5},
            r"must lie between -6.5811 and 1.4189 nats for log scales between -8.0 and 0.0",
        ),
        ({"entropy_per_dimension": -7.0}, "must lie between"),
        ({"entropy_per_dimension": 0.0, "low": 0.0}, "low must be below high, got 0.0 and 0.0"),
        ({"entropy_per_dimension": 0.0, "compensation": -1.0}, "compensation must not be negative"),
    ],
)
def test_settings_that_cannot_be_kept_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        BoundedLogScales(**arguments)
    with pytest.raises(ValueError, match="no compensation to learn"):
        BoundedLogScales(0.0).compensation_loss(torch.zeros(()), 1)
