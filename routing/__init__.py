"""Who goes where: pure functions over arrays. No Flax, no I/O, no globals.

A router makes an `Assignment`, a dispatcher carries it out, and `RoutingSums` add up
what losses and statistics need. Other rooms import from here, not from the files.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .assignment import Assignment as Assignment
    from .assignment import pair_of_slot as pair_of_slot
    from .capacity import expert_capacity as expert_capacity
    from .capacity import group_size as group_size
    from .dispatchers import DISPATCHERS as DISPATCHERS
    from .dispatchers import Dispatcher as Dispatcher
    from .dispatchers import DispatcherName as DispatcherName
    from .dispatchers import dispatch as dispatch
    from .experts import ExpertMlp as ExpertMlp
    from .experts import gelu as gelu
    from .experts import mlp as mlp
    from .losses import auxiliary_losses as auxiliary_losses
    from .losses import global_entropy as global_entropy
    from .losses import global_entropy_loss as global_entropy_loss
    from .losses import importance_loss as importance_loss
    from .losses import load_loss as load_loss
    from .losses import local_entropy as local_entropy
    from .losses import z_loss as z_loss
    from .statistics import RoutingStatistics as RoutingStatistics
    from .statistics import flat_statistics as flat_statistics
    from .statistics import routing_statistics as routing_statistics
    from .sums import RoutingSums as RoutingSums
    from .sums import routing_sums as routing_sums
    from .top_k import TopKRouting as TopKRouting
    from .top_k import place as place
    from .top_k import route_random as route_random
    from .top_k import route_top_k as route_top_k
    from .top_k import router_noise as router_noise

_FILES = {
    "assignment": ["Assignment", "pair_of_slot"],
    "capacity": ["expert_capacity", "group_size"],
    "dispatchers": ["DISPATCHERS", "Dispatcher", "DispatcherName", "dispatch"],
    "experts": ["ExpertMlp", "gelu", "mlp"],
    "losses": [
        "auxiliary_losses",
        "global_entropy",
        "global_entropy_loss",
        "importance_loss",
        "load_loss",
        "local_entropy",
        "z_loss",
    ],
    "statistics": ["RoutingStatistics", "flat_statistics", "routing_statistics"],
    "sums": ["RoutingSums", "routing_sums"],
    "top_k": ["TopKRouting", "place", "route_random", "route_top_k", "router_noise"],
}
# The names of files must differ from all of these: importing a file sets an attribute, too.
_WHERE = {name: file for file, names in _FILES.items() for name in names}


__all__ = [
    "DISPATCHERS",
    "Assignment",
    "Dispatcher",
    "DispatcherName",
    "ExpertMlp",
    "RoutingStatistics",
    "RoutingSums",
    "TopKRouting",
    "auxiliary_losses",
    "dispatch",
    "expert_capacity",
    "flat_statistics",
    "gelu",
    "global_entropy",
    "global_entropy_loss",
    "group_size",
    "importance_loss",
    "load_loss",
    "local_entropy",
    "mlp",
    "pair_of_slot",
    "place",
    "route_random",
    "route_top_k",
    "router_noise",
    "routing_statistics",
    "routing_sums",
    "z_loss",
]


def __getattr__(name: str):
    if name in _WHERE:
        value = getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
