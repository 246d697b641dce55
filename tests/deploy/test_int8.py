"""Eight bits: what stands in the file, what per channel saves, and which layers go back to floats."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from lilliput import api, catalog
from lilliput.deploy import export as exporting
from lilliput.deploy import int8
from lilliput.deploy.judge import Judge, without_tests
from lilliput.deploy.network import Opened, head_of
from lilliput.deploy.onnx_file import opened, with_head
from lilliput.errors import BadData
from lilliput.probes import LabelledExam
from lilliput.probes.linear import fitted
from lilliput.training.encoders import load_encoder
from tests.conftest import CPU, NARROW, heavy

onnx = pytest.importorskip("onnx")
SETTING = int8.Setting(reduce_range=False)
SCALES = [1e-3, 1e-2, 1.0, 30.0]  # of the filters of one depthwise layer


@pytest.fixture
def depthwise(tmp_path):
    """An ONNX file by hand: three channels to four filters of very different size, and a layer that evens them out."""
    return by_hand(tmp_path / "floats.onnx", np.array(SCALES), bias=0.0)


@pytest.fixture
def lopsided(tmp_path):
    """The same with filters alike, but one channel of the second layer's maps lies far from the others."""
    return by_hand(tmp_path / "floats.onnx", np.ones(4), bias=1000.0)


