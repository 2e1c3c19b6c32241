"""Schemas of requests and responses for the OpenAPI document."""

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
    """Error response."""

    detail: str = Field(description="One line with the observation and the remedy.")


class LocalizedText(BaseModel):
    """Text in the languages of the page."""

    en: str
    zh: str


class PredictionResponse(BaseModel):
    """Prediction of one image."""

    label: str = Field(description="Code of the most probable class.")
    confidence: float = Field(ge=0, le=1, description="Calibrated probability of the most probable class.")
    word: LocalizedText = Field(description="Confidence in words, after the likelihood scale of the IPCC.")
    probabilities: dict[str, float] = Field(
        description="Calibrated probability of every class, in descending order."
    )
    flags: list[str] = Field(description="Flags of a doubtful prediction, such as not_a_sky.")
    outlier_score: float | None = Field(description="Distance of the image from the training data.")
    class_activation_map: list[list[float]] | None = Field(
        description="Class-activation map of the most probable class, if requested: rows of a coarse grid "
        "over the model input. Positive values support the class."
    )


class ModelResponse(BaseModel):
    """Description of the served model: task, classes and cards, as used by the page."""

    model_config = ConfigDict(extra="allow")

    model: str
    format_version: int


class HealthResponse(BaseModel):
    """Health of the server."""

    status: str
    model: str


_STATUS_DESCRIPTIONS = {
    400: "Invalid form, or connection closed during the upload.",
    408: "Upload timeout.",
    413: "Too many bytes, pixels or JPEG scans.",
    415: "Content without an accepted image format.",
    422: "Damaged, empty or too small image; array with a wrong shape or unit; invalid query parameter.",
    429: "Too many images per minute from this address.",
    503: "Too many images at the same time.",
}
_RETRY_AFTER = {
    "Retry-After": {"description": "Waiting time, in s.", "schema": {"type": "integer"}},
}
ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse, "description": description}
    | ({"headers": _RETRY_AFTER} if status in (429, 503) else {})
    for status, description in _STATUS_DESCRIPTIONS.items()
}
"""Error responses of a prediction request, by HTTP status."""

_BINARY = {"schema": {"type": "string", "format": "binary"}}
IMAGE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "Image, or array of the model input (.npy, in the units of the model), as request "
        "body of any content type or as file `photo` of a form.",
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
"""Request body for the OpenAPI document; the handler reads the body itself to limit its size."""
