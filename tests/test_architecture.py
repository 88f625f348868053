"""The rules of CONTRIBUTING.md that a machine can hold:
who may import whom, budgets, names, where the environment is read.
"""

from __future__ import annotations

import ast
import graphlib
import re
import statistics
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from functools import cache
from pathlib import Path

import pytest
import typer

from swrec_prod.cli import app

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("swrec_prod", "benchmarks", "reference")
LINKED = ("serving", "launch", "configs")  # folders at the top that are swrec_prod.serving ... by a link

RANKS = {  # a module imports lower ranks, or its own folder (files right in swrec_prod/ of one rank share a folder)
    "swrec_prod": 0, "swrec_prod.errors": 0, "swrec_prod.strict": 0, "swrec_prod.files": 0,
    "swrec_prod.first_rows": 0, "swrec_prod.shipped": 0, "swrec_prod.zones": 0, "swrec_prod.peers": 0,
    "swrec_prod.shelf": 0,
    "swrec_prod.layers": 0, "swrec_prod.operators": 0,
    "swrec_prod.schema": 1, "swrec_prod.config": 1, "swrec_prod.checkpoint_config": 1,
    "swrec_prod.run_dir": 1, "swrec_prod.engine": 1, "swrec_prod.group": 1,
    "swrec_prod.blocks": 1,
    "swrec_prod.losses": 1, "swrec_prod.metrics": 1,
    "swrec_prod.statistics": 2, "swrec_prod.shares": 2, "swrec_prod.abtest": 3,
    "swrec_prod.experiments": 2, "swrec_prod.exposures": 3,
    "swrec_prod.models": 2, "swrec_prod.raw": 2, "swrec_prod.encoding": 2,
    "swrec_prod.data": 3, "swrec_prod.logs": 3, "swrec_prod.negatives": 3,
    "swrec_prod.datasets": 4, "swrec_prod.simulation": 4, "swrec_prod.behaviours": 4, "swrec_prod.computed": 4,
    "swrec_prod.sparse": 4,
    "swrec_prod.assembly": 4, "swrec_prod.staging": 4,
    "swrec_prod.prepare": 5, "swrec_prod.ranker": 5, "swrec_prod.checkpoint": 6,
    "swrec_prod.export": 6, "swrec_prod.doctor": 6,
    "swrec_prod.evaluate": 7,
    "swrec_prod.compare": 8, "swrec_prod.train": 8, "swrec_prod.drawing": 8, "swrec_prod.abtest_text": 8,
    "swrec_prod.judge": 9, "swrec_prod.debiasing": 9, "swrec_prod.studies": 9, "swrec_prod.pages": 10,
    "swrec_prod.serving.protocol": 1, "swrec_prod.serving.client": 2, "swrec_prod.serving": 3,
    "swrec_prod.serving.callers": 8, "swrec_prod.serving.scoring": 8, "swrec_prod.serving.routing": 9,
    "swrec_prod.serving.watching": 9, "swrec_prod.serving.service": 10, "swrec_prod.serving.process": 11,
    "swrec_prod.replay": 10,
    "swrec_prod.entry": 12, "swrec_prod.cli": 12, "swrec_prod.cli_serving": 12, "swrec_prod.cli_judging": 12,
    "swrec_prod.cli_experiments": 12, "swrec_prod.cli_models": 12,
    "benchmarks": 12,
    "swrec_prod.launch": 13, "reference": 13,
}  # fmt: skip
SERVER_ROOMS = ("swrec_prod.serving.scoring", "swrec_prod.serving.routing", "swrec_prod.serving.watching",
                "swrec_prod.serving.service", "swrec_prod.serving.process")  # each sees those before it  # fmt: skip
OF_SERVER = {"swrec_prod.serving.protocol", "swrec_prod.errors", "swrec_prod.strict", "swrec_prod.files",
             "swrec_prod.schema", "swrec_prod.encoding", "swrec_prod.export.package", "swrec_prod.export.loaded",
             "swrec_prod.experiments", "swrec_prod.exposures"}  # fmt: skip
