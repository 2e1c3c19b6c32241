"""Registry of models: grammar of names, lookup, suggestions, tags, wildcards, backbone families."""

from __future__ import annotations

import subprocess
import sys

import pytest

from geovision import registry
from geovision.errors import OptionError, UnknownDatasetError, UnknownModelError, UnknownTaskError
from geovision.spec import ModelSpec


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("cloud-mobilenetv2", ("cloud", "mobilenetv2", "")),
        ("cloud-mobilenetv2.ccsn", ("cloud", "mobilenetv2", "ccsn")),
        ("cloud-vit-small.a.b", ("cloud", "vit-small", "a.b")),
        ("hail-unet-resnet18", ("hail", "unet-resnet18", "")),
        ("cloud", ("cloud", "", "")),
        ("", ("", "", "")),
    ],
)
def test_a_name_is_task_architecture_and_tag(name: str, parts: tuple[str, str, str]):
    assert registry.split_name(name) == parts


def test_a_curated_name_takes_precedence_over_a_backbone_of_the_same_name():
    assert "resnet50" in registry.timm_names()
    assert registry.find_model("cloud-resnet50") is registry.models()["cloud-resnet50"]


def test_any_backbone_of_a_family_is_a_model():
    spec = registry.find_model("cloud-convnext_atto")
    assert (spec.name, spec.task, spec.model_args["backbone"]) == (
        "cloud-convnext_atto",
        "cloud",
        "convnext_atto",
    )


def test_the_names_read_from_the_source_of_timm_are_those_that_it_registers():
    import timm

    assert sorted(registry.timm_names()) == sorted(timm.list_models())


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("cloud-resnet5", "cloud-resnet50"),
        ("cloud-mobilnetv2", "cloud-mobilenetv2"),
        ("clod-resnet50", "cloud-resnet50"),
        ("cloud-convnext_tinny", "cloud-convnext_tiny"),
    ],
)
def test_a_wrong_name_suggests_the_nearest_ones(wrong: str, meant: str):
    with pytest.raises(
        UnknownModelError, match=f"'{wrong}' is not a geovision model. Did you mean"
    ) as caught:
        registry.find_model(wrong)
    assert meant in caught.value.nearest


def test_an_unknown_name_refers_to_the_list_of_models():
    with pytest.raises(
        UnknownModelError, match=r"begins with its task, one of: .*cloud.*geovision list"
    ) as caught:
        registry.find_model("xyzzy")
    assert caught.value.nearest == []


def test_a_task_alone_is_no_model_and_refers_to_its_models():
    with pytest.raises(UnknownModelError, match="It is a task: `geovision list --task cloud` shows"):
        registry.find_model("cloud")


def test_a_wrong_name_fails_before_torch_is_imported():
    program = """
import sys, geovision
try:
    geovision.create("cloud-resnet5", pretrained=True)
except geovision.GeovisionError as error:
    assert "cloud-resnet50" in str(error), error
    print("torch" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


def test_a_tag_that_names_no_weights_lists_those_that_exist():
    with pytest.raises(OptionError, match=r"'cloud-resnet50' has no weights tagged 'a1_in1k'; known tags: "):
        registry.find_model("cloud-resnet50.a1_in1k")


def test_every_tag_of_the_registry_is_found_by_its_name():
    for spec in registry.models().values():
        for weight in spec.weights:
            assert registry.find_model(f"{spec.name}.{weight.tag}") is spec


def test_wildcards_keep_the_order_of_the_registry():
    found = registry.list_models("cloud-mobilenet*")
    assert found == [name for name in registry.models() if name.startswith("cloud-mobilenet")]
    assert len(found) >= 3
    assert registry.list_models("nothing-*") == []


def test_models_are_listed_by_task_and_by_weights():
    assert set(registry.list_models(task="cloud")) == {
        n for n, s in registry.models().items() if s.task == "cloud"
    }
    with_weights, without = registry.list_models(pretrained=True), registry.list_models(pretrained=False)
    assert sorted(with_weights + without) == sorted(registry.models())
    assert all(registry.find_model(name).weights for name in with_weights)
    assert not any(registry.find_model(name).weights for name in without)


def test_backbones_are_listed_on_request_each_name_once():
    everything = registry.list_models(task="cloud", backbones=True)
    assert len(everything) == len(set(everything)) > 1000
    assert "cloud-convnext_atto" in everything
    assert "cloud-convnext_atto" not in registry.list_models(task="cloud")
    assert set(registry.list_models(backbones=True, pretrained=True)) == set(
        registry.list_models(pretrained=True)
    )


def test_unknown_tasks_and_datasets_suggest_the_nearest_ones():
    with pytest.raises(UnknownTaskError, match="Did you mean 'cloud'"):
        registry.list_models(task="clouds")
    with pytest.raises(UnknownDatasetError, match="Did you mean 'ccsn'"):
        registry.dataset_reference("ccns")


def test_every_task_has_models_a_dataset_and_a_demonstration():
    for name, task in registry.tasks().items():
        assert task.name == name
        assert registry.list_models(task=name), name
        assert registry.list_datasets(name)[0] == task.dataset
        assert registry.find_model(task.demo.model).task == name
        for reference in task.published:
            assert registry.find_model(reference.model).task == name


class _Point:
    """An entry point as in importlib.metadata, with given entries."""

    def __init__(self, *entries: ModelSpec) -> None:
        self.name = "another"
        self._entries = entries

    def load(self) -> tuple[ModelSpec, ...]:
        return self._entries


@pytest.fixture
def with_plugin(monkeypatch: pytest.MonkeyPatch):
    """Return a function that adds entries like a plugin, for one test."""

    def add(*entries: ModelSpec) -> None:
        monkeypatch.setattr(registry, "entry_points", lambda *, group: [_Point(*entries)])
        registry._load_entries.cache_clear()

    yield add
    monkeypatch.undo()
    registry._load_entries.cache_clear()


def test_two_entries_of_one_name_are_refused(with_plugin):
    with_plugin(registry.find_model("cloud-resnet50"))
    with pytest.raises(OptionError, match="two registry entries have the name 'cloud-resnet50'"):
        registry.models()


def test_the_name_of_a_model_begins_with_its_task(with_plugin):
    with_plugin(ModelSpec("fog-resnet50", "cloud", "geovision.models.timm_backbone:build"))
    with pytest.raises(OptionError, match="'fog-resnet50' must begin with its task"):
        registry.models()
