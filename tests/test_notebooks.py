"""The notebooks run from top to bottom, and end with what they promise to show."""

from pathlib import Path

import pytest

import lilliput

NOTEBOOKS = sorted((Path(lilliput.__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore")  # of the kernel's own libraries, about one another
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_tables_and_pictures(path, tmp_path):
    client, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(path, as_version=4)
    client.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [
        output.data
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "data" in output
    ]
    assert any("<table" in data.get("text/html", "") and "data:image/png" in data["text/html"] for data in shown)
    assert any("image/png" in data for data in shown)


def test_notebooks_come_without_outputs():
    """They would show other machines' figures, and change with each run."""
    assert len(NOTEBOOKS) == 2
    assert not [path for path in NOTEBOOKS if '"output_type"' in path.read_text(encoding="utf-8")]
