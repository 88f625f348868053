"""A generation, seen from the supervisor."""

from __future__ import annotations

import json
import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from swrec_prod.serving.process.link import pair
from swrec_prod.serving.process.options import Options
from swrec_prod.serving.watching.counts import Served

SPARE = 5.0  # seconds after which a generation that should have ended is killed


class Child:
    """Its process, and what it has said. counts: a file in memory, as large as the generation makes it.

    served, variants: what it counts; held: what another one needs to hold the same; serving: its workers that accept
    calls; is_ready: all of them did at a time; stage: of its loading; counted: under which number the tally has it.
    """

    def __init__(self, module: str, options: Options, held: dict[str, Any] | None = None, beside: bool = False) -> None:
        self.link, theirs = pair()
        self.counts = os.memfd_create("swrec-counts")
        os.set_inheritable(theirs.fileno(), True)
        descriptors, begin = (theirs.fileno(), self.counts), json.dumps({"held": held, "beside": beside})
        command = [sys.executable, "-P", "-m", module, *map(str, descriptors), options.to_json(), begin]
        self.process = subprocess.Popen(command, env=environment(options), pass_fds=descriptors, start_new_session=True)
        theirs.close()
        self.served: Sequence[Served] = ()
        self.variants: Sequence[tuple[str, str]] = ()
        self.held: dict[str, Any] | None = None
        self.serving: set[int] = set()
        self.is_ready = False
        self.stage = "files"
        self.counted: int | None = None

    def memory(self) -> memoryview:
        """The workers' counts."""
        return memoryview(mmap.mmap(self.counts, 0, prot=mmap.PROT_READ))

    def end(self) -> None:
        """Leave nothing of it behind."""
        if self.held is None:
            self.process.kill()  # it is loading, and hears nothing
        self.link.send("end")
        self.link.close()
        os.close(self.counts)
        try:
            self.process.wait(SPARE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def cause(self) -> str:
        """Why it has ended."""
        code = self.process.returncode
        return f"exit code {code}" if code >= 0 else f"signal {-code} ({signal.Signals(-code).name})"


def environment(options: Options) -> dict[str, str]:
    """Of a generation: this process's modules, and libraries that neither spin, nor talk, nor take more cores."""
    return {
        "OMP_WAIT_POLICY": "passive",
        "OMP_NUM_THREADS": str(options.threads),
        "GRPC_VERBOSITY": "NONE",
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
    }
