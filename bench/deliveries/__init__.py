"""The parts of bench/deliver: processes of a run, servers that send, name servers, one module for each profile."""
