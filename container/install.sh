#!/usr/bin/env bash
# Put hyperhpc into a Debian bookworm image. Both recipes run this and nothing else.
#
#   install.sh packages   Debian's Python and the packages of the lock, by their hashes
#   install.sh wheel      hyperhpc itself, its defaults, the bill of materials
#
# Two steps, so that Docker keeps the first, slow one while only our own code changes.
# Everything is in /opt/hyperhpc; the recipes put the files of container/ there beforehand.
# The builder says how pip reaches an index, by PIP_* variables, which stay outside the image.
set -euo pipefail

PLACE=/opt/hyperhpc
VENV=$PLACE/venv
PYTHON=$VENV/bin/python
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 PYTHONNOUSERSITE=1 PIP_USER=0
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
umask 022

say() { printf '%s\n' "install.sh: $*"; }

# Debian's own Python: the one the tests run, and OpenSSL 3.0, with which Dask's TLS works.
install_python() {
  apt-get -qq update
  apt-get -qq install -y --no-install-recommends python3 python3-venv ca-certificates >/dev/null
  # find the modules that are there only with all of Debian's parts
  /usr/bin/python3.11 -c 'import ctypes, lzma, sqlite3, ssl, venv, zlib'
  apt-get clean
  rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log /var/cache/debconf/*-old
}

# pip compiles one file after the other, and stamps times into the result.
install_packages() {
  install_python
  /usr/bin/python3.11 -m venv "$VENV"
  say "$(grep -c '^[a-z0-9].*==' $PLACE/requirements.lock) packages, a minute or two"
  "$PYTHON" -m pip -q install --no-compile --require-hashes --only-binary :all: \
    -r $PLACE/requirements.lock
  strip_packages
  compile_all "$VENV"
}

install_wheel() {
  "$PYTHON" -m pip -q install --no-compile --no-deps --no-index $PLACE/wheel/*.whl
  rm -rf $PLACE/wheel
  "$PYTHON" -m pip check
  install -D -m 755 $PLACE/start.sh $PLACE/bin/hyperhpc
  install -m 755 $PLACE/start.sh $PLACE/bin/python
  install -D -m 644 $PLACE/dask.yaml "$VENV/etc/dask/hyperhpc.yaml"
  mkdir -p $PLACE/matplotlib # the list of fonts, else made at each first figure
  MPLCONFIGDIR=$PLACE/matplotlib "$PYTHON" -I -c 'import matplotlib.font_manager'
  "$PYTHON" -I $PLACE/sbom.py $PLACE/requirements.lock >$PLACE/sbom.cdx.json
  "$PYTHON" -m pip -q uninstall -y pip setuptools 2>&1 | grep -v '^WARNING' || true
  compile_all "$VENV/lib/python3.11/site-packages/hyperhpc"
  mkdir -p /out
  chmod 1777 /out # for Docker with any uid; Apptainer users name a folder of theirs
  show_contents
}

# What nothing loads: the packages' own tests, headers, a server of pyarrow, and the programs by
# which selenium fetches browsers. The rest of pyarrow, and numba, are loaded by dask-ml when it
# is imported.
strip_packages() {
  local site=$VENV/lib/python3.11/site-packages
  find "$site" -type d \( -name tests -o -name test \) -prune -exec rm -rf {} +
  rm -rf "$site"/pyarrow/{include,includes,src} "$site"/pyarrow/*flight* \
    "$site"/pyarrow/_pyarrow_cpp_tests* "$site"/numpy/_core/include \
    "$site"/selenium/webdriver/common/{linux-*,macos,windows,devtools}
  # one library under three names; the loader asks for the one with the ABI's number
  find "$site/pyarrow" \( -name 'libarrow_python*.so' -o -name 'libarrow_python*.so.*.*.*' \) \
    -delete
  find "$site" \( -name '*.pyx' -o -name '*.pxi' -o -name '*.a' \) -delete
}

# Compiled without looking at the source again: quick on a read-only image, same at each build.
compile_all() {
  "$PYTHON" -I -m compileall -q -j 0 --invalidation-mode unchecked-hash "$1" >/dev/null || {
    say "some files cannot be compiled; they are templates, not modules"
  }
}

show_contents() {
  say "what is in it, in MB, as it lies on disk"
  du -sm /usr "$VENV" | awk '{ printf "  %5d %s\n", $1, $2 }'
  du -sm "$VENV"/lib/python3.11/site-packages/* | sort -rn |
    awk -F / 'NR <= 16 { printf "  %5d   %s\n", $1, $NF }'
}

case ${1:-} in
  packages) install_packages ;;
  wheel) install_wheel ;;
  *) echo "usage: install.sh packages | wheel" >&2; exit 2 ;;
esac
