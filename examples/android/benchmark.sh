#!/bin/bash
# A model on a phone: times on its CPU and its GPU, as JSON on standard output.
#
#   examples/android/benchmark.sh MODEL.tflite [BENCHMARK_MODEL]      default: ./benchmark_model
#
# BENCHMARK_MODEL is LiteRT's tool for android_arm64; libraries beside it, those of the GPU, go to the
# phone with it. The phone is on a cable, with USB debugging allowed. What the tool wrote is kept as
# MODEL.cpu.log and MODEL.gpu.log in the current folder.
set -euo pipefail

fail() { echo "benchmark.sh: $*" >&2; exit 2; }

[ $# -ge 1 ] && [ $# -le 2 ] || fail "usage: benchmark.sh MODEL.tflite [BENCHMARK_MODEL]"
model=$1
tool=${2:-./benchmark_model}
[ -f "$model" ] || fail "no such model. Received: $model"
[ -f "$tool" ] || fail "LiteRT's benchmark_model for android_arm64 is needed. Received: $tool"
command -v adb > /dev/null || fail "adb is missing; install Android's platform tools (Debian: adb)"
adb get-state > /dev/null 2>&1 ||
  fail "no phone; connect one, allow USB debugging, and of several name one in ANDROID_SERIAL"

here=$(dirname "$0")
there=/data/local/tmp/ulsam
name=$(basename "$model" .tflite)
adb shell mkdir -p $there
for file in "$tool" "$(dirname "$tool")"/*.so; do
  [ ! -f "$file" ] || adb push "$file" $there > /dev/null
done
adb push "$model" $there/model.tflite > /dev/null
adb shell chmod +x "$there/$(basename "$tool")"

measure() { # log, flags of the tool: what it writes, its failure too, is for the reader of the log
  adb shell "cd $there && LD_LIBRARY_PATH=. './$(basename "$tool")' --graph=model.tflite ${*:2}" \
    > "$1" 2>&1 < /dev/null || true
}

measure "$name.cpu.log" --use_cpu=true --use_gpu=false --num_threads=4
# The GPU alone: else the operators that it refuses run on the CPU without a word.
measure "$name.gpu.log" --use_gpu=true --use_cpu=false --require_full_delegation=true
phone=$(adb shell getprop ro.product.model | tr -d '\r')
exec python3 "$here/benchmark_output.py" "$name.tflite" "$phone" \
  "CPU=$name.cpu.log" "GPU=$name.gpu.log"
