"""A real small model behind Ollama's API, on numpy: for machines without Ollama, and for tests.

Importing this package caps the threads of numpy's BLAS at one, unless the environment already
says otherwise, because OpenBLAS reads the figure once, when numpy is first imported. Decoding is
bound by memory bandwidth, so more threads gain little and two servers on two cores would
oversubscribe them.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
