"""Data sets for node prediction: known ones by name, your own from a folder."""

from gatjax.data.dataset import Dataset, largest_component
from gatjax.data.features import normalize_rows
from gatjax.data.folder import load_folder
from gatjax.data.imported import as_dataset
from gatjax.data.planetoid import load
from gatjax.data.predictions import write_predictions
from gatjax.data.splits import Splits, has_label, random_split, shchur_split

__all__ = [
    "Dataset",
    "Splits",
    "as_dataset",
    "has_label",
    "largest_component",
    "load",
    "load_folder",
    "normalize_rows",
    "random_split",
    "shchur_split",
    "write_predictions",
]
