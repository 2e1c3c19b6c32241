"""Images of every format become upright RGB counts; errors are one clear line."""

from __future__ import annotations

import random
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geovision.errors import InputError, UnreadableFileError
from geovision.readers.images import MIN_SIDE, expand, extensions, read_rgb, resize_box, rgb_counts
from geovision.tasks.cloud import PHOTO

GREEN_TO_RED = np.zeros((40, 60, 3), np.uint8)
GREEN_TO_RED[..., 0] = np.linspace(0, 255, 60)
GREEN_TO_RED[..., 1] = np.linspace(255, 0, 40)[:, None]
GREEN_TO_RED[..., 2] = 128
SQUASH, CROP, NONE = (PHOTO, *(type(PHOTO)(**{**vars(PHOTO), "resize": r}) for r in ("crop", "none")))


def save(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


def png_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(GREEN_TO_RED)


# --- modes and formats --------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp", ".gif", ".jpg", ".ppm", ".tga", ".avif"])
def test_formats_give_the_same_image(tmp_path: Path, picture: Image.Image, suffix: str) -> None:
    counts = read_rgb(save(tmp_path / f"a{suffix}", picture), PHOTO)
    assert counts.shape == (3, 40, 60)
    assert counts.dtype == np.uint8
    # A palette of 256 colors and lossy formats keep the image, but not each count.
    assert np.abs(counts.transpose(1, 2, 0).astype(int) - GREEN_TO_RED).mean() < 8


def test_lossless_counts_are_kept_in_pixel_order(tmp_path: Path, picture: Image.Image) -> None:
    counts = read_rgb(save(tmp_path / "a.png", picture), PHOTO)
    np.testing.assert_array_equal(counts.transpose(1, 2, 0), GREEN_TO_RED)
    assert counts.transpose(1, 2, 0).flags["C_CONTIGUOUS"]
    assert counts.flags["WRITEABLE"]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "YCbCr", "HSV", "RGBA", "RGBX"])
def test_modes_become_rgb(picture: Image.Image, mode: str) -> None:
    image = picture.convert("RGBA").convert(mode) if mode == "LA" else picture.convert(mode)
    counts = rgb_counts(image, PHOTO).astype(int)
    assert counts.shape == (3, 40, 60)
    if mode in ("1", "L", "LA"):
        assert (counts[0] == counts[1]).all()
        assert abs(counts.mean() - np.asarray(picture.convert("L")).mean()) < 3
    else:
        assert np.abs(counts.transpose(1, 2, 0) - GREEN_TO_RED).mean() < 20


@pytest.mark.parametrize(
    ("name", "big"), [("a.png", False), ("a.tif", False), ("a.tif", True), ("a.pgm", False)]
)
def test_16_bit_counts_are_scaled_by_the_full_scale_of_their_type(
    tmp_path: Path, name: str, big: bool
) -> None:
    counts = np.linspace(0, 65535, 20 * 20).reshape(20, 20).astype(">u2" if big else "<u2")
    read = read_rgb(save(tmp_path / name, Image.fromarray(counts)), PHOTO)
    np.testing.assert_array_equal(read[0], np.round(counts.astype(np.uint32) / 257).astype(np.uint8))
    # A very dark image stays dark, because no scale is derived from its values.
    dark = read_rgb(save(tmp_path / name, Image.fromarray(np.full((20, 20), 300, counts.dtype))), PHOTO)
    assert set(dark.ravel()) == {1}


@pytest.mark.parametrize(("kind", "dtype"), [("floating-point", np.float32), ("32-bit", np.int32)])
def test_pixels_without_a_full_scale_are_refused(tmp_path: Path, kind: str, dtype: type) -> None:
    path = save(tmp_path / "a.tif", Image.fromarray(np.ones((20, 20), dtype)))
    with pytest.raises(InputError, match=rf"a\.tif: {kind} pixels have no declared full scale; convert"):
        read_rgb(path, PHOTO)


def test_transparent_pixels_show_white(tmp_path: Path) -> None:
    pixels = np.zeros((20, 20, 4), np.uint8)
    pixels[10:, :, 3] = 255
    counts = read_rgb(save(tmp_path / "a.png", Image.fromarray(pixels)), PHOTO)
    assert (counts[:, :10] == 255).all()
    assert (counts[:, 10:] == 0).all()


def test_a_transparent_palette_shows_white(tmp_path: Path) -> None:
    image = Image.new("P", (20, 20), 0)
    image.putpalette([10, 20, 30, 200, 0, 0])
    image.paste(1, (0, 0, 10, 20))
    counts = read_rgb(save(tmp_path / "a.png", image, transparency=0), PHOTO)
    assert counts[:, 0, 0].tolist() == [200, 0, 0]
    assert counts[:, 0, 15].tolist() == [255, 255, 255]


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".tif"])
def test_the_first_frame_of_an_animation_is_read(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (20, 20), color) for color in ("red", "blue", "green")]
    path = save(tmp_path / f"a{suffix}", frames[0], save_all=True, append_images=frames[1:])
    assert read_rgb(path, PHOTO)[:, 5, 5].tolist() == pytest.approx([255, 0, 0], abs=4)


