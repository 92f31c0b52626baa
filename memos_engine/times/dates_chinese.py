"""Chinese time expressions, with the kanji that Japanese shares: the rules that `dates` runs. Pure.

Vague words (前几天, 最近) and habits (每周五) name no time and are left alone; so is 三天后 in a sentence that
does not look ahead, since it then counts from some other moment.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date, datetime

from memos_engine.times import windows
from memos_engine.times.phrases import Rule, sentence
from memos_engine.times.windows import Tense, Unit, Window

_DIGITS = {mark: number for number, mark in enumerate("〇一二三四五六七八九")} | {"零": 0, "两": 2, "兩": 2}
WEEKDAYS = {mark: number for number, mark in enumerate("一二三四五六日")} | {"天": 6, "末": 7}
"""Number of a weekday, Monday is 0; 7 is the weekend."""

_NUMBER = r"\d{1,3}|[一二三四五六七八九两兩]?十[一二三四五六七八九]?|[一二三四五六七八九两兩]"
_YEAR = r"(?<!\d)(?:19|20)\d\d|[一二][〇零一二三四五六七八九]{3}"
_SEASONS = {"春": "spring", "夏": "summer", "秋": "autumn", "冬": "winter"}

_BACK = re.compile(r"[了过過]|曾|刚|剛|已经|已經")
_AHEAD = re.compile(r"[要会會将將]|打算|准备|準備|计划|計劃|希望|见面?$|再")


def number(words: str) -> int:
    """Return the value of digits or of a Chinese numeral below one hundred.

    Raises:
        ValueError: It is neither.
    """
    if words.isdecimal():
        return int(words)
    tens, ten, ones = words.rpartition("十")
    if not ten:
        return int("".join(str(_DIGITS[mark]) for mark in words))
    return (_DIGITS[tens] if tens else 1) * 10 + (_DIGITS[ones] if ones else 0)


def tense(match: re.Match[str]) -> Tense:
    """Return which way the sentence around a match looks."""
    around = sentence(match)
    if _BACK.search(around):
        return -1
    return 1 if _AHEAD.search(around) else 0


_DAYS = {"大前": -3, "前": -2, "昨": -1, "今": 0, "本": 0, "明": 1, "后": 2, "後": 2, "大后": 3, "大後": 3}


def _named_day(match: re.Match[str], at: datetime) -> Window:
    base = windows.day(at, _DAYS[match["which"]])
    if match["short"]:
        return windows.part(base, "night" if match["short"] == "晚" else "morning")
    return base


_DIRECTIONS = {"上": -1, "先": -1, "这": 0, "這": 0, "本": 0, "今": 0, "下": 1, "来": 1, "來": 1}


def _offset(words: str) -> int:
    return sum(_DIRECTIONS[mark] for mark in words)


def _week(match: re.Match[str], at: datetime) -> Window:
    offset = _offset(match["which"])
    named = match["weekday"]
    if not named:
        return windows.week(at, offset)
    if WEEKDAYS[named] == 7:
        return windows.weekend(at, offset)
    return windows.weekday_of_week(at, WEEKDAYS[named], offset)


def _bare_weekday(match: re.Match[str], at: datetime) -> Window | None:
    direction = tense(match)
    return windows.weekday(at, WEEKDAYS[match["weekday"]], direction) if direction else None


def _month(match: re.Match[str], at: datetime) -> Window:
    return windows.month(at, _offset(match["which"]))


_YEARS = {"大前": -3, "前": -2, "去": -1, "昨": -1, "今": 0, "本": 0, "明": 1, "来": 1, "來": 1}


def _year(match: re.Match[str], at: datetime) -> Window:
    return _within(match, at.year + _YEARS[match["which"]], at)


def _numbered_year(match: re.Match[str], at: datetime) -> Window:
    return _within(match, number(match["year"]), at)


def _within(match: re.Match[str], year: int, at: datetime) -> Window:
    """Return a year, or the season, month or day of it that was named."""
    if match["season"]:
        return windows.season(_SEASONS[match["season"]], year, at.tzinfo)
    if not match["month"]:
        return windows.in_year(year, at.tzinfo)
    if not match["day"]:
        return windows.in_month(year, number(match["month"]), at.tzinfo)
    return windows.on_date(date(year, number(match["month"]), number(match["day"])), at.tzinfo)


def _ago(match: re.Match[str], at: datetime) -> Window | None:
    ahead = match["way"] in "后後"
    if ahead and tense(match) < 1:
        return None
    units: dict[str, Unit] = {
        "天": "day",
        "日": "day",
        "月": "month",
        "年": "year",
        "时": "hour",
        "時": "hour",
    }
    return windows.units(
        at,
        units.get(match["unit"][-1], "week"),
        number(match["count"]) * (1 if ahead else -1),
    )


def _month_day(match: re.Match[str], at: datetime) -> Window:
    """Understand a month, or a day of it, of the year that is nearest in the sentence's direction."""
    month, direction = number(match["month"]), tense(match)
    if match["day"]:
        day = number(match["day"])
        dates = (date(at.year + shift, month, day) for shift in _sides(direction, (month, day), at))
        first = min(dates, key=lambda found: abs(found - at.date()))
        return replace(windows.on_date(first, at.tzinfo), guessed=direction == 0)
    shift = _sides(direction or -1, (month, at.day), at)[0]
    return replace(windows.in_month(at.year + shift, month, at.tzinfo), guessed=direction == 0)


