"""Exported models give the same output in ONNX Runtime as in torch, for every network."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from helpers import maps
from helpers.entries import ENTRIES, SIZE, inputs_of, name_of, tiny
from onnx import numpy_helper

import geovision
from geovision import registry
from geovision.cli import main
from geovision.errors import ExportError, InputError, OptionError
from geovision.export import METADATA_KEY, build_metadata, calibration_inputs, shrink
from geovision.export.onnx_file import build_onnx, run_onnx
from geovision.export.quantize import quantize
from geovision.export.tracing import MAP_OUTPUT, graph_input_names
from geovision.heads.classification import NormalizedHead
from geovision.models.example_inputs import random_inputs
from geovision.models.geomodel import GeoModel, ModelConfig, build_model
from geovision.spec import ClassTarget, ModelSpec

HINET = "geovision.models.hinet:build"
"""Its graph of three windows of three sources has thousands of operations, and takes minutes to export."""


def forms() -> Iterator[Any]:
    """Yield the exportable entries, each small form once, as many entries differ in size alone.

    One entry per builder is always exported; HINet has its own test with a small form.
    The others are marked slow.
    """
    seen, builders = set(), {(HINET, "")}
    for spec in ENTRIES:
        arch = {
            key: value
            for key, value in (spec.model_args | spec.tiny_args).items()
            if key not in ("imagenet", "factor")
        }
        key = (spec.builder, spec.head, repr(sorted(arch.items())))
        if "exportable" in spec.capabilities and key not in seen:
            seen.add(key)
            marks = [pytest.mark.slow] if key[:2] in builders else []
            builders.add(key[:2])
            yield pytest.param(spec, marks=marks, id=spec.name)


@functools.cache
def exported(name: str) -> tuple[GeoModel, onnx.ModelProto]:
    model = tiny(registry.find_model(name))
    with torch.no_grad():
        features = model.features(inputs_of(model, 8, seed=2))
    if hasattr(model.head, "outlier"):
        model.head.outlier.fit(features)
    return model, build_onnx(model, axes=axes_of(model))


def axes_of(model: GeoModel) -> dict[str, int]:
    """Return the lengths of the axes of the small form."""
    return {
        axis: length
        for name, values in inputs_of(model, 1).items()
        for given in model.inputs
        if given.name == name
        for axis, length in zip(given.layout.split(), values.shape[1:], strict=True)
    }


def feed(model: GeoModel, inputs: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Return a batch as input of the graph, with all values valid."""
    return {
        name: inputs[name].numpy() if name in inputs else np.ones(inputs[name[: -len("_valid")]].shape, bool)
        for name in graph_input_names(model)
    }