# --- orientation and size -----------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    # The four corners identify all eight orientations.
    upright = np.full((64, 96, 3), 60, np.uint8)
    upright[:20, :20], upright[:20, -20:], upright[-20:, :20] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    turn = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]  # inverse transform
    stored = Image.fromarray(upright)
    if turn is not None:
        stored = stored.transpose(Image.Transpose(turn))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f"a{suffix}", stored, exif=exif, **({"quality": 98} if suffix == ".jpg" else {}))
    for size in (None, (32, 48)):
        counts = read_rgb(path, SQUASH, size).astype(int)
        assert counts.shape[1:] == (size or (64, 96))
        for place, color in (((4, 4), (255, 0, 0)), ((4, -5), (0, 255, 0)), ((-5, 4), (0, 0, 255))):
            assert np.abs(counts[:, place[0], place[1]] - color).max() < 40


def test_a_large_jpeg_decoded_at_a_fraction_resembles_the_full_decoding(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    coarse = Image.fromarray(generator.integers(0, 255, (12, 16, 3), np.uint8))
    whole = coarse.resize((1600, 1200), Image.Resampling.BICUBIC)
    path = save(tmp_path / "a.jpg", whole, quality=95)
    counts = read_rgb(path, SQUASH, (224, 224)).astype(int)
    wanted = np.asarray(whole.resize((224, 224), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert np.abs(counts - wanted).mean() < 2
    assert np.abs(counts - wanted).max() < 24


def test_a_jpeg_is_never_decoded_below_the_requested_size(tmp_path: Path) -> None:
    # Stripes one pixel wide are kept only if the image was not reduced first.
    stripes = np.zeros((256, 450, 3), np.uint8)
    stripes[:, ::2] = 255
    path = save(tmp_path / "a.jpg", Image.fromarray(stripes), quality=98, subsampling=0)
    assert read_rgb(path, SQUASH, (256, 450)).std() > 100
    assert read_rgb(path, SQUASH, (129, 450)).std() > 100


@pytest.mark.parametrize(
    ("shape", "size", "crop", "box"),
    [
        ((100, 200), (50, 50), False, (0, 0, 200, 100)),
        ((100, 200), (50, 50), True, (50, 0, 150, 100)),
        ((200, 100), (50, 100), True, (0, 75, 100, 125)),
        ((224, 224), (224, 224), True, (0, 0, 224, 224)),
    ],
)
def test_resizing_keeps_the_expected_part(shape: tuple, size: tuple, crop: bool, box: tuple) -> None:
    assert resize_box(shape, size, crop=crop) == pytest.approx(box)


def test_squash_crop_and_none(picture: Image.Image) -> None:
    squashed = rgb_counts(picture, SQUASH, (20, 20))
    cropped = rgb_counts(picture, CROP, (20, 20))
    assert squashed.shape == cropped.shape == (3, 20, 20)
    # Red runs from left to right: all of it squashed, the middle two thirds cropped.
    assert int(squashed[0].max()) - int(squashed[0].min()) > 225
    assert 130 < int(cropped[0].max()) - int(cropped[0].min()) < 180
    assert rgb_counts(picture, NONE, (20, 20)).shape == (3, 40, 60)


# --- damaged files ------------------------------------------------------------------------------


@pytest.fixture
def jpeg(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8)
    return save(tmp_path / "sky.jpg", Image.fromarray(noise))


@pytest.mark.parametrize("size", [None, (24, 24)])
def test_truncated(jpeg: Path, size: tuple[int, int] | None) -> None:
    jpeg.write_bytes(jpeg.read_bytes()[:5000])
    with pytest.raises(
        UnreadableFileError, match=r"sky\.jpg: damaged \(image file is truncated.*copy it again"
    ):
        read_rgb(jpeg, PHOTO, size)


def test_zero_bytes(jpeg: Path) -> None:
    jpeg.write_bytes(b"")
    with pytest.raises(UnreadableFileError, match=r"sky\.jpg: an empty file \(0 bytes\); copy it again"):
        read_rgb(jpeg, PHOTO)


def test_text_named_jpg(jpeg: Path) -> None:
    jpeg.write_text("<html>404 not found</html>")
    with pytest.raises(UnreadableFileError, match=r"sky\.jpg: not an image in a format of Pillow"):
        read_rgb(jpeg, PHOTO)


def test_heic_names_its_plugin(tmp_path: Path) -> None:
    path = tmp_path / "phone.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + bytes(100))
    with pytest.raises(UnreadableFileError, match=r"phone\.heic: .*pip install pillow-heif"):
        read_rgb(path, PHOTO)


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match=r"none\.jpg: no such file; check the path"):
        read_rgb(tmp_path / "none.jpg", PHOTO)
    with pytest.raises(UnreadableFileError, match="a folder, not an image; give a file in it"):
        read_rgb(tmp_path, PHOTO)


def test_one_pixel_has_no_content(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"dot\.png: 1x1 pixels; an image needs at least 8 on each side"):
        read_rgb(save(tmp_path / "dot.png", Image.new("RGB", (1, 1))), PHOTO, (224, 224))
    smallest = save(tmp_path / "small.png", Image.new("RGB", (MIN_SIDE, MIN_SIDE)))
    assert read_rgb(smallest, PHOTO, (224, 224)).shape == (3, 224, 224)


def test_a_decompression_bomb_is_not_unpacked(tmp_path: Path) -> None:
    # 400 million black pixels in fifty kilobytes.
    rows = zlib.compress(bytes(20_000 * (1 + 20_000 // 8)))
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)),
        (b"IDAT", rows),
        (b"IEND", b""),
    )
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts))
    assert path.stat().st_size < 60_000
    with pytest.raises(
        UnreadableFileError, match=r"bomb\.png: too many pixels.*the limit is 179 million.*MAX_IMAGE"
    ):
        read_rgb(path, PHOTO, (224, 224))


