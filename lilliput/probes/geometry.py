"""Geometry: what the features' shape says without a label, for those who have none to choose a checkpoint by.

Effective rank: Roy, Vetterli, EUSIPCO 2007, and Garrido et al. (RankMe), ICML 2023. Alignment and uniformity: Wang,
Isola, ICML 2020, https://arxiv.org/abs/2005.10242, section 4.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lilliput.data.store import spaced
from lilliput.images import augment
from lilliput.probes import Exam
from lilliput.probes._features import effective_rank, extract

MOST = 4000  # images: of a few hundred the rank stops short of what it is
PAIRED = 1000  # of them, for distances


def geometry(exam: Exam):
    """Of images without a look at their labels: effective rank (1..dim), alignment (0..4, of two crops of an image,
    less is nearer), uniformity (-4..0, less is more even), the share of dead units (constant over the images), and the
    features' spread (their deviation beside their length). An effective rank is bounded by the features' number and by
    that of the images: across widths, and across numbers of images, ranks do not compare."""
    images = exam.images.take(spaced(len(exam.images), MOST))
    rng = exam.plan.generator(exam.seed)

    def crop(pixels: Tensor) -> Tensor:
        return augment.resized_crop(pixels, rng, area=(0.2, 1.0))

    features = exam.features if len(images) == len(exam.images) else extract(exam.encoder, images, plan=exam.plan)
    first, second = (
        extract(exam.encoder, images, plan=exam.plan, label="geometry", change=change) for change in (crop, crop)
    )
    yield "effective_rank", effective_rank(features)
    yield "alignment", (F.normalize(first, dim=1) - F.normalize(second, dim=1)).square().sum(1).mean().item()
    distances = torch.pdist(F.normalize(features[spaced(len(features), PAIRED)], dim=1))
    yield "uniformity", distances.square().mul(-2).exp().mean().clamp(min=1e-30).log().item()
    deviation = features.std(0)
    yield "dead_units", (deviation <= 1e-6 * deviation.max()).float().mean().item()
    yield "spread", (deviation.square().sum().sqrt() / features.norm(dim=1).mean().clamp(min=1e-30)).item()
