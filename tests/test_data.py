"""Data sets: the shipped digits, others from files, and downloads from a server on this machine."""

import gzip
import hashlib
import http.server
import importlib.util
import os
import socket
import threading
import wave
from pathlib import Path

import numpy as np
import pooch
import pytest

from retrograde.cli import main
from retrograde.data import (
    DataError,
    _digits,
    _ecg,
    _fetch,
    _found,
    _mnist,
    _nmnist,
    _spoken,
    ecg_folder,
    fetch_ecg,
    fetch_mnist,
    load_digits,
    load_ecg,
    load_mnist,
    load_nmnist,
    load_spoken_digits,
    mnist_folder,
    nmnist_folder,
    pack_nmnist,
    pack_spoken_digits,
    spoken_digits_folder,
)

NAMES = tuple(_mnist.DIGESTS)
FIRST = NAMES[0]


# The shipped digits.


def test_shipped_digits_are_balanced_and_read_only():
    digits = load_digits()
    assert digits.train_images.shape == (4000, 28, 28) and digits.test_images.shape == (1000, 28, 28)
    assert np.bincount(digits.train_labels).tolist() == [400] * 10
    assert np.bincount(digits.test_labels).tolist() == [100] * 10
    assert digits.train_images.max() == 255 and digits.train_images.dtype == np.uint8
    with pytest.raises(ValueError, match="read-only"):
        digits.train_images[0] = 0


def test_licence_beside_the_shipped_digits_names_their_digests():
    folder = Path(_digits.__file__).parent
    licence = (folder / "digits.LICENSE.txt").read_text(encoding="utf-8")
    assert "CC BY-SA 3.0" in licence and load_digits().digest() in licence
    assert hashlib.sha256((folder / "digits.npz").read_bytes()).hexdigest() in licence
    assert all(digest in licence for digest in _mnist.DIGESTS.values())


def test_script_remakes_the_shipped_digits(mnist_folder, tmp_path):
    script = Path(__file__).parents[1] / "scripts" / "make_digits.py"
    spec = importlib.util.spec_from_file_location("make_digits", script)
    make_digits = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_digits)
    remade, shipped = make_digits.make_digits(load_mnist(mnist_folder)), load_digits()
    for part in ("train_images", "train_labels", "test_images", "test_labels"):
        np.testing.assert_array_equal(getattr(remade, part), getattr(shipped, part))
    for name in ("one.npz", "two.npz"):
        make_digits.write(shipped, tmp_path / name)
    with np.load(tmp_path / "one.npz") as arrays:
        np.testing.assert_array_equal(arrays["test_images"], shipped.test_images)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


@pytest.mark.parametrize("damage", ["missing", "cut short", "changed", "not an archive"])
def test_damaged_installation_says_so(damage, tmp_path, monkeypatch):
    intact = (Path(_digits.__file__).parent / "digits.npz").read_bytes()
    file = tmp_path / "digits.npz"
    if damage == "cut short":
        file.write_bytes(intact[:-500])
    elif damage == "not an archive":
        file.write_bytes(b"hello")
    elif damage == "changed":
        digits = load_digits()
        arrays = {name: getattr(digits, name) for name in ("train_images", "train_labels", "test_images")}
        np.savez(file, **arrays, test_labels=digits.test_labels[::-1])
    load_digits.cache_clear()
    monkeypatch.setattr(_digits.importlib.resources, "files", lambda package: tmp_path)
    expected = {"missing": "are missing", "changed": "are not the expected ones"}.get(damage, "cannot be read")
    with pytest.raises(DataError, match=rf"The shipped digits {expected}.*install retrograde again"):
        load_digits()


# The full MNIST, from files.


