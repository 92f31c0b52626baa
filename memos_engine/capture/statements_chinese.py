"""What one Chinese sentence states about its speaker; the twin of `statements`. Pure.

One Japanese request is here too: 覚えておいて.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from memos_engine.capture.statements import ASKED, ORDERED, STATED, DraftKind, Statement, clauses

_REQUEST = re.compile(
    r"(?:[^，。,]{0,6}[，,]\s*)?(?P<polite>请你?|請你?|帮我|幫我|麻烦你?|麻煩你?|你要)?(?:帮我|幫我|一定要|要)?"
    r"(?P<verb>记住|記住|记得|記得|记一下|記一下|记下来?|記下來?|别忘了?|別忘了?|不要忘记|不要忘記|不要忘了)"
    r"(?P<link>[，,:：\s]*)(?P<content>\S.*)",
    re.DOTALL,
)
_RECALLS = re.compile(r"(?:当时|當時|那|以前|小时候|小時候|上次|我们|我們|他|她|了|过)")
_OWN = re.compile(r"[我俺咱]")
_DATED = re.compile(r"\d|[明后後]天|[周点點]|月")
_STATES = re.compile(r"[是有叫住在对對爱愛]|喜欢|喜歡|讨厌|討厭|过敏|過敏|\d")
_JAPANESE = re.compile(r"(?:覚えて|おぼえて)(?:おいて|ください|いて)")

_START = r"(?:^|[，,；;、\s]|但是?|而且|因为|因為|所以|其实|其實|另外)我"
_ADVERB = (
    r"(?:很|最|特别|特別|非常|真的|真|也|一直|比较|比較|其实|其實|都|更|还是|還是|现在|現在"
    r"|目前|平时|平時|从来|從來|超|挺|不太|不|太|十分|蛮|只|就){0,3}"
)
_OTHERS = r"(?![你您这這那它他她过過了上]|吗|嗎|什么|什麼)(?=[^\s，。！？,.!?])"
_PREFERENCE = re.compile(
    rf"{_START}{_ADVERB}(?:喜欢|喜歡|喜爱|讨厌|討厭|热爱|熱愛|偏爱|偏愛|受不了|爱(?=[吃喝看听玩运读])"
    rf"|愛(?=[吃喝看聽玩運讀])|反感|吃素){_OTHERS}"
    rf"|{_START}{_ADVERB}(?:不吃|不喝|吃素)(?=.|$)"
    rf"|{_START}{_ADVERB}(?:对|對)[^，。！？]{{1,20}}?(?:过敏|過敏|感兴趣|感興趣)"
    r"|(?:^|[，,；;\s])我(?:个人|個人)?最(?:喜欢|喜歡|爱|愛)的[^，。！？]{0,16}?是(?![你您这這那它])"
)
_FACT = re.compile(
    r"(?:^|[，,；;！!\s])我(?:的名字)?叫(?!你|他|她|它|人|不|了|做|醒|上|来|來|车|車|外卖)(?=[^\s，。]{2,12}(?:[，,。！!\s]|$))"
    r"|(?:^|[，,；;\s])我的(?:名字|生日|手机号?|手機號?|电话号?码?|電話號?碼?|邮箱|郵箱|地址|职业|職業|家乡|家鄉)(?:是|叫|在)"
    rf"|{_START}{_ADVERB}(?:住在|住(?=[^，。]{{1,8}}[市区區路楼樓])|来自|來自|出生于|出生在)(?![你这這那])"
    rf"|{_START}(?:刚|剛|已经|已經|去年|今年|上个月|上周|[^，。！？我]{{0,8}}?)?搬(?:到|去)了?(?![你这這那])"
    rf"|{_START}{_ADVERB}在[^，。！？]{{1,20}}?(?:工作|上班|上学|上學|读书|讀書)(?!了?[吗嗎])"
    rf"|{_START}{_ADVERB}是(?:一名|一位|一个|一個|个|個)?[^，。！？的]{{0,8}}?(?:老师|老師|医生|醫生|护士|護士"
    r"|工程师|工程師|程序员|程序員|学生|學生|律师|律師"
    r"|厨师|廚師|司机|司機|设计师|設計師|会计|會計|作家|画家|畫家|教授|记者|記者|警察|军人|軍人|素食者)"
    rf"|{_START}{_ADVERB}今年?[\d一二三四五六七八九十]{{1,4}}[岁歲]"
)
_UNREAL = re.compile(
    r"如果|要是|假如|假设|假設|倘若|的话[，,]|的話[，,]|是不是|[他她][^，。]{0,6}[说說]|[说說][：:，,]"
    r"|以为|以為|曾经|曾經|以前|小时候|小時候|开玩笑|開玩笑"
)
_QUESTION = re.compile(r"[?？]\s*[\"”」』]?$|[吗嗎呢][。.!！]?$")


_CLAUSES = re.compile(r"[，,；;]\s*(?:但是?|而且|另外|也|还有)?(?=我)")
_SUBJECT = re.compile(r"我")
_TRIGGERS = re.compile(r"[我记記忘覚お]")


def chinese(sentence: str) -> tuple[Statement, ...]:
    """Return what a sentence states about its speaker, in order; nothing where that is not certain."""
    if not _TRIGGERS.search(sentence) or _QUESTION.search(sentence):
        return ()
    request = _request(sentence)
    return (request,) if request is not None else tuple(_own(sentence))


def _request(sentence: str) -> Statement | None:
    if _JAPANESE.search(sentence):
        return Statement("fact", 0, len(sentence), ORDERED)
    match = _REQUEST.match(sentence)
    if match is None:
        return None
    content = match["content"]
    if not match["polite"] and match["verb"] in {"记得", "記得"} and _RECALLS.match(content):
        return None  # 记得那天 recalls, and asks nobody to keep anything
    own = _OWN.search(content)
    if not (match["polite"] or own or _DATED.search(content) or match["link"].strip()):
        return None
    if content.startswith(("你", "您")) or not _STATES.search(content):
        return (
            Statement("note", match.start("verb"), len(sentence), ORDERED) if match["polite"] or own else None
        )
    if not own and not re.search(r"[是:：为為]|\d", content):
        return Statement("note", match.start("verb"), len(sentence), ORDERED)
    kind: DraftKind = "preference" if _PREFERENCE.search(content) else "fact"
    return Statement(kind, match.start("content"), len(sentence), ASKED)


def _own(sentence: str) -> Iterator[Statement]:
    """Yield the preferences and facts that plain statements tell."""
    if _UNREAL.search(sentence):
        return
    for start, end in clauses(sentence, _CLAUSES, _SUBJECT):
        clause = sentence[start:end]
        if _PREFERENCE.search(clause):
            yield Statement("preference", start, end, STATED)
        elif _FACT.search(clause):
            yield Statement("fact", start, end, STATED)
