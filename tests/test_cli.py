"""The command line: names, options, errors in one line; and no torch for what needs none."""

import argparse
import ast
import functools
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from lilliput import catalog, cli
from lilliput.errors import UnknownName
from lilliput.parser import make_parser
from tests.commands import lilliput


@pytest.mark.parametrize(
    "words",
    [["--help"], ["study", "--help"], ["list"], ["pretrain", "simclt", "resnet18"], ["study", "--tempratur", "1"]],
)
def test_help_lists_and_misspelt_names_need_no_torch(words):
    code = (
        f"import sys; from lilliput.cli import main\ntry: main({words!r})\nexcept SystemExit: pass\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pretrain", "simclt", "resnet18"], "no technique 'simclt', did you mean 'simclr'?"),
        (["study", "--backbones", "resnet81"], "no backbone 'resnet81', did you mean 'resnet18'?"),
        (["study", "--probes", "linea"], "no probe 'linea', did you mean 'linear'?"),
        (
            ["pretrain", "simclr", "resnet18", "--temprature", "0.1"],
            "no option 'temprature', did you mean 'temperature'?",
        ),
        (["pretrain", "rotnet", "resnet18", "--temperature", "0.1"], "no option 'temperature'"),
        (["pretrain", "simclr", "resnet18", "--temperature"], "--temperature needs a value"),
        (["pretrain", "simclr", "resnet18", "--epoch", "3"], "no option 'epoch', did you mean 'epochs'?"),
        (["pretrain", "simclr", "resnet18", "--batch-size", "9"], "no option 'batch_size', did you mean 'batch'?"),
        (["pretrain", "simclr", "resnet18", "--seeds", "3"], "no option 'seeds', did you mean 'seed'?"),
        (["study", "--seed", "3"], "no option 'seed', did you mean 'seeds'?"),
        (["pretrain", "--temprature", "1", "simclr", "resnet18"], "did you mean 'temperature'?"),
        (["pretrain", "simclr", "resnet18", "rotnet"], "what is 'rotnet'?"),
        (["probe", "nowhere", "--prob", "knn"], "unknown argument '--prob', did you mean '--probes'?"),
        (["prepare", "stl"], "no data set and no folder 'stl', did you mean 'stl10'?"),
        (["probe", "nowhere"], "nowhere is not the folder of a run"),
        (["report", "nowhere"], "nowhere"),
        (["pretrain", "simclr", "resnet18", "--lr", "fast"], "lr"),
        (["pretrain", "simclr", "resnet18", "--lr", "[1, 2]"], "--lr [1, 2] is not of type float"),
        (["pretrain", "simclr", "resnet18", "--plan", "threads=[1]"], "--plan threads is a number, a word"),
        (["pretrain", "my/pairs.py", "resnet18"], "there is no file 'my/pairs.py' with Python in it"),
        (["report", "nowhere", "--use", "my/pairs.py"], "there is no file 'my/pairs.py' with Python in it"),
    ],
)
def test_an_error_is_one_line_with_the_way_out_and_no_traceback(words, said):
    done = lilliput(*words)
    assert done.returncode == 1
    assert said in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_list_names_everything_with_options_and_sources():
    text = lilliput("list").stdout
    for kind in catalog.KINDS:
        for name in catalog.names(kind):
            assert f"  {name}: " in text
    assert "--temperature 0.2" in text and "arxiv.org/abs/1803.07728" in text


def test_options_are_read_as_numbers_words_and_switches():
    words = ["--temperature", "0.5", "--queue=100", "--decoupled", "true", "--schedule", "steps"]
    arguments, _ = cli._parsed(["pretrain", "simclr", "resnet18", *words])
    options = cli._extra_options(arguments)
    assert options == {"temperature": 0.5, "queue": 100, "decoupled": True, "schedule": "steps"}


def test_the_list_shows_a_users_own_file_and_needs_no_torch(tmp_path):
    path = tmp_path / "empty_probe.py"
    path.write_text('"""Nothing."""\nimport torch\n\n\ndef empty_probe(exam: "Exam", *, most: int = 3):\n    ...\n')
    words = ["list", "probes", "--use", str(path)]
    code = f"import sys; from lilliput.cli import main; main({words!r}); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "  empty_probe: Nothing." in done.stdout and f"your own: {path}" in done.stdout
    assert "options in Python: most=3" in done.stdout and done.stdout.splitlines()[-1] == "False"


def test_a_reader_that_stops_early_is_no_error():
    done = subprocess.run(f"{sys.executable} -m lilliput list | head -1", shell=True, capture_output=True, text=True)
    assert done.stdout.strip() == "techniques" and "Traceback" not in done.stderr


def test_prepare_says_what_there_is(tmp_path):
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (20, 20), (len(name + split), 0, 0)).save(tmp_path / split / name / "a.png")
    done = lilliput("prepare", str(tmp_path), "--image-size", "16")
    assert done.returncode == 0, done.stderr
    assert "pool: 2 images of 16 px" in done.stdout and "test: 2 images of 16 px in 2 classes" in done.stdout


