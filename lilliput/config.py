"""A command's settings in a file of TOML: read as the words that say the same, and written.

Keys are the flags' names, with - or _ between their words, and the names of what a command takes without a flag.
"""

import argparse
import json
import re
import tomllib
from pathlib import Path
from typing import Any

from lilliput.catalog import did_you_mean, parse_value
from lilliput.errors import BadSetting, UnknownName

OF_FILES = ("help", "config", "print_config")  # flags that no file says


def words_of(file: str, verb: argparse.ArgumentParser) -> list[str]:
    """What a file says as words of the command; what stands there without a flag becomes the verb's default.

    Raises BadSetting where the file is no TOML, and UnknownName, with the nearest one, for a key that is no setting;
    in commands that take options those are told apart later.
    """
    actions, words = _settings(verb), []
    for key, value in _read(file).items():
        name = key.replace("-", "_")
        action = actions.get(name)
        if action is None and not verb.get_default("takes_options"):
            raise UnknownName(f"{file}: {verb.prog} has no setting {key!r}{did_you_mean(name, list(actions))}")
        if action is None:
            words.append(f"--{name.replace('_', '-')}={_option(name, value)}")
        elif action.option_strings:
            words += _flag(action, value)
        else:
            action.nargs, action.required = ("*" if action.nargs == "+" else "?"), False
            action.default = _items(value) if action.nargs == "*" else _one(key, value)
    return words


def written(verb: argparse.ArgumentParser, arguments: argparse.Namespace, options: dict[str, Any]) -> str:
    """The settings of a command as TOML that `words_of` reads to the same; what nobody has said is not there."""
    said = {name: getattr(arguments, action.dest) for name, action in _settings(verb).items()}
    said = {name: value for name, value in said.items() if value is not None and value is not False}
    lines = [f"{name} = {_toml(value)}\n" for name, value in said.items() if value != [] or name != "use"]
    return "".join(
        [f"# {verb.prog}\n", *lines, *(f"{_key(name)} = {_toml(value)}\n" for name, value in options.items())]
    )


def _read(file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(file).expanduser().read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadSetting(f"{file} is no TOML: {error}") from None


def _settings(verb: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Key -> what it sets; options of techniques and the like are not among them."""
    actions = {}
    for action in verb._actions:
        name = next((flag[2:] for flag in action.option_strings if flag.startswith("--")), action.dest)
        if action.dest not in OF_FILES and not action.dest.startswith("--"):
            actions[name.replace("-", "_")] = action
    return actions


def _flag(action: argparse.Action, value: Any) -> list[str]:
    flag = action.option_strings[-1]
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise BadSetting(f"{flag[2:]} = {value!r} is neither true nor false")
        return [flag] if value else []
    if action.nargs in ("+", "*"):
        return [flag, *_items(value)]
    return [f"{flag}={_one(flag[2:], value)}"]


def _one(name: str, value: Any) -> str:
    """A number or a text, as a word."""
    if isinstance(value, bool | list | dict):
        raise BadSetting(f"{name} = {value!r} is neither a number nor a text")
    return str(value)


def _items(value: Any) -> list[str]:
    """Words of a list, of a table that stands for NAME=VALUE, or of one value alone."""
    if isinstance(value, dict):
        return [f"{name}={_option(name, item)}" for name, item in value.items()]
    return [str(item) for item in (value if isinstance(value, list) else [value])]


def _option(name: str, value: Any) -> str:
    """The text that the command line reads as this value."""
    if isinstance(value, str) and parse_value(name, value) in (value, None):  # "none" stands for None, as it does there
        return value
    try:
        return json.dumps(value)
    except TypeError:  # a date
        raise BadSetting(f"{name} = {value} is neither a number, a text, true, false, a list nor a table") from None


def _toml(value: Any) -> str:
    if value is None:
        return '"none"'
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_key(name)} = {_toml(item)}' for name, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    text = json.dumps(value, ensure_ascii=False)
    return "".join(letter if letter.isprintable() else f"\\U{ord(letter):08x}" for letter in text)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[\w-]+", name, re.ASCII) else _toml(name)
