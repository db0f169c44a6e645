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
