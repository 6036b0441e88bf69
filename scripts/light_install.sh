#!/usr/bin/env bash
# The wheel without an extra, in a virtual environment of its own and without TensorFlow: its size,
# what works without a back end of Keras, and what works with JAX and with PyTorch.
#
#   scripts/light_install.sh [BACKEND...]      default: jax torch; into build/light
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -gt 0 ] || set -- jax torch
folder=$PWD/build/light
root=$PWD/tests/light
most=200 # MB
# Nothing but what is installed, and no settings of the user's.
unset PYTHONPATH KERAS_BACKEND
export KERAS_HOME=$folder
rm -rf "$folder" build/lib build/bdist.* # what an earlier build left would get into the wheel
"${PYTHON:-python3}" -m venv "$folder/venv"
bin=$folder/venv/bin
pip() { "$bin/pip" --quiet "$@"; }
# Not the checkout, which the project's settings put on the path: the wheel.
tests() { (cd "$folder" && "$bin/pytest" -q --tb=short -p no:cacheprovider -o pythonpath= "$@"); }

pip wheel --no-deps --wheel-dir "$folder" .
pip install "$folder"/*.whl
size=$(du -sm "$folder/venv/lib" | cut -f1)
echo "without an extra and without a back end: $size MB, of which pip and setuptools $(
  du -smc "$folder"/venv/lib/python*/site-packages/{pip,setuptools} | tail -1 | cut -f1)"
[ "$size" -lt "$most" ] || { echo "light_install.sh: more than $most MB" >&2; exit 1; }

pip install pytest safetensors # which writes the checkpoints that are read
tests "$root/test_base.py"
export JAX_DISABLE_MOST_OPTIMIZATIONS=1 # compiling is most of what it does here
for backend in "$@"; do
  pip install "$(sed -n "s/^ *\"\($backend[<=>][^\"]*\)\".*/\1/p" pyproject.toml)" # as in the extra dev
  KERAS_BACKEND=$backend tests "$root/test_back_end.py" "$root/test_base.py" -k "back_end or doctor"
done
rm -rf "$folder/venv" # more than a gigabyte
