"""The tables show every score beside its baselines, and the dense twin only where it is."""

import copy
import io

from byways.experiments.evaluation.table import retrieval_table, routing_table, score_table
from rich.console import Console

ENTRY = {"top1": 0.5, "top5": 0.75, "n": 4, "candidates": 8}
RECALL = {"r1": 0.1, "r5": 0.2, "r10": 0.3, "n": 4, "candidates": 8}
RESULTS = {
    "noto": {"all": ENTRY, "held_out": {**ENTRY, "top1": 0.25}},
    "retrieval": {"noto": {"image_to_text": RECALL}},
    "baselines": {
        "chance": {
            "noto": {"all": {**ENTRY, "top1": 0.125}},
            "retrieval": {"noto": {"image_to_text": {**RECALL, "r1": 0.125}}},
        },
        "pixel_nearest_neighbour": {"noto": {"all": {**ENTRY, "top1": 0.369}}},
        "pixel_nearest_neighbour_with_held_out": {"noto": {"all": {**ENTRY, "top1": 0.407}}},
    },
}


def shown(table):
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def test_scores_stand_beside_their_baselines():
    text = shown(score_table(RESULTS))
    line = next(line for line in text.splitlines() if " all " in line)
    assert all(value in line for value in ("50.0/75.0", "36.9", "40.7", "12.5"))
    # A share that a baseline lacks is a dash, not an error.
    assert "–" in next(line for line in text.splitlines() if " held out " in line)
    assert "dense" not in text
    assert "10.0/20.0/30.0" in shown(retrieval_table(RESULTS))


def test_the_dense_twin_is_shown_where_it_is():
    results = copy.deepcopy(RESULTS)
    results["baselines"]["dense_twin"] = {
        "preset": "limoe_tiny_dense",
        "scores": {
            "noto": {"all": {**ENTRY, "top1": 0.333}},
            "retrieval": {"noto": {"image_to_text": {**RECALL, "r1": 0.444}}},
        },
    }
    assert "33.3" in shown(score_table(results))
    assert "dense: a finished run of limoe_tiny_dense." in shown(score_table(results))
    assert "44.4" in shown(retrieval_table(results))


def test_routing_table():
    part = {"success": 0.97, "local_entropy": 0.5, "global_entropy": 2.0}
    layer = {
        "modalities": {"image": part, "text": part},
        "dead_experts": [3],
        "success_random": 0.91,
    }
    routing = {"capacity_factor": 1.25, "capacity_over_real_tokens": 1.5}
    text = shown(routing_table({**routing, "layers": {"encoderblock_1": layer}}))
    assert "1.25; 1.50 slots" in text
    assert all(value in text for value in ("encoderblock_1", "97.0", "91.0", "2.00"))
