"""Average precision as COCO defines it: Lin et al., ECCV 2014; the counting is faster-coco-eval's, by torchmetrics."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from lilliput.detection.boxes import BoxedImages
from lilliput.errors import wanted

MOST_FOUND = 100  # boxes of an image that count, the surest


def check_libraries() -> None:
    """BadSetting where the extra is not installed."""
    for library in ("torchmetrics", "faster_coco_eval"):
        wanted(library, extra="detection")


def scores(found: Sequence[dict[str, Tensor]], images: BoxedImages) -> Iterator[tuple[str, float]]:
    """AP (the mean over overlaps of .5 to .95 by .05) and AP at .5, over all classes and by class.

    Of a class that the images do not show there is none. Boxes that are set aside are neither to be found nor wrong.
    """
    metric = wanted("torchmetrics.detection", extra="detection").MeanAveragePrecision(
        box_format="xyxy", extended_summary=True, class_metrics=True, backend="faster_coco_eval"
    )
    metric.warn_on_many_detections = False
    metric.update([{name: value.cpu() for name, value in one.items()} for one in found], _truth(images))
    result = metric.compute()
    yield "ap", result["map"].item()
    yield "ap50", result["map_50"].item()
    precision = result["precision"][:, :, :, 0, -1]  # [overlaps, recalls, classes], of boxes of any size
    for place, label in enumerate(result["classes"].reshape(-1).tolist()):
        own = precision[:, :, place]
        if label and (own > -1).any():
            yield f"ap/{images.classes[label - 1]}", own.mean().item()
            yield f"ap50/{images.classes[label - 1]}", own[0].mean().item()


def _truth(images: BoxedImages) -> list[dict[str, Tensor]]:
    """Squeezing an image squeezes all its boxes alike and leaves their overlaps as they were."""
    parts = zip(images.boxes, images.labels, images.aside, strict=True)
    return [{"boxes": boxes, "labels": labels, "iscrowd": aside.long()} for boxes, labels, aside in parts]
