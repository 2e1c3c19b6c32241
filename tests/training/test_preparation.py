"""Models and datasets that fit each other, recipes by name, and samples held back for validation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import geovision
from geovision import registry
from geovision.datasets.ccsn import CCSN
from geovision.datasets.image_folder import ImageFolderDataset
from geovision.datasets.rain_grids import CoarseRain
from geovision.errors import DatasetError, OptionError
from geovision.spec import Recipe, Stage
from geovision.training import create_for, hold_back, needs_validation, select_recipe


def photos(root: Path, *classes: str, count: int = 4) -> ImageFolderDataset:
    """Write images of random blocks, one folder per class, and open the dataset."""
    random = np.random.default_rng(0)
    for name in classes:
        (root / name).mkdir(parents=True)
        for number in range(count):
            coarse = Image.fromarray(random.integers(0, 255, (5, 5, 3), dtype=np.uint8))
            coarse.resize((40, 40), Image.Resampling.BICUBIC).save(root / name / f"{number}.png")
    return ImageFolderDataset(root)


@pytest.fixture(scope="module")
def rain(tmp_path_factory: pytest.TempPathFactory) -> CoarseRain:
    return CoarseRain(CoarseRain.synthetic(tmp_path_factory.mktemp("rain"), 40, seed=3))


def test_a_model_gets_the_classes_of_the_data_and_the_data_its_size(tmp_path: Path) -> None:
    data = photos(tmp_path, "fog", "haze")
    assert data.model_kwargs() == {"classes": ("fog", "haze")}
    model, adapted = create_for(
        "cloud-tiny", data, size=(32, 48), scalars=["cloud_base_height"], drop_rate=0.2
    )
    assert model.target.classes == ("fog", "haze")
    sample = adapted[0]["inputs"]
    assert sample["image"].shape == (3, 32, 48)
    assert sample["scalars"].shape == (1,)
    assert model.config.drop_rate == 0.2
    assert data[0]["inputs"].keys() == {"image"}


def test_classes_of_the_task_need_no_option(tmp_path: Path) -> None:
    photos(tmp_path, "Ci", "Cu")
    assert CCSN(tmp_path).model_kwargs() == {}


def test_user_class_names_become_those_of_the_model(tmp_path: Path) -> None:
    data = photos(tmp_path / "own", "cumulus", "Ci")
    model = geovision.create("cloud-tiny", size=(32, 32))
    adapted = data.adapt_to(model)
    classes = adapted.target.classes
    assert classes == model.target.classes
    assert {classes[label] for label in adapted.labels} == {"Cu", "Ci"}
    with pytest.raises(DatasetError, match=r"unknown class 'fog'"):
        photos(tmp_path / "other", "fog", "Cu").adapt_to(model)


def test_official_datasets_keep_their_classes_for_merging(tmp_path: Path) -> None:
    photos(tmp_path, "Ci", "Cu")
    data = CCSN(tmp_path)
    adapted = data.adapt_to(geovision.create("cloud-tiny", size=(32, 32)))
    assert adapted.target == data.target
    assert adapted[0]["inputs"]["image"].shape == (3, 32, 32)


def test_grids_and_predictors_of_the_data_are_those_of_the_model(rain: CoarseRain) -> None:
    model, adapted = create_for("downscale-tiny", rain)
    assert (model.config.grids, model.config.predictors) == (rain.grids, rain.channels[1:])
    assert adapted.channels == rain.channels
    model, adapted = create_for("downscale-tiny", rain, predictors=[])
    assert (model.config.predictors, adapted.channels) == ((), rain.channels[:1])
    assert rain.adapt_to(model).channels == rain.channels[:1]
    model, adapted = create_for("downscale-quantile-mapping", rain)
    assert adapted.channels == rain.channels[:1]
    with pytest.raises(OptionError, match="has no predictor 'wind'"):
        create_for("downscale-tiny", rain, predictors=["wind"])


def test_missing_predictors_of_the_data_are_named(tmp_path: Path) -> None:
    data = photos(tmp_path, "Ci", "Cu")
    assert data.with_predictors([]) is data
    with pytest.raises(OptionError, match="folder has no predictor 'wind'"):
        create_for("cloud-tiny", data, predictors=["wind"])


def test_recipes_are_found_by_name_and_changed() -> None:
    spec, task = registry.find_model("cloud-resnet18"), registry.find_task("cloud")
    assert select_recipe(spec) == task.recipe
    assert select_recipe(spec, from_scratch=True) == task.recipes["scratch"]
    changed = select_recipe(spec, "default", epochs=4, seed=0, precision="32-true")
    assert (changed.epochs, changed.seed, changed.precision) == (4, 0, "32-true")
    with pytest.raises(OptionError, match="task 'cloud' has no recipe 'long'; known: "):
        select_recipe(spec, "long")


def test_recipes_that_monitor_validation_require_it() -> None:
    recipe = Recipe(stages=(Stage(epochs=2),))
    assert not needs_validation(recipe)
    assert needs_validation(replace(recipe, keep="best"))
    assert needs_validation(replace(recipe, patience=3, monitor="val_loss"))
    assert not needs_validation(replace(recipe, patience=3, monitor="train_loss"))
    plateau = replace(recipe, stages=(Stage(epochs=2, schedule="plateau"),))
    assert needs_validation(replace(plateau, monitor="val_loss"))


def test_whole_groups_are_held_back(rain: CoarseRain) -> None:
    model, data = create_for("downscale-tiny", rain)
    training, validation = hold_back(data, model, fraction=0.3, seed=1)
    assert len(training) + len(validation) == len(data)
    assert not set(training.groups) & set(validation.groups)
    assert hold_back(data, model, fraction=0) == (data, None)
    year = data.subset([index for index, group in enumerate(data.groups) if group == data.groups[0]])
    with pytest.raises(DatasetError, match=r"fraction 0 \(--validation 0\) holds none back"):
        hold_back(year, model)


def test_fields_in_closed_form_use_every_sample(rain: CoarseRain) -> None:
    model, data = create_for("downscale-quantile-mapping", rain)
    assert hold_back(data, model) == (data, None)
    training, validation = hold_back(data, model, fraction=0.3)
    assert len(training) < len(data)
    assert validation is not None


def test_the_official_split_is_adapted_and_may_be_missing(tmp_path: Path) -> None:
    for split in ("train", "val"):
        photos(tmp_path / split, "Ci", "Cu")

    def official(name: str = "val") -> ImageFolderDataset:
        return ImageFolderDataset(tmp_path, split=name)

    model, data = create_for("cloud-tiny", ImageFolderDataset(tmp_path, split="train"), size=(32, 32))
    training, validation = hold_back(data, model, official=official)
    assert training is data
    assert len(validation) == 8
    assert validation[0]["inputs"]["image"].shape == (3, 32, 32)
    _, drawn = hold_back(data, model, fraction=0.5, official=official)
    assert all("train" in str(path) for path in drawn.paths)
    _, drawn = hold_back(data, model, official=lambda: official("test"))
    assert all("train" in str(path) for path in drawn.paths)
