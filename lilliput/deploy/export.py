"""A run's last encoder into a folder: the file, its parity, where wanted eight bits, times, a table, a card."""

import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from lilliput.catalog import EXPORTS
from lilliput.data.store import Data, Images, spaced
from lilliput.deploy import clock, hub, int8, library, onnx_file, own
from lilliput.deploy.card import card
from lilliput.deploy.judge import PLAN, Judge, accuracy, taken, without_tests
from lilliput.deploy.network import Deployed, Opened, head_of
from lilliput.deploy.parity import Parity, check, parity
from lilliput.deploy.table import picture, table
from lilliput.errors import BadData, BadSetting, LilliputError, UnknownName, wanted
from lilliput.probes import extract
from lilliput.probes.linear import Classifier
from lilliput.system.files import write_whole
from lilliput.system.machine import command, commit, this_machine, versions
from lilliput.system.progress import say
from lilliput.system.records import write_json
from lilliput.system.visible import counted
from lilliput.training.encoders import load_encoder, saved_encoders
from lilliput.training.record import read_log

COMPARED = 256  # images of parity
FILES = {"onnx": "onnx_file", "torchscript": "torchscript", "executorch": "executorch"}  # formats of one file


@dataclass(frozen=True)
class Asked:
    """What is to be exported, and how."""

    to: str
    dynamic: bool = False
    uint8: bool = False
    int8: bool = False
    classify: bool = False
    threads: int = 1
    epoch: int | None = None  # of the encoder; None: the last

    def check(self) -> None:
        """UnknownName or BadSetting for what cannot be, before any work."""
        if self.to not in EXPORTS:
            raise UnknownName(f"no format {self.to!r}; there are {', '.join(EXPORTS)}")
        if self.int8 and self.to != "onnx":
            raise BadSetting(f"--int8 goes with --to onnx, and this is {self.to}")
        for flag, given in (("--dynamic", self.dynamic), ("--uint8", self.uint8)):
            if given and self.to not in FILES:
                raise BadSetting(f"{flag} goes with a file that is run ({', '.join(FILES)}), and {self.to} is weights")
        if self.classify and self.to == "lilliput":
            raise BadSetting("--to lilliput is an encoder without classes: leave --classifier out, or take --to onnx")


