"""Data sets for node prediction by name or from a folder of yours; molecules, traffic, batches of many graphs."""

from gatjax.data.budgets import budgets_for, slots_for
from gatjax.data.dataset import Dataset, largest_component
from gatjax.data.features import normalize_rows
from gatjax.data.featurize import Failure, bond_graph, featurize, featurize_all
from gatjax.data.file_array import FileArray
from gatjax.data.folder import load_folder
from gatjax.data.imported import as_dataset
from gatjax.data.knowledge import KnowledgeGraph, load_knowledge_graph
from gatjax.data.loader import Padding, batches, padding_of, start_at
from gatjax.data.molecules import Molecules, load_molecules
from gatjax.data.packing import GraphBatch, Targets
from gatjax.data.planetoid import load
from gatjax.data.predictions import write_predictions
from gatjax.data.published import LabelledGraphs, load_ppi, load_published
from gatjax.data.sampled_loader import SampledBatch, SeedBatch, sampled_batches, seed_batches
from gatjax.data.splits import Splits, has_label, random_split, shchur_split
from gatjax.data.traffic import (
    Scaling,
    TimeSplit,
    Traffic,
    daily_profile,
    fit_scaling,
    load_traffic,
    split_in_time,
    window_starts,
    windows,
)
from gatjax.data.typed import TypedDataset, load_typed

__all__ = [
    "Dataset",
    "Failure",
    "FileArray",
    "GraphBatch",
    "KnowledgeGraph",
    "LabelledGraphs",
    "Molecules",
    "Padding",
    "SampledBatch",
    "Scaling",
    "SeedBatch",
    "Splits",
    "Targets",
    "TimeSplit",
    "Traffic",
    "TypedDataset",
    "as_dataset",
    "batches",
    "bond_graph",
    "budgets_for",
    "daily_profile",
    "featurize",
    "featurize_all",
    "fit_scaling",
    "has_label",
    "largest_component",
    "load",
    "load_folder",
    "load_knowledge_graph",
    "load_molecules",
    "load_ppi",
    "load_published",
    "load_traffic",
    "load_typed",
    "normalize_rows",
    "padding_of",
    "random_split",
    "sampled_batches",
    "seed_batches",
    "shchur_split",
    "slots_for",
    "split_in_time",
    "start_at",
    "window_starts",
    "windows",
    "write_predictions",
]
