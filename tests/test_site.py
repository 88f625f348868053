"""The site of the documents: it builds without a warning, loads nothing from elsewhere, and its tutorial runs."""

from __future__ import annotations

import doctest
import json
import re
from pathlib import Path

import pytest
from runs import ROOT

from swrec_prod.models import MODELS

FETCHED = re.compile(r"<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; strict: a link, anchor or page that is missing fails. The tutorial's cells are not run.

    It starts processes: mkdocstrings has signatures formatted.
    """
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWREC_TUTORIAL", "skip")
        build(load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(folder)))
    return folder


def text_of(page: Path) -> str:
    return re.sub(r"<[^>]+>", "", page.read_text())


@pytest.mark.process
def test_pages_have_what_the_source_says(site: Path) -> None:
    assert "schema.features[].encoder" in text_of(site / "reference" / "data_file.html")
    assert "embedding_dropout" in text_of(site / "reference" / "run_file.html")
    assert all(f'id="{name}"' in (site / "reference" / "models.html").read_text() for name in MODELS)
    assert "Raises RequestError" in text_of(site / "reference" / "python.html"), "mkdocstrings found the client"
    assert "class ScenarioLinear" not in text_of(site / "reference" / "blocks.html"), "documents, not source"
    assert "swrec prepare" in text_of(site / "index.html"), "the front page is README.md"


@pytest.mark.process
def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 15
    assert [(page.name, found) for page in pages for found in FETCHED.findall(page.read_text())] == []
    assert FETCHED.search('<script async src="https://cdn.example/x.js"></script>')


def test_examples() -> None:
    from reference import site

    assert doctest.testmod(site).failed == 0


@pytest.mark.process
def test_files_that_pages_link_to_are_pages(site: Path) -> None:
    assert "source: parquet" in text_of(site / "source" / "configs" / "data" / "parquet_logs.yaml.html")
    assert 'href="source/serving/client/sync.py.html"' in (site / "index.html").read_text()
    found = {
        place["location"].partition("#")[0]
        for place in json.loads((site / "search/search_index.json").read_text())["docs"]
    }
    assert "reference/data_file.html" in found and not any(page.startswith("source/") for page in found)


@pytest.mark.process
@pytest.mark.timeout(400)  # six commands one after the other, each of which imports torch
def test_the_tutorial_runs_and_joins_predictions_to_its_log(tmp_path: Path) -> None:
    from reference.tutorial import as_page, executed

    page = as_page(executed(ROOT / "docs" / "tutorial.ipynb", tmp_path))
    assert "published models/shop/1" in page
    served = float(re.search(r"max_abs_diff: (\S+)", page).group(1))  # type: ignore[union-attr]
    assert served < 1e-5
    best = re.findall(r"<td>(books|games|garden|music|tools)</td>", page)
    assert best[:3] == ["games"] * 3, "for a user who likes games"
    assert "%%" not in page and "<style" not in page
