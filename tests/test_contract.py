"""Contract of every entry of the registry, tested at a tiny size by its capabilities.

New entries of a task file are tested without further code.
"""

from __future__ import annotations

import ast
import math
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers.entries import ENTRIES, SIZE, inputs_of, name_of, target_of, tiny
from helpers.paths import REPOSITORY

import geovision
from geovision import registry
from geovision.errors import InputError
from geovision.metrics import METRICS, parse
from geovision.models.geomodel import GeoModel, ModelConfig, build_model
from geovision.spec import Channel, ClassTarget, FieldTarget, InputSpec, ModelSpec, Task, resolve

TASKS = list(registry.tasks().values())


every_entry = pytest.mark.parametrize("spec", ENTRIES, ids=name_of)
every_task = pytest.mark.parametrize("task", TASKS, ids=name_of)


# --- forward and backward -----------------------------------------------------------------------


@every_entry
def test_forward_has_the_shape_of_the_target(spec: ModelSpec):
    model = tiny(spec)
    inputs = inputs_of(model, 2)
    model.validate_inputs(inputs)
    with torch.no_grad():
        values = model(inputs).values
        bare = model(inputs[model.inputs[0].name]) if len(model.inputs) == 1 else values
    assert torch.isfinite(values).all()
    assert torch.equal(bare, values)
    if isinstance(model.target, ClassTarget):
        assert values.shape == (2, len(model.target.classes))
    else:
        prediction, _ = model.head.scored(values, target_of(model, values), None)
        first = next(iter(inputs.values()))
        factor = getattr(model.network, "factor", 1)
        assert prediction.shape == (2, 1, *(side * factor for side in first.shape[-2:]))


@every_entry
def test_predictions_on_grids_stay_in_the_range_of_the_target(spec: ModelSpec):
    model = tiny(spec)
    if isinstance(model.target, ClassTarget):
        pytest.skip("classes have no range")
    with torch.no_grad():
        prediction = model.head.estimate(model(inputs_of(model, 2, seed=9)).values * 10)
    low, high = model.target.channel.valid_range if isinstance(model.target, FieldTarget) else (0.0, 1.0)
    assert low <= float(prediction.min()) <= float(prediction.max()) <= high


@every_entry
def test_every_parameter_gets_a_gradient(spec: ModelSpec):
    if spec.fit != "gradient" or "differentiable" not in spec.capabilities:
        pytest.skip(f"{spec.name} is not trained by gradient")
    model = tiny(spec).train()
    values = model(inputs_of(model, 4)).values
    loss = model.loss(values, target_of(model, values))
    loss.backward()
    without = [name for name, each in model.named_parameters() if each.requires_grad and each.grad is None]
    assert without == []
    assert all(torch.isfinite(each.grad).all() for each in model.parameters() if each.grad is not None)
    moved = [each for each in model.parameters() if each.grad is not None and each.grad.abs().max() > 0]
    assert len(moved) > len(list(model.parameters())) / 2


@every_entry
def test_a_loaded_model_equals_the_saved_one(spec: ModelSpec, tmp_path: Path):
    model = tiny(spec)
    again = geovision.load(model.save(tmp_path / "saved"))
    inputs = inputs_of(model, 2)
    with torch.no_grad():
        assert torch.equal(again(inputs).values, model(inputs).values)
    assert again.spec == model.spec
    assert again.inputs == model.inputs
    assert again.target == model.target


@every_entry
def test_a_prediction_does_not_depend_on_other_samples(spec: ModelSpec):
    model = tiny(spec)
    inputs = inputs_of(model, 3)
    with torch.no_grad():
        together = model(inputs).values
        alone = [model({name: each[i : i + 1] for name, each in inputs.items()}).values for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-4, rtol=1e-4)


@every_entry
def test_the_same_seed_gives_the_same_model_and_the_same_prediction(spec: ModelSpec):
    first, second = tiny(spec), tiny(spec)
    inputs = inputs_of(first, 2)
    with torch.no_grad():
        assert torch.equal(first(inputs).values, second(inputs).values)
        assert torch.equal(first(inputs).values, first(inputs).values)


@every_entry
def test_differentiable_models_can_be_explained(spec: ModelSpec):
    if "differentiable" not in spec.capabilities:
        pytest.skip(f"{spec.name} has no gradient")
    # Twice the size, because the last stage of a small network has a single cell.
    model = tiny(spec, size=(2 * SIZE[0], 2 * SIZE[1]))
    sample = {name: values[0] for name, values in inputs_of(model, 1).items()}
    found = geovision.explain(model, sample)
    given = model.inputs[0]
    assert found.heatmap.shape[-2:] == given.size
    assert math.isfinite(found.logit)
    assert (found.first_input.values >= 0).all()


# --- inputs -------------------------------------------------------------------------------------


def each_channel(model: GeoModel) -> Iterator[tuple[InputSpec, int, Channel]]:
    for spec in model.inputs:
        yield from ((spec, index, channel) for index, channel in enumerate(spec.channels))


@every_entry
def test_values_beyond_the_range_are_refused_with_channel_and_range(spec: ModelSpec):
    model = tiny(spec)
    for given, index, channel in each_channel(model):
        for limit, sign in zip(channel.valid_range, (-1, 1), strict=True):
            if math.isinf(limit):
                continue
            inputs = inputs_of(model, 1)
            inputs[given.name].select(1 + given.channel_axis, index).fill_(limit + sign * (1 + abs(limit)))
            with pytest.raises(InputError, match=f"channel '{channel.name}': values from .* expected"):
                model.validate_inputs(inputs)


