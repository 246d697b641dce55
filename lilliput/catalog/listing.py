"""What there is, in lines for people: names, summaries, sources, options."""

from collections.abc import Iterator

from lilliput.catalog.entries import Entry, Option, entry
from lilliput.catalog.files import KINDS, names
from lilliput.catalog.options import recipe_options, type_and_bounds
from lilliput.errors import LilliputError


def listed(kind: str | None = None) -> Iterator[str]:
    """Of one kind or of all."""
    for each in [kind] if kind else KINDS:
        yield each
        for name in names(each):
            try:
                lines = list(_described(each, entry(each, name)))
            except LilliputError as error:  # one file that cannot be read hides no others
                lines = [f"{name}: {error}"]
            yield from (f"  {line}" for line in lines)
        yield ""
    if kind in (None, "backbones"):
        yield "backbones beyond these: timm/NAME and torchvision/NAME, any classification network of theirs"
    if kind in (None, "datasets"):
        yield "data sets beyond these: hf/NAME[:IMAGE[:LABEL]], of Hugging Face's hub or (hf/./FOLDER) in its form here"
    if kind in (None, "techniques"):
        settings = [f"{_flag(name)}{_bounds(option)}" for name, option in recipe_options().items()]
        yield f"recipe (small or paper, per technique; each can be overridden): {', '.join(settings)}"


def _described(kind: str, entry: Entry) -> Iterator[str]:
    yield f"{entry.name}: {entry.summary}"
    if entry.source:
        yield f"    {entry.source}"
    if entry.file:
        yield f"    your own: {entry.file}"
    options = [option for option in entry.options if option.name != "channels"]
    if options and kind in ("techniques", "backbones"):
        shown = [f"{_flag(option.name)} {option.default}{_bounds(option)}" for option in options]
        yield f"    options: {', '.join(shown)}"
    elif options:
        yield f"    options in Python: {', '.join(f'{option.name}={option.default}' for option in options)}"


def _bounds(option: Option) -> str:
    try:
        bounds = type_and_bounds(option.annotation)[1]
    except SyntaxError:
        return ""
    return f" ({bounds})" if bounds else ""


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