def by_hand(path, scales, bias):
    draw = np.random.default_rng(0)
    first = draw.normal(size=(4, 3, 3, 3)) * scales[:, None, None, None]
    second = draw.normal(size=(4, 1, 3, 3)) / scales[:, None, None, None]
    weights = {"first": first, "second": second, "bias": np.array([bias, 0, 0, 0])}
    helper, numpy = onnx.helper, onnx.numpy_helper
    nodes = [
        helper.make_node("Conv", ["images", "first"], ["maps"], "one", kernel_shape=[3, 3]),
        helper.make_node("Conv", ["maps", "second", "bias"], ["out"], "two", kernel_shape=[3, 3], group=4),
        helper.make_node("ReduceMean", ["out"], ["features"], "mean", axes=[2, 3], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("images", 1, ["batch", 3, 32, 32])],
        [helper.make_tensor_value_info("features", 1, ["batch", 4])],
        [numpy.from_array(values.astype(np.float32), name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


def test_what_is_written_is_what_was_asked(depthwise, scenes):
    quantiser = int8.Quantiser(onnx.load(depthwise), scenes.pool)
    model = onnx.load_from_string(quantiser.quantised(replace(SETTING, reduce_range=True)))
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("QuantizeLinear") >= 2 and kinds.count("DequantizeLinear") > kinds.count("QuantizeLinear")
    values = {entry.name: onnx.numpy_helper.to_array(entry) for entry in model.graph.initializer}
    for name in ("first", "second"):
        assert values[f"{name}_quantized"].dtype == np.int8 and values[f"{name}_scale"].shape == (4,)
        assert np.abs(values[f"{name}_quantized"]).max() <= 64  # of seven bits
    assert {entry.key: entry.value for entry in model.metadata_props}["int8"] == (
        "per channel, ranges by minmax, weights of 7 bits (no VNNI)"
    )


def test_one_scale_for_all_filters_ruins_what_one_for_each_keeps(depthwise, scenes):
    """A filter in its own eight bits is off by half a step, 1/254 of its largest weight; in those of a filter 30,000
    times larger nothing is left of it."""
    quantiser = int8.Quantiser(onnx.load(depthwise), scenes.pool)
    floats = {entry.name: onnx.numpy_helper.to_array(entry) for entry in onnx.load(depthwise).graph.initializer}
    largest = np.abs(floats["first"]).max((1, 2, 3))
    off = {}
    for per_channel in (True, False):
        model = onnx.load_from_string(quantiser.quantised(replace(SETTING, per_channel=per_channel)))
        values = {entry.name: onnx.numpy_helper.to_array(entry) for entry in model.graph.initializer}
        read = values["first_quantized"] * values["first_scale"].reshape(-1, 1, 1, 1)
        off[per_channel] = np.abs(read - floats["first"]).max((1, 2, 3)) / largest
    assert (off[True] < 1 / 250).all()
    assert off[False][0] == 1 and off[False][-1] < 1 / 250


def test_the_most_sensitive_layer_is_found(lopsided, scenes):
    """Steps of the second layer's maps are a 255th of 1,000, which drowns three of its four channels."""
    quantiser = int8.Quantiser(onnx.load(lopsided), scenes.pool)
    assert quantiser.layers() == ["one", "two"] and quantiser.by_sensitivity(SETTING) == ["two", "one"]


@pytest.mark.parametrize(
    ("reached", "in_float", "calibration", "tries"),
    [
        (lambda words: 0.795, (), "minmax", 1),
        (lambda words: 0.8 if "in float" in words else 0.5, ("two",), "minmax", 3),
        (lambda words: 0.6 if "percentile" in words else 0.5, (), "percentile", 3),  # none keeps it
    ],
)
def test_the_simplest_setting_that_loses_no_more_than_a_point_stands(
    lopsided, scenes, reached, in_float, calibration, tries
):
    def accuracy(content):
        words = {entry.key: entry.value for entry in onnx.load_from_string(content).metadata_props}
        return reached(words["int8"]) if "int8" in words else 0.8

    found = int8.search(int8.Quantiser(onnx.load(lopsided), scenes.pool), accuracy)
    assert (found.setting.in_float, found.setting.calibration, found.floats) == (in_float, calibration, 0.8)
    assert [one.accuracy for one in found.tries] == [reached(str(one.setting)) for one in found.tries]
    assert len(found.tries) == tries


def test_test_images_choose_nothing(finished_run, scenes, as_written, written, tmp_path, monkeypatch):
    """They once chose the setting whose accuracy on them was then told. Whatever they are, the same settings are tried
    with the same figures and the same file stands; what is told of it differs."""
    monkeypatch.setattr(int8, "POINT", -1.0)  # nothing is good enough: all are tried
    usual = int8.Quantiser.layers
    monkeypatch.setattr(int8.Quantiser, "layers", lambda quantiser: usual(quantiser)[:2])
    found = {}
    for name, test in (("own", scenes.test), ("others", scenes.train)):
        judging = scenes._replace(test=test)
        out = api.export(finished_run, "onnx", scenes, tmp_path / name, classifier=judging, int8=True)
        record = json.loads((out / "export.json").read_text())
        content = (out / "simclr-resnet18-int8.onnx").read_bytes()
        found[name] = record["int8"], content, [row["accuracy"] for row in record["rows"]]
    assert found["own"][:2] == found["others"][:2] and found["own"][2] != found["others"][2]
    encoder = Opened(opened(written[0]))
    judge = Judge.of(encoder, scenes.train, scenes.test, label="")
    held_out, accuracy = found["own"][0]["held_out"], partial(exporting.accuracy, encoder, judge.held_out, label="")
    assert held_out["images"] == 20 and len(held_out["tries"]) == 3  # a tenth of 200
    assert held_out["floats"] == accuracy(judge.on_fit) < accuracy(judge.classify)  # which was fitted to them too


def test_the_head_of_nine_tenths_takes_the_place_of_the_files_own(exported, written, scenes):
    """The file's own was fitted to the images held out too."""
    encoder = Opened(opened(written[0]))
    judge = Judge.of(encoder, scenes.train, scenes.test, label="")
    exam = LabelledExam.of(encoder, scenes.train, scenes.test, plan=CPU)
    assert torch.equal(judge.on_fit.weights, exam.once(fitted).on_fit.weights)
    assert np.array_equal(judge.held_out.images, scenes.train.images[exam.held_out])
    other = with_head(onnx.load(exported / "simclr-resnet18.onnx"), head_of(judge.on_fit)).SerializeToString()
    images = torch.rand(8, 3, 32, 32)
    torch.testing.assert_close(opened(other)(images), judge.on_fit(encoder(images)), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(judge.on_fit(encoder(images)), judge.classify(encoder(images)), atol=0.01)


def test_images_that_test_do_not_calibrate(finished_run, scenes, tmp_path):
    left = without_tests(scenes.test, scenes.test.take(slice(0, 90)))
    assert np.array_equal(left.images, scenes.test.images[90:])
    with pytest.raises(BadData, match="all 100 images to calibrate by are test images too: give others as --data"):
        api.export(
            finished_run, "onnx", scenes._replace(pool=scenes.test), tmp_path / "o", classifier=scenes, int8=True
        )
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(("lacking", "words"), [(False, ""), (True, ", weights of 7 bits (no VNNI)")])
def test_a_loss_of_more_than_a_point_is_told_with_what_to_do(
    lacking, words, finished_run, scenes, as_written, tmp_path, monkeypatch, capsys
):
    def accuracy(network, images, classify, *, label):
        calls.append(label)
        return 0.5 if calls.count("simclr-resnet18: test") == 3 else 0.9  # the third is of eight bits

    calls = []
    monkeypatch.setattr(int8, "saturates", lambda: lacking)  # whatever processor this is
    monkeypatch.setattr(exporting, "accuracy", accuracy)
    api.export(finished_run, "onnx", scenes, tmp_path, classifier=scenes, int8=True)
    printed = " ".join(capsys.readouterr().err.split())
    assert f"(per channel, ranges by minmax{words}): accuracy 0.900 of 0.900 on 20 training images held out" in printed
    assert "accuracy 0.500 of 0.900 on 100 test images" in printed
    assert "40.0 points are lost: calibrate by more images like yours (--data)" in printed


@pytest.mark.parametrize(
    ("machine", "flags", "lacking"),
    [
        ("x86_64", "fpu avx2 avx512_vnni", False),
        ("AMD64", "fpu avx_vnni", False),
        ("x86_64", "fpu avx2 avx512f", True),
        ("x86_64", None, True),  # a system that does not tell
        ("aarch64", None, False),  # sums of 32 bits
    ],
)
def test_products_overflow_on_x86_without_vnni(tmp_path, monkeypatch, machine, flags, lacking):
    monkeypatch.setattr("platform.machine", lambda: machine)
    file = tmp_path / "cpuinfo"
    if flags:
        file.write_text(f"model name\t: it\nflags\t\t: {flags}\n")
    assert int8.saturates(file) is lacking


def test_eight_bits_take_most_images_for_what_the_floats_do(exported, scenes):
    record = json.loads((exported / "export.json").read_text())
    model = onnx.load(exported / "simclr-resnet18-int8.onnx")
    bits = [entry for entry in model.graph.initializer if entry.data_type == onnx.TensorProto.INT8]
    assert len([entry for entry in bits if len(entry.dims) > 1]) == 20  # of all convolutions
    assert [entry.data_type for entry in model.graph.initializer if entry.name == "head.weight"] == [1]  # floats
    assert json.loads({e.key: e.value for e in model.metadata_props}["classes"]) == scenes.train.classes
    assert record["int8"]["parity"]["agreement"] > 0.8


@pytest.mark.parametrize("backbone", heavy(*catalog.BACKBONES))
def test_every_backbone_of_a_study_becomes_a_file_and_one_of_eight_bits(torch_writes_onnx, backbone, scenes, tmp_path):
    """Sixty steps, so that batch norm's statistics are those of the images: features of fewer are alike for all."""
    run = api.pretrain("rotnet", backbone, scenes, tmp_path / "run", **{**NARROW, "width": 1.0, "epochs": 20})
    unlabelled = scenes._replace(train=None, test=None)
    out = api.export(run, "onnx", unlabelled, tmp_path / "out", int8=True)
    images = scenes.test.load(slice(None), "cpu")
    floats, bits = (opened(out / f"rotnet-{backbone}{kind}.onnx")(images) for kind in ("", "-int8"))
    torch.testing.assert_close(floats, load_encoder(run)(images), rtol=1e-3, atol=1e-4)
    cosine = torch.nn.functional.cosine_similarity(floats - floats.mean(0), bits - floats.mean(0))
    assert cosine.mean() > 0.8