def photos(folder, count=2):
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", (40, 40), (number, number % 7, 90)).save(folder / f"{number}.png")
    return folder


def test_a_terminal_without_a_letter_gets_it_written_out():
    """Under an ASCII or Latin-1 stdout the last words of a study ended in a UnicodeEncodeError."""
    words = [
        sys.executable,
        "-X",
        "utf8=0",
        "-c",
        "from lilliput.system import streams; streams.keep_speaking(); print('1 \u2013 2')",
    ]
    said = subprocess.run(words, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "latin-1"}, check=True)
    assert said.stdout == b"1 \\u2013 2\n"


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_command_works_whatever_of_its_streams_is_closed(tmp_path, closed):
    """`lilliput prepare DIR >&-` ended in: 'NoneType' object has no attribute 'flush'."""
    words = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "lilliput", "prepare"]
    done = subprocess.run([*words, str(photos(tmp_path / "photos"))], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "Error" not in done.stderr
    stores = Path(os.environ["LILLIPUT_HOME"]).rglob("*")
    assert not [path for path in stores if path.is_file() and b"pool: " in path.read_bytes()]  # no file got the words


def test_a_studys_page_is_written_before_a_word_is_said(tmp_path, monkeypatch):
    """A stdout that takes nothing cost the page after all of the study's work."""
    from lilliput import api

    class Full(io.StringIO):
        def write(self, _text):
            raise OSError(28, "No space left on device")

    (tmp_path / "table.md").write_text("", encoding="utf-8")
    pages = []
    monkeypatch.setattr(api, "study", lambda *_, **__: (tmp_path, []))
    monkeypatch.setattr(cli, "_page", lambda out, workers: pages.append(out) or "")
    monkeypatch.setattr(sys, "stdout", Full())
    monkeypatch.setattr(cli.streams, "print_no_more", lambda: None)
    assert cli.main(["study", "--techniques", "simclr"]) == 1
    assert pages == [tmp_path]


def test_every_text_of_ours_is_read_and_written_as_utf8():
    """report.html's own style sheet was read by the locale's encoding, and so was what Linux says of the machine."""
    careless = []
    for path in Path(cli.__file__).parent.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_bytes())):
            if not isinstance(call, ast.Call) or any(word.arg == "encoding" for word in call.keywords):
                continue
            called = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
            mode = call.args[1].value if len(call.args) > 1 and isinstance(call.args[1], ast.Constant) else "r"
            as_text = called == "open" and isinstance(call.func, ast.Name) and "b" not in mode
            if (
                called in ("read_text", "write_text")
                or as_text
                or any(word.arg == "text" and getattr(word.value, "value", None) is True for word in call.keywords)
            ):
                careless.append(f"{path.name}:{call.lineno}")
    assert careless == []


def test_options_may_stand_before_names_and_be_written_with_either_dash():
    """`pretrain --lr 0.01 simclr resnet18` was told that there is no technique '0.01'."""
    before = [
        "pretrain",
        "--lr",
        "0.01",
        "--weight_decay=-1",
        "--image_size",
        "32",
        "simclr",
        "--warmup",
        "0",
        "resnet18",
    ]
    arguments, rest = cli._parsed(before)
    assert (arguments.technique, arguments.backbone, arguments.image_size, rest) == ("simclr", "resnet18", 32, [])
    assert cli._extra_options(arguments) == {"lr": 0.01, "weight_decay": -1, "warmup": 0}


def test_a_flag_of_python_that_is_nearly_right_is_named_too():
    from lilliput import api

    with pytest.raises(UnknownName, match="no option 'epoch', did you mean 'epochs'"):
        api.pretrain("simclr", "resnet18", epoch=3)
    with pytest.raises(UnknownName, match="no option 'seed', did you mean 'seeds'"):
        api.study(techniques=["simclr"], backbones=["resnet18"], seed=3)


def test_help_says_what_is_taken_where_nothing_is_said():
    for name, verb in make_parser().get_default("verbs").items():
        for action in verb._actions:
            if action.option_strings and action.default not in (None, False, [], argparse.SUPPRESS):
                assert "default" in (action.help or ""), f"{name} {action.option_strings[0]}"
    assert "default: photographs" in " ".join(lilliput("pretrain", "--help").stdout.split())


def test_a_folder_that_is_called_like_a_data_set_is_told_how_to_be_named(tmp_path, monkeypatch):
    """`prepare scenes` in a folder that has a folder scenes took the drawings, in silence."""
    photos(tmp_path / "scenes", 3)
    words = [sys.executable, "-m", "lilliput", "prepare", "--limit", "2", "--image-size", "8"]
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(cli.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    )
    run = functools.partial(subprocess.run, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True)
    assert f"the folder here is .{os.sep}scenes" in run([*words, "scenes"]).stderr
    meant = run([*words, f".{os.sep}scenes"])
    assert "pool: 2 images of 8 px, " in meant.stdout and "the folder here" not in meant.stderr
