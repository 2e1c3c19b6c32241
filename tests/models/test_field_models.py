"""Networks of fields: the transforms of each channel are chosen by the prefix of its name."""

from __future__ import annotations

import pytest
import torch

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


def test_channels_are_not_transformed_by_default() -> None:
    assert names(network()) == [[], []]


@pytest.mark.parametrize("prefix", ["wave_height", "wave_"])
def test_transforms_are_chosen_by_prefix(prefix: str) -> None:
    built = network(transforms={prefix: ["sqrt", "zscore"], "": ["zscore"]})
    assert names(built) == [[SquareRootScaler, StandardScaler], [StandardScaler]]


def test_the_longest_prefix_applies() -> None:
    built = network(transforms={"": ["sqrt"], "wave_": ["zscore"], "wave_height": ["log1p"], "w": []})
    assert names(built) == [[Log1pScaler], []]


def test_an_unknown_transform_is_refused() -> None:
    with pytest.raises(OptionError, match="unknown transform 'cube'; known: identity, log1p"):
        network(transforms={"": ["cube"]})


def test_each_transform_is_applied_to_its_channel() -> None:
    built = network(transforms={"wave_": ["sqrt"], "": ["identity"]})
    fields = torch.rand(2, 2, 8, 8, generator=torch.Generator().manual_seed(0)) * 9
    seen: list[torch.Tensor] = []
    built.network.register_forward_pre_hook(lambda _network, given: seen.append(given[0]))
    built({"fields": fields})
    torch.testing.assert_close(seen[0][:, 0], fields[:, 0].sqrt())
    torch.testing.assert_close(seen[0][:, 1], fields[:, 1])
