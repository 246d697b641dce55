"""What a shell needs to complete our commands, by shtab: flags, and the names of all there is."""

import argparse

from lilliput import catalog
from lilliput.errors import wanted

SHELLS = ("bash", "zsh", "fish", "tcsh")
NAMED = {  # what a flag or an argument takes -> the kind of its names
    **{kind: kind for kind in ("techniques", "backbones", "probes")},
    "technique": "techniques",
    "backbone": "backbones",
    "data": "datasets",
    "judge": "datasets",
    "to": "datasets",
}
FOLDERS = ("run_folder", "study_folder", "checked_folder")
FILES = ("config", "use", "image", "saved", "init", "teacher", "labels")


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The shell's own lines; BadSetting, naming the extra, where shtab is not installed. The parser is used up."""
    shtab = wanted("shtab", extra="completion")
    for verb in parser.get_default("verbs").values():
        for action in verb._actions:
            if action.choices is not None:
                continue
            if action.metavar == "DIR" or action.dest in FOLDERS:
                action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
            elif action.dest in NAMED:
                action.choices = catalog.names(NAMED[action.dest])
            elif action.dest in FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    return shtab.complete(parser, shell=shell)
