"""Words to ids and back, in plain Python and NumPy."""
from __future__ import annotations

import json
import re
from typing import Any, Callable, Iterable, Iterator

import numpy as np

from .... import errors
from ....platform import gfile

# Capitals in a row; a capitalised word before the next; words with ', _ and -.
TOKENIZER_RE = re.compile(r"[A-Z]{2,}(?![a-z])|[A-Z][a-z]+(?=[A-Z])|[\'\w\-]+", re.UNICODE)

_FORMAT = "graphflow VocabularyProcessor 1"  # what a saved processor starts with


def tokenizer(iterator: Iterable[str]) -> Iterator[list[str]]:
    """The words of each document."""
    return (TOKENIZER_RE.findall(document) for document in iterator)


class CategoricalVocabulary:
    """Categories (words, numbers) and their ids, counted from 1; 0 is `unknown_token`."""

    def __init__(self, unknown_token: Any = "<UNK>", support_reverse: bool = True):
        self._unknown_token, self._support_reverse = unknown_token, support_reverse
        self._freq: dict[Any, int] = {}
        self._freeze = False
        self._set([unknown_token])

    def _set(self, categories: list[Any]) -> None:
        """Takes `categories` in the order of their ids."""
        self._reverse_mapping = categories
        self._mapping = {category: i for i, category in enumerate(categories)}

    def __len__(self) -> int:
        """How many categories, the unknown one included."""
        return len(self._mapping)

    def freeze(self, freeze: bool = True) -> None:
        """From now on new categories are unknown (or, with False, no longer)."""
        self._freeze = freeze

    def get(self, category: Any) -> int:
        """The id of `category`; a new one gets the next id, or 0 once the vocabulary is frozen."""
        found = self._mapping.get(category)
        if found is None and not self._freeze:
            found = self._mapping[category] = len(self._reverse_mapping)
            self._reverse_mapping.append(category)
        return found or 0

    def add(self, category: Any, count: int = 1) -> None:
        """Counts `category`."""
        if self.get(category) > 0:
            self._freq[category] = self._freq.get(category, 0) + count

    def trim(self, min_frequency: int, max_frequency: int = -1) -> None:
        """Keeps what was counted more than `min_frequency` and, if that is positive, less than `max_frequency` times.

        Ids are given anew, most frequent first, equal counts in the order of their names.
        """
        by_name = sorted(self._freq.items(), key=lambda item: (isinstance(item[0], str), item[0]))
        kept = [(category, count) for category, count in sorted(by_name, key=lambda item: item[1], reverse=True)
                if count > min_frequency and not 0 < max_frequency <= count]
        self._freq = dict(kept)
        self._set([self._unknown_token, *self._freq])

    def reverse(self, class_id: int) -> Any:
        """The category with this id.

        Raises:
            ValueError: the vocabulary was made without `support_reverse`.  IndexError: no such id.
        """
        if not self._support_reverse:
            raise ValueError("This vocabulary wasn't initialized with support_reverse to support reverse() function.")
        return self._reverse_mapping[class_id]


