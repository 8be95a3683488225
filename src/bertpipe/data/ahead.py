"""The rows of window after window, each read while the one before is worked on."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from bertpipe.data.dataset import PairDataset, PairSource
from bertpipe.data.order import Window


def read_ahead(source: PairSource, windows: Iterable[Window]) -> Iterator[tuple[Window, PairDataset]]:
    """Yield each window with its rows; two windows are in memory at most, if the caller lets go of one for the next.

    Raises:
        DataError: a window cannot be read; those before it were yielded.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="reader") as reader:
        window: Window | None = None
        coming: Future[PairDataset] | None = None
        for following in windows:
            if window is not None and coming is not None:
                rows = coming.result()
                coming = reader.submit(source.read, following.groups)
                yield window, rows
                del rows
            else:
                coming = reader.submit(source.read, following.groups)
            window = following
        if window is not None and coming is not None:
            yield window, coming.result()
