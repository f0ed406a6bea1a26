#!/usr/bin/env bash
# Queue a run on a Slurm cluster. Needs bash, coreutils and sbatch; nothing runs here.
set -euo pipefail

usage() {
  cat <<'END'
usage: jobs/submit.sh SITE=... SCENE=... OUT=... [NAME=VALUE ...] [--dry-run]

Checks what can be checked before queueing, then gives one job to sbatch. The same names work
as variables of the environment, and as make submit SITE=... An empty value is none.

  SITE=ceres           a file of jobs/sites/, or the path of your own (docs/sites.md)
  SCENE=PATH OUT=PATH  as in: hyperhpc run SCENE OUT
  ARGS="--clusters 12" more options of hyperhpc run; quotes and backslashes as in a shell
  IMAGE=PATH           default: build/hyperhpc.sif, or hyperhpc.sif where you are

  MODE=gang            one job: scheduler, client and workers are its tasks (the default)
  MODE=elastic         a small driver job; each worker is a job of its own, and may be preempted
  NODES=2              nodes to fill with workers
  WORKERS=N            so many, instead of as many as fit
  THREADS=1            threads, and cores, of a worker
  MEMORY=8GiB          memory of a worker; default: the site's
  MEMORY_OPTION=       per-node (--mem), per-cpu (--mem-per-cpu) or none; default: the site's
  TIME=2:00:00         walltime; default: the site's

  ACCOUNT= PARTITION=  default: the site's, else the cluster's
  SBATCH="--qos=debug" more options of sbatch; quotes and backslashes as in a shell
  INTERFACE=ib0        the network to use, if the one that is found is wrong
  DASHBOARD=1          Dask's dashboard, on loopback; the log tells the way there

  Elastic only: WORKER_PARTITION= WORKER_SBATCH= (default: SBATCH), DRIVER_CPUS=2 DRIVER_MEMORY=3GiB
  Of the site:  CORES_PER_NODE= THREADS_PER_CORE= MEMORY_PER_NODE= MAX_TASKS_PER_NODE= MODULES= BINDS=

  --dry-run            print the sbatch command and the whole script; submit and write nothing
END
}

here=$PWD
jobs=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=jobs/settings.sh
. "$jobs/settings.sh"
# shellcheck source=jobs/checks.sh
. "$jobs/checks.sh"

readonly variables=(
  SITE SCENE OUT ARGS IMAGE MODE NODES WORKERS THREADS MEMORY TIME ACCOUNT PARTITION SBATCH
  INTERFACE DASHBOARD MEMORY_OPTION WORKER_PARTITION WORKER_SBATCH DRIVER_CPUS DRIVER_MEMORY CORES_PER_NODE
  THREADS_PER_CORE MEMORY_PER_NODE MAX_TASKS_PER_NODE MODULES BINDS DRY_RUN
)

# --- reading --------------------------------------------------------------------------

read_arguments() {
  local word name
  for word in "$@"; do
    name=${word%%=*}
    case $word in
      -h | --help) usage; exit 0 ;;
      --dry-run) DRY_RUN=1 ;;
      [A-Z]*=*)
        [[ " ${variables[*]} " == *" $name "* ]] ||
          die "$usage_error" "There is no variable $name" "See jobs/submit.sh --help"
        printf -v "$name" %s "${word#*=}"
        ;;
      *) die "$usage_error" "$word is neither NAME=VALUE nor an option" "See jobs/submit.sh --help" ;;
    esac
  done
  for name in "${variables[@]}"; do
    printf -v "$name" %s "${!name:-}"
    export -n "${name?}" # the job needs none of them, and programs there may mean others by them
  done
  unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES
}

