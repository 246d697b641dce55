"""Files of a user's own, taken by path: checked by their text, then known by name here and in child processes."""

import ast
import os
from pathlib import Path

from lilliput.catalog.entries import MEANT, check, definition_of, is_path, parsed
from lilliput.catalog.files import BASELINES, KINDS, give, locations, singular
from lilliput.errors import BadSetting


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
    if kind == "techniques" and name in BASELINES:
        raise BadSetting(f"{name!r} is the name of a baseline; rename {file}")
    if standing:
        raise BadSetting(f"there is a {singular(kind)} {name!r} already ({standing.file}); rename {file}")
    if not name.isidentifier() or name.startswith("_"):
        raise BadSetting(f"{name!r} can be no name in Python, or a hidden one; rename {file}")
    if definition_of(parsed(file), kind, name) is None:
        raise BadSetting(f"{file} is no {singular(kind)}: it must define {MEANT[kind].format(name=name)}")
    give(kind, file)
    return name


def _kind_of(file: Path) -> str:
    """What a file defines: a probe is known from a backbone by its first argument, an exam."""
    tree = parsed(file)
    defined = {kind: node for kind in KINDS if (node := definition_of(tree, kind, file.stem))}
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
