"""What every test runs under: two CPU devices, and shapes and types of public functions checked at run time."""

import os
from pathlib import Path

# Before JAX starts: the batching code must work on more than one device.
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")

import jax
import pytest
from jaxtyping import install_import_hook

install_import_hook("jaxcg", "typechecking.checked")


@pytest.fixture
def x64():
    """Double precision for one test."""
    with jax.enable_x64(True):
        yield


# Linux gives a process 65530 memory mappings; every compiled function takes about seven, and a compiler that gets no
# more of them ends the process.
MAPPINGS = 20_000


@pytest.fixture(autouse=True, scope="module")
def few_mappings():
    """Forgets what was compiled once there is much of it."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MAPPINGS:
        jax.clear_caches()