load_site() {
  local file=$jobs/sites/$SITE.env
  [ -n "$SITE" ] || die "$usage_error" "SITE is not given" "SITE= one of: $(list_sites)"
  if [[ $SITE == */* ]]; then file=$SITE; fi
  [ -f "$file" ] ||
    die "$usage_error" "There is no site $SITE" \
      "SITE= one of: $(list_sites); or the path of a file: docs/sites.md"
  read_site "$file"
}

# A path as the job will find it: absolute, links kept.
absolute() { if [ -n "$1" ]; then realpath -ms -- "$1"; fi; }

find_image() {
  local path
  for path in "$jobs/../build/hyperhpc.sif" "$jobs/../hyperhpc.sif" "$here/hyperhpc.sif"; do
    if [ -f "$path" ]; then break; fi
    path=build/hyperhpc.sif
  done
  absolute "${IMAGE:-$path}"
}

read_words() {
  split_words "${!1}" || die "$usage_error" "$1=${!1} leaves a quote open" "Close it"
}

# What the user says, else the site, else a default.
# shellcheck disable=SC2153 # SCENE is the user's, scene the absolute path
settle() {
  mode=${MODE:-gang} NODES=${NODES:-2} WORKERS=${WORKERS:-0} threads=${THREADS:-1}
  scene=$(absolute "$SCENE") out=$(absolute "$OUT") image=$(find_image)
  memory=${MEMORY:-${site[memory_per_worker]}} walltime=${TIME:-${site[walltime]}}
  memory_option=${MEMORY_OPTION:-${site[memory_option]:-per-node}}
  partition=${PARTITION:-${site[slurm_partition]}}
  worker_partition=${WORKER_PARTITION:-${site[worker_partition]:-$partition}}
  driver_cpus=${DRIVER_CPUS:-2} driver_memory=${DRIVER_MEMORY:-${site[driver_memory]}}
  cores_per_node=${CORES_PER_NODE:-${site[cores_per_node]}}
  threads_per_core=${THREADS_PER_CORE:-${site[threads_per_core]}}
  memory_per_node=${MEMORY_PER_NODE:-${site[memory_per_node]}}
  max_tasks_per_node=${MAX_TASKS_PER_NODE:-${site[max_tasks_per_node]}}
  modules=${MODULES:-${site[modules]}} binds=${BINDS:-${site[binds]}}
  scratch=${site[scratch]} dashboard_host=${site[dashboard_host]}
  read_words ARGS && run_words=("${words[@]}")
  read_words SBATCH && sbatch_words=("${words[@]}")
  WORKER_SBATCH=${WORKER_SBATCH:-$SBATCH}
  read_words WORKER_SBATCH && worker_sbatch_words=("${words[@]}")
  split_words "${site[sbatch_options]}" && site_words=("${words[@]}")
}

# Numbers, once the words they come from have been checked.
compute() {
  local seconds
  memory_mib=$(memory_mib "$memory") node_mib=$(memory_mib "$memory_per_node")
  driver_mib=$(memory_mib "$driver_memory")
  # Where Slurm counts two CPUs in a core, a worker's thread still gets a core to itself.
  cpus_per_task=$((threads * threads_per_core))
  stop_seconds=${site[stop_seconds]:-180}
  if [ -n "$walltime" ]; then # a short job is not to spend its time on stopping
    seconds=$(time_seconds "$walltime")
    stop_seconds=$((stop_seconds < seconds / 5 ? stop_seconds : seconds / 5))
  fi
}

# --- composing ------------------------------------------------------------------------

# Options of hyperhpc run. A tenth of the memory is left to what Dask does not count.
compose_run_options() {
  run_options=(--launcher "$mode" --workers "$workers" --threads-per-worker "$threads"
    --memory-per-worker "$((memory_mib * 9 / 10))MiB")
  if [ -n "$INTERFACE" ]; then run_options+=(--interface "$INTERFACE"); fi
  if [ -n "$DASHBOARD" ]; then run_options+=(--dashboard); fi
  run_options+=("${run_words[@]}")
}

# Slurm's file names: %j is the job. A backslash in a path switches that off for the whole
# path, and is itself written twice; then all jobs write to one file.
log_pattern() {
  local path=$out/slurm
  if [[ $path == *\\* ]]; then
    printf '%s\n' "${path//\\/\\\\}/$1.log"
  else
    printf '%s\n' "${path//%/%%}/${2}%j.log"
  fi
}

where_options() { # PARTITION
  where=()
  if [ -n "$1" ]; then where+=("--partition=$1"); fi
  if [ -n "$ACCOUNT" ]; then where+=("--account=$ACCOUNT"); fi
  if [ -n "$walltime" ]; then where+=("--time=$walltime"); fi
}

# How the memory is asked for: some clusters refuse --mem, some --mem-per-cpu, some both.
memory_options() { # MIB CPUS
  memory_words=()
  case $memory_option in
    per-node) memory_words=("--mem=$1M") ;;
    per-cpu) memory_words=("--mem-per-cpu=$((($1 + $2 - 1) / $2))M") ;;
  esac
}

compose_sbatch_options() {
  local where memory_words
  where_options "$partition"
  sbatch_options=(--parsable "--job-name=hyperhpc-$mode")
  if [ "$mode" = gang ]; then
    sbatch_options+=("--nodes=$NODES" "--ntasks=$tasks" "--ntasks-per-node=$tasks_per_node"
      "--cpus-per-task=$cpus_per_task")
    memory_options $((tasks_per_node * memory_mib)) $((tasks_per_node * cpus_per_task))
  else
    sbatch_options+=(--nodes=1 --ntasks=1 "--cpus-per-task=$driver_cpus")
    memory_options "$driver_mib" "$driver_cpus"
  fi
  sbatch_options+=("${memory_words[@]}" "${where[@]}" --requeue --open-mode=append "--signal=B:USR1@$stop_seconds"
    "--output=$(log_pattern job '')" "${site_words[@]}" "${sbatch_words[@]}")
}

# A worker that is lost is replaced by the driver; Slurm is not to bring it back as well.
compose_worker_options() {
  local where memory_words
  where_options "$worker_partition"
  memory_options "$memory_mib" "$cpus_per_task"
  worker_options=(--nodes=1 --ntasks=1 "--cpus-per-task=$cpus_per_task" "${memory_words[@]}"
    "${where[@]}" --no-requeue --open-mode=append "--output=$(log_pattern worker worker-)"
    "${site_words[@]}" "${worker_sbatch_words[@]}")
}

# The whole job as one text: settings, functions, steps. It does not change when the checkout
# does, and the nodes need not see the checkout.
compose_script() {
  local name
  echo "#!/bin/bash"
  echo "# A run of hyperhpc in $mode mode, composed by jobs/submit.sh."
  for name in mode scene out image memory modules binds scratch dashboard_host submitted; do
    printf '%s=%q\n' "$name" "${!name}"
  done
  printf 'site=%q\n' "$SITE"
  print_array run_options "${run_options[@]}"
  if [ "$mode" = gang ]; then
    printf 'tasks=%q\ncpus_per_task=%q\n' "$tasks" "$cpus_per_task"
  else
    print_array worker_options "${worker_options[@]}"
  fi
  echo
  cat "$jobs/common.sh" "$jobs/$mode.sbatch"
}

print_array() {
  local name=$1
  shift
  printf '%s=(' "$name"
  printf ' %q' "$@"
  printf ' )\n'
}

# --- submitting -----------------------------------------------------------------------

dry_run() {
  printf 'sbatch'
  printf ' %q' "${sbatch_options[@]}"
  printf " <<'END_OF_JOB'\n%s\nEND_OF_JOB\n" "$script"
}

submit() {
  local answer job_pattern=$'(^|\n|batch job )([0-9]+)(;[^\n]*)?(\n|$)'
  command -v sbatch >/dev/null ||
    die "$slurm_error" "There is no sbatch here" "Go to a login node of $SITE, and say it again"
  mkdir -p -- "$out/slurm" ||
    die "$config_error" "$out/slurm cannot be made" "Name another OUT"
  set_old_job_aside
  answer=$(sbatch "${sbatch_options[@]}" 2>&1 <<<"$script") || refused "$answer"
  [[ $answer =~ $job_pattern ]] || refused "$answer"
  job=${BASH_REMATCH[2]}
  write_job_file
  tell
}

# The job writes this file as well, and may be quicker: what it wrote stays. So the file of a
# job before is moved away first, and the new one is linked, which never replaces a file.
set_old_job_aside() {
  if [ -e "$out/slurm/job" ]; then mv -f -- "$out/slurm/job" "$out/slurm/.job-before"; fi
}

write_job_file() {
  local file=$out/slurm/.job-$job-queued
  printf '%s: %s\n' job "$job" mode "$mode" site "$SITE" submitted "$submitted" log "$(log_of)" \
    restarts 0 >"$file"
  ln -- "$file" "$out/slurm/job" 2>/dev/null || true
  rm -f -- "$file" "$out/slurm/.job-before"
}

refused() {
  if [ -e "$out/slurm/.job-before" ]; then mv -f -- "$out/slurm/.job-before" "$out/slurm/job"; fi
  rmdir -- "$out/slurm" "$out" 2>/dev/null || true
  local hint="sinfo lists partitions and limits; then PARTITION=, ACCOUNT=, TIME=, NODES= or SBATCH="
  case ${1,,} in
    *mem-per-cpu* | *"memory by node"* | *--mem*)
      hint="MEMORY_OPTION=per-cpu asks for memory by --mem-per-cpu, MEMORY_OPTION=none for none" ;;
  esac
  die "$slurm_error" "Slurm refused the job: ${1#sbatch: error: }" "$hint"
}

log_of() {
  if [[ $out == *\\* ]]; then echo "$out/slurm/job.log"; else echo "$out/slurm/$job.log"; fi
}

tell() {
  local nodes=''
  if [ "$mode" = gang ]; then nodes=" on $NODES nodes"; fi
  cat <<END
job:     $job ($mode, $workers workers$nodes, $memory each)
log:     $(log_of)
follow:  tail -F $(printf %q "$(log_of)")
         $(printf '%q %q' "$jobs/status.sh" "$out")
cancel:  scancel $job
END
}

# --- all of it ------------------------------------------------------------------------

read_arguments "$@"
load_site
settle
check_words
compute
check_options
check_files
check_account
check_size
if [ "$mode" = gang ]; then size_gang; else size_elastic; fi
check_room
check_no_other_job
note_purged
submitted=$(date -u +%Y-%m-%dT%H:%M:%SZ)
compose_run_options
compose_sbatch_options
compose_worker_options
script=$(compose_script)
if [ -n "$DRY_RUN" ]; then dry_run; else submit; fi
