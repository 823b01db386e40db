import itertools
import os
import threading
import time

import joblib
import pytest

from genrecls._utils.parallel import map_parallel, prefetch
from genrecls.errors import GenreclsError


def double(x):
    return 2 * x


def fail(x):
    raise LookupError(x)


@pytest.mark.parametrize("jobs", [None, 1, 2])
@pytest.mark.parametrize("max_pending", [None, 1, 2, 9])
def test_map_parallel_returns_results_in_the_order_of_the_calls(jobs, max_pending):
    calls = [(i,) for i in range(5)]
    options = {"jobs": jobs, "max_pending": max_pending, "desc": "", "progress": False}
    assert list(map_parallel(double, calls, **options)) == [0, 2, 4, 6, 8]


def test_map_parallel_does_no_more_than_may_be_pending():
    done = []
    with joblib.parallel_config(backend="threading", n_jobs=2):
        calls = [(i,) for i in range(20)]
        results = map_parallel(done.append, calls, desc="", progress=False, max_pending=4)
        next(results)
        while len(done) < 4:
            time.sleep(0.01)
        time.sleep(0.2)
        assert len(done) == 4
        list(results)
    assert len(done) == 20


def test_map_parallel_without_calls_does_nothing():
    assert list(map_parallel(fail, [], desc="")) == []


def test_map_parallel_raises_the_errors_of_the_function():
    with pytest.raises(LookupError):
        list(map_parallel(fail, [(1,), (2,)], desc="", progress=False))


def test_map_parallel_says_what_to_do_if_a_process_is_ended():
    with pytest.raises(
        GenreclsError, match="was killed, perhaps because memory ran out; .*--jobs 1"
    ):
        list(map_parallel(os._exit, [(1,), (2,)], jobs=2, desc="", progress=False))


def test_map_parallel_uses_the_configured_backend():
    """The threads of this process can be seen here, other processes cannot."""
    seen = set()
    with joblib.parallel_config(backend="threading", n_jobs=2):
        calls = [(threading.current_thread().name,) for _ in range(4)]
        list(
            map_parallel(lambda _: seen.add(threading.get_ident()), calls, desc="", progress=False)
        )
    assert seen - {threading.get_ident()}


def test_prefetch_yields_the_same_items_from_a_thread():
    threads = []

    def items():
        for i in range(5):
            threads.append(threading.get_ident())
            yield i

    assert list(prefetch(items())) == list(range(5))
    assert threading.get_ident() not in threads


def test_prefetch_raises_the_errors_of_the_source():
    def items():
        yield 1
        raise ValueError("no more")

    prefetched = prefetch(items())
    assert next(prefetched) == 1
    with pytest.raises(ValueError, match="no more"):
        next(prefetched)


def test_prefetch_can_be_closed_early():
    before = threading.active_count()
    prefetched = prefetch(itertools.count())
    next(prefetched)
    assert threading.active_count() == before + 1
    prefetched.close()  # would hang if the thread continued
    assert threading.active_count() == before
