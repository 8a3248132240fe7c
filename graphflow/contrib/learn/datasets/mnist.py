"""MNIST in its idx files, in batches.

`read_data_sets` reads train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and
t10k-labels-idx1-ubyte.gz (or the same without .gz) from a folder; nothing is downloaded.
"""
from __future__ import annotations

import gzip
from typing import Any

import numpy as np

from .... import errors, types
from ....platform import gfile
from ....random_ops import get_seed
from . import base

DEFAULT_SOURCE_URL = "https://storage.googleapis.com/cvdf-datasets/mnist/"
_IMAGES, _LABELS = 2051, 2049  # idx: unsigned bytes in three and in one dimension


def _read_idx(f: Any, magic: int, what: str) -> np.ndarray:
    """The array in an open idx file, compressed or not.

    Raises:
        ValueError: it starts with another number.  DataLossError: it ends early or the compression is damaged.
    """
    start = f.read(2)
    f.seek(0)
    stream = gzip.GzipFile(fileobj=f) if start == b"\x1f\x8b" else f
    try:
        content = stream.read()
    except (OSError, EOFError, ValueError) as e:
        raise errors.DataLossError(None, None, f"{f.name}: damaged gzip data: {e}") from None
    found = int.from_bytes(content[:4], "big")
    if found != magic:
        raise ValueError(f"Invalid magic number {found} in MNIST {what} file: {f.name}; expected {magic}")
    rank = magic & 0xFF
    begin = 4 * (rank + 1)
    sizes = np.frombuffer(content[4:begin], ">u4").astype(int)
    count = int(np.prod(sizes)) if len(sizes) == rank else -1
    if count < 0 or len(content) < begin + count:
        raise errors.DataLossError(None, None, f"{f.name}: truncated at byte {len(content)}; expected {begin + max(count, 0)} bytes")
    return np.frombuffer(content, np.uint8, count, begin).reshape(sizes)


def extract_images(f: Any) -> np.ndarray:
    """uint8 [n, rows, columns, 1] from an open idx file of images.  Raises ValueError for another kind of file."""
    print("Extracting", f.name)
    return _read_idx(f, _IMAGES, "image")[..., None]


def extract_labels(f: Any, one_hot: bool = False, num_classes: int = 10) -> np.ndarray:
    """uint8 [n] from an open idx file of labels, or one-hot float64 [n, num_classes]."""
    print("Extracting", f.name)
    labels = _read_idx(f, _LABELS, "label")
    return dense_to_one_hot(labels, num_classes) if one_hot else labels


def dense_to_one_hot(labels_dense: Any, num_classes: int) -> np.ndarray:
    """Labels [n] as float64 [n, num_classes] with a one in each row."""
    return np.eye(num_classes)[np.ravel(labels_dense)]


