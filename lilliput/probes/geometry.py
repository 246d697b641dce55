"""Geometry: what the features' shape says without a label, for those who have none to choose a checkpoint by.

Effective rank: Roy, Vetterli, EUSIPCO 2007, and Garrido et al. (RankMe), ICML 2023. Alignment and uniformity: Wang,
Isola, ICML 2020, https://arxiv.org/abs/2005.10242, section 4. Alpha-ReQ: Agrawal, Mondal, Ghosh, Richards, NeurIPS
2022. NESum: He, Ozay, ICML 2022. SIGReg: Balestriero, LeCun 2025, https://arxiv.org/abs/2511.08544, section 4.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lilliput.data.store import spaced
from lilliput.images import augment
from lilliput.probes import Exam
from lilliput.probes._features import extract, rank_of, singular_values
from lilliput.system.plan import Plan
from lilliput.techniques.sigreg import far_from_gaussian

MOST = 4000  # images: of a few hundred the rank stops short of what it is
PAIRED = 1000  # of them, for distances
CROPPED = 256  # of them, for alignment, which has the network go over them twice
HEAD, TAIL = 10, 100  # of the spectrum, between which its power is fitted: the first values follow none
STEEPEST = 100.0  # the power of a spectrum of one value
DIRECTIONS, KNOTS = 256, 17  # of SIGReg, as in pretraining


def geometry(exam: Exam):
    """Of images without a look at their labels: effective rank (1..dim), alignment (0..4, of two crops of an image,
    less is nearer), uniformity (-4..0, less is more even), the share of dead units (constant over the images), the
    features' spread (their deviation beside their length), how far the power by which their spectrum falls is from 1
    (alpha_req), its sum beside its first value (nesum, 1..dim), and how far they are from a Gaussian alike in all
    directions (sigreg, 0.., less is nearer). An effective rank is bounded by the features' number and by that of the
    images: across widths, and across numbers of images, ranks do not compare; nor do the last three."""
    images = exam.images.take(spaced(len(exam.images), MOST))
    rng = exam.plan.generator(exam.seed)

    def crop(pixels: Tensor) -> Tensor:
        return augment.resized_crop(pixels, rng, area=(0.2, 1.0))

    features = exam.features if len(images) == len(exam.images) else extract(exam.encoder, images, plan=exam.plan)
    shown = images.take(spaced(len(images), CROPPED))
    first, second = (
        extract(exam.encoder, shown, plan=exam.plan, label="geometry", change=change) for change in (crop, crop)
    )
    values = singular_values(features)
    yield "effective_rank", rank_of(values)
    yield "alignment", (F.normalize(first, dim=1) - F.normalize(second, dim=1)).square().sum(1).mean().item()
    distances = torch.pdist(F.normalize(features[spaced(len(features), PAIRED)], dim=1))
    yield "uniformity", distances.square().mul(-2).exp().mean().clamp(min=1e-30).log().item()
    deviation = features.std(0)
    yield "dead_units", (deviation <= 1e-6 * deviation.max()).float().mean().item()
    yield "spread", (deviation.square().sum().sqrt() / features.norm(dim=1).mean().clamp(min=1e-30)).item()
    variances = values.square() / len(features)  # along the principal axes
    yield "alpha_req", abs(power(variances) - 1)
    yield "nesum", (variances.sum() / variances[0].clamp(min=1e-30)).item()
    yield "sigreg", from_gaussian(features, exam.plan, exam.seed)


def power(variances: Tensor) -> float:
    """The a of variances ~ rank^-a, by least squares of the logarithms, each weighed by 1 / rank as its neighbours on
    that scale are the denser; from the 11th rank to the 100th, or of all where there are no more than 20. Those that
    are nothing beside the first are left out; infinite where fewer than two are left."""
    first = HEAD if len(variances) > 2 * HEAD else 0
    kept = variances[first:TAIL]
    kept = kept[kept > 1e-12 * variances[0]]
    if len(kept) < 2:
        return STEEPEST
    rank = torch.arange(first + 1, first + 1 + len(kept), dtype=kept.dtype)
    x, y = rank.log(), kept.log()
    x, y = x - (x / rank).sum() / (1 / rank).sum(), y - (y / rank).sum() / (1 / rank).sum()
    return -((x * y / rank).sum() / (x.square() / rank).sum()).item()


def from_gaussian(features: Tensor, plan: Plan, seed: int) -> float:
    """SIGReg's statistic of features [N, D] over N, after they are centred and scaled as a whole to a variance of 1."""
    directions = torch.randn(features.shape[1], DIRECTIONS, device=features.device, generator=plan.generator(seed))
    centred = features - features.mean(0)
    centred = centred / centred.square().mean().sqrt().clamp(min=1e-30)
    return far_from_gaussian(centred[None], directions, knots=KNOTS).item() / len(features)
