"""The four contracts, over the whole catalogue, at a small size."""

import copy
import inspect
import math
from itertools import product
from pathlib import Path

import pytest
import torch

from lilliput import api, catalog
from lilliput.data.store import Data
from lilliput.errors import BadSetting
from lilliput.probes import exams_for, sorted_out
from lilliput.training.cell import make_cell
from lilliput.training.encoders import load_encoder, save_encoder
from lilliput.training.initial import Init, Teacher
from tests.conftest import CPU, HEAVIER, PLAN, each_backbone, rng

TECHNIQUES, BACKBONES = catalog.names("techniques"), catalog.names("backbones")
NEVER_NARROW = ("efficientvit_m0",)
TEACHER = Teacher(Init("narrow", Path(), ""), lambda: catalog.backbone_builder("resnet18", width=0.25)())
STEMS = {"stock": 1, "half": 2, "quarter": 4}
every_technique = pytest.mark.parametrize("name", TECHNIQUES)
every_backbone = pytest.mark.parametrize("backbone", each_backbone(BACKBONES))


def every_pair(ours, backbones):
    """(technique, backbone): each technique on some backbones, each backbone under some techniques; else heavy."""
    first = {*product(TECHNIQUES, backbones), *product(ours, BACKBONES)}
    return [
        pytest.param(*pair, marks=[] if pair in first and pair[1] not in HEAVIER else [pytest.mark.heavy])
        for pair in product(TECHNIQUES, BACKBONES)
        if pair not in product(["split_brain"], NEVER_NARROW)
    ]


def build(technique, backbone="resnet18", make_backbone=None, **options):
    width = 0.25 if backbone == "resnet18" else 1.0
    torch.manual_seed(0)
    kind = catalog.technique(technique)
    make_backbone = make_backbone or catalog.backbone_builder(backbone, width=width)
    if kind.taught:
        options["teacher"] = TEACHER.network()
    return kind(make_backbone, **{**kind.small.options, **options})


def step(technique, images, seed, progress, optimiser=None):
    """The loss of one step of training."""
    optimiser = optimiser or torch.optim.SGD([p for p in technique.parameters() if p.requires_grad], lr=0.05)
    loss = technique(*technique.views(images, rng(seed)))
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    technique.after_step(progress)
    return loss.item()


@every_technique
def test_a_small_recipe_begins_with_a_gradient_of_the_size_of_the_others(name):
    """One rate serves all: a loss that is a sum over a thousand outputs would throw the network about."""
    technique = build(name)
    technique(*technique.views(torch.rand(8, 3, 64, 64, generator=rng()), rng(1))).backward()
    gradients = [p.grad.flatten() for p in technique.parameters() if p.grad is not None]
    assert 0.1 < torch.cat(gradients).norm() < 1000  # measured 1 to 240


def test_the_names_that_others_script_against_are_there():
    assert set(TECHNIQUES) >= {"rotnet", "moco_v2", "split_brain", "simclr", "byol"}
    assert set(BACKBONES) >= {*catalog.BACKBONES, "alexnet", "vgg11_bn", "resnet50", "resnet101", "densenet121"}
    assert set(catalog.names("probes")) >= {"linear", "knn", "finetune"}
    assert set(catalog.names("datasets")) >= {"scenes", "stl10", "cifar10", "cifar100", "folder"}


@pytest.mark.parametrize("kind", catalog.KINDS)
def test_every_file_says_what_it_is_and_where_from(kind):
    for name in catalog.names(kind):
        entry = catalog.entry(kind, name)
        assert entry.summary.endswith(".") and entry.source, name


@every_technique
def test_a_techniques_options_are_keyword_only_and_read_alike_from_its_text(name):
    signature = inspect.signature(catalog.technique(name).__init__)
    real = {p.name: p.default for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY}
    assert set(real) == {option.name for option in catalog.entry("techniques", name).options}
    assert set(catalog.technique(name).small.options) <= set(real)
    for recipe in (catalog.technique(name).paper, catalog.technique(name).large):
        assert set(recipe.options).union(*(preset.get("options", ()) for preset in recipe.presets.values())) <= set(
            real
        )


