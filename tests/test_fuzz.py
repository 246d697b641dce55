"""Damaged files and senseless words by the thousand: all are read, or refused in words; nothing hangs or eats memory.

A few hundred inputs in the usual run, the same ones each time; more than 20,000 in `pytest -m heavy
tests/test_fuzz.py`, which counts them at its end. What once crashed stands in `ONCE_CRASHED`, by kind.
"""

import contextlib
import io
import json
import pickle
import re
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from lilliput import api, catalog, cli, datasets
from lilliput.data.masks import masks_of
from lilliput.data.store import open_store
from lilliput.data.writing import write_store
from lilliput.errors import BadData, LilliputError
from lilliput.images.decode import decode, quietly
from lilliput.reports import tables
from lilliput.reports.material import open_material
from lilliput.reports.page import measured, overview, page, section
from lilliput.studies import judge, results
from lilliput.system import plan, records
from lilliput.system.machine import peak_bytes, reset_peak
from lilliput.system.plan import nearest
from lilliput.system.records import read_json, write_json
from lilliput.system.tensors import read_tensors
from lilliput.training import run
from lilliput.training.encoders import load_encoder, save_encoder
from lilliput.training.record import LOGGED, RUN, read_log, read_run

SECONDS, MIB = 20, 2048  # of one input at most, and what all of them may add to the process
ORDERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
NESTED = b"[" * 100_000


@st.composite
def damaged(draw, wholes):
    """One of some whole files with a few bytes turned, cut out, put in, moved, or taken from another."""
    content = bytearray(draw(st.sampled_from(wholes)))
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        length = draw(st.integers(1, 40))
        match draw(st.sampled_from(["turn", "set", "cut", "end", "insert", "splice"])):
            case "turn" if content:
                content[at] ^= 1 << draw(st.integers(0, 7))
            case "set":
                content[at : at + 4] = draw(
                    st.sampled_from([b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\xff\xff"])
                )
            case "cut":
                del content[at : at + length]
            case "end":
                del content[at:]
            case "insert":
                content[at:at] = draw(st.binary(min_size=1, max_size=40))
            case "splice":
                other = draw(st.sampled_from(wholes))
                content[at:] = other[draw(st.integers(0, len(other))) :]
    return bytes(content)


def true_sums(content):
    """A PNG whose chunks have the sums that belong to them, so that a decoder looks further."""
    whole, at = bytearray(content[:8]), 8
    while at + 12 <= len(content):
        length = min(struct.unpack(">I", content[at : at + 4])[0], len(content) - at - 12)
        body = content[at + 4 : at + 8 + length]
        whole += struct.pack(">I", length) + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + length
    return bytes(whole)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def altered(draw, record):
    """A record with some of its values replaced, taken away or added."""
    changed = dict(record)
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from([*record, "format", "other"]))
        if draw(st.booleans()):
            changed[name] = draw(anything)
        else:
            changed.pop(name, None)
    return json.dumps(changed).encode()


def texts_of(record):
    """Bytes where a JSON record was expected."""
    whole = json.dumps(record).encode()
    return altered(record) | damaged([whole]) | anything.map(json.dumps).map(str.encode) | st.binary(max_size=60)


class Kind:
    """Inputs of one kind: `inputs()` after the whole files are made in `folder`, `meet` one of them."""

    usual, heavy = 40, 1000

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch):
        self.folder, self.patch = folder, patch
        self.prepare()

    def prepare(self): ...


