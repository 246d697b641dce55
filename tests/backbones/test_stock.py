"""Weights that libraries publish: found, read and taken; files of the same format are made here, nothing is fetched."""

import hashlib
import http.server
import threading

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from lilliput.backbones import _stock, library_backbone, read_weights, stock_file, take_weights
from lilliput.catalog import BACKBONES, backbone_builder
from lilliput.errors import BadData
from tests.backbones.conftest import pictures


@pytest.fixture(autouse=True)
def no_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch" / "hub"))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)


def resnet(seed=3):
    torch.manual_seed(seed)
    return torchvision.models.resnet18(weights=None)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_takes_all_weights_of_its_librarys_network(name):
    library, _, network = _stock.STOCK[name].partition("/")
    assert _stock.published(name).url.startswith("https://")
    torch.manual_seed(7)
    stock = torchvision.models.get_model(network, weights=None) if library == "torchvision" else None
    backbone = backbone_builder(name)()
    weights = stock.state_dict() if stock else {key: value + 1 for key, value in backbone.net.state_dict().items()}
    take_weights(backbone, weights, "a file")
    assert all(torch.equal(value, weights[key]) for key, value in backbone.net.state_dict().items())
    left = set(weights) - set(backbone.net.state_dict())
    assert all(key.startswith(("fc.", "classifier.")) for key in left)


def test_the_features_are_those_of_the_stock_network():
    stock, backbone = resnet().eval(), backbone_builder("resnet18")().eval()
    take_weights(backbone, stock.state_dict(), "a file")
    images = pictures(2, 64)
    stock.fc = torch.nn.Identity()
    with torch.no_grad():
        expected = stock((images - backbone.mean) / backbone.std)
        assert torch.allclose(backbone(images), expected, atol=1e-5)


def test_weights_of_a_network_by_name_and_of_other_stems_fit_and_of_other_widths_do_not():
    weights = resnet().state_dict()
    take_weights(library_backbone("torchvision/resnet18", stem="quarter"), weights, "a file")
    with pytest.raises(BadData, match=r"a file has a 'conv1.weight' of \[64, 3, 7, 7\], and resnet18 .* takes \[32, 3"):
        take_weights(backbone_builder("resnet18", width=0.5)(), weights, "a file")
    del weights["layer1.0.bn1.num_batches_tracked"]  # which older files lack
    take_weights(backbone_builder("resnet18")(), weights, "a file")
    del weights["layer1.0.bn1.weight"]
    with pytest.raises(BadData, match=r"a file has no weight 'layer1.0.bn1.weight' of resnet18"):
        take_weights(backbone_builder("resnet18")(), weights, "a file")


@pytest.mark.parametrize("name", ["resnet18.safetensors", "resnet18.pth", "resnet18-f37072fd.pth"])
def test_a_file_is_found_by_the_names_that_people_give_it(name, tmp_path):
    weights = resnet().state_dict()
    path = tmp_path / name
    save_file(weights, path) if name.endswith("safetensors") else torch.save(weights, path)
    assert stock_file("resnet18", tmp_path) == path
    if "-" in name:
        with pytest.raises(BadData, match="its checksum is not the f37072fd of its name"):
            read_weights(path)
    else:
        assert set(read_weights(path)) == set(weights)


def test_a_files_weights_may_lie_within_and_code_is_not_run(tmp_path):
    torch.save({"state_dict": resnet().state_dict(), "epoch": 3}, tmp_path / "a.pth")
    assert "conv1.weight" in read_weights(tmp_path / "a.pth")
    torch.save(resnet(), tmp_path / "b.pth")
    with pytest.raises(BadData, match="without running its code"):
        read_weights(tmp_path / "b.pth")
    torch.save([1, 2], tmp_path / "c.pth")
    with pytest.raises(BadData, match="no weights by name"):
        read_weights(tmp_path / "c.pth")


def test_without_a_file_the_way_to_one_is_named(tmp_path, monkeypatch):
    with pytest.raises(BadData, match=r"are not here: give --imagenet-weights DIR with resnet18-f37072fd.pth"):
        stock_file("resnet18", tmp_path)
    with pytest.raises(BadData, match="timm/test_nothing has no weights of ImageNet"):
        stock_file("timm/test_nothing")
    gone = _stock.Published("resnet18", "http://127.0.0.1:9/resnet18-f37072fd.pth", None)
    monkeypatch.setattr(_stock, "published", lambda name: gone)
    with pytest.raises(BadData, match=r"could not be fetched \(.*refused.*\): give --imagenet-weights DIR"):
        stock_file("resnet18", fetch=True)


def test_what_is_asked_for_is_fetched_once_and_checked(tmp_path, monkeypatch):
    served = tmp_path / "served"
    served.mkdir()
    torch.save(resnet().state_dict(), served / "a.pth")
    digest = hashlib.sha256((served / "a.pth").read_bytes()).hexdigest()[:8]
    names = f"good-{digest}.pth", "wrong-00000000.pth"
    for name in names:
        (served / name).write_bytes((served / "a.pth").read_bytes())

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *given):
            super().__init__(*given, directory=str(served))

        def log_message(self, *_):
            asked.append(self.path)

    asked: list[str] = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        for name in names:
            there = _stock.Published("resnet18", f"http://127.0.0.1:{server.server_port}/{name}", None)
            monkeypatch.setattr(_stock, "published", lambda backbone, there=there: there)
            if name == names[0]:
                assert [read_weights(stock_file("resnet18", fetch=True)).keys() for _ in range(2)]
                assert len(asked) == 1
            else:
                with pytest.raises(BadData, match="could not be fetched"):
                    stock_file("resnet18", fetch=True)
    finally:
        server.shutdown()
        server.server_close()
