# shellcheck shell=bash
# shellcheck disable=SC2154 # the variables are submit.sh's
# Read by submit.sh: what can be checked before a job is queued. One message, then the end.

check_words() {
  local name
  case $mode in
    gang | elastic) ;;
    *) die "$usage_error" "MODE=$mode is neither gang nor elastic" "MODE=gang, or leave it out" ;;
  esac
  for name in NODES THREADS DRIVER_CPUS CORES_PER_NODE THREADS_PER_CORE MAX_TASKS_PER_NODE; do
    if [ -n "${!name:-}" ] && ! is_count "${!name}"; then
      die "$usage_error" "$name=${!name} is not a number above 0" "$name=2, for example"
    fi
  done
  if [ "$WORKERS" != 0 ] && ! is_count "$WORKERS"; then
    die "$usage_error" "WORKERS=$WORKERS is not a number above 0" "Leave it out to fill NODES=$NODES"
  fi
  if [ -n "$walltime" ] && ! time_seconds "$walltime" >/dev/null; then
    die "$usage_error" "TIME=$walltime is not a time as Slurm writes it" \
      "TIME=2:00:00 (hours), 1-12 (days-hours) or 90 (minutes)"
  fi
  check_memory MEMORY "$memory"
  check_memory MEMORY_PER_NODE "$memory_per_node"
  check_memory DRIVER_MEMORY "$driver_memory"
  case $memory_option in
    per-node | per-cpu | none) ;;
    *)
      die "$usage_error" "MEMORY_OPTION=$memory_option is not per-node, per-cpu or none" \
        "MEMORY_OPTION=per-cpu where sbatch refuses --mem"
      ;;
  esac
}

check_memory() {
  local mib
  mib=$(memory_mib "$2") || mib=0
  [ "$mib" -gt 0 ] ||
    die "$usage_error" "$1=$2 is not an amount of memory" "$1=4GiB or 512MiB"
}

# All long options of sbatch that check_options knows: getopt takes any beginning of one for it.
known_options=(nodes ntasks ntasks-per-node tasks-per-node cpus-per-task mem mem-per-cpu time
  partition account output error open-mode parsable signal array wrap)

# An option of sbatch that is written in part may be one that is refused.
check_in_full() {
  local name=${1%%=*} option
  if [[ $name != --?* ]]; then return; fi
  for option in "${known_options[@]}"; do
    if [ "$name" = "--$option" ]; then return; fi
  done
  for option in "${known_options[@]}"; do
    if [[ --$option == "$name"* ]]; then
      die "$usage_error" "SBATCH holds $1, which may stand for --$option" \
        "Write options of sbatch in full"
    fi
  done
}

# The option that matters in a word of short options: -Qo is -o after -Q, which takes no value.
skip_flags() {
  local word=$1
  while [[ $word =~ ^-[hHOQuvVW].+ ]]; do word=-${word:2}; done
  printf '%s\n' "$word"
}

# Options that submit.sh works out would win, or lose, depending on their place: none is given
# twice. Each has a variable.
check_options() {
  local word option
  for word in "${run_words[@]}"; do
    case ${word%%=*} in
      --launcher) refuse_option ARGS "$word" MODE ;;
      --workers) refuse_option ARGS "$word" WORKERS ;;
      --threads-per-worker) refuse_option ARGS "$word" THREADS ;;
      --memory-per-worker) refuse_option ARGS "$word" MEMORY ;;
      --interface) refuse_option ARGS "$word" INTERFACE ;;
      --dashboard) refuse_option ARGS "$word" DASHBOARD ;;
    esac
  done
  for word in "${sbatch_words[@]}" "${worker_sbatch_words[@]}"; do
    check_in_full "$word"
    option=$(skip_flags "$word")
    case ${option%%=*} in
      --nodes | -N*) refuse_option SBATCH "$word" NODES ;;
      --ntasks | --ntasks-per-node | --tasks-per-node | -n*) refuse_option SBATCH "$word" WORKERS ;;
      --cpus-per-task | -c*) refuse_option SBATCH "$word" THREADS ;;
      --mem) refuse_option SBATCH "$word" MEMORY ;;
      --mem-per-cpu) check_memory_per_cpu "$word" && memory_option=none ;;
      --time | -t*) refuse_option SBATCH "$word" TIME ;;
      --partition | -p*) refuse_option SBATCH "$word" PARTITION ;;
      --account | -A*) refuse_option SBATCH "$word" ACCOUNT ;;
      --output | -o* | --error | -e* | --open-mode | --parsable | --signal | --array | -a* | --wrap)
        die "$usage_error" "SBATCH holds $word, which the job scripts need for themselves" \
          "Leave it out; logs are in OUT/slurm"
        ;;
    esac
  done
}

# The user's own --mem-per-cpu must be enough for a worker.
check_memory_per_cpu() {
  local mib
  mib=$(memory_mib "${1#*=}") ||
    die "$usage_error" "SBATCH holds $1, whose amount has no unit" "--mem-per-cpu=4G, for example"
  [ $((mib * threads * threads_per_core)) -ge "$(memory_mib "$memory")" ] ||
    die "$usage_error" "SBATCH holds $1, which is less than MEMORY=$memory for a worker" \
      "MEMORY_OPTION=per-cpu works it out, with SBATCH without it"
}

refuse_option() {
  die "$usage_error" "$1 holds $2, which submit.sh works out itself" "$3=..., and $1 without it"
}

