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
    "actually", "though", "now", "my (?:new|old)",
    r"the (?:first|second|third|last)(?! \w+ (?:to|of|in|on|who|that|ever)(?![\w']))",
    "the (?:other|new|old|cheaper|cheapest|bigger|smaller)"
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
    r"|too|much|anyway|say|says|said|leave|left|mean|happen|apply|include|cover|expire|renew|count|matter|change|fit"
    r"|last)(?![\w']))"
)
_WITHOUT_PLACE = re.compile(
    r"^(?:is|are|was|were|will) there (?:be )?(?:an?|any|some) (?:[a-z-]+ ){0,3}[a-z-]+[?.! ]*$"
)
"""Whether there is such a thing depends on where or in what, and that was said before."""
_PLACED = re.compile(r" (?:in|on|at|near|for|to|from|between|with|within|under|against|of|about) ")
_PRONOUN = frozenset({"it", "its", "they", "them", "their", "one"})
_CLAUSE = re.compile(
    r"[,;]|(?<![\w'])(?:and|if|but|or|when|because|so|after|before|while|once|since|until|without)(?![\w'])"
)
_EXPLETIVE = re.compile(
    r"(?<![\w'])(?:(?:is|was|does|will|would) it (?=(?:\w+ ){1,2}(?:to|that|for|if|when)(?![\w']))"
    r"|it (?:is|takes?|costs?) (?=(?:\w+ ){0,2}to(?![\w']))|(?:does|did|do) it mean (?=(?:when|if|to|that)(?![\w'])))"
)
"""The "it" of "is it safe to …" stands for what follows."""
_FATE = re.compile(
    r"(?:^|[,.;:] ?|(?<![\w'])(?:and|but|or|so|then) )(?:can|could|may|might|am|do|did|will|would|should"
    r"|shall|must|have) (?:i|we)(?![\w'])"
)
"""Whether *I* may, must or get something depends on who I am, and that was said before."""
_GENERIC = re.compile(
    r"^(?:what(?:'?s| is| are| causes?| does)|who (?:is|was|invented|wrote|painted|discovered|founded)|define|explain"
    r"|describe)(?! (?:the|there|your|my|our)(?![\w']))|(?<![\w'])an? [a-z]"
)
"""Asks of a thing as such, for which two words are enough."""
_UNIQUE = frozenset({
    "uk", "us", "usa", "eu", "nhs", "internet", "web", "moon", "sun", "earth", "world", "sky", "sea", "ocean",
    "government", "police", "law", "weather", "app", "website", "site", "weekend", "morning", "afternoon",
    "evening", "night", "future", "past", "phone", "news", "company", "business", "bank", "queen", "king",
    "president", "public", "country", "city", "environment", "economy", "military", "army", "universe", "post",
    "library", "gym", "pool", "office", "hotel", "shop", "store", "surgery", "clinic", "hall", "museum", "theatre",
    "cinema", "restaurant", "cafe", "school", "hospital", "reception", "sale", "airport", "stadium"
})  # fmt: skip
_ZH_LEANING = re.compile(
    r"[它他她]|[这那](?:[一二两三四五六七八九十几0-9个些样种两几次家款项位本部条件笔边里儿时么]|[？?，,。]|$)|上面|刚才|之前说|你(?:刚|说|提|推荐|给)|第[一二三四五六七八九十]"
    r"|(?:前|后|上|下|另|另外)一|前者|后者|后来|接下来|另外|还有|其中|其他|其余|剩下|还是|继续|然后|一共|总共|也(?:能|可以|行|要|是|有|会)"
    r"|举[个些]?例|^哪[个种一].{0,4}更|^(?:如果|要是|万一).*呢[？?]?$|再(?:说|讲|来|给|详细|具体|多)|详细(?:说|讲|一?点)|展开"
)
_ZH_LEADING = re.compile(r"^(?:好的|好|嗯|对|是的|不是|不|可以|行|那|那么|然后|还有|所以|但是|而且|谢谢)")
_ZH_OWN = re.compile(r"(?<![帮给替叫])(?:我|咱|本人)(?!想(?:问|知道|了解)|国)")
_ZH_GENERIC = re.compile(r"^(?:什么是|什么叫|何为|啥是)|[a-z0-9]")
_ZH_THIN = re.compile(
    r"什么|啥|怎么样?|如何|为什么|为何|哪[里儿个些一种年天位]?|多少|多久|多长|几[个点天年种]?|谁|何时|时候|时间|意思|请问|一下|需要|应该|可以"
    r"|知道|告诉|解释|介绍|开始|结束|[吗呢啊呀吧的了是有在会能要还都就和跟与把被给最很年叫做说用想带办去来到拿交]"
)
_HAN = re.compile(r"[一-鿿]")
_CONTENT = re.compile(r"[a-z][a-z'-]{2,}")
_THIN = frozenset({
    "how", "what", "when", "where", "which", "who", "why", "can", "could", "will", "would", "should", "may",
    "might", "must", "does", "did", "are", "was", "were", "have", "has", "had", "you", "your", "the", "and", "for",
    "with", "from", "that", "this", "not", "any", "some", "get", "got", "much", "many", "long", "far", "there",
    "here", "about", "into", "out", "off", "just", "don't", "i'm", "i'd", "is", "it", "my", "me", "our", "we", "be",
    "do", "in", "on", "at", "to", "of", "a", "an", "or", "if", "please", "like", "need", "want", "know", "tell",
    "happen", "happens"
})  # fmt: skip

_NAMED = re.compile(r"(?<!^)(?<![.!?]\s)\b(?!I\b)[A-Z]\w+")


def stands_alone(text: str) -> bool:
    """Whether a turn means the same to somebody who has not heard the conversation.

    Nothing in it points back (pronouns, "still", "the second one", a bare "the refund"), it does not begin as an
    answer does, and it names at least three things of its own (a proper name counts twice). A spoken change of topic
    ("by the way") is taken at its word for the beginning, never for what follows.
    """
    low = text.casefold().replace("\u2019", "'").strip()
    return _zh_alone(low) if language(text) == "zh" else _en_alone(low, bool(_NAMED.search(text)))


def _zh_alone(low: str) -> bool:
    if any(rule.search(low) for rule in (_ZH_LEADING, _ZH_LEANING, _ZH_OWN)):
        return False
    return len(_HAN.findall(_ZH_THIN.sub("", low))) + bool(_ZH_GENERIC.search(low)) >= 3


def _en_alone(low: str, named: bool) -> bool:
    said = _SHIFT.sub("", low)
    if said == low and _LEADING.search(low):
        return False
    said = _EXPLETIVE.sub("", said)
    leaning = _LEANING.search(said)
    # "Is there a cloakroom, and how much is it?": what "it" points back to is in the turn itself.
    if leaning and not (leaning[0] in _PRONOUN and _named_before(said[: leaning.start()])):
        return False
    if _FATE.search(said) or any(noun not in _UNIQUE for noun in _BARE_THE.findall(said)):
        return False
    if _WITHOUT_PLACE.search(said) and not _PLACED.search(said):
        return False
    return _things(said) + named + bool(_GENERIC.search(said)) >= 3


def _named_before(clause: str) -> bool:
    """Whether a thing was named in a clause before this one, for a pronoun to stand for."""
    return _CLAUSE.search(clause) is not None and _things(clause) >= 1


def _things(said: str) -> int:
    return len({word for word in _CONTENT.findall(said) if word not in _THIN})
