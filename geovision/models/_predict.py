"""Answers for many samples: decoding and computing overlap, and answers come in their order."""

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

_MAX_WORKERS = 8  # beyond, Python's own share of the work is what they wait for


def predict(
    model: BaseModel,
    inputs: Any,
    *,
    batch_size: int = 32,
    precision: str = "auto",
    skip_errors: bool = False,
) -> list[Prediction]:
    """Answers for all inputs, in their order. See `GeoModel.predict`."""
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
    """The same one by one, while later inputs are read: for more than memory holds.

    Each worker thread takes a whole batch from file to answer, so that all cores are busy with
    either decoding or the network. `inputs` may be a generator; a few batches of it are in memory
    at a time. Arguments as for `GeoModel.predict`.
    """
    from geovision.accelerate.optimized import PRECISIONS  # only prediction needs the optimizations

    if batch_size < 1:
        raise OptionError(f"batch_size must be 1 or more, not {batch_size}")
    if precision not in PRECISIONS:
        raise OptionError(f"precision {precision!r} is not known; choose one of {', '.join(PRECISIONS)}")
    return _predict_parallel(
        model, iter_input_items(inputs, model.inputs), batch_size, precision, skip_errors
    )


def _predict_parallel(
    model: BaseModel, sources: Iterator[InputItem], batch_size: int, precision: str, skip_errors: bool
) -> Iterator[Prediction]:
    from geovision.accelerate.optimized import optimize_model

    threads = torch.get_num_threads()
    workers = min(threads, _MAX_WORKERS)
    ahead = list(itertools.islice(sources, workers * batch_size))
    if not ahead:
        return
    # A short list is shared out evenly.
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
        torch.set_num_threads(threads)  # the default of threads to come


def _map_ordered(
    pool: ThreadPoolExecutor,
    prepared: OptimizedModel,
    batches: Iterable[list[InputItem]],
    skip_errors: bool,
    *,
    most: int,
) -> Iterator[Prediction]:
    """Answers in order, with at most this many batches under way."""
    waiting: deque[Future[list[Prediction]]] = deque()
    for batch in batches:
        waiting.append(pool.submit(_predict_batch, prepared, batch, skip_errors))
        if len(waiting) >= most:
            yield from waiting.popleft().result()
    while waiting:
        yield from waiting.popleft().result()


def _batches(sources: Iterator[InputItem], size: int) -> Iterator[list[InputItem]]:
    while batch := list(itertools.islice(sources, size)):
        yield batch


# --- one batch ----------------------------------------------------------------------------------


def _predict_batch(
    prepared: OptimizedModel, batch: Sequence[InputItem], skip_errors: bool
) -> list[Prediction]:
    """Read one batch and answer it."""
    answers: list[Prediction | None] = [None] * len(batch)
    groups: dict[Any, list[tuple[int, InputSample]]] = {}
    for index, source in enumerate(batch):
        try:
            loaded = source.load(prepared.specs)
        except InputError as error:
            if not skip_errors:
                raise
            answers[index] = prepared.head.prediction_type(
                source=source.name, flags=("unreadable",), error=str(error)
            )
            continue
        # Samples on grids of their own, or with other inputs, cannot share a forward pass.
        shape = tuple((name, value.shape) for name, value in loaded.inputs.items())
        groups.setdefault(shape, []).append((index, loaded))
    for group in groups.values():
        names = [batch[index].name for index, _ in group]
        try:
            decoded = _predict_group(prepared, [loaded for _, loaded in group], names)
        except InputError as error:  # of a size that the network does not take
            if not skip_errors:
                raise
            decoded = [
                prepared.head.prediction_type(source=name, flags=("unreadable",), error=f"{name}: {error}")
                for name in names
            ]
        for (index, loaded), answer in zip(group, decoded, strict=True):
            answers[index] = _add_coordinates(answer, loaded.context)
    return [answer for answer in answers if answer is not None]


def _add_coordinates(answer: Prediction, context: SampleContext) -> Prediction:
    """A map lies where its sample does, unless the model is bound to a grid; other answers lie nowhere."""
    if not isinstance(answer, DensePrediction) or answer.error:
        return answer
    if answer.grid is None and context.lat is not None:
        grid = Grid(tuple(map(float, context.lat)), tuple(map(float, context.lon)))
        answer = dataclasses.replace(answer, grid=grid if grid.size == answer.size else None)
    return dataclasses.replace(answer, time=context.time)


def _predict_group(
    prepared: OptimizedModel, samples: Sequence[InputSample], names: Sequence[str]
) -> list[Prediction]:
    """The answers for samples of one shape."""
    inputs, valid = stack_samples(samples, prepared.specs)
    values, features = prepared(inputs, valid)
    return prepared.head.decode(
        values, features, list(names), valid=prepared.valid_mask(inputs, valid, values)
    )
