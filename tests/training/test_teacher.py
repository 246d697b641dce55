"""What distil learns from: found by its name, known by its content, its cost told."""

import json

import pytest
import torch
from safetensors.torch import save_file

from lilliput import api
from lilliput.errors import BadData, BadSetting
from lilliput.studies.judge import costs
from lilliput.training.encoders import load_encoder
from lilliput.training.record import read_run
from lilliput.training.teacher import teacher_of
from tests.conftest import PLAN, rng, saved_bits

SETTINGS = {"epochs": 2, "every": 1, "batch": 16, "plan": PLAN}


@pytest.fixture(scope="module")
def taught(scenes, tmp_path_factory):
    """A run, and one of distil that learned from it."""
    folder = tmp_path_factory.mktemp("taught")
    teacher = api.pretrain("simclr", "shufflenet_v2", scenes, folder / "teacher", **SETTINGS)
    student = api.pretrain("distil", "squeezenet", scenes, folder / "student", teacher=teacher, **SETTINGS)
    return teacher, student


def test_a_run_teaches_by_its_last_encoder(taught):
    teacher, student = taught
    found = teacher_of(teacher)
    assert found.weights.file.name == "encoder_002.safetensors"
    images = torch.rand(2, 3, 32, 32, generator=rng())
    assert torch.equal(found.network()(images), load_encoder(teacher)(images))
    assert read_run(student)["technique_options"]["teacher"] == found.as_option
    assert load_encoder(student)(images).shape[0] == 2  # without its teacher


def test_what_the_teachers_own_training_took_is_counted_in_the_students_rows(taught):
    _, student = taught
    last = [json.loads((run / "log.jsonl").read_text().splitlines()[-1]) for run in taught]
    row = costs(read_run(student), last[1])
    assert row["seconds"] == pytest.approx(last[0]["total_seconds"] + last[1]["total_seconds"], abs=2e-3)
    assert row["kwh"] == pytest.approx(last[0]["kwh"] + last[1]["kwh"])
    grandchild = teacher_of(student)
    assert grandchild.spent["total_seconds"] == pytest.approx(row["seconds"], abs=2e-3)
    assert costs(read_run(student), None)["seconds"] == 0


def test_a_run_goes_on_with_the_same_teacher_alone(taught, scenes, tmp_path):
    teacher, student = taught
    other = teacher / "encoder_001.safetensors"
    longer = {**SETTINGS, "teacher": other}
    with pytest.raises(BadSetting, match="teacher"):
        api.pretrain("distil", "squeezenet", scenes, student, **longer)
    again = api.pretrain("distil", "squeezenet", scenes, tmp_path / "s", teacher=teacher, **SETTINGS)
    assert saved_bits(again) == saved_bits(student)


def test_a_student_is_pruned_and_recovers_by_its_teacher(taught, scenes, tmp_path):
    thin = api.prune(taught[1], scenes, tmp_path / "thin", images=16, epochs=1, plan=PLAN)
    ours, theirs = (read_run(run)["technique_options"] for run in (thin, taught[1]))
    assert ours == theirs and (thin / "encoder_001.safetensors").exists()


def test_a_network_with_published_weights_teaches(tmp_path):
    import torchvision

    net = torchvision.models.shufflenet_v2_x0_5()
    save_file(net.state_dict(), tmp_path / "shufflenet_v2_x0_5.safetensors")
    teacher = teacher_of("shufflenet_v2", tmp_path)
    assert teacher.spent == {}
    assert torch.equal(teacher.network().net.conv1[0].weight, net.conv1[0].weight)


@pytest.mark.parametrize("wanted", ["nowhere/at_all", "timm/no_such_network"])
def test_what_is_no_teacher_is_told(wanted):
    with pytest.raises(BadData, match=f"--teacher {wanted} is no file or run's folder, and as a network: "):
        teacher_of(wanted)


def test_an_empty_folder_teaches_nothing(tmp_path):
    with pytest.raises(BadData, match="holds no encoder_"):
        teacher_of(tmp_path)


def test_distil_without_a_teacher_is_refused_before_anything_is_written(scenes, tmp_path):
    with pytest.raises(BadSetting, match="distil learns from a teacher: give --teacher"):
        api.pretrain("distil", "squeezenet", scenes, tmp_path / "run", **SETTINGS)
    assert not (tmp_path / "run").exists()


def test_a_file_that_changed_since_is_refused(taught, tmp_path):
    file = tmp_path / "encoder_001.safetensors"
    file.write_bytes((taught[0] / "encoder_001.safetensors").read_bytes())
    teacher = teacher_of(file)
    file.write_bytes((taught[0] / "encoder_002.safetensors").read_bytes())
    with pytest.raises(BadData, match="has changed since"):
        teacher.network()
