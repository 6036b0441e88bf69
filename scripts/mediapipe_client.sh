#!/bin/bash
# MediaPipe's own Python package in an environment beside, .mediapipe: a client of converted files.
#
# Its OpenCV needs a display's libraries, so that the headless one is taken; EGL and GLES must be
# there (Debian: libegl1, libgles2).
set -euo pipefail
cd "$(dirname "$0")/.."
[ ! -e .mediapipe/.installed ] || exit 0
rm -rf .mediapipe
"${PYTHON:-python3}" -m venv .mediapipe
.mediapipe/bin/python -m pip install --quiet --no-deps "mediapipe==1.2.*"
.mediapipe/bin/python -m pip install --quiet absl-py flatbuffers numpy matplotlib \
  opencv-python-headless certifi
libraries() { ldd .mediapipe/lib/python3*/site-packages/mediapipe/tasks/c/libmediapipe.so; }
if libraries | grep -q 'not found' && command -v apt-get > /dev/null; then
  apt-get install -y -qq libegl1 libgles2 > /dev/null
fi
if libraries | grep 'not found' >&2; then
  echo "mediapipe_client.sh: libraries of MediaPipe are missing" >&2
  exit 1
fi
.mediapipe/bin/python -c "import mediapipe.tasks.python.vision"
touch .mediapipe/.installed