@every_technique
def test_views_hold_all_the_randomness(name):
    technique = build(name)
    images = torch.rand(8, 3, 32, 32, generator=rng())
    views, again, others = (technique.views(images, rng(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(views, again, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(views, others, strict=True))
    state = torch.random.get_rng_state()
    torch.manual_seed(5)
    first = copy.deepcopy(technique)(*views)
    torch.manual_seed(6)
    assert torch.equal(first, copy.deepcopy(technique)(*views))
    torch.random.set_rng_state(state)


@every_technique
def test_every_image_of_a_batch_gets_its_own_view(name):
    technique = build(name)
    same = torch.rand(1, 3, 32, 32, generator=rng()).expand(16, -1, -1, -1)
    views = [view for view in technique.views(same, rng()) if view.ndim > 1]  # and not what is to be told of them
    assert views
    for view in views:
        assert len({v.numpy().tobytes() for v in view}) >= 12


@every_technique
def test_a_state_put_back_repeats_the_next_steps_to_the_bit(name):
    images = torch.rand(8, 3, 32, 32, generator=rng())

    def steps(technique, seeds):
        return [step(technique, images, seed, 0.5) for seed in seeds]

    technique, fresh = build(name), build(name)
    steps(technique, (1, 2))
    fresh.load_state_dict(copy.deepcopy(technique.state_dict()))
    assert steps(technique, (3, 4)) == steps(fresh, (3, 4))


@pytest.mark.parametrize(
    ("technique", "backbone"), every_pair(["simclr", "split_brain"], ["resnet18", "shufflenet_v2"])
)
def test_gradients_reach_every_parameter_of_every_encoder(technique, backbone):
    model = build(technique, backbone)
    for values in model.encoder.parameters():
        if values.ndim == 1 and not values.any():  # the scale of a branch that begins at zero hides the rest of it
            values.data.fill_(0.5)
    size = 192 if backbone == "alexnet" else 64  # of smaller images its parts are refused: tests/training/test_cell.py
    images = torch.rand(8, 3, size, size, generator=rng())
    loss = model(*model.views(images, rng()))
    assert loss.ndim == 0 and torch.isfinite(loss)
    loss.backward()
    for name, parameter in model.encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@every_technique
def test_an_encoder_gives_features_of_the_width_it_says(name):
    encoder = build(name).encoder.eval()
    for size in (32, 48, 96):
        images = torch.rand(2, 3, size, size, generator=rng())
        assert encoder(images).shape == (2, encoder.dim)
        assert encoder.maps(images).shape[:2] == (2, encoder.dim)
        assert len(encoder.stages(images)) >= 4


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize(("name", "backbone"), every_pair(["simclr"], ["shufflenet_v2"]))
def test_an_encoder_tells_the_channels_and_strides_of_its_stages(name, backbone, stem):
    encoder = catalog.technique(name).build_encoder(catalog.backbone_builder(backbone, stem=stem)).eval()
    with torch.no_grad():
        small, large = (encoder.stages(torch.zeros(1, 3, size, size)) for size in (64, 128))
    assert encoder.dims == tuple(maps.shape[1] for maps in small)
    grown = [after.shape[-1] - before.shape[-1] for before, after in zip(small, large, strict=True)]
    assert encoder.strides == tuple(64 // places for places in grown)
    assert (encoder.dim, encoder.stride) == (encoder.dims[-1], encoder.strides[-1])


@every_backbone
def test_the_stem_is_an_option_that_divides_the_strides_and_draws_the_same_weights(backbone):
    encoders = {stem: make_cell("simclr", backbone, options={"stem": stem}).build_encoder() for stem in STEMS}
    stock = make_cell("simclr", backbone).build_encoder()
    for stem, encoder in encoders.items():
        assert encoder.stride == stock.stride // STEMS[stem] and encoder.dims == stock.dims
        weights = stock.state_dict()
        assert all(torch.equal(value, weights[key]) for key, value in encoder.state_dict().items())


class Listening(torch.nn.Identity):
    """A part of a network that has something to do after every step."""

    def __init__(self):
        super().__init__()
        self.heard = []

    def after_step(self, progress):
        self.heard.append(progress)


@every_technique
def test_networks_with_an_after_step_of_their_own_hear_of_every_step_once(name):
    def make_backbone(*, channels=3, width=1.0):
        backbone = catalog.backbone_builder("resnet18", width=0.25)(channels=channels, width=width)
        backbone.net.layer1.listening = Listening()
        return backbone

    technique = build(name, make_backbone=make_backbone)
    images = torch.rand(8, 3, 32, 32, generator=rng())
    for progress in (0.25, 0.5):
        step(technique, images, 0, progress)
    own = [part for part in technique.modules() if isinstance(part, Listening)]  # a frozen copy's too
    assert own and all(part.heard == [0.25, 0.5] for part in own)


@every_technique
def test_all_techniques_start_from_the_same_encoder(name):
    """So that random init is one baseline for all, but those whose encoder is another network."""
    cell = make_cell(name, "shufflenet_v2", seed=3, teacher=TEACHER)
    ours, plain = cell.build().encoder.state_dict(), make_cell("simclr", "shufflenet_v2", seed=3).build_encoder()
    if name not in ("split_brain", "colourisation"):
        assert all(torch.equal(ours[key], value) for key, value in plain.state_dict().items())
    assert all(torch.equal(ours[key], value) for key, value in cell.build_encoder().state_dict().items())


@pytest.mark.parametrize(
    ("name", "backbone", "stride"),
    [("simclr", "shufflenet_v2", 16), ("split_brain", "resnet18", 16), ("rotnet", "timm/mobilenetv3_small_050", 16)],
)
def test_a_saved_encoder_comes_back_with_its_stem(name, backbone, stride, scenes, tmp_path):
    options = {"epochs": 1, "every": 1, "batch": 16, "plan": PLAN, "stem": "half"}
    encoder = load_encoder(api.pretrain(name, backbone, scenes, tmp_path / "run", **options))
    assert encoder.stride == stride
    assert encoder.maps(torch.rand(2, 3, 32, 32)).shape == (2, encoder.dim, 32 // stride, 32 // stride)


@every_backbone
def test_a_saved_encoder_of_every_backbone_comes_back_to_the_bit(backbone, tmp_path):
    cell = make_cell("simclr", backbone, options={"width": 1.0 if backbone in NEVER_NARROW else 0.5})
    encoder = cell.build_encoder()
    encoder(torch.rand(8, 3, 64, 64, generator=rng()))  # statistics of its own
    header = {"technique": "simclr", "backbone": backbone, "backbone_options": cell.backbone_options}
    save_encoder(tmp_path / "encoder_001.safetensors", encoder, header)
    again, images = load_encoder(tmp_path), torch.rand(2, 3, 64, 64, generator=rng(1))
    with torch.no_grad():
        assert torch.equal(again(images), encoder.eval()(images))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_is_built_and_passes_images_of_64_pixels_once(backbone):
    encoder = catalog.backbone_builder(backbone)().eval()
    with torch.no_grad():
        maps = encoder.stages(torch.rand(1, 3, 64, 64, generator=rng()))
    assert len(maps) >= 4 and all(m.isfinite().all() for m in maps)
    assert [m.shape[1] for m in maps] == list(encoder.dims)
    assert [m.shape[-1] for m in maps] == pytest.approx([64 / stride for stride in encoder.strides], abs=1)
    assert list(encoder.strides) == sorted(encoder.strides)


@pytest.mark.parametrize("stem", ["eighth", 2, None])
def test_an_unusable_stem_is_refused_before_anything_is_written(stem, scenes, tmp_path):
    with pytest.raises(BadSetting, match=r"stem"):
        api.pretrain("simclr", "shufflenet_v2", scenes, tmp_path / "run", plan=PLAN, epochs=1, stem=stem)
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LILLIPUT_HOME", str(tmp_path_factory.mktemp("home")))
        yield catalog.dataset("scenes")(image_size=32, limit=40, train_count=200, test_count=60)


@pytest.mark.parametrize("name", catalog.names("probes"))
def test_a_probe_yields_figures_and_leaves_the_encoder_as_it_was(name, scenes):
    encoder = catalog.backbone_builder("resnet18", width=0.25)().eval()
    before = copy.deepcopy(encoder.state_dict())
    options = {"finetune": {"epochs": 1}, "few_finetune": {"draws": 1}}.get(name, {})
    probe = catalog.probe(name)
    exams = (exams_for({name: probe}, encoder, scenes.train, scenes.test, plan=CPU)[name] for _ in range(2))
    rows, again = (sorted_out(probe(exam, **options))[0] for exam in exams)
    assert rows == again
    assert rows and all(math.isfinite(value) for _, value in rows)
    judged = [value for metric, value in rows if metric.startswith("accuracy")]
    assert all(0 <= value <= 1 for value in judged)
    assert not judged or any(metric.startswith("held_out_accuracy") for metric, _ in rows)  # or it could not choose
    assert not encoder.training
    assert all(torch.equal(before[key], value) for key, value in encoder.state_dict().items())


def test_a_data_set_is_prepared_once(scenes):
    again = catalog.dataset("scenes")(image_size=32, limit=40, train_count=200, test_count=60)
    assert isinstance(again, Data)
    assert again.pool.digest == scenes.pool.digest
