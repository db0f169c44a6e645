"""Claims of V-MoE, Soft MoE, sparse upcycling and the literature on routers, on Fashion-MNIST."""

from __future__ import annotations

from .claim import Claim, Question, Side

# Of top-1 over 10,000 test images.
_POINT = 0.003
_TOP = "scores.top1"

CLASS_CLAIMS = (
    Claim(
        name="batch-priority",
        title="Batch priority holds the score at small capacity",
        source="V-MoE (Riquelme et al., 2021, arXiv 2106.05974), section 4",
        says=(
            "With buffers for half of the tokens or fewer, serving the surest tokens first keeps "
            "the score where serving them in order loses it, and the saving is real."
        ),
        setting=(
            "Trained at C = 1.05 with batch priority and evaluated at smaller C, the surest first "
            "or in order; and trained at C = 0.5 both ways, evaluated as trained. Images are "
            "shuffled; a group has 512 tokens. Time is of the forward pass, dropless over "
            "C = 0.5, medians in turns."
        ),
        arms=("vmoe", "vmoe-half", "vmoe-half-vanilla"),
        seeds=(0, 1, 2, 3, 4),
        questions=(
            Question(
                "half, surest first",
                "at C = 0.5 batch priority loses less than a point against dropless",
                Side("vmoe", "capacity.0.5.priority"),
                Side("vmoe", "capacity.dropless"),
                0.01,
                kind="not worse",
            ),
            Question(
                "half, in order",
                "in order more is lost",
                Side("vmoe", "capacity.0.5.priority"),
                Side("vmoe", "capacity.0.5.order"),
                _POINT,
            ),
            Question(
                "a quarter",
                "at C = 0.25 the difference is there, too",
                Side("vmoe", "capacity.0.25.priority"),
                Side("vmoe", "capacity.0.25.order"),
                _POINT,
            ),
            Question(
                "trained so",
                "trained at C = 0.5, batch priority is better than token order",
                Side("vmoe-half", "capacity.trained"),
                Side("vmoe-half-vanilla", "capacity.trained"),
                _POINT,
            ),
            Question(
                "time",
                "C = 0.5 takes less time",
                Side("vmoe", "capacity.time_ratio"),
                1.0,
                0.05,
                unit="ratio",
            ),
        ),
        tables=(
            ("capacity.dropless", "dropless"),
            ("capacity.1.05.priority", "C = 1.05, surest first"),
            ("capacity.1.05.order", "C = 1.05, in order"),
            ("capacity.0.5.priority", "C = 0.5, surest first"),
            ("capacity.0.5.order", "C = 0.5, in order"),
            ("capacity.0.25.priority", "C = 0.25, surest first"),
            ("capacity.0.25.order", "C = 0.25, in order"),
            ("capacity.0.1.priority", "C = 0.1, surest first"),
            ("capacity.0.1.order", "C = 0.1, in order"),
            ("capacity.trained", "as trained"),
            ("capacity.time_ratio", "time dropless over C = 0.5"),
        ),
        pictures=("capacity",),
    ),
    Claim(
        name="layers-of-vmoe",
        title="Late layers go by class, early ones by position",
        source="V-MoE (arXiv 2106.05974), its analysis of routing",
        says=(
            "Experts of late layers specialise in classes, those of early layers in positions; a "
            "random router in a late layer hurts most; K may change at evaluation."
        ),
        setting=(
            "Experts in all four blocks. Mutual information, in nats, of a token's expert with its "
            "image's class and with its position, less the mean over 20 shuffles of labels, on "
            "validation images. A router is replaced by one that draws an expert for each token "
            "uniformly, with the gate that the real router gave its choice."
        ),
        arms=("vmoe-every",),
        seeds=(0, 1, 2, 3, 4),
        questions=(
            Question(
                "class",
                "the last layer's experts tell more of the class than the first's",
                Side("vmoe-every", "layers.class.last"),
                Side("vmoe-every", "layers.class.first"),
                0.02,
                unit="nats",
            ),
            Question(
                "position",
                "the first layer's experts tell more of the position than the last's",
                Side("vmoe-every", "layers.position.first"),
                Side("vmoe-every", "layers.position.last"),
                0.02,
                unit="nats",
            ),
            Question(
                "random router",
                "a random router in the last layer costs more than in the first",
                Side("vmoe-every", "layers.random_drop.last"),
                Side("vmoe-every", "layers.random_drop.first"),
                _POINT,
            ),
            Question(
                "K",
                "trained with K = 1, it is not worse with K = 2",
                Side("vmoe-every", "layers.selected_2"),
                Side("vmoe-every", "layers.selected_1"),
                _POINT,
                kind="not worse",
            ),
        ),
        tables=tuple(
            (f"layers.{what}.{block}", f"{title}, block {block}")
            for what, title in (
                ("class", "information about the class (nats)"),
                ("position", "information about the position (nats)"),
                ("random_drop", "lost under a random router (top-1)"),
            )
            for block in range(4)
        ),
        pictures=("layers",),
    ),
    Claim(
        name="soft-choice-token",
        title="Soft MoE, expert choice, token choice",
        source="Routers in Vision MoE (Liu et al., 2024, arXiv 2401.15969); Soft MoE (2308.00951)",
        says="At equal cost Soft MoE is best, and expert choice is better than token choice.",
        setting=(
            "The same model and steps; a token costs one expert in all three: as many slots as "
            "tokens under Soft MoE (an image's tokens share them), C = 1 under expert choice, "
            "K = 1 and C = 1.05 under token choice. Test images, each router as it is evaluated."
        ),
        arms=("vmoe-soft", "vmoe-choice", "vmoe"),
        questions=(
            Question(
                "soft",
                "Soft MoE is better than expert choice (top-1)",
                Side("vmoe-soft", _TOP),
                Side("vmoe-choice", _TOP),
                _POINT,
            ),
            Question(
                "expert choice",
                "expert choice is better than token choice",
                Side("vmoe-choice", _TOP),
                Side("vmoe", _TOP),
                _POINT,
            ),
        ),
        tables=((_TOP, "test, top-1"), ("curve.seconds", "seconds of training")),
        pictures=("curves",),
    ),
    Claim(
        name="upcycling",
        title="An upcycled model beats its dense parent trained on",
        source="Sparse upcycling (Komatsuzaki et al., 2022, arXiv 2212.05055)",
        says="For the same extra cost, growing a dense model into a sparse one gains more.",
        setting=(
            "A dense ViT is trained to its end. Then it is trained on for as many steps, or its "
            "MLPs in two of four blocks are copied into eight experts each and that model is "
            "trained for as many: K = 1, so that a token costs the same. Both begin with a fresh "
            "optimiser and schedule."
        ),
        arms=("vit", "vit-longer", "vmoe-upcycled"),
        questions=(
            Question(
                "upcycled",
                "the upcycled model is better (top-1)",
                Side("vmoe-upcycled", _TOP),
                Side("vit-longer", _TOP),
                _POINT,
            ),
        ),
        tables=((_TOP, "test, top-1"), ("curve.seconds", "seconds of training")),
        pictures=("curves",),
    ),
    Claim(
        name="loss-free",
        title="Loss-free balancing balances, and does not hurt",
        source="Auxiliary-loss-free load balancing (Wang et al., 2024, arXiv 2408.15664)",
        says=(
            "A bias for each expert, moved after each step, balances the load better than "
            "auxiliary losses, at no cost in quality."
        ),
        setting=(
            "MaxVio, the largest load over its even share less one, of the worst block, mean over "
            "the last fifth of training; and the test score. K = 1, softmax gates. The bias moves "
            "by 0.001 a step, the paper's rate, for 300 steps where the paper has many thousands."
        ),
        arms=("vmoe", "vmoe-free", "vmoe-unbalanced"),
        questions=(
            Question(
                "balances",
                "the load is more even than without any balancing",
                Side("vmoe-unbalanced", "routing.max_vio"),
                Side("vmoe-free", "routing.max_vio"),
                0.1,
                unit="ratio",
            ),
            Question(
                "as losses do",
                "it is not less even than with auxiliary losses",
                Side("vmoe", "routing.max_vio"),
                Side("vmoe-free", "routing.max_vio"),
                0.1,
                kind="not worse",
                unit="ratio",
            ),
            Question(
                "score",
                "the score is not worse than with auxiliary losses (top-1)",
                Side("vmoe-free", _TOP),
                Side("vmoe", _TOP),
                _POINT,
                kind="not worse",
            ),
        ),
        tables=(("routing.max_vio", "MaxVio"), (_TOP, "test, top-1")),
        pictures=("max_vio",),
    ),
)