def test_full_mnist_is_whole(mnist_folder):
    digits = load_mnist(mnist_folder)
    assert digits.train_images.shape == (60_000, 28, 28)
    assert np.bincount(digits.train_labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(digits.test_labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.fixture
def contents(monkeypatch) -> dict[str, bytes]:
    """Four small files in the official format, with their digests in place of the official ones."""
    random = np.random.default_rng(0)
    contents = {}
    for name, count in zip(NAMES, (5, 5, 3, 3), strict=True):
        shape = (count, 28, 28) if "idx3" in name else (count,)
        header = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()
        contents[name] = header + random.integers(0, 10, shape, dtype=np.uint8).tobytes()
        monkeypatch.setitem(_mnist.DIGESTS, name, hashlib.sha256(contents[name]).hexdigest())
    return contents


@pytest.fixture
def files(contents, tmp_path) -> Path:
    """A folder with the four small files, compressed."""
    folder = tmp_path / "files"
    folder.mkdir()
    for name, content in contents.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    return folder


def test_files_are_found_in_the_folder_that_the_environment_names(files, monkeypatch, tmp_path, contents):
    monkeypatch.setenv("RETROGRADE_DATA", str(files))
    assert mnist_folder() == files
    digits = load_mnist()
    assert digits.train_labels.tobytes() == contents[NAMES[1]][8:] and digits.test_images.shape == (3, 28, 28)
    root = tmp_path / "root"
    root.mkdir()
    files.rename(root / "mnist")
    monkeypatch.setenv("RETROGRADE_DATA", str(root))
    assert mnist_folder() == root / "mnist"


def test_without_the_environment_files_are_found_in_the_cache(contents, monkeypatch, tmp_path):
    monkeypatch.delenv("RETROGRADE_DATA", raising=False)
    monkeypatch.setattr(_mnist.pooch, "os_cache", lambda project: tmp_path / project)
    with pytest.raises(DataError, match=r"there is no folder .*mnist\. Run `retrograde data fetch mnist`"):
        load_mnist()
    folder = tmp_path / "retrograde" / "mnist"
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    assert load_mnist().train_images.shape == (5, 28, 28)


BAD_FILES = {
    "empty": (lambda raw, content: b"", r"is empty\."),
    "cut short": (lambda raw, content: raw[:-20], r"is cut short: the gzip stream ends after"),
    "not gzip": (lambda raw, content: content, r"is not a gzip file: it starts with 00 00, not 1f 8b"),
    "damaged": (lambda raw, content: raw[:12] + b"\xff" * 40 + raw[52:], r"is damaged"),
    "checksum": (lambda raw, content: raw[:-8] + b"\0\0\0\0" + raw[-4:], r"is damaged: CRC check failed"),
    "not IDX": (
        lambda raw, content: gzip.compress(b"<html>" + content),
        r"is not an IDX file .* starts with 3c 68 74 6d, expected 00 00 08 03",
    ),
    "too few images": (
        lambda raw, content: gzip.compress(content[:-1]),
        r"promises 3,936 bytes \(shape \(5, 28, 28\)\), there are 3,935",
    ),
    "header only": (lambda raw, content: gzip.compress(content[:6]), r"is cut short or too long"),
    "another digit": (
        lambda raw, content: gzip.compress(content[:-1] + b"\xff"),
        r"is not the official MNIST file: the sha256 .* expected",
    ),
}


@pytest.mark.parametrize("damage", BAD_FILES)
def test_bad_file_is_refused_by_name(damage, files, contents):
    spoil, message = BAD_FILES[damage]
    path = files / f"{FIRST}.gz"
    path.write_bytes(spoil(path.read_bytes(), contents[FIRST]))
    with pytest.raises(DataError, match=message) as caught:
        load_mnist(files)
    assert str(path) in str(caught.value) and "retrograde data fetch mnist" in str(caught.value)


def test_missing_places_are_named(files, tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"there is no folder .*nowhere\. Name a folder"):
        load_mnist(tmp_path / "nowhere")
    monkeypatch.setenv("RETROGRADE_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"there is no folder .*nowhere\. The environment variable RETROGRADE_DATA"):
        load_mnist()
    (files / f"{FIRST}.gz").unlink()
    with pytest.raises(DataError, match=rf"is incomplete: .*files lacks {FIRST}\.gz\. Name"):
        load_mnist(files)


# The download.


class Mirror:
    """A web server on this machine that can be told to misbehave."""

    def __init__(self, contents: dict[str, bytes]):
        self.files = {f"/{name}.gz": gzip.compress(content) for name, content in contents.items()}
        self.requests: list[tuple[str, str | None]] = []
        self.breaks = 0  # how many answers break off half-way
        self.knows_range = True
        self.says_length = True
        self.status = 200
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                mirror.answer(self)

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})

    def answer(self, handler):
        wanted = handler.headers["Range"]
        self.requests.append((handler.path, wanted))
        if self.status != 200:
            handler.send_error(self.status)
            return
        content = self.files[handler.path]
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.knows_range else 0
        if start >= len(content):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(content)}")
            handler.end_headers()
            return
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if self.says_length:
            handler.send_header("Content-Length", str(len(content) - start))
        handler.end_headers()
        body = content[start:]
        if self.breaks:
            self.breaks -= 1
            body = body[: len(body) // 2]
        handler.wfile.write(body)

    def requests_for(self, name: str) -> list[str | None]:
        return [wanted for path, wanted in self.requests if path == f"/{name}.gz"]

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exception):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def mirror(contents, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Mirror(contents) as mirror:
        yield mirror


@pytest.fixture
def other_mirror(contents):
    with Mirror(contents) as mirror:
        yield mirror


@pytest.fixture
def dead_url() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


def assert_complete(folder: Path, contents: dict[str, bytes]):
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == contents


def test_download_fills_the_folder_once(mirror, contents, tmp_path, capfd, monkeypatch):
    reports, said = [], []
    monkeypatch.setattr(pooch.get_logger(), "handle", said.append)
    folder = fetch_mnist(tmp_path / "new", mirrors=[mirror.url], progress=lambda *report: reports.append(report))
    assert_complete(folder, contents)
    assert load_mnist(folder).train_images.tobytes() == contents[FIRST][16:]
    size = len(mirror.files[f"/{FIRST}.gz"])
    assert [report for report in reports if report[0] == FIRST][-1] == (FIRST, size, size)
    assert capfd.readouterr() == ("", "") and said == [], "a library does not print"
    fetch_mnist(folder, mirrors=[mirror.url])
    assert len(mirror.requests) == 4


def test_broken_connection_is_taken_up_where_it_broke(mirror, contents, tmp_path):
    mirror.breaks = 2
    assert_complete(fetch_mnist(tmp_path, mirrors=[mirror.url]), contents)
    size = len(mirror.files[f"/{FIRST}.gz"])
    half = size // 2
    assert mirror.requests_for(FIRST) == [None, f"bytes={half}-", f"bytes={half + (size - half) // 2}-"]


def test_interrupted_call_is_taken_up_by_the_next(mirror, contents, tmp_path):
    mirror.breaks = 1
    with pytest.raises(DataError, match=r"the connection broke 1 times.*[\d,]+ bytes have arrived"):
        fetch_mnist(tmp_path, mirrors=[mirror.url], attempts=1)
    (part,) = tmp_path.iterdir()
    kept = part.stat().st_size
    assert kept == len(mirror.files[f"/{FIRST}.gz"]) // 2
    assert_complete(fetch_mnist(tmp_path, mirrors=[mirror.url], attempts=1), contents)
    assert mirror.requests_for(FIRST) == [None, f"bytes={kept}-"]


def test_part_that_is_complete_is_used(mirror, contents, tmp_path):
    mirror.breaks = 1
    with pytest.raises(DataError):
        fetch_mnist(tmp_path, mirrors=[mirror.url], attempts=1)
    (part,) = tmp_path.iterdir()
    part.write_bytes(mirror.files[f"/{FIRST}.gz"])
    assert_complete(fetch_mnist(tmp_path, mirrors=[mirror.url], attempts=1), contents)


def test_server_that_ignores_range_sends_all_again(mirror, contents, tmp_path):
    mirror.breaks, mirror.knows_range = 1, False
    assert_complete(fetch_mnist(tmp_path, mirrors=[mirror.url]), contents)
    assert len(mirror.requests_for(FIRST)) == 2


def test_server_that_says_no_length(mirror, contents, tmp_path):
    mirror.says_length = False
    assert_complete(fetch_mnist(tmp_path, mirrors=[mirror.url]), contents)


@pytest.mark.parametrize("length", [10, 10_000])
def test_part_that_is_corrupt_is_begun_again(length, mirror, contents, tmp_path):
    mirror.breaks = 1
    with pytest.raises(DataError):
        fetch_mnist(tmp_path, mirrors=[mirror.url], attempts=1)
    (part,) = tmp_path.iterdir()
    part.write_bytes(b"x" * length)
    assert_complete(fetch_mnist(tmp_path, mirrors=[mirror.url]), contents)


def test_next_mirror_helps_when_one_is_down_or_fails(mirror, other_mirror, dead_url, contents, tmp_path):
    mirror.status = 503
    assert_complete(fetch_mnist(tmp_path, mirrors=[dead_url, mirror.url, other_mirror.url]), contents)
    assert len(mirror.requests) == len(other_mirror.requests) == 4


def test_next_mirror_begins_its_own_part(mirror, other_mirror, contents, tmp_path):
    """The compressed files of two mirrors may differ, so that one cannot continue the other."""
    mirror.breaks = 1
    other_mirror.files = {path: gzip.compress(gzip.decompress(file), 1) for path, file in mirror.files.items()}
    urls = [mirror.url, other_mirror.url]
    assert_complete(fetch_mnist(tmp_path, mirrors=urls, attempts=1), contents)
    assert other_mirror.requests_for(FIRST) == [None]


def test_corrupt_file_is_refused_and_nothing_lost(mirror, contents, tmp_path):
    last, old = NAMES[-1], b"what was there before"
    (tmp_path / last).write_bytes(old)
    mirror.files[f"/{last}.gz"] = gzip.compress(contents[last] + b"!")
    with pytest.raises(
        DataError, match=r"(?s)refused: the sha256 of the content is .*name other mirrors, or set"
    ) as caught:
        fetch_mnist(tmp_path, mirrors=[mirror.url])
    assert f"{mirror.url}/{last}.gz" in str(caught.value)
    assert_complete(tmp_path, contents | {last: old})
    mirror.files[f"/{last}.gz"] = gzip.compress(contents[last])
    assert_complete(fetch_mnist(tmp_path, mirrors=[mirror.url]), contents)
    assert len(mirror.requests_for(FIRST)) == 1


def test_page_instead_of_a_file_is_refused(mirror, tmp_path):
    mirror.files[f"/{FIRST}.gz"] = b"<html>Please log in to this network.</html>"
    with pytest.raises(DataError, match=r"refused: what arrived is not an intact \.gz file"):
        fetch_mnist(tmp_path, mirrors=[mirror.url])
    assert list(tmp_path.iterdir()) == []


def test_all_mirrors_down_names_each(mirror, dead_url, tmp_path):
    mirror.status = 404
    with pytest.raises(DataError, match=rf"(?s)No mirror gave {FIRST}.gz.*no connection.*answered 404.*Check the conn"):
        fetch_mnist(tmp_path, mirrors=[dead_url, mirror.url])


def test_bad_mirrors_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"'file:///etc' is not an http"):
        fetch_mnist(tmp_path, mirrors=["file:///etc"])
    with pytest.raises(DataError, match="name at least one mirror"):
        fetch_mnist(tmp_path, mirrors=[])


