"""Small Sentinel-1 SAFE folders of known content for tests of readers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rasterio.control import GroundControlPoint

from helpers.scenes import quiet

NAME = "S1A_EW_GRDM_1SDH_20200110T050607_20200110T050637_030737_038635_4B5C.SAFE"
_STEM = "s1a-ew-grd-{pol}-20200110t050607-20200110t050637-030737-038635-00{number}"
_RADIUS = 6_371_000.0
_TIE_POINTS = 11  # per side

_MANIFEST = """<?xml version="1.0" encoding="UTF-8"?>
<xfdu:XFDU xmlns:xfdu="urn:ccsds:schema:xfdu:1" xmlns:safe="http://www.esa.int/safe/sentinel-1.0">
  <metadataSection><metadataObject ID="acquisitionPeriod"><metadataWrap><xmlData>
    <safe:acquisitionPeriod>
      <safe:startTime>2020-01-10T05:06:07.123456</safe:startTime>
      <safe:stopTime>2020-01-10T05:06:37.654321</safe:stopTime>
    </safe:acquisitionPeriod>
  </xmlData></metadataWrap></metadataObject></metadataSection>
</xfdu:XFDU>
"""


@dataclass(frozen=True)
class Swath:
    """Swath of a side-looking radar on a sphere: lines along a great circle, samples across it.

    Args:
        longitude: Longitude of the center of the first pixel, in degrees.
        latitude: Latitude of the center of the first pixel, in degrees.
        heading: Direction of the lines, in degrees from north.
        spacing: Spacing of lines and samples, in m.
        shape: Numbers of lines and samples.
    """

    longitude: float
    latitude: float
    heading: float
    spacing: float
    shape: tuple[int, int]

    def place(self, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return longitude and latitude of pixel centers."""
        along, across = rows * self.spacing / _RADIUS, columns * self.spacing / _RADIUS
        east, north, turn = np.radians([self.longitude, self.latitude, self.heading])
        up = np.array([np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)])
        eastward = np.array([-np.sin(east), np.cos(east), 0.0])
        northward = np.cross(up, eastward)
        ahead = np.cos(turn) * northward + np.sin(turn) * eastward
        right = np.cross(ahead, up)
        x, y, z = (
            np.cos(across) * (np.cos(along) * up[i] + np.sin(along) * ahead[i]) + np.sin(across) * right[i]
            for i in range(3)
        )
        return np.degrees(np.arctan2(y, x)), np.degrees(np.arcsin(z))


def calibration(columns: np.ndarray) -> np.ndarray:
    """Return the sigma nought vector by sample."""
    return 300.0 + 0.1 * columns


def noise(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the noise in squared digital numbers: a range vector times an azimuth vector."""
    return (400.0 - 0.2 * columns) * (1.0 + 0.001 * rows)


def write_safe(folder: Path, swath: Swath, numbers: Mapping[str, np.ndarray], name: str = NAME) -> Path:
    """Write a folder of digital numbers ``(line, sample)``, uint16, by polarization such as ``"hh"``."""
    root = folder / name
    for part in ("measurement", "annotation/calibration"):
        (root / part).mkdir(parents=True, exist_ok=True)
    (root / "manifest.safe").write_text(_MANIFEST)
    for number, (pol, values) in enumerate(numbers.items(), 1):
        stem = _STEM.format(pol=pol, number=number)
        _write_image(root / "measurement" / f"{stem}.tiff", swath, values)
        annotation = root / "annotation"
        (annotation / f"{stem}.xml").write_text(_annotation(swath))
        (annotation / "calibration" / f"calibration-{stem}.xml").write_text(_calibration(swath))
        (annotation / "calibration" / f"noise-{stem}.xml").write_text(_noise(swath))
    return root


def _write_image(path: Path, swath: Swath, values: np.ndarray) -> None:
    lines, samples = (np.unique(np.linspace(0, side - 1, _TIE_POINTS).astype(int)) for side in swath.shape)
    rows, columns = np.meshgrid(lines, samples, indexing="ij")
    places = zip(
        rows.ravel(), columns.ravel(), *(each.ravel() for each in swath.place(rows, columns)), strict=True
    )
    points = [GroundControlPoint(row, column, x, y, 0.0) for row, column, x, y in places]
    with (
        quiet(),
        rasterio.open(
            path,
            "w",
            driver="GTiff",
            dtype="uint16",
            count=1,
            height=swath.shape[0],
            width=swath.shape[1],
            blockysize=1,
            gcps=points,
            crs="EPSG:4326",
        ) as dataset,
    ):
        dataset.write(values, 1)


def _annotation(swath: Swath) -> str:
    lines, samples = swath.shape
    return (
        "<product><imageAnnotation><imageInformation>"
        f"<numberOfSamples>{samples}</numberOfSamples><numberOfLines>{lines}</numberOfLines>"
        "</imageInformation></imageAnnotation></product>"
    )


def _vectors(swath: Swath) -> tuple[np.ndarray, np.ndarray]:
    """Return lines and samples of the vectors, which extend beyond the image as in real files."""
    lines, samples = swath.shape
    return np.arange(0, lines + 400, 400), np.arange(0, samples + 40, 40)


def _calibration(swath: Swath) -> str:
    lines, samples = _vectors(swath)
    vectors = "".join(
        f"<calibrationVector><line>{line}</line><pixel>{_text(samples)}</pixel>"
        f"<sigmaNought>{_text(calibration(samples))}</sigmaNought></calibrationVector>"
        for line in lines
    )
    return (
        "<calibration><calibrationInformation><absoluteCalibrationConstant>1.000000e+00"
        "</absoluteCalibrationConstant></calibrationInformation>"
        f"<calibrationVectorList>{vectors}</calibrationVectorList></calibration>"
    )


def _noise(swath: Swath) -> str:
    lines, samples = _vectors(swath)
    vectors = "".join(
        f"<noiseRangeVector><line>{line}</line><pixel>{_text(samples)}</pixel>"
        f"<noiseRangeLut>{_text(noise(np.array(0), samples))}</noiseRangeLut></noiseRangeVector>"
        for line in lines
    )
    along = np.arange(0, swath.shape[0], 10)
    return (
        f"<noise><noiseRangeVectorList>{vectors}</noiseRangeVectorList><noiseAzimuthVectorList>"
        "<noiseAzimuthVector><swath>EW1</swath><firstAzimuthLine>0</firstAzimuthLine><firstRangeSample>0"
        f"</firstRangeSample><lastAzimuthLine>{swath.shape[0] - 1}</lastAzimuthLine><lastRangeSample>"
        f"{swath.shape[1] - 1}</lastRangeSample><line>{_text(along)}</line>"
        f"<noiseAzimuthLut>{_text(1.0 + 0.001 * along)}</noiseAzimuthLut></noiseAzimuthVector>"
        "</noiseAzimuthVectorList></noise>"
    )


def _text(values: np.ndarray) -> str:
    return " ".join(f"{value:.10g}" for value in values)
