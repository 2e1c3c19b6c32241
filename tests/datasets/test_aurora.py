"""Adapters of the auroral data sets: layouts, nights, class order, label files."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import geovision
from geovision import registry
from geovision.datasets.kvammen import CLASS_ORDER, KvammenAurora, parse_night
from geovision.datasets.oath import OATH, read_labels
from geovision.datasets.synthetic import aurora
from geovision.errors import DatasetError, OptionError
from geovision.heads.prediction import ClassPrediction
from geovision.metrics.class_mapping import merging_for

TARGET = registry.find_task("aurora").target


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve generated nights in the published layout; tests must not write to them."""
    return aurora.write(
        tmp_path_factory.mktemp("nights"), 12 * aurora.FRAMES_PER_NIGHT, seed=7, size=(48, 48)
    )


def frame(path: Path, gray: int = 40) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(gray).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((48, 48)).save(path)
    return path


# --- the published layout -----------------------------------------------------------------------


@pytest.mark.parametrize("test_folder", ["TestImages", "TestingImages", "testimages"])
def test_the_number_at_the_end_of_a_name_is_the_class(tmp_path: Path, test_folder: str):
    for number in range(7):
        frame(tmp_path / "TrainingImages" / f"img{number:03d}_class_{number}.png", number)
    frame(tmp_path / test_folder / "x_class_5.png", 50)
    frame(tmp_path / test_folder / "._x_class_5.png", 50)
    data = KvammenAurora(tmp_path)
    assert data.target == TARGET
    assert data.labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 5]
    assert KvammenAurora(tmp_path, split="test").names == [f"{test_folder}/x_class_5.png"]
    assert len(KvammenAurora(tmp_path, split="train")) == 7
    assert data[0]["inputs"]["image"].shape == (3, 128, 128)


def test_one_folder_is_enough_and_the_other_split_is_reported_missing(tmp_path: Path):
    frame(tmp_path / "TestImages" / "a_class_0.png")
    assert len(KvammenAurora(tmp_path)) == 1
    with pytest.raises(DatasetError, match="the train split is missing; expected TrainingImages and"):
        KvammenAurora(tmp_path, split="train")


def test_another_order_of_the_classes_changes_the_labels_not_the_classes(tmp_path: Path):
    for number in range(7):
        frame(tmp_path / "TrainingImages" / f"a_class_{number}.png", number)
    order = tuple(reversed(CLASS_ORDER))
    data = KvammenAurora(tmp_path, class_order=order)
    assert data.target == TARGET
    assert data.labels.tolist() == [6, 5, 4, 3, 2, 1, 0]
    for wrong in (CLASS_ORDER[:6], (*CLASS_ORDER[:6], "corona"), (*CLASS_ORDER, "breakup")):
        with pytest.raises(OptionError, match=r"it must contain each of arcs-bands, .* once"):
            KvammenAurora(tmp_path, class_order=wrong)


def texts(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in (*axes.texts, axes.title)]


def test_the_sample_plot_shows_a_frame_of_each_number(nights: Path):
    order = (*CLASS_ORDER[1:], CLASS_ORDER[0])
    expected = {f"class_{number}: {code}" for number, code in enumerate(order)}
    assert expected <= set(texts(KvammenAurora(nights, class_order=order).plot_class_order()))
    some = KvammenAurora(nights)
    few = some.subset(np.flatnonzero(np.isin(some.labels, [2, 5])))
    assert [text for text in texts(few.plot_class_order()) if text] == [
        "class_2: colored",
        "class_5: clear-faint",
    ]


def test_a_frame_is_drawn_with_its_prediction(nights: Path):
    data = KvammenAurora(nights)
    prediction = ClassPrediction(
        source="x", label="patchy", confidence=0.7, probabilities={"patchy": 0.7, "edge": 0.3}
    )
    figure = data.plot(data[0], prediction)
    shown = " ".join(
        [*texts(figure), *(t.get_text() for axes in figure.axes for t in axes.get_yticklabels())]
    )
    assert data.target.classes[data.labels[0]] in shown
    assert "patchy" in shown


