"""Completion as a shell does it: bash is asked what it would offer."""

import shutil
import subprocess
import sys

import pytest

from lilliput import catalog, cli

pytest.importorskip("shtab")


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    words = [sys.executable, "-c", "from lilliput.cli import main; main(['completion', 'bash'])"]
    path = tmp_path_factory.mktemp("shell") / "lilliput.bash"
    path.write_bytes(subprocess.run(words, capture_output=True, check=True).stdout)
    return path


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["pre"], {"pretrain", "prepare"}),
        (["pretrain", "mo"], {"moco_v1", "moco_v2"}),
        (["pretrain", "simclr", "resnet18"], {"resnet18", "resnet18_plain"}),
        (["study", "--backbones", "sq"], {"squeezenet"}),
        (["study", "--probes", "knn", "lin"], {"linear"}),
        (["study", "--data", "cifar"], {"cifar10", "cifar100"}),
        (["export", "runs/one", "--to", "exec"], {"executorch"}),
        (["transfer", "runs/one", "--to", "cifar10"], {"cifar10", "cifar100"}),
        (["study", "--until"], {"--until-converged"}),
        (["study", "--track", "w"], {"wandb"}),
    ],
)
def test_bash_offers_names_and_flags(lines, typed, offered):
    if not shutil.which("bash"):
        pytest.skip("no bash here")
    ask = f'source {lines}; COMP_WORDS=(lilliput "$@"); COMP_CWORD=$#; _shtab_lilliput; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", ask, "bash", *typed], capture_output=True, text=True)
    assert set(done.stdout.split()) == offered, done.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_every_name_too(shell, capsys):
    assert cli.main(["completion", shell]) == 0
    out = capsys.readouterr().out
    assert all(
        name in out for kind in ("techniques", "backbones", "probes", "datasets") for name in catalog.names(kind)
    )


def test_without_shtab_the_extra_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert cli.main(["completion", "bash"]) == 1
    assert 'pip install "lilliput[completion]"' in capsys.readouterr().err
