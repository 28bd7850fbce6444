"""Words that the support of a sentence depends on, in English and Chinese. Tables only."""

from __future__ import annotations


def _words(text: str) -> list[str]:
    return text.split()


NEUTRAL = frozenset(
    _words(
        """a an the this that these those it its itself he him his she her hers they them their i we
        theirs us our you your who whom whose which what there here and or but as so also too then
        while when where if than such each is are was were be been being am has have had having do
        does did done in on at of to from by for with into onto per via off out up s named name
        called call known located include includes included including contain contains contained
        consist consists must should shall will would can picture photo image shows show shown
        told says say entry knowledge base under let lets about"""
    )
)
"""Words that may stand in any sentence: they state nothing by themselves."""
NEGATORS = frozenset(_words("not no never nor neither without none cannot nobody nothing"))
WIDE_NEGATORS = frozenset(_words("no without none neither nor"))
"""They negate the noun phrase that follows; the others negate the next word."""
PRONOUNS = frozenset(_words("it he she they this these its his her their"))
POSSESSIVES = frozenset(_words("his her its their"))
OPENINGS = frozenset(
    _words(
        """in on at by for from since after before during while when although though as with until
        under over near between because if today now later then there here also however but and or
        so to into about among through once every each both all some many most of"""
    )
)
"""Words that open a sentence without being its subject."""
_NUMBERS = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
)
_TENS = _words("thirty forty fifty sixty seventy eighty ninety")
NUMBER_WORDS = {
    **{word: str(number) for number, word in enumerate(_NUMBERS)},
    **{word: str(number) for number, word in zip(range(30, 100, 10), _TENS, strict=True)},
    "hundred": "100",
    "thousand": "1000",
}
MONTHS = _words(
    "january february march april may june july august september october november december"
)

_IRREGULAR = """be was were been|bear bore borne born|beat beaten|become became|begin began begun
bite bit bitten|blow blew blown|break broke broken|bring brought|build built|buy bought
catch caught|choose chose chosen|come came|cut|deal dealt|die died dying|dig dug|draw drew drawn
drink drank drunk|drive drove driven|eat ate eaten|fall fell fallen|feed fed|feel felt|fight fought
find found|flee fled|fly flew flown|freeze froze frozen|get got gotten|give gave given|go went gone
grow grew grown|hang hung|hear heard|hide hid hidden|hit|hold held|keep kept|know knew known
lay laid|lead led|leave left|lend lent|lie lain lying|lose lost|make made making|mean meant|meet met
pay paid|put|read|ride rode ridden|ring rang rung|rise rose risen|run ran|say said|see saw seen
sell sold|send sent|set|shoot shot|show showed shown|sing sang sung|sink sank sunk|sit sat
sleep slept|speak spoke spoken|spend spent|spread|stand stood|steal stole stolen|stick stuck
strike struck|swim swam swum|swing swung|take took taken|teach taught|tear tore torn|tell told
think thought|throw threw thrown|wear wore worn|weave wove woven|win won|wind wound
write wrote written|man men|woman women|child children|foot feet|tooth teeth|goose geese|mouse mice
leaf leaves|knife knives|wolf wolves|half halves|person people|calf calves|shelf shelves
life lives"""
IRREGULAR = {
    form: forms.split()[0]
    for forms in _IRREGULAR.replace("\n", "|").split("|")
    for form in forms.split()[1:]
}
"""Irregular form -> base form."""
INFLECTIONS = frozenset(
    ["", *_words("s es d ed ing e y ies ied er r or ers ors ion ions ment ments ly est")]
)
"""Endings by which two words with the same stem may differ."""

_UNITS = """mm millimetre millimetres millimeter millimeters
cm centimetre centimetres centimeter centimeters|m metre metres meter meters
km kilometre kilometres kilometer kilometers|inch inches|ft foot feet|mi mile miles
mg milligram milligrams|g gram grams gramme grammes|kg kilogram kilograms kilo kilos
t tonne tonnes ton tons|lb lbs pound pounds|oz ounce ounces
ml millilitre millilitres milliliter milliliters|l litre litres liter liters|kw kilowatt kilowatts
w watt watts|kwh|v volt volts|hz hertz|mhz|ghz|gb gigabyte gigabytes|mb|tb|% percent
min minute minutes|h hr hour hours|second seconds sec|°c celsius|°f fahrenheit|€ eur euro euros
$ usd dollar dollars|£ gbp|¥ yuan rmb|km/h kmh|km² km2|m² m2|ha hectare hectares"""
UNITS = {
    word: forms.split()[0]
    for forms in _UNITS.replace("\n", "|").split("|")
    for word in forms.split()
}
"""Word or sign of a unit -> the unit."""
MEASURES = {
    "long": ("length", "duration"),
    "tall": ("height",),
    "high": ("height", "elevation", "altitude"),
    "wide": ("width", "breadth", "beam"),
    "broad": ("width", "breadth"),
    "deep": ("depth",),
    "thick": ("thickness",),
    "heavy": ("weight", "mass"),
    "weigh": ("weight", "mass"),
    "old": ("age",),
    "cost": ("price",),
    "fast": ("speed",),
    "die": ("death",),
    "bear": ("birth",),
    "live": ("habitat", "residence"),
}
"""Predicate -> the keys whose values it states."""

_CHINESE_NEUTRAL = """是 一 个 艘 只 座 台 条 张 部 位 名 种 件 本 辆 架 颗 家 所 片 块 头 匹 棵
朵 套 支 款 项 枚 首 间 它 他 她 它们 他们 她们 的 了 着 和 及 与 以及 并
并且 而 且 也 还 又 在 于 为 有 由 被 把 从 到 对 以 这 那 其 该 此 这个
这是 这种 等 就 即 都 图中 图片 照片 画面 显示 可能 名为 名叫 叫 叫做 称为
叫作 位于 里 中 上 将 则 写 写的 写道 一项 关于 条目 包括 包含 含有 所 要
应 会 能 可以 需 需要 之 是由 分别"""
CHINESE_NEUTRAL = tuple(sorted(_words(_CHINESE_NEUTRAL), key=len, reverse=True))
"""Chinese words that may stand in any sentence, longest first."""
CHINESE_NEGATORS = frozenset("不没无未非勿别莫否")
CHINESE_PRONOUNS = ("它", "他", "她", "其", "该", "这", "此")
YES_NO = {
    **dict.fromkeys(_words("yes true y 是 有 可 可以 能 对"), True),
    **dict.fromkeys(_words("no false n none 否 不是 无 没有 不可 不能 不可以 不"), False),
}
"""Value of a yes/no line -> its truth."""
