"""Questions over HTTP: the answer, its place in the document, abstention, streaming, and what is refused."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.app.texts import LIGHTHOUSE, ask, assert_problem, ingest

pytestmark = pytest.mark.e2e


def test_the_answer_comes_with_its_sentence_and_place(tenant: httpx.Client) -> None:
    document = ingest(tenant, LIGHTHOUSE)[0]
    answered = ask(tenant, "When was the lighthouse built?")
    assert answered["answer"] == "1874"
    assert not answered["abstained"]
    citation = answered["citations"][0]
    assert citation["index"] == 1
    assert citation["document_id"] == document["id"]
    assert citation["quote"] == "The lighthouse at Skerry Point was built in 1874 by the engineer Anna Brandt."
    assert set(answered["timings_ms"]) == {"retrieve", "queue", "first_token", "generate", "total"}
    assert answered["adapter"] is None


def test_every_quote_is_the_text_of_its_document_at_its_offsets(tenant: httpx.Client) -> None:
    texts = [
        "Ä🗼 " * 40 + LIGHTHOUSE,
        "\r\n\tTabs and returns.  \r\n\r\nThe café on Quay Street opens at 7. 日本語\u2028end",
    ]
    ingest(tenant, *texts)
    for question in ("Who built the lighthouse?", "When does the café open?", "What turned the lamp until 1962?"):
        answered = ask(tenant, question, min_confidence=0)
        assert answered["citations"]
        for citation in answered["citations"]:
            text = tenant.get(f"/documents/{citation['document_id']}/text").content.decode()
            assert text in texts
            assert citation["quote"] == text[citation["start"] : citation["end"]]
        for passage in answered["passages"]:
            text = tenant.get(f"/documents/{passage['document_id']}/text").content.decode()
            assert passage["text"] == text[passage["start"] : passage["end"]]


def test_it_abstains_when_the_documents_hold_no_answer_and_still_shows_what_it_read(tenant: httpx.Client) -> None:
    ingest(tenant, LIGHTHOUSE)
    answered = ask(tenant, "Which vitamin is found in oranges?")
    assert answered["abstained"]
    assert answered["answer"] == ""
    assert answered["citations"] == []
    assert answered["passages"]


def test_a_tenant_without_documents_gets_an_abstention(tenant: httpx.Client) -> None:
    answered = ask(tenant, "Is anybody there?")
    assert (answered["answer"], answered["abstained"], answered["passages"]) == ("", True, [])


def test_search_gives_passages_best_first(tenant: httpx.Client) -> None:
    ingest(tenant, LIGHTHOUSE, "The bakery on Mill Street sells rye bread.")
    passages = tenant.post("/search", json={"query": "fresh bread", "top_k": 5}).json()["passages"]
    assert "bakery" in passages[0]["text"]
    assert [p["score"] for p in passages] == sorted((p["score"] for p in passages), reverse=True)


def test_a_filter_holds_exactly(tenant: httpx.Client) -> None:
    for year in (1990, 2020):
        body = {
            "documents": [{"text": f"Since {year} the harbour closes at {year % 9 + 3}.", "metadata": {"year": year}}]
        }
        assert tenant.post("/ingest", params={"wait": "true"}, json=body).status_code == 200
    request = {"query": "When does the harbour close?", "filter": {"year": {"gt": 2000}}}
    passages = tenant.post("/search", json=request).json()["passages"]
    assert [p["text"] for p in passages] == ["Since 2020 the harbour closes at 7."]


def test_passages_given_in_the_request_are_read_instead_of_retrieved(tenant: httpx.Client) -> None:
    answered = ask(tenant, "When was the lighthouse built?", passages=[{"text": LIGHTHOUSE}])
    assert answered["answer"] == "1874"
    assert answered["citations"][0]["document_id"] is None


def test_streaming_sends_passages_then_tokens_then_the_whole_response(tenant: httpx.Client) -> None:
    ingest(tenant, LIGHTHOUSE)
    with tenant.stream("POST", "/ask", json={"question": "When was the lighthouse built?", "stream": True}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["x-adapter-used"] == "base"
        events = [block.split("\n", 1) for block in "".join(response.iter_text()).strip().split("\n\n")]
    kinds = [kind.removeprefix("event: ") for kind, _ in events]
    data = [json.loads(line.removeprefix("data: ")) for _, line in events]
    assert kinds[0] == "passages"
    assert kinds[-1] == "done"
    assert "".join(d["text"] for kind, d in zip(kinds, data, strict=True) if kind == "token") == data[-1]["answer"]
    assert data[0]["passages"] == data[-1]["passages"]


def test_text_in_another_script_is_answered_with_a_warning(tenant: httpx.Client) -> None:
    document = ingest(tenant, "灯塔建于一八七四年，高三十一米。", "The lighthouse was built in 1874.")
    assert "Han script" in document[0]["warning"]
    assert document[1]["warning"] is None
    assert "Han script" in ask(tenant, "灯塔是什么时候建造的？")["warnings"][0]
    assert ask(tenant, "When was the lighthouse built?")["warnings"] == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"question": ""}, 422),
        ({"question": "  \n"}, 422),
        ({"question": "why " * 25_000}, 422),
        ({"question": "why " * 500}, 422),
        ({"question": "a\0b"}, 422),
        ({"question": 7}, 422),
        ({"question": "x", "top_k": 0}, 422),
        ({"question": "x", "top_k": 10**30}, 422),
        ({"question": "x", "max_tokens": 0}, 422),
        ({"question": "x", "filter": {"year": {"near": 3}}}, 422),
        ({"question": "x", "filter": []}, 422),
        ({"question": "x", "unknown": 1}, 422),
    ],
)
def test_a_bad_request_is_refused_with_a_reason(tenant: httpx.Client, body: object, status: int) -> None:
    assert_problem(tenant.post("/ask", json=body), status)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b'{"question": "\\ud800"}', b'{"question": "x", "filter": {"a": "\\udfff"}}', b"[" * 9999],
)
def test_a_body_that_is_no_clean_json_is_refused(tenant: httpx.Client, content: bytes) -> None:
    for path in ("/ask", "/search", "/ingest"):
        response = tenant.post(path, content=content, headers={"Content-Type": "application/json"})
        assert response.status_code in (400, 422), response.text
        assert_problem(response, response.status_code)


def test_the_stages_of_retrieval_are_chosen_by_request_and_show_their_scores(tenant: httpx.Client) -> None:
    documents = [{"title": "Pumps", "text": "The feed pump is serviced in May."}, {"text": "她的职业是医生。"}]
    tenant.post("/ingest?wait=true", json={"documents": documents}).raise_for_status()

    def search(query: str, **retrieval: object) -> httpx.Response:
        return tenant.post("/search", json={"query": query, "retrieval": retrieval})

    scores = search("feed pump").json()["passages"][0]["scores"]
    assert 0 < scores["fused"] <= 1
    assert scores["dense"] > 0 < scores["keyword"]
    found = search("职业", mode="keyword", expand=1, diversity=0.2).json()["passages"]
    assert [p["text"] for p in found] == ["她的职业是医生。"]
    assert found[0]["score"] == found[0]["scores"]["keyword"]
    assert search("pump", mode="guess").json()["code"] == "invalid_request"
    assert search("pump", diversity=2).status_code == 422
    asked = {"question": "When is the feed pump serviced?", "retrieval": {"mode": "keyword"}}
    answered = tenant.post("/ask", json=asked).json()
    assert "May" in answered["answer"]
    assert answered["passages"][0]["scores"]["dense"] is None