class VocabularyProcessor:
    """Documents as rows of `max_document_length` word ids, cut or filled up with 0.

    Args:
        min_frequency: words seen so often or less are unknown.
        vocabulary: a `CategoricalVocabulary` to use.
        tokenizer_fn: from an iterable of documents to an iterable of lists of words.
    """

    def __init__(self, max_document_length: int, min_frequency: int = 0, vocabulary: CategoricalVocabulary | None = None,
                 tokenizer_fn: Callable[[Iterable[str]], Iterable[list[str]]] | None = None):
        self.max_document_length, self.min_frequency = max_document_length, min_frequency
        self.vocabulary_ = CategoricalVocabulary() if vocabulary is None else vocabulary
        self._tokenizer = tokenizer_fn or tokenizer

    def fit(self, raw_documents: Iterable[str], unused_y: Any = None) -> VocabularyProcessor:
        """Learns the words of the documents, then freezes the vocabulary."""
        for tokens in self._tokenizer(raw_documents):
            for token in tokens:
                self.vocabulary_.add(token)
        if self.min_frequency > 0:
            self.vocabulary_.trim(self.min_frequency)
        self.vocabulary_.freeze()
        return self

    def fit_transform(self, raw_documents: Iterable[str], unused_y: Any = None) -> Iterator[np.ndarray]:
        """`fit`, then `transform` of the same documents."""
        self.fit(raw_documents)
        return self.transform(raw_documents)

    def transform(self, raw_documents: Iterable[str]) -> Iterator[np.ndarray]:
        """Yields int64 [max_document_length] for each document."""
        for tokens in self._tokenizer(raw_documents):
            ids = np.zeros(self.max_document_length, np.int64)
            known = [self.vocabulary_.get(token) for token in list(tokens)[:self.max_document_length]]
            ids[:len(known)] = known
            yield ids

    def reverse(self, documents: Iterable[Iterable[int]]) -> Iterator[str]:
        """Yields the words of each row of ids, joined by spaces."""
        for ids in documents:
            yield " ".join(self.vocabulary_.reverse(i) for i in ids)

    def save(self, filename: str) -> None:
        """Writes everything but the tokenizer as JSON."""
        v = self.vocabulary_
        content = {"format": _FORMAT, "max_document_length": self.max_document_length, "min_frequency": self.min_frequency,
                   "own_tokenizer": self._tokenizer is not tokenizer, "unknown_token": v._unknown_token,
                   "support_reverse": v._support_reverse, "frozen": v._freeze, "categories": v._reverse_mapping,
                   "counts": list(v._freq.items())}
        with gfile.Open(filename, "w") as f:
            f.write(json.dumps(content))

    @classmethod
    def restore(cls, filename: str, tokenizer_fn: Callable[[Iterable[str]], Iterable[list[str]]] | None = None) -> VocabularyProcessor:
        """What `save` wrote; a tokenizer that was given to the saved one has to be given again.

        Raises:
            DataLossError: the file is something else, such as a pickle of TensorFlow, which is never loaded.
            ValueError: a tokenizer is missing.
        """
        with gfile.Open(filename, "rb") as f:
            content = f.read()
        try:
            found = json.loads(content)
            if found["format"] != _FORMAT:
                raise ValueError(found["format"])
            vocabulary = CategoricalVocabulary(found["unknown_token"], found["support_reverse"])
            vocabulary._set(list(found["categories"]))
            vocabulary._freq = {category: int(count) for category, count in found["counts"]}
            vocabulary._freeze = bool(found["frozen"])
            restored = cls(int(found["max_document_length"]), int(found["min_frequency"]), vocabulary, tokenizer_fn)
            unknown_tokenizer = found["own_tokenizer"] and tokenizer_fn is None
        except (ValueError, KeyError, TypeError) as e:
            raise errors.DataLossError(None, None, f"{filename} was not written by VocabularyProcessor.save (pickles of TensorFlow are not "
                                                   f"loaded: fit the processor again and save it): {e}") from None
        if unknown_tokenizer:
            raise ValueError(f"{filename} was saved by a processor with its own tokenizer: give it to restore as tokenizer_fn")
        return restored


class ByteProcessor:
    """Documents as rows of `max_document_length` bytes of their UTF-8, cut or filled up with 0."""

    def __init__(self, max_document_length: int):
        self.max_document_length = max_document_length

    def fit(self, x: Any) -> None:
        """Nothing is learned."""

    def fit_transform(self, x: Iterable[Any]) -> Iterator[np.ndarray]:
        """`transform`."""
        return self.transform(x)

    def transform(self, x: Iterable[Any]) -> Iterator[np.ndarray]:
        """Yields uint8 [max_document_length] for each document, a str or bytes."""
        for document in x:
            content = document.encode() if isinstance(document, str) else document
            row = np.frombuffer(memoryview(content)[:self.max_document_length], np.uint8)
            yield np.pad(row, (0, self.max_document_length - len(row)))

    def reverse(self, x: Iterable[np.ndarray]) -> Iterator[str]:
        """Yields the text of each row; "" where it is no UTF-8."""
        for row in x:
            try:
                yield np.trim_zeros(row.astype(np.uint8), "b").tobytes().decode()
            except UnicodeDecodeError:
                yield ""
