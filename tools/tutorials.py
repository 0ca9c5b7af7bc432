"""Execute every notebook in docs/tutorials, top to bottom: `tutorials.py` keeps the outputs, `--check` compares them.

With `--check` nothing is written; the exit status is 1 if a notebook now gives other outputs than it holds.
"""

from __future__ import annotations

import sys
from difflib import unified_diff
from pathlib import Path

import nbformat
from nbclient import NotebookClient

TUTORIALS = Path(__file__).resolve().parent.parent / "docs" / "tutorials"


def main() -> None:
    notebooks = sorted(TUTORIALS.glob("*.ipynb"))
    if not notebooks:
        sys.exit(f"no notebooks in {TUTORIALS}")
    differences = [difference for path in notebooks for difference in tutorial(path, "--check" in sys.argv[1:])]
    if differences:
        sys.exit("\n".join(differences))


def tutorial(path: Path, check: bool) -> list[str]:
    """Execute one notebook; return how its outputs differ from those that it holds, or write them into it."""
    notebook = nbformat.read(path, as_version=4)
    held = shown(notebook)
    NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(TUTORIALS)}}).execute()
    if check:
        return list(unified_diff(held, shown(notebook), f"{path.name} (held)", f"{path.name} (now)", lineterm=""))
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when each cell ran: noise in every diff
    notebook.metadata.language_info = {"name": "python"}  # the version stands in the notebook's own header
    nbformat.write(notebook, path)
    print(path.name)
    return []


def shown(notebook: nbformat.NotebookNode) -> list[str]:
    """Return all outputs of a notebook as lines, those that name versions left out."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and "state_versions" not in cell.source]
    return [line for cell in cells for line in _text(cell).splitlines()]


def _text(cell: nbformat.NotebookNode) -> str:
    """Return what a cell printed, however the kernel cut it into pieces, and then what it showed."""
    printed = "".join(output.get("text", "") for output in cell.outputs)
    return "\n".join([printed, *(text for output in cell.outputs for text in output.get("data", {}).values())])


if __name__ == "__main__":
    main()
