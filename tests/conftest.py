"""What every test runs under: two CPU devices, and shapes and types of public functions checked at run time."""

import os

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
