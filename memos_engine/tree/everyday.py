"""Words that name no subject: function words, everyday verbs, adjectives, numbers, greetings. Pure.

A word that stands here never becomes a thing of the tree, whatever its inflection.
"""

from __future__ import annotations

from functools import lru_cache

_FUNCTION = """
    a about above across actually after again against ago ah aha ain all almost along already also although always am
    among an and another any anybody anymore anyone anything anyway anywhere apart are aren around as aside at away
    aw aww back be because been before behind being below beside besides between beyond both but by bye can cannot
    cheers congrats congratulations could couldn couple day despite did didn do does doesn doing don done down during
    each either else enough etc even ever every everybody everyone everything everywhere except far few for forever
    forward from further ge goodbye had hadn haha has hasn have haven having he heck hello hence her here hers herself
    hey hi him himself hmm his how however huh i if in indeed inside instead into is isn it its itself just kind kinda
    least less lets like likewise literally lol lot maybe me meanwhile might mine more moreover most mostly much must
    my myself nah near nearly neither never nevertheless next no nobody none nope nor not nothing now nowhere of off
    oh ohh ok okay on once one only onto oops or other others otherwise our ours ourselves out outside over own per
    perhaps please plus quite rather really same shall she should shouldn since so some somebody someday somehow
    someone something sometime sometimes somewhat somewhere soon sorry sort still such sure than thank thanks that the
    their theirs them themselves then there therefore these they this those though through throughout thus till to
    today together tomorrow tonight too toward towards under unless unlike until unto up upon us usual usually very
    via wanna was wasn way we well were weren what whatever when whenever where wherever whether which while who
    whoever whole whom whose why will with within without won wouldn would wow yay yeah yep yes yesterday yet you
    your yours yourself yup gonna gotta ain ll re ve
"""
_GENERAL = """
    afternoon age amount answer anybody area aspect bit body bunch case chance change choice course deal detail
    difference effect effort end evening example experience fact feel feeling fellow fella folk form front future
    goal gram group guy half hand hour idea info information issue item job kid lady life line list look luck man
    matter mean means men middle mind minute moment month morning name need night noon note number number opinion
    option part past people perspective person piece place plan plenty point problem progress purpose question range
    reason rest result second sense series set share side sir situation sound spot start state step stuff subject
    support term thing thought time tip topic tough try turn type use version view ways week weekend while woman
    women word work world year advice aim impact journey lesson lately news pic picture photo pleasure process
    reminder room something story task today total truth vibe
    monday tuesday wednesday thursday friday saturday sunday january february march april may june july august
    september october november december spring summer autumn winter
    one two three four five six seven eight nine ten eleven twelve hundred thousand million first second third fourth
    dozen zero once twice single double
"""
_VERBS = """
    see many self accept achieve act add admit advise afford agree allow amaze answer appear appreciate apply arrive ask
    ache assume attend avoid be beat become began begin begun behave believe belong bet bought bring broke brought build
    built burn buy call came cancel care carry catch caught cause celebrate check choose chose chosen clear climb close
    collect come compare complain complete concern confirm connect consider contain continue convince cost count cover
    create cry cut dare deal decide define depend describe deserve develop die dig discover discuss do drag draw drew
    drive drop drove dug earn ease eat embrace encourage end enjoy ensure enter excite exist expect explain explore
    express face fail fall fell felt figure fill find finish fit fix flew fly focus follow force forget forgot
    forgotten forgive found gain gather gave get give given glad go gone got gotten grab grew grow grown guess happen
    hate have hear heard held help hesitate hide hire hit hold hope hurt imagine improve include increase inspire
    intend introduce invite involve join juggle jump keep kept kick kid kill knew know known land last laugh lead learn
    leave led left lend let lie lift like listen live lose lost love made maintain make manage mark master match
    matter mean meant meet mention met mind miss mix motivate move need notice obtain occur offer open order organize
    overcome own owe pass pay perform pick plan play point practice prefer prepare present pretend prevent produce
    promise protect prove provide pull push put raise ran reach react read realize recall receive recently recharge
    recognize recommend reduce reflect refuse relate relax remain remember remind remove repeat replace reply report
    request require resonate respond return reveal rid ring rise roll run rush said sat save saw say seek seem seen
    sell send sent serve settle share shine show shut sign sing sit sleep smell smile solve sold sound speak spend
    spent spoke stand start stay step stick stood stop struggle study succeed suck suggest suit support suppose
    surprise take taken talk taste teach tell tend test thank think thought threw throw thrill throw told took
    touch train treat tried trust try turn understand understood upload use visit wait wake walk want warm warn wash
    watch wear went win wish wonder wore work worry worth write written wrote yell
"""
_ADJECTIVES = """
    able absolute absolutely active actual afraid alive alone amaze amazing available awesome awful bad beautiful
    best better big blessed bored brave brief bright brilliant broad busy calm certain challenge cheap chill clean clear
    clever close cold comfortable common cool correct crazy crucial curious current cute daily dear deep definite
    different difficult direct easy eager early effective empty entire epic equal essential even everyday exact
    excellent excited exciting extra extreme fair familiar fantastic fast fave favorite favourite fine fit flexible
    fond free fresh friendly full fun funny general gentle genuine glad global good gorgeous grand grateful great
    happy hard healthy heavy helpful high honest hot huge hungry ideal important impressive incredible inspiring
    interest interesting joyful keen key kind large last late latest likely little local lonely long loose loud lovely
    low lucky mad magical main major meaningful mental mere mighty minor modern mutual narrow nasty natural nearby
    neat necessary negative nervous new newest nice normal obvious odd okay old older online opposite ordinary original
    outdoor overall particular passionate peaceful perfect personal physical pleasant plain poor popular positive
    possible powerful precious present pretty previous private probable proper proud public pure quick quiet rare
    ready real recent regular related relaxed rich right rough sad safe scary secret separate serious several sharp
    short sick silly similar simple slight slow small smart soft solid special specific stable strange strong stressed
    stressful stupid sudden super supportive sweet tall terrible terrific thankful thick thin thrilled tight tiny
    tired top total tough true typical ugly unique upset useful usual valuable various warm weak weird wide wild
    willing wise wonderful wonder worried worse worst wrong young younger agreed super mega ton alright
    often final insane intense tricky trendy frustrate satisfy reward fulfill combine chase dream hang quit refresh
    stun therapeutic resilient professional virtual mobile furry blast pity gotcha woah biz vid fam
    analyze approach boost encourage track escape refer teach combo combination ability
    awhile bro buddy dude mate pal hun yo omg btw lmao dang gosh darn damn yikes phew yum ugh meh
"""
_OTHER_LANGUAGES = """
    aber alle als also auch auf aus bei bin bis bist damit dann das dass dein dem den denn der des dich die dir doch
    du durch ein eine einem einen einer eines er es euch für hab habe haben hast hat hatte ich ihm ihn ihr immer ist
    ja jetzt kann kein keine kannst mein meine mich mir mit nach nicht noch nur oder schon sehr sein seine seit sich
    sie sind sind über und uns unser vom von vor war waren warum was weil wenn wer werden wie wieder wir wird wurde zum
    zur avec aux bien cela ces cet cette comme dans depuis des dont elle elles encore est être fait font ils jai
    leur leurs lui mais mes moi mon nous par pas plus pour quand que quel quelle qui sans ses son sont sur tes toi ton
    tous tout tres très une vos votre vous algo aquí así como con cuando del desde donde ella ellos era eres esa ese
    eso esta está este esto estoy fue hay hasta las los más mis mucho muy nos otro para pero por porque puede
    que qué quien ser sin sobre solo son soy sus también tan tengo tiene todo todos una uno unos usted
    anche ancora che chi come cosa così dalla delle degli della dove gli hanno loro mia mio molto nel nella non
    ogni per perché più poi quando quella quello questa questo sempre sono stata stato sua suo sul tra tutti tutto
    uma isso mais mas meu minha muito não nas nem nós pela pelo quem são sem seu sua também tem você
    het een van zijn niet dat voor met maar ook naar wat heb dit deze wel geen nog haar hij
"""
EVERYDAY = frozenset(f"{_FUNCTION}{_GENERAL}{_VERBS}{_ADJECTIVES}".split())
_ELSEWHERE = frozenset(_OTHER_LANGUAGES.split())

