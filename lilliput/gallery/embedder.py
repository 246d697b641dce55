"""A saved encoder as a transformer of scikit-learn: images in, features out, in pipelines, searches and clones."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
from PIL import Image
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from lilliput.data.filling import reason_of
from lilliput.errors import BadData
from lilliput.gallery.lens import Lens, open_lens
from lilliput.images.decode import decode, quietly, square


class Embedder(TransformerMixin, BaseEstimator):
    """Features of images by the last encoder in a run's folder, or by an encoder's file.

    X is a list or array of paths, or images of one shape: uint8, or floats in 0..1 (taken in eight bits), [N, 3, H, W]
    or [N, H, W, 3]. Their largest centred square is brought to the encoder's size, as everywhere. Nothing is learned
    from them: `fit` reads the encoder. BadData where an image cannot be read.
    """

    def __init__(
        self, run: str | os.PathLike, *, device: str | None = None, plan: Mapping[str, Any] | None = None
    ) -> None:
        self.run = run
        self.device = device
        self.plan = plan

    def fit(self, X: Any, y: Any = None) -> Self:
        """Reads the encoder, and refuses what are no images."""
        _check(X)
        self.lens_ = open_lens(self.run, self.device, self.plan)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Features, float32 [N, dim]."""
        check_is_fitted(self)
        batches = _batches(_check(X), self.lens_)
        return np.concatenate([self.lens_.features(pixels) for pixels in batches])

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """embedder0, embedder1, ..."""
        check_is_fitted(self)
        return np.array([f"embedder{number}" for number in range(self.lens_.dim)], dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags


def _check(images: Any) -> Sequence[str | os.PathLike] | np.ndarray:
    """Paths, or an array [N, 3, H, W] or [N, H, W, 3]; BadData for anything else, and for none."""
    if isinstance(images, str | os.PathLike):
        raise BadData(f"X is one path, {str(images)!r}; give a list of them")
    if not hasattr(images, "shape"):
        images = list(images)
        if images and all(isinstance(path, str | os.PathLike) for path in images):
            return images
    array = np.asarray(images)
    if not len(array.shape) or not len(array):
        raise BadData(f"X has no images: it is {images!r:.80}")
    if array.ndim == 1 and all(isinstance(path, str | os.PathLike) for path in array):
        return array.tolist()
    if array.ndim != 4 or 3 not in (array.shape[1], array.shape[3]):
        raise BadData(f"X is {array.dtype} {list(array.shape)}; give paths, or images [N, 3, H, W] or [N, H, W, 3]")
    if array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.floating):
        raise BadData(f"X is {array.dtype}; give uint8, or floats in 0..1")
    return array if array.shape[1] == 3 else array.transpose(0, 3, 1, 2)


def _batches(images: Sequence[str | os.PathLike] | np.ndarray, lens: Lens) -> Iterator[np.ndarray]:
    """uint8 [B, 3, H, H] of the lens's size."""
    size = lens.image_size
    for first in range(0, len(images), lens.batch):
        chunk = images[first : first + lens.batch]
        if isinstance(chunk, np.ndarray):
            yield np.stack([_squared(image, size) for image in chunk])
        else:
            with quietly():
                yield np.stack([_decoded(path, size) for path in chunk])


def _squared(image: np.ndarray, size: int) -> np.ndarray:
    """[3, H, W] -> uint8 [3, size, size]."""
    if image.dtype != np.uint8:
        if not (image.min() >= 0 and image.max() <= 1):  # not a number is not
            raise BadData(f"X has floats from {image.min():g} to {image.max():g}; give them in 0..1, or uint8")
        image = np.rint(image * 255).astype(np.uint8)
    return square(Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))), size)


def _decoded(path: str | os.PathLike, size: int) -> np.ndarray:
    try:
        return decode(path, size)
    except Exception as error:  # what a damaged file makes Pillow raise is not documented
        raise BadData(f"{path} cannot be read: {reason_of(error)}") from None
