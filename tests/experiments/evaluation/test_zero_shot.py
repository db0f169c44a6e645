"""Class embeddings and classification with fake towers."""

import numpy as np
import pytest
from byways.experiments.evaluation import Templates, TopK, class_embeddings, classify

TWO = Templates("two", 1, "lower", ("{}", "a {}"))


def test_class_embedding_by_hand():
    # Lengths 5 and 2 must not weigh: directions (3,4)/5 and (1,0) average to (0.8, 0.4).
    table = {"cat": [3.0, 4.0], "a cat": [2.0, 0.0]}
    classes = class_embeddings(lambda texts: np.array([table[t] for t in texts]), ["Cat"], TWO)
    np.testing.assert_allclose(classes, [np.array([0.8, 0.4]) / np.hypot(0.8, 0.4)], rtol=1e-6)


def test_classify_skips_padding_and_accepts_any_label():
    classes = np.eye(3, dtype=np.float32)

    def embed(images):  # The image's first pixel is its embedding, of length one or not.
        return images[:, 0, 0, :].astype(np.float32)

    def image(*pixel):
        return np.broadcast_to(np.array(pixel, np.uint8), (2, 2, 3))

    full = {
        "image": np.stack([image(9, 1, 0), image(1, 9, 0), image(0, 2, 9)]),
        "mask": np.array([True, True, True]),
        "label": np.array([[0, -1], [2, -1], [1, 2]]),
    }
    ragged = {
        # Padding rows are images of zeros, which have no direction, and labels of nothing.
        "image": np.stack([image(0, 0, 5), image(0, 0, 0), image(0, 0, 0)]),
        "mask": np.array([True, False, False]),
        "label": np.array([[2, -1], [-1, -1], [-1, -1]]),
    }
    state = classify([full, ragged], embed, classes, lambda batch: batch["label"], ks=(1, 2))
    # Row 1 is wrong: class 2 ties with nothing and scores least (rank 2).
    assert state == TopK((1, 2), (3, 3), 4)


def test_equal_classes_are_not_told_apart():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(3, 96)).astype(np.float32)
    classes = np.repeat(rng.normal(size=(1, 96)).astype(np.float32), 37, axis=0)
    batch = {"image": np.zeros((3, 2, 2, 3), np.uint8), "mask": np.ones(3, bool)}
    state = classify([batch], lambda _: images, classes, lambda _: np.array([[0], [17], [36]]))
    assert state == TopK((1, 5), (0, 0), 3)


def test_embeddings_without_direction_are_refused():
    with pytest.raises(ValueError, match="1 of 2 text embeddings"):
        class_embeddings(lambda texts: np.array([[0.0, 0.0], [1.0, 0.0]]), ["cat"], TWO)
    with pytest.raises(ValueError, match="no class names"):
        class_embeddings(lambda texts: np.ones((0, 2)), [], TWO)


def test_the_evaluator_of_the_docs_runs(root):
    text = (root / "docs" / "evaluation.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    assert len(code.splitlines()) < 50
    scope = {}
    exec(code, scope)

    class Run:
        def embed_texts(self, texts):
            return np.eye(3)[[("cat", "dog", "cow").index(text) for text in texts]]

        def embed_images(self, images):
            return np.eye(3)[images[:, 0, 0, 0]]

    image = np.zeros((4, 2, 2, 3), np.uint8)
    image[:, 0, 0, 0] = [0, 1, 2, 0]
    mask = np.array([True, True, True, False])
    batches = [{"image": image, "mask": mask, "label": np.array([0, 2, 2, 1])}]
    score = scope["evaluate_animals"](
        Run(), batches, ["cat", "dog", "cow"], lambda batch: batch["label"]
    )
    assert score == {"top1": pytest.approx(2 / 3)}
