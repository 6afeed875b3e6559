"""The routes of the HTTP contract: one function for each, which describes its request and the shape of its answer.

Both clients have these as methods, with the same names, arguments and docstrings. What the `openai` client is for
(`/v1/…`), and what is not for a client (`/livez`, `/metrics`), is not here.
"""

from app.client.requests import adapters, documents, questions, tenants, training
from app.client.requests.adapters import ADAPTER_FILES
from app.client.requests.documents import Text
from app.client.requests.questions import GivenText

__all__ = ["ADAPTER_FILES", "GivenText", "Text", "adapters", "documents", "questions", "tenants", "training"]
