"""Training: convergence, recipes, stages, saved files, and unchanged global state."""

from __future__ import annotations

import copy
import dataclasses
import gc
import json
import logging
import math
import signal
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.blobs import CLASSES, Blobs, Undecided
from helpers.training import PLAIN, assert_same, column, state, tiny, train, with_stage
from torch import nn

import geovision
from geovision import registry
from geovision.errors import DatasetError, InputError, OptionError, WeightsCorruptError
from geovision.heads.classification import cross_entropy
from geovision.models.geomodel import GeoModel
from geovision.spec import Augment, ModelSpec, Recipe, Stage
from geovision.training import optim
from geovision.training.data_loading import EpochBatches, InMemoryDataset, load_into_memory
from geovision.training.logit_adjustment import class_counts


def accuracy(model: GeoModel, data: Blobs) -> float:
    with torch.inference_mode():
        predicted = model(data.pictures.float() / 255).argmax(1)
    return float((predicted == data.labels).float().mean())


# --- convergence --------------------------------------------------------------------------------


def test_a_network_learns_in_sixty_steps():
    model = tiny()
    recipe = Recipe(
        stages=(Stage(epochs=10, batch_size=16, lr=5e-3, warmup=1),),
        augment=Augment(crop_area=(0.6, 1.0), flip_x=True, rotate=5, brightness=0.05, mixup=0.2),
        label_smoothing=0.05,
        ema=0.9,
    )
    train(model, Blobs(96), recipe)
    assert not model.training
    assert model.training_record["steps"] == 60
    assert accuracy(model, Blobs(96, seed=1)) > 0.95


def test_a_trained_model_flags_outliers():
    new = Blobs(60, seed=1)
    model = train(tiny(), Blobs(64), validation=new)
    with torch.inference_mode():
        ordinary = model.head.outlier(model.features(new.pictures.float() / 255))
        strange = model.head.outlier(model.features(1 - new.pictures.float() / 255))
    assert float(ordinary.quantile(0.98)) == pytest.approx(1, abs=1e-3)
    assert float((strange > 1).float().mean()) > 0.5
    assert model.predict(1 - new.pictures[strange.argmax()].float() / 255)[0].flags == ("not_a_sky",)
    assert not train(tiny(), Blobs(48)).head.outlier.fitted, "too few samples for a fit"


def test_mixed_precision_computes_in_half_and_keeps_float32_weights():
    model, computed = tiny(), set()
    model.head.register_forward_pre_hook(lambda module, given: computed.add(given[0].dtype))
    train(model, Blobs(96), dataclasses.replace(with_stage(PLAIN, epochs=8), precision="bf16-mixed"))
    assert torch.bfloat16 in computed
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert accuracy(model, Blobs(96, seed=1)) > 0.9


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU computes in half precision")
def test_half_precision_without_a_gpu_names_the_alternatives():
    with pytest.raises(OptionError, match="needs a GPU; use 'auto' or '32-true' on a CPU"):
        train(tiny(), Blobs(32), dataclasses.replace(PLAIN, precision="16-mixed"))


