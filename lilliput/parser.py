"""The command line's words: every command with its flags and their help."""

import argparse

from lilliput import catalog
from lilliput._version import version
from lilliput.completing import SHELLS
from lilliput.flags import (
    FILES,
    RECIPES,
    WEIGHTS,
    away_flags,
    data_flags,
    label_flags,
    machine_flags,
    positive,
    probes_flag,
    share,
    share_or_all,
    source_flags,
    training_flags,
)

ENCODER = "the folder of a run, whose last encoder is taken, or an encoder's file"


def make_parser() -> argparse.ArgumentParser:
    """All commands with their flags; `command` of what is parsed is the command's name."""
    parser = argparse.ArgumentParser(
        prog="lilliput",
        description="Pretrain small vision networks without labels, and measure what they learn while they learn it.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"lilliput {version}")
    verbs = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    judging = (_add_probe, _add_transfer, _add_detect, _add_prune, _add_report, _add_verify, _add_compare)
    using = (_add_embed, _add_search, _add_clean, _add_export)
    learning = (_add_study, _add_advise, _add_pretrain)
    for add in (*learning, *judging, *using, _add_prepare, _add_list, _add_doctor, _add_completion):
        add(verbs)
    parser.set_defaults(verbs=verbs.choices)
    return parser


def _add_study(verbs) -> None:
    text = "a grid of techniques x backbones: pretrain, judge, table and figures"
    study = _verb(verbs, "study", text, computes=True, takes_options=True)
    data_flags(study)
    training_flags(study)
    study.add_argument(
        "--judge",
        nargs="+",
        metavar="DATA",
        help="labelled data to judge by, if not --data; of several the first is the study's own, the table compares",
    )
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
    probes_flag(study)
    study.add_argument(
        "--baselines",
        nargs="*",
        choices=catalog.CHOICES_OF_BASELINES,
        default=catalog.USUAL_BASELINES,
        help="what to compare with (default: pixels random_init supervised)",
    )
    study.add_argument(
        "--distil-from",
        metavar="CELL",
        help="a second round: every backbone learns from that cell's encoder (best: by held-out labels)",
    )
    study.add_argument(
        "--leave-out",
        choices=["exact", "near"],
        help="train and fit without images that are in the test set too: the same pixels, or nearly the same as well",
    )
    study.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="cells at once, each in a process (default: what suits the machine)",
    )
    away_flags(study)


def _add_advise(verbs) -> None:
    text = "which technique, which network and when to stop: a search within a budget of time, and how sure it is"
    advise = _verb(verbs, "advise", text, computes=True)
    advise.add_argument("--data", required=True, metavar="DATA", help="a folder of images to learn from, or a data set")
    advise.add_argument("--judge", metavar="DATA", help="labelled images to choose by, if --data has no labels")
    advise.add_argument("--budget", default="2h", metavar="TIME", help="90s, 45m, 1h30m (default: %(default)s)")
    advise.add_argument("--max-macs", metavar="N", help="multiply-adds of an image, as 100M (default: any)")
    advise.add_argument("--max-latency-ms", type=float, metavar="MS", help="of an image alone, on this machine")
    advise.add_argument("--max-mib", type=float, metavar="MIB", help="of weights in single precision")
    advise.add_argument(
        "--score", metavar="NAME", help="what chooses (default: labels; without any, what is known good)"
    )
    advise.add_argument("--techniques", nargs="+", default=catalog.TECHNIQUES, metavar="NAME", help="default: the five")
    advise.add_argument("--backbones", nargs="+", default=catalog.BACKBONES, metavar="NAME", help="default: the five")
    advise.add_argument("--recipe", choices=RECIPES, help="default: small, or large from 50,000 images of 64 px on")
    advise.add_argument("--image-size", type=positive, metavar="PX", help="default: the data's own")
    advise.add_argument("--limit", type=positive, metavar="N", help="learn from at most so many images (default: all)")
    label_flags(advise)
    advise.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    advise.add_argument("--out", metavar="DIR", help="the study's folder (default: under runs/)")
    advise.add_argument("--imagenet-weights", metavar="DIR", help=WEIGHTS)
    advise.add_argument("--country", default="USA", metavar="ISO", help="whose electricity (default: %(default)s)")
    advise.add_argument(
        "--workers", type=positive, metavar="N", help="trials at once (default: what suits the machine)"
    )
    machine_flags(advise)
    away_flags(advise)


def _add_pretrain(verbs) -> None:
    text = "one technique on one backbone"
    pretrain = _verb(verbs, "pretrain", text, computes=True, takes_options=True)
    pretrain.add_argument("technique")
    pretrain.add_argument("backbone")
    data_flags(pretrain)
    training_flags(pretrain)
    pretrain.add_argument("--seed", type=int, default=0, help="default: %(default)s")


