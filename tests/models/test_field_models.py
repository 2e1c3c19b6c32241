"""Networks of fields: the transforms of each channel are chosen by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import geovision
from geovision.errors import OptionError
from geovision.models import field_models
from geovision.models.layers.scalers import Log1pScaler, Scaler, SquareRootScaler, StandardScaler
from geovision.spec import Channel, InputSpec

FIELDS = InputSpec(
    "fields",
    (Channel("wave_height", "m", (0.0, 40.0)), Channel("wind_speed", "m s-1", (0.0, 100.0))),
)


def network(**model_args: object) -> field_models.FieldNetwork:
    options = {"network": "srcnn", "widths": [4, 3], **model_args}
    return field_models.build(options, inputs=(FIELDS,))


def names(network: field_models.FieldNetwork) -> list[list[type[Scaler]]]:
    return [[type(each) for each in chain.transforms] for chain in network.transforms]


def test_channels_are_standardized_by_default() -> None:
    assert names(network()) == [[StandardScaler], [StandardScaler]]


@pytest.mark.parametrize("pattern", ["wave_height", "wave_*"])
def test_transforms_are_chosen_by_name_or_pattern(pattern: str) -> None:
    built = network(transforms={pattern: ["sqrt", "zscore"]})
    assert names(built) == [[SquareRootScaler, StandardScaler], [StandardScaler]]


def test_the_first_matching_pattern_counts() -> None:
    built = network(transforms={"wave_*": ["log1p"], "*": ["sqrt"], "wave_height": ["zscore"]})
    assert names(built) == [[Log1pScaler], [SquareRootScaler]]


def test_an_unknown_transform_is_refused() -> None:
    with pytest.raises(OptionError, match="transform 'cube'; known: identity, log1p"):
        network(transforms={"*": ["cube"]})


def test_each_transform_is_applied_to_its_channel() -> None:
    built = network(transforms={"wave_*": ["sqrt"], "*": ["identity"]})
    fields = torch.rand(2, 2, 8, 8, generator=torch.Generator().manual_seed(0)) * 9
    seen: list[torch.Tensor] = []
    built.network.register_forward_pre_hook(lambda _network, given: seen.append(given[0]))
    built({"fields": fields})
    torch.testing.assert_close(seen[0][:, 0], fields[:, 0].sqrt())
    torch.testing.assert_close(seen[0][:, 1], fields[:, 1])


@pytest.mark.parametrize(
    ("old", "expected"),
    [
        ({}, {"precipitation*": ["log1p", "zscore"]}),
        ({"rain": ["sqrt"]}, {"precipitation*": ["sqrt"], "*": ["zscore"]}),
        ({"others": ["minmax"]}, {"precipitation*": ["log1p", "zscore"], "*": ["minmax"]}),
    ],
)
def test_transforms_of_format_version_1_are_upgraded(
    tmp_path: Path, old: dict[str, object], expected: dict[str, object]
) -> None:
    options = {"widths": [4, 6, 8], "transforms": expected}
    model = geovision.create("downscale-tiny", predictors=["air_temperature"], model_args=options)
    folder = model.save(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    stored = config.pop("config")
    model_args = {name: value for name, value in stored.pop("model_args").items() if name != "transforms"}
    stored |= {"arch": model_args | old, "dropout": stored.pop("drop_rate"), "limits": {}}
    del stored["db_range"]
    stored["head_options"] = stored.pop("head_args")
    config |= {"options": stored, "format_version": 1}
    (folder / "config.json").write_text(json.dumps(config))
    loaded = geovision.load(folder)
    assert names(loaded.network) == names(model.network)
    assert loaded.config.model_args["dropout"] == 0.0  # an option of the network keeps its name
