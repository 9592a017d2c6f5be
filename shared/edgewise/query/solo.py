"""Does a turn mean the same to somebody who has not heard the conversation?

What points back gives it away: pronouns, "still" and "then", "the second one", a bare "the refund", an opening that
only an answer has. Rules of grammar in English and Chinese; when in doubt a turn leans on what came before.
"""

from __future__ import annotations

import re

from edgewise.query.text import language


def any_of(*words: str) -> re.Pattern[str]:
    """One of `words` as a whole word or phrase."""
    return re.compile(r"(?<![\w'])(?:" + "|".join(words) + r")(?![\w'])")


_LEANING = any_of(
    "it", "its", "it's", "that", "that's", "this", "they", "them", "their", "these", "those", "he", "him", "his", "she",
    "her", "hers", "ones?", "there's that", "then", "still", "again", "instead", "else", "too", "either", "already",
    "yet", "so far", "in total", "total", "altogether", "extra", "left over", "anyway", "same", "others?", "both",
    "former", "latter", "previous", "above", "earlier", "next one", "first one", "second one", "someone", "somebody",
    "you (?:said|mentioned|suggested|told)", "i (?:said|mentioned|told|asked)",
    "i(?:'ve| have) (?:just )?(?:said|mentioned|told|asked|given|booked|ordered|chosen|picked|added|selected)",
    "we (?:discussed|talked|take|get|need)",
    "similar", "original", "more details?", "better", "worse", "(?:your|the) (?:own |first |second |last |previous )?"
    "(?:response|answer|reply|examples?|suggestions?|solutions?|story|list|code|implementation|question)",
    "actually", "though", "now", "my (?:new|old)", "the (?:first|second|third|last|other|new|old|cheaper"
    "|cheapest|bigger|smaller)"
)  # fmt: skip
_LEADING = re.compile(
    r"^(?:and|but|so|or|also|then|because|yes|yeah|yep|yup|no|nope|nah|ok|okay|sure|right|great|fine|good"
    r"|cool|perfect|nice"
    r"|thanks|thank you|cheers|oh|ah|hmm+|well|what about|how about|what if|go (?:ahead|on|for)|do it|why not|same|more"
    r"|like|maybe|i'll|i will|i'd|let's|lets|please do|continue|carry on|next|not)(?![\w'])"
)
_SHIFT = re.compile(
    r"^(?:(?:ok|okay|great|thanks|thank you|cool|right|also|and|oh|one more thing|last thing"
    r"|just one more thing)[,.!\s:-]+)*"
    r"(?:unrelated|by the way|btw|on another note|separate(?:ly| question)|different (?:question|topic|thing)"
    r"|before i go|another question|quick question|completely different|changing (?:the )?(?:subject"
    r"|topic)|out of curiosity"
    r"|in general|generally)[,:;\s]+(?:but |though |completely )?"
)
_BARE_THE = re.compile(
    r"(?<![\w'])the ([a-z-]+)(?=[?.!,;]|$| (?:is|are|was|be|will|would|can|take|open|close|cost|still"
    r"|come|go|get|need|have|has"
    r"|by|then|today|tomorrow|on|at|in|if|when|and|or|do|does|show|arrive|work|start|end|run|back|first"
    r"|too|much|anyway)(?![\w']))"
)
_WITHOUT_PLACE = re.compile(
    r"^(?:is|are|was|were|will) there (?:be )?(?:an?|any|some) (?:[a-z-]+ ){0,3}[a-z-]+[?.! ]*$"
)
"""Whether there is such a thing depends on where or in what, and that was said before."""
_PLACED = re.compile(r" (?:in|on|at|near|for|to|from|between|with|within|under|against|of|about) ")
_OWN_ANTECEDENT = re.compile(
    r"(?<![\w'])(?:an?|any|some) [a-z].*[,;]|(?<![\w'])(?:an?|any|some) [a-z-]+ .*(?:and|if|but|or) "
)
_UNIQUE = frozenset({
    "uk", "us", "usa", "eu", "nhs", "internet", "web", "moon", "sun", "earth", "world", "sky", "sea", "ocean",
    "government", "police", "law", "weather", "app", "website", "site", "weekend", "morning", "afternoon",
    "evening", "night", "future", "past", "phone", "news", "company", "business", "bank", "queen", "king",
    "president", "public", "country", "city", "environment", "economy", "military", "army", "universe", "post",
    "library", "gym", "pool", "office", "hotel", "shop", "store", "surgery", "clinic", "hall", "museum", "theatre",
    "cinema", "restaurant", "cafe", "school", "hospital", "reception", "sale", "airport", "stadium"
})  # fmt: skip
_ZH_LEANING = re.compile(
    r"[它他她]|这个|那个|这样|那样|这些|那些|上面|刚才|之前说|第[一二三四五]个|那|还有|另外一个|其他|还是|继续|然后|一共|总共"
)
_ZH_LEADING = re.compile(r"^(?:好的|好|嗯|对|是的|不是|不|可以|行|那|那么|然后|还有|所以|但是|而且|谢谢)")
_CONTENT = re.compile(r"[a-z][a-z'-]{2,}")
_THIN = frozenset({
    "how", "what", "when", "where", "which", "who", "why", "can", "could", "will", "would", "should", "may",
    "might", "must", "does", "did", "are", "was", "were", "have", "has", "had", "you", "your", "the", "and", "for",
    "with", "from", "that", "this", "not", "any", "some", "get", "got", "much", "many", "long", "far", "there",
    "here", "about", "into", "out", "off", "just", "don't", "i'm", "i'd", "is", "it", "my", "me", "our", "we", "be",
    "do", "in", "on", "at", "to", "of", "a", "an", "or", "if", "please", "like", "need", "want", "know", "tell"
})  # fmt: skip

_NAMED = re.compile(r"(?<!^)(?<![.!?]\s)\b(?!I\b)[A-Z]\w+")


def stands_alone(text: str) -> bool:
    """Whether a turn means the same to somebody who has not heard the conversation.

    Nothing in it points back (pronouns, "still", "the second one", a bare "the refund"), it does not begin as an
    answer does, and it names at least three things of its own (a proper name counts twice). A spoken change of topic
    ("by the way") is taken at its word for the beginning, never for what follows.
    """
    low = text.casefold().replace("\u2019", "'").strip()
    if language(text) == "zh":
        return not _ZH_LEADING.search(low) and not _ZH_LEANING.search(low) and len(re.findall(r"[一-鿿]", low)) >= 6
    shifted = _SHIFT.sub("", low)
    if shifted == low and _LEADING.search(low):
        return False
    # "Is there a cloakroom, and how much is it?": what "it" points back to is in the turn itself.
    leaning = _LEANING.search(shifted)
    if leaning and not (leaning[0] in ("it", "they", "one") and _OWN_ANTECEDENT.search(shifted[: leaning.start()])):
        return False
    if any(noun not in _UNIQUE for noun in _BARE_THE.findall(shifted)):
        return False
    if _WITHOUT_PLACE.search(shifted) and not _PLACED.search(shifted):
        return False
    named = bool(_NAMED.search(text))
    return len({word for word in _CONTENT.findall(shifted) if word not in _THIN}) + named >= 3
