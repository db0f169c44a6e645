"""How good a run is: zero-shot, retrieval, their baselines and the routing's health.

The face of `byways.experiments.evaluation`; names are looked up when first used, so that
importing it imports neither JAX nor a data set.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .baselines import chance_top_k as chance_top_k
    from .baselines import dense_twin as dense_twin
    from .baselines import dense_twin_record as dense_twin_record
    from .baselines import pixel_scores as pixel_scores
    from .classification import ClassScores as ClassScores
    from .embedder import Embedder as Embedder
    from .embedder import open_tokenizer as open_tokenizer
    from .evaluate import evaluate_run as evaluate_run
    from .features import Features as Features
    from .features import collect_features as collect_features
    from .few_shot import BIG_VISION as BIG_VISION
    from .few_shot import FewShotProtocol as FewShotProtocol
    from .few_shot import FewShotRow as FewShotRow
    from .few_shot import choose_support as choose_support
    from .few_shot import few_shot_of_classifier as few_shot_of_classifier
    from .few_shot import few_shot_rows as few_shot_rows
    from .linear_probe import ProbeProtocol as ProbeProtocol
    from .linear_probe import score_probe as score_probe
    from .metrics import TopK as TopK
    from .metrics import label_ranks as label_ranks
    from .metrics import similarities as similarities
    from .metrics import top_candidates as top_candidates
    from .protocol import DemoData as DemoData
    from .protocol import evaluate_model as evaluate_model
    from .questions import ClassList as ClassList
    from .questions import classes_of as classes_of
    from .retrieval import pair_captions as pair_captions
    from .retrieval import retrieval_recall as retrieval_recall
    from .retrieval_scores import score_retrieval as score_retrieval
    from .ridge import Ridge as Ridge
    from .routing_stats import measure_routing as measure_routing
    from .score_protocol import PROTOCOLS as PROTOCOLS
    from .score_protocol import ScoreProtocol as ScoreProtocol
    from .table import few_shot_table as few_shot_table
    from .table import settings_table as settings_table
    from .text import CANONICAL as CANONICAL
    from .text import Templates as Templates
    from .text import content_hash as content_hash
    from .text import load_templates as load_templates
    from .vmoe_scores import SettingScore as SettingScore
    from .vmoe_scores import eval_settings as eval_settings
    from .vmoe_scores import evaluate_settings as evaluate_settings
    from .vmoe_scores import vmoe_features as vmoe_features
    from .vmoe_scores import vmoe_logits as vmoe_logits
    from .zero_shot import class_embeddings as class_embeddings
    from .zero_shot import classify as classify
    from .zero_shot_scores import score_zero_shot as score_zero_shot

_LAZY = {
    "BIG_VISION": "few_shot",
    "CANONICAL": "text",
    "ClassList": "questions",
    "ClassScores": "classification",
    "DemoData": "protocol",
    "Embedder": "embedder",
    "Features": "features",
    "FewShotProtocol": "few_shot",
    "FewShotRow": "few_shot",
    "PROTOCOLS": "score_protocol",
    "ProbeProtocol": "linear_probe",
    "Ridge": "ridge",
    "ScoreProtocol": "score_protocol",
    "SettingScore": "vmoe_scores",
    "Templates": "text",
    "TopK": "metrics",
    "chance_top_k": "baselines",
    "choose_support": "few_shot",
    "class_embeddings": "zero_shot",
    "classes_of": "questions",
    "classify": "zero_shot",
    "collect_features": "features",
    "content_hash": "text",
    "dense_twin": "baselines",
    "dense_twin_record": "baselines",
    "eval_settings": "vmoe_scores",
    "evaluate_model": "protocol",
    "evaluate_run": "evaluate",
    "evaluate_settings": "vmoe_scores",
    "few_shot_of_classifier": "few_shot",
    "few_shot_rows": "few_shot",
    "few_shot_table": "table",
    "label_ranks": "metrics",
    "load_templates": "text",
    "measure_routing": "routing_stats",
    "open_tokenizer": "embedder",
    "pair_captions": "retrieval",
    "pixel_scores": "baselines",
    "retrieval_recall": "retrieval",
    "score_probe": "linear_probe",
    "score_retrieval": "retrieval_scores",
    "score_zero_shot": "zero_shot_scores",
    "settings_table": "table",
    "similarities": "metrics",
    "top_candidates": "metrics",
    "vmoe_features": "vmoe_scores",
    "vmoe_logits": "vmoe_scores",
}

__all__ = [
    "BIG_VISION",
    "CANONICAL",
    "PROTOCOLS",
    "ClassList",
    "ClassScores",
    "DemoData",
    "Embedder",
    "Features",
    "FewShotProtocol",
    "FewShotRow",
    "ProbeProtocol",
    "Ridge",
    "ScoreProtocol",
    "SettingScore",
    "Templates",
    "TopK",
    "chance_top_k",
    "choose_support",
    "class_embeddings",
    "classes_of",
    "classify",
    "collect_features",
    "content_hash",
    "dense_twin",
    "dense_twin_record",
    "eval_settings",
    "evaluate_model",
    "evaluate_run",
    "evaluate_settings",
    "few_shot_of_classifier",
    "few_shot_rows",
    "few_shot_table",
    "label_ranks",
    "load_templates",
    "measure_routing",
    "open_tokenizer",
    "pair_captions",
    "pixel_scores",
    "retrieval_recall",
    "score_probe",
    "score_retrieval",
    "score_zero_shot",
    "settings_table",
    "similarities",
    "top_candidates",
    "vmoe_features",
    "vmoe_logits",
]


def __getattr__(name: str):
    if name in _LAZY:
        return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
