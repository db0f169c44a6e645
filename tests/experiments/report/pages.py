"""A page read back: its elements, its words, and whether it is well formed."""

from html.parser import HTMLParser

VOID = {"meta", "img", "line", "rect", "polyline"}


class Page(HTMLParser):
    """Collects elements, and holds that every one that opens is closed in its turn."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.words = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def count(self, tag):
        return sum(found == tag for found, _ in self.elements)

    def curves(self):
        """What the drawings of curves say of themselves: what goes on over steps."""
        labels = [a.get("aria-label", "") for tag, a in self.elements if tag == "svg"]
        return [label for label in labels if ", at step " in label]

    def ways(self):
        """What the drawings of pathways say of themselves."""
        return [a["aria-label"] for _, a in self.elements if a.get("class") == "way-drawing"]
