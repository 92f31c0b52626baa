"""What one sentence states about its speaker: a request to remember, a preference, a fact. English rules. Pure.

`statements_chinese` is its twin. A rule fires only where the speaker speaks of themselves, in earnest, now:
not in questions, conditions, reports of others' words, nor in praise of what somebody just said or showed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

DraftKind: TypeAlias = Literal["fact", "preference", "note"]

ASKED, STATED, ORDERED = 0.95, 0.8, 0.6
"""Confidence of what was to be remembered, of what was said in passing, and of a task."""


@dataclass(frozen=True, slots=True)
class Statement:
    """The part of a sentence that is worth an item of its own."""

    kind: DraftKind
    start: int
    """Inclusive, in characters of the sentence."""
    end: int
    """Exclusive."""
    confidence: float


_LEAD = (
    r"(?:[-*•]\s+)?"
    r"(?:(?:hey|hi|hello|ok|okay|oh|also|and|so|btw|by the way|well|now|great|thanks|thank you|yes|yeah|sure"
    r"|just|but|one more thing|first|finally)(?:[,!:]?\s+(?-i:[A-Z]\w+))?\s*[,!:-]?\s+){0,3}"
)
_REQUEST = re.compile(
    rf"{_LEAD}(?P<polite>(?:please|pls|kindly|(?:can|could|would|will)\s+you(?:\s+please)?|i\s+(?:want|need)\s+you\s+to"
    rf"|i['’]d\s+like\s+you\s+to)\s+)?"
    rf"(?P<verb>remember|memori[sz]e|keep\s+in\s+mind|bear\s+in\s+mind|(?:make|take)\s+(?:a\s+)?note|note"
    r"|don['’]?t\s+forget"
    rf"|do\s+not\s+forget)\b(?P<link>,?\s+that\b|\s+(?:this|the\s+following)\s*:|\s*:|,)?\s*(?P<content>\S.*)",
    re.IGNORECASE | re.DOTALL,
)
_SHARED_PAST = re.compile(
    r"(?:when|how|the\s+(?:time|day|night|first)|(?:that|this|those|these|it)\b(?!\s+(?:i|my|we|our)\b)|what|why|who|if"
    r"|where|me\b|us\b|you\b|your\b|him|her|them|there\b|i(?:['’]m|\s+am)\s+(?:always\s+)?(?:here|there|proud|with|rooting))",
    re.IGNORECASE,
)
_OWN = re.compile(r"\b(?:i|i['’]\w+|my|me|mine|we|our|us|myself)\b", re.IGNORECASE)
_CLAUSE = re.compile(r"\b(?:i|we|is|are|was|were|am|has|have|had|=)\b|['’](?:s|m|re|ve)\b|\d", re.IGNORECASE)
_DATED = re.compile(
    r"\d|\b(?:tomorrow|tonight|next|today"
    r"|monday|tuesday|wednesday|thursday|friday|saturday|sunday)\b",
    re.IGNORECASE,
)

_TASK = re.compile(r"(?:not\s+)?to\s", re.IGNORECASE)

_ADVERB = (
    r"(?:really|absolutely|also|just|still|always|usually|generally|truly|totally|do|definitely|personally|especially"
    r"|particularly|actually|simply|secretly|honestly|kinda|kind\s+of|only|mostly|much|never|no\s+longer|currently|now"
    r"|recently|don['’]?t|do\s+not|so|very|quite|pretty|not|both)"
)
_I = (
    r"(?:^|[,;—–-]\s+"
    r"|\b(?:and|but|so|because|since|also|plus|yes|yeah|honestly|personally|actually|well|oh|though)\s+)i"
)
_AM = rf"{_I}(?:['’]?m|\s+am)(?:\s+{_ADVERB}){{0,3}}"
_DO = rf"{_I}(?:\s+{_ADVERB}){{0,4}}"
_NOT_OWN_OBJECT = (
    r"(?!\s+(?:it|its|it['’]s|that|this|these|those|you|your|yours|you['’]\w+|them|him|her|his|how|what|when|where|one|both"
    r"|all\s+(?:of|the)|their|the\s+(?:way|idea|sound|thought|look|vibes?|colou?rs?|design|details?|(?:[\w-]+\s+){0,4}theme|\w+\s+of\s+(?:it|this|that|these|those))|to\b(?!\s+\w)|to\s+(?:think|say|believe|hear|know|see\s+(?:you|your|that|how))"
    r"|hearing|seeing\s+(?:you|your|how|that|these)|so\s+much|too)\b)(?=\s+\w)"
)
_PREFERENCE = re.compile(
    rf"{_DO}\s+(?:prefer|like|love|hate|dislike|enjoy|adore|loathe|detest|despise|(?:can['’]?t|cannot)\s+(?:stand|bear))\b"
    rf"{_NOT_OWN_OBJECT}"
    rf"|{_AM}\s+(?:allergic\s+to|fond\s+of|into|crazy\s+about|passionate\s+about|obsessed\s+with"
    rf"|(?:an?\s+)?(?:(?:big|huge|massive|great)\s+)?fan\s+of)\b{_NOT_OWN_OBJECT}"
    rf"|{_AM}\s+(?:an?\s+)?(?:vegetarian|vegan|pescatarian|lactose[\s-]intolerant|gluten[\s-]intolerant)\b"
    r"|(?:^|[,;]\s+|\b(?:and|but)\s+)my\s+(?:(?:absolute|all[\s-]time|personal|own|current)\s+)?favou?rite\s+"
    r"(?:[\w'’-]+\s+){0,5}?(?:is|are)\b(?!\s+(?:it|that|this|these|those|yours?)\b)(?=\s+\w)"
    r"|^(?!(?:it|this|that|these|those|they|he|she|which|what|here|one)\b)(?:[\w'’-]+\s+){1,4}(?:is|are)\s+my\s+"
    r"(?:(?:absolute|all[\s-]time|personal)\s+)?favou?rites?\b",
    re.IGNORECASE,
)

_FAMILY = (
    r"(?:mother|mom|mum|father|dad|sister|brother|wife|husband|partner|girlfriend|boyfriend|fiancée?|son|daughter"
    r"|grandmother|grandfather|dog|cat|puppy|kitten|pet|parrot|rabbit|hamster)"
)
_TRADE = (
    r"(?:nurse|teacher|doctor|engineer|developer|programmer|student|lawyer|chef|cook|baker|writer|author|artist|painter"
    r"|musician|designer|architect|accountant|scientist|researcher|professor|manager|consultant|dentist|pharmacist|farmer"
    r"|driver|pilot|electrician|plumber|carpenter|mechanic|journalist|photographer|dancer|actor|actress|librarian|waiter"
    r"|waitress|barista|firefighter|veterinarian|vet|therapist|psychologist|counselor|banker|analyst|translator|soldier"
    r"|veteran|entrepreneur|freelancer|widow|widower|twin|(?:single\s+)?(?:mom|mum|dad|mother|father|parent)|grandmother"
    r"|grandfather|buddhist|christian|muslim|jew|hindu|catholic|atheist|diabetic)"
)
_PLACE = r"(?=\s+(?:(?-i:[A-Z])|an?\s|the\s|my\s|our\s|[a-z]{3,}[.!,]?$))"
_FACT = re.compile(
    r"(?:^|[,;]\s+|\b(?:and|but)\s+)my\s+(?:(?:full|first|last|middle|nick)\s*)?name(?:['’]s|\s+is)\s+\w"
    r"|(?:^|[,;]\s+|\b(?:and|but)\s+)my\s+(?:birthday|anniversary"
    r"|(?:phone\s+|cell\s+|mobile\s+)?number|e-?mail(?:\s+address)?"
    r"|(?:home\s+)?address|job|occupation|profession|hometown|nationality|native\s+language|mother\s+tongue|blood\s+type"
    rf"|shoe\s+size|{_FAMILY}['’]s\s+(?:name|birthday))(?:\s+is|['’]s)\s+\w"
    rf"|(?:^|[,;]\s+|\b(?:and|but)\s+)my\s+{_FAMILY}(?:\s+is|['’]s)\s+(?:called|named)\s+\w"
    rf"|{_DO}\s+live\s+(?:in|near|at|on|with|alone)\b"
    rf"(?!\s+(?:fear|hope|peace|harmony|it|that|this|the\s+(?:moment|past|present|now))\b)"
    rf"|{_AM}\s+living\s+(?:in|near|with)\b(?!\s+(?:fear|hope|peace|the\s+(?:moment|past|dream))\b)"
    rf"|{_DO}\s+(?:moved|relocated|immigrated|emigrated)\s+(?:back\s+)?(?:to|from)\b{_PLACE}"
    rf"|{_DO}\s+work\s+(?:at|as|for|in)\b(?!\s+(?:it|that|this|these|those|fun|you|progress)\b)(?=\s+\w)"
    rf"|{_DO}\s+(?:was\s+born|grew\s+up)\s+(?:in|on|near)\b"
    rf"|{_AM}\s+(?:originally\s+)?from\s+(?-i:[A-Z])"
    rf"|{_AM}\s+an?\s+(?:[\w-]+\s+){{0,3}}?{_TRADE}\b(?!\s+(?:at\s+heart|of)\b)"
    rf"|{_AM}\s+\d{{1,3}}\s+years\s+old\b"
    rf"|{_AM}\s+(?:married|divorced|engaged|pregnant|retired|left-handed|colou?r[\s-]?blind|diabetic)\b"
    rf"|{_DO}\s+have\s+(?:an?|one|two|three|four|five|\d+)\s+(?:[\w-]+\s+){{0,2}}?(?:dogs?|cats?|pets?|sons?|daughters?|kids"
    r"|children|brothers?|sisters?|siblings)\b",
    re.IGNORECASE,
)
_UNREAL_BEFORE = re.compile(
    r"\b(?:if|unless|whether|suppos(?:e|ing)|imagin(?:e|ing)|pretend\w*|assum(?:e|ing)|wish|in\s+case|says?|said|tells?|told"
    r"|claim(?:s|ed)?|asked|replied|wrote|quote|lyrics?|not\s+that|once|when\s+i\s+was|used\s+to)\b"
    r"|(?:^|\n)\s*[\w ]{1,20}:\s",
    re.IGNORECASE,
)
_REPORTED = re.compile(
    r"\b(?:he|she|they|[a-z]+)\s+(?:said|says|replied|wrote|sang|joked)\b|\b(?:jk|just\s+kidding)\b",
    re.IGNORECASE,
)
_TO_YOU = re.compile(r"\byou(?:r|rs|['’]\w+)?\b", re.IGNORECASE)
_CONDITION = re.compile(r"\b(?:if\s+i|would(?:n['’]t)?|if\s+only|unless)\b", re.IGNORECASE)


_CLAUSES = re.compile(r"(?:[,;]|,?\s+(?:and|but))\s+(?=(?:i|my)\b)", re.IGNORECASE)
_SUBJECT = re.compile(r"(?:i|my)\b", re.IGNORECASE)
_REQUEST_WORDS = ("remember", "memori", "mind", "note", "forget")
_PREFERENCE_WORDS = tuple(
    "prefer like love hate enjoy adore loathe detest despise stand bear allerg fond into crazy passion obsess fan vega"
    " pescat intoleran favo".split()
)
_FACT_WORDS = (
    *"name birthday anniversary number mail address job occupation profession hometown nationality native tongue blood"
    " shoe live living moved relocat migrat work born grew from old married divorced engaged pregnant retired"
    " left-handed blind diabetic have called".split(),
    "i'm a",
    "i’m a",
    "im a",
    "i am a",
)


def english(sentence: str) -> tuple[Statement, ...]:
    """Return what a sentence states about its speaker, in order; nothing where that is not certain."""
    lowered = sentence.lower()
    if any(word in lowered for word in _REQUEST_WORDS):
        request = _request(sentence)
        if request is not None:
            return (request,)
    return tuple(_own(sentence, lowered))


def clauses(sentence: str, border: re.Pattern[str], subject: re.Pattern[str]) -> list[tuple[int, int]]:
    """Return the spans of a sentence's clauses if each has the speaker for its subject, else of it all."""
    starts = [0, *(match.end() for match in border.finditer(sentence))]
    stops = [*(match.start() for match in border.finditer(sentence)), len(sentence)]
    if len(starts) == 1 or not all(subject.match(sentence, start) for start in starts):
        return [(0, len(sentence))]
    return list(zip(starts, stops, strict=True))


