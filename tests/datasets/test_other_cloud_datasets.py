"""GCD, MGCD, HBMCD and SWIMCAT, and scoring a model of genera on their classes."""

from __future__ import annotations

import filecmp
from pathlib import Path

import pytest
import torch

from geovision import registry
from geovision.api import create, evaluate, load_dataset
from geovision.datasets.gcd import GCD, SKY_TYPES
from geovision.datasets.image_classification import ImageDataset
from geovision.errors import DatasetError, OptionError
from geovision.heads.prediction import ClassPrediction
from geovision.metrics.class_mapping import merge_probabilities, merge_targets, merging_for, unmatched_classes
from geovision.spec import ClassMapping, resolve

NAMES = ("gcd", "mgcd", "hbmcd", "swimcat")
GENERA = registry.find_task("cloud").target.classes
COUNT = {"gcd": 28, "mgcd": 14, "hbmcd": 22, "swimcat": 10}


def adapter(name: str) -> type[ImageDataset]:
    return resolve(registry.dataset_reference(name)[1])


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small generated version of each data set, in its layout."""
    return {
        name: adapter(name).synthetic(tmp_path_factory.mktemp(name), COUNT[name], seed=5) for name in NAMES
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_reader_reads_the_generated_files(roots, name):
    data = load_dataset(name, roots[name], size=(48, 48))
    assert len(data) == COUNT[name]
    assert set(data.labels) == set(range(len(data.target.classes)))
    sample = data[0]
    assert sample["inputs"]["image"].shape == (3, 48, 48)
    assert 0 <= sample["inputs"]["image"].min() < sample["inputs"]["image"].max() <= 1
    assert len(data.groups) == len(data)
    for path, label in zip(data.paths, data.labels, strict=True):
        assert data.target.classes[label].lower() in path.parent.name.lower()


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_files_for_any_number(roots, name, tmp_path):
    again = adapter(name).synthetic(tmp_path / "again", 3, seed=5)
    other = adapter(name).synthetic(tmp_path / "other", 3, seed=6)
    files = [str(path.relative_to(again)) for path in sorted(again.rglob("*.*"))]
    assert len(files) == 3
    assert filecmp.cmpfiles(roots[name], again, files, shallow=False) == (files, [], [])
    assert filecmp.cmpfiles(again, other, files, shallow=False) == ([], files, [])


@pytest.mark.parametrize("name", NAMES)
def test_cards_are_complete(name):
    card = adapter(name).card
    assert card.name == name
    assert all((card.title, card.source, card.license, card.citation, card.split_group, card.layout))
    assert len(card.caveats) >= 3
    assert adapter(name).downloads is None  # each is behind an agreement or a password


def test_published_counts_of_gcd_add_up():
    assert {split: sum(counts.values()) for split, counts in GCD.card.class_counts.items()} == {
        "train": 10_000,
        "test": 9_000,
    }
    assert all(tuple(counts) == SKY_TYPES for counts in GCD.card.class_counts.values())


@pytest.mark.parametrize("name", ["gcd", "mgcd"])
def test_the_official_split(roots, name):
    train, test = (load_dataset(name, roots[name], split=split) for split in ("train", "test"))
    assert len(train) == len(test) == COUNT[name] // 2
    assert all(each.startswith("train/") for each in train.names)
    assert not set(train.names) & set(test.names)


def test_one_split_is_enough_and_the_other_is_reported_missing(roots, tmp_path):
    (tmp_path / "test").symlink_to(roots["gcd"] / "test")
    assert len(load_dataset("gcd", tmp_path)) == 14
    with pytest.raises(DatasetError, match="the train split is missing; expected train and test"):
        load_dataset("gcd", tmp_path, split="train")


@pytest.mark.parametrize("name", ["hbmcd", "swimcat"])
def test_a_missing_official_split_is_reported(roots, name):
    with pytest.raises(OptionError, match=f"{name} has no split 'train'; its splits: none"):
        load_dataset(name, roots[name], split="train")


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("gcd", "1_cumulus", "1"),
        ("gcd", "1_cumulus", "Cumulus"),
        ("gcd", "4_clearsky", "04 Clear-Sky"),
        ("gcd", "2_altocumulus", "altocumulus and cirrocumulus"),
        ("hbmcd", "Ac", "altocumulus"),
        ("hbmcd", "No", "no_cloud"),
        ("swimcat", "A-sky", "clear sky"),
        ("swimcat", "C-thick-dark", "Thick Dark"),
    ],
)
def test_a_class_is_identified_by_number_or_name(roots, tmp_path, name, old, new):
    source, inner = roots[name], "train" if name == "gcd" else "."
    place = tmp_path / inner
    place.mkdir(exist_ok=True)
    for folder in (source / inner).iterdir():
        if folder.is_dir() and folder.name not in ("train", "test"):
            (place / (new if folder.name == old else folder.name)).symlink_to(folder)
    renamed = load_dataset(name, tmp_path)
    plain = load_dataset(name, source, split="train" if name == "gcd" else None)
    assert renamed.labels.tolist() == plain.labels.tolist()


def test_folders_of_unknown_classes_with_images_are_an_error(roots, tmp_path):
    for folder in roots["swimcat"].iterdir():
        (tmp_path / folder.name).symlink_to(folder)
    (tmp_path / "papers").mkdir()
    assert len(load_dataset("swimcat", tmp_path)) == COUNT["swimcat"]
    (tmp_path / "F-fog").symlink_to(roots["swimcat"] / "A-sky")
    with pytest.raises(DatasetError, match=r"'F-fog' contains images but is not a class .* expected .*A-sky"):
        load_dataset("swimcat", tmp_path)


def test_a_number_and_a_name_that_contradict_each_other(roots, tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "2_cumulus").symlink_to(roots["gcd"] / "train" / "1_cumulus")
    with pytest.raises(DatasetError, match="'2_cumulus' contains images but is not a class"):
        load_dataset("gcd", tmp_path)


def test_other_layouts_report_observed_and_expected_folders(roots, tmp_path):
    with pytest.raises(DatasetError, match="no train or test folder, but nothing; expected train and test"):
        load_dataset("gcd", tmp_path)
    with pytest.raises(DatasetError, match="there are no folders; expected one folder for each class"):
        load_dataset("hbmcd", tmp_path)
    (tmp_path / "HBMCD").symlink_to(roots["hbmcd"])
    with pytest.raises(DatasetError, match=r"the class folders are in .*/HBMCD, pass that folder; expected"):
        load_dataset("hbmcd", tmp_path)
    with pytest.raises(DatasetError, match="no such folder"):
        load_dataset("mgcd", tmp_path / "missing")
    for copy in ("train_a", "train_b"):
        (tmp_path / copy).symlink_to(roots["gcd"] / "train")
    with pytest.raises(DatasetError, match="train_a and train_b could both be the train split"):
        load_dataset("gcd", tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_is_drawn_with_its_prediction(roots, name):
    from matplotlib import pyplot

    data = load_dataset(name, roots[name])
    prediction = ClassPrediction(source="x", label="Cu", confidence=0.7, probabilities={"Cu": 0.7, "Ci": 0.3})
    figure = data.plot(data[0], prediction)
    shown = " ".join(
        text.get_text() for axis in figure.axes for text in (axis.title, *axis.get_yticklabels())
    )
    assert data.target.classes[0] in shown
    assert "Cu" in shown
    pyplot.close(figure)


# --- merging ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_class_of_a_set_is_either_scored_or_excluded(roots, name):
    data = load_dataset(name, roots[name])
    scored, excluded = set(data.class_mapping.merged), set(data.class_mapping.excluded)
    assert scored | excluded == set(data.target.classes)
    assert {part for parts in data.class_mapping.merged.values() for part in parts} <= set(GENERA)


def test_genera_are_summed_to_the_sky_types_of_gcd():
    merging = merging_for(GENERA, SKY_TYPES, GCD.class_mapping, dataset="gcd")
    assert merging.classes == ("cumulus", "altocumulus", "cirrus", "stratocumulus", "cumulonimbus")
    assert unmatched_classes(GENERA, merging) == ("Ct",)
    probabilities = torch.rand(5, len(GENERA), generator=torch.Generator().manual_seed(0)).softmax(1)
    merged = merge_probabilities(probabilities, GENERA, merging)
    of = {genus: probabilities[:, index] for index, genus in enumerate(GENERA)}
    without_trail = 1 - of["Ct"]
    torch.testing.assert_close(merged[:, 0], of["Cu"] / without_trail)
    torch.testing.assert_close(merged[:, 3], (of["Sc"] + of["St"] + of["As"]) / without_trail)
    torch.testing.assert_close(merged.sum(1), torch.ones(5))


def test_a_certain_prediction_without_counterpart_becomes_uniform():
    sure = torch.zeros(1, len(GENERA))
    sure[0, GENERA.index("Ct")] = 1
    torch.testing.assert_close(merge_probabilities(sure, GENERA, GCD.class_mapping), torch.full((1, 5), 0.2))


def test_targets_of_excluded_classes_are_marked():
    targets = torch.arange(len(SKY_TYPES))
    assert merge_targets(targets, SKY_TYPES, GCD.class_mapping).tolist() == [0, 1, 2, -1, 3, 4, -1]


def test_hbmcd_is_scored_genus_by_genus(roots):
    data = load_dataset("hbmcd", roots["hbmcd"])
    merging = merging_for(GENERA, data.target.classes, data.class_mapping, dataset="hbmcd")
    probabilities = torch.rand(4, len(GENERA), generator=torch.Generator().manual_seed(1)).softmax(1)
    merged = merge_probabilities(probabilities, GENERA, merging)
    kept = [index for index, genus in enumerate(GENERA) if genus != "Ct"]
    torch.testing.assert_close(merged, probabilities[:, kept] / probabilities[:, kept].sum(1, keepdim=True))
    assert merge_targets(torch.tensor([0, 10]), data.target.classes, merging).tolist() == [0, -1]


@pytest.mark.parametrize(("name", "scored"), [("gcd", 20), ("hbmcd", 20)])
def test_a_report_lists_what_was_not_scored(roots, name, scored):
    data = load_dataset(name, roots[name], size=(32, 32))
    report = evaluate(create("cloud-tiny", size=(32, 32)), data, n_bootstrap=0)
    assert len(report.predictions.labels) == scored
    assert report.predictions.classes == data.class_mapping.classes
    text = report.text()
    assert all(excluded in text for excluded in data.class_mapping.excluded.values())
    assert "excluded from the sums: Ct" in text


def test_a_model_of_the_sets_own_classes_is_scored_as_it_is():
    assert merging_for(SKY_TYPES, SKY_TYPES, GCD.class_mapping, dataset="gcd") is None


def test_a_model_of_genera_cannot_be_scored_on_swimcat(roots):
    data = load_dataset("swimcat", roots["swimcat"])
    with pytest.raises(DatasetError, match="so no score can be computed"):
        merging_for(GENERA, data.target.classes, data.class_mapping, dataset="swimcat")
    own = create("cloud-tiny", classes=data.target.classes)
    assert merging_for(own.target.classes, data.target.classes, data.class_mapping, dataset="swimcat") is None


def test_unmapped_classes_are_an_error():
    with pytest.raises(DatasetError, match=r"ccsn: its classes \(Ci, Cu\) are not the model's \(a, b\)"):
        merging_for(("a", "b"), ("Ci", "Cu"), None, dataset="ccsn")
    with pytest.raises(
        DatasetError, match=r"merged from Ac, Cc, Ci, Cs, .* which are not classes of this model \(Cu"
    ):
        merging_for(("Cu",), SKY_TYPES, GCD.class_mapping, dataset="gcd")


@pytest.mark.parametrize(
    ("merged", "excluded", "message"),
    [
        ({"a": ("Ci",), "b": ("Ci",)}, {}, "merged twice"),
        ({"a": ("Ci",)}, {"a": "why"}, "both merged and excluded"),
        ({"a": ()}, {}, "contain no model class"),
    ],
)
def test_a_contradictory_mapping_is_refused(merged, excluded, message):
    with pytest.raises(ValueError, match=message):
        ClassMapping(merged, excluded)
