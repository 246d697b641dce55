"""The transformer of scikit-learn: its own checks, pipelines and clones; what it takes for images."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

import lilliput
from lilliput import api
from lilliput.errors import BadData
from lilliput.gallery.embedder import Embedder
from lilliput.images.decode import decode
from tests.conftest import labelled_folder


class OfRows(Embedder):
    """Takes scikit-learn's test data, rows of numbers, each drawn as an image of one colour per number."""

    def fit(self, X, y=None):
        from sklearn.utils.validation import validate_data

        return super().fit(_drawn(validate_data(self, X)), y)

    def transform(self, X):
        from sklearn.utils.validation import check_is_fitted, validate_data

        check_is_fitted(self)
        return super().transform(_drawn(validate_data(self, X, reset=False)))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


def _drawn(rows):
    pixels = np.resize(1 / (1 + np.exp(-rows.clip(-50, 50))), (len(rows), rows.shape[1]))
    picture = np.repeat(np.repeat(pixels[:, None, None, :], 8, axis=1), 3, axis=1)[:, :3]  # [N, 3, 1, F]
    return np.repeat(picture.reshape(len(rows), 3, 1, -1), rows.shape[1], axis=2)


# A batch of another size is computed in another order: 5e-7 where the check allows 1e-7.
EXPECTED = {"check_methods_subset_invariance": "the last bits of features depend on how many images are in a batch"}


@pytest.mark.filterwarnings("ignore")
def test_it_passes_scikit_learns_own_checks(finished_run):
    results = check_estimator(OfRows(str(finished_run)), expected_failed_checks=EXPECTED, on_fail=None, on_skip=None)
    failed = {result["check_name"]: result["exception"] for result in results if result["status"] == "failed"}
    assert failed == {}
    assert sum(result["status"] == "passed" for result in results) > 30


def test_paths_arrays_of_paths_and_both_orders_of_channels_are_the_same_images(photos, finished_run, tmp_path):
    api.embed(finished_run, photos, tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as arrays:
        paths, features = [photos / name for name in arrays["file"]], arrays["features"]
    embedder = lilliput.Embedder(finished_run).fit(paths)
    assert np.array_equal(embedder.transform(paths), features)
    assert np.array_equal(embedder.transform(np.array([str(path) for path in paths])), features)
    whole = np.stack([decode(path, 48) for path in paths])  # as large as the files
    for images in (whole, whole.transpose(0, 2, 3, 1), whole / 255, (whole / 255).astype(np.float32)):
        np.testing.assert_allclose(embedder.transform(images), features, atol=1e-5)


def test_it_works_in_pipelines_searches_and_clones(finished_run, tmp_path):
    folder = labelled_folder(tmp_path) / "train"
    paths = np.array(sorted(str(path) for path in folder.glob("*/*.png")))
    labels = np.array(["light" in path for path in paths])
    embedder = Embedder(finished_run, device="cpu")
    pipeline = make_pipeline(embedder, LogisticRegression())
    assert cross_val_score(pipeline, paths, labels, cv=3).mean() > 0.9  # dark and light
    assert embedder.get_params() == {"run": finished_run, "device": "cpu", "plan": None}
    assert clone(embedder).set_params(device=None).get_params()["device"] is None
    fitted = embedder.fit(paths)
    names = fitted.get_feature_names_out()
    assert len(names) == fitted.transform(paths[:2]).shape[1] and names[0] == "embedder0"
    table = fitted.set_output(transform="pandas").transform(paths[:2])
    assert table.columns.tolist() == names.tolist()
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.transform(paths[:3]), fitted.transform(paths[:3]))


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ("photo.jpg", "X is one path, 'photo.jpg'; give a list"),
        ([], "X has no images"),
        (np.zeros((2, 32, 32), np.uint8), r"X is uint8 \[2, 32, 32\]; give paths, or images"),
        (np.zeros((2, 3, 8, 8), np.int64), "X is int64; give uint8, or floats in 0..1"),
        (np.full((2, 3, 8, 8), 9.0), r"X has floats from 9 to 9; give them in 0\.\.1"),
        (np.full((2, 3, 8, 8), np.nan), r"X has floats from nan"),
        (["nowhere.png"], "nowhere.png cannot be read: No such file"),
    ],
)
def test_what_are_no_images_is_refused(images, said, finished_run):
    with pytest.raises(BadData, match=said):
        Embedder(finished_run).fit_transform(images)
