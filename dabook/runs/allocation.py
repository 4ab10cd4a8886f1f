"""How the processes of a study or of a build get their memory.

A training step on a CPU makes and frees some hundred megabytes of tensors. glibc gives such blocks
back to the system at once, and the next step has the system clear new ones, page by page. Told to
keep them, and to take them in huge pages, a step of 24 images takes 0.78 of its time, one of 8 images
0.86 (`data/benchmarks/allocation.json`). Its results are the same bits, and a process keeps the
memory of its greatest moment until it ends. Other C libraries do not read the variable.
"""

import os

VARIABLE = "GLIBC_TUNABLES"
TUNABLES = {
    "glibc.malloc.hugetlb": 1,  # madvise: huge pages where the system has them
    "glibc.malloc.mmap_threshold": 2**32,  # bytes: no block is a mapping of its own
    "glibc.malloc.trim_threshold": 2**34,  # nothing is given back
    "glibc.malloc.top_pad": 2**26,
}


def environment() -> dict[str, str]:
    """What a child process is given; nothing where the variable is set already."""
    if VARIABLE in os.environ:
        return {}
    return {VARIABLE: ":".join(f"{name}={value}" for name, value in TUNABLES.items())}
