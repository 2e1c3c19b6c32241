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
from geovision.web import check_page

__all__ = ["MAP", "BatchPredictor"]

MAP = "class_activation_map"
"""Output of the graph that says where the model looked. It costs about two thirds of an answer more."""


class BatchPredictor:
    """Questions to answers, several at a time, from any thread.

    Args:
        file: The exported model.
        quick: The same without `MAP`, for questions that do not ask for it; None: the first answers all.

    Attributes:
        about: What is known of the model.

    Raises:
        OptionError: A model that is not of one picture to a class.
    """

    def __init__(self, file: Path, limits: ServerLimits, quick: Path | None = None) -> None:
        self.file, self.limits = file, limits
        # One thread a call: the server has a worker for each processor.
        self._whole = onnx_runtime.OnnxModel(file, threads=1)
        self._quick = onnx_runtime.OnnxModel(quick, threads=1) if quick is not None else self._whole
        self.about: Mapping[str, Any] = self._whole.about
        check_page(self.about)

    def answer_all(self, questions: Sequence[PredictionRequest]) -> list[PredictionResult]:
        """An answer, or the reason against one, for each question."""
        samples = [self._read(question.picture) for question in questions]
        answers: list[PredictionResult] = [each if isinstance(each, Exception) else {} for each in samples]
        for with_map, model in ((True, self._whole), (False, self._quick)):
            mine = {
                index: sample
                for index, sample in enumerate(samples)
                if questions[index].with_map is with_map and not isinstance(sample, Exception)
            }
            for index, answer in zip(mine, model.ask(list(mine.values())), strict=True):
                where = answer[MAP] if with_map else None
                answers[index] = answer | {MAP: None if where is None else where.tolist()}
        return answers

    def _read(self, picture: bytes) -> Mapping[str, np.ndarray] | Exception:
        try:
            if not picture.startswith(onnx_runtime.ARRAY):
                check_header(picture, self.limits)
            return self._whole.read(picture)
        except RequestError as refused:
            return refused
        except ValueError as error:  # the runtime's word for a picture that it cannot take
            return InvalidImage(str(error))
