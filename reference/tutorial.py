"""The tutorial: run, and as a page with what its cells print."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbconvert import MarkdownExporter
from traitlets.config import Config

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 300  # seconds that one cell may take
FILE_CELL = re.compile(r"^```python\n%%writefile (\S+)\n(.*?)^```\n\n    Writing .*?\n", re.MULTILINE | re.DOTALL)
FRAME_STYLE = re.compile(r"<style scoped>.*?</style>\n|<div>\n|</div>\n| border=\"1\" class=\"dataframe\"", re.DOTALL)


def executed(notebook: Path, folder: Path) -> nbformat.NotebookNode:
    """The notebook with what its cells print, run in an empty folder. Raises CellExecutionError where one fails."""
    content = nbformat.read(notebook, as_version=4)
    channel = Config({"KernelManager": {"transport": "ipc", "ip": str(folder / "kernel")}})  # no port is opened
    place = {"metadata": {"path": str(folder)}}
    client = NotebookClient(content, timeout=LIMIT, resources=place, config=channel, coalesce_streams=True)
    return client.execute(env=environment())


def environment() -> dict[str, str]:
    """For a kernel that imports this checkout and finds this Python's commands."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, "OMP_WAIT_POLICY": "passive"}


def markdown(notebook: Path, run: bool = True) -> str:
    """The page. run: with what its cells print."""
    if not run:
        return as_page(nbformat.read(notebook, as_version=4))
    with tempfile.TemporaryDirectory() as folder:
        return as_page(executed(notebook, Path(folder))).replace(f"{folder}/", "")


def as_page(content: nbformat.NotebookNode) -> str:
    """A notebook as Markdown: cells that write a file or run commands look as in the other pages."""
    text = MarkdownExporter().from_notebook_node(content)[0].replace("```sh\n%%sh\n", "```sh\n")
    return FRAME_STYLE.sub("", FILE_CELL.sub(r'```yaml title="\1"\n\2```\n', text))
