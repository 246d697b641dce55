"""Features: the stages, measured batch norm, ranks, against what is known by hand."""

import pytest
import torch

from lilliput import catalog
from lilliput.probes import batch_norm_measured, effective_rank, extract, extract_stages, measure_batch_norm
from tests.conftest import CPU, rng


def test_measured_batch_norm_leaves_maps_of_mean_zero_and_variance_one(scenes):
    encoder = catalog.backbone_builder("shufflenet_v2", width=0.5)()
    momenta = [layer.momentum for layer in encoder.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    assert measure_batch_norm(encoder, scenes.pool, plan=CPU)
    seen = []
    encoder.net.conv1[1].register_forward_hook(lambda layer, given, out: seen.append(out.clone()))
    encoder(scenes.pool.load(slice(0, 48), "cpu"))
    assert seen[0].mean((0, 2, 3)).abs().max() < 0.01 and (seen[0].var((0, 2, 3)) - 1).abs().max() < 0.02
    assert momenta == [layer.momentum for layer in encoder.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    assert not measure_batch_norm(catalog.backbone_builder("squeezenet")(), scenes.pool, plan=CPU)


def test_batch_norm_is_measured_for_a_while_and_then_as_it_was(scenes):
    encoder = catalog.backbone_builder("shufflenet_v2", width=0.5)()
    encoder(scenes.pool.load(slice(0, 16), "cpu"))
    before = {name: own.clone() for name, own in encoder.state_dict().items()}
    with pytest.raises(ZeroDivisionError), batch_norm_measured(encoder, scenes.pool, plan=CPU):
        assert not encoder.training
        within = {name: own.clone() for name, own in encoder.state_dict().items()}
        raise ZeroDivisionError
    assert encoder.training  # whatever was raised, all is as it was
    assert all(torch.equal(own, before[name]) for name, own in encoder.state_dict().items())
    changed = [name for name, own in before.items() if not torch.equal(own, within[name])]
    assert changed and all("running_" in name or "num_batches" in name for name in changed)
    measure_batch_norm(encoder, scenes.pool, plan=CPU)
    assert all(torch.equal(own, within[name]) for name, own in encoder.state_dict().items())


def test_batch_norm_is_measured_on_images_from_the_whole_of_a_sorted_store():
    class Sorted:
        """300 dark images, then 300 light ones."""

        def __len__(self):
            return 600

        def at_hand(self, rows):
            return rows

        def load(self, places, device):
            grey = torch.where(torch.as_tensor(places) < 300, 50, 200) / 255
            return grey[:, None, None, None].expand(-1, 3, 8, 8)

    encoder = torch.nn.Sequential(torch.nn.BatchNorm2d(3))
    assert measure_batch_norm(encoder, Sorted(), plan=CPU)
    assert encoder[0].running_mean.tolist() == pytest.approx([125 / 255] * 3, abs=1e-3)
    assert encoder[0].running_var.tolist() == pytest.approx([(75 / 255) ** 2] * 3, rel=0.01)


def test_effective_rank_is_the_number_of_directions_for_even_spreads():
    draw = rng(0)
    basis, _ = torch.linalg.qr(torch.randn(500, 8, generator=draw) - 0.0)
    basis = torch.linalg.qr(basis - basis.mean(0))[0]
    assert effective_rank(basis) == pytest.approx(8, rel=1e-3)
    assert effective_rank(torch.ones(50, 4) * torch.randn(50, 1, generator=draw)) == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("technique", ["simclr", "split_brain"])
def test_the_last_of_the_stages_are_the_features(technique, scenes):
    build = catalog.backbone_builder("shufflenet_v2", width=0.5)
    encoder = catalog.technique(technique).build_encoder(build).eval()
    stages = extract_stages(encoder, scenes.test, plan=CPU)
    torch.testing.assert_close(stages[-1], extract(encoder, scenes.test, plan=CPU), rtol=1e-4, atol=1e-5)
    assert len(stages) >= 4