class DataSet:
    """Images and labels, handed out in batches; shuffled with NumPy's global random stream.

    Args:
        images: uint8 [n, rows, columns, 1].
        labels: [n, ...].
        fake_data: no data; `next_batch` with `fake_data=True` gives constants, `one_hot` or not.
        dtype: float32 for values in [0, 1], uint8 for [0, 255].
        reshape: images as [n, rows * columns].
        seed: with it or with a graph seed NumPy's stream starts from there, else from entropy, as in TF1.

    Raises:
        TypeError: another dtype.
    """

    def __init__(self, images: Any, labels: Any, fake_data: bool = False, one_hot: bool = False, dtype: Any = types.float32,
                 reshape: bool = True, seed: int | None = None):
        first, second = get_seed(seed)
        np.random.seed(first if seed is None else second)  # noqa: NPY002 (`next_batch` draws from the global stream, as TF1's)
        dtype = types.as_dtype(dtype).base_dtype
        if dtype not in (types.uint8, types.float32):
            raise TypeError(f"Invalid image dtype {dtype!r}, expected uint8 or float32")
        self.one_hot = one_hot
        self._num_examples = 10000
        if not fake_data:
            assert images.shape[0] == labels.shape[0], f"images.shape: {images.shape} labels.shape: {labels.shape}"
            self._num_examples = images.shape[0]
            if reshape:
                assert images.shape[3] == 1, f"reshape needs images of one channel, got {images.shape}"
                images = images.reshape(images.shape[0], images.shape[1] * images.shape[2])
            if dtype is types.float32:
                images = np.multiply(images.astype(np.float32), np.float32(1.0 / 255.0))
        self._images, self._labels = images, labels
        self._epochs_completed = self._index_in_epoch = 0

    images = property(lambda self: self._images)
    labels = property(lambda self: self._labels)
    num_examples = property(lambda self: self._num_examples)
    epochs_completed = property(lambda self: self._epochs_completed)

    def next_batch(self, batch_size: int, fake_data: bool = False, shuffle: bool = True) -> tuple[Any, Any]:
        """(images, labels) of the next `batch_size` examples; a batch across the end of an epoch joins its rest and the next one's start.

        With `shuffle` each epoch has an order of its own.
        """
        if fake_data:
            label: Any = [1] + [0] * 9 if self.one_hot else 0
            return [[1] * 784 for _ in range(batch_size)], [label for _ in range(batch_size)]
        start = self._index_in_epoch
        if start == 0 and self._epochs_completed == 0 and shuffle:
            self._shuffle()
        end = start + batch_size
        if end <= self._num_examples:
            self._index_in_epoch = end
            return self._images[start:end], self._labels[start:end]
        rest = self._images[start:], self._labels[start:]
        self._epochs_completed += 1
        if shuffle:
            self._shuffle()
        self._index_in_epoch = end - self._num_examples
        new = self._images[:self._index_in_epoch], self._labels[:self._index_in_epoch]
        return np.concatenate([rest[0], new[0]]), np.concatenate([rest[1], new[1]])

    def _shuffle(self) -> None:
        order = np.arange(self._num_examples)
        np.random.shuffle(order)  # noqa: NPY002
        self._images, self._labels = self._images[order], self._labels[order]


def read_data_sets(train_dir: str, fake_data: bool = False, one_hot: bool = False, dtype: Any = types.float32, reshape: bool = True,
                   validation_size: int = 5000, seed: int | None = None, source_url: str = DEFAULT_SOURCE_URL) -> base.Datasets:
    """`Datasets(train, validation, test)`, each a `DataSet`, from the idx files in `train_dir`.

    Args:
        fake_data, one_hot, dtype, reshape, seed: see `DataSet`.
        validation_size: so many of the first training examples are the validation set.
        source_url: where the files come from; named in the error when one is missing.

    Raises:
        NotFoundError: a file is missing.  ValueError: `validation_size` is negative or more than there is, or a file is no MNIST file.
        DataLossError: a file is damaged.
    """
    if fake_data:
        return base.Datasets(*(DataSet([], [], True, one_hot, dtype, seed=seed) for _ in range(3)))
    parts = []
    for kind in ("train", "t10k"):
        for name, extract, options in ((f"{kind}-images-idx3-ubyte.gz", extract_images, {}),
                                       (f"{kind}-labels-idx1-ubyte.gz", extract_labels, {"one_hot": one_hot})):
            with gfile.Open(base.maybe_download(name, train_dir, (source_url or DEFAULT_SOURCE_URL) + name), "rb") as f:
                parts.append(extract(f, **options))  # type: ignore[operator]
    images, labels, *test = parts
    settings: dict[str, Any] = {"dtype": dtype, "reshape": reshape, "seed": seed}
    if not 0 <= validation_size <= len(images):
        raise ValueError(f"Validation size should be between 0 and {len(images)}. Received: {validation_size}.")
    n = validation_size
    return base.Datasets(train=DataSet(images[n:], labels[n:], **settings), validation=DataSet(images[:n], labels[:n], **settings),
                         test=DataSet(test[0], test[1], **settings))


def load_mnist(train_dir: str = "MNIST-data") -> base.Datasets:
    """`read_data_sets(train_dir)`."""
    return read_data_sets(train_dir)
