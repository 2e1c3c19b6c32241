"""Synthetic photos of ten cloud genera and contrails, drawn by formula.

A seeded generator draws them; they are not photographs. They contain what distinguishes the genera: element
size, fibers, veil and halo, a sun as through ground glass, gray sheets, flat-based cumulus, anvil, straight
trails. Light, view, exposure and noise vary in the same way for all genera. As in real skies, some images
resemble another genus.
"""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geovision.datasets.synthetic.cumulus import CumulusCloud, render_cumulus, roughness_texture
from geovision.datasets.synthetic.noise import Field, cells, fractal, interpolate_periodic, smoothstep
from geovision.datasets.synthetic.parallel import parallel_for
from geovision.datasets.synthetic.sky_scene import (
    SkyScene,
    blend,
    clear_sky,
    compose_scene,
    ground,
    haze,
    overcast,
    simulate_camera,
    sun_disc,
)
from geovision.errors import OptionError, StorageError

__all__ = ["GENERA", "GENERATOR_VERSION", "render", "write"]

# Results of models that were trained or evaluated on these images are comparable only within one
# version: a change of any pixel needs a new version. The version was frozen before the first training
# and is never tuned to training results.
GENERATOR_VERSION = 1


def render(genus: str, rng: np.random.Generator, size: tuple[int, int] = (256, 256)) -> NDArray[np.uint8]:
    """Draw one image of one genus.

    Args:
        genus: CCSN's code, one of `GENERA`.
        rng: Random generator for everything that varies; the same state gives the same image.
        size: Height and width, in pixels. Default: (256, 256).

    Returns:
        sRGB image, shape (height, width, 3), dtype uint8.

    Raises:
        OptionError: The genus is unknown.
    """
    if genus not in _RENDERERS:
        raise OptionError(f"genus {genus!r} is unknown; choose one of {', '.join(_RENDERERS)}")
    return _RENDERERS[genus](rng, size)


def write(
    root: Path, n: int, *, seed: int, size: tuple[int, int] = (256, 256), duplicates: float = 0.0
) -> Path:
    """Write images in CCSN's layout, ``Ac/Ac-N001.jpg``, the genera in turn.

    Image i depends only on `seed` and i, not on `n`. Files of the same names are replaced.

    Args:
        root: Folder of the data set; created if it does not exist.
        n: Number of images.
        seed: Seed of all random numbers.
        size: Height and width, in pixels. Default: (256, 256).
        duplicates: Number of additional near-duplicates, as a fraction of `n`. They are copies of earlier
            images, cropped and compressed again. Every third one is filed under another genus, as happens in
            CCSN. Default: 0.

    Returns:
        `root`.

    Raises:
        StorageError: A file could not be written.
    """
    parallel_for(partial(_write_image, root, seed, size), n, num_images=n)
    counts = Counter(GENERA[index % len(GENERA)] for index in range(n))
    for copy in range(round(duplicates * n)):
        rng = np.random.default_rng([seed, 1, copy])
        original = int(rng.integers(n))
        genus = GENERA[original % len(GENERA)]
        image = render(genus, np.random.default_rng([seed, original]), size)
        if copy % 3 == 2:
            genus = str(rng.choice([other for other in GENERA if other != genus]))
        counts[genus] += 1
        _save(root, genus, counts[genus], _near_duplicate(rng, image), int(rng.integers(55, 90)))
    return root


