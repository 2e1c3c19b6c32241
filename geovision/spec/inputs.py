"""What goes into a model: channels with units and ranges."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from geovision.errors import OptionError

__all__ = ["COLORS", "Channel", "ImageFileSpec", "InputSpec", "QuantileRange", "Text", "UnitHint"]

COLORS = ("red", "green", "blue")
"""Channels of a photo, in the order in which networks of photos take them."""


@dataclass(frozen=True)
class Text:
    """A sentence in the two languages that the cards speak."""

    en: str
    zh: str


@dataclass(frozen=True)
class UnitHint:
    """A likely mistake: values reaching beyond `above` and up to `upto` are told `hint`."""

    above: float
    upto: float
    hint: str


@dataclass(frozen=True)
class QuantileRange:
    """Over a whole file, the `q`-th quantile lies in [`low`, `high`]. Single values cannot show a
    wrong unit whose values lie inside the hard range; a quantile can."""

    q: float
    low: float
    high: float


@dataclass(frozen=True)
class Channel:
    """One physical quantity: its unit, what it can be, what it usually is.

    Args:
        name: The field's standard name, e.g. ``"reflectivity_dbz"``.
        unit: In UDUNITS spelling; ``"1"`` is dimensionless.
        valid_range: Hard limits, both included; a value beyond them is an error.
        expected_quantiles: Quantiles that a whole file must keep.
        mean, std: Statistics that normalisation subtracts and divides by, in `unit`.
        unit_hints: Likely mistakes, matched in order when the hard range is left.
        colours: Of ``red``, ``green``, ``blue``, those in whose place this channel enters a network
            that knows photos; weights and statistics of such a network are taken over by them.
        baseline: What an explanation puts where a value is taken away, in `unit`: no echo, for instance.
            None: 0 where the quantity can be 0, and else its mean.
        encodes: Unit of the quantity that scaled counts encode, such as ``"dB"``. Default: none.
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
            raise ValueError(f"channel {self.name!r}: {unknown[0]!r} is none of {', '.join(COLORS)}")
        if not low < high:
            raise ValueError(f"channel {self.name!r}: empty range {self.valid_range}")
        if not self.std > 0:
            raise ValueError(f"channel {self.name!r}: std must be positive, not {self.std}")

    @property
    def rgb_bands(self) -> tuple[str, ...]:
        """The colours of a picture file that hold this channel, all of them the same values."""
        return self.colours or tuple(colour for colour in COLORS if colour == self.name)


@dataclass(frozen=True)
class ImageFileSpec:
    """What an input is as a picture file, each channel in its `Channel.bands`.

    Args:
        name: What people call it.
        shows: What it should show, with its article: "a sky".
        camera: A camera takes one.
        hint: What the file has to be, where not any picture will do.
        pixel_size: Metres on the ground that a pixel is wide, unless the file has a PNG text entry
            ``pixel_size``; None: pixels have no size there. Such a file is measurements and not a photo: it
            has 8 bits a colour, is averaged and cut, never resampled, and 0 in all channels is no data.
    """

    name: Text
    shows: Text
    camera: bool = False
    hint: Text | None = None
    pixel_size: float | None = None


@dataclass(frozen=True)
class InputSpec:
    """One named input of a model.

    Args:
        name: Key in the mapping that `GeoModel.forward` takes.
        channels: In the order of the channel axis.
        layout: Axes of one sample, in einops spelling: ``"channel y x"``, ``"channel"``, …
        size: (height, width) that files are brought to; None keeps the native grid.
        resize: ``"squash"`` to exactly `size`, ``"crop"`` the short side to `size` and cut the
            centre, ``"window"``: the middle `size` cells are cut out as they are, what lies beyond
            the sample being missing, or ``"none"``: a field on its own grid is never resampled.
        reader: ``"module:function"`` that reads one file of this input for `predict`.
        integers: ``"fraction"``: an integer array holds counts, full scale of its type being 1;
            ``"refuse"``: an integer array is an error.
        optional: The input may be missing; the model is told so by its presence mask.
        pixel_size: Metres on the ground that a cell is wide and high; None: it has no size there.
            Readers bring files to it by averages over areas.
        picture: What it is as a picture file; None: it is none.
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
            raise ValueError(f"input {self.name!r}: of a picture file each channel needs its colours")

    @property
    def channel_axis(self) -> int:
        """Position of the channel axis in one sample."""
        return self.layout.split().index("channel")

    def validate_encoded_ranges(self, ranges: Mapping[str, tuple[float, float]]) -> None:
        """Raise unless ranges are given for exactly the channels that encode a quantity.

        Args:
            ranges: Channel name to the values of the lowest and the highest count. Empty: unknown.

        Raises:
            OptionError: A channel is missing or unknown, or a range is empty.
        """
        encoded = {channel.name: channel.encodes for channel in self.channels if channel.encodes}
        if ranges and set(ranges) != set(encoded):
            raise OptionError(
                f"ranges are given for {', '.join(ranges)}; input {self.name!r} has counts that encode a "
                f"quantity in: {', '.join(encoded) or 'no channel'}"
            )
        for name, (low, high) in ranges.items():
            if not low < high:
                raise OptionError(
                    f"the range of {name} from {low} to {high} {encoded[name]} is empty; "
                    "give the lower value first"
                )

    def with_size(self, size: tuple[int, int] | None) -> InputSpec:
        return dataclasses.replace(self, size=size)

    def with_pixel_size(self, pixel_size: float) -> InputSpec:
        """The same ground in cells of another size, metres: `size` changes along, to whole cells.

        Raises:
            ValueError: The cells have no size on the ground.
        """
        if self.pixel_size is None:
            raise ValueError(f"input {self.name!r} has no pixel size to change")
        size = self.size
        if size is not None:
            scale = self.pixel_size / pixel_size
            size = (max(round(size[0] * scale), 1), max(round(size[1] * scale), 1))
        return dataclasses.replace(self, size=size, pixel_size=pixel_size)

    def with_statistics(self, mean: tuple[float, ...], std: tuple[float, ...]) -> InputSpec:
        """The same input, normalised by other statistics: one of each for every channel, or, where
        channels stand for colours, those of red, green and blue, averaged over a channel's own."""
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
        by_colour = dict(zip(COLORS, numbers, strict=True))
        return tuple(statistics.fmean(by_colour[c] for c in channel.colours) for channel in self.channels)
