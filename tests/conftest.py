"""For all tests, before torch is imported anywhere."""

import os

# The models of the tests are so small that a second thread costs more than it brings, most of all where other
# programs compute, too. What the tests start inherits it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
