#!/usr/bin/env bash
# The loop must use vectors as wide as its instruction set has, ask for memory ahead, and have no
# fused multiply-add, which would give other bits, but for the squares of a norm, which are exact, and
# the five that make a root of an approximation. All have gone wrong without any test failing otherwise.
#
# check_assembly.sh [FOLDER]: the objects of a build in FOLDER, or of one made for this.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

if [[ $(uname -m) != x86_64 ]]; then
  echo "check_assembly: only for x86-64"
  exit 0
fi
# Prints what is wrong with the loops of one object; `width` is the register that they should use.
read -r -d '' inspect <<'AWK' || true
function finish() {
  # Variable and gradient, and the average: two lines of 16-bit numbers, four of others.
  least = name ~ /::loop<true/ ? 8 : 4
  if (name ~ /::loop</ && asked < least) print asked " lines asked for ahead in " name
  if (name == "" || !has_root) return
  ++loops
  if (!packed_root) print "no packed square root in " name
  if (!packed_division) print "no packed division in " name
}
/^[0-9a-f]+ <.*>:$/ {
  finish()
  name = ($0 ~ /::loop<|::divide<true, true/) ? $0 : ""
  is_norm = $0 ~ /::sum_squares\(|::Tile::/
  has_root = packed_root = packed_division = asked = 0
}
/\tvrsqrt14ps .*zmm/ { ++approximations }
$0 ~ /\tv?fn?m(add|sub)/ || /\tvfm(addsub|subadd)/ { if (!is_norm) ++fused }
name == "" { next }
/\tprefetch/ { ++asked }
/sqrt[sp][sd] / { has_root = 1 }
$0 ~ "sqrtp[sd] .*" width { packed_root = 1 }
$0 ~ "divp[sd] .*" width { packed_division = 1 }
END {
  finish()
  if (fused != 5 * approximations) {
    print fused + 0 " fused multiply-adds, and approximations for " 5 * approximations
  }
  # Three types, with and without an average, and at least five formulas with a root.
  if (loops < 30) print "only " loops + 0 " loops with a square root"
}
AWK

failed=0 checked=0
while read -r object; do
  case $object in
    *ravine_loop_v2.dir*) width=xmm ;;
    *ravine_loop_v3.dir*) width=ymm ;;
    *ravine_loop_v4.dir*) width=zmm ;;
    *) continue ;;
  esac
  ((++checked))
  wrong=$(objdump --disassemble --demangle --no-show-raw-insn "$object" |
    awk -v width="$width" "$inspect")
  if [[ -n $wrong ]]; then
    printf 'check_assembly: %s:\n%s\n' "$object" "$wrong" >&2
    failed=1
  fi
done < <(loop_objects "$@")
if ((checked != 3)); then
  echo "check_assembly: expected the objects of v2, v3 and v4, found $checked" >&2
  failed=1
fi
if ((failed == 0)); then echo "check_assembly: full vectors, asked for ahead, and nothing fused but exact in $checked objects"; fi
exit "$failed"
