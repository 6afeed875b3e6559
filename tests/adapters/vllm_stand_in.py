"""A real HTTP process with vLLM's chat and adapter endpoints over a tiny model: for the tests of the `openai` engine.

`python -m tests.adapters.vllm_stand_in PORT MODEL_FOLDER`. The shapes and the texts of the errors are vLLM's
(`vllm/entrypoints/openai/serving_models.py`); what answers is the engine of this project, told only what came in over
HTTP. `POST /forget` forgets every adapter, as a restart does; `GET /held` lists them.
"""

from __future__ import annotations

import json
import math
import queue
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from adapters.adapter_files import ADAPTER_WEIGHTS, sha256_of
from adapters.causal import CausalEngine
from adapters.engine import AdapterRef, Done, Event, Failed, Row, Token
from adapters.errors import AdapterError
from adapters.template import PromptTemplate

MOST_RANK = 16


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    engine: CausalEngine
    loras: dict[str, AdapterRef]

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/held":
            self._json(200, {"held": sorted(self.loras)})
            return
        name = self.engine.name
        cards = [{"id": name, "owned_by": "vllm", "max_model_len": 2048, "parent": None}]
        cards += [{"id": n, "owned_by": "vllm", "root": str(r.folder), "parent": name} for n, r in self.loras.items()]
        self._json(200, {"object": "list", "data": cards})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])) or b"{}")
        if self.path == "/forget":
            self.loras.clear()
            self._json(200, {})
        elif self.path == "/v1/load_lora_adapter":
            self._load(body["lora_name"], Path(body["lora_path"]))
        elif self.path == "/v1/unload_lora_adapter":
            if self.loras.pop(body["lora_name"], None) is None:
                self._error(404, "NotFoundError", f"The lora adapter '{body['lora_name']}' cannot be found.")
            else:
                self._text(f"Success: LoRA adapter '{body['lora_name']}' removed successfully.")
        elif body["model"] not in (self.engine.name, *self.loras):
            self._error(404, "NotFoundError", f"The model `{body['model']}` does not exist.")
        else:
            self._chat(body, self.loras.get(body["model"]))

    def _load(self, name: str, folder: Path) -> None:
        if name in self.loras:
            self._error(400, "InvalidUserInput", f"The lora adapter '{name}' has already been loaded.")
            return
        if not (folder / ADAPTER_WEIGHTS).is_file():
            self._error(404, "NotFoundError", f"Loading lora {name} failed: No adapter found for {folder}")
            return
        rank = json.loads((folder / "adapter_config.json").read_text())["r"]
        if rank > MOST_RANK:
            message = f"LoRA rank {rank} is greater than max_lora_rank {MOST_RANK}."
            self._error(400, "BadRequestError", message)
            return
        ref = AdapterRef(sha256_of(folder / ADAPTER_WEIGHTS), folder)
        try:
            self.engine.prepare(ref)
        except AdapterError as error:
            self._error(400, "BadRequestError", str(error))
            return
        self.loras[name] = ref
        self._text(f"Success: LoRA adapter '{name}' added successfully.")

    def _chat(self, body: dict[str, Any], adapter: AdapterRef | None) -> None:
        system = "\n".join(m["content"] for m in body["messages"] if m["role"] == "system")
        row = Row(
            body["messages"][-1]["content"],
            (),
            adapter=adapter,
            max_tokens=body["max_tokens"],
            temperature=body["temperature"],
            seed=body.get("seed"),
            template=PromptTemplate(system=system),
            grounded=False,
        )
        events: queue.Queue[Event] = queue.Queue()
        submission = self.engine.submit(row, events.put)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        try:
            while not isinstance(event := events.get(), Failed):
                if isinstance(event, Token):
                    self._chunk({"delta": {"content": event.text}})
                elif isinstance(event, Done):
                    scores = [{"token": "", "logprob": math.log(max(event.confidence, 1e-30))}]
                    self._chunk({"delta": {}, "finish_reason": event.finish_reason, "logprobs": {"content": scores}})
                    usage = {"prompt_tokens": event.prompt_tokens, "completion_tokens": event.completion_tokens}
                    self._send(f"data: {json.dumps({'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n".encode())
                    break
        except OSError:
            pass
        finally:
            submission.cancel()
            self.close_connection = True

    def _chunk(self, choice: dict[str, Any]) -> None:
        self._send(f"data: {json.dumps({'choices': [{'index': 0, **choice}]})}\n\n".encode())

    def _send(self, data: bytes) -> None:
        self.wfile.write(data)
        self.wfile.flush()

    def _error(self, status: int, kind: str, message: str) -> None:
        self._json(status, {"object": "error", "message": message, "type": kind, "param": None, "code": status})

    def _text(self, text: str) -> None:
        self._respond(200, "text/plain", text.encode())

    def _json(self, status: int, body: dict[str, Any]) -> None:
        self._respond(status, "application/json", json.dumps(body).encode())

    def _respond(self, status: int, kind: str, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


if __name__ == "__main__":
    Handler.engine, Handler.loras = CausalEngine(sys.argv[2], dtype="float32"), {}
    Handler.engine.load()
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
