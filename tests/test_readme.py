"""The Chinese README says what the English one says: the same sections, commands, routes and figures."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
ENGLISH, CHINESE = ((ROOT / name).read_text() for name in ("README.md", "README.zh.md"))
_SETTINGS, _MAP = 3, 5  # the one is shorter in Chinese, the other is translated


def sections(text: str) -> list[str]:
    """What stands under each heading of the second level."""
    return re.split(r"^## .+\n", text, flags=re.M)[1:]


def code(text: str) -> list[str]:
    return re.findall(r"^```\w+\n.*?^```$", text, re.S | re.M)


def test_both_link_to_each_other() -> None:
    assert "(README.zh.md)" in ENGLISH
    assert "(README.md)" in CHINESE


def test_they_have_the_same_sections_with_the_same_commands_and_snippets() -> None:
    assert len(sections(ENGLISH)) == len(sections(CHINESE)) == 6
    assert [code(each) for each in sections(CHINESE)] == [code(each) for each in sections(ENGLISH)]


def test_they_name_the_same_routes_settings_and_figures() -> None:
    for number, (english, chinese) in enumerate(zip(sections(ENGLISH), sections(CHINESE), strict=True)):
        if number == _MAP:
            continue
        spans = [set(re.findall(r"`[^`\n]+`", re.sub(r"^```.*?^```$", "", each, flags=re.S | re.M))) for each in
                 (english, chinese)]  # fmt: skip
        if number == _SETTINGS:
            assert spans[1] - {"`openai:`", "`8000`"} <= spans[0]
        else:
            assert spans[0] == spans[1], spans[0] ^ spans[1]
        rows = [re.findall(r"^\|.*\|$", each, re.M) for each in (english, chinese)]
        if number != _SETTINGS:
            figures = [[re.findall(r"\d+(?:\.\d+)?", row) for row in each] for each in rows]
            assert [sorted(each) for each in figures[0]] == [sorted(each) for each in figures[1]]


def test_links_of_the_chinese_one_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", CHINESE):
        assert (ROOT / target).exists(), target
