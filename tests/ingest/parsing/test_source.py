"""Source code keeps its text; its definitions are its headings."""

from __future__ import annotations

import pytest

from ingest.parsing.dispatch import parse

PYTHON = '''"""A module."""

class Stack:
    def push(self, item):
        if item:
            return self

    async def pop(self):
        def inner():
            pass

def main() -> None:
    pass
'''


def test_definitions_are_headings_nested_as_they_are_indented() -> None:
    parsed = parse("stack.py", PYTHON.encode())
    assert parsed.text == PYTHON
    assert parsed.media_type == "text/x-python"
    assert [(heading.level, heading.title) for heading in parsed.headings] == [
        (1, "class Stack"),
        (2, "def push"),
        (2, "async def pop"),
        (3, "def inner"),
        (1, "def main"),
    ]
    assert all(parsed.text[heading.start :].lstrip().startswith(heading.title) for heading in parsed.headings)


@pytest.mark.parametrize(
    ("name", "code", "titles"),
    [
        ("a.js", "export default class A {\n  run() {}\n}\nconst f = async (x) => x;\nfunction g() {}",
         ["export default class A", "const f", "function g"]),
        ("a.ts", "export interface Props {\n  a: string;\n}\nif (x) {\n}", ["export interface Props"]),
        ("A.java", "public class A {\n  public static int run(String a) {\n    return run(a);\n  }\n}",
         ["public class A", "public static int run"]),
        ("a.c", "int main(int argc) {\n  printf(1);\n  return f(2);\n}\nint declared(void);", ["int main"]),
        ("a.go", "type A struct {\n}\nfunc (a *A) Run() {\n}", ["type A", "func (a *A) Run"]),
        ("a.rs", "pub struct A;\nimpl Clone for A {\n    fn clone(&self) {}\n}",
         ["pub struct A", "impl Clone for A", "fn clone"]),
        ("a.rb", "module M\n  def run?\n  end\nend", ["module M", "def run?"]),
        ("a.sql", "CREATE TABLE IF NOT EXISTS users (id INT);", ["CREATE TABLE IF NOT EXISTS users"]),
        ("a.yaml", "a: 1\n", []),
    ],
)  # fmt: skip
def test_definitions_of_many_languages_are_known(name: str, code: str, titles: list[str]) -> None:
    assert [heading.title for heading in parse(name, code.encode()).headings] == titles


def test_minified_code_costs_no_time() -> None:
    parse("a.js", b"function a(b){return b};" * 200_000)
    parse("a.c", (b"a" * 399 + b"\n") * 5_000)
