#!/bin/bash
# An arm64 Python with LiteRT's wheel for it, run by QEMU, in .arm64: .arm64/CPU/python for each CPU.
#
# Debian's packages and PyPI's wheels are unpacked, nothing is installed. LiteRT is the release that
# .venv has (or $PYTHON's), so that only the machine differs. A CPU is what QEMU offers and the
# /proc/cpuinfo that goes with it: XNNPACK crashes where it reads that of another machine.
#
#   cortex-a53   NEON alone, as in phones of 2014
#   cortex-a76   with int8 dot products and float16 arithmetic, as since 2018
#   max          with all that QEMU has, int8 matrix products and SVE too. Not SME: QEMU 7.2, Debian
#                12's, computes its integer products wrongly, and QEMU 10.0 does not.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
litert=$("$python" -c 'import importlib.metadata as m; print(m.version("ai-edge-litert"))')
home=$PWD/.arm64
[ "$(cat "$home/.installed" 2> /dev/null)" != "$litert" ] || exit 0
rm -rf "$home"
mkdir -p "$home"

unpack() { # folder, architecture, packages: with what they need and this machine's status lacks
  local lists=$home/apt packages=("${@:3}")
  mkdir -p "$lists"/{lists,cache/archives}/partial
  local apt=(apt-get -qq -o APT::Architecture="$2" -o APT::Architectures="$2" -o Debug::NoLocking=1
    -o Dir::State::lists="$lists/lists" -o Dir::Cache="$lists/cache" -o APT::Sandbox::User=root)
  [ "$2" != arm64 ] || apt+=(-o Dir::State::status=/dev/null) # there nothing is installed
  "${apt[@]}" update
  "${apt[@]}" install -y --download-only --no-install-recommends "${packages[@]}" > /dev/null
  for package in "$lists"/cache/archives/*.deb; do dpkg-deb -x "$package" "$1"; done
  rm -r "$lists"
}

unpack "$home/qemu" "$(dpkg --print-architecture)" qemu-user
unpack "$home/root" arm64 python3-minimal libpython3-stdlib libstdc++6

[ -e "$home/root/lib" ] || ln -s usr/lib "$home/root/lib" # where Debian has merged the two

interpreter=$(basename "$(readlink "$home/root/usr/bin/python3")")
# Whatever wheel the C library is new enough for; it is Debian 12's or later.
"$python" -m pip install --quiet --target "$home/root/wheels" --only-binary=:all: \
  --python-version "${interpreter#python}" $(seq -f '--platform=manylinux_2_%g_aarch64' 17 36) \
  "ai-edge-litert==$litert" numpy

cpu() { # name in QEMU, its options, part number in /proc/cpuinfo
  local folder=$home/$1
  mkdir -p "$folder/proc"
  ln -s ../root/{lib,usr} "$folder"
  for core in 0 1; do
    printf 'processor\t: %s\nCPU implementer\t: 0x41\nCPU architecture: 8\n' "$core"
    printf 'CPU variant\t: 0x0\nCPU part\t: %s\nCPU revision\t: 4\n\n' "$3"
  done > "$folder/proc/cpuinfo"
  # -L: what the arm64 program opens is looked for there first.
  cat > "$folder/python" << END
#!/bin/sh
ulimit -c 0
export LD_LIBRARY_PATH="$home/qemu/usr/lib/$(uname -m)-linux-gnu" PYTHONPATH="$home/root/wheels"
exec "$home/qemu/usr/bin/qemu-aarch64" -cpu $1$2 -U LD_LIBRARY_PATH -L "$folder" \\
  "$folder/usr/bin/$interpreter" "\$@"
END
  chmod +x "$folder/python"
  "$folder/python" -c 'import ai_edge_litert.interpreter'
}

cpu cortex-a53 "" 0xd03
cpu cortex-a76 "" 0xd0b
cpu max ,sme=off 0xd48 # a Cortex-X2 is the nearest that is sold
echo "$litert" > "$home/.installed"
