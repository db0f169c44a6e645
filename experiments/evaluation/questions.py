"""What is asked: classes, templates and captions, checked before a model is loaded."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from ...datasets import EvaluationSplit
from ..errors import UsageError
from ..suggest import unknown
from .score_protocol import ScoreProtocol
from .text import content_hash, load_templates


@dataclasses.dataclass(frozen=True)
class ClassList:
    """Classes in their order, and the prompts that stand for each.

    Attributes:
        names: of each class its canonical names, at least one.
        templates: the canonical templates.
        origin: of the templates: a set's name, or a file.
    """

    names: tuple[tuple[str, ...], ...]
    templates: tuple[str, ...]
    origin: str

    @property
    def prompts(self) -> list[list[str]]:
        """Of each class, every name in every template."""
        # Not str.format: a name may hold braces.
        return [
            [template.replace("{}", name) for name in names for template in self.templates]
            for names in self.names
        ]

    @property
    def prompts_sha256(self) -> str:
        """Hash of every prompt of every class: who has the same asked the same."""
        return content_hash(self.prompts)

    @property
    def names_sha256(self) -> str:
        """Hash of the canonical names."""
        return content_hash(self.names)


def read_templates(named: str) -> tuple[tuple[str, ...], str]:
    """Templates, each with one `{}`, and where they are from.

    Args:
        named: a file, a template a line; or a set of `templates.json`.

    Raises:
        UsageError: neither; a file without templates; a template without `{}`.
    """
    path = Path(named)
    if not path.is_file():
        try:
            return load_templates(named).templates, named
        except KeyError:
            sets = json.loads(Path(__file__).with_name("templates.json").read_text("utf-8"))["sets"]
            raise UsageError(
                f"--templates: {unknown('set', named, sets)}; and there is no such file"
            ) from None
    found = []
    for number, line in enumerate(_lines(path, "--templates"), 1):
        if not line:
            continue
        if line.count("{}") != 1:
            raise UsageError(
                f"{path} line {number}: {line[:80]!r} must hold '{{}}', where the class name goes, "
                "exactly once"
            )
        found.append(line)
    if not found:
        raise UsageError(f"{path} holds no template; a line '{{}}' is the class name alone")
    return tuple(found), path.name


def read_class_file(path: Path) -> list[str]:
    """The lines of a class list, whose order is that of the data's labels.

    Raises:
        UsageError: no such file, no class in it, or an empty line between classes.
    """
    lines = _lines(path, "--classes")
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise UsageError(f"{path} holds no class name; expected one class a line")
    if "" in lines:
        raise UsageError(
            f"{path} line {lines.index('') + 1} is empty, and the classes after it would get "
            "other numbers: expected one class a line, in the order of the data's labels"
        )
    return lines


def _lines(path: Path, option: str) -> list[str]:
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{option} {path}: cannot be read as text ({error})") from error
    # Not splitlines: a name may hold what it takes for an end of line.
    return [line.strip() for line in text.split("\n")]


def class_list(
    lines: Sequence[str], protocol: ScoreProtocol, templates: str | None, where: str
) -> ClassList:
    """Classes as the protocol reads them.

    Args:
        lines: a class each.
        protocol: how names are cut and written.
        templates: a set or a file; None is the protocol's.
        where: the classes are from, for messages.

    Raises:
        UsageError: two classes of one name, a class of which no name is left, or templates as
            `read_templates`.
    """
    raw, origin = read_templates(templates or protocol.templates)
    names: list[tuple[str, ...]] = []
    line_of: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        found = protocol.class_names(line)
        if not found:
            raise UsageError(
                f"{where} line {number}: of {line!r} no name is left in the canonical form "
                f"{protocol.canonical!r}; rename it, or choose another --canonical"
            )
        for name in found:
            other = line_of.setdefault(name, number)
            if other != number:
                cut = "" if protocol.names == "whole" else ", or take --names whole"
                raise UsageError(
                    f"{where} lines {other} and {number}, {lines[other - 1]!r} and {line!r}, are "
                    f"both the class {name!r}, so that neither can be told from the other: rename "
                    f"one{cut}"
                )
        names.append(tuple(found))
    return ClassList(tuple(names), tuple(protocol.template(one) for one in raw), origin)


def classes_of(
    split: EvaluationSplit, file: Path | None, protocol: ScoreProtocol, templates: str | None
) -> ClassList:
    """The classes of a file or, without one, of the data, with their prompts.

    Raises:
        UsageError: as `class_list`; the data has no labels; or another number of them.
    """
    if split.classes is None and not split.text_labelled:
        raise _unlabelled(split)
    if file is not None:
        lines, where = read_class_file(file), str(file)
        check_class_count(split, lines, where)
    elif split.classes is not None:
        lines, where = list(split.classes), f"the classes of {split.name}"
    else:
        # Texts that are one in canonical form are one class, and no mistake in a list.
        labels = text_classes(split)
        found = {name: one for one in reversed(labels) for name in protocol.class_names(one)[:1]}
        lines, where = [found[name] for name in sorted(found)], f"the labels of {split.name}"
    return class_list(lines, protocol, templates, where)


def text_classes(split: EvaluationSplit) -> list[str]:
    """The classes of a split whose labels are texts: their distinct ones, sorted.

    Raises:
        UsageError: it has no labels of any kind.
    """
    found = {row.label_text for row in split.read() if row.label_text}
    if not found:
        raise _unlabelled(split)
    return sorted(found)


def _unlabelled(split: EvaluationSplit) -> UsageError:
    """A caption is no label: of a thousand images it would make a thousand classes."""
    return UsageError(
        f"{split.name} has no labels: zero-shot needs the feature `label` or `labels`; of "
        "images with captions there is --task retrieval"
    )


def check_class_count(split: EvaluationSplit, classes: Sequence[str], where: str) -> None:
    """Raises UsageError where a class list is not as long as the data's labels."""
    if split.classes is not None and len(classes) != len(split.classes):
        raise UsageError(
            f"{where} has {len(classes)} classes, and the labels of {split.name} are of "
            f"{len(split.classes)} ({', '.join(split.classes[:3])}, …): expected a class a line, "
            "in that order"
        )


def check_captions(split: EvaluationSplit) -> None:
    """Raises UsageError where a split has no captions at all."""
    if not split.captioned:
        raise UsageError(
            f"{split.name} has no captions: retrieval needs one of the features captions, caption, "
            "text, title, or a label that is text"
        )
