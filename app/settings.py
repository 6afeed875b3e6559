"""Every setting of the service, read from the environment in this one place.

Each has a help text; `lorebase settings` prints them and the README's table is made from them.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

BUILTIN = "builtin"
NO_RERANKER = "none"
REMOTE = "openai:"
_MEBIBYTE = 1024**2
_ORIGIN = r"https?://[A-Za-z0-9.:\[\]-]+"


class Settings(BaseSettings):
    """Settings, from ``LOREBASE_…`` variables unless given as arguments."""

    model_config = SettingsConfigDict(env_prefix="LOREBASE_", env_ignore_empty=True, frozen=True)

    host: str = Field("127.0.0.1", description="Address to listen on. Use 0.0.0.0 only behind TLS.")
    port: int = Field(8000, ge=1, le=65535, description="Port to listen on.")
    tls_certificate: Path | None = Field(
        None, description="File with the certificate chain (PEM) to serve HTTPS by itself; unset: HTTP."
    )
    tls_key: Path | None = Field(None, description="File with that certificate's private key (PEM).")
    cors_origins: str | None = Field(
        None,
        pattern=rf"^({_ORIGIN}(\s*,\s*{_ORIGIN})*)$",
        description="Origins of web pages that may use the API from a browser, such as `https://intranet.example.com`, "
        "separated by commas; none unless set.",
    )
    data: Path = Field(Path("data"), description="Folder for everything the service keeps.")
    database_url: SecretStr | None = Field(
        None,
        description="`postgresql://user:password@host/database`: keep all rows in that PostgreSQL database, and in the "
        "folder only adapters and keys.env; any number of processes may serve it. Unset: SQLite files in the folder, "
        "for one process. Needs `pip install 'lorebase[postgres]'`.",
    )
    vector_search: Literal["memory", "database"] = Field(
        "memory",
        description="Where vectors are searched: `memory` (every process loads those of the tenants in use), or "
        "`database`: by PostgreSQL with its extension pgvector; needs LOREBASE_DATABASE_URL.",
    )
    adapter_store: str | None = Field(
        None,
        pattern=r"^(s3://[^/?#]+(/[^?#]*)?|file:///[^?#]*[^/?#][^?#]*)$",
        description="`s3://bucket/prefix` or `file:///folder`: keep the files of adapters there, so that hosts with "
        "data folders of their own share them; unset: in the data folder. S3 needs `pip install 'lorebase[s3]'` and "
        "the usual `AWS_…` variables.",
    )
    adapter_cache_mb: int = Field(
        4096,
        ge=1,
        description="What copies of adapters from LOREBASE_ADAPTER_STORE may take in the data folder, in MiB.",
    )
    admin_key: SecretStr | None = Field(None, description="Admin key, 16 characters or more, instead of a made one.")
    default_key: SecretStr | None = Field(
        None, description="Key of the `default` tenant, 16 characters or more, instead of a made one."
    )
    model: str = Field(
        BUILTIN,
        description="`builtin` (the reader), the folder or hub id of a Hugging Face language model (causal, or T5), or "
        "`openai:` and the name of a model that the server at LOREBASE_OPENAI_URL serves.",
    )
    openai_url: str = Field(
        "http://127.0.0.1:8001/v1",
        pattern="^https?://",
        description="Address of the OpenAI-compatible API that an `openai:` model is asked at.",
    )
    openai_key: SecretStr | None = Field(None, description="Key for that API.")
    openai_context: int | None = Field(
        None, ge=256, description="Tokens that prompt and answer may have together there; unset: as the server says."
    )
    openai_silence_seconds: float = Field(
        120.0, gt=0, description="Longest time without a byte from that server before a question is given up."
    )
    openai_data: str | None = Field(
        None,
        description="Where that server, if it is vLLM, sees the folder LOREBASE_DATA, which it reads adapters from; "
        "unset: at the same place.",
    )
    model_server_key: SecretStr | None = Field(
        None,
        description="Key that `lorebase model-server` asks for, 16 characters or more; what LOREBASE_OPENAI_KEY is to "
        "the service in front of it.",
    )
    judge: str | None = Field(
        None,
        pattern="^openai:.",
        description="`openai:` and the name of a model that prefers one answer to another (`POST /datasets/judge`); "
        "unset: the answering model itself.",
    )
    judge_url: str = Field(
        "http://127.0.0.1:8001/v1",
        pattern="^https?://",
        description="Address of the OpenAI-compatible API that the judge is asked at.",
    )
    judge_key: SecretStr | None = Field(None, description="Key for that API.")
    embedder: str = Field(BUILTIN, description="`builtin` (MiniLM), or the folder or hub id of a sentence-transformer.")
    embedding_backend: Literal["auto", "openvino", "torch"] = Field(
        "auto",
        description="What runs the embedder and the builtin reranker: `openvino` (several times faster, the same "
        "vectors), `torch`, or `auto`: OpenVINO where it can run the model.",
    )
    reranker: str = Field(
        NO_RERANKER,
        description="`none`, `builtin` (an English cross-encoder: better order, slower search), or the folder or hub "
        "id of a cross-encoder.",
    )
    retrieval_mode: Literal["hybrid", "dense", "keyword"] = Field(
        "hybrid", description="How passages are searched for, unless a request says."
    )
    rerank_candidates: int = Field(20, ge=1, le=200, description="Passages that are reranked, unless a request says.")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Number format of the base model's weights; `auto`: bfloat16 for the reader where the processor "
        "has it, other models as they are stored.",
    )
    quantize: Literal["none", "int8", "nf4"] = Field(
        "none",
        description="Bits of a causal language model's weights: `int8`, or `nf4` (4 bits; needs "
        "`pip install 'lorebase[quantized]'`). Adapters stay as they are.",
    )
    merge_after: int = Field(
        0,
        ge=0,
        description="After so many questions in a row on one LoRA adapter a causal language model takes it into its "
        "weights, until another is asked for: for a service with one adapter. 0: never.",
    )
    adapter_memory_mb: int = Field(
        512, ge=1, description="Memory for resident adapters, in MiB; of an `openai:` model, in its server."
    )
    exact_up_to: int = Field(
        20_000,
        ge=1000,
        description="Chunks of one tenant up to which every search looks at every vector; beyond, inverted lists built "
        "in the background answer, or in the database an HNSW index.",
    )
    kv_memory_mb: int = Field(
        1024, ge=1, description="Memory for the keys and values of questions a language model is answering, in MiB."
    )
    max_batch: int = Field(32, ge=1, description="Questions a language model answers at once.")
    prefill_tokens: int = Field(
        256,
        ge=1,
        description="Tokens of prompts a language model reads in one step, beside the answers under way; fewer keep "
        "those more fluent. Where more wait to be read than are under way, it reads more, as far as a second goes.",
    )
    index_memory_mb: int = Field(
        1024, ge=1, description="Memory for the tenants' vector indexes and open databases, in MiB."
    )
    max_body_mb: int = Field(32, ge=1, description="Largest request body, in MiB.")
    body_seconds: float = Field(
        30.0, gt=0, description="Longest time without a byte of a request's body before the request is ended with 408."
    )
    max_question_chars: int = Field(4000, ge=1, description="Longest question, in characters.")
    max_waiting: int = Field(
        256,
        ge=1,
        description="Questions and searches of all tenants that may be under way, those that wait among them. One "
        "tenant may have as many as are free yet, so half of them at most; more are answered 429.",
    )
    max_pending_documents: int = Field(
        10_000, ge=1, description="Documents of one tenant that may wait to be ingested; more are answered 429."
    )
    max_pending_total: int = Field(
        100_000, ge=1, description="Documents of all tenants that may wait to be ingested; more are answered 429."
    )
    answers_kept: int = Field(
        10_000,
        ge=0,
        description="Answers kept of one tenant so that feedback can be given on them; 0: none, and no feedback.",
    )
    answers_days: float = Field(30.0, gt=0, description="Days an answer without feedback is kept.")
    feedback_kept: int = Field(100_000, ge=1, description="Answers with feedback kept of one tenant.")
    chunk_size: int = Field(1000, ge=100, le=8000, description="Longest chunk, in characters.")
    parse_pages: int = Field(5_000, ge=1, description="Most pages of one PDF, or slides of one presentation.")
    parse_rows: int = Field(200_000, ge=1, description="Most rows of one spreadsheet, CSV or JSON Lines file.")
    parse_characters: int = Field(100_000_000, ge=1, description="Most characters of text in one file.")
    parse_seconds: float = Field(120.0, gt=0, description="Longest time one file may take to parse.")
    parse_memory_mb: int = Field(2048, ge=256, description="Memory one file may take to parse, in MiB.")
    unpacked_mb: int = Field(512, ge=1, description="What one zip-based file, such as DOCX, may unpack to, in MiB.")
    unpacked_ratio: int = Field(
        200, ge=1, description="To how many times its size a zip-based file or archive may unpack."
    )
    archive_files: int = Field(1_000, ge=1, description="Most files in the zip archives of one upload.")
    archive_mb: int = Field(256, ge=1, description="What the zip archives of one upload may unpack to, in MiB.")
    archive_depth: int = Field(2, ge=1, description="How deep zip archives may lie in each other; 1: not at all.")
    training_jobs: int = Field(1, ge=1, le=16, description="Trainings and other long jobs done at once.")
    max_pending_trainings: int = Field(
        8, ge=1, description="Trainings and other long jobs of one tenant that may wait; more are answered 429."
    )
    training_threads: int = Field(1, ge=1, description="Processor threads of a training.")
    training_niceness: int = Field(
        10, ge=0, le=19, description="How far a training stands back behind questions for the processor."
    )
    training_seconds: float = Field(6 * 3600.0, gt=0, description="Longest time one training may take.")
    training_memory_mb: int = Field(8192, ge=256, description="Memory one training may take, in MiB.")
    training_checkpoint_seconds: float = Field(
        15.0, gt=0, description="Time between two checkpoints of a training: what a crash costs at most."
    )
    limit_documents: int | None = Field(
        None, ge=0, description="Documents one tenant may have; unset: as many as there is room for."
    )
    limit_mb: int | None = Field(None, ge=0, description="MiB of documents, as sent, that one tenant may have.")
    limit_adapter_versions: int | None = Field(None, ge=0, description="Adapter versions one tenant may keep.")
    limit_requests_per_minute: int | None = Field(
        None, ge=1, description="Requests of one tenant in a minute; more are answered 429."
    )
    limit_tokens_per_day: int | None = Field(
        None, ge=0, description="Tokens read and written for one tenant's questions in a day (UTC)."
    )
    limit_training_minutes_per_day: int | None = Field(
        None, ge=0, description="Minutes of training of one tenant in a day (UTC)."
    )
    idempotency_hours: float = Field(
        24.0, gt=0, description="Hours for which a request with an `Idempotency-Key` is recognised when sent again."
    )
    metrics_key: SecretStr | None = Field(
        None,
        description="Key that opens `GET /metrics` and nothing else, 16 characters or more; the admin key does too.",
    )
    otlp_endpoint: str | None = Field(
        None,
        pattern="^https?://",
        description="Where traces of questions are sent (OTLP over HTTP), such as `http://127.0.0.1:4318/v1/traces`; "
        "unset: nowhere. Needs `pip install 'lorebase[tracing]'`.",
    )
    slow_request_seconds: float = Field(
        10.0, ge=0, description="Requests that take longer are logged as slow, with their stages; 0: never."
    )
    shutdown_seconds: int = Field(20, ge=1, description="Time running requests have to finish after SIGTERM.")
    log_format: Literal["text", "json"] = Field("text", description="Log lines for people or for machines.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe log line.")

    @field_validator("admin_key", "default_key", "metrics_key", "model_server_key")
    @classmethod
    def _long_enough(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and len(key.get_secret_value()) < 16:
            raise ValueError("a key needs 16 characters or more")
        return key

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("it begins with postgresql://")
        return url

    @model_validator(mode="after")
    def _different_keys(self) -> Settings:
        if self.admin_key is not None and self.admin_key == self.default_key:
            raise ValueError("LOREBASE_ADMIN_KEY and LOREBASE_DEFAULT_KEY must differ: a key says who is asking")
        return self

    @model_validator(mode="after")
    def _has_a_database_to_search(self) -> Settings:
        if self.vector_search == "database" and self.database_url is None:
            raise ValueError(
                "LOREBASE_VECTOR_SEARCH=database needs LOREBASE_DATABASE_URL, the PostgreSQL database whose extension "
                "pgvector is to search; or set LOREBASE_VECTOR_SEARCH=memory"
            )
        return self

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Settings:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("LOREBASE_TLS_CERTIFICATE and LOREBASE_TLS_KEY go together: set both or none")
        for path in (self.tls_certificate, self.tls_key):
            if path is not None and not path.is_file():
                raise ValueError(f"there is no file {path}; LOREBASE_TLS_… name PEM files")
        return self

    @property
    def allowed_origins(self) -> list[str]:
        """The origins of ``cors_origins``."""
        return [each.strip() for each in (self.cors_origins or "").split(",") if each.strip()]

    @property
    def max_body_bytes(self) -> int:
        return self.max_body_mb * _MEBIBYTE

    def path_there(self, folder: Path) -> str:
        """Where the model server sees a folder inside ours."""
        if self.openai_data is None:
            return str(folder.resolve())
        return str(PurePosixPath(self.openai_data) / folder.resolve().relative_to(self.data.resolve()))

    @property
    def url(self) -> str:
        """Where a person on this machine reaches the service."""
        scheme = "http" if self.tls_certificate is None else "https"
        return f"{scheme}://{'127.0.0.1' if self.host == '0.0.0.0' else self.host}:{self.port}"  # noqa: S104

    @property
    def trusted(self) -> ssl.SSLContext | bool:
        """What a client on this machine trusts: the service's own certificate too, whatever name it is for."""
        if self.tls_certificate is None:
            return True
        context = ssl.create_default_context(cafile=str(self.tls_certificate))
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return context


class CommandSettings(BaseSettings):
    """What commands that talk to a running service read, from ``LOREBASE_…`` variables."""

    model_config = SettingsConfigDict(env_prefix="LOREBASE_", env_ignore_empty=True, frozen=True, extra="ignore")

    url: str | None = Field(
        None,
        pattern="^https?://",
        description="The running service that commands talk to; unset: the one of LOREBASE_HOST and LOREBASE_PORT.",
    )
    key: SecretStr | None = Field(
        None,
        description="The key they send; unset: LOREBASE_DEFAULT_KEY or LOREBASE_ADMIN_KEY, or what `keys.env` in the "
        "data folder has.",
    )


def debugging() -> bool:
    """Whether the log is set to debug, also where other settings are wrong."""
    return os.environ.get("LOREBASE_LOG_LEVEL", "").lower() == "debug"


def settings_table(settings: type[BaseSettings] = Settings) -> str:
    """A Markdown table of every setting: variable, default, meaning."""
    rows = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for name, field in settings.model_fields.items():
        default = "" if field.default is None else f"`{field.default}`"
        rows.append(f"| `LOREBASE_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows)
