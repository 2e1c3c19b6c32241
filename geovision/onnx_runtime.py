"""Predictions of an exported model with onnxruntime, numpy and Pillow alone.

This file imports nothing of geovision. ``geovision export --with-runtime`` writes a copy, ``runtime.py``,
next to the model::

    python runtime.py model.onnx sky.jpg more/*.jpg

    from runtime import OnnxModel

    model = OnnxModel("model.onnx")
    [prediction] = model.predict([model.read("sky.jpg")])

Images are read as geovision reads them. They are rotated by their EXIF orientation; gray, palette and CMYK
images become RGB; 16-bit gray images are scaled by the full range of their type; transparent pixels become
white; an animation gives its first frame. Bilinear resampling then gives the size of the model. Color
profiles are not applied, and floating-point pixels without a declared scale raise an error. An image of
measurements, such as a radar image, is averaged to the pixel size of the model and cropped to its center.
Arrays are in the physical units of the model.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

# ONNX Runtime stores a device identifier and a database of events, and sends them to its makers, unless this
# variable is set before its import; disable_telemetry_events() comes too late for both.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

__all__ = ["InputError", "OnnxModel", "UnreadableError", "read_counts", "read_image"]

METADATA_KEY, FORMAT_VERSION = "geovision", 2
MIN_IMAGE_SIZE = 8
NPY_MAGIC = b"\x93NUMPY"  # how a .npy file begins
_FULL_SCALE_16 = 65535
_DRAFT_FACTOR = 2
COLORS = ("red", "green", "blue")
_TRANSPOSED_ORIENTATIONS = (5, 6, 7, 8)  # EXIF orientations that exchange height and width

ImageSource = str | Path | bytes | IO[bytes] | Image.Image


class InputError(ValueError):
    """Data that the model does not accept: wrong name, unit, range or shape."""


class UnreadableError(InputError):
    """File that cannot be decoded: truncated, empty, no image, or too large."""


# --- images -------------------------------------------------------------------------------------


def read_image(
    source: ImageSource, size: tuple[int, int] | None = None, resize: str = "squash", *, where: str = ""
) -> np.ndarray:
    """Read one image as red, green and blue.

    Args:
        source: Path, content, open binary file, or Pillow image.
        size: Height and width of the result, in pixels. Default: those of the image.
        resize: ``"squash"`` resizes to exactly `size`; ``"crop"`` first cuts the largest centered part with
            the same proportions. Default: ``"squash"``.
        where: Name of the image in errors. Default: its path.

    Returns:
        Values, float32, shape (3, height, width), 0 to 1.

    Raises:
        UnreadableError: The file is missing, damaged, no image, or has more pixels than Pillow allows.
        InputError: A side is shorter than 8 pixels, or the pixels have no declared full scale.
    """
    with _decode_errors(source, where) as place:
        image = source if isinstance(source, Image.Image) else _decode(source, size)
        return _to_unit_range(_resize(image, size, resize, place))


@contextmanager
def _decode_errors(source: ImageSource, where: str) -> Iterator[str]:
    """Yield the name of an image, and reduce decoder errors to one line."""
    place = where or (str(source) if isinstance(source, str | Path) else "picture")
    try:
        yield place
    except InputError:
        raise
    except FileNotFoundError as error:
        raise UnreadableError(f"{place}: no such file; check the path") from error
    except UnidentifiedImageError as error:
        raise UnreadableError(f"{place}: not an image in any format that Pillow reads") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableError(f"{place}: too many pixels, perhaps a decompression bomb") from error
    except Exception as error:  # a damaged file makes decoders raise anything
        reason = str(error) or type(error).__name__
        raise UnreadableError(f"{place}: damaged ({reason}); copy it again from its source") from error


def _decode(
    source: str | Path | bytes | IO[bytes], size: tuple[int, int] | None, *, eight_bit_name: str = ""
) -> Image.Image:
    """Decode an image.

    A JPEG that is much larger than needed is decoded at a fraction of its size.
    `eight_bit_name` names an image that must have 8 bits per color.
    """
    image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
    with image:
        # Pillow reduces 16 bits to 8 when it loads an image; the number of bits is only known before.
        if eight_bit_name and (image.mode[0] in "IF" or any(";16" in repr(tile.args) for tile in image.tile)):
            raise InputError(
                f"{eight_bit_name}: more than 8 bits per color; expected 8-bit counts on the published scale"
            )
        if size:
            turned = image.getexif().get(ExifTags.Base.Orientation) in _TRANSPOSED_ORIENTATIONS
            height, width = size[::-1] if turned else size
            image.draft(None, (_DRAFT_FACTOR * width, _DRAFT_FACTOR * height))
        image.load()
    return image


def _resize(image: Image.Image, size: tuple[int, int] | None, resize: str, where: str) -> Image.Image:
    upright = ImageOps.exif_transpose(image)
    width, height = upright.size
    if min(width, height) < MIN_IMAGE_SIZE:
        raise InputError(
            f"{where}: {height}x{width} pixels; an image needs at least {MIN_IMAGE_SIZE} on each side"
        )
    rgb = _to_rgb(upright, image.format, where)
    if size is None:
        return rgb
    box = _crop_box((height, width), size) if resize == "crop" else (0.0, 0.0, float(width), float(height))
    return rgb.resize(size[::-1], Image.Resampling.BILINEAR, box=box, reducing_gap=3.0)


def _crop_box(shape: tuple[int, int], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the largest centered part (left, upper, right, lower) with the proportions of `size`."""
    scale = min(shape[0] / size[0], shape[1] / size[1])
    height, width = scale * size[0], scale * size[1]
    left, upper = (shape[1] - width) / 2, (shape[0] - height) / 2
    return left, upper, left + width, upper + height


