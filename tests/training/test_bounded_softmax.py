import math

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isentrope.measures import entropy
from isentrope.training import BoundedEntropyLogits, bounded_entropy_logits, lower_lambert_w


def entropy_of(logits):
    return entropy(logits.softmax(-1))


def certain(classes, scale=1e3, dtype=torch.float64):
    return scale * torch.nn.functional.one_hot(torch.tensor(2), classes).to(dtype)


def test_lower_branch_is_that_of_mpmath_down_to_the_smallest_numbers():
    near_the_end = [-(1 - 10.0**-k) / math.e for k in range(1, 13)]
    for x in [-(10.0**-k) for k in (300, 100, 30, 10, 3, 2, 1)] + [-0.2, -0.3, -0.36, *near_the_end]:
        value = float(lower_lambert_w(torch.tensor(x, dtype=torch.float64)))
        # The number that is given is a double; close to -1/e half of its digits remain.
        with mpmath.workdps(50):
            exact = float(mpmath.lambertw(mpmath.mpf(x), -1).real)
        assert value == pytest.approx(exact, rel=1e-14 if x > -0.36 else 2e-16 / (1 + exact) ** 2 + 1e-14)
    assert float(lower_lambert_w(torch.tensor(-1 / math.e, dtype=torch.float64))) == pytest.approx(-1, abs=1e-7)
    assert lower_lambert_w(torch.tensor(-0.1)).dtype == torch.float32


def test_gradients_of_the_lower_branch_are_finite_differences_of_any_order():
    x = -torch.tensor([1e-3, 0.05, 0.2, 0.35], dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lower_lambert_w, x, eps=1e-8, rtol=1e-5)
    assert torch.autograd.gradgradcheck(lower_lambert_w, x, eps=1e-8, rtol=1e-4)


def test_arguments_off_the_branch_are_refused():
    for x in (0.0, 0.1, -0.4, math.nan):
        with pytest.raises(ValueError, match=r"x must lie in \[-1/e, 0\)"):
            lower_lambert_w(torch.tensor([-0.1, x]))


@settings(deadline=None, max_examples=200)
@given(
    st.integers(0, 10**6), st.sampled_from((2, 3, 10, 200)), st.floats(-3, 3), st.floats(0.01, 0.99), st.floats(2.8, 50)
)
def test_entropy_is_at_least_the_bound_and_the_order_is_kept(seed, classes, scale, share, tau):
    generator = torch.Generator().manual_seed(seed)
    logits = 10**scale * torch.randn(classes, generator=generator, dtype=torch.float64)
    least = 1 + math.log(math.log(tau) / tau)
    bound = least + share * math.log(classes)
    new = bounded_entropy_logits(logits, bound, tau)
    assert float(entropy_of(new)) >= bound - 1e-9
    assert float(entropy_of(new)) <= math.log(classes) + 1e-9
    # The identity behind the bound.
    assert float((-new * new.exp()).sum()) == pytest.approx(math.exp(bound - 1))
    assert int(new.argmax()) == int(logits.argmax())
    order = logits.argsort()
    assert (new[order].diff() >= -1e-9).all()
    assert (new <= -math.log(tau) + 1e-9).all()


@pytest.mark.parametrize("approximate", [False, True])
def test_bound_holds_at_every_scale_for_the_paper_setting(approximate):
    generator = torch.Generator().manual_seed(0)
    for scale in (0.1, 1, 3, 10, 30, 100):
        logits = scale * torch.randn(2000, 10, generator=generator)
        assert float(entropy_of(bounded_entropy_logits(logits, 0.6, approximate=approximate)).min()) >= 0.6


