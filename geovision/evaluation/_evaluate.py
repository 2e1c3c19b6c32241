"""Evaluation of models of any kind of target."""

from __future__ import annotations

from collections.abc import Callable

from geovision.datasets.base import GeoDataset
from geovision.errors import OptionError
from geovision.evaluation.classification import evaluate_classes
from geovision.evaluation.dense import evaluate_dense
from geovision.evaluation.report import Report
from geovision.models.geomodel import GeoModel

__all__ = ["evaluate"]

_EVALUATORS: dict[str, Callable[..., Report]] = {
    "class": evaluate_classes,
    "mask": evaluate_dense,
    "field": evaluate_dense,
}


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
    """Evaluate a model on a dataset. See `geovision.evaluate`.

    Args:
        model: Model to evaluate.
        data: Samples.
        batch_size: Samples per forward pass. Default: 32.
        n_bootstrap: Number of bootstrap resamples; 0 computes no intervals. Default: 1000.
        seed: Seed of the bootstrap. Default: 0.
        members: Number of ensemble members of a field model. Default: those that the model provides.
        progress: Whether to show a progress bar on stderr. Default: False.

    Raises:
        OptionError: `members` is given for a model that does not predict fields.
    """
    kind = model.target.kind
    if members is not None and kind != "field":
        raise OptionError(
            f"members={members}: {model.spec.name} predicts a {kind}; ensembles require a field"
        )
    more = {} if members is None else {"members": members}
    return _EVALUATORS[kind](
        model, data, batch_size=batch_size, n_bootstrap=n_bootstrap, seed=seed, progress=progress, **more
    )
