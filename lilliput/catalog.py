"""From a name to the thing that its file defines; what there is, with options and sources.

Listing the folder is the registry. Names, sources and options are read from the files' text, so that a list or a
misspelt name costs no import of torch.
"""

import ast
import difflib
import importlib
import inspect
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lilliput.errors import BadSetting, UnknownName

KINDS = ("techniques", "backbones", "probes", "datasets")
# a study's own, in the order of the paper's table
TECHNIQUES = ("rotnet", "moco_v2", "split_brain", "simclr", "byol")
BACKBONES = ("efficientnet_lite0", "mobilenet_v2", "resnet18", "shufflenet_v2", "squeezenet")
LIBRARIES = ("timm/", "torchvision/")  # backbones beyond our own: library/name
HOME = Path(__file__).parent


@dataclass(frozen=True)
class Option:
    """A keyword-only argument: its name, its annotation as written, its default (as written where not a literal)."""

    name: str
    annotation: str
    default: Any


@dataclass(frozen=True)
class Entry:
    """What a catalogue's file says of itself."""

    name: str
    summary: str
    source: str
    options: tuple[Option, ...]


def names(kind: str) -> list[str]:
    """All things of a kind, by their file names."""
    return sorted(path.stem for path in (HOME / kind).glob("*.py") if not path.stem.startswith("_"))


def check(kind: str, name: str) -> str:
    """The name itself, if there is such a thing; UnknownName with the nearest names if not."""
    if name in names(kind) or (kind == "backbones" and name.startswith(LIBRARIES)):
        return name
    singular = kind.removesuffix("s")
    raise UnknownName(f"no {singular} {name!r}{did_you_mean(name, names(kind))}; there are {', '.join(names(kind))}")


def did_you_mean(name: str, known: list[str]) -> str:
    """', did you mean ...?' or nothing."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f", did you mean {near[0]!r}?" if near else ""


@cache
def entry(kind: str, name: str) -> Entry:
    """Summary, source and options of a thing, from its file's text."""
    if name.startswith(LIBRARIES):
        return Entry(name, f"{name.split('/', 1)[1]} of {name.split('/', 1)[0]}", "", _options_of_backbone())
    tree = ast.parse((HOME / kind / f"{check(kind, name)}.py").read_text())
    summary, _, source = (ast.get_docstring(tree) or "").partition("\n\n")
    function = _function(tree, kind, name)
    return Entry(name, " ".join(summary.split()), " ".join(source.split()), _options(function) if function else ())


def module(kind: str, name: str):
    """The module of a thing."""
    return importlib.import_module(f"lilliput.{kind}.{check(kind, name)}")


def technique(name: str) -> Any:
    """The Technique class of a file."""
    from lilliput.techniques import Technique

    home = module("techniques", name)
    found = [
        thing
        for thing in vars(home).values()
        if inspect.isclass(thing) and issubclass(thing, Technique) and thing.__module__ == home.__name__
    ]
    if len(found) != 1:
        raise UnknownName(f"techniques/{name}.py must define one Technique, it defines {len(found)}")
    return found[0]


def backbone_builder(name: str, *, width: float = 1.0, **options):
    """A builder (*, channels=3, width=1.0) -> Backbone; a technique's width multiplies the given one."""
    from lilliput.backbones import library_backbone

    check("backbones", name)
    if name.startswith(LIBRARIES):
        return lambda *, channels=3, width=1.0, outer=width: library_backbone(
            name, channels=channels, width=width * outer, **options
        )
    build = getattr(module("backbones", name), name)
    return lambda *, channels=3, width=1.0, outer=width: build(channels=channels, width=width * outer, **options)


def probe(name: str):
    """The function of a probe's file."""
    return getattr(module("probes", name), name)


def dataset(name: str):
    """The `prepare` function of a data set's file."""
    return module("datasets", name).prepare


