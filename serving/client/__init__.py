"""The client of the scorer, for other people's services. It needs grpcio, protobuf and numpy:

from swrec_prod.serving.client import Client
"""

from swrec_prod.serving.client.sync import Client, ScoredItems, make_request

__all__ = ["Client", "ScoredItems", "make_request"]
