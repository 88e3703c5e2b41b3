"""Stacks of layers, and what turns node embeddings into predictions on graphs and pairs."""

# Bad arguments are wanted here, and a stack does not know the type of its layers.
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportOptionalMemberAccess=false, reportIndexIssue=false

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import EDGE_WIDTH, EDGES, IN, NODES, Case, graph_for
from flax import nnx
from helpers import close, rejects, run
from jax.experimental.sparse import BCOO

from gatjax.attention import attention_pool, pool_nodes, score_pairs
from gatjax.graph import Budget, batch, build_graph, pad
from gatjax.layers import DotProductConv, DropoutRates, GATConv, GATv2Conv, MeanConv, NodeLinear
from gatjax.layers.dropout import Dropout
from gatjax.models import GAT, GCN, ConstGAT, DotProductGAT, GaAN, GATv2, Stack

CLASSES, HIDDEN = 7, 6
LAYERS = {GAT: GATConv, GATv2: GATv2Conv, DotProductGAT: DotProductConv, ConstGAT: MeanConv}
PLAIN = Case("nodes alone", GATConv, {})
WITH_EDGES = Case("nodes and edges", GATConv, {"edge_features": EDGE_WIDTH})
attention_models = pytest.mark.parametrize("model", LAYERS, ids=lambda model: model.__name__)
all_models = pytest.mark.parametrize("model", [*LAYERS, GCN], ids=lambda model: model.__name__)
two_models = pytest.mark.parametrize("model", [GAT, GCN], ids=lambda model: model.__name__)


def make(model, seed=0, **options):
    heads = {} if model is GCN else {"num_heads": 3, "out_heads": 2}
    options = {"hidden_features": HIDDEN, **heads, **options}
    return model(IN, CLASSES, **options, rngs=nnx.Rngs(seed))


@nnx.jit
def attention(model, graph):
    return model.attention(graph)


def num_parameters(make):
    """The size of all parameters, without making them."""
    params = nnx.state(nnx.eval_shape(make), nnx.Param)
    return sum(leaf.size for leaf in jax.tree.leaves(params))


# Structure


@pytest.mark.parametrize("num_layers", [1, 2, 3, 4])
@attention_models
def test_hidden_heads_are_concatenated_and_the_last_are_averaged(model, num_layers):
    stack = nnx.eval_shape(lambda: make(model, num_layers=num_layers))
    *hidden, last = stack.layers
    assert len(hidden) == num_layers - 1
    assert {type(layer) for layer in stack.layers} == {LAYERS[model]}
    assert [(layer.num_heads, layer.output.combine) for layer in hidden] == [
        (3, "concat") for _ in hidden
    ]
    assert (last.num_heads, last.output.combine) == (2, "mean")
    graph = graph_for(PLAIN)
    outputs = jax.eval_shape(lambda: make(model, num_layers=num_layers)(graph).nodes)
    assert outputs.shape == (NODES, CLASSES)


@pytest.mark.parametrize(("num_layers", "norm"), [(1, None), (2, None), (4, nnx.LayerNorm)])
def test_a_stack_is_its_layers_with_norm_and_activation_between(num_layers, norm):
    stack = make(GAT, num_layers=num_layers, norm=norm)
    graph = graph_for(PLAIN)
    out, weights = run(stack, graph)
    assert len(weights) == num_layers
    hidden = graph
    for index, layer in enumerate(stack.layers):
        assert weights[index].shape == (EDGES, layer.num_heads)
        nodes, alpha = run(layer, hidden)
        close(weights[index], alpha)
        hidden = hidden._replace(nodes=nodes)
        if index < num_layers - 1:
            rows = nodes if norm is None else stack.norms[index](nodes)
            hidden = hidden._replace(nodes=jnp.where(rows > 0, rows, jnp.exp(rows) - 1))
    close(out, hidden.nodes)
    assert (stack.norms is None) if norm is None else (len(stack.norms) == num_layers - 1)


