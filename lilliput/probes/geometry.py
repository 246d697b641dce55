"""Geometry: what the features' shape says without a label, for those who have none to choose a checkpoint by.

Effective rank: Roy, Vetterli, EUSIPCO 2007, and Garrido et al. (RankMe), ICML 2023. Alignment and uniformity: Wang,
Isola, ICML 2020, https://arxiv.org/abs/2005.10242, section 4.
"""

import numpy as np
import torch
import torch.nn.functional as F

from lilliput.data.store import spaced
from lilliput.images import augment
from lilliput.probes._exam import Exam
from lilliput.probes._features import effective_rank, extract

MOST = 256  # images


def geometry(exam: Exam):
    """Of the labelled training images, whose labels it does not look at: effective rank (1..dim), alignment (0..4, of
    two crops of an image, less is nearer), uniformity (-4..0, less is more even), the share of dead units (constant
    over the images), and the features' spread (their deviation beside their length)."""
    rows = spaced(len(exam.train), MOST)
    features = extract(exam.encoder, exam.train.take(rows), plan=exam.plan, label="geometry")
    rng = exam.plan.generator(exam.seed)
    one, two = (_crops(exam, rows, rng) for _ in range(2))
    even = F.normalize(features, dim=1)
    yield "effective_rank", effective_rank(features)
    yield "alignment", (one - two).square().sum(1).mean().item()
    yield "uniformity", torch.pdist(even).square().mul(-2).exp().mean().clamp(min=1e-30).log().item()
    deviation = features.std(0)
    yield "dead_units", (deviation <= 1e-6 * deviation.max()).float().mean().item()
    yield "spread", (deviation.square().sum().sqrt() / features.norm(dim=1).mean().clamp(min=1e-30)).item()


@torch.inference_mode()
def _crops(exam: Exam, rows: np.ndarray, rng: torch.Generator) -> torch.Tensor:
    exam.encoder.eval()
    found = []
    for first in range(0, len(rows), 256):
        views = augment.resized_crop(exam.train.load(rows[first : first + 256], exam.plan.device), rng, area=(0.2, 1.0))
        with exam.plan.autocast():
            found.append(F.normalize(exam.encoder(views).float(), dim=1))
    return torch.cat(found)
