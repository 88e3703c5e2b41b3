"""What is written can be read: functions, classes and dtypes by name, all variables; and pickles."""

import concurrent.futures
import copy
import functools
import json
import multiprocessing
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import own_functions
import pytest
from cases import CASES, EDGE_WIDTH, EDGES, IN, NODES, CosineConv, graph_for
from flax import nnx
from helpers import changed_rows, forward, rejects
from jax.experimental.sparse import BCOO

import gatjax
from gatjax import DropoutRates, build_graph, load_model, save_model
from gatjax.training import CheckpointError, Checkpoints

GRAPH = build_graph(
    [0, 1, 2, 3, 2],
    [1, 2, 3, 0, 2],
    np.random.default_rng(1).normal(size=(4, 5)).astype(np.float32),
)
SIZES = {"in_features": 5, "out_features": 3}


def assert_equal(one, other):
    np.testing.assert_array_equal(
        forward(one, GRAPH, deterministic=True), forward(other, GRAPH, deterministic=True)
    )


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "arguments",
    [
        {"activation": jax.nn.relu},
        {"activation": jax.nn.elu},
        {"activation": jnp.tanh},
        {"norm": nnx.LayerNorm},
        {"norm": nnx.BatchNorm},
        {"norm": functools.partial(nnx.BatchNorm, momentum=0.5, scale_init=nnx.initializers.ones)},
        {"normalize": gatjax.TopK(2), "temperature": 0.5},
        {"dtype": jnp.bfloat16},
        {"param_dtype": np.dtype("float16"), "dtype": "float32"},
        {"num_layers": np.int64(3), "dropout_rate": np.float32(0.5)},
        {"residual": np.False_},
        {"dropout_rate": DropoutRates(0.1, np.float64(0.2))},
    ],
    ids=", ".join,
)
def test_arguments_come_back(tmp_path, arguments):
    arguments = SIZES | {"hidden_features": 8, "num_heads": np.int32(2)} | arguments
    model = gatjax.GAT(**arguments, rngs=nnx.Rngs(0))
    save_model(tmp_path / "model", "GAT", arguments, model)
    loaded = load_model(tmp_path / "model")
    assert loaded.activation is model.activation
    model.eval()
    assert nnx.graphdef(loaded) == nnx.graphdef(_rebuilt(arguments))
    assert_equal(loaded, model)


def _rebuilt(arguments):
    model = gatjax.GAT(**arguments, rngs=nnx.Rngs(0))
    model.eval()
    return model


@pytest.mark.slow
def test_running_statistics_come_back(tmp_path):
    arguments = SIZES | {"norm": nnx.BatchNorm, "num_heads": 2}
    model = gatjax.GAT(**arguments, rngs=nnx.Rngs(0))
    model(GRAPH)
    assert model.norms[0].mean[...].any()
    model.eval()
    save_model(tmp_path / "model", "GAT", arguments, nnx.state(model))
    assert_equal(load_model(tmp_path / "model"), model)
    with pytest.raises(
        ValueError, match=r"norms.0.mean: absent given, float32\[64\] needed.*pass the model"
    ):
        save_model(tmp_path / "other", "GAT", arguments, nnx.state(model, nnx.Param))
    save_model(tmp_path / "other", "GAT", arguments, model)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"activation": lambda x: x}, "activation=<function .* cannot be found again by a name"),
        ({"kernel_init": nnx.initializers.normal(0.1)}, "kernel_init=<function .* by a name"),
        ({"norm": functools.partial(nnx.LayerNorm, epsilon=object())}, "epsilon=<object"),
    ],
)
def test_what_cannot_be_read_is_not_written(tmp_path, arguments, message):
    model = gatjax.GAT(**SIZES, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=message):
        save_model(tmp_path / "model", "GAT", SIZES | arguments, model)
    assert not list(tmp_path.iterdir())
    save_model(tmp_path / "model", "GAT", SIZES, model)


def test_variables_of_another_model_are_refused(tmp_path):
    model = gatjax.GATv2(**SIZES, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="not those of a model with these arguments"):
        save_model(tmp_path / "model", "GAT", SIZES, model)
    assert not list(tmp_path.iterdir())
    save_model(tmp_path / "model", "GATv2", SIZES, model)
    assert_equal(load_model(tmp_path / "model"), model)


