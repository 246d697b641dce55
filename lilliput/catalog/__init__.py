"""From a name to the thing that its file defines; what there is, with options and sources.

Listing the folders is the registry; a user's own files join it by path or by entry point. Names, sources and options
are read from the files' text, so that a list or a misspelt name costs no import of torch.
"""

from lilliput.catalog.entries import LIBRARIES, Entry, Option, check, did_you_mean, entry, is_path
from lilliput.catalog.files import BASELINES, KINDS, Location, locations, names
from lilliput.catalog.listing import listed
from lilliput.catalog.loading import backbone_builder, dataset, module, probe, technique
from lilliput.catalog.options import parse_value, recipe_options, sort_options, typed_options
from lilliput.catalog.own import take, use
from lilliput.catalog.provenance import OWN_FILES, changed_files, check_known, own_files

# a study's own, in the order of the paper's table
TECHNIQUES = ("rotnet", "moco_v2", "split_brain", "simclr", "byol")
USUAL_DATA = "photographs"
USUAL_BASELINES = ("pixels", "random_init", "supervised")
CHOICES_OF_BASELINES = (*USUAL_BASELINES, "imagenet")  # random_init comes with batch norm as it was and measured
DETECTION_MODES = ("frozen", "tuned")  # whether the encoder learns too
DETECTION_BASELINES = ("random_init", "imagenet")
EXPORTS = ("onnx", "executorch", "torchscript", "timm", "torchvision", "hub", "lilliput")  # what an encoder can become
BACKBONES = ("efficientnet_lite0", "mobilenet_v2", "resnet18", "shufflenet_v2", "squeezenet")

__all__ = [
    "BACKBONES",
    "BASELINES",
    "CHOICES_OF_BASELINES",
    "DETECTION_BASELINES",
    "DETECTION_MODES",
    "EXPORTS",
    "KINDS",
    "LIBRARIES",
    "OWN_FILES",
    "TECHNIQUES",
    "USUAL_BASELINES",
    "USUAL_DATA",
    "Entry",
    "Location",
    "Option",
    "backbone_builder",
    "changed_files",
    "check",
    "check_known",
    "dataset",
    "did_you_mean",
    "entry",
    "is_path",
    "listed",
    "locations",
    "module",
    "names",
    "own_files",
    "parse_value",
    "probe",
    "recipe_options",
    "sort_options",
    "take",
    "technique",
    "typed_options",
    "use",
]
