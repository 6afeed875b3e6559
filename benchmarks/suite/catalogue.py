"""Which measurements there are: how each one's quick form is called, what data it reads, what is wanted of its figures.

Pure data. Knows the keys of each measurement's last line; knows nothing of processes, files or charts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_SQUAD = "squad-v1.1-dev36.json"
_CMRC = "cmrc2018-dev400.json"
_TATQA = ("tatqa-finance-train.json", "tatqa-finance-test.json")
_COVID = ("covidqa-train.json", "covidqa-test.json")
_QUICK_DATA = ("--quick", "--data", "{data}")


@dataclass(frozen=True, slots=True)
class Figure:
    """A named figure and what is wanted of it.

    Attributes:
        path: its place in the last line's object, keys parted by ``/``.
        wanted: at least this much, or with ``most`` at most; ``None``: nothing is, it is shown only.
    """

    path: str
    title: str
    wanted: float | None = None
    most: bool = False
    unit: str = ""

    def kept(self, value: float) -> bool | None:
        """Whether a value is what is wanted; ``None`` where nothing is."""
        if self.wanted is None:
            return None
        return value <= self.wanted if self.most else value >= self.wanted


@dataclass(frozen=True, slots=True)
class Bars:
    """A chart of one measurement: figures of one unit side by side, by label the path of each."""

    title: str
    unit: str
    paths: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A measurement: a module of `benchmarks`.

    Attributes:
        arguments: of its quick form; ``{data}`` and ``{root}`` stand for the data's folder and the checkout.
        needs: files of the data's folder without which it cannot be run.
    """

    about: str
    arguments: tuple[str, ...] = ("--quick",)
    needs: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    bars: Bars | None = None


def value_at(figures: Mapping[str, Any] | None, path: str) -> float | None:
    """The number at a path of the last line's object; true is 1, false 0; ``None`` where there is none."""
    found: Any = figures
    for key in path.split("/"):
        if isinstance(found, list) and key.isdigit() and int(key) < len(found):
            found = found[int(key)]
        elif isinstance(found, Mapping) and key in found:
            found = found[key]
        else:
            return None
    return float(found) if isinstance(found, int | float) else None


