"""A long series as the repetitions that it is made of: `A A B A A B A` -> `(A×2, B)×2, A`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")

LONGEST = 12
"""Repeated groups of at most so many parts are looked for."""


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """An item, or a group of parts, with how often it comes in a row: at most `most` times, None where that is open."""

    item: T | tuple[Any, ...]
    most: int | None = 1
    label: str = ""


def folded(items: Iterable[T]) -> tuple[Part[T], ...]:
    """Return a series as parts, equal neighbours and equal groups put together: `folded("aab")` -> `a×2, b`."""
    return grouped([Part(item, len(list(same))) for item, same in itertools.groupby(items)])


def grouped(parts: Sequence[Part[T]]) -> tuple[Part[T], ...]:
    """Return parts with those groups put together that come again right behind themselves."""
    found: list[Part[T]] = []
    at = 0
    while at < len(parts):
        length, times = _group(parts, at)
        if times > 1:
            _append(found, Part(tuple(parts[at : at + length]), times))
        else:
            _append(found, parts[at])
        at += length * times
    return tuple(found)


def times(parts: tuple[Part[T], ...], count: int) -> tuple[Part[T], ...]:
    """Return `parts`, `count` times in a row."""
    if count == 0 or not parts:
        return ()
    if count == 1:
        return parts
    first = parts[0]
    if len(parts) == 1 and first.most is not None:
        return (Part(first.item, first.most * count, first.label),)
    return (Part(parts, count),)


def joined(parts: tuple[Part[T], ...], more: tuple[Part[T], ...]) -> tuple[Part[T], ...]:
    """Return one behind the other, put together where the last group of `parts` comes once more."""
    last = parts[-1] if parts else None
    if last is not None and last.most is not None and last.item == more:
        return (*parts[:-1], Part(last.item, last.most + 1))
    found = list(parts)
    for part in more:
        _append(found, part)
    return tuple(found)


def _group(parts: Sequence[Part[T]], at: int) -> tuple[int, int]:
    """Return the length of the group at `at` that takes up the most when repeated, and how often it comes."""
    best = 1, 1
    for length in range(2, min(LONGEST, (len(parts) - at) // 2) + 1):
        count = 1
        while parts[at + count * length : at + (count + 1) * length] == parts[at : at + length]:
            count += 1
        if count > 1 and count * length > best[0] * best[1]:
            best = length, count
    return best


def _append(found: list[Part[T]], part: Part[T]) -> None:
    last = found[-1] if found else None
    if last is not None and last.item == part.item and last.most is not None and part.most is not None:
        found[-1] = Part(last.item, last.most + part.most)
    else:
        found.append(part)


def spans(values: Sequence[bool], endless: bool = False) -> tuple[tuple[int, int | None, int], ...]:
    """Return where a series is true as (first, last, step), counted from 1: `spans([0, 1, 0, 1])` -> `((2, 4, 2),)`.

    `endless`: it goes on in the same way.
    """
    true = [number for number, value in enumerate(values, 1) if value]
    found: list[tuple[int, int | None, int]] = []
    at = 0
    while at < len(true):
        step = true[at + 1] - true[at] if at + 1 < len(true) else 1
        end = at
        while end + 1 < len(true) and true[end + 1] - true[end] == step:
            end += 1
        found.append((true[at], true[end], step if end > at else 1))
        at = end + 1
    if endless and found:
        first, last, step = found[-1]
        goes_on = last is not None and last + step > len(values)
        found[-1] = (first, None if goes_on else last, step)
    return tuple(found)
