"""Variables of the environment that ask for what cannot be."""

import subprocess
import sys


def test_unknown_instruction_set_is_refused_at_the_first_step():
    code = "import numpy as np, ravine\nw = np.ones(2)\nravine.SGD().apply([w * 1], [w])\n"
    environment = {"RAVINE_ISA": "v9", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith('RuntimeError: RAVINE_ISA is "v9", which this machine or build lacks.')


def test_wrong_number_of_threads_is_refused_when_variables_are_bound():
    code = "import numpy as np, ravine\nravine.SGD().build([np.ones(2)])\n"
    environment = {"RAVINE_NUM_THREADS": "0", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.stderr.strip().splitlines()[-1] == (
        "ValueError: The environment variable RAVINE_NUM_THREADS must be a positive whole number. "
        'Received: "0". Set it to one, or unset it.'
    )
