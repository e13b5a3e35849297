#!/usr/bin/env bash
# The instructions of a step, by callgrind: a change of more than 2 % must say so.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/common.sh"
use_venv tools cmake ninja
counts=$root/benchmarks/instructions/counts.json program=$work/instructions/instructions

{
  cmake -S "$root/benchmarks/instructions" -B "$work/instructions" -G Ninja -DRAVINE_CUDA=OFF \
    -DCMAKE_BUILD_TYPE=Release -DCMAKE_COMPILE_WARNING_AS_ERROR=ON
  cmake --build "$work/instructions"
} >"$work/instructions.log" 2>&1 || { cat "$work/instructions.log"; exit 1; }
if [[ ${1:-} == --write ]]; then
  python "$here/check_instructions.py" "$program" "$counts" --write
  exit
fi
result=$(python "$here/check_instructions.py" "$program" "$counts")
echo "$result"
[[ $result == *"not compared"* ]] && exit
# The check is shown to fail, too: if a step had taken 4 % less before, or more.
for factor in 0.96 1.04; do
  python - "$counts" "$factor" >"$work/changed.json" <<'END'
import json, sys
found = json.load(open(sys.argv[1]))
found["counts"]["sgd, 65536 elements"] *= float(sys.argv[2])
json.dump(found, sys.stdout)
END
  if python "$here/check_instructions.py" "$program" "$work/changed.json" >/dev/null 2>&1; then
    echo "instructions: a step that took $factor of now is not found" >&2
    exit 1
  fi
done
