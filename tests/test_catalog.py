"""The catalogue: a user's own files by path, what their text tells, and options that go to those that take them."""

import ast
import functools
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import lilliput
from lilliput import catalog
from lilliput.catalog import files
from lilliput.errors import BadSetting, UnknownName

TECHNIQUE = '''"""Still: no task at all.

Nowhere.
"""

from lilliput.techniques import Technique


class Still(Technique):
    def __init__(self, make_backbone, *, sizes: tuple[int, ...] = (1, 2), words: dict[str, float] | None = None):
        super().__init__()
        self.encoder = self.build_encoder(make_backbone)
        self.sizes, self.words = sizes, words

    def views(self, images, rng):
        return (images,)

    def forward(self, images):
        return self.encoder(images).mean()
'''
BACKBONE = "def tiny(*, channels: int = 3, width: float = 1.0, depth: int = 2):\n    return channels, width, depth\n"
PROBE = "from lilliput.probes import Exam\n\n\ndef counted(exam: Exam, *, most: int = 3):\n    yield 'count', 1.0\n"
DATASET = "def prepare(*, image_size=None, limit=None):\n    return 'prepared'\n"


def written(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.py"
    path.write_text(text)
    return path


def test_the_catalogue_imports_nothing_of_the_house_but_its_errors():
    for path in Path(catalog.__file__).parent.glob("*.py"):
        modules = [node.module or "" for node in ast.walk(ast.parse(path.read_text())) if type(node) is ast.ImportFrom]
        rooms = {module.split(".")[1] for module in modules if module.startswith("lilliput.")}
        assert rooms <= {"catalog", "errors"}, path


def test_what_a_file_is_is_told_by_its_text(tmp_path):
    texts = {"still": TECHNIQUE, "tiny": BACKBONE, "counted": PROBE, "made": DATASET}
    assert lilliput.use(*(written(tmp_path, name, text) for name, text in texts.items())) == list(texts)
    for kind, name in zip(catalog.KINDS, texts, strict=True):
        assert name in catalog.names(kind)
    assert catalog.technique("still").__name__ == "Still"
    assert catalog.backbone_builder("tiny", width=0.5, depth=3)(width=0.5) == (3, 0.25, 3)
    assert list(catalog.probe("counted")(None)) == [("count", 1.0)]
    assert catalog.dataset("made")() == "prepared"


def test_a_path_gives_the_files_name_and_its_options_from_the_text_alone(tmp_path):
    path = written(tmp_path, "still", TECHNIQUE.replace("import Technique", "import Technique, does_not_exist"))
    assert catalog.take("techniques", path) == catalog.take("techniques", str(path)) == "still"
    entry = catalog.entry("techniques", "still")
    assert (entry.summary, entry.source, entry.file) == ("Still: no task at all.", "Nowhere.", path)
    assert [option.name for option in entry.options] == ["sizes", "words"]
    with pytest.raises(BadSetting, match=r"still.py cannot be imported, line 6: ImportError"):
        catalog.technique("still")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("simclr", TECHNIQUE, "there is a technique 'simclr' already"),
        ("supervised", TECHNIQUE, "'supervised' is the name of a baseline"),
        ("my-still", TECHNIQUE, "rename"),
        ("_still", TECHNIQUE, "rename"),
        ("tiny", BACKBONE, "it must define one class with the base Technique"),
        ("still", TECHNIQUE + TECHNIQUE.replace("Still", "Twice"), "it must define one class"),
        ("still", "def (:", "line 1: invalid syntax"),
        ("still", "\0", "null bytes"),
    ],
)
def test_a_file_that_cannot_be_taken_is_refused_by_name(tmp_path, name, text, said):
    with pytest.raises(BadSetting, match=said) as refused:
        catalog.take("techniques", written(tmp_path, name, text))
    assert name in str(refused.value)
    assert not os.environ[files.VARIABLE]


def test_a_name_that_another_file_has_is_refused(tmp_path):
    first = written(tmp_path / "a", "still", TECHNIQUE)
    catalog.take("techniques", first)
    with pytest.raises(BadSetting, match="already"):
        catalog.take("techniques", written(tmp_path / "b", "still", TECHNIQUE))
    assert catalog.take("techniques", Path(os.path.relpath(first))) == "still"


def test_a_file_that_is_not_there_or_of_no_kind_is_refused(tmp_path):
    with pytest.raises(BadSetting, match="no file"):
        catalog.take("techniques", tmp_path / "none.py")
    with pytest.raises(BadSetting, match="no file"):
        lilliput.use(tmp_path)
    with pytest.raises(BadSetting, match="defines nothing of ours"):
        lilliput.use(written(tmp_path, "odd", "x = 1\n"))
    with pytest.raises(BadSetting, match="defines more than one thing"):
        lilliput.use(written(tmp_path, "both", TECHNIQUE + DATASET))


