"""Options: read from the command line's words, seen to be of the types that are asked for, dealt to those that take
them."""

import ast
import json
import operator
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from lilliput.catalog.entries import Option, did_you_mean, entry, literal, parsed
from lilliput.catalog.files import HOME
from lilliput.errors import BadSetting, UnknownName

NOT_OVERRIDDEN = ("options", "rates", "bare", "presets", "batch", "epochs")  # two have flags of their own
OF_BACKBONES = {"width": "float", "channels_kept": "dict[str, int] | None"}  # that every one takes
WORDS = {"true": True, "false": False, "none": None, "null": None}
SCALARS: dict[str, tuple[type, ...]] = {"float": (int, float), "int": (int,), "bool": (bool,), "str": (str,)}
BOUND = re.compile(r"(<=?|>=?)\s*(-?\d+(?:\.\d+)?(?:e-?\d+)?)")  # of an option: Annotated[float, "> 0, <= 1"]
COMPARED = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}

Dealt = dict[str, dict[str, Any]]


def sort_options(
    options: dict[str, Any], *, techniques: Sequence[str], backbones: Sequence[str], others: Sequence[str] = ()
) -> dict[str, Dealt]:
    """Deal options to all that take them: {"recipe": {...}, "techniques": {name: {...}}, "backbones": {name: {...}}}.

    Values come out as their annotations want them: a list as a tuple. Raises UnknownName with the nearest known name
    for an option that nobody takes (`others` are names that the caller takes itself), and BadSetting for a value that
    is of another type or cannot be written as JSON.
    """
    recipe = _types(recipe_options().values())
    of_techniques = {name: _types_of("techniques", name) for name in techniques}
    of_backbones = {name: _types_of("backbones", name) for name in backbones}
    known = set().union(recipe, *of_techniques.values(), *of_backbones.values())
    for option in options:
        if option not in known:
            raise UnknownName(
                f"no option {option!r}{did_you_mean(option, sorted({*known, *others}))}; {', '.join(techniques)} on "
                f"{', '.join(backbones)} take {', '.join(sorted(known))}"
            )
    return {
        "recipe": _fitted(options, recipe),
        "techniques": {
            name: _fitted(options, types, entry("techniques", name).file) for name, types in of_techniques.items()
        },
        "backbones": {
            name: _fitted(options, types, entry("backbones", name).file) for name, types in of_backbones.items()
        },
    }


