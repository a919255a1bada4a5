"""Downloads: checked, resumable, from several mirrors."""

import contextlib
import dataclasses
import gzip
import hashlib
import http.client
import logging
import os
import re
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pooch

from retrograde.data._ecg import ECG_DIGESTS
from retrograde.data._errors import DataError
from retrograde.data._found import cache_of
from retrograde.data._mnist import DIGESTS, cache_folder

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
# The authors' repository at one commit, so that what is there stays what it is.
ECG_MIRRORS = (
    "https://raw.githubusercontent.com/byin-cwi/Efficient-spiking-networks/"
    "bfd47cff62d26b0812bb2cc24c5f220245443a32/data/",
)
Progress = Callable[[str, int, int | None], Any]
_CHUNK = 1 << 16
_NUMBERS = {2: "two", 4: "four"}


class _MirrorError(Exception):
    """This mirror did not give the file; another may."""


def fetch_mnist(
    folder: str | os.PathLike | None = None,
    *,
    mirrors: Sequence[str] = MIRRORS,
    progress: Progress | None = None,
    attempts: int = 5,
    timeout: float = 30.0,
) -> Path:
    """Downloads the four MNIST files, unless they are there and intact.

    A file enters the folder only if the sha256 of its decompressed content is right; whatever was there before stays
    until then. An interrupted download leaves a `.part` file and goes on from there, in the same call or in the next.

    Args:
        folder: Where to keep the files. `None`: the user's cache folder, where `load_mnist` looks.
        mirrors: Addresses of folders with the four `.gz` files, tried in turn.
        progress: Called as `progress(name, done, total)` while a file arrives: its name, bytes so far, bytes in all
            (`None` if the server does not say).
        attempts: How often a broken connection is taken up again, per file and mirror [1].
        timeout: How long to wait for a silent server [s].

    Returns:
        The folder, which then holds the four files, decompressed (55 MB).

    Raises:
        DataError: If no mirror gives a file with the right content, or the folder cannot be written to.
    """
    folder = cache_folder() if folder is None else Path(folder)
    files = tuple(_File(name, digest, is_compressed=True) for name, digest in DIGESTS.items())
    _fetch("MNIST", "fetch_mnist", files, folder, mirrors, _ResumingDownload(progress, attempts, timeout))
    return folder


def fetch_ecg(
    folder: str | os.PathLike | None = None,
    *,
    mirrors: Sequence[str] = ECG_MIRRORS,
    progress: Progress | None = None,
    attempts: int = 5,
    timeout: float = 30.0,
) -> Path:
    """Downloads the two files of the spike-coded QT database, unless they are there and intact.

    As `fetch_mnist`, which says what the other arguments are.

    Args:
        folder: Where to keep the files. `None`: the user's cache folder, where `load_ecg` looks.
        mirrors: Addresses of folders with `QTDB_train.mat` and `QTDB_test.mat`, tried in turn.
        progress: As for `fetch_mnist`.
        attempts: As for `fetch_mnist`.
        timeout: As for `fetch_mnist`.

    Returns:
        The folder, which then holds the two files (0.7 MB).

    Raises:
        DataError: If no mirror gives a file with the right content, or the folder cannot be written to.
    """
    folder = cache_of("ecg") if folder is None else Path(folder)
    files = tuple(_File(name, digest, is_compressed=False) for name, digest in ECG_DIGESTS.items())
    _fetch("The ECG data set", "fetch_ecg", files, folder, mirrors, _ResumingDownload(progress, attempts, timeout))
    return folder


@dataclasses.dataclass(frozen=True)
class _File:
    """One file of a data set: its name, the sha256 of its content, and whether mirrors have it as `.gz`."""

    name: str
    digest: str
    is_compressed: bool

    @property
    def remote(self) -> str:
        return f"{self.name}.gz" if self.is_compressed else self.name


def _fetch(
    title: str,
    function: str,
    files: Sequence[_File],
    folder: Path,
    mirrors: Sequence[str],
    download: "_ResumingDownload",
) -> None:
    mirrors = tuple(mirrors)
    for mirror in mirrors:
        if not mirror.startswith(("http://", "https://")):
            raise DataError(f"The mirror {mirror!r} is not an http:// or https:// address. Correct it.")
    if not mirrors:
        raise DataError(f"`{function}(mirrors=...)` is empty: name at least one mirror, or leave the argument out.")
    advice = (
        "Check the connection and run the command again (what has arrived is kept and continued), name other mirrors, "
        f"or set RETROGRADE_DATA to a folder that has the {_NUMBERS[len(files)]} files."
    )
    with _quiet(pooch.get_logger()):
        for file in files:
            _fetch_file(title, file, folder, mirrors, download, advice)


