"""Split English text into Penn Treebank tokens: what caption scores are computed on.

The result equals that of the usual caption tools, which call Java for the Stanford PTBTokenizer
(CoreNLP 3.4.1, `-preserveLines -lowerCase`); it was written from its behavior. Of all rules, the
one that matches the most characters wins, lookahead included; the order breaks ties. Characters
that no rule matches are dropped.
"""

from __future__ import annotations

import re

PUNCTUATION = frozenset(("''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"))
"""Tokens that are dropped. Brackets stay (-lrb-): the caption tools list them in capitals, but look
them up after lower-casing."""

_WORD_MARKS = (
    "\u00ad\u02c2-\u02c5\u02d2-\u02df\u02e5-\u036f\u0375\u0384\u0385\u0483-\u0487\u0591-\u05bd"
    "\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0615-\u061a\u064b-\u065e\u0670\u06d6-\u06ed\u0711"
    "\u0730-\u074c\u07a6-\u07b0\u0900-\u0903\u093c\u093e-\u094e\u0951-\u0955\u0962\u0963"
    "\u0981-\u0983\u09bc\u09be-\u09cd\u09d7\u0a01-\u0a03\u0a3c\u0a3e-\u0a4f\u0a81-\u0a83\u0abc"
    "\u0abe-\u0acf\u0b82\u0bbe-\u0bcd\u0c01-\u0c03\u0c3e-\u0c56\u0d3e-\u0d48\u0e31\u0e34-\u0e3a"
    "\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ecd"
)
"""Characters that are parts of words: accents, vowel signs, the soft hyphen."""
_NUMERALS = "²³¹¼-¾⁰⁴-⁹₀-₉⅐-ↂ①-⓿❶-➓"
"""Numerals that \\w matches but that are not part of words."""
_SYMBOLS = (
    "$&*+:;<=>\\\\^`|~¡¥-©¬®-´¶-¹¿×÷\u037e\u0387\u0589\u05be\u05c0\u05c3\u05c6\u05f3\u05f4"
    "\u0600-\u0603\u0606-\u060c\u0614\u061b\u061e\u061f\u066a\u066d\u06d4\u0700-\u070d"
    "\u07f6-\u07f8\u0964\u0965\u0e3f\u0e4f\u1fbd\u2016\u2017\u201a\u201e-\u2023\u2030-\u2038"
    "\u203b\u203e-\u2042\u2044⁰⁴-\u207e₀-\u208e\u20a4\u2100\u2101\u2103-\u2106\u2108\u2109"
    "\u2114\u2116-\u2118\u211e-\u2123\u2125\u2127\u2129\u212e\u213a\u213b\u2140-\u2144"
    "\u214a-\u214d\u214f\u2155-\u215e\u2190-\u2bff\u3001\u3002\u3012\u30fb\uff01-\uff0f"
    "\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\uffe0\uffe1\uffe5\uffe6"
)
"""Characters that are tokens of their own."""

_ACCENTED = "&[aeiouAEIOU](?:acute|grave|uml);"
_LETTER = rf"(?:[^\W\d_{_NUMERALS}]|[{_WORD_MARKS}]|{_ACCENTED})"
_LETTER_OR_DIGIT = rf"(?:[^\W_{_NUMERALS}]|[{_WORD_MARKS}]|{_ACCENTED})"
_APOSTROPHE = "(?:['’\x92]|&apos;)"
_ANY_APOSTROPHE = "(?:['’‘‛\x91\x92]|&apos;)"
_WORD = rf"{_LETTER}{_LETTER_OR_DIGIT}*(?:[.!?]{_LETTER}{_LETTER_OR_DIGIT}*)*"
_PART = rf"(?:[dDoOlL]{_ANY_APOSTROPHE})?[^\W_{_NUMERALS}]+"
_JOINED = rf"{_PART}(?:[-_\u058a\u2010\u2011]{_PART})*"
_CLITIC = rf"{_APOSTROPHE}(?:[msdMSD]|[rR][eE]|[vV][eE]|[lL][lL])"
_NUMBER = r"(?:\d*(?:[.:,\xad\u066b\u066c]\d+)+|\d+)"
_ACRONYM = r"[A-Za-z](?:\.[A-Za-z])+"
_NO_BREAK = r" \t\n\f\r\u3000\"<>|()"
"""Characters that end an address. Repetitions below are bounded: no text takes quadratic time."""