def by_hand(model: GeoModel, data: Blobs, recipe: Recipe) -> tuple[GeoModel, GeoModel]:
    """Train in plain PyTorch; return the last weights and their running average."""
    stage = recipe.stages[0]
    batches = EpochBatches(load_into_memory(data), batch_size=stage.batch_size, seed=(recipe.seed, 0))
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": stage.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=stage.lr,
        foreach=False,
    )
    average, step, total = copy.deepcopy(model), 0, stage.epochs * len(batches)
    model.train()
    for epoch in range(stage.epochs):
        batches.set_epoch(epoch)
        for batch in batches:
            for group in optimizer.param_groups:
                group["lr"] = stage.lr * 0.5 * (1 + math.cos(math.pi * step / total))
            logits = model(batch.inputs["image"].float() / 255)
            loss = cross_entropy(logits, batch.target, label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate = min(recipe.ema, (1 + step) / (10 + step))
            for a, b in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
                a.copy_(rate * a + (1 - rate) * b if step and a.is_floating_point() else b)
            step += 1
    return model.eval(), average.eval()


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_training_matches_plain_pytorch(ema):
    data = Blobs(64)
    recipe = dataclasses.replace(PLAIN, label_smoothing=0.1, ema=ema)
    last, average = by_hand(tiny(), data, recipe)
    trained = train(tiny(), data, recipe)
    found, expected = (
        {name: value for name, value in state(each).items() if "outlier" not in name}
        for each in (trained, average if ema else last)
    )
    assert_same(found, expected, tolerance=2e-4)


def test_the_seed_determines_the_weights():
    recipe = dataclasses.replace(PLAIN, augment=Augment(crop_area=(0.5, 1.0), brightness=0.2, mixup=0.3))
    first = state(train(tiny(drop_rate=0.3), Blobs(48), recipe))
    torch.manual_seed(99)  # previous random numbers have no effect
    model = tiny(drop_rate=0.3)
    torch.manual_seed(77)
    assert_same(state(train(model, Blobs(48), recipe)), first)
    other = state(train(tiny(drop_rate=0.3), Blobs(48), dataclasses.replace(recipe, seed=1)))
    assert not torch.equal(other["head.linear.weight"], first["head.linear.weight"])


@pytest.fixture
def one_thread():
    """Use one thread.

    A reader process takes one thread of torch. Another number of threads changes the order of summation,
    which is visible in bfloat16.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_data_in_memory_and_data_read_on_demand_train_alike(monkeypatch, one_thread):
    stored = state(train(tiny(), Blobs(48)))
    monkeypatch.setattr("geovision.training.trainer.load_into_memory", lambda data, *, workers: None)
    assert_same(state(train(tiny(), Blobs(48), num_workers=1)), stored, tolerance=1e-5)


def test_threads_used_for_reading_are_restored(monkeypatch):
    monkeypatch.setattr("geovision.training.trainer.load_into_memory", lambda data, *, workers: None)
    threads = torch.get_num_threads()
    train(tiny(), Blobs(48), num_workers=1)
    assert torch.get_num_threads() == threads


def test_missing_labels_have_no_effect():
    known, unknown = Blobs(48, unlabelled=0.4), Blobs(48, unlabelled=0.4)
    unknown.pictures[~unknown.known] = 0  # so that they do not affect the other labels
    model = train(tiny(), known, with_stage(PLAIN, batch_norm="frozen"))
    other = train(tiny(), unknown, with_stage(PLAIN, batch_norm="frozen"))
    assert not bool(known.known.all())
    assert_same(state(model), state(other), tolerance=1e-5)


def test_soft_labels_are_used_for_training_and_not_for_validation(tmp_path: Path):
    recipe = dataclasses.replace(with_stage(PLAIN, epochs=8), conflict_labels="soft")
    model = train(tiny(), Undecided(48), recipe, validation=Undecided(48), out=tmp_path / "run")
    with torch.inference_mode():
        share = model(Undecided(48).pictures.float() / 255).softmax(1)
    assert float((share - 1 / 3).abs().max()) < 0.15
    row = model.training_record["last_epoch"]
    assert row["macro_f1"] < 0.8
    assert abs(row["val_loss"] - math.log(3)) < 0.1
    with pytest.raises(OptionError, match="near-duplicates"):
        train(tiny(), Blobs(48), recipe)


def test_embeddings_of_scalars_are_trained():
    class Measured(Blobs):
        def read_sample(self, index):
            sample = super().read_sample(index)
            inputs = sample["inputs"] | {"scalars": torch.tensor([1.0])}
            is_valid = torch.tensor([index % 2 == 0])
            return sample | {"inputs": inputs, "valid": {"scalars": is_valid}}

    model = tiny(scalars=["cloud_base_height"])
    before = state(model)
    train(model, Measured(32), with_stage(PLAIN, train="head", epochs=1))
    changed = [name for name, p in model.named_parameters() if not torch.equal(p, before[name])]
    assert any(name.startswith("network.embed") for name in changed)
    assert not any(name.startswith("network.backbone") for name in changed)


# --- stages -------------------------------------------------------------------------------------


def test_a_linear_probe_leaves_the_backbone_unchanged():
    model = tiny()
    before = state(model)
    train(model, Blobs(48), with_stage(PLAIN, train="head"))
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    after = state(model)
    changed |= {name for name in before if "running_" in name and not torch.equal(after[name], before[name])}
    assert changed == {"head.linear.weight", "head.linear.bias"}
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_frozen_blocks_keep_weights_and_statistics():
    model = tiny()
    before = state(model.network)
    train(model, Blobs(48), with_stage(PLAIN, freeze=2))
    layers = optim._layer_indices(optim.find_backbone(model), coarse=True)
    for name, value in model.network.state_dict().items():
        layer = layers.get(name.removeprefix("model."))
        if layer is not None:
            assert torch.equal(value, before[name]) == (layer < 2), name
    assert torch.equal(model.network.model.bn1.running_mean, before["model.bn1.running_mean"])


def test_frozen_statistics_are_kept_and_weights_are_not():
    model = tiny()
    before = state(model)
    train(model, Blobs(48), with_stage(PLAIN, batch_norm="frozen"))
    for name, value in model.state_dict().items():
        if "running_" in name:
            assert torch.equal(value, before[name]), name
    assert not torch.equal(model.network.model.conv1[0].weight, before["network.model.conv1.0.weight"])


def test_stages_use_their_own_sizes(tmp_path: Path):
    seen = []

    class Sized(Blobs):
        def with_size(self, size):
            seen.append(size)
            other = copy.copy(self)
            other.pictures = nn.functional.interpolate(self.pictures.float(), size).round().to(torch.uint8)
            return other

    recipe = Recipe(
        stages=(Stage(epochs=1, train="head", batch_size=16), Stage(epochs=2, size=(48, 40), batch_size=8)),
        augment=Augment(crop_area=(0.25, 0.75)),
        precision="32-true",
    )
    sizes = []
    model = tiny()
    model.register_forward_pre_hook(lambda _, args: sizes.append(tuple(args[0]["image"].shape[-2:])))
    train(model, Sized(48), recipe, validation=Sized(20, seed=1), out=tmp_path / "run")
    # A crop has half of the area on average, so an image is read sqrt(2) times as large.
    # Validation uses the size of later predictions.
    assert seen == [(45, 45), (32, 32), (68, 57)]
    assert sizes.count((48, 40)) == 12
    assert set(sizes) == {(32, 32), (48, 40)}
    rows = (tmp_path / "run" / "log.csv").read_text().splitlines()
    assert [row.split(",")[:3] for row in rows[1:]] == [["1", "1", "3"], ["2", "2", "9"], ["2", "3", "15"]]
    assert model.training_record["epochs"] == 3


def test_layer_decay_reduces_rates_and_only_matrices_have_weight_decay():
    torch.manual_seed(0)
    model = geovision.create("cloud-vit-small", classes=CLASSES, size=(32, 32))
    stage = Stage(epochs=1, lr=1e-3, head_lr=1e-2, weight_decay=0.1, layer_decay=0.5)
    groups = optim.parameter_groups(model, stage)
    rate, decay = {}, {}
    names = {id(p): name for name, p in model.named_parameters()}
    for group in groups:
        for parameter in group["params"]:
            name = names.pop(id(parameter))
            rate[name], decay[name] = group["lr"], group["weight_decay"]
    assert not names
    vit = "network.model."
    assert rate["head.linear.weight"] == 1e-2
    assert rate[f"{vit}norm.weight"] == rate[f"{vit}blocks.11.mlp.fc1.weight"] == 1e-3
    assert rate[f"{vit}blocks.10.attn.qkv.weight"] == 5e-4
    assert rate[f"{vit}patch_embed.proj.weight"] == pytest.approx(1e-3 * 0.5**12)
    assert decay[f"{vit}blocks.3.mlp.fc1.weight"] == 0.1
    for name in ("pos_embed", "cls_token", "norm.weight", "blocks.3.mlp.fc1.bias"):
        assert decay[f"{vit}{name}"] == 0, name


def test_the_learning_rate_warms_up_and_falls_by_steps():
    model = tiny()
    stage = Stage(epochs=4, lr=1.0, warmup=1.5)
    optimizer, schedule = optim.build_optimizer(model, stage, 10)
    rates = []
    for _ in range(40):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(1 / 15)
    assert max(rates) == rates[14] == rates[15] == 1
    assert rates[27] == pytest.approx(0.5, abs=0.05)
    assert 0 < rates[39] < 0.01
    assert np.all(np.diff(rates[15:]) < 0)


def test_a_large_gradient_is_clipped():
    model, free = tiny(), tiny()
    steps = with_stage(PLAIN, optimizer="sgd", lr=1.0, epochs=1, batch_size=48, weight_decay=0.0)
    before = state(model)
    train(model, Blobs(48), with_stage(steps, max_grad_norm=1e-3))
    train(free, Blobs(48), steps)

    def way(trained: GeoModel) -> float:
        steps = [p.detach() - before[name] for name, p in trained.named_parameters()]
        return float(torch.cat([step.flatten() for step in steps]).norm())

    # Nesterov's first step is 1.9 times the gradient.
    assert way(model) == pytest.approx(1.9e-3, rel=1e-3)
    assert way(free) > 0.01


# --- early stopping and best weights ------------------------------------------------------------

# Some labels are wrong, so that memorizing them increases the loss on other samples.
OVERFITTING = Recipe(
    stages=(Stage(epochs=12, batch_size=16, lr=1e-2, schedule="constant"),), precision="32-true"
)


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_the_best_weights_are_kept(tmp_path: Path, ema):
    held = Blobs(64, seed=1, wrong=0.3)
    recipe = dataclasses.replace(OVERFITTING, keep="best", ema=ema)
    model = train(tiny(), Blobs(48, wrong=0.3), recipe, validation=held, out=tmp_path / "run")
    losses = column(tmp_path / "run", "val_loss")
    assert min(losses) < losses[-1] - 0.05
    with torch.inference_mode():
        loss = float(cross_entropy(model(held.pictures.float() / 255), held.labels))
    assert loss == pytest.approx(min(losses), abs=1e-4)


def test_training_stops_when_validation_does_not_improve(tmp_path: Path):
    recipe = dataclasses.replace(OVERFITTING, patience=2)
    model = train(
        tiny(), Blobs(48, wrong=0.3), recipe, validation=Blobs(64, seed=1, wrong=0.3), out=tmp_path / "run"
    )
    losses = column(tmp_path / "run", "val_loss")
    assert len(losses) < 12
    assert min(losses) == losses[-3]
    assert model.training_record["epochs"] == len(losses)


@pytest.mark.parametrize("changes", [{"patience": 3}, {"keep": "best"}])
def test_the_best_epoch_requires_validation(changes):
    with pytest.raises(OptionError, match="validation="):
        train(tiny(), Blobs(32), dataclasses.replace(PLAIN, **changes))


# --- models without gradients -------------------------------------------------------------------


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch):
    """Register a model fitted in closed form, and one that is not fitted."""

    def entry(name, fit):
        return ModelSpec(
            f"cloud-{name}",
            "cloud",
            "helpers.training:build_class_means",
            fit=fit,
            head="geovision.heads.classification:ClassScoreHead",
        )

    class Point:
        name = "means"

        def load(self):
            return [entry("means", "closed_form"), entry("constant", "none")]

    monkeypatch.setattr(registry, "entry_points", lambda *, group: [Point()])
    registry._load_entries.cache_clear()
    yield
    monkeypatch.undo()
    registry._load_entries.cache_clear()


def test_a_model_in_closed_form_is_fitted_saved_and_loaded(plugin, tmp_path: Path):
    model = geovision.create("cloud-means", classes=CLASSES, size=(32, 32))
    train(model, Blobs(60), out=tmp_path / "run")
    # The fit uses normalized inputs, as the forward pass does.
    raw = Blobs(60)
    mean = model.normalize({"image": raw.pictures.float() / 255})["image"].mean((2, 3))
    assert torch.allclose(model.network.means[1], mean[raw.labels == 1].mean(0), atol=1e-5)
    assert accuracy(model, Blobs(60, seed=1)) > 0.95
    loaded = geovision.load(tmp_path / "run" / "model")
    assert_same(state(loaded), state(model))
    assert loaded.training_record["data"] == "blobs"
    assert loaded.training_record["samples"] == 60


def test_a_model_without_a_fit_is_unchanged(plugin, tmp_path: Path):
    model = geovision.create("cloud-constant", classes=CLASSES, size=(32, 32))
    before = state(model)
    assert train(model, Blobs(12), out=tmp_path / "run") is model
    assert_same(state(model), before)
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()


# --- output folder ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training") / "run"
    train(tiny(), Blobs(32), validation=Blobs(16, seed=1), out=folder)
    return folder


def test_a_training_writes_its_recipe_its_log_and_its_model(finished: Path):
    assert sorted(path.name for path in finished.iterdir()) == [
        "last.ckpt",
        "log.csv",
        "model",
        "recipe.json",
        "tensorboard",
    ]
    model = geovision.load(finished / "model")
    record = model.training_record
    assert record["data"] == "blobs"
    assert record["samples"] == 32
    assert record["recipe"]["stages"][0]["lr"] == 3e-3
    assert record["seed"] == 0
    assert (record["epochs"], record["steps"]) == (2, 4)
    assert record["seconds"] > 0
    assert record["versions"]["torch"] == torch.__version__
    assert record["command"]
    assert record["last_epoch"]["macro_f1"] == pytest.approx(column(finished, "macro_f1")[-1])


def test_tensorboard_reads_the_log(finished: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished / "tensorboard"))
    events.Reload()
    losses = events.Scalars("val_loss")
    assert [event.step for event in losses] == [2, 4]
    assert [event.value for event in losses] == pytest.approx(column(finished, "val_loss"))


def test_a_finished_training_is_not_overwritten(finished: Path):
    before = (finished / "model" / "model.safetensors").read_bytes()
    with pytest.raises(OptionError, match=r"finished training.*another folder"):
        train(tiny(), Blobs(32), validation=Blobs(16, seed=1), out=finished)
    assert (finished / "model" / "model.safetensors").read_bytes() == before


def test_a_finished_training_that_is_resumed_returns_its_model(finished: Path):
    model = train(tiny(), Blobs(32), validation=Blobs(16, seed=1), out=finished, resume=True)
    assert_same(state(model), state(geovision.load(finished / "model")))
    assert model.training_record["epochs"] == 2


@pytest.mark.parametrize(
    ("model", "data", "recipe", "expected"),
    [
        ({}, {}, with_stage(PLAIN, batch_size=8), "recipe.stages.1.batch_size 16, not 8"),
        ({}, {}, dataclasses.replace(PLAIN, seed=5), "recipe.seed 0, not 5"),
        ({}, {"n": 48}, PLAIN, "data.samples 32, not 48"),
        ({"drop_rate": 0.5}, {}, PLAIN, "options.drop_rate 0.0, not 0.5"),
    ],
)
def test_another_training_does_not_resume_here(finished: Path, model, data, recipe, expected):
    with pytest.raises(OptionError) as error:
        train(
            tiny(**model),
            Blobs(**({"n": 32} | data)),
            recipe,
            validation=Blobs(16, seed=1),
            out=finished,
            resume=True,
        )
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_files_of_other_programs_are_not_overwritten(tmp_path: Path):
    (tmp_path / "last.ckpt").write_bytes(b"mine")
    with pytest.raises(OptionError, match="empty folder"):
        train(tiny(), Blobs(32), out=tmp_path)
    assert (tmp_path / "last.ckpt").read_bytes() == b"mine"


def test_a_damaged_checkpoint_is_one_line_of_error(finished: Path, tmp_path: Path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.json").write_text((finished / "recipe.json").read_text())
    (run / "last.ckpt").write_bytes((finished / "last.ckpt").read_bytes()[:5000])
    with pytest.raises(WeightsCorruptError, match=r"last\.ckpt is not a readable checkpoint") as error:
        train(tiny(), Blobs(32), validation=Blobs(16, seed=1), out=run, resume=True)
    assert "\n" not in str(error.value)


def test_resuming_needs_a_folder():
    with pytest.raises(OptionError, match="out="):
        train(tiny(), Blobs(32), resume=True)


# --- invalid data and options -------------------------------------------------------------------


def test_other_classes_are_refused_by_name():
    model = geovision.create("cloud-tiny", size=(32, 32))
    with pytest.raises(OptionError, match=r"red, green, blue.*Ac, As.*classes="):
        train(model, Blobs(32))


def test_data_in_other_units_are_refused():
    class Counts(Blobs):
        def read_sample(self, index):
            sample = super().read_sample(index)
            return sample | {"inputs": {"image": sample["inputs"]["image"] * 255}}

    with pytest.raises(InputError, match="0-255"):
        train(tiny(), Counts(32))


def test_an_empty_dataset_is_an_error():
    with pytest.raises(DatasetError, match="blobs: no sample"):
        train(tiny(), Blobs(0))


@pytest.mark.parametrize(
    ("recipe", "options", "expected"),
    [
        (dataclasses.replace(PLAIN, stages=()), {}, "one stage or more"),
        (PLAIN, {"devices": "two"}, "devices='two'"),
        (PLAIN, {"devices": 0}, "devices=0"),
    ],
)
def test_invalid_options_are_refused(recipe, options, expected):
    with pytest.raises(OptionError, match=expected):
        train(tiny(), Blobs(32), recipe, **options)


# --- process state, output and signals ----------------------------------------------------------


def test_a_training_restores_the_state_of_the_process(capfd: pytest.CaptureFixture[str]):
    model = tiny()
    model.network.model.conv1[0].weight.requires_grad_(False)
    before = (
        torch.get_rng_state().tolist(),
        torch.get_num_threads(),
        list(warnings.filters),
        logging.getLogger("lightning.pytorch").level,
        signal.getsignal(signal.SIGINT),
    )
    train(model, Blobs(32), validation=Blobs(16))
    after = (
        torch.get_rng_state().tolist(),
        torch.get_num_threads(),
        list(warnings.filters),
        logging.getLogger("lightning.pytorch").level,
        signal.getsignal(signal.SIGINT),
    )
    assert after == before
    assert not model.network.model.conv1[0].weight.requires_grad
    assert model.network.model.conv1[3].weight.requires_grad
    assert capfd.readouterr() == ("", "")


def test_progress_is_a_line_per_epoch_on_stderr(capfd: pytest.CaptureFixture[str]):
    train(tiny(), Blobs(32), validation=Blobs(16), progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("epoch 2/2  train_loss ")
    assert "macro_f1" in lines[1]


def test_an_interrupt_names_the_option_to_resume(tmp_path: Path, capfd, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("geovision.training.callbacks.CHECKPOINT_SECONDS", 0)
    undisturbed = train(tiny(), Blobs(64), out=tmp_path / "whole")
    handler = signal.getsignal(signal.SIGINT)

    def interrupt(count=[0]):  # noqa: B006
        count[0] += 1
        if count[0] == 6:
            signal.raise_signal(signal.SIGINT)

    model = tiny()
    hook = model.register_forward_pre_hook(lambda *_: interrupt())
    with pytest.raises(KeyboardInterrupt):
        train(model, Blobs(64), out=tmp_path / "run")
    hook.remove()
    assert signal.getsignal(signal.SIGINT) is handler
    assert "resume=True" in capfd.readouterr().err
    resumed = train(tiny(), Blobs(64), out=tmp_path / "run", resume=True)
    assert_same(state(resumed), state(undisturbed))


def test_the_record_is_plain_json(finished: Path):
    config = json.loads((finished / "model" / "config.json").read_text())
    assert config["training"] == geovision.load(finished / "model").training_record


def test_logit_adjustment_removes_the_class_prior():
    """Noise with two labels, one three times as frequent: only the frequencies differ."""
    data = Blobs(64)
    data.pictures[:] = torch.randint(256, data.pictures.shape, generator=torch.Generator().manual_seed(0))
    data.labels[:] = torch.tensor([0, 0, 0, 1]).repeat(16)
    odds = {}
    for strength in (0.0, 0.5, 1.0):
        model = train(tiny(), data, dataclasses.replace(PLAIN, logit_adjustment=strength))
        with torch.no_grad():
            logits = model(data.pictures.float() / 255)
        odds[strength] = float((logits[:, 0] - logits[:, 1]).mean())
    assert odds[0.0] > 0.1
    assert odds[0.0] - odds[1.0] == pytest.approx(np.log(3), abs=1e-3)
    assert odds[0.0] - odds[0.5] == pytest.approx(np.log(3) / 2, abs=1e-3)
    assert class_counts(data, 3).tolist() == [48, 16, 0]


def test_logit_adjustment_requires_a_bias_per_class():
    model = tiny()
    model.head.linear = nn.Linear(model.head.linear.in_features, 3, bias=False)
    with pytest.raises(OptionError, match="has no bias for each class"):
        train(model, Blobs(32), dataclasses.replace(PLAIN, logit_adjustment=1.0))


def test_the_samples_of_a_training_are_freed():
    def held() -> int:
        return sum(type(each) is InMemoryDataset for each in gc.get_objects())

    before = held()
    gc.disable()  # a collection could run by chance
    try:
        train(tiny(), Blobs(32), validation=Blobs(16, seed=1))
        assert held() <= before
    finally:
        gc.enable()
