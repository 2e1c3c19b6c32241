"""Predictions of the server with the exported graph that the web page also uses."""

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
"""Graph output with the class-activation map. It increases the prediction time by about two thirds."""


class BatchPredictor:
    """Thread-safe batch predictions of an exported model.

    Args:
        path: ONNX file of the model.
        limits: Limits of the server.
        path_without_map: ONNX file of the same model without `MAP_OUTPUT`, for requests without map.
            Default: None, `path` is used for all requests.

    Attributes:
        metadata: Description of the model.

    Raises:
        OptionError: If the model is not a classifier of one image.
    """

    def __init__(self, path: Path, limits: ServerLimits, path_without_map: Path | None = None) -> None:
        self.path, self.limits = path, limits
        # One thread per call, because the server has one worker per CPU.
        self._model = onnx_runtime.OnnxModel(path, threads=1)
        self._model_without_map = (
            onnx_runtime.OnnxModel(path_without_map, threads=1)
            if path_without_map is not None
            else self._model
        )
        self.metadata: Mapping[str, Any] = self._model.metadata
        validate_page_metadata(self.metadata)

    def predict_batch(self, requests: Sequence[PredictionRequest]) -> list[PredictionResult]:
        """Predict a batch of requests.

        Args:
            requests: Images to predict.

        Returns:
            Prediction or exception for each request, in order.
        """
        samples = [self._read(request.image) for request in requests]
        results: list[PredictionResult] = [each if isinstance(each, Exception) else {} for each in samples]
        for with_map, model in ((True, self._model), (False, self._model_without_map)):
            selected = {
                index: sample
                for index, sample in enumerate(samples)
                if requests[index].with_map is with_map and not isinstance(sample, Exception)
            }
            for index, prediction in zip(selected, model.predict(list(selected.values())), strict=True):
                cam = prediction[MAP_OUTPUT] if with_map else None
                results[index] = prediction | {MAP_OUTPUT: None if cam is None else cam.tolist()}
        return results

    def _read(self, image: bytes) -> Mapping[str, np.ndarray] | Exception:
        try:
            if not image.startswith(onnx_runtime.NPY_MAGIC):
                check_header(image, self.limits)
            return self._model.read(image)
        except RequestError as error:
            return error
        except ValueError as error:  # raised by the runtime for an invalid image
            return InvalidImage(str(error))
