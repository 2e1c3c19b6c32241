"""Networks and heads of fields: sizes, parameter shares, limits, likelihoods and training."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from geovision.errors import OptionError
from geovision.heads.dense import masked_mean
from geovision.heads.field import (
    BernoulliGammaHead,
    FieldHead,
    QuantileHead,
    distillation_loss,
    dropout_ensemble,
)
from geovision.models.maunet import (
    HIDDEN_CHANNELS,
    LIGHT_HIDDEN_CHANNELS,
    MARKS,
    MAUNet,
    MaxAverageUnit,
    UpSamplerUnit,
)
from geovision.models.superresolution import EDSR, SRCNN, SRDRN, UNet
from geovision.spec import Channel, FieldTarget

RAIN = FieldTarget(Channel("precipitation", "mm day-1", (0.0, 10_000.0)))
WARMTH = FieldTarget(Channel("air_temperature", "degC", (-90.0, 60.0)))
TINY = {
    MAUNet: {"widths": (4, 6, 8)},
    UNet: {"widths": (4, 6, 8)},
    EDSR: {"width": 4, "blocks": 1},
    SRDRN: {"width": 4, "blocks": 1, "finest": 6},
    SRCNN: {"widths": (4, 3)},
}
_few = settings(max_examples=20, deadline=None)


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


# --- units --------------------------------------------------------------------------------------


def test_the_max_average_unit_by_hand() -> None:
    x = torch.tensor([[1.0, 3.0, 0.0, 0.0], [0.0, 4.0, 8.0, 0.0]]).view(1, 1, 2, 4)
    assert MaxAverageUnit()(x).flatten().tolist() == [(4 + 2) / 2, (8 + 2) / 2]


def test_the_upsampler_is_the_mean_of_its_branches() -> None:
    unit = UpSamplerUnit(3, 2)
    x = torch.randn(2, 3, 5, 4)
    smooth = F.conv2d(
        F.interpolate(x, scale_factor=2, mode="bilinear"), unit.smooth.weight, unit.smooth.bias, padding=1
    )
    learnt = F.conv_transpose2d(x, unit.transposed.weight, unit.transposed.bias, stride=2)
    torch.testing.assert_close(unit(x), (smooth + learnt) / 2)
    assert unit(x).shape == (2, 2, 10, 8)
    assert UpSamplerUnit(3, 2, upsampling="interpolate").transposed is None
    assert UpSamplerUnit(3, 2, upsampling="transposed").smooth is None


# --- networks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("network", TINY)
@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_any_size_is_refined_by_the_factor(network, factor: int) -> None:
    model = network(2, factor=factor, **TINY[network]).eval()
    for size in ((5, 7), (8, 8), (1, 3)):
        found = model(torch.randn(1, 2, *size))
        assert found.shape == (1, model.num_features, factor * size[0], factor * size[1])
        assert torch.isfinite(found).all()


@pytest.mark.parametrize("network", TINY)
@pytest.mark.parametrize("factor", [1, 4])
@_few
@given(height=st.integers(1, 30), width=st.integers(1, 30))
def test_any_target_grid_is_reached(network, factor: int, height: int, width: int) -> None:
    model = network(1, factor=factor, **TINY[network]).eval()
    assert model(torch.randn(1, 1, 6, 8), (height, width)).shape[-2:] == (height, width)


@pytest.mark.parametrize("network", TINY)
def test_every_parameter_gets_a_gradient_and_samples_are_independent(network) -> None:
    model = network(2, factor=2, **TINY[network])
    x = torch.randn(4, 2, 9, 7)
    model(x).square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    model.eval()
    torch.testing.assert_close(model(x)[1:2], model(x[1:2]))


def test_cells_keep_their_position() -> None:
    """With mirror-symmetric kernels, the network commutes with mirroring of the field."""
    model = MAUNet(1, factor=4, widths=(3, 4), dropout=0.0).eval()
    with torch.no_grad():
        for weights in model.parameters():
            if weights.ndim == 4:
                weights.copy_((weights + weights.flip(-1)) / 2)
    x = torch.randn(1, 1, 8, 8)
    torch.testing.assert_close(model(x.flip(-1)), model(x).flip(-1), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 8])
def test_the_light_network_has_the_published_share_of_parameters(factor: int) -> None:
    """With a head of one value, on meta tensors: no memory is allocated."""
    with torch.device("meta"):
        whole = MAUNet(5, factor=factor, widths=HIDDEN_CHANNELS)
        light = MAUNet(5, factor=factor, widths=LIGHT_HIDDEN_CHANNELS)
        share = (count(light) + light.num_features + 1) / (count(whole) + whole.num_features + 1)
    assert 0.55 < share < 0.62


def test_parameters_are_counted_by_hand() -> None:
    def conv(a: int, b: int, k: int) -> int:
        return a * b * k * k + b

    a, b = 4, 6
    encoder = conv(1, a, 3) + conv(a, a, 3) + conv(a, b, 3) + conv(b, b, 3)
    decoder = conv(b, a, 2) + conv(b, a, 3) + conv(2 * a, a, 3) + conv(a, a, 3)
    refine = conv(a, a, 2) + conv(a, a, 3) + 2 * conv(a, a, 3)
    assert count(MAUNet(1, factor=1, widths=(a, b))) == encoder + decoder
    assert count(MAUNet(1, factor=4, widths=(a, b))) == encoder + decoder + 2 * refine
    # As published for one channel and one output: 64 filters 9x9, 32 of 1x1, 1 of 5x5.
    head = FieldHead(32, RAIN)
    assert count(SRCNN(1)) - 32 + count(head) - 32 == conv(1, 64, 9) + conv(64, 32, 1) + conv(32, 1, 5)


def test_every_option_has_an_evidence_level() -> None:
    assert [*MARKS] == [name for name in inspect.signature(MAUNet).parameters if name != "in_channels"]


def test_invalid_network_options_are_refused() -> None:
    with pytest.raises(OptionError, match="factor=0"):
        MAUNet(1, factor=0)
    with pytest.raises(OptionError, match="blocks=0"):
        EDSR(1, blocks=0)


# --- heads --------------------------------------------------------------------------------------


def fitted(kind: type[FieldHead], truth: Tensor, **options) -> FieldHead:
    head = kind(4, RAIN, **options)
    head.fit_statistics(truth)
    return head


def rain(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    amount = torch.randn(shape, generator=generator).exp() * 4
    return torch.where(torch.rand(shape, generator=generator) < 0.5, amount, 0.0)


HEADS = [FieldHead, QuantileHead, BernoulliGammaHead]


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("size", [1.0, 1e4])
def test_no_head_predicts_negative_rain_or_more_than_its_limit(kind: type[FieldHead], size: float) -> None:
    truth = rain(8, 1, 6, 6)
    head = fitted(
        kind,
        truth,
    ).eval()
    found = head.field(head(size * torch.randn(3, 4, 6, 6))).detach()
    assert found.shape == (3, 1, 6, 6)
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1.5 * float(truth.max()) * (1 + 1e-6)
    assert float(head.limit) == pytest.approx(1.5 * float(truth.max()))


def test_a_quantity_that_may_be_negative_stays_negative() -> None:
    head = FieldHead(4, WARMTH)
    head.fit_statistics(torch.tensor([-10.0, 30.0]))
    assert float(head.field(head(10 * torch.randn(9, 4, 3, 3))).detach().min()) < 0
    with pytest.raises(OptionError, match=r"never negative, not 'air_temperature' from -90"):
        BernoulliGammaHead(4, WARMTH)


@pytest.mark.parametrize("kind", HEADS)
def test_missing_cells_have_no_loss_and_no_gradient(kind: type[FieldHead]) -> None:
    truth, features = rain(2, 1, 5, 5), torch.randn(2, 4, 5, 5, requires_grad=True)
    head = fitted(kind, truth)
    valid = torch.rand(2, 1, 5, 5, generator=torch.Generator().manual_seed(1)) < 0.6
    gaps = torch.where(valid, truth, torch.full_like(truth, math.nan))
    loss = head.loss(head(features), gaps)
    torch.testing.assert_close(loss, head.loss(head(features), truth, valid))
    loss.backward()
    assert torch.isfinite(features.grad).all()
    assert not features.grad.abs().sum(1, keepdim=True)[~valid].any()
    assert features.grad.abs().sum(1, keepdim=True)[valid].any()
    nothing = head.loss(head(features), torch.full_like(truth, math.nan)).detach()
    assert float(nothing) == 0


def test_values_below_zero_have_no_gradient_in_dry_cells_only() -> None:
    head = fitted(FieldHead, torch.tensor([0.0, 4.0]))
    values = torch.full((1, 1, 1, 2), -2.0, requires_grad=True)
    head.loss(values, torch.tensor([0.0, 4.0]).view(1, 1, 1, 2)).backward()
    assert float(values.grad[..., 0]) == 0
    assert float(values.grad[..., 1]) < 0  # towards larger values
    assert head.field(values).flatten().tolist() == [0, 0]


@_few
@given(seed=st.integers(0, 2**31))
def test_quantiles_never_cross(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    head = QuantileHead(4, RAIN)
    features = 100 * torch.randn(2, 4, 3, 3, generator=generator)
    assert (head.quantile_fields(head(features)).diff(dim=1) >= 0).all()


def test_invalid_quantiles_are_refused() -> None:
    for wrong in ((0.5, 0.2), (0.0, 0.5), (0.5, 0.5), (0.5, 1.0)):
        with pytest.raises(OptionError, match="ascending numbers between 0 and 1"):
            QuantileHead(4, RAIN, quantiles=wrong)


def test_the_likelihood_matches_scipy() -> None:
    truth = rain(3, 1, 4, 4)
    head = fitted(BernoulliGammaHead, truth)
    parameters = torch.randn(3, 3, 4, 4)
    p, shape, scale = (each.detach().double().numpy() for each in head.distribution(parameters))
    amount = truth.double().numpy()
    wet = amount >= 0.1
    # Amounts are in units of the head's scale; the log density of each wet cell changes by log(scale).
    density = scipy.stats.gamma.logpdf(amount[wet] - 0.1, shape[wet], scale=scale[wet])
    expected = -np.log1p(-p)
    expected[wet] = -np.log(p[wet]) - density - math.log(float(head.scale))
    assert float(head.loss(parameters, truth)) == pytest.approx(float(expected.mean()), rel=1e-5)


def test_drawn_fields_have_the_mean_and_the_dry_cells_of_the_distribution() -> None:
    head = fitted(BernoulliGammaHead, rain(8, 1, 6, 6))
    head.limit.fill_(math.inf)
    parameters = torch.zeros(1, 3, 8, 8)
    drawn = head.sample(parameters, num_members=2000)
    assert drawn.shape == (2000, 1, 1, 8, 8)
    p, shape, scale = head.distribution(parameters)
    assert float((drawn > 0).float().mean()) == pytest.approx(float(p.mean()), abs=0.01)
    wet = drawn[drawn > 0] - head.wet_threshold
    assert (
        scipy.stats.kstest(
            wet[:20000].numpy(),
            scipy.stats.gamma(float(shape[0, 0, 0, 0]), scale=float(scale[0, 0, 0, 0])).cdf,
        ).pvalue
        > 1e-3
    )
    assert float(drawn.mean()) == pytest.approx(float(head.field(parameters).mean()), rel=0.02)
    assert torch.equal(drawn, head.sample(parameters, num_members=2000))
    assert not torch.equal(drawn, head.sample(parameters, num_members=2000, seed=1))


def descent(head: FieldHead, truth: Tensor, steps: int = 300) -> Tensor:
    """Fit the parameters of one cell by gradient descent."""
    features = torch.ones(len(truth), 4, 1, 1)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        head.loss(head(features), truth).backward()
        optimizer.step()
    return head(features).detach()


def test_each_head_learns_the_statistic_of_its_loss() -> None:
    """Fit the mean, the quantiles and the distribution of a sample."""
    torch.manual_seed(0)
    truth = rain(3000, 1, 1, 1)
    mean = fitted(FieldHead, truth)
    assert float(mean.field(descent(mean, truth))[0]) == pytest.approx(
        float(truth[truth > 0].sum() / 3000), rel=0.02
    )
    quantiles = fitted(QuantileHead, truth, quantiles=(0.6, 0.75, 0.9))
    found = quantiles.quantile_fields(descent(quantiles, truth, 600))[0].flatten()
    torch.testing.assert_close(
        found, truth.flatten().quantile(torch.tensor([0.6, 0.75, 0.9])), rtol=0.1, atol=0.1
    )
    gamma = fitted(BernoulliGammaHead, truth)
    p, shape, scale = gamma.distribution(descent(gamma, truth))
    assert float(p[0]) == pytest.approx(float((truth >= 0.1).float().mean()), abs=0.01)
    assert float(shape[0] * scale[0]) == pytest.approx(float(truth[truth >= 0.1].mean()) - 0.1, rel=0.05)


def test_a_network_learns_fine_rain_better_than_interpolation() -> None:
    """Train 300 steps on block means of a field with one bump of constant shape."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    centers = torch.rand(96, 2, 1, 1, generator=generator) * 12 + 2
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    fine = 20 * torch.exp(-((y - centers[:, :1]) ** 2 + (x - centers[:, 1:]) ** 2) / 4) - 1
    fine = fine.clamp_min(0)
    coarse = F.avg_pool2d(fine, 4)
    model, head = MAUNet(1, factor=4, widths=(8, 16), dropout=0.0), FieldHead(8, RAIN)
    head.fit_statistics(fine[:64])
    both = nn.ModuleList([model, head])
    optimizer = torch.optim.Adam(both.parameters(), lr=3e-3)
    for _ in range(300):
        at = torch.randperm(64, generator=generator)[:16]
        optimizer.zero_grad()
        head.loss(head(model(coarse[at] / 5)), fine[at]).backward()
        optimizer.step()
    both.eval()
    with torch.no_grad():
        error = (head.field(head(model(coarse[64:] / 5))) - fine[64:]).square().mean().sqrt()
    interpolated = F.interpolate(coarse[64:], scale_factor=4, mode="bilinear")
    assert float(error) < 0.6 * float((interpolated - fine[64:]).square().mean().sqrt())


