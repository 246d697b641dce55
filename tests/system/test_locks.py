"""Folders that one process at a time works in."""

import subprocess
import sys
from pathlib import Path

import pytest

import lilliput
from lilliput.system import locks
from lilliput.system.locks import Claims, InUse, alone, has_locks, locked

pytestmark = pytest.mark.skipif(not has_locks(), reason="this system has no locks")
TRY = """
import sys
from pathlib import Path
from lilliput.system.locks import InUse, alone
try:
    with alone(Path(sys.argv[1])):
        print("alone")
except InUse as error:
    print(error)
"""


HOLD = """
import select, sys, time
from pathlib import Path
from lilliput.system.locks import locked
folder = Path(sys.argv[1])
with locked(folder):
    print("held", flush=True)
    select.select([sys.stdin], [], [], 30)
    time.sleep(0.2)
    (folder / "done").touch()
"""
CLAIM = """
import sys
from pathlib import Path
from lilliput.system.locks import Claims
own = Claims(Path(sys.argv[1]))
own.tell(["a", "b"])
own.tell(["b", "c"])
print("told", flush=True)
sys.stdin.read()
"""
ROOT = Path(lilliput.__file__).parents[1]


def another_process(folder):
    command = [sys.executable, "-c", TRY, str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def test_another_process_is_told_who_works_in_a_folder_until_it_ends(tmp_path):
    with alone(tmp_path):
        assert "is in use by process" in another_process(tmp_path)
    assert another_process(tmp_path) == "alone"


def test_who_is_alone_may_ask_again_and_still_is(tmp_path):
    with alone(tmp_path):
        with alone(tmp_path / "."):
            pass
        assert "is in use by process" in another_process(tmp_path)


def test_an_error_within_gives_the_folder_back(tmp_path):
    with pytest.raises(ZeroDivisionError), alone(tmp_path):
        raise ZeroDivisionError
    assert another_process(tmp_path) == "alone"


def test_a_folder_in_use_is_a_wrong_setting_with_a_way_out():
    assert issubclass(InUse, lilliput.errors.BadSetting)


def test_a_moment_alone_leaves_the_folder_to_others(tmp_path):
    for _ in range(2):
        with locked(tmp_path):
            assert (tmp_path / ".lock").exists()


def test_who_asks_for_a_folder_that_is_locked_says_so_and_waits(tmp_path, monkeypatch):
    said = []
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:

        def let_go(words):
            said.append(words)
            holder.stdin.close()

        monkeypatch.setattr(locks, "say", let_go)
        assert holder.stdout.readline() == "held\n"
        with locked(tmp_path, waiting="waiting for it"):
            assert (tmp_path / "done").exists()
    assert said == ["waiting for it"] and holder.returncode == 0


def test_what_another_process_claims_is_known_until_it_is_killed(tmp_path):
    own, command = Claims(tmp_path), [sys.executable, "-c", CLAIM, str(tmp_path)]
    own.tell(["own"])
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "told\n"
        assert own.of_others() == {"b", "c"}
        other.kill()
        other.wait()
        assert own.of_others() == set() and len(list(tmp_path.iterdir())) == 1