def test_certain_and_uniform_inputs():
    ten = bounded_entropy_logits(certain(10), 0.6)
    assert float(entropy_of(ten)) == pytest.approx(0.9699, abs=5e-5)
    assert float(ten.softmax(-1).max()) == pytest.approx(0.79, abs=5e-3)
    assert float(ten.max()) == pytest.approx(-math.log(4))
    assert float(entropy_of(bounded_entropy_logits(certain(10), 0.6, approximate=True))) == pytest.approx(
        0.9825, abs=5e-5
    )
    assert float(entropy_of(bounded_entropy_logits(certain(1000), 0.6))) == pytest.approx(1.115, abs=5e-4)
    approximate = bounded_entropy_logits(certain(1000), 0.6, approximate=True)
    assert float(entropy_of(approximate)) == pytest.approx(1.46, abs=5e-3)
    for flag in (False, True):
        uniform = bounded_entropy_logits(torch.full((10,), 7.0), 0.6, approximate=flag)
        assert float(entropy_of(uniform)) == pytest.approx(math.log(10))


def test_approximate_inverse_is_as_far_off_as_measured():
    s = torch.linspace(0.001, 5, 500, dtype=torch.float64)
    off = (lower_lambert_w(-torch.exp(-1 - s)) - (-1 - (2 * s).sqrt() - 0.75 * s)).abs()
    assert float(off.max()) == pytest.approx(0.18, abs=0.005)
    far = torch.tensor(20.0).double()
    assert float(lower_lambert_w(-torch.exp(-1 - far)) + 1 + (2 * far).sqrt() + 0.75 * far) == pytest.approx(
        -1.9, abs=0.05
    )


@pytest.mark.parametrize("approximate", [False, True])
def test_gradient_is_that_of_finite_differences(approximate):
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64).mul(3).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: bounded_entropy_logits(z, 0.4, approximate=approximate), logits)
    for extreme in (certain(10), torch.zeros(10).double()):
        z = extreme.requires_grad_()
        bounded_entropy_logits(z, 0.6, approximate=approximate)[2].backward()
        assert z.grad is not None
        assert z.grad.isfinite().all()


@pytest.mark.parametrize("approximate", [False, True])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_no_number_stays_none(bad, approximate):
    logits = torch.tensor([[1.0, bad, 0.0], [2.0, 1.0, 0.0], [1.0, 1.0, 1.0]], requires_grad=True)
    new = bounded_entropy_logits(logits, 0.6, approximate=approximate)
    assert new[0].isnan().all()
    torch.testing.assert_close(new[1:], bounded_entropy_logits(logits[1:], 0.6, approximate=approximate))
    torch.nn.functional.cross_entropy(new, torch.zeros(3, dtype=torch.long), reduction="sum").backward()
    assert logits.grad[0].isnan().all()
    assert logits.grad[1:].isfinite().all()


def test_shift_changes_nothing_and_types_are_kept():
    logits = torch.randn(4, 7, generator=torch.Generator().manual_seed(2))
    new = bounded_entropy_logits(logits, 0.5)
    torch.testing.assert_close(bounded_entropy_logits(logits + 3, 0.5), new)
    half = bounded_entropy_logits(logits.bfloat16(), 0.5)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), new, atol=0.05, rtol=0.02)


def test_layer_works_under_vmap():
    logits = torch.randn(4, 7, generator=torch.Generator().manual_seed(2))
    layer = BoundedEntropyLogits(0.5, tau=5.0)
    torch.testing.assert_close(torch.func.vmap(layer)(logits), layer(logits))
    assert "minimum_entropy=0.5, tau=5.0" in repr(layer)


@pytest.mark.parametrize(
    ("classes", "settings", "message"),
    [
        (1, {}, "at least two classes, got 1"),
        (10, {"tau": 2.5}, "tau must be above e"),
        # 1 + log u, and log 10 less how far u is from 1/e.
        (10, {"minimum_entropy": -0.06}, r"between -0.0597 and 2.2429 nats"),
        (10, {"minimum_entropy": 2.25}, r"between -0.0597 and 2.2429 nats"),
        (10, {"minimum_entropy": math.nan}, "between"),
    ],
)
def test_bounds_that_cannot_be_kept_are_refused(classes, settings, message):
    with pytest.raises(ValueError, match=message):
        bounded_entropy_logits(torch.zeros(classes), **{"minimum_entropy": 0.6, **settings})
