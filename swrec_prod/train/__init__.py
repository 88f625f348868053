"""Training: ranks and threads, sharding, optimisers, the loop, and the run that ties them to a RUN_DIR."""
