"""The token patterns of the Stanford PTB tokenizer (3.4.1), found by experiment.

The tokenizer is a lexer: at each place it takes the longest text that any of its patterns matches,
and of equals the pattern that comes first. What a pattern looks at beyond its token counts towards
its length. The patterns here were found by feeding the program words, exhaustive short strings and
random captions and watching what it cut where; they are written for the spelling of
``ptb_chars.spell``, where one character stands for all of its kind, and a line end for the end of
a caption.

In a pattern a group is the token and what follows it is context; without a group all of it is the
token; two groups are two tokens.
"""

from __future__ import annotations

import re

# Parts. Letters, and what else a word is made of:
_L = "A-Za-zé"
_W = "A-Za-zé\u0301\xad"
_D = "0-9٣"
_ACCENTED = r"&(?i:[aeiou](?:acute|grave|uml));"  # a letter as HTML has it
_WORD = rf"(?:[{_W}]|{_ACCENTED})[{_W}{_D}]*(?:{_ACCENTED}[{_W}{_D}]*)*"
_WORDS = rf"{_WORD}(?:[.!?]{_WORD})*"  # hello.world and yahoo!answers hang together
_SPACE = r"[ \xa0\n]"
_APOSTROPHE = r"(?:['’\x92]|&apos;)"
_QUOTE = r"(?:['’\x92‘\x91‛`]|&apos;)"  # whatever can be meant for an apostrophe
_HYPHENS = r"\-_‐"
_PERIOD = r"(?:\.(?=[,:;、]))?"  # belongs to the word if more punctuation follows
_CLITIC = r"(?:[msd]|re|ve|ll)"

_NAME = r"[A-Za-z][A-Za-z0-9_:.\-]*"
_ATTRIBUTE = rf"""{_NAME}(?: *= *(?:'[^'\n]*'|"[^"\n]*"))?"""
_TAG = rf"<[!?][A-Za-z\-][^>\n]*>|<{_NAME}(?: +{_ATTRIBUTE})* */? *>|</{_NAME} *>"

_NOT_ADDRESS = r' \n"()<>{|}'
_NOT_ADDRESS_END = r" \n!\"(),\-.<>?{|}"
_NOT_MAIL = rf"{_NOT_ADDRESS}\xa0"
_HOST = r"[^ \n\"$'(),\-/:;<=>\[\\\]^_`{|}.?!0-9@A-Z]+\."
_PATH = rf"(?:/[^ \n\"()<>|]+[^{_NOT_ADDRESS_END}])?"
_TOP_LEVEL = r"(?:[cC][oO][mM]|[nN][eE][tT]|[oO][rR][gG]|[eE][dD][uU])"

_NUMBER = rf"(?:[{_D}]*(?:[.:,٫\xad][{_D}]+)+|[{_D}]+)"
_UP_TO_4 = rf"[{_D}]{{1,4}}"
_EYE = r"[\^x=~<>'\-]"

# Abbreviations. Those of the first two lists may end a sentence; they win over "inc.b".
_ENDING = (
    "al ala apr ariz assn aug bhd bldg blvd bros calif co colo conn corp cos ct dak dec esq est "
    "etc ext feb fla fri ga inc ind intl jan jr jul jun kan kans ky ltd mar md mich minn mo mon "
    "mont neb nev nov oct okla penn plc rd rt sep sept seq sq sr sys tel tenn thu thurs tue tues "
    "univ va vt wed wis wisc wyo ph\\.d"
)
_ENDING_CAPITALIZED = "ark az del ill la mass miss ore pa tex wash"  # words, when in lower case
_TITLES = (
    "adj adm adv alex assoc asst atty attys ave brig capt cf cie cmdr col comdr cpl dept det dr "
    "drs elec ens ft gen gov govs hon insp invt jos lieut lt maj messrs mlle mme mr mrs ms msgr "
    "mt natl pfc ph pres prof profs pvt rep reps rev sen sens sfc sgt spc st ste supt supts "
    "treas vs wm"
)
_BEFORE_NUMBERS = "art ca fig figs no nos op pp prop"
# After an initial, these begin a new sentence.
_STARTERS = (
    "a about according additionally after an as at but earlier he her here however if in it last "
    "many more now once one other our she since so some such that the their then there these "
    "they this we what when while yet you"
)
_FILE_TYPES = (
    "bat bmp c cgi cpp dll docx doc exe gif gz html htm h jar java jpeg jpg mov mp3 pdf php pl "
    "png ppt ps py sql tar txt wav xml x zip"
)
_WITH_APOSTROPHE = "c'mon e'er ev'ry li'l nat'l s'mores"
_ENDS_IN_APOSTROPHE = "dunkin ol d j l"