def typed_options(kind: str, name: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options of a technique or backbone as a record has them, with the types that they had before.

    Raises UnknownName for an option that it does not take and BadSetting for a value of another type.
    """
    types = _types_of(kind, name)
    if unknown := sorted(set(options) - set(types)):
        raise UnknownName(f"{name} takes no option {unknown[0]!r}")
    return _fitted(options, types, entry(kind, name).file)


@cache
def recipe_options() -> dict[str, Option]:
    """The settings of a recipe that may be overridden, read from its file."""
    tree = parsed(HOME / "optim" / "recipe.py")
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Recipe")
    return {
        node.target.id: Option(node.target.id, ast.unparse(node.annotation), literal(node.value))
        for node in body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        if node.target.id not in NOT_OVERRIDDEN
    }


def parse_value(option: str, text: str) -> Any:
    """A command line's text as a Python value: JSON, a number, true/false/none, else the text itself."""
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        pass
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # the last of thousands of brackets
        return text
    if not isinstance(value, int | float | str | bool):
        raise BadSetting(f"{_flag(option)} {text!r} is neither a number, a word, true/false nor JSON")
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _types_of(kind: str, name: str) -> dict[str, str]:
    types = _types(entry(kind, name).options)
    if kind == "backbones":
        types = OF_BACKBONES | types
        types.pop("channels", None)  # the technique's to say
    return types


def _types(options) -> dict[str, str]:
    return {option.name: option.annotation for option in options}


def _fitted(options: dict[str, Any], types: dict[str, str], file: Path | None = None) -> dict[str, Any]:
    """The options that are among the types; `file`, a user's own, is where the types are written."""
    try:
        return {name: _fit_option(name, value, types[name]) for name, value in options.items() if name in types}
    except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise BadSetting(f"{file} has an annotation that is no type ({error})") from None


def _fit_option(option: str, value: Any, annotation: str) -> Any:
    if hasattr(value, "dtype") and getattr(value, "ndim", None) == 0:  # a number of numpy's or torch's
        value = value.item()
    if not _survives_json(value):
        raise BadSetting(f"{_flag(option)} {value!r:.80} cannot be written as JSON, so no run can record it")
    try:
        return _fit(value, ast.parse(annotation, mode="eval").body) if annotation else value
    except ValueError:
        kind, bounds = type_and_bounds(annotation)
        within = f" within {bounds}" if bounds else ""
        raise BadSetting(f"{_flag(option)} {value!r} is not of type {kind}{within}") from None


def type_and_bounds(annotation: str) -> tuple[str, str]:
    """Of Annotated[float, "> 0, <= 1"] both parts as they are written; of others no bounds."""
    match ast.parse(annotation, mode="eval").body if annotation else None:
        case ast.Subscript(
            value=ast.Name(id="Annotated"), slice=ast.Tuple(elts=[kind, ast.Constant(value=str(bounds))])
        ):
            return ast.unparse(kind), bounds
    return annotation, ""


def _survives_json(value: Any) -> bool:
    """Whether it comes back from JSON as it was: no infinity or NaN, no keys but strings; a tuple comes as a list."""
    try:
        return json.loads(json.dumps(value, allow_nan=False)) == _with_lists(value)
    except (TypeError, ValueError, RecursionError):
        return False


def _with_lists(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_with_lists(item) for item in value]
    if isinstance(value, dict):
        return {key: _with_lists(item) for key, item in value.items()}
    return value


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"


def _fit(value: Any, annotation: ast.expr) -> Any:
    """The value as an annotation wants it; ValueError if it cannot be. Annotations that say nothing here take all."""
    match annotation:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _fit_either(value, left, right)
        case ast.Subscript(value=ast.Name(id="Annotated"), slice=ast.Tuple(elts=[kind, *others])):
            value = _fit(value, kind)
            for other in others:
                if isinstance(other, ast.Constant) and isinstance(other.value, str):
                    _require(value is None or _is_within(value, other.value))
        case ast.Constant(value=None):
            _require(value is None)
        case ast.Constant(value=str(text)):
            return _fit(value, ast.parse(text, mode="eval").body)
        case ast.Name(id="int") if isinstance(value, float) and value.is_integer():
            return int(value)
        case ast.Name(id=name) if name in SCALARS:
            _require(isinstance(value, SCALARS[name]) and (name == "bool" or not isinstance(value, bool)))
        case ast.Subscript(value=ast.Name(id="Literal"), slice=allowed):
            choices = ast.literal_eval(allowed)
            _require(value in (choices if isinstance(choices, tuple) else (choices,)))
        case ast.Name(id="tuple" | "list" | "dict" as name):
            return _fit_container(value, name, [])
        case ast.Subscript(value=ast.Name(id="tuple" | "list" | "dict" as name), slice=inner):
            return _fit_container(value, name, inner.elts if isinstance(inner, ast.Tuple) else [inner])
    return value


def _is_within(value: Any, bounds: str) -> bool:
    """Whether a number keeps bounds like "> 0, <= 1"; what is written otherwise is no bound of ours, and none."""
    found = [BOUND.fullmatch(bound.strip()) for bound in bounds.split(",")]
    if not all(found):
        return True
    return all(COMPARED[match[1]](value, float(match[2])) for match in found if match)


def _fit_either(value: Any, left: ast.expr, right: ast.expr) -> Any:
    try:
        return _fit(value, left)
    except ValueError:
        return _fit(value, right)


def _fit_container(value: Any, name: str, inner: list[ast.expr]) -> Any:
    """A tuple, list or dict, and in it what the annotations between the brackets want."""
    if name == "dict":
        _require(isinstance(value, dict))
        return {key: _fit(item, inner[1]) for key, item in value.items()} if len(inner) == 2 else value
    _require(isinstance(value, list | tuple))
    if name == "list":
        return [_fit(item, inner[0]) for item in value] if inner else list(value)
    if not inner:
        return tuple(value)
    if ast.unparse(inner[-1]) == "...":
        inner = [inner[0]] * len(value)
    _require(len(inner) == len(value))
    return tuple(_fit(item, wanted) for item, wanted in zip(value, inner, strict=True))


def _require(fits: bool) -> None:
    if not fits:
        raise ValueError("of another type")
