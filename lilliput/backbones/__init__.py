"""Networks that give maps and features, one file each, and any of timm's and torchvision's by name."""

from lilliput.backbones._backbone import Backbone, TooSmall, check_image_size, refuse_small_parts
from lilliput.backbones._batch_norm import BATCH_NORMS, join_batch_norm, split_batch_norm
from lilliput.backbones._condense import at_the_end, condensed, condenses
from lilliput.backbones._library import library_backbone
from lilliput.backbones._plain import plain
from lilliput.backbones._residual import begin_residuals_at_zero
from lilliput.backbones._stock import read_weights, stock_file, stock_name, take_weights
from lilliput.backbones._thin import Link, keep_channels, links
from lilliput.backbones._trial import of_one_kind

__all__ = [
    "BATCH_NORMS",
    "Backbone",
    "Link",
    "TooSmall",
    "at_the_end",
    "begin_residuals_at_zero",
    "check_image_size",
    "condensed",
    "condenses",
    "join_batch_norm",
    "keep_channels",
    "library_backbone",
    "links",
    "of_one_kind",
    "plain",
    "read_weights",
    "refuse_small_parts",
    "split_batch_norm",
    "stock_file",
    "stock_name",
    "take_weights",
]
