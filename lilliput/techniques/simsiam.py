"""SimSiam: predict the projection of another view, whose side has no gradient; no negatives and no slow copy.

Chen, He, CVPR 2021, https://arxiv.org/abs/2011.10566, section 3 and appendix A.
More than two views, each against the mean of the others: Pototzky, Sultan, Schmidt-Thieme, FastSiam, GCPR 2022.
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lilliput.images import augment
from lilliput.optim.recipe import SMALL, Recipe
from lilliput.techniques import Technique, full_precision, mlp, spread


class SimSiam(Technique):
    """A predictor chases the mean projection of an image's other views."""

    contrastive = "joint-embedding"
    paper = Recipe("sgd", lr=0.05, batch=512, epochs=100, weight_decay=1e-4, decay_vectors=True)
    small = SMALL.replace(options={"hidden": 1024, "output": 1024, "narrow": 256, "blur": 0.0})

    def __init__(
        self,
        make_backbone,
        *,
        whole_views: Annotated[int, ">= 2"] = 2,
        hidden: Annotated[int, ">= 1"] = 2048,
        output: Annotated[int, ">= 1"] = 2048,
        narrow: Annotated[int, ">= 1"] = 512,
        area: Annotated[float, "> 0, <= 1"] = 0.2,
        blur: Annotated[float, ">= 0, <= 1"] = 0.5,
    ):
        super().__init__()
        self.encoder = self.build_encoder(make_backbone)
        self.projector = mlp(self.encoder.dim, hidden, hidden, output, norm_last=True)
        self.projector[-1] = nn.BatchNorm1d(output, affine=False)
        self.predictor = mlp(output, narrow, output)
        self.whole_views, self.area, self.blur = whole_views, area, blur

    def views(self, images, rng):
        return tuple(self._view(images, rng) for _ in range(self.whole_views))

    def _view(self, images, rng):
        images = augment.resized_crop(images, rng, area=(self.area, 1.0))
        images = augment.colour_jitter_(images, rng, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
        images = augment.grey_(images, rng, p=0.2)
        return augment.blur_(images, rng, p=self.blur)

    def forward(self, *views):
        projections = [self.projector(self.encoder(view)) for view in views]
        self.measures["spread"] = spread(projections[0])
        predictions = [self.predictor(projection) for projection in projections]
        return away_from_others(torch.stack(predictions), torch.stack(projections).detach())

    def guessing(self, batch):
        return 0.0  # the cosine of directions that have nothing to do with each other


@full_precision
def away_from_others(predictions: Tensor, projections: Tensor) -> Tensor:
    """[V, B, D] each -> mean of -cos of a view's prediction with the mean projection of its image's other views, -1..1.

    Equation 2 for two views.
    """
    others = (projections.sum(0) - projections) / (len(projections) - 1)
    return -F.cosine_similarity(predictions, others, dim=2).mean()
