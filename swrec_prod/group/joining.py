"""How ranks find each other, at the first start and after every restart by torchrun.

torchrun keeps one store for all restarts, and what dead ranks wrote there hangs the next ones. Its restart counts do
not tell them apart on several hosts: only the agent of the failed rank counts. So the ranks agree on a new name.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from swrec_prod.errors import ConfigError

if TYPE_CHECKING:
    from torch.distributed import Store

JOIN_S = 600.0  # seconds until every host must have come
LOOK_S = 0.05


def common_store(rank: int, world_size: int) -> Store:
    """A store that the ranks which are alive now share, and no earlier ones.

    Raises ConfigError when the environment does not say where it is, or not all ranks come within JOIN_S.
    """
    from torch.distributed import PrefixStore

    store = _store_of_all(rank, world_size)
    return PrefixStore(f"swrec/{agreed_name(store, rank, world_size)}", store)


def agreed_name(store: Store, rank: int, world_size: int, seconds: float = JOIN_S) -> str:
    """The name that rank 0 gives to the ranks which are alive. store: may hold what dead ranks wrote.

    Every process writes a mark of its own. Rank 0 answers the mark that a rank has now, until the rank has confirmed.
    """
    own = uuid.uuid4().hex
    store.set(f"mark/{rank}", own)
    if rank > 0:
        _until(lambda: store.check([f"answer/{own}"]), seconds, f"rank {rank}: rank 0 has not come")
        name = store.get(f"answer/{own}").decode()
        store.set(f"confirmed/{name}/{rank}", "")
        return name
    for other in range(1, world_size):
        _until(partial(_answered, store, other, own), seconds, f"rank 0: rank {other} has not come")
    return own


def _answered(store: Store, rank: int, name: str) -> bool:
    """Answer to the mark that `rank` has now; whether it has confirmed."""
    if not store.check([f"mark/{rank}"]):
        return False
    store.set(f"answer/{store.get(f'mark/{rank}').decode()}", name)
    return store.check([f"confirmed/{name}/{rank}"])


def _until(holds: Callable[[], bool], seconds: float, problem: str) -> None:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise ConfigError(f"{problem} within {seconds:g} s; see that as many processes start as WORLD_SIZE says")
        time.sleep(LOOK_S)


def _store_of_all(rank: int, world_size: int) -> Store:
    """torchrun's own store; rank 0 has it where nobody else does."""
    from torch.distributed import TCPStore

    try:
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    except (KeyError, ValueError) as failure:
        raise ConfigError(f"RANK is set, but where the ranks meet is not: {failure}; start ranks by torchrun") from None
    of_agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    is_master = rank == 0 and not of_agent
    timeout = timedelta(seconds=JOIN_S)
    return TCPStore(host, port, world_size, is_master, timeout=timeout, multi_tenant=is_master, wait_for_workers=False)
