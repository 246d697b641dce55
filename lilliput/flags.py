"""Flags that several commands share, and what their values must be."""

import argparse

from lilliput import catalog
from lilliput.tracking import TRACKERS

RECIPES = ("small", "large", "paper")
WEIGHTS = "a folder with the libraries' files of ImageNet's weights (default: their cache, else fetched)"
FILES = "where the files of a named data set are"


def data_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        default=catalog.USUAL_DATA,
        metavar="DATA",
        help="a data set's name or file, a folder of images, or shards 'x/{000..099}.tar' (default: %(default)s)",
    )
    source_flags(parser)


def source_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pool", metavar="DIR", help="a folder of unlabelled images, or shards, to learn from instead")
    parser.add_argument("--folder", metavar="DIR", help=FILES)
    parser.add_argument("--image-size", type=positive, metavar="PX", help="default: the data's own")
    parser.add_argument(
        "--limit", type=positive, metavar="N", help="use at most so many unlabelled images (default: all)"
    )
    parser.add_argument(
        "--balance",
        metavar="HOW",
        help="images of each class to learn from: long-tail:RATIO, equal or per-class:N (default: all)",
    )
    parser.add_argument(
        "--cache-gib",
        type=float,
        metavar="N",
        help="of shards from elsewhere so much stays on this disk (default: those in use)",
    )
    label_flags(parser)


def label_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--test-share",
        type=share,
        metavar="SHARE",
        help="of a folder of classes without a split, so much of each class judges (default: 0.2 where labels are "
        "needed)",
    )
    parser.add_argument(
        "--labels", metavar="FILE.csv", help="the classes of a folder's images: a table of file and label"
    )


def training_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", metavar="DIR", help="the folder of the results, or s3://... (default: under runs/)")
    parser.add_argument("--recipe", choices=RECIPES, help="default: small, or large from 50,000 images of 64 px on")
    parser.add_argument("--epochs", type=positive, metavar="N", help="default: the recipe's")
    parser.add_argument(
        "--every", type=positive, default=5, metavar="N", help="epochs between saved encoders (default: %(default)s)"
    )
    parser.add_argument("--batch", type=positive, metavar="N", help="default: the recipe's")
    parser.add_argument(
        "--accumulate",
        type=positive,
        metavar="N",
        help="parts in which a backbone takes a batch, so that a large one is one here (default: as few as fit)",
    )
    parser.add_argument(
        "--until-converged", type=positive, metavar="N", help="stop once the score has not improved for N checkpoints"
    )
    parser.add_argument(
        "--init",
        metavar="FROM",
        help="start from weights instead of random ones: a file, the folder of a run, or imagenet",
    )
    parser.add_argument(
        "--teacher",
        metavar="FROM",
        help="what distil learns from: an encoder's file, the folder of a run, or a backbone with weights of ImageNet",
    )
    parser.add_argument("--imagenet-weights", metavar="DIR", help=WEIGHTS)
    parser.add_argument("--score", choices=["rank", "knn"], help="what must improve (default: knn if there are labels)")
    parser.add_argument(
        "--country",
        default="USA",
        metavar="ISO",
        help="whose electricity, for the CO2 (three letters; default: %(default)s)",
    )
    parser.add_argument("--track", nargs="+", choices=TRACKERS, help="trackers of experiments that follow the log")
    machine_flags(parser)


def away_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--on",
        metavar="ENGINE",
        help="where the cells run: ray, ray://HOST:PORT or slurm (default: here), by a disk that all machines share",
    )
    parser.add_argument(
        "--resources", nargs="+", metavar="KEY=VALUE", help="what each cell gets there: cpus=2 gpus=0.5 memory_gib=8"
    )
    parser.add_argument(
        "--slurm",
        nargs="+",
        metavar="KEY=VALUE",
        help="what the queue is asked for: time=HH:MM:SS partition=NAME, array_parallelism=N, any option of sbatch",
    )


def probes_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--probes", nargs="+", default=["linear", "knn"], metavar="NAME", help="default: linear knn")


def machine_flags(parser: argparse.ArgumentParser) -> None:
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


def positive(text: str) -> int:
    value = int(text) if text.lstrip("-").isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return value


def share(text: str) -> float:
    value = share_or_all(text)
    if value == 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share between 0 and 1")
    return value


def share_or_all(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share between 0 and 1")
    return value
