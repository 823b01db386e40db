"""The same call for many tracks: in several processes, or on a cluster."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

_AHEAD = 8  # items: enough for the thread to go on while something longer is done with one of them


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
    """Results of ``function(*call)`` in the order of the calls, behind a progress bar.

    Parameters
    ----------
    function : callable
    calls : sequence of tuple
    jobs : int > 0, optional
        Processes; by default what ``joblib.parallel_config`` says, else one per core, 8 at most,
        and none but this one for a single call.
    desc, unit : str
        Of the progress bar.
    progress : bool
        Show it.
    max_pending : int > 0, optional
        Calls that may be done before the first result is taken; by default all. It bounds the
        memory of large results.
    """
    from joblib import Parallel, cpu_count, delayed
    from joblib.parallel import LokyBackend, get_active_backend
    from tqdm.auto import tqdm

    if not calls:
        return
    backend, configured = get_active_backend()
    here = min(cpu_count(), 8, len(calls)) if isinstance(backend, LokyBackend) else -1
    bar = tqdm(total=len(calls), desc=desc, unit=unit, disable=not progress)
    with bar, Parallel(n_jobs=jobs or configured or here, return_as="generator") as run:
        for first in range(0, len(calls), max_pending or len(calls)):
            some = calls[first : first + (max_pending or len(calls))]
            for result in run(delayed(function)(*call) for call in some):
                bar.update()
                yield result


def prefetch(items: Iterable) -> Iterator:
    """The same items, made in a thread while those before them are used, a few in advance."""
    source, end = iter(items), object()
    with ThreadPoolExecutor(1) as thread:
        coming = deque(thread.submit(next, source, end) for _ in range(_AHEAD))
        while (item := coming.popleft().result()) is not end:
            coming.append(thread.submit(next, source, end))
            yield item
