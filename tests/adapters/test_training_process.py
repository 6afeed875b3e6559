"""The child that trains: told what it does, ended by limits, gone on with after kill -9."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest

from adapters.base_model import load_reader_base
from adapters.errors import InvalidTrainingData
from adapters.training import (
    TrainingBroke,
    TrainingFailed,
    TrainingProcess,
    TrainingSpec,
    config_of,
    dump_examples,
)
from tests.adapters.test_training_data import towns

pytestmark = pytest.mark.model


def never() -> None:
    """Nothing stops the waiting."""


def spec_in(folder: Path, fingerprint: str = "", epochs: float = 3, **limits: Any) -> TrainingSpec:
    (folder / "examples.jsonl").write_bytes(dump_examples(towns()))
    config = config_of({"epochs": epochs, "rank": 2, "lookalike_share": 0.0}, generates=False)
    fingerprint = fingerprint or load_reader_base().fingerprint
    limits = {"niceness": 0, "checkpoint_seconds": 0.01, **limits}  # it is waited for: it stands back for nobody
    return TrainingSpec(folder, config, "sft", "builtin", "float32", fingerprint, **limits)


def test_a_killed_child_is_gone_on_with_from_its_checkpoint(tmp_path: Path) -> None:
    spec = spec_in(tmp_path)
    with TrainingProcess(spec) as child:
        events = child.events(90, never)
        next(event for event in events if event.get("step", 0) >= 3)
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(TrainingBroke, match="killed"):
            list(events)
    assert not (tmp_path / "output" / "adapter_model.safetensors").exists(), "a half adapter"
    with TrainingProcess(spec) as child:
        told = list(child.events(90, never))
    steps = [event["step"] for event in told if event["event"] == "progress"]
    assert steps[0] > 2, "it did not begin anew"
    assert steps[-1] == told[-1]["steps"] == 12
    assert told[-1]["event"] == "done"
    assert (tmp_path / "output" / "adapter_model.safetensors").is_file()


def test_another_base_than_the_one_asked_for_is_refused(tmp_path: Path) -> None:
    with TrainingProcess(spec_in(tmp_path, "another")) as child, pytest.raises(InvalidTrainingData, match="changed"):
        list(child.events(90, never))


def test_a_child_is_heard_by_a_process_that_has_a_thousand_files_open(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    held = [os.dup(0) for _ in range(1100)]
    try:
        with (
            TrainingProcess(spec_in(tmp_path, "another")) as child,
            pytest.raises(InvalidTrainingData, match="changed"),
        ):
            list(child.events(90, never))
    finally:
        for handle in held:
            os.close(handle)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_child_that_needs_more_memory_than_it_may_have_says_so(tmp_path: Path) -> None:
    spec = spec_in(tmp_path, "another", memory_bytes=100 * 1024**2)
    with TrainingProcess(spec) as child, pytest.raises(TrainingFailed, match="memory"):
        list(child.events(90, never))


def test_a_child_that_takes_longer_than_it_may_is_ended(tmp_path: Path) -> None:
    with TrainingProcess(spec_in(tmp_path, "another")) as child:
        with pytest.raises(TrainingFailed, match="LOREBASE_TRAINING_SECONDS"):
            list(child.events(0.3, never))
        pid = child.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this kernel does not group by sessions")
def test_a_child_stands_back_among_the_sessions_of_the_machine_and_among_processes(tmp_path: Path) -> None:
    with TrainingProcess(spec_in(tmp_path, niceness=7)) as child:
        next(child.events(90, never))
        assert os.getpriority(os.PRIO_PROCESS, child.pid) == os.nice(0) + 7
        assert Path(f"/proc/{child.pid}/autogroup").read_text().split()[-1] == "7"
