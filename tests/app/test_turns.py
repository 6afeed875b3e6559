"""Whose turn it is: round-robin between keys, so many at once, and nobody's turn is lost."""

from __future__ import annotations

import asyncio
import contextlib

from app.turns import Turn, Turns


async def begun(turns: Turns, keys: str) -> dict[str, asyncio.Task[Turn]]:
    """A task for each of these, such as ``a1 a2 b1``, that waits for its key's turn."""
    tasks = {name: asyncio.ensure_future(turns.begin(name[0])) for name in keys.split()}
    await asyncio.sleep(0.001)
    return tasks


async def order(turns: Turns, tasks: dict[str, asyncio.Task[Turn]]) -> list[str]:
    """End whatever has begun, again and again; the order in which they began."""
    names: list[str] = []
    while left := [name for name, task in tasks.items() if name not in names and not task.cancelled()]:
        began = [name for name in left if tasks[name].done()]
        assert began, f"nothing begins of {left}"
        for name in began:
            names.append(name)
            tasks[name].result().end()
        await asyncio.sleep(0.001)
    return names


def test_keys_take_turns() -> None:
    async def run() -> list[str]:
        turns = Turns(1)
        return await order(turns, await begun(turns, "a1 a2 a3 a4 b1 c1 c2"))

    assert asyncio.run(run()) == ["a1", "a2", "b1", "c1", "a3", "c2", "a4"]


def test_one_key_leaves_room_for_the_others() -> None:
    async def run() -> list[str]:
        turns = Turns(6)
        tasks = await begun(turns, "a1 a2 a3 a4 a5 a6") | await begun(turns, "b1 c1 c2")
        return [name for name, task in tasks.items() if task.done()]

    assert asyncio.run(run()) == ["a1", "a2", "a3", "b1", "c1"]


def test_whoever_gives_up_leaves_the_line_or_gives_its_turn_on() -> None:
    async def run() -> list[str]:
        turns = Turns(1)
        held = await turns.begin("z")
        tasks = await begun(turns, "a1 b1 c1")
        tasks["a1"].cancel()
        await asyncio.sleep(0.001)
        held.end()
        tasks["b1"].cancel()  # at the moment it was let begin
        with contextlib.suppress(asyncio.CancelledError):
            await tasks["b1"]
        return await order(turns, tasks)

    assert asyncio.run(run()) == ["c1"]


def test_a_turn_ends_once_and_also_by_an_error() -> None:
    async def run() -> bool:
        turns = Turns(2)
        with contextlib.suppress(ZeroDivisionError), await turns.begin("a") as turn:
            turn.end()
            raise ZeroDivisionError
        first = await turns.begin("a")
        second = asyncio.ensure_future(turns.begin("a"))
        await asyncio.sleep(0.001)
        waited = not second.done()
        first.end()
        (await second).end()
        return waited

    assert asyncio.run(run())
