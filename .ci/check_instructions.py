"""Count the instructions of steps and compare them with those that were counted before.

check_instructions.py PROGRAM COUNTS [--write]: the program of `benchmarks/instructions`, run by
callgrind, and its file. What is 2 % off fails: more is slower, and of fewer some may be missed.
Made by another compiler, or for another instruction set, the file is not compared with.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

MARGIN = 0.02


def counted(program):
    """Return compiler and instruction set, and the counts by name."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = [
            "valgrind",
            "--tool=callgrind",
            "--collect-atstart=no",
            f"--callgrind-out-file={out}",
        ]
        done = subprocess.run([*command, program], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"check_instructions: {' '.join(command)} failed:\n{done.stderr}")
        counts = {}
        for path in Path(folder).glob("out.*"):
            text = path.read_text()
            name = re.search(r"^desc: Trigger: Client Request: (.*)$", text, re.MULTILINE)
            total = re.search(r"^(?:totals|summary): (\d+)$", text, re.MULTILINE)
            if name and total:
                counts[name[1]] = int(total[1])
    return done.stdout.strip(), dict(sorted(counts.items()))


def main(program, path, *options):
    """Count, and write or compare."""
    made_by, counts = counted(program)
    if not counts:
        sys.exit("check_instructions: callgrind has counted nothing")
    file = Path(path)
    if "--write" in options:
        file.write_text(json.dumps({"made_by": made_by, "counts": counts}, indent=1) + "\n")
        return
    before = json.loads(file.read_text())
    if before["made_by"] != made_by:
        print(f"instructions: counted with {before['made_by']}, not compared with {made_by}")
        return
    if before["counts"].keys() != counts.keys():
        sys.exit("check_instructions: other cases than in the file; write it anew with --write")
    changes = {name: counts[name] / old - 1 for name, old in before["counts"].items()}
    for name, change in changes.items():
        if abs(change) > MARGIN:
            print(f"instructions: {name}: {before['counts'][name]} before, {counts[name]} now, "
                  f"{change:+.1%}")  # fmt: skip
    largest = max(map(abs, changes.values()))
    if largest > MARGIN:
        sys.exit(
            "check_instructions: a step takes more instructions than before, or fewer, of which "
            "some may be missed. If that is right, say why in the commit, and write the file anew "
            "with --write."
        )
    print(f"instructions: {len(counts)} cases, within {largest:.2%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
