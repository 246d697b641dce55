"""The nearest images: by their distances, as a picture and as JSON; what is new is found."""

import io

import numpy as np
import pytest
from PIL import Image

from lilliput import api
from lilliput.errors import BadData, BadSetting
from lilliput.gallery.index import gather
from lilliput.gallery.search import neighbours
from lilliput.system.records import read_json
from tests.commands import lilliput
from tests.gallery.conftest import drawings


def test_the_nearest_are_those_of_the_least_cosine_distance(photos, lens):
    index = gather(photos, lens)
    features = index.whole().astype(np.float64)
    query = features[5] + 0.3 * features[2]
    distances = [1 - row @ query / np.sqrt(row @ row * (query @ query)) for row in features]
    expected = sorted(zip(distances, index.names, strict=True))[:4]
    found = neighbours(query, index, 4)
    assert [near.file for near in found] == [name for _, name in expected]
    np.testing.assert_allclose([near.distance for near in found], [distance for distance, _ in expected], atol=1e-5)
    assert len(neighbours(query, index, 100)) == 12


def test_an_image_of_the_folder_is_its_own_nearest_and_new_files_are_found(photos, finished_run, tmp_path):
    done = lilliput("search", finished_run, photos / "003.png", "--in", photos, "--k", 3, "--out", tmp_path / "s.png")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split() == ["0.0000", "003.png"] and len(done.stdout.splitlines()) == 5
    (photos / "copy.png").write_bytes((photos / "003.png").read_bytes())
    picture, figures = api.search(finished_run, photos / "003.png", photos, tmp_path / "t.png", k=2)
    content = read_json(figures)
    assert [near["file"] for near in content["neighbours"]] == ["003.png", "copy.png"]
    assert max(near["distance"] for near in content["neighbours"]) < 1e-5 and content["images"] == 13
    assert Image.open(io.BytesIO(picture.read_bytes())).format == "PNG"


def test_what_cannot_work_is_refused(photos, finished_run, tmp_path):
    for place, said in ((photos / "s.png", "is among the images"), (tmp_path / "s.jpg", "does not end in .png")):
        with pytest.raises(BadSetting, match=said):
            api.search(finished_run, photos / "003.png", photos, place)
    with pytest.raises(BadData, match="cannot be read"):
        api.search(finished_run, tmp_path / "none.png", photos, tmp_path / "s.png")
    with pytest.raises(BadSetting, match="k 0 is not a whole number"):
        api.search(finished_run, photos / "003.png", photos, tmp_path / "s.png", k=0)


def test_the_results_of_a_run_lie_in_it(finished_run, tmp_path):
    import shutil

    run = shutil.copytree(finished_run, tmp_path / "run")
    picture, _ = api.search(run, drawings(tmp_path / "p", 2) / "000.png", tmp_path / "p")
    assert picture == run / "search" / "000.png"
