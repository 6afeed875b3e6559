"""OpenAI's shapes of files and fine-tuning jobs, as far as this service holds them; what it cannot hold is refused with
the reason."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from adapters.training import Method, Targets
from app.schemas import Request
from app.training_schemas import MAX_RANK

Auto = Literal["auto"]


class FileObject(BaseModel):
    """A data set as a file. ``bytes``: of the form it is kept in."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: Literal["fine-tune"] = "fine-tune"
    status: Literal["processed"] = "processed"
    status_details: str | None = None


class FileList(BaseModel):
    object: Literal["list"] = "list"
    data: list[FileObject]
    has_more: bool
    first_id: str | None
    last_id: str | None


class FileDeleted(BaseModel):
    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class Hyperparameters(Request):
    """``auto`` and what is not given follow from the method."""

    n_epochs: Auto | Annotated[float, Field(gt=0, le=1000)] = "auto"
    batch_size: Auto | Annotated[int, Field(ge=1, le=256)] = "auto"
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0, le=100)] = "auto"
    beta: Auto | Annotated[float, Field(gt=0, le=10)] = "auto"

    def given(self) -> dict[str, Any]:
        """Those that are set, by their own names."""
        return {name: value for name, value in self.model_dump().items() if value != "auto"}


class MethodOptions(Request):
    hyperparameters: Hyperparameters = Field(default_factory=Hyperparameters)


class FineTuningMethod(Request):
    type: Literal["supervised", "dpo"]
    supervised: MethodOptions | None = None
    dpo: MethodOptions | None = None


class FineTuningOptions(Request):
    """What this service can do beyond OpenAI's fields; in the official client: ``extra_body={"lorebase": {…}}``."""

    method: Method = "lora"
    rank: int | None = Field(None, ge=1, le=MAX_RANK)
    alpha: int | None = Field(None, ge=1, le=4 * MAX_RANK)
    targets: Targets | None = None
    top_k: int = Field(5, ge=1, le=20, description="Passages to retrieve for an example that brings none.")


class FineTuningRequest(Request):
    """What to train. ``model``: the base model's name or ``base``, then ``suffix`` names the adapter; or an adapter."""

    model: str = Field(min_length=1, max_length=500)
    training_file: str = Field(min_length=1, max_length=100)
    suffix: str | None = Field(None, min_length=1, max_length=63)
    seed: int | None = Field(None, ge=0, lt=2**31)
    hyperparameters: Hyperparameters = Field(default_factory=Hyperparameters)
    method: FineTuningMethod | None = None
    metadata: dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]] | None = Field(
        None, max_length=16
    )
    lorebase: FineTuningOptions = Field(default_factory=FineTuningOptions)

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_cannot_be_held(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        if body.get("validation_file"):
            raise ValueError(
                "validation_file is not supported: ask the gate with a question set once the job has succeeded "
                "(POST /adapters/{name}/versions/{version}/gate)"
            )
        if body.get("integrations"):
            raise ValueError("integrations are not supported: nothing leaves this machine")
        return {name: value for name, value in body.items() if name not in ("validation_file", "integrations")}

    @property
    def objective(self) -> Literal["sft", "dpo"]:
        return "dpo" if self.method is not None and self.method.type == "dpo" else "sft"

    def chosen(self) -> dict[str, Any]:
        """The hyper-parameters that are set, wherever in the request they stand."""
        options = (self.method.dpo if self.objective == "dpo" else self.method.supervised) if self.method else None
        return {**self.hyperparameters.given(), **(options.hyperparameters.given() if options else {})}


class FineTuningError(BaseModel):
    code: str
    message: str
    param: str | None = None


class FineTuningJob(BaseModel):
    """A training as OpenAI's clients know one. ``fine_tuned_model``: ``name@version``, to be asked as ``model``."""

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    finished_at: int | None
    estimated_finish: int | None
    model: str
    fine_tuned_model: str | None
    organization_id: str = "lorebase"
    status: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    training_file: str
    validation_file: None = None
    result_files: list[str] = []
    trained_tokens: None = None
    seed: int
    hyperparameters: dict[str, Any]
    method: dict[str, Any]
    error: FineTuningError | None
    metadata: dict[str, str]
    integrations: list[Any] = []


class FineTuningJobList(BaseModel):
    object: Literal["list"] = "list"
    data: list[FineTuningJob]
    has_more: bool


class FineTuningEvent(BaseModel):
    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any] | None = None


class FineTuningEventList(BaseModel):
    object: Literal["list"] = "list"
    data: list[FineTuningEvent]
    has_more: bool
