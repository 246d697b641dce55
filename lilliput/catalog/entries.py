"""What the file of a technique, backbone, probe or data set says of itself, read from its text."""

import ast
import difflib
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lilliput.catalog.files import KINDS, Location, give, locations, names, singular
from lilliput.errors import BadSetting, UnknownName

LIBRARIES = ("timm/", "torchvision/")  # backbones beyond our own: library/name
BASELINES = ("pixels", "random_init", "random_init_measured", "supervised")  # they stand among techniques in the rows
MEANT = {
    "techniques": "one class with the base Technique",
    "backbones": "a function {name}(*, channels=3, width=1.0)",
    "probes": "a function {name}(exam: Exam)",
    "datasets": "a function prepare(*, image_size=None, limit=None)",
}


@dataclass(frozen=True)
class Option:
    """A keyword-only argument: its name, its annotation as written, its default (as written where not a literal)."""

    name: str
    annotation: str
    default: Any


@dataclass(frozen=True)
class Entry:
    """What a catalogue's file says of itself, and the name of the class or function that is meant."""

    name: str
    summary: str
    source: str
    options: tuple[Option, ...]
    symbol: str | None = None
    file: Path | None = None  # of a user's own


def check(kind: str, name: str) -> str:
    """The name itself, if there is such a thing; UnknownName with the nearest names if not."""
    if name in names(kind) or (kind == "backbones" and name.startswith(LIBRARIES)):
        return name
    raise UnknownName(
        f"no {singular(kind)} {name!r}{did_you_mean(name, names(kind))}; there are {', '.join(names(kind))}"
    )


def did_you_mean(name: str, known: list[str]) -> str:
    """', did you mean ...?' or nothing."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f", did you mean {near[0]!r}?" if near else ""


def take(kind: str, name: str | os.PathLike) -> str:
    """The name of what is given by its name, or by the path of a user's own file, which is known from now on.

    Raises UnknownName, and BadSetting where a file cannot be taken. For what a user says, never for what a record says:
    a file that is known may be imported.
    """
    text = os.fspath(name)
    return _take_file(kind, _existing(text)) if is_path(text) else check(kind, text)


def use(*paths: str | os.PathLike) -> list[str]:
    """Let the files of a user's own techniques, backbones, probes and data sets be known by name; returns the names.

    What a file is, its text tells. Raises BadSetting where it tells nothing of the kind, or the name is taken.
    """
    files = [_existing(os.fspath(path)) for path in paths]
    return [_take_file(_kind_of(file), file) for file in files]


def is_path(name: str) -> bool:
    """Whether a name is that of a file with Python in it."""
    return name.endswith(".py")


def entry(kind: str, name: str) -> Entry:
    """Summary, source and options of a thing, from its file's text."""
    if kind == "backbones" and name.startswith(LIBRARIES):
        options = Option("channels", "int", 3), Option("width", "float", 1.0), Option("stem", "str", "stock")
        return Entry(name, f"{name.split('/', 1)[1]} of {name.split('/', 1)[0]}", "", options)
    return _read(kind, name, locations(kind)[check(kind, name)])


@cache
def _read(kind: str, name: str, location: Location) -> Entry:
    tree = parsed(location.file)
    summary, _, source = (ast.get_docstring(tree) or "").partition("\n\n")
    meant = _definition(tree, kind, name, location.symbol)
    return Entry(
        name,
        " ".join(summary.split()),
        " ".join(source.split()),
        _options(meant),
        location.symbol or (meant.name if meant else None),
        location.file if location.is_own else None,
    )


def parsed(file: Path) -> ast.Module:
    """A file's syntax; BadSetting where it cannot be read."""
    try:
        return ast.parse(file.read_bytes())
    except SyntaxError as error:
        raise BadSetting(f"{file}, line {error.lineno}: {error.msg}") from None
    except (OSError, ValueError) as error:
        raise BadSetting(f"{file} cannot be read ({error})") from None


def literal(node: ast.expr | None) -> Any:
    """The value of a default, or its text where it is computed."""
    if node is None:
        return "(required)"
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def _existing(path: str) -> Path:
    file = Path(os.path.abspath(os.path.expanduser(path)))
    if not (is_path(path) and file.is_file()):
        raise BadSetting(f"there is no file {path!r} with Python in it")
    return file


def _take_file(kind: str, file: Path) -> str:
    name = file.stem
    standing = locations(kind).get(name)
    if standing and file.exists() and standing.file.exists() and file.samefile(standing.file):
        return name
    if standing or name in BASELINES:
        where = f" ({standing.file})" if standing else ""
        raise BadSetting(f"there is a {singular(kind)} {name!r} already{where}; rename {file}")
    if not name.isidentifier() or name.startswith("_"):
        raise BadSetting(f"{name!r} can be no name in Python, or a hidden one; rename {file}")
    if _definition(parsed(file), kind, name) is None:
        raise BadSetting(f"{file} is no {singular(kind)}: it must define {MEANT[kind].format(name=name)}")
    give(kind, file)
    return name


def _kind_of(file: Path) -> str:
    """What a file defines: a probe is known from a backbone by its first argument, an exam."""
    tree = parsed(file)
    defined = {kind: node for kind in KINDS if (node := _definition(tree, kind, file.stem))}
    function = defined.get("probes")
    if isinstance(function, ast.FunctionDef):
        defined.pop("backbones" if _takes_exam(function) else "probes")
    if len(defined) == 1:
        return next(iter(defined))
    meant = "; ".join(f"for a {singular(kind)} {text.format(name=file.stem)}" for kind, text in MEANT.items())
    problem = "defines more than one thing" if defined else "defines nothing of ours"
    raise BadSetting(f"{file} {problem}: it must define {meant}")


def _takes_exam(function: ast.FunctionDef) -> bool:
    arguments = [*function.args.posonlyargs, *function.args.args]
    annotation = arguments[0].annotation if arguments else None
    return annotation is not None and ast.unparse(annotation).strip("'\"").endswith("Exam")


def _definition(
    tree: ast.Module, kind: str, name: str, symbol: str | None = None
) -> ast.ClassDef | ast.FunctionDef | None:
    """The class of a technique, if it is the only one; of other kinds the function of a certain name."""
    if kind == "techniques":
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        meant = [node for node in classes if (node.name == symbol if symbol else _is_technique(node))]
        return meant[0] if len(meant) == 1 else None
    wanted = symbol or ("prepare" if kind == "datasets" else name)
    return next((node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == wanted), None)


def _is_technique(node: ast.ClassDef) -> bool:
    return any(ast.unparse(base).rpartition(".")[2] == "Technique" for base in node.bases)


def _options(meant: ast.ClassDef | ast.FunctionDef | None) -> tuple[Option, ...]:
    """Keyword-only arguments, of a class those of its __init__."""
    if isinstance(meant, ast.ClassDef):
        methods = [node for node in meant.body if isinstance(node, ast.FunctionDef)]
        meant = next((node for node in methods if node.name == "__init__"), None)
    if meant is None:
        return ()
    pairs = zip(meant.args.kwonlyargs, meant.args.kw_defaults, strict=True)
    return tuple(
        Option(arg.arg, ast.unparse(arg.annotation) if arg.annotation else "", literal(default))
        for arg, default in pairs
    )
