"""The tidy table: it survives crashes, strange names and repeats."""

import errno
import hashlib
import math
import os

import pytest

from lilliput.errors import BadData, LilliputError
from lilliput.studies import results
from tests.studies.conftest import row, rows_of_run


def test_a_folder_without_results_reads_as_an_empty_table(tmp_path):
    rows = results.read(tmp_path)
    assert rows.empty and list(rows.columns) == results.COLUMNS


def test_a_value_comes_back_to_the_last_bit(tmp_path):
    values = {1: 0.1 + 0.2, 2: 1 / 3, 3: 5e-324, 4: 0.7123456789012345}
    results.append(tmp_path, rows_of_run(values))
    assert results.read(tmp_path).value.tolist() == list(values.values())


def test_numbers_that_count_are_written_whole_and_absent_ones_empty(tmp_path):
    results.append(tmp_path, [row(parameters=11689512), row(technique="pixels", backbone="", epoch=0)])
    written = (tmp_path / "results.csv").read_text().splitlines()
    assert written[0] == ",".join([*results.COLUMNS, "check"])
    assert ",11689512," in written[1] and "11689512.0" not in written[1]
    rows = results.read(tmp_path)
    assert rows.parameters[0] == 11689512 and math.isnan(rows.parameters[1])
    assert rows.backbone.tolist() == ["resnet18", ""] and rows.commit.tolist() == ["", ""]


def test_a_row_with_the_same_key_is_replaced_and_others_stay(tmp_path):
    results.append(tmp_path, rows_of_run({5: 0.5, 10: 0.6}))
    results.append(tmp_path, [row(epoch=5, value=0.7), row(epoch=5, value=0.1, seed=1), row(epoch=5, judge="own")])
    rows = results.read(tmp_path)
    assert len(rows) == 4
    mine = rows[(rows.seed == 0) & (rows.judge == "stl10")]
    assert dict(zip(mine.epoch, mine.value, strict=True)) == {5: 0.7, 10: 0.6}


@pytest.mark.parametrize("name", ["NA", "", "nan", 'a,"b"', "café 猫", " spaced ", "-1"])
def test_a_name_comes_back_as_it_was(tmp_path, name):
    results.append(tmp_path, [row(metric=f"accuracy/{name}", data=name, backbone=name)])
    back = results.read(tmp_path).iloc[0]
    assert (back.metric, back.data, back.backbone) == (f"accuracy/{name}", name, name)