@pytest.mark.slow
@pytest.mark.parametrize("tables", [1, 2])
def test_a_stack_of_the_layer_of_the_guide_comes_back(tmp_path, tables):
    """With sparse input, weights of edges, dropout, residuals, and senders from a table of their own."""
    graph = graph_for(next(case for case in CASES if case.layer is CosineConv))
    graph = graph._replace(senders=graph.senders % (NODES if tables == 1 else 7))
    senders = {} if tables == 1 else {"senders": np.ones((7, 3), np.float32)}
    arguments = {
        "layer": CosineConv,
        "in_features": IN if tables == 1 else (IN, 3),
        "hidden_features": 6,
        "out_features": 4,
        "edge_features": EDGE_WIDTH,
        "num_heads": 2,
        "residual": "linear",
        "dropout_rate": DropoutRates(0.2, 0.3, 0.4),
        "normalize": gatjax.TopK(3),
    }
    model = own_functions.two_layers(**arguments, rngs=nnx.Rngs(0))
    save_model(tmp_path / "model", own_functions.two_layers, arguments, model)
    with pytest.raises(CheckpointError, match="if you trust it, pass modules="):
        load_model(tmp_path / "model", modules=["own_functions"])
    loaded = load_model(tmp_path / "model", modules=["own_functions", "cases"])
    assert [type(layer) for layer in loaded.layers] == [CosineConv] * 2
    sparse = graph._replace(nodes=BCOO.fromdense(jnp.asarray(graph.nodes)))
    parts = {"edge_weight": jnp.linspace(0.1, 2, EDGES), "edge_mask": np.arange(EDGES) % 5 != 1}

    @nnx.jit(static_argnames="deterministic")
    def call(model, graph, deterministic, rngs=None):
        told = parts | senders
        return model(graph, **told, deterministic=deterministic, rngs=rngs).nodes

    found = call(loaded, graph, True)
    np.testing.assert_array_equal(found, call(model, graph, True))
    assert found.shape == (NODES, 4)
    np.testing.assert_allclose(call(loaded, sparse, True), found, rtol=1e-5, atol=1e-5)
    loaded.train()
    draws = [call(loaded, sparse, None, nnx.Rngs(dropout=seed)) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert changed_rows(draws[0], draws[2]) and changed_rows(draws[0], found)
    attention = nnx.jit(lambda model: model.attention(graph, **parts, **senders))
    first, last = attention(loaded)
    assert first.shape == (EDGES, 2) and last.shape == (EDGES, 1)


def test_functions_of_other_modules_are_named_when_loading(tmp_path):
    arguments = SIZES | {"activation": own_functions.squash}
    model = gatjax.GAT(**arguments, rngs=nnx.Rngs(0))
    save_model(tmp_path / "model", "GAT", arguments, model)
    with pytest.raises(
        CheckpointError, match=r"own_functions:squash .*pass modules=.*own_functions"
    ):
        load_model(tmp_path / "model")
    assert_equal(load_model(tmp_path / "model", modules=["own_functions"]), model)


@pytest.mark.parametrize(
    "name", ["os:system", "jaxevil:f", "jax.nn:no_such_thing", "subprocess:run", "builtins:eval"]
)
def test_a_file_cannot_name_just_anything(tmp_path, name):
    model = gatjax.GAT(**SIZES, activation=jax.nn.relu, rngs=nnx.Rngs(0))
    save_model(tmp_path / "model", "GAT", SIZES | {"activation": jax.nn.relu}, model)
    path = tmp_path / "model" / "manifest.json"
    path.write_text(path.read_text().replace("jax.nn:relu", name))
    with pytest.raises(CheckpointError, match="no model to load"):
        load_model(tmp_path / "model")


def test_a_damaged_description_is_said_to_be_one(tmp_path):
    model = gatjax.GAT(**SIZES, rngs=nnx.Rngs(0))
    save_model(tmp_path / "model", "GAT", SIZES, model)
    path = tmp_path / "model" / "manifest.json"
    manifest = json.loads(path.read_text())
    for run in (
        None,
        [],
        {},
        {"constructor": "GAT"},
        {"constructor": ["GAT"], "arguments": {}},
        {"constructor": "GAT", "arguments": 3},
        {"constructor": "GAT", "arguments": SIZES | {"in_features": "5"}},
        {"constructor": "GAT", "arguments": SIZES | {"activation": {}}},
        {"constructor": "GAT", "arguments": SIZES | {"dtype": {"dtype": "float33"}}},
        {"constructor": "GAT", "arguments": SIZES | {"no_such_option": 1}},
    ):
        path.write_text(json.dumps(manifest | {"run": run}))
        with pytest.raises(CheckpointError, match="no model to load|another run"):
            load_model(tmp_path / "model")
    # Deeper than Python reads.
    path.write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match="no model to load"):
        load_model(tmp_path / "model")
    path.write_text(json.dumps(manifest))
    for file in tmp_path.glob("model/parameters/*/_CHECKPOINT_METADATA"):
        file.write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match="is damaged: delete"):
        load_model(tmp_path / "model")


