"""Conversion of the inputs of `predict` to samples.

Inputs are paths, images, arrays, tensors, mappings of them, or lists of any of them.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from geovision.errors import InputError, OptionError
from geovision.models.layers.normalization import check_sample, to_physical
from geovision.readers.images import MIN_SIDE, resize_box, rgb_counts, window_margins
from geovision.spec import InputSpec, SampleContext, resolve

__all__ = ["InputItem", "InputSample", "iter_input_items", "read_attribute", "stack_samples"]


@dataclass(frozen=True)
class InputSample:
    """Sample in memory.

    Attributes:
        inputs: Inputs by name, with the axes of their layout. They are in physical units, or integer counts
            whose full scale corresponds to 1.
        valid: Valid values by input name, bool. Missing key: all values.
        context: Location and time from the file. Default: unknown, as for arrays.
    """

    inputs: dict[str, Tensor]
    valid: dict[str, Tensor] = field(default_factory=dict)
    context: SampleContext = field(default_factory=SampleContext)


@dataclass(frozen=True)
class InputItem:
    """Sample that has not been read yet.

    Attributes:
        name: Path of the sample, or its position as ``"[3]"``. It is quoted in predictions and errors.
        values: Paths, arrays or images by input name.
        error: Reason why the sample cannot be read. Default: None.
    """

    name: str
    values: Mapping[str, Any]
    error: InputError | None = None

    def load(self, specs: tuple[InputSpec, ...]) -> InputSample:
        """Read, validate and resize the sample.

        Args:
            specs: Input specifications of the model.

        Raises:
            InputError: The unit, range, shape or name of an input is wrong.
            UnreadableFileError: A file is damaged.
        """
        if self.error is not None:
            raise self.error
        known = [spec.name for spec in specs]
        unknown = [name for name in self.values if name not in known]
        if unknown:
            raise InputError(f"{self.name}: unknown input {unknown[0]!r}; the inputs are {known}")
        loaded = InputSample({}, context=_read_context(self.values.get(specs[0].name), specs[0]))
        for spec in specs:
            value = self.values.get(spec.name)
            if value is None:
                if not spec.optional:
                    raise InputError(f"{self.name}: input {spec.name!r} is missing")
                continue
            loaded.inputs[spec.name], valid = _load_input(value, spec, self.name)
            if valid is not None:
                loaded.valid[spec.name] = valid
        return loaded


def read_attribute(source: InputItem, name: str, spec: InputSpec) -> str:
    """Read an attribute of a file, such as its terrain.

    The values of the file are not read.

    Args:
        source: Sample, whose name is the path of the file.
        name: Name of the attribute.
        spec: Specification of the input that the file contains.

    Raises:
        InputError: The file has no attribute of this name.
        UnreadableFileError: The file is damaged.
        OptionError: Files of this input have no attributes.
    """
    header = _reader_function(spec, "read_header")
    if header is None:
        raise OptionError(f"files of {spec.name!r} have no attributes, such as {name!r}")
    if source.error is not None:
        raise source.error
    attributes = header(source.name)
    if name not in attributes:
        known = ", ".join(map(repr, attributes))
        raise InputError(f"{source.name}: no attribute {name!r}; known: {known or 'none'}")
    return str(attributes[name])


def stack_samples(
    samples: Sequence[InputSample], specs: Sequence[InputSpec]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Stack the inputs and masks of several samples.

    Args:
        samples: Samples with the same inputs and shapes.
        specs: Input specifications of the model.

    Returns:
        Inputs and masks, each by input name, with a new first axis. An input without invalid values has no
        mask.
    """
    inputs, valid = {}, {}
    for spec in specs:
        name = spec.name
        if name not in samples[0].inputs:
            continue
        values = [sample.inputs[name] for sample in samples]
        if len({value.dtype for value in values}) > 1:
            values = [to_physical(value, spec) for value in values]
        inputs[name] = torch.stack(values)
        if any(name in sample.valid for sample in samples):
            valid[name] = torch.stack(
                [s.valid.get(name, torch.ones_like(s.inputs[name], dtype=torch.bool)) for s in samples]
            )
    return inputs, valid


# --- samples of an input ------------------------------------------------------------------------


def iter_input_items(given: Any, specs: tuple[InputSpec, ...]) -> Iterator[InputItem]:
    """Yield the samples of an input in order, without reading them.

    A path that does not exist yields an item with the error, so that the other samples are predicted.

    Args:
        given: Path, array, tensor, image, mapping of them, or an iterable of any of these.
        specs: Input specifications of the model.
    """
    for position, values in enumerate(_flatten_inputs(given, specs)):
        if isinstance(values, InputError):
            yield InputItem(str(values).partition(": ")[0], {}, values)
            continue
        first = values.get(specs[0].name)
        yield InputItem(str(first) if isinstance(first, str | Path) else f"[{position}]", values)


