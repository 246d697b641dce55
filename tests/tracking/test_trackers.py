"""Each tracker by its own library, offline: what was told is read back from where the library keeps it."""

import json
import struct
import time

import pytest

from lilliput import tracking

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries, about one another
ROWS = [{"epoch": epoch, "loss": 1 / epoch, "flags": [], "loss_of_guessing": None} for epoch in (1, 2, 3)]
JUDGED = [
    {"epoch": 1, "probe": "knn", "metric": "accuracy", "value": 0.5},
    {"epoch": 1, "probe": "knn", "metric": "recall/cat", "value": 0.25},
]
TOLD = {"loss": [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))], "knn/accuracy": [(1, 0.5)]}


# a new database of MLflow's takes it ten seconds
@pytest.fixture(params=[n if n != "mlflow" else pytest.param(n, marks=pytest.mark.heavy) for n in tracking.TRACKERS])
def name(request, tmp_path, monkeypatch):
    if request.param == "mlflow":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip(request.param)
    return request.param


def test_what_is_told_in_two_goes_is_one_run_there(name, tmp_path, capfd):
    settings = {"technique": "simclr", "recipe_settings": {"epochs": 3, "lr": 0.1}}
    for known, judged in ((ROWS[:2], []), (ROWS, JUDGED)):
        with tracking.followed([name], tmp_path, "simclr-resnet18-0", settings) as follower:
            follower.read(known)
            if judged:
                follower.judged(judged)
    out, err = capfd.readouterr()
    assert out == "" and "hears no more" not in err
    ends = time.monotonic() + 30
    while (runs := READ[name](tmp_path)) != [TOLD] and time.monotonic() < ends:
        time.sleep(0.1)  # wandb's own process writes its last lines after `finish`
    assert runs == [TOLD]


def of_tensorboard(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tracking" / "tensorboard")).Reload()
    return [{tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}]


def of_wandb(folder):
    """By run: offline, each opening writes a file, which `wandb sync` sends to the run of its id."""
    from wandb.proto import wandb_internal_pb2

    runs = {}
    for path in sorted(folder.glob("tracking/wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime):
        run = runs.setdefault(path.stem, {})
        for content in leveldb_records(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(content)
            row = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
            for key in row.keys() - {"epoch", "_step", "_timestamp", "_runtime"}:
                run.setdefault(key, []).append((row["epoch"], row[key]))
    return list(runs.values())


def leveldb_records(content):
    """LevelDB's log format after wandb's 7 bytes: in blocks of 32 KiB, each piece with checksum, length and kind."""
    assert content[:4] == b":W&B"
    place, record = 7, b""
    while place < len(content):
        if (left := 2**15 - place % 2**15) < 7:  # too few for a head: zeros
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last piece of one
            yield record
            record = b""


def of_mlflow(_folder):
    from mlflow import MlflowClient

    client = MlflowClient()
    experiment = client.get_experiment_by_name("lilliput").experiment_id
    runs = client.search_runs([experiment])
    assert {run.data.params["technique"] for run in runs} == {"simclr"} and {r.info.status for r in runs} == {
        "FINISHED"
    }
    histories = [{key: client.get_metric_history(run.info.run_id, key) for key in run.data.metrics} for run in runs]
    return [{key: [(m.step, m.value) for m in values] for key, values in history.items()} for history in histories]


def of_trackio(_folder):
    from trackio.sqlite_storage import SQLiteStorage

    runs = []
    for run in SQLiteStorage.get_runs("lilliput"):
        told = {}
        for row in SQLiteStorage.get_logs("lilliput", run):
            for key in row.keys() & TOLD.keys():
                told.setdefault(key, []).append((row["step"], row[key]))
        runs.append(told)
    return runs


READ = {"tensorboard": of_tensorboard, "wandb": of_wandb, "mlflow": of_mlflow, "trackio": of_trackio}