@pytest.mark.parametrize(
    ("model", "negative"), [(GAT, lambda x: jnp.exp(x) - 1), (GCN, jnp.zeros_like)]
)
def test_default_activations_are_those_of_the_papers(model, negative):
    x = jnp.array([-2.0, -0.5, 0.0, 3.0])
    close(make(model).activation(x), jnp.where(x > 0, x, negative(x)))


@all_models
def test_every_layer_has_parameters_of_its_own(model):
    stack = make(model, num_layers=3, hidden_features=6)
    kernels = [
        np.asarray(leaf).tobytes()
        for leaf in jax.tree.leaves(nnx.state(stack, nnx.Param))
        if np.any(leaf)
    ]
    assert len(set(kernels)) == len(kernels) >= 3
    other = [
        np.asarray(leaf).tobytes()
        for leaf in jax.tree.leaves(nnx.state(make(model, 1, num_layers=3), nnx.Param))
        if np.any(leaf)
    ]
    assert not set(kernels) & set(other)


@pytest.mark.parametrize(
    ("model", "options", "expected"),
    [
        (GAT, {}, 1433 * 64 + 2 * 64 + 64 + 64 * 7 + 2 * 7 + 7),
        (
            GAT,
            {"use_score_bias": True},
            1433 * 64 + 2 * 64 + 8 + 64 + 64 * 7 + 2 * 7 + 1 + 7,
        ),
        (GAT, {"out_heads": 8}, 1433 * 64 + 2 * 64 + 64 + 8 * (64 * 7 + 2 * 7) + 7),
        (GAT, {"residual": True}, 2 * (1433 * 64 + 64 * 7) + 2 * 64 + 64 + 2 * 7 + 7),
        (GATv2, {}, 2 * 1433 * 64 + 3 * 64 + 2 * 64 * 7 + 3 * 7),
        (GATv2, {"share_weights": True}, 1433 * 64 + 3 * 64 + 64 * 7 + 3 * 7),
        (DotProductGAT, {}, 3 * 1433 * 64 + 2 * 64 + 3 * 64 * 7 + 2 * 7),
        (ConstGAT, {}, 1433 * 64 + 64 + 64 * 7 + 7),
        (GCN, {"hidden_features": 16}, 1433 * 16 + 16 + 16 * 7 + 7),
        (GCN, {"norm": nnx.LayerNorm}, 1433 * 64 + 64 + 2 * 64 + 64 * 7 + 7),
    ],
)
def test_parameter_counts_on_cora(model, options, expected):
    assert num_parameters(lambda: model(1433, 7, **options, rngs=nnx.Rngs(0))) == expected


@all_models
def test_options_reach_the_layers(model):
    rates = DropoutRates(0.1, 0.2, 0.3)
    stack = make(model, dropout_rate=rates, use_bias=False, residual=True)
    assert {layer.dropout.rates for layer in stack.layers} == {rates}
    assert {(layer.output.bias, layer.output.residual) for layer in stack.layers} == {(None, True)}


def test_edge_features_reach_every_layer():
    stack = make(GATv2, edge_features=EDGE_WIDTH, num_layers=3)
    graph = graph_for(WITH_EDGES)
    before = run(stack, graph)[1]
    after = run(stack, graph._replace(edges=2 * graph.edges))[1]
    assert all(np.abs(a - b).max() > 1e-3 for a, b in zip(before, after, strict=True))


# Calls


