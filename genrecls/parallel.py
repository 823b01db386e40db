"""The same call for many tracks: in several processes, or on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence


def in_parallel(
    function: Callable,
    calls: Sequence[tuple],
    *,
    jobs: int | None = None,
    desc: str,
    unit: str = "track",
    progress: bool = True,
) -> Iterator:
    """Results of ``function(*call)``, each as soon as it is there, behind a progress bar.

    Parameters
    ----------
    function : callable
    calls : sequence of tuple
    jobs : int > 0, optional
        Processes; by default what ``joblib.parallel_config`` says, else one per core, 8 at most.
    desc, unit : str
        Of the progress bar.
    progress : bool
        Show it.
    """
    from joblib import Parallel, cpu_count, delayed
    from joblib.parallel import get_active_backend
    from tqdm.auto import tqdm

    if not calls:
        return
    backend, configured = get_active_backend()
    here = min(cpu_count(), 8) if type(backend).__name__ == "LokyBackend" else -1
    run = Parallel(n_jobs=jobs or configured or here, return_as="generator_unordered")
    done = run(delayed(function)(*call) for call in calls)
    yield from tqdm(done, total=len(calls), desc=desc, unit=unit, disable=not progress)