def _sides(direction: Tense, named: tuple[int, int], at: datetime) -> tuple[int, ...]:
    """Return the years, counted from this one, in which the named month and day may lie."""
    today = (at.month, at.day)
    if direction < 0:
        return (-1 if named > today else 0,)
    if direction > 0:
        return (1 if named < today else 0,)
    return (-1, 0, 1)


_MONTH_DAY = rf"(?P<month>{_NUMBER})月(?:(?P<day>{_NUMBER})(?:日|号|號)|份|初|中旬|底|末)?"
_MONTH_OF_YEAR = (
    rf"(?:的?(?:(?P<season>[春夏秋冬])(?:天|季)|(?P<month>{_NUMBER})月(?:(?P<day>{_NUMBER})(?:日|号|號))?))?"
)


def _rule(triggers: str, pattern: str, meaning: object) -> Rule:
    assert callable(meaning)
    return Rule(tuple(triggers), re.compile(pattern), meaning)


RULES = (
    _rule(
        "天日晚早",
        # 目前天气, 最后天, 说明天 and 发明天才 only look like days
        r"(?<![目以之提最然随说發发证声表])"
        r"(?P<which>大前|大后|大後|前|昨|今|明|后|後)"
        r"(?:天(?![赋下](?!午))|(?<=[昨今明])日(?![头之本])|(?<=[昨今明])(?P<short>晚|早))",
        _named_day,
    ),
    _rule(
        "周週星礼禮",
        r"(?P<which>上上|下下|上|这|這|本|下|先|今|来|來)一?(?:个|個)?"
        r"(?:周(?![围圍边刊旋转年岁])|週|星期|礼拜|禮拜)(?P<weekday>[一二三四五六日天末](?![年个]))?",
        _week,
    ),
    _rule(
        "周週星礼禮",
        r"(?<![每个個一二两三四上这這本下先今来來几])(?:周|週|星期|礼拜|禮拜)(?P<weekday>[一二三四五六日天](?![到至个岁年]))",
        _bare_weekday,
    ),
    _rule(
        "月",
        r"(?<!以)(?P<which>上上|下下|上|这|這|本|下|先|今|来|來)(?:一?[个個])?月(?![饼球亮光份经])",
        _month,
    ),
    _rule(
        "年",
        r"(?<![以之最然当當目])(?P<which>大前|前|去|昨|今|本|明|来|來)年(?![轻輕龄齡代级級纪份会])"
        + _MONTH_OF_YEAR,
        _year,
    ),
    _rule(
        "年",
        rf"(?P<year>{_YEAR})年(?![前后後历歷来來代]|的历|以|之|多)" + _MONTH_OF_YEAR,
        _numbered_year,
    ),
    _rule(
        "前后後",
        rf"(?<![几多数十百千万\d第])(?P<count>{_NUMBER})(?:个|個)?(?P<unit>小时|小時|天|日|周|週|星期|礼拜|月|年)"
        rf"(?:以|之)?(?P<way>前|后|後)(?![来來])",
        _ago,
    ),
    _rule("月", rf"(?<![\d年/.一二三四五六七八九十几个])(?!\d{{3}}){_MONTH_DAY}(?![饼亮光])", _month_day),
)
