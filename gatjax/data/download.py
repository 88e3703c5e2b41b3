"""Files from the cache and from the network, never trusted before their sha256 is checked."""

import hashlib
import os
import secrets
import sys
import urllib.request
from pathlib import Path

from tqdm import tqdm

TIMEOUT_SECONDS = 30
CHUNK_BYTES = 1 << 16


def cache_folder() -> Path:
    """Return the folder for raw data: `GATJAX_DATA` where set, else the user's cache folder."""
    if chosen := os.environ.get("GATJAX_DATA"):
        return Path(chosen).expanduser()
    return user_cache_folder()


def user_cache_folder() -> Path:
    """Where this system keeps what a user's programs can make again."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "gatjax"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "gatjax"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "gatjax"


def check_sha256(data: bytes, sha256: str, where: str, remedy: str) -> bytes:
    """Return the data if it has the pinned hash.

    Raises:
        ValueError: the data is not what was pinned.
    """
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ValueError(
            f"{where} is damaged or not the known file: sha256 of its {len(data)} bytes is {found}, "
            f"expected {sha256}; {remedy}"
        )
    return data


def read_verified(path: Path, sha256: str) -> bytes:
    """Read a file whole and check its hash."""
    return check_sha256(path.read_bytes(), sha256, str(path), "delete it to have it fetched anew")


def download(url: str, path: Path, sha256: str) -> None:
    """Fetch a file with a progress bar; it appears at `path` whole and verified, or not at all.

    Args:
        url: where from.
        path: where to; its folder is made if need be.
        sha256: the hash that the file must have.

    Raises:
        OSError: the file cannot be had or not be written.
        ValueError: what came is not the file that was pinned.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    digest, size = hashlib.sha256(), 0
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:
            total = response.headers.get("Content-Length")
            total = int(total) if total else None
            with (
                partial.open("wb") as file,
                tqdm(total=total, desc=path.name, unit="B", unit_scale=True) as bar,
            ):
                while chunk := response.read(CHUNK_BYTES):
                    file.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
                    bar.update(len(chunk))
        if total is not None and size < total:
            raise ConnectionError(f"{url}: the connection ended after {size} of {total} bytes")
        if digest.hexdigest() != sha256:
            raise ValueError(
                f"{url} is damaged or not the known file: sha256 of its {size} bytes is "
                f"{digest.hexdigest()}, expected {sha256}; nothing was kept, try again later"
            )
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