def test_a_name_is_never_taken_for_a_path_where_a_record_says_it(tmp_path):
    path = written(tmp_path, "still", TECHNIQUE)
    with pytest.raises(UnknownName):
        catalog.check("techniques", str(path))
    with pytest.raises(UnknownName):
        catalog.technique(str(path))


def test_a_class_of_an_own_file_pickles_and_child_processes_know_it(tmp_path):
    catalog.take("techniques", written(tmp_path, "still", TECHNIQUE))
    kind = catalog.technique("still")
    assert pickle.loads(pickle.dumps(kind)) is kind
    code = f"import lilliput, pickle; print(pickle.loads({pickle.dumps(kind)!r}).__module__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "lilliput.techniques.still"


def test_the_same_name_from_another_folder_is_imported_anew(tmp_path, monkeypatch):
    for number in (1, 2):
        monkeypatch.setenv(files.VARIABLE, "")
        catalog.take("datasets", written(tmp_path / str(number), "made", DATASET.replace("prepared", str(number))))
        assert catalog.dataset("made")() == str(number)


def test_a_file_that_has_changed_is_imported_and_read_anew_and_recorded_as_what_runs(tmp_path):
    """The old code ran, by the old options, under the new text's digest."""
    path = written(tmp_path, "tiny", BACKBONE)
    lilliput.use(path)
    assert catalog.backbone_builder("tiny")() == (3, 1.0, 2)
    first = catalog.own_files(backbones=["tiny"])
    written(tmp_path, "tiny", BACKBONE.replace("depth: int = 2", "depth: int = 5"))  # as long, within the second
    assert catalog.own_files(backbones=["tiny"]) == first  # what is imported is still the first
    lilliput.use(path)
    assert catalog.backbone_builder("tiny")() == (3, 1.0, 5)
    assert catalog.entry("backbones", "tiny").options[-1].default == 5
    second = catalog.own_files(backbones=["tiny"])
    assert second != first and catalog.changed_files(first) == [path] and not catalog.changed_files(second)


def test_a_file_that_has_not_changed_is_imported_once(tmp_path):
    catalog.take("techniques", written(tmp_path, "still", TECHNIQUE))
    assert catalog.technique("still") is catalog.technique("still")


def test_an_environment_that_says_nothing_of_ours_is_named(monkeypatch):
    monkeypatch.setenv(files.VARIABLE, "/x/pairs.py")
    with pytest.raises(BadSetting, match=r"LILLIPUT_USE holds '/x/pairs.py'"):
        catalog.names("techniques")


