#!/bin/bash
# The step of `profile gpu` on a real GPU: ViT-S, ViT-B and ViT-L at 518 pixels, bf16, compiled, labelled in the step, aligned.
# It runs, resumes to the same loss, and is timed against a bare loop of the same networks and losses (benchmarks/gpu.py).
#
#   bash benchmarks/gpu.sh                 on a machine with a GPU: writes data/benchmarks/gpu.json, in at most GPU_SH_SECONDS
#   GPU_SH_TINY=1 bash benchmarks/gpu.sh   anywhere, on the CPU, with small networks: writes into a temporary folder
#
#   GPU_SH_SECONDS   the time it may take (540): a network for which it would not do is left out, and the record says so
#   GPU_SH_BATCH     labelled images per step (8); with twice as many unlabelled ones
#   GPU_SH_PEAK      the GPU's dense bf16 TFLOP/s, where benchmarks/gpu.py does not know it
#   GPU_SH_COMPILE   1 compiles in a tiny run too
#   GPU_SH_OUT       where the record goes instead
#   PYTHON           which Python (.venv/bin/python, or python3); it has a torch that sees the GPU
#
# No network is needed there: weights are random and lively, photographs are drawn. What that Python lacks comes along as wheels
# of pure Python, which are put beside it for this run alone. On a machine with a network, for the Python of the other one:
#
#   python -m pip download --no-deps --dest benchmarks/wheels timm accelerate jaxtyping wadler-lindig
#
# and benchmarks/wheels (ignored by git) travels with the working tree: `carry: ["benchmarks/wheels"]` of a device tool.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHON=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if compgen -G "benchmarks/wheels/*.whl" > /dev/null; then
    "$PYTHON" -m pip install --quiet --no-index --no-deps --target "$scratch/site" benchmarks/wheels/*.whl
    export PYTHONPATH="$scratch/site:${PYTHONPATH:-}"
fi
export PYTHONPATH="$PWD:$PWD/benchmarks:${PYTHONPATH:-}" HF_HUB_OFFLINE=1
options=(--scratch "$scratch" --seconds "${GPU_SH_SECONDS:-540}")
[ -n "${GPU_SH_BATCH:-}" ] && options+=(--batch "$GPU_SH_BATCH")
[ -n "${GPU_SH_PEAK:-}" ] && options+=(--peak "$GPU_SH_PEAK")
[ -n "${GPU_SH_OUT:-}" ] && options+=(--out "$GPU_SH_OUT")
[ "${GPU_SH_COMPILE:-0}" = 1 ] && options+=(--compile)
[ "${GPU_SH_TINY:-0}" = 1 ] && options+=(--tiny)
"$PYTHON" benchmarks/gpu.py "${options[@]}"
