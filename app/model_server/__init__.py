"""A model server: this project's language-model engine behind vLLM's API, in one process or on Ray Serve.

A Lorebase in front of it hands it rows and adapters through `LOREBASE_OPENAI_URL`, as it would hand them to vLLM. Knows
models, adapters by name and folder, and HTTP; knows no tenants and no documents.
"""

from app.model_server.api import create_model_app
from app.model_server.backend import Backend, Began, EngineBackend, Replica
from app.model_server.catalogue import Catalogue

__all__ = ["Backend", "Began", "Catalogue", "EngineBackend", "Replica", "create_model_app"]
