"""The command line: study, pretrain, probe, report, verify, compare, prepare, list."""

import argparse
import os
import platform
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from lilliput import catalog
from lilliput._version import version
from lilliput.errors import LilliputError, UnknownName
from lilliput.system import signals, streams
from lilliput.system.visible import visible

Command = Callable[[argparse.Namespace, dict[str, Any]], int]

RECIPES = ("small", "large", "paper")
SOURCE = ("pool", "folder", "image_size", "limit")  # flags that a function of the same parameters gets as they are
TRAINING = ("recipe", "epochs", "every", "batch", "until_converged", "score", "country", "device")
GRID = ("techniques", "backbones", "probes")
FILES = "where the files of a named data set are"
TUNABLES = ":".join(
    f"glibc.malloc.{name}={value}"
    for name, value in (("hugetlb", 1), ("mmap_threshold", 2**32), ("trim_threshold", 2**33))
)


def main(argv: list[str] | None = None) -> int:
    """Run a command; 0 when all went well, 1 on an error that the user can mend or a failed cell, 130 on Ctrl-C."""
    streams.keep_speaking()
    arguments, rest = _parsed(sys.argv[1:] if argv is None else argv)
    try:
        if argv is None and arguments.computes:
            _keep_memory()
        return _run(arguments, rest)
    except LilliputError as error:
        print(f"lilliput: {visible(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nlilliput: stopped; the same command goes on from the last whole epoch", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `lilliput list | head`
        streams.print_no_more()
        return 0
    except OSError as error:  # a name that is too long, a folder that is closed
        where = f"{error.filename}: " if error.filename else ""
        print(f"lilliput: {visible(f'{where}{error.strerror or error}')}", file=sys.stderr)
        if not error.filename:  # of what we print to: what it could not take is not tried again at the end
            with suppress(OSError):
                streams.print_no_more()
        return 1


def _run(arguments: argparse.Namespace, rest: list[str]) -> int:
    _none_left(rest, arguments)
    options = _extra_options(arguments)
    catalog.use(*arguments.use)
    with signals.listening():
        try:
            status = arguments.run(arguments, options)
            sys.stdout.flush()  # a full disk is told here, or not at all
            return status
        except signals.Stopped as stop:
            print(f"lilliput: {stop}", file=sys.stderr)
            return 128 + (signals.asked() or 0)


def _keep_memory() -> None:
    """Start this command anew with glibc told to keep freed memory and to use huge pages: a third faster on a CPU.

    glibc reads its tunables before Python starts, so they cannot be set later. A value that is there is respected.
    """
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc" or "GLIBC_TUNABLES" in os.environ:
        return
    os.environ["GLIBC_TUNABLES"] = TUNABLES
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def make_parser() -> argparse.ArgumentParser:
    """All commands with their flags; `run` of what is parsed is the command's function."""
    parser = argparse.ArgumentParser(
        prog="lilliput",
        description="Pretrain small vision networks without labels, and measure what they learn while they learn it.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"lilliput {version}")
    verbs = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in (_add_study, _add_pretrain, _add_probe, _add_report, _add_verify, _add_compare, _add_prepare, _add_list):
        add(verbs)
    parser.set_defaults(verbs=verbs.choices)
    return parser


def _add_study(verbs) -> None:
    text = "a grid of techniques x backbones: pretrain, judge, table and figures"
    study = _verb(verbs, "study", _study, text, computes=True, takes_options=True)
    _data_flags(study)
    _training_flags(study)
    study.add_argument("--judge", metavar="DATA", help="labelled data to judge by, if not --data")
    study.add_argument(
        "--techniques",
        nargs="+",
        default=catalog.TECHNIQUES,
        metavar="NAME",
        help="default: the five; also a file of your own, pairs.py",
    )
    study.add_argument(
        "--backbones",
        nargs="+",
        default=catalog.BACKBONES,
        metavar="NAME",
        help="default: the five; also timm/NAME, torchvision/NAME, a file of your own",
    )
    study.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="N", help="default: 0")
    _probes_flag(study)
    study.add_argument(
        "--leave-out",
        choices=["exact", "near"],
        help="train and fit without images that are in the test set too: the same pixels, or nearly the same as well",
    )
    study.add_argument(
        "--workers",
        type=_positive,
        metavar="N",
        help="cells at once, each in a process (default: what suits the machine)",
    )


def _add_pretrain(verbs) -> None:
    text = "one technique on one backbone"
    pretrain = _verb(verbs, "pretrain", _pretrain, text, computes=True, takes_options=True)
    pretrain.add_argument("technique")
    pretrain.add_argument("backbone")
    _data_flags(pretrain)
    _training_flags(pretrain)
    pretrain.add_argument("--seed", type=int, default=0, help="default: %(default)s")


def _add_probe(verbs) -> None:
    probe = _verb(verbs, "probe", _probe, "judge the saved encoders of a run", computes=True)
    probe.add_argument("run_folder", metavar="RUN")
    probe.add_argument(
        "--data", default="scenes", metavar="DATA", help="a labelled data set or folder (default: %(default)s)"
    )
    probe.add_argument("--folder", metavar="DIR", help=FILES)
    _probes_flag(probe)
    probe.add_argument("--at", nargs="+", type=int, metavar="EPOCH", help="only the checkpoints of these epochs")
    _machine_flags(probe)


def _add_report(verbs) -> None:
    text = "table, figures and report.html of a study, from its folder"
    report = _verb(verbs, "report", _report, text, computes=True)
    report.add_argument("study_folder", metavar="STUDY")
    report.add_argument("--data", metavar="DATA", help="what judged the study, if it is not prepared here any more")
    report.add_argument("--folder", metavar="DIR", help=FILES)


def _add_verify(verbs) -> None:
    text = "whether a run or study can be believed: digests, and rows anew"
    verify = _verb(verbs, "verify", _verify, text, computes=True)
    verify.add_argument("checked_folder", metavar="FOLDER")
    verify.add_argument(
        "--sample",
        type=_positive,
        default=6,
        metavar="N",
        help="judged encoders to compute anew (default: %(default)s)",
    )
    verify.add_argument("--seed", type=int, default=0, help="which (default: %(default)s)")
    verify.add_argument("--data", metavar="DATA", help="what judged it, if it is not prepared here any more")
    verify.add_argument("--folder", metavar="DIR", help=FILES)


def _add_compare(verbs) -> None:
    compare = _verb(verbs, "compare", _compare, "two studies side by side, or a study and the paper's Table 1")
    compare.add_argument("first", metavar="STUDY")
    compare.add_argument("second", metavar="STUDY", help="another study, or the word paper")


def _add_prepare(verbs) -> None:
    prepare = _verb(verbs, "prepare", _prepare, "fetch, verify and decode a data set")
    prepare.add_argument("data", metavar="DATA")
    _source_flags(prepare)


def _add_list(verbs) -> None:
    listing = _verb(verbs, "list", _list, "techniques, backbones, probes and data sets, with options and sources")
    listing.add_argument("kind", nargs="?", choices=catalog.KINDS, metavar="KIND", help=", ".join(catalog.KINDS))


def _verb(
    verbs, name: str, run: Command, text: str, *, computes: bool = False, takes_options: bool = False
) -> argparse.ArgumentParser:
    epilog = "Any option of the technique, backbone or recipe can be given as --name value: see `lilliput list`."
    parser = verbs.add_parser(
        name, help=text, description=text, epilog=epilog if takes_options else None, allow_abbrev=False
    )
    parser.add_argument(
        "--use",
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help="techniques, backbones, probes and data sets of your own, to be known by their files' names",
    )
    parser.set_defaults(run=run, computes=computes, takes_options=takes_options)
    return parser


def _data_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        default="scenes",
        metavar="DATA",
        help="a data set's name or file, or a folder of images (default: %(default)s)",
    )
    _source_flags(parser)


