"""Models as thin Flax Linen modules over `byways.routing`; their trees are plain pytrees.

Other rooms import from here, not from the files. Names load when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .causal_routing import check_stepwise as check_stepwise
    from .config import ModelConfig as ModelConfig
    from .config import MoeConfig as MoeConfig
    from .config_json import config_from_json as config_from_json
    from .contrastive import sigmoid_loss as sigmoid_loss
    from .contrastive import softmax_loss as softmax_loss
    from .generation import generate as generate
    from .interop.errors import WeightsError as WeightsError
    from .interop.folder import LoadedModel as LoadedModel
    from .interop.folder import load_model as load_model
    from .interop.folder import read_model_config as read_model_config
    from .interop.folder import save_model as save_model
    from .interop.kinds import MODEL_KINDS as MODEL_KINDS
    from .interop.kinds import model_kind as model_kind
    from .interop.kinds import parameter_shapes as parameter_shapes
    from .interop.two_tower_files import read_two_tower as read_two_tower
    from .interop.vmoe_files import read_vmoe_checkpoint as read_vmoe_checkpoint
    from .interop.vmoe_tree import vmoe_config_of as vmoe_config_of
    from .language_loss import RowLosses as RowLosses
    from .language_loss import palm_loss as palm_loss
    from .language_loss import row_losses as row_losses
    from .limoe import MODALITIES as MODALITIES
    from .limoe import Embeddings as Embeddings
    from .limoe import Limoe as Limoe
    from .limoe import join as join
    from .lowering.calibration import calibrate as calibrate
    from .lowering.cost import Calibration as Calibration
    from .lowering.cost import Costs as Costs
    from .lowering.layer_work import LayerWork as LayerWork
    from .lowering.lowered import Lowered as Lowered
    from .lowering.lowered import lower as lower
    from .lowering.per_expert import PerExpert as PerExpert
    from .lowering.per_expert import split_experts as split_experts
    from .lowering.resident_experts import Shelf as Shelf
    from .lowering.resident_experts import shelve as shelve
    from .lowering.worth import worth_apart as worth_apart
    from .mlp import Mlp as Mlp
    from .moe import Moe as Moe
    from .palm import Palm as Palm
    from .palm import Prediction as Prediction
    from .palm_block import sequence_groups as sequence_groups
    from .palm_config import PalmConfig as PalmConfig
    from .palm_presets import PALM as PALM
    from .palm_slots import Entry as Entry
    from .palm_slots import Slots as Slots
    from .palm_slots import empty_slot as empty_slot
    from .palm_slots import empty_slots as empty_slots
    from .palm_slots import fill_slot as fill_slot
    from .palm_slots import read_prompt as read_prompt
    from .palm_slots import run_slots as run_slots
    from .palm_slots import step_slots as step_slots
    from .pathway import cut_pathway as cut_pathway
    from .resize import at_resolution as at_resolution
    from .resize import resize_positions as resize_positions
    from .soft_presets import SOFT as SOFT
    from .stacking import stack_blocks as stack_blocks
    from .stacking import unstack_blocks as unstack_blocks
    from .two_tower import TwoTower as TwoTower
    from .two_tower_config import ImageTowerConfig as ImageTowerConfig
    from .two_tower_config import TextTowerConfig as TextTowerConfig
    from .two_tower_config import TwoTowerConfig as TwoTowerConfig
    from .two_tower_presets import TWO_TOWERS as TWO_TOWERS
    from .upcycle import upcycle_model as upcycle_model
    from .vmoe import Classification as Classification
    from .vmoe import Vmoe as Vmoe
    from .vmoe import image_groups as image_groups
    from .vmoe_config import VmoeConfig as VmoeConfig
    from .vmoe_presets import VMOE as VMOE

_HOMES = {
    "SOFT": "soft_presets",
    "stack_blocks": "stacking",
    "unstack_blocks": "stacking",
    "ModelConfig": "config",
    "MoeConfig": "config",
    "config_from_json": "config_json",
    "softmax_loss": "contrastive",
    "sigmoid_loss": "contrastive",
    "MODALITIES": "limoe",
    "Embeddings": "limoe",
    "Limoe": "limoe",
    "join": "limoe",
    "Calibration": "lowering.cost",
    "Costs": "lowering.cost",
    "calibrate": "lowering.calibration",
    "LayerWork": "lowering.layer_work",
    "Lowered": "lowering.lowered",
    "lower": "lowering.lowered",
    "PerExpert": "lowering.per_expert",
    "worth_apart": "lowering.worth",
    "split_experts": "lowering.per_expert",
    "Shelf": "lowering.resident_experts",
    "shelve": "lowering.resident_experts",
    "Mlp": "mlp",
    "Moe": "moe",
    "Palm": "palm",
    "Prediction": "palm",
    "sequence_groups": "palm_block",
    "PalmConfig": "palm_config",
    "PALM": "palm_presets",
    "check_stepwise": "causal_routing",
    "Entry": "palm_slots",
    "Slots": "palm_slots",
    "empty_slot": "palm_slots",
    "empty_slots": "palm_slots",
    "fill_slot": "palm_slots",
    "read_prompt": "palm_slots",
    "run_slots": "palm_slots",
    "step_slots": "palm_slots",
    "palm_loss": "language_loss",
    "row_losses": "language_loss",
    "RowLosses": "language_loss",
    "generate": "generation",
    "TwoTower": "two_tower",
    "ImageTowerConfig": "two_tower_config",
    "TextTowerConfig": "two_tower_config",
    "TwoTowerConfig": "two_tower_config",
    "TWO_TOWERS": "two_tower_presets",
    "Classification": "vmoe",
    "Vmoe": "vmoe",
    "image_groups": "vmoe",
    "VmoeConfig": "vmoe_config",
    "VMOE": "vmoe_presets",
    "cut_pathway": "pathway",
    "at_resolution": "resize",
    "resize_positions": "resize",
    "upcycle_model": "upcycle",
    "WeightsError": "interop.errors",
    "LoadedModel": "interop.folder",
    "load_model": "interop.folder",
    "read_model_config": "interop.folder",
    "save_model": "interop.folder",
    "MODEL_KINDS": "interop.kinds",
    "model_kind": "interop.kinds",
    "parameter_shapes": "interop.kinds",
    "read_two_tower": "interop.two_tower_files",
    "read_vmoe_checkpoint": "interop.vmoe_files",
    "vmoe_config_of": "interop.vmoe_tree",
}

__all__ = sorted(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
