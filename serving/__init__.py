"""The scorer: an exported package behind gRPC, and its client.

The server needs torch and fbgemm, not torchrec, and a CPU is enough. The client needs grpcio, protobuf and numpy:

from swrec_prod.serving import Client
"""

from swrec_prod.serving.client import Client, ScoredItems

__all__ = ["Client", "ScoredItems"]
