"""The rows of window after window, each read while the one before is worked on."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from bertpipe.data.pair_dataset import PairDataset, PairSource
from bertpipe.data.sampling import Window


def read_ahead(source: PairSource, windows: Iterable[Window]) -> Iterator[tuple[Window, PairDataset]]:
    """Yield each window with its rows; two windows are in memory at most, if the caller lets go of one for the next.

    Raises:
        DataError: a window cannot be read; those before it were yielded.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="reader") as reader:
        coming: deque[tuple[Window, Future[PairDataset]]] = deque()
        for window in windows:
            coming.append((window, reader.submit(source.read, window.groups)))
            if len(coming) > 1:
                yield _arrived(*coming.popleft())
        while coming:
            yield _arrived(*coming.popleft())


def _arrived(window: Window, rows: Future[PairDataset]) -> tuple[Window, PairDataset]:
    return window, rows.result()