# --- nights -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stem", "night"),
    [
        ("20190112_213000_class_3", "2019-01-12"),
        ("20190113_021500_class_3", "2019-01-12"),  # before noon: of the evening before
        ("20190101_000000_class_3", "2018-12-31"),
        ("20190113T1159_class_0", "2019-01-12"),
        ("20190113-120000_class_0", "2019-01-13"),
        ("201901130215_class_0", "2019-01-12"),
        ("20190113_class_0", "2019-01-13"),  # without a time, the date itself
        ("20190113_8_class_0", "2019-01-13"),
        ("00001234_class_0", ""),
        ("20191332_class_0", ""),
        ("20190113_256000_class_0", ""),
        ("123456789_class_0", ""),
        ("a20190113_class_0", ""),
        ("class_0", ""),
    ],
)
def test_the_night_of_a_name(stem: str, night: str):
    assert parse_night(stem) == night


def test_no_night_is_in_two_splits(nights: Path):
    data = KvammenAurora(nights)
    assert len(set(data.groups)) == 12
    train, test = (KvammenAurora(nights, split=split) for split in ("train", "test"))
    assert (len(set(train.groups)), len(set(test.groups))) == (9, 3)
    for fraction in (0.1, 0.3, 0.5):
        kept, held_back = data.group_split(fraction, seed=1)
        assert not set(kept.groups) & set(held_back.groups)
    units = np.array(data.groups)
    for k in (2, 3, 4):
        for kept, held_back in data.folds(k=k):
            assert not set(units[kept]) & set(units[held_back])
    assert not set(train.groups) & set(test.groups)


def test_a_random_split_by_frame_would_leak(nights: Path):
    data = KvammenAurora(nights)
    units = np.array(data.groups)
    assert all(set(units[kept]) & set(units[held]) for kept, held in data.folds(k=3, grouped=False))


def test_frames_without_a_date_are_grouped_by_similarity(tmp_path: Path):
    first = frame(tmp_path / "TrainingImages" / "a_class_0.png", 1)
    frame(tmp_path / "TrainingImages" / "b_class_1.png", 2)
    (tmp_path / "TestImages").mkdir()
    shutil.copy(first, tmp_path / "TestImages" / "c_class_0.png")
    units = KvammenAurora(tmp_path).groups
    assert units[0] == units[2] != units[1]


def test_the_public_function_loads_the_data_set(nights: Path):
    data = geovision.load_dataset("kvammen", nights, split="test", size=(32, 32))
    assert data[0]["inputs"]["image"].shape == (3, 32, 32)
    assert geovision.list_datasets("aurora")[:2] == ["kvammen", "oath"]
    assert geovision.load_dataset("folder", nights).task == "cloud"  # a new task does not change this


# --- other layouts ------------------------------------------------------------------------------


def _deeper(root: Path) -> None:
    frame(root / "data" / "TrainingImages" / "a_class_0.png")


def _loose(root: Path) -> None:
    frame(root / "a_class_0.png")


def _strange(root: Path) -> None:
    (root / "cats").mkdir(parents=True)


def _both(root: Path) -> None:
    frame(root / "TestImages" / "a_class_0.png")
    frame(root / "TestingImages" / "a_class_0.png")


def _hollow(root: Path) -> None:
    (root / "TrainingImages").mkdir(parents=True)


def _unnamed(root: Path) -> None:
    frame(root / "TrainingImages" / "20190113_2.png")


def _beyond(root: Path) -> None:
    frame(root / "TrainingImages" / "a_class_7.png")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "no such folder; kvammen expects TrainingImages and"),
        (lambda root: root.mkdir(), "the folder is empty; expected TrainingImages"),
        (_deeper, r"the folders are in .*/data, pass that folder; expected"),
        (_loose, "frames without a split folder"),
        (_strange, "no TrainingImages or TestImages among cats"),
        (_both, "TestImages and TestingImages could both be the test split"),
        (_hollow, "contains no image"),
        (_unnamed, r"20190113_2\.png: the name does not end in class_0 to class_6"),
        (_beyond, r"a_class_7\.png: there is no class 7; expected names that end in class_0 to class_6"),
    ],
    ids=["missing", "empty", "deeper", "loose", "strange", "both", "hollow", "unnamed", "beyond"],
)
def test_another_layout_is_reported_in_one_line(tmp_path: Path, make, message: str):
    make(tmp_path / "root")
    with pytest.raises(DatasetError, match=message) as error:
        KvammenAurora(tmp_path / "root")
    assert "\n" not in str(error.value)