def _add_probe(verbs) -> None:
    probe = _verb(verbs, "probe", "judge the saved encoders of a run", computes=True)
    probe.add_argument("run_folder", metavar="RUN")
    probe.add_argument(
        "--data",
        default=catalog.USUAL_DATA,
        metavar="DATA",
        help="a labelled data set or folder (default: %(default)s)",
    )
    probe.add_argument("--folder", metavar="DIR", help=FILES)
    label_flags(probe)
    probes_flag(probe)
    probe.add_argument("--at", nargs="+", type=int, metavar="EPOCH", help="only the checkpoints of these epochs")
    machine_flags(probe)


def _add_transfer(verbs) -> None:
    text = "judge the encoder of a run on several labelled data sets, its start and raw pixels beside it"
    transfer = _verb(verbs, "transfer", text, computes=True)
    transfer.add_argument("run_folder", metavar="RUN")
    transfer.add_argument("--to", nargs="+", required=True, metavar="DATA", help="labelled data sets or folders")
    machine_flags(transfer)


def _add_prune(verbs) -> None:
    text = "drop channels of a run's last encoder, by ThiNet, and train on"
    prune = _verb(verbs, "prune", text, computes=True)
    prune.add_argument("run_folder", metavar="RUN")
    prune.add_argument(
        "--keep",
        type=share_or_all,
        default=0.5,
        metavar="SHARE",
        help="of the channels of every convolution that may lose some (default: %(default)s)",
    )
    prune.add_argument(
        "--data",
        default=catalog.USUAL_DATA,
        metavar="DATA",
        help="images to choose by and to train on with; labelled ones judge (default: %(default)s)",
    )
    prune.add_argument("--pool", metavar="DIR", help="a folder of unlabelled images to choose and train by instead")
    prune.add_argument("--folder", metavar="DIR", help=FILES)
    prune.add_argument("--limit", type=positive, metavar="N", help="use at most so many unlabelled images")
    label_flags(prune)
    prune.add_argument(
        "--images", type=positive, default=1000, metavar="N", help="by which channels are chosen (default: %(default)s)"
    )
    prune.add_argument("--epochs", type=positive, metavar="N", help="of recovery (default: a tenth of the run's)")
    prune.add_argument("--lr", type=float, metavar="RATE", help="of recovery (default: a tenth of the run's)")
    prune.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    prune.add_argument("--out", metavar="DIR", help="the new run's folder (default: RUN-thin)")
    probes_flag(prune)
    prune.add_argument(
        "--country", default="USA", metavar="ISO", help="whose electricity, for the CO2 (default: %(default)s)"
    )
    machine_flags(prune)


def _add_detect(verbs) -> None:
    text = "train object detectors on saved encoders, and score them"
    detect = _verb(verbs, "detect", text, computes=True)
    detect.add_argument("saved", nargs="+", metavar="RUN", help="folders of runs or studies, or files of encoders")
    detect.add_argument(
        "--data", required=True, metavar="DIR", help="images with boxes: a .json of COCO's, or Pascal VOC's .xml files"
    )
    detect.add_argument("--out", metavar="DIR", help="the folder of the results (default: under runs/)")
    detect.add_argument(
        "--image-size",
        type=positive,
        default=224,
        metavar="PX",
        help="images are squeezed to it (default: %(default)s)",
    )
    detect.add_argument("--steps", type=positive, default=600, metavar="N", help="of training (default: %(default)s)")
    detect.add_argument(
        "--batch", type=positive, default=8, metavar="N", help="images in a step (default: %(default)s)"
    )
    detect.add_argument("--lr", type=float, default=2e-3, help="learning rate at its highest (default: %(default)s)")
    detect.add_argument(
        "--modes",
        nargs="+",
        choices=catalog.DETECTION_MODES,
        default=catalog.DETECTION_MODES,
        help="the encoder stays as it is, or learns too (default: both)",
    )
    detect.add_argument(
        "--baselines",
        nargs="*",
        choices=catalog.DETECTION_BASELINES,
        default=("random_init",),
        help="what to compare with (default: random_init)",
    )
    detect.add_argument("--imagenet-weights", metavar="DIR", help=WEIGHTS)
    detect.add_argument(
        "--test-share",
        type=share,
        metavar="SHARE",
        help="without train/ and test/, so much of the images judges (default: 0.2)",
    )
    machine_flags(detect)


def _add_export(verbs) -> None:
    text = "a run's last encoder as a file for a device, compared, timed, with a card"
    export = _verb(verbs, "export", text, computes=True)
    export.add_argument("run_folder", metavar="RUN")
    export.add_argument("--to", required=True, choices=catalog.EXPORTS, help="the form")
    export.add_argument(
        "--at", dest="epoch", type=int, metavar="EPOCH", help="the encoder of this epoch (default: the last)"
    )
    export.add_argument("--out", metavar="DIR", help="the folder of the export (default: RUN/export/FORM)")
    export.add_argument(
        "--data",
        metavar="DATA",
        help="images to compare and to calibrate by; with labels and a split they judge (default: photographs)",
    )
    export.add_argument(
        "--classifier",
        metavar="DATA",
        help="labelled images: their linear probe becomes part of the file, and is judged",
    )
    export.add_argument("--int8", action="store_true", help="a second ONNX file of eight bits, calibrated by --data")
    export.add_argument("--dynamic", action="store_true", help="images of any size, not of the run's alone")
    export.add_argument("--uint8", action="store_true", help="images as bytes in 0..255, not as floats in 0..1")
    export.add_argument(
        "--threads", type=positive, default=1, metavar="N", help="by which it is timed (default: %(default)s)"
    )
    export.add_argument("--push", metavar="USER/MODEL", help="then send the folder of --to hub there")
    label_flags(export)


