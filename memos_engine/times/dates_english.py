"""English time expressions: the rules that `dates` runs. Pure; knows no other language.

Vague words (`the other day`, `a few days ago`, `recently`) and habits (`on Mondays`, `every summer`)
name no time and are left alone. A bare clock time (`at 9am`) does so only beside a day.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date, datetime

from memos_engine.times import windows
from memos_engine.times.phrases import Rule, sentence
from memos_engine.times.windows import Tense, Unit, Window

_MONTH_WORDS = "january february march april may june july august september october november december".split()
_DAY_WORDS = "monday tuesday wednesday thursday friday saturday sunday".split()
_NUMBER_WORDS = "one two three four five six seven eight nine ten eleven twelve".split()
MONTHS = {word[:3]: number for number, word in enumerate(_MONTH_WORDS, 1)}
DAYS = {word[:3]: number for number, word in enumerate(_DAY_WORDS)}
NUMBERS = {word: number for number, word in enumerate(_NUMBER_WORDS, 1)} | {"a": 1, "an": 1}

# `may`, `march`, `sun`, `sat` are words too: months and short days must be capitalised.
_MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?"
    r"|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?|JANUARY|FEBRUARY|MARCH|APRIL|JUNE|JULY|AUGUST|SEPTEMBER"
    r"|OCTOBER|NOVEMBER|DECEMBER)\b(?:\.(?=\s\d))?"
)
_SURE_MONTH = (
    r"(?:january|february|april|june|july|august|september|october|november|december|(?-i:March|May))\b"
)
_SHORT_DAY = r"(?-i:Mon|Tues?|Wed|Thu(?:rs?)?|Fri|Sat|Sun)"
_WEEKDAY = rf"(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day|{_SHORT_DAY})\b"
_SEASON = r"(?:spring|summer|autumn|fall|winter)"
_COUNT = r"\d{1,3}|an?|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:a )?couple(?: of)?"
_UNIT = r"(?:hour|day|weekend|week|month|year)"
_DAY_NUMBER = r"(0?[1-9]|[12]\d|3[01])"
_YEAR = r"((?:19|20)\d\d)(?![\d%]|[.,:]\d)"
_NO_MEASURE = (
    r"(?!\s*(?:%|people|guests|men|women|kids|times|miles|km|kilometers|meters|steps|pages|words|dollars|euros"
    r"|hours|minutes|days|weeks|months|years|units|or\b|more\b|of us\b))"
)

_AHEAD = re.compile(
    r"\b(?:will|won't|shall|gonna|wanna|going to|about to|plan(?:s|ning)?|hop(?:e|ing)|upcoming|coming up|next"
    r"|(?:must|should|has to|have to|needs? to|to) be"
    r"|tomorrow|due|starts?|begins|let's|looking forward|can't wait|(?:is|are|am) (?:in|on)|see you)\b"
    r"|(?:'|’)ll\b|\b(?:i(?:'|’)m|i am|we(?:'|’)re|we are|is|are) (?:\w+ )?(?!during|something)\w{2,12}ing\b",
    re.IGNORECASE,
)
_BACK = re.compile(
    r"\b(?:was|were|went|had|did|didn't|got|came|saw|met|took|made|bought|said|told|left|found|gave|began|won"
    r"|lost|spent|ate|ran|wrote|been|started|\w{3,12}ed)\b",
    re.IGNORECASE,
)


def tense(match: re.Match[str]) -> Tense:
    """Return which way the sentence around a match looks."""
    around = sentence(match)
    if _AHEAD.search(around):
        return 1
    return -1 if _BACK.search(around) else 0


def _month_number(word: str) -> int:
    return MONTHS[word[:3].lower()]


def _season_name(word: str) -> str:
    return "autumn" if word.lower() == "fall" else word.lower()


def _count(words: str) -> int:
    if words.isdecimal():
        return int(words)
    return NUMBERS.get(words.lower(), 2)  # what is left is a couple


_FIGURE_BEFORE = re.compile(r"\blike\s+(?:it\s+was\s+)?(?:just\s+|only\s+)?$", re.IGNORECASE)


def _named_day(match: re.Match[str], at: datetime) -> Window | None:
    if _FIGURE_BEFORE.search(match.string[max(0, match.start() - 24) : match.start()]):
        return None  # it feels like yesterday, and was not
    offsets = {
        "the day before yesterday": -2,
        "yesterday": -1,
        "today": 0,
        "tomorrow": 1,
        "the day after tomorrow": 2,
    }
    return windows.day(at, offsets[" ".join(match[0].lower().split())])


def _named_part(match: re.Match[str], at: datetime) -> Window | None:
    words = match[0].lower().split()
    if words == ["tonight"] or words[0] == "this":
        return windows.part(windows.day(at), words[-1] if words[0] == "this" else "night")
    return windows.part(windows.day(at, -1), "night")  # last night


_VAGUE_BEFORE = re.compile(
    r"(?:more than|less than|over|under|at least|up to|within|half)\s+$", re.IGNORECASE
)


def _bounded_only(match: re.Match[str]) -> bool:
    """Tell whether the words before say that the count is a bound, such as `over 10 years ago`."""
    return bool(_VAGUE_BEFORE.search(match.string[max(0, match.start() - 12) : match.start()]))


def _ago(match: re.Match[str], at: datetime) -> Window | None:
    if _bounded_only(match):
        return None
    return windows.units(at, _unit(match["unit"]), -_count(match["count"]))


def _in_future(match: re.Match[str], at: datetime) -> Window | None:
    certain = match["sure"] is not None
    if not certain and (match["in"] is None or tense(match) < 1 or _BACK.search(sentence(match))):
        return None  # `I read it in two days` tells how long, not when
    if _bounded_only(match):
        return None
    return windows.units(at, _unit(match["unit"]), _count(match["count"]))


def _unit(word: str) -> Unit:
    units: dict[str, Unit] = {
        "hour": "hour",
        "day": "day",
        "weekend": "weekend",
        "week": "week",
        "month": "month",
        "year": "year",
    }
    return units[word.lower()]


_DIRECTIONS: dict[str, Tense] = {
    "last": -1,
    "past": -1,
    "previous": -1,
    "next": 1,
    "coming": 1,
    "this": 0,
}


def _relative(match: re.Match[str], at: datetime) -> Window | None:
    """Understand last, this or next with a unit, a weekday, a month or a season."""
    direction = _DIRECTIONS[match["which"].split()[-1].lower()]
    word = match["what"].lower().rstrip(".")
    if word in {"week", "month", "year"}:
        if match["article"]:
            return None  # `the next day` and `the last year of school` count from elsewhere
        return windows.units(at, _unit(word), direction)
    if word == "weekend":
        return _weekend(match, at, direction)
    if word in windows.SEASON_STARTS or word == "fall":
        return _season(_season_name(word), at, direction)
    if word[:3] in DAYS:
        return windows.weekday(at, DAYS[word[:3]], direction or min(tense(match), 0))
    return _month(_month_number(word), at, direction)


def _weekend(match: re.Match[str], at: datetime, direction: Tense) -> Window:
    early = at.weekday() < 3  # `this weekend` of Monday to Wednesday may be the one just over
    if direction == 0 and early and tense(match) < 0:
        return windows.weekend(at, -1)
    return windows.weekend(at, direction)


def _season(name: str, at: datetime, direction: Tense) -> Window:
    year = at.year - (name == "winter" and at.month < 3)
    current = windows.season(name, year, at.tzinfo)
    if direction == 0 or (direction < 0 and current.end <= at) or (direction > 0 and current.start > at):
        return current
    return windows.season(name, year + direction, at.tzinfo)


def _month(number: int, at: datetime, direction: Tense) -> Window:
    if direction < 0:
        year = at.year - (number >= at.month)
    elif direction > 0:
        year = at.year + (number <= at.month)
    else:
        year = at.year
    return windows.in_month(year, number, at.tzinfo)


def _before_last(match: re.Match[str], at: datetime) -> Window:
    return windows.units(at, _unit(match["unit"]), -2 if match["way"].lower() == "before last" else 2)


def _on_weekday(match: re.Match[str], at: datetime) -> Window:
    direction = tense(match)
    window = windows.weekday(at, DAYS[match["weekday"][:3].lower()], direction or -1)
    return replace(window, guessed=direction == 0)


def _iso(match: re.Match[str], at: datetime) -> Window:
    return windows.on_date(date(int(match[1]), int(match[2]), int(match[3])), at.tzinfo)


def _slashes(match: re.Match[str], at: datetime) -> Window | None:
    """Understand 05/18/2023 and 18/05/2023, and leave 05/08/2023 alone: it is May or August."""
    first, second, year = int(match[1]), int(match[2]), int(match[3])
    if first <= 12 and second <= 12 and first != second:
        return None
    month, number = (first, second) if first <= 12 else (second, first)
    return windows.on_date(date(year, month, number), at.tzinfo)


def _month_day(match: re.Match[str], at: datetime) -> Window | None:
    month = _month_number(match["month"])
    number = int(match["day"])
    until = int(match["until"]) if match.groupdict().get("until") else number
    year = match["year"]
    direction = tense(match)
    first = date(int(year), month, number) if year else _nearest(month, number, at, direction)
    window = windows.on_date(first, at.tzinfo, max(1, until - number + 1))
    return replace(window, guessed=not year and direction == 0)


def _nearest(month: int, number: int, at: datetime, direction: Tense) -> date:
    """Return the nearest such date, on one side of the day where the sentence looks one way."""
    today = at.date()
    dates = []
    for year in range(max(1, at.year - 4), at.year + 5):  # 29 February comes every fourth year
        try:
            dates.append(date(year, month, number))
        except ValueError:
            continue
    sided = [day for day in dates if (day - today).days * direction >= 0]
    return min(sided, key=lambda day: abs(day - today))


def _month_year(match: re.Match[str], at: datetime) -> Window:
    return windows.in_month(int(match["year"]), _month_number(match["month"]), at.tzinfo)


def _in_month(match: re.Match[str], at: datetime) -> Window:
    number = _month_number(match["month"])
    direction: Tense = 1 if match["cue"].lower() == "by" else tense(match)
    if number == at.month:
        return windows.month(at)
    return replace(_month(number, at, direction or -1), guessed=direction == 0)


def _in_year(match: re.Match[str], at: datetime) -> Window:
    return windows.in_year(int(match["year"]), at.tzinfo)


def _season_year(match: re.Match[str], at: datetime) -> Window:
    return windows.season(_season_name(match["season"]), int(match["year"]), at.tzinfo)


def _rule(triggers: str, pattern: str, meaning: object, *, cased: bool = False) -> Rule:
    assert callable(meaning)
    return Rule(tuple(triggers.split()), re.compile(pattern, re.NOFLAG if cased else re.IGNORECASE), meaning)


_MONTH_TRIGGERS = (
    "january jan february feb march mar april apr may june jun july jul august aug september sept sep"
    " october oct november nov december dec"
)
_DAY_TRIGGERS = (
    "monday mon tuesday tues tue wednesday wed thursday thurs thur thu friday fri saturday sat sunday sun"
)
RULES = (
    _rule(
        "yesterday today tomorrow",
        r"\b(?:the\s+day\s+before\s+yesterday|the\s+day\s+after\s+tomorrow|yesterday|today|tomorrow)\b",
        _named_day,
    ),
    _rule(
        "tonight night this",
        r"\b(?:tonight|last\s+night|this\s+(?:morning|afternoon|evening))\b",
        _named_part,
    ),
    _rule("ago back", rf"\b(?P<count>{_COUNT})\s+(?P<unit>{_UNIT})s?\s+(?:ago|back)\b", _ago),
    _rule(
        "hour day week month year",
        rf"\b(?P<in>in\s+)?(?P<count>{_COUNT})\s+(?P<unit>{_UNIT})s?\b(?P<sure>\s+from\s+(?:now|today)|['’]\s+time)?"
        rf"(?!\s+(?:or|and|old|of|each|per|a)\b)",
        _in_future,
    ),
    _rule(
        "last past previous next coming this",
        rf"\b(?P<article>(?:the|my|our|your|his|her|their)\s+)?(?P<which>this\s+(?:past|coming)|last|past|previous|next|coming|this)\s+"
        rf"(?P<what>weekend|week|month|year|{_WEEKDAY}|{_SEASON}|{_SURE_MONTH}|{_SHORT_DAY})\b(?!-)",
        _relative,
    ),
    _rule(
        "before after",
        rf"\bthe\s+(?P<unit>{_UNIT})\s+(?P<way>before\s+last|after\s+next)\b",
        _before_last,
    ),
    _rule(
        _DAY_TRIGGERS,
        rf"\bon\s+(?P<weekday>{_WEEKDAY})(?!\s+(?:mornings|afternoons|evenings|nights)\b)",
        _on_weekday,
    ),
    _rule("-", r"(?<![\d-])((?:19|20)\d\d)-(\d\d?)-(\d\d?)(?![\d-])", _iso),
    _rule("/", r"(?<![\d/])((?:19|20)\d\d)/(\d\d?)/(\d\d?)(?![\d/])", _iso),
    _rule("/", r"(?<![\d/])(\d\d?)/(\d\d?)/((?:19|20)\d\d)(?![\d/])", _slashes),
    _rule(
        _MONTH_TRIGGERS,
        rf"\b(?P<month>{_MONTH})\s+(?:the\s+)?(?P<day>{_DAY_NUMBER})(?:st|nd|rd|th)?\b(?!['’]s|:\d|[.,]\d|%)"
        rf"(?:\s?(?:-|–|to)\s?(?P<until>{_DAY_NUMBER})(?:st|nd|rd|th)?\b(?!-))?(?:,?\s+(?P<year>{_YEAR}))?{_NO_MEASURE}",
        _month_day,
        cased=True,
    ),
    _rule(
        _MONTH_TRIGGERS,
        rf"(?<![\d.,:])\b(?:the\s+)?(?P<day>{_DAY_NUMBER})(?:st|nd|rd|th)?\s+(?:of\s+)?(?P<month>{_MONTH})"
        rf"(?:,?\s+(?P<year>{_YEAR}))?",
        _month_day,
        cased=True,
    ),
    _rule(
        _MONTH_TRIGGERS,
        rf"(?<!\d )\b(?P<month>{_MONTH}),?\s+(?:of\s+)?(?P<year>{_YEAR})",
        _month_year,
        cased=True,
    ),
    _rule(
        _MONTH_TRIGGERS,
        rf"\b(?P<cue>[Ii]n|[Ss]ince|[Dd]uring|[Uu]ntil|[Bb]y|[Ee]arly|[Ll]ate|[Mm]id)[\s-](?P<month>{_MONTH})"
        rf"(?!\s*\d|\s+(?-i:[A-Z][a-z]))",
        _in_month,
        cased=True,
    ),
    _rule(
        "19 20",
        rf"\b(?:in|since|until|early|late|mid|back\s+in)[\s-](?P<year>{_YEAR})\b(?![-/'’]|s\b){_NO_MEASURE}",
        _in_year,
    ),
    _rule("19 20", rf"\b(?P<season>{_SEASON})\s+(?:of\s+)?(?P<year>{_YEAR})", _season_year),
)
