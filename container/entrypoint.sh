#!/bin/sh
# Docker's entry point: what Apptainer does by %environment and %runscript.
set -eu
. /opt/hyperhpc/environment.sh
exec hyperhpc "$@"
