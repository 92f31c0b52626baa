"""Names of people in English text, found by the words around them. Pure; knows no other language.

A capital alone makes no name: games, brands and places have one too. So a name is taken only after or
before words that people have about them (`my sister Elin`, `had lunch with Sam`, `Sam said`), pets included.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator

_UPPER, _LOWER = "A-ZÀ-ÖØ-ÞĆČĐŁŚŠŽ", "a-zß-öø-ÿāăąćčđēęěğıłńňőřśşšťůűžź"
_WORD = rf"(?:[{_UPPER}]['’])?[{_UPPER}][{_LOWER}]+(?:-[{_UPPER}][{_LOWER}]+)?(?![\w])"
NAME = rf"{_WORD}(?: {_WORD}){{0,2}}"
"""One to three capitalised words."""

_CAPITALISED = re.compile(_WORD)

KIN = (
    "mother|mom|mum|mommy|mama|father|dad|daddy|papa|parents?|sister|brother|sis|bro|siblings?|wife|husband|spouse"
    "|fiancée?|partner|girlfriend|boyfriend|son|daughter|baby|kids?|child|children|twins?|aunt|auntie|uncle|cousin"
    "|niece|nephew|grandma|grandmother|grandpa|grandfather|granny|nana|friends?|bestie|buddy|buddies|pal|mate"
    "|roommate|flatmate|neighbou?r|boss|manager|supervisor|mentor|colleagues?|co-?workers?|teammates?|classmates?"
    "|teacher|professor|coach|trainer|therapist|doctor|dentist|lawyer|assistant|stepmother|stepfather"
    "|(?:mother|father|sister|brother|son|daughter)-in-law"
)
PETS = "dogs?|pups?|puppy|puppies|cats?|kittens?|kitty|pets?|horse|rabbit|bunny|hamster|parrot|guinea pig"
_SAYS = (
    "said|says|told|asked|asks|replied|answered|mentioned|suggested|texted|emailed|phoned|invited|thinks"
    "|insisted|promised|admitted|whispered|complained|hates|loves"
)
_MEETS = (
    r"met|told|asked|invited|texted|emailed|phoned|married|thanked|hugged|spoke\s+to|talked\s+to|talking\s+to"
)
_GREETS = r"hey|hi|hello|dear|thanks|thank\s+you|goodbye|bye|congrats|congratulations"
_SOCIAL = (
    r"(?:go|goes|going|gone|went|come|came|coming|talk(?:ed|ing)?|chat(?:ted|ting)?"
    r"|spoke|speak\w*|meet\w*|met|hang\w*|hung|liv(?:e|ed|ing)"
    r"|stay\w*|walk\w*|travel\w*|trip|part(?:y|ied)|date|dating|call|coffee|tea|breakfast|lunch|dinner"
    r"|brunch|drinks|catch(?:ing)? up|caught up|time|weekend|evening|married|engaged|broke up|argu\w*|fight|fought"
    r"|movies?|appointment|meeting|interview|friends|in love|moved in)"
)
_OWNED = (
    rf"(?:{KIN}|{PETS}|birthday|wedding|funeral|party|house|home|apartment|flat|room|graduation|phone|number|email"
    r"|address|name|surgery|baby shower|place)"
)

_NOT_NAMES = frozenset(
    """
    I A An The This That These Those It Its He She We They You My Your His Her Our Their Me Him Us Them Who What When
    Where Why How Which Someone Somebody Everyone Everybody Anyone Anybody Nobody None Nothing Something Everything
    People Others Both All Some Many Most Few One Two Three Another Each Either Neither And But Or So Yet Nor Then Also
    Doctors Bet Guess Think Know Told Met Saw Love Like Miss See Say Said Still Even Only Once Again Lately Recently
    If Because Since While As At In On To From For With By Of After Before Until During About Now Here There Today
    Tomorrow Yesterday Tonight Yes Yeah Yep Yup No Nope Nah Ok Okay Well Oh Ah Aw Wow Hey Hi Hello Thanks Thank Please
    Sorry Congrats Congratulations Cool Great Good Awesome Amazing Nice Sure Right True Absolutely Definitely Exactly
    Totally Really Maybe Perhaps Just Not Never Always Sometimes Do Does Did Don Have Has Had Is Are Was Were Be Been
    Can Could Will Would Should May Might Must Let Lets Keep Take Get Got Go Come Looking Looks Sounds Seems
    Glad Happy Hope
    Monday Tuesday Wednesday Thursday Friday Saturday Sunday Mon Tue Tues Wed Thu Thurs Fri Sat Sun January February
    March April June July August September October November December Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec
    Spring Summer Autumn Fall Winter Christmas Xmas Easter Thanksgiving Halloween Hanukkah Ramadan Diwali Valentine Year
    Mom Mum Mommy Mama Mother Dad Daddy Papa Father Sister Brother Grandma Grandpa Granny Nana Auntie Aunt Uncle Doctor
    Dr Mr Mrs Ms Miss Professor Prof Coach Teacher Boss Sir Madam God Jesus Lord Santa Internet Covid
    Africa America Asia Europe Australia Austria Belgium Brazil Britain Canada Chile China Cuba Denmark Egypt England
    Finland France Germany Greece Hawaii India Indonesia Iran Iraq Ireland Israel Italy Japan Kenya Korea Mexico Morocco
    Nepal Netherlands Norway Pakistan Peru Philippines Poland Portugal Russia Scotland Singapore Spain Sweden
    Switzerland Taiwan Thailand Turkey Ukraine Vietnam Wales California Florida Texas Boston Chicago London Paris Rome
    Berlin Madrid Tokyo Beijing Shanghai Toronto Vancouver Seattle Miami Amsterdam Dublin Lisbon Vienna New York Los Las
    San North South East West American Asian African European Australian Austrian Brazilian British Canadian Chinese
    Danish Dutch Egyptian English Finnish French German Greek Hawaiian Indian Irish Israeli Italian Japanese Korean
    Mexican Norwegian Polish Portuguese Russian Scottish Spanish Swedish Swiss Thai Turkish Vietnamese Latin Arabic
    Hebrew Hindi Christian Muslim Jewish Buddhist Hindu Catholic Google Apple Amazon Microsoft Facebook Instagram
    Twitter Netflix Youtube Spotify Uber Alexa Siri Claude Gemini Python Java Rust Docker Linux Windows Android Excel
    Word Zoom Slack Discord Nike Adidas Starbucks Nintendo Sony Tesla Disney
    """.split()
)

_POSSESSOR = r"\b(?i:my|his|her|our|your|their|a|the)\s+(?i:(?!and\b)[a-z][\w-]*\s+){0,2}?"
# `an event with Harry Potter trivia` is not about meeting him: what follows a name is no noun.
_NO_NOUN = (
    r"(?=\s*(?:[^\w\s]|$|(?:and|or|but|at|in|on|to|for|from|about|over|who|when|while|where|because|since|so|as|is"
    r"|was|before|after|during|until|today|yesterday|tomorrow|tonight|last|next|this|again|there|here)\b))"
)
_CUES = tuple(
    (tuple(triggers.split()), re.compile(pattern))
    for triggers, pattern in (
        (
            "my his her our your their a the",
            rf"{_POSSESSOR}(?i:{KIN}|{PETS}),?\s+(?:(?i:named|called|is|was)\s+)?(?P<name>{NAME})",
        ),
        ("mine ours his hers", rf"\b(?i:{KIN})\s+of\s+(?i:mine|ours|his|hers),?\s+(?P<name>{NAME})"),
        (
            "name call",
            rf"\b(?i:(?<!the )name(?:['’]s|\s+is|\s+was)|nicknamed|calls?\s+me)\s+(?P<name>{NAME})",
        ),
        (
            "named called",
            rf"\b(?i:{KIN}|{PETS}|guy|girl|man|woman|boy|lady|someone|person)\s+(?i:named|called)\s+(?P<name>{NAME})",
        ),
        (
            "mr mrs ms miss dr prof aunt uncle grandma grandpa",
            rf"\b(?:Mr|Mrs|Ms|Miss|Dr|Prof|Professor|Aunt|Auntie|Uncle|Grandma|Grandpa)\.?\s+(?P<name>{NAME})",
        ),
        ("with", rf"\b{_SOCIAL}\s+(?:[a-z]+\s+){{0,5}}?with\s+(?P<name>{NAME}){_NO_NOUN}"),
        (
            "met told asked invited texted emailed phoned married thanked hugged spoke talk",
            rf"\b(?i:{_MEETS})\s+(?P<name>{NAME})(?![’'])",
        ),
        (_SAYS.replace("|", " "), rf"\b(?P<name>{NAME})\s+(?i:{_SAYS})\b"),
        ("and", rf"\b(?P<name>{NAME})\s+and\s+(?:I|me)\b"),
        ("me", rf"\b(?i:me)\s+and\s+(?P<name>{NAME})"),
        ("'s ’s", rf"\b(?P<name>{NAME})['’]s\s+{_OWNED}\b"),
        (
            "hey hi hello dear thank bye congrat",
            rf"\b(?i:{_GREETS}),?\s+(?P<name>{NAME})(?=\s*(?:[!,.?]|$))",
        ),
    )
)
"""Lower-case strings, one of which must be in the text before the cue is tried, and the cue."""
_MORE = re.compile(rf"(?:,\s+{NAME}){{0,8}},?\s+(?:and|&)\s+{NAME}(?!['’]|\s+(?:is|was|are)\b)")


def names(text: str, known: Container[str] = ()) -> Iterator[tuple[int, str]]:
    """Yield names of people or pets and where each starts; a name may come more than once.

    Args:
        text: Any text.
        known: First names that are found by other means: a text with no others is not looked through.
    """
    if text.islower():
        return
    words = {word for word in _CAPITALISED.findall(text) if word not in _NOT_NAMES and word not in known}
    if not words:
        return
    lowered = text.lower()
    for triggers, cue in _CUES:
        if any(trigger in lowered for trigger in triggers):
            for match in cue.finditer(text):
                yield from _trimmed(match["name"], match.start("name"))
                yield from _joined(text, match.end("name"))


def _joined(text: str, end: int) -> Iterator[tuple[int, str]]:
    """Yield the names that stand in a row with one that was found: `Sam, Kate and Lee`."""
    more = _MORE.match(text, end)
    if more:
        for part in re.finditer(NAME, more[0]):
            yield from _trimmed(part[0], end + part.start())


def _trimmed(words: str, start: int) -> Iterator[tuple[int, str]]:
    """Yield the first run of words that are no everyday words, if there is one."""
    kept: list[str] = []
    for word in words.split(" "):
        if word not in _NOT_NAMES:
            kept.append(word)
        elif kept:
            break
        else:
            start += len(word) + 1
    if kept:
        yield start, " ".join(kept)
