"""Robots, told from people by what they call themselves.

The patterns are those of isbot, from the package `is-bot`, which joins them into one that takes
a third of a millisecond for each new agent. Apart they take a thirtieth: most are plain words, most
of the rest are the begin of an agent, and the others cannot match where a word of theirs is not.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

from is_bot import Bots

MAX_AGENT = 256  # characters; what follows tells nothing more, and would take time
# Words of isbot's that are people's here, where a browser does not say by the others what it is.
_PEOPLE = (
    *("coc_coc_browser/", "zalo android/", "zalo ios/", "zalotheme/"),
    *("fban/", "fb_iab/", "instagram ", "musical_ly", "cubot", " google tv", " m bot "),
    *("; discovery", "; spider ", " barcelona ", "sogoumobilebrowser", "googleimageproxy"),
)
_NO_PEOPLE = ("bot/", "crawl", "spider/", "headless", "://")
_BROWSER = "mozilla/5.0 ("
_MORE = ("^viber",)  # which fetches previews

_ESCAPED = re.compile(r"\\([^\w\s])")
_ANY_OF_BEHIND = re.compile(r"\(\?<!([^()|]*)\|([^()|]*)\)")
_GROUP, _CLASS = re.compile(r"\([^()]*\)[?*]?"), re.compile(r"\[[^\]]*\][?*+]?")
_OPEN = re.compile(r"\\\w[?*+]?|.[?*]|[+$^]")


class Robots:
    """Knows robots by their agents, and by more `words` that an operator has for them."""

    def __init__(self, words: Iterable[str] = ()) -> None:
        """Sort the patterns by what it takes to find them."""
        self._words = [word.lower() for word in words]
        begins = []
        self._behind: list[tuple[str, re.Pattern[str]]] = []
        for pattern in sorted([*Bots().patterns, *_MORE]):
            word = _needed_word(pattern)
            if pattern.startswith("^"):
                begins.append(_of_python(pattern))
            elif _ESCAPED.sub(r"\1", pattern) == word:
                self._words.append(word)
            else:
                self._behind.append((word, re.compile(_of_python(pattern))))
        self._begins = re.compile("|".join(begins))
        self._remembered = lru_cache(maxsize=4096)(self._judged)

    def has(self, agent: str) -> bool:
        """Return whether a robot calls itself so; a client that does not say is one."""
        return self._remembered(agent[:MAX_AGENT])

    def _judged(self, agent: str) -> bool:
        agent = agent.lower()
        if not agent.strip():
            return True
        if agent.startswith(_BROWSER) and any(word in agent for word in _PEOPLE):
            return any(word in agent for word in _NO_PEOPLE)
        return self._matches(agent)

    def _matches(self, agent: str) -> bool:
        # Loops, as `any` takes twice the time.
        for word in self._words:
            if word in agent:
                return True
        for word, pattern in self._behind:
            if word in agent and pattern.search(agent):
                return True
        return self._begins.match(agent) is not None


def _of_python(pattern: str) -> str:
    """Write for `re` what JavaScript takes: alternatives behind us, and a hyphen in a class."""
    return _ANY_OF_BEHIND.sub(r"(?<!\1)(?<!\2)", pattern).replace(r"\d-.", r"\d\-.")


def _needed_word(pattern: str) -> str:
    """Return the longest text without which a pattern cannot match."""
    text = _ESCAPED.sub(lambda match: chr(0xE000 + ord(match[1])), pattern)
    while (shorter := _GROUP.sub("\n", text)) != text:
        text = shorter
    text = _OPEN.sub("\n", _CLASS.sub("\n", text))
    words = "" if "|" in text else max(text.split("\n"), key=len)
    return "".join(chr(ord(c) - 0xE000) if c >= "\ue000" else c for c in words)