def test_a_broken_frame_is_named(tmp_path: Path):
    path = tmp_path / "TrainingImages" / "a_class_0.png"
    path.parent.mkdir()
    path.write_bytes(b"\x89PNG\r\n\x1a\n cut off")
    with pytest.raises(DatasetError, match=r"kvammen: .*a_class_0\.png.*geovision audit kvammen"):
        KvammenAurora(tmp_path)[0]


# --- OATH ---------------------------------------------------------------------------------------

HEADER = "class2,class6,picNum,picType,rotAng"
ROWS = ["0,2,00001,discrete,334", "0,0,00002,arc,118", "1,5,00003,noaurora,012", "1,4,00004,moon,001"]


def oath(
    root: Path,
    *,
    before: list[str] = (),
    header: str = HEADER,
    rows: list[str] = ROWS,
    split: str | None = None,
    folder: str = "classifications/classifications.csv",
) -> Path:
    table = root / folder
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text("\n".join([*before, header, *rows]) + "\n", encoding="utf-8")
    if split is not None:
        (table.parent / "train_test_split.csv").write_text(split)
    for number in (1, 2, 3, 4):
        frame(root / f"images/cropped_scaled/{number:05d}.png", number)
    return root


@pytest.mark.parametrize(
    "before",
    [
        [],
        [""],
        ["-" * 79, "All data is licensed under CC BY 4.0,", "in particular, all images,", "-" * 79],
        [f"# a comment, line {number}" for number in range(40)],
        ["\ufeff# marked by an editor", "class2 and class6 are numbers"],
    ],
    ids=["none", "blank", "licence", "forty", "byte order mark"],
)
def test_the_header_is_found_in_any_line(tmp_path: Path, before: list[str]):
    data = OATH(oath(tmp_path, before=before))
    assert [data.target.classes[label] for label in data.labels] == ["discrete", "arc", "clear", "moon"]


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("picNum,class6,class2", ["00001,2,0", "00002,0,0", "00003,5,1", "00004,4,1"]),
        (" class2 , class6 , picNum , picType , rotAng ", [row.replace(",", " , ") for row in ROWS]),
        (HEADER, [row + "\r" for row in ROWS]),
    ],
    ids=["another order", "spaces", "carriage returns"],
)
def test_columns_are_identified_by_name(tmp_path: Path, header: str, rows: list[str]):
    assert OATH(oath(tmp_path, header=header, rows=rows)).labels.tolist() == [2, 0, 5, 4]


def test_both_sets_of_labels(tmp_path: Path):
    root = oath(tmp_path, folder="classification/classification.csv")
    two = OATH(root, labels="class2")
    assert two.target.classes == ("aurora", "no-aurora")
    assert two.labels.tolist() == [0, 0, 1, 1]
    assert two.target.card("aurora").name.zh
    with pytest.raises(OptionError, match="oath has no labels 'class3'; known: class6, class2"):
        OATH(root, labels="class3")


def test_the_published_split_counts_rows_from_0(tmp_path: Path):
    lines = ["3,0,1,2", "0,1,2,3", "0,1,2,3", "0,1,2,3", "2,1,0,3"]
    root = oath(tmp_path, split="\n".join(lines))
    assert [name[-9:] for name in OATH(root, split="train").names] == ["00001.png", "00002.png", "00004.png"]
    assert [name[-9:] for name in OATH(root, split="test").names] == ["00003.png"]
    assert [name[-9:] for name in OATH(root, split="test", repetition=4).names] == ["00004.png"]
    with pytest.raises(OptionError, match="oath has no repetition 5; choose 0 to 4"):
        OATH(root, repetition=5)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (None, r"no frame of the train split; .*train_test_split\.csv is missing"),
        ("0,1,2\n" * 5, "line 1 is not a permutation of the 4 rows"),
        ("4,1,2,3\n" * 5, "line 1 is not a permutation of the 4 rows"),
        ("a,b\n", "expected five lines of numbers"),
    ],
    ids=["missing", "short", "from one", "words"],
)
def test_an_incompatible_split_file_is_refused(tmp_path: Path, split: str | None, message: str):
    with pytest.raises(DatasetError, match=message):
        OATH(oath(tmp_path, split=split), split="train")


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        ("a,b,c", ROWS, "no line with the columns picNum, class2, class6"),
        (HEADER, ["0,two,00001,discrete,334"], "line 2: class6 is 'two', expected a number"),
        (HEADER, [*ROWS, "0,2"], "line 6: picNum is '', expected a number"),
        (HEADER, ["0,6,00001,aurora,334"], "label 6; expected 0 to 5"),
    ],
    ids=["header", "word", "short", "beyond"],
)
def test_an_invalid_label_file_is_reported(tmp_path: Path, header: str, rows: list[str], message: str):
    with pytest.raises(DatasetError, match=message):
        OATH(oath(tmp_path, header=header, rows=rows))


