"""The service, in a process whose model can be made to fail as a broken device does: at every forward pass, for as long
as the file named by `FAIL_WHILE_THERE` is there; with the word "once" in it, at the next one only.

`python -m tests.app.failing_model_server serve`. Nothing of the service is replaced: torch's own hook raises.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from torch.nn.modules.module import register_module_forward_pre_hook

from app.cli import main

FAIL_WHILE_THERE = "FAIL_WHILE_THERE"
_MODELS = ("LlamaForCausalLM", "BertForQuestionAnswering")


def _fail(module: Any, _: Any) -> None:
    path = Path(os.environ[FAIL_WHILE_THERE])
    if type(module).__name__ in _MODELS and path.exists():
        if path.read_text() == "once":
            path.unlink()
        raise RuntimeError("the device is gone")


if __name__ == "__main__":
    register_module_forward_pre_hook(_fail)
    main()
