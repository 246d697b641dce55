"""From a run to a file for a device."""

import os
from dataclasses import replace
from pathlib import Path

from lilliput import catalog
from lilliput.data.store import Data
from lilliput.datasets import Source
from lilliput.errors import BadData, BadSetting
from lilliput.system.door import door
from lilliput.training.record import read_run


@door
def export(
    folder: str | os.PathLike,
    to: str,
    data: str | os.PathLike | Data | None = None,
    out: str | os.PathLike | None = None,
    *,
    classifier: str | os.PathLike | Data | None = None,
    int8: bool = False,
    dynamic: bool = False,
    uint8: bool = False,
    threads: int = 1,
    epoch: int | None = None,
    push: str | None = None,
    test_share: float | None = None,
    labels: str | os.PathLike | None = None,
) -> Path:
    """A run's last encoder as a file (`to`: onnx, executorch, torchscript), as weights of a library's own network
    (timm, torchvision), as a folder of Hugging Face's hub (hub) or for `load_encoder`, at half the size if features
    stay (lilliput), with a table, a figure and a card; returns the folder.

    `data`: images to compare file and torch by, and to calibrate eight bits (`int8`, onnx alone); where they are
    labelled with a split they judge. `classifier`: labelled images; the linear probe fitted to them becomes part of
    the file. `dynamic`: images of any size; `uint8`: as bytes. `threads`: by which it is timed. `epoch`: of the
    encoder, if not the last. `push`: a name on the hub to send the folder to. Needs the extra `export`, or
    `executorch`. Raises LilliputError; BadSetting where the file does not give what the network gives.
    """
    from lilliput.deploy import hub
    from lilliput.deploy.export import Asked, Export

    asked = Asked(
        to, dynamic=dynamic, uint8=uint8, int8=int8, classify=classifier is not None, threads=threads, epoch=epoch
    )
    asked.check()
    if int8 and data is None:
        raise BadSetting("--int8 is calibrated by your images: give --data DIR with some hundred like those to come")
    if push and to != "hub":
        raise BadSetting(f"--push {push} goes with --to hub")
    folder = Path(folder)
    if not (folder / "run.json").exists():
        raise BadData(f"{folder} is not the folder of a run: it has no run.json")
    record = read_run(folder)
    catalog.check_known(record)
    leaving = Export(folder, record, asked, Path(out or folder / "export" / to))
    opened, judging = _opened(data, classifier, record["image_size"], test_share, labels)
    made = leaving.run(opened.pool, opened.name, judging)
    if push:
        hub.push(made, push)
    return made


def _opened(
    data: str | os.PathLike | Data | None,
    classifier: str | os.PathLike | Data | None,
    size: int,
    test_share: float | None,
    labels: str | os.PathLike | None,
) -> tuple[Data, Data | None]:
    """The images to compare and calibrate by, and what judges: the classifier's, else the first where they can."""
    source = Source(catalog.USUAL_DATA if data is None else data, image_size=size)
    if classifier is None:  # what judges, judges as these say
        source = replace(source, test_share=test_share, labels=labels)
    images = source.open()
    if classifier is not None:
        judging = Source(classifier, image_size=size, limit=2, test_share=test_share, labels=labels).open(judging=True)
        return images, judging
    if data is None or images.train is None or images.test is None or not images.train.is_labelled:
        return images, None
    return images, images