def test_a_failed_save_leaves_nothing_and_can_be_repeated(tmp_path, monkeypatch):
    model = gatjax.GAT(**SIZES, rngs=nnx.Rngs(0))
    with monkeypatch.context() as patch, pytest.raises(OSError):
        patch.setattr("gatjax.training.Checkpoints.save", _full)
        save_model(tmp_path / "model", "GAT", SIZES, model)
    assert not list(tmp_path.iterdir())
    save_model(tmp_path / "model", "GAT", SIZES, model)
    assert_equal(load_model(tmp_path / "model"), model)


def test_what_was_written_is_read_back(tmp_path, monkeypatch):
    model = gatjax.GAT(**SIZES, rngs=nnx.Rngs(0))
    restore = Checkpoints.restore

    def other_bits(*arguments):
        tree, notes = restore(*arguments)
        return jax.tree.map(lambda leaf: leaf + 1, tree), notes

    with monkeypatch.context() as patch, pytest.raises(CheckpointError, match="reads otherwise"):
        patch.setattr(Checkpoints, "restore", other_bits)
        save_model(tmp_path / "model", "GAT", SIZES, model)
    assert not list(tmp_path.iterdir())
    save_model(tmp_path / "another", "GAT", SIZES, model)


def _full(*_):
    raise OSError("no space left on device")


# Any module


CONFIG = own_functions.Config(
    own_functions.Kind.NARROW, own_functions.Widths(8, 3), jax.nn.gelu, jnp.bfloat16, ("a", "b")
)
ARGUMENTS = {"config": CONFIG, "options": {"num_heads": 2}, "shapes": [(1, 2), (3,)]}


@functools.cache
def trained_own():
    model = own_functions.Own(**ARGUMENTS, rngs=nnx.Rngs(1))
    model(GRAPH)
    model.eval()
    return model


def test_a_module_of_ones_own_comes_back_with_statistics_and_arguments(tmp_path):
    model = trained_own()
    save_model(tmp_path / "model", own_functions.Own, ARGUMENTS, model)
    with rejects(CheckpointError, "pass modules=['own_functions']"):
        load_model(tmp_path / "model")
    loaded = load_model(tmp_path / "model", modules=["own_functions"])
    assert type(loaded) is own_functions.Own
    assert (loaded.config, loaded.shapes) == (CONFIG, [(1, 2), (3,)])
    assert loaded.norm.mean[...].any()
    np.testing.assert_array_equal(loaded(GRAPH), model(GRAPH))
    loaded.train()
    assert not np.array_equal(loaded(GRAPH), loaded(GRAPH)), "it has keys of its own"


