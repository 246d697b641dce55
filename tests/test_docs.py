"""What the documents name is there: files, modules, functions, and the words by which they say a test is found."""

import ast
import importlib
import re
from functools import cache
from pathlib import Path

import pytest

import lilliput
from benchmarks import published
from lilliput import catalog

ROOT = Path(lilliput.__file__).parents[1]
NAMES = ("README.md", "NOTEBOOK.md", "results/README.md", "benchmarks/RESULTS.md")
DOCUMENTS = [*(ROOT / name for name in NAMES), *sorted((ROOT / "docs").glob("*.md"))]
every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())


@every_document
def test_every_file_that_a_document_names_is_there(document):
    text = document.read_text(encoding="utf-8")
    named = re.findall(r"(?<![\w/.-])(?:tests|lilliput|benchmarks|docs|results|\.ci)/[\w./-]*\w/?", text)
    bare = re.findall(r"(?<![\w/.-])test_\w+\.py", text)
    assert [path for path in {*named, *bare} if not (ROOT / path).exists()] == []


@every_document
def test_every_link_leads_to_a_file(document):
    links = re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8"))
    local = [link for link in links if not link.startswith("http")]
    assert [link for link in local if not (document.parent / link).exists()] == []


@every_document
def test_every_module_and_function_of_ours_that_a_document_names_is_there(document):
    text = document.read_text(encoding="utf-8")
    named = set(re.findall(r"\b((?:lilliput|benchmarks)(?:\.[A-Za-z_]\w*)+)", text))
    named |= {f"{module}.{name}" for module, names in imports_in(text) for name in names}
    groups = {f"lilliput.{kind}" for kind in catalog.KINDS}
    assert [name for name in named - groups if not reached(name)] == []


def imports_in(text):
    """(module, names) of every `from lilliput... import ...` in a document's code."""
    for module, names in re.findall(r"^from ((?:lilliput|benchmarks)[\w.]*) import (.+)$", text, re.MULTILINE):
        yield module, names.split(", ")


def reached(name):
    """Whether a dotted name is a module, or what a module has."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            owner = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(owner, part):
                return False
            owner = getattr(owner, part)
        return True
    return False


@cache
def names_of_tests():
    files = (ROOT / "tests").rglob("test_*.py")
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in files]
    functions = [node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return [name for name in functions if name.startswith("test_")]


@every_document
def test_the_words_by_which_a_document_says_a_test_is_found_are_in_the_name_of_one(document):
    expressions = re.findall(r'-k ("[^"]+"|\w+)', document.read_text(encoding="utf-8").replace("-k WORDS", ""))
    words = {word for expression in expressions for word in expression.strip('"').split(" or ")}
    assert [word for word in words if not any(word in name for name in names_of_tests())] == []


@pytest.mark.parametrize("name", published.DOCUMENTS)
def test_published_tables_are_what_the_rows_say(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert published.renewed(text) == text, "`python -m benchmarks.published` writes them anew"
    assert (
        published.renewed(text.replace("| SimCLR |", "| somebody's |")) == text != text.replace("| SimCLR |", "| x |")
    )
