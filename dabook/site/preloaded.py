"""What the fork server of `kernels` imports: all that most notebooks of the book need."""

import os
import pkgutil
from importlib import import_module

import dabook.pages
import dabook.show
from dalib import provenance

# what a kernel sets before a notebook imports Matplotlib
os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"

WHOLE = (dabook.pages, dabook.show)
ALSO = (
    "accelerate",
    "dabook.runs.runner",
    "dabook.site.glue",
    "dabook.site.kernels",
    "dalib.predict",
    "ipykernel.kernelapp",
    "torch._dynamo",  # by the first optimiser
    "torchvision",
)

for package in WHOLE:
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        import_module(module.name)
for name in ALSO:
    import_module(name)
# of the code as it was imported: what is edited from now on is another
for part in provenance.ROOTS:
    provenance.code_hash(part)