def _fetch_file(
    title: str, file: _File, folder: Path, mirrors: Sequence[str], download: "_ResumingDownload", advice: str
) -> None:
    problems = []
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{file.remote}"
        registry = {file.name: f"sha256:{file.digest}"}
        store = pooch.create(path=folder, base_url="", registry=registry, urls={file.name: url})
        try:
            store.fetch(file.name, downloader=dataclasses.replace(download, file=file))
        except _MirrorError as error:
            problems.append(f"  {url}: {error}")
        except OSError as error:
            raise DataError(
                f"{title} cannot be stored in {folder}: {error.strerror or error}. Free some space, mend the "
                "permissions, or name another folder. What was downloaded so far is kept."
            ) from error
        else:
            for part in folder.glob(f"{file.name}.*.part"):
                part.unlink()
            return
    listing = "\n".join(problems)
    raise DataError(f"No mirror gave {file.remote}:\n{listing}\n{advice}")


@dataclasses.dataclass(frozen=True)
class _ResumingDownload:
    """A downloader for Pooch (which does not resume): URL of a file → its content, checked, in `output_file`."""

    progress: Progress | None
    attempts: int
    timeout: float
    file: _File | None = None

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        assert self.file is not None
        # One part per address: the .gz of two mirrors may differ, so a part must go on where it began.
        part = Path(output_file).parent / f"{self.file.name}.{hashlib.sha256(url.encode()).hexdigest()[:8]}.part"
        was_begun = part.exists() and part.stat().st_size > 0
        self._complete(url, part)
        try:
            _unpack(part, Path(output_file), self.file)
        except _MirrorError:
            part.unlink()
            if not was_begun:
                raise
            # The old part may be to blame, not the mirror: once more, from the first byte.
            self._complete(url, part)
            try:
                _unpack(part, Path(output_file), self.file)
            except _MirrorError:
                part.unlink()
                raise

    def _complete(self, url: str, part: Path) -> None:
        """Brings `part` to its full length, continuing after interruptions."""
        for _ in range(self.attempts):
            if self._advance(url, part):
                return
        raise _MirrorError(f"the connection broke {self.attempts} times, {part.stat().st_size:,} bytes have arrived")

    def _advance(self, url: str, part: Path) -> bool:
        """Makes one request for what `part` still lacks; returns whether it is complete."""
        done = part.stat().st_size if part.exists() else 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
        try:
            response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=self.timeout)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                if error.headers.get("Content-Range") == f"bytes */{done}":
                    return True
                part.unlink()
                return False
            raise _MirrorError(f"the server answered {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:
            raise _MirrorError(f"no connection: {getattr(error, 'reason', None) or error}") from error
        with response:
            if response.status == http.HTTPStatus.PARTIAL_CONTENT:
                start = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
                if start is None or int(start[1]) != done:
                    part.unlink()
                    return False
            else:
                done = 0  # The server ignores `Range` and sends the whole file.
            length = response.headers.get("Content-Length")
            total = None if length is None else done + int(length)
            with part.open("ab" if done else "wb") as file:
                while True:
                    try:
                        chunk = response.read1(_CHUNK)
                    except (OSError, http.client.HTTPException):
                        return False
                    if not chunk:
                        break
                    file.write(chunk)
                    done += len(chunk)
                    if self.progress is not None:
                        self.progress(part.name.rsplit(".", 2)[0], done, total)
        return total is None or done >= total


def _unpack(part: Path, output: Path, file: _File) -> None:
    """Checks what `part` holds, decompressed if it must be, and writes it to `output`."""
    content = part.read_bytes()
    if file.is_compressed:
        try:
            content = gzip.decompress(content)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise _MirrorError(f"refused: what arrived is not an intact .gz file ({error})") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != file.digest:
        raise _MirrorError(f"refused: the sha256 of the content is {digest}, expected {file.digest}")
    output.write_bytes(content)


@contextlib.contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Keeps Pooch from announcing each file on stderr: a library does not print."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
