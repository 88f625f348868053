"""The data, run and columns files that come with the project, by name.

They lie beside this module in a checkout and in an installed package alike: swrec_prod/configs is a link to configs/
in the one, and a folder of the wheel in the other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Kind = Literal["data", "run", "abtest"]
CONFIGS = (Path(__file__).parent / "configs").resolve()


def find(kind: Kind, name: str | Path) -> Path | None:
    """The file that `name` means: a path to a file, else a shipped file of that name; None when it is neither.

    A shipped file may be named `movielens_mscan`, `movielens-mscan` or, as in the documents,
    `configs/run/movielens_mscan.yaml`. A folder is returned as well, so that its reader says what is wrong with it.
    """
    path = Path(name)
    if path.is_file():
        return path
    if path.parent in (Path(), Path("configs", kind)):
        shipped = CONFIGS / kind / f"{stem(path).replace('-', '_')}.yaml"
        if shipped.is_file():
            return shipped
    return path if path.exists() else None


def names(kind: Kind) -> list[str]:
    """The names of the shipped files, in alphabetical order."""
    return sorted(file.stem for file in (CONFIGS / kind).glob("*.yaml"))


def stem(path: str | Path) -> str:
    """What a path says as a name: its last part without `.yaml` or `.yml`."""
    return Path(path).name.removesuffix(".yaml").removesuffix(".yml")


def shown(path: Path) -> str:
    """A path for people: relative to the working folder where it lies in it."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
