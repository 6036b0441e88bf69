#!/bin/bash
# Two software Vulkan drivers for the LiteRT GPU accelerator, on a machine without a GPU.
#
#   scripts/vulkan_drivers.sh [--dir DIR] [swiftshader] [lavapipe]      default: both, into .vulkan
#
# swiftshader  from Debian's chromium-common: float32 only, quick to start
# lavapipe     Mesa 25 (Debian 12: from its backports, as its own Mesa 22 is refused by the
#              accelerator): true float16 arithmetic, as on phones; compiles shaders slowly the
#              first time and keeps them in the user's cache folder
#
# The packages are unpacked into DIR and nothing is installed or changed system-wide, so no root is
# needed; Debian (or a derivative with these packages), apt-get and dpkg-deb are. A driver that is
# there already is left alone: remove its folder to get it anew. On standard output comes, for each
# driver, the line to run in a shell before using it.
set -euo pipefail

fail() { echo "vulkan_drivers.sh: $*" >&2; exit 1; }

dir=.vulkan
drivers=()
while [ $# -gt 0 ]; do
  case $1 in
    --dir) [ $# -gt 1 ] || fail "--dir needs a folder"; dir=$2; shift ;;
    swiftshader | lavapipe) drivers+=("$1") ;;
    *) fail "unknown argument: $1 (usage: [--dir DIR] [swiftshader] [lavapipe])" ;;
  esac
  shift
done
[ ${#drivers[@]} -gt 0 ] || drivers=(swiftshader lavapipe)
for tool in apt-get dpkg-deb; do
  command -v "$tool" > /dev/null || fail "$tool is missing; the drivers come as Debian packages"
done
dir=$(realpath -m "$dir")
mkdir -p "$dir"
work=$(mktemp -d "$dir/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT

# apt-get with package lists and a download folder of its own, and the backports beside the
# machine's own sources.
private=(-qq -o Dir::Etc::sourceparts="$work/sources" -o Dir::State::lists="$work/lists"
  -o Dir::Cache="$work/cache" -o Debug::NoLocking=1 -o APT::Sandbox::User=root)
apt() { # arguments of apt-get
  apt-get "${private[@]}" "$@" > "$work/log" 2>&1 ||
    fail "apt-get $* failed: $(tr '\n' ' ' < "$work/log")"
}

backports=()
update() { # once, and only if something is to be downloaded
  [ ! -d "$work/lists" ] || return 0
  mkdir -p "$work/sources" "$work/lists/partial" "$work/cache/archives/partial"
  cp /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources "$work/sources" 2> /dev/null || true
  apt update
  if grep -q '^VERSION_CODENAME=bookworm' /etc/os-release; then
    local mirror
    mirror=$(apt-get "${private[@]}" indextargets --format '$(REPO_URI)' \
      'Created-By: Packages' 'Codename: bookworm' | sed -n 1p)
    [ -n "$mirror" ] || fail "no apt source for Debian 12 (bookworm) on this machine"
    echo "deb $mirror bookworm-backports main" > "$work/sources/backports.list"
    backports=(-t bookworm-backports)
    apt update
  fi
}

swiftshader() {
  update
  (cd "$work" && apt download chromium-common && dpkg-deb -x chromium-common_*.deb unpacked)
  cp "$work/unpacked/usr/lib/chromium/"{libvk_swiftshader.so,vk_swiftshader_icd.json} "$1"
  ln -s libvk_swiftshader.so "$1/libvulkan.so.1" # it serves as its own loader
}

lavapipe() {
  update
  # Resolved against what is installed: only the libraries that this machine lacks come down.
  apt install -y --download-only --no-install-recommends "${backports[@]}" --reinstall mesa-vulkan-drivers libvulkan1
  local deb lib all=$work/libraries
  mkdir -p "$all"
  for deb in "$work"/cache/archives/*.deb; do
    dpkg-deb -x "$deb" "$work/mesa"
  done
  find "$work/mesa" -name '*.so*' ! -type d -exec mv -t "$all" {} +
  # The driver, the loader, and whatever of the rest these two are linked with.
  { echo "$all/libvulkan_lvp.so"; echo "$all/libvulkan.so.1"
    LD_LIBRARY_PATH=$all ldd "$all/libvulkan_lvp.so" "$all/libvulkan.so.1" | grep -o "$all/[^ ]*[^ :]"; } | sort -u |
    while read -r lib; do cp -L "$lib" "$1"; done
  sed 's#"library_path": *"[^"]*"#"library_path": "./libvulkan_lvp.so"#' \
    "$work"/mesa/usr/share/vulkan/icd.d/lvp_icd*.json > "$1/lvp_icd.json"
  if LD_LIBRARY_PATH=$1 ldd "$1/libvulkan_lvp.so" | grep 'not found' >&2; then
    fail "libraries of lavapipe are missing"
  fi
}

for driver in "${drivers[@]}"; do
  if [ ! -d "$dir/$driver" ]; then
    mkdir "$work/$driver"
    "$driver" "$work/$driver"
    mv "$work/$driver" "$dir/$driver" # whole or not at all
  fi
  case $driver in
    swiftshader) echo "export LD_LIBRARY_PATH=$dir/swiftshader" ;;
    lavapipe) echo "export LD_LIBRARY_PATH=$dir/lavapipe VK_ICD_FILENAMES=$dir/lavapipe/lvp_icd.json GALLIVM_PERF=nopt LP_NATIVE_VECTOR_WIDTH=128" ;;
  esac
done
