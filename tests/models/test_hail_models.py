"""HINet and its baselines: equations as loops in float64, limits, sizes and missing sources."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from geovision.errors import InputError, OptionError
from geovision.models.hinet import HINet
from geovision.models.nbeats import NBeats
from geovision.models.sequence_baselines import RecurrentBaseline, SequenceBaseline
from geovision.models.simvp import SimVP
from geovision.models.smp_network import SmpNetwork
from geovision.models.st_lstm import (
    CausalLSTMCell,
    ConvLSTMCell,
    GradientHighway,
    RecurrentCell,
    RecurrentStack,
    STLSTMCell,
)
from geovision.models.tmc import SelfAttention, TMCSTLSTMCell, TwoMemoryCells
from geovision.models.ucunet import UCM, UCUNet
from geovision.registry import smp_names
from geovision.spec import Channel, InputSpec

Array = NDArray[np.float64]


def source(name: str, count: int, unit: str, *, layout: str = "time channel y x") -> InputSpec:
    channels = tuple(Channel(f"{name}_{k}", unit, (-1e6, 1e6)) for k in range(count))
    return InputSpec(name, channels, layout=layout, optional=name != "radar")


SPECS = (
    source("radar", 3, "dBZ"),
    source("fy4b", 2, "K"),
    source("era5", 2, "m"),
    source("dem", 2, "m", layout="channel y x"),
)
SMALL = {"width": 4, "kernel": 3, "unet_width": 4}


def sample(*, times: int = 3, size: tuple[int, int] = (16, 16), batch: int = 2, seed: int = 0) -> dict:
    generator = torch.Generator().manual_seed(seed)
    return {
        spec.name: torch.randn(
            (batch, *([times] if "time" in spec.layout else []), len(spec.channels), *size),
            generator=generator,
        )
        for spec in SPECS
    }


# --- equations of the recurrence ----------------------------------------------------------------


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def convolved(layer: nn.Conv2d, x: Array, part: slice = slice(None)) -> Array:
    """Return a convolution with some of its filters that keeps the size, as four loops."""
    weight = layer.weight.detach().double().numpy()[part]
    bias = np.zeros(len(weight)) if layer.bias is None else layer.bias.detach().double().numpy()[part]
    half = weight.shape[-1] // 2
    padded = np.pad(x, ((0, 0), (half, half), (half, half)))
    result = np.empty((len(weight), *x.shape[1:]))
    for y, column in itertools.product(range(x.shape[1]), range(x.shape[2])):
        window = padded[:, y : y + 2 * half + 1, column : column + 2 * half + 1]
        result[:, y, column] = (weight * window).sum((1, 2, 3)) + bias
    return result


def gate(layer: nn.Conv2d, number: int, x: Array) -> Array:
    """Return the part of a joint convolution that belongs to one gate.

    The number of filters is that of the narrowest gate.
    """
    width = WIDTH
    return convolved(layer, x, slice(number * width, (number + 1) * width))


WIDTH = 3


def st_lstm(cell: STLSTMCell, x: Array, h: Array, c: Array, m: Array) -> tuple[Array, Array, Array]:
    """Return the seven equations of `geovision.models.st_lstm` in order."""
    forget = cell.forget
    g = np.tanh(gate(cell.x_gates, 0, x) + gate(cell.h_gates, 0, h))
    i = sigmoid(gate(cell.x_gates, 1, x) + gate(cell.h_gates, 1, h))
    f = sigmoid(gate(forget.x_gates, 0, x) + gate(forget.h_gate, 0, h) + 1)
    c = f * c + i * g
    g_ = np.tanh(gate(cell.x_gates, 2, x) + gate(cell.m_gates, 0, m))
    i_ = sigmoid(gate(cell.x_gates, 3, x) + gate(cell.m_gates, 1, m))
    f_ = sigmoid(gate(forget.x_gates, 1, x) + gate(forget.m_gate, 0, m) + 1)
    m = f_ * m + i_ * g_
    both = np.concatenate([c, m])
    o = sigmoid(gate(cell.x_gates, 4, x) + gate(cell.h_gates, 2, h) + gate(cell.o_gate, 0, both))
    return o * np.tanh(gate(cell.mix, 0, both)), c, m


def causal_lstm(cell: CausalLSTMCell, x: Array, h: Array, c: Array, m: Array) -> tuple[Array, Array, Array]:
    def of_c(number: int) -> Array:
        return gate(cell.x_gates, number, x) + gate(cell.h_gates, number, h) + gate(cell.c_gates, number, c)

    g, i, f = np.tanh(of_c(0)), sigmoid(of_c(1)), sigmoid(of_c(2) + 1)
    c = f * c + i * g

    def of_m(number: int) -> Array:
        return (
            gate(cell.x_gates, 3 + number, x)
            + gate(cell.new_c_gates, number, c)
            + gate(cell.m_gates, number, m)
        )

    g_, i_, f_ = np.tanh(of_m(0)), sigmoid(of_m(1)), sigmoid(of_m(2) + 1)
    m = f_ * np.tanh(gate(cell.keep, 0, m)) + i_ * g_
    o = np.tanh(gate(cell.x_gates, 6, x) + gate(cell.new_c_gates, 3, c) + gate(cell.new_m_gate, 0, m))
    return o * np.tanh(gate(cell.mix, 0, np.concatenate([c, m]))), c, m


def highway(unit: GradientHighway, x: Array, z: Array) -> Array:
    p = np.tanh(gate(unit.x_gates, 0, x) + gate(unit.z_gates, 0, z))
    s = sigmoid(gate(unit.x_gates, 1, x) + gate(unit.z_gates, 1, z))
    return s * p + (1 - s) * z


@pytest.mark.parametrize("kind", [STLSTMCell, CausalLSTMCell])
def test_two_layers_over_three_times_match_the_equations_in_a_loop(kind: type[RecurrentCell]):
    torch.manual_seed(0)
    unit = GradientHighway(WIDTH, 3) if kind is CausalLSTMCell else None
    stack = RecurrentStack([kind(2, WIDTH, 3), kind(WIDTH, WIDTH, 3)], highway=unit).double()
    sequence = torch.randn(1, 3, 2, 5, 4, dtype=torch.float64)

    step = causal_lstm if kind is CausalLSTMCell else st_lstm
    zeros = np.zeros((WIDTH, 5, 4))
    states = [(zeros, zeros), (zeros, zeros)]
    m = z = zeros
    for x in sequence[0].numpy():
        for layer, cell in enumerate(stack.cells):
            h, c, m = step(cell, x, *states[layer], m)
            states[layer] = (h, c)
            x = h
            if layer == 0 and unit is not None:
                x = z = highway(unit, x, z)
    found = stack(sequence)[0].detach().numpy()
    np.testing.assert_allclose(found, states[1][0], atol=1e-12)


def test_a_convlstm_with_kernels_of_one_cell_is_the_lstm_of_torch():
    torch.manual_seed(1)
    cell = ConvLSTMCell(2, 3, 1)
    reference = nn.LSTM(2, 3, batch_first=True)
    order = [2, 0, 1, 3]  # torch orders the gates i f g o, the cell g i f o
    with torch.no_grad():
        for own, theirs in ((cell.x_gates, reference.weight_ih_l0), (cell.h_gates, reference.weight_hh_l0)):
            own.weight.copy_(theirs.view(4, 3, -1)[order].reshape(12, -1, 1, 1))
        bias = (reference.bias_ih_l0 + reference.bias_hh_l0).view(4, 3)[order]
        bias[2] -= 1  # added by the cell
        cell.x_gates.bias.copy_(bias.flatten())
    sequence = torch.randn(2, 6, 2)
    expected = reference(sequence)[0][:, -1]
    found = RecurrentStack([cell])(sequence[..., None, None])[..., 0, 0]
    torch.testing.assert_close(found, expected)


# --- two memories -------------------------------------------------------------------------------


def test_with_zero_memory_weights_the_cell_is_an_st_lstm_with_constant_forget_gates():
    torch.manual_seed(2)
    tmc, plain = TMCSTLSTMCell(2, WIDTH, 3), STLSTMCell(2, WIDTH, 3)
    nn.init.zeros_(tmc.forget.wi.weight)
    nn.init.zeros_(tmc.forget.wr.weight)
    for each in plain.forget.parameters():
        nn.init.zeros_(each)
    shared = {k: v for k, v in tmc.state_dict().items() if not k.startswith("forget.")}
    plain.load_state_dict(shared, strict=False)
    sequence = torch.randn(2, 4, 2, 6, 6)
    torch.testing.assert_close(RecurrentStack([tmc])(sequence), RecurrentStack([plain])(sequence))

    # Check the recurrence C_t = s(1) C_{t-1} + i g.
    x, (h, c), m = sequence[:, 0], plain.initial_state(sequence[:, 0]), torch.randn(2, WIDTH, 6, 6)
    c = torch.randn_like(c)
    (_, after), _ = plain(x, (h, c), m)
    (_, fresh), _ = plain(x, (h, torch.zeros_like(c)), m)
    torch.testing.assert_close(after - fresh, c / (1 + np.exp(-1.0)))


def test_two_memories_match_the_equations_per_sample():
    torch.manual_seed(3)
    d, heads = 4, 2
    memory = TwoMemoryCells(3, d, heads=heads, retention=0.9).double()
    z = torch.randn(1, 3, 5, 2, dtype=torch.float64)
    mi, mr = torch.randn(1, d, d, dtype=torch.float64), torch.randn(1, heads, d, d, dtype=torch.float64)
    found_mi, found_mr = memory(z, mi, mr)

    own = {k: v.detach().numpy() for k, v in memory.state_dict().items()}
    maps = z[0].numpy().reshape(3, -1)
    uv = np.tanh(own["u_and_v.weight"][:, :, 0, 0] @ maps + own["u_and_v.bias"][:, None])
    u, v = uv[:d], uv[d:]
    f1, f2 = u.mean(1), v.mean(1)
    f3 = own["f3.weight"] @ maps.mean(1) + own["f3.bias"]
    x = u @ v.T / maps.shape[1]
    gates = own["gates_of_input.weight"] @ f1 + own["gates_of_input.bias"]
    old = mi[0].numpy()
    gates = gates + np.tanh(old) @ own["gates_of_memory.weight"].T
    item = sigmoid(gates[:, :d] + 1) * old + sigmoid(gates[:, d:]) * x
    weights = np.exp(f3) / np.exp(f3).sum()
    read = sum(w * each @ f2 for w, each in zip(weights, mr[0].numpy(), strict=True))
    query = torch.from_numpy(item + own["a2"] * np.outer(read, f2))[None]
    relational = 0.9 * mr[0].numpy() + own["a1"] * memory.attention(query)[0].detach().numpy()
    flat = relational.reshape(heads * d, d)
    transferred = own["transfer.weight"] @ flat + own["transfer.bias"][:, None]
    np.testing.assert_allclose(found_mr[0].detach().numpy(), relational, atol=1e-12)
    np.testing.assert_allclose(
        found_mi[0].detach().numpy(), item + own["a3"] * np.tanh(transferred), atol=1e-12
    )


@pytest.mark.parametrize("kind", ["sdp", "opa"])
def test_both_attentions_match_their_formulas(kind):
    torch.manual_seed(4)
    d, heads = 4, 2
    attention = SelfAttention(d, heads, kind).double()
    matrix = torch.randn(1, d, d, dtype=torch.float64)
    found = attention(matrix)[0].detach().numpy()
    rows = nn.functional.layer_norm(matrix, (d,))[0]
    kv = attention.keys_and_values(rows).detach().numpy()
    for head in range(heads):
        if kind == "sdp":
            own = slice(head * d, (head + 1) * d)
            q = attention.queries(rows).detach().numpy()[:, own]
            k, v = kv[:, own], kv[:, heads * d :][:, own]
            scores = np.exp(q @ k.T / np.sqrt(d))
            expected = scores / scores.sum(1, keepdims=True) @ v
        else:
            q = attention.queries(rows.T).detach().numpy()[:, head]
            k, v = kv[:, :d], kv[:, d:]
            expected = sum(np.outer(np.tanh(q * k[i]), v[i]) for i in range(d)) / d
        np.testing.assert_allclose(found[head], expected, atol=1e-12)


@pytest.mark.parametrize("attention", ["sdp", "opa"])
def test_states_stay_bounded_over_a_hundred_times(attention):
    torch.manual_seed(5)
    stack = RecurrentStack([TMCSTLSTMCell(2, 4, 3, attention=attention) for _ in range(1)])
    states, m, z = stack.initial_state(torch.zeros(1, 2, 8, 8))
    largest = []
    with torch.no_grad():
        for _ in range(100):
            states, m, z = stack.step(10 * torch.randn(1, 2, 8, 8), states, m, z)
            largest.append([float(each.abs().max()) for each in (*states[0], m)])
    h, c, mi, mr, up = np.array(largest).max(0)
    assert h <= 1
    # With f < 1 and |i g| <= 1, a state grows by at most one per time; Mr grows linearly as well.
    assert max(c, mi, up) < 50
    assert mr < 0.1 * 100 * 10
    assert np.isfinite(largest).all()


# --- UCUNet -------------------------------------------------------------------------------------


def test_ucunet_has_the_published_shapes_and_number_of_parameters():
    network = UCUNet(16)
    whole = nn.Sequential(network, nn.Conv2d(network.num_features, 1, 1))
    assert sum(each.numel() for each in whole.parameters()) == 2_841_633
    assert sum(each.numel() for each in network.connect.parameters()) == 693_984
    seen = {}
    for ucm in network.connect:
        ucm.bottom.register_forward_hook(
            lambda layer, _given, result: seen.update({layer: result.shape[-2:]})
        )
    with torch.no_grad():
        assert whole.eval()(torch.zeros(1, 16, 128, 128)).shape == (1, 1, 128, 128)
    assert list(seen.values()) == [(16, 16)] * 3
    assert [len(ucm.down) + 1 + len(ucm.up) for ucm in network.connect] == [7, 5, 3]


def test_both_ucm_variants_have_the_same_number_of_parameters_and_keep_the_size():
    strided, valid = UCUNet(4, 8), UCUNet(4, 8, ucm_variant="valid")
    count = [sum(each.numel() for each in network.parameters()) for network in (strided, valid)]
    assert count[0] == count[1]
    x = torch.randn(2, 4, 32, 40)
    assert strided(x).shape == valid(x).shape == (2, 8, 32, 40)
    assert UCM(3, 3, "valid")(torch.randn(2, 3, 9, 11)).shape == (2, 3, 9, 11)
    with pytest.raises(OptionError, match="choose strided or valid"):
        UCM(3, 3, "same")  # type: ignore[arg-type]


# --- HINet --------------------------------------------------------------------------------------


@pytest.mark.parametrize("modules", ["stlstm", "tmc", "tmc-mdffm", "all"])
@pytest.mark.parametrize("times", [1, 4])
def test_every_ablation_accepts_any_number_of_times_and_any_size(modules, times):
    network = HINet(SPECS, modules=modules, **SMALL).eval()
    features = network(sample(times=times, size=(16, 24)))
    assert features.shape == (2, network.num_features, 16, 24)
    assert network.num_features == (4 if modules == "all" else 7)


def test_the_fused_maps_are_named_in_the_order_of_the_sources():
    network = HINet(SPECS, **SMALL)
    assert network.fused_channels[0] == ("radar", "maximum_reflectivity")
    assert [name for name, _ in network.fused_channels] == ["radar"] + ["fy4b"] * 2 + ["era5"] * 2 + [
        "dem"
    ] * 2
    assert HINet(SPECS, sources=("radar", "dem"), **SMALL).fused_channels[1:] == (
        ("dem", "dem_0"),
        ("dem", "dem_1"),
    )


def test_a_fused_map_is_the_last_valid_value_plus_a_correction():
    network = HINet(SPECS, modules="tmc-mdffm", **SMALL).eval()
    for branch in network.branches.values():
        nn.init.zeros_(branch.project.weight)
        nn.init.zeros_(branch.project.bias)
    inputs = sample()
    valid = {"fy4b": torch.ones_like(inputs["fy4b"], dtype=torch.bool)}
    valid["fy4b"][:, 2] = False
    inputs["fy4b"] = torch.where(valid["fy4b"], inputs["fy4b"], 0.0)
    maps = network.fuse(inputs, valid=valid)
    torch.testing.assert_close(maps[:, 0], inputs["radar"][:, -1].amax(1))
    torch.testing.assert_close(maps[:, 1:3], inputs["fy4b"][:, 1])
    torch.testing.assert_close(maps[:, 3:5], inputs["era5"][:, -1])
    torch.testing.assert_close(maps[:, 5:], inputs["dem"])


def test_a_missing_source_differs_from_an_average_one():
    torch.manual_seed(6)
    network = HINet(SPECS, modules="tmc-mdffm", **SMALL).eval()
    nn.init.constant_(network.mdffm.missing[1], 7.0)
    inputs = sample()
    none_valid = {"fy4b": torch.zeros_like(inputs["fy4b"], dtype=torch.bool)}
    average = network.fuse(inputs | {"fy4b": torch.zeros_like(inputs["fy4b"])})
    masked = network.fuse(inputs | {"fy4b": torch.zeros_like(inputs["fy4b"])}, valid=none_valid)
    absent = network.fuse({name: each for name, each in inputs.items() if name != "fy4b"})
    torch.testing.assert_close(masked, absent)
    assert (masked[:, 1:3] == 7).all()
    assert not torch.allclose(masked[:, 1:3], average[:, 1:3])
    # Valid values of the other sources are unchanged.
    torch.testing.assert_close(masked[:, 3:], average[:, 3:])


def test_cells_without_any_observation_are_invalid():
    network, inputs = HINet(SPECS, **SMALL), sample()
    valid = {name: torch.zeros_like(inputs[name], dtype=torch.bool) for name in ("radar", "fy4b", "era5")}
    valid["fy4b"][0, 1, 0, :, :4] = True
    valid["radar"][:, 2, 1, 5] = True
    valid_cells = network.valid_mask(inputs, valid, (2, 1, 16, 16))
    expected = torch.zeros(2, 1, 16, 16, dtype=torch.bool)
    expected[0, :, :, :4] = True
    expected[:, :, 5] = True
    assert torch.equal(valid_cells, expected)
    assert network.valid_mask(inputs, None, (2, 1, 16, 16)) is None
    assert network.valid_mask(inputs, {"radar": valid["radar"]}, (2, 1, 16, 16)) is None
    assert not network.valid_mask({"dem": inputs["dem"]}, None, (2, 1, 16, 16)).any()


def test_source_dropout_removes_sources_in_training_but_never_all():
    torch.manual_seed(7)
    network = HINet(SPECS, source_dropout=0.9, **SMALL).train()
    inputs = sample(batch=64, times=1, size=(8, 8))
    kept = torch.stack([each.any_valid.flatten(1).any(1) for each in network.sources(inputs)])
    assert kept.any(0).all()
    assert 1 / 4 <= kept.double().mean() < 0.5
    for each in network.sources(inputs):
        assert (each.values[~each.valid] == 0).all()
    assert torch.stack([s.valid.all() for s in network.eval().sources(inputs)]).all()


def test_checkpointing_gives_the_same_output_and_the_same_gradients():
    results = []
    for checkpointing in (False, True):
        torch.manual_seed(8)
        network = HINet(SPECS, checkpointing=checkpointing, **SMALL).train()
        result = network(sample())
        result.square().mean().backward()
        results.append([result, *(each.grad for each in network.parameters())])
    for plain, again in zip(*results, strict=True):
        torch.testing.assert_close(again, plain)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modules": "unet"}, "choose one of stlstm, tmc, tmc-mdffm, all"),
        ({"attention": "dot"}, "choose sdp or opa"),
        ({"ucm": "same"}, "choose strided or valid"),
        ({"retention": 1.5}, "above 0 and at most 1"),
        ({"sources": ("radar", "lidar")}, "one or more of radar, fy4b, era5, dem"),
        ({"source_dropout": 1.0}, "below 1"),
    ],
)
def test_an_unknown_option_is_reported_with_the_valid_ones(options, message):
    with pytest.raises(OptionError, match=message):
        HINet(SPECS, **options)


def test_sources_of_different_shapes_are_refused():
    network = HINet(SPECS, **SMALL)
    inputs = sample()
    with pytest.raises(InputError, match=r"divisible by 8, not 12 x 16; pad to \(16, 16\)"):
        network(sample(size=(12, 16)))
    with pytest.raises(InputError, match="'dem' has 8 x 8 cells, 'radar' has 16 x 16; regrid"):
        network(inputs | {"dem": torch.zeros(2, 2, 8, 8)})
    with pytest.raises(InputError, match="'era5' has 2 times, 'radar' has 3; fill gaps"):
        network(inputs | {"era5": inputs["era5"][:, 1:]})
    with pytest.raises(InputError, match="none of the sources"):
        network({})


# --- baselines ----------------------------------------------------------------------------------


def baselines() -> list[nn.Module]:
    torch.manual_seed(9)
    small = {"width": 8, "hidden": 16, "blocks": 2, "groups": 2}
    return [
        *(
            RecurrentBaseline(SPECS, cell=cell, width=4, layers=2, kernel=3)
            for cell in ("convlstm", "st-lstm", "causal-lstm")
        ),
        SequenceBaseline(SPECS, network="simvp", windows=3, options=small),
        SequenceBaseline(
            SPECS, network="nbeats", windows=3, options={"width": 8, "blocks": 2, "features": 4}
        ),
        SmpNetwork(SPECS, network="unet", encoder="mobileone_s0"),
        SmpNetwork(SPECS, network="fpn", encoder="resnet18", frames="stacked", windows=3),
    ]


def test_every_baseline_takes_all_sources_and_masks_missing_ones():
    inputs = sample(size=(32, 32))
    none_valid = {"era5": torch.zeros_like(inputs["era5"], dtype=torch.bool)}
    absent = {name: each for name, each in inputs.items() if name != "era5"}
    zeros = inputs | {"era5": torch.zeros_like(inputs["era5"])}
    for network in baselines():
        network.eval()
        with torch.no_grad():
            features = network(inputs)
            assert features.shape == (2, network.num_features, 32, 32)
            torch.testing.assert_close(network(absent), network(zeros, valid=none_valid))
            assert not torch.allclose(network(absent), network(zeros))


def test_nbeats_uses_the_history_of_each_cell_alone():
    network = NBeats(2, 3, width=8, blocks=3, features=4)
    sequence = torch.randn(1, 3, 2, 4, 4)
    changed = sequence.clone()
    changed[..., 1, 2] += 1
    differs = (network(changed) - network(sequence)).abs().amax((0, 1)) > 0
    assert differs[1, 2]
    assert differs.sum() == 1

    # Doubly residual stacking, by hand.
    left, forecast = sequence.flatten(1, 2), 0
    for number in range(3):
        hidden = network.blocks[number](left)
        forecast = forecast + network.forecasts[number](hidden)
        if number < 2:
            left = left - network.backcasts[number](hidden)
    torch.testing.assert_close(network(sequence), forecast)


def test_simvp_depends_on_all_frames_and_the_detail_of_the_last():
    torch.manual_seed(10)
    network = SimVP(2, 3, width=4, hidden=8, blocks=2, groups=2).eval()
    sequence = torch.randn(1, 3, 2, 16, 16)
    base = network(sequence)
    for time in range(3):
        changed = sequence.clone()
        changed[:, time] += torch.randn(2, 16, 16)
        assert not torch.allclose(network(changed), base)


def test_a_history_of_another_length_is_padded_or_cut_at_its_beginning():
    torch.manual_seed(11)
    network = SequenceBaseline(SPECS, network="nbeats", windows=3, options={"width": 8, "blocks": 2}).eval()
    long = sample(times=5)
    late = {name: each[:, 2:] if name != "dem" else each for name, each in long.items()}
    torch.testing.assert_close(network(long), network(late))
    assert network(sample(times=2)).shape == (2, 32, 16, 16)


def test_a_size_that_smp_does_not_accept_is_reported_with_the_padded_size():
    network = SmpNetwork(SPECS, network="fpn", encoder="resnet18")
    with pytest.raises(InputError, match=r"smp's fpn on resnet18 .* by 32, not 40 x 32; pad to \(64, 32\)"):
        network(sample(size=(40, 32)))
    with pytest.raises(OptionError, match="smp's dpt on resnet18 cannot be built"):
        SmpNetwork(SPECS, network="dpt", encoder="resnet18")
    with pytest.raises(OptionError, match="choose last or stacked"):
        SmpNetwork(SPECS, network="unet", encoder="resnet18", frames="first")  # type: ignore[arg-type]


def test_a_transformer_of_smp_accepts_other_sizes_than_in_training():
    network = SmpNetwork(SPECS, network="dpt", encoder="tu-vit_tiny_patch16_224").eval()
    with torch.no_grad():
        assert network(sample(size=(32, 64))).shape[-2:] == (32, 64)
        with pytest.raises(InputError, match=r"by 32, not 40 x 32; pad to \(64, 32\)"):
            network(sample(size=(40, 32)))


def test_names_parsed_from_the_source_of_smp_are_those_that_it_registers():
    import segmentation_models_pytorch as smp
    from segmentation_models_pytorch.encoders import encoders

    names = smp_names()
    assert names.networks == set(smp.MODEL_ARCHITECTURES_MAPPING)
    assert names.encoders == {name for name in encoders if not name.startswith("timm-")}


def test_the_size_of_the_memories_does_not_depend_on_the_grid():
    stack = RecurrentStack([TMCSTLSTMCell(2, 4, 3)])
    _, _, *small = stack.initial_state(torch.zeros(1, 2, 8, 8))[0][0]
    _, _, *large = stack.initial_state(torch.zeros(1, 2, 64, 64))[0][0]
    assert [each.shape for each in small] == [each.shape for each in large] == [(1, 4, 4), (1, 4, 4, 4)]
