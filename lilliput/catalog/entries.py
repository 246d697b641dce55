"""What the file of a technique, backbone, probe or data set says of itself, read from its text."""

import ast
import difflib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lilliput.catalog.files import Location, digest_of, locations, names, singular
from lilliput.errors import BadSetting, UnknownName

LIBRARIES = ("timm/", "torchvision/")  # backbones beyond our own: library/name
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
    beyond = f", and {'NAME, '.join(LIBRARIES)}NAME of the libraries" if kind == "backbones" else ""
    raise UnknownName(
        f"no {singular(kind)} {name!r}{did_you_mean(name, names(kind))}; there are {', '.join(names(kind))}{beyond}"
    )


def did_you_mean(name: str, known: list[str]) -> str:
    """', did you mean ...?' or nothing."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f", did you mean {near[0]!r}?" if near else ""


def is_path(name: str) -> bool:
    """Whether a name is that of a file with Python in it."""
    return name.endswith(".py")


def entry(kind: str, name: str) -> Entry:
    """Summary, source and options of a thing, from its file's text."""
    if kind == "backbones" and name.startswith(LIBRARIES):
        options = Option("channels", "int", 3), Option("width", "float", 1.0), Option("stem", "str", "stock")
        return Entry(name, f"{name.split('/', 1)[1]} of {name.split('/', 1)[0]}", "", options)
    location = locations(kind)[check(kind, name)]
    return _read(kind, name, location, digest_of(location.file))


@cache
def _read(kind: str, name: str, location: Location, _digest: str) -> Entry:
    """Once for every text that the file has had."""
    tree = parsed(location.file)
    try:
        return _described(tree, kind, name, location)
    except (TypeError, RecursionError) as error:  # a default like {[]: 1}, or a sum of a thousand terms
        raise BadSetting(f"{location.file} cannot be read ({error})") from None


def _described(tree: ast.Module, kind: str, name: str, location: Location) -> Entry:
    summary, _, source = (ast.get_docstring(tree) or "").partition("\n\n")
    meant = definition_of(tree, kind, name, location.symbol)
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
    except (MemoryError, RecursionError):
        raise BadSetting(f"{file} cannot be read: it is nested too deeply") from None
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


def definition_of(
    tree: ast.Module, kind: str, name: str, symbol: str | None = None
) -> ast.ClassDef | ast.FunctionDef | None:
    """The class of a technique, if it is the only one; of other kinds the function of a certain name."""
    if kind == "techniques":
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        meant = [node for node in classes if (node.name == symbol if symbol else _is_technique(node, tree))]
        return meant[0] if len(meant) == 1 else None
    wanted = symbol or ("prepare" if kind == "datasets" else name)
    return next((node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == wanted), None)


def _is_technique(node: ast.ClassDef, tree: ast.Module) -> bool:
    """Whether a class extends Technique, or one that the file has from another technique's file."""
    imports = (line for line in tree.body if isinstance(line, ast.ImportFrom))
    names = [alias.asname or alias.name for line in imports if _of_techniques(line) for alias in line.names]
    return any(ast.unparse(base).rpartition(".")[2] in ("Technique", *names) for base in node.bases)


def _of_techniques(line: ast.ImportFrom) -> bool:
    return (line.module or "").startswith("lilliput.techniques.")


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
