"""Seconds to judge saved encoders: the probes beside the features that they need, and lightly's linear evaluation.

python -m benchmarks.judging --data DIR [--run RUN] [--checkpoints 20] [--size 96] [--lightly-epochs 90]

A series of encoders (of the run, over and over if it has fewer; else untrained ones) is judged by `linear` and `knn`
as `lilliput probe` does; the same features are extracted once more alone, encoder by encoder in turn. Then the last
encoder is judged by lightly's LinearClassifier (extra `bench`) as its benchmarks do: SGD of rate 0.1 for 90 epochs of
random crops and mirror images through the frozen network. `--lightly-epochs 0` leaves that out.
"""

import argparse
import os
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.throughput import run_as_the_command


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", required=True, help="a folder with train/<class>/ and test/<class>/")
    parser.add_argument("--run", help="the folder of a run")
    parser.add_argument("--backbone", default="shufflenet_v2", help="of untrained encoders, without --run")
    parser.add_argument("--checkpoints", type=int, default=20)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--lightly-epochs", type=int, default=90)
    options = parser.parse_args()
    run_as_the_command("benchmarks.judging")
    seconds, accuracy, encoder = ours(options)
    if options.lightly_epochs:
        began = time.perf_counter()
        theirs = lightly(encoder, options.data, options.size, options.lightly_epochs)
        taken = time.perf_counter() - began
        print(f"lightly, {options.lightly_epochs} epochs: {taken:.1f} s, linear accuracy {theirs:.3f}")
        print(f"Lilliput, the same encoder, linear and knn: {seconds:.1f} s, linear accuracy {accuracy:.3f}")
        print(f"lightly / Lilliput: {taken / seconds:.0f}")


def ours(options: argparse.Namespace) -> tuple[float, float, Any]:
    """Judge all; returns the median seconds, and the last encoder with its accuracy."""
    from lilliput import catalog
    from lilliput.datasets import open_data
    from lilliput.probes import extract
    from lilliput.studies.judge import Judge
    from lilliput.system.plan import choose
    from lilliput.system.seeds import seeded
    from lilliput.training.encoders import load_encoder, saved_encoders

    data = open_data(options.data, image_size=options.size, limit=2)
    train, test = data.judging
    build = catalog.backbone_builder(options.backbone)
    plan = choose("cpu", network=build, name=options.backbone, size=options.size)
    plan.take_effect()
    judge = Judge(data.name, train, test, {"linear": {}, "knn": {}}, plan=plan)
    saved = list(saved_encoders(Path(options.run)).values()) if options.run else []
    whole, alone, probes = [], [], []
    for number in range(options.checkpoints):
        with seeded(number):
            encoder = plan.place(load_encoder(saved[number % len(saved)]) if saved else build())
        judge.judgements.clear()
        began = time.perf_counter()
        for images in (train, test):
            extract(encoder, images, plan=plan)
        alone.append(time.perf_counter() - began)
        began = time.perf_counter()
        rows = judge.rows(encoder, {}, probes=list(judge.probes), seed=0, label=str(number))
        whole.append(time.perf_counter() - began)
        probes.append({row["probe"]: row["probe_seconds"] for row in rows})
    count = len(train) + len(test)
    print(f"{options.checkpoints} encoders, {count} images of {options.size} px, {plan}")
    print(
        f"features alone {sum(alone):.1f} s, judged by linear and knn {sum(whole):.1f} s: {sum(whole) / sum(alone):.2f}"
    )
    print(f"knn {statistics.median(seconds['knn'] for seconds in probes):.2f} s an encoder")
    accuracy = next(row["value"] for row in rows if (row["probe"], row["metric"]) == ("linear", "accuracy"))
    return statistics.median(whole), accuracy, encoder


def lightly(encoder: Any, folder: str, size: int, epochs: int) -> float:
    """Test accuracy by lightly's linear evaluation: its loader, crops, SGD and head."""
    import torch
    from lightly.utils.benchmarking import LinearClassifier
    from pytorch_lightning import Trainer
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    crop = transforms.Compose(
        [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    )
    plain = transforms.Compose([transforms.Resize(size), transforms.CenterCrop(size), transforms.ToTensor()])
    encoder = encoder.to(memory_format=torch.contiguous_format)
    with torch.no_grad():
        dim = encoder.eval()(torch.zeros(2, 3, size, size)).shape[1]
    train = ImageFolder(str(Path(folder) / "train"), crop)
    workers, batch = os.cpu_count() or 1, min(256, len(train))
    test = ImageFolder(str(Path(folder) / "test"), plain)
    head = LinearClassifier(encoder, batch, feature_dim=dim, num_classes=len(train.classes), topk=(1,))
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader(train, batch, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=True)
    trainer.fit(head, loader)
    metrics = trainer.validate(head, DataLoader(test, batch, num_workers=workers), verbose=False)
    return metrics[0]["val_top1"]


if __name__ == "__main__":
    main()