def offer(folder: Path, group: str, line: str) -> None:
    """A package as installed: its metadata beside it."""
    metadata = folder / "guest-1.0.dist-info"
    metadata.mkdir(parents=True, exist_ok=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: guest\nVersion: 1.0\n")
    with (metadata / "entry_points.txt").open("a") as points:
        points.write(f"[{group}]\n{line}\n")


def test_an_entry_point_is_known_by_its_name_without_an_import(tmp_path, monkeypatch):
    written(tmp_path / "guest_nets", "__init__", "raise RuntimeError('imported')\n")
    written(tmp_path / "guest_nets", "small", BACKBONE)
    offer(tmp_path, "lilliput.backbones", "little = guest_nets.small:tiny\nresnet18 = guest_nets.small:tiny")
    monkeypatch.syspath_prepend(tmp_path)
    assert "little" in catalog.names("backbones")
    assert [option.name for option in catalog.entry("backbones", "little").options] == ["channels", "width", "depth"]
    assert catalog.entry("backbones", "resnet18").file is None  # this package's own comes first
    written(tmp_path / "guest_nets", "__init__", "")
    assert catalog.backbone_builder("little", depth=7)() == (3, 1.0, 7)


def test_an_installed_packages_file_that_has_changed_is_imported_anew(tmp_path, monkeypatch):
    written(tmp_path / "guest_deep", "__init__", "")
    written(tmp_path / "guest_deep", "small", BACKBONE)
    offer(tmp_path, "lilliput.backbones", "little = guest_deep.small:tiny")
    monkeypatch.syspath_prepend(tmp_path)
    assert catalog.backbone_builder("little")() == (3, 1.0, 2)
    first = catalog.own_files(backbones=["little"])
    written(tmp_path / "guest_deep", "small", BACKBONE.replace("depth: int = 2", "depth: int = 12"))
    assert catalog.backbone_builder("little")() == (3, 1.0, 12)
    assert catalog.own_files(backbones=["little"]) != first


def test_an_entry_point_that_names_no_module_costs_itself_alone(tmp_path, monkeypatch):
    """One of any installed package broke every command."""
    written(tmp_path, "guest_probe", PROBE)
    offer(tmp_path, "lilliput.probes", "odd = not a module\nempty = \ncounted = guest_probe:counted")
    monkeypatch.syspath_prepend(tmp_path)
    assert "counted" in catalog.names("probes")
    assert not {"odd", "empty"} & set(catalog.names("probes"))


def test_options_go_to_those_that_take_them(tmp_path):
    catalog.take("backbones", written(tmp_path, "tiny", BACKBONE))
    dealt = catalog.sort_options(
        {"temperature": 0.3, "tau": 0.9, "lr": 0.1, "width": 0.5, "depth": 4},
        techniques=["simclr", "moco_v2", "byol"],
        backbones=["resnet18", "tiny"],
    )
    assert dealt == {
        "recipe": {"lr": 0.1},
        "techniques": {"simclr": {"temperature": 0.3}, "moco_v2": {"temperature": 0.3}, "byol": {"tau": 0.9}},
        "backbones": {"resnet18": {"width": 0.5}, "tiny": {"width": 0.5, "depth": 4}},
    }
    with pytest.raises(UnknownName, match="no option 'depht', did you mean 'depth'"):
        catalog.sort_options({"depht": 1}, techniques=["simclr"], backbones=["tiny"])


def test_an_option_may_be_any_json_value_and_a_tuple_stays_one(tmp_path):
    catalog.take("techniques", written(tmp_path, "still", TECHNIQUE))

    def dealt(**options):
        return catalog.sort_options(options, techniques=["still"], backbones=["resnet18"])["techniques"]["still"]

    assert dealt(sizes=[3, 4], words={"a": 1}) == {"sizes": (3, 4), "words": {"a": 1}}
    assert dealt(sizes=(3,), words=None) == {"sizes": (3,), "words": None}
    assert catalog.typed_options("techniques", "still", {"sizes": [3]}) == {"sizes": (3,)}
    for odd in ({"sizes": 3}, {"sizes": ["a"]}, {"words": {"a": "b"}}, {"words": [1]}, {"words": {"a": {1}}}):
        with pytest.raises(BadSetting):
            dealt(**odd)


@pytest.mark.parametrize(
    ("annotation", "fits", "does_not"),
    [
        ("float", 1, True),
        ("int | None", None, 0.5),
        ("tuple[int, str]", [1, "a"], [1]),
        ("list[tuple[int, ...]]", [[1, 2]], [1]),
        ("Literal['a', 'b']", "b", "c"),
        ("'bool'", False, 0),
        ("dict", {"a": [1]}, "a"),
    ],
)
def test_a_value_of_another_type_than_annotated_is_refused(annotation, fits, does_not):
    from lilliput.catalog.options import _fit_option

    _fit_option("x", fits, annotation)
    with pytest.raises(BadSetting, match="--x"):
        _fit_option("x", does_not, annotation)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), [1.0, -float("inf")], {1: 2}, {"a": {None: 1}}])
def test_a_value_that_would_not_come_back_from_json_is_refused(value):
    from lilliput.catalog.options import _fit_option

    with pytest.raises(BadSetting, match=r"--x .* cannot be written as JSON"):
        _fit_option("x", value, "")


def test_infinity_by_the_command_lines_words_is_refused():
    value = catalog.parse_value("temperature", "1e999")
    with pytest.raises(BadSetting, match="--temperature inf"):
        catalog.sort_options({"temperature": value}, techniques=["simclr"], backbones=["resnet18"])


@pytest.mark.parametrize(
    "text",
    [
        BACKBONE.replace("int = 2", "'not python (' = 2"),
        BACKBONE.replace("int = 2", "Literal[{[]: 1}] = 2"),
        BACKBONE.replace("= 2", "= {[]: 1}"),
        BACKBONE.replace("= 2", f"= {' + '.join(['1'] * 2000)}"),
        BACKBONE.replace("= 2", f"= {'-' * 20000}1"),
        BACKBONE.replace("= 2", f"= {'(' * 500}1{')' * 500}"),
    ],
)
def test_a_file_whose_text_leads_nowhere_is_named(tmp_path, text):
    with pytest.raises(BadSetting, match=r"tiny\.py"):
        catalog.take("backbones", written(tmp_path, "tiny", text))
        catalog.sort_options({"depth": 3}, techniques=["simclr"], backbones=["tiny"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[1, 2]", [1, 2]),
        ('{"a": [null, true]}', {"a": [None, True]}),
        ("null", None),
        ("None", None),
        ("TRUE", True),
        ("1e-3", 0.001),
        (".5", 0.5),
        ("'a b'", "a b"),
        ("nan", "nan"),
        ("NaN", "NaN"),
        ("steps", "steps"),
        ("[1, 2", "[1, 2"),
    ],
)
def test_the_command_lines_text_is_read_as_json_or_as_itself(text, value):
    assert catalog.parse_value("x", text) == value