ONLY = {  # these import nothing else of ours, whatever its rank
    "swrec_prod.operators": {"swrec_prod.operators"},
    "swrec_prod.layers": {"swrec_prod.layers"},
    "swrec_prod.blocks": {"swrec_prod.blocks", "swrec_prod.operators", "swrec_prod.layers", "swrec_prod.errors"},
    "swrec_prod.models": {"swrec_prod.models", "swrec_prod.blocks", "swrec_prod.layers", "swrec_prod.errors"},
    "swrec_prod.encoding.pack": {"swrec_prod.schema"},
    "swrec_prod.serving.protocol": {"swrec_prod.serving.protocol", "swrec_prod.errors"},
    "swrec_prod.serving.client": {"swrec_prod.serving.client", "swrec_prod.serving.protocol", "swrec_prod.errors"},
    "swrec_prod.serving.callers": {"swrec_prod.serving.callers", "swrec_prod.serving.client",
                                   "swrec_prod.serving.protocol", "swrec_prod.errors", "swrec_prod.strict",
                                   "swrec_prod.files", "swrec_prod.schema"},
    **{room: {*OF_SERVER, *SERVER_ROOMS[: at + 1]} for at, room in enumerate(SERVER_ROOMS)},
    "swrec_prod.launch": {"swrec_prod.launch"},
}  # fmt: skip
TORCHREC = (
    "swrec_prod.data.batch", "swrec_prod.sparse", "swrec_prod.ranker", "swrec_prod.train", "swrec_prod.export.program",
    "swrec_prod.checkpoint", "swrec_prod.doctor", "benchmarks",
)  # fmt: skip
ENVIRONMENT = (
    "swrec_prod.train.distributed", "swrec_prod.group.joining", "swrec_prod.engine.spark_session", "swrec_prod.doctor",
    "swrec_prod.serving.process", "swrec_prod.launch", "benchmarks", "reference", "requirements",
)  # fmt: skip
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "base", "misc"}


def under(module: str, places: Iterable[str]) -> str | None:
    """The longest of `places` that is `module` or a package around it."""
    around = [p for p in places if module == p or module.startswith(p + ".")]
    return max(around, key=len, default=None)


def name_of(path: Path) -> str:
    """The one name under which this file may be imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = ("swrec_prod", *parts) if parts[0] in LINKED else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def source_files() -> dict[str, Path]:
    """Our own modules by name, generated ones left out."""
    paths = {p.resolve() for folder in (*PACKAGES, *LINKED) for p in (ROOT / folder).rglob("*.py")}
    return {name_of(p): p for p in sorted(paths) if "_pb2" not in p.name}


FILES = source_files()
SOURCES = {module: path.read_text() for module, path in FILES.items()}
parsed = cache(ast.parse)


def imported(tree: ast.AST, known: Set[str]) -> set[str]:
    """Modules imported anywhere in `tree`; `from a import b` is a.b where that is a `known` module."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide which module is meant"
            full = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else str(node.module) for name in full.values()}
    return found


def neighbours(one: str, other: str) -> bool:
    """Whether both are files right in swrec_prod/ and of one rank."""
    return RANKS.get(one) == RANKS.get(other) and all(
        (ROOT / f"{m.replace('.', '/')}.py").exists() for m in (one, other)
    )


def rank_violations(module: str, source: str, known: Set[str]) -> list[str]:
    """What `module` imports and may not, each with the rule that forbids it."""
    ours = {name for name in imported(parsed(source), known) if name.split(".")[0] in PACKAGES and name != "swrec_prod"}
    unit = under(module, RANKS)
    if unit is None or unit == "swrec_prod" != module:
        return [f"{module} has no rank: give it one in RANKS and in CONTRIBUTING.md"]
    wrong = []
    only = under(module, ONLY)
    for name in sorted(ours):
        there = under(name, RANKS) or name
        if only is not None and under(name, ONLY[only]) is None and "_pb2" not in name:
            wrong.append(f"{module} imports {name}: {only} may import {', '.join(sorted(ONLY[only]))} only")
        elif only is None and not (there == unit or RANKS.get(there, 99) < RANKS[unit] or neighbours(there, unit)):
            wrong.append(
                f"{module} (rank {RANKS[unit]}) imports {name} (rank {RANKS.get(there)}): "
                "a module imports lower ranks only"
            )
    return wrong