_POINTS_BACK = re.compile(
    r"\S+(?:\s+forget)?\s+(?:that|this|it)\s*(?:$|[.,;!?]|(?:and|for|please|too)\b)", re.IGNORECASE
)
"""`Remember that.`: what is meant stands in the sentences before, so a memory of these words says nothing."""


def _request(sentence: str) -> Statement | None:
    match = _REQUEST.match(sentence)
    if match is None:
        return None
    end = len(sentence.rstrip("?"))
    if end < len(sentence) and not _asks(match["polite"]):
        return None
    content = sentence[match.start("content") : end]
    if not _asks_to_keep(match, content):
        return None
    if _POINTS_BACK.match(sentence, match.start("verb")):
        return None
    if _TASK.match(content) or not _CLAUSE.search(content):
        return Statement("note", match.start("verb"), end, ORDERED)
    kind: DraftKind = "preference" if _PREFERENCE.search(content) else "fact"
    return Statement(kind, match.start("content"), end, ASKED)


def _asks_to_keep(match: re.Match[str], content: str) -> bool:
    """Tell a request from recalling (`remember when we met`) and from advice (`remember that life is short`)."""
    polite, link = match["polite"], match["link"] or ""
    own = _OWN.search(content) is not None
    if _TASK.match(content):
        return polite is not None or own or _DATED.search(content) is not None
    if _TO_YOU.match(content) or (_SHARED_PAST.match(content) and not (polite and link)):
        return False
    return polite is not None or ":" in link or own or _DATED.search(content) is not None


def _asks(polite: str | None) -> bool:
    return polite is not None and polite.lower().startswith(("can", "could", "would", "will"))


def _own(sentence: str, lowered: str) -> Iterator[Statement]:
    """Yield the preferences and facts that plain statements tell."""
    prefers = any(word in lowered for word in _PREFERENCE_WORDS)
    tells = any(word in lowered for word in _FACT_WORDS)
    if not (prefers or tells) or sentence.rstrip("\"”')").endswith("?"):
        return
    if _REPORTED.search(sentence) or _CONDITION.search(sentence):
        return
    for start, end in clauses(sentence, _CLAUSES, _SUBJECT):
        clause = sentence[start:end]
        liking = _PREFERENCE.search(clause) if prefers else None
        match = liking or (_FACT.search(clause) if tells else None)
        if match is None or _UNREAL_BEFORE.search(sentence, 0, start + match.end()):
            continue
        if liking and _TO_YOU.search(clause, liking.start()):
            continue  # praise: `I love the colours of your picture`
        yield Statement("preference" if liking else "fact", start, end, STATED)