def test_what_is_neither_json_nor_a_plain_value_is_refused():
    with pytest.raises(BadSetting, match="neither a number, a word, true/false nor JSON"):
        catalog.parse_value("x", "(1, 2)")


def test_a_record_of_an_own_file_says_what_is_absent_or_other(tmp_path, monkeypatch):
    path = written(tmp_path, "still", TECHNIQUE)
    assert catalog.own_files(techniques=["simclr"]) == {}
    catalog.take("techniques", path)
    record = catalog.own_files(techniques=["still", "simclr"], backbones=["resnet18"])
    assert record["own_files"]["techniques/still"]["path"] == str(path)
    catalog.check_known(record)
    assert catalog.changed_files(record) == []
    path.write_text(TECHNIQUE + "\n")
    assert catalog.changed_files(record) == [path]
    monkeypatch.setenv(files.VARIABLE, "")
    with pytest.raises(UnknownName, match=f"technique 'still' is not known here; it came from {path}"):
        catalog.check_known(record)


@pytest.mark.parametrize(
    ("technique", "option", "odd", "bounds"),
    [
        ("simclr", "temperature", 0, "> 0"),
        ("simclr", "temperature", -0.2, "> 0"),
        ("simclr", "area", 2, "> 0, <= 1"),
        ("simclr", "grey", -0.1, ">= 0, <= 1"),
        ("simclr", "strength", -1, ">= 0"),
        ("byol", "tau", 1.5, ">= 0, <= 1"),
        ("byol", "hidden", 0, ">= 1"),
        ("moco_v2", "momentum", 1.1, ">= 0, <= 1"),
        ("moco_v2", "queue", 0, ">= 1"),
        ("split_brain", "area", 0, "> 0, <= 1"),
        ("rotnet", "padding", -0.1, ">= 0, < 1"),
        ("rotnet", "sgd_momentum", 1, ">= 0, < 1"),
        ("rotnet", "weight_decay", -1, ">= 0"),
    ],
)
def test_a_value_out_of_its_bounds_is_refused_by_name(technique, option, odd, bounds):
    """A temperature below 0 learned to push an image's views apart, with rc 0."""
    said = f"--{option.replace('_', '-')} {odd} is not of type"
    with pytest.raises(BadSetting, match=rf"{said} .* within {bounds}"):
        catalog.sort_options({option: odd}, techniques=[technique], backbones=["resnet18"])


def test_bounds_hold_at_their_ends_and_every_default_is_within_its_own():
    for name in catalog.TECHNIQUES:
        defaults = {option.name: option.default for option in catalog.entry("techniques", name).options}
        numbers = {option: value for option, value in defaults.items() if not isinstance(value, str)}  # 1 / 8
        assert catalog.typed_options("techniques", name, numbers) == numbers
    assert catalog.typed_options("techniques", "byol", {"tau": 1, "area": 1.0}) == {"tau": 1, "area": 1.0}


def test_every_number_of_ours_has_bounds_and_the_list_shows_them():
    shown = list(catalog.listed("techniques"))
    for name in catalog.TECHNIQUES:
        for option in catalog.entry("techniques", name).options:
            assert "Annotated" in option.annotation or option.annotation in ("bool", "str"), f"{name} {option.name}"
    assert any("--temperature 0.1 (> 0)" in line for line in shown)
    assert any("--warmup (>= 0)" in line for line in shown)


def test_words_of_others_in_an_annotation_are_no_bounds(tmp_path):
    text = TECHNIQUE.replace(
        "*", "*, odd: Annotated[float, 'in metres'] = 1.0, bound: Annotated[int | None, '>= 2'] = 2", 1
    )
    name = catalog.take("techniques", written(tmp_path, "bounded", text))
    take = functools.partial(catalog.typed_options, "techniques", name)
    assert take({"odd": -1e9}) == {"odd": -1e9} and take({"bound": None}) == {"bound": None}
    with pytest.raises(BadSetting, match=r"--bound 1 is not of type int . None within >= 2"):
        take({"bound": 1})
