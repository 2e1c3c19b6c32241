"""Models of hail: notes on published scores, ablation of sources, commands and attributions."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch

import geovision
from geovision import registry
from geovision.attribution.ablation import source_ablation
from geovision.attribution.target import baseline_input
from geovision.cli import main
from geovision.errors import InputError, OptionError, UnknownModelError
from geovision.tasks.hail import CAVEATS, DEM, ERA5, FY4B, LEVELS, NO_ECHO, PUBLISHED_SCORES, RADAR

TINY = {"width": 4, "kernel": 3, "unet_width": 4}


def batch(count: int = 1, *, times: int = 3, side: int = 16) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = {}
    for spec in (RADAR, FY4B, ERA5, DEM):
        shape = (count, *([times] if "time" in spec.layout.split() else []), len(spec.channels), side, side)
        mean, std, low, high = (
            torch.tensor(numbers).view(-1, 1, 1)
            for numbers in zip(*((c.mean, c.std, *c.valid_range) for c in spec.channels), strict=True)
        )
        inputs[spec.name] = (mean + std * torch.randn(shape, generator=generator)).clamp(low, high)
    return inputs


def test_half_of_the_published_rows_are_impossible_and_marked():
    rows = list(zip(PUBLISHED_SCORES[::2], PUBLISHED_SCORES[1::2], strict=True))
    assert len(rows) == 16
    assert [iou.metric for iou, _ in rows] == ["csi"] * 16
    assert [f1.metric for _, f1 in rows] == ["f1"] * 16
    impossible = [f1.value < iou.value for iou, f1 in rows]
    assert sum(impossible) == 8
    assert ["impossible for one mask" in f1.note for _, f1 in rows] == impossible
    # Even where F1 is not below IoU, it differs from the value implied by IoU.
    assert all(abs(f1.value - 2 * iou.value / (1 + iou.value)) > 0.005 for iou, f1 in rows)


def test_cards_contain_the_caveats(tmp_path):
    folder = geovision.create("hail-hinet", model_args=TINY).save(tmp_path / "model")
    card = (folder / "README.md").read_text("utf-8")
    assert all(caution in card for caution in CAVEATS)
    assert card.count("impossible for one mask") == 2 * 5  # two impossible scores per row of HINet


def test_the_inputs_are_those_of_the_paper_and_no_echo_has_a_value():
    assert [len(spec.channels) for spec in (RADAR, FY4B, ERA5, DEM)] == [21, 5, 5, 5]
    assert len(LEVELS) == 21
    assert list(LEVELS) == sorted(LEVELS)
    assert {channel.valid_range[0] for channel in RADAR.channels} == {NO_ECHO}
    assert len({(channel.mean, channel.std) for channel in RADAR.channels}) == 1
    assert [spec.optional for spec in (RADAR, FY4B, ERA5, DEM)] == [False, True, True, True]


def test_baseline_inputs_are_an_absence_not_an_extreme():
    put = {}
    inputs = batch()
    for spec in (RADAR, FY4B, ERA5, DEM):
        first = baseline_input(spec, inputs[spec.name]).movedim(1 + spec.channel_axis, 0).flatten(1)[:, 0]
        put |= {channel.name: float(value) for channel, value in zip(spec.channels, first, strict=True)}
    means = {channel.name: channel.mean for spec in (FY4B, ERA5, DEM) for channel in spec.channels}
    assert {put[f"reflectivity_{level}m"] for level in LEVELS} == {NO_ECHO}
    # For heights of temperatures and for directions, 0 does not mean absence.
    for name in ("freezing_level", "minus20_level", "aspect", "flow_direction", "dewpoint_2m"):
        assert put[name] == means[name] != 0
    assert [put[name] for name in ("cape", "shear_0_6km", "slope", "elevation")] == [0.0] * 4


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [("radar", 1e5, "looks like Z"), ("fy4b", -40.0, "degrees Celsius"), ("era5", 20.0, "degrees Celsius")],
)
def test_a_wrong_unit_is_reported(name, value, hint):
    model = geovision.create("hail-hinet", model_args=TINY)
    inputs = batch()
    inputs[name][:, :, -1] = value
    with pytest.raises(InputError, match=hint):
        model.validate_inputs(inputs)


def test_any_network_of_smp_is_a_model_and_a_typing_error_suggests_the_nearest():
    spec = registry.find_model("hail-fpn-efficientnet-b0")
    assert dict(spec.model_args) == {"network": "fpn", "encoder": "efficientnet-b0"}
    assert (
        registry.find_model("hail-unetplusplus-tu-convnext_tiny").model_args["encoder"] == "tu-convnext_tiny"
    )
    assert "hail-linknet-mit_b0" in registry.list_models(task="hail", backbones=True)
    assert "cloud-unet-resnet18" not in registry.list_models(backbones=True)
    for wrong, meant in (("hail-unet-resnt18", "hail-unet-resnet18"), ("hail-hinnet", "hail-hinet")):
        with pytest.raises(UnknownModelError, match=f"'{meant}'"):
            registry.find_model(wrong)
    with pytest.raises(UnknownModelError):
        registry.find_model("hail-unet-tu-nonsense")


def test_options_choose_the_ablation_and_are_saved_with_the_model(tmp_path):
    arch = TINY | {"modules": "tmc-mdffm", "sources": ["radar", "dem"], "attention": "opa", "retention": 0.9}
    model = geovision.create("hail-hinet", model_args=arch)
    again = geovision.load(model.save(tmp_path / "model"))
    inputs = batch()
    with torch.no_grad():
        torch.testing.assert_close(again(inputs).values, model(inputs).values)
    assert again.network.fused_channels == model.network.fused_channels
    with pytest.raises(OptionError, match="no option 'depth'; known: modules, sources"):
        geovision.create("hail-hinet", model_args={"depth": 3})


def test_source_ablation_equals_a_sample_without_the_source():
    torch.manual_seed(0)
    arch = TINY | {"modules": "tmc-mdffm", "sources": ["radar", "fy4b", "dem"]}
    model = geovision.create("hail-hinet", model_args=arch)
    inputs = batch(2)
    lost = source_ablation(model, inputs)
    assert list(lost) == ["radar", "fy4b", "era5", "dem"]
    assert lost["era5"] == 0  # the network does not use it
    with torch.no_grad():
        whole = model(inputs).values.mean()
        without = model({name: each for name, each in inputs.items() if name != "fy4b"}).values.mean()
    assert lost["fy4b"] == pytest.approx(float(whole - without), abs=1e-6)
    assert lost["fy4b"] != 0

    peak = source_ablation(model, inputs, score=lambda output: output.values.max())
    assert peak != lost
    with pytest.raises(OptionError, match="has only one input here; source ablation needs two"):
        source_ablation(model, {"radar": inputs["radar"]})


def test_one_file_contains_all_inputs_of_a_sample(tmp_path):
    from geovision.datasets.hail_samples import HailSamples

    torch.manual_seed(0)
    model = geovision.create("hail-hinet", model_args=TINY | {"modules": "tmc-mdffm"})
    root = HailSamples.synthetic(tmp_path, 4, size=(16, 16), windows=3)
    data = HailSamples(root)
    predictions = model.predict(root)
    assert [prediction.source for prediction in predictions] == [str(path) for path in data.paths]
    with torch.no_grad():
        for index, prediction in enumerate(predictions):
            sample = data[index]
            inputs = {name: each[None] for name, each in sample["inputs"].items()}
            valid = {name: sample["valid"][name][None] for name in inputs}
            expected = torch.sigmoid(model(inputs, valid=valid).values)[0, 0]
            torch.testing.assert_close(
                torch.as_tensor(prediction.probability), expected, atol=1e-5, rtol=1e-5
            )


def test_the_command_reports_mask_cells_and_continues_after_a_wrong_size(tmp_path, capsys):
    from geovision.datasets.hail_samples import HailSamples

    folder = geovision.create("hail-hinet", model_args=TINY).save(tmp_path / "model")
    good = HailSamples.synthetic(tmp_path / "good", 1, size=(16, 16), windows=3)
    odd = HailSamples.synthetic(tmp_path / "odd", 1, size=(20, 16), windows=3)
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(folder), str(odd), str(good), "--format", "csv"])
    assert ended.value.code == 1
    printed = capsys.readouterr()
    [row] = csv.DictReader(printed.out.splitlines())
    prediction = geovision.load(folder).predict(good)[0]
    assert (row["name"], int(row["cells"]), int(row["valid_cells"])) == (
        "hail",
        int(prediction.mask.sum()),
        256,
    )
    assert float(row["highest"]) == pytest.approx(float(prediction.probability.max()), abs=1e-4)
    [odd_file] = odd.glob("*.nc")
    assert f"{odd_file}: HINet needs a height and width divisible by 8, not 20 x 16" in printed.err


def test_incomplete_contributions_are_reported(tmp_path, capsys):
    from geovision.datasets.hail_samples import HailSamples

    torch.manual_seed(0)
    folder = geovision.create("hail-hinet", model_args=TINY).save(tmp_path / "model")
    root = HailSamples.synthetic(tmp_path / "samples", 1, size=(16, 16), windows=3)
    arguments = ["explain", str(folder), str(root), "--out", str(tmp_path / "why"), "--format", "csv"]
    with pytest.raises(SystemExit):
        main([*arguments, "--method", "integrated-gradients", "--steps", "1"])
    printed = capsys.readouterr()
    [row] = csv.DictReader(printed.out.splitlines())
    assert float(row["completeness_error"]) > 0.05
    assert "from the explained difference after 1 steps" in printed.err
    with pytest.raises(SystemExit):
        main([*arguments, "--method", "deeplift"])
    printed = capsys.readouterr()
    [row] = csv.DictReader(printed.out.splitlines())
    assert float(row["completeness_error"]) < 0.05
    assert "miss" not in printed.err


def test_the_command_computes_every_metric_and_its_counts(tmp_path, capsys):
    from geovision.datasets.hail_samples import HailSamples
    from geovision.evaluation import predict_batches

    torch.manual_seed(0)
    model = geovision.create("hail-hinet", model_args=TINY)
    root = HailSamples.synthetic(tmp_path / "samples", 6, size=(16, 16), windows=2)
    folder = model.save(tmp_path / "model")
    options = ["--dataset", "hail-samples", "--data", str(root), "--n-bootstrap", "20", "--format", "json"]
    with pytest.raises(SystemExit) as left:
        main(["evaluate", str(folder), *options, "--out", str(tmp_path / "report")])
    assert left.value.code == 0
    report = json.loads(capsys.readouterr().out)
    assert list(report["metrics"]) == list(registry.find_task("hail").metrics)
    assert any("those with per_sample=True are means over the samples" in note for note in report["notes"])
    predicted, truth = (
        torch.cat(each).double().numpy()
        for each in zip(
            *((b.prediction, b.truth) for b in predict_batches(model, HailSamples(root))), strict=True
        )
    )
    is_valid = np.isfinite(predicted) & np.isfinite(truth)
    yes, seen = predicted[is_valid] >= 0.5, truth[is_valid] >= 0.5
    counts = [int(each.sum()) for each in (yes & seen, yes & ~seen, ~yes & seen, ~yes & ~seen)]
    assert [*report["contingency"].values()] == counts
    assert report["metrics"]["pofd"]["value"] == pytest.approx(counts[1] / (counts[1] + counts[3]))
    tenths = (predicted[is_valid] * 10).astype(int)
    for row in report["reliability"]:
        own = tenths == round(float(row["probability"][:3]) * 10)
        assert row["cells"] == own.sum() > 0
        assert row["said"] == pytest.approx(predicted[is_valid][own].mean(), rel=1e-6)
        assert row["happened"] == pytest.approx(seen[own].mean(), rel=1e-6)
    assert sum(row["cells"] for row in report["reliability"]) == is_valid.sum()
    page = (tmp_path / "report" / "report.md").read_text("utf-8")
    assert f"| hits | {counts[0]:,} |" in page
    assert "| probability | forecast | observed | cells |" in page
    with (tmp_path / "report" / "metrics.csv").open() as stream:
        rows = {(row["metric"], row["class"]): row["value"] for row in csv.DictReader(stream)}
    assert float(rows["cells", "false_alarms"]) == counts[1]


def test_deeplift_from_the_fused_maps_is_complete():
    pytest.importorskip("captum")
    torch.manual_seed(0)
    model = geovision.create("hail-hinet", model_args=TINY | {"source_dropout": 0.0}).train()
    with torch.no_grad():
        for _ in range(20):  # running statistics of batch normalization, as after training
            model(batch(4))
    model.eval()
    sample = {name: each[0] for name, each in batch().items()}
    found = geovision.explain(model, sample, method="deeplift")  # the layer with named channels
    assert found.config.layer == "mdffm"
    (joint,) = found.contributions.values()
    assert list(joint) == [" ".join(pair) for pair in model.network.fused_channels]
    assert found.completeness.relative_error < 1e-2
    assert sum(joint.values()) == pytest.approx(found.completeness.difference, rel=1e-2)
    with torch.no_grad():
        whole = model(batch()).values.mean()
        for name in ("radar", "fy4b", "era5", "dem"):
            without = model({key: each for key, each in batch().items() if key != name}).values.mean()
            assert found.ablation[name] == pytest.approx(float(whole - without), abs=1e-6)
    assert found.as_dict()["ablation"] == found.ablation
    bars = {axes.get_title(): axes for figure in found.plot().subfigs for axes in figure.axes}
    lengths = [bar.get_width() for bar in bars["contribution to the logit"].patches]
    assert lengths == pytest.approx(list(joint.values()))
    assert [
        each.get_text() for each in bars["drop of the score without each source"].get_yticklabels()
    ] == list(found.ablation)
