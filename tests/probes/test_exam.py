"""Exams: their kinds, what is refused, what is computed once, what a probe leaves."""

import dataclasses
import functools
from functools import partial

import numpy as np
import pytest
import torch

from lilliput import catalog
from lilliput.data.store import Store
from lilliput.errors import BadData, BadSetting
from lilliput.probes import Exam, Flag, LabelledExam, MaskedExam, Taken
from lilliput.probes._exam import check_need, exams_for, needs, sorted_out, split
from lilliput.probes.geometry import geometry
from lilliput.probes.linear import linear
from lilliput.probes.saliency import saliency
from lilliput.studies.judge import Judge, Pixels
from tests.conftest import CPU


def test_a_tenth_of_every_class_is_held_out():
    labels = np.repeat([0, 1, 2], [30, 20, 50])
    fitted, held_out = split(labels)
    assert np.bincount(labels[held_out]).tolist() == [3, 2, 5]
    assert sorted([*fitted, *held_out]) == list(range(100))


def test_every_probe_says_which_exam_it_needs():
    kinds = {name: needs(catalog.probe(name)) for name in catalog.names("probes")}
    assert kinds.pop("geometry") is Exam
    assert {kinds.pop("saliency"), kinds.pop("segmentation")} == {MaskedExam}
    assert set(kinds.values()) == {LabelledExam}


def test_the_need_is_read_from_strings_and_through_options_that_are_given():
    def probe(exam: "MaskedExam"):
        yield "figure", 1.0

    assert needs(probe) is MaskedExam and needs(partial(linear, steps=1)) is LabelledExam


@pytest.mark.parametrize("probe", [lambda exam: [], lambda number: [], partial(geometry, None)])
def test_a_probe_that_does_not_say_what_it_needs_is_refused(probe):
    with pytest.raises(BadSetting, match="does not say what it needs"):
        needs(probe)


def test_an_annotation_that_names_nothing_is_no_need():
    def probe(exam: "NoSuchExam"):  # noqa: F821
        yield "figure", 1.0

    with pytest.raises(BadSetting, match="the probe probe does not say"):
        needs(probe)


def test_a_probe_is_judged_by_its_first_annotation_alone():
    """A return type known to type checkers only had the probe refused."""

    def probe(exam: "LabelledExam", *, most: "NotHere" = 1) -> "NorHere":  # noqa: F821
        yield "figure", 1.0

    assert needs(probe) is LabelledExam and needs(partial(probe, most=2)) is LabelledExam


@pytest.mark.parametrize("annotation", ["np.nope", "not python (", "1 / 0"])
def test_an_annotation_that_cannot_be_evaluated_is_no_need(annotation):
    def probe(exam):
        yield "figure", 1.0

    probe.__annotations__["exam"] = annotation
    with pytest.raises(BadSetting, match="the probe probe does not say"):
        needs(probe)


def test_a_probe_may_be_an_object_or_decorated():
    class Counting:
        def __call__(self, exam: "MaskedExam"):
            yield "figure", 1.0

    @functools.wraps(geometry)
    def decorated(*arguments):
        return geometry(*arguments)

    assert needs(Counting()) is MaskedExam and needs(decorated) is Exam


def test_images_that_are_not_what_a_probe_needs_are_refused(scenes, without_masks):
    check_need("geometry", geometry, scenes.pool, scenes.pool)
    with pytest.raises(BadData, match=r"the probe linear needs labels, and .* has none"):
        check_need("linear", linear, scenes.train, scenes.pool)
    with pytest.raises(BadData, match=r"the probe saliency needs masks of the objects, and .* has none"):
        Judge("plain", *without_masks, {"linear": {}, "saliency": {}}, plan=CPU)
    with pytest.raises(BadData, match="this exam needs masks"):
        _ = MaskedExam(Pixels(), *without_masks, plan=CPU).masks


@pytest.fixture
def without_masks(scenes):
    def bare(name, images):
        arrays = {"images": images.images, "labels": images.labels}
        manifest = {"source": "", "classes": images.classes, "digest": name}
        return Store(images.folder.with_name(name), manifest, arrays)

    return bare("train", scenes.train), bare("test", scenes.test)


def test_labels_without_ten_images_of_a_class_make_no_exam(scenes):
    with pytest.raises(BadData, match="held out"):
        LabelledExam(Pixels(), scenes.train.take(range(5)), scenes.test, plan=CPU)


def test_an_exam_cannot_be_changed(scenes):
    exam = LabelledExam(Pixels(), scenes.train, scenes.test, plan=CPU)
    with pytest.raises(dataclasses.FrozenInstanceError):
        exam.fit = exam.held_out


def test_probes_share_the_richest_exam_that_any_of_them_needs(scenes):
    probes = {"geometry": geometry, "linear": linear, "saliency": saliency}
    exams = exams_for(probes, Pixels(), scenes.train, scenes.test, plan=CPU)
    assert type(exams["geometry"]) is MaskedExam and len(set(map(id, exams.values()))) == 1
    alone = exams_for({"geometry": geometry}, Pixels(), scenes.pool, scenes.pool, plan=CPU)
    assert type(alone["geometry"]) is Exam


def test_a_kind_of_exam_beside_the_others_is_given_to_those_that_need_it(scenes):
    class Boxed(Exam):
        pass

    def boxes(exam: Boxed):
        yield "figure", 1.0

    exams = exams_for({"boxes": boxes, "linear": linear}, Pixels(), scenes.train, scenes.test, plan=CPU)
    assert {name: type(exam) for name, exam in exams.items()} == {"boxes": Boxed, "linear": LabelledExam}


def test_what_an_exam_is_asked_for_twice_is_computed_once(scenes):
    calls = []

    def squared(exam, *, number=3):
        calls.append(number)
        return number**2

    exam, other = (Exam(Pixels(), scenes.pool, plan=CPU) for _ in range(2))
    assert [exam.once(squared), exam.once(squared, number=3), exam.once(squared, number=4)] == [9, 9, 16]
    assert calls == [3, 4]
    assert other.once(squared) == 9 and calls == [3, 4, 3]


def test_flags_are_told_from_figures():
    taken = Taken(torch.arange(3))
    assert sorted_out([("a", 1.0), Flag("odd"), taken, ("b", 2.0)]) == ([("a", 1), ("b", 2)], ["odd"], taken.classes)