def test_eval_and_deterministic_switch_off_every_dropout():
    stack, graph = make(GAT, dropout_rate=DropoutRates(0.5, 0.5, 0.5)), graph_for(PLAIN)
    plain = make(GAT)
    nnx.update(plain, nnx.state(stack, nnx.Param))
    expected, _ = run(plain, graph)
    far = lambda nodes, others: np.abs(nodes - others).max() > 1e-3
    assert far(run(stack, graph)[0], run(stack, graph)[0])
    close(nnx.jit(lambda stack: stack(graph, deterministic=True).nodes)(stack), expected)
    draw = jax.jit(lambda key: stack(graph, rngs=nnx.Rngs(dropout=key)).nodes)
    again = [draw(jax.random.key(seed)) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(again[0], again[1])
    assert far(again[0], again[2]) and far(again[0], expected)
    stack.eval()
    close(run(stack, graph)[0], expected)
    stack.train()
    assert far(run(stack, graph)[0], expected)


@pytest.mark.parametrize("norm", [None, nnx.LayerNorm, nnx.BatchNorm], ids=lambda norm: str(norm))
def test_attention_changes_no_state(norm):
    stack = make(GAT, norm=norm, dropout_rate=0.5, num_layers=3)
    graph = graph_for(PLAIN)
    kept = nnx.Not(nnx.RngKey)
    before = jax.tree.map(np.array, nnx.state(stack, kept))
    attention(stack, graph)
    assert jax.tree.leaves(before)
    jax.tree.map(np.testing.assert_array_equal, before, nnx.state(stack, kept))


def test_attention_is_that_of_the_model_without_dropout():
    stack, graph = make(GAT, dropout_rate=0.5, num_layers=3), graph_for(PLAIN)
    first, second = attention(stack, graph), attention(stack, graph)
    stack.eval()
    for one, two, three in zip(first, second, attention(stack, graph), strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)


@two_models
def test_padding_and_masks_pass_through(model):
    stack, graph = make(model), graph_for(PLAIN)
    padded, masks = pad(graph, Budget(2 * NODES, 2 * EDGES, 2))
    out = jax.jit(lambda graph, mask: stack(graph, edge_mask=mask).nodes)(padded, masks.edge)
    close(out[:NODES], run(stack, graph)[0])
    weights = jax.jit(lambda graph, mask: stack.attention(graph, edge_mask=mask))(
        padded, masks.edge
    )
    for alpha, expected in zip(weights, run(stack, graph)[1], strict=True):
        close(alpha[:EDGES], expected)
        assert not np.any(alpha[EDGES:])


@two_models
def test_sparse_features_meet_the_first_layer_alone(model):
    stack, graph = make(model), graph_for(PLAIN)
    sparse = graph._replace(nodes=BCOO.fromdense(jnp.asarray(graph.nodes)))
    close(run(stack, sparse)[0], run(stack, graph)[0])
    for alpha, expected in zip(run(stack, sparse)[1], run(stack, graph)[1], strict=True):
        close(alpha, expected)


@two_models
def test_equal_models_are_traced_once(model):
    traced = []

    @nnx.jit
    def forward(stack, graph):
        traced.append(model)
        return stack(graph).nodes

    for seed in range(3):
        forward(make(model, seed, dropout_rate=0.5, norm=nnx.LayerNorm), graph_for(PLAIN, seed))
    assert len(traced) == 1


@pytest.mark.slow
@two_models
def test_training_fits_random_labels(model):
    """Every parameter of every layer gets a gradient, and together they lower the loss."""
    graph = graph_for(PLAIN)
    labels = np.random.default_rng(0).integers(0, CLASSES, NODES)
    graphdef, params = nnx.split(make(model, hidden_features=12, residual=True))
    optimiser = optax.adam(0.05)

    def loss_of(params):
        logits = nnx.merge(graphdef, params)(graph).nodes
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def step(carry, _):
        params, state = carry
        loss, gradient = jax.value_and_grad(loss_of)(params)
        updates, state = optimiser.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), (loss, gradient)

    train = jax.jit(lambda carry: jax.lax.scan(step, carry, length=61))
    _, (losses, gradients) = train((params, optimiser.init(params)))
    assert np.isfinite(losses).all() and losses[-1] < 0.5 * losses[0]
    for path, leaf in jax.tree.leaves_with_path(gradients):
        assert np.any(leaf[0] != 0), jax.tree_util.keystr(path)


@two_models
def test_models_lower_for_every_platform(model):
    graphdef, params = nnx.split(make(model, norm=nnx.LayerNorm))
    graph = graph_for(PLAIN)
    loss = lambda params, graph: nnx.merge(graphdef, params)(graph).nodes.sum()
    function = jax.jit(jax.value_and_grad(loss))
    platforms = ("cpu", "cuda", "tpu")
    assert jax.export.export(function, platforms=platforms)(params, graph).platforms == platforms


