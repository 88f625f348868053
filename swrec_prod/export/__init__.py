"""From a trained ranker to a package that a server loads: program, package, run."""