def _flatten_inputs(given: Any, specs: tuple[InputSpec, ...]) -> Iterator[Mapping[str, Any] | InputError]:
    first = specs[0]
    if isinstance(given, str | Path):
        try:
            # A file with several inputs is read once per input, by their common reader.
            alike = [spec.name for spec in specs if spec.reader == first.reader]
            yield from (dict.fromkeys(alike, file) for file in _expand_files(given, first))
        except InputError as error:
            yield error
    elif isinstance(given, Mapping):
        yield from _split_mapping(given, specs)
    elif isinstance(given, np.ndarray | Tensor):
        yield from ({first.name: sample} for sample in _split_array(given, first))
    elif isinstance(given, Image.Image):
        yield {first.name: given}
    elif isinstance(given, Iterable):
        for each in given:
            yield from _flatten_inputs(each, specs)
    else:
        raise InputError(
            f"unsupported input of type {type(given).__name__}; pass a path, an array, a tensor, a Pillow "
            "image, a mapping from input names to these, or a list of them"
        )


def _expand_files(path: str | Path, spec: InputSpec) -> list[Path]:
    if not spec.reader:
        raise InputError(f"{path}: input {spec.name!r} is not read from files; pass arrays")
    expand = _reader_function(spec, "expand")
    assert expand is not None, f"{spec.reader} has no `expand`"
    return expand(path)


def _reader_function(spec: InputSpec, name: str) -> Callable[..., Any] | None:
    """Return another function of the reader's module, or None.

    ``expand`` lists the files of a folder. ``read_header`` and ``read_context`` exist if the files contain
    attributes or coordinates.
    """
    module, _, _ = spec.reader.partition(":")
    try:
        return resolve(f"{module}:{name}")
    except AttributeError:
        return None


def _split_array(values: Any, spec: InputSpec) -> Iterable[Any]:
    """Split a batch, which has one more axis than a sample.

    Other shapes are validated later.
    """
    return values if values.ndim == len(spec.layout.split()) + 1 else [values]


def _split_mapping(given: Mapping[str, Any], specs: tuple[InputSpec, ...]) -> Iterator[Mapping[str, Any]]:
    """Yield the samples of a mapping.

    The mapping is one sample, or a batch of arrays of equal length.
    """
    axes = {spec.name: len(spec.layout.split()) for spec in specs}
    batched = {
        name: value
        for name, value in given.items()
        if isinstance(value, np.ndarray | Tensor) and name in axes and value.ndim == axes[name] + 1
    }
    if not batched:
        yield given
        return
    lengths = {name: len(value) for name, value in batched.items()}
    if len(set(lengths.values())) > 1 or len(batched) < len(given):
        alone = sorted(set(given) - set(batched))
        raise InputError(
            f"the inputs of a batch have lengths {lengths}; expected equal lengths"
            + (f", and a batch axis for {alone}" if alone else "")
        )
    for index in range(next(iter(lengths.values()))):
        yield {name: value[index] for name, value in batched.items()}


# --- values of a sample -------------------------------------------------------------------------


def _load_input(value: Any, spec: InputSpec, where: str) -> tuple[Tensor, Tensor | None]:
    """Return one input as a tensor, and its valid mask.

    A mask of None means that all values are valid.
    """
    if isinstance(value, str | Path | Image.Image):
        value = _read_values(value, spec, where)
        if spec.integers == "fraction" and value.dtype == np.uint8 and value.ndim == 3:
            counts = torch.from_numpy(value)  # uint8 is always in range and needs a quarter of the memory
            measured = spec.picture is not None and spec.picture.pixel_size is not None
            return counts, (counts > 0).any(0).expand_as(counts) if measured else None
    if isinstance(value, Mapping):
        return _named_channels(value, spec, where)
    valid = None
    if isinstance(value, np.ma.MaskedArray):
        valid, value = torch.from_numpy(~np.ma.getmaskarray(value)), value.data
    _reject_channels_last(value, spec, where)
    sample = to_physical(_to_native(value, spec, where), spec, where=where)
    check_sample(sample, spec, where=where, valid=valid)
    if spec.resize == "window":
        return _center_crop_or_pad(sample, valid, spec)
    return _resize(sample, spec, where), valid


