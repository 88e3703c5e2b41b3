"""The devices that an experiment runs on."""

import contextlib
import os

import jax


def use_every_core() -> None:
    """Make each core of the CPU a device of its own; to be called before JAX looks for its devices.

    A number that is set already, by `XLA_FLAGS`, by `JAX_NUM_CPU_DEVICES` or by a caller's `jax.config`, stays, and so
    do devices that are in use.
    """
    by_flag = "--xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if by_flag or jax.config.values["jax_num_cpu_devices"] >= 0:
        return
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