_NOUNS_IN_ED = frozenset("bed seed speed weed breed feed reed wed shed sled biped moped wicked".split())
_NOUNS_IN_LY = frozenset("family italy lily jelly belly bully ally rally monopoly assembly butterfly".split())
_NOUNS_IN_BLE = frozenset(
    "table vegetable cable bible bubble crumble stable marble fable collectible".split()
)
_NOUNS_IN_IVE = frozenset("detective drive hive olive archive native dive relative motive".split())
_NO_NOUN = ("ful", "less", "ous", "ish")
_ISH_NOUNS = frozenset(
    "fish dish radish polish finish english spanish irish british swedish turkish danish".split()
)


@lru_cache(maxsize=1 << 15)
def is_everyday(word: str) -> bool:
    """Whether a lower-case word names no subject: it is listed, in some inflection, or has the ending of none."""
    if word in _ELSEWHERE or any(form in EVERYDAY for form in _bases(word)):
        return True
    if word.endswith("ed") and len(word) > 4:
        return word not in _NOUNS_IN_ED and not word.endswith("eed")
    if word.endswith("ly") and len(word) > 4:
        return word not in _NOUNS_IN_LY
    if word.endswith(("able", "ible")):
        return word not in _NOUNS_IN_BLE
    if word.endswith("ive") and len(word) > 4:
        return word not in _NOUNS_IN_IVE
    return word.endswith(_NO_NOUN) and len(word) > 4 and word not in _ISH_NOUNS


def _bases(word: str) -> list[str]:
    """The word, and what it may be an inflection of."""
    forms = [word]
    for ending in ("s", "es", "d", "ed", "ing", "er", "est", "ly", "in"):
        if word.endswith(ending) and len(word) - len(ending) >= 2:
            stem = word[: -len(ending)]
            forms.append(stem)
            if ending in {"ing", "er", "est"}:
                forms.append(stem + "e")
            if ending in {"ed", "ing", "er", "est"} and len(stem) > 2 and stem[-1] == stem[-2]:
                forms.append(stem[:-1])
            if ending in {"es", "ed", "er", "est", "ly"} and stem.endswith("i"):
                forms.append(stem[:-1] + "y")
    return forms
