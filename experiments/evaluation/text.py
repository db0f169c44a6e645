"""The text of an evaluation as data: templates and how names are put into canonical form.

Prompts and class names that are not published move reported accuracies by 3 to 8 points,
so all text that enters a score is hashed into its result.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import string
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..files import canonical_json


def content_hash(value: Any) -> str:
    """SHA-256 (hex) of `value` as canonical JSON: sorted keys, no spaces, UTF-8.

    >>> content_hash({"b": 1, "a": "é"}) == content_hash({"a": "é", "b": 1})
    True
    """
    return hashlib.sha256(canonical_json(value)).hexdigest()


def _spaces(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def _lower(text: str) -> str:
    return _spaces(text.replace("_", " ").lower())


def _bare(text: str) -> str:
    return _spaces(_lower(text).translate(str.maketrans("", "", string.punctuation)))


# Applied to the filled prompt, so that templates and names go through the same rule.
CANONICAL: dict[str, Callable[[str], str]] = {
    # The text as it is.
    "none": lambda text: text,
    # "_" becomes a space, lower case, runs of white space collapse.
    "lower": _lower,
    # The same without ASCII punctuation, big_vision's rule for CLIP prompts.
    "bare": _bare,
}


@dataclasses.dataclass(frozen=True)
class Templates:
    """A named set of prompt templates.

    Attributes:
        name: of the set.
        version: of the set's text; raised whenever the text changes.
        canonical: key of `CANONICAL`, applied to every filled prompt.
        templates: each with one `{}`, where the class name goes.
    """

    name: str
    version: int
    canonical: str
    templates: tuple[str, ...]

    def __post_init__(self):
        if self.canonical not in CANONICAL:
            raise ValueError(
                f"canonical form {self.canonical!r} of templates {self.name!r} is unknown; "
                f"choose one of {sorted(CANONICAL)}."
            )
        if not self.templates:
            raise ValueError(f"templates {self.name!r} are empty; '{{}}' alone gives the name.")
        for template in self.templates:
            if template.count("{}") != 1:
                raise ValueError(
                    f"template {template!r} of {self.name!r} must hold '{{}}' exactly once."
                )

    @property
    def sha256(self) -> str:
        """Hash of everything in the set that decides a prompt; its name does not."""
        return content_hash(
            {"canonical": self.canonical, "templates": self.templates, "version": self.version}
        )

    def prompts(self, name: str) -> list[str]:
        """The canonical prompts of one class name, in the templates' order."""
        rule = CANONICAL[self.canonical]
        # Not str.format: a name may hold braces.
        return [rule(template.replace("{}", name)) for template in self.templates]

    def canonical_names(self, names: Sequence[str]) -> list[str]:
        """The class names alone, in the set's canonical form."""
        return [CANONICAL[self.canonical](name) for name in names]


def load_templates(name: str) -> Templates:
    """A template set of `templates.json`, by name.

    Raises:
        KeyError: if there is no such set; the message lists those there are.
    """
    text = Path(__file__).with_name("templates.json").read_text("utf-8")
    sets = json.loads(text)["sets"]
    if name not in sets:
        raise KeyError(f"no template set {name!r}; there are {sorted(sets)}")
    entry = sets[name]
    return Templates(name, entry["version"], entry["canonical"], tuple(entry["templates"]))
