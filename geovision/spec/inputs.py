"""Inputs of a model: channels with units and ranges."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from geovision.errors import OptionError

__all__ = ["COLORS", "Channel", "ImageFileSpec", "InputSpec", "QuantileRange", "Text", "UnitHint"]

COLORS = ("red", "green", "blue")
"""Channels of a photo, in the order that image networks expect."""


@dataclass(frozen=True)
class Text:
    """Text in English and Chinese, the two languages of the cards.

    Args:
        en: English text.
        zh: Chinese text.
    """

    en: str
    zh: str


@dataclass(frozen=True)
class UnitHint:
    """Hint at a probable unit error for values outside the valid range.

    It applies if the largest absolute value is above `above` and at most `upto`.

    Args:
        above: Lower bound of the largest absolute value, excluded, in the unit of the channel.
        upto: Upper bound of the largest absolute value, included, in the unit of the channel.
        hint: Text of the hint, for the error message.
    """

    above: float
    upto: float
    hint: str


@dataclass(frozen=True)
class QuantileRange:
    """Expected range of a quantile of all values of a file.

    It finds a wrong unit whose values are inside the valid range, which single values cannot show.

    Args:
        q: Level of the quantile, 0-1.
        low: Lower bound of the quantile, included, in the unit of the channel.
        high: Upper bound of the quantile, included, in the unit of the channel.
    """

    q: float
    low: float
    high: float


@dataclass(frozen=True)
class Channel:
    """Physical quantity with its unit, valid range and typical values.

    Args:
        name: Standard name of the quantity, such as ``"reflectivity_dbz"``.
        unit: Unit in UDUNITS spelling; ``"1"`` is dimensionless.
        valid_range: Lowest and highest valid value, both included, in `unit`; a value outside is an error.
        expected_quantiles: Expected quantiles of all values of a file. Default: none.
        mean: Mean that normalization subtracts, in `unit`. Default: 0.
        std: Standard deviation that normalization divides by, in `unit`. Default: 1.
        unit_hints: Hints at unit errors, matched in order if a value is outside `valid_range`.
            Default: none.
        colours: Colors of a photo (``red``, ``green``, ``blue``) in whose place this channel enters a
            network trained on photos. Weights and statistics of these colors are taken over. Default: none.
        baseline: Replacement of removed values in attributions, in `unit`, such as the value of no echo.
            Default: None, 0 if this is a valid value, else the mean.
        encodes: Unit of the quantity that scaled counts encode, such as ``"dB"``. Default: none.

    Raises:
        ValueError: A color is unknown, the range is empty, or the standard deviation is not positive.
    """

    name: str
    unit: str
    valid_range: tuple[float, float]
    expected_quantiles: tuple[QuantileRange, ...] = ()
    mean: float = 0.0
    std: float = 1.0
    unit_hints: tuple[UnitHint, ...] = ()
    colours: tuple[str, ...] = ()
    baseline: float | None = None
    encodes: str = ""

    def __post_init__(self) -> None:
        low, high = self.valid_range
        if unknown := sorted(set(self.colours) - set(COLORS)):
            raise ValueError(
                f"channel {self.name!r} has color {unknown[0]!r}; expected one of {', '.join(COLORS)}"
            )
        if not low < high:
            raise ValueError(
                f"channel {self.name!r} has the empty range {self.valid_range}; give the lower value first"
            )
        if not self.std > 0:
            raise ValueError(f"channel {self.name!r} has std={self.std}; expected a value above 0")

    @property
    def rgb_bands(self) -> tuple[str, ...]:
        """Colors of an image file that contain this channel."""
        return self.colours or tuple(color for color in COLORS if color == self.name)


@dataclass(frozen=True)
class ImageFileSpec:
    """Form of an input as an image file.

    Each channel is stored in the colors `Channel.rgb_bands`.

    A file with a pixel size contains measurements instead of a photo. It has 8 bits per color, is averaged
    and cut but never resampled, and 0 in all channels means no data.

    Args:
        name: Common name of such a file.
        shows: Expected content of the image, with its article: "a sky".
        camera: Whether a camera takes such images. Default: False.
        hint: Requirements on the file, if not every image is accepted. Default: None.
        pixel_size: Width of a pixel on the ground in m, unless the file has a PNG text entry
            ``pixel_size``. Default: None, the pixels have no size on the ground.
    """

    name: Text
    shows: Text
    camera: bool = False
    hint: Text | None = None
    pixel_size: float | None = None


@dataclass(frozen=True)
class InputSpec:
    """Named input of a model.

    Args:
        name: Key of the input in the mapping that `GeoModel.forward` takes.
        channels: Channels in the order of the channel axis.
        layout: Axes of one sample in einops spelling, such as ``"channel"``. Default: ``"channel y x"``.
        size: Height and width of resized files, in cells. Default: None, the native grid.
        resize: Method that changes the size. ``"squash"`` resizes to exactly `size`. ``"crop"`` resizes the
            short side to `size` and cuts out the center. ``"window"`` cuts out the central `size` cells
            without resampling; cells outside the sample are missing. Default: ``"none"``, the field keeps
            its own grid.
        reader: Function that reads one file of this input for `predict`, as ``"module:function"``.
            Default: none.
        integers: Meaning of an integer array. ``"fraction"``: counts, where the full scale of the type is
            1. Default: ``"refuse"``, an integer array is an error.
        optional: Whether the input may be missing; its presence mask marks this for the model.
            Default: False.
        pixel_size: Width and height of a cell on the ground in m; readers average files over areas to
            reach it. Default: None, the cells have no size on the ground.
        picture: Form of the input as an image file. Default: None, the input is not an image file.

    Raises:
        ValueError: The input is an image file, but a channel has no color.
    """

    name: str
    channels: tuple[Channel, ...]
    layout: str = "channel y x"
    size: tuple[int, int] | None = None
    resize: Literal["squash", "crop", "window", "none"] = "none"
    reader: str = ""
    integers: Literal["fraction", "refuse"] = "refuse"
    optional: bool = False
    pixel_size: float | None = None
    picture: ImageFileSpec | None = None

    def __post_init__(self) -> None:
        if self.picture and not all(channel.rgb_bands for channel in self.channels):
            raise ValueError(
                f"input {self.name!r} is an image file, but not every channel has a color; pass colours="
            )

    @property
    def channel_axis(self) -> int:
        """Position of the channel axis in one sample."""
        return self.layout.split().index("channel")

    def validate_encoded_ranges(self, ranges: Mapping[str, tuple[float, float]]) -> None:
        """Validate the ranges of channels that encode a quantity.

        Ranges must be given for exactly these channels.

        Args:
            ranges: Values of the lowest and the highest count in the encoded unit, by channel name;
                empty if unknown.

        Raises:
            OptionError: A channel is missing or unknown, or a range is empty.
        """
        encoded = {channel.name: channel.encodes for channel in self.channels if channel.encodes}
        if ranges and set(ranges) != set(encoded):
            raise OptionError(
                f"ranges are given for {', '.join(ranges)}; counts of input {self.name!r} encode a "
                f"quantity in {', '.join(encoded) or 'no channel'}. Give ranges for exactly these"
            )
        for name, (low, high) in ranges.items():
            if not low < high:
                raise OptionError(
                    f"the range of {name} from {low} to {high} {encoded[name]} is empty; "
                    "give the lower value first"
                )

    def with_size(self, size: tuple[int, int] | None) -> InputSpec:
        """Return the same input with another size.

        Args:
            size: Height and width in cells; None for the native grid.
        """
        return dataclasses.replace(self, size=size)

    def with_pixel_size(self, pixel_size: float) -> InputSpec:
        """Return the same input with another pixel size.

        The input covers the same area on the ground: `size` is scaled and rounded to whole cells.

        Args:
            pixel_size: Width and height of a cell on the ground, in m.

        Raises:
            ValueError: The cells have no size on the ground.
        """
        if self.pixel_size is None:
            raise ValueError(f"input {self.name!r} has no pixel size, so it cannot be changed")
        size = self.size
        if size is not None:
            scale = self.pixel_size / pixel_size
            size = (max(round(size[0] * scale), 1), max(round(size[1] * scale), 1))
        return dataclasses.replace(self, size=size, pixel_size=pixel_size)

    def with_statistics(self, mean: tuple[float, ...], std: tuple[float, ...]) -> InputSpec:
        """Return the same input with other statistics for the normalization.

        If every channel has colors and there are three values, they are those of red, green and blue. Each
        channel then gets the average over its colors.

        Args:
            mean: Means, one per channel or one per color, in the unit of the channels.
            std: Standard deviations, in the same order.
        """
        channels = tuple(
            dataclasses.replace(channel, mean=m, std=s)
            for channel, m, s in zip(
                self.channels, self._per_channel(mean), self._per_channel(std), strict=True
            )
        )
        return dataclasses.replace(self, channels=channels)

    def _per_channel(self, numbers: tuple[float, ...]) -> tuple[float, ...]:
        if len(numbers) != len(COLORS) or not all(channel.colours for channel in self.channels):
            return numbers
        by_color = dict(zip(COLORS, numbers, strict=True))
        return tuple(statistics.fmean(by_color[c] for c in channel.colours) for channel in self.channels)
