"""What is learnt from: prepared data sets, the emoji art that ships, tokenizers, pipelines.

The names are looked up when first used (PEP 562), so that importing this room costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .augment import Sprites as Sprites
    from .batches import Batch as Batch
    from .batches import TrainBatches as TrainBatches
    from .building import build as build
    from .captions import draw_caption as draw_caption
    from .captions import training_concepts as training_concepts
    from .config import AugmentConfig as AugmentConfig
    from .config import DataConfig as DataConfig
    from .contact_sheet import write_contact_sheet as write_contact_sheet
    from .emoji_art.licences import attribution as attribution
    from .emoji_art.sources import SourceError as SourceError
    from .examples import Concept as Concept
    from .examples import Examples as Examples
    from .looking import peek as peek
    from .records import Prepared as Prepared
    from .records import RecordError as RecordError
    from .records import open_data as open_data
    from .scenes import Scene as Scene
    from .scenes import Scenes as Scenes
    from .streams import TrainStream as TrainStream
    from .streams import evaluation_batches as evaluation_batches
    from .streams import load_data as load_data
    from .streams import make_train_stream as make_train_stream
    from .tokenizer import Tokenizer as Tokenizer
    from .tokenizer import train_tokenizer as train_tokenizer

_LAZY = {
    "AugmentConfig": "config",
    "Batch": "batches",
    "Concept": "examples",
    "DataConfig": "config",
    "Examples": "examples",
    "Prepared": "records",
    "RecordError": "records",
    "Scene": "scenes",
    "Scenes": "scenes",
    "SourceError": "emoji_art.sources",
    "Sprites": "augment",
    "Tokenizer": "tokenizer",
    "TrainBatches": "batches",
    "TrainStream": "streams",
    "attribution": "emoji_art.licences",
    "build": "building",
    "draw_caption": "captions",
    "evaluation_batches": "streams",
    "load_data": "streams",
    "make_train_stream": "streams",
    "open_data": "records",
    "peek": "looking",
    "train_tokenizer": "tokenizer",
    "training_concepts": "captions",
    "write_contact_sheet": "contact_sheet",
}

__all__ = [
    "AugmentConfig",
    "Batch",
    "Concept",
    "DataConfig",
    "Examples",
    "Prepared",
    "RecordError",
    "Scene",
    "Scenes",
    "SourceError",
    "Sprites",
    "Tokenizer",
    "TrainBatches",
    "TrainStream",
    "attribution",
    "build",
    "draw_caption",
    "evaluation_batches",
    "load_data",
    "make_train_stream",
    "open_data",
    "peek",
    "train_tokenizer",
    "training_concepts",
    "write_contact_sheet",
]


def __getattr__(name: str):
    if name in _LAZY:
        return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
