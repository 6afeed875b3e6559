"""The `openai` engine: any server that speaks OpenAI's chat API, behind the same seam as the models in this process."""

from adapters.remote.engine import RemoteEngine

__all__ = ["RemoteEngine"]
