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
    """Return the registry entry of a model without building it.

    Args:
        name: Name of the model.

    Raises:
        UnknownModelError: No model has this name; the message contains the nearest names.
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
    """Create a model by name, in evaluation mode, on the CPU.

    Args:
        name: ``task-architecture[.tag]``, where the tag selects weights for ``pretrained=True``; or
            ``"hf:owner/repo@revision"``, a trained model on the Hub, which is verified and cached
            (see `geovision.hub.pull`).
        pretrained: False: random initialization. True: weights of the tag in the name, or the default
            weights. Otherwise a tag, a folder written by `GeoModel.save`, or ``"hf:owner/repo"``. Default:
            False.
        num_classes: Number of classes, named ``"0"``, ``"1"`` and so on. Default: classes of the task.
        classes: Names of the classes, instead of `num_classes`. Default: classes of the task.
        backbone_weights: ``"imagenet"``, a timm tag, or a ``.safetensors`` file for the backbone; the head
            is new.
            Default: random initialization.
        scalars: Names of measurements that are fused with the image, such as ``["cloud_base_height"]``.
        size: Height and width of the input in pixels. Default: size of the task.
        drop_rate: Dropout probability before the last layer, 0 to 1. Default: value of the registry.
        pixel_size: Pixel size on the ground, in m, for tasks that have one. The extent on the ground stays
            the same unless `size` is given. Default: value of the registry.
        db_range: Channel name to the decibels of its lowest and highest 8-bit count, for models that are
            trained on counts, such as `geovision.physics.backscatter.DEFAULT_DB_RANGES`. The model stores
            it; a model without it accepts no scene in decibels. Default: None.
        predictors: Names of additional channels of the first input, for tasks that have some.
        grids: Input and output grid of a field model, as in `GeoDataset.model_kwargs`. Default: None.
        model_args: Options of the network that replace those of the registry, such as ``{"factor": 2}``.
        head: Name of one of the heads of the task, such as ``"quantiles"``. Default: head of the registry.
        head_args: Options of the head that replace those of the registry.

    Returns:
        The model.

    Raises:
        UnknownModelError: No model has this name; the message contains the nearest names.
        WeightsNotAvailableError: The requested weights do not exist; the message contains the training
            command.
        OptionError: Options exclude each other, or the task does not support one of them.

    >>> model = create("cloud-tiny")
    >>> model.target.classes[0]
    'Ac'
    """
    if name.startswith(PREFIX):
        if any((pretrained, num_classes, classes, backbone_weights, scalars, size, pixel_size, db_range)):
            raise OptionError(f"{name} is a trained model with fixed options; remove the other arguments")
        return _pull_from_hub(name)
    spec = registry.find_model(name)
    if pretrained is not False:
        return _load_pretrained(name, spec, pretrained, num_classes, classes, backbone_weights)
    result: GeoModel = resolve("geovision.models.factory:create_model")(
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
    return result


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
            "pretrained= has its own backbone and classes. For other classes use backbone_weights= "
            "and train the model"
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
                f"{spec.name} has no weights {str(pretrained)!r}: expected a tag ({known}) or a folder"
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
    """Load a model from a location of `WeightSpec`."""
    kind, _, place = location.partition(":")
    if location.startswith(PREFIX):
        return _pull_from_hub(location)
    if kind != "package":
        raise WeightsNotAvailableError(f"weights at {location!r}: only package: and hf: are known")
    return load(Path(str(importlib.resources.files("geovision") / "weights" / place)))


def _pull_from_hub(address: str) -> GeoModel:
    result: GeoModel = resolve("geovision.hub.pull:pull_model")(address)
    return result


def _check_entry(model: GeoModel, spec: ModelSpec) -> GeoModel:
    """Return the model if it belongs to the registry entry."""
    if model.spec.name != spec.name:
        raise OptionError(f"the weights belong to {model.spec.name}, not to {spec.name}")
    return model


def load(path: str | Path) -> GeoModel:
    """Load a model from a folder that `GeoModel.save` wrote.

    Args:
        path: Folder of the model.

    Returns:
        The model, in evaluation mode, on the CPU.

    Raises:
        WeightsNotAvailableError: The folder is missing or contains no model.
        WeightsCorruptError: The files differ from the digests or from the configuration.
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
        name: Name of the dataset, see `geovision.list_datasets`; ``"folder"`` for your data with one folder
            per class.
        root: Folder with the files, in the layout of the authors.
        split: Name of a split of the dataset. Default: all samples.
        size: Height and width of images in pixels. Default: size of the task.
        task: Task for which ``"folder"`` is read. Default: the task that declares it.
        pixel_size: Pixel size on the ground, in m, for datasets that have one. Default: value of the task.
        synchronous: Whether inputs and targets belong to the same days. False also accepts sources without
            synchronous days, such as free-running climate models. Only methods that compare distributions can
            be fitted to them and scored on them. Default: True.
        transforms: Function of a sample that returns a sample, applied last. Default: None.
        download: Whether to download missing files to `root` first; they are verified. Default: False.

    Returns:
        The dataset.

    Raises:
        DownloadError: The dataset has no download, or the download failed.
        UnknownDatasetError: No dataset has this name; the message contains the nearest names.
        OptionError: The dataset has no such split, does not belong to `task`, or has no pixel size.
        DatasetError: The folder is missing or empty, has another layout, or contains sources that are not
            synchronous.
    """
    owner, reference = registry.dataset_reference(name, task)
    from geovision.datasets.base import HasPixelSize

    adapter = resolve(reference)
    options: dict[str, Any] = {"split": split, "size": size, "transforms": transforms, "download": download}
    if not synchronous and adapter.supports_unpaired:
        options["synchronous"] = False
    if pixel_size is not None:
        if not issubclass(adapter, HasPixelSize):
            raise OptionError(f"{name!r} has no pixel size on the ground; remove pixel_size=")
        options["pixel_size"] = pixel_size
    if name in registry.CUSTOM_DATASETS:
        options["task"] = owner.name
    result: GeoDataset = adapter(Path(root), **options)
    return result


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
    """Train a model in place.

    Networks are trained by gradient descent with the recipe of the model; models with a closed-form solution
    are fitted; models without parameters are returned unchanged.

    Args:
        model: Model from `create`.
        data: Training samples.
        validation: Samples for early stopping and for the log, which are not used for training. Default:
            None.
        recipe: Recipe of the training. Default: recipe of the registry.
        out: Folder for checkpoints, logs and the trained model. Default: None, nothing is written.
        resume: Whether to continue from the last checkpoint in `out`. Default: False.
        devices: Number of devices, or ``"auto"``, as in Lightning. Default: ``"auto"``.
        num_workers: Number of loader processes; 0 loads in this process. Default: 0.
        progress: Whether to show a progress bar on stderr. Default: True.

    Returns:
        The same model, trained, in evaluation mode. Its `training_record` describes the training.

    Raises:
        DatasetError: The samples do not fit the model.
        OptionError: The recipe does not fit the model or the data.
        MissingExtraError: The extra ``train`` is not installed.
    """
    result: GeoModel = resolve("geovision.training:train")(
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
    return result


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
    """Train a small field model on targets and on the predictions of a large one.

    The method is the knowledge refinement of MAUNet-Light (arXiv:2602.12980).

    Args:
        teacher: Trained model of the same field; it predicts each sample once.
        student: Model from `create`; it is trained in place.
        data: Training samples for both models.
        alpha: Weight of the loss against the teacher, at least 0 and below 1. A student of a teacher alone
            inherits its bias. Default: 0.5.
        feature_weight: Weight of the difference between the attention maps of both models (attention
            transfer, arXiv:1612.03928). Default: 0, no comparison.
        validation: See `train`.
        recipe: See `train`.
        out: See `train`.
        resume: See `train`.
        devices: See `train`.
        num_workers: See `train`.
        progress: See `train`.

    Returns:
        The student, trained, in evaluation mode.

    Raises:
        OptionError: The models predict different fields, the student is a closed-form model, or the recipe
            augments samples at random.
    """
    result: GeoModel = resolve("geovision.training:distill")(
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
    return result


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
    """Compute the metrics of a task on a dataset, with bootstrap intervals over groups.

    Args:
        model: Trained model.
        data: Samples with targets, adapted to the model with `GeoDataset.adapt_to`.
        batch_size: Number of samples per forward pass. Default: 32.
        n_bootstrap: Number of bootstrap resamples; 0 gives no intervals. Default: 1000.
        seed: Seed of the resampling and of the ensemble. Default: 0.
        members: Number of ensemble members that are scored in addition to the prediction of a field. They are
            drawn from the distribution of the head, or predicted with dropout. 0: no ensemble. Default: None,
            the members of the model itself or 20 draws from its distribution.
        progress: Whether to show a progress bar on stderr. Default: False.

    Returns:
        Report with metrics, intervals, predictions and figures; `Report.save` writes it.

    Raises:
        DatasetError: The dataset is empty or belongs to another task.
        OptionError: The model supports no ensemble, and `members` is given.
    """
    result: Report = resolve("geovision.evaluation:evaluate")(
        model,
        data,
        batch_size=batch_size,
        n_bootstrap=n_bootstrap,
        seed=seed,
        members=members,
        progress=progress,
    )
    return result


def calibrate(model: GeoModel, data: GeoDataset, *, batch_size: int = 32) -> dict[str, float]:
    """Calibrate the probabilities of a class or mask model on a dataset.

    Args:
        model: A trained model; its calibration is replaced in place.
        data: Samples that are used for no training and no score, such as the inner part of
            `GeoDataset.group_split`, adapted to the model with `GeoDataset.adapt_to`.
        batch_size: Samples per forward pass. Default: 32.

    Returns:
        ``temperature``, and for masks ``offset``. Both are saved with the model, and its `training_record`
        describes the samples.

    Raises:
        InputError: The model has no probabilities, or the samples do not allow a fit.
        DatasetError: The dataset is empty, or belongs to another task.
    """
    result: dict[str, float] = resolve("geovision.evaluation:calibrate")(model, data, batch_size=batch_size)
    return result


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
    num_workers: int = 0,
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
        recipe: Recipe of the training. If it needs validation, a tenth of the training groups is used,
            never samples of the fold. Default: that of the registry.
        predictors: Names of additional channels of the first input. Default: all channels of the dataset, or
            none for a model that uses the first channel only.
        n_bootstrap: Number of resamples; 0 gives no intervals. Default: 1000.
        seed: Seed of folds and resampling. Default: 0.
        devices: Number of devices, or ``"auto"``. Default: ``"auto"``.
        num_workers: Number of loader processes; 0 loads in this process. Default: 0.
        progress: Whether to show progress on stderr. Default: True.
        options: Further keywords of `create`, such as ``backbone_weights``, ``size`` or ``model_args``.

    Returns:
        The report over all samples, which is also saved.

    Raises:
        OptionError: `out` contains another cross-validation, or there are fewer than two folds.
        DatasetError: The dataset has fewer groups than folds.
    """
    result: Report = resolve("geovision.evaluation:cross_validate")(
        name,
        data,
        out=out,
        folds=folds,
        recipe=recipe,
        predictors=predictors,
        n_bootstrap=n_bootstrap,
        seed=seed,
        devices=devices,
        num_workers=num_workers,
        progress=progress,
        **options,
    )
    return result


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
    """Predict every frame of an archive and write a table with one row per frame.

    The same call continues an interrupted run. See `geovision.allsky.predict_archive`.

    Args:
        model: Trained model of images.
        source: Folder, pattern, text file of paths, fsspec address, or a list of these.
        out: Folder of the table.
        frame_config: Options for reading frames, `geovision.allsky.FrameConfig`. Default: None.
        executor_config: Processes or Dask cluster, `geovision.inference.ExecutorConfig`. Default: one
            process per processor.
        shard_size: Number of files that are predicted and written together. Default: 128.
        batch_size: Number of frames per forward pass. Default: chosen by the size of the images.
        precision: Arithmetic, see `GeoModel.predict`. Default: ``"auto"``.
        progress: Function that is called with an `ArchiveProgress` after each shard. Default: None.

    Returns:
        Summary of the run.

    Raises:
        OptionError: The table contains another model or other options.
        InputError: `source` contains no files, or frames that need more options.
        StorageError: The table cannot be written; finished shards are kept.
    """
    result: ArchiveSummary = resolve("geovision.allsky:predict_archive")(
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
    return result


def read_table(
    folder: str | Path, *, columns: Sequence[str] | None = None, where: Any = None
) -> pyarrow.Table:
    """Read a table that `predict_archive` wrote, sorted by station, time, path and frame.

    Args:
        folder: Folder of the table.
        columns: Names of columns. Default: all columns.
        where: Filter expression of `pyarrow.dataset`, such as ``field("station") == "gill"``. Default: all
            rows.

    Returns:
        The table.
    """
    result: pyarrow.Table = resolve("geovision.inference:read_table")(folder, columns=columns, where=where)
    return result


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
    """Attribute the prediction for one sample to its inputs.

    Methods: ``"gradcam"`` (Selvaraju et al. 2017, arXiv:1610.02391) and ``"layercam"`` (Jiang et al. 2021,
    doi:10.1109/TIP.2021.3089943) weight the feature maps of a layer. ``"integrated-gradients"``
    (Sundararajan et al. 2017, arXiv:1703.01365) computes the contribution of each input value.
    ``"deeplift"`` (Shrikumar et al. 2017, arXiv:1704.02685) computes the contribution of each channel of a
    layer. ``"occlusion"`` computes the decrease of the logit without each patch, and needs no gradient.

    Args:
        model: Model from `create` or `load`. Its weights, gradients and mode do not change.
        source: One sample of any kind that `GeoModel.predict` accepts.
        method: Name of the method. Default: ``"gradcam"``.
        target: Name of the class. Default: the positive class of the task, or else the most probable class.
            For fields and masks the mean over the prediction is attributed.
        layer: Name of a layer in `model.network`, for gradcam, layercam and deeplift. Default: the last
            stage, or the layer that the authors of the network use.
        steps: Number of steps of integrated gradients. Default: 200, doubled up to 800 until the sum is
            complete within 1 %.
        window: Side of a patch of occlusion, in cells of the input. Default: an eighth of the shorter side.
        stride: Distance of two patches of occlusion, in cells. Default: half of `window`.
        orientations: Number of orientations whose attributions are averaged. 1: the sample; 2: also its
            mirror image; 8: all rotations by 90 degrees and reflections, for classes without a direction.
            Default: 1.
        batch_size: Number of modified samples per forward pass. Default: 8.

    Returns:
        The attribution on the grid of the given image, NaN where the network uses no input, with class,
        logit and probability. Removed values become 0 in their unit: missing data of a radar image, black in
        a photo.

    Raises:
        OptionError: An option is unknown or belongs to another method, the class or layer does not exist, or
            the model has no gradient.
        InputError: The unit, range or shape of a value is wrong.
        UnreadableFileError: A file cannot be read.
        MissingExtraError: captum is not installed; integrated gradients, deeplift and occlusion need it.
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
    result: Explanation = resolve("geovision.attribution:explain")(
        model, source, target=target, config=settings
    )
    return result