check_files() {
  [ -n "$scene" ] || die "$usage_error" "SCENE is not given" "SCENE=/path/to/scene.zarr"
  [ -n "$out" ] || die "$usage_error" "OUT is not given" "OUT=/path/to/a/folder"
  case $scene$out$image$PWD in
    *$'\n'*) die "$usage_error" "A path holds a line break" "Rename it" ;;
  esac
  [ -e "$scene" ] || die "$scene_error" "$scene does not exist" "SCENE=/path/to/scene.zarr"
  [ -r "$scene" ] || die "$scene_error" "$scene may not be read" "Ask its owner for chmod +r"
  [ -f "$image" ] || die "$config_error" "There is no image $image" \
    "make image, or on a compute node: sbatch jobs/build.sbatch; or IMAGE=/path/to/hyperhpc.sif"
  [ -r "$image" ] || die "$config_error" "$image may not be read" "Ask its owner for chmod +r"
  check_out
}

# What hyperhpc would refuse in the job, if submit.sh put its folder in: another's folder.
check_out() {
  local parent=${out%/*} name foreign=''
  [ -d "${parent:-/}" ] ||
    die "$config_error" "$parent is not a folder, so $out cannot be made" "mkdir -p ${parent@Q}"
  if [[ $(realpath -m -- "$out")/ == "$(realpath -m -- "$scene")"/* ]]; then
    die "$config_error" "OUT=$out lies inside the scene $scene" "Name another OUT"
  fi
  if [ ! -e "$out" ]; then
    [ -w "${parent:-/}" ] ||
      die "$config_error" "$out cannot be made: $parent is not writable for you" "Name another OUT"
    return
  fi
  [ -d "$out" ] || die "$config_error" "$out is a file; OUT must be a folder" "Name another OUT"
  [ -w "$out" ] || die "$config_error" "$out is not writable for you" "Name another OUT"
  if [ -e "$out/plan.json" ]; then return; fi
  for name in "$out"/* "$out"/.[!.]*; do
    case ${name##*/} in
      '*' | '.[!.]*' | slurm | status.txt | .connection-*) ;;
      *) foreign=${name##*/} ;;
    esac
  done
  [ -z "$foreign" ] ||
    die "$config_error" "$out exists and is not a run of hyperhpc: it holds $foreign" \
      "Name another OUT"
}

# Two jobs would write the same files.
check_no_other_job() {
  local job='' state key value
  if [ ! -r "$out/slurm/job" ] || ! command -v squeue >/dev/null; then return; fi
  while IFS=' ' read -r key value; do
    if [ "$key" = job: ]; then job=$value; fi
  done <"$out/slurm/job"
  if [[ ! $job =~ ^[0-9]+$ ]]; then return; fi
  state=$(squeue -h -j "$job" -o %T 2>/dev/null) || return 0
  [ -z "$state" ] || die "$config_error" "Job $job is at work on $out already ($state)" \
    "follow it: jobs/status.sh ${out@Q}; or end it: scancel $job"
}

check_account() {
  if [ "${site[account_required]}" = yes ] && [ -z "$ACCOUNT" ] &&
    [ -z "${SBATCH_ACCOUNT:-}" ]; then
    die "$config_error" "$SITE takes no job without an account" \
      "ACCOUNT=... (sacctmgr -nP show associations user=$(id -un) format=account lists yours)"
  fi
}

check_size() {
  if [ "$memory_mib" -gt "$node_mib" ]; then
    die "$resource_error" "MEMORY=$memory a worker is more than a node has ($(describe_node))" \
      "MEMORY=$((node_mib / 2))MiB, for example"
  elif [ "$threads" -gt "$cores_per_node" ]; then
    die "$resource_error" "THREADS=$threads a worker is more than a node has ($(describe_node))" \
      "THREADS=1"
  elif [ "$mode" = elastic ] && [ "$driver_mib" -gt "$node_mib" ]; then
    die "$resource_error" "DRIVER_MEMORY=$driver_memory is more than a node has ($(describe_node))" \
      "DRIVER_MEMORY=3GiB"
  fi
}

# A run writes results of its own size; the job's first step knows how much. This finds a full
# disk, and a quota of files, before the queue.
check_room() {
  local folder=$out kib inodes
  if [ ! -d "$folder" ]; then folder=${folder%/*}; fi
  folder=${folder:-/}
  kib=$(df -k --output=avail -- "$folder" 2>/dev/null | tail -n 1) || kib=''
  inodes=$(df --output=iavail -- "$folder" 2>/dev/null | tail -n 1) || inodes=''
  kib=${kib//[!0-9]/} inodes=${inodes//[!0-9]/}
  if [ -n "$kib" ] && [ "$kib" -lt 1048576 ]; then
    die "$resource_error" "$folder has $((kib / 1024)) MiB free; a run needs 1024 MiB at least" \
      "remove something there, or name another OUT"
  fi
  # 0 is what file systems without inodes tell
  if [ -n "$inodes" ] && [ "$inodes" != 0 ] && [ "$inodes" -lt 10000 ]; then
    die "$resource_error" "$folder has room for $inodes files; a run needs 10000 at least" \
      "remove files there, or name another OUT"
  fi
}

note_purged() {
  local folder
  for folder in ${site[purged]}; do
    case $(realpath -m -- "$out")/ in
      "$folder"/*) echo "note: $SITE removes old files from $folder: copy what is to be kept" >&2 ;;
    esac
  done
}
