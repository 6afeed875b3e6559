"""Follow-up questions made to stand alone by rules, for engines that write no text.

The rules, in order. A question that names something of its own (a capitalised name inside it, a number, a quotation)
or has neither pronoun nor ellipsis is left as it is. "What about X?" puts X in the place of the last question's name.
A pronoun is replaced by what it most likely means: a person's (he, she, they …) by the answer to a "who" question,
any other by the last question's topic, which is its name or else its first noun phrase with an article. A question
with no content of its own ("Why?", "And how tall?") gets the topic added. Earlier turns are resolved first, so a chain
of follow-ups keeps its topic. The rules know English only and can be wrong; the question asked is always shown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from adapters import Turn

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_PERSONAL = {"he", "she", "him", "they", "them"}
_PERSONS = {"his", "their", "her"}
_THINGS = {"it", "this", "that", "those", "these"}
_POSSESSIVE = {"its", *_PERSONS}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_FUNCTION = _words(
    """
    a an the and or but so then of in on at to for from by with about as is are was were be been being do does did
    has have had can could will would shall should may might must what which who whom whose when where why how many
    much long old tall far often there here not no yes also still ever any some more most else too exactly it its he
    she him his her they them their this that these those one ones i we you me us my our your if than please tell
    since until after before again
    """
)
_MEASURES = _words(
    """
    high wide deep large big small heavy expensive old new late early cost price year day time
    """
)
_VERBS = _words(
    """
    built made open opens close closes begin begins start starts end ends stand stands cost costs mean means sell
    sells take takes grow grew rise rose fall fell come comes go goes say says written held kept paid bought sold
    found born become became work works need needs apply applies happen belong last weigh earn contain use
    """
)
_PHRASE_END = _FUNCTION - {"of", "the", "and"}
_ABOUT = re.compile(r"^(?:and\s+)?(?:what|how)\s+about\s+(?P<what>.+?)\s*\??$", re.IGNORECASE)
_NAME = re.compile(r"\b[A-Z][\w’'-]*(?:\s+(?:of|the|and|de|von|van)?\s*[A-Z0-9][\w’'-]*)*")
_ARTICLE_PHRASE = re.compile(r"\b(?:the|our|a|an|my)\s+(?P<words>[^?.,;:!]+)", re.IGNORECASE)
_IMPERSONAL = re.compile(r"\b(?:is|was) it (?:true|possible|allowed|raining)\b", re.IGNORECASE)
_LONGEST_PERSON = 6  # words


def standalone(question: str, history: Sequence[Turn]) -> str | None:
    """The question with what it leaves out taken from the conversation, or None where it needs nothing.

    Args:
        history: earlier turns, oldest first.
    """
    resolved: list[Turn] = []
    for turn in history:
        resolved.append(Turn(_resolve(turn.question, resolved) or turn.question, turn.answer))
    return _resolve(question, resolved)


def _resolve(question: str, history: Sequence[Turn]) -> str | None:
    if not history:
        return None
    last = history[-1]
    topic = _topic(last.question)
    if about := _ABOUT.match(question.strip()):
        return _swapped(last.question, topic, about["what"])
    words = [word.casefold() for word in _WORD.findall(question)]
    if _own_names(question) or re.search(r"\d|[\"“]", question):
        return None
    pronoun = next((w for w in words if w in _PERSONAL | _POSSESSIVE | _THINGS and not _bound(w, question)), None)
    if pronoun is not None:
        meant = _meant(pronoun, last, topic)
        return _replaced(question, pronoun, meant) if meant else None
    if topic and all(word in _FUNCTION or word in _MEASURES for word in words):
        return f"{question.strip().rstrip('?').rstrip()}, {topic}?"
    return None


def _bound(word: str, question: str) -> bool:
    """Whether a pronoun points inside its own question: "this year", "that the roof leaks", "Is it true that"."""
    if word in {"this", "that", "these", "those"}:
        return re.search(rf"\b{word}\s+[^\W\d_]", question, re.IGNORECASE) is not None
    return (
        word == "it" and re.search(r"\b(?:is|was) it (?:true|possible|allowed|raining)\b", question, re.I) is not None
    )


def _meant(pronoun: str, last: Turn, topic: str | None) -> str | None:
    answer = last.answer.strip().rstrip(".")
    if pronoun in _PERSONAL | _PERSONS:
        who = re.match(r"\W*(?:and\s+)?who\b", last.question, re.IGNORECASE) is not None
        if who and answer and len(answer.split()) <= _LONGEST_PERSON:
            return answer
    return topic


def _replaced(question: str, pronoun: str, meant: str) -> str:
    follows = re.search(rf"\b{pronoun}\s+(\w+)", question, re.IGNORECASE)
    owns = pronoun in _POSSESSIVE and (
        pronoun != "her" or (follows is not None and follows[1].casefold() not in _FUNCTION)
    )
    return re.sub(rf"\b{pronoun}\b", lambda _: f"{meant}'s" if owns else meant, question, count=1, flags=re.IGNORECASE)


def _swapped(question: str, topic: str | None, what: str) -> str:
    if topic and topic in question:
        return question.replace(topic, what, 1)
    return f"{question.strip().rstrip('?').rstrip()}, {what}?"


def _own_names(question: str) -> list[str]:
    """Capitalised names, without the capital that only begins the sentence."""
    names = []
    for match in _NAME.finditer(question):
        name = match[0]
        first, _, rest = name.partition(" ")
        if first.casefold() in _FUNCTION or (match.start() == 0 and not rest):
            name = rest.strip()
        if name and name != "I":
            names.append(name)
    return names


def _topic(question: str) -> str | None:
    """What a question is about: its first noun phrase with an article, with the name in it; else its first name."""
    for match in _ARTICLE_PHRASE.finditer(question):
        kept: list[str] = []
        for word in match["words"].split():
            if word.casefold() in _PHRASE_END or (kept and _verb(word)):
                break
            kept.append(word)
        while kept and kept[-1].casefold() in {"of", "the", "and"}:
            kept.pop()
        if kept:
            return f"{match[0].split()[0]} {' '.join(kept)}"
    names = _own_names(question)
    return names[0] if names else None


def _verb(word: str) -> bool:
    """A rough guess that a word after a noun is the question's verb: "the lighthouse built", "the office open"."""
    word = word.casefold()
    return word.endswith(("ed", "ing")) or word in _VERBS
