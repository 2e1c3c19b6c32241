"""Public functions: create, load, train, evaluate and explain models by name."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geovision import registry
from geovision.errors import OptionError, WeightsNotAvailableError
from geovision.hub.repo_id import PREFIX
from geovision.spec import GridPair, ModelSpec, Recipe, resolve

if TYPE_CHECKING:
    import pyarrow

    from geovision.allsky import FrameConfig
    from geovision.attribution import Explanation
    from geovision.datasets.base import GeoDataset, Transforms
    from geovision.evaluation import Report
    from geovision.inference import ArchiveProgress, ArchiveSummary, ExecutorConfig
    from geovision.models.geomodel import GeoModel

__all__ = [
    "calibrate",
    "create",
    "cross_validate",
    "distill",
    "evaluate",
    "explain",
    "info",
    "load",
    "load_dataset",
    "predict_archive",
    "read_table",
    "train",
]


def info(name: str) -> ModelSpec:
    """The registry entry of a model, without building it.

    Raises:
        UnknownModelError: With the nearest names.
    """
    return registry.find_model(name)


def create(
    name: str,
    *,
    pretrained: bool | str | Path = False,
    num_classes: int | None = None,
    classes: Sequence[str] | None = None,
    backbone_weights: str | Path | None = None,
    scalars: Sequence[str] = (),
    size: tuple[int, int] | None = None,
    drop_rate: float | None = None,
    pixel_size: float | None = None,
    db_range: Mapping[str, tuple[float, float]] | None = None,
    predictors: Sequence[str] = (),
    grids: GridPair | None = None,
    model_args: Mapping[str, Any] | None = None,
    head: str = "",
    head_args: Mapping[str, Any] | None = None,
) -> GeoModel:
    """A model by name, in evaluation mode, on the CPU.

    Args:
        name: ``task-architecture[.tag]``; the tag chooses weights, and they are loaded only where
            `pretrained` says so. Or ``"hf:owner/repo@revision"``, a trained model on the Hub, which brings
            everything; it is verified, and kept in the cache (see `geovision.hub.pull`).
        pretrained: False: freshly initialised. True: the weights of the name's tag, or the default
            ones. A string or path: a tag, a folder that `GeoModel.save` wrote, or ``"hf:…"``.
        num_classes: Number of classes other than the task's; they are called ``"0"``, ``"1"``, …
        classes: Their names instead.
        backbone_weights: ``"imagenet"``, a timm tag, or a ``.safetensors`` file for the backbone
            alone; the head is new.
        scalars: Measurements taken beside the image, by name, e.g. ``["cloud_base_height"]``.
        size: (height, width) that images are brought to.
        drop_rate: Dropout probability before the last layer, 0 to 1. Default: as in the registry.
        pixel_size: Metres that a pixel is wide on the ground, where the task's have a size; the same
            ground is then seen in fewer or more of them, unless `size` is given. None: the entry's.
        db_range: Channel to the decibels of its lowest and highest 8-bit count, where the counts to be
            trained on were made of known ones, such as `geovision.physics.backscatter.DEFAULT_DB_RANGES`.
            They are stored with the model; without them it takes no scene in decibels.
        predictors: Channels taken beside those of the first input, by name, where the task has some.
        grids: The grids that a model of fields takes and answers on, as a data set's `options` has them.
        model_args: Options of the network in place of the entry's, such as ``{"factor": 2}``.
        head: Name of one of the task's heads, such as ``"quantiles"``; empty: the entry's.
        head_args: Of the head, in place of the entry's.

    Raises:
        UnknownModelError: With the nearest names, before anything slow is imported.
        WeightsNotAvailableError: There are no such weights; the message names the training command.
        OptionError: Options that exclude each other, or that the task does not take.

    >>> model = create("cloud-tiny")
    >>> model.target.classes[0]
    'Ac'
    """
    if name.startswith(PREFIX):
        if any((pretrained, num_classes, classes, backbone_weights, scalars, size, pixel_size, db_range)):
            raise OptionError(f"{name} is a trained model and has its options; give its address alone")
        return _pull_from_hub(name)
    spec = registry.find_model(name)
    if pretrained is not False:
        return _load_pretrained(name, spec, pretrained, num_classes, classes, backbone_weights)
    return resolve("geovision.models.factory:create_model")(
        name,
        num_classes=num_classes,
        classes=classes,
        backbone_weights=backbone_weights,
        scalars=scalars,
        size=size,
        drop_rate=drop_rate,
        pixel_size=pixel_size,
        db_range=db_range,
        predictors=predictors,
        grids=grids,
        model_args=model_args,
        head=head,
        head_args=head_args,
    )


def _load_pretrained(
    name: str,
    spec: ModelSpec,
    pretrained: bool | str | Path,
    num_classes: int | None,
    classes: Sequence[str] | None,
    backbone_weights: str | Path | None,
) -> GeoModel:
    if backbone_weights or classes or num_classes:
        raise OptionError(
            "pretrained= brings its own backbone and classes; for other classes use "
            "backbone_weights= and train"
        )
    if isinstance(pretrained, str) and pretrained.startswith(PREFIX):
        return _check_entry(_pull_from_hub(pretrained), spec)
    if isinstance(pretrained, Path) or (
        isinstance(pretrained, str) and spec.find_weights(pretrained) is None
    ):
        folder = Path(pretrained)
        if not folder.is_dir():
            known = ", ".join(weight.tag for weight in spec.weights) or "none"
            raise WeightsNotAvailableError(
                f"{spec.name} has no weights {str(pretrained)!r}: neither a tag (known: {known}) nor a folder"
            )
        return load(folder)
    tag = pretrained if isinstance(pretrained, str) else registry.split_name(name)[2]
    weight = spec.find_weights(tag) if tag else next(iter(spec.weights), None)
    if weight is None:
        data = registry.find_task(spec.task).dataset
        raise WeightsNotAvailableError(
            f"no trained weights of {spec.name} exist. Train them: "
            f"geovision train {spec.name} --dataset {data} --data ROOT --out FOLDER"
        )
    model = _check_entry(_load_location(weight.location), spec)
    model.weight = weight
    return model


def _load_location(location: str) -> GeoModel:
    """The model at a location, as `WeightSpec` has it."""
    kind, _, place = location.partition(":")
    if location.startswith(PREFIX):
        return _pull_from_hub(location)
    if kind != "package":
        raise WeightsNotAvailableError(f"weights at {location!r}: only package: and hf: are known")
    return load(Path(str(importlib.resources.files("geovision") / "weights" / place)))


def _pull_from_hub(address: str) -> GeoModel:
    return resolve("geovision.hub.pull:pull_model")(address)


def _check_entry(model: GeoModel, spec: ModelSpec) -> GeoModel:
    """The same model, where it is one of the entry that was named."""
    if model.spec.name != spec.name:
        raise OptionError(f"{spec.name} was asked for, and these are weights of {model.spec.name}")
    return model


def load(path: str | Path) -> GeoModel:
    """A model from a folder that `GeoModel.save` wrote, on this or another machine.

    Raises:
        WeightsNotAvailableError: The folder is missing or holds no model.
        WeightsCorruptError: Its content is not what its configuration says.
    """
    from geovision.models.loading import read

    return read(Path(path))


def load_dataset(
    name: str,
    root: str | Path,
    *,
    split: str | None = None,
    size: tuple[int, int] | None = None,
    task: str | None = None,
    pixel_size: float | None = None,
    synchronous: bool = True,
    transforms: Transforms | None = None,
    download: bool = False,
) -> GeoDataset:
    """Return a dataset by name, from its files on disk.

    Args:
        name: As in `geovision.list_datasets`; ``"folder"`` for one's own, a folder a class.
        root: Where its files lie, in the layout of its authors.
        split: One of the adapter's splits; None: all of it.
        size: (height, width) that images are brought to; None: the task's own.
        task: Task that ``"folder"`` is read for. Default: the task that declares it.
        pixel_size: Metres that a pixel is to be wide on the ground, for data sets that have pixel
            sizes; None: the task's own.
        synchronous: False takes sources, too, that run freely, as climate models do, so that no day of theirs
            is one of the truth. Only what is fitted to distributions is trained on such, and only
            distributions are scored.
        transforms: Function of a sample that returns a sample, applied last.
        download: Download missing files to `root` first, verified against their record.

    Raises:
        DownloadError: The dataset has no download, or it failed.
        UnknownDatasetError: With the nearest names.
        OptionError: The data set has no such split, is none of `task`, or has no pixel sizes.
        DatasetError: The folder is missing, empty, or of another layout, or its sources run freely.
    """
    owner, reference = registry.dataset_reference(name, task)
    from geovision.datasets.base import HasPixelSize

    adapter = resolve(reference)
    options: dict[str, Any] = {"split": split, "size": size, "transforms": transforms, "download": download}
    if not synchronous and adapter.supports_unpaired:
        options["synchronous"] = False
    if pixel_size is not None:
        if not issubclass(adapter, HasPixelSize):
            raise OptionError(f"{name!r} has no pixel sizes: its pictures have none on the ground")
        options["pixel_size"] = pixel_size
    if name in registry.CUSTOM_DATASETS:
        options["task"] = owner.name
    return adapter(Path(root), **options)


def train(
    model: GeoModel,
    data: GeoDataset,
    *,
    validation: GeoDataset | None = None,
    recipe: Recipe | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    devices: int | str = "auto",
    num_workers: int = 0,
    progress: bool = True,
) -> GeoModel:
    """Train a model in place by its recipe, by closed form, or not at all, as its entry says.

    Args:
        model: From `create`.
        data: Training samples.
        validation: Samples for early stopping and the log; not trained on.
        recipe: Instead of the registry's.
        out: Folder for checkpoints, logs and the trained model; None keeps nothing on disk.
        resume: Go on from the last checkpoint in `out`.
        devices: As in lightning: ``"auto"`` or a number.
        num_workers: Number of loader processes; 0 loads in this process. Default: 0.
        progress: Show a progress bar on stderr.

    Returns:
        The same model, trained, in evaluation mode; `training_record` says how.
    """
    return resolve("geovision.training:train")(
        model,
        data,
        validation=validation,
        recipe=recipe,
        out=out,
        resume=resume,
        devices=devices,
        num_workers=num_workers,
        progress=progress,
    )


def distill(
    teacher: GeoModel,
    student: GeoModel,
    data: GeoDataset,
    *,
    alpha: float = 0.5,
    feature_weight: float = 0.0,
    validation: GeoDataset | None = None,
    recipe: Recipe | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    devices: int | str = "auto",
    num_workers: int = 0,
    progress: bool = True,
) -> GeoModel:
    """Train a small model of fields on the truth and on what a large one says of the same samples: knowledge
    refinement (arXiv:2602.12980).

    Args:
        teacher: A trained model of the same field; it is asked once about each sample.
        student: From `create`; trained in place.
        data: Training samples, which both take.
        alpha: Of the loss against the teacher, 0 up to, but not, 1: a teacher alone passes on its bias.
        feature_weight: Of how far the student's last maps are at work elsewhere than the teacher's
            (attention transfer, arXiv:1612.03928); 0: they are not compared.
        validation, recipe, out, resume, devices, num_workers, progress: As of `train`.

    Raises:
        OptionError: They answer different fields, the student is not trained by steps, or its recipe changes
            samples at random.
    """
    return resolve("geovision.training:distill")(
        teacher,
        student,
        data,
        alpha=alpha,
        feature_weight=feature_weight,
        validation=validation,
        recipe=recipe,
        out=out,
        resume=resume,
        devices=devices,
        num_workers=num_workers,
        progress=progress,
    )


def evaluate(
    model: GeoModel,
    data: GeoDataset,
    *,
    batch_size: int = 32,
    n_bootstrap: int = 1000,
    seed: int = 0,
    members: int | None = None,
    progress: bool = False,
) -> Report:
    """Score a model on a data set by the metrics of its task, with bootstrap intervals over units.

    Args:
        n_bootstrap: Resamples; 0 gives no intervals.
        seed: Of the resampling, and of the members.
        members: Of an ensemble of fields that is scored beside the answer: drawn from the distribution that
            the head gives, or answers with the dropout left on. None: what the model has of itself, its own
            members or 20 draws of its distribution; 0: none.

    Raises:
        DatasetError: No samples, or of another task.
        OptionError: Members of a model that answers with no field, or that has neither a distribution nor
            dropout.

    Returns:
        A report: metrics with intervals, the table of predictions, figures; `save` writes them.
    """
    return resolve("geovision.evaluation:evaluate")(
        model,
        data,
        batch_size=batch_size,
        n_bootstrap=n_bootstrap,
        seed=seed,
        members=members,
        progress=progress,
    )


def calibrate(model: GeoModel, data: GeoDataset, *, batch_size: int = 32) -> dict[str, float]:
    """Calibrate the probabilities of a class or mask model on a dataset.

    Args:
        model: A trained model; its calibration is replaced in place.
        data: Samples that are neither trained on nor scored, such as the inner part of
            `GeoDataset.group_split`, adapted to the model with `GeoDataset.adapt_to`.
        batch_size: Samples per forward pass. Default: 32.

    Returns:
        ``temperature``, and for masks ``offset``. Both are saved with the model, and its `training_record`
        describes the samples.

    Raises:
        InputError: The model has no probabilities, or the samples do not allow a fit.
        DatasetError: The dataset is empty, or belongs to another task.
    """
    return resolve("geovision.evaluation:calibrate")(model, data, batch_size=batch_size)


def cross_validate(
    name: str,
    data: GeoDataset,
    *,
    out: str | Path,
    folds: int | Sequence[int] = 5,
    recipe: Recipe | None = None,
    predictors: Sequence[str] | None = None,
    n_bootstrap: int = 1000,
    seed: int = 0,
    devices: int | str = "auto",
    workers: int = 0,
    progress: bool = True,
    **options: Any,
) -> Report:
    """Train a new model for each fold and score the predictions for all samples together.

    Each sample is predicted by a model that was trained without its group. Class probabilities are
    calibrated; the temperature of a fold is fitted to the predictions of all other folds. Finished folds are
    read from `out`, so an interrupted run continues. Several processes with the same `out` share the folds.

    Args:
        name: Name of the model, as for `create`. Its classes, grids and predictors are those of the dataset.
        data: All samples.
        out: Folder for trainings and predictions (``fold-N``) and the report (``report``).
        folds: Number of folds, drawn by group with classes spread evenly; or the fold of each sample.
            Default: 5.
        recipe: Recipe of the training. Where it needs validation, a tenth of the training groups is used,
            never samples of the fold. Default: that of the registry.
        predictors: Names of additional channels of the first input. Default: all channels of the dataset, or
            none for a model that uses the first channel only.
        n_bootstrap: Number of resamples; 0 gives no intervals. Default: 1000.
        seed: Seed of folds and resampling. Default: 0.
        devices: Number of devices, or ``"auto"``. Default: ``"auto"``.
        workers: Number of processes that load data; 0 loads in this one. Default: 0.
        progress: Whether to show progress on stderr. Default: True.
        options: Further keywords of `create`, such as ``backbone_weights``, ``size`` or ``model_args``.

    Returns:
        The report over all samples, which is also saved.

    Raises:
        OptionError: `out` contains another cross-validation, or there are fewer than two folds.
        DatasetError: The dataset has fewer groups than folds.
    """
    return resolve("geovision.evaluation:cross_validate")(
        name,
        data,
        out=out,
        folds=folds,
        recipe=recipe,
        predictors=predictors,
        n_bootstrap=n_bootstrap,
        seed=seed,
        devices=devices,
        workers=workers,
        progress=progress,
        **options,
    )


def predict_archive(
    model: GeoModel,
    source: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    frame_config: FrameConfig | None = None,
    executor_config: ExecutorConfig | None = None,
    shard_size: int = 128,
    batch_size: int | None = None,
    precision: str = "auto",
    progress: Callable[[ArchiveProgress], None] | None = None,
) -> ArchiveSummary:
    """Answer for every frame of an archive, and write a table with a row for each.

    See `geovision.allsky.predict_archive`. The same call again goes on where it was stopped.

    Args:
        source: Folder, pattern, text file of paths, fsspec address, or a list of these.
        out: Folder of the table.
        frame_config: How frames are read, `geovision.allsky.FrameConfig`.
        executor_config: Processes that run it, `geovision.inference.ExecutorConfig`; None: a process for each
            processor.
        shard_size: Files that are answered, written and marked together.
        batch_size: Frames a forward pass; None: what suits the size of the model's pictures.
        precision: As for `GeoModel.predict`.
        progress: Is told after each shard.
    """
    return resolve("geovision.allsky:predict_archive")(
        model,
        source,
        out,
        frame_config=frame_config,
        executor_config=executor_config,
        shard_size=shard_size,
        batch_size=batch_size,
        precision=precision,
        progress=progress,
    )


def read_table(
    folder: str | Path, *, columns: Sequence[str] | None = None, where: Any = None
) -> pyarrow.Table:
    """The table that `archive` wrote, or a part of it, sorted by station, time, path and frame.

    Args:
        columns: Names; None: all.
        where: An expression of `pyarrow.dataset`, such as ``field("station") == "gill"``.
    """
    return resolve("geovision.inference:read_table")(folder, columns=columns, where=where)


def explain(
    model: GeoModel,
    source: Any,
    *,
    method: str = "gradcam",
    target: str | None = None,
    layer: str | None = None,
    steps: int | None = None,
    window: int | None = None,
    stride: int | None = None,
    orientations: int = 1,
    batch_size: int = 8,
) -> Explanation:
    """Show what in one sample speaks for an answer.

    Args:
        model: From `create` or `load`; its weights, gradients and mode stay as they are.
        source: One sample of any kind that `GeoModel.predict` takes.
        method: ``"gradcam"`` (Selvaraju et al. 2017, arXiv:1610.02391) or ``"layercam"`` (Jiang et al.
            2021, doi:10.1109/TIP.2021.3089943): where the maps of one layer speak for the class.
            ``"integrated-gradients"`` (Sundararajan et al. 2017, arXiv:1703.01365): what each value
            contributes. ``"deeplift"`` (Shrikumar et al. 2017, arXiv:1704.02685): what each channel of a
            layer contributes. ``"occlusion"``: by how much the logit falls without each patch; it needs no
            gradient.
        target: The class; None: the one that the task looks for, or else the likeliest. Of an answer
            that is a map, the mean over it is explained.
        layer: For gradcam, layercam and deeplift, by its name in `model.network`; None: the last stage,
            or what the network's authors read.
        steps: For integrated gradients; None: 200, and up to 800 while the sum is not within 1 %.
        window, stride: For occlusion, cells of the network's grid; None: an eighth of its shorter side,
            and half of that.
        orientations: 1: the sample as it is; 2: it and its mirror image, averaged; 8: also both turned by
            quarters. For classes that know no direction.
        batch_size: Changed samples a forward pass.

    Returns:
        The map in the pixels of the picture as it was given, NaN where the network saw nothing; class,
        logit and probability; `plot` and `save`. What is taken away becomes 0 in its unit, which is no
        data for radar pictures and black for photos.

    Raises:
        OptionError: An option that is not known or is another method's, a class or layer that is not
            there, or a model without gradient.
        InputError: Wrong unit, range, shape; `UnreadableFileError`: a file that cannot be read.
        MissingExtraError: captum is not installed, for integrated gradients, deeplift and occlusion.
    """
    settings = resolve("geovision.attribution:AttributionConfig")(
        method=method,
        layer=layer,
        steps=steps,
        window=window,
        stride=stride,
        batch_size=batch_size,
        orientations=orientations,
    )
    return resolve("geovision.attribution:explain")(model, source, target=target, config=settings)
