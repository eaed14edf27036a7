"""The words of a corpus as numbers.

Ids `0 .. len(vocabulary) - 1` are what a model predicts: `</s>`, the corpus's own unknown symbol, then its
words. The start symbol `<s>` comes after them: it is read and never predicted, so it has a row in the input
tables and no output logit. There is no padding symbol because batches hold sentences of one length.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

END = "</s>"
START = "<s>"


@dataclass(frozen=True)
class Vocabulary:
    """The predicted words of a corpus in the order of their ids; `words[0]` is `</s>`, `words[1]` the unknown."""

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        assert self.words[0] == END
        assert len(set(self.words)) == len(self.words)

    def __len__(self) -> int:
        return len(self.words)

    @property
    def end(self) -> int:
        return 0

    @property
    def unknown(self) -> int:
        """Id that stands for words out of the vocabulary, for dropped words and for the inputless decoder's input."""
        return 1

    @property
    def start(self) -> int:
        """Id of `<s>`, the first id that is not predicted."""
        return len(self.words)

    @property
    def num_inputs(self) -> int:
        """Rows of an input table: the predicted words and `<s>`."""
        return len(self.words) + 1

    @cached_property
    def ids(self) -> dict[str, int]:
        return {word: index for index, word in enumerate(self.words)}

    def encode(self, sentence: Sequence[str]) -> list[int]:
        """Ids of the words of one sentence and of the `</s>` that ends it."""
        ids, unknown = self.ids, self.unknown
        return [ids.get(word, unknown) for word in sentence] + [self.end]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Words up to, and without, the first `</s>`."""
        words: list[str] = []
        for index in ids:
            if index == self.end:
                break
            words.append(self.words[index])
        return words


def from_sentences(
    sentences: Iterable[Sequence[str]], unknown: str, max_vocabulary: int | None = None, min_count: int = 1
) -> Vocabulary:
    """The vocabulary of a training split: its words by falling count, then alphabetically.

    `max_vocabulary` bounds the number of predicted words, `</s>` and the unknown symbol included;
    words seen fewer than `min_count` times are left out.
    """
    counts = Counter(word for sentence in sentences for word in sentence)
    ranked = sorted(
        (word for word, count in counts.items() if count >= min_count and word not in (END, START, unknown)),
        key=lambda word: (-counts[word], word),
    )
    room = None if max_vocabulary is None else max(0, max_vocabulary - 2)
    return Vocabulary((END, unknown, *ranked[:room]))


def from_word_list(words: Iterable[str], unknown: str) -> Vocabulary:
    """The vocabulary of a supplied list, in the order of the list; doubles and the special symbols count once."""
    kept = dict.fromkeys(word for word in words if word not in (END, START, unknown))
    return Vocabulary((END, unknown, *kept))
