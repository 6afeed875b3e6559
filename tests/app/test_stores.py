"""The smaller stores of a tenant, on either kind of database: what was written is read again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters import DEFAULT_TEMPLATE
from adapters.training import TrainingExample
from app.answer_metrics import Gold
from app.datasets import DatasetExists, DatasetSource, DatasetStore, UnknownDataset
from app.jobs import JobStore
from app.life.comparison import Asked
from app.life.evaluations import AskedSet, EvaluationStore, Plan, Way, new_evaluation_id
from app.life.gates import GateResult, GateStore
from app.life.policy import PolicyStore
from app.life.question_sets import Item
from app.tasks import TaskStore, TooManyTasks
from app.templates import TemplateStore, UnknownTemplate
from ingest import Corpus, Database, NewDocument, ParserProcess
from tests.ingest.hashing_embedder import HashingEmbedder


def test_template_versions_are_never_given_twice(database: Database) -> None:
    templates = TemplateStore(database)
    other = replace(DEFAULT_TEMPLATE, system="Answer briefly.")
    assert [templates.put("t", each).version for each in (DEFAULT_TEMPLATE, DEFAULT_TEMPLATE, other)] == [1, 1, 2]
    templates.set_default("t")
    templates.set_default("builtin")
    templates.set_default("t")
    assert (templates.default, templates.names()) == ("t", {"t": [1, 2]})
    assert templates.select("t@1").template == DEFAULT_TEMPLATE
    assert templates.select(None).template == other
    templates.remove("t")
    assert templates.default == "builtin"
    assert templates.put("t", other).version == 3
    with pytest.raises(UnknownTemplate):
        templates.select("t@1")


def test_a_policy_is_kept(database: Database) -> None:
    PolicyStore(database).change(require_gate=True)
    PolicyStore(database).change(on_erasure="block")
    kept = PolicyStore(database).current
    assert (kept.require_gate, kept.on_erasure, kept.auto_rollback) == (True, "block", False)


def test_a_data_set_is_known_by_its_content_and_by_its_name(database: Database) -> None:
    datasets = DatasetStore(database)
    examples = [TrainingExample("Who?", ("Ann",), ()), TrainingExample("Where?", (), ())]
    made, is_new = datasets.add(examples, None, "upload", ["one has no answer"], file="a.jsonl")
    named, again = datasets.add(examples, "first", "upload", [], [DatasetSource("d", "ab", (0,))])
    assert (is_new, again, named.id, named.name) == (True, False, made.id, "first")
    assert named.sources == (DatasetSource("d", "ab", (0,)),)
    assert datasets.examples(made.id) == examples
    assert datasets.get("first") == datasets.get(made.id) == datasets.page(5, 0)[0][0]
    with pytest.raises(DatasetExists):
        datasets.add(examples[:1], "first", "upload", [])
    datasets.delete("first")
    with pytest.raises(UnknownDataset):
        datasets.get(made.id)


def test_a_task_is_followed_to_its_end(database: Database) -> None:
    jobs = JobStore(database)
    tasks = TaskStore(database, jobs, database.write)
    first = tasks.add("train", {"rank": 8}, "steps", 1, ["slow"])
    with pytest.raises(TooManyTasks):
        tasks.add("train", {}, "steps", 1)
    second = tasks.add("evaluate", {}, "questions", 1, total=4)
    found = tasks.next(["train", "evaluate"])
    assert found is not None
    assert (found.job_id, found.request, found.warnings) == (first, {"rank": 8}, ["slow"])
    tasks.begin(first)
    for loss in (2.0, 1.0):  # a repeated step replaces its point
        tasks.report(first, "training", done=1, total=2, loss=loss, eta_seconds=1.5)
    tasks.report(first, "training", done=2, loss=0.5)
    assert [tuple(point) for point in tasks.losses(first)] == [(1, 1.0), (2, 0.5)]
    tasks.leave(first, 2.5)
    tasks.leave(first, 0.5)
    left = tasks.get(first)
    assert left is not None
    assert (left.done, left.total, left.loss, left.attempts, left.seconds) == (2, 2, 0.5, 0, 3.0)
    tasks.succeed(first, {"version": 1})
    tasks.fail(second, "no questions")
    assert tasks.unfinished_ids() == []
    assert [task.result for task in tasks.of_kind("train", 5)] == [{"version": 1}]
    assert tasks.of_kind("train", 5, after=first) == []
    ended = jobs.get(second)
    assert ended is not None
    assert (ended.state, ended.error) == ("failed", "no questions")


def test_an_evaluation_keeps_what_came_first(database: Database) -> None:
    evaluations, jobs = EvaluationStore(database), JobStore(database)
    plan = Plan(ways=(Way("base", "base"),))
    evaluation_id = new_evaluation_id()
    with database.write() as connection:
        job_id = jobs.add(connection, {}, "evaluate")
        asked = AskedSet("own", (Item("Who?", (Gold("Ann", ()),)), Item("Where?", ())), "retrieved")
        evaluations.add(evaluation_id, "evaluate", "first", plan, [asked], connection, job_id)
    found = evaluations.of_job(job_id)
    assert found is not None
    assert (found, found.plan, found.questions, found.result) == (evaluations.get(evaluation_id), plan, 2, None)
    assert [item.question for item, _ in evaluations.items(found)["own"]] == ["Who?", "Where?"]
    first, second = (Asked(("Ann",), answer, abstained=False, milliseconds=1.5, tokens=3) for answer in ("Ann", "Bob"))
    evaluations.keep(found, {("own", 0, "base"): first})
    evaluations.keep(found, {("own", 0, "base"): second, ("own", 1, "base"): second})
    assert evaluations.outcomes(found) == {("own", 0, "base"): first, ("own", 1, "base"): second}
    evaluations.conclude(found, {"f1": 0.5})
    assert [each.result for each in evaluations.page(5, 0)[0]] == [{"f1": 0.5}]
    assert evaluations.remove(evaluation_id)
    assert not evaluations.remove(evaluation_id)
    evaluations.keep(found, {("own", 0, "base"): first})  # it came too late
    assert (evaluations.items(found), evaluations.outcomes(found)) == ({}, {})


def test_the_last_decision_of_the_gate_holds(database: Database) -> None:
    gates = GateStore(database)
    first = GateResult(
        "sea", 1, "e1", passed=False, promoted=False, reasons=["worse"], at=1.0, advice={"because": "worse"}
    )
    second = replace(first, passed=True, promoted=True, reasons=[], at=2.0, advice=None)
    other = replace(first, adapter="air", at=3.0)
    for each in (first, second, other):
        gates.add(each)
    assert gates.latest("sea", 1) == second
    assert gates.decided() == {("sea", 1): second, ("air", 1): other}
    assert gates.decided("air") == {("air", 1): other}


def test_a_deleted_or_replaced_document_leaves_its_id_and_hash(database: Database) -> None:
    corpus = Corpus(database, HashingEmbedder())
    parser = ParserProcess()
    ids = []
    for text in ("The lamp is lit.", "The horn is blown."):
        with database.write() as connection:
            ids.append(corpus.add(connection, NewDocument(None, "n", text.encode(), is_text=True)).id)
        corpus.process(ids[-1], parser)
    parser.close()
    sha256 = corpus.document(ids[0]).sha256
    corpus.delete(ids[0])
    with database.write() as connection:
        connection.execute("UPDATE documents SET sha256 = 'other' WHERE id = ?", (ids[1],))
        rows = connection.execute("SELECT document_id, sha256, cause FROM erased_documents ORDER BY number").fetchall()
    assert [row["cause"] for row in rows] == ["deleted", "replaced"]
    assert tuple(rows[0])[:2] == (ids[0], sha256)
