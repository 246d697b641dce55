"""Records and tensors under a digest: what is written is read, and nothing else is."""

import json

import pytest

from lilliput.errors import BadData
from lilliput.system.records import of_kinds, read_json, seal, write_json
from tests.conftest import flip_bit


def test_a_record_is_read_as_it_was_written(tmp_path):
    record = {"name": "é", "list": [1, 2.5, None], "deep": {"b": True, "a": []}}
    write_json(tmp_path / "r.json", record)
    assert read_json(tmp_path / "r.json") == record


def test_a_seal_does_not_depend_on_the_layout_and_the_order_of_names(tmp_path):
    write_json(tmp_path / "r.json", {"a": 1, "b": {"c": 2, "d": 3}})
    sealed = json.loads((tmp_path / "r.json").read_text())
    sealed["b"] = {"d": 3, "c": 2}
    (tmp_path / "r.json").write_text(json.dumps(dict(reversed(sealed.items()))))
    assert read_json(tmp_path / "r.json") == {"a": 1, "b": {"c": 2, "d": 3}}


def test_a_seal_is_that_of_numbers_as_names_too():
    assert seal({"a": {1: 2}}) == seal({"a": {"1": 2}, "sha256": "anything"})


def test_a_changed_value_breaks_the_seal(tmp_path):
    write_json(tmp_path / "r.json", {"epochs": 10})
    (tmp_path / "r.json").write_text((tmp_path / "r.json").read_text().replace("10", "11"))
    with pytest.raises(BadData, match="its digest is not that of its content"):
        read_json(tmp_path / "r.json")


def test_values_of_other_kinds_are_named():
    kinds = {"epochs": int, "seeds": [int], "options": {"width": float}}
    record = {"epochs": 1, "seeds": [0, 1], "options": {"width": 0.5}}
    assert of_kinds(record, kinds, "here") is record
    for wrong in ({"epochs": True}, {"seeds": ["0"]}, {"options": {}}, {"epochs": 2**63}):
        with pytest.raises(BadData, match=f"here is damaged: its ({next(iter(wrong))}|width) is "):
            of_kinds({**record, **wrong}, kinds, "here")


def test_a_seal_is_broken_by_any_change_of_meaning(tmp_path):
    content = {"lr": 0.3, "names": ["a", "é", "\udc80"], "none": None, "by": {1: 2}}
    write_json(tmp_path / "x.json", content)
    assert read_json(tmp_path / "x.json")["names"] == content["names"]
    whole = (tmp_path / "x.json").read_bytes()
    for place in range(len(whole)):
        flip_bit(tmp_path / "x.json", place, bit=0)
        try:
            assert read_json(tmp_path / "x.json") == json.loads(json.dumps(content))
        except BadData as error:
            assert "x.json" in str(error)
        (tmp_path / "x.json").write_bytes(whole)


@pytest.mark.parametrize("item", [True, 2**70, 1.0, None])
def test_what_is_no_number_alone_is_none_in_a_list(item):
    with pytest.raises(BadData, match="here is damaged: its seeds is "):
        of_kinds({"seeds": [0, item]}, {"seeds": [int]}, "here")


def test_lists_hold_records_of_given_kinds():
    kinds, record = {"skipped": [{"file": str}]}, {"skipped": [{"file": "a"}, {"file": "b", "reason": "torn"}]}
    assert of_kinds(record, kinds, "here") is record
    for wrong, name in (([1], "skipped"), ([{"file": 1}], "file"), ([{}], "file")):
        with pytest.raises(BadData, match=f"here is damaged: its {name} is "):
            of_kinds({"skipped": wrong}, kinds, "here")
