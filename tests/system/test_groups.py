"""What control groups leave: both versions, nested, with the page cache counted as free."""

import pytest

from lilliput.system import groups
from lilliput.system.machine import available_bytes

GIB = 2**30


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A function that says in which groups this process is, and writes those given: folder -> files."""

    def written(own, **folders):
        (tmp_path / "own").write_text(own)
        for path, files in folders.items():
            folder = tmp_path / "fs" / path
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in files.items():
                (folder / name).write_text(f"{content}\n")
        return list(groups.left_by_groups())

    monkeypatch.setattr(groups, "PROC", tmp_path / "own")
    monkeypatch.setattr(groups, "MOUNTED", tmp_path / "fs")
    return written


def second(limit, used, cache=0):
    stat = f"anon 5\nfile 99\ninactive_file {cache // 2}\nactive_file {cache - cache // 2}"
    return {"memory.max": limit, "memory.current": used, "memory.stat": stat}


def first(limit, used, cache=0):
    stat = f"inactive_file 1\ntotal_inactive_file {cache}\ntotal_active_file 0"
    return {"memory.limit_in_bytes": limit, "memory.usage_in_bytes": used, "memory.stat": stat}


def test_a_container_leaves_its_limit_less_what_it_uses_but_can_give_up(system):
    assert system("0::/\n", **{".": second(8 * GIB, 5 * GIB, cache=2 * GIB)}) == [5 * GIB]


def test_a_job_within_a_job_is_bounded_by_both(system):
    """As Slurm nests them; the limit of the top alone was asked."""
    job = "system.slice/slurmstepd.scope/job_7"
    groups = {
        f"{job}/step_0/task_0": second("max", GIB),
        f"{job}/step_0": second(3 * GIB, GIB),
        job: second(4 * GIB, 3 * GIB),
    }
    assert sorted(system(f"0::/{job}/step_0/task_0\n", **groups)) == [GIB, 2 * GIB]
    assert available_bytes() <= GIB


def test_the_first_version_is_asked_too_and_a_container_sees_its_own_group_as_the_top(system):
    own = "12:cpu,cpuacct:/docker/f00\n5:memory:/docker/f00\n0::/docker/f00\n"
    assert system(own, memory=first(2 * GIB, GIB, cache=GIB // 2)) == [3 * GIB // 2]
    assert system(own, **{"memory/docker/f00": first(GIB, 2 * GIB)}) == [0, 3 * GIB // 2]


def test_where_there_are_no_groups_nothing_is_bounded(system, tmp_path):
    assert system("0::/\n") == []
    (tmp_path / "own").unlink()
    assert list(groups.left_by_groups()) == []