def _add_report(verbs) -> None:
    text = "table, figures and report.html of a study, from its folder"
    report = _verb(verbs, "report", text, computes=True)
    report.add_argument("study_folder", metavar="STUDY")
    report.add_argument("--data", metavar="DATA", help="what judged the study, if it is not prepared here any more")
    report.add_argument("--folder", metavar="DIR", help=FILES)


def _add_verify(verbs) -> None:
    text = "whether a run or study can be believed: digests, and rows anew"
    verify = _verb(verbs, "verify", text, computes=True)
    verify.add_argument("checked_folder", metavar="FOLDER")
    verify.add_argument(
        "--sample",
        type=positive,
        default=6,
        metavar="N",
        help="judged encoders to compute anew (default: %(default)s)",
    )
    verify.add_argument("--seed", type=int, default=0, help="which (default: %(default)s)")
    verify.add_argument(
        "--again",
        type=positive,
        metavar="N",
        help="instead: train and judge so many cells of a study, drawn by chance, once more",
    )
    verify.add_argument("--data", metavar="DATA", help="what judged it, if it is not prepared here any more")
    verify.add_argument("--pool", metavar="DIR", help="with --again: what a study learned from, if not from --data")
    verify.add_argument("--balance", metavar="HOW", help="with --again: as the study had it")
    verify.add_argument("--folder", metavar="DIR", help=FILES)
    verify.add_argument("--out", metavar="DIR", help="with --again: where (default: runs/again-STUDY)")
    verify.add_argument("--workers", type=positive, metavar="N", help="cells at once (default: what suits the machine)")


def _add_compare(verbs) -> None:
    compare = _verb(verbs, "compare", "two studies side by side, or a study and the paper's Table 1")
    compare.add_argument("first", metavar="STUDY")
    compare.add_argument("second", metavar="STUDY", help="another study, or the word paper")


def _add_embed(verbs) -> None:
    embed = _verb(verbs, "embed", "features of all images of a folder, by a run's last encoder", computes=True)
    embed.add_argument("run_folder", metavar="RUN", help=ENCODER)
    embed.add_argument("image_folder", metavar="DIR", help="images, at any depth")
    embed.add_argument("--out", required=True, metavar="FILE", help="what to write: .npy, .npz or .parquet")
    machine_flags(embed)


def _add_search(verbs) -> None:
    search = _verb(verbs, "search", "the images of a folder that are nearest to an image", computes=True)
    search.add_argument("run_folder", metavar="RUN", help=ENCODER)
    search.add_argument("image", metavar="IMAGE")
    search.add_argument("--in", dest="image_folder", required=True, metavar="DIR", help="images, at any depth")
    search.add_argument("--k", type=positive, default=20, metavar="N", help="so many (default: %(default)s)")
    search.add_argument("--out", metavar="FILE.png", help="the picture; a .json comes beside it (default: RUN/search/)")
    machine_flags(search)


def _add_clean(verbs) -> None:
    text = "what to look at in a folder of images: copies, images off the topic, likely errors of labels"
    clean = _verb(verbs, "clean", text, computes=True)
    clean.add_argument("run_folder", metavar="RUN", help=ENCODER)
    clean.add_argument("image_folder", metavar="DIR", help="images, at any depth; none is ever deleted")
    clean.add_argument(
        "--labels", metavar="FILE.csv", help="a table of file and label, or the word folders: classes by their names"
    )
    clean.add_argument("--out", metavar="DIR", help="the folder of the page and the table (default: RUN/clean)")
    machine_flags(clean)


def _add_prepare(verbs) -> None:
    prepare = _verb(verbs, "prepare", "fetch, verify and decode a data set")
    prepare.add_argument("data", metavar="DATA")
    source_flags(prepare)


def _add_list(verbs) -> None:
    listing = _verb(verbs, "list", "techniques, backbones, probes and data sets, with options and sources")
    listing.add_argument("kind", nargs="?", choices=catalog.KINDS, metavar="KIND", help=", ".join(catalog.KINDS))


def _add_doctor(verbs) -> None:
    _verb(verbs, "doctor", "whether this machine is ready: versions, devices, room, what is missing")


def _add_completion(verbs) -> None:
    completion = _verb(verbs, "completion", "lines by which a shell completes commands, flags and names")
    completion.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))


def _verb(
    verbs, name: str, text: str, *, computes: bool = False, takes_options: bool = False
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
    parser.add_argument(
        "--config", metavar="FILE.toml", help="settings by the flags' names; a flag beside it wins over the file"
    )
    parser.add_argument(
        "--print-config", action="store_true", help="print the settings as --config reads them, and do nothing else"
    )
    parser.set_defaults(computes=computes, takes_options=takes_options)
    return parser
