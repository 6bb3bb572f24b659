"""What the command line sets up in the process before JAX is imported.

The library never touches JAX's global configuration; the program, which owns the process, does so here and only here.
"""

import contextlib
import hashlib
import os
import platform
from pathlib import Path


def cache_folder() -> Path:
    """Where compiled programs are kept between runs: ``$XDG_CACHE_HOME/jaxcg``, by default ``~/.cache/jaxcg``.

    Each kind of processor has a folder of its own in there: a home shared by the nodes of a cluster must not hand a
    program to a machine that lacks its instructions.
    """
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "jaxcg" / _processor()


def _processor() -> str:
    """A short name of the processor's instruction set."""
    features = platform.processor()
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        features = next((line for line in file if line.startswith(("flags", "Features"))), features)
    return f"{platform.machine()}-{hashlib.sha256(features.encode()).hexdigest()[:10]}"


def configure_jax() -> None:
    """Turns on double precision and the persistent compilation cache, and shows the CPU's cores as devices.

    Must run before the first JAX computation. ``JAXCG_NO_CACHE=1`` leaves the cache off; a cache folder or
    ``XLA_FLAGS`` that the user has set are left as they are.
    """
    # XLA logs two harmless lines for every program it loads from the cache; what matters it raises. 1 is what JAX sets.
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    flags = os.environ.get("XLA_FLAGS", "")
    # Wide vectors make the pair sums half as fast again on processors that have them; others ignore the preference.
    for flag, value in (("xla_force_host_platform_device_count", count), ("xla_cpu_prefer_vector_width", 512)):
        if flag not in flags:
            flags = f"{flags} --{flag}={value}".strip()
    os.environ["XLA_FLAGS"] = flags

    import jax

    jax.config.update("jax_enable_x64", True)
    if os.environ.get("JAXCG_NO_CACHE", "") in ("", "0") and not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        folder = cache_folder()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            return  # a read-only home costs time, never the run
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
