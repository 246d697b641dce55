"""Linear probe: one linear layer on frozen features, cross-entropy, Adam; the judge of the study that we follow.

Kingma, Ba, ICLR 2015 (Adam); protocol after Zhang, Isola, Efros, ECCV 2016, section 3.2.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lilliput.features import Exam, score

DECAYS = (0.0, 1e-4, 1e-3, 1e-2)


def linear(exam: Exam, *, steps: int = 200, lr: float = 0.02):
    """Fit on nine tenths of the labelled images, choose the weight decay on the held-out tenth, report on test."""
    features, labels = exam.train_features[exam.fit], exam.train_labels[exam.fit]
    mean, std = features.mean(0), features.std(0)
    std = torch.where(std > 0, std, 1.0)  # however small: an untrained network may speak very softly
    weights, biases = fit((features - mean) / std, labels, len(exam.classes), steps=steps, lr=lr)

    def predict(features: Tensor) -> Tensor:
        return (torch.einsum("nd,kdc->knc", (features - mean) / std, weights) + biases).argmax(2)  # [K, N]

    held_out = predict(exam.train_features[exam.held_out])
    best = (held_out == exam.train_labels[exam.held_out]).float().mean(1).argmax()
    yield from score(predict(exam.test_features)[best], exam, held_out[best])


def fit(features: Tensor, labels: Tensor, classes: int, *, steps: int, lr: float) -> tuple[Tensor, Tensor]:
    """[N, D], [N] -> weights [K, D, C] and biases [K, 1, C], one solution for each of K weight decays.

    Full-batch Adam from zero with a cosine rate: the problem is convex, so nothing is random and K are solved at once.
    """
    count, width = len(DECAYS), features.shape[1]
    decays = torch.tensor(DECAYS, device=features.device)[:, None]
    weights = torch.zeros(width, count, classes, device=features.device, requires_grad=True)
    biases = torch.zeros(count, classes, device=features.device, requires_grad=True)
    optimiser = torch.optim.Adam([weights, biases], lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    targets = labels.repeat_interleave(count)
    for _ in range(steps):
        logits = (features @ weights.flatten(1)).unflatten(1, (count, classes)) + biases  # [N, K, C], one product
        loss = F.cross_entropy(logits.flatten(0, 1), targets) * count + (decays * weights**2).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return weights.detach().movedim(0, 1), biases.detach()[:, None]
