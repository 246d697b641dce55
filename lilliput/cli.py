"""The command line: words in, calls of api out."""

import argparse
import os
import platform
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from lilliput import catalog, config
from lilliput.errors import BadSetting, LilliputError, UnknownName
from lilliput.parser import make_parser
from lilliput.system import launched, signals, streams
from lilliput.system.visible import visible

Command = Callable[[argparse.Namespace, dict[str, Any]], int]

# Flags that a function of the same parameters gets as they are:
SOURCE = ("pool", "folder", "image_size", "limit", "test_share", "labels", "balance", "cache_gib")
START = ("init", "teacher", "imagenet_weights")
TRAINING = ("recipe", "epochs", "every", "batch", "until_converged", "score", "country", "track", "device", *START)
GRID = ("techniques", "backbones", "probes")
TUNABLES = ":".join(
    f"glibc.malloc.{name}={value}"
    for name, value in (("hugetlb", 1), ("mmap_threshold", 2**32), ("trim_threshold", 2**33))
)


def main(argv: list[str] | None = None) -> int:
    """Run a command; 0 when all went well, 1 on an error that the user can mend or a failed cell, 130 on Ctrl-C."""
    streams.keep_speaking()
    try:
        arguments, rest = _parsed(sys.argv[1:] if argv is None else argv)
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
    if launched.size() > 1 and arguments.command != "pretrain":
        raise BadSetting(f"torchrun is for `pretrain`; start `lilliput {arguments.command}` by itself")
    catalog.use(*arguments.use)
    said = config.written(arguments.verb, arguments, options)  # before paths make way for names
    if arguments.takes_options:
        _dealt(arguments, options)
    if arguments.print_config:
        print(said, end="")
        return 0
    with signals.listening():
        try:
            status = COMMANDS[arguments.command](arguments, options)
            sys.stdout.flush()  # a full disk is told here, or not at all
            return status
        except signals.Stopped as stop:
            if launched.rank() == 0:
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


