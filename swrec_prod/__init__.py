"""swrec_prod: training and serving of multi-scenario recommendation models.

Importing the package does no work: each stage lives in its own module (see README.md, "One way through").
"""

__version__ = "0.1.0"
