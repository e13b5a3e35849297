#!/usr/bin/env bash
# The kernels as they were compiled: their registers, their rounding, their access to memory. Each
# check is shown to fail, too, on copies in which something was spoiled.
#
# check_kernels.sh LOG FOLDER MODULE: what a build printed and kept, whose nvcc was told
# `-Xptxas=-v --keep --keep-dir=FOLDER`, and the extension module that it made.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/common.sh"
source "$here/cuda_tools.sh"
log=$1 folder=$2 module=$3
use_venv tools
use_disassembler
listing=$work/kernels.sass
cuobjdump --dump-sass "$module" >"$listing"

python "$here/check_registers.py" "$log"
python "$here/check_ptx.py" "$folder"
python "$here/check_sass.py" "$listing"

spoiled=$work/spoiled_kernels count=0
# must_fail CHECK SUBJECT EDIT COMPLAINT: on a copy of a file, or of a folder of PTX, edited by sed.
must_fail() {
  rm -rf "$spoiled"
  if [[ -d $2 ]]; then
    mkdir "$spoiled"
    cp "$2"/*.ptx "$spoiled"
    sed -E -i "$3" "$spoiled/loop.compute_90.ptx"
  else
    sed -E "$3" "$2" >"$spoiled"
  fi
  if python "$here/$1.py" "$spoiled" >/dev/null 2>"$spoiled.log" ||
    ! grep -qF -- "$4" "$spoiled.log"; then
    echo "check_kernels: $1 does not find what was planted by: $3" >&2
    cat "$spoiled.log" >&2
    exit 1
  fi
  ((++count))
}
of='/entry function .*update_plainIL[^E]*E0E.*sm_90/,/Used/'
must_fail check_registers "$log" "$of s/Used [0-9]+/Used 65/" 'takes 65 registers of 64'
must_fail check_registers "$log" "$of s/0 bytes spill stores/8 bytes spill stores/" 'spills to it'
must_fail check_registers "$log" "$of s/0 bytes stack frame/8 bytes stack frame/" 'has a stack'
must_fail check_registers "$log" "s/'sm_120'/'sm_90'/" "expected ['100', '120'"
must_fail check_ptx "$folder" '0,/add\.rn\.f32/ s//add.f32/' ' 1 add.f32'
must_fail check_ptx "$folder" '0,/add\.rn\.f64/ s//add.f64/' ' 1 add.f64'
must_fail check_ptx "$folder" '0,/mul\.rn\.f32/ s//fma.rn.f32/' ' 1 fma.rn.f32'
must_fail check_ptx "$folder" '0,/div\.rn\.f32/ s//div.approx.f32/' ' 1 div.approx.f32'
must_fail check_ptx "$folder" '0,/sqrt\.rn\.f32/ s//sqrt.rn.ftz.f32/' ' 1 sqrt.rn.ftz.f32'
must_fail check_ptx "$folder" '0,/cvt\.rn\.f32/ s//cvt.rz.f32/' ' 1 cvt.rz.f32'
must_fail check_ptx "$folder" '0,/st\.global\.f64/ s//red.global.add.f64/' ' 1 red.global.add.f64'
must_fail check_ptx "$folder" 's/(entry .*)update_plain/\1update_plane/' '90: without'
of='/Function : .*update_plainIL[^E]*E0E/,/Function : /'
must_fail check_sass "$listing" "$of s/LDG\\.E\\.128/LDG.E.64/" '0 LDG of 16 bytes, expected'
must_fail check_sass "$listing" "$of s/STG\\.E\\.128/STG.E.64/" '0 STG of 16 bytes, expected'
must_fail check_sass "$listing" "$of s/LDG\\.E /LD.E /" ' LD'
must_fail check_sass "$listing" "$of s/LDG\\.E\\.64/LDL.64/" ' LDL'
must_fail check_sass "$listing" 's/code for sm_120/code for sm_90/' "expected ['100', '120'"
must_fail check_sass "$listing" 's/update_plain/update_plane/' 'no kernel is called update_plain'
rm -rf "$spoiled" "$spoiled.log" "$listing"
echo "check_kernels: each of $count planted faults is found"