def test_a_name_that_is_no_unicode_is_kept_readable_and_still_replaces(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    for value in (0.1, 0.2):
        results.append(tmp_path, [row(data=name, metric=f"accuracy/{name}", value=value)])
    rows = results.read(tmp_path)
    assert len(rows) == 1 and rows.value[0] == 0.2 and rows.data[0].startswith("caf\\")


def test_what_a_csv_cannot_hold_is_written_out(tmp_path):
    results.append(tmp_path, [row(metric="accuracy/Icon\r", data="a\0b", backbone="two\nlines")])
    back = results.read(tmp_path).iloc[0]
    assert (back.metric, back.data, back.backbone) == (r"accuracy/Icon\x0d", r"a\x00b", r"two\x0alines")


def test_a_full_disk_is_said_and_leaves_the_rows_that_were_there(tmp_path, monkeypatch):
    results.append(tmp_path, [row(value=0.5)])

    def full(*_):
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patch, pytest.raises(LilliputError, match="no space"):
        patch.setattr(os, "fsync", full)
        results.append(tmp_path, [row(epoch=10, value=0.9)])
    assert results.read(tmp_path).value[0] == 0.5


def test_wherever_a_file_is_cut_the_whole_rows_stay_and_more_can_be_added(tmp_path):
    path = tmp_path / "results.csv"
    results.append(tmp_path, [row(metric="accuracy/a", value=0.1), row(epoch=10, commit="abc", value=0.2)])
    whole = path.read_bytes()
    first, second = (whole.index(b"\n", start) for start in (whole.index(b"\n") + 1, whole.index(b"0.2")))
    for length in range(first, len(whole), 7):
        path.write_bytes(whole[:length])
        assert results.read(tmp_path).value.tolist() == [0.1, 0.2][: 2 if length >= second else 1]
        results.append(tmp_path, [row(epoch=15, value=0.3)])
        assert results.read(tmp_path).value.tolist()[-1] == 0.3


def test_a_file_that_has_no_whole_row_yet_is_mended(tmp_path):
    """The first append was torn: nothing but the head is whole, or nothing at all is there."""
    path = tmp_path / "results.csv"
    results.append(tmp_path, [row(value=0.1)])
    whole = path.read_bytes()
    start = whole.index(b"\n") + 1
    for length in (0, *range(start - 1, start + 2), len(whole) - 2):
        path.write_bytes(whole[:length])
        damaged = {0: [1], start - 1: [], start: []}.get(length, [2])
        assert results.read(tmp_path).empty and results.damaged_lines(path) == damaged
        results.mend(tmp_path)
        assert results.read(tmp_path).empty and not results.damaged_lines(path)
        path.write_bytes(whole[:length])
        results.append(tmp_path, [row(value=0.3)])
        assert results.read(tmp_path).value.tolist() == [0.3] and not results.damaged_lines(path)


def test_a_flipped_bit_costs_its_row_alone_and_is_said(tmp_path, capsys):
    path = tmp_path / "results.csv"
    results.append(tmp_path, [row(epoch=epoch, value=epoch / 100) for epoch in (5, 10, 15)])
    whole = path.read_bytes()
    starts = [index + 1 for index, byte in enumerate(whole[:-1]) if byte == ord("\n")]
    for place in range(starts[1], starts[2] - 1):
        flipped = bytearray(whole)
        flipped[place] ^= 4
        path.write_bytes(flipped)
        assert results.read(tmp_path).epoch.tolist() == [5, 15]
        assert "line 3" in capsys.readouterr().err
    results.append(tmp_path, [row(epoch=10, value=0.1)])
    assert sorted(results.read(tmp_path).epoch) == [5, 10, 15]


def test_the_rows_of_an_older_file_are_read_and_kept(tmp_path):
    path = tmp_path / "results.csv"
    columns = [name for name in results.COLUMNS if name not in ("flagged", "trace", "rows", "mistakes", "init")]
    path.write_text(",".join(columns) + "\nsimclr,resnet18,0,5,linear,accuracy,.5" + "," * 15 + "\n")
    results.append(tmp_path, [row(epoch=10)])
    assert results.read(tmp_path).epoch.tolist() == [5, 10] and not results.damaged_lines(path)


def test_the_rows_of_a_file_without_their_number_are_read_and_kept(tmp_path):
    path = tmp_path / "results.csv"
    line = "simclr,resnet18,0,5,linear,accuracy,.5" + "," * 17
    check = hashlib.sha256(line.encode()).hexdigest()[:8]
    path.write_text(",".join([*results.COLUMNS[:-3], "check"]) + f"\n{line},{check}\n")
    assert results.read(tmp_path).epoch.tolist() == [5] and not results.damaged_lines(path)
    results.append(tmp_path, [row(epoch=10)])
    assert results.read(tmp_path).epoch.tolist() == [5, 10] and not results.damaged_lines(path)
    assert results.done(results.read(tmp_path)) == {(5, "linear"), (10, "linear")}


def test_the_rows_of_a_file_without_mistakes_are_read_and_kept(tmp_path):
    path = tmp_path / "results.csv"
    line = "simclr,resnet18,0,5,linear,accuracy,.5" + "," * 17 + "1"
    check = hashlib.sha256(line.encode()).hexdigest()[:8]
    path.write_text(",".join([*results.COLUMNS[:-2], "check"]) + f"\n{line},{check}\n")
    results.append(tmp_path, [row(epoch=10, mistakes="abc")])
    assert results.read(tmp_path).mistakes.tolist() == ["", "abc"] and not results.damaged_lines(path)


def test_a_probe_of_which_a_row_was_lost_is_not_done(tmp_path):
    metrics = [f"metric{number}" for number in range(5)]
    for epoch in (5, 10):
        results.append(tmp_path, [row(epoch=epoch, metric=metric, rows=5) for metric in metrics])
    assert results.done(results.read(tmp_path)) == {(5, "linear"), (10, "linear")}
    path = tmp_path / "results.csv"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b",10,linear,metric3,", b",10,linear,metric8,"))
    assert results.done(results.read(tmp_path)) == {(5, "linear")} and results.damaged_lines(path) == [10]
    assert results.torn(results.read(tmp_path)) == ["simclr resnet18 0 10 linear stl10"]
    results.mend(tmp_path)
    assert not results.damaged_lines(path) and len(results.read(tmp_path)) == 9
    assert (tmp_path / "results.csv.damaged-1").read_bytes() != whole
    results.append(tmp_path, [row(epoch=10, metric=metric, rows=5) for metric in metrics])
    assert results.done(results.read(tmp_path)) == {(5, "linear"), (10, "linear")}
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-2]))  # cut at a line's end, which no digest tells
    assert not results.damaged_lines(path) and results.done(results.read(tmp_path)) == {(5, "linear")}


def test_what_tears_an_append_is_mended_by_the_next(tmp_path):
    results.append(tmp_path, [row(epoch=5)])
    path = tmp_path / "results.csv"
    path.write_bytes(path.read_bytes() + b"simclr,resnet18,0,10,lin")
    results.append(tmp_path, [row(epoch=15)])
    assert results.read(tmp_path).epoch.tolist() == [5, 15] and not results.damaged_lines(path)


@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1,2\n",
        ",".join(results.COLUMNS) + "\nsimclr,resnet18\n",
        ",".join(results.COLUMNS) + "\n" + "1," * 40 + "\n",
        ",".join(results.COLUMNS) + "\nsimclr,resnet18,zero,5,linear,accuracy,.5,,,,,,,,,,,,,,,\n",
        b"\xff\xfe\x00\n",
    ],
)
def test_a_foreign_file_is_refused_and_not_overwritten(tmp_path, content):
    path = tmp_path / "results.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = path.read_bytes()
    for use in (lambda: results.read(tmp_path), lambda: results.append(tmp_path, [row()])):
        with pytest.raises(BadData, match=r"results\.csv"):
            use()
    assert path.read_bytes() == before


def test_a_row_with_a_strange_or_without_a_needed_column_is_refused(tmp_path):
    with pytest.raises(BadData, match="acuracy"):
        results.append(tmp_path, [row(acuracy=1)])
    with pytest.raises(BadData, match="'seed'"):
        results.append(tmp_path, [row(seed=None)])
    assert not list(tmp_path.iterdir())