class Images(Kind):
    usual, heavy = 150, 9000

    def prepare(self):
        y, x = np.mgrid[:20, :24].astype(np.uint8) * 10
        colour = Image.fromarray(np.stack([x, y, x ^ y], axis=2))
        grey, deep = colour.convert("L"), Image.fromarray(np.uint16(x) * 256 + y)
        unit = grey.convert("F").point(lambda value: value / 255)
        clear = colour.convert("RGBA")
        clear.putalpha(grey)
        exif = Image.Exif()
        exif[0x0112] = 6
        frames = {"save_all": True, "append_images": [grey.convert("RGB")]}
        grey_frames = {"save_all": True, "append_images": [grey]}  # Pillow 11.0 cannot write colour after a palette
        self.wholes = [
            saved(image, format, **options)
            for format, images, variants in (
                ("png", [colour, grey, clear, deep, grey.convert("1")], [{}, frames]),
                ("png", [colour.convert("P")], [{}, grey_frames]),
                ("jpeg", [colour, grey, colour.convert("CMYK")], [{}, {"progressive": True}, {"exif": exif}]),
                ("gif", [colour.convert("P"), grey, clear], [{}, frames]),
                ("bmp", [colour, grey, grey.convert("1"), clear], [{}]),
                ("webp", [colour, clear], [{}, {"lossless": True}, frames, {"exif": exif}]),
                ("tiff", [grey.convert("1")], [{"compression": "group4"}]),
                ("tiff", [unit, deep], [{}, {"compression": "tiff_adobe_deflate"}]),
                (
                    "tiff",
                    [colour, colour.convert("CMYK"), clear, colour.convert("P")],
                    [
                        {},
                        {"compression": "tiff_lzw"},
                        {"compression": "packbits"},
                        {"exif": exif},
                    ],
                ),
                ("tiff", [colour], [{"compression": "jpeg"}, frames]),
            )
            for image in images
            for options in variants
        ]
        for content in self.wholes:  # whole they are
            self.meet(content)
            assert self.read

    def inputs(self):
        pictures = [content for content in self.wholes if content.startswith(b"\x89PNG")]
        return damaged(self.wholes) | damaged(pictures).map(true_sums)

    def meet(self, content):
        (self.folder / "a.jpg").write_bytes(content)
        self.read = False
        try:
            with quietly():
                image = decode(self.folder / "a.jpg", 16)
        except Exception:
            return
        self.read = True
        assert image.shape == (3, 16, 16) and image.dtype == np.uint8


