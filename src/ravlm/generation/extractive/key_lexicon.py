"""Words by which the form of a `key: value` key is recognized: verbs, participles, adjectives ...

Tables only."""

from __future__ import annotations


def _words(text: str) -> list[str]:
    return text.split()


PREPOSITIONS = frozenset(
    _words(
        "of for in on to per with from at by as under over near about against into between "
        "below above before after since until up within through during"
    )
)
PARTICIPLES = frozenset(
    _words(
        "built born made written sold known found grown held drawn sung worn woven won sunk "
        "bred kept spoken taken given seen driven broken chosen frozen hidden laid led lost "
        "paid sent taught told thrown bought brought caught fed shot struck"
    )
)
NOT_PARTICIPLES = frozenset(_words("hundred sacred wicked naked kindred embed"))
INTRANSITIVE = frozenset(
    _words(
        "died retired arrived departed joined graduated emigrated appeared disappeared emerged "
        "debuted premiered lived worked served moved settled resigned competed occurred "
        "happened opened closed started ended married sank fell rose began"
    )
)
VERBS = frozenset(
    _words(
        "contains includes weighs eats requires consists belongs lives speaks serves grows "
        "comes occurs depends resides stems supports uses produces costs"
    )
)
TIMED_VERBS = frozenset(_words("starts ends opens closes begins departs arrives"))
VERBS_WITH_PREPOSITION = frozenset(_words("works feeds runs plays leads flows stands sits"))
ADJECTIVES = frozenset(
    _words(
        "tame wild safe rare new old hard soft raw dry wet free open closed alive extinct vegan "
        "halal kosher organic toxic edible spicy sweet sour bitter hot cold warm cool fresh "
        "ripe sharp blunt light heavy deep loud quiet strong weak thick thin clean dirty round "
        "flat square hollow solid empty full modern ancient urban rural local foreign public "
        "private legal illegal male female blind deaf mute married single native famous similar "
        "ideal good bad ready active inactive domestic nocturnal landlocked waterproof "
        "fireproof dishwasher-safe"
    )
)
NOUNS_LIKE_ADJECTIVES = frozenset(
    _words(
        "music traffic clinic attic fabric topic animal hospital festival terminal medal signal "
        "canal trial portal journal rental metal crystal restaurant tenant agent event accent "
        "student elephant talent content rent tent history factory category inventory directory "
        "story memory laboratory territory drive archive motive objective olive meal deal seal "
        "goal plant"
    )
)
SINGULAR_S = frozenset(_words("species series lens news gas status bus focus canvas atlas chassis"))
PLURALS = frozenset(_words("children people men women feet teeth data media"))
DETERMINERS = frozenset(_words("every each per only all any both some"))
QUESTION_WORDS = frozenset(_words("when where who what why how which whose"))
