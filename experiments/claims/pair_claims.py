"""Claims of LIMoE: sparse towers that read images and text."""

from __future__ import annotations

from .claim import Claim, Question, Side

_POINT = 0.01  # of a score

PAIR_CLAIMS = (
    Claim(
        name="limoe-beats-dense",
        title="LIMoE beats its dense twin",
        source="LIMoE (Mustafa et al., 2022, arXiv 2206.02770)",
        says=(
            "A sparse tower is better zero-shot and in retrieval than a dense one of the same "
            "cost per token, over all sizes."
        ),
        setting=(
            "Both see the same drawings and composed scenes in the same order, and are asked about "
            "an artist whom neither saw. 'At equal seconds' sets the dense twin's validation score "
            "at its end beside the sparse one's at that moment of its own, longer, training, whose "
            "schedule has not run out then. What the dense twin still gained in the last fifth of "
            "its steps says whether it has flattened."
        ),
        arms=("limoe", "dense"),
        seeds=(0, 1, 2, 3, 4),
        questions=(
            Question(
                "zero-shot",
                "LIMoE names more of Noto's drawings (top-1 of 837 names)",
                Side("limoe", "noto.all.top1"),
                Side("dense", "noto.all.top1"),
                _POINT,
            ),
            Question(
                "image to text",
                "its retrieval of texts is better (R@1)",
                Side("limoe", "retrieval.noto.image_to_text.r1"),
                Side("dense", "retrieval.noto.image_to_text.r1"),
                _POINT,
            ),
            Question(
                "text to image",
                "its retrieval of images is better (R@1)",
                Side("limoe", "retrieval.noto.text_to_image.r1"),
                Side("dense", "retrieval.noto.text_to_image.r1"),
                _POINT,
            ),
            Question(
                "at equal seconds",
                "it is not worse where the dense twin's time is over (validation top-1)",
                Side("limoe", "curve.at_seconds_of.dense"),
                Side("dense", "curve.last"),
                _POINT,
                kind="not worse",
            ),
        ),
        tables=(
            ("curve.gain_in_last_fifth", "gained in the last fifth (validation top-1)"),
            ("curve.seconds", "seconds of training"),
            ("curve.flops", "FLOPs of training"),
            ("noto.held_out_among_held_out.top1", "held-out concepts among themselves, top-1"),
        ),
        pictures=("curves",),
    ),
    Claim(
        name="entropy-losses",
        title="Entropy losses keep text in the experts",
        source="LIMoE (arXiv 2206.02770), its entropy losses and their ablation",
        says=(
            "With the classic balance losses alone the experts look balanced while a modality is "
            "dropped; the local and global entropy losses cure it."
        ),
        setting=(
            "Capacity 0.83 of all tokens: about one slot for each real token, since half of "
            "a text is padding; batch priority; trained briefly. Success is the share of tokens "
            "that find a slot, of the worst block, on drawings never trained on; importance is the "
            "squared coefficient of variation of the experts' weights over all tokens."
        ),
        arms=(
            "losses-none",
            "losses-classic",
            "losses-local",
            "losses-global",
            "losses-entropy",
            "losses-all",
        ),
        questions=(
            Question(
                "text is dropped",
                "with the classic losses at least one text token of ten finds no slot",
                Side("losses-classic", "routing.text_dropped"),
                0.10,
                0.02,
            ),
            Question(
                "importance looks perfect",
                "while the experts' importance is as balanced as with all losses",
                Side("losses-classic", "routing.minus_importance"),
                Side("losses-all", "routing.minus_importance"),
                0.02,
                kind="not worse",
                unit="ratio",
            ),
            Question(
                "entropies cure it",
                "with the entropy losses more text tokens find a slot",
                Side("losses-all", "routing.text_success"),
                Side("losses-classic", "routing.text_success"),
                0.02,
            ),
            Question(
                "and the score gains",
                "and the model names more (validation artist, top-1)",
                Side("losses-all", "emojione-v1.all.top1"),
                Side("losses-classic", "emojione-v1.all.top1"),
                _POINT,
            ),
        ),
        tables=(
            ("routing.text_success", "text tokens with a slot, worst block"),
            ("routing.image_success", "image tokens with a slot, worst block"),
            ("routing.importance", "importance, CV²"),
            ("routing.text_local_entropy", "text, local entropy (nats)"),
            ("routing.text_global_entropy", "text, global entropy (nats)"),
            ("routing.image_local_entropy", "image, local entropy (nats)"),
            ("routing.image_global_entropy", "image, global entropy (nats)"),
            ("emojione-v1.all.top1", "validation artist, top-1"),
        ),
        pictures=("losses",),
    ),
    Claim(
        name="experts-specialise",
        title="Experts specialise, by modality and by meaning",
        source="LIMoE (arXiv 2206.02770), its analysis of experts",
        says=(
            "Without being told to, experts divide the modalities between them, and image experts "
            "take patches of one kind of thing."
        ),
        setting=(
            "Mutual information of a token's expert with its modality, with its concept's group "
            "and with its concept, in nats, dropless, over drawings and labels never trained on; "
            "less the same after labels were shuffled, the mean of 20 shuffles: modality among "
            "tokens, the others among drawings. "
            "'Group' and 'concept' are of image tokens, so that modality has no part in them."
        ),
        arms=("limoe",),
        seeds=(0, 1, 2, 3, 4),
        questions=(
            Question(
                "modality",
                "the modality tells about the expert (the layer where it tells most)",
                Side("limoe", "information.modality.most"),
                Side("limoe", "information.modality.most_shuffled"),
                0.05,
                unit="nats",
            ),
            Question(
                "group",
                "so does the group of things that is drawn",
                Side("limoe", "information.group.most"),
                Side("limoe", "information.group.most_shuffled"),
                0.01,
                unit="nats",
            ),
            Question(
                "concept",
                "so does the thing itself",
                Side("limoe", "information.concept.most"),
                Side("limoe", "information.concept.most_shuffled"),
                0.02,
                unit="nats",
            ),
        ),
        pictures=("information",),
    ),
    Claim(
        name="one-tower",
        title="One tower with both modalities against two",
        source="LIMoE (arXiv 2206.02770), whose towers share all weights",
        says=(
            "One tower that shares its weights between modalities can stand beside a tower for "
            "each, and a sparse one the more so."
        ),
        setting=(
            "Two dense towers of four blocks each read their own modality, so that an example "
            "costs as many FLOPs as in the one tower of four blocks that reads both; they "
            "have half as many parameters again, text and image sharing none."
        ),
        arms=("limoe", "dense", "two-tower"),
        questions=(
            Question(
                "dense",
                "a dense tower for both is not worse than two (Noto, top-1)",
                Side("dense", "noto.all.top1"),
                Side("two-tower", "noto.all.top1"),
                _POINT,
                kind="not worse",
            ),
            Question(
                "sparse",
                "a sparse tower for both is not worse than two",
                Side("limoe", "noto.all.top1"),
                Side("two-tower", "noto.all.top1"),
                _POINT,
                kind="not worse",
            ),
        ),
        tables=(("curve.flops", "FLOPs of training"), ("parameters", "parameters")),
        pictures=("curves",),
    ),
    Claim(
        name="evaluation-limits",
        title="Capacity limits and unmasked padding change scores",
        source="users' threads on published evaluations (docs/evaluation.md); big_vision, vmoe",
        says=(
            "Evaluated with the capacity of training, or with padding that is routed, a model gets "
            "another score, which depends on which examples share a batch."
        ),
        setting=(
            "The same weights, Noto's drawings and names, batches of 128, one group each: dropless "
            "and masked; at C = 1 with drawings in the data set's order, kind by kind, and "
            "shuffled; and with the padding of texts routed as if it were words, at C = 1. "
            "Differences in either direction count."
        ),
        arms=("limoe",),
        seeds=(0, 1, 2, 3, 4),
        questions=(
            Question(
                "in order",
                "a limit over drawings in order changes the score (top-1)",
                Side("limoe", "limits.dropless"),
                Side("limoe", "limits.ordered"),
                0.002,
                kind="differs",
            ),
            Question(
                "shuffled",
                "so does the same limit over shuffled drawings",
                Side("limoe", "limits.dropless"),
                Side("limoe", "limits.shuffled"),
                0.002,
                kind="differs",
            ),
            Question(
                "padding",
                "so does padding that is routed",
                Side("limoe", "limits.shuffled"),
                Side("limoe", "limits.unmasked"),
                0.002,
                kind="differs",
            ),
        ),
        tables=(
            ("limits.dropless", "dropless, masked"),
            ("limits.ordered", "C = 1, in order"),
            ("limits.shuffled", "C = 1, shuffled"),
            ("limits.unmasked", "C = 1, shuffled, padding routed"),
        ),
        pictures=("limits",),
    ),
)