def test_folder_that_cannot_be_written_to_is_named(mirror, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"MNIST cannot be stored in .*file/below: .*name another folder"):
        fetch_mnist(tmp_path / "file" / "below", mirrors=[mirror.url])


def test_full_disk_is_named_and_keeps_the_download(mirror, contents, tmp_path, monkeypatch):
    def write_bytes(path, content):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(_fetch.Path, "write_bytes", write_bytes)
        with pytest.raises(DataError, match=r"cannot be stored in .*: No space left on device\. Free some space"):
            fetch_mnist(tmp_path, mirrors=[mirror.url])
    (part,) = tmp_path.iterdir()
    assert part.read_bytes() == mirror.files[f"/{FIRST}.gz"]
    assert_complete(fetch_mnist(tmp_path, mirrors=[mirror.url]), contents)
    assert mirror.requests_for(FIRST) == [None, f"bytes={len(mirror.files[f'/{FIRST}.gz'])}-"]


# The other data sets.

SETS = {
    "ecg": (load_ecg, ecg_folder, ("QTDB_train.mat", "QTDB_test.mat"), "retrograde data fetch ecg"),
    "fsdd": (load_spoken_digits, spoken_digits_folder, ("fsdd.npz",), "retrograde data pack fsdd"),
    "nmnist": (load_nmnist, nmnist_folder, ("nmnist_small.npz",), "retrograde data pack nmnist"),
}