def _source_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pool", metavar="DIR", help="a folder of unlabelled images to learn from instead")
    parser.add_argument("--folder", metavar="DIR", help=FILES)
    parser.add_argument("--image-size", type=_positive, metavar="PX", help="default: the data's own")
    parser.add_argument(
        "--limit", type=_positive, metavar="N", help="use at most so many unlabelled images (default: all)"
    )


def _training_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", metavar="DIR", help="the folder of the results (default: under runs/)")
    parser.add_argument("--recipe", choices=RECIPES, help="default: small, or large from 50,000 images of 64 px on")
    parser.add_argument("--epochs", type=_positive, metavar="N", help="default: the recipe's")
    parser.add_argument(
        "--every", type=_positive, default=5, metavar="N", help="epochs between saved encoders (default: %(default)s)"
    )
    parser.add_argument("--batch", type=_positive, metavar="N", help="default: the recipe's")
    parser.add_argument(
        "--until-converged", type=_positive, metavar="N", help="stop once the score has not improved for N checkpoints"
    )
    parser.add_argument("--score", choices=["rank", "knn"], help="what must improve (default: knn if there are labels)")
    parser.add_argument(
        "--country",
        default="USA",
        metavar="ISO",
        help="whose electricity, for the CO2 (three letters; default: %(default)s)",
    )
    _machine_flags(parser)