def test_what_has_no_name_is_built_by_a_function_of_ones_own(tmp_path):
    """The remedies of the messages, each followed."""
    model = own_functions.network(4, nnx.Rngs(0))
    update = model.edge_update
    for constructor, arguments, message in (
        (gatjax.GraphNetwork, {"edge_update": update}, "edge_update=<RowMLP> cannot be found"),
        (gatjax.GraphNetwork, {"edge_update": update}, "write a function that builds it all"),
        (lambda rngs: model, {}, "give it a name, with def, at the top of a module"),
        (own_functions.network, {"width": jnp.ones(3)}, "width=<ArrayImpl> cannot be found again"),
        ("own_functions:network", {"width": 4}, "or a class or function of your own"),
    ):
        with rejects(ValueError, message):
            save_model(tmp_path / "model", constructor, arguments, model)
    assert not list(tmp_path.iterdir())
    save_model(tmp_path / "model", own_functions.network, {"width": 4}, model)
    loaded = load_model(tmp_path / "model", modules=["own_functions"])
    np.testing.assert_array_equal(loaded(GRAPH).nodes, model(GRAPH).nodes)


def test_what_stands_in_a_script_or_notebook_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(own_functions.Own, "__module__", "__main__")
    with rejects(ValueError, "it stands in a script or a notebook: move it to a module"):
        save_model(tmp_path / "model", own_functions.Own, ARGUMENTS, trained_own())


@pytest.mark.slow
def test_constructors_of_all_kinds(tmp_path):
    """A partial, a module of Flax, one that looks at its numbers, and one that is known by its function."""
    partial = functools.partial(gatjax.GATConv, 5, num_heads=2, dropout_rate=0.5)
    cases = [
        (partial, {"out_features": 8}, ()),
        (gatjax.AttentionLayer, {"in_features": 5, "out_features": 4}, ()),
        (gatjax.GCN, SIZES, ()),
        (own_functions.Looks, {}, ["own_functions"]),
    ]
    for index, (constructor, arguments, modules) in enumerate(cases):
        model = constructor(**arguments, rngs=nnx.Rngs(3))
        save_model(tmp_path / str(index), constructor, arguments, model)
        loaded = load_model(tmp_path / str(index), modules=modules)
        for one, other in zip(
            *(jax.tree.leaves(nnx.state(each, nnx.Param)) for each in (model, loaded)), strict=True
        ):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "constructor",
    [
        {"name": "jax.numpy:load"},
        {"name": "jax.numpy:array"},
        {"name": "gatjax.models.names:importlib.import_module"},
        {"name": "gatjax.data:load"},
        {"partial": {"name": "jax.numpy:load"}, "arguments": [], "keywords": {}},
        {"tuple": ["x", None, True], "class": {"name": "jax.numpy:load"}},
        {"fields": {"file": "x"}, "class": {"name": "optax:adam"}},
        {"mapping": {}},
    ],
    ids=str,
)
def test_a_file_cannot_call_just_anything(tmp_path, constructor):
    save_model(tmp_path / "model", gatjax.GCN, SIZES, gatjax.GCN(**SIZES, rngs=nnx.Rngs(0)))
    path = tmp_path / "model" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["run"] = {"constructor": constructor, "arguments": {}}
    path.write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="no model to load"):
        load_model(tmp_path / "model")


# Pickles


@pytest.mark.parametrize(
    "name", ["GAT", "GATv2", "DotProductGAT", "ConstGAT", "GaAN", "GCN", "MLP"]
)
def test_models_can_be_pickled_and_copied(name):
    model = getattr(gatjax, name)(**SIZES, rngs=nnx.Rngs(0))
    for again in (pickle.loads(pickle.dumps(model)), copy.copy(model), copy.deepcopy(model)):
        assert nnx.graphdef(again) == nnx.graphdef(model)
        assert again.activation is model.activation
        assert_equal(again, model)


@pytest.mark.parametrize(
    "options",
    [
        {"norm": nnx.LayerNorm},
        {"norm": nnx.BatchNorm, "dropout_rate": 0.5},
        {"activation": jnp.tanh},
    ],
    ids=", ".join,
)
def test_options_can_be_pickled_too(options):
    model = gatjax.GAT(**SIZES, **options, rngs=nnx.Rngs(0))
    assert_equal(pickle.loads(pickle.dumps(model)), model)


@pytest.mark.slow
def test_another_process_can_be_given_a_model():
    model = gatjax.GAT(**SIZES, rngs=nnx.Rngs(0))
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        found = pool.submit(own_functions.predict, model, GRAPH).result()
    np.testing.assert_allclose(found, model(GRAPH).nodes, rtol=1e-5, atol=1e-6)