def sort_options(options: dict[str, Any], *, techniques: list[str], backbones: list[str]) -> dict[str, dict[str, Any]]:
    """Deal options out to those that take them: {"recipe": {...}, "backbone": {...}, "<technique>": {...}}.

    An option that nobody takes raises UnknownName with the nearest known one.
    """
    types = {name: _types(entry("techniques", name).options) for name in techniques}
    types["recipe"] = _types(tuple(recipe_options().values()))
    types["backbone"] = {"width": "float"}
    for name in backbones:
        types["backbone"] |= _types(entry("backbones", name).options)
    types["backbone"].pop("channels", None)
    takers = {taker: set(known) for taker, known in types.items()}
    dealt: dict[str, dict[str, Any]] = {taker: {} for taker in takers}
    for option, value in options.items():
        who = [taker for taker, known in takers.items() if option in known]
        if not who:
            everything = sorted(set.union(*takers.values()))
            raise UnknownName(
                f"no option {option!r}{did_you_mean(option, everything)}; {', '.join(techniques)} on "
                f"{', '.join(backbones)} take {', '.join(everything)}"
            )
        for taker in who:
            _check_type(option, value, types[taker][option])
            dealt[taker][option] = value
    return dealt


def _check_type(option: str, value: Any, annotation: str) -> None:
    """BadSetting if a value is not of the type that the option's annotation names."""
    kinds = {"float": (int, float), "int": (int,), "bool": (bool,), "str": (str,)}
    wanted = [kind.strip() for kind in annotation.split("|")]
    if not set(wanted) & set(kinds) or (value is None and "None" in wanted):
        return
    fits = any(
        isinstance(value, kinds[kind]) and (kind == "bool" or not isinstance(value, bool))
        for kind in wanted
        if kind in kinds
    )
    if not fits:
        raise BadSetting(f"--{option.replace('_', '-')} {value!r} is not of type {annotation}")


@cache
def recipe_options() -> dict[str, Option]:
    """The settings of a recipe that may be overridden, read from its file."""
    tree = ast.parse((HOME / "optim" / "recipe.py").read_text())
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Recipe")
    fields = [node for node in body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)]
    options = {
        node.target.id: Option(node.target.id, ast.unparse(node.annotation), _literal(node.value))  # type: ignore
        for node in fields
    }
    return {
        name: option for name, option in options.items() if name not in ("options", "rates", "bare", "batch", "epochs")
    }


def parse_value(option: str, text: str) -> Any:
    """A command line's text as a Python value: numbers, true/false, none, else the text itself."""
    if text.lower() in ("true", "false", "none"):
        return {"true": True, "false": False, "none": None}[text.lower()]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # the last of thousands of brackets
        return text
    if not isinstance(value, int | float | str | bool):
        raise BadSetting(f"--{option.replace('_', '-')} {text!r} is neither a number, a word nor true/false")
    return value


def _types(options: tuple[Option, ...]) -> dict[str, str]:
    return {option.name: option.annotation for option in options}


def _options_of_backbone() -> tuple[Option, ...]:
    return Option("channels", "int", 3), Option("width", "float", 1.0), Option("stem", "str", "stock")


def _function(tree: ast.Module, kind: str, name: str) -> ast.FunctionDef | None:
    """The function whose keyword-only arguments are the options: a technique's __init__, else the file's namesake."""
    if kind == "techniques":
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        bases = {node.name: [ast.unparse(base) for base in node.bases] for node in classes}
        body = next((node.body for node in classes if "Technique" in bases[node.name]), [])
        wanted = "__init__"
    else:
        body, wanted = tree.body, "prepare" if kind == "datasets" else name
    return next((node for node in body if isinstance(node, ast.FunctionDef) and node.name == wanted), None)


def _options(function: ast.FunctionDef) -> tuple[Option, ...]:
    pairs = zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    return tuple(
        Option(arg.arg, ast.unparse(arg.annotation) if arg.annotation else "", _literal(default))
        for arg, default in pairs
    )


def _literal(node: ast.expr | None) -> Any:
    if node is None:
        return "(required)"
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)
