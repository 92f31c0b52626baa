"""Time expressions of two languages, and what only looks like one."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from memos_engine.errors import BadTime
from memos_engine.times.dates import find_times

SAID = datetime(2023, 5, 8, 13, 56, tzinfo=UTC)
"""A Monday."""

DAYS = [
    ("I went there yesterday.", "yesterday", "2023-05-07"),
    ("Today is fine", "Today", "2023-05-08"),
    ("see you tomorrow", "tomorrow", "2023-05-09"),
    ("it was the day before yesterday", "the day before yesterday", "2023-05-06"),
    ("leaving the day after tomorrow", "the day after tomorrow", "2023-05-10"),
    ("three days ago", "three days ago", "2023-05-05"),
    ("a couple of days ago", "a couple of days ago", "2023-05-06"),
    ("I'll be back in 3 days", "in 3 days", "2023-05-11"),
    ("two days from now", "two days from now", "2023-05-10"),
    ("last Friday", "last Friday", "2023-05-05"),
    ("Last Fri I swam", "Last Fri", "2023-05-05"),
    ("last monday", "last monday", "2023-05-01"),
    ("next Friday works", "next Friday", "2023-05-12"),
    ("this Tuesday", "this Tuesday", "2023-05-09"),
    ("We met this Tuesday", "this Tuesday", "2023-05-02"),
    ("On Friday I went home", "On Friday", "2023-05-05"),
    ("I'm going there on Friday", "on Friday", "2023-05-12"),
    ("on May 8, 2021", "May 8, 2021", "2021-05-08"),
    ("My exam is on May 20", "May 20", "2023-05-20"),
    ("We met on December 27", "December 27", "2022-12-27"),
    ("8 May 2023", "8 May 2023", "2023-05-08"),
    ("the 8th of May", "the 8th of May", "2023-05-08"),
    ("at 2023-05-08", "2023-05-08", "2023-05-08"),
    ("05/18/2023", "05/18/2023", "2023-05-18"),
    ("18/05/2023", "18/05/2023", "2023-05-18"),
    ("我昨天去了", "昨天", "2023-05-07"),
    ("大前天", "大前天", "2023-05-05"),
    ("后天见", "后天", "2023-05-10"),
    ("上周五我们去了", "上周五", "2023-05-05"),
    ("下星期日", "下星期日", "2023-05-21"),
    ("我们周五要见面", "周五", "2023-05-12"),
    ("三天前", "三天前", "2023-05-05"),
    ("我三天后要去北京", "三天后", "2023-05-11"),
    ("2023年5月8日", "2023年5月8日", "2023-05-08"),
    ("去年三月五号", "去年三月五号", "2022-03-05"),
    ("5月20日我要考试", "5月20日", "2023-05-20"),
    ("昨日は楽しかった", "昨日", "2023-05-07"),
]

LONGER = [
    ("last week was fun", "last week", "2023-05-01", 7, "week"),
    ("two weeks ago", "two weeks ago", "2023-04-24", 7, "week"),
    ("a week ago", "a week ago", "2023-05-01", 7, "week"),
    ("last weekend", "last weekend", "2023-05-06", 2, "week"),
    ("two weekends ago", "two weekends ago", "2023-04-29", 2, "week"),
    ("any plans this weekend?", "this weekend", "2023-05-13", 2, "week"),
    ("we had fun this weekend", "this weekend", "2023-05-06", 2, "week"),
    ("the week before last", "the week before last", "2023-04-24", 7, "week"),
    ("next month", "next month", "2023-06-01", 30, "month"),
    ("two months ago", "two months ago", "2023-03-01", 31, "month"),
    ("I moved in March", "in March", "2023-03-01", 31, "month"),
    ("I moved in December.", "in December", "2022-12-01", 31, "month"),
    ("I will move in December.", "in December", "2023-12-01", 31, "month"),
    ("I moved to Lisbon in May.", "in May", "2023-05-01", 31, "month"),
    ("since March 2020", "March 2020", "2020-03-01", 31, "month"),
    ("last August", "last August", "2022-08-01", 31, "month"),
    ("last summer", "last summer", "2022-06-01", 92, "season"),
    ("next winter", "next winter", "2023-12-01", 91, "season"),
    ("the summer of 2019", "summer of 2019", "2019-06-01", 92, "season"),
    ("last year", "last year", "2022-01-01", 365, "year"),
    ("ten years ago", "ten years ago", "2013-01-01", 365, "year"),
    ("I started in 2019.", "in 2019", "2019-01-01", 365, "year"),
    ("June 5-7", "June 5-7", "2023-06-05", 3, "day"),
    ("上周很忙", "上周", "2023-05-01", 7, "week"),
    ("上周末", "上周末", "2023-05-06", 2, "week"),
    ("两周前", "两周前", "2023-04-24", 7, "week"),
    ("上个月", "上个月", "2023-04-01", 30, "month"),
    ("两个月前", "两个月前", "2023-03-01", 31, "month"),
    ("我十二月搬家了", "十二月", "2022-12-01", 31, "month"),
    ("2021年3月", "2021年3月", "2021-03-01", 31, "month"),
    ("去年夏天", "去年夏天", "2022-06-01", 92, "season"),
    ("前年", "前年", "2021-01-01", 365, "year"),
    ("二〇一九年", "二〇一九年", "2019-01-01", 365, "year"),
    ("先週", "先週", "2023-05-01", 7, "week"),
]

CLOCKS = [
    ("last night", "2023-05-07 18:00", "2023-05-08 06:00"),
    ("this morning", "2023-05-08 05:00", "2023-05-08 12:00"),
    ("tomorrow at 9", "2023-05-09 09:00", "2023-05-09 10:00"),
    ("tonight at 9", "2023-05-08 21:00", "2023-05-08 22:00"),
    ("tomorrow at 3", "2023-05-09 15:00", "2023-05-09 16:00"),
    ("9am tomorrow", "2023-05-09 09:00", "2023-05-09 10:00"),
    ("at 9:30 pm on Friday we left", "2023-05-05 21:30", "2023-05-05 21:31"),
    ("May 20, 2024 at noon", "2024-05-20 12:00", "2024-05-20 13:00"),
    ("next Friday evening", "2023-05-12 18:00", "2023-05-13 00:00"),
    ("昨晚十点", "2023-05-07 22:00", "2023-05-07 23:00"),
    ("昨天下午三点半", "2023-05-07 15:30", "2023-05-07 15:31"),
    ("明天早上8点", "2023-05-09 08:00", "2023-05-09 09:00"),
]

NO_TIMES = [
    "I may go, and we march on",
    "the 8 may be wrong",
    "in 2000 people",
    "since we last talked",
    "the second one, last but not least",
    "the other day, a few days ago",
    "over ten years ago",
    "I read it in two days",
    "every summer, on Mondays, the next day",
    "it feels like yesterday",
    "open 24/7 and 9/11",
    "05/08/2023",
    "30 February 2023",
    "I get up at 9am",
    "March 3 miles",
    "the sun sat there",
    "目前天气很好",
    "以前年轻",
    "说明天才",
    "三个月",
    "每周五",
    "十几年前",
    "三天后他走了",
    "2000年前的事",
    "周围没人",
]


@pytest.mark.parametrize(("text", "words", "day"), DAYS)
def test_a_day_that_is_named_has_its_date(text: str, words: str, day: str) -> None:
    """Words for one day become that day, midnight to midnight."""
    (mention,) = find_times(text, SAID)
    assert (mention.text, mention.start.date().isoformat()) == (words, day)
    assert mention.end - mention.start == timedelta(days=1)
    assert mention.precision == "day"


@pytest.mark.parametrize(("text", "words", "day", "days", "precision"), LONGER)
def test_longer_times_are_windows(text: str, words: str, day: str, days: int, precision: str) -> None:
    """A week, a month, a season and a year are windows from their first to their last day."""
    (mention,) = find_times(text, SAID)
    assert (mention.text, mention.start.date().isoformat()) == (words, day)
    assert (mention.end - mention.start).days == days
    assert mention.precision == precision


@pytest.mark.parametrize(("text", "start", "end"), CLOCKS)
def test_a_clock_time_beside_a_day_narrows_it(text: str, start: str, end: str) -> None:
    """A part of a day or a time on the clock makes the window of the day smaller."""
    (mention,) = find_times(text, SAID)
    assert mention.start.strftime("%Y-%m-%d %H:%M") == start
    assert mention.end.strftime("%Y-%m-%d %H:%M") == end
    assert mention.precision == ("minute" if mention.end - mention.start <= timedelta(minutes=1) else "hour")


@pytest.mark.parametrize("text", NO_TIMES)
def test_what_only_looks_like_a_time_is_left_alone(text: str) -> None:
    """Vague words, habits, other meanings and impossible dates name no time."""
    assert find_times(text, SAID) == ()


def test_several_times_come_in_order() -> None:
    """The times of one text are found from left to right, each once."""
    found = find_times("Yesterday I slept, last week I worked, and 明天 I rest.", SAID)
    assert [mention.text for mention in found] == ["Yesterday", "last week", "明天"]


def test_the_day_is_that_of_the_speaker() -> None:
    """Just after midnight in Tokyo, yesterday is the day that just ended there."""
    said = datetime(2023, 5, 8, 0, 10, tzinfo=ZoneInfo("Asia/Tokyo"))
    (mention,) = find_times("yesterday", said)
    assert mention.start == datetime(2023, 5, 7, tzinfo=ZoneInfo("Asia/Tokyo"))
    assert mention.start.tzinfo is said.tzinfo


def test_an_hour_that_the_clock_skips_is_no_empty_window() -> None:
    """A minute of the hour that summer time leaves out still lasts a minute."""
    zone = ZoneInfo("America/New_York")
    (mention,) = find_times("today at 2:59 am", datetime(2023, 3, 12, 12, tzinfo=zone))
    assert mention.end.astimezone(UTC) - mention.start.astimezone(UTC) == timedelta(minutes=1)


def test_a_naive_moment_is_refused() -> None:
    """Without a time zone nobody can say which day it was."""
    with pytest.raises(BadTime):
        find_times("yesterday", datetime(2023, 5, 8))  # noqa: DTZ001 -- the bad input itself


PIECES = st.sampled_from(
    [str(case[0]) for case in (*DAYS, *LONGER, *CLOCKS)]
    + NO_TIMES
    + [" ", ", ", "at 25:61", "29 February", "29 of May"]
)
MOMENTS = st.datetimes(
    min_value=datetime(1, 1, 2),  # noqa: DTZ001 -- hypothesis wants naive bounds
    max_value=datetime(9999, 12, 30),  # noqa: DTZ001 -- hypothesis wants naive bounds
    timezones=st.sampled_from([UTC, ZoneInfo("America/New_York"), ZoneInfo("Asia/Kathmandu")]),
)


@given(st.lists(PIECES | st.text(max_size=30), max_size=6).map("".join), MOMENTS)
@example("two hours ago", datetime(1, 1, 2, tzinfo=UTC))
@example("next year tomorrow in 12 months", datetime(9999, 12, 30, tzinfo=UTC))
def test_any_text_at_any_moment_gives_sound_windows(text: str, said: datetime) -> None:
    """Spans lie in the text, in order and apart; windows are aware and never empty; nothing raises."""
    reached = 0
    for mention in find_times(text, said):
        assert reached <= mention.span[0] < mention.span[1] <= len(text)
        assert text[slice(*mention.span)] == mention.text
        assert mention.start.utcoffset() is not None
        assert mention.end.utcoffset() is not None
        assert mention.start < mention.end
        assert mention.start.replace(tzinfo=UTC) < mention.end.replace(tzinfo=UTC)
        reached = mention.span[1]


HOSTILE = [
    "in" + " " * 200_000,
    "1 May " * 33_000,
    "the " * 50_000,
    "9" * 200_000,
    "十" * 200_000,
    "last " * 40_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:8]))
def test_no_text_takes_long(text: str) -> None:
    """200 KB made to provoke back-tracking take less than a second."""
    began = time.perf_counter()
    find_times(text, SAID)
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize(
    ("text", "guessed"),
    [
        ("The package arrives on Wednesday.", True),
        ("My birthday is 4 July.", True),
        ("Elin goes back to work in June.", True),
        ("I went there on Wednesday.", False),
        ("I will go in September.", False),
        ("I saw it yesterday.", False),
        ("小林的生日是九月三号", True),
    ],
)
def test_a_guess_is_told(text: str, guessed: bool) -> None:
    """Where neither words nor tense tell which day is meant, the window is the nearest, and says that it is a guess."""
    (mention,) = find_times(text, SAID)
    assert mention.guessed == guessed


@pytest.mark.parametrize("text", ["We will run on Sunday, 21 May", "We will run on Sunday 21 May"])
def test_a_weekday_and_its_date_are_one_time(text: str) -> None:
    """The date decides."""
    (mention,) = find_times(text, SAID)
    assert mention.text == text.removeprefix("We will run ")
    assert (mention.start.month, mention.start.day) == (5, 21)
