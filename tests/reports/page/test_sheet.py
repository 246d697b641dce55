"""Many images on one figure: each where it was put, as it is."""

import io

import numpy as np
from PIL import Image

from lilliput.reports.figures import DPI, drawn
from lilliput.reports.page.pictures import Sheet, enlarged


def test_enlarged_pixels_are_blocks():
    assert enlarged(np.array([[1, 2], [3, 4]]), 4).tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    assert enlarged(np.zeros((3, 5, 3)), 7).shape == (7, 7, 3)


def pixels_of(sheet):
    return np.asarray(Image.open(io.BytesIO(drawn(sheet.finished(), "png"))).convert("RGB")).astype(int)


def at(pixels, x, y):
    """The colour at so many inches from the left and from above."""
    return pixels[round(y * DPI), round(x * DPI)]


def test_an_image_lies_where_it_was_put_and_the_rest_is_white(scenes):
    sheet = Sheet(2.0, 1.0, side=0.32)
    sheet.image(1.0, 0.5, scenes.test, 3)
    pixels, image = pixels_of(sheet), scenes.test.batch(np.array([3]))[0].permute(1, 2, 0).numpy().astype(int)
    for row, column in ((0, 0), (9, 21), (31, 31)):
        seen = at(pixels, 1.0 + 0.01 * (column + 0.5), 0.5 + 0.01 * (row + 0.5))
        assert np.abs(seen - image[row, column]).max() <= 2
    assert (at(pixels, 0.5, 0.5) == 255).all() and (at(pixels, 1.5, 0.6) == 255).all()


def test_over_an_image_in_grey_lies_the_map_where_it_is_strong(scenes):
    sheet, strong = Sheet(1.0, 1.0, side=0.32), np.zeros((32, 32))
    strong[:16] = 1.0
    sheet.overlay(0.2, 0.2, scenes.test, 3, strong)
    pixels = pixels_of(sheet)
    above, below = at(pixels, 0.36, 0.24), at(pixels, 0.36, 0.5)
    assert above[0] > above[2] + 40  # the palette's bright end is yellow
    assert np.ptp(below) <= 3  # the dark end, nearly clear, over grey


def test_an_image_that_ends_with_the_figure_is_cut_and_not_refused(scenes):
    sheet = Sheet(0.4, 0.4, side=0.32)
    sheet.image(0.1, 0.1, scenes.test, 0)
    assert pixels_of(sheet).shape == (80, 80, 3)