def saved(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


class Stores(Kind):
    heavy = 2500

    def prepare(self):
        self.place = self.folder / "store"

        def fill(images, masks):
            images[:] = 7

        write_store(
            self.place,
            name="a",
            split="train",
            source="/a",
            image_size=8,
            count=3,
            fill=fill,
            labels=[0, 1, 1],
            classes=["x", "y"],
            masks=True,
        )
        self.wholes = {path.name: path.read_bytes() for path in self.place.iterdir()}

    def inputs(self):
        manifest = json.loads(self.wholes["manifest.json"])
        arrays = {name: content for name, content in self.wholes.items() if name.endswith("npy")}
        heads = {
            name: damaged([content[:128]]).map(lambda head, c=content: head + c[128:])
            for name, content in arrays.items()
        }
        return st.one_of(
            texts_of(manifest).map(lambda content: ("manifest.json", content)),
            *(st.tuples(st.just(name), damaged(list(arrays.values())) | heads[name]) for name in arrays),
        )

    def meet(self, damage):
        name, content = damage
        for file, whole in self.wholes.items():
            (self.place / file).write_bytes(content if file == name else whole)
        with contextlib.suppress(BadData):
            store = open_store(self.place)
            assert store.batch([0]).shape == (1, 3, store.image_size, store.image_size)
            assert not store.is_labelled or store.labels.max() < len(store.classes)


class Tensors(Kind):
    usual, heavy = 60, 3000

    def prepare(self):
        self.file = self.folder / "a.safetensors"
        save_encoder(self.file, torch.nn.Linear(3, 2), {"technique": "rotnet", "backbone": "x"})
        pickled = io.BytesIO()
        torch.save({"weight": torch.zeros(3)}, pickled)
        self.wholes = [self.file.read_bytes(), pickled.getvalue(), pickle.dumps({"weight": [1.0, 2.0]})]

    def inputs(self):
        def behind(header):
            return struct.pack("<Q", len(header)) + header + b"\0" * 32

        about = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
        headers = texts_of({"weight": about}) | altered(about).map(lambda one: b'{"weight": %b}' % one)
        return damaged(self.wholes[:1]) | damaged(self.wholes) | st.binary(max_size=200) | headers.map(behind)

    def meet(self, content):
        self.file.write_bytes(content)
        for read in (read_tensors, load_encoder):
            with contextlib.suppress(BadData):
                read(self.file)


class Headers(Kind):
    """Whole files that tell lies of their encoder."""

    usual, heavy = 12, 1000

    def prepare(self):
        self.about = {"format": 1, "technique": "rotnet", "backbone": "squeezenet", "backbone_options": {"width": 0.5}}
        build = catalog.backbone_builder("squeezenet", width=0.5)
        self.file = self.folder / "a.safetensors"
        save_encoder(self.file, catalog.technique("rotnet").build_encoder(build), self.about)
        assert load_encoder(self.file)
        self.whole = self.file.read_bytes()

    def inputs(self):
        backbones = [
            "timm/../../x",
            "timm/hf-hub:a/b",
            "timm/local-dir:/tmp",
            "torchvision/",
            "timm/resnet18.x",
            "__init__",
        ]
        options = ["width", "channels", "temperature", "pretrained", "self", "name"]
        values = st.sampled_from([0.1, 0, -1, 1e9, 10**12, True, "1", None, float("nan"), float("inf")]) | anything
        lies = st.one_of(
            st.fixed_dictionaries({"backbone": st.sampled_from(backbones) | anything}),
            st.fixed_dictionaries(
                {"technique": st.sampled_from(["../rotnet", "__init__", "simclr", "byol"]) | anything}
            ),
            st.fixed_dictionaries({"backbone_options": st.dictionaries(st.sampled_from(options), values) | anything}),
            st.fixed_dictionaries({"format": values}),
        )
        return lies.map(lambda lie: json.dumps({**self.about, **lie}).encode()) | texts_of(self.about)

    def meet(self, about):
        length = struct.unpack("<Q", self.whole[:8])[0]
        header = json.loads(self.whole[8 : 8 + length])
        header["__metadata__"]["lilliput"] = about.decode(errors="replace")
        text = json.dumps(header).encode()
        self.file.write_bytes(struct.pack("<Q", len(text)) + text + self.whole[8 + length :])
        with contextlib.suppress(LilliputError):
            load_encoder(self.file)


class Records(Kind):
    """A seal is no proof of good faith: each content is met with one as well."""

    heavy = 2000

    def prepare(self):
        self.record = {
            "technique": "simclr",
            "backbone": "resnet18",
            "recipe": "small",
            "data": "x",
            "seed": 0,
            "image_size": 32,
            "parameters": 9,
            "multiply_adds": None,
            "multiply_adds_224": 9,
            "versions": {"torch": "2"},
            "format": 2,
            "plan": {"device": "cpu", "precision": "fp32", "channels_last": True},
            "every": 5,
            "recipe_settings": {"epochs": 10},
        }
        self.meet(json.dumps(self.record).encode())
        assert self.read

    def inputs(self):
        plans = altered(self.record["plan"]).map(lambda plan: {**self.record, "plan": json.loads(plan)})
        return texts_of(self.record) | plans.map(json.dumps).map(str.encode)

    def meet(self, content):
        path = self.folder / "run.json"
        path.write_bytes(content)
        with contextlib.suppress(BadData):
            read_json(path)
        with contextlib.suppress(ValueError, RecursionError):
            record = json.loads(content)
            if isinstance(record, dict):
                write_json(path, record)
        self.read = False
        with contextlib.suppress(LilliputError):
            record = read_run(self.folder)
            nearest(record["plan"])
            self.read = bool(judge.costs(record, None))


class Logs(Kind):
    heavy = 1500

    def inputs(self):
        row = dict.fromkeys(("epoch", *LOGGED), 3)
        whole = "".join(json.dumps({**row, "epoch": epoch}) + "\n" for epoch in range(1, 6)).encode()
        return damaged([whole]) | texts_of(row).map(lambda line: whole + line + b"\n")

    def meet(self, content):
        (self.folder / "log.jsonl").write_bytes(content)
        with contextlib.suppress(BadData):
            rows = read_log(self.folder, 3)
            assert all(row["epoch"] <= 3 for row in rows)
            for row in rows:
                judge.costs(dict.fromkeys(RUN), records.of_kinds(row, LOGGED, "a log"))


class Results(Kind):
    heavy = 2000

    def prepare(self):
        row = {"technique": "simclr", "backbone": "resnet18", "seed": 0, "probe": "linear", "metric": "accuracy"}
        results.append(self.folder, [{**row, "epoch": epoch, "value": epoch / 9} for epoch in range(4)])
        self.whole = (self.folder / "results.csv").read_bytes()

    def inputs(self):
        odd = (
            st.sampled_from(["1e400", "nan", "-1", "9" * 30, '"', "", "1.5", "\x1b[31m", "0x1", "inf", "1_0"])
            | st.text()
        )

        @st.composite
        def with_odd_fields(draw):
            lines = [line.split(",") for line in self.whole.decode().splitlines()]
            for _ in range(draw(st.integers(1, 3))):
                line = draw(st.sampled_from(lines))
                line[draw(st.integers(0, len(line) - 1))] = draw(odd)
            return "".join(",".join(line) + "\n" for line in lines).encode(errors="replace")

        return damaged([self.whole]) | with_odd_fields() | st.binary(max_size=60)

    def meet(self, content):
        (self.folder / "results.csv").write_bytes(content)
        with contextlib.suppress(BadData):
            assert list(results.read(self.folder).columns) == results.COLUMNS


class Studies(Kind):
    """What a report makes of a study's settings."""

    usual, heavy = 20, 800

    def prepare(self):
        row = {"technique": "simclr", "backbone": "resnet18", "seed": 0, "probe": "linear", "judge": "photos"}
        rows = [{**row, "epoch": epoch, "metric": "accuracy", "value": epoch / 9} for epoch in range(1, 4)]
        results.append(self.folder, [*rows, {**rows[-1], "metric": "held_out_accuracy"}])
        self.record = {
            "techniques": ["simclr"],
            "backbones": ["resnet18"],
            "seeds": [0],
            "judge": "photos",
            "data": "photos",
            "pool_images": 9,
            "test_images": 9,
            "image_size": 32,
            "epochs": 3,
            "every": 1,
            "classes": ["a", "b"],
            "recipes": {"simclr": {"epochs": 3}},
            "machine": {"threads": 1},
            "contrastive": {"simclr": "yes"},
            "format": 1,
        }
        self.meet(json.dumps(self.record).encode())
        assert self.read

    def inputs(self):
        orders = st.fixed_dictionaries(
            {},
            optional=dict.fromkeys(
                self.record, st.sampled_from(["\x1b[31m<script>", ["\x9b<b>"], {"\0": "\u202e"}, 1])
            ),
        )
        return texts_of(self.record) | orders.map(lambda odd: json.dumps({**self.record, **odd}).encode())

    def meet(self, content):
        (self.folder / "study.json").write_bytes(content)
        text, self.read = tables.table_text(self.folder), False
        with contextlib.suppress(LilliputError):
            study = section.open_study(open_material(self.folder))
            text += overview.overview_section(study).body + measured.table_section(study).body
            text += page.protocol_section(study).body
            self.read = True
        assert not ORDERS.search(text) and not re.search(r"(?<!\\)<(script|b)>", text), ascii(text)


class Masks(Kind):
    heavy = 1500

    def prepare(self):
        photos = self.folder / "train"
        photos.mkdir()
        for name in ("1.png", "2.png", "²³.png"):
            Image.new("L", (8, 8)).save(photos / name)
        self.store = catalog.dataset("folder")(path=photos, image_size=8).pool.folder
        arrays = {"train_index": np.array([1, 2]), "train_mask": np.zeros((2, 8), np.uint8)}
        self.wholes = [packed(arrays), packed(arrays, np.savez_compressed)]
        self.meet(self.wholes[0])
        assert self.read

    def inputs(self):
        kinds = st.sampled_from(["int64", "uint8", "float64", "U5", "bool", "complex128"])
        shapes = st.lists(st.integers(0, 3), max_size=3)
        array = st.builds(lambda kind, shape: np.ones(shape, kind), kinds, shapes)
        pairs = st.fixed_dictionaries({"train_index": array}, optional={"train_mask": array})
        return damaged(self.wholes) | pairs.map(packed) | st.binary(max_size=60)

    def meet(self, content):
        (self.folder / "masks.npz").write_bytes(content)
        self.read = False
        with contextlib.suppress(BadData):
            found = masks_of(open_store(self.store))
            self.read = True
            assert found.shape == (3, 8, 8) and found.max() <= 1


def packed(arrays, save=np.savez):
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


class Plans(Kind):
    heavy = 1000

    def prepare(self):
        self.patch.setenv("LILLIPUT_HOME", str(self.folder))
        self.patch.setattr(plan, "_measured", lambda plan, *_: plan)
        self.patch.setattr(plan, "say", lambda _: None)
        self.plan = plan.Plan("cpu", "fp32", True, 1)
        self.choose()
        (self.file,) = (self.folder / "plans").iterdir()

    def choose(self):
        work = plan.Workload(torch.nn.Identity, "a", 32, 8)
        return plan._remembered(self.plan, [plan.Change("channels_last", False, 1.1)], work)

    def inputs(self):
        record = json.loads(self.file.read_bytes())
        return texts_of(record) | altered(record["plan"]).map(lambda text: b'{"plan": %b}' % text)

    def meet(self, content):
        self.file.write_bytes(content)
        chosen = self.choose()
        assert chosen.device == "cpu" and chosen.precision in plan.DTYPES and 1 <= (chosen.threads or 1) <= 4096
        assert type(chosen.channels_last) is bool and type(chosen.compile) is bool


class Words(Kind):
    """Command lines, up to where the work would begin."""

    usual, heavy = 100, 3000

    def prepare(self):

        (self.folder / "table.md").write_text("")
        self.patch.chdir(self.folder)
        rows = pd.DataFrame({"epoch": [1], "judge": ["a"], "probe": ["knn"], "metric": ["accuracy"], "value": [0.5]})
        self.patch.setattr(api, "study", lambda *_, **__: (self.folder, []))
        self.patch.setattr(api, "pretrain", lambda *_, **__: self.folder)
        self.patch.setattr(api, "probe", lambda *_, **__: rows)
        self.patch.setattr(api, "report", lambda *words, **__: list(map(Path, filter(None, words))))
        self.patch.setattr(datasets, "open_data", _no_data)
        self.patch.setattr(run, "summary", str)
        self.patch.setattr(cli, "_page", lambda _, workers: "")

    def inputs(self):
        # what a system can pass: no zero bytes, and of half characters those that stand for bytes
        letters = st.characters(exclude_categories=["Cs"], exclude_characters="\0") | st.integers(128, 255).map(
            lambda byte: chr(0xDC00 + byte)
        )
        junk = st.text(letters, max_size=12) | st.sampled_from(
            ["", "-", "--", "-1", "²", "9" * 5000, "a" * 300, "~nobody/x"]
        )
        known = re.findall(r'"(--[a-z-]+)"', Path(cli.__file__).read_text())
        verbs = ["study", "pretrain", "probe", "report", "compare", "prepare", "list"]
        names = [name for kind in catalog.KINDS for name in catalog.names(kind)]
        values = [
            *names,
            "paper",
            "timm/resnet18",
            "timm/",
            "fp32",
            "precision=fp32",
            "threads=x",
            "1",
            "0",
            "-1",
            "0.5",
        ]
        values += ["nan", "1e999", "None", "[" * 3000, "-" * 3000 + "1", "{[]: 1}", "{1: 2}", "(1,)", "b'a'", "1_0"]
        options = ["--temperature", "--lr", "--width", "--queue=3", "--lr=", "--=", "--tau=x", "--\x1b[31m"]
        word = st.sampled_from(known) | st.sampled_from(values) | st.sampled_from(options) | junk
        rest = st.lists(word, max_size=6)
        pretrain = st.tuples(*(st.sampled_from(catalog.names(kind)) for kind in ("techniques", "backbones")))
        return st.one_of(
            st.builds(lambda verb, words: [verb, *words], st.sampled_from(verbs), rest),
            st.builds(lambda pair, words: ["pretrain", *pair, *words], pretrain, rest),
            st.lists(junk, max_size=3),
        )

    def meet(self, words):
        out, err = io.StringIO(), io.StringIO()
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = cli.main(words)
        except SystemExit as end:
            code = end.code
        assert code in (0, 1, 2), words
        said = out.getvalue() + err.getvalue()
        assert not ORDERS.search(said), ascii(said)


def _no_data(*_, **__):
    raise BadData("no data here")


# -- the test ---------------------------------------------------------------------------------------------------------

HEADER = {"format": 1, "technique": "rotnet", "backbone": "squeezenet", "backbone_options": {"width": 0.5}}
STORE = {"format": 1, "name": "a", "split": "train", "source": "/a", "image_size": 8, "count": 3, "classes": ["x", "y"]}
STORE |= {"digest": "0", "shapes": {"images": [3, 3, 8, 8], "labels": [3]}, "skipped": []}
ONCE_CRASHED = {
    Stores: [
        *(("manifest.json", json.dumps({**STORE, "classes": odd}).encode()) for odd in (0, {}, ["x"], [1, 2])),
        *(("manifest.json", json.dumps({**STORE, "shapes": odd}).encode()) for odd in ([], 0, {"labels": [3]})),
        ("manifest.json", json.dumps({**STORE, "shapes": {"../a": 1}}).encode()),
        ("manifest.json", NESTED),
        ("labels.npy", b"\x93NUMPY\x01\x00\x20\x00{'descr': '<i8', 'shape': (3,), } ("),
    ],
    Tensors: [struct.pack("<Q", len(NESTED)) + NESTED],
    Headers: [
        *(json.dumps({name: value for name, value in HEADER.items() if name != absent}).encode() for absent in HEADER),
        *(json.dumps({**HEADER, name: odd}).encode() for name in HEADER for odd in ([], {}, None, "1", 3, [{}])),
        *(
            json.dumps({**HEADER, "backbone_options": {name: odd}}).encode()
            for name in ("width", "channels", "self", "temperature")
            for odd in (float("nan"), 10**12, "0.5", True, 0.25)
        ),
        b"null", b"[]", b'"technique"', NESTED,
    ],
    Records: [NESTED, b"\xff", b"1" * 5000],
    Logs: [
        json.dumps(dict.fromkeys(("epoch", *LOGGED), 3) | {"total_seconds": 10**400}).encode(),
        b"\0\0\xff\xff", b"[]\n", b"3\n", b'{"epobh": 1}\n', b'{"epoch": "1"}\n', NESTED,
    ],
    Results: [",".join(results.COLUMNS).encode() + b"\na,b," + b"9" * 30 + b",0,p,m,0.5" + b"," * 14 + b"\n"],
    Studies: [
        *(json.dumps({"judge": "photos", name: odd}).encode() for name in ("seeds", "image_size", "epochs", "classes")
          for odd in (["\x9b<b>"], "\x1b[31m<script>", None, [], {})),
        b"[]", b"null",
    ],
    Masks: [
        b"", b"\x93NUMPY", packed({"train_index": np.ones(2, int), "train_mask": np.ones(2, np.uint8)}),
        packed({"train_index": np.ones(2), "train_mask": np.ones((2, 8), np.uint8)}),
        packed({"train_index": np.ones(2, int), "train_mask": np.ones((1, 8))}),
        packed({"train_index": np.array([1, 2]), "train_mask": np.ones((1, 8), np.uint8)}),
        packed({"train_index": np.ones(2, int), "train_mask": np.zeros((2, 2**29), np.uint8)}, np.savez_compressed),
    ],
    Plans: [
        *(
            json.dumps({"plan": {**vars(plan.Plan("cpu", "fp32", True, 1)), name: odd}}).encode()
            for name in ("device", "precision", "channels_last", "threads", "compile")
            for odd in (None, [], {}, "evil", 10**18, -1)
        ),
        b"[]", NESTED,
    ],
    Words: [
        ["probe", "\udcfc"], ["probe", "\x1b[31m"], ["report", "a\x1bb\n"], ["compare", "a" * 300, "paper"],
        *(["pretrain", "simclr", "resnet18", "--lr", odd] for odd in ("{[]: 1}", "-" * 30000 + "1", "(" * 30000)),
        ["prepare", "\x1b", "--limit", "²"],
    ],
}  # fmt: skip
KINDS = [Images, Stores, Tensors, Headers, Records, Logs, Results, Studies, Masks, Plans, Words]


@pytest.fixture
def kind(request, tmp_path, monkeypatch):
    return request.param(tmp_path, monkeypatch)


def fuzz(kind, count, record_property):
    tried, slowest = 0, 0.0
    reset_peak()
    before = peak_bytes()

    @settings(
        max_examples=count, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(kind.inputs())
    def meet(content):
        nonlocal tried, slowest
        began = time.perf_counter()
        kind.meet(content)
        tried, slowest = tried + 1, max(slowest, time.perf_counter() - began)

    began = time.perf_counter()
    meet()
    more = (peak_bytes() - before) / 2**20
    seconds = time.perf_counter() - began
    name = type(kind).__name__.lower()
    record_property("inputs", [name, tried, round(seconds, 1), round(slowest, 2), round(more)])
    assert tried > 0.9 * count, "the strategy has run out of inputs"
    assert slowest < SECONDS and more < MIB, (slowest, more)


@pytest.mark.parametrize("kind", KINDS, indirect=True)
def test_what_is_damaged_is_read_or_refused(kind, record_property):
    fuzz(kind, kind.usual, record_property)


@pytest.mark.heavy
@pytest.mark.parametrize("kind", KINDS, indirect=True)
def test_what_is_damaged_is_read_or_refused_by_the_thousand(kind, record_property):
    fuzz(kind, kind.heavy, record_property)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind in ONCE_CRASHED], indirect=True)
def test_what_once_crashed_no_longer_does(kind):
    for content in ONCE_CRASHED[type(kind)]:
        kind.meet(content)
