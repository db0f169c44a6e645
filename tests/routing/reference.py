"""Routing in plain loops over float64, from the papers, sharing no code with ours."""

from __future__ import annotations

import math

import numpy as np


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def route(gates, mask, selected, capacity, priority):
    """One group: a list of (token, choice, expert, place, gate, kept), in order of service."""
    tokens, experts = gates.shape
    # sorted() is stable: equal gates stay in order of expert, equal tops in order of token.
    choices = [sorted(range(experts), key=lambda e, t=t: -gates[t, e]) for t in range(tokens)]
    line = [t for t in range(tokens) if mask[t]]
    if priority:
        line = sorted(line, key=lambda t: -gates[t].max())
    queue = [0] * experts
    pairs = []
    for k in range(selected):
        for t in line:
            e = choices[t][k]
            kept = capacity is None or queue[e] < capacity
            pairs.append((t, k, e, queue[e], gates[t, e], kept))
            queue[e] += 1
    return pairs


def gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def expert(weights, e, x):
    up, up_bias, down, down_bias = (np.asarray(w, np.float64)[e] for w in weights)
    return gelu(x @ up + up_bias) @ down + down_bias


def moe(weights, pairs, tokens):
    """Outputs (T, D) of one group."""
    out = np.zeros(tokens.shape, np.float64)
    for t, _, e, _, gate, kept in pairs:
        if kept:
            out[t] += gate * expert(weights, e, np.asarray(tokens[t], np.float64))
    return out


def cv2(x):
    x = np.asarray(x, np.float64)
    return (x.std() / x.mean()) ** 2


def entropy(p):
    return -sum(q * math.log(q) for q in p if q > 0)


def normal_cdf(x):
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


def load(logits, noisy, mask, selected, sigma):
    """Smooth load of each expert in one group."""
    total = np.zeros(logits.shape[1])
    for t in np.flatnonzero(mask):
        threshold = sorted(noisy[t])[-selected]
        for e in range(logits.shape[1]):
            total[e] += 1 - normal_cdf((threshold - logits[t, e]) / sigma)
    return total


def choice_counts(logits, mask, selected):
    """Of one group: tokens by their first choice, and pairs by all K choices."""
    experts = logits.shape[1]
    first, every = np.zeros(experts), np.zeros(experts)
    for t in np.flatnonzero(mask):
        ranked = sorted(range(experts), key=lambda e, t=t: -logits[t, e])
        first[ranked[0]] += 1
        for e in ranked[:selected]:
            every[e] += 1
    return first, every


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def token_choice(
    scores, weights, mask, selected, capacity, *, order=None, bias=None, renormalize=False
):
    """As `route`, with more said apart, for one group.

    What is ranked (`scores`, moved by `bias`), what weighs (`weights`), and who is served first:
    `order` is token order (None), `max`, `sum` (of the chosen weights) or a number per token.
    """
    tokens, experts = scores.shape
    moved = scores + (np.zeros(experts) if bias is None else bias)
    chosen = [
        sorted(range(experts), key=lambda e, t=t: -moved[t, e])[:selected] for t in range(tokens)
    ]
    line = [t for t in range(tokens) if mask[t]]
    if order is not None:
        if isinstance(order, str):
            of = {"max": max, "sum": sum}[order]
            order = [of(weights[t, e] for e in chosen[t]) for t in range(tokens)]
        line = sorted(line, key=lambda t: -order[t])
    queue = [0] * experts
    pairs = []
    for k in range(selected):
        for t in line:
            e = chosen[t][k]
            weight = weights[t, e]
            if renormalize:
                weight = weight / sum(weights[t, other] for other in chosen[t])
            pairs.append((t, k, e, queue[e], weight, capacity is None or queue[e] < capacity))
            queue[e] += 1
    return pairs


def expert_choice(gates, mask, capacity):
    """Pairs of one group, as `route`'s; the choice is told by the slot."""
    pairs = []
    for e in range(gates.shape[1]):
        line = sorted((t for t in range(len(mask)) if mask[t]), key=lambda t: -gates[t, e])
        for slot, t in enumerate(line[:capacity]):
            pairs.append((t, slot, e, slot, gates[t, e], True))
    return pairs


def hash_scores(ids, experts, seed=0):
    """Wellons' 32-bit mixing function `lowbias32` over id and expert, in Python's integers."""
    whole = 2**32

    def mix(x):
        x = (x ^ (x >> 16)) * 0x7FEB352D % whole
        x = (x ^ (x >> 15)) * 0x846CA68B % whole
        return x ^ (x >> 16)

    scores = np.zeros((len(ids), experts))
    for t, number in enumerate(ids):
        first = mix((int(number) * 0x9E3779B9 + seed) % whole)
        for e in range(experts):
            second = mix((e * 0x85EBCA6B % whole + seed + 1) % whole)
            scores[t, e] = mix(first ^ second) >> 8
    return scores


def soft(weights, tokens, mu, scale, mask):
    """Soft MoE of one group: outputs (T, D), dispatch and combine (T, E, C)."""
    width, experts, slots = mu.shape
    valid = [t for t in range(len(tokens)) if mask[t]]
    logits = np.zeros((len(tokens), experts, slots))
    for t in valid:
        x = tokens[t] / math.sqrt(sum(v * v for v in tokens[t]) + 1e-6)
        for e in range(experts):
            for c in range(slots):
                phi = mu[:, e, c] / math.sqrt(sum(v * v for v in mu[:, e, c]) + 1e-6)
                logits[t, e, c] = scale * sum(x[d] * phi[d] for d in range(width))
    dispatch, combine = np.zeros(logits.shape), np.zeros(logits.shape)
    out = np.zeros((len(tokens), width))
    for t in valid:
        combine[t] = np.exp(logits[t]) / sum(math.exp(v) for v in logits[t].ravel())
    for e in range(experts):
        for c in range(slots):
            total = sum(math.exp(logits[t, e, c]) for t in valid)
            for t in valid:
                dispatch[t, e, c] = math.exp(logits[t, e, c]) / total
            mixed = sum((dispatch[t, e, c] * tokens[t] for t in valid), start=np.zeros(width))
            result = expert(weights, e, mixed)
            for t in valid:
                out[t] += combine[t, e, c] * result
    return out, dispatch, combine
