"""The judge of trials: five folds of the labelled training images, so that no test image is looked at."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

    from lilliput.data.store import Data, Images
    from lilliput.system.plan import Plan

FOLDS = 5


def judged(encoder: Any, train: "Images", plan: "Plan") -> dict[str, float]:
    """Accuracies of a linear probe and of nearest neighbours, each image told by what was fitted to other folds."""
    import torch

    from lilliput.probes import effective_rank, extract

    was_training = encoder.training
    features = extract(encoder, train, plan=plan, label="judging")
    encoder.train(was_training)
    labels = torch.as_tensor(train.labels, device=features.device)
    told = [_told(features, labels, fold, len(train.classes)) for fold in range(FOLDS)]
    linear, knn = (sum(right) / len(labels) for right in zip(*told, strict=True))
    return {"linear": round(linear, 4), "knn": round(knn, 4), "rank": round(effective_rank(features), 1)}


def _told(features: "torch.Tensor", labels: "torch.Tensor", fold: int, classes: int) -> tuple[float, float]:
    """How many images of a fold are told right by the linear probe and by kNN; the next fold chooses the decay."""
    from lilliput.probes.knn import vote
    from lilliput.probes.linear import best_classifier, classifier

    place = folds(labels.cpu().numpy())
    asked, chooses, rest = place == fold, place == (fold + 1) % FOLDS, place != fold
    fitted = rest & ~chooses
    settings: dict[str, Any] = {"classes": classes, "steps": 200, "tolerance": 1e-4}
    _, decay, _ = best_classifier(features[fitted], labels[fitted], features[chooses], labels[chooses], **settings)
    classify, _ = classifier(features[rest], labels[rest], decay=decay, **settings)
    near = vote(features[asked], features[rest], labels[rest], classes, 20)["cosine"]
    guesses = classify(features[asked]).argmax(1), near
    return tuple((guess == labels[asked]).sum().item() for guess in guesses)  # type: ignore[return-value]


def folds(labels: np.ndarray) -> np.ndarray:
    """The fold of each image: within every class in turn."""
    place = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        place[members] = np.arange(len(members)) % FOLDS
    return place


def on_test(encoder: Any, data: "Data", plan: "Plan") -> dict[str, float]:
    from lilliput.probes import LabelledExam, sorted_out
    from lilliput.probes.linear import linear

    figures = sorted_out(linear(LabelledExam(encoder, *data.judging, plan=plan))).figures
    return {"test": round(dict(figures)["accuracy"], 4)}
