"""The claims, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from .claim import Claim
from .class_claims import CLASS_CLAIMS
from .pair_claims import PAIR_CLAIMS

# In the order of the page.
_ORDER = (
    "limoe-beats-dense",
    "entropy-losses",
    "batch-priority",
    "experts-specialise",
    "layers-of-vmoe",
    "soft-choice-token",
    "upcycling",
    "loss-free",
    "one-tower",
    "evaluation-limits",
)
_BY_NAME = {claim.name: claim for claim in (*PAIR_CLAIMS, *CLASS_CLAIMS)}
CLAIMS: Mapping[str, Claim] = MappingProxyType({name: _BY_NAME[name] for name in _ORDER})