def real(name: str) -> Path:
    """The folder with a data set; a test that asks for it is skipped where it is absent."""
    root = os.environ.get("RETROGRADE_DATA")
    if not root:
        pytest.skip(f"RETROGRADE_DATA is not set: no {SETS[name][2][0]}")
    for folder in (Path(root) / name, Path(root)):
        if (folder / SETS[name][2][0]).is_file():
            return folder
    pytest.skip(f"no {SETS[name][2][0]} in RETROGRADE_DATA")


@pytest.mark.parametrize("name", SETS)
def test_data_sets_are_found_by_the_environment_or_in_the_cache(name, monkeypatch, tmp_path):
    _, find, files, advice = SETS[name]
    monkeypatch.setenv("RETROGRADE_DATA", str(tmp_path))
    with pytest.raises(DataError, match=rf"lacks .*{files[-1]}\. The environment variable RETROGRADE_DATA .*{advice}"):
        find()
    for folder in (tmp_path, tmp_path / name):
        folder.mkdir(exist_ok=True)
        for file in files:
            (folder / file).touch()
        assert find() == folder
    monkeypatch.delenv("RETROGRADE_DATA")
    monkeypatch.setattr(_found.pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    with pytest.raises(DataError, match=rf"there is no folder .*{name}\. .*{advice}"):
        find()
    folder = tmp_path / "cache" / "retrograde" / name
    folder.mkdir(parents=True)
    for file in files[1:]:
        (folder / file).touch()
    with pytest.raises(DataError, match=rf"lacks {files[0]}\. .*{advice}"):
        find()
    (folder / files[0]).touch()
    assert find() == folder


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x05\x06" + bytes(18)])
@pytest.mark.parametrize("name", SETS)
def test_bad_files_of_data_sets_are_refused_by_name(name, content, tmp_path):
    load, _, files, advice = SETS[name]
    for file in files:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(
        DataError, match=rf"{files[0]} (is empty|cannot be read|is not the expected file|lacks).*{advice}"
    ):
        load(tmp_path)


def test_arrays_of_other_content_are_refused(tmp_path):
    arrays = {name: np.zeros(3) for name in _spoken.SPOKEN_ARRAYS}
    np.savez(tmp_path / "fsdd.npz", **arrays)
    with pytest.raises(
        DataError, match=r"does not hold the expected data: the sha256 of its arrays is \w{64}, expected"
    ):
        load_spoken_digits(tmp_path)
    digests = {_found.digest_of(changed) for changed in (arrays, arrays | {"index": np.ones(3)})}
    digests |= {_found.digest_of({"a": np.zeros(4)}), _found.digest_of({"a": np.zeros((2, 2))})}
    digests |= {_found.digest_of({"b": np.zeros(4)}), _found.digest_of({"a": np.zeros(4, np.int64)})}
    assert len(digests) == 6, "content, names, types and shapes count"
    assert _found.digest_of({"a": np.arange(3, dtype=">i4")}) == _found.digest_of({"a": np.arange(3, dtype="<i4")})


def test_the_ecg_is_what_the_source_says():
    data = load_ecg(real("ecg"))
    assert data.train_spikes.shape == (618, 1301, 4) and data.test_spikes.shape == (141, 1301, 4)
    assert data.train_spikes.max() == 1 and not data.train_spikes[:, -1, 0].any()
    assert np.unique(data.test_waves).tolist() == [0, 1, 2, 3, 4, 5, 255]


def test_packed_recordings_are_the_expected_file_again(tmp_path):
    clips = load_spoken_digits(real("fsdd"))
    assert np.bincount(clips.digit).tolist() == [300] * 10 and clips.speakers[0] == "george" and clips.take.max() == 49
    folder = tmp_path / "recordings"
    folder.mkdir()
    for i in range(3000):
        with wave.open(
            f"{folder}/{clips.digit[i]}_{clips.speakers[clips.speaker[i]]}_{clips.take[i]}.wav", "w"
        ) as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(clips.samples[clips.offsets[i] : clips.offsets[i + 1]].astype("<i2").tobytes())
    np.testing.assert_array_equal(
        load_spoken_digits(pack_spoken_digits(folder, tmp_path).parent).samples, clips.samples
    )
    (folder / "9_theo_0.wav").unlink()
    with pytest.raises(
        DataError, match=r"other recordings than expected: 2,999 of 6 speakers, sha256 \w{64}, expected"
    ):
        pack_spoken_digits(folder, tmp_path)


def test_recordings_that_are_none_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"has no recordings: it needs files as 7_jackson_32\.wav\. Get the recordings"):
        pack_spoken_digits(tmp_path)
    (tmp_path / "0_theo_0.wav").write_bytes(b"hello")
    with pytest.raises(DataError, match=r"0_theo_0\.wav is not an intact \.wav file"):
        pack_spoken_digits(tmp_path)
    with wave.open(str(tmp_path / "0_theo_0.wav"), "w") as file:
        file.setparams((2, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(8))
    with pytest.raises(DataError, match=r"is not a recording of one channel, 16 bits, 8 kHz"):
        pack_spoken_digits(tmp_path)


def write_events(data: dict, folder: Path) -> None:
    """The recordings as N-MNIST has them: five bytes an event, in folders by digit."""
    for split, events in data.items():
        for i, label in enumerate(events.label):
            part = slice(events.offsets[i], events.offsets[i + 1])
            t = events.t[part]
            high = (t >> 16).astype(np.uint8) | events.p[part] << 7
            rows = [events.x[part], events.y[part], high, (t >> 8).astype(np.uint8), t.astype(np.uint8)]
            file = folder / split.capitalize() / str(label) / f"{i + 1:05d}.bin"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(np.stack(rows, axis=1).tobytes())


def test_packed_events_are_the_expected_file_again(tmp_path, capsys):
    data = load_nmnist(real("nmnist"))
    write_events(data, tmp_path / "N-MNIST")
    assert main(["data", "pack", "nmnist", str(tmp_path / "N-MNIST"), "--to", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'nmnist_small.npz'}\n"
    again = load_nmnist(tmp_path)
    for split, field in [(split, field) for split in data for field in ("x", "y", "t", "p", "offsets", "label")]:
        np.testing.assert_array_equal(getattr(again[split], field), getattr(data[split], field))
    file = tmp_path / "N-MNIST" / "Test" / "7" / "00001.bin"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(DataError, match=r"other recordings than expected: the sha256 of their events"):
        pack_nmnist(tmp_path / "N-MNIST", tmp_path)


def test_events_as_the_official_file_has_them(tmp_path):
    """Train/0/00002.bin begins with these; x, y, polarity and time in µs, as others have read them."""
    raw = bytes(
        [10, 30, 0x80, 937 >> 8, 937 & 255, 33, 20, 0x80, 1030 >> 8, 1030 & 255, 14, 23, 0, 2383 >> 8, 2383 & 255]
    )
    (tmp_path / "00002.bin").write_bytes(raw)
    x, y, t, p = _nmnist._read_bin(tmp_path / "00002.bin")
    assert (x.tolist(), y.tolist(), p.tolist(), t.tolist()) == (
        [10, 33, 14],
        [30, 20, 23],
        [1, 1, 0],
        [937, 1030, 2383],
    )
    (tmp_path / "late.bin").write_bytes(bytes([1, 2, 0xFF, 0xFF, 0xFF]))
    assert _nmnist._read_bin(tmp_path / "late.bin")[2].tolist() == [2**23 - 1]


def test_events_that_are_none_are_refused(tmp_path, capsys, monkeypatch):
    assert main(["data", "pack", "nmnist", str(tmp_path)]) == 2
    assert "Train lacks 1,000 of 1,000 recordings, such as */00001.bin. Get N-MNIST" in capsys.readouterr().err
    threes = tmp_path / "Train" / "3"
    threes.mkdir(parents=True)
    monkeypatch.setitem(_nmnist.NMNIST_SIZES, "train", 1)
    (threes / "00001.bin").write_bytes(b"1234")
    with pytest.raises(DataError, match=r"00001\.bin is empty or cut short: it has 4 bytes, no multiple of 5"):
        pack_nmnist(tmp_path)


@pytest.fixture
def ecg_mirror(mirror, monkeypatch):
    contents = {name: name.encode() * 1000 for name in _ecg.ECG_DIGESTS}
    for name, content in contents.items():
        monkeypatch.setitem(_ecg.ECG_DIGESTS, name, hashlib.sha256(content).hexdigest())
    mirror.files = {f"/{name}": content for name, content in contents.items()}
    return mirror, contents


def test_ecg_is_downloaded_as_it_is_and_taken_up_where_it_broke(ecg_mirror, tmp_path):
    mirror, contents = ecg_mirror
    mirror.breaks = 1
    reports = []
    folder = fetch_ecg(tmp_path / "new", mirrors=[mirror.url], progress=lambda *report: reports.append(report))
    assert_complete(folder, contents)
    size = len(contents["QTDB_train.mat"])
    assert mirror.requests[:2] == [("/QTDB_train.mat", None), ("/QTDB_train.mat", f"bytes={size // 2}-")]
    assert ("QTDB_train.mat", size, size) in reports
    fetch_ecg(folder, mirrors=[mirror.url])
    assert len(mirror.requests) == 3


def test_ecg_of_other_content_is_refused(ecg_mirror, tmp_path):
    mirror, _ = ecg_mirror
    mirror.files["/QTDB_test.mat"] = b"<html>Please log in to this network.</html>"
    with pytest.raises(DataError, match=r"(?s)No mirror gave QTDB_test\.mat.*refused: the sha256.*has the two files"):
        fetch_ecg(tmp_path, mirrors=[mirror.url])
    assert [path.name for path in tmp_path.iterdir()] == ["QTDB_train.mat"]
    with pytest.raises(DataError, match=r"`fetch_ecg\(mirrors=...\)` is empty"):
        fetch_ecg(tmp_path, mirrors=[])
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"The ECG data set cannot be stored in .*file/below"):
        fetch_ecg(tmp_path / "file" / "below", mirrors=[mirror.url])


def test_ecg_is_fetched_by_its_command(ecg_mirror, tmp_path, capsys):
    mirror, contents = ecg_mirror
    assert main(["data", "fetch", "ecg", "--to", str(tmp_path / "new"), "--mirror", mirror.url]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'new'}\n"
    assert_complete(tmp_path / "new", contents)
