#!/usr/bin/env bash
# Nothing is compiled for the machine that compiles, nor with arithmetic of its own; and whatever is
# part of the library is compiled without contraction.
#
# check_flags.sh FOLDER...: builds with a compile_commands.json.
set -euo pipefail

forbidden='-m(arch|cpu|tune)=native|-Ofast|-ffast-math|-funsafe-math|-fassociative|-freciprocal'
forbidden+='|-mrecip|/fp:fast|use_fast_math|-ffp-contract=(fast|on)'
if ! grep -qE -- "$forbidden" <<<'"command": "c++ -O3 -march=native -c loop.cpp"'; then
  echo 'check_flags: does not find what was planted' >&2
  exit 1
fi

failed=0 count=0
for folder in "$@"; do
  commands=$(grep '"command":' "$folder/compile_commands.json")
  count=$((count + $(wc -l <<<"$commands")))
  if grep -E -- "$forbidden" <<<"$commands"; then
    echo "check_flags: flags above, in $folder, that give other bits on other machines" >&2
    failed=1
  fi
  if grep -E '/(cpp/src|cuda)/[^ ]*"' <<<"$commands" | grep -v -- '-ffp-contract=off'; then
    echo "check_flags: without -ffp-contract=off, in $folder" >&2
    failed=1
  fi
done
if ((failed == 0)); then echo "check_flags: $count commands, the same bits everywhere"; fi
exit "$failed"
