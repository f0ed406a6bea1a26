#!/usr/bin/env bash
# Make virtual environments that hold exactly the locked packages, with uv.
#
#   container/venv.sh setup           .venv: requirements.lock and this checkout (editable)
#   container/venv.sh setup-dev       the same with the linters of requirements-dev.lock
#   container/venv.sh version 3.12    .venv-3.12: as setup, with another Python, for tests
#   container/venv.sh pythons [3.12]  list the Pythons that can be used: "version release path"
#   container/venv.sh lock [--upgrade]   write the locks from pyproject.toml; pins that fit stay
#
# PYTHON          the interpreter for .venv (default: the first of 3.11, 3.12, 3.13 that works)
# HYPERHPC_CACHE  where uv and the packages are kept; environments link to their files
#
# An environment ends with a stamp that says what it was made from. A second call reads it and
# does nothing; an environment that is unfinished, moved or outdated is made again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# A cluster's module system sets these; they would put other packages before the locked ones.
unset PYTHONPATH PYTHONHOME PIP_TARGET PIP_PREFIX VIRTUAL_ENV
export PIP_USER=0 UV_PYTHON_DOWNLOADS=never UV_NO_CONFIG=1 UV_NO_PROGRESS=1

VERSIONS="3.11 3.12 3.13"
LOCK=container/requirements.lock
DEV_LOCK=container/requirements-dev.lock
UV_LOCK=container/requirements-uv.lock
CACHE=${HYPERHPC_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/hyperhpc}
export UV_CACHE_DIR=${UV_CACHE_DIR:-$CACHE/uv-cache}

say() { printf '%s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }
checksum() { cksum <"$1" | tr ' ' '-'; }
read_stamp() { cat "$1" 2>/dev/null || true; }
runs() { "$1/bin/python" -I -c '' 2>/dev/null; }

# --- find an interpreter --------------------------------------------------------------

# Prints "3.12 3.12.1 /path" if the candidate runs and is complete. It has to be run: pyenv puts
# a python3.12 on PATH that may only print an error, and Debian's python3 has no ensurepip.
probe() {
  "$1" -I -c '
import os, sys
version = sys.version_info
if not (3, 11) <= version[:2] < (3, 14):
    sys.exit(3)
try:
    import ctypes, ensurepip, ssl, venv, zlib
except ImportError as missing:
    print("Python %d.%d.%d lacks the module" % version[:3], missing.name)
    sys.exit(4)
print("%d.%d" % version[:2], "%d.%d.%d" % version[:3], os.path.realpath(sys.executable))
' 2>/dev/null </dev/null
}

# The first usable interpreter of a version. uv's own search would need uv, which a Python
# installs; and it does not look into pyenv's folders.
find_python() {
  local version=$1 path line status
  while IFS= read -r path; do
    status=0
    line=$(probe "$path") || status=$?
    if [ "$status" = 0 ] && [ "${line%% *}" = "$version" ]; then
      printf '%s\n' "$line"
      return
    elif [ "$status" = 4 ] && [ "${path##*/}" = "python$version" ]; then
      say "Not used: $path: $line (Debian, Ubuntu: apt install python3-venv)"
    fi
  done < <(type -ap "python$version" python3 && printf '%s\n' {/usr,/usr/local}/bin/"python$version" \
    "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/"$version".*/bin/"python$version" \
    "${XDG_DATA_HOME:-${HOME:-}/.local/share}"/uv/python/cpython-"$version".*/bin/"python$version")
  return 1
}

choose_python() {
  local line status=0 version
  if [ -n "${PYTHON:-}" ]; then
    line=$(probe "$PYTHON") || status=$?
    case $status in
      0) printf '%s\n' "$line" ;;
      3) die "PYTHON=$PYTHON is not 3.11, 3.12 or 3.13" ;;
      4) die "PYTHON=$PYTHON: $line (Debian, Ubuntu: apt install python3-venv)" ;;
      *) die "PYTHON=$PYTHON does not run" ;;
    esac
    return
  fi
  for version in $VERSIONS; do find_python "$version" && return; done
  die "No Python 3.11, 3.12 or 3.13 that can make a virtual environment was found
  hint: Install one (Debian, Ubuntu: apt install python3-venv), or name it:
        make setup PYTHON=/path/to/python3.12"
}

# --- uv -------------------------------------------------------------------------------

# uv in a small environment of the cache, installed by pip.
install_uv() {
  local python=$1 folder
  folder=$CACHE/uv-$(checksum "$UV_LOCK")
  UV=$folder/bin/uv
  mkdir -p "$CACHE"
  exec 9>"$folder.lock" # two checkouts may come here at once; macOS has no flock
  if command -v flock >/dev/null; then flock 9; fi
  if ! [ -e "$folder/complete" ] || ! "$folder/bin/python" -I -c 'import pip' 2>/dev/null; then
    say "Installing uv in $folder"
    "$python" -I -m venv --clear "$folder"
    "$folder/bin/python" -m pip -qq --no-input --disable-pip-version-check install \
      --require-hashes --only-binary :all: -r "$UV_LOCK"
    touch "$folder/complete"
  fi
  exec 9>&-
  use_settings_of_pip "$folder/bin/python"
}

