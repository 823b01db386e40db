"""The same call for many tracks, in several processes or on a cluster."""

import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from joblib import Parallel, cpu_count, delayed
from joblib.parallel import LokyBackend, get_active_backend
from tqdm.auto import tqdm

from genrecls.errors import GenreclsError

_PREFETCHED = 8  # items: enough to keep the thread busy while one item takes longer than usual


def map_parallel(
    function: Callable,
    calls: Sequence[tuple],
    *,
    jobs: int | None = None,
    desc: str,
    progress: bool = True,
    max_pending: int | None = None,
) -> Iterator:
    """Call a function for every tuple of arguments; yield the results in this order.

    By default there are as many processes as ``joblib.parallel_config`` sets, else one per core
    and at most 8. At most ``max_pending`` results wait to be used, which limits the memory.
    """
    if not calls:
        return
    backend, configured = get_active_backend()
    local = isinstance(backend, LokyBackend)
    default = min(cpu_count(), 8, len(calls)) if local else -1
    size = max_pending or len(calls)
    options: dict[str, Any] = {"initializer": _ignore_interruption} if local else {}
    options |= {"n_jobs": jobs or configured or default, "return_as": "generator"}
    bar = tqdm(total=len(calls), desc=desc, unit="track", disable=not progress)
    try:
        with bar, Parallel(**options) as run:
            for first in range(0, len(calls), size):
                for result in run(delayed(function)(*call) for call in calls[first : first + size]):
                    bar.update()
                    yield result
    except BrokenProcessPool as error:
        raise GenreclsError(
            "a worker process was killed, perhaps because memory ran out; use fewer processes, "
            "such as --jobs 1 (in Python: jobs=1)"
        ) from error


def _ignore_interruption() -> None:
    """Leave Ctrl-C to the main process, which ends this one without a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def prefetch(items: Iterable) -> Generator:
    """Produce items in a thread, a few of them in advance."""
    source, end = iter(items), object()
    with ThreadPoolExecutor(1) as thread:
        coming = deque(thread.submit(next, source, end) for _ in range(_PREFETCHED))
        while (item := coming.popleft().result()) is not end:
            coming.append(thread.submit(next, source, end))
            yield item
