"""The client of the scorer, for other people's services. It needs grpcio, protobuf and numpy:

from swrec_prod.serving.client import AsyncClient, Client
"""

from swrec_prod.serving.client.aio import AsyncClient
from swrec_prod.serving.client.channels import Tls
from swrec_prod.serving.client.reply import Explained, Input, ScoredItems, ServedModel
from swrec_prod.serving.client.request import make_request
from swrec_prod.serving.client.retry import Retries
from swrec_prod.serving.client.streaming import Streamed
from swrec_prod.serving.client.sync import Client

__all__ = [
    "AsyncClient",
    "Client",
    "Explained",
    "Input",
    "Retries",
    "ScoredItems",
    "ServedModel",
    "Streamed",
    "Tls",
    "make_request",
]