@pytest.mark.slow
def test_linen_takes_a_model():
    graph = graph_for(PLAIN)
    module = nnx.bridge.to_linen(
        GAT, IN, CLASSES, hidden_features=HIDDEN, num_heads=3, out_heads=2, dropout_rate=0.5
    )
    stack = make(GAT, dropout_rate=0.5)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    variables = module.init(keys, graph, deterministic=True)
    pure = nnx.to_pure_dict(nnx.state(stack, nnx.Param))
    shapes = lambda tree: sorted(leaf.shape for leaf in jax.tree.leaves(tree))
    assert shapes(variables["params"]) == shapes(pure)
    out = module.apply(variables, graph, deterministic=True).nodes
    assert out.shape == (NODES, CLASSES)
    weights = module.apply(variables, graph, nnx_method="attention")
    assert [alpha.shape for alpha in weights] == [(EDGES, 3), (EDGES, 2)]


@pytest.mark.parametrize(("nodes", "edges"), [(0, 0), (1, 0), (3, 0)])
def test_tiny_graphs(nodes, edges):
    out = make(GAT)(graph_for(PLAIN, nodes=nodes, edges=edges)).nodes
    assert out.shape == (nodes, CLASSES) and np.isfinite(out).all()


# Bad input


@all_models
def test_bad_models_are_refused(model, unchecked):
    with rejects(ValueError, "num_layers must be at least 1, got 0"):
        make(model, num_layers=0)
    with rejects(ValueError, "dropout rate of attention must lie in [0, 1), got 1"):
        make(model, dropout_rate=1.0)


def test_norms_fill_the_gaps(unchecked):
    layers = [GATConv(IN, 3, rngs=nnx.Rngs(0)), GATConv(3, 3, rngs=nnx.Rngs(0))]
    with rejects(ValueError, "2 layers have 1 gaps, got 2 norms"):
        Stack(layers, norms=[nnx.LayerNorm(3, rngs=nnx.Rngs(0))] * 2)


def test_what_is_no_layer_of_a_stack_is_refused(unchecked):
    layer, linear = GATConv(IN, 3, rngs=nnx.Rngs(0)), nnx.Linear(3, 3, rngs=nnx.Rngs(0))
    for layers, message in (
        ([layer, linear], "layers[1] must be a layer, called with a graph"),
        ([layer, linear], "got Linear: for nnx.Linear take NodeLinear"),
        ([layer, nnx.elu, layer], "got elu: for"),
        ([layer, None], "got NoneType: for"),
        (
            [GATConv],
            "layers[0] must be a layer, got the class GATConv: make one, as in GATConv(...)",
        ),
    ):
        with rejects(TypeError, message):
            Stack(layers)
    with rejects(TypeError, "embed must be a layer"):
        Stack([layer], embed=linear)
    Stack([layer, NodeLinear(3, 3, rngs=nnx.Rngs(0))], activation=nnx.elu)


def test_activations_and_norms_are_functions(unchecked):
    for wrong in ("elu", None):
        with rejects(TypeError, f"such as nnx.elu, or nnx.identity for none, got {wrong!r}"):
            make(GAT, activation=wrong)
    for wrong in ("batch", nnx.LayerNorm(8, rngs=nnx.Rngs(0))):
        with rejects(
            TypeError, "norm must be called as norm(features, rngs=rngs), such as nnx.LayerNorm"
        ):
            make(GAT, norm=wrong)
    make(GAT, activation=nnx.identity, norm=nnx.LayerNorm)


# pool_nodes


def three_graphs():
    """Graphs of 2, 0 and 3 nodes."""
    sizes = [2, 0, 3]
    rows = np.array([[1.0, -1.0], [3.0, -5.0], [2.0, 0.0], [4.0, -2.0], [9.0, -7.0]], np.float32)
    parts = np.split(rows, np.cumsum(sizes)[:-1])
    return batch([build_graph([], [], part) for part in parts])


POOLED = {
    "mean": [[2, -3], [0, 0], [5, -3]],
    "sum": [[4, -6], [0, 0], [15, -9]],
    "max": [[3, -1], [0, 0], [9, 0]],
}


