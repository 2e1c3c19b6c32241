"""One door to the reports of all kinds of answers."""

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
    """Score a model on a data set. See `geovision.evaluate`."""
    kind = model.target.kind
    if members is not None and kind != "field":
        raise OptionError(
            f"members={members}: {model.spec.name} answers with a {kind}; ensembles are of fields"
        )
    more = {} if members is None else {"members": members}
    return _EVALUATORS[kind](
        model, data, batch_size=batch_size, n_bootstrap=n_bootstrap, seed=seed, progress=progress, **more
    )