def top_level(source: str) -> ast.Module:
    """What importing a module runs, without the bodies of its functions and classes."""
    body = [
        n
        for n in parsed(source).body
        if not isinstance(n, (ast.FunctionDef, ast.ClassDef)) and "TYPE_CHECKING" not in ast.dump(n)
    ]
    return ast.Module(body, type_ignores=[])


def graph(at_import: bool) -> dict[str, set[str]]:
    """module -> our modules that it imports; with `at_import` only those that importing it imports too."""
    edges = {}
    for module, source in SOURCES.items():
        tree = top_level(source) if at_import else parsed(source)
        edges[module] = {name for name in imported(tree, SOURCES.keys()) if name in SOURCES}
    return edges


def reaches_environment(source: str) -> bool:
    names = {n.attr for n in ast.walk(parsed(source)) if isinstance(n, ast.Attribute)}
    return bool(names & {"environ", "getenv", "putenv"})


def functions(source: str) -> Iterator[tuple[str, int, int]]:
    """Name, lines, and lines after the docstring of each function."""
    for node in ast.walk(parsed(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body, end = node.body[ast.get_docstring(node) is not None :], node.end_lineno or node.lineno
            yield node.name, end - node.lineno + 1, end - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("module", SOURCES)
def test_a_module_imports_only_what_its_rank_allows(module: str) -> None:
    assert rank_violations(module, SOURCES[module], SOURCES.keys()) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("swrec_prod.schema", "from swrec_prod.config import RunConfig"),
        ("swrec_prod.metrics", "from swrec_prod import sparse"),
        ("swrec_prod.metrics", "from swrec_prod.datasets import DATASETS"),
        ("swrec_prod.evaluate.predict", "import swrec_prod.train.loop"),
        ("swrec_prod.models.mmoe", "from swrec_prod.schema import Feature"),
        ("swrec_prod.encoding.pack", "from swrec_prod.config import RunConfig"),
        ("swrec_prod.sparse", "def f():\n    import swrec_prod.cli"),
        ("swrec_prod.serving.process.server", "from swrec_prod.data.batch import Batch"),
        ("swrec_prod.launch.demo", "import swrec_prod.errors"),
        ("swrec_prod.newcomer", "import os"),
    ],
)
def test_the_rank_check_finds_a_violation(module: str, line: str) -> None:
    assert len(rank_violations(module, line, SOURCES.keys())) == 1


@pytest.mark.parametrize(
    ("module", "line"),
    [
        (
            "swrec_prod.data.reader",
            "from swrec_prod.data.catalog import Catalog\nfrom swrec_prod.config import DataConfig",
        ),
        ("swrec_prod.models.mmoe", "from swrec_prod.layers.mlp import MLP"),
        (
            "swrec_prod.serving.scoring.features",
            "from swrec_prod.encoding.encoders import Encoders\nfrom swrec_prod.serving.protocol import ranking_pb2",
        ),
        ("swrec_prod.schema", "from swrec_prod.errors import SchemaError"),
        ("swrec_prod.cli", "from swrec_prod import __version__"),
    ],
)
def test_the_rank_check_lets_the_allowed_pass(module: str, line: str) -> None:
    assert rank_violations(module, line, SOURCES.keys()) == []


def linked_by_plain_name(text: str) -> list[str]:
    """Where a text (source, Makefile, page) imports or runs a linked folder as if it were a package at the top."""
    name = rf"(?:{'|'.join(LINKED)})\b[.\w]*"
    ways = (rf"from {name} import", rf"(?:^|[\"';])\s*import {name}", rf"-m(?:\",)?\s+\"?{name}", rf"\$\(RUN\) {name}")
    return re.findall("|".join(ways), text, re.MULTILINE)


