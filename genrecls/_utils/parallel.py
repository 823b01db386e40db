"""The same call for many tracks, in several processes or on a cluster."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from joblib import Parallel, cpu_count, delayed
from joblib.parallel import LokyBackend, get_active_backend
from tqdm.auto import tqdm

_PREFETCHED = 8  # items: enough to keep the thread busy while one item takes longer than usual


def map_parallel(
    function: Callable,
    calls: Sequence[tuple],
    *,
    jobs: int | None = None,
    desc: str,
    unit: str = "track",
    progress: bool = True,
    max_pending: int | None = None,
) -> Iterator:
    """Call a function for every tuple of arguments, behind a progress bar.

    Parameters
    ----------
    function : callable
        Called as ``function(*arguments)`` in other processes, so that it must be picklable.
    calls : sequence of tuple
        The arguments of every call.
    jobs : int > 0, optional
        Processes. By default the number in ``joblib.parallel_config``, else one per core and at
        most 8; a single call runs in this process.
    desc : str
        Text before the progress bar.
    unit : str
        Name of one call in the progress bar.
    progress : bool
        Show the progress bar.
    max_pending : int > 0, optional
        Largest number of results that wait to be used, which limits the memory for large results.
        By default there is no limit.

    Yields
    ------
    object
        The results, in the order of ``calls``.
    """
    if not calls:
        return
    backend, configured = get_active_backend()
    default = min(cpu_count(), 8, len(calls)) if isinstance(backend, LokyBackend) else -1
    size = max_pending or len(calls)
    bar = tqdm(total=len(calls), desc=desc, unit=unit, disable=not progress)
    with bar, Parallel(n_jobs=jobs or configured or default, return_as="generator") as run:
        for first in range(0, len(calls), size):
            for result in run(delayed(function)(*call) for call in calls[first : first + size]):
                bar.update()
                yield result


def prefetch(items: Iterable) -> Generator:
    """Produce items in a thread, a few of them in advance.

    Parameters
    ----------
    items : iterable
        Its items are yielded in the same order.
    """
    source, end = iter(items), object()
    with ThreadPoolExecutor(1) as thread:
        coming = deque(thread.submit(next, source, end) for _ in range(_PREFETCHED))
        while (item := coming.popleft().result()) is not end:
            coming.append(thread.submit(next, source, end))
            yield item