_CLOSING = (
    "al ala apr ariz assn aug bhd bldg blvd bros co colo conn corp cos ct dak dec esq est etc "
    "ext feb fla fri ga inc ind intl jan jr jul jun kan kans ky ltd mar md mich minn mo mon "
    "mont neb nev nov oct okla penn plc rd rt sep sept seq sq sr sys tel tenn thu tue tues univ "
    "va vt wed wis wisc wyo"
)
"""Abbreviations whose period is kept, and that may end a sentence."""
_CLOSING_CAPITAL = "ark az del ill la mass miss ore pa tex wash"
"""The same, but only capitalized: in lower case they are words."""
_CLOSING_SMALL = "ppte ppty pte ptes pty ptys"
"""The same, but not in upper case."""
_LEADING = (
    "adj adm adv alex asst atty ave brig capt cf cie cmdr col cpl dept det dr drs elec ens ft "
    "gen gov govs hon insp invt jos lt maj mlle mme mr mrs ms msgr mt natl pfc ph pres prof pvt "
    "rep reps rev sen sens sfc sgt spc st ste supt vs wm"
)
"""Abbreviations whose period is kept, and that do not end a sentence: mostly titles."""
_LEADING_SMALL = "mfg mtg"
_BEFORE_NUMBER = "art ca fig figs no nos op pp prop"
"""Abbreviations whose period is kept only before a number."""
_FILE_EXTENSIONS = (
    "bat bmp c cgi class cpp dll doc docx exe gif gz h htm html jar java jpeg jpg mov mp3 pdf "
    "php pl png ppt ps py sql tar txt wav x xml zip"
)
"""Extensions of file names."""
_SENTENCE_STARTERS = (
    "A About According Additionally After An As At But Earlier He Her Here However If In It "
    "Last Many More Now Once One Other Our She Since So Some Such That The Their Then There "
    "These They This We What When While Yet You"
)
"""Words that begin a sentence: a single letter before them does not keep its period."""


def _alternatives(lower: str, capitalized: str = "", upper: str = "") -> str:
    """Return a regular expression for the words of `lower`, `capitalized` and `upper`.

    The words are given in lower case and matched in the case that the parameter names.
    """
    words = {
        *lower.split(),
        *(w.capitalize() for w in capitalized.split()),
        *(w.upper() for w in upper.split()),
    }
    return f"(?:{'|'.join(sorted(words, key=lambda w: (-len(w), w)))})"


