"""A hook of MkDocs: the pages of the site beside those of docs/.

README.md is the front page. Reference pages are made from the source, the tutorial from its notebook, and a file of the
repository that a page links to has a page that shows it. Links are written as they are for a reader of the repository,
and rewritten here.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from reference import pages, python_page, tutorial
from reference.markdown import block

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\]\(([^)\s#:]+)(#[^)\s]*)?\)")
NAMED_FENCE = re.compile(r"^```(\w+) ([\w./-]+)$", re.MULTILINE)
ALONE = ("README.md", "docs/tutorial.md", "CONTRIBUTING.md")  # pages without neighbours to choose from
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".proto": "protobuf", ".toml": "toml"}
REFERENCE = {  # page -> what makes it
    "data_file": pages.data_file, "run_file": pages.run_file,
    "columns_file": pages.columns_file, "models": pages.models, "metrics": pages.metrics,
    "columns": pages.columns_page, "commands": pages.commands, "python": python_page.from_python,
    "blocks": python_page.building_blocks,
}  # fmt: skip


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Called by MkDocs with the files of docs/: adds and replaces pages."""
    texts = written() | {f"docs/reference/{name}.md": make() for name, make in REFERENCE.items()}
    texts["docs/tutorial.md"] = tutorial.markdown(
        ROOT / "docs" / "tutorial.ipynb", run=config.extra["tutorial"] == "run"
    )
    texts |= sources(texts)
    sites = {path: site_path(path) for path in texts}
    for path, site in sites.items():
        if (before := files.get_file_from_path(site)) is not None:
            files.remove(before)
        files.append(File.generated(config, site, content=rewritten(path, texts[path], sites)))
    return files


def written() -> dict[str, str]:
    """The pages that people wrote, by their paths in the repository."""
    paths = ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
    return {path: (ROOT / path).read_text() for path in paths}


def site_path(path: str) -> str:
    """Where the page of a file lies on the site.

    >>> site_path("README.md"), site_path("docs/data.md"), site_path("configs/run/a.yaml")
    ('index.md', 'data.md', 'source/configs/run/a.yaml.md')
    """
    fixed = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md"}
    inside = path.removeprefix("docs/")
    return fixed.get(path) or (inside if inside != path else f"source/{path}.md")


def sources(texts: Mapping[str, str]) -> dict[str, str]:
    """A page for each file or folder of the repository that pages link to and that is none itself."""
    shown: dict[str, str] = {}
    while new := linked({**texts, **shown}) - {*texts, *shown}:
        shown |= {path: source(path) for path in new}
    return shown


def linked(texts: Mapping[str, str]) -> set[str]:
    """The files and folders of the repository that the pages link to, by their paths there."""
    found = {resolved(path, link) for path, text in texts.items() for link, _ in LINK.findall(text)}
    return {path for path in found if (ROOT / path).exists()}


def source(path: str) -> str:
    """The page that shows a file, or lists a folder's files."""
    file = ROOT / path
    if file.is_dir():
        lines = [
            f"- [{inside.name}]({file.name}/{inside.name})" for inside in sorted(file.iterdir()) if inside.is_file()
        ]
        return f"# {path}\n\n" + "\n".join(lines) + "\n"
    return f"# {path}\n\n{block(file.read_text(), language(path))}"


def language(path: str) -> str:
    """How code of this file is coloured."""
    return LANGUAGES.get(Path(path).suffix, "text")


def resolved(path: str, link: str) -> str:
    """A link of the page at `path`, from the root of the repository."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), link))


def rewritten(path: str, text: str, sites: Mapping[str, str]) -> str:
    """A page's text as MkDocs needs it: links between pages of the site, file names of code blocks as titles."""

    def link(found: re.Match[str]) -> str:
        site = sites.get(resolved(path, found[1]))
        here = posixpath.dirname(sites[path])
        return found[0] if site is None else f"]({posixpath.relpath(site, here or '.')}{found[2] or ''})"

    return head_of(path, sites[path]) + NAMED_FENCE.sub(r'``` \1 title="\2"', LINK.sub(link, text))


def head_of(path: str, site: str) -> str:
    """What a page tells the theme: no list of neighbours where there are none, no search in files that are shown."""
    if path in ALONE:
        return "---\nhide: [navigation]\n---\n"
    return "---\nsearch: {exclude: true}\n---\n" if site.startswith("source/") else ""