# --- ensembles ----------------------------------------------------------------------------------


def test_members_of_a_dropout_ensemble_differ_and_are_reproducible() -> None:
    model = MAUNet(1, widths=(4, 6), dropout=0.3)
    model.train()
    x = torch.randn(2, 1, 8, 8)
    before = torch.random.get_rng_state()
    members = dropout_ensemble(model, lambda: model(x), num_members=5, seed=3)
    assert members.shape == (5, 2, 4, 8, 8)
    assert float(members.std(0).mean()) > 0
    assert torch.equal(members, dropout_ensemble(model, lambda: model(x), num_members=5, seed=3))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(module.training for module in model.modules())
    with pytest.raises(OptionError, match="no dropout"):
        dropout_ensemble(SRCNN(1), lambda: x, num_members=2)


def test_normalization_stays_in_evaluation_mode_in_an_ensemble() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout2d(0.5)).train()
    before = model[0].running_mean.clone()
    dropout_ensemble(model, lambda: model(torch.randn(4, 1, 3, 3) + 5), num_members=3)
    assert torch.equal(before, model[0].running_mean)


def test_distillation_weights_target_and_teacher() -> None:
    assert float(distillation_loss(torch.tensor(2.0), torch.tensor(4.0), share=0.25)) == 2.5
    with pytest.raises(OptionError, match="passes on its bias"):
        distillation_loss(torch.tensor(2.0), torch.tensor(4.0), share=1.0)


def test_the_mean_over_no_cells_is_zero() -> None:
    assert float(masked_mean(torch.tensor([math.nan, 2.0]), torch.tensor([False, True]))) == 2
    assert float(masked_mean(torch.tensor([math.nan]), torch.tensor([False]))) == 0
