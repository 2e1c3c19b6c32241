"""What the server's answers look like, for the OpenAPI document and for whoever reads the code."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "ERROR_RESPONSES",
    "IMAGE_BODY",
    "ErrorResponse",
    "HealthResponse",
    "LocalizedText",
    "ModelResponse",
    "PredictionResponse",
]


class ErrorResponse(BaseModel):
    """Why there is no answer."""

    detail: str = Field(description="One line: what, where, what to do.")


class LocalizedText(BaseModel):
    """A text in the languages of the page."""

    en: str
    zh: str


class PredictionResponse(BaseModel):
    """The answer about one picture."""

    label: str = Field(description="Code of the likeliest class.")
    confidence: float = Field(ge=0, le=1, description="Its calibrated probability.")
    word: LocalizedText = Field(description="That in words, after the likelihood scale of the IPCC.")
    probabilities: dict[str, float] = Field(description="Of every class, likeliest first.")
    flags: list[str] = Field(description="What speaks against the answer, e.g. not_a_sky.")
    outlier_score: float | None = Field(description="How far the picture lies from the training data.")
    class_activation_map: list[list[float]] | None = Field(
        description="Where it was asked for: where the model looked for its answer, row by row on a coarse "
        "grid over what it saw of the picture; what is above 0 speaks for the answer."
    )


class ModelResponse(BaseModel):
    """What is served: its task, classes and cards, as the page knows it."""

    model_config = ConfigDict(extra="allow")

    model: str
    format_version: int


class HealthResponse(BaseModel):
    """That the server is there."""

    status: str
    model: str


_STATUS_DESCRIPTIONS = {
    400: "The form or the connection is broken.",
    408: "The picture did not arrive in time.",
    413: "Too many bytes, pixels or scans.",
    415: "No picture, by its content.",
    422: "A picture that is damaged, empty or too small; an array of another shape or unit; an option that "
    "is not understood.",
    429: "Too many pictures a minute from this address.",
    503: "Too many pictures at once.",
}
_RETRY_AFTER = {
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}},
}
ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse, "description": why}
    | ({"headers": _RETRY_AFTER} if status in (429, 503) else {})
    for status, why in _STATUS_DESCRIPTIONS.items()
}
"""Every status that a picture may be refused with."""

_BINARY = {"schema": {"type": "string", "format": "binary"}}
IMAGE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "A picture, or an array of the model's input (.npy, in its units): the body itself, "
        "whatever its type, or the file `photo` of a form.",
        "content": {
            "application/octet-stream": _BINARY,
            "image/jpeg": _BINARY,
            "image/png": _BINARY,
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["photo"],
                    "properties": {"photo": {"type": "string", "format": "binary"}},
                }
            },
        },
    }
}
"""The body of a question, for the OpenAPI document: the handler reads it itself, to bound it."""