def _parsed(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The command's flags, and of a command that takes options every other --name with its value, in any place.

    They join the flags under their whole names, --name; a flag may be written with _ for -.
    """
    parser = make_parser()
    words = [_hyphened(word) if word.startswith("--") else word for word in argv]
    verb = parser.get_default("verbs").get(words[0] if words else None)
    if verb is None:
        return parser.parse_known_args(words)
    words = [*words[:1], *_from_file(words[1:], verb)]
    verb.set_defaults(flags=_flags_of(verb), verb=verb)
    if verb.get_default("takes_options"):
        for flag in dict.fromkeys(word.partition("=")[0] for word in words):
            if flag.startswith("--") and flag not in (*_flags_of(verb), "--", "--help"):
                verb.add_argument(flag, dest=flag, nargs="?", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return parser.parse_known_args(words)


def _from_file(words: list[str], verb: argparse.ArgumentParser) -> list[str]:
    """The words, before them what the file of --config says: of two words for one thing the last holds. BadSetting
    where two files are named."""
    if sum(word.partition("=")[0] == "--config" for word in words) > 1:
        raise BadSetting("--config names one file; put what both say into one")
    for place, word in enumerate(words):
        flag, equals, file = word.partition("=")
        if flag == "--config" and (equals or words[place + 1 :]):
            file = file if equals else words[place + 1]
            rest = words[:place] + words[place + (1 if equals else 2) :]
            return [*config.words_of(file, verb), f"--config={file}", *rest]  # it ends the list of a flag before it
    return words


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


def _dealt(a: argparse.Namespace, options: dict[str, Any]) -> None:
    """Names of what there is, in place of paths; refuse what no technique, backbone or recipe takes: of flags the
    nearest is named."""
    for kind in [kind for kind in GRID if kind in a]:
        setattr(a, kind, [catalog.take(kind, name) for name in getattr(a, kind)])
    if "technique" in a:
        a.technique, a.backbone = catalog.take("techniques", a.technique), catalog.take("backbones", a.backbone)
        a_techniques, a_backbones = [a.technique], [a.backbone]
    else:
        a_techniques, a_backbones = [*a.techniques, *(["distil"] if a.distil_from else [])], a.backbones
    others = [flag[2:].replace("-", "_") for flag in a.flags]
    catalog.sort_options(options, techniques=a_techniques, backbones=a_backbones, others=others)


# What can be refused without torch is refused before it is imported: names and options.


def _study(a: argparse.Namespace, options: dict[str, Any]) -> int:
    from lilliput import api

    flags = _same(a, *GRID, "judge", "seeds", "leave_out", "baselines", "distil_from", *SOURCE, *TRAINING)
    out, failed = api.study(a.data, a.out, plan=_plan(a), on=_engine(a), **flags, **options)
    page = _page(out, a.workers)  # saved first, said last
    print((out / "table.md").read_text(encoding="utf-8"))
    print(visible(f"Everything is in {out}: {page}table.md, results.csv, figures, and cells/ with the encoders."))
    for name in failed:
        error, *_ = (out / "cells" / name / "error.txt").read_text(encoding="utf-8").splitlines()
        print(visible(f"lilliput: {name} failed: {error}"), file=sys.stderr)
    return 1 if failed else 0


def _advise(a: argparse.Namespace, options: dict[str, Any]) -> int:
    names = {kind: [catalog.take(kind, name) for name in getattr(a, kind)] for kind in ("techniques", "backbones")}

    from lilliput import api
    from lilliput.advice.answer import in_words
    from lilliput.advice.candidates import amount

    flags = _same(a, "budget", "judge", "max_latency_ms", "max_mib", "score", "recipe", "image_size", "limit")
    flags |= _same(a, "test_share", "labels", "seed", "device", "country", "workers", "imagenet_weights")
    macs = amount(a.max_macs) if a.max_macs else None
    out, found = api.advise(a.data, a.out, plan=_plan(a), on=_engine(a), max_macs=macs, **names, **flags)
    print(*map(visible, in_words(found).splitlines()), sep="\n")
    print(visible(f"Everything is in {out}: advice.json, an ordinary study's files, cells/ with the encoders."))
    return 0


def _engine(a: argparse.Namespace) -> Any:
    """Where the cells of a study run."""
    from lilliput.studies.engines import engine_of

    away = {"resources": _pairs("--resources", a.resources), "slurm": _pairs("--slurm", a.slurm)}
    return engine_of(a.on, workers=a.workers, device=a.device, **away)


def _page(out: Path, workers: int | None) -> str:
    """The study's report.html; what stands in its way is said and costs the study nothing."""
    from lilliput.reports.page.page import write_page
    from lilliput.studies.engines import processes

    try:
        return f"{write_page(out, workers=workers or processes.usual_size(None)).name}, "
    except LilliputError as error:
        print(f"lilliput: no report.html: {visible(str(error))}", file=sys.stderr)
        return ""


def _pretrain(a: argparse.Namespace, options: dict[str, Any]) -> int:
    from lilliput import api
    from lilliput.training.run import summary

    flags = _same(a, "seed", *SOURCE, *TRAINING)
    out = api.pretrain(a.technique, a.backbone, a.data, a.out, plan=_plan(a), **flags, **options)
    if launched.rank() == 0:
        print(visible(summary(out)))
    return 0


def _same(a: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Flags by the names of the parameters that they are for."""
    return {name: getattr(a, name) for name in names}


def _plan(a: argparse.Namespace) -> dict[str, Any]:
    plan = {name: catalog.parse_value("plan", value) for name, value in _pairs("--plan", a.plan).items()}
    if lists := [name for name, value in plan.items() if isinstance(value, list | dict)]:
        raise UnknownName(f"--plan {lists[0]} is a number, a word or true/false")
    parts = {"accumulate": a.accumulate} if getattr(a, "accumulate", None) else {}  # `probe` trains nothing
    return {**plan, **({"deterministic": True} if a.deterministic else {}), **parts}


def _pairs(flag: str, words: list[str] | None) -> dict[str, str]:
    """Of words NAME=VALUE."""
    pairs = [word.partition("=") for word in words or []]
    for name, equals, value in pairs:
        if not equals or not value:
            raise UnknownName(f"{flag} {name!r} needs a value: {name}=VALUE")
    return {name: value for name, _, value in pairs}


def _probe(a: argparse.Namespace, options: dict[str, Any]) -> int:
    probes = [catalog.take("probes", name) for name in a.probes]

    from lilliput import api

    rows = api.probe(
        a.run_folder,
        a.data,
        probes=probes,
        at=a.at,
        data_folder=a.folder,
        device=a.device,
        plan=_plan(a),
        test_share=a.test_share,
        labels=a.labels,
    )
    rows = rows[~rows["metric"].str.contains("/")]
    table = rows.pivot_table(index="epoch", columns=["judge", "probe", "metric"], values="value")
    print(table.to_string(float_format="%.3f"))
    print(visible(f"All rows, with accuracies by class and confusions: {os.path.join(a.run_folder, 'results.csv')}"))
    return 0


def _transfer(a: argparse.Namespace, options: dict[str, Any]) -> int:
    from lilliput import api

    table = api.transfer(a.run_folder, a.to, device=a.device, plan=_plan(a))
    print("Mean accuracy of the classes, by the linear probe:")
    print(*map(visible, table.to_string(float_format="%.3f", na_rep="").splitlines()), sep="\n")
    print(visible(f"All rows, by class: {os.path.join(a.run_folder, 'transfer', 'results.csv')}"))
    return 0


def _prune(a: argparse.Namespace, options: dict[str, Any]) -> int:
    probes = [catalog.take("probes", name) for name in a.probes]

    from lilliput import api
    from lilliput.reports.thinned import thinned

    flags = _same(a, *("keep", "epochs", "lr", "images", "seed", "pool", "limit", "test_share", "labels"))
    flags |= _same(a, "device", "country")
    out = api.prune(a.run_folder, a.data, a.out, data_folder=a.folder, probes=probes, plan=_plan(a), **flags)
    print(thinned(a.run_folder, out))
    print(visible(f"The pruned encoder, and the one that has recovered: {out}"))
    return 0


def _detect(a: argparse.Namespace, options: dict[str, Any]) -> int:
    from lilliput import api

    flags = _same(a, "image_size", "steps", "batch", "lr", "modes", "baselines", "imagenet_weights", "test_share")
    out = api.detect(a.saved, a.data, a.out, device=a.device, plan=_plan(a), **flags)
    print((out / "table.md").read_text(encoding="utf-8"))
    print(visible(f"Everything is in {out}: table.md, results.csv with AP by class, and a picture for each detector."))
    return 0


def _export(a: argparse.Namespace, options: dict[str, Any]) -> int:
    from lilliput import api

    flags = _same(a, "int8", "dynamic", "uint8", "threads", "epoch", "push", "classifier", "test_share", "labels")
    out = api.export(a.run_folder, a.to, a.data, a.out, **flags)
    print((out / "table.md").read_text(encoding="utf-8"))
    print(visible(f"Everything is in {out}: {', '.join(sorted(path.name for path in out.iterdir()))}"))
    return 0


def _report(a: argparse.Namespace, options: dict[str, Any]) -> int:
    from lilliput import api

    return _named(api.report(a.study_folder, a.data, data_folder=a.folder, workers=None))


def _verify(a: argparse.Namespace, options: dict[str, Any]) -> int:
    from lilliput import api

    flags = _same(a, "sample", "seed", "pool", "balance", "out", "workers")
    holds = api.verify(a.checked_folder, a.data, data_folder=a.folder, again=a.again or 0, **flags)
    return 0 if holds else 1


def _compare(a: argparse.Namespace, options: dict[str, Any]) -> int:
    from lilliput.reports.compare import compare

    print(compare(os.path.expanduser(a.first), os.path.expanduser(a.second)))
    return 0


def _embed(a: argparse.Namespace, options: dict[str, Any]) -> int:
    from lilliput import api

    return _named(api.embed(a.run_folder, a.image_folder, a.out, device=a.device, plan=_plan(a)))


def _search(a: argparse.Namespace, options: dict[str, Any]) -> int:
    from lilliput import api
    from lilliput.system.records import read_json

    files = api.search(a.run_folder, a.image, a.image_folder, a.out, k=a.k, device=a.device, plan=_plan(a))
    for near in read_json(files[1])["neighbours"]:
        print(f"{near['distance']:.4f}  {visible(near['file'])}")
    return _named(files)


def _clean(a: argparse.Namespace, options: dict[str, Any]) -> int:
    from lilliput import api

    flags = _same(a, "labels", "device")
    return _named(api.clean(a.run_folder, a.image_folder, a.out, plan=_plan(a), **flags))


def _named(files: list[Path]) -> int:
    for path in files:
        print(visible(str(path)))
    return 0


def _prepare(a: argparse.Namespace, options: dict[str, Any]) -> int:
    from lilliput.data import leaks
    from lilliput.datasets import open_data

    data = open_data(a.data, **_same(a, *SOURCE))
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


def _doctor(a: argparse.Namespace, options: dict[str, Any]) -> int:
    from lilliput.system.doctor import examine

    broken = 0
    for what, said, is_broken in examine():
        print(f"{'BROKEN ' * is_broken}{what:10} {visible(said)}", flush=True)
        broken += is_broken
    return 1 if broken else 0


def _completion(a: argparse.Namespace, options: dict[str, Any]) -> int:
    from lilliput.completing import script

    print(script(make_parser(), a.shell))
    return 0


COMMANDS: dict[str, Command] = {
    "study": _study,
    "advise": _advise,
    "pretrain": _pretrain,
    "probe": _probe,
    "transfer": _transfer,
    "prune": _prune,
    "detect": _detect,
    "export": _export,
    "report": _report,
    "verify": _verify,
    "compare": _compare,
    "embed": _embed,
    "search": _search,
    "clean": _clean,
    "prepare": _prepare,
    "list": _list,
    "doctor": _doctor,
    "completion": _completion,
}
