"""The `swrec` command: the command line, or one line that says what to install where a package is missing.

The client of the scorer installs alone, without the packages of the command line, and this command comes with it.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec

# torchrec by itself and without what it asks for: that is the CUDA fbgemm, whose files are those of the CPU one.
COMPLETE = (
    "the whole product: pip install 'swrec-prod[cpu]' && pip install --no-deps torchrec==1.8.0, "
    "or with an NVIDIA driver pip install 'swrec-prod[gpu]', or in a checkout make setup"
)


def main() -> None:
    """Run the command line; exit codes are those of `cli`, and 2 where a package is not installed."""
    try:
        from swrec_prod.cli import main as command_line

        command_line()
    except ModuleNotFoundError as failure:
        package = (failure.name or "").partition(".")[0]
        if package in ("", "swrec_prod") or find_spec(package):
            raise  # no package is missing, but a module of ours or of an installed package: not for the user to mend
        print(f"{type(failure).__name__}: {package} is not installed; {COMPLETE}", file=sys.stderr)
        raise SystemExit(2) from None