@pytest.mark.parametrize("how", POOLED)
def test_pool_nodes(how):
    graph = three_graphs()
    close(pool_nodes(graph, how), POOLED[how])
    close(jax.jit(partial(pool_nodes, how=how))(graph), POOLED[how])


def test_pool_nodes_is_a_mean_unless_told():
    close(pool_nodes(three_graphs()), POOLED["mean"])


@pytest.mark.parametrize("how", POOLED)
def test_pooling_leaves_masked_nodes_out(how):
    graph = three_graphs()
    graph.nodes[1] = np.nan
    mask = np.array([True, False, True, True, True])
    expected = {**POOLED}[how].copy()
    expected[0] = [1, -1]
    pool = lambda nodes: pool_nodes(graph._replace(nodes=nodes), how, node_mask=mask)
    close(pool(graph.nodes), expected)
    gradient = jax.grad(lambda nodes: pool(nodes).sum())(jnp.asarray(graph.nodes))
    assert np.isfinite(gradient).all() and not np.any(gradient[1])


@pytest.mark.parametrize("how", POOLED)
def test_padding_pools_into_the_spare_graphs(how):
    padded, masks = pad(three_graphs(), Budget(nodes=7, edges=1, graphs=5))
    padded.nodes[5:] = 100.0
    pooled = pool_nodes(padded, how)
    assert pooled.shape == (5, 2)
    close(pooled[:3], POOLED[how])
    close(pool_nodes(padded, how, node_mask=masks.node), POOLED[how] + [[0, 0], [0, 0]])


def test_pool_nodes_of_any_rank_and_of_nothing():
    graph = three_graphs()
    assert pool_nodes(graph._replace(nodes=np.ones((5, 2, 3), np.float32))).shape == (3, 2, 3)
    assert pool_nodes(graph._replace(nodes=np.ones(5, np.float32))).shape == (3,)
    empty = build_graph([], [], np.zeros((0, 2), np.float32))
    np.testing.assert_array_equal(pool_nodes(empty), np.zeros((1, 2)))


def test_pooling_of_thousands_of_nodes_in_bfloat16():
    graph = build_graph([], [], jnp.ones((4099, 1), jnp.bfloat16))
    assert float(pool_nodes(graph)[0, 0]) == 1.0
    close(np.asarray(pool_nodes(graph, "sum"), np.float32), 4099, 0.01)


def test_pools_know_their_mask(unchecked):
    graph = three_graphs()
    total = len(graph.nodes)
    spoiled = graph._replace(nodes=np.full_like(graph.nodes, np.nan))
    nothing, query = np.zeros(total, bool), jnp.ones(graph.nodes.shape[1])
    pools = pool_nodes, lambda graph, **mask: attention_pool(graph, query, **mask)
    for pool in pools:
        assert not np.asarray(pool(spoiled, node_mask=nothing)).any()
        for bad, message in {
            "number": "node_mask must be boolean, got int",
            "list": "node_mask must be an array, got a list; use np.array(node_mask)",
        }.items():
            mask = nothing.astype(int) if bad == "number" else nothing.tolist()
            with pytest.raises(TypeError, match=re.escape(message)):
                pool(graph, node_mask=mask)
        with pytest.raises(ValueError, match=f"node_mask must have {total} rows, got 1"):
            pool(graph, node_mask=nothing[:1])
        with pytest.raises(ValueError, match="nodes is None, so there is nothing to pool"):
            pool(graph._replace(nodes=None))


# attention_pool


def test_attention_pool_weighs_the_nodes_by_their_answers():
    """The second node is log 3 more like the query than the first, so it weighs 3/4; a graph without nodes gets 0."""
    graph, query = three_graphs(), np.array([np.log(3) / 2, 0.0], np.float32)
    first = np.array([1, -1]) / 4 + 3 * np.array([3, -5]) / 4
    shares = np.exp(query[0] * np.array([2, 4, 9]))
    third = shares / shares.sum() @ graph.nodes[2:]
    pool = jax.jit(partial(attention_pool, scale=1.0))
    close(pool(graph, query), [first, [0, 0], third])
    close(attention_pool(graph, query * np.sqrt(2).astype(np.float32)), [first, [0, 0], third])
    each = np.stack([query, query, 0 * query])
    close(pool(graph, each), [first, [0, 0], POOLED["mean"][2]])


