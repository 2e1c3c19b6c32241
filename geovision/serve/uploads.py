"""Bytes from a request to a picture's bytes in memory, refused as early as can be told.

Nothing is written to disk: the parser of forms, which would put larger files into temporary ones, is told to
keep them in memory, and no larger body than a picture may have comes to it.
"""

from __future__ import annotations

import asyncio
import io
import warnings
from collections.abc import AsyncGenerator

from PIL import Image, UnidentifiedImageError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from geovision.serve.limits import IMAGE_FORMATS, ServerLimits
from geovision.serve.request_errors import (
    ContentTooLarge,
    InvalidImage,
    RequestError,
    ServerBusy,
    UnsupportedImage,
    UploadTimeout,
)

__all__ = ["UploadReader", "check_header"]

_MAX_FORM_OVERHEAD = 100_000  # bytes that a form may have around its file
_JPEG_SCAN_MARKER = b"\xff\xda"  # before each scan of a JPEG


class UploadReader:
    """Reads pictures of requests, and knows how many bytes are in memory.

    Attributes:
        bytes_in_memory: Bytes that `receive` gave out and `release` did not take back, with those that
            arrive.
    """

    def __init__(self, limits: ServerLimits) -> None:
        self.limits, self.bytes_in_memory = limits, 0

    async def receive(self, request: Request) -> bytes:
        """The bytes of a request's picture: its body, or the file ``photo`` of its form. The caller gives
        their number to `release` when they are answered.

        Raises:
            Refused: Too large, too slow, empty, or no room for it.
        """
        self._check_length(request)
        body = bytearray()
        try:
            async with asyncio.timeout(self.limits.upload_timeout):
                async for chunk in request.stream():
                    self.bytes_in_memory += len(chunk)
                    body += chunk
                    self._check_memory(len(body))
            picture = await self._extract_image(request, bytes(body))
        except TimeoutError as error:
            raise UploadTimeout(
                f"the picture did not arrive within {self.limits.upload_timeout:g} s; send a smaller one"
            ) from error
        except ClientDisconnect as error:
            raise RequestError("the connection was closed before the picture had arrived") from error
        finally:
            self.bytes_in_memory -= len(body)
        self.bytes_in_memory += len(picture)
        return picture

    def release(self, count: int) -> None:
        """These bytes are no longer in memory."""
        self.bytes_in_memory -= count

    def _check_length(self, request: Request) -> None:
        told = request.headers.get("content-length", "")
        if told.isdigit() and int(told) > self.limits.max_image_bytes + _MAX_FORM_OVERHEAD:
            raise self._too_large_error()

    def _check_memory(self, arrived: int) -> None:
        if arrived > self.limits.max_image_bytes + _MAX_FORM_OVERHEAD:
            raise self._too_large_error()
        if self.bytes_in_memory > self.limits.max_memory_bytes:
            raise ServerBusy("too many pictures at once; try again in a few seconds")

    def _too_large_error(self) -> ContentTooLarge:
        return ContentTooLarge(
            f"the picture has more than {self.limits.max_image_bytes / 1e6:g} MB; send a smaller one"
        )

    async def _extract_image(self, request: Request, body: bytes) -> bytes:
        kind = request.headers.get("content-type", "").lower()
        picture = await _file_of_form(request, body) if kind.startswith("multipart/form-data") else body
        if not picture:
            raise InvalidImage("an empty file (0 bytes)")
        if len(picture) > self.limits.max_image_bytes:
            raise self._too_large_error()
        return picture


class _InMemoryMultiPartParser(MultiPartParser):
    """A parser of forms that keeps files in memory, however large: what comes to it is bounded before."""

    spool_max_size = 1 << 40


async def _file_of_form(request: Request, body: bytes) -> bytes:
    async def once() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        form = await _InMemoryMultiPartParser(request.headers, once(), max_files=1, max_fields=8).parse()
    except (MultiPartException, KeyError) as error:
        raise RequestError(f"the form cannot be read ({error})") from error
    try:
        photo = form.get("photo")
        if not isinstance(photo, UploadFile):
            raise RequestError("the form has no file 'photo'")
        return await photo.read()
    finally:
        await form.close()


def check_header(content: bytes, limits: ServerLimits) -> None:
    """Raise if bytes are no picture, by their content, or one of too many pixels. Nothing is decoded.

    Raises:
        UnsupportedImage: No format of `FORMATS`.
        ContentTooLarge: More pixels than are taken, by its header, or more scans.
        InvalidImage: Its header is damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
            with Image.open(io.BytesIO(content), formats=IMAGE_FORMATS) as image:
                width, height = image.size
                # In what is compressed no byte of 255 is followed by any other than 0 and restart marks.
                scans = content.count(_JPEG_SCAN_MARKER) if image.format in ("JPEG", "MPO") else 1
    except UnidentifiedImageError as error:
        raise UnsupportedImage(
            f"not a picture of a format that is taken ({', '.join(IMAGE_FORMATS)}), nor an array (.npy)"
        ) from error
    except Image.DecompressionBombError as error:
        raise ContentTooLarge(_too_many_pixels_error(limits)) from error
    except Exception as error:  # a damaged header makes decoders raise anything
        raise InvalidImage(f"the picture is damaged ({error or type(error).__name__})") from error
    if width * height > limits.max_image_pixels:
        raise ContentTooLarge(f"{height} x {width}: {_too_many_pixels_error(limits)}")
    if scans > limits.max_jpeg_scans:
        raise ContentTooLarge(f"a JPEG of {scans} scans, which takes too long to decode; save it anew")


def _too_many_pixels_error(limits: ServerLimits) -> str:
    return f"more than {limits.max_image_pixels / 1e6:g} million pixels; send a smaller picture"
