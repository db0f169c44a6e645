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
    from .clip_tokenizer import ClipTokenizer as ClipTokenizer
    from .config import AugmentConfig as AugmentConfig
    from .config import DataConfig as DataConfig
    from .config import ImageDataConfig as ImageDataConfig
    from .contact_sheet import write_contact_sheet as write_contact_sheet
    from .decoding import as_rgba as as_rgba
    from .emoji_art.licences import attribution as attribution
    from .emoji_art.sources import SourceError as SourceError
    from .evaluation_picture import picture as picture
    from .evaluation_split import EvaluationSplit as EvaluationSplit
    from .evaluation_split import open_split as open_split
    from .examples import Concept as Concept
    from .examples import Examples as Examples
    from .image_streams import ImageBatches as ImageBatches
    from .image_streams import batches_of_rows as batches_of_rows
    from .image_streams import fit_images as fit_images
    from .image_streams import image_evaluation_batches as image_evaluation_batches
    from .image_streams import load_images as load_images
    from .image_streams import make_image_stream as make_image_stream
    from .labelled import LabelledImages as LabelledImages
    from .labelled import open_images as open_images
    from .looking import peek as peek
    from .packed_text import make_text_stream as make_text_stream
    from .packed_text import text_batches as text_batches
    from .packed_text import text_concepts as text_concepts
    from .records import Prepared as Prepared
    from .records import RecordError as RecordError
    from .records import open_data as open_data
    from .scenes import Scene as Scene
    from .scenes import Scenes as Scenes
    from .siglip_tokenizer import SiglipTokenizer as SiglipTokenizer
    from .streams import TrainStream as TrainStream
    from .streams import evaluation_batches as evaluation_batches
    from .streams import load_data as load_data
    from .streams import make_train_stream as make_train_stream
    from .text_codes import TextCodes as TextCodes
    from .text_config import TextDataConfig as TextDataConfig
    from .tokenizer import Tokenizer as Tokenizer
    from .tokenizer import train_tokenizer as train_tokenizer

_LAZY = {
    "AugmentConfig": "config",
    "Batch": "batches",
    "ClipTokenizer": "clip_tokenizer",
    "Concept": "examples",
    "DataConfig": "config",
    "EvaluationSplit": "evaluation_split",
    "Examples": "examples",
    "ImageBatches": "image_streams",
    "ImageDataConfig": "config",
    "LabelledImages": "labelled",
    "Prepared": "records",
    "RecordError": "records",
    "Scene": "scenes",
    "Scenes": "scenes",
    "SiglipTokenizer": "siglip_tokenizer",
    "SourceError": "emoji_art.sources",
    "Sprites": "augment",
    "TextCodes": "text_codes",
    "TextDataConfig": "text_config",
    "Tokenizer": "tokenizer",
    "TrainBatches": "batches",
    "TrainStream": "streams",
    "as_rgba": "decoding",
    "attribution": "emoji_art.licences",
    "batches_of_rows": "image_streams",
    "build": "building",
    "draw_caption": "captions",
    "evaluation_batches": "streams",
    "fit_images": "image_streams",
    "image_evaluation_batches": "image_streams",
    "load_data": "streams",
    "load_images": "image_streams",
    "make_image_stream": "image_streams",
    "make_text_stream": "packed_text",
    "make_train_stream": "streams",
    "open_data": "records",
    "open_images": "labelled",
    "open_split": "evaluation_split",
    "peek": "looking",
    "picture": "evaluation_picture",
    "text_batches": "packed_text",
    "text_concepts": "packed_text",
    "train_tokenizer": "tokenizer",
    "training_concepts": "captions",
    "write_contact_sheet": "contact_sheet",
}

__all__ = [
    "AugmentConfig",
    "Batch",
    "ClipTokenizer",
    "Concept",
    "DataConfig",
    "EvaluationSplit",
    "Examples",
    "ImageBatches",
    "ImageDataConfig",
    "LabelledImages",
    "Prepared",
    "RecordError",
    "Scene",
    "Scenes",
    "SiglipTokenizer",
    "SourceError",
    "Sprites",
    "TextCodes",
    "TextDataConfig",
    "Tokenizer",
    "TrainBatches",
    "TrainStream",
    "as_rgba",
    "attribution",
    "batches_of_rows",
    "build",
    "draw_caption",
    "evaluation_batches",
    "fit_images",
    "image_evaluation_batches",
    "load_data",
    "load_images",
    "make_image_stream",
    "make_text_stream",
    "make_train_stream",
    "open_data",
    "open_images",
    "open_split",
    "peek",
    "picture",
    "text_batches",
    "text_concepts",
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
