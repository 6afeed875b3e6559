"""A run of the suite put into the documentation: raw JSON and charts, and the tables of both READMEs and the page.

What stands between two marks (`<!-- suite: begin -->`, `<!-- suite: end -->`) is written from the kept runs and from
nothing else; a test holds it there. Knows the catalogue and where the documentation lies; starts nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.suite.catalogue import CATALOGUE, value_at
from benchmarks.suite.report import WANTED_CHART, charts, machines, markdown_table, told
from benchmarks.suite.running import ROOT, Run, keep, read_runs

KEPT = Path("docs") / "images" / "benchmarks"
_MARKED = re.compile(r"(<!-- suite: begin -->\n).*?(<!-- suite: end -->)", re.S)


@dataclass(frozen=True, slots=True)
class Highlight:
    """A figure of the catalogue that a README shows; ``chinese``: its title in the Chinese one."""

    benchmark: str
    path: str
    chinese: str


HIGHLIGHTS = (
    Highlight("ask", "http_overhead_ms_p50", "/ask 超出其各部分之和，p50"),
    Highlight("embed", "speedup_vs_fp32", "向量化速度对 float32 的 SentenceTransformer"),
    Highlight("ingest", "ratio_to_encode", "导入的分块速度对裸编码"),
    Highlight("ingest_peers", "vs_best_default", "导入速度对默认设置下最好的同类"),
    Highlight("ingest_peers", "vs_best_tuned", "导入速度对调优后最好的同类"),
    Highlight("answer_peers", "default_search_time_vs_best", "经 HTTP 的一次检索对最快的同类，默认设置"),
    Highlight("answer_peers", "default_ask_time_vs_best", "经 HTTP 的一次回答对最快的同类，默认设置"),
    Highlight("adapter_peers", "eight_vs_llamacpp", "同时 8 个适配器的 8 个请求对 llama.cpp 的服务器"),
    Highlight("retrieval", "hybrid/recall@5", "混合检索 recall@5"),
    Highlight("retrieval", "reranked/recall@1", "重排后 recall@1"),
    Highlight("adapters_mixed", "models/3M/k32_vs_base", "一批 32 个适配器对单独的基础模型"),
    Highlight("adapters_mixed", "models/3M/k32_vs_peft", "32 个适配器对 peft 的 adapter_names"),
    Highlight("batching", "vs_generate_equal", "基础模型对填充的 generate，等长"),
    Highlight("batching", "vs_generate_mixed", "基础模型对填充的 generate，混合长度"),
    Highlight("batching", "vs_generate_batch", "基础模型对 generate_batch"),
    Highlight("pool", "zipf1000_vs_32", "登记 1,000 个适配器对 32 个"),
    Highlight("swaps", "failed", "切换版本期间失败的请求"),
    Highlight("crash", "lost", "kill -9 丢失的文档，6 轮"),
    Highlight("training", "step_vs_peft", "一个训练步对裸 peft 循环"),
    Highlight("adapter_life", "finance_gain", "finance 适配器高出基础模型的 F1 分"),
)
_ENGLISH = ("what", "measured", "wanted", "kept", "command")
_CHINESE = ("内容", "实测", "期望", "达到", "命令")


def highlight_table(runs: Sequence[Run], *, chinese: bool = False) -> str:
    """The highlights that the runs have figures for, as a table in Markdown, and when and where they were measured."""
    by_name = {run.name: run for run in runs}
    rows = [_CHINESE if chinese else _ENGLISH, tuple("---" for _ in _ENGLISH)]
    for each in HIGHLIGHTS:
        run = by_name.get(each.benchmark)
        value = value_at(run.figures if run else None, each.path)
        if run is None or value is None:
            continue
        figure = next(f for f in CATALOGUE[each.benchmark].figures if f.path == each.path)
        measured, wanted, kept = told(figure, value)
        said = {"yes": "是", "no": "否", "": ""}[kept] if chinese else kept
        rows.append((each.chinese if chinese else figure.title, measured, wanted, said, f"`{run.command}`"))
    lines = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return f"{lines}\n\n{machines(runs, chinese=chinese)}\n"


def page_part(runs: Sequence[Run]) -> str:
    """The whole table with its charts, as `docs/benchmarks.md` shows it."""
    drawn = [
        f"![Chart of {name.removesuffix('.svg')}](images/benchmarks/{name})"
        for name in charts(runs)
        if name != WANTED_CHART
    ]
    wanted = f"![Figures as multiples of what is wanted, which is the dashed line](images/benchmarks/{WANTED_CHART})"
    return "\n".join([machines(runs), "", markdown_table(runs), wanted, *drawn]) + "\n"


def parts(runs: Sequence[Run]) -> Mapping[str, str]:
    """By file what stands between its marks."""
    return {
        "README.md": highlight_table(runs),
        "README.zh.md": highlight_table(runs, chinese=True),
        "docs/benchmarks.md": page_part(runs),
    }


def with_part(text: str, part: str) -> str:
    """A page with what stands between its marks exchanged. Raises ValueError for a page without them."""
    if not _MARKED.search(text):
        raise ValueError("there is no <!-- suite: begin --> … <!-- suite: end -->")
    return _MARKED.sub(lambda found: f"{found[1]}{part}{found[2]}", text)


def publish(runs: Sequence[Run], root: Path = ROOT) -> None:
    """Take runs into the documentation: each one's JSON in the place of an earlier one's, then charts and tables."""
    folder = root / KEPT
    for run in runs:
        keep(run, folder)
    kept = read_runs(folder)
    for old in folder.glob("*.svg"):
        old.unlink()
    for name, svg in charts(kept).items():
        (folder / name).write_text(svg)
    for name, part in parts(kept).items():
        page = root / name
        page.write_text(with_part(page.read_text(), part))
