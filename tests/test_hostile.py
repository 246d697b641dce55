"""Folders from strangers: bombs, lies, loops, pipes, and names that would give orders. Read or skipped, never worse."""

import contextlib
import html.parser
import io
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from lilliput.data import tree
from lilliput.data.filling import fill_from_files
from lilliput.data.store import open_store
from lilliput.datasets import _files, folder
from lilliput.errors import BadData
from lilliput.images import decode
from lilliput.studies import results
from lilliput.system import progress
from lilliput.system.visible import visible
from tests import commands

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has neither such names nor such files")

ORDERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
NAMES = {
    "markup": "<script>alert(1)<b>",
    "image": "<img src=x onerror=alert(1)>&\"'",
    "lines": "two\nlines\r|x|",
    "colour": "\x1b[31mred\x1b]0;title\x07",
    "eight bits": "\x9b31m\x85",
    "bytes": os.fsdecode(b"\xff\xfe caf\xe9"),
    "turned": "\u202egnp.exe",
    "combining": "e\u0301\u0301\u0301\u200d👩‍🚀",
    "rich": "[bold]x :smile: [red]",
    "dollars": "$x_1$ `rm` **b** | # \\",
}
CLASSES = [one + other for one, other in zip(*[iter(NAMES.values())] * 2, strict=True)]


def pixels(width=24, height=20):
    y, x = np.mgrid[:height, :width].astype(np.uint8) * 10
    return Image.fromarray(np.stack([x, y, x ^ y], axis=2))


