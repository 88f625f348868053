"""The scorer: an exported package behind gRPC. Installs and runs on a CPU; needs torch and fbgemm, not torchrec."""
