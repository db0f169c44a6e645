"""What open_clip's settings say that no shape tells; parts that we have not are refused."""

from __future__ import annotations

import re

from ..config import Activation
from ..two_tower_config import TextPool
from .foreign_json import Settings

# Sizes that the weights tell, and what matters in training or to the tokenizer alone. A LayerNorm
# after the pooling of a single token is the same as before it.
_IMAGE_KNOWN = {"image_size", "layers", "width", "head_width", "mlp_ratio", "patch_size"}
_IMAGE_KNOWN |= {"patch_dropout", "act_kwargs", "norm_kwargs", "final_ln_after_pool"}
_IMAGE_KNOWN |= {"attn_pooler_queries", "attn_pooler_heads", "output_tokens"}
_IMAGE_USUAL = {"pool_type": "tok", "pos_embed_type": "learnable", "block_type": "default"}
_TEXT_KNOWN = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"}
_TEXT_KNOWN |= {"hf_tokenizer_name", "tokenizer_mode", "tokenizer_kwargs", "pad_id", "eos_id"}
_TEXT_KNOWN |= {"no_causal_mask", "pool_type", "proj_bias", "act_kwargs", "norm_kwargs"}
_TEXT_KNOWN |= {"final_ln_after_pool", "output_tokens", "hf_proj_type", "hf_pooler_type"}
_TEXT_KNOWN |= {"hf_model_pretrained"}
_TEXT_USUAL = {"proj_type": "linear", "block_type": "default"}
_TRUNK_KNOWN = {"image_size", "timm_model_name", "timm_model_pretrained", "timm_proj_bias"}
_TRUNK_KNOWN |= {"timm_drop", "timm_drop_path", "patch_dropout", "layers", "width", "patch_size"}
_TRUNK_KNOWN |= {"head_width", "mlp_ratio"}

# timm gives those of its SigLIP trunks GELU's tanh form, and the others the exact one.
_TANH_TRUNKS = ("base_patch32", "large_patch16_siglip_512", "so400m_patch16", "giantopt")
_HEADS = {"base": 12, "large": 16, "so400m": 16, "giantopt": 16}


def check_image(given: Settings) -> None:
    """Refuses what CLIP's own image tower has not.

    Raises:
        WeightsError: there is such a part.
    """
    _refuse_others(given, _IMAGE_KNOWN, _IMAGE_USUAL)


def check_text(given: Settings) -> tuple[bool, TextPool]:
    """Whether the text tower is causal, and how it pools.

    Raises:
        WeightsError: a part that no model of ours has.
    """
    _refuse_others(given, _TEXT_KNOWN, _TEXT_USUAL)
    pools: dict[str, TextPool] = {"argmax": "end", "eos": "end", "last": "last"}
    causal, pool = (
        not given.values.get("no_causal_mask"),
        given.choice("pool_type", "argmax", pools),
    )
    if pool == "end" and not causal:
        raise given.wrong(
            "pool_type", "'last' where there is no causal mask: there, padding is attended to"
        )
    return causal, pool


def text_reading(given: Settings, quick: bool) -> tuple[Activation, float]:
    """The MLPs' activation, and the LayerNorms' epsilon.

    Raises:
        WeightsError: another activation, or a value of another type.
    """
    forms: dict[str, Activation] = {"none": "gelu", "tanh": "gelu_tanh"}
    activation = given.part("act_kwargs").choice("approximate", "none", forms)
    return "quick_gelu" if quick else activation, given.part("norm_kwargs").number("eps", 1e-5)


def siglip_trunk(given: Settings) -> tuple[int, Activation]:
    """Heads and activation of SigLIP's image tower, which timm keeps under a name.

    Raises:
        WeightsError: another name, pooling or projection than SigLIP's.
    """
    _refuse_others(given, _TRUNK_KNOWN, {"timm_pool": "map", "timm_proj": "none"})
    name = given.values.get("timm_model_name")
    match = re.fullmatch(r"vit_([a-z0-9]+)_patch\d+_siglip_\d+", str(name)[:80])
    if match is None or match[1] not in _HEADS:
        raise given.wrong(
            "timm_model_name", f"vit_SIZE_patchN_siglip_N, of size {', '.join(_HEADS)}"
        )
    tanh = str(name).removeprefix("vit_").startswith(_TANH_TRUNKS)
    return _HEADS[match[1]], "gelu_tanh" if tanh else "gelu"


def _refuse_others(given: Settings, known: set[str], usual: dict[str, str]) -> None:
    for key, value in given.values.items():
        if key in known or value is None or value is False:
            continue
        if usual.get(key) != value:
            raise given.wrong(key, f"{usual.get(key, 'none')!r}: nothing else is known here")
