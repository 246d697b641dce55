"""Settings in a file: what --print-config prints is what --config reads, and a flag beside it wins."""

import tomllib

import pytest

from lilliput import cli
from lilliput.errors import BadSetting, UnknownName

STUDY = (
    *("study", "--techniques", "simclr", "moco_v2", "--backbones", "resnet18", "--seeds", "0", "3", "--baselines"),
    *("--data", 'my "photos" \u00e9\x1b\u202e', "--test-share", "0.25", "--plan", "threads=2", "precision=bf16"),
    *("--temperature", "0.5", "--queue=100", "--decoupled", "true", "--schedule", "steps", "--deterministic"),
    *("--until-converged", "3", "--track", "tensorboard", "--width", "0.5"),
)
PRETRAIN = ("pretrain", "simclr", "timm/lcnet_050", "--epochs", "3", "--lr", "1e-05", "--out=-runs")
OTHERS = (
    ("probe", "runs/a", "--probes", "knn", "--at", "0", "5"),
    ("detect", "runs/a", "runs/b", "--data", "boxes"),
    ("prune", "runs/a", "--keep", "0.25"),
    ("search", "runs/a", "cat.jpg", "--in", "photos"),
    ("list", "probes"),
    ("verify", "runs/a", "--sample", "2"),
)


def parsed(*words):
    arguments, rest = cli._parsed(list(words))
    assert rest == []
    options = cli._extra_options(arguments)
    ours = ("config", "print_config", "flags", "verb", "verbs")
    return {k: v for k, v in vars(arguments).items() if k not in ours and not k.startswith("--")}, options


def as_lists(said):
    settings, options = said
    return {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}, options


@pytest.mark.parametrize("words", [STUDY, ("study",), PRETRAIN, *OTHERS], ids=lambda words: f"{words[0]}-{len(words)}")
def test_what_is_printed_is_read_to_the_same(words, tmp_path, capsys):
    assert cli.main([*words, "--print-config"]) == 0
    printed = capsys.readouterr().out
    assert printed.isascii() or ("\u00e9" in printed and "\x1b" not in printed and "\u202e" not in printed)
    file = tmp_path / "said.toml"
    file.write_text(printed, encoding="utf-8")
    assert as_lists(parsed(words[0], "--config", str(file))) == as_lists(parsed(*words))
    assert cli.main([words[0], f"--config={file}", "--print-config"]) == 0
    assert capsys.readouterr().out == printed


def file_of(tmp_path, text):
    (tmp_path / "c.toml").write_text(text, encoding="utf-8")
    return str(tmp_path / "c.toml")


def test_a_flag_and_a_name_on_the_command_line_win_over_the_file(tmp_path):
    text = 'technique = "byol"\nbackbone = "resnet18"\nepochs = 9\nlr = 0.5\nimage-size = 32\n[plan]\nthreads = 2\n'
    file = file_of(tmp_path, text)
    settings, options = parsed("pretrain", "--lr", "0.1", "--config", file, "--epochs", "3")
    assert (settings["technique"], settings["backbone"], settings["image_size"]) == ("byol", "resnet18", 32)
    assert (settings["epochs"], settings["plan"], options) == (3, ["threads=2"], {"lr": 0.1})
    settings, _ = parsed("pretrain", "--config", file, "simclr", "squeezenet")
    assert (settings["technique"], settings["backbone"]) == ("simclr", "squeezenet")


def test_a_list_in_the_file_takes_no_name_of_the_command_line(tmp_path):
    """Its words stand before the user's: `--probes knn` followed by RUN made RUN a probe."""
    settings, _ = parsed("probe", "--config", file_of(tmp_path, 'probes = ["knn"]\n'), "runs/a")
    assert (settings["run_folder"], settings["probes"]) == ("runs/a", ["knn"])


@pytest.mark.parametrize(
    ("verb", "text", "error", "said"),
    [
        ("probe", "probe = ['knn']", UnknownName, "lilliput probe has no setting 'probe', did you mean 'probes'?"),
        ("study", "deterministic = 'yes'", BadSetting, "deterministic = 'yes' is neither true nor false"),
        ("study", "epochs = [1, 2]", BadSetting, r"epochs = \[1, 2\] is neither a number nor a text"),
        ("export", "run_folder = ['a']", BadSetting, r"run_folder = \['a'\] is neither a number nor a text"),
        ("pretrain", "technique = ['byol', 'simclr']", BadSetting, "technique = .* is neither a number nor a text"),
        ("study", "epochs =", BadSetting, "c.toml is no TOML"),
        ("study", "temperature = 1979-05-27", BadSetting, "temperature = 1979-05-27 is neither a number"),
    ],
)
def test_what_a_file_cannot_say_is_refused_by_name(tmp_path, verb, text, error, said):
    with pytest.raises(error, match=said):
        cli._parsed([verb, "--config", file_of(tmp_path, text)])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epoch = 3", "no option 'epoch', did you mean 'epochs'?"),
        ("temprature = 0.1", "no option 'temprature', did you mean 'temperature'?"),
        ('techniques = ["simclt"]', "no technique 'simclt', did you mean 'simclr'?"),
    ],
)
def test_a_misspelt_key_of_a_study_is_one_line_with_the_nearest(tmp_path, capsys, text, said):
    assert cli.main(["study", "--config", file_of(tmp_path, text), "--print-config"]) == 1
    err = capsys.readouterr().err
    assert said in err and len(err.strip().splitlines()) == 1


def test_a_file_that_is_not_there_is_told(tmp_path, capsys):
    assert cli.main(["study", "--config", str(tmp_path / "no.toml")]) == 1
    assert capsys.readouterr().err.strip() == f"lilliput: {tmp_path / 'no.toml'}: No such file or directory"


def test_two_files_are_refused_and_a_number_for_a_name_is_a_word(tmp_path, capsys):
    one = file_of(tmp_path, "run_folder = 5")
    assert cli._parsed(["export", "--config", one, "--to", "onnx"])[0].run_folder == "5"
    assert cli.main(["export", "--config", one, "--config", one, "--to", "onnx"]) == 1
    assert "--config names one file" in capsys.readouterr().err


def test_an_option_that_reads_like_another_kind_keeps_its_own(tmp_path):
    text = 'schedule = "1"\nqueue = "none"\nchannels_kept = {"a.b" = 3}\ndecoupled = false\n'
    _, options = parsed("study", "--config", file_of(tmp_path, text))
    assert options == {"schedule": "1", "queue": None, "channels_kept": {"a.b": 3}, "decoupled": False}
    assert tomllib.loads(text)["schedule"] == options["schedule"]