def _read_context(value: Any, spec: InputSpec) -> SampleContext:
    if not spec.reader or not isinstance(value, str | Path):
        return SampleContext()
    read = _reader_function(spec, "read_context")
    return read(value) if read else SampleContext()


def _read_values(value: str | Path | Image.Image, spec: InputSpec, where: str) -> np.ndarray:
    if isinstance(value, Image.Image):
        if spec.reader != "geovision.readers.images:read_rgb":
            raise InputError(f"{where}: input {spec.name!r} is not an image; pass an array")
        return rgb_counts(value, spec, spec.size, where=where)
    if not spec.reader:
        raise InputError(f"{where}: input {spec.name!r} is not read from files; pass an array")
    if glob.has_magic(str(value)) and not Path(value).exists():
        raise InputError(f"{where}: a mapping describes one sample; pass the path of one file, not a pattern")
    return resolve(spec.reader)(value, spec, spec.size)


def _named_channels(value: Mapping[str, Any], spec: InputSpec, where: str) -> tuple[Tensor, Tensor]:
    """Return measurements given by name, and their mask.

    Omitted measurements and None are missing.
    """
    known = [channel.name for channel in spec.channels]
    if spec.layout != "channel":
        raise InputError(f"{where}: input {spec.name!r} is an array ({spec.layout}), not a mapping")
    unknown = [name for name in value if name not in known]
    if unknown:
        raise InputError(f"{where}: {spec.name!r} has no {unknown[0]!r}; known: {known}")
    present = torch.tensor([value.get(name) is not None for name in known])
    try:
        numbers = [float(value[name]) if given else 0.0 for name, given in zip(known, present, strict=True)]
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: expected one number per measurement of {spec.name!r}: {error}") from error
    sample = torch.tensor(numbers)
    check_sample(sample, spec, where=where, valid=present)
    return sample, present


def _reject_channels_last(value: Any, spec: InputSpec, where: str) -> None:
    """Raise an error if the channels are on the last axis."""
    shape, axis, count = tuple(getattr(value, "shape", ())), spec.channel_axis, len(spec.channels)
    if len(shape) == len(spec.layout.split()) > axis + 1 and shape[axis] != count == shape[-1]:
        order = (*range(axis), len(shape) - 1, *range(axis, len(shape) - 1))
        raise InputError(
            f"{where}: input {spec.name!r} has axes ({spec.layout}), but the channels of shape {shape} are "
            f"last. Transpose the array, for example with numpy.transpose(array, {order})."
        )


def _to_native(value: Any, spec: InputSpec, where: str) -> Any:
    """Convert values to a form that torch supports."""
    if isinstance(value, Tensor):
        return value.detach()
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise InputError(f"{where}: input {spec.name!r} has data type {array.dtype}; expected numbers")
    return np.require(array, dtype=array.dtype.newbyteorder("="), requirements=["C", "W"])


def _center_crop_or_pad(
    sample: Tensor, valid: Tensor | None, spec: InputSpec
) -> tuple[Tensor, Tensor | None]:
    """Crop or pad a sample to the size of the input.

    Padded cells are invalid.
    """
    if spec.size is None or tuple(sample.shape[-2:]) == tuple(spec.size):
        return sample, valid
    above, below, left, right = window_margins((sample.shape[-2], sample.shape[-1]), spec.size)
    margins = (left, right, above, below)
    if valid is None and max(margins) > 0:
        valid = torch.ones_like(sample, dtype=torch.bool)
    return F.pad(sample, margins), None if valid is None else F.pad(valid.expand_as(sample), margins)


def _resize(sample: Tensor, spec: InputSpec, where: str) -> Tensor:
    """Resize a sample to the size of the input.

    The rule is the same as for files.
    """
    size = spec.size
    if size is None or tuple(sample.shape[-2:]) == tuple(size):
        return sample
    height, width = sample.shape[-2:]
    if spec.resize == "none":
        raise InputError(f"{where}: input {spec.name!r} has a grid of {size} cells, got {(height, width)}")
    if min(height, width) < MIN_SIDE:
        raise InputError(
            f"{where}: the image has {height}x{width} pixels; each side needs {MIN_SIDE} or more"
        )
    left, upper, right, lower = resize_box((height, width), size, crop=spec.resize == "crop")
    part = sample[..., round(upper) : round(lower), round(left) : round(right)]
    flat = part.reshape(1, -1, *part.shape[-2:])
    resized = F.interpolate(flat, size=size, mode="bilinear", align_corners=False, antialias=True)
    return resized.reshape(*sample.shape[:-2], *size)
