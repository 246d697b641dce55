"""FastSiam: SimSiam with four views, each predicting the mean of the others; steadier targets for small batches.

Pototzky, Sultan, Schmidt-Thieme, GCPR 2022, https://doi.org/10.1007/978-3-031-16788-1_4, section 3.
"""

from typing import Annotated

from lilliput.optim.recipe import SMALL, Recipe
from lilliput.techniques.simsiam import SimSiam


class FastSiam(SimSiam):
    """As SimSiam, with its authors' batch of 32 and a quarter of its epochs."""

    paper = Recipe("sgd", lr=0.125, batch=32, epochs=25, weight_decay=1e-4)
    small = SMALL.replace(options=SimSiam.small.options)

    def __init__(
        self,
        make_backbone,
        *,
        whole_views: Annotated[int, ">= 2"] = 4,
        hidden: Annotated[int, ">= 1"] = 2048,
        output: Annotated[int, ">= 1"] = 2048,
        narrow: Annotated[int, ">= 1"] = 512,
        area: Annotated[float, "> 0, <= 1"] = 0.2,
        blur: Annotated[float, ">= 0, <= 1"] = 0.5,
    ):
        heads = {"hidden": hidden, "output": output, "narrow": narrow}
        super().__init__(make_backbone, whole_views=whole_views, **heads, area=area, blur=blur)
