"""Shards on the devices of one process or of many."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from gatjax.graph.halo import Exchange
from gatjax.ops.blocks import varying
from gatjax.training.sharding import Shard, Shards, own_shard

AXIS = "shards"

_NUMBERS = "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
_LAUNCHERS = {
    "SLURM_STEP_NODELIST": "SLURM_NTASKS",
    "OMPI_MCA_orte_hnp_uri": "OMPI_COMM_WORLD_SIZE",
}
_HOST_NAME = (
    "Processes reach each other by the names of their hosts: look whether `getent hosts $(hostname)` gives an address "
    "that the other hosts reach, and not 127.0.1.1, which Debian writes into /etc/hosts"
)


def on_shards(
    function: Callable[[Any, Shard], PyTree], mesh: Mesh, *, exchange: Exchange = "ring"
) -> Callable[[Any, Shards], PyTree]:
    """What a function makes of each shard, summed over all of them: a loss, counts.

    Take the gradient of what is returned, outside of it: that of the parameters is then of all shards together. A mean
    is a sum over a sum, of the nodes that count.

    Args:
      function: `function(parameters, shard)`, a tree of arrays that are sums over the shard's own nodes. `parameters`
        are any tree, the same on all devices; random keys among them too, and dropout does not depend on the number of
        shards.
      mesh: of one axis, with a device for each shard, such as that of `cluster()`.
      exchange: as in `Halo`.

    Returns:
      `summed(parameters, shards)`, to be called inside `jax.jit`.

    Raises:
      ValueError: a mesh of several axes; when called, another number of shards than devices.

    >>> from gatjax import GATConv, build_graph
    >>> from gatjax.training import cluster, functional, shard_graph
    >>> from flax import nnx
    >>> graph = build_graph([0, 1, 2], [1, 2, 0], jnp.eye(3))
    >>> initialise, apply = functional(lambda rngs: GATConv(3, 2, rngs=rngs))
    >>> def loss(parameters, shard):
    ...     out = apply(parameters, shard.graph, view=shard.view).nodes
    ...     return jnp.where(shard.node_mask[:, None], out**2, 0).sum()
    >>> parameters = initialise(jax.random.key(0))
    >>> with cluster(num_devices=1) as mesh:
    ...     shards = shard_graph(graph, [0, 0, 0])
    ...     gradient = jax.jit(jax.grad(on_shards(loss, mesh)))(parameters, shards)
    """
    axis = axis_of(mesh)

    def of_one(parameters: Any, shards: Shards) -> PyTree:
        shard = own_shard(shards, axis, exchange)
        value = function(_of_each(parameters, shards.node_ids), shard)
        return jax.lax.psum(value, axis)

    return _mapped(of_one, mesh, PartitionSpec())


def map_shards(
    function: Callable[[Any, Shard], PyTree], mesh: Mesh, *, exchange: Exchange = "ring"
) -> Callable[[Any, Shards], PyTree]:
    """What a function makes of each shard, stacked [D, ...]: rows of its nodes, for `unshard_rows`.

    The arguments are those of `on_shards`; the function's arrays have one shape on all shards.
    """
    axis = axis_of(mesh)

    def of_one(parameters: Any, shards: Shards) -> PyTree:
        shard = own_shard(shards, axis, exchange)
        value = function(_of_each(parameters, shards.node_ids), shard)
        return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], value)

    return _mapped(of_one, mesh, PartitionSpec(axis))


def place_shards(shards: Shards, mesh: Mesh) -> Shards:
    """The shards on the devices of a mesh, each on its own; once, before the first step.

    Where several processes run, each must hold all of them: `load_shards` needs no more than its own.
    """
    check_number(shards.num_shards, mesh)
    return jax.device_put(shards, NamedSharding(mesh, PartitionSpec(axis_of(mesh))))


@contextmanager
def cluster(
    *,
    num_devices: int | None = None,
    heartbeat_seconds: int = 100,
    connect_seconds: int = 300,
) -> Iterator[Mesh]:
    """A mesh of all devices, those of other processes too, which are met here and left together at the end.

    One process runs alone unless its environment names others: `JAX_COORDINATOR_ADDRESS` (host:port of process 0) with
    `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`, or a launch by `srun` or `mpirun`, of which JAX knows the rest. To be
    entered before anything else of JAX is used.

    Args:
      num_devices: how many devices take part; all by default, and always where several processes run.
      heartbeat_seconds: how long a process may be silent until the others end; one that is late but alive is waited
        for.
      connect_seconds: how long to wait for all to come.

    Returns:
      A context whose value is the mesh, of the one axis "shards".

    Raises:
      ValueError: an environment that names a part of what is needed; more devices than there are, or fewer where
        several processes run.
      ConnectionError: process 0 cannot be reached; where others do not come, JAX ends all that have.

    >>> with cluster(num_devices=1) as mesh:
    ...     dict(mesh.shape)
    {'shards': 1}
    """
    met = _meet(heartbeat_seconds, connect_seconds)
    try:
        yield _mesh(num_devices)
    except Exception as error:
        if met and "Connect timeout" in str(error):
            error.add_note(_HOST_NAME)
        elif met and "by peer" in str(error):
            error.add_note(
                "Another process has ended: its own output says why, and the last lines here, which it was"
            )
        raise
    # After an error the others do not come here, and what happened is to be told before this process ends.
    if met:
        jax.distributed.shutdown()


def _meet(heartbeat_seconds: int, connect_seconds: int) -> bool:
    """Join the other processes, if there are any that have not been joined yet."""
    given = [os.environ.get(name) for name in _NUMBERS]
    launched = any(
        launcher in os.environ and int(os.environ.get(size, 1)) > 1
        for launcher, size in _LAUNCHERS.items()
    )
    address = os.environ.get("JAX_COORDINATOR_ADDRESS")
    if jax.distributed.is_initialized() or not (launched or address or any(given)):
        return False
    if not launched and None in (address, *given):
        missing = [
            name
            for name, value in zip(
                ("JAX_COORDINATOR_ADDRESS", *_NUMBERS), (address, *given), strict=True
            )
            if value is None
        ]
        raise ValueError(
            f"{' and '.join(missing)} must be set, too, where several processes run: the host and port of process 0, "
            "how many there are, and the number of this one from 0 on"
        )
    num_processes, process_id = (None if value is None else int(value) for value in given)
    if address and process_id:
        _reach(address, connect_seconds)
    jax.distributed.initialize(
        num_processes=num_processes,
        process_id=process_id,
        initialization_timeout=connect_seconds,
        heartbeat_timeout_seconds=heartbeat_seconds,
        shutdown_timeout_seconds=heartbeat_seconds,
    )
    return True


def _reach(address: str, seconds: float) -> None:
    """Wait for process 0 to listen; JAX itself would end this process where that takes too long."""
    host, _, port = address.rpartition(":")
    until = time.monotonic() + seconds
    while True:
        try:
            return socket.create_connection((host, int(port)), timeout=seconds).close()
        except OSError as error:
            if time.monotonic() > until:
                raise ConnectionError(
                    f"process 0 is not reached at {address} within {seconds} s ({error}): start it, too, and name an "
                    f"address that all hosts reach. {_HOST_NAME}"
                ) from error
            time.sleep(0.2)


def _mesh(num_devices: int | None) -> Mesh:
    devices = jax.devices()
    processes = jax.process_count()
    if processes > 1 and num_devices not in (None, len(devices)):
        raise ValueError(
            f"num_devices={num_devices}, and the {processes} processes have {len(devices)} devices, all of which take "
            "part: on a CPU JAX_NUM_CPU_DEVICES in the environment says how many each has"
        )
    if num_devices is not None and not 1 <= num_devices <= len(devices):
        raise ValueError(
            f"num_devices={num_devices}, and there are {len(devices)}: on a CPU JAX_NUM_CPU_DEVICES={num_devices} in "
            "the environment makes more"
        )
    devices = devices[:num_devices]
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def axis_of(mesh: Mesh) -> str:
    """The axis of a mesh that has one."""
    if len(mesh.axis_names) != 1:
        raise ValueError(
            f"the mesh has the axes {list(mesh.axis_names)}: shards need one of one axis, such as that of cluster()"
        )
    return mesh.axis_names[0]


def check_number(num_shards: int, mesh: Mesh) -> None:
    """Refuse a mesh of more or fewer devices than there are shards."""
    if num_shards != mesh.size:
        raise ValueError(
            f"there are {num_shards} shards and {mesh.size} devices: partition the graph for {mesh.size}, or "
            "use as many devices as shards"
        )


def _mapped(
    of_one: Callable[[Any, Shards], PyTree], mesh: Mesh, out_specs: PartitionSpec
) -> Callable[[Any, Shards], PyTree]:
    in_specs = PartitionSpec(), PartitionSpec(axis_of(mesh))
    mapped = jax.shard_map(of_one, mesh=mesh, in_specs=in_specs, out_specs=out_specs)

    def call(parameters: Any, shards: Shards) -> PyTree:
        check_number(shards.num_shards, mesh)
        return mapped(parameters, shards)

    return call


def _of_each(tree: PyTree, like: Any) -> PyTree:
    """The tree, whose gradient is then added up over the shards once, and not wherever it is read."""
    is_key = lambda leaf: jnp.issubdtype(jnp.asarray(leaf).dtype, jax.dtypes.prng_key)
    return jax.tree.map(lambda leaf: leaf if is_key(leaf) else varying(leaf, like), tree)
