"""Who judges an export: the linear probe, fitted to the features of the exported file itself.

Test images are for what is reported. What is chosen, is chosen by the tenth of the training images that the probe holds
out, and by a probe that was not fitted to them.
"""

from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from lilliput.data.split import pixel_digests
from lilliput.data.store import Images
from lilliput.errors import BadData
from lilliput.probes import LabelledExam, extract
from lilliput.probes.linear import Classifier, fitted
from lilliput.system.plan import Plan

PLAN = Plan("cpu", "fp32", channels_last=False)  # an exported file runs on processors


@dataclass(frozen=True)
class Judge:
    """Classifiers of features [N, D], and the images that each may be asked of."""

    classify: Classifier  # of all training images: for `test`
    on_fit: Classifier  # of nine tenths of them: for `held_out`
    held_out: Images
    test: Images

    @classmethod
    def of(cls, network: nn.Module, train: Images, test: Images, *, label: str) -> "Judge":
        """Fitted to the features that `network` gives. BadData where no class has images enough."""
        exam = LabelledExam.of(network, train, test, plan=PLAN, label=label)
        found = exam.once(fitted)
        return cls(found.classify, found.on_fit, train.take(exam.held_out), test)


def without_tests(images: Images, test: Images) -> Images:
    """The images without those that test, known by their pixels; BadData where that leaves none."""
    known = np.isin(pixel_digests(images), pixel_digests(test))
    if known.all():
        raise BadData(f"all {len(images)} images to calibrate by are test images too: give others as --data")
    return images.take(np.flatnonzero(~known))


def taken(outputs: Tensor, classify: Classifier | None) -> Tensor:
    """The classes [N] by the scores that a network gives, or by those that `classify` makes of its features."""
    return (outputs if classify is None else classify(outputs)).argmax(1)


def accuracy(network: nn.Module, images: Images, classify: Classifier | None, *, label: str) -> float:
    """Share of the images that are `taken` for what they are, 0..1."""
    found = taken(extract(network, images, plan=PLAN, label=label), classify)
    return (found.numpy() == images.labels).mean().item()
