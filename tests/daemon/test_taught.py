"""Which texts taught a Basis is drawn again from the same events, and nothing of it is stored."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.taught import Lesson, before, lesson_of, seen_texts, taught_by, with_lesson
from policies import Policies
from policies.selection import Budget
from storage import BasisRecord, BasisState, Event, EventKind

START = datetime(2031, 5, 6, tzinfo=UTC)
LESSON = Lesson(START + timedelta(hours=20), Budget())
RECORD = BasisRecord(
    1, "t", "main", "", BasisState.READY, 1, 1, 0, START, None, None, None, "f", "b", "{}", 1, START, START
)
POLICIES = Policies()


def event(hour: int, text: str | None = None, label: str = "good", kind: EventKind = EventKind.EXAMPLE) -> Event:
    at = START + timedelta(hours=hour)
    content = json.dumps({"text": text or f"text {hour}", "label": label}).encode()
    return Event(hour, "u", kind, at, at, b"{}" if kind is EventKind.CONSENT else content)


EVENTS = [event(hour, label="good" if hour % 3 else "bad") for hour in range(1, 31)]


def test_a_share_of_what_came_before_was_not_taught_and_nothing_that_came_after():
    seen = seen_texts("u", EVENTS, LESSON, POLICIES)
    assert len(seen) == 13  # a third of 20 is held out
    assert seen <= {f"text {hour}" for hour in range(1, 21)}


def test_the_same_is_drawn_again_whatever_came_since():
    later = [*EVENTS, *(event(hour) for hour in range(31, 60)), event(61, "text 3", "bad", EventKind.CORRECTION)]
    assert seen_texts("u", later, LESSON, POLICIES) == seen_texts("u", EVENTS, LESSON, POLICIES)
    taught = taught_by("u", EVENTS, LESSON, POLICIES.divide)
    assert {each.text for each in taught} == seen_texts("u", EVENTS, LESSON, POLICIES)


def test_a_text_that_taught_is_seen_whatever_its_label_is_now():
    seen = seen_texts("u", EVENTS, LESSON, POLICIES)
    text = sorted(seen)[0]
    assert text in seen_texts("u", [*EVENTS, event(61, text, "bad", EventKind.CORRECTION)], LESSON, POLICIES)


def test_whoever_is_too_few_to_be_divided_taught_everything():
    assert len(seen_texts("u", EVENTS[:5], LESSON, POLICIES)) == 5


def test_whoever_sent_less_than_all_who_took_part_did_not():
    assert seen_texts("u", EVENTS, replace(LESSON, least_events=21), POLICIES) == frozenset()
    assert len(seen_texts("u", EVENTS, replace(LESSON, least_events=20), POLICIES)) == 13
    assert before([*EVENTS, event(2, kind=EventKind.CONSENT)], LESSON.until) == 20


def test_the_numbers_travel_in_the_report_and_today_s_settings_do_not_change_them():
    lesson = Lesson(START, Budget(max_examples=30, held_out_share=0.5), 7)
    record = replace(RECORD, report=with_lesson('{"loss": [0.5]}', lesson))
    assert json.loads(record.report)["loss"] == [0.5]
    assert lesson_of(record, Budget()) == lesson


@pytest.mark.parametrize(
    "report", [None, "{}", '{"taught": 3}', '{"taught": {"selection": {"x": 1}, "least_events": 1}}', "[]", "no"]
)
def test_a_basis_that_tells_nothing_is_read_by_today_s_settings(report):
    assert lesson_of(replace(RECORD, report=report), Budget(held_out_share=0.4)) == Lesson(
        START, Budget(held_out_share=0.4)
    )


@given(st.integers(0, 40), st.integers(0, 40))
def test_what_taught_is_never_more_than_what_there_was(count, until):
    events = [event(hour) for hour in range(1, count + 1)]
    lesson = replace(LESSON, until=START + timedelta(hours=until))
    assert seen_texts("u", events, lesson, POLICIES) <= {f"text {hour}" for hour in range(1, min(count, until) + 1)}
