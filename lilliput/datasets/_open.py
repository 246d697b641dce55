"""From a name or a folder to Data, prepared once; test images that are elsewhere too are told."""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lilliput import catalog
from lilliput.data import leaks
from lilliput.data.balance import balance_of, balanced
from lilliput.data.store import Data, Images, spaced
from lilliput.datasets import _hub, _shards
from lilliput.errors import BadSetting, UnknownName
from lilliput.system.door import door
from lilliput.system.progress import say


@dataclass(frozen=True)
class Source:
    """Where images come from, as the user said it; `open_data` says what each part means."""

    data: str | os.PathLike | Data
    pool: str | os.PathLike | None = None
    folder: str | os.PathLike | None = None
    image_size: int | None = None
    limit: int | None = None
    test_share: float | None = None
    labels: str | os.PathLike | None = None
    balance: str | None = None
    cache_gib: float | None = None

    def open(self, *, judging: bool = False) -> Data:
        """The data, prepared once; as they are where they are open already. `judging`: labels are needed."""
        if isinstance(self.data, Data):
            return self.data if self.balance is None else balanced(self.data, self.balance)
        said = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return open_data(**said, judging=judging)


@door
def open_data(
    data: str | os.PathLike,
    *,
    pool: str | os.PathLike | None = None,
    image_size: int | None = None,
    limit: int | None = None,
    folder: str | os.PathLike | None = None,
    test_share: float | None = None,
    labels: str | os.PathLike | None = None,
    balance: str | None = None,
    cache_gib: float | None = None,
    judging: bool = False,
) -> Data:
    """A named data set (or the file of one), one of Hugging Face's hub (hf/NAME), a folder of images, prepared once:
    pool, labelled train and test; or shards ('shards/{000..099}.tar', also by address), a pool that is streamed.

    `pool`: a folder of unlabelled images, or shards, to learn from instead; `limit`: at most so many of them; `folder`:
    where a named data set's own files are. Of a folder of images without a split: `test_share` of each class judges;
    `labels` is a table of file and label; `judging` says that labels are needed. `balance`: so many images of each
    class in pool and training images, long-tail:RATIO, equal or per-class:N; then the limit. `cache_gib`: of shards
    from elsewhere so much stays on the disk. Raises UnknownName, BadSetting or BadData.
    """
    said = {"image_size": image_size, "folder": folder, "test_share": test_share, "labels": labels}
    if any(name is not None and _shards.means_shards(os.fspath(name)) for name in (data, pool)):
        return _of_shards(data, pool, said, {"--limit": limit, "--balance": balance}, cache_gib)
    if cache_gib is not None:
        raise BadSetting(f"--cache-gib {cache_gib:g} goes with shards from elsewhere")
    if balance is not None:
        balance_of(balance)  # refused before any work
        if pool is not None:
            raise BadSetting(f"--balance {balance} goes with images that have classes: leave --pool out")
        whole = balanced(open_data(data, judging=True, **said), balance)
        return whole._replace(pool=whole.pool if limit is None else whole.pool.take(spaced(len(whole.pool), limit)))
    options: dict[str, Any] = {"image_size": image_size, "limit": limit}
    name = os.fspath(data)
    if name.startswith(_hub.PREFIX):
        return _of_hub(name, test_share, {"--pool": pool, "--folder": folder, "--labels": labels}, options)
    if catalog.is_path(name) and not Path(name).is_dir():
        name = catalog.take("datasets", name)
    if name in catalog.names("datasets") and name != "folder":
        return _of_name(name, pool, folder, {"--test-share": test_share, "--labels": labels}, options)
    if folder is not None:
        raise BadSetting(f"--folder goes with a named data set; {name!r} is a folder itself")
    if not Path(name).exists():
        known = [known for known in catalog.names("datasets") if known != "folder"]
        raise UnknownName(
            f"no data set and no folder {name!r}{catalog.did_you_mean(name, known)}; "
            f"there are {', '.join(known)}, or any folder of images"
        )
    of_folder = {"test_share": test_share, "labels": labels, "judging": judging}
    return catalog.dataset("folder")(path=name, pool=pool, **options, **of_folder)


