"""What attention means: measures of weights and of depth, attributions of a prediction to edges, and how good they are.

All are functions on arrays. Weights and attributions are aligned with the graph's own edges, [E], also where it has
self-loops; an attribution is any function

```
attribution(apply, graph, target, **options) -> [E]
```

that says how much each edge matters to what `apply` predicts for the node `target`; see `predict`. Compiled once for
many targets: `jax.jit(functools.partial(edge_deletion, model))`.
"""

from gatjax.explain.attributions import (
    edge_gradient,
    gradient_times_weight,
    integrated_gradients,
    mean_attention,
    random_attribution,
    unrolled_attention,
)
from gatjax.explain.perturbation import MaskCosts, edge_deletion, learned_mask
from gatjax.explain.prediction import (
    ComputationGraph,
    Options,
    Prediction,
    computation_graph,
    log_odds,
    predict,
    probability,
)
from gatjax.explain.quality import (
    Ablation,
    Fidelity,
    ablate,
    area_under_curve,
    characterization,
    comprehensiveness,
    deletion_curve,
    fidelity,
    insertion_curve,
    sufficiency,
    top_edges,
    unfaithfulness,
)
from gatjax.explain.ranking import edge_auroc, precision_at_k, rank_correlation
from gatjax.explain.smoothing import (
    dirichlet_energy,
    distance_to_limit,
    effective_rank,
    hop_distances,
    mad_gap,
    mean_average_distance,
    numerical_rank,
)
from gatjax.explain.weights import (
    SharedPairs,
    divergence,
    effective_neighbors,
    entropy,
    entropy_ratio,
    head_divergence,
    layer_divergence,
    ranking_agreement,
    shared_pairs,
)

__all__ = [
    "Ablation",
    "ComputationGraph",
    "Fidelity",
    "MaskCosts",
    "Options",
    "Prediction",
    "SharedPairs",
    "ablate",
    "area_under_curve",
    "characterization",
    "comprehensiveness",
    "computation_graph",
    "deletion_curve",
    "dirichlet_energy",
    "distance_to_limit",
    "divergence",
    "edge_auroc",
    "edge_deletion",
    "edge_gradient",
    "effective_neighbors",
    "effective_rank",
    "entropy",
    "entropy_ratio",
    "fidelity",
    "gradient_times_weight",
    "head_divergence",
    "hop_distances",
    "insertion_curve",
    "integrated_gradients",
    "layer_divergence",
    "learned_mask",
    "log_odds",
    "mad_gap",
    "mean_attention",
    "mean_average_distance",
    "numerical_rank",
    "precision_at_k",
    "predict",
    "probability",
    "random_attribution",
    "rank_correlation",
    "ranking_agreement",
    "shared_pairs",
    "sufficiency",
    "top_edges",
    "unfaithfulness",
    "unrolled_attention",
]
