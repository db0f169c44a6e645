"""Who goes where: pure functions over arrays. No Flax, no I/O, no globals.

A router makes an `Assignment`, a dispatcher carries it out, and `RoutingSums` add up
what losses and statistics need. Other rooms import from here, not from the files.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .activations import ACTIVATIONS as ACTIVATIONS
    from .activations import ActivationName as ActivationName
    from .activations import gelu as gelu
    from .assignment import Assignment as Assignment
    from .assignment import pair_of_slot as pair_of_slot
    from .auxiliary import auxiliary_losses as auxiliary_losses
    from .balance import PoolSums as PoolSums
    from .bias import BiasRule as BiasRule
    from .bias import update_bias as update_bias
    from .capacity import expert_capacity as expert_capacity
    from .capacity import group_size as group_size
    from .capacity import split_groups as split_groups
    from .controls import route_hash as route_hash
    from .controls import route_random as route_random
    from .dispatch_blocked import block_size as block_size
    from .dispatch_blocked import block_sizes as block_sizes
    from .dispatch_pathways import marked_activation as marked_activation
    from .dispatchers import DISPATCHERS as DISPATCHERS
    from .dispatchers import NEED_CAPACITY as NEED_CAPACITY
    from .dispatchers import Dispatcher as Dispatcher
    from .dispatchers import DispatcherName as DispatcherName
    from .dispatchers import dispatch as dispatch
    from .exchange import exchange_bytes as exchange_bytes
    from .expert_choice import route_expert_choice as route_expert_choice
    from .experts import ExpertMlp as ExpertMlp
    from .experts import mlp as mlp
    from .information import information_bias as information_bias
    from .information import mutual_information as mutual_information
    from .information import normalised_information as normalised_information
    from .label_counts import Contingency as Contingency
    from .label_counts import contingency as contingency
    from .losses import global_entropy as global_entropy
    from .losses import global_entropy_loss as global_entropy_loss
    from .losses import gshard_loss as gshard_loss
    from .losses import importance_loss as importance_loss
    from .losses import load_loss as load_loss
    from .losses import local_entropy as local_entropy
    from .losses import switch_loss as switch_loss
    from .losses import task_information_loss as task_information_loss
    from .losses import token_information_loss as token_information_loss
    from .losses import z_loss as z_loss
    from .pathway import keep_experts as keep_experts
    from .routed import Routing as Routing
    from .routers import BIASED as BIASED
    from .routers import LEARNED as LEARNED
    from .routers import NOT_CAUSAL as NOT_CAUSAL
    from .routers import ROUTERS as ROUTERS
    from .routers import RouterName as RouterName
    from .routers import route as route
    from .sigmoid import route_sigmoid as route_sigmoid
    from .soft import SoftRouting as SoftRouting
    from .soft import dispatch_soft as dispatch_soft
    from .soft import route_soft as route_soft
    from .soft_summary import SoftStatistics as SoftStatistics
    from .soft_summary import SoftSums as SoftSums
    from .soft_summary import slot_cosine as slot_cosine
    from .soft_summary import soft_statistics as soft_statistics
    from .soft_summary import soft_sums as soft_sums
    from .statistics import RoutingStatistics as RoutingStatistics
    from .statistics import flat_statistics as flat_statistics
    from .statistics import routing_statistics as routing_statistics
    from .sums import RoutingSums as RoutingSums
    from .sums import routing_sums as routing_sums
    from .task import TaskModel as TaskModel
    from .task import cut_out_task as cut_out_task
    from .task import task_logits as task_logits
    from .token_choice import Priority as Priority
    from .token_choice import choose_and_place as choose_and_place
    from .token_choice import place as place
    from .top_k import route_gshard as route_gshard
    from .top_k import route_switch as route_switch
    from .top_k import route_top_k as route_top_k
    from .top_k import router_noise as router_noise

_FILES = {
    "activations": ["ACTIVATIONS", "ActivationName", "gelu"],
    "assignment": ["Assignment", "pair_of_slot"],
    "auxiliary": ["auxiliary_losses"],
    "balance": ["PoolSums"],
    "bias": ["BiasRule", "update_bias"],
    "capacity": ["expert_capacity", "group_size", "split_groups"],
    "controls": ["route_hash", "route_random"],
    "dispatch_blocked": ["block_size", "block_sizes"],
    "dispatch_pathways": ["marked_activation"],
    "dispatchers": ["DISPATCHERS", "NEED_CAPACITY", "Dispatcher", "DispatcherName", "dispatch"],
    "exchange": ["exchange_bytes"],
    "expert_choice": ["route_expert_choice"],
    "experts": ["ExpertMlp", "mlp"],
    "information": ["information_bias", "mutual_information", "normalised_information"],
    "label_counts": ["Contingency", "contingency"],
    "losses": [
        "global_entropy",
        "global_entropy_loss",
        "gshard_loss",
        "importance_loss",
        "load_loss",
        "local_entropy",
        "switch_loss",
        "task_information_loss",
        "token_information_loss",
        "z_loss",
    ],
    "pathway": ["keep_experts"],
    "routed": ["Routing"],
    "routers": ["BIASED", "LEARNED", "NOT_CAUSAL", "ROUTERS", "RouterName", "route"],
    "sigmoid": ["route_sigmoid"],
    "soft": ["SoftRouting", "dispatch_soft", "route_soft"],
    "soft_summary": [
        "SoftStatistics",
        "SoftSums",
        "slot_cosine",
        "soft_statistics",
        "soft_sums",
    ],
    "statistics": ["RoutingStatistics", "flat_statistics", "routing_statistics"],
    "sums": ["RoutingSums", "routing_sums"],
    "task": ["TaskModel", "cut_out_task", "task_logits"],
    "token_choice": ["Priority", "choose_and_place", "place"],
    "top_k": ["route_gshard", "route_switch", "route_top_k", "router_noise"],
}
# The names of files must differ from all of these: importing a file sets an attribute, too.
_WHERE = {name: file for file, names in _FILES.items() for name in names}


__all__ = [
    "ACTIVATIONS",
    "BIASED",
    "DISPATCHERS",
    "LEARNED",
    "NEED_CAPACITY",
    "NOT_CAUSAL",
    "ROUTERS",
    "ActivationName",
    "Assignment",
    "BiasRule",
    "Contingency",
    "Dispatcher",
    "DispatcherName",
    "ExpertMlp",
    "PoolSums",
    "Priority",
    "RouterName",
    "Routing",
    "RoutingStatistics",
    "RoutingSums",
    "SoftRouting",
    "SoftStatistics",
    "SoftSums",
    "TaskModel",
    "auxiliary_losses",
    "block_size",
    "block_sizes",
    "choose_and_place",
    "contingency",
    "cut_out_task",
    "dispatch",
    "dispatch_soft",
    "exchange_bytes",
    "expert_capacity",
    "flat_statistics",
    "gelu",
    "global_entropy",
    "global_entropy_loss",
    "group_size",
    "gshard_loss",
    "importance_loss",
    "information_bias",
    "keep_experts",
    "load_loss",
    "local_entropy",
    "marked_activation",
    "mlp",
    "mutual_information",
    "normalised_information",
    "pair_of_slot",
    "place",
    "route",
    "route_expert_choice",
    "route_gshard",
    "route_hash",
    "route_random",
    "route_sigmoid",
    "route_soft",
    "route_switch",
    "route_top_k",
    "router_noise",
    "routing_statistics",
    "routing_sums",
    "slot_cosine",
    "soft_statistics",
    "soft_sums",
    "split_groups",
    "switch_loss",
    "task_information_loss",
    "task_logits",
    "token_information_loss",
    "update_bias",
    "z_loss",
]


def __getattr__(name: str):
    if name in _WHERE:
        value = getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