def _probes_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--probes", nargs="+", default=["linear", "knn"], metavar="NAME", help="default: linear knn")


def _machine_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: the best there is)")
    parser.add_argument(
        "--deterministic", action="store_true", help="the same bits on CUDA too, where that costs speed (see docs)"
    )
    parser.add_argument(
        "--plan",
        nargs="+",
        metavar="KEY=VALUE",
        help="fix by hand what is else measured: precision=fp32, bf16 or fp16; channels_last=, compile= true or false; "
        "threads=N",
    )


def _positive(text: str) -> int:
    value = int(text) if text.lstrip("-").isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return value


def _parsed(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The command's flags, and of a command that takes options every other --name with its value, in any place.

    They join the flags under their whole names, --name; a flag may be written with _ for -.
    """
    parser = make_parser()
    words = [_hyphened(word) if word.startswith("--") else word for word in argv]
    verb = parser.get_default("verbs").get(words[0] if words else None)
    if verb is None:
        return parser.parse_known_args(words)
    verb.set_defaults(flags=_flags_of(verb))
    if verb.get_default("takes_options"):
        for flag in dict.fromkeys(word.partition("=")[0] for word in words):
            if flag.startswith("--") and flag not in (*_flags_of(verb), "--", "--help"):
                verb.add_argument(flag, dest=flag, nargs="?", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return parser.parse_known_args(words)


def _hyphened(word: str) -> str:
    flag, equals, value = word.partition("=")
    return flag.replace("_", "-") + equals + value


def _flags_of(verb: argparse.ArgumentParser) -> list[str]:
    return [flag for action in verb._actions for flag in action.option_strings if flag.startswith("--")]


def _extra_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Options of techniques, backbones and recipes, by their names in Python."""
    options: dict[str, Any] = {}
    for flag, value in vars(arguments).items():
        if flag.startswith("--"):
            if value is None:
                raise UnknownName(f"{flag} needs a value{_meant_flag(flag, arguments)}")
            name = flag[2:].replace("-", "_")
            options[name] = catalog.parse_value(name, value)
    return options


def _none_left(words: list[str], arguments: argparse.Namespace) -> None:
    if words and arguments.takes_options:
        raise UnknownName(f"what is {words[0]!r}? options are given as --name value")
    if words:
        meant = _meant_flag(words[0], arguments)
        raise UnknownName(f"unknown argument {words[0]!r}{meant}; see lilliput COMMAND --help")


def _meant_flag(word: str, arguments: argparse.Namespace) -> str:
    known = arguments.flags if word.startswith("--") else []
    return catalog.did_you_mean(word.partition("=")[0], known)


def _dealt(a: argparse.Namespace, options: dict[str, Any], techniques: list[str], backbones: list[str]) -> None:
    """Refuse what no technique, backbone or recipe takes; of flags the nearest is named."""
    catalog.sort_options(
        options, techniques=techniques, backbones=backbones, others=[flag[2:].replace("-", "_") for flag in a.flags]
    )


# What can be refused without torch is refused before it is imported: names and options.


def _study(a: argparse.Namespace, options: dict[str, Any]) -> int:
    names: dict[str, Any] = {kind: [catalog.take(kind, name) for name in getattr(a, kind)] for kind in GRID}
    _dealt(a, options, names["techniques"], names["backbones"])

    from lilliput import api

    flags = _same(a, "judge", "seeds", "workers", "leave_out", *SOURCE, *TRAINING)
    out, failed = api.study(a.data, a.out, plan=_plan(a), **names, **flags, **options)
    page = _page(out)  # saved first, said last
    print((out / "table.md").read_text(encoding="utf-8"))
    print(visible(f"Everything is in {out}: {page}table.md, results.csv, figures, and cells/ with the encoders."))
    for name in failed:
        error, *_ = (out / "cells" / name / "error.txt").read_text(encoding="utf-8").splitlines()
        print(visible(f"lilliput: {name} failed: {error}"), file=sys.stderr)
    return 1 if failed else 0


def _page(out: Path) -> str:
    """The study's report.html; what stands in its way is said and costs the study nothing."""
    from lilliput.reports.page.page import write_page

    try:
        return f"{write_page(out).name}, "
    except LilliputError as error:
        print(f"lilliput: no report.html: {visible(str(error))}", file=sys.stderr)
        return ""


def _pretrain(a: argparse.Namespace, options: dict[str, Any]) -> int:
    technique, backbone = catalog.take("techniques", a.technique), catalog.take("backbones", a.backbone)
    _dealt(a, options, [technique], [backbone])

    from lilliput import api
    from lilliput.training.run import summary

    flags = _same(a, "seed", *SOURCE, *TRAINING)
    out = api.pretrain(technique, backbone, a.data, a.out, plan=_plan(a), **flags, **options)
    print(visible(summary(out)))
    return 0


def _same(a: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Flags by the names of the parameters that they are for."""
    return {name: getattr(a, name) for name in names}


def _plan(a: argparse.Namespace) -> dict[str, Any]:
    pairs = [word.partition("=") for word in a.plan or []]
    for name, equals, value in pairs:
        if not equals or not value:
            raise UnknownName(f"--plan {name!r} needs a value: {name}=VALUE")
    plan = {name: catalog.parse_value("plan", value) for name, _, value in pairs}
    if lists := [name for name, value in plan.items() if isinstance(value, list | dict)]:
        raise UnknownName(f"--plan {lists[0]} is a number, a word or true/false")
    return {**plan, **({"deterministic": True} if a.deterministic else {})}


def _probe(a: argparse.Namespace, options: dict[str, Any]) -> int:
    probes = [catalog.take("probes", name) for name in a.probes]

    from lilliput import api

    rows = api.probe(a.run_folder, a.data, probes=probes, at=a.at, data_folder=a.folder, device=a.device, plan=_plan(a))
    rows = rows[~rows["metric"].str.contains("/")]
    table = rows.pivot_table(index="epoch", columns=["judge", "probe", "metric"], values="value")
    print(table.to_string(float_format="%.3f"))
    print(visible(f"All rows, with accuracies by class and confusions: {os.path.join(a.run_folder, 'results.csv')}"))
    return 0


def _report(a: argparse.Namespace, options: dict[str, Any]) -> int:
    from lilliput import api

    for path in api.report(a.study_folder, a.data, data_folder=a.folder):
        print(visible(str(path)))
    return 0


def _verify(a: argparse.Namespace, options: dict[str, Any]) -> int:
    from lilliput import api

    holds = api.verify(a.checked_folder, a.data, data_folder=a.folder, sample=a.sample, seed=a.seed)
    return 0 if holds else 1


def _compare(a: argparse.Namespace, options: dict[str, Any]) -> int:
    from lilliput.reports.compare import compare

    print(compare(os.path.expanduser(a.first), os.path.expanduser(a.second)))
    return 0


def _prepare(a: argparse.Namespace, options: dict[str, Any]) -> int:
    from lilliput.data import leaks
    from lilliput.datasets import open_data

    data = open_data(a.data, pool=a.pool, image_size=a.image_size, limit=a.limit, folder=a.folder)
    for what, store in (("pool", data.pool), ("train", data.train), ("test", data.test)):
        if store is not None:
            classes = f" in {len(store.classes)} classes" if store.is_labelled else ""
            print(visible(f"{what}: {len(store)} images of {store.image_size} px{classes}, {store.folder}"))
    print(*map(visible, leaks.summary(data, leaks.find(data))), sep="\n")
    return 0


def _list(a: argparse.Namespace, options: dict[str, Any]) -> int:
    for line in catalog.listed(a.kind):
        print(visible(line))
    return 0