def test_attention_pool_leaves_masked_nodes_and_padding_out():
    graph, query = three_graphs(), jnp.array([0.3, -0.2])
    expected = np.asarray(jax.jit(attention_pool)(graph, query))
    padded, masks = pad(graph, Budget(nodes=7, edges=1, graphs=5))
    padded.nodes[5:] = np.nan
    pool = lambda nodes, query: attention_pool(
        padded._replace(nodes=nodes), query, node_mask=masks.node
    )
    close(jax.jit(pool)(padded.nodes, query), [*expected, [0, 0], [0, 0]])
    gradient = jax.jit(jax.grad(lambda *rows: pool(*rows).sum(), argnums=(0, 1)))
    gradients = gradient(padded.nodes, query)
    assert all(np.isfinite(x).all() and np.any(x != 0) for x in gradients)


def test_a_query_that_does_not_fit_is_refused(unchecked):
    for shape in ((3,), (2, 2), (1, 3, 2)):
        with pytest.raises(ValueError, match=r"query must be \[F\] = \[2\] or .* = \[3, 2\], got"):
            attention_pool(three_graphs(), np.ones(shape, np.float32))


def test_unknown_pooling_is_refused(unchecked):
    with rejects(ValueError, "how must be one of ['mean', 'sum', 'max', 'first'], got 'median'"):
        pool_nodes(three_graphs(), "median")


# score_pairs


NODE_ROWS = np.array([[1.0, 2.0], [3.0, -1.0], [0.5, 4.0]], np.float32)


def test_score_pairs_is_a_dot_product():
    senders, receivers = np.array([0, 2, 1, 1]), np.array([1, 0, 1, 0])
    expected = [1.0, 8.5, 10.0, 1.0]
    close(score_pairs(NODE_ROWS, senders, receivers), expected)
    close(score_pairs(NODE_ROWS, receivers, senders), expected)
    close(jax.jit(score_pairs)(NODE_ROWS, senders, receivers), expected)
    none = np.zeros(0, np.int32)
    assert score_pairs(NODE_ROWS, none, none).shape == (0,)


def test_score_pairs_takes_lists():
    close(score_pairs(NODE_ROWS, [0, 2], [1, 0]), [1.0, 8.5])
    assert score_pairs(NODE_ROWS, [], []).shape == (0,)


def test_under_jit_a_pair_that_names_no_node_scores_0_and_not_another_pair():
    found = jax.jit(score_pairs)(NODE_ROWS, np.array([0, 7, -1, 1]), np.array([1, 1, 1, 3]))
    close(found, [1.0, 0.0, 0.0, 0.0])


@pytest.mark.parametrize("bad", [-1, 3])
@pytest.mark.parametrize("end", ["senders", "receivers"])
def test_score_pairs_refuses_nodes_that_do_not_exist(end, bad, unchecked):
    ids = {"senders": np.array([0, 1]), "receivers": np.array([0, 1])}
    ids[end][1] = bad
    with pytest.raises((IndexError, ValueError), match=end):
        score_pairs(NODE_ROWS, **ids)


@pytest.mark.parametrize("model", [GAT, GCN, GaAN], ids=lambda model: model.__name__)
def test_every_place_may_drop_in_every_model(model):
    """Between the layers of a stack there are no heads, so that what heads drop is the layers' alone."""
    graph, rates = graph_for(PLAIN), DropoutRates(*[0.5] * len(DropoutRates._fields))
    dropping = model(IN, CLASSES, hidden_features=16, dropout_rate=rates, rngs=nnx.Rngs(0))
    out = nnx.eval_shape(lambda model: model(graph, deterministic=False).nodes, dropping)
    assert out.shape == (NODES, CLASSES)
    rates = DropoutRates(head_inputs=0.5)
    with rejects(ValueError, "head_inputs=0.5, and between layers there are no heads"):
        Stack([GATConv(3, 4, rngs=nnx.Rngs(0))], dropout=Dropout(rates, rngs=nnx.Rngs(0)))
