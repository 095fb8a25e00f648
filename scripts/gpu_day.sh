#!/bin/sh
# All measurements that need GPUs, in one go: tests, encoders alone and beside timm and transformers, decoding, whole runs, a trained probe,
# one evaluation over all GPUs, a job on each GPU, features that evaluations share, a training beside its plan.
# No data or weights are downloaded: weights are random, whose cost is that of the real ones, and rooms are generated.
#
#     sh scripts/gpu_day.sh [FOLDER]      results go to FOLDER, gpu-day by default
set -eu
cd "$(dirname "$0")/.."
out=${1:-gpu-day}
bin=.venv/bin
mkdir -p "$out"
gpus=$("$bin/python" -c 'import torch; print(torch.cuda.device_count())')
if [ "$gpus" = 0 ]; then
    echo "gpu_day.sh: torch sees no GPU on this machine" >&2
    exit 2
fi

# A step that fails is named at the end; the others run all the same.
failed=""
step() {
    name=$1
    shift
    echo "== $name"
    "$@" > "$out/$name.txt" 2>&1 || failed="$failed $name"
    tail -n 12 "$out/$name.txt"
}

nvidia-smi > "$out/machine.txt"
step tests make test
for model in tipsv2-b14 tipsv2-l14 tipsv2-g14; do
    for dtype in bf16 fp32; do
        step "bench-$model-$dtype" "$bin/tips-bench" bench --model "$model" --weights random --resolution 448 --dtype "$dtype"
        step "bench-$model-$dtype-compiled" "$bin/tips-bench" bench --model "$model" --weights random --resolution 448 --dtype "$dtype" --compile
    done
done
step beside-timm-and-transformers "$bin/python" benchmarks/bench_encoder.py --device cuda --batch 32
step decode "$bin/python" benchmarks/bench_decode.py
step efficiency-bf16 "$bin/python" benchmarks/bench_evaluation.py --model tipsv2-l14 --images 400 --dtype bf16
run="run --task rooms-seg --model tipsv2-l14 --weights random --protocol convex --dtype bf16 --rerun"
# shellcheck disable=SC2086
step one-gpu env CUDA_VISIBLE_DEVICES=0 "$bin/tips-bench" $run --out "$out/one-gpu"
# shellcheck disable=SC2086
step all-gpus "$bin/torchrun" --nproc-per-node "$gpus" -m tips_bench $run --out "$out/all-gpus"
step compare "$bin/tips-bench" compare "$out/one-gpu" "$out/all-gpus"
step gpus-over-one "$bin/python" scripts/cost_ratio.py "$out/one-gpu" "$out/all-gpus"
run="run --task rooms-seg --model tipsv2-l14 --weights random --protocol linear-tips --dtype bf16 --rerun"
# shellcheck disable=SC2086
step trained-one-gpu env CUDA_VISIBLE_DEVICES=0 "$bin/tips-bench" $run --out "$out/trained-one-gpu"
# shellcheck disable=SC2086
step trained-all-gpus "$bin/torchrun" --nproc-per-node "$gpus" -m tips_bench $run --out "$out/trained-all-gpus"
step trained-gpus-over-one "$bin/python" scripts/cost_ratio.py "$out/trained-one-gpu" "$out/trained-all-gpus"
matrix="run --task rooms-seg,rooms-depth,rooms-normals --model tipsv2-b14,tipsv2-l14 --weights random --dtype bf16"
# shellcheck disable=SC2086
step matrix-on-local "$bin/tips-bench" $matrix --on local --out "$out/matrix"
# shellcheck disable=SC2086
step first-run-of-a-cache env TIPS_BENCH_CACHE="$out/cache" CUDA_VISIBLE_DEVICES=0 "$bin/tips-bench" $matrix --cache --out "$out/cached"
# shellcheck disable=SC2086
step second-run-of-a-cache env TIPS_BENCH_CACHE="$out/cache" CUDA_VISIBLE_DEVICES=0 "$bin/tips-bench" $matrix --cache --rerun --out "$out/found"
step cache-over-encoding "$bin/python" scripts/cost_ratio.py "$out/cached" "$out/found"
train="train recipes/tips-b14-scratch.yaml --set data.shards=$out/corpus/train-*.tar --set data.tokenizer.file=null"
train="$train --set data.tokenizer.train_on=8000 --set model.text.vocab_size=1024 --set stages.0.warmup=10 --set stages.0.steps=60"
train="$train --set stages.0.batch=1024 --set running.micro_batch=128"
step corpus "$bin/tips-bench" data rooms "$out/corpus" --layout webdataset-details --seed 1 --train 1024 --val 64 --frames-per-scene 2
# shellcheck disable=SC2086
step plan-of-a-training "$bin/tips-bench" $train --dry-run --ranks "$gpus"
# shellcheck disable=SC2086
step training-one-gpu env CUDA_VISIBLE_DEVICES=0 "$bin/tips-bench" $train --out "$out/training-one-gpu"
# shellcheck disable=SC2086
step training-all-gpus "$bin/torchrun" --nproc-per-node "$gpus" -m tips_bench $train --out "$out/training-all-gpus"
for log in "$out"/training-one-gpu/log.jsonl "$out"/training-all-gpus/log.jsonl; do
    test ! -f "$log" || grep memory_mb "$log" | tail -n 2 # images/s, and the peak of memory beside the plan's
done
if [ -n "$failed" ]; then
    echo "gpu_day.sh: failed:$failed (see $out)" >&2
    exit 1
fi
