"""The nearest valid name to a mistyped one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice most like `word`, or None where none is alike.

    Case, and hyphen against underscore, do not count as differences.

    Examples:
        >>> nearest("limoe_tyni", ["limoe_tiny", "limoe_b16"])
        'limoe_tiny'
        >>> nearest("Emoji-Art", ["emoji_art", "emoji_scenes"])
        'emoji_art'
        >>> nearest("zzz", ["train", "report"]) is None
        True
    """
    plain = {_plain(choice): choice for choice in choices}
    found = difflib.get_close_matches(_plain(word), plain, n=1, cutoff=0.5)
    return plain[found[0]] if found else None


def nearest_key(key: str, keys: Iterable[str]) -> str | None:
    """The dotted key most like `key`; a bare last part finds its full path.

    Examples:
        >>> nearest_key("num_expert", ["model.moe.num_experts", "model.depth"])
        'model.moe.num_experts'
        >>> nearest_key("model.moe.num_expert", ["model.moe.num_experts", "model.depth"])
        'model.moe.num_experts'
        >>> nearest_key("moe.n", ["model.moe.n", "model.moe.router"])
        'model.moe.n'
    """
    keys = list(keys)
    wanted = _plain(key)
    for candidate in keys:
        if _plain(candidate).endswith("." + wanted):
            return candidate
    leaves: dict[str, str] = {}
    for candidate in keys:
        leaves.setdefault(_plain(candidate).rsplit(".", 1)[-1], candidate)
    whole = difflib.get_close_matches(wanted, [_plain(k) for k in keys], n=1, cutoff=0.6)
    by_plain = {_plain(k): k for k in keys}
    leaf = difflib.get_close_matches(wanted.rsplit(".", 1)[-1], leaves, n=1, cutoff=0.6)
    if whole and leaf:
        # Whichever is more alike: `moe.num_expert` is nearer to the leaf than to any whole key.
        score_whole = difflib.SequenceMatcher(None, wanted, whole[0]).ratio()
        score_leaf = difflib.SequenceMatcher(None, wanted.rsplit(".", 1)[-1], leaf[0]).ratio()
        prefers_leaf = "." not in wanted and score_leaf > score_whole
        return leaves[leaf[0]] if prefers_leaf else by_plain[whole[0]]
    if whole:
        return by_plain[whole[0]]
    return leaves[leaf[0]] if leaf else None


def unknown(kind: str, word: str, choices: Iterable[str]) -> str:
    """One sentence that names the bad word, the nearest valid one and the valid ones.

    Examples:
        >>> unknown("preset", "limoe_tyni", ["limoe_tiny", "limoe_b16"])
        "unknown preset 'limoe_tyni'; did you mean 'limoe_tiny'? Valid: limoe_tiny, limoe_b16"
    """
    choices = list(choices)
    found = nearest(word, choices)
    hint = f"; did you mean '{found}'?" if found else "."
    return f"unknown {kind} '{word}'{hint} Valid: {', '.join(choices)}"


def _plain(word: str) -> str:
    return word.lower().replace("-", "_")
