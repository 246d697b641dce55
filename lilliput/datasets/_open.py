"""From a name or a folder to Data, prepared once; test images that are elsewhere too are told."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lilliput import catalog
from lilliput.data import leaks
from lilliput.data.store import Data
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

    def open(self) -> Data:
        """The data, prepared once; as they are where they are open already."""
        if isinstance(self.data, Data):
            return self.data
        return open_data(self.data, pool=self.pool, image_size=self.image_size, limit=self.limit, folder=self.folder)


@door
def open_data(
    data: str | os.PathLike,
    *,
    pool: str | os.PathLike | None = None,
    image_size: int | None = None,
    limit: int | None = None,
    folder: str | os.PathLike | None = None,
) -> Data:
    """A named data set (or the file of one) or a folder of images, prepared once: pool, labelled train and test.

    `pool`: a folder of unlabelled images to learn from instead; `limit`: at most so many of them; `folder`: where a
    named data set's own files are. Raises UnknownName or BadData.
    """
    options: dict[str, Any] = {"image_size": image_size, "limit": limit}
    name = os.fspath(data)
    if catalog.is_path(name) and not Path(name).is_dir():
        name = catalog.take("datasets", name)
    if name in catalog.names("datasets") and name != "folder":
        if Path(name).is_dir():
            say(f"{name}: the data set of that name is taken; the folder here is {os.path.join(os.curdir, name)}")
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
    if folder is not None:
        raise BadSetting(f"--folder goes with a named data set; {name!r} is a folder itself")
    if not Path(name).exists():
        known = [known for known in catalog.names("datasets") if known != "folder"]
        raise UnknownName(
            f"no data set and no folder {name!r}{catalog.did_you_mean(name, known)}; "
            f"there are {', '.join(known)}, or any folder of images"
        )
    return catalog.dataset("folder")(path=name, pool=pool, **options)


def without_leaks(data: Data, judged: Data, leave_out: str | None) -> tuple[Data, Data]:
    """Both, after saying which test images are in the pool or the training images too; without those where wanted.

    `leave_out`: "exact" or "near". Raises BadSetting where it is another word.
    """
    if leave_out not in (None, "exact", "near"):
        raise BadSetting(f"leave_out {leave_out!r} is neither exact nor near")
    joined = Data(data.name, data.pool, judged.train, judged.test)
    leaking = leaks.find(joined)
    for line in leaks.summary(joined, leaking):
        say(line)
    if leave_out and leaking:
        joined = leaks.without(joined, [leak for leak in leaking if leak.exact or leave_out == "near"])
        fitted = len(judged.train or ()) - len(joined.train or ())
        say(f"left out: {len(data.pool) - len(joined.pool)} images of the pool, {fitted} of the training images")
    data = data._replace(pool=joined.pool)
    return (data._replace(train=joined.train) if judged is data else data), judged._replace(train=joined.train)