@pytest.mark.parametrize("name", LINKED)
def test_a_folder_at_the_top_is_a_part_of_the_package(name: str) -> None:
    link = ROOT / "swrec_prod" / name
    assert link.is_symlink() and link.readlink() == Path("..", name) and (ROOT / name).is_dir()


def test_linked_folders_have_one_name() -> None:
    """One file under two names would be two modules, with two classes of every name in it."""
    pages = [ROOT / "Makefile", *ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    texts = [*FILES.values(), *(ROOT / "tests").glob("*.py"), *(ROOT / "requirements").glob("*.py"), *pages]
    wrong = {path: linked_by_plain_name(path.read_text()) for path in texts if path != Path(__file__).resolve()}
    assert {path: lines for path, lines in wrong.items() if lines} == {}
    examples = (
        "from serving import wire",
        "def f():\n    import launch.demo as d",
        "python -m launch.demo",
        "@$(RUN) launch.demo",
    )
    assert all(linked_by_plain_name(example) for example in examples)
    assert not linked_by_plain_name("from swrec_prod.serving.protocol import wire  # for serving")


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    """Imports inside functions and for type checkers count too."""
    order = graphlib.TopologicalSorter(graph(at_import=False)).static_order()  # raises CycleError naming the circle
    assert set(order) == SOURCES.keys()


def folder_of(module: str) -> str:
    """The package that a module lies in, which an `__init__` is itself."""
    return module if FILES[module].name == "__init__.py" else module.rpartition(".")[0]


def folders_both_ways(edges: Mapping[str, Set[str]]) -> set[tuple[str, str]]:
    """Pairs of folders that import each other. swrec_prod/ itself does not count: its files have ranks of their own."""
    pairs = {(folder_of(module), folder_of(other)) for module, others in edges.items() for other in others}
    return {(a, b) for a, b in pairs if a < b and (b, a) in pairs and "swrec_prod" not in (a, b)}


def test_folders_do_not_import_each_other_both_ways() -> None:
    assert folders_both_ways(graph(at_import=False)) == set()


def test_the_check_of_folders_finds_two_that_import_each_other() -> None:
    edges = {
        "swrec_prod.data.reader": {"swrec_prod.encoding.pack", "swrec_prod.config"},
        "swrec_prod.encoding": {"swrec_prod.data.batch", "swrec_prod.errors"},
        "swrec_prod.config": {"swrec_prod.data.batch"},
        "swrec_prod.serving.process.server": {"swrec_prod.encoding.pack"},
    }
    assert folders_both_ways(edges) == {("swrec_prod.data", "swrec_prod.encoding")}


def test_imports_inside_functions_and_for_type_checkers_are_read() -> None:
    source = "def f():\n    import swrec_prod.cli\nif TYPE_CHECKING:\n    from swrec_prod.data.batch import Batch"
    assert imported(parsed(source), SOURCES.keys()) == {"swrec_prod.cli", "swrec_prod.data.batch"}


def test_torchrec_is_imported_in_few_places() -> None:
    users = {
        m
        for m, source in SOURCES.items()
        if any(n.split(".")[0] == "torchrec" for n in imported(parsed(source), set()))
    }
    assert {m for m in users if under(m, TORCHREC) is None} == set()


def test_the_server_does_not_need_torchrec() -> None:
    edges, seen, queue = graph(at_import=True), set(), [m for m in SOURCES if under(m, ("swrec_prod.serving",))]
    while queue:
        module = queue.pop()
        seen.add(module)
        queue += edges[module] - seen
    at_fault = {m for m in seen if re.search(r"^(from|import) torchrec", SOURCES[m], re.MULTILINE)}
    assert at_fault == set()


def test_the_client_needs_the_packages_that_it_installs_with() -> None:
    edges, seen, queue = graph(at_import=True), set(), ["swrec_prod.serving.client", "swrec_prod.entry"]
    while queue:
        module = queue.pop()
        seen.add(module)
        queue += edges[module] - seen
    trees = [top_level(SOURCES[module]) for module in seen]
    third_party = {name.split(".")[0] for tree in trees for name in imported(tree, set())} - set(
        sys.stdlib_module_names
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    folders = {"numpy": "numpy", "grpcio": "grpc", "protobuf": "google"}
    assert third_party - {"swrec_prod"} == {folders[re.split("[<>=]", r)[0]] for r in project["dependencies"]}


def test_packing_is_numpy_only() -> None:
    third_party = {n.split(".")[0] for n in imported(parsed(SOURCES["swrec_prod.encoding.pack"]), set())} - set(
        sys.stdlib_module_names
    )
    assert third_party == {"numpy", "swrec_prod"}


@pytest.mark.process
@pytest.mark.parametrize("module", ["swrec_prod", "swrec_prod.schema", "swrec_prod.config", "swrec_prod.doctor"])
def test_light_modules_do_not_import_torch(module: str) -> None:
    check = f"import sys, {module}; print(sorted({{'torch', 'torchrec', 'pyarrow'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


@pytest.mark.process
@pytest.mark.parametrize("module", ["swrec_prod.train.run", "swrec_prod.evaluate.terminal"])
def test_training_and_its_table_do_not_import_the_plotting_library(module: str) -> None:
    check = f"import sys, {module}; print('plotly' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("module", SOURCES)
def test_budgets(module: str) -> None:
    lines = SOURCES[module].count("\n")
    assert lines <= 400, f"{module} has {lines} lines: split it"
    assert [(name, size) for name, size, _ in functions(SOURCES[module]) if size > 80] == []


def test_bodies_of_functions_are_short() -> None:
    sizes = sorted(size for source in SOURCES.values() for _, _, size in functions(source))
    assert statistics.median(sizes) <= 6
    assert statistics.quantiles(sizes, n=10)[8] <= 20, "nine of ten"


def test_a_folder_is_of_one_trade() -> None:
    lines = Counter[str]()
    for module, source in SOURCES.items():
        lines[folder_of(module)] += source.count("\n")
    del lines["swrec_prod"]  # its files have ranks of their own
    assert {folder: size for folder, size in lines.items() if size >= 2200} == {}, "split it"


def test_names_say_what_is_inside() -> None:
    assert [m for m in SOURCES if FORBIDDEN_NAMES & set(m.split("."))] == []


def test_packages_have_one_level_of_folders() -> None:
    assert [m for m, path in FILES.items() if len(path.relative_to(ROOT).parts) > 3] == []


def test_the_environment_is_read_in_few_places() -> None:
    assert [m for m, source in SOURCES.items() if reaches_environment(source) and under(m, ENVIRONMENT) is None] == []
    assert reaches_environment("import os\nx = os.getenv('A')") and not reaches_environment(
        "import os\nx = os.getcwd()"
    )


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_make_command_in_the_documents_exists(page: str) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^ *|`|&& )make ([a-z][a-z-]*)", (ROOT / page).read_text(), re.MULTILINE))
    assert named and named <= targets


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_of_the_documents_lead_somewhere(page: str) -> None:
    linked = re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text())
    assert [link for link in linked if not (ROOT / link).exists()] == []


def test_swrec_commands_in_the_readme_exist_with_their_options() -> None:
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    lines = re.findall(r"^ {4}swrec ([a-z]+)([^#\n]*)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(lines) >= 8
    for command, rest in lines:
        options = {name for parameter in known[command].params for name in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= options, command


def test_ranks_in_the_documents_are_the_ones_that_are_held() -> None:
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    told = {
        name: int(rank) for rank, text in rows for name in re.findall(r"`([a-z_.]+)`", re.sub(r"\(.*?\)|:.*", "", text))
    }
    assert told == {name.removeprefix("swrec_prod."): rank for name, rank in RANKS.items() if name != "swrec_prod"}
