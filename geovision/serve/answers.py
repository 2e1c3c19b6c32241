"""A model's exported graph behind the server: the same graph that a phone computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geovision import runtime
from geovision.errors import OptionError
from geovision.export import calibration_inputs, export
from geovision.serve.desk import Answer
from geovision.serve.intake import check_header
from geovision.serve.limits import Limits
from geovision.serve.refusals import Refused, Unanswerable

if TYPE_CHECKING:
    from geovision.models.geomodel import GeoModel

__all__ = ["Answers"]


class Answers:
    """Bytes of pictures to answers, several at a time, from any thread.

    Attributes:
        file: The exported model.
        about: What is known of it.
    """

    def __init__(self, file: Path, limits: Limits) -> None:
        self.file, self.limits = file, limits
        # One thread a call: the server has a worker for each processor.
        self._model = runtime.Model(file, threads=1)
        self.about: Mapping[str, Any] = self._model.about
        readers = [given["reader"] for given in self.about["inputs"]]
        if self.about["target"]["kind"] != "class" or readers != ["picture"]:
            raise OptionError(
                f"{self.about['model']} is not served: the page is for one picture, answered by a class"
            )

    @classmethod
    def of(cls, model: GeoModel, file: Path, limits: Limits, *, int8: bool = False) -> Answers:
        """Export a model to `file`, and answer by it."""
        export(model, file, calibration=calibration_inputs(model) if int8 else None)
        return cls(file, limits)

    def answer_all(self, pictures: Sequence[bytes]) -> list[Answer]:
        """An answer, or the reason against one, for each picture."""
        answers: list[Answer] = [self._read(picture) for picture in pictures]
        there = [index for index, each in enumerate(answers) if not isinstance(each, Exception)]
        if there:
            for index, answer in zip(there, self._model.ask([answers[i] for i in there]), strict=True):
                where = answer["class_activation_map"]
                answers[index] = answer | {"class_activation_map": None if where is None else where.tolist()}
        return answers

    def _read(self, picture: bytes) -> Answer:
        try:
            check_header(picture, self.limits)
            return self._model.read(picture)
        except Refused as refused:
            return refused
        except ValueError as error:  # the runtime's word for a picture that it cannot take
            return Unanswerable(str(error))