def _of_name(
    name: str,
    pool: str | os.PathLike | None,
    folder: str | os.PathLike | None,
    others: dict[str, Any],
    options: dict[str, Any],
) -> Data:
    limit = options["limit"]
    if Path(name).is_dir():
        say(f"{name}: the data set of that name is taken; the folder here is {os.path.join(os.curdir, name)}")
    if said := [flag for flag, value in others.items() if value is not None]:
        raise BadSetting(f"{name} takes no {said[0]}: it goes with a folder of images")
    if folder is not None:
        if "folder" not in {option.name for option in catalog.entry("datasets", name).options}:
            raise BadSetting(f"{name} takes no --folder")
        options["folder"] = folder
    if pool is not None:
        options["limit"] = 2  # its own pool is not wanted
    prepared = catalog.dataset(name)(**options)
    if pool is None:
        return prepared
    size = prepared.pool.image_size
    other = catalog.dataset("folder")(path=pool, image_size=size, limit=limit)
    return Data(f"{prepared.name}+{other.name}", other.pool, prepared.train, prepared.test)


def _of_shards(
    data: str | os.PathLike,
    pool: str | os.PathLike | None,
    said: dict[str, Any],
    others: dict[str, Any],
    cache_gib: float | None,
) -> Data:
    """The data, or the pool beside labelled data, streamed."""
    size = said.pop("image_size")
    shards = data if pool is None else pool
    refused = [flag for flag, value in others.items() if value is not None]
    if pool is not None and _shards.means_shards(os.fspath(data)):
        refused = ["--pool"]
    elif pool is None:
        refused += [f"--{name.replace('_', '-')}" for name, value in said.items() if value is not None]
    if refused:
        raise BadSetting(f"{shards} is streamed, so it takes no {refused[0]}; name fewer shards, or unpack them")
    if pool is None:
        return _shards.prepare(os.fspath(shards), image_size=size, cache_gib=cache_gib)
    judging = open_data(data, image_size=size, limit=2, judging=True, **said)
    streamed = _shards.prepare(os.fspath(shards), image_size=judging.pool.image_size, cache_gib=cache_gib)
    return Data(f"{judging.name}+{streamed.name}", streamed.pool, judging.train, judging.test)


def _of_hub(name: str, test_share: float | None, others: dict[str, Any], options: dict[str, Any]) -> Data:
    if said := [flag for flag, value in others.items() if value is not None]:
        raise BadSetting(f"{name} takes no {said[0]}")
    if test_share is not None and not 0 < test_share < 1:
        raise BadSetting(f"test_share {test_share} is not between 0 and 1")
    return _hub.prepare(name, share=test_share, **options)


def without_leaks(data: Data, judged: Data, leave_out: str | None) -> tuple[Data, Data]:
    """Both, after saying which test images are in the pool or the training images too; without those where wanted.

    `leave_out`: "exact" or "near". Raises BadSetting where it is another word.
    """
    if leave_out not in (None, "exact", "near"):
        raise BadSetting(f"leave_out {leave_out!r} is neither exact nor near")
    alone = judged is data
    if data.pool.streamed and judged.test is not None:
        say(f"{data.name} is streamed: test images among its images are not looked for")
        if leave_out and alone:
            raise BadSetting(f"--leave-out {leave_out}: nobody looks for test images among those of {data.name}")
    joined = Data(data.name, data.pool, judged.train, judged.test)
    leaking = leaks.find(joined)
    for line in leaks.summary(joined, leaking):
        say(line)
    own = None if alone or data.train is None or not leave_out else _clean(data.train, judged, leave_out)
    if leave_out and leaking:
        joined = leaks.without(joined, _wanted(leaking, leave_out))
        fitted = len(judged.train or ()) - len(joined.train or ())
        say(f"left out: {len(data.pool) - len(joined.pool)} images of the pool, {fitted} of the training images")
    kept = data._replace(pool=joined.pool, train=joined.train if alone else own or data.train)
    return kept, judged._replace(train=joined.train)


def _wanted(leaking: list[leaks.Leak], leave_out: str) -> list[leaks.Leak]:
    return [leak for leak in leaking if leak.exact or leave_out == "near"]


def _clean(train: Images, judged: Data, leave_out: str) -> Images:
    """Labelled images of another source than the judge's, by which a run may stop, without those that test."""
    here = Data("", train, None, judged.test)
    return leaks.without(here, _wanted(leaks.find(here), leave_out)).pool