@pytest.mark.parametrize("spec", list(forms()))
@pytest.mark.parametrize("count", [1, 5])
def test_onnx_runtime_predicts_as_torch(spec: ModelSpec, count: int):
    model, written = exported(spec.name)
    inputs = inputs_of(model, count, seed=3)
    with torch.no_grad():
        values = model(inputs).values
        expected = model.head.export_outputs(values, model.features(inputs))
    found = run_onnx(written, feed(model, inputs))
    (first, *_) = expected
    np.testing.assert_allclose(found[first], values.numpy(), atol=1e-4, rtol=0)
    for name, each in expected.items():
        np.testing.assert_allclose(found[name], each.numpy(), atol=1e-4, rtol=1e-3)
    if isinstance(model.target, ClassTarget):
        np.testing.assert_allclose(found["probabilities"].sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("spec", ENTRIES, ids=name_of)
def test_models_that_cannot_be_exported_give_the_reason(spec: ModelSpec):
    assert ("exportable" in spec.capabilities) == (not spec.not_exportable_reason)
    if spec.not_exportable_reason:
        with pytest.raises(
            ExportError, match=f"{spec.name} cannot be exported: {spec.not_exportable_reason}"
        ):
            build_onnx(tiny(spec))


# At this size, the last stage of the other forms is a single cell.
WITH_MAPS = ("cloud-mobilenetv2", "cloud-vit", "polarlow-xception")


@pytest.mark.parametrize("name", WITH_MAPS)
def test_the_map_of_the_graph_matches_explain(name: str):
    model, written = exported(name)
    inputs = inputs_of(model, 2, seed=4)
    found = run_onnx(written, feed(model, inputs))[MAP_OUTPUT]
    for index, cells in enumerate(found):
        sample = {given: values[index] for given, values in inputs.items()}
        expected = geovision.explain(model, sample, method="gradcam").first_input.values
        assert cells.shape == expected.shape
        assert cells.max() > 0
        np.testing.assert_allclose(cells, expected, atol=1e-3 * expected.max())


def test_the_graph_takes_masks_of_missing_values():
    model, written = exported("polarlow-xception")
    inputs = inputs_of(model, 2)
    is_valid = torch.ones_like(inputs["image"], dtype=torch.bool)
    is_valid[:, :, 8:] = False
    with torch.no_grad():
        expected = model(inputs, valid={"image": is_valid}).values.numpy()
    given = feed(model, inputs) | {"image_valid": is_valid.numpy()}
    np.testing.assert_allclose(run_onnx(written, given)["logits"], expected, atol=1e-4)


def test_scalars_of_a_photo_may_be_missing():
    model = tiny(registry.find_model("cloud-tiny"), scalars=("cloud_base_height",))
    written = build_onnx(model)
    photos = inputs_of(model, 2)
    given = feed(model, photos)
    assert list(given) == ["image", "scalars", "scalars_valid"]
    with torch.no_grad():
        is_valid, absent = model(photos).values, model({"image": photos["image"]}).values
    np.testing.assert_allclose(run_onnx(written, given)["logits"], is_valid.numpy(), atol=1e-4)
    given["scalars_valid"] = np.zeros_like(given["scalars_valid"])
    np.testing.assert_allclose(run_onnx(written, given)["logits"], absent.numpy(), atol=1e-4)


@pytest.mark.parametrize("time", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_sources_of_hail_may_be_missing_in_the_graph_of_hinet(time: int):
    torch.manual_seed(0)
    spec = registry.find_model("hail-hinet")
    arch = spec.tiny_args | {"sources": ["radar", "dem"]}
    model = build_model(spec, registry.find_task("hail"), ModelConfig(model_args=arch)).eval()
    axes = {"time": time, "y": 16, "x": 16}
    written = build_onnx(model, axes=axes)
    for count in (1, 3):
        inputs = random_inputs(model.inputs, count, axes=axes, seed=4)
        assert inputs is not None
        given = feed(model, inputs)
        given["radar_valid"][:, :, :, :5] = False
        given["dem_valid"][:] = False
        valid = {name: torch.from_numpy(given[f"{name}_valid"]) for name in inputs}
        is_valid = {name: values for name, values in inputs.items() if name != "dem"}
        with torch.no_grad():
            output = model(inputs, valid=valid)
            without = model(is_valid, valid={"radar": valid["radar"]}).values
            whole = model(inputs).values
        found = run_onnx(written, given)
        np.testing.assert_allclose(found["values"], output.values.numpy(), atol=1e-4, rtol=0)
        np.testing.assert_allclose(found["values"], without.numpy(), atol=1e-4, rtol=0)
        assert np.abs(found["values"] - whole.numpy()).max() > 1e-4
        np.testing.assert_array_equal(found["valid"], output.valid.expand_as(output.values).numpy())


@pytest.mark.parametrize("kind", ["field", "mask"])
def test_dense_graphs_return_valid_masks(kind: str):
    torch.manual_seed(0)
    model = build_model(maps.MODELS[kind], maps.TASKS[kind], ModelConfig()).eval()
    axes = {"y": maps.SIDE, "x": maps.SIDE} | ({"time": maps.TIMES} if kind == "mask" else {})
    written = build_onnx(model, axes=axes)
    inputs = random_inputs(model.inputs, 3, axes=axes, seed=1)
    assert inputs is not None
    valid = {name: torch.rand(values.shape) < 0.6 for name, values in inputs.items()}
    with torch.no_grad():
        output = model(inputs, valid=valid)
        expected = model.head.export_outputs(output.values, output.values)
    found = run_onnx(
        written, {n: v.numpy() for n, v in (inputs | {f"{n}_valid": v for n, v in valid.items()}).items()}
    )
    for name, each in expected.items():
        np.testing.assert_allclose(found[name], each.numpy(), atol=1e-4, rtol=1e-4)
    np.testing.assert_array_equal(found["valid"], output.valid.expand_as(output.values).numpy())


# --- metadata of the file -----------------------------------------------------------------------


def test_the_file_contains_its_metadata(tmp_path: Path):
    model, written = exported("cloud-mobilenetv2")
    (metadata,) = [json.loads(each.value) for each in written.metadata_props if each.key == METADATA_KEY]
    assert metadata == json.loads(json.dumps(build_metadata(model))) | {"outputs": metadata["outputs"]}
    assert metadata["outputs"] == ["logits", "probabilities", "outlier_score", MAP_OUTPUT]
    assert metadata["target"]["classes"] == list(model.target.classes)
    assert metadata["target"]["cards"][0]["name"] == {"en": "Altocumulus", "zh": "高积云"}
    assert [c["valid_range"] for c in metadata["inputs"][0]["channels"]] == [[0.0, 1.0]] * 3
    assert metadata["card"].startswith("---\nlibrary_name: geovision")
    onnx.checker.check_model(written, full_check=True)


def test_the_shipped_weights_have_their_card_and_license():
    model = geovision.create("cloud-mobilenetv2", pretrained=True)
    metadata = build_metadata(model)
    assert metadata["license"] == "Apache-2.0"
    assert "doi:10.7910/DVN/CADDPD" in metadata["trained_on"]
    assert "## Limitations" in metadata["card"]
    assert metadata["temperature"] == pytest.approx(1.0961, abs=1e-4)
    assert len(metadata["sha256"]) == 64


def test_no_path_of_this_machine_is_in_the_file():
    _, written = exported("cloud-mobilenetv2")
    content = written.SerializeToString()
    assert str(Path(geovision.__file__).parents[1]).encode() not in content
    assert b"site-packages" not in content


# --- 8 bits -------------------------------------------------------------------------------------


def test_int8_has_a_quarter_of_the_size_and_similar_predictions(tmp_path: Path):
    torch.manual_seed(0)
    spec = registry.find_model("cloud-tiny")
    model = build_model(
        spec, registry.find_task("cloud"), ModelConfig(model_args=spec.model_args, size=(64, 64))
    ).eval()
    whole, small = tmp_path / "whole.onnx", tmp_path / "small.onnx"
    written = build_onnx(model)
    onnx.save(written, whole)
    ranges = calibration_inputs(model, count=22)
    onnx.save(quantize(written, ranges), small)  # changes its argument
    assert small.stat().st_size < 0.28 * whole.stat().st_size
    images = {name: values[:8] for name, values in ranges.items()}
    outputs = [run_onnx(onnx.load(path), images) for path in (whole, small)]
    spread = outputs[0]["logits"].std(0).max()
    assert np.abs(outputs[0]["logits"] - outputs[1]["logits"]).max() < 0.5 * spread
    assert outputs[1][MAP_OUTPUT].shape == outputs[0][MAP_OUTPUT].shape
    metadata = [onnx.load(path).metadata_props[0].value for path in (whole, small)]
    assert metadata[0] == metadata[1]


def test_the_shipped_int8_model_keeps_its_map_and_its_outlier_score(shipped_onnx: Path):
    model = geovision.create("cloud-mobilenetv2", pretrained=True)
    ranges = calibration_inputs(model, count=4)
    noise = np.random.default_rng(0).random((4, 3, 256, 256), np.float32)
    images = {"image": np.concatenate([ranges["image"], noise])}
    whole = onnx.load(shipped_onnx)
    expected, size = run_onnx(whole, images), whole.ByteSize()
    small = quantize(whole, ranges)  # changes its argument
    assert small.ByteSize() < 0.27 * size
    onnx.checker.check_model(small, full_check=True)
    found = run_onnx(small, images)
    assert np.isfinite(found[MAP_OUTPUT]).all()
    for one, other in zip(found[MAP_OUTPUT][:4], expected[MAP_OUTPUT], strict=False):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.5
    # Noise exceeds the calibrated ranges and is clipped.
    assert found["outlier_score"][4:].min() > 2
    np.testing.assert_allclose(found["outlier_score"][:4], expected["outlier_score"][:4], rtol=0.1)


@torch.no_grad()
def test_a_normalization_is_fused_with_the_head():
    torch.manual_seed(0)
    head = NormalizedHead(40, registry.find_task("cloud").target).eval()
    norm = head.norm
    for values in (norm.running_mean, norm.bias.data):
        values.normal_(std=3)
    for values in (norm.running_var, norm.weight.data):
        values.copy_(torch.logspace(-4, 4, 40))
    features = norm.running_mean + norm.running_var.sqrt() * torch.randn(6, 40)
    expected = head(features)
    joined = head.joined()
    torch.testing.assert_close(joined(features), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    torch.testing.assert_close(joined.joined()(features), joined(features))
    assert not any(isinstance(each, torch.nn.BatchNorm1d) for each in joined.modules())
    torch.testing.assert_close(head(features), expected)


def constants(written: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {each.name: numpy_helper.to_array(each) for each in written.graph.initializer}


def test_tables_are_quantized_and_read_back():
    rng = np.random.default_rng(0)
    table = (
        rng.normal(size=(2000, 20)).astype(np.float32) * np.logspace(-3, 3, 2000, dtype=np.float32)[:, None]
    )
    table[7] = 0
    others = rng.normal(size=(3, 100, 100)).astype(np.float32)
    places = rng.integers(0, 300, (20, 600))
    nodes = [
        onnx.helper.make_node("MatMul", ["given", "table"], ["product"], "one"),
        onnx.helper.make_node("Mul", ["others", "factor"], ["scaled"], "two"),
        onnx.helper.make_node("Identity", ["places"], ["placed"], "three"),
    ]
    kinds = onnx.TensorProto
    graph = onnx.helper.make_graph(
        nodes,
        "it",
        [onnx.helper.make_tensor_value_info("given", kinds.FLOAT, [None, 2000])],
        [
            onnx.helper.make_tensor_value_info(n, t, None)
            for n, t in (("product", kinds.FLOAT), ("scaled", kinds.FLOAT), ("placed", kinds.INT64))
        ],
        [
            numpy_helper.from_array(v, n)
            for n, v in (
                ("table", table),
                ("others", others),
                ("places", places),
                ("factor", np.float32([2])),
            )
        ],
    )
    written = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    given = {"given": np.eye(2000, dtype=np.float32)}
    shrink.narrow_integers(written)
    shrink.narrow_floats(written)
    kinds_kept = {str(each.dtype) for each in constants(written).values() if each.size > 2000}
    assert kinds_kept == {"int8", "float16", "uint16"}
    shrink.shorten_names(written)
    found = run_onnx(written, given)
    np.testing.assert_array_equal(found["placed"], places)
    np.testing.assert_allclose(found["scaled"], 2 * others, rtol=1e-3, atol=1e-5)
    error = np.abs(found["product"] - table).max(1)
    assert (error <= 0.5001 * np.abs(table).max(1) / 127).all()


def test_calibration_images_may_be_user_files(skies: Path):
    model = tiny(registry.find_model("cloud-tiny"))
    taken = calibration_inputs(model, str(skies), count=5)
    assert taken["image"].shape == (5, 3, *SIZE)
    assert taken["image"].dtype == np.float32
    assert 0 <= taken["image"].min() < taken["image"].max() <= 1
    with pytest.raises(InputError, match="no such file"):
        calibration_inputs(model, "nowhere.jpg")


# --- invalid arguments --------------------------------------------------------------------------


def test_unknown_axis_lengths_are_required():
    torch.manual_seed(0)
    spec = registry.find_model("cloud-tiny")
    model = build_model(
        spec, registry.find_task("cloud"), ModelConfig(model_args=spec.tiny_args, size=SIZE)
    ).eval()
    model.inputs = tuple(given.with_size(None) for given in model.inputs)
    with pytest.raises(OptionError, match=r"some lengths are unknown in image \(channel y x\); pass them"):
        build_onnx(model)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"y": 999}, "cloud-tiny: y=999, but y of image is 32; omit it"),
        ({"time": 3}, "cloud-tiny: no input has an axis 'time'; axes of variable length: none"),
    ],
)
def test_wrong_axes_are_refused(axes: dict[str, int], message: str):
    with pytest.raises(OptionError, match=message):
        build_onnx(tiny(registry.find_model("cloud-tiny")), axes=axes)


@pytest.mark.parametrize("command", [["export", "--out", "it.onnx"], ["serve"]])
def test_a_model_without_export_is_reported_before_missing_weights(command: list[str], capsys):
    with pytest.raises(SystemExit) as left:
        main([command[0], "aurora-knn", *command[1:]])
    assert left.value.code == 1
    assert "aurora-knn cannot be exported: its training samples are" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--calibration", "photos"], "--calibration has no effect with --precision float32"),
        (["--axis", "time"], "--axis 'time' is invalid; expected NAME=LENGTH"),
        (["--format", "web", "--with-runtime"], "--axis and --with-runtime require --format onnx"),
    ],
)
def test_options_without_effect_are_refused(options: list[str], message: str, capsys, tmp_path: Path):
    with pytest.raises(SystemExit) as left:
        main(["export", "cloud-mobilenetv2", "--out", str(tmp_path / "it.onnx"), *options])
    assert left.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