@every_entry
def test_a_probable_unit_error_is_explained(spec: ModelSpec):
    model = tiny(spec)
    for given, index, channel in each_channel(model):
        for slip in channel.unit_hints:
            inputs = inputs_of(model, 1)
            inputs[given.name].select(1 + given.channel_axis, index).fill_(slip.upto)
            with pytest.raises(InputError) as caught:
                model.validate_inputs(inputs)
            assert slip.hint in str(caught.value)


@every_entry
def test_wrong_axes_channels_and_numbers_are_refused(spec: ModelSpec):
    model = tiny(spec)
    first = model.inputs[0]
    good = inputs_of(model, 1)
    axis = 1 + first.channel_axis
    doubled = torch.cat([good[first.name]] * 2, dim=axis)
    with pytest.raises(
        InputError, match=rf"has {len(first.channels)} channels .* got {2 * len(first.channels)}"
    ):
        model.validate_inputs(good | {first.name: doubled})
    with pytest.raises(InputError, match="has axes"):
        model.validate_inputs(good | {first.name: good[first.name][0]})
    holed = good[first.name].clone()
    holed.view(-1)[0] = torch.nan
    with pytest.raises(InputError, match=r"1 of \d+ values are NaN or infinite; mark missing cells"):
        model.validate_inputs(good | {first.name: holed})
    with pytest.raises(InputError, match="has no input"):
        model.validate_inputs(good | {"nonsense": holed})
    with pytest.raises(InputError, match=f"needs input '{first.name}'"):
        model.validate_inputs({name: value for name, value in good.items() if name != first.name})


@every_task
def test_scalar_inputs_may_be_missing(task: Task):
    if not task.scalars:
        pytest.skip(f"task {task.name} has no measurements")
    spec = registry.find_model(task.demo.model)
    model = tiny(spec, scalars=tuple(channel.name for channel in task.scalars))
    inputs = inputs_of(model, 2)
    first, beside = (given.name for given in model.inputs)
    nowhere = {beside: torch.zeros_like(inputs[beside], dtype=torch.bool)}
    model.validate_inputs(inputs)
    with torch.no_grad():
        there = model(inputs).values
        absent = model({first: inputs[first]}).values
        masked = model(inputs, valid=nowhere).values
    assert torch.equal(absent, masked)
    assert not torch.allclose(there, absent)


# --- properties of an entry ---------------------------------------------------------------------


@every_entry
def test_the_number_of_parameters_is_correct(spec: ModelSpec):
    assert spec.num_parameters is not None, "an entry claims how many trainable parameters it has"
    with torch.device("meta"):
        model = build_model(spec, registry.find_task(spec.task), ModelConfig())
    assert model.num_parameters() == spec.num_parameters


def layer_heights() -> dict[str, int]:
    """Return the height of each layer of the first contract of import-linter; 0 is the top."""
    with (REPOSITORY / "pyproject.toml").open("rb") as stream:
        contract, *_ = tomllib.load(stream)["tool"]["importlinter"]["contracts"]
    return {
        room.strip(): height
        for height, layer in enumerate(contract["layers"])
        for room in layer.replace(":", "|").split("|")
    }


def layer_of(reference: str) -> str:
    return reference.partition(":")[0].split(".")[1]


def string_references(task: Task) -> Iterator[tuple[str, str]]:
    """Yield (required layer, reference) of a task and its models."""
    yield "heads", task.head
    yield from (("heads", reference) for reference in (task.loss, *task.heads.values()) if reference)
    yield from (("datasets", reference) for reference in task.datasets.values())
    yield from (("readers", given.reader) for given in task.inputs if given.reader)
    yield from (("metrics", METRICS[parse(name)[0]][task.target.kind]) for name in task.metrics)
    for name in registry.list_models(task=task.name):
        spec = registry.find_model(name)
        yield "models", spec.builder
        yield from (("readers", given.reader) for given in spec.inputs if given.reader)


@every_task
def test_every_reference_of_a_task_exists_in_its_layer(task: Task):
    for room, reference in string_references(task):
        assert callable(resolve(reference)), reference
        home = reference.partition(":")[0].split(".")
        assert home[0] != "geovision" or home[1] == room, f"{reference} is not in {room}"


def test_references_in_strings_respect_the_import_order():
    height = layer_heights()
    # Datasets download their files on request, with the downloader of the command line.
    exceptions = {("datasets", "hub")}
    wrong = [
        f"{path.relative_to(REPOSITORY)} names {reference}"
        for path, reference in string_literals()
        for here, there in [
            (path.relative_to(REPOSITORY / "geovision").parts[0].removesuffix(".py"), layer_of(reference))
        ]
        if here in height
        and height[there] < height[here]
        and (here, there) not in exceptions
        # The tables do not import what they name; the test above checks their layers.
        and here not in ("tasks", "registry")
    ]
    assert wrong == []


def string_literals() -> Iterator[tuple[Path, str]]:
    """Yield every ``"geovision.module:name"`` in the code of the package."""
    for path in sorted((REPOSITORY / "geovision").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                module, _, name = node.value.partition(":")
                if (
                    module.startswith("geovision.")
                    and name.isidentifier()
                    and module.replace(".", "").isidentifier()
                ):
                    yield path, node.value


@every_task
def test_a_field_names_its_unit(task: Task):
    channels = [channel for given in task.inputs for channel in given.channels] + list(task.scalars)
    if isinstance(task.target, FieldTarget):
        channels.append(task.target.channel)
    assert all(channel.unit for channel in channels)
