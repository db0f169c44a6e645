"""What Barham et al. (arXiv 2203.12533) report, and the constants that were fitted to it.

*Fitted* are four numbers, each to one published figure; what is compared with the same figure is
no prediction. *Assumed* numbers are round and nobody's measurement; the results that are
reported hardly depend on them, or only through a fitted one.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from ... import runtime as rt

# Published. Figure 6: seconds at which throughput equals JAX's, by hosts of one island.
PARITY = {16: 2.3e-3, 512: 35e-3}
# Section 5.3: parameters and devices of each of two islands; throughput over one island's of as
# many devices (given for 64B; "about 97 %" for both); bytes exchanged.
TWO_ISLANDS = {"64B": (64e9, 512, 0.972, 457e9), "136B": (136e9, 1024, 0.97, 1030e9)}
# Table 2 and Figure 10: tokens a second of a 3B decoder, by (islands, devices, S, M).
PIPELINES = {
    (1, 128, 4, 16): 133.7e3,
    (1, 128, 8, 32): 132.7e3,
    (1, 128, 16, 64): 131.4e3,
    (4, 128, 16, 64): 131.4e3,
    (1, 512, 16, 64): 507.8e3,
}

# Fitted, two numbers to the two points of Figure 6: what a call costs the controller, and what
# each host that it goes to costs it.
HOST_SECONDS = (PARITY[512] - PARITY[16]) / (512 - 16)
CALL_SECONDS = PARITY[16] - 16 * HOST_SECONDS
# Fitted to 97.2 % at 64B, with the tokens and the rate below: bytes a second of a host's link.
DCN_BYTES = 10.7e9
# Fitted to S=4, M=16 of Table 2: FLOPs a second of a device while it works on a stage.
PIPELINE_FLOPS = 28.27e12

# Assumed: half of a TPUv3 core's peak of 61.5e12 FLOPs a second; a million tokens a step.
FLOPS, TOKENS = 30e12, 2**20
# Assumed: 50 µs through the network, 50 µs for a host to prepare a launch.
NETWORK_SECONDS = PREPARE_SECONDS = 50e-6
# From the project's own measurements: a pipelined call of a Ray actor.
RAY_HOST_SECONDS = 0.5e-3


def paper_machine(**changes: Any) -> rt.SimMachine:
    """The machine of the paper as far as it is known; `changes` are fields of `SimMachine`."""
    base = rt.SimMachine(
        call_seconds=CALL_SECONDS,
        host_seconds=HOST_SECONDS,
        node_seconds=0.0,
        network_seconds=NETWORK_SECONDS,
        prepare_seconds=PREPARE_SECONDS,
        flops=FLOPS,
        dcn_bytes=DCN_BYTES,
    )
    return dataclasses.replace(base, **changes)
