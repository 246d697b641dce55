"""Every format and mode against pixels worked out by hand, not by Pillow's own conversions."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from lilliput.images.decode import decode, quietly, short_sides

rng = np.random.default_rng(0)
colours = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
greys = rng.integers(0, 256, (16, 16), dtype=np.uint8)


def as_stored(pixels):
    """[H, W, 3] or grey [H, W] as the store has it, [3, H, W]."""
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    return pixels.transpose(2, 0, 1)


def png_chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_by_hand(path, rows, *, depth, colour_type, extra=b""):
    """A PNG written without Pillow; rows [H, bytes]."""
    header = struct.pack(">IIBBBBB", len(rows), len(rows), depth, colour_type, 0, 0, 0)
    content = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    parts = png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", content) + png_chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    return path


def saved(path, pixels, mode=None, **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.tiff", "a.webp", "A.PNG"])
@pytest.mark.parametrize("pixels", [colours, greys], ids=["colour", "grey"])
def test_lossless_formats_come_through_to_the_bit(tmp_path, name, pixels):
    options = {"lossless": True} if name.endswith("webp") else {}
    assert np.array_equal(decode(saved(tmp_path / name, pixels, **options), 16), as_stored(pixels))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_comes_through_nearly(tmp_path, mode):
    y, x = np.mgrid[:16, :16].astype(np.uint8) * 8
    smooth = np.stack([x, y, 200 - x], axis=2)
    if mode == "L":
        smooth = smooth[..., 0]
    image = Image.fromarray(smooth)
    if mode == "CMYK":  # no black: cyan, magenta and yellow are what is missing of red, green and blue
        image = Image.merge(
            "CMYK", [*(Image.fromarray(255 - smooth[..., i]) for i in range(3)), Image.new("L", (16, 16))]
        )
    read = decode(saved(tmp_path / "a.jpg", image, quality=100, subsampling=0), 16)
    assert np.abs(read.astype(int) - as_stored(smooth)).max() <= 6


def test_a_palette_gives_its_colours(tmp_path):
    palette = rng.integers(0, 256, (256, 3), dtype=np.uint8)
    image = Image.fromarray(greys, mode=None)
    image.putpalette(palette.tobytes())
    assert image.mode == "P"
    for name in ("a.png", "a.gif", "a.bmp", "a.tif"):
        assert np.array_equal(decode(saved(tmp_path / name, image), 16), as_stored(palette[greys])), name


def test_black_and_white_gives_0_and_255(tmp_path):
    bits = greys > 127
    assert np.array_equal(decode(saved(tmp_path / "a.png", bits), 16), as_stored(bits * np.uint8(255)))


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif"])
def test_transparency_is_laid_over_white(tmp_path, name):
    alpha = rng.integers(0, 256, (16, 16, 1), dtype=np.uint8)
    options = {"lossless": True, "exact": True} if name.endswith("webp") else {}
    read = decode(saved(tmp_path / name, np.concatenate([colours, alpha], axis=2), **options), 16)
    share = alpha / 255
    expected = as_stored(colours * share + 255 * (1 - share))
    assert np.abs(read - expected).max() <= 1


def test_grey_with_transparency_is_laid_over_white(tmp_path):
    alpha = np.where(greys > 127, 255, 0).astype(np.uint8)
    image = Image.merge("LA", [Image.fromarray(greys), Image.fromarray(alpha)])
    expected = np.where(alpha == 0, 255, greys).astype(np.uint8)
    assert np.array_equal(decode(saved(tmp_path / "a.png", image), 16), as_stored(expected))


def test_a_transparent_colour_of_a_palette_becomes_white(tmp_path):
    palette = rng.integers(0, 200, (256, 3), dtype=np.uint8)
    image = Image.fromarray(greys)
    image.putpalette(palette.tobytes())
    expected = palette[greys].copy()
    expected[greys == greys[3, 4]] = 255
    for name in ("a.png", "a.gif"):
        path = saved(tmp_path / name, image, transparency=int(greys[3, 4]))
        assert np.array_equal(decode(path, 16), as_stored(expected)), name


def test_a_transparent_colour_without_a_palette_becomes_white(tmp_path):
    red, green, blue = (int(value) for value in colours[3, 4])
    path = saved(tmp_path / "a.png", colours, transparency=(red, green, blue))
    expected = colours.copy()
    expected[3, 4] = 255
    assert np.array_equal(decode(path, 16), as_stored(expected))


def test_16_bit_grey_is_scaled_not_clipped(tmp_path):
    deep = rng.integers(0, 65536, (16, 16), dtype=np.uint16)
    deep[0, :3] = 0, 65535, 256
    expected = as_stored(np.rint(deep / 257).astype(np.uint8))
    by_hand = png_by_hand(tmp_path / "a.png", deep.astype(">u2"), depth=16, colour_type=0)
    assert np.array_equal(decode(by_hand, 16), expected)
    assert np.array_equal(decode(saved(tmp_path / "a.tif", deep), 16), expected)


def test_16_bit_colour_is_scaled_not_clipped(tmp_path):
    deep = rng.integers(0, 65536, (16, 16, 3), dtype=np.uint16)
    path = png_by_hand(tmp_path / "a.png", deep.reshape(16, -1).astype(">u2"), depth=16, colour_type=2)
    assert np.abs(decode(path, 16) - as_stored(deep / 257)).max() <= 1


def test_16_bit_transparency_is_laid_over_white(tmp_path):
    deep = rng.integers(0, 65536, (16, 16, 4), dtype=np.uint16)
    path = png_by_hand(tmp_path / "a.png", deep.reshape(16, -1).astype(">u2"), depth=16, colour_type=6)
    share = deep[..., 3:] / 65535
    assert np.abs(decode(path, 16) - as_stored(deep[..., :3] / 257 * share + 255 * (1 - share))).max() <= 2


def test_a_16_bit_transparent_grey_becomes_white(tmp_path):
    deep = rng.integers(0, 60000, (16, 16), dtype=np.uint16)
    extra = png_chunk(b"tRNS", struct.pack(">H", int(deep[3, 4])))
    path = png_by_hand(tmp_path / "a.png", deep.astype(">u2"), depth=16, colour_type=0, extra=extra)
    expected = np.rint(deep / 257).astype(np.uint8)
    expected[deep == deep[3, 4]] = 255
    assert np.array_equal(decode(path, 16), as_stored(expected))


def test_a_16_bit_transparent_colour_does_not_spoil_the_image(tmp_path):
    deep = rng.integers(0, 60000, (16, 16, 3), dtype=np.uint16)
    extra = png_chunk(b"tRNS", struct.pack(">HHH", *(int(value) for value in deep[3, 4])))
    rows = deep.reshape(16, -1).astype(">u2")
    read = decode(png_by_hand(tmp_path / "a.png", rows, depth=16, colour_type=2, extra=extra), 16)
    difference = np.abs(read - as_stored(deep / 257)).max(0)
    difference[3, 4] = 0
    assert difference.max() <= 1


def test_floats_from_0_to_1_are_scaled_and_others_refused(tmp_path):
    unit = rng.random((16, 16), dtype=np.float32)
    path = saved(tmp_path / "a.tif", unit)
    assert np.abs(decode(path, 16) - as_stored(unit * 255)).max() <= 0.51
    for wrong in (unit * 1000, unit - 1, unit * np.nan):
        with pytest.raises(ValueError, match="expected"):
            decode(saved(tmp_path / "b.tif", wrong), 16)


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tif"])
def test_of_several_frames_the_first_counts(tmp_path, name):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    options = {"lossless": True} if name.endswith("webp") else {}
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
    with Image.open(tmp_path / name) as image:
        assert image.n_frames == 3
    expected = np.zeros((3, 16, 16), np.uint8)
    expected[0] = 255
    assert np.array_equal(decode(tmp_path / name, 16), expected)


# What a viewer must do to the stored pixels, from the EXIF standard's wording of where row 0 and column 0 lie.
upright = {
    1: lambda stored: stored,  # row 0 top, column 0 left
    2: lambda stored: stored[:, ::-1],  # top, right
    3: lambda stored: stored[::-1, ::-1],  # bottom, right
    4: lambda stored: stored[::-1],  # bottom, left
    5: lambda stored: stored.swapaxes(0, 1),  # left, top
    6: lambda stored: stored.swapaxes(0, 1)[:, ::-1],  # right, top
    7: lambda stored: stored.swapaxes(0, 1)[::-1, ::-1],  # right, bottom
    8: lambda stored: stored.swapaxes(0, 1)[::-1],  # left, bottom
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_turned_photographs_come_out_upright(tmp_path, name, orientation):
    stored = np.zeros((16, 24, 3), np.uint8)
    stored[:8, :12], stored[:8, 12:], stored[8:, :12] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if name.endswith("webp") else {"quality": 100, "subsampling": 0}
    path = saved(tmp_path / name, stored, exif=exif, **(options if name[2:] in ("webp", "jpg") else {}))
    whole = upright[orientation](stored)
    top, left = (whole.shape[0] - 16) // 2, (whole.shape[1] - 16) // 2
    expected = as_stored(whole[top : top + 16, left : left + 16])
    assert np.abs(decode(path, 16).astype(int) - expected).max() <= 8


def test_damaged_notes_beside_a_sound_image_do_no_harm(tmp_path):
    path = saved(tmp_path / "a.jpg", np.full((16, 16, 3), 90, np.uint8), exif=b"Exif\0\0II*\0garbage" + b"\xff" * 40)
    with quietly():
        assert np.abs(decode(path, 16).astype(int) - 90).max() <= 2


@pytest.mark.parametrize(("width", "height"), [(24, 16), (25, 16), (16, 24), (16, 25), (400, 16)])
def test_the_centre_is_kept_to_the_pixel(tmp_path, width, height):
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    top, left = (height - 16) // 2, (width - 16) // 2
    read = decode(saved(tmp_path / "a.png", pixels), 16)
    assert np.array_equal(read, as_stored(pixels[top : top + 16, left : left + 16]))


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_shrinking_averages_rather_than_picks(tmp_path, name):
    board = np.indices((256, 256)).sum(axis=0) % 2 * np.uint8(255)
    read = decode(saved(tmp_path / name, np.ascontiguousarray(board.astype(np.uint8))), 16)
    assert np.abs(read.astype(int) - 127).max() <= 3


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
@pytest.mark.parametrize("size", [16, 24, 33])
def test_resizing_keeps_things_in_place(tmp_path, name, size):
    """A straight slope, resized without a shift, is the same slope away from its ends."""
    slope = np.tile(np.linspace(0, 255, 200), (200, 1)).astype(np.uint8)
    read = decode(saved(tmp_path / name, slope, quality=100), size)[0, size // 2].astype(float)
    expected = (((np.arange(size) + 0.5) * 200 / size) - 0.5) * 255 / 199
    assert np.abs(read - expected)[2:-2].max() <= 2


def test_a_small_image_is_enlarged(tmp_path):
    read = decode(saved(tmp_path / "a.png", np.full((1, 5, 3), 77, np.uint8)), 32)
    assert read.shape == (3, 32, 32) and (read == 77).all()


def test_a_file_that_only_claims_to_be_an_image_never_reaches_a_decoder_of_another_kind(tmp_path):
    """Pillow would hand PostScript to Ghostscript, whatever the file's name."""
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    with pytest.raises(Image.UnidentifiedImageError):
        decode(tmp_path / "a.jpg", 16)


def test_the_short_side_is_read_from_the_header(tmp_path):
    path = saved(tmp_path / "a.png", rng.integers(0, 256, (30, 20, 3), dtype=np.uint8))
    (tmp_path / "cut.png").write_bytes(path.read_bytes()[:100])
    (tmp_path / "wrong.png").write_bytes(b"x")
    assert short_sides([path, tmp_path / "cut.png", tmp_path / "wrong.png", tmp_path / "gone.png"]) == [20, 20]