CATALOGUE: Mapping[str, Benchmark] = {
    "ask": Benchmark(
        "what POST /ask costs above its parts", _QUICK_DATA, (_SQUAD,),
        (Figure("http_overhead_ms_p50", "/ask above the sum of its bare parts, p50", 10, most=True, unit="ms"),),
        Bars("/ask and the bare calls it rests on, p50", "ms", {
            "encode the question": "encode_ms_p50", "search": "search_ms_p50", "read": "read_ms_p50",
            "/ask, as the server says": "server_ms_p50", "/ask, as the client sees it": "http_ms_p50",
        }),
    ),
    "embed": Benchmark(
        "the embedding backend against float32", _QUICK_DATA, (_SQUAD,),
        (
            Figure("speedup_vs_fp32", "embedding against SentenceTransformer in float32", 2, unit="×"),
            Figure("recall_ratio", "recall@5 of its vectors against float32's", 0.99),
        ),
        Bars("Embedding", "chunks/s", {"torch float32": "fp32_chunks_per_s", "the service": "fast_chunks_per_s"}),
    ),
    "ingest": Benchmark(
        "what ingestion costs above the embedding", _QUICK_DATA, (_SQUAD,),
        (Figure("ratio_to_encode", "ingestion's chunks/s against bare encoding", 0.9),),
        Bars("Ingestion", "chunks/s", {"bare encode": "encode_chunks_per_s", "ingest": "ingest_chunks_per_s"}),
    ),
    "retrieval": Benchmark(
        "what each stage of retrieval finds", _QUICK_DATA, (_SQUAD, _CMRC),
        (
            Figure("hybrid/recall@5", "hybrid search, recall@5", 0.94),
            Figure("reranked/recall@1", "reranked search, recall@1", 0.82),
            Figure("reranked/recall@5", "reranked search, recall@5", 0.97),
            Figure("hybrid_least_margin", "hybrid above the better of dense and keyword, where least", 0),
            Figure("cmrc_recall@5", "Chinese questions, hybrid, recall@5", 0.9),
        ),
        Bars("Recall@5 on SQuAD's paragraphs", "", {
            mode: f"{mode}/recall@5" for mode in ("dense", "keyword", "hybrid", "reranked")
        }),
    ),
    "splitting": Benchmark(
        "what each method of splitting finds", ("--quick", "--articles", "3", "--data", "{data}/" + _SQUAD), (_SQUAD,),
    ),
    "search_scale": Benchmark(
        "search as tenants grow", _QUICK_DATA, (_SQUAD,),
        (Figure("tenant_vs_filter_qps", "a tenant's own index against one shared, 50 tenants"),),
    ),
    "stores": Benchmark(
        "rows in SQLite beside rows in PostgreSQL", _QUICK_DATA, (_SQUAD,),
        (
            Figure("same_answers", "questions that all answer alike, where the database searches too", 1),
            Figure("hnsw_recall", "what an HNSW index in the database finds of the ten nearest", 0.98),
            Figure("ask_p50_ratio", "/ask with PostgreSQL against SQLite, p50", unit="×"),
            Figure("database_ask_p50_ratio", "/ask where PostgreSQL searches against SQLite, p50", unit="×"),
            Figure("ingest_ratio", "ingestion with PostgreSQL against SQLite, time", unit="×"),
        ),
    ),
    "replicas": Benchmark(
        "one process on a PostgreSQL database beside two", _QUICK_DATA, (_SQUAD,),
        (
            Figure("ask_ratio", "answers a second of two processes against one, on the same processors", unit="×"),
            Figure("ask_cpu_ratio", "processor time of an answer, two against one", unit="×"),
            Figure("ingest_cpu_ratio", "processor time of ingestion, two against one", unit="×"),
        ),
    ),
    "cluster": Benchmark(
        "faults under load on several hosts, in network namespaces", ("--quick",), (),
        (
            Figure("lost", "acknowledged documents that a replica does not have, after faults", 0, most=True),
            Figure("wrong", "answers of another tenant, version or wording, meanwhile", 0, most=True),
            Figure("other", "requests that failed otherwise than by 503 with Retry-After", 0, most=True),
            Figure("unavailable_s", "seconds without an answer, of all faults together", unit="s"),
        ),
    ),
    "scaling": Benchmark(
        "from one machine's figures to 10,000 tenants and 1,000 questions a second", _QUICK_DATA, (_SQUAD,),
        (
            Figure("answers", "answers a second at most, on this machine"),
            Figure("simulated_vs_arithmetic", "machines the simulation needs against the arithmetic", 1, most=True),
        ),
    ),
    "ingest_peers": Benchmark(
        "ingestion beside other libraries", _QUICK_DATA, (_SQUAD,),
        (
            Figure("vs_best_default", "ingestion against the best peer at defaults", 2, unit="×"),
            Figure("vs_best_tuned", "ingestion against the best peer tuned", 1, unit="×"),
            Figure("beyond_encode", "share of time beyond encoding, tuned", 0.1, most=True),
        ),
        Bars("Ingestion of the same documents, each tuned", "s", {
            peer: f"peers/{peer}/tuned/0" for peer in ("lorebase", "langchain", "llamaindex", "haystack", "txtai")
        }),
    ),
    "answer_peers": Benchmark(
        "search and answers beside other libraries", _QUICK_DATA, (_SQUAD,),
        (
            Figure("default_search_time_vs_best", "a search by HTTP against the quickest peer, defaults", 1, unit="×"),
            Figure("default_search_per_s_vs_best", "eight searches at once against the best peer", 1, unit="×"),
            Figure("default_ask_time_vs_best", "an answer by HTTP against the quickest peer, defaults", 1, unit="×"),
            Figure("default_ask_per_s_vs_best", "eight answers at once against the best peer", 1, unit="×"),
            Figure("default_recall@1_above_best", "recall@1 above the best peer, defaults", 0),
            Figure("tuned_recall@1_above_best", "recall@1 above the best peer, tuned", 0),
            Figure("default_right_above_best", "right answers above the best peer, defaults", 0),
        ),
        Bars("Answers of the same model, eight at once, at defaults", "1/s", {
            peer: f"peers/{peer}/default/ask_per_s/0"
            for peer in ("lorebase", "langchain", "llamaindex", "haystack", "txtai")
        }),
    ),
    "bodies": Benchmark(
        "a folder of documents through a real server: this documentation", ("{root}/docs", "--quick"), (),
        (Figure("failures", "documents of a folder that failed", 0, most=True),),
    ),
    "crash": Benchmark(
        "what kill -9 during ingest, replace and delete loses", ("--quick",), (),
        (
            Figure("lost", "documents lost by kill -9, 6 rounds", 0, most=True),
            Figure("orphans", "vectors without a document after it", 0, most=True),
            Figure("duplicates", "documents that are there twice after it", 0, most=True),
        ),
    ),
    "adapters_mixed": Benchmark(
        "what an adapter per row costs", ("--quick",), (),
        (
            Figure("models/3M/k32_vs_base", "32 adapters in a batch against the base alone", 0.9),
            Figure("models/3M/of_bound", "the same against its bound", 0.9),
            Figure("models/3M/k32_vs_peft", "32 adapters against peft's adapter_names", 1, unit="×"),
            Figure("models/3M/k32_vs_k1", "32 adapters against one", 0.95),
            Figure("decode_vs_peft", "decoding, all linear layers, against peft's adapter_names", 3, unit="×"),
        ),
    ),
    "adapter_peers": Benchmark(
        "requests of several adapters at once, beside llama.cpp's server", ("--quick",), (),
        (
            Figure("eight_vs_llamacpp", "8 requests of 8 adapters at once against llama.cpp's server", 1, unit="×"),
            Figure("one_vs_llamacpp", "8 requests of one adapter, the same", 1, unit="×"),
            Figure("base_vs_llamacpp", "8 requests of the base, the same", 1, unit="×"),
            Figure("llamacpp_eight_vs_base", "llama.cpp's server: 8 adapters against the base alone"),
        ),
        Bars("Eight requests at once", "1/s", {
            f"{name}, {load}": f"per_s/{name}, {load}"
            for load in ("base", "one adapter", "eight adapters") for name in ("ours", "llama.cpp")
        }),
    ),
    "batching": Benchmark(
        "batching anew at every step against padded batches", ("--quick",), (),
        (
            Figure("vs_generate_equal", "the base against a padded generate, equal lengths", 1, unit="×"),
            Figure("vs_generate_mixed", "the base against a padded generate, mixed lengths", 1.5, unit="×"),
            Figure("vs_generate_batch", "the base against generate_batch", 2, unit="×"),
        ),
    ),
    "pool": Benchmark(
        "many adapters registered, few in memory", ("--quick",), (),
        (
            Figure("zipf1000_vs_32", "1,000 registered adapters against 32", 0.9),
            Figure("load_vs_read", "a cold load against reading its file", 2, most=True, unit="×"),
            Figure("bytes_vs_file", "an adapter's memory against its file", 1.2, most=True, unit="×"),
        ),
    ),
    "swaps": Benchmark(
        "promotions and rollbacks under load", ("--quick",), (),
        (
            Figure("failed", "requests that failed during promotions", 0, most=True),
            Figure("wrong_version", "answers of a version the request did not start with", 0, most=True),
        ),
    ),
    "arrivals": Benchmark(
        "time to the first token under Poisson arrivals", ("--quick",), (),
        (Figure("loads/80/ours/ttft_p50_ms", "first token at 80 % of capacity, p50", unit="ms"),),
        Bars("Time to the first token, p50", "ms", {
            f"{name}, {load} %": f"loads/{load}/{way}/ttft_p50_ms"
            for load in (50, 80, 95) for way, name in (("ours", "Lorebase"), ("batch_at_a_time", "batch at a time"))
        }),
    ),
    "training": Benchmark(
        "a training step against a bare peft loop", _QUICK_DATA, (_SQUAD,),
        (
            Figure("step_vs_peft", "a training step against a bare peft loop", 0.95),
            Figure("serving_ratio_p50", "/ask beside a training against without, p50", 1.3, most=True, unit="×"),
        ),
    ),
    "methods": Benchmark("every method of training on the small language model"),
    "reader_methods": Benchmark("every method of training on the reader", _QUICK_DATA, _TATQA),
    "adapter_life": Benchmark(
        "adapters before the gate, a bad one refused and rolled back", _QUICK_DATA, (*_TATQA, *_COVID),
        (
            Figure("finance_gain", "finance adapter above the base, F1 points", 8),
            Figure("biomed_gain", "biomed adapter above the base, F1 points", 8),
            Figure("bad_candidate_refused", "a bad version refused (1: yes)", 1),
            Figure("rolled_back", "a bad canary rolled back (1: yes)", 1),
        ),
    ),
}  # fmt: skip