_CLOSING_STOP = _alternatives(
    f"{_CLOSING} {_CLOSING_SMALL}",
    f"{_CLOSING} {_CLOSING_SMALL} {_CLOSING_CAPITAL}",
    f"{_CLOSING} {_CLOSING_CAPITAL}",
)
_LEADING_STOP = _alternatives(
    f"{_LEADING} {_LEADING_SMALL}", f"{_LEADING} {_LEADING_SMALL}", _LEADING
)
_SENTENCE_START = _alternatives(_SENTENCE_STARTERS, upper=_SENTENCE_STARTERS)
_RULES = (
    # tags and entities
    r"<[!?][A-Za-z-][^>\r\n]{0,1000}>|"
    r"</?[A-Za-z][\w:.-]{0,99}"
    r"(?: +[A-Za-z][\w:.-]{0,99}(?: *= *(?:'[^']{0,999}'|\"[^\"]{0,999}\"))?){0,20} */?>",
    r"&(?:HT|TL|UR|LR|QC|QL|QR|odq|cdq|#\d+|amp|lt|gt|quot|nbsp|[mn]dash|MD);",
    # words: before a clitic, before n't, alone, with an apostrophe inside
    rf"({_WORD})(?:{_CLITIC}|{_APOSTROPHE}[nN][^A-Za-z])",
    rf"([A-Za-z\xad]*[A-MO-Za-mo-z])[nN]{_ANY_APOSTROPHE}[tT]",
    _WORD,
    rf"{_LETTER}+[aeiouyAEIOUY]{_APOSTROPHE}[aeiouAEIOU]{_LETTER}*",
    rf"[A-HJ-XZn]{_ANY_APOSTROPHE}{_LETTER}{_LETTER}+|[A-Za-z]*[oO]{_APOSTROPHE}[A-Z][A-Za-z]+",
    rf"{_APOSTROPHE}(?:[nN]{_APOSTROPHE}?|[eE][mM]|[tT][iI][lL][lL]?|[cC][aA][uU][sS][eE]|[2-9]0s)",
    rf"(?:[dD]unkin|[sS]omethin|[oO]l|[lLdDjJ]){_APOSTROPHE}|([yY]{_APOSTROPHE}){_LETTER}",
    rf"(?:e{_APOSTROPHE}er|[cC]{_APOSTROPHE}(?:mon|est)|s{_APOSTROPHE}mores|ev{_APOSTROPHE}ry|li{_APOSTROPHE}l"
    rf"|nat{_APOSTROPHE}l|nor{_APOSTROPHE}easter)",
    # addresses, names and tags
    rf"https?://[^{_NO_BREAK}{{}}]{{1,2000}}[^{_NO_BREAK}.!?{{}},-]",
    rf"(?:www\.(?:[^{_NO_BREAK}.!?{{}},]{{1,63}}\.){{1,9}}[a-zA-Z]{{2,4}}"
    rf"|(?:[^{_NO_BREAK}.!?{{}}`',-_$]{{1,63}}\.){{1,9}}(?:com|net|org|edu))"
    rf"(?:/[^{_NO_BREAK}]{{1,2000}}[^{_NO_BREAK}.!?{{}},-])?",
    rf"(?:&lt;|<)?[a-zA-Z0-9][^{_NO_BREAK}\xa0]{{0,63}}@(?:[^{_NO_BREAK}.\xa0]{{1,63}}\.){{0,9}}[^{_NO_BREAK}.\xa0]{{1,63}}"
    r"(?:&gt;|>)?",
    rf"((?:{_LETTER_OR_DIGIT}){{1,99}}(?:\.{_LETTER_OR_DIGIT}{{1,99}}){{0,9}}"
    rf"\.{_alternatives(_FILE_EXTENSIONS, upper=_FILE_EXTENSIONS)})[ \t\n\xa0.?!,]",
    rf"[@＠][a-zA-Z_][a-zA-Z_0-9]*|[#＃]{_LETTER}+",
    # words that begin with an apostrophe
    rf"({_CLITIC}|[nN]{_ANY_APOSTROPHE}[tT])[^A-Za-z]",
    r"(')[A-Za-z][^ \t\n\r\xa0]",
    rf"{_CLITIC}|[nN]{_ANY_APOSTROPHE}[tT]|({_APOSTROPHE}[tT])(?:[iI][sS]|[wW][aA][sS])"
    rf"|({_APOSTROPHE}\d\d)[ \t\n\xa0]",
    # numbers, dates, fractions, telephone numbers
    rf"[-+]?{_NUMBER}",
    r"\d{1,2}[-/]\d{1,2}[-/]\d{2,4}",
    r"(?:\d{1,4}[- \xa0])?\d{1,4}[/\u2044]\d{1,4}(?!\d)",
    r"(?:\(\d{2,3}\)[ \xa0]?|(?:\+\+?)?(?:\d{2,4}[- \xa0])?\d{2,4}[- \xa0])\d{3,4}[- \xa0]?\d{3,5}"
    r"|(?:(?:\+\+?)?\d{2,4}\.)?\d{2,4}\.\d{3,4}\.\d{3,5}",
    # words with slashes, dollars, abbreviations, words with hyphens, capitals with signs
    r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}(?:/[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}){1,2}",
    r"[A-Z]*\$|[Cc]\+\+|[CcFf]#",
    rf"([A-Za-z])\.[ \t\xa0]+{_SENTENCE_START}[ \t\n\xa0]",
    rf"({_CLOSING_STOP}\.|[Pp][Hh]\.[Dd]\.)(?s:..)?",
    rf"(?:{_LEADING_STOP}|{_ACRONYM}|[A-Za-z]|[A-Za-z]+-U\.S|U\.S\.-U\.K)\.",
    rf"({_alternatives(_BEFORE_NUMBER, _BEFORE_NUMBER, _BEFORE_NUMBER)}\.)[ \t\xa0]?\d",
    _JOINED,
    rf"([A-Za-z0-9][A-Za-z0-9.,\xad]{{0,99}}(?:-(?:[A-Za-z0-9\xad]+|{_ACRONYM}\.))+)[^a-zA-Z0-9.+]",
    rf"((?:{_WORD}|{_JOINED}|[A-Z]+(?:[+&][A-Z]+)+)\.)[,;:\u3001]",
    r"[A-Z]+(?:(?:[+&]|&amp;)[A-Z]+)+",
    # emoticons
    r"([<>]?[:;=][-o*']?[()DPdp\\{@|\[\]])[^A-Za-z0-9]",
    r"[\^x=~<>]\.[\^x=~<>]|[-^x=~<>']_[-^x=~<>']|\([-^x=~<>'][_.]?[-^x=~<>']\)",
    # punctuation, single or repeated
    r"-+|_+|\*+|[?!]+|\.{3,5}|(?:\. ){2,4}\.|[`‘’“”«»‹›‛\x91-\x94]{1,2}|''|##+|@@+|<<|>>",
    r"[£€\x80¤₠¢½¼¾⅓⅔()\[\]{}#%/@,.\"'–-―\x96\x97…]",
    rf"[{_SYMBOLS}]",
)
_PLAIN_WORD = r"([A-Za-z]+)(?=,?[ \n])"
"""The common case, for speed: letters, then a space."""
_GAP = r"(?: |,(?!\d)|[.!?](?=[ \n]))+"
"""Between plain words: characters that give no token."""

