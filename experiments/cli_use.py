"""`byways few-shot`: what a trained model's features are good for."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..datasets import ImageDataConfig
from .cli_options import parse, pick_name
from .config import ClassificationConfig, Execution
from .errors import RunError, UsageError
from .execution import check_forward

if TYPE_CHECKING:
    from .evaluation import FewShotProtocol
    from .sources import Source


@dataclasses.dataclass(frozen=True)
class FewShotOptions:
    """How much a model's image features say: few-shot classification by ridge regression.

    `byways few-shot RUN_OR_FOLDER [options]`, of a run or a model's folder that reads images.

    Attributes:
        data: labelled images; by default those that a classifier was trained on.
        protocol: `vmoe` chooses λ of a grid on the validation split; `big_vision` fixes it at
            2^10 and adds up three seeds.
        shots: images of each class.
        json: print one JSON object instead of a table.
        execution: how the model runs: `fused`, `pathways` or `auto` (docs/execution.md).
    """

    data: ImageDataConfig = ImageDataConfig()  # noqa: RUF009 (frozen)
    protocol: Literal["vmoe", "big_vision"] = "vmoe"
    shots: tuple[int, ...] = (1, 5, 10, 25)
    json: bool = False
    execution: Execution = "fused"


def few_shot(arguments: Sequence[str]) -> int:
    """`byways few-shot RUN_OR_FOLDER [--data.name …] [--protocol vmoe|big_vision] [--shots …]`"""
    program = "byways few-shot"
    if arguments and arguments[0] in ("-h", "--help"):
        parse(FewShotOptions, arguments, program)
    name, rest = pick_name(arguments, "run or folder", program)

    from .sources import find_source

    source = find_source(Path(name))
    default = FewShotOptions()
    if isinstance(source.experiment, ClassificationConfig):
        default = dataclasses.replace(default, data=source.experiment.data)
    options = parse(FewShotOptions, rest, program, default)
    protocol = _protocol(options)
    _check_images(source)
    if options.execution == "pathways":
        check_forward(source.config)

    from .compilation_cache import enable_compilation_cache

    enable_compilation_cache()
    from ..datasets import RecordError, load_images
    from ..models import WeightsError
    from .evaluation import few_shot_of_classifier, few_shot_table
    from .evaluation.image_features import image_features

    size = source.config.image_size
    try:
        data = load_images(options.data, size)
        features = image_features(source.load(), options.execution)
        found = few_shot_of_classifier(features, data, size, protocol)
    except RecordError as error:
        raise RunError(str(error)) from error
    except WeightsError:  # which is a ValueError, and not of the data
        raise
    except ValueError as error:
        raise UsageError(f"{options.data.name}: {error}") from error
    rows = [row.as_dict() for row in found]
    if options.json:
        head = {"format": 1, "source": name, "kind": source.kind, "data": options.data.name}
        how = {"protocol": options.protocol, "seeds": list(protocol.seeds)}
        print(json.dumps({**head, **how, "rows": rows}))
    else:
        from rich.console import Console

        Console().print(few_shot_table(rows))
    return 0


def _protocol(options: FewShotOptions) -> FewShotProtocol:
    from .evaluation import BIG_VISION, FewShotProtocol

    base = BIG_VISION if options.protocol == "big_vision" else FewShotProtocol()
    try:
        return dataclasses.replace(base, shots=options.shots)
    except ValueError as error:
        raise UsageError(f"--shots: {error}") from error


def _check_images(source: Source) -> None:
    if source.kind == "palm" or source.kind.endswith("_text"):
        from .sources import unfit

        raise unfit(
            source,
            "reads no images",
            "few-shot takes a classification or contrastive run, or the folder of a vmoe, a limoe "
            "or a two_tower (all of it, or its images' part)"
            + ("; for texts there is `byways generate`" if source.kind == "palm" else ""),
        )
