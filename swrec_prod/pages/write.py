"""A page as files: HTML to look at, and beside it the same as Markdown for pipelines."""

from __future__ import annotations

from pathlib import Path

from swrec_prod.files import write_text
from swrec_prod.pages.html import as_html
from swrec_prod.pages.markdown import as_markdown
from swrec_prod.pages.page import Page


def write_page(page: Page, html: Path) -> None:
    """Write the file `html`, and one of the same name that ends in .md, each whole or not at all."""
    write_text(html.with_suffix(".md"), as_markdown(page))
    write_text(html, as_html(page))
