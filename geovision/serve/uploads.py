"""Reading of uploaded images into memory, with early rejection of invalid requests.

Uploads are not written to disk. The form parser would write large files to temporary files, so it is
configured to keep them in memory. The size of the body is limited before it is parsed.
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

_MAX_FORM_OVERHEAD = 100_000  # maximum size of a form without its file, in bytes
_JPEG_SCAN_MARKER = b"\xff\xda"  # start of each scan of a JPEG


class UploadReader:
    """Reader of uploaded images that limits the memory of all uploads.

    Args:
        limits: Limits of the server.

    Attributes:
        bytes_in_memory: Size of the images that are being received or were not released yet, in bytes.
    """

    def __init__(self, limits: ServerLimits) -> None:
        self.limits, self.bytes_in_memory = limits, 0

    async def receive(self, request: Request) -> bytes:
        """Read the image of a request: its body, or the file ``photo`` of its form.

        Call `release` with the length of the image after its prediction.

        Args:
            request: Prediction request.

        Returns:
            Content of the image file.

        Raises:
            RequestError: If the image is too large, too slow or empty, or the memory limit is exceeded.
        """
        self._check_length(request)
        body = bytearray()
        try:
            async with asyncio.timeout(self.limits.upload_timeout):
                async for chunk in request.stream():
                    self.bytes_in_memory += len(chunk)
                    body += chunk
                    self._check_memory(len(body))
            image = await self._extract_image(request, bytes(body))
        except TimeoutError as error:
            raise UploadTimeout(
                f"the image did not arrive within {self.limits.upload_timeout:g} s; send a smaller one"
            ) from error
        except ClientDisconnect as error:
            raise RequestError(
                "the connection was closed before the end of the image; send it again"
            ) from error
        finally:
            self.bytes_in_memory -= len(body)
        self.bytes_in_memory += len(image)
        return image

    def release(self, count: int) -> None:
        """Release the memory of an image.

        Args:
            count: Length of the image, in bytes.
        """
        self.bytes_in_memory -= count

    def _check_length(self, request: Request) -> None:
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > self.limits.max_image_bytes + _MAX_FORM_OVERHEAD:
            raise self._too_large_error()

    def _check_memory(self, received: int) -> None:
        if received > self.limits.max_image_bytes + _MAX_FORM_OVERHEAD:
            raise self._too_large_error()
        if self.bytes_in_memory > self.limits.max_memory_bytes:
            raise ServerBusy("too many images at the same time; try again in a few seconds")

    def _too_large_error(self) -> ContentTooLarge:
        return ContentTooLarge(
            f"the image has more than {self.limits.max_image_bytes / 1e6:g} MB; send a smaller one"
        )

    async def _extract_image(self, request: Request, body: bytes) -> bytes:
        content_type = request.headers.get("content-type", "").lower()
        is_form = content_type.startswith("multipart/form-data")
        image = await _read_form_file(request, body) if is_form else body
        if not image:
            raise InvalidImage("the file is empty (0 bytes); send an image")
        if len(image) > self.limits.max_image_bytes:
            raise self._too_large_error()
        return image


class _InMemoryMultiPartParser(MultiPartParser):
    """Form parser that keeps files of any size in memory; the body is limited before parsing."""

    spool_max_size = 1 << 40


async def _read_form_file(request: Request, body: bytes) -> bytes:
    async def chunks() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        form = await _InMemoryMultiPartParser(request.headers, chunks(), max_files=1, max_fields=8).parse()
    except (MultiPartException, KeyError) as error:
        raise RequestError(f"the form cannot be parsed ({error})") from error
    try:
        photo = form.get("photo")
        if not isinstance(photo, UploadFile):
            raise RequestError("the form has no file 'photo'; send the image under this name")
        return await photo.read()
    finally:
        await form.close()


def check_header(content: bytes, limits: ServerLimits) -> None:
    """Check the format and size of an image without decoding it.

    Args:
        content: Content of the image file.
        limits: Limits of the server.

    Raises:
        UnsupportedImage: If the content has no format of `IMAGE_FORMATS`.
        ContentTooLarge: If the image has too many pixels or JPEG scans.
        InvalidImage: If the header is damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is lower
            with Image.open(io.BytesIO(content), formats=IMAGE_FORMATS) as image:
                width, height = image.size
                # In compressed data, a byte of 255 is only followed by 0 or a restart marker.
                scans = content.count(_JPEG_SCAN_MARKER) if image.format in ("JPEG", "MPO") else 1
    except UnidentifiedImageError as error:
        raise UnsupportedImage(
            f"the file is not an accepted image ({', '.join(IMAGE_FORMATS)}) or array (.npy)"
        ) from error
    except Image.DecompressionBombError as error:
        raise ContentTooLarge(_too_many_pixels_error(limits)) from error
    except Exception as error:  # a damaged header makes decoders raise anything
        raise InvalidImage(f"the image is damaged ({error or type(error).__name__})") from error
    if width * height > limits.max_image_pixels:
        raise ContentTooLarge(f"{height} x {width}: {_too_many_pixels_error(limits)}")
    if scans > limits.max_jpeg_scans:
        raise ContentTooLarge(
            f"the JPEG has {scans} scans, more than {limits.max_jpeg_scans}; save it again with fewer scans"
        )


def _too_many_pixels_error(limits: ServerLimits) -> str:
    return f"more than {limits.max_image_pixels / 1e6:g} million pixels; send a smaller image"
