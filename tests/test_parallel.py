import itertools
import threading
import time

import joblib
import pytest

from genrecls._utils.parallel import map_parallel, prefetch


def double(x):
    return 2 * x


def fail(x):
    raise LookupError(x)


@pytest.mark.parametrize("jobs", [None, 1, 2])
@pytest.mark.parametrize("max_pending", [None, 1, 2, 9])
def test_results_come_in_the_order_of_the_calls(jobs, max_pending):
    calls = [(i,) for i in range(5)]
    options = {"jobs": jobs, "max_pending": max_pending, "desc": "", "progress": False}
    assert list(map_parallel(double, calls, **options)) == [0, 2, 4, 6, 8]


def test_no_more_is_done_than_may_wait():
    done = []
    with joblib.parallel_config(backend="threading", n_jobs=2):
        calls = [(i,) for i in range(20)]
        found = map_parallel(done.append, calls, desc="", progress=False, max_pending=4)
        next(found)
        time.sleep(0.2)
        assert len(done) == 4
        list(found)
    assert len(done) == 20


def test_nothing_to_do_is_done():
    assert list(map_parallel(fail, [], desc="")) == []


def test_errors_of_the_function_are_errors_here():
    with pytest.raises(LookupError):
        list(map_parallel(fail, [(1,), (2,)], desc="", progress=False))


def test_the_configured_backend_is_used():
    """In threads of this process, so that what they do is seen here."""
    seen = set()
    with joblib.parallel_config(backend="threading", n_jobs=2):
        calls = [(threading.current_thread().name,) for _ in range(4)]
        list(map_parallel(lambda _: seen.add(threading.get_ident()), calls, desc="", progress=False))
    assert seen - {threading.get_ident()}


def test_ahead_gives_the_same_items_made_in_a_thread():
    made_in = []

    def items():
        for i in range(5):
            made_in.append(threading.get_ident())
            yield i

    assert list(prefetch(items())) == list(range(5))
    assert threading.get_ident() not in made_in


def test_ahead_passes_errors_on():
    def items():
        yield 1
        raise ValueError("no more")

    found = prefetch(items())
    assert next(found) == 1
    with pytest.raises(ValueError, match="no more"):
        next(found)


def test_what_is_ahead_can_be_left():
    found = prefetch(itertools.count())
    next(found)
    found.close()  # would hang if the thread went on
    assert not [t for t in threading.enumerate() if t.name.startswith("ThreadPoolExecutor")]
