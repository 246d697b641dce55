"""MoCo v1: as MoCo v2, by a linear head, a sharper temperature, and views that are not blurred.

He, Fan, Wu, Xie, Girshick, CVPR 2020, https://arxiv.org/abs/1911.05722, section 3.
"""

from typing import Annotated

from lilliput.optim.recipe import LARGE, SMALL, Recipe
from lilliput.techniques.moco_v2 import MoCoV2


class MoCoV1(MoCoV2):
    """The first of its kind: one layer from the features to what queries and keys are compared by."""

    paper = Recipe("sgd", lr=0.03, batch=256, epochs=200, weight_decay=1e-4, schedule="tenths", decay_vectors=True)
    small = SMALL.replace(options={"momentum": 0.99, "queue": 256, "groups": 2})
    large = LARGE.replace(options={"momentum": 0.99, "queue": 4096})

    def __init__(
        self,
        make_backbone,
        *,
        temperature: Annotated[float, "> 0"] = 0.07,
        momentum: Annotated[float, ">= 0, <= 1"] = 0.999,
        queue: Annotated[int, ">= 1"] = 65536,
        output: Annotated[int, ">= 1"] = 128,
        groups: Annotated[int, ">= 1"] = 8,
        area: Annotated[float, "> 0, <= 1"] = 0.2,
        grey: Annotated[float, ">= 0, <= 1"] = 0.2,
    ):
        super().__init__(
            make_backbone,
            linear=True,
            temperature=temperature,
            momentum=momentum,
            queue=queue,
            output=output,
            groups=groups,
            area=area,
            grey=grey,
            blur=0.0,
        )
