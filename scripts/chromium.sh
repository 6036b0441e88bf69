#!/bin/bash
# What the tests of the page in examples/web need beside Python: Chromium, with its software driver
# for WebGPU, and npm (Debian: chromium, npm).
set -euo pipefail
missing=()
command -v chromium > /dev/null || missing+=(chromium)
command -v npm > /dev/null || missing+=(npm)
[ ${#missing[@]} -gt 0 ] || exit 0
if ! command -v apt-get > /dev/null; then
  echo "chromium.sh: install ${missing[*]}" >&2
  exit 1
fi
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