_CONTRACTIONS = {
    "cannot": ("can", "not"),
    "gonna": ("gon", "na"),
    "wanna": ("wan", "na"),
    "gotta": ("got", "ta"),
    "gimme": ("gim", "me"),
    "lemme": ("lem", "me"),
}
_REPLACEMENTS = {
    "&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": "''", "&nbsp;": "",
    "&mdash;": "--", "&ndash;": "--", "&md;": "--",
    "£": "#", "€": "$", "\x80": "$", "¤": "$", "₠": "$", "¢": "cents",
    "½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3",
    "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-",
    "---": "--", "----": "--", "–": "--", "—": "--", "―": "--", "\x96": "--", "\x97": "--",
    "…": "...", "....": "...", ".....": "...",
    ". . .": "...", ". . . .": "...", ". . . . .": "...",
}  # fmt: skip
_QUOTES = {
    **dict.fromkeys("`‘‛‹\x91", "`"),
    **dict.fromkeys("“«\x93", "``"),
    **dict.fromkeys("'’›\x92", "'"),
    **dict.fromkeys('"”»\x94', "''"),
}
_CHARACTER_TABLE = str.maketrans({" ": "\xa0", "\xad": None, "(": "-lrb-", ")": "-rrb-"})
_CLITIC_TOKENS = frozenset(("'s", "'m", "'d", "'re", "'ve", "'ll", "n't"))


class PtbTokenizer:
    """The compiled rules: `PtbTokenizer()("A dog's tail.")` gives ["a", "dog", "'s", "tail"]."""

    def __init__(self) -> None:
        self._rules = [re.compile(rule) for rule in _RULES]
        self._plain_word = re.compile(_PLAIN_WORD)
        self._gap = re.compile(_GAP)

    def __call__(self, text: str) -> list[str]:
        """Return the tokens, lower-cased, without punctuation.

        A token may contain a no-break space: "1 1/2" is one token.
        """
        text += "\n"
        raw_tokens: list[str] = []
        position = 0
        while position < len(text):
            if word := self._plain_word.match(text, position):
                raw_tokens.append(word[0])
                position = word.end()
            elif gap := self._gap.match(text, position):
                position = gap.end()
            else:
                token = self._longest_match(text, position)
                raw_tokens.append(token)
                position += len(token) or 1
        tokens = (token for raw in raw_tokens for token in _normalize(raw.lower()))
        return [token for token in tokens if token and token not in PUNCTUATION]

    def _longest_match(self, text: str, position: int) -> str:
        """Return the token of the rule that matches most, or "" if none matches."""
        length = 0
        token = ""
        for rule in self._rules:
            match = rule.match(text, position)
            if match and match.end() - position > length:
                length = match.end() - position
                token = match[match.lastindex or 0]
        return token


def _normalize(token: str) -> tuple[str, ...]:
    """Return a token as it is written out: contractions split, quotes and brackets by name."""
    if token.isalpha() and token.isascii():
        return _CONTRACTIONS.get(token, (token,))
    if token in _REPLACEMENTS:
        return (_REPLACEMENTS[token],)
    if all(character in _QUOTES for character in token):
        return ("".join(_QUOTES[character] for character in token),)
    plain = token.replace("’", "'")
    if plain in _CLITIC_TOKENS:
        return (plain,)
    is_tag = token.startswith("<") and token.endswith(">")
    return (token if is_tag else token.translate(_CHARACTER_TABLE),)
