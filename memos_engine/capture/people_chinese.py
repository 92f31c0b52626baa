"""Names of people in Chinese text: after words that introduce them, by common surnames. Pure.

Knows no other language. A surname alone makes no name, since most surnames are words too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_SURNAMES = (
    "王李张張刘劉陈陳杨楊黄黃赵趙吴吳周徐孙孫马馬朱胡郭何高林罗羅郑鄭梁谢謝宋唐许許韩韓冯馮邓鄧曹彭曾肖萧蕭田董袁潘于蒋蔣蔡余杜叶葉程苏蘇魏吕呂丁任沈姚卢盧姜"
    "崔钟鍾谭譚陆陸汪范金石廖贾賈夏韦韋付方白邹鄒孟熊秦邱江尹薛闫段雷侯龙龍史陶黎贺賀顾顧毛郝龚龔邵万萬钱錢严嚴覃武戴莫孔向汤湯"
)
_DOUBLE = "欧阳|歐陽|司马|司馬|上官|诸葛|諸葛|慕容|尉迟|皇甫"
# What follows a name rather than ends one: particles, verbs and adverbs of everyday sentences.
_AFTER = (
    "的了是在说說去来來和跟与與一不也都就会會要想有没沒吗嗎呢吧啊很还還从從到给給对對把被让讓"
    "叫吃看打做聊喝买買玩住见見走工结結分今昨上下他她你我这這那又才正已每先后後"
)
_GIVEN = rf"(?:(?!明[天年日早晚]|[学學][习習校]|[同大][学學])[一-鿿](?<![{_AFTER}]))"
_FULL = rf"(?:{_DOUBLE}|[{_SURNAMES}])(?:{_GIVEN}{{1,2}})"
_SHORT = (
    rf"(?:小(?![孩时時伙朋区區学學吃说說心猫貓狗组組姐])|老(?![板师師公婆家人是外乡鄉爸妈])"
    rf"|阿(?![姨公婆])){_GIVEN}"
)
_NAME = rf"(?P<name>{_FULL}|{_SHORT})"
# Surnames that begin many common words: they need the word `called` before them.
_WORDY = "高金石白方万萬钱錢江夏叶葉毛龙龍雷田付向孔汤湯黄黃马馬于许許任段余常武汪范"
_END = rf"(?=[{_AFTER}\s，。、！？；：,.!?]|$)"
_NAME = rf"(?P<name>(?![{_WORDY}])(?:{_FULL}{_END}|{_SHORT}))"
_CALLED = rf"(?P<name>{_FULL}{_END}|{_GIVEN}{{2,4}}(?=[，。！？,.!?；;\s]|$)|{_SHORT})"
_KIN = (
    "朋友|同事|同学|同學|老师|老師|姐姐|哥哥|弟弟|妹妹|老婆|妻子|太太|老公|丈夫|女儿|女兒|儿子|兒子|老板|老闆|邻居|鄰居"
    "|室友|男友|女友|男朋友|女朋友|表哥|表姐|表弟|表妹|经理|教授|医生"
)
_CUES = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?:我|他|她|名字|(?:{_KIN}))(?:的名字)?(?:叫做|叫作|叫|名叫){_CALLED}",
        rf"(?:{_KIN})(?:是)?{_NAME}",
        rf"(?:(?<!总)和|跟|与|與|遇到|遇见|碰到|认识|認識|告诉|通知){_NAME}",
        rf"(?:^|[，。！？；\s]){_NAME}(?=说|說|告诉|告訴|问我|問我)",
    )
)
_NO_NAMES = frozenset(
    "什么 什麼 什么名字 大家 万一 周末 周一 周二 周三 周四 周五 周六 周日 何时 何必".split()
)


def names(text: str) -> Iterator[tuple[int, str]]:
    """Yield names of people and where each starts; a name may come more than once."""
    for cue in _CUES:
        for match in cue.finditer(text):
            if match["name"] not in _NO_NAMES:
                yield match.start("name"), match["name"]
