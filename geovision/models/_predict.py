"""Prediction for many samples, with file reading and computation in parallel.

Predictions are returned in the order of the inputs.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import torch

from geovision.errors import InputError, OptionError
from geovision.heads.prediction import DensePrediction, Prediction
from geovision.models.input_items import InputItem, InputSample, iter_input_items, stack_samples
from geovision.spec import Grid, SampleContext

if TYPE_CHECKING:
    from geovision.accelerate.optimized import OptimizedModel
    from geovision.models._base import BaseModel

__all__ = ["iter_predict", "predict"]

# With more threads, the speed is limited by the Python interpreter.
_MAX_WORKERS = 8


def predict(
    model: BaseModel,
    inputs: Any,
    *,
    batch_size: int = 32,
    precision: str = "auto",
    skip_errors: bool = False,
) -> list[Prediction]:
    """Return the predictions for all inputs, in their order.

    Args:
        model: Model that predicts.
        inputs: Files, arrays, tensors or images, as for `GeoModel.predict`.
        batch_size: Number of samples per forward pass. Default: 32.
        precision: Number format of the computation, as for `GeoModel.predict`. Default: ``"auto"``.
        skip_errors: Return a flagged prediction for an unreadable input instead of an error. Default: False.
    """
    return list(
        iter_predict(model, inputs, batch_size=batch_size, precision=precision, skip_errors=skip_errors)
    )


def iter_predict(
    model: BaseModel,
    inputs: Any,
    *,
    batch_size: int = 32,
    precision: str = "auto",
    skip_errors: bool = False,
) -> Iterator[Prediction]:
    """Yield predictions in the order of the inputs.

    Later inputs are read at the same time. The inputs may exceed the memory: `inputs` may be a generator, of
    which a few batches are in memory at a time. Each worker thread processes a complete batch, from the file
    to the prediction. All cores are therefore busy with either decoding or the network.

    Args:
        model: Model that predicts.
        inputs: Files, arrays, tensors or images, as for `GeoModel.predict`.
        batch_size: Number of samples per forward pass. Default: 32.
        precision: Number format of the computation, as for `GeoModel.predict`. Default: ``"auto"``.
        skip_errors: Yield a flagged prediction for an unreadable input instead of an error. Default: False.

    Raises:
        OptionError: The batch size is below 1, or the precision is unknown.
    """
    from geovision.accelerate.optimized import PRECISIONS  # only prediction needs the optimizations

    if batch_size < 1:
        raise OptionError(f"batch_size={batch_size}: expected 1 or more")
    if precision not in PRECISIONS:
        raise OptionError(f"precision={precision!r} is unknown; choose one of {', '.join(PRECISIONS)}")
    return _predict_parallel(
        model, iter_input_items(inputs, model.inputs), batch_size, precision, skip_errors
    )


def _predict_parallel(
    model: BaseModel, sources: Iterator[InputItem], batch_size: int, precision: str, skip_errors: bool
) -> Iterator[Prediction]:
    """Yield predictions from a pool of threads.

    A single batch is predicted in the calling thread.
    """
    from geovision.accelerate.optimized import optimize_model

    threads = torch.get_num_threads()
    workers = min(threads, _MAX_WORKERS)
    ahead = list(itertools.islice(sources, workers * batch_size))
    if not ahead:
        return
    # Distribute a short list evenly over the workers.
    size = max(1, min(batch_size, math.ceil(len(ahead) / workers)))
    workers = min(workers, math.ceil(len(ahead) / size))
    prepared = optimize_model(model, precision)
    batches = _batches(itertools.chain(ahead, sources), size)
    if workers == 1:
        for batch in batches:
            yield from _predict_batch(prepared, batch, skip_errors)
        return
    pool = ThreadPoolExecutor(workers, "predict", torch.set_num_threads, (threads // workers,))
    try:
        yield from _map_ordered(pool, prepared, batches, skip_errors, most=workers + 1)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # the setting of a worker is the default of new threads


def _map_ordered(
    pool: ThreadPoolExecutor,
    prepared: OptimizedModel,
    batches: Iterable[list[InputItem]],
    skip_errors: bool,
    *,
    most: int,
) -> Iterator[Prediction]:
    """Yield predictions in order, with at most `most` batches in progress."""
    waiting: deque[Future[list[Prediction]]] = deque()
    for batch in batches:
        waiting.append(pool.submit(_predict_batch, prepared, batch, skip_errors))
        if len(waiting) >= most:
            yield from waiting.popleft().result()
    while waiting:
        yield from waiting.popleft().result()


def _batches(sources: Iterator[InputItem], size: int) -> Iterator[list[InputItem]]:
    """Yield lists of up to `size` items."""
    while batch := list(itertools.islice(sources, size)):
        yield batch


# --- one batch ----------------------------------------------------------------------------------


def _predict_batch(
    prepared: OptimizedModel, batch: Sequence[InputItem], skip_errors: bool
) -> list[Prediction]:
    """Read one batch and predict it."""
    predictions: list[Prediction | None] = [None] * len(batch)
    groups: dict[Any, list[tuple[int, InputSample]]] = {}
    for index, source in enumerate(batch):
        try:
            loaded = source.load(prepared.specs)
        except InputError as error:
            if not skip_errors:
                raise
            predictions[index] = prepared.head.prediction_type(
                source=source.name, flags=("unreadable",), error=str(error)
            )
            continue
        # Samples of different shapes, or with different inputs, cannot share a forward pass.
        shape = tuple((name, value.shape) for name, value in loaded.inputs.items())
        groups.setdefault(shape, []).append((index, loaded))
    for group in groups.values():
        names = [batch[index].name for index, _ in group]
        try:
            decoded = _predict_group(prepared, [loaded for _, loaded in group], names)
        except InputError as error:  # the network does not accept this size
            if not skip_errors:
                raise
            decoded = [
                prepared.head.prediction_type(source=name, flags=("unreadable",), error=f"{name}: {error}")
                for name in names
            ]
        for (index, loaded), prediction in zip(group, decoded, strict=True):
            predictions[index] = _add_coordinates(prediction, loaded.context)
    return [prediction for prediction in predictions if prediction is not None]


def _add_coordinates(prediction: Prediction, context: SampleContext) -> Prediction:
    """Add time and grid of the sample to a dense prediction.

    The grid of the model takes precedence.
    """
    if not isinstance(prediction, DensePrediction) or prediction.error:
        return prediction
    if prediction.grid is None and context.lat is not None:
        grid = Grid(tuple(map(float, context.lat)), tuple(map(float, context.lon)))
        prediction = dataclasses.replace(prediction, grid=grid if grid.size == prediction.size else None)
    return dataclasses.replace(prediction, time=context.time)


def _predict_group(
    prepared: OptimizedModel, samples: Sequence[InputSample], names: Sequence[str]
) -> list[Prediction]:
    """Predict samples of the same shape in one forward pass."""
    inputs, valid = stack_samples(samples, prepared.specs)
    values, features = prepared(inputs, valid)
    return prepared.head.decode(
        values, features, list(names), valid=prepared.valid_mask(inputs, valid, values)
    )
