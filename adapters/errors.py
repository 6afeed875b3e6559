"""Errors of the adapters package.

AdapterError
├── ModelUnavailable      the base model cannot be loaded, or the engine cannot go on
├── ModelFailed           the model failed on one question and can go on with others
├── InvalidAdapter        an adapter's files are refused; `reason` is a stable word
├── UnknownAdapter        no such adapter or version in this registry
├── InvalidAdapterName    a name is malformed or reserved
├── NoActiveVersion       no version is promoted
├── NoEarlierVersion      nothing to roll back to
├── VersionInUse          a version is active or on trial
├── TooManyVersions       more versions than may be kept
├── RegistryDamaged       what a registry kept of its adapters cannot be read
├── AdapterFilesUnavailable   a version's files cannot be had, or kept, at present
│   ├── AdapterStoreUnavailable   their store cannot be reached, or refuses
│   ├── AdapterStoreFull          their store takes no more
│   └── AdapterFilesDamaged       they are missing there, or are not what was registered
├── UnsuitableAdapterStore    a store of adapter files that there can be none of
├── AdapterMemoryFull     another pinned adapter would leave no room for the others
├── RequestTooLong        a question or prompt does not fit the model's context
├── QueueFull             too many rows are waiting
├── UpstreamUnavailable   a model server cannot be reached, is overloaded or does not answer in time
├── UpstreamFailed        a model server answered wrongly, or broke off
├── NotSupported          this engine cannot do what the row asks for
├── InvalidTemplate       a prompt template cannot be filled in
└── InvalidTrainingData   a training set cannot be used
"""

from __future__ import annotations

from typing import Any


class AdapterError(Exception):
    """Root of every error this package raises on purpose. May be pickled, whatever its subclass is made from."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_again, (type(self), self.args, self.__dict__)


def _made_again(kind: type[AdapterError], args: tuple[Any, ...], attributes: dict[str, Any]) -> AdapterError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class ModelUnavailable(AdapterError):
    """The base model cannot be loaded, or the engine has stopped for good."""


class ModelFailed(AdapterError):
    """The model failed on this question; others are answered, and so may this one be when it is asked again."""


class InvalidAdapter(AdapterError):
    """An adapter's files are refused.

    Attributes:
        reason: stable word: ``format``, ``config``, ``base``, ``shape``, ``rank``, ``target``, ``not_finite``,
            ``no_effect`` or ``size``.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class UnknownAdapter(AdapterError):
    """No such adapter or version. ``available`` lists what the registry holds."""

    def __init__(self, message: str, available: list[str]) -> None:
        super().__init__(message)
        self.available = available


class InvalidAdapterName(AdapterError):
    """An adapter's name does not have the form names have."""


class NoActiveVersion(AdapterError):
    """No version of the adapter is promoted."""


class VersionInUse(AdapterError):
    """A version is active or on trial, and so cannot be what was asked for."""


class NoEarlierVersion(AdapterError):
    """There is no earlier active version to roll back to."""


class TooManyVersions(AdapterError):
    """A registry holds as many versions as it may: ``used`` of ``limit``."""

    def __init__(self, limit: int, used: int) -> None:
        super().__init__(
            f"At most {limit} adapter versions may be kept here, and {used} are. Delete one that is not needed first."
        )
        self.limit = limit
        self.used = used


class RegistryDamaged(AdapterError):
    """What a registry kept of its adapters cannot be read. Nothing of it is used, changed or deleted."""

    retry_seconds = 60.0  # somebody has to mend it first

    def __init__(self) -> None:
        super().__init__(
            "The list of this tenant's adapters is damaged. The operator can restore a backup, and `lorebase doctor` "
            "says what is lost; other tenants are not affected."
        )


class AdapterFilesUnavailable(AdapterError):
    """The files of an adapter version cannot be had, or kept, at present. The message says what to do."""


class AdapterStoreUnavailable(AdapterFilesUnavailable):
    """The store of adapter files cannot be reached, or refuses what it is asked for."""


class AdapterStoreFull(AdapterFilesUnavailable):
    """The store of adapter files takes no more."""


class AdapterFilesDamaged(AdapterFilesUnavailable):
    """A version's files are missing from their store, or are not what was registered."""

    retry_seconds = 60.0  # somebody has to mend it first


class UnsuitableAdapterStore(AdapterError):
    """An address that no store of adapter files can be at, or one whose library is not installed."""


class AdapterMemoryFull(AdapterError):
    """Another pinned adapter would leave no room for adapters that are not pinned."""


class RequestTooLong(AdapterError):
    """A question or prompt does not fit the model's context."""


class QueueFull(AdapterError):
    """Too many rows are waiting, or too many of this share key.

    Attributes:
        retry_seconds: when to try again, where that can be told.
    """

    def __init__(self, message: str, retry_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds


class UpstreamUnavailable(AdapterError):
    """A model server cannot be reached, is overloaded or does not answer in time; try again later."""


class UpstreamFailed(AdapterError):
    """A model server answered wrongly, refused what it should take, or broke off."""


class NotSupported(AdapterError):
    """This engine cannot do what a row asks for; another engine can."""


class InvalidTemplate(AdapterError):
    """A prompt template cannot be filled in; the message names the field and what is allowed."""


class InvalidTrainingData(AdapterError):
    """A training or evaluation set cannot be used; the message says line and field."""
