"""Who is told of what happened."""

from __future__ import annotations

import pytest

from asyncdb.events import CommitLeftInDoubt, Event, publish, subscribe

EVENT = CommitLeftInDoubt("default", cancelled=True)


def test_a_subscriber_is_told_until_it_ends() -> None:
    told: list[Event] = []
    end, other = subscribe(told.append), subscribe(told.append)
    publish(EVENT)
    end()
    end()
    publish(EVENT)
    other()
    publish(EVENT)
    assert told == [EVENT] * 3


def test_what_a_subscriber_raises_is_logged_and_the_others_are_told(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Event] = []

    def fails(event: Event) -> None:
        raise ValueError(event)

    ends = [subscribe(fails), subscribe(told.append)]
    publish(EVENT)
    for end in ends:
        end()
    assert told == [EVENT]
    assert "a subscriber to events failed at CommitLeftInDoubt" in caplog.text