def _write_image(root: Path, seed: int, size: tuple[int, int], index: int) -> None:
    rng = np.random.default_rng([seed, index])
    genus = GENERA[index % len(GENERA)]
    _save(root, genus, index // len(GENERA) + 1, render(genus, rng, size), int(rng.integers(72, 96)))


def _save(root: Path, genus: str, number: int, image: NDArray[np.uint8], quality: int) -> None:
    _write_jpeg(root / genus / f"{genus}-N{number:03d}.jpg", image, quality)


def _near_duplicate(rng: np.random.Generator, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a near-duplicate as found on the internet.

    It is slightly cropped, resampled, and brightened or darkened.
    """
    height, width = image.shape[:2]
    left, top = rng.uniform(0, 0.012, 2) * (width, height)
    right, bottom = (width, height) - rng.uniform(0, 0.012, 2) * (width, height)
    box = (left, top, right, bottom)
    cut = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC, box)
    brighter = np.asarray(cut, dtype=np.float32) * np.float32(rng.uniform(0.95, 1.05))
    return np.clip(brighter + 0.5, 0, 255).astype(np.uint8)


def _write_jpeg(path: Path, image: NDArray[np.uint8], quality: int) -> None:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stream.getvalue())
    except OSError as error:
        raise StorageError(
            f"{path}: could not be written ({error.strerror}); free some space or choose another folder"
        ) from error


# --- layers of elements: Cc, Ac, Sc -------------------------------------------------------------


def _element_layer(
    scene: SkyScene,
    image: Field,
    *,
    degrees: float,
    cover: float,
    thickness: float,
    shading: float,
    spread: float = 0.35,
) -> Field:
    """Draw a layer of cells or rolls.

    Args:
        scene: Scene with the light and the random generator.
        image: Radiances behind the layer, shape (y, x, 3).
        degrees: Apparent width of one element at the image center, in degrees.
        cover: Fraction of the sky that is cloud, 0 to 1.
        thickness: Optical depth of the center of an element.
        shading: Darkening of the underside of a thick element, relative to its edge, 0 to 1.
        spread: Relative width of the spectrum of the cells. Default: 0.35.
    """
    rng = scene.rng
    texels = 6.0 if degrees < 1 else 16.0
    rolls = float(rng.choice([1.0, 1.4, 2.4, 3.5], p=[0.4, 0.25, 0.2, 0.15]))
    pattern = cells(rng, 256, spacing=texels, spread=spread, stretch=rolls)
    broken = fractal(rng, 128, slope=1.5, coarsest=4)
    wide = fractal(rng, 128, slope=1.6)
    x, y = scene.intersect_layer(turn=float(rng.uniform(0, np.pi)))
    # An element fills about 0.55 of the spacing. At low elevation it appears shorter.
    element = math.radians(degrees) / max(math.sin(scene.center_elevation()), 0.3)
    scale = np.float32(0.55 * texels / element)
    x, y = x * scale, y * scale
    drift = 0.25 * texels * interpolate_periodic(wide, x / texels * 0.7, y / texels * 0.7)
    # A pixel that spans many texels has the average of the pattern, which avoids aliasing.
    texels_per_pixel = scale * math.radians(scene.degrees_per_pixel) / np.maximum(scene.up, 0.035) ** 2
    sharp = np.clip(0.8 * texels / texels_per_pixel / 2.2, 0, 1)
    relief = interpolate_periodic(pattern, x + drift, y - drift)
    detail = interpolate_periodic(broken, x * (30 / texels), y * (30 / texels))
    patches = interpolate_periodic(wide, x / texels * 1.9 + 40, y / texels * 1.9)
    density = (relief + 0.38 * detail) * sharp
    threshold = 1.35 * (0.5 - cover) * 2 - 0.75 * patches
    amount = smoothstep(threshold - 0.55, threshold + 1.5, density)
    opacity = 1 - np.exp(-thickness * 1.6 * amount)
    step = 0.14 * texels
    sunward = interpolate_periodic(
        pattern, x + drift + step * scene.sun_east, y - drift + step * scene.sun_north
    )
    lit = np.clip(1 - shading * amount**1.3 - 0.35 * shading * (sunward - relief) * sharp, 0.12, 1.3)
    lining = np.exp(-scene.sun_angle / 0.35) * (1 - amount) * 0.9
    color = (
        lit[..., None] * (0.9 * scene.sun_color + 0.5 * scene.ambient) + lining[..., None] * scene.sun_color
    )
    clear = scene.transmittance()
    color = scene.horizon + (color - scene.horizon) * clear[..., None]
    return blend(image, color, opacity * np.clip(clear * 3, 0, 1))


def _cirrocumulus(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.uint8]:
    scene = compose_scene(rng, size, horizon=0.35, bottom_degrees=(8, 40))
    image = _background_cirrus(scene, clear_sky(scene), probability=0.3)
    image = _element_layer(
        scene,
        image,
        degrees=rng.uniform(0.5, 0.98),
        cover=rng.uniform(0.4, 0.85),
        thickness=rng.uniform(0.5, 1.3),
        shading=0.04,
        spread=0.3,
    )
    return simulate_camera(scene, ground(scene, image))


def _altocumulus(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.uint8]:
    scene = compose_scene(rng, size, horizon=0.45)
    image = _background_cirrus(scene, clear_sky(scene), probability=0.2)
    image = _element_layer(
        scene,
        image,
        degrees=rng.uniform(1.5, 4.4),
        cover=rng.uniform(0.35, 0.8),
        thickness=rng.uniform(1.2, 3.0),
        shading=rng.uniform(0.3, 0.6),
    )
    return simulate_camera(scene, ground(scene, image))


def _stratocumulus(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.uint8]:
    scene = compose_scene(rng, size, horizon=0.6, sun_visible=0.15)
    image = clear_sky(scene)
    image = _element_layer(
        scene,
        image,
        degrees=rng.uniform(6.5, 14),
        cover=rng.uniform(0.6, 0.98),
        thickness=rng.uniform(2.5, 5.0),
        shading=rng.uniform(0.4, 0.66),
        spread=0.45,
    )
    return simulate_camera(scene, ground(scene, haze(scene, image, 0.03, scene.horizon * 0.8)))


# --- ice: Ci, Cs, Ct ----------------------------------------------------------------------------


def _fibers(scene: SkyScene, *, cover: float, scale: float = 1.0) -> Field:
    """Return the opacity of fibers in separate tufts.

    The wind draws out the fibers; wind shear bends them into hooks.
    """
    rng = scene.rng
    threads = fractal(rng, 512, slope=1.25, stretch=float(rng.uniform(7, 14)), coarsest=5)
    wide = fractal(rng, 128, slope=1.9)
    x, y = scene.intersect_layer(turn=float(rng.uniform(0, np.pi)))
    x, y = x * np.float32(110 * scale), y * np.float32(110 * scale)
    bend = interpolate_periodic(wide, x * 0.13, y * 0.13)
    curl = interpolate_periodic(wide, x * 0.32 + 50, y * 0.32)
    y = y + np.float32(rng.uniform(8, 26)) * bend + 3 * curl
    fiber = interpolate_periodic(threads, x, y * 2.0)
    tufts = interpolate_periodic(wide, x * 0.16 + 20, y * 0.22 + 70)
    amount = np.clip(0.55 * fiber + 0.95 * tufts + 2.6 * (cover - 0.55), 0, None)
    return (1 - np.exp(-0.75 * amount**1.4)) * scene.transmittance(0.12)


def _ice_color(scene: SkyScene) -> Field:
    """Return the color of thin ice clouds.

    They are bright near the sun and white elsewhere.
    """
    forward = 0.35 * np.exp(-scene.sun_angle / 0.35)
    return (0.72 + forward)[..., None] * scene.sun_color + 0.42 * scene.ambient


def _cirrus(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.uint8]:
    scene = compose_scene(rng, size, horizon=0.4)
    image = clear_sky(scene)
    opacity = _fibers(scene, cover=rng.uniform(0.42, 0.72), scale=rng.uniform(0.7, 1.5))
    image = blend(image, _ice_color(scene), opacity * np.float32(rng.uniform(0.75, 0.95)))
    return simulate_camera(scene, ground(scene, image))


def _halo(scene: SkyScene, strength: float) -> Field:
    """Return the radiance of the 22-degree halo, shape (y, x, 3).

    It is dark inside, has a red inner edge and fades outward.
    """
    from_sun = np.degrees(scene.sun_angle)[..., None]
    inner = np.array([21.5, 21.9, 22.3], dtype=np.float32)  # red light is refracted least
    ring = smoothstep(inner - 0.7, inner + 0.3, from_sun) * np.exp(-np.maximum(from_sun - inner, 0) / 2.2)
    inside = smoothstep(22.0, 19.0, from_sun) * 0.2
    return np.float32(strength) * (ring - inside)


def _cirrostratus(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.uint8]:
    scene = compose_scene(rng, size, horizon=0.4, sun_visible=0.75, dusk=0.1)
    image = clear_sky(scene, disc=False)
    streaks = interpolate_periodic(fractal(rng, 256, slope=1.7, stretch=4.0), *_scaled(scene, rng, 45))
    veil = np.clip(rng.uniform(0.3, 0.75) + 0.10 * streaks, 0.1, 0.95) * scene.transmittance(0.10)
    image = blend(image, _ice_color(scene), veil)
    if rng.random() < 0.7:
        image = image + _halo(scene, rng.uniform(0.12, 0.34)) * scene.sun_color
    image = image + (sun_disc(scene) + 0.25 * np.exp(-scene.sun_angle / 0.12))[..., None] * scene.sun_color
    return simulate_camera(scene, ground(scene, image))


def _scaled(scene: SkyScene, rng: np.random.Generator, scale: float) -> tuple[Field, Field]:
    x, y = scene.intersect_layer(turn=float(rng.uniform(0, np.pi)))
    return x * np.float32(scale), y * np.float32(scale)


def _trail(scene: SkyScene, rough: Field, turn: float) -> Field:
    """Return the opacity of one straight contrail over the layer.

    A young trail is narrow and double, an old one is wide and frayed.
    """
    rng = scene.rng
    center_x, center_y = scene.intersect_layer(turn=turn)
    height, width = scene.shape
    row, column = int(rng.uniform(0.1, 0.7) * height), int(rng.uniform(0.1, 0.9) * width)
    along, across = center_x - center_x[row, column], center_y - center_y[row, column]
    pixel = math.radians(scene.degrees_per_pixel) / max(math.sin(scene.center_elevation()), 0.2)
    age = float(rng.uniform(0, 1)) ** 1.5
    from_head = np.ones_like(along)
    if rng.random() < 0.35:  # the airplane is in the image
        from_head = np.clip(along * float(rng.choice([-1, 1])) + 0.2, 0, None)
    spread = math.radians(0.25 + 1.6 * age) * (0.35 + 0.65 * np.minimum(from_head, 1.6)) + 0.5 * pixel
    scallop = interpolate_periodic(rough, along * np.float32(70), across * np.float32(70))
    across = across + spread * np.float32(0.15 + 0.45 * age) * scallop
    profile = np.exp(-((across / spread) ** 2))
    if age < 0.3:  # the trails of the two engines are still separate
        gap = 1.1 * spread
        profile = sum(np.exp(-2 * ((across + side * gap) / spread) ** 2) for side in (-1, 1))
    head = smoothstep(0.0, 0.01, from_head)
    solid = np.float32(0.95 - 0.5 * age) * (1 + 0.25 * age * scallop)
    return np.clip(profile * head * solid, 0, 1) * scene.transmittance(0.05)


def _contrail(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.uint8]:
    scene = compose_scene(rng, size, horizon=0.25, bottom_degrees=(8, 40), sun_visible=0.15)
    image = _background_cirrus(scene, clear_sky(scene), probability=0.3)
    rough = fractal(rng, 256, slope=1.1, coarsest=3)
    turn = rng.uniform(0, np.pi)
    for _ in range(int(rng.choice([1, 2, 3, 5], p=[0.45, 0.25, 0.2, 0.1]))):
        crossing = rng.uniform(0, np.pi) if rng.random() < 0.25 else rng.normal(0, 0.15)
        image = blend(image, _ice_color(scene), _trail(scene, rough, turn + crossing))
    return simulate_camera(scene, ground(scene, image))


def _background_cirrus(scene: SkyScene, image: Field, *, probability: float) -> Field:
    """Draw thin cirrus behind the main cloud with a given probability."""
    if scene.rng.random() >= probability:
        return image
    return blend(image, _ice_color(scene), 0.4 * _fibers(scene, cover=0.45))


# --- sheets: As, Ns, St -------------------------------------------------------------------------


def _sheet(scene: SkyScene, *, scale: float, stretch: float, slope: float) -> Field:
    """Return the relative thickness of a sheet.

    The mean is 0 and the standard deviation about 1; it is 0 at the horizon.
    """
    texture = fractal(scene.rng, 256, slope=slope, stretch=stretch, coarsest=2)
    x, y = _scaled(scene, scene.rng, scale)
    return interpolate_periodic(texture, x, y) * scene.transmittance(0.15)


def _altostratus(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.uint8]:
    scene = compose_scene(rng, size, horizon=0.5, sun_visible=0.7, dusk=0.12)
    gray = np.float32(rng.uniform(0.22, 0.42)) * (scene.ambient * 0.5 + scene.ambient.mean() * 0.7 + 0.12)
    thick = _sheet(scene, scale=rng.uniform(18, 45), stretch=rng.uniform(2, 5), slope=1.7)
    light = np.exp(-rng.uniform(0.10, 0.26) * thick) * (0.85 + 0.3 * scene.transmittance(0.4))
    image = light[..., None] * gray
    if scene.sun_visible:
        # As through ground glass, the sun is a bright area without an edge or a halo.
        width = math.radians(rng.uniform(1.3, 3.2))
        through = rng.uniform(0.5, 1.8) * np.exp(-((scene.sun_angle / width) ** 2)) + 0.35 * np.exp(
            -scene.sun_angle / math.radians(9)
        )
        image = image + (through * np.exp(-0.3 * thick))[..., None] * scene.sun_color * (2.2 * gray.mean())
    return simulate_camera(scene, ground(overcast(scene, gray=float(gray.mean())), image))


def _nimbostratus(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.uint8]:
    scene = compose_scene(rng, size, horizon=0.7, sun_visible=0, dusk=0)
    level = float(rng.uniform(0.06, 0.15))
    scene = overcast(scene, gray=level, blue=float(rng.uniform(0.3, 1.5)))
    thick = _sheet(scene, scale=rng.uniform(6, 14), stretch=rng.uniform(1, 2), slope=2.3)
    darker_above = 1.15 - 0.35 * scene.transmittance(0.5) * rng.uniform(0.3, 1.2)
    image = (np.exp(-rng.uniform(0.05, 0.15) * thick) * darker_above)[..., None] * scene.ambient
    image = _rain(scene, image, strength=rng.uniform(0.15, 0.6))
    if rng.random() < 0.6:
        image = _scud(scene, image, cover=rng.uniform(0.2, 0.45), dark=rng.uniform(0.35, 0.6))
    image = haze(scene, image, rng.uniform(0.03, 0.09), scene.ambient * np.float32(rng.uniform(0.8, 1.3)))
    return simulate_camera(scene, ground(scene, image, mist=rng.uniform(0.2, 0.7)))


def _rain(scene: SkyScene, image: Field, *, strength: float) -> Field:
    """Draw curtains of rain, slanted by the wind.

    They are densest at low elevation.
    """
    rng = scene.rng
    threads = fractal(rng, 256, slope=1.3, stretch=14, coarsest=4).T
    azimuth = np.arctan2(scene.east, np.maximum(scene.north, 0.05))
    slant = azimuth + np.float32(rng.uniform(-0.7, 0.7)) * scene.elevation
    curtain = interpolate_periodic(np.ascontiguousarray(threads), slant * 90, scene.elevation * 90)
    low = np.exp(-np.maximum(scene.elevation, 0) / 0.22)
    return image * np.exp(np.float32(-0.5 * strength) * np.clip(curtain + 0.4, -0.6, 2.5) * low)[..., None]


def _scud(scene: SkyScene, image: Field, *, cover: float, dark: float) -> Field:
    """Draw ragged dark cloud fragments below a sheet."""
    ragged = fractal(scene.rng, 256, slope=1.5, stretch=1.8, coarsest=2)
    x, y = scene.intersect_layer()
    shreds = interpolate_periodic(ragged, x * np.float32(26), y * np.float32(26))
    opacity = smoothstep(1.3 - 2 * cover, 2.6 - 2 * cover, shreds) * scene.transmittance(0.06)
    return blend(image, scene.ambient * np.float32(1 - dark), opacity * 0.8)


def _stratus(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.uint8]:
    scene = compose_scene(rng, size, horizon=0.7, sun_visible=0.15, dusk=0)
    shown = scene.sun_visible
    scene = overcast(scene, gray=float(rng.uniform(0.15, 0.4)), blue=float(rng.uniform(-0.4, 1.0)))
    thick = _sheet(scene, scale=rng.uniform(14, 30), stretch=rng.uniform(1, 1.8), slope=2.0)
    even = np.exp(-rng.uniform(0.015, 0.07) * thick) * (0.93 + 0.12 * scene.transmittance(0.5))
    image = even[..., None] * scene.ambient
    if shown:  # the outline of the sun is sharp through thin stratus
        disc = smoothstep(math.radians(0.55), math.radians(0.4), scene.sun_angle)
        image = image + (disc * 1.5 + 0.15 * np.exp(-scene.sun_angle / 0.1))[..., None] * scene.ambient
    if rng.random() < 0.25:
        image = _scud(scene, image, cover=rng.uniform(0.1, 0.3), dark=rng.uniform(0.12, 0.3))
    image = ground(scene, image, mist=rng.uniform(0.2, 0.9))
    # The low base hides distant objects.
    fog = smoothstep(rng.uniform(-0.12, 0.0), rng.uniform(0.02, 0.10), scene.elevation)
    image = blend(image, scene.ambient * np.float32(0.97), fog * np.float32(rng.uniform(0.3, 1.0)))
    return simulate_camera(scene, image)


# --- convective clouds: Cu, Cb ------------------------------------------------------------------


def _row(scene: SkyScene, elevation: float) -> float:
    """Return the row of an elevation in the middle column.

    The row may be outside the image.
    """
    column = scene.elevation[:, scene.shape[1] // 2]
    step = math.radians(scene.degrees_per_pixel)
    if elevation < column[-1]:
        return len(column) + float(column[-1] - elevation) / step
    return float(np.interp(-elevation, -column, np.arange(len(column))))


def _cumulus(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.uint8]:
    scene = compose_scene(rng, size, horizon=0.65, bottom_degrees=(2, 18), sun_visible=0.1)
    image = _background_cirrus(scene, clear_sky(scene), probability=0.25)
    rough = roughness_texture(rng)
    growth = rng.uniform(0.3, 0.85)
    elevations = sorted(math.radians(degrees) for degrees in rng.uniform(3, 34, int(rng.integers(4, 11))))
    pixel = math.radians(scene.degrees_per_pixel)
    for elevation in elevations:  # the most distant clouds have the lowest elevation
        wide = rng.uniform(0.6, 1.6) * math.sin(elevation) / pixel
        cloud = CumulusCloud(
            rng,
            left_right=rng.uniform(-0.05, 1.05) * size[1],
            base=_row(scene, elevation),
            width=wide,
            height=wide * growth * rng.uniform(0.7, 1.2),
        )
        render_cumulus(
            scene,
            image,
            cloud,
            texture=rough,
            shade=rng.uniform(0.45, 0.7),
            haze_fraction=0.75 * math.exp(-elevation / 0.10),
        )
    return simulate_camera(scene, ground(scene, haze(scene, image, 0.025, scene.horizon)))


def _cumulonimbus(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.uint8]:
    scene = compose_scene(rng, size, horizon=0.95, bottom_degrees=(1, 3), sun_visible=0.05, dusk=0.2)
    image = _background_cirrus(scene, clear_sky(scene), probability=0.2)
    rough = roughness_texture(rng)
    height, width = size
    base = _row(scene, math.radians(rng.uniform(3, 8)))
    tall = base - height * rng.uniform(0.02, 0.2)
    wide = width * rng.uniform(0.4, 0.8)
    center = width * rng.uniform(0.3, 0.7)
    tower = CumulusCloud(rng, left_right=center, base=base, width=wide, height=tall * 0.95, tower=1.0)
    render_cumulus(scene, image, tower, texture=rough, shade=rng.uniform(0.6, 0.85), haze_fraction=0.12)
    if rng.random() < 0.85:
        image = _anvil(scene, image, center=center, top=base - tall, tower=wide, base=base)
    for side in rng.uniform(-1.0, 1.0, int(rng.integers(1, 4))).tolist():
        low = CumulusCloud(
            rng,
            left_right=center + side * wide,
            base=base,
            width=wide * rng.uniform(0.4, 0.8),
            height=tall * rng.uniform(0.2, 0.45),
        )
        render_cumulus(scene, image, low, texture=rough, shade=0.75, haze_fraction=0.1)
    image = _shaft(scene, image, center=center, width=wide, base=base)
    return simulate_camera(scene, ground(scene, haze(scene, image, 0.03, scene.horizon * 0.85)))


def _anvil(scene: SkyScene, image: Field, *, center: float, top: float, tower: float, base: float) -> Field:
    """Draw the spreading icy top of a cumulonimbus.

    It is flat above, fibrous, and thinner towards both sides.
    """
    rng = scene.rng
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    left, right = (tower * rng.uniform(0.6, 1.4) for _ in range(2))
    thick = (base - top) * rng.uniform(0.16, 0.28)
    away = np.where(x < center, (center - x) / left, (x - center) / right)
    fiber = interpolate_periodic(fractal(rng, 256, slope=1.3, stretch=8, coarsest=3), x * 0.7, y * 1.3)
    wide = interpolate_periodic(fractal(rng, 128, slope=1.8), x * 0.3, y * 0.3)
    edge = np.clip(1 - away - 0.16 * wide - 0.10 * fiber, 0, 1)
    lower = top + thick * edge**0.7 + 0.05 * thick * fiber
    upper = top + 0.06 * thick * wide + 0.10 * thick * away
    opacity = smoothstep(upper - 2, upper + 0.12 * thick, y)
    opacity = opacity * smoothstep(lower + 0.35 * thick, lower - 0.1 * thick, y)
    opacity = opacity * smoothstep(0.0, 0.35, edge) * (0.92 + 0.08 * fiber)
    below = np.clip((y - top) / thick, 0, 1)
    facing = 0.55 + 0.45 * float(np.clip(scene.sun[2], -0.6, 1))
    lit = (1.0 - 0.45 * below + 0.05 * fiber) * facing
    color = lit[..., None] * scene.sun_color + 0.5 * scene.ambient
    return blend(image, color, np.clip(opacity, 0, 1))


def _shaft(scene: SkyScene, image: Field, *, center: float, width: float, base: float) -> Field:
    """Draw the dark base and the rain below it."""
    rng = scene.rng
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    threads = np.ascontiguousarray(fractal(rng, 128, slope=1.3, stretch=10, coarsest=3).T)
    streak = interpolate_periodic(threads, x * 0.5 + y * np.float32(rng.uniform(-0.2, 0.2)), y * 0.5)
    inside = smoothstep(1.15, 0.6, np.abs(x - center) / (0.55 * width) + 0.12 * streak)
    under = smoothstep(base - 0.16 * width, base + 0.01 * width, y)
    dark = (0.45 * scene.ambient + 0.15 * scene.ambient.mean()) * np.float32(rng.uniform(0.45, 0.9))
    return blend(image, dark, inside * under * np.float32(rng.uniform(0.7, 0.95)) * (1 + 0.05 * streak))


_RENDERERS: Mapping[str, Callable[[np.random.Generator, tuple[int, int]], NDArray[np.uint8]]] = {
    "Ac": _altocumulus,
    "As": _altostratus,
    "Cb": _cumulonimbus,
    "Cc": _cirrocumulus,
    "Ci": _cirrus,
    "Cs": _cirrostratus,
    "Ct": _contrail,
    "Cu": _cumulus,
    "Ns": _nimbostratus,
    "Sc": _stratocumulus,
    "St": _stratus,
}
GENERA = tuple(_RENDERERS)
"""Codes of the genera and the contrail, in CCSN's order."""
