"""Write the handwritten digits that scikit-learn ships where a program in C++ can read them.

Run it with ``python examples/from_cpp/export_digits.py digits.txt``. A line is an image: the digit,
and its 64 pixels from 0 to 16. Source: Alpaydin and Kaynak, Optical Recognition of Handwritten
Digits, UCI Machine Learning Repository, https://doi.org/10.24432/C50P49.
"""

import sys

import numpy as np
from sklearn.datasets import load_digits

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python export_digits.py FILE")
    pixels, digits = load_digits(return_X_y=True)
    np.savetxt(sys.argv[1], np.column_stack([digits, pixels]), fmt="%d")