class Export:
    """One encoder on its way out; `run` does all."""

    def __init__(self, run: Path, record: dict[str, Any], asked: Asked, out: Path):
        saved = saved_encoders(run)
        if not saved:
            raise BadData(f"no encoder_*.safetensors in {run}; is it the folder of a run?")
        self.epoch = max(saved) if asked.epoch is None else asked.epoch
        if self.epoch not in saved:
            raise BadSetting(
                f"{run} has no encoder of epoch {self.epoch}; it has those of {', '.join(map(str, saved))}"
            )
        self.file = saved[self.epoch]
        if asked.to == "lilliput":
            own.check_free(out, record)
        self.folder, self.record, self.asked, self.out = run, record, asked, out
        self.network = Deployed(load_encoder(self.file), uint8=asked.uint8)
        self.judge: Judge | None = None
        self.classes: list[str] = []
        log = [row for row in read_log(run, self.epoch) if row["epoch"] == self.epoch]
        self.kwh = log[-1]["kwh"] if log else None

    def run(self, images: Images, data: str, judging: Data | None) -> Path:
        """`images` of `data` calibrate and are compared; `judging` has the labels."""
        self.few = images.take(spaced(len(images), COMPARED))
        calibrating = self._calibrating(images, judging) if self.asked.int8 else None
        self.out.mkdir(parents=True, exist_ok=True)
        try:
            main = self._written()
            if judging is not None:
                main = self._judged(judging, main)
            found = self._compared(main)
        except LilliputError:  # a file that is not right shall not be taken for one
            self._remove()
            raise
        rows = [self._torch_row(), self._row(self.asked.to, main, found)]
        eight = self._eight_bits(main, calibrating, rows) if calibrating is not None else None
        kept = {
            **self._identity(data, judging),
            "parity": found._asdict(),
            "said": str(found),
            "int8": eight,
            "rows": rows,
        }
        self._described(kept, rows)
        return self.out

    def _written(self) -> Path:
        """The network as it is now, in its form; where its file or folder is."""
        to, record = self.asked.to, self.record
        if to == "hub":
            hub.write(self.network, self.out, record=record, file=self.file, classes=self.classes)
            return self.out
        if to in ("timm", "torchvision"):
            library.write(
                self.network, self.out, library=to, record=record, title=f"{self.name}, exported by Lilliput."
            )
            return self.out
        if to == "lilliput":
            return own.write(self.network, self.out, record=record, file=self.file, few=self.few)
        form = importlib.import_module(f"lilliput.deploy.{FILES[to]}")
        path = self.out / f"{self.name}{form.SUFFIX}"
        metadata = {"lilliput": json.dumps(self._told()), "classes": json.dumps(self.classes)}
        size, dynamic = record["image_size"], self.asked.dynamic
        try:
            form.write(self.network.plain(), path, size=size, dynamic=dynamic, metadata=metadata)
        except LilliputError:
            raise
        except Exception as error:  # whatever a library's exporter makes of a network that it cannot hold
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            way = "leave --dynamic out, or " if dynamic else ""
            raise BadSetting(f"{to} cannot hold {record['backbone']}: {way}take another --to ({reason})") from error
        return path

    def opened(self, path: Path) -> nn.Module:
        """What was written, as a module: images in 0..1 -> what it gives."""
        to = self.asked.to
        if to == "hub":
            return Opened(hub.opened(path))
        if to in ("timm", "torchvision"):
            return Opened(library.opened(path))
        if to == "lilliput":
            return Opened(load_encoder(path))
        form = importlib.import_module(f"lilliput.deploy.{FILES[to]}")
        return Opened(form.opened(path), uint8=self.asked.uint8)

    @property
    def name(self) -> str:
        return f"{self.record['technique']}-{self.record['backbone'].replace('/', '_')}"

    def _told(self) -> dict[str, Any]:
        names = ("technique", "backbone", "backbone_options", "seed", "image_size", "data")
        return {**{name: self.record[name] for name in names}, "epoch": self.epoch, "dynamic": self.asked.dynamic}

    def _judged(self, judging: Data, written: Path) -> Path:
        """The linear probe fitted to the written file's features; where wanted it goes into a file written anew."""
        train, test = judging.judging
        self.judge = Judge.of(self.opened(written), train, test, label=self.name)
        if not self.asked.classify:
            return written
        self.classes = list(train.classes)
        self.network = Deployed(self.network.encoder, uint8=self.asked.uint8, head=head_of(self.judge.classify))
        return self._written()

    def _unless_inside(self, classify: Classifier) -> Classifier | None:
        """What makes scores of a file's outputs; None where they are scores."""
        return classify if self.network.head is None else None

    def _accuracy(self, network: nn.Module) -> float | None:
        """On the test images, 0..1; None without labels."""
        if self.judge is None:
            return None
        classify = self._unless_inside(self.judge.classify)
        return accuracy(network, self.judge.test, classify, label=f"{self.name}: test")

    def _compared(self, path: Path) -> Parity:
        """With torch on real images; BadSetting where they differ."""
        opened = self.opened(path)
        found = self._parity(opened, lambda batch: batch, self.few)
        if self.asked.dynamic:  # and of another size, higher than wide
            other = (2 * self.record["image_size"] + 32, 2 * self.record["image_size"])
            check(self._parity(opened, lambda batch: F.interpolate(batch, other), self.few), f"{path} at {other}")
        say(f"{path.name}: {found}")
        return check(found, str(path))

    def _remove(self) -> None:
        form = importlib.import_module(f"lilliput.deploy.{FILES[self.asked.to]}") if self.asked.to in FILES else None
        weights = [self.file.name] if self.asked.to == "lilliput" else [library.WEIGHTS, library.LOADER, hub.CONFIG]
        for name in [f"{self.name}{form.SUFFIX}"] if form else weights:
            (self.out / name).unlink(missing_ok=True)

    def _parity(self, opened: nn.Module, change: Callable[[Tensor], Tensor], few: Images) -> Parity:
        ours, theirs = (
            extract(network, few, plan=PLAN, batch=32, change=change, label="parity")
            for network in (Opened(self.network, uint8=self.asked.uint8), opened)
        )
        if self.judge is None:
            return parity(ours, theirs)
        classify = self._unless_inside(self.judge.classify)
        return parity(ours, theirs, (taken(ours, classify), taken(theirs, classify)))

    def _calibrating(self, images: Images, judging: Data | None) -> Images:
        """Some of the images, without those that test; BadData where that leaves none."""
        few = images.take(spaced(len(images), int8.CALIBRATED))
        return few if judging is None else without_tests(few, judging.judging[1])

    def _eight_bits(self, main: Path, few: Images, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """The file of eight bits, calibrated by `few`; what is known of it, and its row."""
        path = main.with_name(f"{self.name}-int8.onnx")
        quantiser = int8.Quantiser(wanted("onnx", extra="export").load(main), few, uint8=self.asked.uint8)
        chosen = None if self.judge is None else self._chosen(quantiser, self.judge)
        setting = int8.plainest() if chosen is None else chosen.setting
        write_whole(path, quantiser.quantised(setting))
        found = self._parity(self.opened(path), lambda batch: batch, self.few)
        rows.append(self._row("onnx, int8", path, found))
        self._tell(setting, chosen, rows, found)
        kept = {"setting": str(setting), "in_float": list(setting.in_float), "images": len(few)}
        return {**kept, "held_out": self._held_out(chosen), "parity": found._asdict()}

    def _held_out(self, chosen: int8.Found | None) -> dict[str, Any] | None:
        """By what the setting was chosen, for export.json."""
        if chosen is None or self.judge is None:
            return None
        tries = [{"setting": str(one.setting), "accuracy": one.accuracy} for one in chosen.tries]
        return {"images": len(self.judge.held_out), "floats": chosen.floats, "tries": tries}

    def _chosen(self, quantiser: int8.Quantiser, judge: Judge) -> int8.Found:
        """The setting, by images held out and the probe that was not fitted to them; a file's head gives way to it."""
        onnx = wanted("onnx", extra="export")
        classify = self._unless_inside(judge.on_fit)

        def right(content: bytes) -> float:
            if classify is None:
                model = onnx.load_from_string(content)
                content = onnx_file.with_head(model, head_of(judge.on_fit)).SerializeToString()
            network = Opened(onnx_file.opened(content), uint8=self.asked.uint8)
            return accuracy(network, judge.held_out, classify, label=f"{self.name}: held out")

        return int8.search(quantiser, right)

    def _tell(
        self, setting: int8.Setting, chosen: int8.Found | None, rows: list[dict[str, Any]], found: Parity
    ) -> None:
        """What eight bits cost, and where it is more than a point, what to do."""
        if chosen is None or self.judge is None:
            say(f"eight bits ({setting}): {found}; what that costs in accuracy needs labels: give --classifier")
            return
        for one in chosen.tries:
            of = f"{chosen.floats:.3f} on {len(self.judge.held_out)} training images held out"
            say(f"eight bits ({one.setting}): accuracy {one.accuracy:.3f} of {of}")
        exact, left = (row["accuracy"] for row in rows[-2:])
        say(f"eight bits ({setting}): accuracy {left:.3f} of {exact:.3f} on {len(self.judge.test)} test images")
        if exact - left > int8.POINT:
            say(
                f"{100 * (exact - left):.1f} points are lost: calibrate by more images like yours (--data), take a "
                f"backbone whose layers differ less (resnet18), or keep the file of floats; neither channels are "
                f"equalised nor is the network tuned in eight bits here"
            )

    def _torch_row(self) -> dict[str, Any]:
        own = [file["path"] for file in self.record.get("own_files", {}).values()]
        times = self._clocked("torch", self.file, classes=len(self.classes) or None, use=own)
        exact = self._accuracy(Opened(self.network, uint8=self.asked.uint8))
        return {"what": "torch", "accuracy": exact, **self._sizes(self.file), **times}

    def _row(self, what: str, path: Path, found: Parity) -> dict[str, Any]:
        """Of a file, or of a folder of weights, which nobody runs as they are."""
        kind = "torch" if self.asked.to == "lilliput" else self.asked.to
        times = self._clocked(kind, path) if path.is_file() else {}
        file = path if path.is_file() else path / library.WEIGHTS
        right = self._accuracy(self.opened(path))
        return {"what": what, "accuracy": right, "agreement": found.agreement, **self._sizes(file), **times}

    def _sizes(self, file: Path) -> dict[str, Any]:
        """Of the file, and of what its pretraining took."""
        return {"file": file.name, "mib": round(file.stat().st_size / 2**20, 4), "kwh": self.kwh}

    def _clocked(self, kind: str, path: Path, *, classes: int | None = None, use: list[str] | None = None) -> dict:
        told = {"size": self.record["image_size"], "threads": self.asked.threads, "uint8": self.asked.uint8}
        return clock.clocked(kind, path, classes=classes, use=use or [], **told)

    def _identity(self, data: str, judging: Data | None) -> dict[str, Any]:
        judge = None
        if judging is not None:
            train, test = judging.judging
            judge = {
                "name": judging.name,
                "train": len(train),
                "test": len(test),
                "digests": [train.digest, test.digest],
            }
        return {
            "to": self.asked.to,
            **self._told(),
            "uint8": self.asked.uint8,
            "threads": self.asked.threads,
            "normalised": self.asked.to in FILES or _library_of(self.asked.to, self.record) == "lilliput",
            "library_name": _library_of(self.asked.to, self.record),
            "classes": self.classes,
            "data": data,
            "judge": judge,
            "use": self._use(),
            "machine": this_machine(),
            "versions": {**versions(), **_versions(self.asked.to)},
            "commit": commit(),
            "command": command(),
        }

    def _use(self) -> str:
        """The lines by which it is used, in Markdown."""
        lines = USES["lilliput" if self.asked.to == "hub" and not hub.in_timm(self.record) else self.asked.to]
        size, kind = self.record["image_size"], "np.uint8" if self.asked.uint8 else "np.float32"
        file = self.file.name if self.asked.to == "lilliput" else library.WEIGHTS
        return f"```python\n{lines.format(name=self.name, file=file, size=size, kind=kind)}\n```"

    def _described(self, kept: dict[str, Any], rows: list[dict[str, Any]]) -> None:
        """export.json, table.md, figure.png and README.md."""
        title = f"{self.record['technique']} on {self.record['backbone']}, {self.record['image_size']} px, one image"
        drawn = picture(rows, f"{title}, {counted(self.asked.threads, 'thread(s)')}")
        write_json(self.out / "export.json", kept)
        write_whole(self.out / "table.md", f"{table(rows)}\n".encode())
        write_whole(self.out / "figure.png", drawn)
        write_whole(self.out / "README.md", card(self.folder, self.record, kept, table(rows)).encode())


USES = {
    "onnx": (
        "import json\n\nimport numpy as np\nimport onnxruntime\n\n"
        'session = onnxruntime.InferenceSession("{name}.onnx")\n'
        'classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])  # empty if it gives features\n'
        'images = np.zeros((1, 3, {size}, {size}), {kind})\nprint(session.run(None, {{"images": images}})[0].shape)'
    ),
    "torchscript": (
        "import numpy as np\nimport torch\n\n"
        'network = torch.jit.load("{name}.pt")\n'
        "print(network(torch.from_numpy(np.zeros((1, 3, {size}, {size}), {kind}))).shape)"
    ),
    "executorch": (
        "import numpy as np\nimport torch\nfrom executorch.runtime import Runtime\n\n"
        'method = Runtime.get().load_program("{name}.pte").load_method("forward")\n'
        "print(method.execute([torch.from_numpy(np.zeros((1, 3, {size}, {size}), {kind}))])[0].shape)"
    ),
    "timm": "import torch\nfrom load import run\n\nprint(run(torch.zeros(1, 3, {size}, {size})).shape)",
    "torchvision": "import torch\nfrom load import run\n\nprint(run(torch.zeros(1, 3, {size}, {size})).shape)",
    "hub": (
        "import timm\nimport torch\n\n"
        'model = timm.create_model("local-dir:.", pretrained=True).eval()  # or hf-hub:USER/MODEL\n'
        'mean, std = (torch.tensor(model.pretrained_cfg[name]).view(3, 1, 1) for name in ("mean", "std"))\n'
        "print(model((torch.zeros(1, 3, {size}, {size}) - mean) / std).shape)"
    ),
    "lilliput": (
        'import lilliput\nimport torch\n\nencoder = lilliput.load_encoder("{file}")\n'
        "print(encoder(torch.zeros(1, 3, {size}, {size})).shape)"
    ),
}


def _library_of(to: str, record: dict[str, Any]) -> str:
    """As the hub calls it."""
    names = {"torchscript": "pytorch", "torchvision": "pytorch"}
    return names.get(to, to) if to != "hub" else "timm" if hub.in_timm(record) else "lilliput"


def _versions(to: str) -> dict[str, str]:
    if to != "onnx":
        return {}
    return {name: importlib.import_module(name).__version__ for name in ("onnx", "onnxruntime", "onnxscript")}
