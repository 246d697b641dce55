"""Encoders are plain torch modules: what torch does with any network, it does with ours."""

import copy
import io
import pickle

import pytest
import torch

from lilliput import catalog
from lilliput.techniques.split_brain import SplitBrain
from tests.backbones.conftest import pictures


def saved_and_read(encoder):
    file = io.BytesIO()
    torch.save(encoder, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


WAYS = {
    "traced": lambda encoder: torch.jit.trace(encoder, pictures(size=32)),
    "exported": lambda encoder: torch.export.export(encoder, (pictures(size=32),)).module(),
    "copied": copy.deepcopy,
    "pickled": lambda encoder: pickle.loads(pickle.dumps(encoder)),
    "saved": saved_and_read,
}


@pytest.fixture(scope="module", params=[*catalog.BACKBONES, "split_brain"])
def encoder(request):
    if request.param == "split_brain":
        made = SplitBrain.build_encoder(catalog.backbone_builder("shufflenet_v2", width=0.5))
    else:
        made = catalog.backbone_builder(request.param, width=0.5)()
    for layer in made.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = (
                None  # the statistics of the one batch: without them features may be below half precision's
            )
    made(pictures(8, 64))
    return made.eval()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", WAYS)
def test_an_encoder_has_the_same_features(encoder, way):
    """Traces of depthwise networks were once refused: each pass gave their quick convolution another name."""
    again, images = WAYS[way](encoder), pictures(size=32)
    torch.testing.assert_close(again(images), encoder(images), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_a_trace_takes_images_of_other_sizes(encoder):
    traced, images = torch.jit.trace(encoder, pictures(size=32)), pictures(3, 64)
    torch.testing.assert_close(traced(images), encoder(images), rtol=1e-4, atol=1e-5)


def test_an_encoder_in_half_precision_gives_nearly_the_same_features(encoder):
    images = pictures(size=32)
    with torch.no_grad():
        due, halved = encoder(images), copy.deepcopy(encoder).half()(images.half())
    assert halved.dtype == torch.float16
    # image by image: single features near zero are off by more, and by how much depends on the processor
    assert ((halved.float() - due).norm(dim=1) < 0.1 * due.norm(dim=1)).all()


def test_an_encoder_is_trained_by_several_processes_as_any_module(encoder, tmp_path):
    torch.distributed.init_process_group("gloo", f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        shared = torch.nn.parallel.DistributedDataParallel(copy.deepcopy(encoder))
        shared(pictures(size=32)).square().sum().backward()
        assert all(weight.grad is not None for weight in shared.parameters())
    finally:
        torch.distributed.destroy_process_group()