def _any(words: str) -> str:
    return "(?i:" + "|".join(words.split()) + ")"


def _capitalized(words: str) -> str:
    return "(?:" + "|".join(f"{w[0].upper()}(?i:{w[1:]})" for w in words.split()) + ")"


_ENDINGS = rf"(?:{_any(_ENDING)}|{_capitalized(_ENDING_CAPITALIZED)}|[Pp]{{1,2}}[Tt][ey][Ss]?)"
_SENTENCE = rf"(?:{_capitalized(_STARTERS)}|M[rRsS]\.|{_TAG})"

_PART = rf"[{_D}{_L}]"  # of a compound
_ELIDED = rf"[dolDOL]{_QUOTE}{_PART}"  # d'azur, l'eau, o'neil
_COMPOUNDS = (
    r"[A-Za-z0-9][A-Za-z0-9\xad.,]*(?:-(?:[A-Za-z]\.(?:[A-Za-z]\.)+|[A-Za-z0-9\xad]+))+",
    rf"(?:{_ELIDED})?{_PART}+(?:[{_HYPHENS}](?:{_ELIDED})?{_PART}+)+",
)

# (the kinds of character it begins with: w of a word, d digit, p any other; the pattern), in order.
_PATTERNS = (
    ("p", _TAG),
    # Two words in one.
    ("w", r"(?i:(can)(not))"),
    ("w", r"(?i:(gon|wan)(na))"),
    ("w", r"(?i:(got)(ta))"),
    ("w", r"(?i:(gim|lem)(me))"),
    ("p", r"(?i:('t)(?:is|was))"),
    # Words, addresses of mail, abbreviations.
    ("w", rf"([A-Za-z])\.{_SPACE}+{_SENTENCE}{_SPACE}"),
    ("wp", rf"{_WORDS}{_PERIOD}"),
    (
        "wdp",
        rf"(?:<|&lt;)?[A-Za-z0-9][^{_NOT_MAIL}]*@(?:[^{_NOT_MAIL}.]+\.)*[^{_NOT_MAIL}.]+(?:>|&gt;)?",
    ),
    ("w", rf"({_ENDINGS}\.)[\s\S][\s\S]"),
    ("w", rf"(?:{_ENDINGS}|{_any(_TITLES)}|[Mm][ft][Gg])\."),
    ("wd", rf"[{_D}{_L}]+{_PERIOD}"),
    # Compounds, and words with an apostrophe.
    ("wd", rf"{_COMPOUNDS[0]}{_PERIOD}"),
    ("wd", rf"{_COMPOUNDS[1]}{_PERIOD}"),
    ("wp", rf"({_WORDS}){_APOSTROPHE}(?i:{_CLITIC})"),
    ("w", rf"[{_L}]+[aeiouyAEIOUY]{_QUOTE}[aeiouA-Z][{_L}]*"),
    ("w", rf"[ldoLDO]{_QUOTE}[{_L}{_D}]{{2,}}{_PERIOD}"),
    ("w", rf"(?:[nN]|[A-HJ-XZ]){_QUOTE}[{_L}]{{2,}}"),
    ("w", rf"{_any(_ENDS_IN_APOSTROPHE)}{_APOSTROPHE}|[yY]{_APOSTROPHE}(?=[{_L}])"),
    ("w", rf"{_any(_WITH_APOSTROPHE)}|(?i:cap{_APOSTROPHE}n|c{_APOSTROPHE}est|o{_QUOTE}o)"),
    ("p", rf"{_APOSTROPHE}(?i:n{_APOSTROPHE}|n|em|till?|cause|[2-9]0s)"),
    ("p", rf"({_APOSTROPHE}[0-9][0-9]){_SPACE}"),
    ("p", rf"['’\x92](?i:[msd])|[’\x92](?i:{_CLITIC})"),
    ("p", rf"({_APOSTROPHE}(?i:{_CLITIC}))[^A-Za-z]"),
    ("w", rf"([A-Za-z\xad]*[A-MO-Za-mo-z]\xad*)[nN]{_QUOTE}[tT]"),
    ("w", rf"[nN]{_QUOTE}[tT]"),
    # Alternatives, numbers, fractions, dates, telephone numbers.
    ("wd", r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}(?:\\?/[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}){1,2}"),
    ("wdp", rf"[-+]?{_NUMBER}"),
    ("d", rf"(?:{_UP_TO_4}[- \xa0])?{_UP_TO_4}(?:\\?/|⁄){_UP_TO_4}"),
    ("d", rf"[{_D}]{{1,2}}[-/][{_D}]{{1,2}}[-/][{_D}]{{2,4}}"),
    (
        "dp",
        rf"(?:\([{_D}]{{2,3}}\)[ \xa0]?|(?:\+\+?)?(?:[{_D}]{{2,4}}[- \xa0])?[{_D}]{{2,4}}[- \xa0])"
        rf"[{_D}]{{3,4}}[- \xa0]?[{_D}]{{3,5}}",
    ),
    # Addresses, names, initials, firms, files.
    ("w", rf"(?i:https?)://[^{_NOT_ADDRESS}]+[^{_NOT_ADDRESS_END}]"),
    ("w", rf"(?i:www)\.(?:[^ \n\"(),<>{{|}}.!?]+\.)+[A-Za-z]{{2,4}}{_PATH}"),
    ("wp", rf"(?:{_HOST})+{_TOP_LEVEL}{_PATH}"),
    ("p", rf"@[A-Za-z_][A-Za-z0-9_]*|#(?:[{_W}]|{_ACCENTED})+"),
    ("w", r"(?:[A-Za-z]\.)+|[A-Za-z](?:\.[A-Za-z])+"),
    ("w", rf"({_any(_BEFORE_NUMBERS)}\.){_SPACE}?[{_D}]"),
    ("w", rf"[A-Z]+(?:(?:[&+]|&(?i:amp);)[A-Z]+)+{_PERIOD}"),
    ("wd", rf"([{_W}{_D}]+(?:\.[{_W}{_D}]+)*\.{_any(_FILE_TYPES)})[ \xa0\n.,?!]"),
    # Faces, HTML, marks.
    ("p", r"([<>]?[:;=]['\-o*]?[dpDOP()@[\]\\{|])[^A-Za-z0-9]"),
    ("p", rf"\((?:{_EYE}[_.]?{_EYE}|[\^x=~<>']-[\^x=~<>'])\)"),
    ("wp", rf"{_EYE}_{_EYE}"),
    (
        "p",
        r"&(?i:amp|lt|gt|nbsp|quot|apos|mdash|ndash|md|ur|lr|ht|tl|ql|qr|qc|cdq|odq);|&#[0-9]+;",
    ),
    ("p", r"[‘’“”«»‹›‚„‛‟\x91-\x94`]{1,2}|''"),
    ("p", r"\?[!?]+|![!?]+|\.{3,5}|\.(?: \.){2,4}|--+|@@+|##+|\*+|<<|>>|_+|²+|₂+|(?:\\\*)+"),
    ("w", r"[A-Z]+\$|[cC]\+\+|[cCfF]#|(?i:s&(?:amp;)?ls)"),
    ("p", r"(')[A-Za-z][^ \xa0\n]"),
    ("wdp", r"[\s\S]"),
)


# Words with patterns of their own, which a shortcut for plain words must leave alone.
NOT_PLAIN = frozenset(
    f"{_ENDING} {_ENDING_CAPITALIZED} {_TITLES} {_BEFORE_NUMBERS} mfg mtg ppte pptes ppty pptys "
    "pte ptes pty ptys cannot gonna wanna gotta gimme lemme".split()
)


def rules_for(kind: str) -> tuple[re.Pattern[str], ...]:
    """The patterns that can begin with a character of a kind: ``w``, ``d`` or ``p``."""
    return tuple(re.compile(pattern) for kinds, pattern in _PATTERNS if kind in kinds)
