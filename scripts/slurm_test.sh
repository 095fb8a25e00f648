#!/bin/sh
# Slurm itself on one machine: a list of evaluations as an array job, requeued, cancelled and preempted, gives the records of one process;
# so do jobs of two ranks, one of which is preempted. Captions and a curation of a corpus, of which commands are killed and jobs cancelled,
# give the files of one process.
#
#     scripts/slurm_test.sh [FOLDER]      as root on Debian or Ubuntu; PYTHON=/path/to/python of an environment with tips-bench[slurm]
#
# It starts munged, slurmctld and slurmd from the distribution's packages, with a configuration of its own in FOLDER, and stops them.
set -eu
folder=$(mkdir -p "${1:-/tmp/tips-bench-slurm}" && cd "${1:-/tmp/tips-bench-slurm}" && pwd)
python=${PYTHON:-python}
here=$(cd "$(dirname "$0")/.." && pwd)
export PYTHONPATH="$here:$folder" OMP_NUM_THREADS=1 TIPS_BENCH_CACHE="$folder/cache" SLURM_CONF="$folder/slurm.conf"

command -v slurmctld >/dev/null || apt-get install -y --no-install-recommends slurmctld slurmd slurm-client munge
mkdir -p /run/munge "$folder/state" "$folder/spool"
chown munge: /run/munge
rm -rf "$folder/out" "$folder/alone" "$folder/ranks" "$folder/corpora"
cat >"$SLURM_CONF" <<CONF
ClusterName=one
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
JobRequeue=1
KillWait=2
MinJobAge=3600
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=1
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
NodeName=$(hostname) NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF

own_munge=
if ! munge -n >/dev/null 2>&1; then
    [ -s /etc/munge/munge.key ] || (umask 077 && head -c 1024 /dev/urandom >/etc/munge/munge.key && chown munge: /etc/munge/munge.key)
    runuser -u munge -- munged
    own_munge=yes
fi
stop() {
    scancel --user="$(id -un)" || true # slurmd waits for its jobs
    timeout 30 sh -c 'while squeue -h | grep -q .; do sleep 0.5; done' || true
    for name in slurmd slurmctld; do
        [ -s "$folder/$name.pid" ] && kill "$(cat "$folder/$name.pid")" || true
    done
    [ -z "$own_munge" ] || kill "$(cat /run/munge/munged.pid)" || true
}
trap stop EXIT
trap 'exit 1' HUP INT TERM
slurmctld -c
slurmd
until sinfo -h -o %T | grep -q idle; do sleep 0.5; done

cat >"$folder/slow_encoder.py" <<'PY' # so that an evaluation is still under way when its job is met
import time


def register():
    from tips_bench.features.extract import Extractor

    encode = Extractor._encode

    def slowly(self, pixels):
        time.sleep(0.5)
        return encode(self, pixels)

    Extractor._encode = slowly
