"""Data sets for node prediction, known ones by name, your own from a folder; molecules; and batches of many graphs."""

from gatjax.data.budgets import budgets_for, slots_for
from gatjax.data.dataset import Dataset, largest_component
from gatjax.data.features import normalize_rows
from gatjax.data.featurize import Failure, bond_graph, featurize, featurize_all
from gatjax.data.folder import load_folder
from gatjax.data.imported import as_dataset
from gatjax.data.loader import Padding, batches, padding_of, start_at
from gatjax.data.molecules import Molecules, load_molecules
from gatjax.data.packing import GraphBatch, Targets
from gatjax.data.planetoid import load
from gatjax.data.predictions import write_predictions
from gatjax.data.splits import Splits, has_label, random_split, shchur_split

__all__ = [
    "Dataset",
    "Failure",
    "GraphBatch",
    "Molecules",
    "Padding",
    "Splits",
    "Targets",
    "as_dataset",
    "batches",
    "bond_graph",
    "budgets_for",
    "featurize",
    "featurize_all",
    "has_label",
    "largest_component",
    "load",
    "load_folder",
    "load_molecules",
    "normalize_rows",
    "padding_of",
    "random_split",
    "shchur_split",
    "slots_for",
    "start_at",
    "write_predictions",
]