def test_any_damage_gives_an_image_or_a_one_line_error(tmp_path: Path, picture: Image.Image) -> None:
    chance = random.Random(0)
    seen = {"read": 0, "refused": 0}
    for suffix in (".jpg", ".png", ".gif", ".tif", ".webp", ".bmp"):
        whole = save(tmp_path / f"whole{suffix}", picture).read_bytes()
        path = tmp_path / f"damaged{suffix}"
        for _ in range(40):
            damaged = bytearray(whole)
            for _ in range(chance.randint(1, 4)):
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            kept = chance.choice([len(damaged), chance.randint(1, len(damaged))])
            path.write_bytes(damaged[:kept])
            line = ""
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # Pillow warns of metadata that it cannot read
                    assert read_rgb(path, PHOTO, (32, 32)).shape == (3, 32, 32)
            except InputError as error:
                line = str(error)
            seen["refused" if line else "read"] += 1
            assert not line or (line.startswith(str(path)) and "\n" not in line)
    assert min(seen.values()) > 10


# --- which files --------------------------------------------------------------------------------


@pytest.fixture
def album(tmp_path: Path, picture: Image.Image) -> Path:
    for name in ("b/img10.jpg", "b/img2.JPG", "a.png", "b/c/deep.webp", ".hidden.jpg", ".thumbs/x.jpg"):
        path = tmp_path / "album" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    (tmp_path / "album" / "notes.txt").write_text("not a picture")
    (tmp_path / "album" / "data.h5").write_text("recognised by Pillow, not decoded")
    return tmp_path / "album"


def test_images_of_a_folder_are_in_natural_order(album: Path) -> None:
    names = [path.relative_to(album).as_posix() for path in expand(album)]
    assert names == ["a.png", "b/c/deep.webp", "b/img2.JPG", "b/img10.jpg"]
    assert expand([album, album / "a.png"]) == [*expand(album), album / "a.png"]


def test_globs_and_files(album: Path) -> None:
    assert expand(str(album / "b" / "*.[jJ]*")) == [album / "b/img2.JPG", album / "b/img10.jpg"]
    assert len(expand(f"{album}/**/*.jpg")) == 1
    # An existing file is read whatever its name is, even if the name is also a pattern.
    odd = album / "odd[1].bin"
    odd.write_bytes(b"?")
    assert expand(odd) == [odd]


def test_missing_paths_are_reported(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="nowhere: no such file or folder; check the path"):
        expand(tmp_path / "nowhere")
    with pytest.raises(UnreadableFileError, match="no images in this folder; choose a folder with images"):
        expand(tmp_path)
    with pytest.raises(UnreadableFileError, match=r"\*\.jpg: no file matches this pattern"):
        expand(tmp_path / "*.jpg")


def test_extensions_are_those_that_pillow_decodes() -> None:
    assert {".jpg", ".jpeg", ".png", ".tif", ".webp", ".gif", ".bmp"} <= extensions()
    assert not {".h5", ".grib", ".pdf", ".mpg", ".txt"} & extensions()


@pytest.mark.real_data
def test_photos_of_wikimedia_commons(shared_data: Path) -> None:
    photos = expand(shared_data / "cloud_photos")
    assert len(photos) == 10
    for path in photos:
        counts = read_rgb(path, SQUASH, (224, 224))
        assert counts.shape == (3, 224, 224)
        assert counts.std() > 15