PY
export TIPS_BENCH_PLUGINS=slow_encoder
rooms="task.data.generator_options"
run() {
    "$python" -m tips_bench run --task rooms-seg,rooms-depth --protocol convex-224,convex-depth-224 --model tips-nano,pixels \
        --set $rooms.size=56 --set $rooms.train=8 --set $rooms.val=6 --set $rooms.frames_per_scene=2 --set image.short_side=56 \
        --device cpu --batch-size 1 --workers 0 "$@"
}
on_slurm() { run --out "$folder/out" --on slurm --slurm partition=main,time=60,cpus_per_task=1; }
by_ranks() { run --out "$folder/ranks" --on slurm --slurm partition=main,time=60,cpus_per_task=1,ranks=2; }
say() { echo "== $(date +%T) $*"; }
wait_for_end() { while squeue -h | grep -q .; do sleep 0.5; done; }
running() {  # whether a job has begun an evaluation: it holds a lock
    for lock in "$folder"/"${1:-out}"/.matrix/*.running; do
        [ -f "$lock" ] && ! flock -n "$lock" true && return 0
    done
    return 1
}
running_job() {  # the number of a job of Slurm, once one runs and an evaluation has begun
    until job=$(squeue -h -r -t RUNNING -o %i | head -1) && [ -n "$job" ] && running "$@"; do sleep 0.1; done
    echo "$job"
}
status() { "$python" -m tips_bench status "$folder/${1:-out}" | tail -1; }

say "one process"
run --out "$folder/alone" >/dev/null
say "a queue that is fuller than the machine; the same command twice"
on_slurm
on_slurm
job=$(running_job)
say "requeue $job while it runs"
scontrol requeue "$job"
while squeue -h -t COMPLETING | grep -q .; do sleep 0.1; done
job=$(running_job)
say "preempt $job: the signal that submitit's checkpoint waits for"
scancel --signal=USR2 "$job"
until grep -qs "Requeued job" "$folder"/out/.matrix/logs/*; do sleep 0.2; done
say "cancel all"
scancel --user="$(id -un)"
wait_for_end
status
say "the same command does the rest"
on_slurm
wait_for_end
status | tee "$folder/status"
grep -q "^4 done, 0 running, 0 failed, 0 left" "$folder/status"
say "jobs of two ranks, of which one is preempted"
by_ranks
scancel --signal=USR2 "$(running_job ranks)"
wait_for_end
[ "$(cat "$folder"/ranks/.matrix/logs/*.out | grep -c "Starting with")" = 3 ] # two jobs, of which one was started again
status ranks | tee "$folder/status"
grep -q "^4 done, 0 running, 0 failed, 0 left" "$folder/status"
"$python" - "$folder/alone" "$folder/out" "$folder/ranks" <<'PY'
import json
import sys
from pathlib import Path


def results(out):
    found = {}
    for path in Path(out).glob("rooms-*/*/[!.]*.json"):
        record = json.loads(path.read_text())
        rest = {key: value for key, value in record.items() if key not in ("cost", "created", "command")}
        found[str(path.relative_to(out))] = rest, path.with_name(record["per_sample"]).read_bytes()
    return found


alone, *others = map(results, sys.argv[1:])
assert len(alone) == 4 and all(alone == other for other in others), "the records differ"
ranks = {json.loads(path.read_text())["cost"]["ranks"] for path in Path(sys.argv[-1]).glob("rooms-*/*/[!.]*.json")}
assert ranks == {2}, ranks
print("the records of Slurm's jobs are those of one process, byte for byte but for cost, created and command")
PY

say "a corpus: its command is killed, a job is cancelled, and the same command does the rest"
corpora="$folder/corpora"
"$python" - "$corpora/photos" "$folder/slow_words.py" <<'PY'
import sys
from pathlib import Path

import numpy as np
from PIL import Image

photos, words = map(Path, sys.argv[1:])
photos.mkdir(parents=True)
for number in range(24):
    colors = np.random.default_rng(number % 20).integers(0, 255, (6, 8, 3), dtype=np.uint8)  # four pictures are there twice
    Image.fromarray(colors).resize((160, 120), Image.Resampling.BICUBIC).save(photos / f"{number:02d}.png")
    (photos / f"{number:02d}.txt").write_text(f"picture {number}")
words.write_text("""
import time
from pathlib import Path

def describe(questions):
    with Path(__file__).with_suffix(".asked").open("a") as asked:
        asked.write("x" * len(questions))
    time.sleep(0.3 * len(questions))
    return [f"A picture of {one.picture().getpixel((0, 0))}." for one in questions]
""")
PY
corpus() { exec "$python" -m tips_bench corpus "$@"; } # for ( ) and &: the number of the process is that of the command
caption() {
    to=$1 && shift
    corpus caption "$corpora/raw" --to "$corpora/$to" --cache "$corpora/answers-$to" --captioner slow_words:describe --prompt short --batch 1 "$@"
}
curate() {
    to=$1 && shift
    corpus curate "$corpora/raw" --to "$corpora/$to" --encoder pixels --device cpu --dedup --set samples=4 "$@"
}
begun() { find "$corpora/$1" -path "*/.pieces/*.running" 2>/dev/null | grep -q .; } # whether a job has begun a piece of this corpus
queue="--on slurm --slurm partition=main,time=60,cpus_per_task=1"
(corpus fetch "$corpora/photos" --to "$corpora/raw" --samples-per-shard 4)
for step in caption curate; do
    say "$step"
    ($step "$step-here" >/dev/null)
    rm -f "$folder/slow_words.asked"
    $step "$step-there" $queue &
    command=$!
    until begun "$step-there"; do sleep 0.05; done
    kill -KILL "$command"
    [ ! -e "$corpora/$step-there/corpus.json" ]
    for job in $(squeue -h -r -t RUNNING -o %i | head -1); do scancel "$job"; done
    ($step "$step-there" $queue)
    for file in "$corpora/$step-here"/*.tar "$corpora/$step-here/corpus.json"; do
        cmp "$file" "$corpora/$step-there/$(basename "$file")"
    done
    wait_for_end
    [ "$step" = curate ] || [ "$(wc -c <"$folder/slow_words.asked")" -le 25 ] # one of 24 questions may have been under way when its job was cancelled
done
say "a command all of whose jobs are cancelled ends with a sentence"
caption cancelled $queue 2>"$folder/said" &
command=$!
until begun cancelled; do sleep 0.05; done
scancel --user="$(id -un)"
if wait "$command"; then exit 1; fi
grep "the process ended early" "$folder/said"
say "all is well"