# uv does not read pip's configuration: hand on what it says about where packages come from.
use_settings_of_pip() {
  local name value links=()
  while IFS='=' read -r name value; do
    value=${value:1:-1}
    case ${name#*.} in
      index-url) export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$value} ;;
      extra-index-url) export UV_INDEX=${UV_INDEX:-${value//\\n/ }} ;;
      find-links) for value in ${value//\\n/ }; do links+=("$value"); done ;;
      no-index) if [[ $value =~ ^(1|true|yes|on)$ ]]; then export UV_NO_INDEX=1; fi ;;
      cert) export SSL_CERT_FILE=${SSL_CERT_FILE:-$value} ;;
      trusted-host) export UV_INSECURE_HOST=${value//\\n/ } ;;
      proxy) export HTTPS_PROXY=${HTTPS_PROXY:-$value} ;;
      default-timeout | timeout) export UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-$value} ;;
    esac
  done < <("$1" -m pip --disable-pip-version-check config list | grep -E '^(:env:|global|install)\.')
  if [ ${#links[@]} -gt 0 ]; then
    UV_FIND_LINKS=$(IFS=,; printf '%s' "${links[*]}")
    export UV_FIND_LINKS
  fi
  # as pip does: the best version of all indexes. Hashes say which files are the right ones.
  export UV_INDEX_STRATEGY=unsafe-best-match
}

# --- environments ---------------------------------------------------------------------

# Make an environment with the packages of a lock and this checkout, unless it is there.
make_venv() {
  local venv=$1 lock=$2 release=$3 python=$4 base wanted
  base=$(printf '%s\n' "$release" "$python" "$venv")
  wanted=$(printf '%s\n' "$base" "$lock" "$(checksum "$lock") $(checksum pyproject.toml)")
  if [ "$(read_stamp "$venv/.made")" = "$wanted" ] && runs "$venv"; then
    return
  fi
  install_uv "$python"
  # Packages are exchanged in an environment that is complete; any other one is made again.
  if ! runs "$venv" || [ "$(read_stamp "$venv/.made" | head -n 3)" != "$base" ]; then
    if [ -e "$venv" ]; then say "${venv#"$PWD"/} is unfinished, outdated or moved"; fi
    say "Making ${venv#"$PWD"/} with Python $release ($python)"
    "$UV" venv -q --clear --no-project --python "$python" "$venv"
  fi
  rm -f "$venv/.made"
  say "Installing the $(grep -c '^[a-z0-9].*==' "$lock") packages of $lock"
  "$UV" pip sync -q --python "$venv" --require-hashes --only-binary :all: --compile-bytecode "$lock"
  # the build backend is one of these packages
  "$UV" pip install -q --python "$venv" --offline --no-deps --no-build-isolation -e .
  printf '%s\n' "$wanted" >"$venv/.made"
}

# .venv with the packages of a lock; `setup` keeps the linters of an earlier `setup-dev`.
setup() {
  local lock=$1 venv=$PWD/.venv line release python
  if [ -z "${PYTHON:-}" ] && [ -s "$venv/.made" ] && runs "$venv"; then
    # Keep the interpreter the environment has: another one may have come onto PATH since.
    { read -r release; read -r python; } <"$venv/.made"
  else
    line=$(choose_python)
    line=${line#* } release=${line%% *} python=${line#* }
  fi
  if grep -qxF "$DEV_LOCK" "$venv/.made" 2>/dev/null; then lock=$DEV_LOCK; fi
  make_venv "$venv" "$lock" "$release" "$python"
}

setup_version() {
  local line
  line=$(find_python "$1" 2>/dev/null) || die "No usable Python $1 was found"
  line=${line#* }
  make_venv "$PWD/.venv-$1" "$LOCK" "${line%% *}" "${line#* }"
}

# Write both locks (docs/decisions/0002-locks-with-hashes.md). They have no index lines and no
# header: a lock must not say which mirror it was made behind.
lock() {
  local line
  line=$(choose_python)
  install_uv "${line#* * }"
  unset UV_INDEX UV_FIND_LINKS # only the main index has all files, whose hashes are written
  compile() {
    say "Resolving ${*: -1}"
    "$UV" pip compile -q pyproject.toml --extra build --extra notebook --extra test \
      --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
      --only-binary :all: --no-header --no-emit-index-url "$@"
  }
  compile "$@" -o "$LOCK"
  compile "$@" --extra dev -c "$LOCK" -o "$DEV_LOCK"
}

case "${1:-}" in
  setup) setup "$LOCK" ;;
  setup-dev) setup "$DEV_LOCK" ;;
  version) setup_version "${2:?which version?}" ;;
  pythons) for version in ${2:-$VERSIONS}; do find_python "$version" || true; done ;;
  lock) lock "${@:2}" ;;
  *) die "usage: container/venv.sh setup | setup-dev | version X.Y | pythons [X.Y] | lock [--upgrade]" ;;
esac
