"""A model's exported graph behind the server: the same graph that a phone computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geovision import onnx_runtime
from geovision.serve.batching import PredictionRequest, PredictionResult
from geovision.serve.limits import ServerLimits
from geovision.serve.request_errors import InvalidImage, RequestError
from geovision.serve.uploads import check_header
from geovision.web import validate_page_metadata

__all__ = ["MAP_OUTPUT", "BatchPredictor"]

MAP_OUTPUT = "class_activation_map"
"""Output of the graph that says where the model looked. It costs about two thirds of an answer more."""


class BatchPredictor:
    """Questions to answers, several at a time, from any thread.

    Args:
        path: The exported model.
        path_without_map: The same without `MAP_OUTPUT`, for questions that do not ask for it; None: the
            first answers all.

    Attributes:
        metadata: What is known of the model.

    Raises:
        OptionError: A model that is not of one picture to a class.
    """

    def __init__(self, path: Path, limits: ServerLimits, path_without_map: Path | None = None) -> None:
        self.path, self.limits = path, limits
        # One thread a call: the server has a worker for each processor.
        self._model = onnx_runtime.OnnxModel(path, threads=1)
        self._model_without_map = (
            onnx_runtime.OnnxModel(path_without_map, threads=1)
            if path_without_map is not None
            else self._model
        )
        self.metadata: Mapping[str, Any] = self._model.metadata
        validate_page_metadata(self.metadata)

    def predict_batch(self, requests: Sequence[PredictionRequest]) -> list[PredictionResult]:
        """An answer, or the reason against one, for each question."""
        samples = [self._read(question.image) for question in requests]
        answers: list[PredictionResult] = [each if isinstance(each, Exception) else {} for each in samples]
        for with_map, model in ((True, self._model), (False, self._model_without_map)):
            mine = {
                index: sample
                for index, sample in enumerate(samples)
                if requests[index].with_map is with_map and not isinstance(sample, Exception)
            }
            for index, answer in zip(mine, model.predict(list(mine.values())), strict=True):
                where = answer[MAP_OUTPUT] if with_map else None
                answers[index] = answer | {MAP_OUTPUT: None if where is None else where.tolist()}
        return answers

    def _read(self, image: bytes) -> Mapping[str, np.ndarray] | Exception:
        try:
            if not image.startswith(onnx_runtime.NPY_MAGIC):
                check_header(image, self.limits)
            return self._model.read(image)
        except RequestError as refused:
            return refused
        except ValueError as error:  # the runtime's word for a picture that it cannot take
            return InvalidImage(str(error))