def test_a_folder_without_oath_is_reported(tmp_path: Path):
    with pytest.raises(DatasetError, match=r"no classifications/classifications\.csv; expected"):
        OATH(tmp_path)
    oath(tmp_path / "oath")
    with pytest.raises(DatasetError, match=r"the files are in .*/oath, pass that folder"):
        OATH(tmp_path)


def test_a_subset_is_read_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    root = oath(tmp_path)
    (root / "images/cropped_scaled/00002.png").unlink()
    with caplog.at_level(logging.WARNING, "geovision"):
        assert OATH(root).labels.tolist() == [2, 5, 4]
    assert "contains only a part of OATH: 3 of 5824 frames" in caplog.text


@pytest.mark.real_data
def test_the_real_sample(shared_data: Path):
    root = shared_data / "oath"
    data = OATH(root)
    labels = {
        name[-9:-4]: data.target.classes[label] for name, label in zip(data.names, data.labels, strict=True)
    }
    assert labels == {
        "00001": "discrete",
        "00002": "discrete",
        "00004": "arc",
        "00005": "arc",
        "00006": "diffuse",
        "00007": "diffuse",
        "00008": "diffuse",
        "00011": "diffuse",
        "00014": "diffuse",
        "00053": "arc",
    }
    assert (OATH(root, labels="class2").labels == 0).all()
    train, test = (OATH(root, split=split).names for split in ("train", "test"))
    assert (len(train), len(test)) == (6, 4)
    assert not set(train) & set(test)
    rows = read_labels(root / "classifications" / "classifications.csv")
    counts = np.bincount([int(row["class6"]) for row in rows])
    assert dict(zip(data.target.classes, counts.tolist(), strict=True)) == OATH.card.class_counts["class6"]
    # Frames of one display are similar, and the published split does not keep them together.
    assert len(set(data.groups)) < len(data)
    assert set(OATH(root, split="train").groups) & set(OATH(root, split="test").groups)


def test_a_model_of_the_seven_forms_cannot_be_scored_on_oath(tmp_path: Path):
    root = oath(tmp_path)
    for labels in ("class6", "class2"):
        data = OATH(root, labels=labels)
        assert set(data.target.classes) <= set(OATH.class_mapping.excluded)
        with pytest.raises(DatasetError, match="correspond to none of the model's"):
            merging_for(TARGET.classes, data.target.classes, data.class_mapping, dataset="oath")
    own = geovision.create("aurora-tiny", classes=data.target.classes, size=(32, 32))
    report = geovision.evaluate(own, OATH(root, labels="class2", size=(32, 32)), n_bootstrap=0)
    assert report.predictions.classes == ("aurora", "no-aurora")


# --- cards and classes --------------------------------------------------------------------------


@pytest.mark.parametrize("adapter", [KvammenAurora, OATH], ids=lambda each: each.card.name)
def test_cards_are_complete(adapter):
    card = adapter.card
    assert registry.dataset_reference(card.name)[0].name == "aurora"
    assert all((card.title, card.source, card.license, card.citation, card.split_group, card.layout))
    assert len(card.caveats) >= 3


def test_every_form_has_a_card_in_two_languages():
    for card in TARGET.cards:
        assert card.name.en
        assert card.name.zh
        assert card.caution
        assert card.facts
        assert all(fact.heading.zh and fact.text.en and fact.text.zh for fact in card.facts)
