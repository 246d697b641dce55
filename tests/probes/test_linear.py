"""The linear probe: its optimum, and features that are hard to fit."""

import numpy as np
import pytest
import torch

from lilliput.probes import Flag, LabelledExam, sorted_out
from lilliput.probes.linear import DECAYS, classifier, fit, fitted, linear, principal
from lilliput.studies.judge import Pixels
from tests.conftest import CPU, rng


def test_the_linear_probe_agrees_with_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    draw = np.random.default_rng(0)
    centres = draw.normal(size=(4, 6))
    labels = draw.integers(0, 4, 400)
    features = (centres[labels] + draw.normal(size=(400, 6))).astype(np.float32)
    features -= features.mean(0)
    weights, biases, left = fit(torch.from_numpy(features), torch.from_numpy(labels), 4, steps=2000, tolerance=1e-10)
    assert 0 <= left < 1e-10
    # our penalty: decay * |W|^2 beside the mean loss; scikit-learn's: |W|^2 / 2C beside the sum
    for index, decay in enumerate(DECAYS):
        theirs = LogisticRegression(C=1 / (2 * decay * 400), max_iter=5000, tol=1e-8).fit(features, labels)
        ours = torch.softmax(torch.from_numpy(features) @ weights[:, index] + biases[index], 1).numpy()
        assert np.abs(ours - theirs.predict_proba(features)).max() < 2e-3


@pytest.mark.parametrize(
    "make", [lambda z: z @ torch.randn(8, 600), lambda z: z[:, :1].expand(-1, 50), lambda z: 0 * z]
)
def test_the_linear_probe_converges_on_features_that_say_the_same_over_and_over(make):
    torch.manual_seed(0)
    features = make(torch.randn(200, 8))
    features = (features - features.mean(0)) / features.std(0).clamp(min=1e-9)
    weights, _, left = fit(features, torch.arange(200) % 3, 4)  # a class without images, too
    assert left < 1e-4 and weights.isfinite().all()


@pytest.mark.parametrize("images", [900, 200])
def test_the_linear_probe_takes_features_of_which_half_are_dead(images):
    """Split-Brain's SqueezeNet had 245 dead ones of 512, and LAPACK in single precision gave up, as on these."""
    for seed in (30, 33, 57, 71):
        draw = rng(seed)
        features = torch.randn(900, 32, generator=draw) @ torch.randn(32, 256, generator=draw)
        features[:, torch.randperm(256, generator=draw)[:128]] = 0
        features = features[:images] - features[:images].mean(0)
        scale = features.std(0)
        features = features / torch.where(scale > 0, scale, 1.0)
        variances, axes = principal(features)
        assert torch.allclose((axes * variances) @ axes.T, features.T @ features / images, atol=1e-4)
        labels = torch.randint(0, 5, (images,), generator=draw)
        assert fit(features, labels, 5)[2] <= 1e-4


def test_the_linear_probe_says_that_features_are_no_numbers(capsys, scenes):
    class Broken(torch.nn.Module):
        def forward(self, images):
            return torch.full((len(images), 4), torch.nan)

    figures, flags, _ = sorted_out(linear(LabelledExam(Broken(), scenes.train, scenes.test, plan=CPU)))
    assert 0 <= dict(figures)["accuracy"] < 0.5 and "has not converged" in capsys.readouterr().err
    assert flags == ["probe_not_converged"]


def test_the_classifier_is_fitted_once_for_each_set_of_options(scenes):
    exam = LabelledExam(Pixels(), scenes.train, scenes.test, plan=CPU)
    hasty, whole = list(linear(exam, steps=1)), list(linear(exam))
    assert Flag("probe_not_converged") in hasty and Flag("probe_not_converged") not in whole
    assert exam.once(fitted) is exam.once(fitted, steps=200, tolerance=1e-4)
    assert exam.once(fitted) is not exam.once(fitted, steps=1)


def test_untrained_networks_that_speak_softly_are_still_heard(scenes):
    """A linear probe once divided by no less than 1e-6 and so erased features of size 1e-10."""

    class Soft(Pixels):
        def forward(self, images):
            return super().forward(images) * 1e-10

    exams = [LabelledExam(encoder, scenes.train, scenes.test, plan=CPU) for encoder in (Pixels(), Soft())]
    loud, soft = (dict(sorted_out(linear(exam)).figures) for exam in exams)
    assert soft["accuracy"] == pytest.approx(loud["accuracy"], abs=0.05)


def test_the_test_figure_is_of_all_labelled_images_and_the_held_out_one_of_nine_tenths(scenes):
    """It once was of nine tenths, too: a tenth of the labels chose a decay and taught nothing."""
    exam = LabelledExam(Pixels(), scenes.train, scenes.test, plan=CPU)
    found, features, labels = exam.once(fitted), exam.train_features, exam.train_labels
    count = len(exam.classes)
    of_all = [classifier(features, labels, count, decay=decay)[0] for decay in DECAYS]
    of_nine = [classifier(features[exam.fit], labels[exam.fit], count, decay=decay)[0] for decay in DECAYS]
    held_out = [(c(features[exam.held_out]).argmax(1) == labels[exam.held_out]).float().mean() for c in of_nine]
    best = held_out.index(max(held_out))
    torch.testing.assert_close(found.classify.weights, of_all[best].weights, rtol=1e-3, atol=2e-3)
    rows = dict(sorted_out(linear(exam)).figures)
    assert rows["held_out_accuracy"] == pytest.approx(held_out[best].item(), abs=0.03)
    on_test = (of_all[best](exam.test_features).argmax(1) == exam.test_labels).float().mean().item()
    assert rows["accuracy"] == pytest.approx(on_test, abs=0.011)


@pytest.mark.parametrize("rank", [9, 4, 0])
def test_the_principal_axes_of_few_images_are_those_of_their_singular_values(rank):
    """Of 10 images in 30 dimensions, centred, so that they span 9 at most."""
    features = torch.randn(10, rank, generator=rng(1)) @ torch.randn(rank, 30, generator=rng(2))
    features -= features.mean(0)
    variances, axes = principal(features)
    lengths = torch.linalg.svdvals(features.double())[:rank]
    torch.testing.assert_close(variances.flip(0), (lengths**2 / 10).float())
    torch.testing.assert_close(axes.T @ axes, torch.eye(rank))
    torch.testing.assert_close(features @ axes @ axes.T, features)
