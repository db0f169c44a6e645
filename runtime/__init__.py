"""How it runs: devices, islands, programs of compiled functions, futures. Knows nothing of models.

One client traces a program into a graph whose nodes are compiled functions on slices of devices,
and enqueues it without waiting; nodes whose work depends on data are expanded when it is known.
After Pathways (Barham et al., arXiv 2203.12533).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .attach_client import attach as attach
    from .attach_errors import AttachError as AttachError
    from .attach_errors import ControllerGone as ControllerGone
    from .attach_errors import NameTaken as NameTaken
    from .attach_errors import NameUnknown as NameUnknown
    from .attach_errors import VersionMismatch as VersionMismatch
    from .attach_find import Watched as Watched
    from .attach_state import ClusterFile as ClusterFile
    from .attach_state import cluster_alive as cluster_alive
    from .attach_state import cluster_path as cluster_path
    from .attach_state import forget_cluster as forget_cluster
    from .attach_state import read_cluster as read_cluster
    from .attach_system import Attached as Attached
    from .autodiff import value_and_grad as value_and_grad
    from .branches import Branches as Branches
    from .branches import OnDemand as OnDemand
    from .branches import Sparse as Sparse
    from .buckets import Ladder as Ladder
    from .buckets import ladder as ladder
    from .carried_errors import carried_error as carried_error
    from .carried_errors import error_arrays as error_arrays
    from .client import Client as Client
    from .cold import Cold as Cold
    from .cold import InMemory as InMemory
    from .cold import PinnedHost as PinnedHost
    from .cold_errors import BudgetTooSmall as BudgetTooSmall
    from .cold_errors import ColdFileError as ColdFileError
    from .cold_errors import ItemsInUse as ItemsInUse
    from .cold_errors import ResidentsClosed as ResidentsClosed
    from .cold_errors import UnknownItem as UnknownItem
    from .cold_file import MappedFile as MappedFile
    from .cold_file import Part as Part
    from .cold_writer import write_cold as write_cold
    from .computations import Computation as Computation
    from .computations import computation as computation
    from .controller import Controller as Controller
    from .controller_settings import ControllerSettings as ControllerSettings
    from .devices import Device as Device
    from .errors import Cancelled as Cancelled
    from .errors import IslandLost as IslandLost
    from .errors import NodeError as NodeError
    from .errors import NotFiniteError as NotFiniteError
    from .errors import ProgramError as ProgramError
    from .errors import RuntimeFault as RuntimeFault
    from .errors import RunTimeout as RunTimeout
    from .errors import SliceError as SliceError
    from .errors import StoreFull as StoreFull
    from .errors import ValueReleased as ValueReleased
    from .gates import Gate as Gate
    from .graph import Graph as Graph
    from .graph import Node as Node
    from .graph import Ref as Ref
    from .loops import repeat as repeat
    from .loops import while_loop as while_loop
    from .on_slices import AnyArray as AnyArray
    from .on_slices import OnSlices as OnSlices
    from .on_slices import put as put
    from .perfetto import write_trace as write_trace
    from .pipelines import pipeline as pipeline
    from .programs import Program as Program
    from .programs import program as program
    from .pulls import Pull as Pull
    from .ray_claims import IslandTaken as IslandTaken
    from .ray_cluster import RayIslands as RayIslands
    from .ray_cluster import RayMissing as RayMissing
    from .ray_system import RayRuntime as RayRuntime
    from .ray_versions import IslandMismatch as IslandMismatch
    from .recorder import Recorder as Recorder
    from .recorder import recording as recording
    from .resident_book import ResidentStats as ResidentStats
    from .resident_branches import ResidentBranches as ResidentBranches
    from .residents import Residents as Residents
    from .resources import Island as Island
    from .resources import Slice as Slice
    from .resources import VirtualDeviceSet as VirtualDeviceSet
    from .schedules import pipeline_actions as pipeline_actions
    from .sim_costs import SimCost as SimCost
    from .sim_machine import SimMachine as SimMachine
    from .sim_system import SimulatedRuntime as SimulatedRuntime
    from .spans import Span as Span
    from .switch_nodes import merge_branches as merge_branches
    from .switches import Branch as Branch
    from .switches import Switch as Switch
    from .switches import switch as switch
    from .system import Runtime as Runtime
    from .system import default_runtime as default_runtime
    from .tickets import Peer as Peer
    from .tickets import Ticket as Ticket
    from .trace_summary import TraceSummary as TraceSummary
    from .trace_summary import summarise as summarise
    from .transfer_errors import PeerLost as PeerLost
    from .transfer_errors import StoreMissing as StoreMissing
    from .transfer_errors import TransferError as TransferError
    from .transfer_errors import TransferRefused as TransferRefused
    from .transfer_errors import TransferTimeout as TransferTimeout
    from .transfer_stats import TransferStats as TransferStats
    from .transfers import Transfers as Transfers
    from .values import Value as Value
    from .values import arrays as arrays
    from .values import fetch as fetch
    from .waking import Executables as Executables
    from .waking import awake_groups as awake_groups

_FILES = {
    "attach_client": ["attach"],
    "attach_errors": [
        "AttachError",
        "ControllerGone",
        "NameTaken",
        "NameUnknown",
        "VersionMismatch",
    ],
    "attach_find": ["Watched"],
    "attach_state": [
        "ClusterFile",
        "cluster_alive",
        "cluster_path",
        "forget_cluster",
        "read_cluster",
    ],
    "attach_system": ["Attached"],
    "autodiff": ["value_and_grad"],
    "branches": ["Branches", "OnDemand", "Sparse"],
    "carried_errors": ["carried_error", "error_arrays"],
    "client": ["Client"],
    "cold": ["Cold", "InMemory", "PinnedHost"],
    "cold_errors": [
        "BudgetTooSmall",
        "ColdFileError",
        "ItemsInUse",
        "ResidentsClosed",
        "UnknownItem",
    ],
    "cold_file": ["MappedFile", "Part"],
    "cold_writer": ["write_cold"],
    "computations": ["Computation", "computation"],
    "controller": ["Controller"],
    "controller_settings": ["ControllerSettings"],
    "devices": ["Device"],
    "errors": [
        "Cancelled",
        "IslandLost",
        "NodeError",
        "NotFiniteError",
        "ProgramError",
        "RunTimeout",
        "RuntimeFault",
        "SliceError",
        "StoreFull",
        "ValueReleased",
    ],
    "gates": ["Gate"],
    "graph": ["Graph", "Node", "Ref"],
    "buckets": ["Ladder", "ladder"],
    "loops": ["repeat", "while_loop"],
    "on_slices": ["AnyArray", "OnSlices", "put"],
    "pipelines": ["pipeline"],
    "programs": ["Program", "program"],
    "pulls": ["Pull"],
    "ray_claims": ["IslandTaken"],
    "ray_cluster": ["RayIslands", "RayMissing"],
    "ray_system": ["RayRuntime"],
    "ray_versions": ["IslandMismatch"],
    "recorder": ["Recorder", "recording"],
    "resident_book": ["ResidentStats"],
    "resident_branches": ["ResidentBranches"],
    "residents": ["Residents"],
    "resources": ["Island", "Slice", "VirtualDeviceSet"],
    "schedules": ["pipeline_actions"],
    "sim_costs": ["SimCost"],
    "sim_machine": ["SimMachine"],
    "sim_system": ["SimulatedRuntime"],
    "spans": ["Span"],
    "switches": ["Branch", "Switch", "switch"],
    "switch_nodes": ["merge_branches"],
    "system": ["Runtime", "default_runtime"],
    "perfetto": ["write_trace"],
    "tickets": ["Peer", "Ticket"],
    "trace_summary": ["TraceSummary", "summarise"],
    "transfer_errors": [
        "PeerLost",
        "StoreMissing",
        "TransferError",
        "TransferRefused",
        "TransferTimeout",
    ],
    "transfer_stats": ["TransferStats"],
    "transfers": ["Transfers"],
    "values": ["Value", "arrays", "fetch"],
    "waking": ["Executables", "awake_groups"],
}
_FILE_OF = {name: file for file, names in _FILES.items() for name in names}

__all__ = sorted(_FILE_OF)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _FILE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_FILE_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return list(__all__)