def encoded(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def flat_png(width, height, *, depth=8, colour_type=0, claimed=None):
    """A small file of black pixels; `claimed`: the size that its header says."""
    row = bytes(1 + width * depth * {0: 1, 2: 3, 6: 4}[colour_type] // 8)
    packer = zlib.compressobj(1)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", *(claimed or (width, height)), depth, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def many_scans(count):
    """A small progressive JPEG whose last scan, of a hundred bytes, is repeated: each passes over all the pixels."""
    whole = encoded(Image.new("L", (4000, 4000)), "jpeg", progressive=True)
    scan = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + scan * count + whole[-2:]


def readable():
    """Name -> content of images that are odd and sound."""
    image = pixels()
    grey = image.convert("L")
    frames = {"save_all": True, "append_images": [grey.convert("RGB")] * 3}
    return {
        "cmyk.jpg": encoded(image.convert("CMYK"), "jpeg"),
        "deep.png": encoded(Image.fromarray(np.uint16(np.asarray(grey)) * 257), "png"),
        "moving.gif": encoded(image, "gif", **frames),
        "moving.webp": encoded(image, "webp", **frames),
        "moving.png": encoded(image, "png", **frames),
        "pages.tif": encoded(image, "tiff", **frames),
        "really a png.jpg": encoded(image, "png"),
        "really a jpeg.gif": encoded(image, "jpeg"),
        "ONE.PNG": encoded(pixels(1, 1), "png"),
        "one.jpg": encoded(pixels(1, 1), "jpeg"),
        "thin.png": encoded(pixels(1, 2000), "png"),
        f"{'n' * 251}.png": encoded(image, "png"),
    }


def unreadable():
    """Name -> content of what must be skipped."""
    image = pixels(64, 64)
    whole = {format: encoded(image, format) for format in ("png", "jpeg", "gif", "webp", "bmp", "tiff")}
    return {
        "bomb.png": flat_png(20_000, 7_000, depth=1),
        "claims gigapixels.png": flat_png(8, 8, claimed=(60_000, 60_000)),
        "claims gigapixels.bmp": whole["bmp"][:18] + struct.pack("<ii", 60_000, 60_000) + whole["bmp"][26:],
        "claims gigapixels.gif": whole["gif"][:6] + struct.pack("<HH", 65_535, 65_535) + whole["gif"][10:],
        "lies.png": flat_png(8, 8, claimed=(64, 64)),
        "lies.bmp": whole["bmp"][:18] + struct.pack("<ii", 640, 640) + whole["bmp"][26:],
        "scans.jpg": many_scans(1500),
        **{f"cut.{format}": content[: len(content) // 2] for format, content in whole.items()},
        **{f"head.{format}": content[:30] for format, content in whole.items()},
        "empty.jpg": b"",
        "text.png": b"hello",
        "script.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
        "zeros.webp": bytes(5000),
    }


def write(root, files):
    root.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (root / name).write_bytes(content)


def no_images(root):
    """Things that are called like images, and loops: to be passed over. How many kinds there are is returned."""
    os.mkfifo(root / "pipe.jpg")
    here = socket.socket(socket.AF_UNIX)
    before = os.getcwd()
    os.chdir(root)  # the path of a socket must be short
    here.bind("socket.jpg")
    os.chdir(before)
    here.close()
    if os.geteuid() == 0:
        with contextlib.suppress(PermissionError):  # a container may not
            os.mknod(root / "device.jpg", 0o20600, os.makedev(1, 5))  # /dev/zero
    (root / "endless.jpg").symlink_to("/dev/zero")
    (root / "nowhere.jpg").symlink_to(root / "gone")
    (root / "round.jpg").symlink_to(root / "round.jpg")
    (root / "deep").mkdir()
    for name in ("again", "once more"):  # two of them: followed, the tree would double at every level
        (root / "deep" / name).symlink_to(root)
    (root / "folder.png").mkdir()


@pytest.fixture(scope="module")
def strangers(tmp_path_factory):
    """A folder of everything, and the names of what can be read and what cannot."""
    root = tmp_path_factory.mktemp("stranger") / "photos"
    good = readable() | {f"{name}.png": encoded(pixels(), "png") for name in NAMES.values()}
    bad = unreadable() | {f"torn {name}.png": b"torn" for name in NAMES.values()}
    write(root, good | bad)
    no_images(root)
    with (root / "huge.tif").open("wb") as file:  # sparse: no byte of it is on the disk
        file.write(encoded(pixels(), "tiff")[:8])
        file.truncate(2**40)
    return root, set(good), {*bad, "huge.tif"}


def lilliput(*words, home, timeout=300, **variables):
    """A command's exit code, and what it said."""
    done = commands.lilliput(*words, LILLIPUT_HOME=str(home), timeout=timeout, **variables)
    return done.returncode, done.stdout, done.stderr


def stores(home):
    return [open_store(path) for path in sorted((home / "stores").iterdir())]


@pytest.fixture
def given_up(tmp_path):
    """What of some files cannot be read, and why."""

    def tried(files):
        write(tmp_path / "files", files)
        images = np.zeros((len(files), 3, 16, 16), np.uint8)
        paths = [tmp_path / "files" / name for name in files]
        skipped = fill_from_files(paths, list(files), "x")(images, None)
        return {entry["file"]: entry["reason"] for entry in skipped.values()}

    return tried


def test_odd_and_sound_images_are_read(given_up):
    assert given_up(readable()) == {}


def test_bombs_lies_and_torn_files_are_skipped_with_a_reason_in_seconds(given_up):
    files = unreadable()
    began = time.monotonic()
    skipped = given_up(files)
    assert time.monotonic() - began < 20
    assert set(skipped) == set(files)
    assert "20000 x 7000 pixels, more than 134 million" in skipped["bomb.png"]
    assert all("134 million" in skipped[f"claims gigapixels.{format}"] for format in ("png", "bmp", "gif"))
    assert "4000 x 4000 pixels in 1506 scans" in skipped["scans.jpg"]
    assert skipped["empty.jpg"] == "empty" and skipped["text.png"] == "no image that Pillow knows"
    assert not any(str(Path.cwd()) in reason or "/tmp" in reason for reason in skipped.values())


def test_a_jpeg_of_many_scans_would_take_minutes_and_one_of_a_camera_has_few(given_up):
    """At 60 ms for a scan of 141 bytes over 100 megapixels, a megabyte holds seven minutes."""
    assert "scans" in given_up({"a.jpg": many_scans(600)})["a.jpg"]
    assert given_up({"a.jpg": many_scans(20)}) == {}


SIZES = """
import re, sys
import numpy as np
from pathlib import Path
from lilliput.data import filling
filling.cores = lambda: 4
filling.ROWS_PER_JOB = 1
paths = [Path(path) for path in sys.argv[1:]] 
images = np.zeros((len(paths), 3, 32, 32), np.uint8)
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024
before = peak()
skipped = filling.fill_from_files(paths, [path.name for path in paths], "x")(images, None)
print(len(skipped), peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is told by Linux")
def test_images_of_100_megapixels_are_read_one_at_a_time(tmp_path):
    """Four threads and four such images: what one takes is not taken fourfold, though memory is kept as in studies."""
    from lilliput.cli import TUNABLES

    grey = Image.new("L", (10_000, 10_000), 90)
    files = {
        "a.png": flat_png(10_000, 10_000, colour_type=6),
        "b.png": flat_png(10_000, 10_000, depth=16),
        "c.jpg": encoded(grey, "jpeg"),
        "d.jpg": encoded(grey, "jpeg", progressive=True),
    }
    write(tmp_path, files)
    done = subprocess.run(
        [sys.executable, "-c", SIZES, *(str(tmp_path / name) for name in files)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env=os.environ | {"GLIBC_TUNABLES": TUNABLES},
    )
    skipped, mib = map(int, done.stdout.split())
    assert skipped == 0
    assert mib < 1200, mib  # RGBA and RGB of 100 megapixels are 763 MiB


HEADER = """
import re, sys
from pathlib import Path
from lilliput import catalog
from lilliput.training import encoders
from lilliput.errors import BadData
path = Path(sys.argv[1])
about = {"technique": "rotnet", "backbone": sys.argv[2], "backbone_options": {}}
encoder = catalog.technique("rotnet").build_encoder(catalog.backbone_builder("squeezenet"))
encoders.save_encoder(path, encoder, about)
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024
before = peak()
try:
    encoders.load_encoder(path)
except BadData as error:
    print(peak() - before, error)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is told by Linux")
def test_a_header_cannot_have_gibibytes_built(tmp_path):
    """Of timm's, one of 4.4 thousand million weights: 17 GiB, were it built before it is compared with the file's."""
    name = "timm/eva02_enormous_patch14_clip_224"
    done = subprocess.run(
        [sys.executable, "-c", HEADER, str(tmp_path / "a.safetensors"), name],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    mib, said = done.stdout.split(" ", 1)
    assert "far larger than its weights" in said and int(mib) < 1200


def test_strips_of_a_large_image_give_what_the_whole_gives(monkeypatch):
    deep = Image.fromarray(np.random.default_rng(0).integers(0, 65536, (50, 40), dtype=np.uint16))
    clear = pixels(40, 50).convert("RGBA")
    clear.putalpha(pixels(40, 50).convert("L"))
    indexed = pixels(40, 50).convert("P")
    indexed.info["transparency"] = 3
    for image in (deep, clear, indexed, pixels(40, 50).convert("CMYK"), pixels(40, 50).convert("1")):
        whole = np.asarray(decode._rgb(image))
        with monkeypatch.context() as patch:
            patch.setattr(decode, "STRIP_PIXELS", 300)
            assert np.array_equal(np.asarray(decode._rgb(image)), whole), image.mode


def test_a_file_that_became_a_pipe_or_vanished_after_it_was_listed_is_skipped(tmp_path, monkeypatch):
    """To open a pipe waits for a writer, for ever; the alarm would end the wait."""
    write(tmp_path / "photos", {f"{name}.png": encoded(pixels(), "png") for name in "abcd"})
    real = _files.fill_from_files

    def late(paths, *rest):
        (tmp_path / "photos" / "a.png").unlink()
        (tmp_path / "photos" / "b.png").unlink()
        os.mkfifo(tmp_path / "photos" / "b.png")
        return real(paths, *rest)

    monkeypatch.setattr(_files, "fill_from_files", late)
    signal.alarm(20)
    pool = folder.prepare(path=tmp_path / "photos", image_size=16).pool
    signal.alarm(0)
    assert {entry["file"]: entry["reason"] for entry in pool.manifest["skipped"]} == {
        "a.png": "No such file or directory",
        "b.png": "no regular file",
    }
    assert len(pool) == 2


def closed(monkeypatch, *closed):
    """Folders and files that may not be read, for root too."""
    for name in ("scandir", "open"):
        real = getattr(os, name)

        def ask(path, *rest, real=real):
            if str(getattr(path, "path", path)) in map(str, closed):
                raise PermissionError(13, "Permission denied", str(path))
            return real(path, *rest)

        monkeypatch.setattr(os, name, ask)


def test_what_may_not_be_read_below_the_root_is_skipped_aloud_and_the_root_is_an_error(tmp_path, monkeypatch, capsys):
    root = tmp_path / "photos"
    for place in (root, root / "open", root / "shut", root / "shut too"):
        write(place, {"a.png": encoded(pixels(), "png"), "b.png": encoded(pixels(), "png")})
    with monkeypatch.context() as patch:
        closed(patch, root / "shut", root / "shut too", root / "open" / "b.png")
        pool = folder.prepare(path=root, image_size=16).pool
        said = capsys.readouterr().err
        assert len(pool) == 3
        assert "passed over: 2 unreadable (" in said and "shut" in said and "skipped 1 of 4" in said
        assert said.count("Permission denied") == 2
    closed(monkeypatch, root)
    with pytest.raises(BadData, match=r"cannot read .*photos: Permission denied"):
        folder.prepare(path=root, image_size=16)


def test_an_unreadable_class_folder_is_missed_and_said(tmp_path, monkeypatch):
    for part in ("train", "test"):
        for name in ("ant", "bee", "cat"):
            write(tmp_path / "photos" / part / name, {"a.png": encoded(pixels(), "png")})
    closed(monkeypatch, tmp_path / "photos" / "train" / "bee")
    with pytest.raises(
        BadData, match=r"class 'bee' is in .*; passed over: 1 unreadable \(.*bee.*: Permission denied\)"
    ):
        folder.prepare(path=tmp_path / "photos", image_size=16)


def test_folders_in_one_another_end_at_no_depth(tmp_path):
    """Python's own walk once ended at its thousandth."""
    here, depth = tmp_path / "photos", 1100
    here.mkdir()
    write(here, {"a.png": encoded(pixels(), "png")})
    os.chdir(here)
    try:
        for _ in range(depth):
            os.mkdir("d")
            os.chdir("d")
        Path("b.png").write_bytes(encoded(pixels(), "png"))
        pool = folder.prepare(path=here, image_size=16).pool
        assert len(pool) == 2 and tree.names_of(pool) == ["a.png", "d/" * depth + "b.png"]
    finally:
        os.chdir(Path(__file__).parent)
        subprocess.run(["rm", "-rf", str(here)], check=True)  # pytest's own way recurses


def test_scans_count_whatever_pillow_calls_a_jpeg(tmp_path, monkeypatch):
    """With one more segment it is an MPO to Pillow."""
    monkeypatch.setattr(decode, "MOST_SCANNED", 2 * 24 * 20)
    whole = encoded(pixels(), "jpeg", progressive=True)
    frames = encoded(pixels(), "mpo", save_all=True, append_images=[pixels()], progressive=True)
    for content in (whole, frames):
        (tmp_path / "a.jpg").write_bytes(content)
        with pytest.raises(ValueError, match=r"in .* scans"):
            decode.decode(tmp_path / "a.jpg", 16)


def test_loops_end_where_a_class_folder_is_a_link_too(tmp_path):
    root = tmp_path / "photos"
    for part in ("train", "test"):
        write(root / part / "ant", {f"{part}.png": encoded(pixels(), "png")})
        write(tmp_path / "elsewhere" / part, {"x.png": encoded(pixels(), "png")})
        (root / part / "bee").symlink_to(tmp_path / "elsewhere" / part)
        for name in ("up", "up again"):
            (tmp_path / "elsewhere" / part / name).symlink_to(root)
        (root / part / "round").symlink_to(root / part / "round")
        (root / part / "to").symlink_to(root / part / "fro")
        (root / part / "fro").symlink_to(root / part / "to")
    data = folder.prepare(path=root, image_size=16)
    assert data.train.classes == ["ant", "bee"] and len(data.train) == 2


def test_class_folders_that_would_be_called_alike_are_refused(tmp_path):
    for part in ("train", "test"):
        for name in ("\x1b", r"\x1b"):
            write(tmp_path / "photos" / part / name, {"a.png": encoded(pixels(), "png")})
    with pytest.raises(BadData, match="two class folders would both be called"):
        folder.prepare(path=tmp_path / "photos", image_size=16)


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_names_are_written_out_where_a_terminal_would_obey_and_stay_where_not(name):
    assert not ORDERS.search(visible(name)) and "\n" not in visible(name)
    assert visible("café 猫 👩‍🚀 \\ e\u0301") == "café 猫 👩‍🚀 \\ e\u0301"
    assert visible("\x1b[31m\n\u202e\udcff") == r"\x1b[31m\x0a\u202e\udcff"


@pytest.mark.parametrize("terminal", [True, False])
def test_what_is_said_and_what_bars_show_is_not_obeyed(monkeypatch, capsys, terminal):
    shown = io.StringIO()
    monkeypatch.setattr(progress, "CONSOLE", Console(file=shown, force_terminal=terminal, highlight=False, width=300))
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    for name in NAMES.values():
        progress.say(name)
        with progress.task(name, 3) as advance:
            advance(2)
    board = progress.Board(lambda: "")
    for name in NAMES.values():
        for done in (1, 2):
            board.hear(1, (visible(name), done, 3))
    board.close()
    said = shown.getvalue() + "".join(capsys.readouterr())
    assert "[bold]x :smile: [red]" in said
    for order in ("\x1b[31mred", "\x1b]0;", "\x07", "\x9b", "\u202e", "two\nlines"):
        assert order not in said, ascii(order)


# -- all together -----------------------------------------------------------------------------------------------------

MACHINE = ["--device", "cpu", "--plan", "precision=fp32", "channels_last=true", "threads=1", "compile=false"]


def test_a_strangers_folder_is_prepared_and_learned_from(strangers, tmp_path):
    root, good, bad = strangers
    code, out, err = lilliput("prepare", root, "--image-size", 32, home=tmp_path / "home")
    assert code == 0, err
    assert f"skipped {len(bad)} of {len(good | bad)} images" in err and f"pool: {len(good)} images" in out
    (store,) = stores(tmp_path / "home")
    assert {entry["file"] for entry in store.manifest["skipped"]} == bad
    assert all(entry["reason"] for entry in store.manifest["skipped"])
    words = ["--data", root, "--image-size", 32, "--epochs", 1, "--batch", 8, "--width", 0.5, "--out", tmp_path / "run"]
    code, out, more = lilliput("pretrain", "rotnet", "squeezenet", *words, *MACHINE, home=tmp_path / "home")
    assert code == 0, more
    assert "1 epochs" in out
    assert not ORDERS.search(out + err + more)


def test_a_folder_that_is_itself_called_so_is_learned_from(tmp_path):
    for number, name in enumerate(["\x1b[31m\n" + os.fsdecode(b"\xff") + "<b>", "n" * 255]):
        root = tmp_path / name
        write(root, {f"{place}.png": encoded(pixels(), "png") for place in range(8)} | {"torn.png": b""})
        words = ["--data", root, "--image-size", 32, "--epochs", 1, "--batch", 8, "--width", 0.5]
        done = subprocess.run(
            [sys.executable, "-m", "lilliput", "pretrain", "rotnet", "squeezenet", *map(str, words), *MACHINE],
            env={**os.environ, "LILLIPUT_HOME": str(tmp_path / "home"), "PYTHONPATH": os.pathsep.join(sys.path)},
            cwd=tmp_path,
            capture_output=True,
            timeout=200,
            check=False,
        )
        said = (done.stdout + done.stderr).decode()
        assert done.returncode == 0, said
        assert not ORDERS.search(said) and "skipped 1 of 9" in said
        assert len(list((tmp_path / "runs").iterdir())) == number + 1


class Reader(html.parser.HTMLParser):
    """The elements and the text of a page, as a browser would see them."""

    def __init__(self):
        super().__init__()
        self.elements, self.text = [], ""

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def test_a_study_of_classes_with_such_names_gives_no_orders_anywhere(tmp_path):
    pytest.importorskip("plotly")
    draw = np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 6)):
        for place, name in enumerate(CLASSES):
            brightness = draw.integers(0, 60, (count, 32, 32, 3)) + 38 * place
            images = {
                f"{n}.png": encoded(Image.fromarray(one.astype(np.uint8)), "png") for n, one in enumerate(brightness)
            }
            write(tmp_path / "photos" / part / name, images | {"torn \x1b[31m\n.png": b"torn"})
    words = ["--techniques", "rotnet", "--backbones", "squeezenet", "--image-size", 32, "--epochs", 1, "--every", 1]
    words += ["--batch", 16, "--width", 0.5, "--workers", 1, "--out", tmp_path / "study"]
    code, out, err = lilliput(
        "study", "--data", tmp_path / "photos", *words, *MACHINE, home=tmp_path / "home", timeout=500
    )
    assert code == 0, err
    assert not ORDERS.search(out + err)
    assert f"skipped {len(CLASSES)} of {13 * len(CLASSES)} images" in err
    rows = results.read(tmp_path / "study")
    confusions = rows.metric[rows.metric.str.startswith("confusion/")]
    assert {visible(name) for name in CLASSES} >= set(confusions.str.split("/").str[1]) - {""}
    assert not any(ORDERS.search(text) or "\n" in text for text in rows.metric)
    for name in ("table.md", "results.csv", "curves.csv", "study.json", "inspect/results.csv"):
        assert not ORDERS.search((tmp_path / "study" / name).read_text()), name
    for drawing in (tmp_path / "study").glob("**/*.svg"):
        assert not ORDERS.search(drawing.read_text()), drawing
    page = (tmp_path / "study" / "report.html").read_text()
    assert "<script>alert" not in page and "<img src=x" not in page
    body = re.sub(r"<script>.*?</script>", "", page, flags=re.S)  # plotly's own code and ours
    assert not ORDERS.search(body)
    reader = Reader()
    reader.feed(body)
    assert not [about for _, about in reader.elements if "onerror" in about or about.get("src") == "x"]
    assert not [tag for tag, _ in reader.elements if tag in ("b", "strong")]
    assert CLASSES[0] in reader.text and "could not be made" not in reader.text
    assert json.loads((tmp_path / "study" / "study.json").read_text())["classes"]
