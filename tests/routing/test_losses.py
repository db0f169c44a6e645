"""The auxiliary losses, against NumPy and against numbers worked out by hand."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.routing import (
    auxiliary_losses,
    global_entropy,
    global_entropy_loss,
    gshard_loss,
    importance_loss,
    load_loss,
    local_entropy,
    route_top_k,
    routing_sums,
    switch_loss,
    task_information_loss,
    token_information_loss,
    z_loss,
)

from . import reference

NAMES = ("image", "text")
ALL = {
    "importance": True,
    "load": True,
    "gshard": True,
    "switch": True,
    "z": True,
    "local": NAMES,
    "thresholds": {"image": 3.0, "text": 2.0},
    "token_information": True,
    "task_information": True,
}
SCOPES = ("group", "device", "global")


def sums_of(logits, mask=None, modality=None, noise=None, selected=1, capacity=None):
    mask = jnp.ones(logits.shape[:2], bool) if mask is None else mask
    modality = jnp.zeros(logits.shape[:2], jnp.int32) if modality is None else modality
    routing = route_top_k(logits, mask, selected=selected, capacity=capacity, noise=noise)
    return routing_sums(routing, modality, 2, devices=1)


compiled = jax.jit(sums_of, static_argnames=("selected", "capacity"))


def of_gates(*tokens, modality=None):
    """Sums of one group of tokens with these gates (log gates are logits: logsumexp 0)."""
    logits = jnp.log(jnp.asarray(tokens, jnp.float32))[None]
    return compiled(logits, modality=None if modality is None else jnp.asarray([modality]))


def test_importance_by_hand():
    # Importances 0.9+0.7 = 1.6 and 0.1+0.3 = 0.4: mean 1, population std 0.6, CV^2 0.36.
    sums = of_gates([0.9, 0.1], [0.7, 0.3])
    assert importance_loss(sums) == pytest.approx(0.36, rel=1e-5)
    # Two tokens that balance each other: 0, though each is decided.
    assert importance_loss(of_gates([0.9, 0.1], [0.1, 0.9])) == pytest.approx(0.0, abs=1e-7)
    # All on one of four experts: mean 1/4, std sqrt(3)/4, CV^2 3 = E-1, the most there is.
    hot = compiled(jnp.asarray([[[50.0, 0.0, 0.0, 0.0]] * 3]))
    assert importance_loss(hot) == pytest.approx(3.0, rel=1e-5)


def test_importance_per_group_and_global():
    # Each group is lopsided one way (importances 1.6, 0.4: 0.36), all of it is balanced.
    one = [[0.9, 0.1], [0.7, 0.3]]
    other = [[0.1, 0.9], [0.3, 0.7]]
    sums = compiled(jnp.log(jnp.asarray([one, other], jnp.float32)))
    assert importance_loss(sums, "group") == pytest.approx(0.36, rel=1e-5)
    assert importance_loss(sums, "global") == pytest.approx(0.0, abs=1e-7)


def test_gshard_and_switch_by_hand():
    # K=1. Two tokens choose expert 0, one expert 1; mean gates (1.9/3, 1.1/3).
    # E * (2/3 * 1.9/3 + 1/3 * 1.1/3) = 2 * 4.9/9 = 1.08889, by either name.
    one = of_gates([0.9, 0.1], [0.7, 0.3], [0.3, 0.7])
    assert gshard_loss(one) == pytest.approx(9.8 / 9, rel=1e-5)
    assert switch_loss(one) == pytest.approx(9.8 / 9, rel=1e-5)
    # K=2 of three experts: first choices (1, 1, 0)/2, all choices (2, 2, 0)/2, mean gates
    # (.5, .4, .1): 3 * (.25 + .2) = 1.35, and 3 * (.5 + .4) = 2.7.
    logits = jnp.log(jnp.asarray([[[0.6, 0.3, 0.1], [0.4, 0.5, 0.1]]]))
    two = compiled(logits, selected=2)
    assert gshard_loss(two) == pytest.approx(1.35, rel=1e-5)
    assert switch_loss(two) == pytest.approx(2.7, rel=1e-5)
    # Perfect balance is 1 and K; all on one of three experts is E.
    round_robin = jnp.log(0.7 * jnp.eye(3) + 0.1)[None]
    assert gshard_loss(compiled(round_robin, selected=2)) == pytest.approx(1.0, rel=1e-5)
    assert switch_loss(compiled(jnp.zeros((1, 3, 3)), selected=3)) == pytest.approx(3.0, rel=1e-5)
    hot = compiled(jnp.zeros((1, 3, 3)).at[..., 1].set(50.0))
    assert gshard_loss(hot) == pytest.approx(3.0, rel=1e-5)


def test_information_losses_by_hand():
    # Two tasks, each decided for an expert of its own: I(task; expert) is near log 2, and so
    # is I(expert; token). One expert for both: 0.
    apart = of_gates([1.0, 1e-9], [1e-9, 1.0], modality=[0, 1])
    assert task_information_loss(apart) == pytest.approx(-math.log(2), rel=1e-5)
    assert token_information_loss(apart) == pytest.approx(-math.log(2), rel=1e-5)
    same = of_gates([0.9, 0.1], [0.9, 0.1], modality=[0, 1])
    assert task_information_loss(same) == pytest.approx(0.0, abs=1e-6)
    assert token_information_loss(same) == pytest.approx(0.0, abs=1e-6)
    # Three tokens of one task and one of the other: p(m) is 1/2 or 3/4.
    uneven = of_gates(*[[0.9, 0.1]] * 3, [0.1, 0.9], modality=[0, 0, 0, 1])
    # H(.5,.5) - H(.9,.1) = 0.69315 - 0.32508; and H(.7,.3) - H(.9,.1) = 0.61086 - 0.32508.
    assert task_information_loss(uneven) == pytest.approx(-0.36807, rel=1e-4)
    assert task_information_loss(uneven, "token") == pytest.approx(-0.28578, rel=1e-4)


def test_load_by_hand():
    # E=2, K=1, sigma 1/2, clean logits (1, 0), noise (0, 2): noisy (1, 1): ties go to expert 0.
    # thr = 1. p_0 = 1 - Phi((1-1)/.5) = 1/2; p_1 = 1 - Phi((1-0)/.5) = 1 - Phi(2) = 0.02275.
    # Mean 0.261375, std 0.238625: CV^2 = 0.83350.
    sums = compiled(jnp.asarray([[[1.0, 0.0]]]), noise=jnp.asarray([[[0.0, 2.0]]]))
    np.testing.assert_allclose(sums.load_e, [0.5, 0.02275], atol=1e-5)
    assert load_loss(sums) == pytest.approx((0.238625 / 0.261375) ** 2, rel=1e-3)


def test_load_needs_noise():
    with pytest.raises(ValueError, match="needs a token-choice router with noise"):
        load_loss(of_gates([0.5, 0.5]))


def test_z_by_hand():
    # logsumexp(0, 0) = log 2 = 0.6931; logsumexp(log 3, 0) = log 4 = 1.3863.
    # Mean of the squares: (0.48045 + 1.92181)/2 = 1.20113.
    sums = compiled(jnp.asarray([[[0.0, 0.0], [math.log(3), 0.0]]]))
    assert z_loss(sums) == pytest.approx(1.20113, rel=1e-5)


def test_local_entropy_by_hand():
    # H(1/2,1/2) = log 2 = 0.69315; H(.9,.1) = 0.32508. Image: both, mean 0.50912. Text: only
    # the second. Confident routing is *less* entropy, so this is minimised as it stands.
    sums = of_gates([0.5, 0.5], [0.9, 0.1], [0.9, 0.1], modality=[0, 0, 1])
    np.testing.assert_allclose(local_entropy(sums), [0.50912, 0.32508], rtol=1e-4)


def test_global_entropy_by_hand():
    # Two tokens decided for different experts: each H = 0.32508, but their mean is (.5, .5)
    # and H of that log 2. Two decided for the same one: the mean is as decided as they are.
    spread = of_gates([0.9, 0.1], [0.1, 0.9])
    same = of_gates([0.9, 0.1], [0.9, 0.1])
    assert global_entropy(spread)[0] == pytest.approx(math.log(2), rel=1e-5)
    assert global_entropy(same)[0] == pytest.approx(0.32508, rel=1e-4)
    # The loss, at a soft minimum of 1.8 experts: tau = log 1.8 = 0.58779.
    # Spread: H is above tau, so 0. Same: tau - H = 0.26271. (The sign that others got wrong
    # is relu(tau + H), which is 1.281 for the spread and 0.913 for the collapsed one.)
    assert global_entropy_loss(spread, 0, 1.8) == 0.0
    assert global_entropy_loss(same, 0, 1.8) == pytest.approx(0.26271, rel=1e-4)
    assert global_entropy_loss(spread, 1, 1.8) == 0.0  # no text here


def test_descent_decides_tokens_and_spreads_modalities():
    """The signs once more, by what the gradient does."""
    logits = jnp.asarray([[[0.3, 0.0, 0.0], [0.2, 0.1, 0.0]]])

    def loss(logits, **terms):
        return sum(auxiliary_losses(sums_of(logits), NAMES, **terms).values())

    def slope(along, **terms):
        gradient = jax.jit(jax.grad(lambda logits: loss(logits, **terms)))(logits)
        return float(np.vdot(gradient, along))

    decide = np.asarray(logits) - np.mean(logits, axis=-1, keepdims=True)
    assert slope(decide, local=("image",)) < 0  # sharper gates, lower loss
    assert slope(decide, thresholds={"image": 3.0}) > 0  # all to expert 0, higher loss
    assert slope(decide, importance=True) > 0


@pytest.mark.parametrize("selected", [1, 2, 4])
def test_all_against_numpy(selected):
    rng = np.random.default_rng(selected)
    logits = rng.standard_normal((3, 10, 4))
    noise = rng.standard_normal((3, 10, 4))
    mask = rng.uniform(size=(3, 10)) < 0.7
    mask[2] = False  # a group of nothing but padding
    modality = rng.integers(0, 2, (3, 10))
    sums = compiled(
        *(jnp.asarray(x) for x in (logits.astype(np.float32), mask, modality)),
        noise=jnp.asarray(noise, jnp.float32),
        selected=selected,
    )
    probs = reference.softmax(logits)
    noisy = logits + noise / 4
    full = [0, 1]
    expected = {
        "importance": np.mean([reference.cv2(probs[g][mask[g]].sum(0)) for g in full]),
        "load": np.mean(
            [
                reference.cv2(reference.load(logits[g], noisy[g], mask[g], selected, 1 / 4))
                for g in full
            ]
        ),
        "z": np.mean(np.log(np.exp(logits[mask]).sum(-1)) ** 2),
    }
    gates = reference.softmax(noisy)
    counts = [reference.choice_counts(noisy[g], mask[g], selected) for g in full]
    for name, which in (("gshard", 0), ("switch", 1)):
        expected[name] = np.mean(
            [4 * np.sum(counts[g][which] * gates[g][mask[g]].sum(0)) / mask[g].sum() ** 2
             for g in full]
        )  # fmt: skip
    means = [probs[mask & (modality == m)].mean(0) for m in (0, 1)]
    local = np.mean([reference.entropy(p) for p in probs[mask]])
    expected["token_information"] = local - reference.entropy(probs[mask].mean(0))
    expected["task_information"] = sum(reference.entropy(p) / 2 for p in means) - reference.entropy(
        sum(means) / 2
    )
    for m, name in enumerate(NAMES):
        mine = probs[mask & (modality == m)]
        expected[f"local/{name}"] = np.mean([reference.entropy(p) for p in mine])
        tau = math.log(ALL["thresholds"][name])
        expected[f"global/{name}"] = max(0.0, tau - reference.entropy(mine.mean(0)))
    got = auxiliary_losses(sums, NAMES, **ALL)
    assert list(got) == [
        "importance", "load", "gshard", "switch", "z", "local/image", "local/text",
        "global/image", "global/text", "token_information", "task_information",
    ]  # fmt: skip
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
    every = [probs[mask].sum(0), sum(reference.load(logits[g], noisy[g], mask[g], selected, 1 / 4)
                                     for g in full)]  # fmt: skip
    assert importance_loss(sums, "global") == pytest.approx(reference.cv2(every[0]), rel=1e-4)
    assert load_loss(sums, "global") == pytest.approx(reference.cv2(every[1]), rel=1e-3)
    total = gates[mask].sum(0) / mask.sum() ** 2
    for loss, which in ((gshard_loss, 0), (switch_loss, 1)):
        value = 4 * np.sum((counts[0][which] + counts[1][which]) * total)
        assert loss(sums, "global") == pytest.approx(value, rel=1e-4)
    # One device holds all the groups here.
    for loss in (importance_loss, load_loss, gshard_loss, switch_loss):
        assert loss(sums, "device") == pytest.approx(float(loss(sums, "global")), rel=1e-4)


@jax.jit
def total_and_slope(logits, mask, modality, noise):
    """Of every loss in every scope."""

    def total(logits):
        sums = sums_of(logits, mask, modality, noise)
        terms = [auxiliary_losses(sums, NAMES, **ALL, scope=scope) for scope in SCOPES]
        return sum(sum(term.values()) for term in terms)

    return jax.value_and_grad(total)(logits)


def case(tokens=6, experts=4):
    rng = np.random.default_rng(0)
    return {
        "logits": jnp.asarray(rng.standard_normal((1, tokens, experts)), jnp.float32),
        "mask": jnp.ones((1, tokens), bool),
        "modality": jnp.asarray([[0, 1] * (tokens // 2)]),
        "noise": jnp.asarray(rng.standard_normal((1, tokens, experts)), jnp.float32),
    }


EDGES = {
    "exact balance": {"logits": jnp.zeros((1, 6, 4)), "noise": jnp.zeros((1, 6, 4))},
    "certain": {"logits": jnp.zeros((1, 6, 4)).at[..., 1].set(1e4)},
    "an empty modality": {"modality": jnp.zeros((1, 6), jnp.int32)},
    "everything masked": {"mask": jnp.zeros((1, 6), bool)},
}


@pytest.mark.parametrize("edge", EDGES)
def test_gradients_are_finite_at_the_edges(edge):
    value, slope = total_and_slope(**(case() | EDGES[edge]))
    assert np.isfinite(value)
    assert np.isfinite(slope).all()
    if edge == "exact balance":
        # Gates are all 1/4: H = log 4 for each token, above either threshold; z = log(4)^2; gshard
        # and switch are 1, the informations 0; and all that three times.
        assert value == pytest.approx(3 * (2 + 2 * math.log(4) + math.log(4) ** 2), rel=1e-5)
    if edge == "everything masked":
        assert value == 0.0
        assert not slope.any()


def test_one_expert_has_nothing_to_balance():
    def total(logits):
        sums = sums_of(logits, noise=jnp.ones((1, 3, 1)))
        wanted = ALL | {"z": False, "thresholds": {}}
        return sum(sum(auxiliary_losses(sums, NAMES, **wanted, scope=s).values()) for s in SCOPES)

    value, slope = jax.jit(jax.value_and_grad(total))(jnp.asarray([[[0.3], [2.0], [-1.0]]]))
    assert value == 6.0  # gshard and switch are 1 with one expert, all else 0
    assert not np.asarray(slope).any()


def test_gradients_against_finite_differences():
    at = case()
    _, slope = total_and_slope(**at)

    def slow(logits):
        logits = logits[0]
        noisy = logits + np.asarray(at["noise"], np.float64)[0] / 4
        probs = reference.softmax(logits)
        loss = reference.cv2(probs.sum(0))
        loss += reference.cv2(reference.load(logits, noisy, np.ones(6), 1, 1 / 4))
        first, _ = reference.choice_counts(noisy, np.ones(6, bool), 1)
        loss += 2 * 4 * np.sum(first / 6 * reference.softmax(noisy).mean(0))
        loss += np.mean(np.log(np.exp(logits).sum(-1)) ** 2)
        for m, experts in enumerate((3.0, 2.0)):
            mine = probs[m::2]
            loss += np.mean([reference.entropy(p) for p in mine])
            loss += max(0.0, math.log(experts) - reference.entropy(mine.mean(0)))
        # Two tasks of three tokens each: both informations are about the same mean.
        loss += np.mean([reference.entropy(p) for p in probs])
        loss += np.mean([reference.entropy(probs[m::2].mean(0)) for m in (0, 1)])
        return 3 * (loss - 2 * reference.entropy(probs.mean(0)))

    where = np.asarray(at["logits"], np.float64)
    direction = np.random.default_rng(3).standard_normal(where.shape)
    change = slow(where + 1e-6 * direction) - slow(where - 1e-6 * direction)
    assert np.vdot(slope, direction) == pytest.approx(change / 2e-6, rel=1e-3)


def test_what_masked_tokens_hold_changes_no_bit():
    at = case()
    mask = jnp.asarray([[True, False, True, True, False, True]])
    results = []
    for rubbish in (0.0, 7.0, jnp.nan, -jnp.inf):
        held = jnp.where(mask[..., None], at["logits"], rubbish)
        results.append(total_and_slope(**(at | {"logits": held, "mask": mask})))
    for value, slope in results[1:]:
        assert np.array_equal(value, results[0][0])
        assert np.array_equal(slope, results[0][1])
    assert not np.asarray(results[0][1])[~np.asarray(mask)].any()


def test_only_what_is_asked_for_and_nothing_unknown():
    sums = of_gates([0.9, 0.1])
    assert auxiliary_losses(sums, NAMES) == {}
    assert list(auxiliary_losses(sums, NAMES, z=True, thresholds={"image": 0.0})) == ["z"]
    for arguments, says in [
        ({"local": ("sound",)}, "'sound' is unknown"),
        ({"thresholds": {"image": 2.5}}, "at most E"),
        ({"thresholds": {"image": 1.0}}, "above 1"),
    ]:
        with pytest.raises(ValueError, match=says):
            auxiliary_losses(sums, NAMES, **arguments)
    with pytest.raises(ValueError, match="1 names for 2"):
        auxiliary_losses(sums, ("image",))
    with pytest.raises(ValueError, match="say how many there are"):
        importance_loss(dataclasses.replace(sums, per_device=None), "device")


def test_the_threshold_is_a_logit_where_gates_are_equal():
    """Gates underflow to 0: the third chosen is the lower expert, not the third largest logit."""
    logits = jnp.array([[[0.0, 120.0, 240.0, 110.0]]])

    @jax.jit
    def run(logits):
        noise = jnp.full(logits.shape, 1e-3)
        routing = route_top_k(logits, selected=3, capacity=None, noise=noise)
        return routing, routing_sums(routing, jnp.zeros((1, 1), jnp.int32), 1)

    routing, sums = run(logits)
    assert routing.assignment.expert.tolist() == [[2, 0, 1]]
    np.testing.assert_allclose(sums.load_e, [0.0, 1.0, 1.0, 0.5], atol=1e-3)
