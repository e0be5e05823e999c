"""The parts of bench/compare: namespace, groups, servers, one run, the report."""
