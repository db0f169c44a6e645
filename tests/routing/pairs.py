"""An assignment as a dictionary, for eyes."""

import jax


def as_pairs(routing, group):
    """The assignment of a group as {(token, choice): (expert, place, gate, kept)}."""
    a = jax.device_get(routing.assignment)
    k = a.pairs_per_token
    rows = {}
    for p in range(a.token.shape[1]):
        if a.routed[group, p]:
            t = int(a.token[group, p])
            rows[t, p - t * k] = tuple(
                x[group, p].item() for x in (a.expert, a.slot, a.weight, a.kept)
            )
    return rows
