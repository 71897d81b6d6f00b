"""Released files from where their authors keep them, by TFDS's download manager, held against a recorded checksum."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from lra_bench.data import cache_root
from lra_bench.errors import DataError, PlaceError, place_at_fault

PATIENCE = 10  # seconds until a host that does not answer is not there; TFDS alone tries for minutes


OF_A_PROXY = (407, 502, 503, 504)  # what a proxy answers that does not pass a request on


class Remote(NamedTuple):
    """A file that can be had from its authors."""

    url: str
    name: str
    bytes: int
    sha256: str


def fetched(remote: Remote) -> Path:
    """The file, in the cache's `downloads`, fetched if it is not there yet.

    Raises:
        DataError: it cannot be had, or is not what it was; the message says where to put it by hand.
        PlaceError: there is no room for it in the cache.
    """
    path = cache_root() / "downloads" / remote.name
    if not (path.is_file() and whole(path, remote)):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            _download(remote, folder).replace(path)
    return path


def whole(path: Path, remote: Remote) -> bool:
    """Does a file hold what the remote one is known to hold?"""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == remote.sha256


def _download(remote: Remote, folder: str) -> Path:
    from tensorflow_datasets.core.download import DownloadManager
    from tensorflow_datasets.core.download.checksums import UrlInfo
    from tensorflow_datasets.core.utils import Size

    info = UrlInfo(size=Size(remote.bytes), checksum=remote.sha256, filename=remote.name)
    manager = DownloadManager(
        download_dir=folder, url_infos={remote.url: info}, force_checksums_validation=True, max_simultaneous_downloads=1
    )
    try:
        knock(remote.url)
        return Path(manager.download(remote.url))
    except Exception as error:
        if place := no_place(error, Path(folder)):
            raise place from error
        raise DataError(
            f"{remote.url}: cannot be fetched ({_first_line(error)}); put {remote.name} into a folder of yours, "
            "and name it: --set task.folder=FOLDER"
        ) from None


def knock(url: str) -> None:
    """Ask for it as it will be fetched, by the environment's proxies (HTTP_PROXY, HTTPS_PROXY, NO_PROXY).

    Raises:
        OSError: the host does not answer, or the proxy does not pass it on.
    """
    import requests

    if urlsplit(url).scheme in ("http", "https"):
        with requests.get(url, stream=True, timeout=PATIENCE) as response:
            if response.status_code in OF_A_PROXY:
                response.raise_for_status()


def no_place(error: Exception, folder: Path) -> PlaceError | None:
    """The disk's fault, if what was fetched could not be written; a connection that is forbidden is none of a place."""
    import requests

    return None if isinstance(error, requests.RequestException) else place_at_fault(error, folder)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
