"""Tensors under a digest."""

import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from lilliput.errors import BadData
from lilliput.system.tensors import read_tensors, write_tensors

TENSORS = {"weight": torch.arange(6.0).reshape(2, 3), "steps": torch.tensor(7)}


def test_tensors_and_header_are_read_as_they_were_written(tmp_path):
    write_tensors(tmp_path / "t.safetensors", TENSORS, {"format": 2, "name": "é"})
    tensors, header = read_tensors(tmp_path / "t.safetensors")
    assert header == {"format": 2, "name": "é"} and set(tensors) == set(TENSORS)
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)


def test_others_can_read_the_file_and_theirs_have_an_empty_header(tmp_path):
    write_tensors(tmp_path / "ours.safetensors", TENSORS, {"format": 2})
    assert torch.equal(load_file(tmp_path / "ours.safetensors")["weight"], TENSORS["weight"])
    save_file(TENSORS, tmp_path / "theirs.safetensors")
    assert read_tensors(tmp_path / "theirs.safetensors")[1] == {}


def test_a_changed_bit_is_noticed_in_header_and_data(tmp_path):
    path = tmp_path / "t.safetensors"
    write_tensors(path, TENSORS, {"format": 2, "name": "before"})
    content = path.read_bytes()
    for changed in (content[:-1] + bytes([content[-1] ^ 1]), content.replace(b"before", b"behind")):
        path.write_bytes(changed)
        with pytest.raises(BadData, match="its digest is not that of its content"):
            read_tensors(path)


def test_a_pickle_is_refused_with_the_way_to_convert_it(tmp_path):
    (tmp_path / "t.safetensors").write_bytes(pickle.dumps({"weight": 1}))
    with pytest.raises(BadData, match="is a pickle"):
        read_tensors(tmp_path / "t.safetensors")
