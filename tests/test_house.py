"""The house: rooms import downwards only, without circles; what is in them is short; the README names every room."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import lilliput

HOME = Path(lilliput.__file__).parent
FLOORS = (
    ("_version", "errors"),
    ("catalog", "system", "zoo"),
    ("images", "tracking"),
    ("backbones", "data", "optim"),
    ("techniques", "datasets"),
    ("probes",),
    ("training",),
    ("studies",),
    ("reports",),
    ("advice", "detection", "gallery", "deploy"),
    ("api",),
    ("completing", "config", "flags"),
    ("parser",),
    ("cli",),
    ("__main__", "__init__"),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
MODULES = {".".join(path.relative_to(HOME).with_suffix("").parts): path for path in sorted(HOME.rglob("*.py"))}
DRAWINGS = "datasets._scenes."
LONGEST_FUNCTION, LONGEST_FILE = 60, 450  # lines


@cache
def tree_of(module):
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def room_of(module):
    return module.split(".")[0]


@cache
def imports_of(module):
    """The modules of the package that a module imports, wherever in it; a package stands for its __init__."""
    imported = set()
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports {node.module} by a relative name"
            if node.module and node.module.split(".")[0] == "lilliput":
                imported |= {resolved(f"{node.module}.{alias.name}") for alias in node.names}
        elif isinstance(node, ast.Import):
            imported |= {resolved(alias.name) for alias in node.names if alias.name.split(".")[0] == "lilliput"}
    return sorted(imported - {module})


def resolved(name):
    """The module that `from lilliput.x import y` or `import lilliput.x` reaches."""
    parts = name.split(".")[1:]
    for length in (len(parts), len(parts) - 1):
        for candidate in (".".join(parts[:length]), ".".join([*parts[:length], "__init__"])):
            if candidate in MODULES:
                return candidate
    raise AssertionError(f"nothing in the package is called {name}")


def test_every_room_has_its_floor():
    assert {room_of(module) for module in MODULES} == set(FLOOR)


@pytest.mark.parametrize("room", FLOOR)
def test_rooms_import_downwards_only(room):
    upwards = [
        f"{module} -> {imported}"
        for module in MODULES
        if room_of(module) == room
        for imported in imports_of(module)
        if room_of(imported) != room and FLOOR[room_of(imported)] >= FLOOR[room]
    ]
    assert upwards == []


@pytest.mark.parametrize("room", FLOOR)
def test_what_a_room_keeps_to_itself_is_imported_within_it_alone(room):
    """A package's `__init__` hands on what others call. Files that the catalog finds by name have public names."""
    foreign = [
        f"{module} -> {imported}"
        for module in MODULES
        if room_of(module) == room
        for imported in imports_of(module)
        if room_of(imported) != room and any(re.match("_[^_]", part) for part in imported.split(".")[1:])
    ]
    assert foreign == []


def test_no_modules_import_each_other_in_a_circle():
    done, circles = set(), []

    def visit(module, path):
        if module in path:
            circles.append(" -> ".join([*path[path.index(module) :], module]))
        elif module not in done:
            for imported in imports_of(module):
                visit(imported, [*path, module])
            done.add(module)

    for module in MODULES:
        visit(module, [])
    assert circles == []


@pytest.mark.parametrize("module", [module for module in MODULES if not module.startswith(DRAWINGS)])
def test_functions_and_files_are_short(module):
    functions = [node for node in ast.walk(tree_of(module)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {node.name: node.end_lineno - node.lineno + 1 for node in functions}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE


def test_every_folder_says_in_a_line_what_it_is():
    folders = {path.parent for path in MODULES.values()}
    for folder in folders:
        tree = ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))
        docstring = ast.get_docstring(tree)
        assert docstring and "\n" not in docstring.split("\n\n")[0], f"{folder} says nothing of itself"


def test_the_tree_in_the_readme_names_every_room_and_nothing_else():
    """A line of the tree begins with two spaces and the names of rooms; what they are for follows."""
    readme = (HOME.parent / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w*\n(lilliput/\n.*?)^```", readme, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1, "the README shows the tree in one block that begins with lilliput/"
    starts = re.findall(r"^  ((?:\w+(?:/|\.py)(?:\s+|$))+)", blocks[0], re.MULTILINE)
    named = [name for start in starts for name in start.split()]
    folders = [f"{path.parent.name}/" for path in HOME.glob("*/__init__.py")]
    assert sorted(named) == sorted([*folders, *(path.name for path in HOME.glob("*.py"))])