def _to_rgb(image: Image.Image, file_format: str | None, where: str) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and file_format in ("PNG", "PPM")):
        # Pillow clips 16-bit counts when it converts them, and gives those of these formats as "I".
        counts = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((counts * 255 + _FULL_SCALE_16 // 2) // _FULL_SCALE_16).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise InputError(f"{where}: {image.mode!r} pixels have no declared full scale; convert to 8 bits")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_unit_range(image: Image.Image) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(image, np.float32).transpose(2, 0, 1)) / np.float32(255)


# --- images of measurements -------------------------------------------------------------------------


def read_counts(source: ImageSource, spec: Mapping[str, Any], *, where: str = "") -> np.ndarray:
    """Read one image of measurements: 8-bit counts in the color bands that the model names.

    Args:
        source: Path, content, open binary file, or Pillow image.
        spec: Description of the input in the metadata of the model. Each channel is in all of its ``bands``.
            The pixel size of a file is its PNG text entry ``pixel_size``, or else that of the input.
        where: Name of the image in errors. Default: its path.

    Returns:
        Counts, uint8, shape (channel, height, width): means over the pixels of the model, cropped to the
        center; 0 where data are missing.

    Raises:
        UnreadableError: The file is missing, damaged, or no image.
        InputError: There are more than 8 bits per color, the bands of a channel differ, the image is gray,
            or its pixels cannot be averaged to those of the model.
    """
    with _decode_errors(source, where) as place:
        image = source if isinstance(source, Image.Image) else _decode(source, None, eight_bit_name=place)
        own = _read_pixel_size(image, spec["picture"]["pixel_size"], place)
        colours = dict(
            zip(COLORS, np.asarray(_resize(image, None, "", place)).transpose(2, 0, 1), strict=True)
        )
        counts = _select_bands(colours, spec["channels"], place)
    factor = round(spec["pixel_size"] / own)
    if factor < 1 or abs(factor * own - spec["pixel_size"]) > 1e-6 * spec["pixel_size"]:
        raise InputError(f"{place}: pixels of {own:g} m cannot be averaged to {spec['pixel_size']:g} m")
    return _center_crop_or_pad(_block_average(counts, factor), spec["size"])


def _read_pixel_size(image: Image.Image, default: float, where: str) -> float:
    text = image.info.get("pixel_size", default)
    try:
        meters = float(text)
    except ValueError:
        meters = 0.0
    if not meters > 0:
        raise InputError(f"{where}: the entry 'pixel_size' is {text!r}; expected a length in meters")
    return meters


def _select_bands(
    colors: Mapping[str, np.ndarray], channels: Sequence[Mapping[str, Any]], where: str
) -> np.ndarray:
    """Return the channels, shape (channel, y, x), of red, green and blue."""
    for channel in channels:
        first, *others = channel["bands"]
        if any(not np.array_equal(colors[first], colors[other]) for other in others):
            raise InputError(
                f"{where}: {' and '.join(channel['bands'])} differ; expected {channel['name']} in both. "
                "Photos and images changed by compression are not accepted"
            )
    counts = np.stack([colors[channel["bands"][0]] for channel in channels])
    if len(counts) > 1 and counts.any() and (counts == counts[0]).all():
        names = ", ".join(channel["name"] for channel in channels)
        raise InputError(f"{where}: a gray image, so a measurement is missing; expected {names}")
    return counts


def _block_average(counts: np.ndarray, factor: int) -> np.ndarray:
    """Average the valid values of blocks that are at least half valid."""
    channels, height, width = counts.shape
    padded = np.pad(counts, ((0, 0), (0, -height % factor), (0, -width % factor)))
    blocks = padded.reshape(channels, padded.shape[1] // factor, factor, -1, factor)
    there = blocks.any(axis=0).sum(axis=(1, 3))
    mean = np.rint(blocks.sum(axis=(2, 4), dtype=np.int64) / np.maximum(there, 1))
    return np.where(2 * there >= factor * factor, mean, 0).astype(np.uint8)


def _center_crop_or_pad(values: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Crop a grid to its center, or pad it with 0.

    An odd cell is added or removed below and on the right.
    """
    for axis, wanted in zip((-2, -1), size, strict=True):
        missing = wanted - values.shape[axis]
        before = abs(missing) // 2
        if missing < 0:
            values = np.take(values, range(before, before + wanted), axis)
        else:
            margins = [(0, 0)] * values.ndim
            margins[axis] = (before, missing - before)
            values = np.pad(values, margins)
    return values


# --- the model ----------------------------------------------------------------------------------


class OnnxModel:
    """Model in an exported file. Several threads may read and predict at the same time.

    Args:
        path: Path of the ``.onnx`` file.
        threads: Number of threads of one prediction. Default: all cores.

    Attributes:
        metadata: Metadata of the file: classes and their cards, units, ranges, license, and more.

    Raises:
        InputError: The file is missing, damaged, or was not exported by geovision.
    """

    def __init__(self, path: str | Path, *, threads: int | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3
        if not Path(path).is_file():
            raise InputError(f"{path}: no such file; expected a model that geovision exported")
        try:
            self.session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
            self.metadata: dict[str, Any] = json.loads(
                self.session.get_modelmeta().custom_metadata_map[METADATA_KEY]
            )
        except Exception as error:  # ONNX Runtime's own have no common base
            raise InputError(f"{path}: damaged, or not a model that geovision exported") from error
        if self.metadata["format_version"] != FORMAT_VERSION:
            raise InputError(
                f"{path}: format version {self.metadata['format_version']}, this reads {FORMAT_VERSION}; "
                "use the runtime.py that came with the model"
            )
        self.outputs = [output.name for output in self.session.get_outputs()]
        self._shapes = {given.name: given.shape for given in self.session.get_inputs()}

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of the logits; empty for fields and masks."""
        return self.metadata["target"].get("classes", [])

    def read(self, source: Any) -> dict[str, np.ndarray]:
        """Read one sample for `predict`.

        Args:
            source: Image (path, content, open file, Pillow image), array of the first input, path or content
                of a ``.npy`` file, path of a ``.npz`` file, or a mapping from input names to these. The mask
                of valid values is an input of its own, named in ``metadata["inputs"][…]["valid"]``; without
                it all values are valid.

        Returns:
            Arrays of the sample by input name.

        Raises:
            UnreadableError: A file cannot be decoded.
            InputError: A name, shape, unit or range is wrong.
        """
        inputs = self.metadata["inputs"]
        if isinstance(source, str | Path) and Path(source).suffix.lower() in (".npy", ".npz"):
            source = _load_arrays(Path(source))
        elif isinstance(source, bytes) and source.startswith(NPY_MAGIC):
            source = _load_arrays(source)
        given = source if isinstance(source, Mapping) else {inputs[0]["name"]: source}
        unknown = set(given) - set(self._shapes)
        if unknown:
            raise InputError(f"unknown input {sorted(unknown)[0]!r}; the inputs are {list(self._shapes)}")
        sample: dict[str, np.ndarray] = {}
        for about in inputs:
            sample |= self._read_input(about, given)
        return sample

    def _read_input(self, spec: Mapping[str, Any], sources: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Read one input, with its mask if it has one."""
        name, mask, shape = spec["name"], spec["valid"], tuple(self._shapes[spec["name"]][1:])
        if sources.get(name) is None:
            if not spec["optional"]:
                raise InputError(f"input {name!r} is missing")
            return {name: np.zeros(shape, np.float32), mask: np.zeros(shape, bool)}
        values = sources[name]
        if isinstance(values, str | Path | bytes | Image.Image) or hasattr(values, "read"):
            return self._read_image_input(values, spec)
        array = _to_physical(np.asarray(values), spec)
        there = np.asarray(True if mask is None else sources.get(mask, True), bool)
        if spec["resize"] == "window" and array.ndim == len(shape):
            there = _center_crop_or_pad(np.broadcast_to(there, array.shape), spec["size"])
            array = _center_crop_or_pad(array, spec["size"])
        if array.shape != shape:
            raise InputError(f"input {name!r} has shape {shape} ({spec['layout']}), got {array.shape}")
        there = np.broadcast_to(there, shape)
        _check_values(array, there, spec)
        return {name: array} if mask is None else {name: np.where(there, array, 0), mask: there}

    def _read_image_input(self, source: ImageSource, spec: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Read one input from an image; its values are in range by their type."""
        if spec["picture"] is None:
            raise InputError(f"input {spec['name']!r} is not an image; pass an array ({spec['layout']})")
        if spec["picture"]["pixel_size"] is None:
            return {spec["name"]: read_image(source, tuple(spec["size"]), spec["resize"])}
        counts = read_counts(source, spec)
        there = np.broadcast_to((counts > 0).any(0), counts.shape)
        return {spec["name"]: counts.astype(np.float32) / np.float32(255), spec["valid"]: there}

    def run(self, samples: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Compute the outputs of the graph.

        Args:
            samples: Samples from `read`.

        Returns:
            Arrays by output name, each of shape (sample, ...).
        """
        feed = {name: np.stack([sample[name] for sample in samples]) for name in self._shapes}
        return dict(zip(self.outputs, self.session.run(self.outputs, feed), strict=True))

    def predict(self, samples: Sequence[Mapping[str, np.ndarray]]) -> list[dict[str, Any]]:
        """Predict samples, in their order.

        Args:
            samples: Samples from `read`.

        Returns:
            One dictionary per sample. For classes: ``label``; ``confidence``, its calibrated probability;
            ``word``, a word for it, ``{"en": …, "zh": …}``; ``probabilities``, most probable first;
            ``flags``; ``outlier_score``, None if not fitted; and ``class_activation_map``, shape (y, x) of
            the network, at least 0, None if the model has none. Otherwise the outputs of the graph.
        """
        if not samples:
            return []
        found = self.run(samples)
        return [
            self._to_prediction({name: values[index] for name, values in found.items()})
            for index in range(len(samples))
        ]

    def _to_prediction(self, outputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
        target = self.metadata["target"]
        if target["kind"] != "class":
            return dict(outputs)
        probabilities = outputs["probabilities"]
        order = np.argsort(-probabilities, kind="stable")
        confidence = float(probabilities[order[0]])
        score = float(outputs["outlier_score"]) if "outlier_score" in outputs else None
        strange = score is not None and score > target["outlier"]["threshold"]
        word = next(each for each in target["words"] if confidence >= each["from"])
        return {
            "label": target["classes"][order[0]],
            "confidence": confidence,
            "word": {"en": word["en"], "zh": word["zh"]},
            "probabilities": {target["classes"][index]: float(probabilities[index]) for index in order},
            "flags": [target["outlier"]["flag"]] if strange else [],
            "outlier_score": score,
            "class_activation_map": outputs.get("class_activation_map"),
        }


def _load_arrays(source: Path | bytes) -> Any:
    place = "array" if isinstance(source, bytes) else str(source)
    try:
        loaded = np.load(io.BytesIO(source) if isinstance(source, bytes) else source, allow_pickle=False)
        return dict(loaded) if isinstance(loaded, Mapping) else loaded
    except FileNotFoundError as error:
        raise UnreadableError(f"{place}: no such file; check the path") from error
    except Exception as error:  # a damaged file makes the reader raise anything
        raise UnreadableError(f"{place}: not a readable array file ({error})") from error


def _to_physical(array: np.ndarray, spec: Mapping[str, Any]) -> np.ndarray:
    """Convert an array, or counts if the input declares them, to its unit."""
    if array.dtype.kind == "f":
        return array.astype(np.float32, copy=False)
    if array.dtype.kind not in "iu" or spec["integers"] == "refuse":
        raise InputError(
            f"input {spec['name']!r} expects floating-point numbers in "
            f"{spec['channels'][0]['unit']}, not {array.dtype}"
        )
    return array.astype(np.float32) / np.float32(np.iinfo(array.dtype).max)


def _check_values(array: np.ndarray, valid: np.ndarray, spec: Mapping[str, Any]) -> None:
    """Raise an error for invalid values, and for values out of range."""
    axis = spec["layout"].split().index("channel")
    for index, channel in enumerate(spec["channels"]):
        values = np.take(array, index, axis)[np.take(valid, index, axis)]
        name, unit = channel["name"], "" if channel["unit"] == "1" else f" {channel['unit']}"
        if not np.isfinite(values).all():
            raise InputError(f"channel {name!r}: NaN or infinite; mark missing values in {spec['valid']!r}")
        low, high = ([-np.inf, np.inf][at] if v is None else v for at, v in enumerate(channel["valid_range"]))
        slack = 1e-6 * max(*(abs(limit) for limit in (low, high) if np.isfinite(limit)), 1.0, 0.0)
        if values.size and not (low - slack <= values.min() and values.max() <= high + slack):
            reach = float(np.abs(values).max())
            slip = next((s["hint"] for s in channel["unit_hints"] if s["above"] < reach <= s["upto"]), "")
            raise InputError(
                f"channel {name!r}: values from {values.min():.4g} to {values.max():.4g}, expected "
                f"{low:g} to {high:g}{unit}" + (f" ({slip})" if slip else "")
            )


# --- the command line ---------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Predict files and print one JSON object per line.

    Args:
        arguments: Arguments of the command. Default: those of the process.

    Returns:
        Exit code: 1 if a file could not be read, else 0.
    """
    parser = argparse.ArgumentParser(
        prog="runtime.py", description="Predictions of an exported model, one JSON object per line."
    )
    parser.add_argument("model", help="an .onnx file that geovision exported")
    parser.add_argument("files", nargs="*", help="images, .npy or .npz files; none: print the metadata")
    parser.add_argument("--map", action="store_true", help="add the class-activation map")
    options = parser.parse_args(arguments)
    try:
        model = OnnxModel(options.model)
    except InputError as error:
        print(f"runtime.py: {error}", file=sys.stderr)
        return 1
    if not options.files:
        print(json.dumps(model.metadata, indent=1, ensure_ascii=False))
    failed = 0
    for line, wrong in _predict_files(model, options.files, with_map=options.map):
        failed |= bool(wrong)
        print(wrong or line, file=sys.stderr if wrong else sys.stdout, flush=True)
    return failed


def _predict_files(model: OnnxModel, files: Sequence[str], *, with_map: bool) -> Iterator[tuple[str, str]]:
    """Yield (prediction, error) for each file; one of them is empty."""
    for file in files:
        try:
            (prediction,) = model.predict([model.read(file)])
        except InputError as wrong:
            text = str(wrong)
            yield "", f"runtime.py: {text if text.startswith(file) else f'{file}: {text}'}"
            continue
        if not with_map:
            prediction.pop("class_activation_map", None)
        yield json.dumps({"source": file, **prediction}, ensure_ascii=False, default=_to_json), ""


def _to_json(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)


if __name__ == "__main__":
    sys.exit(main())
