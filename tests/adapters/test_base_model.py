"""The embedded base: the reader merged into the encoder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adapters.base_model import READER_FOLDER, load_encoder, load_reader_base
from adapters.errors import ModelUnavailable
from tests.adapters.reader_lora import lora_tensors, write_lora


@pytest.mark.model
def test_the_merged_reader_has_the_weights_that_peft_would_give_it() -> None:
    from peft import PeftModel

    by_peft = PeftModel.from_pretrained(load_encoder().model, str(READER_FOLDER)).merge_and_unload().state_dict()

    merged = load_reader_base().model.state_dict()

    assert merged.keys() == by_peft.keys()
    for name, weight in merged.items():
        torch.testing.assert_close(weight, by_peft[name], rtol=0, atol=1e-6)


@pytest.mark.model
def test_a_reader_of_another_model_is_refused_with_the_reason(tmp_path: Path) -> None:
    tensors = {name.replace("layer.4.", "layer.99."): tensor for name, tensor in lora_tensors().items()}
    write_lora(tmp_path / "foreign", tensors)

    with pytest.raises(ModelUnavailable, match=r"no linear module .*99"):
        load_reader_base(tmp_path / "foreign")
