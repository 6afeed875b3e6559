"""What a folder and its documents need to be in step, worked out by hand."""

from __future__ import annotations

import itertools

import pytest

from app.folder_sync import Kept, kept_document, plan, source_metadata


def kept(**contents: str) -> list[Kept]:
    return [Kept(f"id of {path}", path, sha256) for path, sha256 in contents.items()]


@pytest.mark.parametrize(
    ("files", "documents", "replace", "delete", "send"),
    [
        pytest.param({}, kept(), [], [], [], id="nothing"),
        pytest.param({"a": "1", "b": "2"}, kept(), [], [], ["a", "b"], id="new files"),
        pytest.param({"a": "1"}, kept(a="1"), [], [], [], id="in step"),
        pytest.param({"a": "2"}, kept(a="1"), ["a"], [], [], id="a changed file"),
        pytest.param({}, kept(a="1"), [], ["a"], [], id="a deleted file"),
        pytest.param({"b": "1"}, kept(a="1"), [], ["a"], ["b"], id="a renamed file"),
        pytest.param({"a": "1", "b": "1"}, kept(), [], [], ["a"], id="two files of one content are one document"),
        pytest.param({"a": "1", "b": "1"}, kept(b="1"), [], [], [], id="a copy of a file that has a document"),
        pytest.param({"b": "1"}, kept(b="1"), [], [], [], id="the copy is deleted"),
        pytest.param({"a": "1", "b": "1"}, kept(a="1", b="2"), [], ["b"], [], id="a file becomes a copy"),
        pytest.param({"a": "2", "b": "1"}, kept(a="1", b="2"), ["a", "b"], [], [], id="swapped contents"),
    ],
)
def test_what_is_done(
    files: dict[str, str], documents: list[Kept], replace: list[str], delete: list[str], send: list[str]
) -> None:
    done = plan(files, documents)
    assert [path for _, path in done.replace] == replace
    assert all(held.path == path for held, path in done.replace)
    assert [held.path for held in done.delete] == delete
    assert list(done.send) == send
    assert bool(done) == bool(replace or delete or send)


def test_what_was_refused_is_not_sent_again_until_it_changes() -> None:
    assert not plan({"a": "1", "b": "2"}, kept(b="1"), {"1", "2"})
    assert plan({"a": "3"}, kept(), {"1"}).send == ("a",)


def test_whatever_the_folder_was_its_documents_are_its_contents_in_the_end() -> None:
    """Every pair of states of three files with three contents, by a service that has each content once."""
    states = [
        {path: sha256 for path, sha256 in zip("abc", contents, strict=True) if sha256 != "-"}
        for contents in itertools.product("-12", repeat=3)
    ]
    for before, after in itertools.product(states, states):
        documents: dict[str, str] = {}
        for files in (before, after):
            rounds = 0
            while todo := plan(files, kept(**documents)):
                rounds += 1
                assert rounds < 10, (before, after)
                for held in todo.delete:
                    del documents[held.path]
                for held, path in todo.replace:
                    del documents[held.path]
                    if files[path] not in documents.values():
                        documents[path] = files[path]
                for path in todo.send:
                    if files[path] not in documents.values():
                        documents[path] = files[path]
            assert sorted(documents.values()) == sorted(set(files.values()))
            assert all(files[path] == sha256 for path, sha256 in documents.items())


def test_a_document_tells_by_its_metadata_which_file_it_is_of() -> None:
    metadata = {"team": "north", **source_metadata("/docs", "a/b.md", "f00")}
    assert kept_document("d", metadata, "/docs") == Kept("d", "a/b.md", "f00")
    assert kept_document("d", metadata, "/other") is None
    assert kept_document("d", {"source_folder": "/docs", "source_path": 7}, "/docs") is None
    assert kept_document("d", {}, "/docs") is None
