"""Programming languages: by which names their files go, and what their definitions look like.

A table and nothing else: what follows from it is decided in ``ingest.parsing.detection`` and ``ingest.parsing.source``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath


@dataclass(frozen=True, slots=True)
class Language:
    """A programming language.

    Attributes:
        name: as in the media type ``text/x-NAME``.
        suffixes: of its files.
        definition: matches a line that begins a class or function; group ``name`` is the line without what follows
            the name. ``None`` where definitions have no cheap form.
    """

    name: str
    suffixes: tuple[str, ...]
    definition: re.Pattern[str] | None = None


def _pattern(*alternatives: str) -> re.Pattern[str]:
    return re.compile(rf"[ \t]*(?P<name>{'|'.join(alternatives)})")


_WORD = r"[\w$]+"
_MODIFIERS = (
    r"(?:(?:public|private|protected|internal|static|final|abstract|sealed|async|override|virtual|partial|export|"
    r"default|open|data|inline|suspend|pub(?:\([\w: ]+\))?|unsafe|extern|const|readonly|synchronized)\s+)*"
)
_TYPES = rf"{_MODIFIERS}(?:class|interface|enum|record|struct|trait|object|namespace|module)\s+{_WORD}"
# ``int main(`` and ``public String name(``, with an opening brace to come and no keyword before the name.
_C_FUNCTION = (
    rf"(?!\s*(?:return|else|if|for|while|switch|new|throw|case|delete|using|typedef|goto)\b)"
    rf"{_MODIFIERS}[\w:<>\[\],.?]+(?:\s*[*&]+\s*|\s+){_WORD}(?:::~?{_WORD})*(?=\s*\([^;]*$)"
)
_FUNCTION = rf"{_MODIFIERS}function\s*\*?\s*{_WORD}"
_ARROW = (
    rf"(?:export\s+)?(?:const|let|var)\s+{_WORD}"
    r"(?=\s*(?::[^=]+)?=\s*(?:async\s*)?(?:function\b|\([^)]*\)\s*(?::[^=]+)?=>))"
)
_RUST = rf"{_MODIFIERS}(?:fn|struct|enum|trait|mod|union)\s+{_WORD}|impl\b[^{{;]*"
_GO = rf"func\s+(?:\([^)]*\)\s*)?{_WORD}|type\s+{_WORD}(?=\s+(?:struct|interface)\b)"
_KOTLIN = rf"{_MODIFIERS}fun\s+(?:<[^>]*>\s*)?[\w.]+|{_TYPES}"

LANGUAGES = (
    Language("python", (".py", ".pyi", ".pyw"), _pattern(r"class\s+\w+", r"(?:async\s+)?def\s+\w+")),
    Language("javascript", (".js", ".mjs", ".cjs", ".jsx"), _pattern(_FUNCTION, _TYPES, _ARROW)),
    Language("typescript", (".ts", ".tsx", ".mts"), _pattern(_FUNCTION, _TYPES, _ARROW)),
    Language("java", (".java",), _pattern(_TYPES, _C_FUNCTION)),
    Language("csharp", (".cs",), _pattern(_TYPES, _C_FUNCTION)),
    Language("c", (".c", ".h"), _pattern(_TYPES, _C_FUNCTION)),
    Language("cpp", (".cc", ".cpp", ".cxx", ".hpp", ".hh", ".cu"), _pattern(_TYPES, _C_FUNCTION)),
    Language("go", (".go",), _pattern(_GO)),
    Language("rust", (".rs",), _pattern(_RUST)),
    Language("kotlin", (".kt", ".kts"), _pattern(_KOTLIN)),
    Language("swift", (".swift",), _pattern(rf"{_MODIFIERS}func\s+{_WORD}", _TYPES)),
    Language("scala", (".scala",), _pattern(rf"{_MODIFIERS}def\s+{_WORD}", _TYPES)),
    Language("ruby", (".rb",), _pattern(r"(?:class|module)\s+[\w:]+", r"def\s+[\w.?!=]+")),
    Language("php", (".php",), _pattern(_FUNCTION, _TYPES)),
    Language("shell", (".sh", ".bash", ".zsh"), _pattern(rf"function\s+{_WORD}", r"[\w-]+(?=\s*\(\)\s*\{?)")),
    Language("lua", (".lua",), _pattern(r"(?:local\s+)?function\s+[\w.:]+")),
    Language("r", (".r",), _pattern(r"[\w.]+(?=\s*(?:<-|=)\s*function\b)")),
    Language("julia", (".jl",), _pattern(r"(?:function|struct|mutable struct|module)\s+[\w.!]+")),
    Language("perl", (".pl", ".pm"), _pattern(r"(?:sub|package)\s+[\w:]+")),
    Language("sql", (".sql",), _pattern(r"(?i:create\s+(?:or\s+replace\s+)?\w+\s+(?:if\s+not\s+exists\s+)?[\w.\"`]+)")),
    Language("css", (".css", ".scss", ".less")),
    Language("yaml", (".yaml", ".yml")),
    Language("toml", (".toml",)),
    Language("ini", (".ini", ".cfg")),
    Language("makefile", (".mk",)),
    Language("dockerfile", (".dockerfile",)),
)
_BY_SUFFIX = {suffix: language for language in LANGUAGES for suffix in language.suffixes}
_BY_NAME = {language.name: language for language in LANGUAGES}
_INTERPRETERS = {
    "python": "python", "python3": "python", "node": "javascript", "deno": "typescript", "bash": "shell",
    "sh": "shell", "zsh": "shell", "ruby": "ruby", "perl": "perl", "php": "php", "lua": "lua", "rscript": "r",
}  # fmt: skip
_SHEBANG = re.compile(rb"#![ \t]*(?:\S*/)?([^\s/]+)(?:[ \t]+(?:-\S+[ \t]+)*([^\s/]+))?")


def language_of(name: str, start: bytes) -> Language | None:
    """The language of a file: by the interpreter its first line names, else by its name."""
    shebang = _SHEBANG.match(start)
    if shebang is not None:
        program = shebang.group(2) if shebang.group(1) == b"env" and shebang.group(2) else shebang.group(1)
        interpreter = program.decode("ascii", "replace").lower().rstrip("0123456789.")
        if found := _INTERPRETERS.get(interpreter):
            return _BY_NAME[found]
    path = PurePath(name.lower())
    return _BY_SUFFIX.get(path.suffix) or _BY_NAME.get(path.name)


def language(name: str) -> Language:
    """The language called ``name``; one without definitions where there is none."""
    return _BY_NAME.get(name, Language(name, ()))
