"""Execute every notebook in docs/tutorials, top to bottom, and write its outputs back into it."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

TUTORIALS = Path(__file__).resolve().parent.parent / "docs" / "tutorials"


def main() -> None:
    notebooks = sorted(TUTORIALS.glob("*.ipynb"))
    for path in notebooks:
        notebook = nbformat.read(path, as_version=4)
        NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(TUTORIALS)}}).execute()
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)  # when each cell ran: noise in every diff
        nbformat.write(notebook, path)
        print(path.name)
    if not notebooks:
        sys.exit(f"no notebooks in {TUTORIALS}")


if __name__ == "__main__":
    main()
